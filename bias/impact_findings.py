"""The impact ratios of Local Law 144 as findings, with the tables that it asks for."""

from collections.abc import Sequence
from dataclasses import replace

from assaymark.bias.findings import Measured, findings
from assaymark.bias.groups import Group, families
from assaymark.bias.impact_ratios import ImpactTable, impact_tables
from assaymark.bias.references import compare, four_fifths
from assaymark.bias.rows import Predictions
from assaymark.reports.intervals import wilson
from assaymark.reports.model import (
    Cell,
    Estimate,
    Estimates,
    Evidence,
    Finding,
    Gate,
    Method,
    Table,
)


def impact_ratio_findings(
    check: str,
    data: Predictions,
    *,
    sex: str,
    race: str,
    scoring: bool = False,
    unknown: Sequence[str] = (),
    exclude_below: float = 0.0,
    gates: Sequence[Gate] = (),
    tags: tuple[str, ...] = (),
) -> list[Finding]:
    """The smallest impact ratio of each table, with the table and the four-fifths rule in words."""
    tables = impact_tables(
        data, sex=sex, race=race, scoring=scoring, unknown=unknown, exclude_below=exclude_below
    )
    found: list[Finding] = []
    for table, also in zip(tables, (None, None, "intersections"), strict=True):
        mine = [gate for gate in gates if gate.attribute in (None, table.attribute, also)]
        found += findings(
            check, _measured(table, scoring, weighted=data.weight is not None), mine, tags
        )
    return found


def _measured(table: ImpactTable, scoring: bool, *, weighted: bool) -> Measured:
    least, interval = table.smallest, table.interval(0.95)
    kind = "scoring" if scoring else "selection"
    if least is None or least.ratio is None or interval is None:
        summary = f"Not measured: {table.why}."
    else:
        best = next(category for category in table.categories if category.ratio == 1)
        summary = (
            f"Smallest impact ratio by {table.attribute}: {least.ratio:.3f}, {least.name} beside "
            f"{best.name}; {four_fifths(least.ratio, interval)}."
        )
    return Measured(
        target=table.attribute,
        measure="impact_ratio",
        value=None if least is None else least.ratio,
        summary=summary,
        n=sum(category.applicants for category in table.categories if not category.excluded),
        interval_at=table.interval,
        evidence=_evidence(table, kind, weighted=weighted),
    )


def _evidence(table: ImpactTable, kind: str, *, weighted: bool) -> tuple[Evidence, ...]:
    beside = _beside_best(table)
    rows: list[tuple[Cell, ...]] = []
    for category in table.categories:
        ratio: Cell = "excluded" if category.excluded else category.ratio
        people = (category.name, category.applicants, category.selected, category.rate)
        rows.append((*people, ratio, *beside.get(category.name, (None, None))))
    chosen = "above median" if kind == "scoring" else "selected"
    note = f"{table.unknown} people of unknown category are not in the calculation."
    if any(category.excluded for category in table.categories):
        note += (
            " An excluded category has less than 2 % of the people; its ratio is left out and the other "
            "ratios do not depend on it (6 RCNY 5-301(d))."
        )
    if weighted:
        note += " Rates are weighted; the numbers of people are rows."
    shown = Table(
        title=f"Impact ratios by {table.attribute}",
        columns=(
            "category",
            "applicants",
            chosen,
            f"{kind} rate",
            "impact ratio",
            "95 % interval",
            "four-fifths rule",
        ),
        rows=tuple(rows),
        note=note,
    )
    return (shown, _chart(table, kind))


def _beside_best(table: ImpactTable) -> dict[str, tuple[Cell, Cell]]:
    """Of every category the interval of its ratio and what the four-fifths rule says of it."""
    found = compare(table.counted, "selection_rate")
    if isinstance(found, str) or table.smallest is None:
        return {category.name: ("", "") for category in table.categories if category.excluded}
    cells: dict[str, tuple[Cell, Cell]] = {category.name: ("", "") for category in table.categories}
    for other in found.others:
        ends = other.ratio_interval
        text = f"{ends.low:.3f} to {ends.high:.3f}"
        cells[other.group] = (text, four_fifths(other.ratio, ends))
    return cells


def _chart(table: ImpactTable, kind: str) -> Estimates:
    counted = families(
        replace(table.counted, groups=_all_compared(table)), "demographic_parity_ratio"
    )
    hits, cases = counted[0]
    estimates = []
    for category, hit, case in zip(table.categories, hits, cases, strict=True):
        interval = wilson(hit, case)
        estimates.append(
            Estimate(
                label=category.name,
                value=category.rate,
                low=interval.low if interval else None,
                high=interval.high if interval else None,
                n=category.applicants,
            )
        )
    title = f"{kind.capitalize()} rate by {table.attribute}"
    return Estimates(title=title, estimates=tuple(estimates))


def _all_compared(table: ImpactTable) -> tuple[Group, ...]:
    return tuple(replace(group, compared=True) for group in table.counted.groups)


def impact_method(check: str, data: Predictions, *, scoring: bool) -> Method:
    """How impact ratios are measured, and what of the rule they leave open."""
    rate = (
        "The scoring rate of a category is the share of its people who score above the median of the full "
        "sample, those of unknown category included."
        if scoring
        else "The selection rate of a category is the share of its people who are selected."
    )
    return Method(
        check=check,
        title=f"Impact ratios of {data.name} (New York City, Local Law 144)",
        steps=(
            f"{data.n} rows of {data.name}; {data.note}.",
            rate,
            "The impact ratio of a category is its rate over that of the category with the highest rate, "
            "by sex, by race/ethnicity, and by both; people of unknown category are counted and left out.",
            "The interval of the smallest ratio holds for all pairs of categories at once (Tukey and "
            "Kramer, on logarithms); the four-fifths rule is decided where it lies on one side of 0.8.",
        ),
        not_tested=(
            "whether the categories are those of the EEO-1 report, and the data historical or test data "
            "of the tool in use (5-302)",
            "whether the auditor is independent, and the published summary and notices (5-303, 5-304)",
        ),
        sources=(
            "New York City, Local Law 144 of 2021; 6 RCNY 5-300 to 5-304",
            "Uniform Guidelines on Employee Selection Procedures, 29 CFR 1607.4(D)",
            "Newcombe 1998, Statistics in Medicine 17",
        ),
    )
