"""Certified accuracy and time on real networks, and bounds beside those of auto_LiRPA.

    PYTHONPATH=tests/robustness python tests/bench/certificates.py SHARED [N]

SHARED holds models/ and data/; N is the number of images, by default 1000 (CPU seconds, one thread).
The peer is compared where auto_LiRPA 0.3 is installed; it needs names that numpy and torch have moved,
which are put back for it here. Its images are unnormalised: behind a normalisation its L2 bounds do
not hold.
"""

import importlib
import sys
import time
import types
import warnings
from pathlib import Path
from typing import Any

import networks
import numpy
import torch
from torch import Tensor, nn

from assaymark.robustness.bounds import BOUND_METHODS, certified, margins
from assaymark.robustness.evaluate import evaluate
from assaymark.robustness.gradient_steps import pgd
from assaymark.robustness.models import Prepared, Preprocessing


def table(name: str, model: nn.Module, x: Tensor, y: Tensor, radii: dict[str, float]) -> None:
    print(f"\n### {name}, {len(x)} images\n\n| radius | clean | PGD-40 | IBP | CROWN-IBP | CROWN |")
    print("|---|---|---|---|---|---|")
    for label, eps in radii.items():
        attacked = evaluate(model, x, y, {"pgd": pgd}, eps=eps, norm="linf")
        cells = [
            f"{float(part.float().mean()):.1%}" for part in (attacked.correct, attacked.robust)
        ]
        for method in BOUND_METHODS[:3]:
            began = time.process_time()
            held = certified(model, x, y, eps, "linf", method)
            assert (attacked.robust | ~held).all(), "certified and fooled"
            spent = time.process_time() - began
            cells.append(f"{float(held.float().mean()):.1%} ({spent:.1f} s)")
        print(f"| {label} | {' | '.join(cells)} |", flush=True)


def peer() -> Any:
    """auto_LiRPA 0.3 on today's numpy and torch, or None where it is not installed."""
    moved = types.ModuleType("numpy.lib.arraysetops")
    moved.isin = numpy.isin  # type: ignore[attr-defined]
    sys.modules.setdefault("numpy.lib.arraysetops", moved)
    import torch.onnx.symbolic_helper as helper
    import torch.onnx.utils
    from torch.onnx._internal.torchscript_exporter import _globals, symbolic_opset9  # noqa: F401

    def opset(version: int) -> None:
        _globals.GLOBALS._export_onnx_opset_version = version

    helper._set_opset_version = opset  # type: ignore[attr-defined]
    node: Any = torch._C.Node
    node.__getitem__ = lambda self, key: getattr(self, self.kindOf(key))(key)
    try:
        library: Any = importlib.import_module("auto_LiRPA")
    except ImportError as error:
        print(f"\nno peer: {error}")
        return None
    members = library.BoundedModule._named_members
    library.BoundedModule._named_members = lambda self, of, prefix="", recurse=True, **_: members(
        self, of, prefix, recurse
    )
    return library


def beside(library: Any, name: str, model: nn.Module, x: Tensor, y: Tensor, eps: float) -> None:
    """Margins of both: the largest and the median difference, and CPU seconds."""
    theirs = {"ibp": "IBP", "crown-ibp": "CROWN-IBP", "crown": "CROWN"}
    others = torch.stack([(y + step) % 10 for step in range(1, 10)], 1)
    rows = nn.functional.one_hot(y, 10)[:, None] - nn.functional.one_hot(others, 10)
    for method in BOUND_METHODS[:3]:
        # a new module each time: it would use the bounds of the last method again
        module = library.BoundedModule(model, x, bound_opts={"conv_mode": "matrix"})
        box = {"x_L": (x - eps).clamp(0, 1), "x_U": (x + eps).clamp(0, 1)}
        ball = library.PerturbationLpNorm(norm=numpy.inf, eps=eps, **box)
        began = time.process_time()
        with torch.no_grad():
            low, _ = module.compute_bounds(
                x=(library.BoundedTensor(x, ball),), C=rows.float(), method=theirs[method],
                bound_upper=False,
            )  # fmt: skip
        middle = time.process_time()
        ours = margins(model, x, y, eps=eps, method=method)
        end = time.process_time()
        gap = ours - low.amin(1)
        print(
            f"| {name} | {method} | {float(gap.min()):+.1e} | {float(gap.median()):+.1e} | "
            f"{float(gap.max()):+.1e} | {end - middle:.2f} | {middle - began:.2f} |",
            flush=True,
        )


def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    shared, n = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    small = Prepared(
        networks.cifar_small(shared),
        Preprocessing(mean=networks.CIFAR_SMALL_MEAN, std=networks.CIFAR_SMALL_STD),
    ).eval()
    x, y = networks.cifar_test(shared, n)
    table("cifar_small_8px", small, x, y, {f"{k}/255": k / 255 for k in (2, 4, 8)})
    digits, labels = networks.digits_test()
    hard = networks.digits_hard(shared, "digits_at")
    table("digits_at", hard, digits[: n // 10], labels[: n // 10], {"0.01": 0.01, "0.02": 0.02})
    library = peer()
    if library is None:
        return
    print("\n| network | method | ours - theirs, least | median | most | ours, s | theirs, s |")
    print("|---|---|---|---|---|---|---|")
    plain = networks.cifar_small(shared)
    for eps in (2 / 255, 8 / 255):
        beside(library, f"cifar_small {eps:.4f}", plain, x[:16], y[:16], eps)
    beside(library, "digits_at 0.02", hard, digits[:8], labels[:8], 0.02)


if __name__ == "__main__":
    main()
