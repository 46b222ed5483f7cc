"""Images and models that the tests of scenes share."""

import torch
from torch import Tensor, nn

from assaymark.robustness import demo
from assaymark.robustness.images import ImageData
from assaymark.robustness.models import Loaded, load

# Small enough for a test; a 3-channel model is needed where colours are turned.


def images(n: int = 6, channels: int = 3, height: int = 8, width: int = 8, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, channels, height, width, generator=generator)


def small_model(channels: int, classes: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 36, classes)
    ).eval()


def digits() -> tuple[Loaded, ImageData]:
    x, y = demo.digits()
    data = ImageData(name="digits", images=x, labels=y, classes=tuple("0123456789"))
    return load("demo:digits", x[:4]), data
