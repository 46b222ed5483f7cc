"""Two rates of different rows compared: Fisher's exact test and Newcombe's interval."""

import math

import numpy
import numpy.typing
from scipy.special import gammaln

from assaymark.reports.intervals import wilson
from assaymark.reports.model import Interval

Counts = numpy.typing.ArrayLike
"""Whole numbers, one a comparison."""
PArray = numpy.ndarray[tuple[int], numpy.dtype[numpy.float64]]


def fisher_greater(hits: Counts, cases: Counts, other_hits: Counts, other_cases: Counts) -> PArray:
    """One-sided exact p-values that the first rate is the larger by chance alone (Fisher 1935).

    Counts of shape (comparisons,), 0 ≤ hits ≤ cases; NaN where either side has no case. At most a
    share p of samples has a p-value of p or less when the rates are the same, at every size.

    >>> round(float(fisher_greater([3], [4], [1], [4])[0]), 6)  # the lady tasting tea
    0.242857
    """
    _, more = _tails(hits, cases, other_hits, other_cases)
    return more


def fisher_two_sided(
    hits: Counts, cases: Counts, other_hits: Counts, other_cases: Counts
) -> PArray:
    """Two-sided exact p-values that two rates differ by chance alone: twice the smaller tail.

    As `fisher_greater`. Boschloo's test and the mid-p have more power; the former takes a search a
    comparison, the latter rejects up to 5.7 % of samples of 50 + 50 rows at 5 %.

    >>> round(float(fisher_two_sided([3], [4], [1], [4])[0]), 6)
    0.485714
    """
    less, more = _tails(hits, cases, other_hits, other_cases)
    p: PArray = numpy.minimum(1.0, 2 * numpy.minimum(less, more))
    return p


def _tails(
    hits: Counts, cases: Counts, other_hits: Counts, other_cases: Counts
) -> tuple[PArray, PArray]:
    """P(X ≤ hits) and P(X ≥ hits) of the hypergeometric X, all hits dealt to all cases at random."""
    a, n, b, m = (
        numpy.atleast_1d(numpy.asarray(one, dtype=numpy.float64))
        for one in (hits, cases, other_hits, other_cases)
    )
    high = a * m >= b * n
    # where the first rate is the smaller, count misses: the tail to sum always lies above the mean
    start, total = numpy.where(high, a, n - a), numpy.where(high, a + b, n + m - a - b)
    dealt = _choose(total, start) + _choose(n + m - total, n - start) - _choose(n + m, n)
    at: PArray = numpy.exp(dealt)
    outer, term, x = at.copy(), at.copy(), start.copy()
    while (term > 1e-17 * outer).any():
        term = term * (n - x) * (total - x) / ((x + 1) * (m - total + x + 1))
        outer += term
        x += 1
    outer = numpy.minimum(outer, 1.0)
    inner = numpy.minimum(1 - outer + at, 1.0)
    less, more = numpy.where(high, inner, outer), numpy.where(high, outer, inner)
    empty = (n == 0) | (m == 0)
    less[empty] = more[empty] = math.nan
    return less, more


def _choose(n: PArray, k: PArray) -> PArray:
    """Logarithm of n over k."""
    found: PArray = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return found


def newcombe(
    hits: int, cases: int, other_hits: int, other_cases: int, confidence: float = 0.95
) -> Interval | None:
    """Interval of the first rate less the second; None where either side has no case.

    From the score intervals of both (Newcombe 1998, Statistics in Medicine 17, method 10).

    >>> interval = newcombe(56, 70, 48, 80)
    >>> round(interval.low, 4), round(interval.high, 4)
    (0.0524, 0.3339)
    """
    first, second = wilson(hits, cases, confidence), wilson(other_hits, other_cases, confidence)
    if first is None or second is None:
        return None
    one, other = hits / cases, other_hits / other_cases
    difference = one - other
    return Interval(
        low=difference - math.hypot(one - first.low, second.high - other),
        high=difference + math.hypot(first.high - one, other - second.low),
        confidence=confidence,
        method="Newcombe",
    )


def effective(hits: float, total: float, squares: float) -> tuple[int, int]:
    """Weighed hits and cases as the whole numbers that say about as much.

    hits, total: sums of weights; squares: the sum of their squares. As many cases as Kish's effective
    size (Kish 1965, Survey Sampling, section 8.2), rounded down, and the same rate, rounded. Counts
    without weights stay as they are.
    """
    if squares <= 0:
        return 0, 0
    cases = int(total * total / squares * (1 + 1e-12))
    return round(hits / total * cases), cases
