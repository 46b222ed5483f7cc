"""Models and points of the benchmarks, and how a peer's passes are counted."""

import io
import os
import zipfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import numpy
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from assaymark.robustness import demo

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


def cifar(root: Path, split: str, n: int) -> tuple[Tensor, Tensor]:
    """The first n/10 images of each class of a split of CIFAR-10, in random order."""
    archive = zipfile.ZipFile(root / "data" / "cifar10-jpeg.zip")
    names = sorted(p for p in archive.namelist() if p.startswith(f"cifar10/{split}/"))
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
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    return x[order], y[order]


def points(root: Path, name: str, n: int) -> tuple[Tensor, Tensor]:
    """n test points: scikit-learn's digits, or the first n/10 of each class of CIFAR-10's test split."""
    if name.startswith("digits"):
        parts = [demo.digits(train=train) for train in (True, False)]
        x, y = (torch.cat(column) for column in zip(*parts, strict=True))
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:n]
        x, y = x[order], y[order]
    else:
        x, y = cifar(root, "test", n)
    return x.contiguous(), y


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
