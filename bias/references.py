"""Every group beside one: a reference that the policy names, or the group that fares best."""

from collections.abc import Sequence
from dataclasses import dataclass

from assaymark.bias.gaps import compared_with
from assaymark.bias.groups import Group, Grouped
from assaymark.reports.errors import InputError, nearest
from assaymark.reports.model import Interval

FOUR_FIFTHS = 0.8
"""Uniform Guidelines on Employee Selection Procedures, 29 CFR 1607.4(D)."""
_LOW_IS_GOOD = (
    "false_positive_rate",
    "false_negative_rate",
    "false_discovery_rate",
    "false_omission_rate",
)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A group's rate beside that of the reference: difference, ratio, and their intervals."""

    group: str
    difference: float
    difference_interval: Interval
    ratio: float | None
    ratio_interval: Interval


@dataclass(frozen=True, kw_only=True)
class Compared:
    """All groups beside the reference. named: by the policy; otherwise it has the best rate."""

    rate: str
    reference: str
    named: bool
    others: tuple[Comparison, ...]


def check_reference(grouped: Grouped, reference: str) -> None:
    """Raise InputError when a reference is no group of the column."""
    names = [group.name for group in grouped.groups]
    if reference not in names:
        raise InputError(
            f'the reference "{reference}" is no group of {grouped.attribute}{nearest(reference, names)}'
        )


def compare(
    grouped: Grouped, rate: str, reference: str | None = None, confidence: float = 0.95
) -> Compared | str:
    """Every compared group beside the reference; a sentence where that is not defined.

    reference: a group's name; None for the compared group with the best value of the rate.
    """
    groups = [group for group in grouped.groups if group.compared]
    if len(groups) < 2:
        return f"{grouped.attribute} has {len(groups)} group that can be compared: two are needed"
    undefined = [group.name for group in groups if group.rates[rate].value is None]
    if undefined:
        return f"the {rate.replace('_', ' ')} of group {undefined[0]!r} is not defined"
    values = [group.rates[rate].value or 0.0 for group in groups]
    names = [group.name for group in groups]
    if reference is not None and reference not in names:
        return f"the reference group {reference!r} is smaller than min_group_size"
    best = min(values) if rate in _LOW_IS_GOOD else max(values)
    place = values.index(best) if reference is None else names.index(reference)
    return Compared(
        rate=rate,
        reference=names[place],
        named=reference is not None,
        others=_others(groups, values, place, rate, confidence, chosen=reference is None),
    )


def _others(
    groups: Sequence[Group],
    values: list[float],
    place: int,
    rate: str,
    confidence: float,
    *,
    chosen: bool,
) -> tuple[Comparison, ...]:
    counted = [group.rates[rate] for group in groups]
    intervals = compared_with(
        place,
        [one.hits for one in counted],
        [one.cases for one in counted],
        confidence,
        chosen=chosen,
    )
    base = values[place]
    return tuple(
        Comparison(
            group=group.name,
            difference=value - base,
            difference_interval=ends[0],
            ratio=value / base if base > 0 else None,
            ratio_interval=ends[1],
        )
        for group, value, ends in zip(groups, values, intervals, strict=True)
        if ends is not None
    )


def disparate_impact(compared: Compared, confidence: float) -> tuple[float | None, Interval]:
    """The smallest ratio of a group's selection rate to the reference's, with its interval."""
    ratios = [other.ratio for other in compared.others]
    value = None if None in ratios else min(ratio for ratio in ratios if ratio is not None)
    intervals = [other.ratio_interval for other in compared.others]
    return value, Interval(
        low=min(one.low for one in intervals),
        high=min(one.high for one in intervals),
        confidence=confidence,
        method=intervals[0].method,
    )


def four_fifths(ratio: float | None, interval: Interval) -> str:
    """The verdict of the four-fifths rule in words, and whether chance could have made it.

    >>> four_fifths(0.7, Interval(low=0.6, high=0.78, confidence=0.95, method=""))
    'below four fifths'
    >>> four_fifths(0.7, Interval(low=0.5, high=0.9, confidence=0.95, method=""))
    'below four fifths, which chance could explain'
    """
    if ratio is None:
        return "not measured"
    side = "below four fifths" if ratio < FOUR_FIFTHS else "at least four fifths"
    sure = interval.high < FOUR_FIFTHS or interval.low >= FOUR_FIFTHS
    return side if sure else f"{side}, which chance could explain"
