"""How alike two pictures are: the peak signal-to-noise ratio and the structural similarity."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

Picture = Float[Tensor, "channels height width"]
"""Pixels in [0, 1]."""
_WINDOW, _SIGMA = 11, 1.5
_SMALLEST = 7
_LUMINANCE, _CONTRAST = 0.01**2, 0.03**2


def psnr(one: Picture, other: Picture) -> float:
    """Peak signal-to-noise ratio in decibels, infinite where the pictures are equal.

    >>> grey = torch.full((3, 8, 8), 0.5)
    >>> round(psnr(grey, grey + 0.1), 4)
    20.0
    """
    error = float((one.double() - other.double()).square().mean())
    return math.inf if error == 0 else -10 * math.log10(error)


def ssim(one: Picture, other: Picture) -> float | None:
    """Mean structural similarity over windows and channels, 1 where the pictures are equal.

    Windows of 11 × 11 with Gaussian weights of 1.5 pixels, wholly inside the picture, K1 = 0.01 and
    K2 = 0.03 (Wang et al. 2004, IEEE Transactions on Image Processing 13, section III). A smaller
    picture gets the largest odd window that fits; below 7 pixels there is none, and the answer is None.
    """
    side = min(_WINDOW, *one.shape[1:])
    side -= 1 - side % 2
    if side < _SMALLEST:
        return None
    place = torch.arange(side, dtype=torch.float64, device=one.device) - side // 2
    weights = torch.exp(-place.square() / (2 * _SIGMA**2))
    x, y = one.double(), other.double()
    parts = torch.stack([x, y, x * x, y * y, x * y])
    for axis in (2, 3):
        length = parts.shape[axis] - side + 1
        # shifted sums: a convolution would first copy the picture once for every weight
        parts = sum(
            weight * parts.narrow(axis, shift, length)
            for shift, weight in enumerate((weights / weights.sum()).tolist())
        )
    mean_x, mean_y, xx, yy, xy = parts
    luminance = (2 * mean_x * mean_y + _LUMINANCE) / (mean_x**2 + mean_y**2 + _LUMINANCE)
    spread = xx - mean_x**2 + yy - mean_y**2
    structure = (2 * (xy - mean_x * mean_y) + _CONTRAST) / (spread + _CONTRAST)
    return float((luminance * structure).mean())
