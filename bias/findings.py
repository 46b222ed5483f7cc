"""A measured number becomes findings: one for each limit that is held against it, or one without."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

from assaymark.bias.codes import SEPARATOR
from assaymark.reports.model import Evidence, Finding, Gate, Interval, Verdict


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A number of a target, before any limit is held against it.

    target: the group, column or slice it is about. measure: its name in METRICS of the policy.
    summary: one sentence, which says why when value is None. interval_at: the interval at a
    confidence, None where the number has none.
    """

    target: str
    measure: str
    value: float | None
    summary: str
    n: int | None
    interval_at: Callable[[float], Interval | None] = lambda confidence: None
    evidence: tuple[Evidence, ...] = ()


def findings(
    check: str, measured: Measured, gates: Sequence[Gate], tags: tuple[str, ...] = ()
) -> list[Finding]:
    """The findings of a number: gates on other measures are left aside."""
    mine: list[Gate | None] = [gate for gate in gates if gate.metric == measured.measure]
    interval_at = cache(measured.interval_at)
    return [_finding(check, measured, gate, tags, interval_at) for gate in mine or [None]]


def doubted(finding: Finding, attribute: str, could_be: Sequence[float]) -> Finding:
    """A good number is not believed where people of unknown group could make it break its limit.

    attribute: whose value is missing. could_be: what the number would be in the worst cases.
    """
    if finding.limit is None:
        return finding
    held = replace(finding.limit, on="estimate")
    broken = [value for value in could_be if held.judge(value, None) is Verdict.FAIL]
    if not broken:
        return finding
    worst = max(broken) if held.minimum is None else min(broken)
    reason = f"people without a value of {attribute} could bring it to {worst:.3f}"
    return replace(finding, unreliable=reason)


def _finding(
    check: str,
    measured: Measured,
    gate: Gate | None,
    tags: tuple[str, ...],
    interval_at: Callable[[float], Interval | None],
) -> Finding:
    return Finding(
        check=check,
        target=measured.target,
        measure=measured.measure,
        summary=measured.summary,
        value=measured.value,
        interval=None if measured.value is None else interval_at(gate.confidence if gate else 0.95),
        n=measured.n,
        limit=gate.limit if gate else None,
        severity=gate.severity if gate else "low",
        evidence=measured.evidence,
        references=tags,
    )


def unanswered(
    check: str, found: Sequence[Finding], gates: Sequence[Gate], tags: tuple[str, ...] = ()
) -> list[Finding]:
    """Findings "not measured" for the gates that none of the findings holds: no limit is passed unseen."""
    missed = [gate for gate in gates if not any(_holds(one, gate) for one in found)]
    return [one for gate in missed for one in findings(check, _unmeasured(gate), [gate], tags)]


def _holds(one: Finding, gate: Gate) -> bool:
    """Whether a finding is about a gate: its number, its limit, and its attribute or a group of it."""
    if (one.measure, one.limit) != (gate.metric, gate.limit):
        return False
    attribute = one.target.partition(" = ")[0]
    if gate.attribute == "intersections":
        return SEPARATOR in attribute
    return gate.attribute in (None, one.target, attribute)


def _unmeasured(gate: Gate) -> Measured:
    what = gate.metric.replace("_", " ")
    where = "" if gate.attribute is None else f" of {gate.attribute}"
    return Measured(
        target=gate.attribute or "the table",
        measure=gate.metric,
        value=None,
        summary=f"Not measured: this check has no {what}{where} to hold the limit against; give it what "
        "the number needs, or leave the limit out.",
        n=None,
    )
