"""Bootstrap of whatever is computed from counts by label and decision, without touching a row.

Drawing n rows with replacement and counting them is drawing the counts from a multinomial distribution,
so replicates of the counts are those of the rows (Efron and Tibshirani 1993, section 6.2), at a cost that
does not grow with the rows.

A proportion needs none of this: its score interval is shorter and right for small groups, where the
bootstrap of a rate of 1 never leaves 1. It is for numbers that have no interval in closed form.
"""

from collections.abc import Callable

import numpy
from scipy.special import ndtr, ndtri

from assaymark.bias.counts import Sums
from assaymark.bias.rows import Numbers
from assaymark.reports.model import Interval

Statistic = Callable[[Sums], Sums]
"""From (..., groups, 2, 2) to a number a group, (..., groups); NaN where it is not defined."""
REPLICATES = 2000
METHOD = "BCa bootstrap"


def resample(
    cells: Sums, *, seed: int, replicates: int = REPLICATES, squares: Sums | None = None
) -> Sums:
    """Counts of so many samples drawn with replacement, of (replicates, groups, 2, 2).

    cells: counts of rows, (groups, 2, 2), each group drawn by itself with its n. With sample weights,
    cells are sums of the weights and squares sums of their squares: each row is then drawn a number of
    times that is Poisson with mean 1 (the Poisson bootstrap), and the weight that gathers in a cell has
    the mean of its sum and the variance of its sum of squares, as has a Poisson number of rows of its
    mean weight.
    """
    rng = numpy.random.default_rng(seed)
    flat = numpy.asarray(cells, float).reshape(len(cells), 4)
    if squares is None:
        n = flat.sum(axis=1)
        shares = flat / numpy.maximum(n, 1)[:, None]
        shares[n == 0, 0] = 1.0  # of no rows none are drawn, from any distribution
        drawn = rng.multinomial(n.astype(int), shares, size=(replicates, len(flat)))
    else:
        square = numpy.asarray(squares, float).reshape(len(cells), 4)
        unit = numpy.divide(square, flat, out=numpy.ones_like(flat), where=flat > 0)
        drawn = unit * rng.poisson(flat / unit, size=(replicates, *flat.shape))
    return drawn.reshape(replicates, len(flat), 2, 2).astype(float)


def bootstrap_intervals(
    cells: Sums,
    statistic: Statistic,
    confidence: float,
    *,
    seed: int,
    replicates: int = REPLICATES,
    squares: Sums | None = None,
) -> list[Interval | None]:
    """The bias-corrected and accelerated interval of each group (Efron 1987, JASA 82, section 3).

    A replicate without the number, such as one without positives, counts as below the lower end and
    above the upper end: it widens the interval, and where there are more of them than an end leaves out
    (2.5 % at 95 %) there is None. There is None too where the number is not defined, or the same in
    every replicate, which then say nothing of its error.
    """
    # in an order of their counts, so that what the groups are called does not move the draws
    order = numpy.lexsort(numpy.asarray(cells).reshape(len(cells), 4).T)
    chosen = None if squares is None else squares[order]
    drawn = resample(cells[order], seed=seed, replicates=replicates, squares=chosen)
    found = numpy.empty((replicates, len(cells)))
    found[:, order] = statistic(drawn)
    values = statistic(numpy.asarray(cells, float))
    rises = _accelerations(_as_rows(cells, squares), statistic)
    return [
        bca_interval(found[:, place], float(values[place]), float(rises[place]), confidence)
        for place in range(len(cells))
    ]


def bca_interval(found: Numbers, value: float, rise: float, confidence: float) -> Interval | None:
    """The BCa interval of a value from its replicates (NaN where undefined); rise: the acceleration."""
    defined = numpy.sort(found[numpy.isfinite(found)])
    if not numpy.isfinite(value) or not len(defined) or defined[0] == defined[-1]:
        return None
    lost = 1 - len(defined) / len(found)
    below = ((defined < value).mean() + (defined <= value).mean()) / 2
    shift = ndtri(min(max(below, 1 / len(found)), 1 - 1 / len(found)))
    far = ndtri((1 - confidence) / 2)
    ends = [shift + z for z in (far, -far)]
    low, high = (float(ndtr(shift + end / (1 - rise * end))) for end in ends)
    # the lost replicates lie beyond either end
    low, high = (low - lost) / (1 - lost), high / (1 - lost)
    if low < 0 or high > 1:
        return None
    left, right = numpy.quantile(defined, [low, high]).tolist()
    return Interval(low=left, high=right, confidence=confidence, method=METHOD)


def _as_rows(cells: Sums, squares: Sums | None) -> Sums:
    """Weights in the unit of a row: those of a group sum up to its effective rows (Kish)."""
    if squares is None:
        return cells
    whole, square = (each.sum(axis=(-2, -1), keepdims=True) for each in (cells, squares))
    unit: Sums = numpy.divide(whole, square, out=numpy.zeros_like(whole), where=square > 0)
    return cells * unit


def _accelerations(cells: Sums, statistic: Statistic) -> Numbers:
    """Of each group, how fast the error changes with the number: from leaving out each row in turn.

    Rows of a cell are alike, so four numbers a group are enough (Efron and Tibshirani 1993, 14.15).
    """
    flat = numpy.asarray(cells, float).reshape(len(cells), 4)
    without = numpy.maximum(flat - numpy.eye(4)[:, None, :], 0).reshape(4, len(cells), 2, 2)
    values = statistic(without).T
    weight = numpy.where(numpy.isfinite(values), flat, 0.0)
    values = numpy.where(numpy.isfinite(values), values, 0.0)
    whole = numpy.maximum(weight.sum(axis=1), 1e-300)
    apart = ((weight * values).sum(axis=1) / whole)[:, None] - values
    square = (weight * apart**2).sum(axis=1)
    cubes = (weight * apart**3).sum(axis=1)
    with numpy.errstate(invalid="ignore", divide="ignore"):
        return numpy.where(square > 0, cubes / (6 * square**1.5), 0.0)
