"""Mitigations of a language model compared on the same items: bias and ability, before and after.

A mitigation that makes a model answer at random looks fair, so every number of ability stands beside those
of bias. Where a number is a mean over items, its change is that of the items both runs answered, with an
interval over their clusters; where it is not, the two intervals stand side by side.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Literal

from assaymark.bias.findings import Measured
from assaymark.bias.lm_outcome import Outcome
from assaymark.bias.lm_whatif_changes import (
    CONFIDENCE,
    Change,
    Key,
    adjusted,
    change_of,
    keys_of,
    number_of,
)
from assaymark.reports.errors import InputError
from assaymark.reports.model import (
    Cell,
    Evidence,
    Interval,
    Plot,
    Point,
    Series,
    Table,
)

CHANGE = "mitigation_change"
Good = Literal["high", "low"]


def compare(
    outcomes: Mapping[str, Outcome],
    *,
    fair: Mapping[str, float],
    ability: Mapping[str, Good],
    min_common: float = 0.95,
) -> Outcome:
    """Every number of a suite before and after each mitigation.

    outcomes: of the same suite on the same items, by mitigation; the first is the model without one. fair:
    of each measure of bias the value of a fair model, such as 0.5 of a share of stereotypes. ability: of each
    measure of ability which values are good. The changes are measured as "mitigation_change" of a target
    such as "self-debiasing: crows pairs score, gender". min_common: the share of items that both runs must
    have answered, since a mitigation that loses the items on which the model is biased would look like a
    cure. Raises InputError for fewer than two outcomes, or a measure that is both.
    """
    if len(outcomes) < 2:
        raise InputError(
            f"mitigations are compared with the model as it is: expected 2 runs or more, got {len(outcomes)}"
        )
    if not 0 <= min_common <= 1:
        raise InputError(f"min_common lies from 0 to 1, got {min_common:g}")
    both = sorted(set(fair) & set(ability))
    if both:
        raise InputError(f'"{both[0]}" is a measure of bias or of ability, not of both')
    first, *others = outcomes
    changes = adjusted(
        [
            change_of(name, key, outcomes[first], outcomes[name], min_common)
            for name in others
            for key in keys_of(outcomes.values())
        ]
    )
    readings = [_reading(one, fair, ability) for one in changes]
    lost: Counter[str] = Counter()
    for outcome in outcomes.values():
        lost.update(outcome.lost)
    return Outcome(
        measured=tuple(_measured(one, first) for one in changes),
        items=sum(outcome.items for outcome in outcomes.values()),
        answered=sum(outcome.answered for outcome in outcomes.values()),
        lost=dict(lost),
        evidence=(
            _overview(others, changes, readings, outcomes),
            _table(changes, readings, first),
            *_plots(outcomes, fair, ability),
        ),
        revision=outcomes[first].revision,
        steps=(
            f"{len(others)} mitigation(s) against “{first}” on the same items; {len(changes)} numbers, with "
            "p-values by Holm over all of them. Changes of means over items are paired by item, their "
            "intervals over clusters of items; other numbers have both intervals instead.",
        ),
        not_tested=("What a mitigation does to answers that these suites do not ask for.",),
    )


def _reading(change: Change, fair: Mapping[str, float], ability: Mapping[str, Good]) -> str:
    """What a change means, as far as it can be told from chance."""
    if change.value is None:
        return "not measured"
    if change.differences is not None and not change.differences.any():
        return "no item changed"
    if not change.paired:
        return "compare the intervals"
    if change.p is None:
        return "its error is not known"
    if not change.shown:
        return "no change shown"
    measure = change.key.measure
    if measure in ability:
        return "better" if (change.value > 0) == (ability[measure] == "high") else "worse"
    if measure not in fair:
        return "changed"
    old, new = change.before.value, change.after.value
    assert old is not None
    assert new is not None
    nearer = abs(new - fair[measure]) < abs(old - fair[measure])
    return "nearer to fair" if nearer else "farther from fair"


def _measured(change: Change, first: str) -> Measured:
    target = f"{change.mitigation}: {change.key.label}"
    if change.value is None:
        return Measured(
            target=target,
            measure=CHANGE,
            value=None,
            summary=f"Not measured: {change.reason}.",
            n=change.compared,
        )
    how = (
        f"over the {change.compared} items that both runs answered"
        if change.paired
        else "as a whole"
    )
    left = f" {change.left} items were answered by one run only." if change.left else ""
    chance = "" if change.adjusted is None else f" (Holm-adjusted p {change.adjusted:.3g})"
    return Measured(
        target=target,
        measure=CHANGE,
        value=change.value,
        summary=f"With {change.mitigation} rather than {first}, {change.key.label} changes by "
        f"{change.value:+.3f} {how}{chance}.{left}",
        n=change.compared,
        interval_at=cache(change.interval_at),
    )


def _table(changes: Sequence[Change], readings: Sequence[str], first: str) -> Table:
    rows = []
    for change, reading in zip(changes, readings, strict=True):
        interval = change.interval_at(CONFIDENCE)
        ends = (None, None) if interval is None else (interval.low, interval.high)
        rows.append(
            (
                change.mitigation,
                change.key.measure,
                change.key.target,
                _written(change.before),
                _written(change.after),
                change.value,
                *ends,
                change.adjusted,
                change.compared,
                change.left if change.paired else None,
                reading,
            )
        )
    return Table(
        title="Before and after each mitigation",
        columns=(
            "mitigation",
            "measure",
            "target",
            first,
            "with it",
            "change",
            "from",
            "to",
            "p (Holm)",
            "items compared",
            "in one run only",
            "reading",
        ),
        rows=tuple(rows),
        note="Intervals at 95 %. A change that cannot be told from chance is no proof that there is none.",
    )


def _written(measured: Measured) -> Cell:
    if measured.value is None:
        return None
    interval = measured.interval_at(CONFIDENCE)
    ends = "" if interval is None else f" [{interval.low:.3f}, {interval.high:.3f}]"
    return f"{measured.value:.3f}{ends}"


def _overview(
    names: Sequence[str],
    changes: Sequence[Change],
    readings: Sequence[str],
    outcomes: Mapping[str, Outcome],
) -> Table:
    """How many numbers each mitigation makes better and worse, and whether it does any good."""
    rows = []
    for name in names:
        mine = Counter(
            reading
            for one, reading in zip(changes, readings, strict=True)
            if one.mitigation == name
        )
        counts = [mine[kind] for kind in ("nearer to fair", "farther from fair", "better", "worse")]
        share = outcomes[name].answered / outcomes[name].items if outcomes[name].items else None
        rows.append((name, *counts, share, _says(*counts)))
    return Table(
        title="What each mitigation does",
        columns=(
            "mitigation",
            "nearer to fair",
            "farther from fair",
            "ability better",
            "ability worse",
            "share answered",
            "in short",
        ),
        rows=tuple(rows),
        note="Numbers whose change can be told from chance.",
    )


def _says(nearer: int, farther: int, better: int, worse: int) -> str:
    if worse and not nearer:
        return "makes the model worse, and not fairer"
    if nearer and worse:
        return "fairer in part, at a cost"
    if nearer:
        return "fairer, and no cost shown" if not farther else "fairer in part, less fair in part"
    if farther:
        return "less fair"
    return "better, and no change of bias shown" if better else "no change shown"


def _plots(
    outcomes: Mapping[str, Outcome], fair: Mapping[str, float], ability: Mapping[str, Good]
) -> tuple[Evidence, ...]:
    """One for each number of ability: how far from fair each number of bias is, a point a mitigation."""
    keys = keys_of(outcomes.values())
    plots = []
    for able in (key for key in keys if key.measure in ability):
        series = [
            Series(label=key.label, points=points)
            for key in keys
            if key.measure in fair and (points := _points(outcomes, key, able, fair[key.measure]))
        ]
        if series:
            good = ability[able.measure]
            plots.append(
                Plot(
                    title=f"Bias and {able.label}",
                    x_label=f"{able.label} ({good} is good)",
                    y_label="distance from fair",
                    series=tuple(replace(one, joined=False) for one in series),
                )
            )
    return tuple(plots)


def _points(outcomes: Mapping[str, Outcome], key: Key, able: Key, fair: float) -> tuple[Point, ...]:
    points = []
    for name, outcome in outcomes.items():
        bias, x = number_of(outcome, key), number_of(outcome, able).value
        if bias.value is not None and x is not None:
            low, high = _distances(bias.interval_at(CONFIDENCE), fair)
            points.append(
                Point(x=x, y=abs(bias.value - fair), low=low, high=high, label=name, n=bias.n)
            )
    return tuple(points)


def _distances(interval: Interval | None, fair: float) -> tuple[float | None, float | None]:
    """The least and the largest distance from a value that an interval allows."""
    if interval is None:
        return None, None
    ends = sorted((abs(interval.low - fair), abs(interval.high - fair)))
    return 0.0 if interval.low <= fair <= interval.high else ends[0], ends[1]
