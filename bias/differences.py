"""Which groups differ from the rest: every group and rate tested, and the tests paid for together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy

from assaymark.bias.codes import Column
from assaymark.bias.counts import RATES, hits_and_n, tally
from assaymark.bias.exact import effective, fisher_two_sided, newcombe
from assaymark.bias.multiplicity import (
    FALSE_DISCOVERY_LEVEL,
    FAMILY_LEVEL,
    benjamini_hochberg,
    holm,
)
from assaymark.bias.rows import Predictions
from assaymark.reports.errors import InputError, nearest
from assaymark.reports.model import Cell, Interval, Table

TESTED = (
    "selection_rate",
    "true_positive_rate",
    "false_positive_rate",
    "positive_predictive_value",
    "accuracy",
)
_SHOWN = 25
"""Rows of the table that do not stand, and rows that were not measured: the others are counted."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A rate of one group against that of all other rows.

    hits of cases, other_hits of other_cases: whole numbers, effective ones of weighed rows; value and
    other_value are the weighed rates, None over no cases. p: exact, two-sided; holm, benjamini_hochberg:
    adjusted for the whole family; all None where no test was made, and why then says the reason.
    """

    attribute: str
    group: str
    rate: str
    rows: int
    hits: int
    cases: int
    value: float | None
    other_hits: int
    other_cases: int
    other_value: float | None
    p: float | None = None
    holm: float | None = None
    benjamini_hochberg: float | None = None
    why: str | None = None

    @property
    def difference(self) -> float | None:
        if self.value is None or self.other_value is None:
            return None
        return self.value - self.other_value

    @property
    def claimed(self) -> bool:
        """Whether it stands after Holm: hardly one of all claims is false."""
        return self.holm is not None and self.holm <= FAMILY_LEVEL

    @property
    def likely(self) -> bool:
        """Whether it stands after Benjamini and Hochberg: a lead, of which some are false."""
        adjusted = self.benjamini_hochberg
        return adjusted is not None and adjusted <= FALSE_DISCOVERY_LEVEL

    def interval(self, confidence: float = 0.95) -> Interval | None:
        """Of this difference alone, not of all at once."""
        return newcombe(self.hits, self.cases, self.other_hits, self.other_cases, confidence)


def differences(
    data: Predictions, rates: Sequence[str] = TESTED, min_group_size: int = 1
) -> tuple[Difference, ...]:
    """Every rate of every group against the other rows, the surest difference first.

    rates: names of RATES. A test is made where the group and the other rows both have at least
    min_group_size rows and at least one case of the rate. Of an attribute with two groups only the
    smaller is listed: the other is its mirror image. Raises InputError for an unknown rate.
    """
    for rate in rates:
        if rate not in RATES:
            raise InputError(f'no rate is called "{rate}"{nearest(rate, RATES)}')
    if data.weight is not None:  # their squares neither overflow nor vanish
        data = replace(data, weight=data.weight / data.weight.max(initial=1e-300))
    compared = [
        one
        for column in data.groups.values()
        for one in _of_column(column, data, rates, min_group_size)
    ]
    return tuple(sorted(_tested(compared), key=_surest))


def _surest(one: Difference) -> tuple[bool, float, float, str, str, str]:
    apart = abs(one.difference or 0.0)
    return one.p is None, one.p or 0.0, -apart, one.attribute, one.group, one.rate


def _of_column(
    column: Column, data: Predictions, rates: Sequence[str], min_group_size: int
) -> list[Difference]:
    counted = tally(column, data)
    rows = counted.rows.sum(axis=(1, 2))
    held = numpy.flatnonzero(rows)
    if len(held) == 2:
        held = held[[int(numpy.argmin(rows[held]))]]
    other_rows = _others(rows)
    found = []
    for rate in rates:
        hits, cases = hits_and_n(counted.sums, rate)
        _, squared = hits_and_n(counted.squares, rate)
        weighed = (hits, cases, squared)
        others = [_others(one) for one in weighed]
        for place in held.tolist():
            mine = _Side(rows[place], *(one[place] for one in weighed))
            rest = _Side(other_rows[place], *(one[place] for one in others))
            found.append(_compared(column, place, rate, mine, rest, min_group_size))
    return found


def _others(sums: numpy.ndarray) -> numpy.ndarray:
    """For each group the sum over all others; a subtraction would leave a little of nothing."""
    before, after = numpy.zeros_like(sums), numpy.zeros_like(sums)
    before[1:] = numpy.cumsum(sums[:-1])
    after[:-1] = numpy.cumsum(sums[:0:-1])[::-1]
    both: numpy.ndarray = before + after
    return both


@dataclass(frozen=True)
class _Side:
    """A group, or all other rows: how many rows, and what they weigh for one rate."""

    rows: int
    hits: float
    cases: float
    squares: float

    @property
    def value(self) -> float | None:
        return float(self.hits / self.cases) if self.cases else None

    @property
    def counts(self) -> tuple[int, int]:
        return effective(self.hits, self.cases, self.squares)


def _compared(
    column: Column, place: int, rate: str, mine: _Side, rest: _Side, min_group_size: int
) -> Difference:
    why = None
    for side, who in ((mine, "the group"), (rest, "the rest")):
        if side.rows < min_group_size:
            why = why or f"{who} has {side.rows} rows, fewer than {min_group_size}"
        elif not side.counts[1]:
            why = why or f"{who} has no case of it"
    (hits, cases), (other_hits, other_cases) = mine.counts, rest.counts
    return Difference(
        attribute=column.name,
        group=column.names[place],
        rate=rate,
        rows=int(mine.rows),
        hits=hits,
        cases=cases,
        value=mine.value,
        other_hits=other_hits,
        other_cases=other_cases,
        other_value=rest.value,
        why=why,
    )


def _tested(compared: list[Difference]) -> list[Difference]:
    """With p-values, raw and adjusted for all that could be tested."""
    asked = [one for one in compared if one.why is None]
    if not asked:
        return compared
    p = fisher_two_sided(
        [one.hits for one in asked],
        [one.cases for one in asked],
        [one.other_hits for one in asked],
        [one.other_cases for one in asked],
    ).tolist()
    adjusted = zip(asked, p, holm(p), benjamini_hochberg(p), strict=True)
    tested = [
        replace(one, p=raw, holm=family, benjamini_hochberg=discovery)
        for one, raw, family, discovery in adjusted
    ]
    return tested + [one for one in compared if one.why is not None]


def table_of(found: Sequence[Difference], confidence: float = 0.95) -> Table:
    """What stands after correction, then the surest of the others, then what was not measured."""
    tested = [one for one in found if one.p is not None]
    standing = [one for one in tested if one.claimed or one.likely]
    others = [one for one in tested if not (one.claimed or one.likely)]
    unmeasured = [one for one in found if one.p is None]
    shown = standing + others[:_SHOWN] + unmeasured[:_SHOWN]
    return Table(
        title="Which groups differ from the rest",
        columns=(
            "attribute",
            "group",
            "rate",
            "cases",
            "group has",
            "rest has",
            "difference",
            "at least",
            "at most",
            "p",
            "p (Holm)",
            "p (Benjamini–Hochberg)",
            "after correction",
        ),
        rows=tuple(_row(one, confidence) for one in shown),
        note=_note(tested, unmeasured, confidence),
    )


def _row(one: Difference, confidence: float) -> tuple[Cell, ...]:
    interval = None if one.p is None else one.interval(confidence)
    said = "differs" if one.claimed else "probably differs" if one.likely else "may be chance"
    return (
        one.attribute,
        one.group,
        one.rate.replace("_", " "),
        one.cases,
        one.value,
        one.other_value,
        one.difference,
        interval.low if interval else None,
        interval.high if interval else None,
        one.p,
        one.holm,
        one.benjamini_hochberg,
        said if one.why is None else f"not measured: {one.why}",
    )


def _note(tested: list[Difference], unmeasured: list[Difference], confidence: float) -> str:
    claimed, likely = sum(one.claimed for one in tested), sum(one.likely for one in tested)
    rest = len(tested) - sum(one.claimed or one.likely for one in tested)
    said = [
        f"{len(tested)} exact tests (Fisher) of one group against all other rows, corrected together: "
        f'{claimed} "differ" (Holm: the chance that any of them is false is at most {FAMILY_LEVEL:.0%}), '
        f"{likely} stand where a share of {FALSE_DISCOVERY_LEVEL:.0%} may be false (Benjamini and "
        f"Hochberg). Intervals hold one by one at {confidence:.0%}."
    ]
    if not tested:
        said = ["No group could be tested against the rest: that is no sign of fairness."]
    if rest > _SHOWN:
        said.append(f"{rest - _SHOWN} more that may be chance are not shown.")
    if len(unmeasured) > _SHOWN:
        said.append(f"{len(unmeasured) - _SHOWN} more that were not measured are not shown.")
    said.append("Of an attribute with two groups the smaller one is listed.")
    return " ".join(said)
