"""The rates of every group that a gate names, as findings."""

from collections.abc import Sequence
from dataclasses import replace

from assaymark.bias.bounds import rate_bounds
from assaymark.bias.counts import RATES
from assaymark.bias.findings import Measured, doubted, findings
from assaymark.bias.groups import Group, Grouped, Rate, title
from assaymark.reports.intervals import sample_size_to_decide, wilson
from assaymark.reports.model import Finding, Gate, Verdict


def rate_findings(
    check: str, grouped: Grouped, *, gates: Sequence[Gate], tags: tuple[str, ...]
) -> list[Finding]:
    """A finding for each gate on a rate and each group that is compared.

    Where people of unknown group are not compared, a limit must also hold if they all belong to the group.
    """
    found: list[Finding] = []
    unknown = any(group.missing and not group.compared for group in grouped.groups)
    for gate in gates:
        if gate.metric not in RATES:
            continue
        groups = [group for group in grouped.groups if group.compared]
        for group in groups:
            (finding,) = findings(check, _measured(grouped, group, gate.metric), [gate], tags)
            finding = _with_needs(finding, group.rates[gate.metric], gate)
            if unknown and not group.missing:
                could_be = rate_bounds(grouped, group, gate.metric) or ()
                finding = doubted(finding, grouped.attribute, could_be)
            found.append(finding)
        if not groups:
            found += findings(check, _nobody(grouped, gate.metric), [gate], tags)
    return found


def _measured(grouped: Grouped, group: Group, metric: str) -> Measured:
    rate = group.rates[metric]
    where = f"{grouped.attribute} = {group.name}"
    if rate.value is None:
        summary = f"Not measured: no case of {where} counts for the {title(metric)}."
    elif rate.cases == rate.n:
        summary = f"{title(metric).capitalize()} of {where}: {rate.hits:g} of {rate.n}."
    else:
        summary = (
            f"{title(metric).capitalize()} of {where}: {rate.value:.3f} of {rate.n} weighted rows, which "
            f"say as much as {rate.cases:.1f} equal ones."
        )
    return Measured(
        target=where,
        measure=metric,
        value=rate.value,
        summary=summary,
        n=rate.n,
        interval_at=lambda confidence: wilson(rate.hits, rate.cases, confidence),
    )


def _nobody(grouped: Grouped, metric: str) -> Measured:
    return Measured(
        target=grouped.attribute,
        measure=metric,
        value=None,
        summary=f"Not measured: {grouped.attribute} has no group that is compared.",
        n=None,
    )


def _with_needs(finding: Finding, rate: Rate, gate: Gate) -> Finding:
    if rate.value is None or finding.judged is not Verdict.INCONCLUSIVE:
        return finding
    needs = sample_size_to_decide(
        rate.value, gate.limit, gate.confidence, more_than=rate.n, method=wilson
    )
    return replace(finding, needs_n=needs)
