"""Tiny-LaDeDa: 1,297 parameters that score patches of 5 x 5 pixels of a gradient, and their mean.

Cavia et al., "Real-Time Deepfake Detection in the Real-World", https://arxiv.org/abs/2406.09398, section
4. Two weights are published without a word on the gradient each was trained with: NPR makes the one
of ForenSynth separate, a diagonal derivative the one of WildRF.
"""

from pathlib import Path
from typing import Literal

import numpy
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from assaymark.provenance.image_tensors import IMAGENET, Images, LogOdds, normalised
from assaymark.provenance.material import Pixels
from assaymark.provenance.npr_detector import neighbours
from assaymark.provenance.weight_files import fill, read_weights

SIDE = 256
_DIAGONAL = ((-2.0, -1.0, 0.0), (-1.0, 0.0, 1.0), (0.0, 1.0, 2.0))
Gradient = Literal["npr", "right_diag"]


class _Patches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(8, 8, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, 2, bias=False)
        self.bn2 = nn.BatchNorm2d(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.bn1(self.conv1(x)).relu()
        out: torch.Tensor = self.bn2(self.conv2(x)).relu()
        return out


class TinyLaDeDa(nn.Module):
    """Images in [0, 1], stretched to 256 x 256 if need be, to one logit each; positive: generated."""

    def __init__(self, gradient: Gradient = "npr") -> None:
        super().__init__()
        self.gradient = gradient
        self.conv1 = nn.Conv2d(3, 8, 1, bias=False)
        self.conv2 = nn.Conv2d(8, 8, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.layer1 = nn.Sequential(_Patches())
        self.fc = nn.Linear(8, 1)

    def forward(self, x: Images) -> LogOdds:
        if x.shape[-2:] != (SIDE, SIDE):
            x = functional.interpolate(x, (SIDE, SIDE), mode="bilinear", antialias=True)
        x = normalised(x, IMAGENET)
        x = neighbours(x) if self.gradient == "npr" else diagonal(x)
        x = self.layer1(self.bn1(self.conv2(self.conv1(x))).relu())
        logit: torch.Tensor = self.fc(x.mean((2, 3)))
        return logit[:, 0]


def diagonal(x: Images) -> Images:
    """Sobel's derivative along the falling diagonal, of each channel, zeros beyond the border."""
    kernel = x.new_tensor(_DIAGONAL).expand(3, 1, 3, 3)
    return functional.conv2d(x, kernel, groups=3, padding="same")


def stretched(pixels: Pixels) -> Pixels:
    """To 256 x 256 as torchvision's Resize does with a PIL picture."""
    picture = Image.fromarray(pixels)
    return numpy.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def load_tiny_ladeda(path: Path) -> nn.Module:
    """ForenSynth_Tiny_LaDeDa.pth or WildRF_Tiny_LaDeDa.pth; the name says which gradient to use."""
    detector = TinyLaDeDa("right_diag" if "wildrf" in path.name.casefold() else "npr")
    kind = "weights of Tiny-LaDeDa (8 channels)"
    fill(detector, read_weights(path), name=path.name, kind=kind)
    return detector
