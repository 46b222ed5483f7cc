"""Numbers of a language model before and after a mitigation, paired by item where they are means of items."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy
from scipy.special import stdtr, stdtrit

from assaymark.bias.findings import Measured
from assaymark.bias.lm_clusters import cluster_codes, mean_interval
from assaymark.bias.lm_outcome import ItemValues, Outcome
from assaymark.bias.multiplicity import FAMILY_LEVEL, holm
from assaymark.bias.rows import Numbers
from assaymark.reports.model import Interval

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Key:
    """A number by what it measures and of whom."""

    measure: str
    target: str

    @property
    def label(self) -> str:
        return f"{self.measure.replace('_', ' ')}, {self.target}"


@dataclass(frozen=True, kw_only=True)
class Change:
    """A number before and after a mitigation.

    value: after less before, over the items that both answered where it is a mean over items (`paired`), else
    the difference of the two numbers; None for `reason`. p: two-sided, of no change. compared, left: items
    that both answered, and that only one did. adjusted: p after Holm, over all changes.
    """

    mitigation: str
    key: Key
    before: Measured
    after: Measured
    value: float | None = None
    reason: str = ""
    paired: bool = False
    differences: Numbers | None = None
    clusters: tuple[str, ...] = ()
    left: int = 0
    p: float | None = None
    adjusted: float | None = None

    @property
    def compared(self) -> int | None:
        return None if self.differences is None else len(self.differences)

    def interval_at(self, confidence: float) -> Interval | None:
        if self.differences is None or self.value is None:
            return None
        return mean_interval(self.differences, cluster_codes(self.clusters), confidence)

    @property
    def shown(self) -> bool:
        """Whether a change can be told from chance."""
        return self.adjusted is not None and self.adjusted <= FAMILY_LEVEL


def keys_of(outcomes: Iterable[Outcome]) -> tuple[Key, ...]:
    """The numbers that all runs have, in the order of the first."""
    found = [[Key(one.measure, one.target) for one in outcome.measured] for outcome in outcomes]
    return tuple(key for key in found[0] if all(key in some for some in found))


def change_of(name: str, key: Key, old: Outcome, new: Outcome, min_common: float) -> Change:
    change = Change(mitigation=name, key=key, before=number_of(old, key), after=number_of(new, key))
    if new.answered < min_common * old.answered:
        reason = f"{new.answered} items were answered with it, and {old.answered} without"
        return replace(change, reason=reason)
    (there, asked), (left, again) = (one.behind(key.measure, key.target) for one in (old, new))
    if left * asked < min_common * there * again:
        reason = (
            f"{left} of {again} items behind it were answered with it, {there} of {asked} without"
        )
        return replace(change, reason=reason)
    values = change.before.value, change.after.value
    if values[0] is None or values[1] is None:
        when = "before" if values[0] is None else "after"
        return replace(change, reason=f"it was not measured {when} the mitigation")
    pair = _values(old, key), _values(new, key)
    if pair[0] is None or pair[1] is None:
        return replace(change, value=values[1] - values[0])
    return _paired(change, pair[0], pair[1], min_common)


def number_of(outcome: Outcome, key: Key) -> Measured:
    return next(one for one in outcome.measured if Key(one.measure, one.target) == key)


def _values(outcome: Outcome, key: Key) -> ItemValues | None:
    return next((one for one in outcome.item_values if Key(one.measure, one.target) == key), None)


def _paired(change: Change, old: ItemValues, new: ItemValues, min_common: float) -> Change:
    for ids in (old.ids, new.ids):
        if len(set(ids)) < len(ids):
            reason = f"items of {change.key.label} have the same id, so that they cannot be matched"
            return replace(change, paired=True, reason=reason)
    after = _finite(new)
    before = _finite(old)
    clusters = dict(zip(old.ids, old.clusters, strict=True))
    both = [one for one in before if one in after]
    every = len(set(old.ids) | set(new.ids))
    change = replace(change, paired=True, left=every - len(both))
    if not both or len(both) < min_common * every:
        reason = f"of {every} items {len(both)} were answered by both runs"
        return replace(change, reason=reason)
    differences = numpy.array([after[one] - before[one] for one in both])
    change = replace(
        change,
        value=float(differences.mean()),
        differences=differences,
        clusters=tuple(clusters[one] for one in both),
    )
    return replace(change, p=_p_value(change))


def _finite(items: ItemValues) -> dict[str, float]:
    pairs = zip(items.ids, items.values, strict=True)
    return {one: value for one, value in pairs if math.isfinite(value)}


def _p_value(change: Change) -> float | None:
    """Student's t of the paired change over clusters, from its interval."""
    interval = change.interval_at(CONFIDENCE)
    if interval is None or change.value is None:
        return None
    freedom = len(set(change.clusters)) - 1
    error = (interval.high - interval.low) / 2 / -stdtrit(freedom, (1 - CONFIDENCE) / 2)
    return float(2 * stdtr(freedom, -abs(change.value) / error))


def adjusted(changes: Sequence[Change]) -> list[Change]:
    p = holm([change.p for change in changes])
    return [replace(change, adjusted=value) for change, value in zip(changes, p, strict=True)]
