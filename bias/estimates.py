"""The gap between the best and the worst of several groups, of any number that has an error in each.

As `gaps` does for rates: all pairs of groups have an interval at once (Tukey 1953, Kramer 1956), and a
pair's ends come from the limits of its two groups (Zou and Donner 2008, Statistics in Medicine 27), so
that limits which are not symmetric, or stay inside a range, keep that in their difference.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy
from scipy.special import expit, logit, ndtr, ndtri, stdtrit

from assaymark.bias.codes import Codes
from assaymark.bias.gaps import ALL_PAIRS, ends_of_pairs, studentized_range
from assaymark.bias.rows import Numbers
from assaymark.reports.model import Interval

LimitsAt = Callable[[float], tuple[Numbers, Numbers]]
"""From a number of standard errors to the lower and upper limit of every group, in [-∞, ∞]."""


def plain_limits(
    values: Sequence[float] | Numbers,
    errors: Sequence[float] | Numbers,
    freedom: Sequence[float] | Numbers | float = math.inf,
) -> LimitsAt:
    """Limits on both sides of each value, so many of its standard errors away.

    errors: at least 0, one a group. freedom: degrees of freedom of the errors, such as n − 1 of a mean;
    the fewer, the wider, at the same probability (Student's t).

    >>> low, high = plain_limits([0.5], [0.1], 29)(1.96)
    >>> round(float(high[0]), 3)
    0.705
    """
    centre, error = _checked(values, errors)
    return lambda reach: _around(centre, error * _student(reach, freedom))


def logit_limits(
    values: Sequence[float] | Numbers,
    errors: Sequence[float] | Numbers,
    freedom: Sequence[float] | Numbers | float = math.inf,
) -> LimitsAt:
    """As `plain_limits`, of numbers in [0, 1], whose limits stay there: even on the logit scale.

    A value of 0 or 1 has no logit, and its limits are the value: give such a group limits of its own.
    """
    centre, error = _checked(values, errors)
    inside = (centre > 0) & (centre < 1)
    safe = numpy.where(inside, centre, 0.5)
    slope = error / (safe * (1 - safe))

    def at(reach: float) -> tuple[Numbers, Numbers]:
        low, high = _around(logit(safe), slope * _student(reach, freedom))
        return numpy.where(inside, expit(low), centre), numpy.where(inside, expit(high), centre)

    return at


@dataclass(frozen=True, kw_only=True, eq=False)
class Means:
    """The mean of every group, and what its limits need; NaN where a group has too few rows.

    n: Kish's effective size, (Σw)² / Σw². error: the standard error, by linearization. skewness: that of
    the error, which is that of the rows over √n.
    """

    n: Numbers
    value: Numbers
    error: Numbers
    skewness: Numbers

    def of(self, places: Sequence[int]) -> "Means":
        """Those of some of the groups."""
        at = numpy.asarray(places, int)
        return Means(
            n=self.n[at], value=self.value[at], error=self.error[at], skewness=self.skewness[at]
        )


def means_by_group(
    codes: Codes, groups: int, values: Numbers, weight: Numbers | None = None
) -> Means:
    """The mean of values over the rows of every group, all groups in three passes.

    codes: the group of each row, in [0, groups). weight: at least 0, None for 1 each.
    """

    def total(each: Numbers | None) -> Numbers:
        return numpy.bincount(codes, weights=each, minlength=groups).astype(float)

    whole = total(weight)
    with numpy.errstate(invalid="ignore", divide="ignore"):
        n = whole if weight is None else whole**2 / total(weight * weight)
        mean = total(values if weight is None else weight * values) / whole
        apart = values - mean[codes]
        if weight is not None:
            apart *= weight
        square = total(apart * apart)
        error = numpy.sqrt(square * n / (n - 1)) / whole
        skewness = numpy.where(square > 0, total(apart**3) / square**1.5, 0.0)
    few = ~(n > 1)
    return Means(n=n, value=mean, error=numpy.where(few, numpy.nan, error), skewness=skewness)


def mean_limits(means: Means) -> LimitsAt:
    """Limits of means of rows that need not be symmetric, such as squared errors.

    As those of Student, and corrected for skewness by Hall's cubic (Hall 1992, JRSS B 54, section 2):
    of 30 skewed rows they miss on either side about as often as they say. A group whose rows are all
    equal has limits without width. Raises ValueError for a group of fewer than two rows.
    """
    centre, error = _checked(means.value, means.error)
    flat = numpy.abs(means.skewness) < 1e-8
    bend = numpy.where(flat, 1.0, means.skewness)

    def studentized(quantile: Numbers) -> Numbers:
        cubic = 3 / bend * (numpy.cbrt(1 + bend * (quantile - bend / 6)) - 1)
        return numpy.where(flat, quantile, cubic)

    def at(reach: float) -> tuple[Numbers, Numbers]:
        far = _student(reach, means.n - 1)
        return centre - error * studentized(far), centre - error * studentized(-far)

    return at


def intervals_of_estimates(limits_at: LimitsAt, confidence: float, method: str) -> list[Interval]:
    """The two-sided interval of every group by itself."""
    low, high = limits_at(float(-ndtri((1 - confidence) / 2)))
    return [
        Interval(low=below, high=above, confidence=confidence, method=method)
        for below, above in zip(low.tolist(), high.tolist(), strict=True)
    ]


def difference_of_estimates(
    values: Sequence[float] | Numbers,
    limits_at: LimitsAt,
    confidence: float,
    *,
    largest: float = math.inf,
) -> Interval:
    """An interval of the largest difference between two groups that share no case.

    values: one finite number a group, of at least two groups. limits_at: their limits, such as
    `plain_limits(values, errors, freedom)`. largest: the most that two groups can differ. It holds for
    every pair at once, so equal groups have a lower end above 0 in at most 1 − confidence of samples,
    however many groups there are. Raises ValueError for fewer than two groups or a limit that is NaN.
    """
    centre = numpy.asarray(values, float)
    if len(centre) < 2:
        raise ValueError(f"a difference needs two groups, got {len(centre)}")
    low, high = limits_at(studentized_range(confidence, len(centre)) / math.sqrt(2))
    if not numpy.isfinite(centre).all() or numpy.isnan(low).any() or numpy.isnan(high).any():
        raise ValueError(f"groups with a number and limits are compared, got {centre.tolist()}")
    least, most = ends_of_pairs(low, centre, high)
    return Interval(
        low=max(least, 0.0), high=min(most, largest), confidence=confidence, method=ALL_PAIRS
    )


def _checked(
    values: Sequence[float] | Numbers, errors: Sequence[float] | Numbers
) -> tuple[Numbers, Numbers]:
    centre, error = numpy.asarray(values, float), numpy.asarray(errors, float)
    if centre.shape != error.shape or not (numpy.isfinite(error) & (error >= 0)).all():
        raise ValueError(f"every value has an error of at least 0, got {error.tolist()}")
    return centre, error


def _around(centre: Numbers, half: Numbers) -> tuple[Numbers, Numbers]:
    return centre - half, centre + half


def _student(reach: float, freedom: Sequence[float] | Numbers | float) -> Numbers:
    """Student's t that is exceeded as often as a standard normal exceeds reach."""
    degrees = numpy.asarray(freedom, float)
    if not (degrees > 0).all():
        raise ValueError(f"degrees of freedom are above 0, got {degrees.tolist()}")
    # the tail, since 1 - ndtr(reach) loses its digits; stdtrit knows no infinite freedom
    found = -stdtrit(numpy.minimum(degrees, 1e9), ndtr(-reach))
    return numpy.where(numpy.isinf(degrees), reach, found)
