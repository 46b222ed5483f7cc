"""The largest difference among groups that were asked the same questions.

Groups are compared template by template, so that a template on which every group fares badly says nothing
about a difference. All pairs of groups have an interval at once (Bonferroni), each from the spread of its
differences over templates (Student's t, templates − 1 degrees of freedom); the largest difference lies
between the largest of the lower and the largest of the upper ends, as in bias/gaps.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from scipy.special import stdtrit

from assaymark.bias.rows import Numbers
from assaymark.reports.model import Interval

Means = numpy.ndarray[tuple[int, int], numpy.dtype[numpy.float64]]
"""A mean of every template (row) and group (column), NaN where there is none."""
_UNSEEN = 2.0
"""Changes, either way, that are added to those that were seen: rare ones are few by chance, and none seen is
not none (as Agresti and Min 2005, Statistics in Medicine 24, do for pairs of yes and no)."""
METHOD = "paired by template, all pairs of groups at once (Bonferroni, t)"


def means_of(
    values: Sequence[float], templates: Sequence[int], groups: Sequence[int], shape: tuple[int, int]
) -> Means:
    """The mean of the values of each template and group. templates, groups: a number for each value."""
    size = shape[0] * shape[1]
    places = numpy.asarray(templates, int) * shape[1] + numpy.asarray(groups, int)
    counts = numpy.bincount(places, minlength=size)
    sums = numpy.bincount(places, weights=numpy.asarray(values, float), minlength=size)
    found: Means = numpy.where(counts > 0, sums / numpy.maximum(counts, 1), numpy.nan).reshape(
        shape
    )
    return found


def complete(means: Means) -> Means:
    """The templates on which every group has a number."""
    kept: Means = means[~numpy.isnan(means).any(axis=1)]
    return kept


@dataclass(frozen=True, slots=True)
class Gap:
    """value: highest minus lowest mean, at least 0. high, low: the columns of the two groups."""

    value: float
    high: int
    low: int


def gap(means: Means) -> Gap | None:
    """The largest difference of the means over complete templates; None without any or with one group."""
    shared = complete(means)
    if not len(shared) or shared.shape[1] < 2:
        return None
    rates: Numbers = shared.mean(axis=0)
    high, low = int(rates.argmax()), int(rates.argmin())
    return Gap(float(rates[high] - rates[low]), high, low)


def gap_interval(means: Means, confidence: float, *, whole: float | None = 1.0) -> Interval | None:
    """An interval of the largest difference, at least 0.

    whole: the size of a change that is assumed where none was seen, 1 of a rate; the interval does not
    exceed it. None: then there is no interval. None of fewer than two complete templates or groups.
    """
    shared = complete(means)
    templates, groups = shared.shape
    if templates < 2 or groups < 2:
        return None
    first, second = numpy.triu_indices(groups, 1)
    apart = shared[:, first] - shared[:, second]
    changed = apart[apart != 0]
    if not len(changed) and whole is None:
        return None
    change = float((changed**2).mean()) if len(changed) else float(whole or 0) ** 2
    centre = apart.mean(axis=0)
    spread = ((apart - centre) ** 2).sum(axis=0) + _UNSEEN * change
    error = numpy.sqrt(spread / (templates * (templates - 1)))
    reach = float(-stdtrit(templates - 1, (1 - confidence) / 2 / len(first))) * error
    top = numpy.inf if whole is None else whole
    return Interval(
        low=float(max((numpy.abs(centre) - reach).max(), 0.0)),
        high=float(min((numpy.abs(centre) + reach).max(), top)),
        confidence=confidence,
        method=METHOD,
    )
