"""Robust accuracy, passes and CPU seconds beside the peers: `python tests/bench/robustness.py ROOT [N]`.

ROOT holds models/ and data/ of the shared files. Peers are used where they are installed: foolbox,
torchattacks, ART, adv-lib and cleverhans with PGD-40; torchattacks' APGD, APGD-T, FAB and Square with
100 iterations set by hand are AutoAttack standard, which --fast leaves out. One thread; every row counts
the passes of its own model.
"""

import importlib
import sys
import time
import types
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from subjects import EPS, MODELS, Counted, network, points

# isort: split
import numpy
import torch
from torch import Tensor, nn

from assaymark.robustness.evaluate import evaluate
from assaymark.robustness.gradient_steps import pgd
from assaymark.robustness.shard import Search
from assaymark.robustness.suites import SUITES


def ours(model: nn.Module, x: Tensor, y: Tensor, eps: float, attacks: Any, **how: Any) -> str:
    began = time.process_time()
    result = evaluate(
        model, x, y, attacks, eps=eps, norm="linf", search=Search(channels_last=True, **how)
    )
    seconds, n = time.process_time() - began, len(x)
    passes = result.passes
    return _row(int(result.robust.sum()), passes.forward / n, passes.backward / n, seconds)


def theirs(model: nn.Module, x: Tensor, y: Tensor, eps: float, run: Callable[..., Tensor]) -> str:
    counted = Counted(model).eval()
    began = time.process_time()
    parts = [
        run(counted, a, b, eps).detach() for a, b in zip(x.split(250), y.split(250), strict=True)
    ]
    seconds = time.process_time() - began
    moved = torch.min(torch.max(torch.cat(parts), x - eps), x + eps).clamp(0, 1)
    with torch.no_grad():
        standing = (model(moved).argmax(1) == y) & (model(x).argmax(1) == y)
    n = len(x)
    return _row(int(standing.sum()), counted.forwards / n, counted.backwards / n, seconds)


def _row(standing: int, forward: float, backward: float, seconds: float) -> str:
    return (
        f"{standing:>5} stand | {forward:7.1f} + {backward:6.1f} passes a point | {seconds:6.1f} s"
    )


def autoattack(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    import torchattacks

    suite = torchattacks.AutoAttack(
        model, norm="Linf", eps=eps, version="standard", n_classes=10, seed=0
    )
    for attack in suite._autoattack.attacks:
        if hasattr(attack, "steps"):
            attack.steps = 100
    moved: Tensor = suite(x, y)
    return moved


def foolbox_pgd(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    import foolbox

    attack = foolbox.attacks.LinfPGD(abs_stepsize=eps / 4, steps=40, random_start=True)
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    moved: Tensor = attack(wrapped, x, y, epsilons=eps)[1]
    return moved


def torchattacks_pgd(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    import torchattacks

    attack = torchattacks.PGD(model, eps=eps, alpha=eps / 4, steps=40, random_start=True)
    moved: Tensor = attack(x, y)
    return moved


def art_pgd(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    wrapped = PyTorchClassifier(
        model, nn.CrossEntropyLoss(), tuple(x.shape[1:]), 10, clip_values=(0, 1), device_type="cpu"
    )
    attack = ProjectedGradientDescentPyTorch(
        wrapped, eps=eps, eps_step=eps / 4, max_iter=40, num_random_init=1, batch_size=len(x),
        verbose=False,
    )  # fmt: skip
    return torch.from_numpy(attack.generate(x.numpy(), y.numpy()))


def adv_lib_pgd(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    for name in ("torchvision", "torchvision.models", "visdom"):
        try:  # imported for a distance and for plots that PGD does not use
            importlib.import_module(name)
        except ImportError:
            sys.modules[name] = types.ModuleType(name)
    if not hasattr(sys.modules["torchvision"], "models"):
        sys.modules["torchvision"].models = sys.modules["torchvision.models"]  # type: ignore[attr-defined]
    from adv_lib.attacks import pgd_linf

    moved: Tensor = pgd_linf(model, x, y, eps, steps=40, absolute_step_size=eps / 4)
    return moved


def cleverhans_pgd(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    from cleverhans.torch.attacks import projected_gradient_descent as module

    moved: Tensor = module.projected_gradient_descent(
        model, x, eps, eps / 4, 40, numpy.inf, 0, 1, y
    )
    return moved


PEERS: dict[str, tuple[str, Callable[..., Tensor]]] = {
    "foolbox PGD-40": ("foolbox", foolbox_pgd),
    "torchattacks PGD-40": ("torchattacks", torchattacks_pgd),
    "ART PGD-40": ("art", art_pgd),
    "adv-lib PGD-40": ("adv_lib", adv_lib_pgd),
    "cleverhans PGD-40": ("cleverhans", cleverhans_pgd),
    "AutoAttack standard (torchattacks, 100 steps)": ("torchattacks", autoattack),
}


def installed(*, slow: bool) -> dict[str, Callable[..., Tensor]]:
    found = {}
    for label, (library, run) in PEERS.items():
        try:
            importlib.import_module(library)
        except ImportError:
            print(f"{library} is not installed: no row {label}")
        else:
            if slow or run is not autoattack:
                found[label] = run
    return found


def main(root: Path, n: int = 1000, *, slow: bool = True) -> None:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    peers = installed(slow=slow)
    for name in MODELS:
        model = network(root, name)
        x, y = points(root, name, n)
        eps = EPS.get(name, 8 / 255)
        run = partial(ours, model, x, y, eps)
        print(f"{name}, {n} points, L∞ {eps:.4f}")
        print(f"  {'ours: PGD-40':<46}", run({"pgd": partial(pgd, step_size=eps / 4)}))
        for label, peer in peers.items():
            print(f"  {label:<46}", theirs(model, x, y, eps, peer), flush=True)
        for suite in ("quick", "standard") if slow else ():
            print(f"  {'ours: ' + suite:<46}", run(SUITES[suite].build("linf")))
            half = run(SUITES[suite].build("linf"), precision=torch.bfloat16)
            print(f"  {'ours: ' + suite + ', bfloat16 search':<46}", half, flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python tests/bench/robustness.py ROOT [N] [--fast]")
    sizes = [int(word) for word in sys.argv[2:] if word.isdigit()]
    main(Path(sys.argv[1]), *sizes[:1], slow="--fast" not in sys.argv)
