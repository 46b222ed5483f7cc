"""The bias check of a classifier with several classes: the worst class of every gap."""

from functools import partial

import numpy

from assaymark.bias.check import at_worst, gates_of
from assaymark.bias.findings import Measured, findings, unanswered
from assaymark.bias.groups import title
from assaymark.bias.multiclass import GAPS, ClassRates, confusion, rates_by_class
from assaymark.bias.rows import Classes
from assaymark.reports.intervals import wilson
from assaymark.reports.model import (
    Cell,
    CheckResult,
    Estimate,
    Estimates,
    Evidence,
    Finding,
    Gate,
    HeatMap,
    HeatRow,
    Interval,
    Method,
    Table,
)

ACCURACY = "accuracy"
"""The metric of groups that a gate may name, beside the gaps."""
_SHOWN = (
    "selection_rate",
    "true_positive_rate",
    "false_positive_rate",
    "positive_predictive_value",
)
_TITLES = ("share predicted", "recall", "false positive rate", "precision")
_MANY_ROWS = 200
_MANY_CLASSES, _MANY_MAPS = 10, 6


def check_multiclass(
    check: str,
    data: Classes,
    *,
    gates: tuple[Gate, ...] = (),
    tags: tuple[str, ...] = (),
    min_group_size: int = 1,
) -> CheckResult:
    """The gaps of every sensitive attribute, and the accuracy of groups where a gate names it.

    Groups smaller than min_group_size are shown but not compared.
    """
    found: list[Finding] = []
    small: list[str] = []
    for attribute in data.groups:
        rates = rates_by_class(data, attribute, min_group_size)
        mine = gates_of(gates, data, attribute)
        each: list[Finding] = []
        for gap in GAPS:
            each += findings(check, _gap(rates, gap), mine, tags)
        if any(gate.metric == ACCURACY for gate in mine):
            for measured in _accuracies(rates):
                each += findings(check, measured, mine, tags)
        found += at_worst(each, _evidence(rates, data))
        small += [
            f"{attribute} = {name}"
            for place, name in enumerate(rates.groups)
            if place not in rates.compared
        ]
    found += unanswered(check, found, gates, tags)
    return CheckResult(findings=tuple(found), method=_method(check, data, min_group_size, small))


def _gap(rates: ClassRates, gap: str) -> Measured:
    value = rates.gaps[gap]
    kinds = " and ".join(f"{title(rate)}s" for rate in GAPS[gap])
    if value is None:
        summary = f"Not measured: {rates.why[gap]}."
    elif gap == "accuracy_difference":
        summary = f"Largest gap in accuracy between the groups of {rates.attribute}: {value:.3f}."
    else:
        summary = (
            f"Largest gap of {kinds} between the groups of {rates.attribute}, of any class: {value:.3f}, "
            f'of class "{rates.classes[rates.worst[gap]]}".'
        )
    return Measured(
        target=rates.attribute,
        measure=gap,
        value=value,
        summary=summary,
        n=sum(rates.n[place] for place in rates.compared),
        interval_at=partial(rates.interval, gap),
    )


def _accuracies(rates: ClassRates) -> list[Measured]:
    if not rates.compared:
        reason = f"Not measured: every group of {rates.attribute} is smaller than min_group_size."
        return [
            Measured(target=rates.attribute, measure=ACCURACY, value=None, summary=reason, n=None)
        ]
    found = []
    for place in rates.compared:
        where, value = f"{rates.attribute} = {rates.groups[place]}", rates.overall.value(0, place)
        found.append(
            Measured(
                target=where,
                measure=ACCURACY,
                value=value,
                summary=f"Not measured: no row of {where} has a weight."
                if value is None
                else f"Accuracy of {where}: {value:.3f} over {rates.n[place]} rows.",
                n=rates.n[place],
                interval_at=partial(_accuracy_interval, rates, place),
            )
        )
    return found


def _accuracy_interval(rates: ClassRates, place: int, confidence: float) -> Interval | None:
    hits, cases = float(rates.overall.hits[0, place]), float(rates.overall.cases[0, place])
    return wilson(hits, cases, confidence)


def _evidence(rates: ClassRates, data: Classes) -> tuple[Evidence, ...]:
    estimates = []
    for place, name in enumerate(rates.groups):
        interval = _accuracy_interval(rates, place, 0.95)
        estimates.append(
            Estimate(
                label=name,
                value=rates.overall.value(0, place),
                low=interval.low if interval else None,
                high=interval.high if interval else None,
                n=rates.n[place],
            )
        )
    chart = Estimates(title=f"Accuracy by {rates.attribute}", estimates=tuple(estimates))
    return (_table(rates, data), chart, *_maps(rates, data))


def _table(rates: ClassRates, data: Classes) -> Table:
    shown = _widest(rates)
    rows: list[tuple[Cell, ...]] = []
    for one in shown:
        for place, name in enumerate(rates.groups):
            values = [rates.rates[rate].value(one, place) for rate in _SHOWN]
            rows.append((rates.classes[one], name, rates.n[place], *values))
    note = (
        f"{data.note[:1].upper()}{data.note[1:]}. A rate over no cases is not measured: it is neither 0 "
        "nor 1."
    )
    if len(shown) < len(rates.classes):
        note += f" Of {len(rates.classes)} classes these {len(shown)} have the widest gaps."
    return Table(
        title=f"Classes by {rates.attribute}",
        columns=("class", "group", "rows of the group", *_TITLES),
        rows=tuple(rows),
        note=note,
    )


def _widest(rates: ClassRates) -> list[int]:
    """The classes that the table has room for, those whose rates lie furthest apart."""
    room = max(_MANY_ROWS // len(rates.groups), 1)
    if len(rates.classes) <= room:
        return list(range(len(rates.classes)))
    apart = []
    for one in range(len(rates.classes)):
        each = [
            [
                v
                for place in rates.compared
                if (v := rates.rates[rate].value(one, place)) is not None
            ]
            for rate in _SHOWN
        ]
        apart.append(max((max(values) - min(values) for values in each if values), default=0.0))
    return sorted(numpy.argsort(apart)[::-1][:room].tolist())


def _maps(rates: ClassRates, data: Classes) -> tuple[HeatMap, ...]:
    """Of every group how each class is predicted, where classes and groups are few."""
    if len(data.classes) > _MANY_CLASSES or len(rates.groups) > _MANY_MAPS:
        return ()
    found = []
    for name, cells in zip(rates.groups, confusion(data, rates.attribute), strict=True):
        rows = []
        for label, of in zip(data.classes, cells.tolist(), strict=True):
            whole = sum(of)
            estimates = tuple(
                Estimate(label=column, value=weight / whole if whole else None)
                for column, weight in zip(data.classes, of, strict=True)
            )
            rows.append(HeatRow(label=label, cells=estimates))
        found.append(
            HeatMap(
                title=f"Predictions where {rates.attribute} is {name}",
                rows_are="label",
                columns_are="prediction",
                columns=data.classes,
                rows=tuple(rows),
                note="Each row sums to 1: the share of a class that is predicted to be each.",
            )
        )
    return tuple(found)


def _method(check: str, data: Classes, min_group_size: int, small: list[str]) -> Method:
    steps = [
        f"{data.n} rows of {data.name}; {data.note}.",
        "Each class is held against all others: demographic parity compares how often it is predicted, "
        "equal opportunity its recall, equalized odds the worse of recall and false positive rate, "
        "predictive parity its precision. The gap is that of the worst class.",
        "Intervals of group accuracies are two-sided Wilson score intervals. Those of gaps hold for all "
        "pairs of groups (Tukey and Kramer) and for all classes at once (Bonferroni): a fair model is said "
        "to have a gap in at most one of twenty samples, whatever the number of groups and classes.",
        "A gap is not measured when a compared group lacks the cases one of its rates needs for a class.",
    ]
    if data.weight is not None:
        steps.append("Rows are weighted; intervals use Kish's effective number of rows.")
    untested = ["which classes are confused with which, beyond the tables"]
    if data.crossed is None:
        untested.append("intersections of the sensitive attributes")
    if small:
        untested.append(
            f"groups of fewer than {min_group_size} rows, which were not compared: {', '.join(small)}"
        )
    seen = numpy.bincount(data.label, minlength=len(data.classes)) + numpy.bincount(
        data.prediction, minlength=len(data.classes)
    )
    absent = [name for name, rows in zip(data.classes, seen, strict=True) if not rows]
    if absent:
        untested.append(f"classes that no row has or is predicted to be: {', '.join(absent)}")
    return Method(
        check=check,
        title=f"Group metrics of {len(data.classes)} classes of {data.name} by {', '.join(data.groups)}",
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
