"""The gaps between the groups of a sensitive attribute as findings, disparate impact among them."""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import replace

from assaymark.bias.bounds import gap_bounds, impact_bound
from assaymark.bias.findings import Measured, doubted, findings
from assaymark.bias.gaps import difference_interval, ratio_interval
from assaymark.bias.groups import GAPS, Grouped, families, title
from assaymark.bias.references import compare, disparate_impact, four_fifths
from assaymark.reports.model import Finding, Gate, Interval, Verdict

DISPARATE_IMPACT = "disparate_impact_ratio"
_Families = Sequence[tuple[Sequence[float], Sequence[float]]]


def gap_findings(
    check: str,
    grouped: Grouped,
    *,
    gates: Sequence[Gate],
    tags: tuple[str, ...],
    reference: str | None = None,
) -> list[Finding]:
    """Every gap in GAPS, and the disparate impact; what is not defined says why."""
    found: list[Finding] = []
    for measure in GAPS:
        for finding in findings(check, _gap(grouped, measure), gates, tags):
            needed = _with_needs(finding, grouped, measure, gates)
            found.append(_with_bounds(needed, grouped, measure))
    least = impact_bound(grouped, reference)
    for finding in findings(check, _impact(grouped, reference), gates, tags):
        found.append(_doubted(finding, grouped, () if least is None else (least,)))
    return found


def _gap(grouped: Grouped, measure: str) -> Measured:
    value = grouped.gaps[measure]
    kind = " and ".join(f"{title(rate)}s" for rate in GAPS[measure])
    how = "ratio of the smallest to the largest" if measure.endswith("ratio") else "largest gap"
    summary = (
        f"{how.capitalize()} of {kind} between the groups of {grouped.attribute}: {value:.3f}."
        if value is not None
        else f"Not measured: {grouped.why[measure]}."
    )
    return Measured(
        target=grouped.attribute,
        measure=measure,
        value=value,
        summary=summary + _missing(grouped, measure),
        n=_n(grouped),
        interval_at=lambda confidence: _interval(measure)(families(grouped, measure), confidence),
    )


def _missing(grouped: Grouped, measure: str) -> str:
    bounds = gap_bounds(grouped, measure)
    if bounds is None:
        return ""
    n = sum(group.n for group in grouped.groups if group.missing)
    people = "1 row" if n == 1 else f"{n} rows"
    return (
        f" Were the group of {people} without a value known, it could lie anywhere from {bounds[0]:.3f} "
        f"to {bounds[1]:.3f} between the others."
    )


def _with_bounds(finding: Finding, grouped: Grouped, measure: str) -> Finding:
    """A good number is not believed where the people who are not compared could make it bad."""
    return _doubted(finding, grouped, gap_bounds(grouped, measure) or ())


def _doubted(finding: Finding, grouped: Grouped, could_be: Sequence[float]) -> Finding:
    return doubted(finding, grouped.attribute, could_be) if grouped.apart else finding


def _impact(grouped: Grouped, reference: str | None) -> Measured:
    compared = compare(grouped, "selection_rate", reference)
    value, verdict = None, ""
    if isinstance(compared, str):
        summary = f"Not measured: {compared}."
    else:
        value, interval = disparate_impact(compared, 0.95)
        beside = (
            compared.reference if compared.named else f"{compared.reference}, the most selected"
        )
        verdict = four_fifths(value, interval)
        summary = (
            f"Smallest selection rate of the groups of {grouped.attribute} over that of {beside}: "
            f"{value:.3f}, {verdict}."
            if value is not None
            else f"Not measured: nobody of {beside} is selected, so no ratio is defined."
        )

    def interval_at(confidence: float) -> Interval | None:
        again = compare(grouped, "selection_rate", reference, confidence)
        return None if isinstance(again, str) else disparate_impact(again, confidence)[1]

    return Measured(
        target=grouped.attribute,
        measure=DISPARATE_IMPACT,
        value=value,
        summary=summary,
        n=_n(grouped),
        interval_at=interval_at,
    )


def _n(grouped: Grouped) -> int:
    return sum(group.n for group in grouped.groups if group.compared)


def _interval(measure: str) -> Callable[[_Families, float], Interval]:
    """How a gap gets its interval: differences as they are, ratios on logarithms."""
    return ratio_interval if measure.endswith("ratio") else difference_interval


def _with_needs(finding: Finding, grouped: Grouped, measure: str, gates: Sequence[Gate]) -> Finding:
    """An undecided finding with about how many rows would decide it."""
    gate = next(
        (one for one in gates if one.metric == measure and one.limit == finding.limit), None
    )
    if gate is None or finding.judged is not Verdict.INCONCLUSIVE:
        return finding
    assert finding.value is not None
    assert finding.n is not None
    needs = _needs(measure, finding.value, gate, families(grouped, measure), finding.n)
    return replace(finding, needs_n=needs)


def _needs(measure: str, value: float, gate: Gate, counted: _Families, n: int) -> int | None:
    """About how many rows would decide, were all rates as they are; None beyond 1,000 times as many."""

    def undecided(step: int) -> bool:
        times = 1000 ** (step / 100)
        more = [([h * times for h in hits], [c * times for c in cases]) for hits, cases in counted]
        interval = _interval(measure)(more, gate.confidence)
        return gate.limit.judge(value, interval) is Verdict.INCONCLUSIVE

    step = bisect_left(range(101), True, lo=1, key=lambda step: not undecided(step))
    if step > 100:
        return None
    enough = math.ceil(n * 1000 ** (step / 100))
    unit: int = 10 ** max(len(str(enough)) - 2, 0)
    rounded: int = -(-enough // unit) * unit
    return rounded
