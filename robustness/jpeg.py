"""JPEG in torch: what an encoder and a decoder do to an image, batched, with hard or soft rounding.

The lossy steps of baseline JPEG (ITU-T T.81) in the order of libjpeg, 4:2:0 for colour; entropy
coding loses nothing and is left out.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

from assaymark.robustness.types import Images

Rounding = Callable[[Tensor], Tensor]
Planes = Float[Tensor, "batch channels height width"]

# ITU-T T.81, tables K.1 and K.2
_LUMINANCE = """
16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101
72 92 95 98 112 100 103 99
"""
_CHROMINANCE = """
17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99
99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99
"""


def quantisers(quality: int) -> tuple[Float[Tensor, "8 8"], Float[Tensor, "8 8"]]:
    """The tables of luminance and chrominance for a quality of 1 to 100, scaled as libjpeg does."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    tables = []
    for text in (_LUMINANCE, _CHROMINANCE):
        table = torch.tensor([int(number) for number in text.split()]).view(8, 8)
        tables.append(((table * scale + 50) // 100).clamp(1, 255).float())
    return tables[0], tables[1]


def soft_rounding(values: Tensor) -> Tensor:
    """Rounding whose gradient is not 0.

    Four parts round(v) + (v - round(v))³ (Shin and Song 2017) and one part v: the cube alone has no
    gradient at a coefficient of 0, which most are. The mixture found most on real networks.
    """
    whole = values.detach().round()
    return 0.8 * (whole + (values - whole) ** 3) + 0.2 * values


def codec(x: Images, quality: int, *, rounding: Rounding, steps: Rounding) -> Images:
    """Encode and decode.

    rounding: of coefficients after division by the quantiser. steps: of samples to 8 bits. One
    channel is grey, three are RGB; of any other number each channel is coded as grey.
    """
    luminance, chrominance = (table.to(x) for table in quantisers(quality))
    samples = steps(x * 255)
    if x.shape[1] != 3:
        return _finish(_plane(samples, luminance, rounding, steps), steps)
    height, width = x.shape[2:]
    y, cb, cr = (steps(plane) for plane in _to_ycc(samples).split(1, 1))
    chroma = torch.cat([cb, cr], 1)
    even = pad(chroma, (0, width % 2, 0, height % 2), mode="replicate")
    coded = _plane(steps(avg_pool2d(even, 2)), chrominance, rounding, steps)
    # libjpeg's triangle filter weighs the two nearest samples 3 : 1, as this does
    large = interpolate(coded, scale_factor=2, mode="bilinear", align_corners=False)
    ycc = torch.cat(
        [_plane(y, luminance, rounding, steps), steps(large[..., :height, :width])], dim=1
    )
    return _finish(_to_rgb(ycc), steps)


def _finish(samples: Planes, steps: Rounding) -> Images:
    return steps(samples.clamp(0, 255)) / 255


def _plane(
    samples: Planes, table: Float[Tensor, "8 8"], rounding: Rounding, steps: Rounding
) -> Planes:
    height, width = samples.shape[2:]
    whole = pad(samples, (0, -width % 8, 0, -height % 8), mode="replicate") - 128
    n, channels, tall, wide = whole.shape
    blocks = whole.reshape(n, channels, tall // 8, 8, wide // 8, 8)
    basis = _basis(samples)
    divisor = table.view(8, 1, 8)
    coefficients = torch.einsum("ux,nchxwy,vy->nchuwv", basis, blocks, basis) / divisor
    kept = rounding(coefficients) * divisor
    decoded = torch.einsum("ux,nchuwv,vy->nchxwy", basis, kept, basis)
    plane = decoded.reshape(n, channels, tall, wide)[..., :height, :width] + 128
    return steps(plane.clamp(0, 255))


def _basis(like: Tensor) -> Float[Tensor, "8 8"]:
    """Rows of the orthonormal cosine transform."""
    place = torch.arange(8, dtype=torch.float64)
    rows = torch.cos((2 * place[None] + 1) * place[:, None] * math.pi / 16) / 2
    rows[0] /= math.sqrt(2)
    return rows.to(like)


def _to_ycc(rgb: Planes) -> Planes:
    r, g, b = rgb.split(1, 1)
    y = 0.299 * r + 0.587 * g + 0.114 * b
    return torch.cat([y, (b - y) / 1.772 + 128, (r - y) / 1.402 + 128], 1)


def _to_rgb(ycc: Planes) -> Planes:
    y, cb, cr = ycc[:, :1], ycc[:, 1:2] - 128, ycc[:, 2:] - 128
    return torch.cat(
        [y + 1.402 * cr, y - (0.114 * 1.772 * cb + 0.299 * 1.402 * cr) / 0.587, y + 1.772 * cb], 1
    )
