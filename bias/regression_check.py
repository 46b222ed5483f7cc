"""The bias check of a regression: errors by group, and the gaps between the groups."""

from functools import partial

from assaymark.bias.check import at_worst, gates_of
from assaymark.bias.findings import Measured, findings, unanswered
from assaymark.bias.groups import title
from assaymark.bias.regression import GAPS, METRICS, ErrorsByGroup, errors_by_group
from assaymark.bias.rows import Outcomes
from assaymark.reports.model import Cell, CheckResult, Finding, Gate, Method, Table


def check_regression(
    check: str,
    data: Outcomes,
    *,
    gates: tuple[Gate, ...] = (),
    tags: tuple[str, ...] = (),
    min_group_size: int = 1,
) -> CheckResult:
    """The gaps of every sensitive attribute, and the metrics of groups that a gate names.

    Groups smaller than min_group_size are shown but not compared.
    """
    found: list[Finding] = []
    small: list[str] = []
    for attribute in data.groups:
        errors = errors_by_group(data, attribute, min_group_size)
        mine = gates_of(gates, data, attribute)
        each: list[Finding] = []
        for gap in GAPS:
            each += findings(check, _gap(errors, gap), mine, tags)
        for metric in METRICS:
            if any(gate.metric == metric for gate in mine):
                for measured in _groups(errors, metric):
                    each += findings(check, measured, mine, tags)
        found += at_worst(each, (_table(errors, data),))
        small += [
            f"{attribute} = {name}"
            for place, name in enumerate(errors.names)
            if place not in errors.compared
        ]
    found += unanswered(check, found, gates, tags)
    return CheckResult(findings=tuple(found), method=_method(check, data, min_group_size, small))


def _gap(errors: ErrorsByGroup, gap: str) -> Measured:
    value, metric = errors.gaps[gap], GAPS[gap]
    if value is None:
        summary = f"Not measured: {errors.why[gap]}."
    else:
        how = "Smallest over largest" if gap.endswith("ratio") else "Largest difference in"
        order = sorted(errors.compared, key=lambda place: errors.value(metric, place) or 0.0)
        summary = (
            f"{how} {title(metric)} between the groups of {errors.attribute}: {value:.4g}; lowest in "
            f"{errors.names[order[0]]}, highest in {errors.names[order[-1]]}.{_doubt(errors, metric)}"
        )
    return Measured(
        target=errors.attribute,
        measure=gap,
        value=value,
        summary=summary,
        n=sum(errors.n[place] for place in errors.compared),
        interval_at=partial(errors.gap_interval, gap),
    )


def _doubt(errors: ErrorsByGroup, metric: str) -> str:
    spread = errors.averages[metric].spread
    unknown = [errors.names[place] for place in errors.compared if not spread[place]]
    if not unknown:
        return ""
    return f" No interval: one row, or rows that are all alike, in {', '.join(unknown)}."


def _groups(errors: ErrorsByGroup, metric: str) -> list[Measured]:
    if not errors.compared:
        reason = f"Not measured: every group of {errors.attribute} is smaller than min_group_size."
        return [
            Measured(target=errors.attribute, measure=metric, value=None, summary=reason, n=None)
        ]
    found = []
    for place in errors.compared:
        where, value = f"{errors.attribute} = {errors.names[place]}", errors.value(metric, place)
        found.append(
            Measured(
                target=where,
                measure=metric,
                value=value,
                summary=f"Not measured: no row of {where} has a weight."
                if value is None
                else f"{title(metric).capitalize()} of {where}: {value:.4g} over "
                f"{errors.n[place]} rows.",
                n=errors.n[place],
                interval_at=partial(errors.interval, metric, place),
            )
        )
    return found


def _table(errors: ErrorsByGroup, data: Outcomes) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for place, name in enumerate(errors.names):
        row: list[Cell] = [name, errors.n[place]]
        for metric in METRICS:
            found = errors.interval(metric, place, 0.95)
            row.append(errors.value(metric, place))
            row.append(f"{found.low:.4g} to {found.high:.4g}" if found else None)
        rows.append(tuple(row))
    columns = ["group", "n"]
    for metric in METRICS:
        columns += [title(metric), "95 % interval"]
    return Table(
        title=f"Errors by {errors.attribute}",
        columns=tuple(columns),
        rows=tuple(rows),
        note=f"{data.note[:1].upper()}{data.note[1:]}. A residual is prediction minus label: above 0 "
        "where the model says more than is true.",
    )


def _method(check: str, data: Outcomes, min_group_size: int, small: list[str]) -> Method:
    steps = [
        f"{data.n} rows of {data.name}; {data.note}.",
        "A residual is prediction minus label: a group with a mean residual above 0 is predicted more than "
        "is true. Gaps are the largest difference between two groups, or the smallest over the largest.",
        "Intervals of groups are Student's, corrected for skewness (Hall); those of gaps hold for all pairs "
        "of groups at once (Tukey and Kramer), ratios on logarithms. A group of one row, or of rows that "
        "are all alike, has none.",
    ]
    if data.weight is not None:
        steps.append("Rows are weighted; intervals use Kish's effective number of rows.")
    untested = ["causes of a gap, and errors at the ends of the range"]
    if data.crossed is None:
        untested.append("intersections of the sensitive attributes")
    if small:
        untested.append(
            f"groups of fewer than {min_group_size} rows, which were not compared: {', '.join(small)}"
        )
    return Method(
        check=check,
        title=f"Errors of {data.name} by {', '.join(data.groups)}",
        steps=tuple(steps),
        not_tested=tuple(untested),
        sources=(
            "Calders, Karim, Kamiran, Ali and Zhang 2013, Controlling attribute effect in linear "
            "regression, ICDM",
            "Tukey 1953 and Kramer 1956, Biometrics 12",
            "Hall 1992, JRSS B 54",
            "Zou and Donner 2008, Statistics in Medicine 27",
            "Kish 1965, Survey Sampling",
        ),
    )
