"""Corruptions by noise: of the sensor, of few photons, of broken pixels, of coherent light."""

from functools import lru_cache

import torch
from jaxtyping import Float, Int
from scipy.stats import poisson
from torch import Tensor

from assaymark.robustness.corruption_severities import Constants
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Images

_LEVELS = 255
_BUCKETS = 1024
_EXACT = 1e-4
"""In levels: what float32 leaves of a whole number of 255ths."""


def gaussian_noise(x: Images, c: Constants, streams: Streams) -> Images:
    """Normal noise of one standard deviation, independent for each value."""
    return torch.add(x, streams.normal(x, "noise"), alpha=c[0]).clamp_(0, 1)


def speckle_noise(x: Images, c: Constants, streams: Streams) -> Images:
    """Normal noise in proportion to the value."""
    return torch.addcmul(x, x, streams.normal(x, "noise"), value=c[0]).clamp_(0, 1)


def impulse_noise(x: Images, c: Constants, streams: Streams) -> Images:
    """Salt and pepper: a share of the values becomes 0 or 1, with equal chance."""
    drawn = streams.uniform(x, "noise")
    return x.masked_fill(drawn < c[0], 0.0).masked_fill_(drawn < c[0] / 2, 1.0)


def shot_noise(x: Images, c: Constants, streams: Streams) -> Images:
    """Poisson noise: a white pixel counts c[0] photons on average."""
    return (poisson_counts(x, c[0], streams) / c[0]).clamp_(0, 1)


def poisson_counts(x: Images, scale: float, streams: Streams) -> Images:
    """Poisson numbers with means scale · x, from their distribution function turned round.

    A sum of Poisson numbers is one too. So the mean is cut into whole 255ths of the scale, for which
    tables exist, and a small rest, which 8-bit images do not have.
    """
    levels = (x * _LEVELS).clamp_(0, _LEVELS)
    whole = (levels + _EXACT).floor_()
    rest = (levels - whole).flatten()
    counts = _by_table(whole.long(), streams.uniform(x, "photons"), scale).flatten()
    left = (rest > _EXACT).nonzero().flatten()
    if len(left):
        drawn = streams.uniform(x, "photons/rest").flatten()[left]
        counts[left] += _by_adding(rest[left] * scale / _LEVELS, drawn)
    return counts.view(x.shape)


def _by_table(levels: Int[Tensor, "..."], drawn: Float[Tensor, "..."], scale: float) -> Tensor:
    guide, below = (table.to(drawn.device) for table in _tables(scale))
    width = below.shape[1]
    buckets = (drawn * _BUCKETS).long() + levels * _BUCKETS
    counts = guide.flatten().index_select(0, buckets.flatten())
    drawn, offsets, below = drawn.flatten(), levels.flatten() * width, below.flatten()
    short = drawn >= below.index_select(0, offsets + counts)
    counts = counts + short
    # few draws lie in a bucket with more than two counts
    while len(at := short.nonzero().flatten()):
        more = drawn[at] >= below[offsets[at] + counts[at]]
        counts[at] += more
        short = torch.zeros_like(short).index_put_((at,), more)
    return counts.view(levels.shape).to(torch.float32)


@lru_cache(maxsize=16)
def _tables(scale: float) -> tuple[Int[Tensor, "levels buckets"], Float[Tensor, "levels counts"]]:
    """For each level the chance of at most k, and for each bucket of draws the least count."""
    most = int(scale + 7 * scale**0.5 + 20)
    means = torch.arange(_LEVELS + 1, dtype=torch.float64)[:, None] * scale / _LEVELS
    counts = torch.arange(most + 1)
    below = torch.from_numpy(poisson.cdf(counts.numpy(), means.numpy())).contiguous()
    below[:, -1] = 2  # draws end below 1, so a search ends here
    edges = torch.arange(_BUCKETS, dtype=torch.float64) / _BUCKETS
    guide = torch.searchsorted(below, edges.expand(len(below), -1).contiguous(), right=True)
    return guide, below.float()


def _by_adding(means: Float[Tensor, " left"], drawn: Float[Tensor, " left"]) -> Tensor:
    """Counts for small means: add up the chances of 0, 1, 2, … until they pass what was drawn."""
    chance = torch.exp(-means)
    below, counts, k = chance.clone(), torch.zeros_like(means), 0
    while bool((more := (drawn >= below) & (chance > 0)).any()) and k < 64:
        k += 1
        counts += more
        chance = chance * means / k
        below = below + chance
    return counts
