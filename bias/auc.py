"""The area under the ROC curve of every group: how often a positive has a higher score than a negative."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy

from assaymark.bias.estimates import LimitsAt, logit_limits
from assaymark.bias.rows import Numbers
from assaymark.bias.scores import Ties

_PRIOR = 2
"""So many cases' worth of the variance are that of Hanley and McNeil."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Areas:
    """Of every group: value in [0, 1], NaN where it lacks positives or negatives, and its standard error.

    error: that of DeLong et al. 1988, NaN with fewer than two positives or negatives. positives,
    negatives: Kish's effective numbers. freedom: the degrees of freedom of the error (Satterthwaite).
    """

    value: Numbers
    error: Numbers
    positives: Numbers
    negatives: Numbers
    freedom: Numbers

    def of(self, places: Sequence[int]) -> "Areas":
        """Those of some of the groups."""
        at = numpy.asarray(places, int)
        return Areas(**{name: values[at] for name, values in vars(self).items()})


def areas(tied: Ties) -> Areas:
    """The area under the curve of every group; a positive and a negative with one score count half.

    With weights a pair counts their product. The error is that of DeLong, DeLong and Clarke-Pearson 1988
    (Biometrics 44), from the placement of each row among the rows of the other label, found by sorting
    (Sun and Xu 2014, IEEE Signal Processing Letters 21).
    """
    yes, no = tied.positive, tied.negative
    all_yes, all_no = tied.total(yes), tied.total(no)
    with numpy.errstate(invalid="ignore", divide="ignore"):
        below = (tied.before(no) + no / 2) / all_no[tied.group]
        above = 1 - (tied.before(yes) + yes / 2) / all_yes[tied.group]
        value = tied.total(yes * below) / all_yes
        m = all_yes**2 / tied.total(tied.positive_squares)
        n = all_no**2 / tied.total(tied.negative_squares)
        apart = value[tied.group]
        first = _variance(tied, tied.positive_squares * (below - apart) ** 2, all_yes, m)
        second = _variance(tied, tied.negative_squares * (above - apart) ** 2, all_no, n)
        variance = first + second
        freedom = variance**2 / (first**2 / (m - 1) + second**2 / (n - 1))
    return Areas(
        value=numpy.clip(value, 0, 1),
        error=numpy.sqrt(variance),
        positives=m,
        negatives=n,
        freedom=numpy.where(variance > 0, freedom, numpy.minimum(m, n) - 1),
    )


def _variance(tied: Ties, squares: Numbers, whole: Numbers, n: Numbers) -> Numbers:
    found = tied.total(squares) / whole**2 * n / (n - 1)
    return numpy.where(n > 1 + 1e-9, found, numpy.nan)


def area_limits(found: Areas) -> LimitsAt:
    """Limits inside [0, 1], even on the logit scale, at Student's quantiles.

    DeLong's variance of a near perfect score is too small, and 0 of a perfect one. Two cases' worth of
    it is therefore Hanley and McNeil's (1982, Radiology 143) for this area, and a perfect score has the
    limits of Newcombe 2006 (Statistics in Medicine 25, method 5). Every group needs an error.
    """
    if not numpy.isfinite(found.error).all():
        raise ValueError("an area has limits where there are two positives and two negatives")
    m, n = found.positives, found.negatives
    best, worst = found.value >= 1 - 1e-12, found.value <= 1e-12
    value = numpy.where(best | worst, numpy.round(found.value), found.value)
    smoothed = (value * m * n + 0.5) / (m * n + 1)
    fewer = numpy.minimum(m, n) - 1
    variance = found.error**2 * fewer + _hanley_mcneil(smoothed, m, n) * _PRIOR
    error = numpy.sqrt(variance / (fewer + _PRIOR))
    inside = logit_limits(value, error, numpy.maximum(found.freedom, 1))

    def at(reach: float) -> tuple[Numbers, Numbers]:
        (low, high), miss = inside(reach), _miss(m, n, reach)
        return numpy.where(best, 1 - miss, low), numpy.where(worst, miss, high)

    return at


def _hanley_mcneil(area: Numbers, m: Numbers, n: Numbers) -> Numbers:
    """The variance of an area with exponential scores, m and n alike in their part (Newcombe's form)."""
    others = (m + n) / 2 - 1
    more = 1 + others * (1 - area) / (2 - area) + others * area / (1 + area)
    return area * (1 - area) / (m * n) * more


def _miss(m: Numbers, n: Numbers, reach: float) -> Numbers:
    """How far below 1 an area can lie of which a perfect score is so many standard errors away."""
    low, high = numpy.zeros(len(m)), numpy.ones(len(m))
    for _ in range(60):
        middle = (low + high) / 2
        near = middle**2 <= reach**2 * _hanley_mcneil(1 - middle, m, n)
        low, high = numpy.where(near, middle, low), numpy.where(near, high, middle)
    return (low + high) / 2
