"""Rates of every group of a sensitive column, and the gaps between the groups.

A rate over no cases is None, and so is every comparison that would need it: fairlearn scores it as 0,
which makes a perfect classifier look as unfair as can be, or hides that a group was not judged at all.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy

from assaymark.bias.codes import Column, blocks, is_missing
from assaymark.bias.counts import RATES, effective, tally
from assaymark.bias.rows import Numbers, Predictions

GAPS: Mapping[str, tuple[str, ...]] = {
    "demographic_parity_difference": ("selection_rate",),
    "demographic_parity_ratio": ("selection_rate",),
    "equalized_odds_difference": ("true_positive_rate", "false_positive_rate"),
    "equalized_odds_ratio": ("true_positive_rate", "false_positive_rate"),
    "equal_opportunity_difference": ("true_positive_rate",),
    "equal_opportunity_ratio": ("true_positive_rate",),
    "predictive_parity_difference": ("positive_predictive_value",),
    "predictive_parity_ratio": ("positive_predictive_value",),
}
"""Each gap with the rates it compares; of several, the worst (the definitions of fairlearn)."""
_LACKS = {
    "true_positive_rate": "positives",
    "false_negative_rate": "positives",
    "false_positive_rate": "negatives",
    "true_negative_rate": "negatives",
    "positive_predictive_value": "positive decisions",
    "false_discovery_rate": "positive decisions",
    "negative_predictive_value": "negative decisions",
    "false_omission_rate": "negative decisions",
}


@dataclass(frozen=True, kw_only=True)
class Rate:
    """hits of cases; value None over no cases.

    n: rows; mass: the weight of these. Of weighted rows hits and cases are what as many equally
    weighted rows would count (`counts.effective`); of others cases are rows.
    """

    hits: float
    cases: float
    n: int
    mass: float

    @property
    def value(self) -> float | None:
        return min(self.hits / self.cases, 1.0) if self.cases > 0 else None


@dataclass(frozen=True, kw_only=True)
class Group:
    """The rates of one group.

    compared: it takes part in differences and ratios. missing: its sensitive value, or one of several,
    is not known.
    """

    name: str
    n: int
    positives: int
    rates: dict[str, Rate]
    mean_score: float | None
    compared: bool
    missing: bool


@dataclass(frozen=True, kw_only=True)
class Grouped:
    """All groups of one sensitive attribute, and the gaps between them.

    why: for each gap that is None, the reason.
    """

    attribute: str
    groups: tuple[Group, ...]
    gaps: dict[str, float | None]
    why: dict[str, str]

    @property
    def apart(self) -> bool:
        """Whether there are people without a value who are not compared."""
        return any(group.missing and not group.compared for group in self.groups)


def families(grouped: Grouped, gap: str) -> list[tuple[list[float], list[float]]]:
    """Of each rate that a gap compares, the hits and the cases of the compared groups."""
    rates = [
        [group.rates[rate] for group in grouped.groups if group.compared] for rate in GAPS[gap]
    ]
    return [([one.hits for one in each], [one.cases for one in each]) for each in rates]


def by_group(
    data: Predictions, attribute: str, min_group_size: int = 1, *, missing_apart: bool = False
) -> Grouped:
    """Rates by group of a sensitive column, and the gaps between them.

    missing_apart: people whose sensitive value is missing are counted, but not compared. A gap is None
    when fewer than two groups can be compared, or when one of them has a rate that is not defined.
    """
    column = data.groups[attribute]
    counted = tally(column, data)
    scores = None if data.score is None else _means(column, data.score, data.weight)
    found = {rate: effective(counted, rate) for rate in RATES}
    groups = tuple(
        Group(
            name=name,
            n=int(counted.rows[place].sum()),
            positives=int(counted.rows[place, 1].sum()),
            rates={
                rate: Rate(
                    hits=_number(hits[place]),
                    cases=_number(cases[place]),
                    n=int(rows[place]),
                    mass=float(mass[place]),
                )
                for rate, (hits, cases, rows, mass) in found.items()
            },
            mean_score=None if scores is None else scores[place],
            compared=bool(counted.rows[place].sum() >= min_group_size)
            and not (missing_apart and is_missing(name)),
            missing=is_missing(name),
        )
        for place, name in enumerate(column.names)
    )
    compared = [group for group in groups if group.compared]
    gaps: dict[str, float | None] = {}
    why: dict[str, str] = {}
    for gap, rates in GAPS.items():
        reason = _undefined(attribute, rates, compared)
        value = None if reason else _gap(gap, rates, compared)
        gaps[gap] = value
        if value is None:
            why[gap] = reason or "every compared rate is 0, so no ratio is defined"
    return Grouped(attribute=attribute, groups=groups, gaps=gaps, why=why)


def _means(column: Column, score: Numbers, weight: Numbers | None) -> list[float | None]:
    """The mean score of every group, None where nothing weighs."""
    sizes, sums = numpy.zeros(len(column.names)), numpy.zeros(len(column.names))
    for block in blocks(len(score)):
        mass = numpy.ones(len(score[block])) if weight is None else weight[block]
        sizes += numpy.bincount(column.codes[block], weights=mass, minlength=len(sizes))
        sums += numpy.bincount(
            column.codes[block], weights=score[block] * mass, minlength=len(sums)
        )
    return [float(a / b) if b > 0 else None for a, b in zip(sums, sizes, strict=True)]


def _number(count: float) -> float:
    """Counts without weights stay whole."""
    return int(count) if float(count).is_integer() else float(count)


def _gap(gap: str, rates: tuple[str, ...], groups: list[Group]) -> float | None:
    """The largest difference, or the smallest ratio, over the rates; None where no ratio is defined."""
    found = []
    for rate in rates:
        values = [value for group in groups if (value := group.rates[rate].value) is not None]
        low, high = min(values), max(values)
        if gap.endswith("difference"):
            found.append(high - low)
        elif high > 0:
            found.append(low / high)
        else:
            return None
    return min(found) if gap.endswith("ratio") else max(found)


def _undefined(attribute: str, rates: tuple[str, ...], groups: list[Group]) -> str | None:
    if len(groups) < 2:
        return f"{attribute} has {len(groups)} group that can be compared: two are needed"
    for rate in rates:
        for group in groups:
            if group.rates[rate].value is None:
                lacks = _LACKS.get(rate, "rows that weigh anything")
                return f"group {group.name!r} has no {lacks}, so its {title(rate)} is not defined"
    return None


def title(rate: str) -> str:
    """The name of a rate in a sentence."""
    return rate.replace("_", " ")
