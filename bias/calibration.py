"""Calibration of every group: of the rows scored 0.3, are three in ten positive?

Bins hold equal shares of a group's rows, since bins of equal width leave some nearly empty (Nguyen and
O'Connor 2015, EMNLP); rows of one score share a bin. The plain error is never 0, not even of a perfectly
calibrated score, and is the larger the fewer the rows, so groups are compared by the corrected one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from scipy.special import ndtr

from assaymark.bias.counts import Sums
from assaymark.bias.estimates import LimitsAt
from assaymark.bias.gaps import wilson_limits
from assaymark.bias.rows import Numbers
from assaymark.bias.scores import Ties

BINS = 10
ROWS_IN_A_BIN = 10
_CHANCE = (2 / numpy.pi) ** 0.5
"""The mean of the absolute value of a standard normal variable."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Curves:
    """The reliability curve of every group, each of (groups, BINS); bins without a row weigh 0.

    rows: how many; weight: the share of the group's weight. score, rate: the mean score and the observed
    rate of positives, NaN in an empty bin. cases: Kish's effective number of rows. spread: the mean of
    score · (1 − score), which is the variance of a label if the score is calibrated.
    """

    rows: Sums
    weight: Sums
    score: Sums
    rate: Sums
    cases: Sums
    spread: Sums

    def of(self, places: Sequence[int]) -> "Curves":
        """Those of some of the groups."""
        at = numpy.asarray(places, int)
        return Curves(**{name: values[at] for name, values in vars(self).items()})


def curves(tied: Ties) -> Curves:
    """The reliability curves of scores in [0, 1].

    Ten bins, or fewer where a group has not ten rows for each; a tie belongs to the bin of its middle.
    """
    weight = tied.positive + tied.negative
    rows, whole = tied.total(tied.rows), tied.total(weight)
    bins = numpy.clip(rows // ROWS_IN_A_BIN, 1, BINS)[tied.group]
    with numpy.errstate(invalid="ignore", divide="ignore"):
        middle = (tied.before(weight) + weight / 2) / whole[tied.group]
        # a hair up, so that sums in another order do not move a tie over an edge
        place = numpy.clip(numpy.nan_to_num(middle * bins + 1e-9), 0, bins - 1).astype(int)
        at = tied.group * BINS + place

        def total(each: Numbers) -> Sums:
            sums = numpy.bincount(at, weights=each, minlength=tied.groups * BINS)
            return numpy.asarray(sums, numpy.float64).reshape(tied.groups, BINS)

        held = total(weight)
        return Curves(
            rows=total(tied.rows),
            weight=numpy.nan_to_num(held / whole[:, None]),
            score=total(weight * tied.score) / held,
            rate=total(tied.positive) / held,
            cases=numpy.nan_to_num(held**2 / total(tied.positive_squares + tied.negative_squares)),
            spread=total(weight * tied.score * (1 - tied.score)) / held,
        )


def plain_errors(found: Curves) -> Numbers:
    """Σ weight · |rate − score| over the bins (Naeini et al. 2015, AAAI); NaN for an empty group."""
    errors = (found.weight * numpy.abs(_apart(found))).sum(axis=1)
    plain: Numbers = numpy.where(found.weight.sum(axis=1) > 0, errors, numpy.nan)
    return plain


def corrected_errors(found: Curves) -> Numbers:
    """The plain error less what chance adds to it, at least 0 (Kumar, Liang and Ma 2019, NeurIPS).

    What chance adds is estimated as what it would add again: normal errors around each bin's own rate,
    whose mean distance has a closed form. Of a calibrated score of few rows it takes away about half.
    """
    again = (found.weight * _folded(_apart(found), _errors(found))).sum(axis=1)
    corrected: Numbers = numpy.maximum(2 * plain_errors(found) - again, 0)
    return corrected


def error_limits(found: Curves) -> LimitsAt:
    """Limits of the calibration error of these bins, at least 0, which hold whatever its shape.

    Chance adds to the plain error, on average, at most what it adds for a calibrated score (the triangle
    inequality), which gives the lower limit; and, as the distance of a normal variable is convex in its
    mean, at least what it adds where each bin is as many of its standard errors off as the others, which
    gives the upper one. Both are ends of tests of the plain error, whose variance is that of the latter
    shape; the lower errs on the safe side where every bin is off. Of scores near 0 and 1 chance is not
    normal, and may add nothing: the upper limit is at least that of a share of the rows.
    """
    plain, value = plain_errors(found), corrected_errors(found)
    if not numpy.isfinite(plain).all():
        raise ValueError("a calibration error has limits where a group has rows")
    loose, tight = _errors(found, at_least_calibrated=True), _errors(found)
    shares = numpy.divide(found.weight**2, found.cases, out=found.cases * 0, where=found.cases > 0)
    n = 1 / shares.sum(axis=1)  # Kish's of the group

    def at(reach: float) -> tuple[Numbers, Numbers]:
        low = _solve(found.weight * loose, plain, reach)
        high = _solve(found.weight * tight, plain, -reach)
        _, _, share = wilson_limits(plain * n, n, reach)
        return numpy.minimum(low, value), numpy.maximum(high, share).clip(value, 1)

    return at


def _solve(parts: Sums, plain: Numbers, reach: float) -> Numbers:
    """The error c · Σ parts under which the plain one would be so many deviations above its mean.

    parts: each bin's standard error times its weight. Above its greatest mean where reach is positive,
    for the lower limit; below its least where it is negative. 0 where even c = 0 is too much; by bisection.
    """
    whole, square = parts.sum(axis=1), (parts**2).sum(axis=1)
    most = (plain + 10 * abs(reach) * square**0.5) / numpy.where(whole > 0, whole, 1) + 1

    def expected(c: Numbers) -> Numbers:
        folded = _folded(c, numpy.ones(len(c)))
        deviation = numpy.sqrt(square * numpy.maximum(1 + c * c - folded**2, 0))
        mean = whole * (c + _CHANCE if reach > 0 else folded)
        at: Numbers = mean + reach * deviation
        return at

    low, high = numpy.zeros(len(plain)), most
    for _ in range(60):
        middle = (low + high) / 2
        enough = expected(middle) >= plain
        low, high = numpy.where(enough, low, middle), numpy.where(enough, middle, high)
    solved: Numbers = numpy.where(expected(low * 0) >= plain, 0.0, high * whole)
    return solved


def _apart(found: Curves) -> Sums:
    return numpy.nan_to_num(found.rate - found.score)


def _errors(found: Curves, *, at_least_calibrated: bool = False) -> Sums:
    """Standard errors of the rates of the bins, in which one more row counts as calibrated."""
    cases = found.cases
    share = (numpy.nan_to_num(found.rate) * cases + numpy.nan_to_num(found.score)) / (cases + 1)
    variance = share * (1 - share)
    if at_least_calibrated:
        variance = numpy.maximum(variance, numpy.nan_to_num(found.spread))
    return numpy.sqrt(numpy.divide(variance, cases, out=numpy.zeros_like(cases), where=cases > 0))


def _folded(mean: Sums, deviation: Sums) -> Sums:
    """The mean of the absolute value of a normal variable (Leone, Nelson and Nottingham 1961)."""
    z = numpy.abs(mean) / numpy.where(deviation > 0, deviation, 1)
    folded = deviation * _CHANCE * numpy.exp(-z * z / 2) + numpy.abs(mean) * (1 - 2 * ndtr(-z))
    return numpy.where(deviation > 0, folded, numpy.abs(mean))
