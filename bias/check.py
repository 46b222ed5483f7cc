"""The bias check of decisions between two classes: rates by group and the gaps between the groups."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from assaymark.bias.gap_findings import gap_findings
from assaymark.bias.group_evidence import group_evidence
from assaymark.bias.groups import by_group
from assaymark.bias.rate_findings import rate_findings
from assaymark.bias.references import check_reference
from assaymark.bias.rows import Predictions, Rows
from assaymark.reports.model import CheckResult, Evidence, Finding, Gate, Method, by_urgency


def check_bias_table(
    check: str,
    data: Predictions,
    *,
    gates: tuple[Gate, ...] = (),
    tags: tuple[str, ...] = (),
    min_group_size: int = 1,
    references: Mapping[str, str] | None = None,
    missing_apart: bool = False,
) -> CheckResult:
    """The gaps of every sensitive attribute, and the group rates that a gate names.

    Groups smaller than min_group_size are shown but not compared; so are, with missing_apart, people
    whose sensitive value is missing: a limit on a gap must then also be kept by what the gap would be in
    the worst case of where they belong. references: for an attribute, the group that others are compared
    with; without one, the group that fares best. Raises InputError for a reference that is no group.
    """
    findings: list[Finding] = []
    small: list[str] = []
    apart: list[str] = []
    for attribute in data.groups:
        grouped = by_group(data, attribute, min_group_size, missing_apart=missing_apart)
        reference = (references or {}).get(attribute)
        if reference is not None:
            check_reference(grouped, reference)
        small += [
            f"{attribute} = {group.name}" for group in grouped.groups if group.n < min_group_size
        ]
        if missing_apart:
            apart += [f"{attribute} = {group.name}" for group in grouped.groups if group.missing]
        mine = gates_of(gates, data, attribute)
        found = gap_findings(check, grouped, gates=mine, tags=tags, reference=reference)
        found += rate_findings(check, grouped, gates=mine, tags=tags)
        findings += at_worst(found, group_evidence(grouped, data.note, mine, reference))
    method = _method(check, data, min_group_size, small, apart)
    return CheckResult(findings=tuple(findings), method=method)


def gates_of(gates: Sequence[Gate], data: Rows, attribute: str) -> list[Gate]:
    """The gates that are about an attribute: they name it, or none."""
    known = (None, "intersections" if attribute == data.crossed else attribute)
    return [gate for gate in gates if gate.attribute in known]


def at_worst(findings: list[Finding], evidence: tuple[Evidence, ...]) -> list[Finding]:
    """The findings with evidence at the most urgent one, where the reader looks first."""
    worst = next(iter(by_urgency(findings)))
    return [
        replace(one, evidence=(*one.evidence, *evidence)) if one is worst else one
        for one in findings
    ]


def _method(
    check: str, data: Predictions, min_group_size: int, small: list[str], apart: list[str]
) -> Method:
    steps = [
        f"{data.n} rows of {data.name}; {data.note}.",
        "Demographic parity compares selection rates, equal opportunity true positive rates, equalized "
        "odds the worse of true and false positive rates, predictive parity positive predictive values: "
        "the largest difference, or the smallest over the largest.",
        "Intervals of group rates are two-sided Wilson score intervals, at the confidence of their gate "
        "or 95 %. Those of gaps hold for all pairs of groups at once (Tukey and Kramer): a fair model is "
        "said to have a gap in at most one of twenty samples, whatever the number of groups.",
        "A gap is not measured when a compared group lacks the cases one of its rates needs.",
    ]
    if data.weight is not None:
        steps.append(
            "Weighted rows count for intervals as many as would say as much with equal weights (Kish)."
        )
    untested = ["causes of a gap"]
    if data.crossed is None:
        untested.append("intersections of the sensitive attributes")
    if small:
        untested.append(
            f"groups of fewer than {min_group_size} rows, which were not compared: {', '.join(small)}"
        )
    if apart:
        untested.append(
            f"the rates of people without a value, who were not compared: {', '.join(apart)}"
        )
    return Method(
        check=check,
        title=f"Group metrics of {data.name} by {', '.join(data.groups)}",
        steps=tuple(steps),
        not_tested=tuple(untested),
        sources=(
            "Hardt, Price and Srebro 2016, arXiv 1610.02413",
            "Verma and Rubin 2018, Fairness definitions explained, FairWare",
            "Wilson 1927, JASA 22",
            "Tukey 1953 and Kramer 1956, Biometrics 12",
            "Newcombe 1998, Statistics in Medicine 17",
            "Kish 1965, Survey Sampling",
            "29 CFR 1607.4(D), the four-fifths rule",
        ),
    )
