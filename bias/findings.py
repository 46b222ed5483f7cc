"""A measured number becomes findings: one for each limit that is held against it, or one without."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

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
    return [_finding(check, measured, gate, tags) for gate in mine or [None]]


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


def _finding(check: str, measured: Measured, gate: Gate | None, tags: tuple[str, ...]) -> Finding:
    return Finding(
        check=check,
        target=measured.target,
        measure=measured.measure,
        summary=measured.summary,
        value=measured.value,
        interval=None
        if measured.value is None
        else measured.interval_at(gate.confidence if gate else 0.95),
        n=measured.n,
        limit=gate.limit if gate else None,
        severity=gate.severity if gate else "low",
        evidence=measured.evidence,
        references=tags,
    )
