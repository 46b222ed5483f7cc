"""What somebody may do to a protected picture to read it after all, each with a gradient or a stand-in.

The input transforms that are sold as defenses of a model are the tools that wash protective noise
out of a picture. None here draws random numbers, so that a picture survives one or does not.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, pad

from assaymark.reports.errors import InputError, nearest
from assaymark.robustness.transforms import (
    BitDepth,
    Jpeg,
    Median,
    TotalVariation,
    Transform,
    fitting_options,
    parameters,
)
from assaymark.robustness.types import Images

_REACH = 3.0
"""Where a blur ends, in standard deviations."""


class Resize(Transform):
    """Shrink to the share `scale` of both sides and back, bilinear with antialiasing."""

    differentiable = True

    def __init__(self, scale: float = 0.5) -> None:
        super().__init__()
        if not 0 < scale < 1:
            raise InputError(f"scale is a number above 0 and below 1, got {scale:g}")
        self.scale = scale

    def transform(self, x: Images) -> Tensor:
        small = tuple(max(round(side * self.scale), 1) for side in x.shape[2:])
        shrunk = interpolate(x, small, mode="bilinear", antialias=True)
        return interpolate(shrunk, x.shape[2:], mode="bilinear")


class Blur(Transform):
    """A Gaussian of `sigma` pixels; beyond the edge the last pixel goes on."""

    differentiable = True

    def __init__(self, sigma: float = 1.0) -> None:
        super().__init__()
        if not 0 < sigma <= 100:
            raise InputError(f"sigma is a number of pixels above 0, at most 100, got {sigma:g}")
        self.sigma = sigma

    def transform(self, x: Images) -> Tensor:
        reach, channels = int(_REACH * self.sigma + 0.5), x.shape[1]
        place = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
        row = torch.exp(-place.square() / (2 * self.sigma**2))
        row = (row / row.sum()).expand(channels, 1, 1, -1)
        wide = pad(x, (reach, reach, reach, reach), mode="replicate")
        across = conv2d(wide, row, groups=channels)
        return conv2d(across, row.transpose(2, 3), groups=channels)


COUNTERMEASURES: dict[str, type[Transform]] = {
    "jpeg": Jpeg,
    "median": Median,
    "resize": Resize,
    "blur": Blur,
    "bit-depth": BitDepth,
    "tv": TotalVariation,
}


def countermeasure(name: str, options: Mapping[str, Any]) -> Transform:
    """The transform a name and its options stand for; raises InputError when they are wrong."""
    if name not in COUNTERMEASURES:
        raise InputError(f'unknown countermeasure "{name}"{nearest(name, COUNTERMEASURES)}')
    kind = COUNTERMEASURES[name]
    try:
        return kind(**fitting_options(kind, options))
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def described(name: str, transform: Transform) -> str:
    """A countermeasure with its strength.

    >>> described("jpeg", Jpeg())
    'jpeg (quality 75)'
    """
    said = (f"{key} {getattr(transform, key):g}" for key in parameters(type(transform)))
    return f"{name} ({', '.join(said)})"
