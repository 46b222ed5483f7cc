"""Errors of a regression by group, and the gaps between the groups.

A residual is prediction minus label: above 0 where the model says more than is true. Groups with equal
mean predictions, and with equal mean residuals, are what Calders et al. 2013 (Controlling attribute
effect in linear regression, ICDM) ask for; mean absolute errors say for whom the model works worse.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy

from assaymark.bias.means import GroupMeans, group_means
from assaymark.bias.rows import Numbers, Outcomes
from assaymark.reports.model import Interval

_ROOT = "root_mean_squared_error"
METRICS = ("mean_residual", "mean_absolute_error", _ROOT, "mean_prediction")
"""Of every group."""
GAPS: Mapping[str, str] = {
    "mean_residual_difference": "mean_residual",
    "mean_absolute_error_difference": "mean_absolute_error",
    "mean_absolute_error_ratio": "mean_absolute_error",
    "mean_prediction_difference": "mean_prediction",
}
"""Each gap with the metric that it compares: the largest difference, or the smallest over the largest."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ErrorsByGroup:
    """All groups of one sensitive attribute, by their place in `names`.

    n: rows of each group. compared: the places of those large enough for differences and ratios.
    averages: of each metric the means it is read from, squared errors of the root's. why: for each gap
    that is None, the reason.
    """

    attribute: str
    names: tuple[str, ...]
    n: tuple[int, ...]
    compared: tuple[int, ...]
    averages: Mapping[str, GroupMeans]
    gaps: Mapping[str, float | None]
    why: Mapping[str, str]

    def value(self, metric: str, place: int) -> float | None:
        """A metric of a group; None where none of its rows weighs anything."""
        return _value(self.averages, metric, place)

    def interval(self, metric: str, place: int, confidence: float) -> Interval | None:
        """Of a group by itself; None where its spread is not known."""
        found = self.averages[metric].interval(place, confidence)
        if found is None or metric in ("mean_residual", "mean_prediction"):
            return found
        low, high = max(found.low, 0.0), max(found.high, 0.0)
        if metric == _ROOT:
            low, high = low**0.5, high**0.5
        return Interval(low=low, high=high, confidence=confidence, method=found.method)

    def gap_interval(self, gap: str, confidence: float) -> Interval | None:
        """Of a gap, for all pairs of groups at once; None where the spread of one is not known."""
        if self.gaps[gap] is None:
            return None
        averages = self.averages[GAPS[gap]]
        measure = averages.ratio if gap.endswith("ratio") else averages.difference
        return measure(self.compared, confidence)


def errors_by_group(data: Outcomes, attribute: str, min_group_size: int = 1) -> ErrorsByGroup:
    """The metrics of every group of a sensitive column, and the gaps between those large enough.

    A gap is None for fewer than two groups, where no row of a group weighs anything, and for a ratio of
    errors that are all 0.
    """
    column = data.groups[attribute]
    residual: Numbers = data.prediction - data.label
    values = {
        "mean_residual": residual,
        "mean_absolute_error": numpy.abs(residual),
        _ROOT: residual * residual,
        "mean_prediction": data.prediction,
    }
    size = len(column.names)
    averages = {
        metric: group_means(column.codes, size, each, data.weight)
        for metric, each in values.items()
    }
    n = tuple(numpy.bincount(column.codes, minlength=size).tolist())
    compared = tuple(place for place in range(size) if n[place] >= min_group_size)
    gaps: dict[str, float | None] = {}
    why: dict[str, str] = {}
    for gap, metric in GAPS.items():
        found = {column.names[place]: _value(averages, metric, place) for place in compared}
        reason = _undefined(attribute, gap, found)
        gaps[gap] = (
            None if reason else _gap(gap, [one for one in found.values() if one is not None])
        )
        if reason:
            why[gap] = reason
    return ErrorsByGroup(
        attribute=attribute,
        names=column.names,
        n=n,
        compared=compared,
        averages=averages,
        gaps=gaps,
        why=why,
    )


def _value(averages: Mapping[str, GroupMeans], metric: str, place: int) -> float | None:
    mean = averages[metric].value(place)
    return mean if mean is None or metric != _ROOT else mean**0.5


def _undefined(attribute: str, gap: str, values: Mapping[str, float | None]) -> str | None:
    if len(values) < 2:
        return f"{attribute} has {len(values)} group that can be compared: two are needed"
    for name, value in values.items():
        if value is None:
            return f"no row of group {name!r} has a weight"
    if gap.endswith("ratio") and not any(values.values()):
        return "no prediction of any group is wrong, so no ratio is defined"
    return None


def _gap(gap: str, values: list[float]) -> float:
    low, high = min(values), max(values)
    return low / high if gap.endswith("ratio") else high - low
