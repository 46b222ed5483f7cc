"""The check of mitigations: what each would do to accuracy and to the gap, side by side."""

from collections.abc import Sequence
from dataclasses import replace

import pandas

from assaymark.bias.findings import Measured, findings
from assaymark.bias.rows import Predictions
from assaymark.bias.tradeoffs import GAP_RATES, MEASURES, Estimated
from assaymark.bias.whatif import AS_IS, BASE, Tried, WhatIf, what_if
from assaymark.reports.model import (
    Cell,
    CheckResult,
    Evidence,
    Finding,
    Gate,
    Method,
    Plot,
    Point,
    Series,
    Table,
)

_CONFIDENCE = 0.95
_CHANGE = "change_of_accuracy"
_REFERENCES = {AS_IS: "the decisions as they are", BASE: "the model fitted without mitigation"}


def check_mitigations(
    check: str,
    data: Predictions,
    features: pandas.DataFrame | None,
    *,
    attribute: str,
    methods: Sequence[str] = (),
    constraint: str = "demographic_parity",
    decided: bool = True,
    gates: Sequence[Gate] = (),
    tags: tuple[str, ...] = (),
    seed: int = 0,
    min_group_size: int = 1,
) -> CheckResult:
    """Accuracy and the gap of the constraint, for the decisions as they are and after each mitigation.

    features: columns to fit models on, as many rows as data in the same order. methods: names or
    families of `mitigations.MITIGATIONS`, empty for all that score and features allow. constraint: a key of
    `mitigations.CONSTRAINTS`. decided: whether data.prediction are decisions of a model. The measures
    are accuracy, the gap, and those of `tradeoffs.MEASURES` that a gate names; the target is the name of
    the method. The plot and its table stand with the first finding. Raises InputError for an unknown
    attribute, method or constraint, or features of other rows.
    """
    found = what_if(
        data,
        features,
        attribute=attribute,
        methods=methods,
        constraint=constraint,
        decided=decided,
        seed=seed,
        min_group_size=min_group_size,
    )
    gated = {gate.metric for gate in gates}
    shown = [name for name in MEASURES if name in ("accuracy", found.gap) or name in gated]
    results: list[Finding] = []
    for each in found.tried:
        for measure in shown:
            results += _findings(check, each, measure, found, gates, tags)
    results[0] = replace(results[0], evidence=_evidence(found))
    return CheckResult(findings=tuple(results), method=_method(check, data, features, found, seed))


def _findings(
    check: str,
    tried: Tried,
    measure: str,
    found: WhatIf,
    gates: Sequence[Gate],
    tags: tuple[str, ...],
) -> list[Finding]:
    estimated = tried.measures[measure]
    measured = Measured(
        target=tried.name,
        measure=measure,
        value=estimated.value,
        summary=_summary(tried, measure, found),
        n=tried.n,
        interval_at=estimated.interval_at,
    )
    return [
        finding if estimated.value is None else replace(finding, unreliable=tried.doubt)
        for finding in findings(check, measured, gates, tags)
    ]


def _summary(tried: Tried, measure: str, found: WhatIf) -> str:
    estimated = tried.measures[measure]
    if estimated.value is None:
        return f"Not measured: {estimated.why}."
    what = measure.replace("_", " ").capitalize()
    about = "" if measure in ("accuracy", "balanced_accuracy") else f" by {found.attribute}"
    way = _REFERENCES.get(tried.name)
    how = f"of {way}" if way else f"after {tried.name}"
    change = ""
    if measure == "accuracy" and tried.name != found.reference and tried.change.value is not None:
        interval = tried.change.interval_at(_CONFIDENCE)
        assert interval is not None
        change = (
            f", {tried.change.value:+.3f} against {_REFERENCES[found.reference]} (95 % interval "
            f"{interval.low:+.3f} to {interval.high:+.3f})"
        )
    return f"{what}{about} {how}: {estimated.value:.3f}{change}."


def _evidence(found: WhatIf) -> tuple[Evidence, ...]:
    gap = found.gap.replace("_", " ")
    others = [name for name in GAP_RATES if name != found.gap]
    return (
        _plot(found, gap),
        _table(found, f"Accuracy and {gap} by {found.attribute}", ["accuracy", found.gap]),
        _table(
            found,
            f"Change of accuracy against {_REFERENCES[found.reference]}",
            [_CHANGE, "balanced_accuracy"],
        ),
        _table(found, f"Other gaps by {found.attribute}", others),
    )


def _plot(found: WhatIf, gap: str) -> Plot:
    points = {each.name: _point(each, found.gap) for each in found.tried}
    series = [
        Series(label=name, points=(point,), joined=False)
        for name, point in points.items()
        if point is not None
    ]
    front = [point for each in found.tried if each.front and (point := points[each.name])]
    line = tuple(Point(x=point.x, y=point.y) for point in sorted(front, key=lambda one: one.x))
    missing = [name for name, point in points.items() if point is None]
    note = "Better is up and to the left. On the Pareto front no other way is at least as good in both."
    if missing:
        note += f" Not measured, so not shown: {', '.join(missing)}."
    return Plot(
        title=f"What mitigations would do: accuracy and {gap} by {found.attribute}",
        x_label=gap,
        y_label="accuracy",
        series=(*series, Series(label="Pareto front", points=line)),
        note=note,
    )


def _point(tried: Tried, gap: str) -> Point | None:
    x, y = tried.measures[gap], tried.measures["accuracy"]
    if x.value is None or y.value is None:
        return None
    interval = y.interval_at(_CONFIDENCE)
    return Point(
        x=x.value,
        y=y.value,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        label=tried.name,
        n=tried.n,
    )


def _table(found: WhatIf, title: str, shown: list[str]) -> Table:
    """Each number with the ends of its 95 % interval."""
    columns = ["method", "Pareto front"]
    for name in shown:
        columns += [name.replace("_", " "), "from", "to"]
    rows = []
    for each in found.tried:
        row: list[Cell] = [each.name, "yes" if each.front else "no"]
        numbers = {_CHANGE: each.change, **each.measures}
        for name in shown:
            row += _cells(numbers[name])
        rows.append((*row, each.n, _note(each, [numbers[name] for name in shown])))
    return Table(
        title=title,
        columns=(*columns, "n", "note"),
        rows=tuple(rows),
        note=f"All on the same {found.measured_on} rows, which no method was fitted on. From and to: the "
        "95 % interval.",
    )


def _cells(estimated: Estimated) -> list[Cell]:
    interval = None if estimated.value is None else estimated.interval_at(_CONFIDENCE)
    return [
        estimated.value,
        None if interval is None else interval.low,
        None if interval is None else interval.high,
    ]


def _note(tried: Tried, numbers: list[Estimated]) -> str:
    """Why numbers are missing or in doubt."""
    reasons = [tried.why, tried.note, tried.doubt or "", *(number.why for number in numbers)]
    return "; ".join(dict.fromkeys(reason for reason in reasons if reason))


def _method(
    check: str, data: Predictions, features: pandas.DataFrame | None, found: WhatIf, seed: int
) -> Method:
    steps = [
        f"Rows of {data.name} are split at random (seed {seed}), within each group of {found.attribute} "
        f"and label: {found.fitted_on} to fit on, {found.measured_on} to measure on; {data.note}.",
        *(f"{name}: {method.says}." for name, method in found.methods.items()),
        f"All are held to {found.constraint.replace('_', ' ')}, and compared with "
        f"{_REFERENCES[found.reference]} on the same rows. Where lots are drawn, a decision counts by "
        "its chance, so that the numbers "
        "are what happens on average.",
        "Intervals are at 95 % or the confidence of their gate: Wilson for accuracy, Newcombe's for "
        "paired proportions for its change, Tukey and Kramer for gaps (all pairs of groups at once).",
    ]
    if features is not None:
        steps.insert(
            1,
            f"Models are logistic regressions on {', '.join(map(str, features.columns))}: numbers scaled, "
            "texts as categories.",
        )
    return Method(
        check=check,
        title=f"Mitigations of {data.name} by {found.attribute}",
        steps=tuple(steps),
        not_tested=tuple(_not_tested(found)),
        sources=(
            *dict.fromkeys(method.source for method in found.methods.values()),
            "Newcombe 1998, Statistics in Medicine 17, 2635-2650",
            "Wilson 1927, JASA 22",
            "Tukey 1953 and Kramer 1956, Biometrics 12",
        ),
    )


def _not_tested(found: WhatIf) -> list[str]:
    untested = [
        "other people than these: a what-if says what these methods would do on these rows",
        "the choice among the methods: the best of several on the same rows looks better than it is",
        "whether the score came from a model that had seen these rows: its accuracy would then be too good",
    ]
    deciding = [name for name, method in found.methods.items() if method.sensitive]
    if deciding or found.sensitive_feature:
        who = deciding + (["models fitted on it as a feature"] if found.sensitive_feature else [])
        untested.append(
            "the law: using a protected attribute in a decision may be unlawful, and these need "
            f"{found.attribute} at decision time: {', '.join(who)}"
        )
    if found.left_out:
        untested.append(f"groups that are too small: {', '.join(found.left_out)}")
    return untested
