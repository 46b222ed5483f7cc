"""The numbers of every group that are no plain proportion, in one shape: values and their limits."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy

from assaymark.bias.auc import area_limits, areas
from assaymark.bias.calibration import Curves, corrected_errors, curves, error_limits, plain_errors
from assaymark.bias.codes import Column
from assaymark.bias.composites import COMPOSITES, some
from assaymark.bias.counts import Tally, tally
from assaymark.bias.estimates import (
    LimitsAt,
    difference_of_estimates,
    intervals_of_estimates,
)
from assaymark.bias.resample import bootstrap_intervals
from assaymark.bias.rows import Flags, Numbers, Predictions
from assaymark.bias.scores import Ties, brier_limits, brier_scores, outside, ties
from assaymark.reports.model import Interval

COMPARED = (
    "auc",
    "brier_score",
    "expected_calibration_error",
    "balanced_accuracy",
    "f1_score",
)
"""Numbers whose largest difference between groups is measured."""
NEED_SCORES = COMPARED[:3]
SPOKEN: Mapping[str, str] = {
    "auc": "AUC",
    "brier_score": "Brier score",
    "expected_calibration_error": "expected calibration error",
    "balanced_accuracy": "balanced accuracy",
    "f1_score": "F1 score",
    "matthews_correlation": "Matthews correlation",
}
_ONE_ROW = "only one row"


@dataclass(frozen=True, kw_only=True, eq=False)
class Measure:
    """A number of every group: values, NaN where not defined.

    bounded: groups that have an interval. lacks: what a group lacks whose value is NaN; few: what one
    lacks that has a value and no interval. limits: those of some groups, None where intervals are
    bootstrapped. intervals: of all groups, each by itself.
    """

    values: Numbers
    bounded: Flags
    lacks: str
    few: str
    limits: Callable[[Sequence[int]], LimitsAt] | None
    intervals: Callable[[float], list[Interval | None]]

    def value(self, place: int) -> float | None:
        found = float(self.values[place])
        return found if numpy.isfinite(found) else None

    def difference(self, places: Sequence[int], confidence: float) -> Interval | None:
        """Of the largest difference between two of these groups; None where one has no limits."""
        if self.limits is None or not self.bounded[list(places)].all():
            return None
        values, limits = self.values[list(places)], self.limits(places)
        return difference_of_estimates(values, limits, confidence, largest=1.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class GroupNumbers:
    """What is measured of the groups of a column; absent: why a number is measured of no group.

    plain: the calibration errors before correction. tied and curves: None without scores, curves also
    where scores are no probabilities.
    """

    rows: Numbers
    positives: Numbers
    measures: dict[str, Measure]
    absent: dict[str, str]
    plain: Numbers | None
    tied: Ties | None
    curves: Curves | None


def measure(data: Predictions, column: Column, *, seed: int = 0) -> GroupNumbers:
    """Everything of `COMPARED`, and Matthews' correlation, for every group of a column."""
    counted = tally(column, data)
    measures = {name: _composite(name, counted, seed) for name in COMPOSITES}
    absent: dict[str, str] = {}
    tied = curve = None
    if data.score is None or not data.n:
        absent = dict.fromkeys(NEED_SCORES, "the table names no column with scores")
    else:
        tied = ties(column, data.label, data.score, data.weight)
        measures["auc"] = _auc(tied)
        reason = outside(data.score)
        if reason is None:
            curve = curves(tied)
            measures["brier_score"] = _brier(data, column)
            measures["expected_calibration_error"] = _calibration(curve)
        else:
            absent = dict.fromkeys(NEED_SCORES[1:], reason)
    return GroupNumbers(
        rows=counted.rows.sum(axis=(1, 2)),
        positives=counted.rows[:, 1].sum(axis=1),
        measures=measures,
        absent=absent,
        plain=None if curve is None else plain_errors(curve),
        tied=tied,
        curves=curve,
    )


def _composite(name: str, counted: Tally, seed: int) -> Measure:
    composite = COMPOSITES[name]
    values = composite.value(counted.sums)
    bounded = numpy.isfinite(values)
    limits = composite.limits
    few = "too few rows for a bootstrap"
    if limits is not None:
        return _limited(
            values,
            bounded,
            lambda places: limits(some(counted, places)),
            lacks=composite.lacks,
            few=few,
            method="Wilson, combined",
        )
    squares = None if counted.squares is counted.sums else counted.squares

    def intervals(confidence: float) -> list[Interval | None]:
        return bootstrap_intervals(
            counted.sums, composite.value, confidence, seed=seed, squares=squares
        )

    return Measure(
        values=values,
        bounded=bounded,
        lacks=composite.lacks,
        few=few,
        limits=None,
        intervals=cache(intervals),
    )


def _auc(tied: Ties) -> Measure:
    found = areas(tied)
    return _limited(
        found.value,
        numpy.isfinite(found.error),
        lambda places: area_limits(found.of(places)),
        lacks="no positives or no negatives",
        few="only one positive or one negative",
        method="DeLong, logit",
    )


def _brier(data: Predictions, column: Column) -> Measure:
    found = brier_scores(data, column)
    return _limited(
        found.value,
        numpy.isfinite(found.error),
        lambda places: brier_limits(found.of(places)),
        lacks="no row with a weight",
        few=_ONE_ROW,
        method="Student, corrected for skewness (Hall)",
    )


def _calibration(curve: Curves) -> Measure:
    values = corrected_errors(curve)
    return _limited(
        values,
        numpy.isfinite(values),
        lambda places: error_limits(curve.of(places)),
        lacks="no row with a weight",
        few=_ONE_ROW,
        method="ends of tests of the binned error",
    )


def _limited(
    values: Numbers,
    bounded: Flags,
    limits: Callable[[Sequence[int]], LimitsAt],
    *,
    lacks: str,
    few: str,
    method: str,
) -> Measure:
    def intervals(confidence: float) -> list[Interval | None]:
        places = numpy.flatnonzero(bounded).tolist()
        found: list[Interval | None] = [None] * len(values)
        each = intervals_of_estimates(limits(places), confidence, method)
        for place, interval in zip(places, each, strict=True):
            found[place] = interval
        return found

    return Measure(
        values=values,
        bounded=bounded,
        lacks=lacks,
        few=few,
        limits=limits,
        intervals=cache(intervals),
    )
