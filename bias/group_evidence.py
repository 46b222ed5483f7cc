"""Tables and charts of the groups of a sensitive attribute."""

from collections.abc import Sequence

from assaymark.bias.counts import RATES
from assaymark.bias.gaps import detectable_gap
from assaymark.bias.groups import Group, Grouped, title
from assaymark.bias.references import Comparison, compare, four_fifths
from assaymark.reports.intervals import wilson
from assaymark.reports.model import Cell, Estimate, Estimates, Evidence, Gate, Interval, Table

SHOWN = (
    "selection_rate",
    "true_positive_rate",
    "false_positive_rate",
    "positive_predictive_value",
    "accuracy",
)
"""Rates in the table of groups, with those that a gate names; all but the last have a chart."""
_HERE = "best"
_MANY = 60
"""Groups in a chart or table; of more, those with the most rows."""


def group_evidence(
    grouped: Grouped, note: str, gates: Sequence[Gate], reference: str | None = None
) -> tuple[Evidence, ...]:
    """The rates of every group, every group beside the reference, and a chart of each rate."""
    rates = list(dict.fromkeys([*SHOWN, *(g.metric for g in gates if g.metric in RATES)]))
    largest = sorted(grouped.groups, key=lambda group: -group.n)[:_MANY]
    groups = [group for group in grouped.groups if group in largest]
    charts = [
        _chart(grouped.attribute, groups, rate, gates) for rate in rates if rate != "accuracy"
    ]
    beside = _beside(grouped, reference, {group.name for group in groups})
    return (_table(grouped, groups, rates, note), *beside, *charts)


def _table(grouped: Grouped, groups: Sequence[Group], rates: Sequence[str], note: str) -> Table:
    scored = any(group.mean_score is not None for group in groups)
    columns = ["group", "n", "positives", *map(title, rates), *(["mean score"] if scored else [])]
    columns.append("gap that would be seen")
    rows: list[tuple[Cell, ...]] = []
    for group in groups:
        row: list[Cell] = [group.name, group.n, group.positives]
        row += [group.rates[rate].value for rate in rates]
        row += [group.mean_score] if scored else []
        rows.append((*row, _detectable(grouped, group)))
    left_out = len(grouped.groups) - len(groups)
    more = f" The {left_out} smallest groups are not listed." if left_out else ""
    return Table(
        title=f"Groups of {grouped.attribute}",
        columns=tuple(columns),
        rows=tuple(rows),
        note=f"{note[:1].upper()}{note[1:]}. A rate over no cases is not measured: it is neither 0 nor 1. "
        "The last column is the gap in selection rates to the largest other group that four of five "
        f"samples of these sizes would show.{more}",
    )


def _detectable(grouped: Grouped, group: Group) -> float | None:
    """The smallest gap to the largest other group that samples of these sizes would show."""
    others = [other for other in grouped.groups if other.compared and other is not group]
    if not group.compared or not others:
        return None
    largest = max(others, key=lambda other: other.n)
    rates = [one.rates["selection_rate"] for one in (group, largest)]
    if any(rate.value is None for rate in rates):
        return None
    gap = detectable_gap(
        [rate.value or 0.0 for rate in rates],
        [rate.cases for rate in rates],
        0.95,
        groups=len(others) + 1,
    )
    return min(gap, 1.0)


def _beside(grouped: Grouped, reference: str | None, names: set[str]) -> tuple[Table, ...]:
    """Every group beside the reference, rate by rate."""
    impact = compare(grouped, "selection_rate", reference)
    if isinstance(impact, str):
        return ()
    found = {"selection_rate": impact}
    for rate in ("true_positive_rate", "false_positive_rate", "positive_predictive_value"):
        compared = compare(grouped, rate, reference)
        if not isinstance(compared, str):
            found[rate] = compared
    each = {rate: {one.group: one for one in compared.others} for rate, compared in found.items()}
    rows: list[tuple[Cell, ...]] = []
    for group in grouped.groups:
        if not group.compared or group.name not in names or group.name == reference:
            continue
        one = each["selection_rate"].get(group.name)
        verdict = _HERE if one is None else four_fifths(one.ratio, one.ratio_interval)
        differences = [_difference(by_group.get(group.name)) for by_group in each.values()]
        rows.append((group.name, _ratio(one), verdict, *differences))
    return (
        Table(
            title=f"Groups of {grouped.attribute} beside {reference or 'the group that fares best'}",
            columns=(
                "group",
                "ratio of selection rates",
                "four-fifths rule",
                *(f"difference of {title(rate)}s" for rate in found),
            ),
            rows=tuple(rows),
            note="In brackets 95 % intervals, which hold for all groups at once."
            + ("" if reference else f" “{_HERE}” is the group that the others are compared with."),
        ),
    )


def _difference(one: Comparison | None) -> Cell:
    return _HERE if one is None else _with_ends(one.difference, one.difference_interval, "+")


def _ratio(one: Comparison | None) -> Cell:
    if one is None:
        return _HERE
    return None if one.ratio is None else _with_ends(one.ratio, one.ratio_interval, "")


def _with_ends(value: float, interval: Interval, sign: str) -> str:
    low, high = (f"{end:{sign}.3f}" if end < 1e6 else "∞" for end in (interval.low, interval.high))
    return f"{value:{sign}.3f} [{low}, {high}]"


def _chart(
    attribute: str, groups: Sequence[Group], metric: str, gates: Sequence[Gate]
) -> Estimates:
    estimates = []
    for group in groups:
        rate = group.rates[metric]
        interval = wilson(rate.hits, rate.cases)
        estimates.append(
            Estimate(
                label=group.name,
                value=rate.value,
                low=interval.low if interval else None,
                high=interval.high if interval else None,
                n=rate.n,
            )
        )
    limits = [gate.limit for gate in gates if gate.metric == metric]
    ends = [limit.maximum if limit.minimum is None else limit.minimum for limit in limits]
    return Estimates(
        title=f"{title(metric).capitalize()} by {attribute}",
        estimates=tuple(estimates),
        limit=ends[0] if ends else None,
    )
