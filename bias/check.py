"""The bias check of a table of predictions: rates by group and the gaps between the groups."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from assaymark.bias.counts import RATES
from assaymark.bias.gaps import detectable_gap, difference_interval, ratio_interval
from assaymark.bias.groups import GAPS, Grouped, by_group, families
from assaymark.bias.rows import Predictions
from assaymark.reports.intervals import sample_size_to_decide, wilson
from assaymark.reports.model import (
    Cell,
    CheckResult,
    Estimate,
    Estimates,
    Evidence,
    Finding,
    Gate,
    Interval,
    Method,
    Table,
    Verdict,
    by_urgency,
)

_SHOWN = (
    "selection_rate",
    "true_positive_rate",
    "false_positive_rate",
    "positive_predictive_value",
    "accuracy",
)
"""Rates in the table of groups, with those that a gate names; all but the last have a chart."""


def check_bias_table(
    check: str,
    data: Predictions,
    *,
    gates: tuple[Gate, ...] = (),
    tags: tuple[str, ...] = (),
    min_group_size: int = 1,
) -> CheckResult:
    """The gaps of every sensitive attribute, and the group rates that a gate names.

    Groups smaller than min_group_size are shown but not compared.
    """
    findings: list[Finding] = []
    small: list[str] = []
    for attribute in data.groups:
        grouped = by_group(data, attribute, min_group_size)
        small += [f"{attribute} = {group.name}" for group in grouped.groups if not group.compared]
        known = (None, "intersections" if attribute == data.crossed else attribute)
        mine = [gate for gate in gates if gate.attribute in known]
        found: list[Finding] = []
        for measure in GAPS:
            asked: list[Gate | None] = [gate for gate in mine if gate.metric == measure]
            found += [_gap(check, grouped, measure, gate, tags) for gate in asked or [None]]
        for demand in mine:
            if demand.metric in RATES:
                found += _rates(check, grouped, demand, tags)
        # the tables and charts stand where the reader looks first
        worst = next(iter(by_urgency(found)))
        place = next(i for i, finding in enumerate(found) if finding is worst)
        found[place] = replace(worst, evidence=_evidence(grouped, data, mine))
        findings += found
    return CheckResult(findings=tuple(findings), method=_method(check, data, min_group_size, small))


def _gap(
    check: str, grouped: Grouped, measure: str, gate: Gate | None, tags: tuple[str, ...]
) -> Finding:
    value = grouped.gaps[measure]
    kind = " and ".join(f"{_title(rate)}s" for rate in GAPS[measure])
    how = "ratio of the smallest to the largest" if measure.endswith("ratio") else "largest gap"
    summary = (
        f"{how.capitalize()} of {kind} between the groups of {grouped.attribute}: {value:.3f}."
        if value is not None
        else f"Not measured: {grouped.why[measure]}."
    )
    n = sum(group.n for group in grouped.groups if group.compared)
    interval = None
    if value is not None:
        counted, confidence = families(grouped, measure), gate.confidence if gate else 0.95
        interval = interval_of(measure)(counted, confidence)
    finding = Finding(
        check=check,
        target=grouped.attribute,
        measure=measure,
        summary=summary,
        value=value,
        interval=interval,
        n=n,
        limit=gate.limit if gate else None,
        severity=gate.severity if gate else "low",
        references=tags,
    )
    if gate is not None and value is not None and finding.judged is Verdict.INCONCLUSIVE:
        finding = replace(finding, needs_n=_needs(measure, value, gate, counted, n))
    return finding


def interval_of(
    measure: str,
) -> Callable[[Sequence[tuple[Sequence[float], Sequence[float]]], float], Interval]:
    """How a gap gets its interval: differences as they are, ratios on logarithms."""
    return ratio_interval if measure.endswith("ratio") else difference_interval


def _needs(
    measure: str,
    value: float,
    gate: Gate,
    counted: list[tuple[list[int], list[int]]],
    n: int,
) -> int | None:
    """About how many rows would decide, were all rates as they are; None when beyond 1,000 times as many."""
    for step in range(1, 101):
        times = 1000 ** (step / 100)
        more = [([h * times for h in hits], [c * times for c in cases]) for hits, cases in counted]
        interval = interval_of(measure)(more, gate.confidence)
        if gate.limit.judge(value, interval) is not Verdict.INCONCLUSIVE:
            enough = math.ceil(n * times)
            unit: int = 10 ** max(len(str(enough)) - 2, 0)
            rounded: int = -(-enough // unit) * unit
            return rounded
    return None


def _rates(check: str, grouped: Grouped, gate: Gate, tags: tuple[str, ...]) -> list[Finding]:
    findings = []
    if not any(group.compared for group in grouped.groups):
        return [
            Finding(
                check=check,
                target=grouped.attribute,
                measure=gate.metric,
                summary=f"Not measured: every group of {grouped.attribute} is smaller than "
                "min_group_size.",
                limit=gate.limit,
                severity=gate.severity,
                references=tags,
            )
        ]
    for group in grouped.groups:
        if not group.compared:
            continue
        rate = group.rates[gate.metric]
        interval = wilson(rate.hits, rate.n, gate.confidence)
        decided = gate.limit.judge(rate.value, interval) is not Verdict.INCONCLUSIVE
        where = f"{grouped.attribute} = {group.name}"
        findings.append(
            Finding(
                check=check,
                target=where,
                measure=gate.metric,
                summary=f"{_title(gate.metric).capitalize()} of {where}: {rate.hits} of {rate.n}."
                if rate.n
                else f"Not measured: no case of {where} counts for the {_title(gate.metric)}.",
                value=rate.value,
                interval=interval,
                n=rate.n,
                limit=gate.limit,
                severity=gate.severity,
                needs_n=None
                if decided or rate.value is None
                else sample_size_to_decide(
                    rate.value, gate.limit, gate.confidence, more_than=rate.n, method=wilson
                ),
                references=tags,
            )
        )
    return findings


def _evidence(grouped: Grouped, data: Predictions, gates: list[Gate]) -> tuple[Evidence, ...]:
    shown = list(dict.fromkeys([*_SHOWN, *(g.metric for g in gates if g.metric in RATES)]))
    columns = ["group", "n", "positives", *map(_title, shown)]
    if data.score is not None:
        columns.append("mean score")
    rows: list[tuple[Cell, ...]] = []
    for group in grouped.groups:
        row: list[Cell] = [group.name, group.n, group.positives]
        row += [group.rates[metric].value for metric in shown]
        if data.score is not None:
            row.append(group.mean_score)
        rows.append(tuple(row))
    table = Table(
        title=f"Groups of {grouped.attribute}",
        columns=tuple(columns),
        rows=tuple(rows),
        note=f"{data.note[:1].upper()}{data.note[1:]}. A rate over no cases is not measured: it is "
        f"neither 0 nor 1.{_power(grouped)}",
    )
    charts = []
    for metric in [metric for metric in shown if metric != "accuracy"]:
        estimates = []
        for group in grouped.groups:
            rate = group.rates[metric]
            interval = wilson(rate.hits, rate.n)
            estimates.append(
                Estimate(
                    label=group.name,
                    value=rate.value,
                    low=interval.low if interval else None,
                    high=interval.high if interval else None,
                    n=rate.n,
                )
            )
        limit = next(
            (g.limit.minimum or g.limit.maximum for g in gates if g.metric == metric), None
        )
        title = f"{_title(metric).capitalize()} by {grouped.attribute}"
        charts.append(Estimates(title=title, estimates=tuple(estimates), limit=limit))
    return (table, *charts)


def _power(grouped: Grouped) -> str:
    """What gap in selection rates samples of these sizes would show."""
    compared = [group for group in grouped.groups if group.compared]
    if len(compared) < 2:
        return ""
    rates = [group.rates["selection_rate"] for group in compared]
    gap = detectable_gap([rate.hits / rate.n for rate in rates], [rate.n for rate in rates], 0.95)
    return (
        f" Between the two smallest groups a gap of {min(gap, 1.0):.2f} in selection rates would be seen in "
        "four of five samples of these sizes."
    )


def _title(rate: str) -> str:
    return rate.replace("_", " ")


def _method(check: str, data: Predictions, min_group_size: int, small: list[str]) -> Method:
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
    untested = ["calibration, and causes of a gap"]
    if data.crossed is None:
        untested.append("intersections of the sensitive attributes")
    if small:
        untested.append(
            f"groups of fewer than {min_group_size} rows, which were not compared: {', '.join(small)}"
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
        ),
    )
