"""How often a random split of the words differs as much as the published one: exactly, or sampled.

Every split is a set of words; only the sum of its scores counts, so all sums of one half of the words are
matched with all of the other half, both sorted (Horowitz and Sahni, JACM 21, 1974): C(50, 25) = 1.3e14 splits
are counted one by one from 3e7 sums each side. Scores are whole numbers in units of 1e-12 of the largest, so
that a sum does not depend on its order, and splits that differ by rounding alone count as ties, which are as
extreme as the published one.
"""

from dataclasses import dataclass
from functools import cache
from math import comb

import numpy

from assaymark.bias.rows import Numbers

BUDGET = 1 << 22
"""An exact count makes at most so many sums of each half of the words: 44 words."""
DRAWS = 100_000
_UNIT = 1 << 40
_CHUNK = 1 << 22
Whole = numpy.ndarray[tuple[int], numpy.dtype[numpy.int64]]


@dataclass(frozen=True, kw_only=True)
class PermutationTest:
    """Shares of the splits into sets of the same sizes that are at least as extreme as the published one.

    greater: in its direction (mean of x − mean of y at least as large), as Caliskan et al. 2017 define it.
    two_sided: in either direction. splits: how many were looked at; exact: all that there are, each once.
    """

    greater: float
    two_sided: float
    splits: int
    exact: bool

    @property
    def method(self) -> str:
        return f"{'all' if self.exact else 'sampled'} {self.splits:,} splits"


def permutation_test(
    x: Numbers, y: Numbers, *, budget: int = BUDGET, draws: int = DRAWS, seed: int = 0
) -> PermutationTest:
    """Is the mean of x above (or apart from) that of y, were the labels x and y given out at random?

    x, y: finite scores of the words of either set; the sets may differ in size. Counted exactly where no half
    of the words has more than `budget` subsets, else from `draws` random splits, each without replacement,
    with one added to hits and draws (Phipson and Smyth 2010), so that no p-value is 0. Raises ValueError for
    an empty set.
    """
    if not len(x) or not len(y):
        raise ValueError(f"a split needs words on either side, got {len(x)} and {len(y)}")
    scores, size = _whole(numpy.concatenate([x, y])), len(x)
    n, total, seen = len(scores), int(scores.sum()), int(scores[:size].sum())
    # a split is as far from the expected sum, size · total / n, as the published one at high or at low
    mirrored = round((2 * size * total - n * seen) / n)
    bounds = _Bounds(
        seen=seen - n, low=min(seen, mirrored) + n, high=max(seen, mirrored) - n
    )  # n units are more than the rounding of a sum
    if 1 << (n - n // 2) <= budget:
        splits = comb(n, size)
        greater, either = _counted(scores, size, bounds)
        return PermutationTest(
            greater=greater / splits, two_sided=either / splits, splits=splits, exact=True
        )
    greater, either = _drawn(scores, size, bounds, draws, seed)
    return PermutationTest(
        greater=(greater + 1) / (draws + 1),
        two_sided=(either + 1) / (draws + 1),
        splits=draws,
        exact=False,
    )


@dataclass(frozen=True, kw_only=True)
class _Bounds:
    """Sums of x from which a split is as extreme: >= seen one-sided; <= low or >= high two-sided."""

    seen: int
    low: int
    high: int


def _whole(scores: Numbers) -> Whole:
    largest = float(numpy.abs(scores).max())
    return numpy.rint(scores / (largest or 1.0) * _UNIT).astype(numpy.int64)


def _counted(scores: Whole, size: int, bounds: _Bounds) -> tuple[int, int]:
    """Of all subsets of this size: how many sums are as extreme, one-sided and two-sided."""
    halves = _sums(scores[::2]), _sums(scores[1::2])

    @cache
    def at_least(size: int, bound: int) -> int:
        return sum(
            _pairs(sums, halves[1][size - count], bound)
            for count, sums in enumerate(halves[0])
            if 0 <= size - count < len(halves[1])
        )

    # sums of x of at most low are those of its complement of at least the rest
    rest = at_least(len(scores) - size, int(scores.sum()) - bounds.low)
    either = at_least(size, bounds.high) + rest
    return at_least(size, bounds.seen), min(either, comb(len(scores), size))


def _pairs(one: Whole, other: Whole, bound: int) -> int:
    """How many pairs of two sorted arrays have a sum of at least the bound."""
    many, few = (one, other) if len(one) >= len(other) else (other, one)
    parts = (few[at : at + _CHUNK] for at in range(0, len(few), _CHUNK))
    below = sum(int(numpy.searchsorted(many, bound - part).sum()) for part in parts)
    return len(many) * len(few) - below


def _sums(scores: Whole) -> list[Whole]:
    """The sums of all subsets of each size, sorted."""
    by_size: list[list[Whole]] = [[numpy.zeros(1, numpy.int64)]] + [[] for _ in scores]
    for place, score in enumerate(scores):
        for size in range(place, -1, -1):
            by_size[size + 1] += [part + score for part in by_size[size]]
        by_size = [[numpy.concatenate(parts)] if parts else [] for parts in by_size]
    return [numpy.sort(parts[0]) for parts in by_size]


def _drawn(scores: Whole, size: int, bounds: _Bounds, draws: int, seed: int) -> tuple[int, int]:
    """The same of random subsets."""
    rng = numpy.random.default_rng(seed)
    greater = either = 0
    # the smaller side is drawn: its sum says that of the other
    few = min(size, len(scores) - size)
    total = int(scores.sum())
    chunk = max(1, _CHUNK // len(scores))
    for at in range(0, draws, chunk):
        keys = rng.random((min(chunk, draws - at), len(scores)), dtype=numpy.float32)
        chosen = numpy.argpartition(keys, few - 1, axis=1)[:, :few]
        sums = scores[chosen].sum(axis=1)
        sums = sums if few == size else total - sums
        greater += int((sums >= bounds.seen).sum())
        either += int(((sums >= bounds.high) | (sums <= bounds.low)).sum())
    return greater, either
