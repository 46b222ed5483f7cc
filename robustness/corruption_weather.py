"""Corruptions by weather: snow, frost, fog, and what splashes on the lens."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from assaymark.robustness.corruption_blur import moved, snow_angles
from assaymark.robustness.corruption_edges import away_from, edges, equalized
from assaymark.robustness.corruption_filters import (
    box3,
    colour,
    gaussian,
    grey,
    padded,
    zoomed,
)
from assaymark.robustness.corruption_frost import TEXTURES, textures
from assaymark.robustness.corruption_severities import Constants
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Images

_WATER = (175 / 255, 238 / 255, 238 / 255)
_MUD = (63 / 255, 42 / 255, 20 / 255)
_EMBOSS = ((-2.0, -1.0, 0.0), (-1.0, 1.0, 1.0), (0.0, 1.0, 2.0))


def snow(x: Images, c: Constants, streams: Streams) -> Images:
    """Moving flakes before a whitened image; a second layer is the first one turned round."""
    mean, deviation, zoom, threshold, radius, sigma, kept = c
    flakes = zoomed(mean + deviation * streams.normal(x[:, :1], "flakes"), zoom)
    flakes = torch.where(flakes < threshold, 0.0, flakes.clamp(0, 1))
    flakes = moved(flakes, radius, sigma, snow_angles(streams))
    white = torch.maximum(x, grey(x) * 1.5 + 0.5)
    return (kept * x + (1 - kept) * white + flakes + flakes.flip(2, 3)).clamp_(0, 1)


def frost(x: Images, c: Constants, streams: Streams) -> Images:
    """Ice on the lens: a part of a texture of ours is laid over the image."""
    height, width = x.shape[-2:]
    ice = textures(2 ** math.ceil(math.log2(2 * max(height, width)))).to(x.device)
    size = ice.shape[-1]
    which = streams.integers(TEXTURES, "texture")[:, 0].tolist()
    tops = streams.integers(size - height + 1, "top")[:, 0].tolist()
    lefts = streams.integers(size - width + 1, "left")[:, 0].tolist()
    parts = torch.stack(
        [
            ice[one, :, top : top + height, left : left + width]
            for one, top, left in zip(which, tops, lefts, strict=True)
        ]
    )
    return (c[0] * x + c[1] * (parts if x.shape[1] == 3 else grey(parts))).clamp_(0, 1)


def fog(x: Images, c: Constants, streams: Streams) -> Images:
    """A plasma fractal is added, and the sum brought back to the image's brightest value."""
    height, width = x.shape[-2:]
    size = 2 ** math.ceil(math.log2(max(height, width, 2)))
    mist = plasma(size, c[1], streams, x.device)[:, None, :height, :width]
    brightest = x.amax((1, 2, 3), keepdim=True)
    return ((x + c[0] * mist) * brightest / (brightest + c[0])).clamp_(0, 1)


def plasma(
    size: int, decay: float, streams: Streams, device: torch.device
) -> Float[Tensor, "batch size size"]:
    """A fractal in [0, 1] by the diamond-square algorithm on a torus; size is a power of two.

    Fournier, Fussell and Carpenter 1982, Communications of the ACM 25. As in the published program
    the roughness of a scale is the square of a number that `decay` divides from scale to scale.
    """
    field = torch.zeros(len(streams), size, size, device=device)
    step, rough = size, 100.0
    while step >= 2:
        half = step // 2
        for name, target, neighbours in (
            ("square", (half, half), ((-half, -half), (-half, half), (half, -half), (half, half))),
            ("across", (0, half), ((-half, 0), (half, 0), (0, -half), (0, half))),
            ("down", (half, 0), ((-half, 0), (half, 0), (0, -half), (0, half))),
        ):
            total = sum(
                _lattice(field, step, target[0] + dy, target[1] + dx) for dy, dx in neighbours
            )
            drawn = streams.uniform(field[:, ::step, ::step], f"{name}/{step}")
            noise = (2 * drawn - 1) * rough**2
            field[:, target[0] :: step, target[1] :: step] = total / 4 + noise
        step, rough = half, rough / decay
    low, high = field.amin((1, 2), keepdim=True), field.amax((1, 2), keepdim=True)
    return (field - low) / (high - low)


def _lattice(field: Tensor, step: int, top: int, left: int) -> Tensor:
    """Every step-th value from (top, left) on, which may lie outside the torus."""
    shifts = [-1 if start >= step else 1 if start < 0 else 0 for start in (top, left)]
    part = field[:, top % step :: step, left % step :: step]
    return part.roll(shifts, (1, 2)) if any(shifts) else part


def spatter(x: Images, c: Constants, streams: Streams) -> Images:
    """Drops of water that glitter at their edges, or spots of mud."""
    mean, deviation, sigma, threshold, strength, kind = c
    liquid = gaussian(mean + deviation * streams.normal(x[:, :1], "drops"), sigma)
    if kind == 0:
        wet = _glitter(torch.where(liquid < threshold, 0.0, liquid)) * strength
        return (x + wet * colour(_WATER, x)).clamp_(0, 1)
    mud = gaussian((liquid > threshold).float(), strength)
    mud = torch.where(mud < 0.8, 0.0, mud)
    return (x * (1 - mud) + mud * colour(_MUD, x)).clamp_(0, 1)


def _glitter(liquid: Images) -> Images:
    """Brightness of drops from 0 to 1, in steps of 8 bits as published."""
    drops = (liquid * 255).floor_().clamp_(0, 255)
    distance = box3(away_from(edges(drops, 50.0, 150.0), 20)).floor_()
    relief = equalized(distance)
    wide = padded(relief, 1, "mirror")
    height, width = relief.shape[-2:]
    embossed = torch.zeros_like(relief)
    for down, row in enumerate(_EMBOSS):
        for right, weight in enumerate(row):
            embossed += weight * wide[..., down : down + height, right : right + width]
    shine = drops * box3(embossed.clamp_(0, 255)).round_()
    # without a drop there is nothing to divide by
    return shine / shine.amax((2, 3), keepdim=True).clamp_min(1)
