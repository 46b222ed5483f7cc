"""Robust accuracy, passes and CPU seconds beside the peers: `python tests/bench/robustness.py ROOT [N]`.

ROOT holds models/ and data/ of the shared files. Peers are used where they are installed: torchattacks
(its APGD, APGD-T, FAB and Square with 100 iterations set by hand are AutoAttack standard), foolbox and
cleverhans. One thread; every row counts the passes of its own model.
"""

import io
import os
import sys
import time
import warnings
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from assaymark.robustness import demo
from assaymark.robustness.evaluate import evaluate
from assaymark.robustness.gradient_steps import pgd
from assaymark.robustness.shard import Search
from assaymark.robustness.suites import SUITES

EPS = {"digits_std": 0.1, "digits_at": 0.1}
MODELS = ("digits_std", "digits_at", "cifar10_std", "cifar10_at", "cifar_small_8px")


class Affine(nn.Module):
    """Mean and scale by channel."""

    def __init__(self, mean: list[float], std: float) -> None:
        super().__init__()
        self.mean, self.std = torch.tensor(mean).view(1, -1, 1, 1), std

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


def network(root: Path, name: str) -> nn.Module:
    """The architectures of the shared models."""

    def conv(a: int, b: int, stride: int = 1) -> list[nn.Module]:
        return [nn.Conv2d(a, b, 3, stride, 1), nn.ReLU()]

    front: nn.Module = nn.Identity()
    if name.startswith("digits"):
        layers = [*conv(1, 32), *conv(32, 32), nn.MaxPool2d(2), *conv(32, 64), nn.Flatten()]
        body = nn.Sequential(*layers, nn.Linear(1024, 64), nn.ReLU(), nn.Linear(64, 10))
    elif name.startswith("cifar10"):
        layers = [*conv(3, 16), *conv(16, 32, 2), *conv(32, 64, 2), *conv(64, 64, 2), nn.Flatten()]
        body = nn.Sequential(
            Affine([0.5] * 3, 0.25), *layers, nn.Linear(1024, 128), nn.ReLU(), nn.Linear(128, 10)
        )
    else:
        front = Affine([0.485, 0.456, 0.406], 0.225)
        body = nn.Sequential(
            nn.Conv2d(3, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU(),
            nn.Flatten(), nn.Linear(2048, 100), nn.ReLU(), nn.Linear(100, 10),
        )  # fmt: skip
    body.load_state_dict(load_file(root / "models" / f"{name}.safetensors"))
    return nn.Sequential(front, body).eval().requires_grad_(False)


def points(root: Path, name: str, n: int) -> tuple[Tensor, Tensor]:
    """n test points: scikit-learn's digits, or the first n/10 of each class of CIFAR-10's test split."""
    if name.startswith("digits"):
        parts = [demo.digits(train=train) for train in (True, False)]
        x, y = (torch.cat(column) for column in zip(*parts, strict=True))
    else:
        archive = zipfile.ZipFile(root / "data" / "cifar10-jpeg.zip")
        names = sorted(p for p in archive.namelist() if p.startswith("cifar10/test/"))
        classes = sorted({p.split("/")[2] for p in names})
        chosen = [
            (p, label)
            for label, kind in enumerate(classes)
            for p in [p for p in names if p.split("/")[2] == kind][: n // 10]
        ]
        pixels = [
            numpy.asarray(Image.open(io.BytesIO(archive.read(p))).convert("RGB")) for p, _ in chosen
        ]
        x = torch.from_numpy(numpy.stack(pixels)).permute(0, 3, 1, 2).float() / 255
        y = torch.tensor([label for _, label in chosen])
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:n]
    return x[order].contiguous(), y[order]


class Counted(nn.Module):
    """A peer's model: counts the images that pass through it, both ways."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.forwards, self.backwards = model, 0, 0

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += len(x)
        answer: Tensor = self.model(x)
        if answer.requires_grad:
            answer.register_hook(self._count)
        return answer

    def _count(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)


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


def main(root: Path, n: int = 1000, *, slow: bool = True) -> None:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    peers: dict[str, Callable[..., Tensor]] = {"foolbox PGD-40": foolbox_pgd}
    try:
        import torchattacks

        torchattacks.PGD  # noqa: B018 (imported whole)
        if slow:
            peers["AutoAttack standard (torchattacks, 100 steps)"] = autoattack
    except ImportError:
        print("torchattacks is not installed: no AutoAttack row")
    for name in MODELS:
        model = network(root, name)
        x, y = points(root, name, n)
        eps = EPS.get(name, 8 / 255)
        run = partial(ours, model, x, y, eps)
        print(f"{name}, {n} points, L∞ {eps:.4f}")
        print(f"  {'ours: PGD-40':<46}", run({"pgd": partial(pgd, step_size=eps / 4)}))
        for suite in ("quick", "standard"):
            print(f"  {'ours: ' + suite:<46}", run(SUITES[suite].build("linf")))
        half = run(SUITES["standard"].build("linf"), precision=torch.bfloat16)
        print(f"  {'ours: standard, bfloat16 search':<46}", half)
        for label, peer in peers.items():
            print(f"  {label:<46}", theirs(model, x, y, eps, peer), flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python tests/bench/robustness.py ROOT [N] [--fast]")
    sizes = [int(word) for word in sys.argv[2:] if word.isdigit()]
    main(Path(sys.argv[1]), *sizes[:1], slow="--fast" not in sys.argv)
