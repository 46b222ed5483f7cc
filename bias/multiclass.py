"""Rates of every class and group of a classifier with several classes, and the gaps between the groups.

Each class against all others is a classifier with two, whose rates are those of `counts`; a gap is that
of the worst class. Its interval pays for all classes at once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy

from assaymark.bias.codes import Codes, Column
from assaymark.bias.counts import RATES, Sums, Tally, effective
from assaymark.bias.gaps import difference_interval
from assaymark.bias.groups import title
from assaymark.bias.rows import Classes, Numbers
from assaymark.reports.model import Interval

_ACCURACY = "accuracy_difference"
GAPS: Mapping[str, tuple[str, ...]] = {
    _ACCURACY: ("accuracy",),
    "demographic_parity_difference": ("selection_rate",),
    "equalized_odds_difference": ("true_positive_rate", "false_positive_rate"),
    "equal_opportunity_difference": ("true_positive_rate",),
    "predictive_parity_difference": ("positive_predictive_value",),
}
"""Each gap with the rates it compares: accuracy is of all classes together, other rates are of each."""
_NEEDS = {
    "selection_rate": "rows that weigh anything",
    "accuracy": "rows that weigh anything",
    "true_positive_rate": "rows of class {}",
    "false_positive_rate": "rows of other classes than {}",
    "positive_predictive_value": "rows that were predicted to be {}",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Tallied:
    """Hits and cases of a rate, by class and group; of weighted rows as equally weighted ones would count."""

    hits: Sums
    cases: Sums

    def value(self, one: int, group: int) -> float | None:
        """None over no cases."""
        cases = float(self.cases[one, group])
        return min(float(self.hits[one, group]) / cases, 1.0) if cases > 0 else None


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassRates:
    """All groups of one sensitive attribute and all classes that occur, by their place.

    n: rows of each group. compared: places of the groups large enough to compare. rates: of each class
    against all others; `overall` is the accuracy of all classes together, as if of one class. worst: of
    each gap the place of its class. why: for each gap that is None, the reason.
    """

    attribute: str
    groups: tuple[str, ...]
    classes: tuple[str, ...]
    n: tuple[int, ...]
    compared: tuple[int, ...]
    rates: Mapping[str, Tallied]
    overall: Tallied
    gaps: Mapping[str, float | None]
    worst: Mapping[str, int]
    why: Mapping[str, str]

    def interval(self, gap: str, confidence: float) -> Interval | None:
        """Of a gap, for all pairs of groups and all classes at once; None where the gap is.

        Classes share rows, so their errors depend on each other, and are paid for one by one (Bonferroni).
        """
        if self.gaps[gap] is None:
            return None
        families = [
            (tallied.hits[one, self.compared].tolist(), tallied.cases[one, self.compared].tolist())
            for tallied in _compared_rates(gap, self.rates, self.overall).values()
            for one in range(len(tallied.hits))
        ]
        # the share of the error that difference_interval gives each of independent families
        each = (1 - (1 - confidence) / len(families)) ** len(families)
        return replace(difference_interval(families, each), confidence=confidence)


def rates_by_class(data: Classes, attribute: str, min_group_size: int = 1) -> ClassRates:
    """The rates of every class and group of a sensitive column, and the gaps of the worst class.

    Classes that are nobody's label or prediction are left out. A gap is None when fewer than two groups
    can be compared, or when one of them lacks the cases that one class needs.
    """
    column = data.groups[attribute]
    held = _held(data)
    counted = _one_against_rest(column, data, held)
    classes = tuple(data.classes[place] for place in held)
    n = tuple(numpy.bincount(column.codes, minlength=len(column.names)).tolist())
    compared = tuple(place for place, rows in enumerate(n) if rows >= min_group_size)
    rates = {rate: _tallied(counted, rate) for rate in RATES}
    overall = _tallied(_right_or_wrong(column, data), "accuracy")
    gaps: dict[str, float | None] = {}
    worst: dict[str, int] = {}
    why: dict[str, str] = {}
    for gap in GAPS:
        chosen = _compared_rates(gap, rates, overall)
        reason = _undefined(attribute, column.names, classes, compared, chosen)
        if reason:
            gaps[gap], why[gap] = None, reason
        else:
            gaps[gap], worst[gap] = _gap(chosen, compared)
    return ClassRates(
        attribute=attribute,
        groups=column.names,
        classes=classes,
        n=n,
        compared=compared,
        rates=rates,
        overall=overall,
        gaps=gaps,
        worst=worst,
        why=why,
    )


def confusion(data: Classes, attribute: str) -> Sums:
    """The weight of the rows of every group, label and prediction."""
    column, size = data.groups[attribute], len(data.classes)
    codes = (column.codes.astype(numpy.int64) * size + data.label) * size + data.prediction
    found = numpy.bincount(codes, weights=data.weight, minlength=len(column.names) * size * size)
    return found.astype(float).reshape(len(column.names), size, size)


def _held(data: Classes) -> list[int]:
    """The classes that are somebody's label or prediction."""
    size = len(data.classes)
    seen = numpy.bincount(data.label, minlength=size) + numpy.bincount(
        data.prediction, minlength=size
    )
    return [int(place) for place in numpy.flatnonzero(seen)]


def _one_against_rest(column: Column, data: Classes, held: list[int]) -> Tally:
    """Of every class and group the four cells of that class against all others, from three counts."""
    groups, size = len(column.names), len(data.classes)
    right = data.label == data.prediction
    both, labelled, predicted = (
        column.codes.astype(numpy.int64) * size + codes
        for codes in (data.label, data.label, data.prediction)
    )

    def cells(weight: Numbers | None) -> Sums:
        def total(places: Codes, weights: Numbers | None) -> Sums:
            found = numpy.bincount(places, weights=weights, minlength=groups * size)
            return found.astype(float).reshape(groups, size).T[held]

        hits = total(both, right * (1.0 if weight is None else weight))
        of_label, of_prediction = total(labelled, weight), total(predicted, weight)
        rest = of_label.sum(axis=0) - of_label - of_prediction + hits
        found = numpy.array([[rest, of_prediction - hits], [of_label - hits, hits]])
        # by class, group, label, prediction; of weights, rounding may leave less than nothing
        return numpy.moveaxis(found, (0, 1), (2, 3)).clip(0)

    return _tally(cells, data.weight)


def _right_or_wrong(column: Column, data: Classes) -> Tally:
    """Of every group the rows that are right and those that are wrong, as if of one class."""
    places = column.codes * 2 + (data.label == data.prediction)

    def cells(weight: Numbers | None) -> Sums:
        found = numpy.zeros((1, len(column.names), 2, 2))
        counted = numpy.bincount(places, weights=weight, minlength=2 * len(column.names))
        found[0, :, 1, :] = counted.reshape(-1, 2)
        return found

    return _tally(cells, data.weight)


def _tally(cells: Callable[[Numbers | None], Sums], weight: Numbers | None) -> Tally:
    rows = cells(None)
    if weight is None:
        return Tally(rows=rows.astype(numpy.int64), sums=rows, squares=rows)
    return Tally(rows=rows.astype(numpy.int64), sums=cells(weight), squares=cells(weight**2))


def _tallied(tally: Tally, rate: str) -> Tallied:
    hits, cases, _, _ = effective(tally, rate)
    return Tallied(hits=hits, cases=cases)


def _compared_rates(gap: str, rates: Mapping[str, Tallied], overall: Tallied) -> dict[str, Tallied]:
    return {rate: overall if gap == _ACCURACY else rates[rate] for rate in GAPS[gap]}


def _undefined(
    attribute: str,
    names: Sequence[str],
    classes: Sequence[str],
    compared: tuple[int, ...],
    rates: Mapping[str, Tallied],
) -> str | None:
    if len(compared) < 2:
        return f"{attribute} has {len(compared)} group that can be compared: two are needed"
    for rate, tallied in rates.items():
        lacking = numpy.argwhere(tallied.cases[:, compared] <= 0)
        if len(lacking):
            one, place = lacking[0]
            needs = _NEEDS[rate].format(f'"{classes[one]}"')
            group = names[compared[place]]
            return f"group {group!r} has no {needs}, so its {title(rate)} is not defined"
    return None


def _gap(rates: Mapping[str, Tallied], compared: tuple[int, ...]) -> tuple[float, int]:
    """The largest difference of any rate between two groups, over all classes, and the class's place."""
    found = [tallied.hits[:, compared] / tallied.cases[:, compared] for tallied in rates.values()]
    by_class = numpy.max([each.max(axis=1) - each.min(axis=1) for each in found], axis=0)
    place = int(by_class.argmax())
    return min(float(by_class[place]), 1.0), place
