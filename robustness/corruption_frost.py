"""Ice textures made here, for the frost corruption.

The published programs lay six photographs of ice over an image. They are other people's, so these
textures are drawn: grains of fern-shaped crystals, each with its own direction, roughened by noise,
in bluish tints and with about the brightness and contrast of such photographs. They are always the
same five; which one an image gets, and which part of it, is drawn from the image's stream.
"""

import math
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from assaymark.robustness.streams import Streams

TEXTURES = 5
_GRAINS = 24
_TINTS = (
    # mean of red, green and blue
    (0.45, 0.55, 0.62),
    (0.55, 0.61, 0.66),
    (0.62, 0.66, 0.70),
    (0.70, 0.73, 0.77),
    (0.78, 0.80, 0.83),
)
_CONTRAST = 0.12
_BRANCH = math.tan(math.radians(60))


@lru_cache(maxsize=4)
def textures(size: int) -> Float[Tensor, "textures 3 size size"]:
    """Five square textures in [0, 1]; crystals grow with the size."""
    drawn = []
    for number, tint in enumerate(_TINTS):
        relief = _ferns(size, number)
        relief = (relief - relief.mean()) / relief.std() * _CONTRAST
        drawn.append(torch.stack([(mean + relief).clamp(0, 1) for mean in tint]))
    return torch.stack(drawn)


def _ferns(size: int, number: int) -> Float[Tensor, "size size"]:
    streams = Streams.of(0, "frost texture", [number])
    rough, bent = (
        _cloud(size, Streams.of(0, f"frost {part}", [number])) for part in ("rough", "bent")
    )
    seeds = streams.uniform(torch.empty(1, _GRAINS, 3), "grains")[0].tolist()
    places = torch.arange(size) / size
    nearest = torch.full((size, size), torch.inf)
    along, across = torch.zeros(size, size), torch.zeros(size, size)
    for top, left, turn in seeds:
        # on a torus, and with bent borders between the grains
        down = (places[:, None] - top + 0.5) % 1 - 0.5 + 0.06 * (rough - 0.5)
        right = (places - left + 0.5) % 1 - 0.5 + 0.06 * (bent - 0.5)
        distance = down**2 + right**2
        closer = distance < nearest
        sine, cosine = math.sin(math.pi * turn), math.cos(math.pi * turn)
        along = torch.where(closer, cosine * right + sine * down, along)
        across = torch.where(closer, cosine * down - sine * right, across)
        nearest = torch.minimum(distance, nearest)
    side = across.abs()
    stem = torch.exp(-side / 0.01)
    branches = _ridges((along - side / _BRANCH) * 32)
    twigs = _ridges((along + side / _BRANCH) * 90 + 2 * rough)
    return 0.6 * stem + branches * torch.exp(-side / 0.15) + 0.7 * twigs * bent + 2 * rough


def _ridges(x: Tensor) -> Tensor:
    """A thin crest at every whole number."""
    return (1 - 2 * (x - x.round()).abs()) ** 3


def _cloud(size: int, streams: Streams) -> Float[Tensor, "size size"]:
    """Noise in [0, 1] that is rough on every scale and repeats at the edges."""
    total = torch.zeros(1, 1, size, size)
    cells, weight = 4, 1.0
    while cells <= size:
        drawn = streams.uniform(torch.empty(1, 1, cells, cells), f"cells/{cells}")
        ring = torch.nn.functional.pad(drawn, (1, 1, 1, 1), mode="circular")
        large = torch.nn.functional.interpolate(
            ring, scale_factor=size // cells, mode="bilinear", align_corners=False
        )
        margin = size // cells
        total += weight * large[..., margin : margin + size, margin : margin + size]
        cells, weight = cells * 2, weight * 0.55
    low, high = total.amin(), total.amax()
    return ((total - low) / (high - low))[0, 0]
