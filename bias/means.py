"""Means of groups whose intervals never come from rows that say nothing of their spread.

The mean of one row, or of rows that are all alike, has no interval: nothing says how far the next row
may lie away. A limit held on its bound is then not measured, rather than kept without a doubt.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy

from assaymark.bias.codes import Codes
from assaymark.bias.estimates import (
    LimitsAt,
    Means,
    difference_of_estimates,
    intervals_of_estimates,
    mean_limits,
    means_by_group,
)
from assaymark.bias.rows import Flags, Numbers
from assaymark.reports.model import Interval

METHOD = "Student's t, corrected for skewness"


@dataclass(frozen=True, kw_only=True, eq=False)
class GroupMeans:
    """The mean of every group. rows: how many it has. spread: whether they say how far they vary."""

    rows: Numbers
    means: Means
    spread: Flags

    def value(self, place: int) -> float | None:
        """A group's mean; None where no row weighs anything."""
        found = float(self.means.value[place])
        return None if math.isnan(found) else found

    def interval(self, place: int, confidence: float) -> Interval | None:
        """Of a group by itself; None where the spread is not known."""
        if not self.spread[place]:
            return None
        limits = mean_limits(self.means.of([place]))
        return intervals_of_estimates(limits, confidence, METHOD)[0]

    def difference(self, places: Sequence[int], confidence: float) -> Interval | None:
        """Of the largest difference between two of the groups, for all pairs at once.

        None where the spread of one is not known, and for fewer than two groups.
        """
        if len(places) < 2 or not self.spread[list(places)].all():
            return None
        chosen = self.means.of(places)
        return difference_of_estimates(chosen.value, mean_limits(chosen), confidence)

    def ratio(self, places: Sequence[int], confidence: float) -> Interval | None:
        """As `difference`, of the smallest mean over the largest: of their logarithms.

        None also where a mean is not above 0.
        """
        chosen = self.means.of(places)
        if len(places) < 2 or not self.spread[list(places)].all() or chosen.value.min() <= 0:
            return None
        found = difference_of_estimates(
            numpy.log(chosen.value), _logarithms(mean_limits(chosen)), confidence
        )
        return Interval(
            low=math.exp(-found.high),
            high=math.exp(-found.low),
            confidence=confidence,
            method=found.method,
        )


def group_means(
    codes: Codes, groups: int, values: Numbers, weight: Numbers | None = None
) -> GroupMeans:
    """The mean of the values of each of so many groups. weight: at least 0, one a row.

    >>> found = group_means(numpy.array([0, 0, 2]), 3, numpy.array([1.0, 2.0, 5.0]))
    >>> [found.value(place) for place in range(3)]
    [1.5, None, 5.0]
    """
    if weight is not None and not weight.all():
        held = weight > 0
        codes, values, weight = codes[held], values[held], weight[held]
    found = means_by_group(codes, groups, values, weight)
    # compared with one of them, since rounding leaves alike rows a spread that is not quite 0
    one = numpy.zeros(groups)
    one[codes] = values
    differ = numpy.bincount(codes, weights=values != one[codes], minlength=groups) > 0
    return GroupMeans(
        rows=numpy.bincount(codes, minlength=groups).astype(float),
        means=found,
        spread=differ & (found.n > 1) & (found.error > 0),
    )


def _logarithms(limits_at: LimitsAt) -> LimitsAt:
    """The limits of the logarithms of positive means, −∞ where a limit is not above 0."""

    def at(reach: float) -> tuple[Numbers, Numbers]:
        low, high = limits_at(reach)
        with numpy.errstate(divide="ignore"):
            return numpy.log(low.clip(0)), numpy.log(high)

    return at
