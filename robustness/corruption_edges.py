"""Edges, distances to them and equal histograms, batched: what `spatter` draws drops with."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from assaymark.robustness.corruption_filters import padded
from assaymark.robustness.types import Images

_TAN = math.tan(math.pi / 8)


def edges(x: Images, low: float, high: float) -> Bool[Tensor, "batch channels height width"]:
    """Canny's edges of one channel in 0 to 255 (IEEE PAMI 8, 1986).

    Sobel gradients measured in L1; the largest along the gradient, in four directions; above `low`,
    and joined through such pixels to one above `high`.
    """
    height, width = x.shape[-2:]
    wide = padded(x, 1, "nearest")
    rows = wide[..., :-2, :] + 2 * wide[..., 1:-1, :] + wide[..., 2:, :]
    columns = wide[..., :-2] + 2 * wide[..., 1:-1] + wide[..., 2:]
    right, down = rows[..., 2:] - rows[..., :-2], columns[..., 2:, :] - columns[..., :-2, :]
    across, along = right.abs(), down.abs()
    strength = across + along
    around = functional.pad(strength, (1, 1, 1, 1))

    def beside(dy: int, dx: int) -> Tensor:
        return around[..., 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]

    flat, steep = along < _TAN * across, along * _TAN > across
    rising = (right < 0) ^ (down < 0)
    falling_ends = (beside(-1, -1), beside(1, 1))
    rising_ends = (beside(-1, 1), beside(1, -1))
    slanted = torch.where(
        rising,
        (strength > rising_ends[0]) & (strength > rising_ends[1]),
        (strength > falling_ends[0]) & (strength > falling_ends[1]),
    )
    # of two equal neighbours the second is the edge
    level = (strength > beside(0, -1)) & (strength >= beside(0, 1))
    upright = (strength > beside(-1, 0)) & (strength >= beside(1, 0))
    ridge = torch.where(flat, level, torch.where(steep, upright, slanted))
    candidates = ridge & (strength > low)
    return _joined(candidates & (strength > high), candidates)


def _joined(seeds: Tensor, allowed: Tensor) -> Tensor:
    """What can be reached from the seeds through allowed pixels, diagonals included."""
    reached, count = seeds, -1
    while (now := int(reached.count_nonzero())) != count:
        count = now
        for _ in range(4):
            wide = functional.pad(reached, (1, 1, 1, 1))
            rows = wide[..., :-2, :] | wide[..., 1:-1, :] | wide[..., 2:, :]
            reached = (rows[..., :-2] | rows[..., 1:-1] | rows[..., 2:]) & allowed
    return reached


def away_from(
    edge: Bool[Tensor, "batch channels height width"], most: int
) -> Float[Tensor, "batch channels height width"]:
    """Euclidean distance to the nearest edge pixel in pixels, at most `most`."""
    height, width = edge.shape[-2:]
    places = torch.arange(width, device=edge.device)
    before = torch.where(edge, places, -width - most).cummax(-1).values
    after = torch.where(edge, places, 2 * width + most).flip(-1).cummin(-1).values.flip(-1)
    in_row = torch.minimum(places - before, after - places).clamp_max(most).float() ** 2
    nearest = in_row.clone()
    for down in range(1, min(most, height - 1) + 1):
        upper, lower = nearest[..., down:, :], nearest[..., :-down, :]
        torch.minimum(upper, in_row[..., :-down, :] + down**2, out=upper)
        torch.minimum(lower, in_row[..., down:, :] + down**2, out=lower)
    return nearest.sqrt_().clamp_max_(most)


def equalized(x: Images) -> Images:
    """Whole numbers of 0 to 255 spread so that each is about equally frequent."""
    values = x.flatten(1).long()
    counts = torch.zeros(len(x), 256, device=x.device).scatter_add_(
        1, values, torch.ones_like(values, dtype=torch.float32)
    )
    upto = counts.cumsum(1)
    total = upto[:, -1:]
    first = counts.gather(1, (counts > 0).float().argmax(1, keepdim=True))
    table = ((upto - first) * 255 / (total - first).clamp_min(1)).round()
    # one value only: it stays
    table = torch.where(total == first, torch.arange(256.0, device=x.device), table)
    return table.clamp_(0, 255).gather(1, values).view(x.shape)
