"""What several corruptions share: separable linear maps, borders, zooms and shades of grey.

A separable map is a matrix for the rows and one for the columns. Its border rule is part of the
matrix, and each image is a matrix product of its own, so a result does not depend on its batch.
"""

import math
from functools import lru_cache
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from assaymark.robustness.types import Images

ALIGNED = 16
"""Numbers of 32 bits in a line of the processor's cache."""
Border = Literal["nearest", "reflect", "mirror"]
"""What follows a b c: c c with nearest, c b with reflect, b a with mirror."""


def border_places(n: int, before: int, after: int, border: Border) -> Int[Tensor, " places"]:
    """Which of n places stands at -before … n - 1 + after.

    >>> border_places(3, 2, 4, "mirror").tolist()
    [2, 1, 0, 1, 2, 1, 0, 1, 2]
    """
    places = torch.arange(-before, n + after)
    if border == "nearest":
        return places.clamp(0, n - 1)
    if border == "reflect":
        places = places % (2 * n)
        return torch.minimum(places, 2 * n - 1 - places)
    if n == 1:
        return torch.zeros_like(places)
    places = places % (2 * n - 2)
    return torch.minimum(places, 2 * n - 2 - places)


def padded(
    x: Images, amount: int, border: Border
) -> Float[Tensor, "batch channels wider_height wider_width"]:
    """`amount` more pixels on each side; more than the image itself has are allowed."""
    height, width = x.shape[-2:]
    rows = border_places(height, amount, amount, border).to(x.device)
    columns = border_places(width, amount, amount, border).to(x.device)
    return x.index_select(2, rows).index_select(3, columns)


def separable(
    x: Images, rows: Float[Tensor, "height height"], columns: Float[Tensor, "width width"]
) -> Images:
    """rows · image · columnsᵀ of each channel of each image."""
    n, channels, height, width = x.shape
    planes = _aligned(x.reshape(n * channels, height, width))
    left = _aligned(rows.to(x.device)).expand(len(planes), -1, -1)
    right = _aligned(columns.to(x.device)).T.expand(len(planes), -1, -1)
    product = torch.bmm(torch.bmm(left, planes), right)
    return product[:, :height, :width].reshape(x.shape)


def _aligned(matrices: Float[Tensor, "... h w"]) -> Float[Tensor, "... h2 w2"]:
    """With zeros up to multiples of 16: the last bit of a product depends on where it is stored."""
    below, beside = (-n % ALIGNED for n in matrices.shape[-2:])
    return functional.pad(matrices, (0, beside, 0, below)) if below or beside else matrices


@lru_cache(maxsize=32)
def gaussian_matrix(
    n: int, sigma: float, *, truncate: float = 4.0, border: Border = "nearest"
) -> Float[Tensor, "n n"]:
    """Gaussian smoothing of n places; the kernel ends at truncate · sigma, rounded."""
    radius = int(truncate * sigma + 0.5)
    steps = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (steps / sigma) ** 2) if radius else torch.ones_like(steps)
    places = border_places(n, radius, radius, border)
    matrix = torch.zeros(n, n, dtype=torch.float64)
    for row in range(n):
        matrix[row].index_add_(0, places[row : row + 2 * radius + 1], kernel / kernel.sum())
    return matrix.float()


def gaussian(
    x: Images, sigma: float, *, truncate: float = 4.0, border: Border = "nearest"
) -> Images:
    """Gaussian blur with a standard deviation of sigma pixels."""
    rows, columns = (
        gaussian_matrix(n, sigma, truncate=truncate, border=border) for n in x.shape[-2:]
    )
    return separable(x, rows, columns)


def box3(x: Images) -> Images:
    """The mean of each pixel's 3×3 neighbours."""
    rows = padded(x, 1, "mirror").unfold(2, 3, 1).sum(-1)
    return rows.unfold(3, 3, 1).sum(-1) / 9


def zoomed(x: Images, factor: float) -> Images:
    """The middle of the image, magnified to its full size; bilinear. factor ≥ 1.

    As published, a whole number of pixels is magnified to a whole number of pixels. Images of fewer
    than 32 pixels would often not be magnified at all then: they are by the exact factor.
    """
    height, width = x.shape[-2:]
    if min(height, width) < 32:
        rows, columns = (
            torch.linspace(-1, 1, n, device=x.device) / factor for n in (height, width)
        )
        grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij")[::-1], dim=-1)
        return functional.grid_sample(
            x, grid.expand(len(x), -1, -1, -1), padding_mode="border", align_corners=True
        )
    kept = [math.ceil(n / factor) for n in (height, width)]
    top, left = (height - kept[0]) // 2, (width - kept[1]) // 2
    size = [round(n * factor) for n in kept]
    large = functional.interpolate(
        x[..., top : top + kept[0], left : left + kept[1]],
        size=size,
        mode="bilinear",
        align_corners=True,
    )
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return large[..., top : top + height, left : left + width]


def grey(x: Images) -> Float[Tensor, "batch 1 height width"]:
    """One channel: the luma of ITU-R BT.601, or the channel there is."""
    if x.shape[1] == 1:
        return x
    return 0.299 * x[:, 0:1] + 0.587 * x[:, 1:2] + 0.114 * x[:, 2:3]


def colour(rgb: tuple[float, float, float], like: Images) -> Float[Tensor, "1 channels 1 1"]:
    """An RGB colour with as many channels as `like`."""
    one = torch.tensor(rgb, device=like.device).view(1, 3, 1, 1)
    return one if like.shape[1] == 3 else grey(one)
