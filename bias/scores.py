"""Scores by group: sorted once, and what they look like before anybody decides by them.

Everything that compares scores is computed on ties: the rows of a group that share a score. So the order
of rows changes nothing, and a score of ten values costs what ten rows would.
"""

from dataclasses import dataclass

import numpy

from assaymark.bias.codes import Codes, Column
from assaymark.bias.estimates import (
    LimitsAt,
    Means,
    mean_limits,
    means_by_group,
)
from assaymark.bias.gaps import wilson_limits
from assaymark.bias.rows import Flags, Numbers, Predictions

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
BARS = 10


@dataclass(frozen=True, kw_only=True, eq=False)
class Ties:
    """Each score of each group, by group and then by score, all of one length.

    positive, negative: the weights of the rows with either label; squares of these. rows: how many.
    groups: how many groups there are. Where rows have no weights, all are counts.
    """

    groups: int
    group: Codes
    score: Numbers
    rows: Numbers
    positive: Numbers
    negative: Numbers
    positive_squares: Numbers
    negative_squares: Numbers

    def total(self, each: Numbers) -> Numbers:
        """The sum of a number of every tie, by group."""
        sums = numpy.bincount(self.group, weights=each, minlength=self.groups)
        return numpy.asarray(sums, numpy.float64)  # of no ties they are whole numbers

    def before(self, each: Numbers) -> Numbers:
        """The sum of a number over the lower scores of the same group."""
        upto = numpy.cumsum(each)
        starts = numpy.searchsorted(self.group, numpy.arange(self.groups))
        start = numpy.concatenate([[0.0], upto])[starts]
        below: Numbers = upto - each - start[self.group]
        return below


def ties(column: Column, label: Flags, score: Numbers, weight: Numbers | None = None) -> Ties:
    """Rows sorted by group and score. score: finite. weight: at least 0, None for 1 each."""
    order = numpy.argsort(score, kind="stable")
    few = len(column.names) <= numpy.iinfo(numpy.int16).max
    codes = column.codes[order].astype(numpy.int16 if few else numpy.int32)  # 16 bits: radix sort
    order = order[numpy.argsort(codes, kind="stable")]
    group, sorted_score, positive = column.codes[order], score[order], label[order]
    new = numpy.ones(len(order), bool)
    new[1:] = (group[1:] != group[:-1]) | (sorted_score[1:] != sorted_score[:-1])
    starts = numpy.flatnonzero(new)

    def total(each: Numbers) -> Numbers:
        return numpy.add.reduceat(each, starts) if len(starts) else numpy.zeros(0)

    one = numpy.ones(len(order)) if weight is None else weight[order]
    yes, no = one * positive, one * ~positive
    sums = total(yes), total(no)
    squares = sums if weight is None else (total(yes * one), total(no * one))
    return Ties(
        groups=len(column.names),
        group=group[starts],
        score=sorted_score[starts],
        rows=numpy.diff(starts, append=len(order)).astype(float),
        positive=sums[0],
        negative=sums[1],
        positive_squares=squares[0],
        negative_squares=squares[1],
    )


def outside(score: Numbers) -> str | None:
    """Why scores, of which there are some, are no probabilities; None where all lie in [0, 1]."""
    low, high = float(score.min()), float(score.max())
    if low >= 0 and high <= 1:
        return None
    return f"scores run from {low:g} to {high:g}, where a probability lies in [0, 1]"


def brier_scores(data: Predictions, column: Column) -> Means:
    """The mean squared distance of the score from the label, 1 or 0, of every group (Brier 1950).

    In [0, 1], of scores in [0, 1]; NaN for a group in which nothing weighs.
    """
    assert data.score is not None
    apart = (data.score - data.label) ** 2
    return means_by_group(column.codes, len(column.names), apart, data.weight)


def brier_limits(brier: Means) -> LimitsAt:
    """The limits of `mean_limits`, inside those of a share, whose rows vary most of all in [0, 1].

    Rows that all have the same distance do not say how far others may lie: they have the limits of a
    share. Raises ValueError for a group of one row.
    """
    inside = mean_limits(brier)
    same = brier.error <= 1e-12

    def at(reach: float) -> tuple[Numbers, Numbers]:
        low, high = inside(reach)
        least, _, most = wilson_limits(brier.value * brier.n, brier.n, reach)
        low = numpy.where(same, least, numpy.maximum(low, least))
        high = numpy.where(same, most, numpy.minimum(high, most))
        return numpy.minimum(low, brier.value), numpy.maximum(high, brier.value)

    return at


@dataclass(frozen=True, kw_only=True, eq=False)
class Distribution:
    """How scores are spread in every group.

    mean and deviation, (groups,); quantiles, (groups, QUANTILES), each the least score that so much of
    the weight does not exceed; edges, (BARS + 1,), common to all groups, and share, (groups, BARS), the
    weight between them. NaN for a group in which nothing weighs.
    """

    mean: Numbers
    deviation: Numbers
    quantiles: numpy.ndarray
    edges: Numbers
    share: numpy.ndarray


def distribution(tied: Ties) -> Distribution:
    """The spread of scores in every group; bars are of equal width, from 0 to 1 where these hold all."""
    weight = tied.positive + tied.negative
    whole = tied.total(weight)
    with numpy.errstate(invalid="ignore", divide="ignore"):
        mean = tied.total(weight * tied.score) / whole
        apart = tied.score - mean[tied.group]
        deviation = numpy.sqrt(tied.total(weight * apart**2) / whole)
        edges = _edges(tied.score)
        # a hair less, so that 0.3 is not left of an edge at 0.3 that was computed
        starts = edges - 1e-9 * (edges[-1] - edges[0])
        bar = numpy.clip(numpy.searchsorted(starts, tied.score, side="right") - 1, 0, BARS - 1)
        share = numpy.bincount(
            tied.group * BARS + bar, weights=weight, minlength=tied.groups * BARS
        ).reshape(tied.groups, BARS)
        return Distribution(
            mean=mean,
            deviation=deviation,
            quantiles=_quantiles(tied, weight, whole),
            edges=edges,
            share=share / whole[:, None],
        )


def _edges(score: Numbers) -> Numbers:
    low, high = float(score.min()), float(score.max())
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    elif low == high:
        low, high = low - 0.5, high + 0.5
    return numpy.linspace(low, high, BARS + 1)


def _quantiles(tied: Ties, weight: Numbers, whole: Numbers) -> numpy.ndarray:
    upto = numpy.cumsum(weight)
    end = numpy.cumsum(whole)
    aims = (end - whole)[:, None] + whole[:, None] * numpy.asarray(QUANTILES)
    # a hair less, so that sums in another order do not move it
    places = numpy.searchsorted(upto, aims - 1e-9 * whole[:, None])
    found = tied.score[numpy.minimum(places, len(tied.score) - 1)]
    return numpy.where(whole[:, None] > 0, found, numpy.nan)
