"""Small networks with every kind of layer a bound can be carried through, and real ones."""

import io
import zipfile
from pathlib import Path

import numpy
import torch
from PIL import Image
from torch import Tensor, nn

from assaymark.robustness.demo import digits

SHAPE = (2, 6, 6)


class Residual(nn.Module):
    """A sum of two paths, and a ReLU that changes its input in place."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.second(nn.functional.relu_(self.norm(self.first(x))))
        out: Tensor = nn.functional.relu(x + inner, inplace=True)
        return out


class Scale(nn.Module):
    """What a user writes in front of a network by hand."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * (1 - (x - 0.5) / 0.25) - 1


class Halves(nn.Module):
    """Two halves of the channels that go their own ways."""

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        return torch.cat([a.tanh(), -b.sigmoid()], 1)


def network(kind: str, seed: int = 0, classes: int = 3) -> nn.Module:
    """A network of random weights for images of SHAPE; batch-norm has means and variances."""
    torch.manual_seed(seed)
    flat = 2 * 6 * 6
    layers: dict[str, list[nn.Module]] = {
        "dense": [nn.Flatten(), nn.Linear(flat, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(),
                  nn.Linear(8, classes)],
        "conv": [Scale(), nn.Conv2d(2, 4, 3, 2, 1, 2), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 2),
                 nn.LeakyReLU(0.2, inplace=True), nn.Flatten(), nn.LazyLinear(classes)],
        "pools": [nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2, 1, 1),
                  nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes)],
        "max of dense": [nn.Conv2d(2, 3, 1), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, classes)],
        "residual": [nn.Conv2d(2, 4, 3), Residual(4), Residual(4), nn.Dropout(), nn.Flatten(),
                     nn.LazyLinear(classes)],
        "curves": [nn.Conv2d(2, 4, 3, 2), Halves(), nn.Flatten(), nn.LazyLinear(6), nn.Hardtanh(),
                   nn.Linear(6, classes), nn.Tanh()],
    }  # fmt: skip
    net = nn.Sequential(*layers[kind])
    net(torch.rand(2, *SHAPE))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for _ in range(5):
                net.train()(torch.rand(8, *SHAPE))
    return net.eval().requires_grad_(False)


KINDS = ("dense", "conv", "pools", "max of dense", "residual", "curves")


def cifar_small(shared: Path) -> nn.Module:
    """Provably robust at 8/255 (Wong et al. 2018, https://arxiv.org/abs/1805.12514)."""
    from safetensors.torch import load_file

    net = nn.Sequential(
        nn.Conv2d(3, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU(), nn.Flatten(),
        nn.Linear(2048, 100), nn.ReLU(), nn.Linear(100, 10),
    )  # fmt: skip
    net.load_state_dict(load_file(shared / "models" / "cifar_small_8px.safetensors"))
    return net.eval().requires_grad_(False)


CIFAR_SMALL_MEAN, CIFAR_SMALL_STD = (0.485, 0.456, 0.406), (0.225, 0.225, 0.225)


def digits_hard(shared: Path, name: str) -> nn.Module:
    """A network for 8×8 digits; "digits_at" is adversarially trained at 0.1."""
    from safetensors.torch import load_file

    net = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.Flatten(),
        nn.Linear(64 * 16, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip
    net.load_state_dict(load_file(shared / "models" / f"{name}.safetensors"))
    return net.eval().requires_grad_(False)


def cifar_test(shared: Path, n: int) -> tuple[Tensor, Tensor]:
    """n images of the test split, drawn with a fixed seed."""
    archive = zipfile.ZipFile(shared / "data" / "cifar10-jpeg.zip")
    names = sorted(
        name for name in archive.namelist() if "/test/" in name and name.endswith(".jpg")
    )
    classes = sorted({name.split("/")[-2] for name in names})
    chosen = torch.randperm(len(names), generator=torch.Generator().manual_seed(0))[:n]
    images, labels = [], []
    for i in chosen.tolist():
        pixels = numpy.array(Image.open(io.BytesIO(archive.read(names[i]))))
        images.append(torch.from_numpy(pixels).permute(2, 0, 1))
        labels.append(classes.index(names[i].split("/")[-2]))
    return torch.stack(images).float() / 255, torch.tensor(labels)


def digits_test() -> tuple[Tensor, Tensor]:
    return digits()
