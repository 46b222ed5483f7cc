"""What an evaluation of a detector found, as findings: a limit each, then the numbers without one."""

from collections.abc import Mapping, Sequence

from assaymark.provenance.detect_results import Cluster, Delivered, Evaluation, Measured
from assaymark.reports.model import (
    Estimate,
    Estimates,
    Evidence,
    Finding,
    Gate,
    Interval,
    Plot,
    Point,
    Series,
    Table,
)

_WORDS = {
    "auc": "area under the ROC curve",
    "average_precision": "average precision",
    "equal_error_rate": "equal error rate",
    "true_positive_rate": "share of generated files found at the asked rate of false positives",
    "false_positive_rate": "share of real files called generated, on sources left out",
    "calibration_error": "expected calibration error on sources and generators left out",
    "coverage": "share of files on which the detector did not abstain",
    "changed_verdicts": "share of files whose verdict changed under a delivery",
}


def findings_of(
    check: str, found: Evaluation, gates: Sequence[Gate] = (), tags: tuple[str, ...] = ()
) -> tuple[Finding, ...]:
    """One finding a metric; where too few sources were measured a kept limit is not believed."""
    numbers = measures(found)
    limits = {gate.metric: gate for gate in gates}
    findings = [
        Finding(
            check=check,
            target=found.identity,
            measure=name,
            summary=_summary(name, measured, found),
            value=measured.value,
            interval=measured.interval,
            n=found.reals + found.fakes,
            limit=limits[name].limit if name in limits else None,
            severity=limits[name].severity if name in limits else "high",
            unreliable=found.refusal or None,
            references=tags,
        )
        for name, measured in numbers.items()
        if name in limits or measured.value is not None
    ]
    first = findings[0]
    shown = Finding(**{**vars(first), "evidence": _evidence(found)})
    return (shown, *findings[1:])


def measures(found: Evaluation) -> Mapping[str, Measured]:
    """Every metric by its name; what does not apply has the value None."""
    nothing = Measured(value=None)
    point = found.point
    false = nothing
    if point is not None:
        rate, high = point.false_positive_rate, point.false_positive_rate_high
        interval = Interval(low=min(rate, high), high=high, confidence=0.95, method="over sources")
        false = Measured(value=rate, interval=interval)
    return {
        "auc": found.auc,
        "average_precision": found.average_precision,
        "equal_error_rate": found.equal_error_rate,
        "true_positive_rate": found.true_positive_rate,
        "false_positive_rate": false,
        "calibration_error": found.calibrated.error if found.calibrated else nothing,
        "coverage": Measured(value=found.coverage),
        "changed_verdicts": found.any_changed,
    }


def _summary(name: str, measured: Measured, found: Evaluation) -> str:
    value = "not measured" if measured.value is None else f"{measured.value:.3f}"
    return f"{_WORDS[name]}: {value}{f'; {found.refusal}' if found.refusal else ''}."


def _evidence(found: Evaluation) -> tuple[Evidence, ...]:
    shown: list[Evidence] = [
        _estimates("AUC by generator", [c for c in found.clusters if c.fake]),
        _estimates("AUC by source of real files", [c for c in found.clusters if not c.fake]),
        _clusters(found.clusters),
    ]
    if found.calibrated is not None:
        shown.append(_reliability(found))
    if found.sweep:
        shown.append(_sweep(found.sweep))
    return tuple(shown)


def _estimates(title: str, clusters: Sequence[Cluster]) -> Estimates:
    return Estimates(
        title=title,
        estimates=tuple(
            Estimate(
                label=cluster.name,
                value=cluster.auc.value,
                low=cluster.auc.interval.low if cluster.auc.interval else None,
                high=cluster.auc.interval.high if cluster.auc.interval else None,
                n=cluster.files,
            )
            for cluster in clusters
        ),
    )


def _clusters(clusters: Sequence[Cluster]) -> Table:
    return Table(
        title="Called generated at the threshold",
        columns=("kind", "name", "files", "abstained", "called generated", "low", "high"),
        rows=tuple(
            (
                "generator" if cluster.fake else "source",
                cluster.name,
                cluster.files,
                cluster.abstained,
                cluster.called.value,
                cluster.called.interval.low if cluster.called.interval else None,
                cluster.called.interval.high if cluster.called.interval else None,
            )
            for cluster in clusters
        ),
    )


def _reliability(found: Evaluation) -> Plot:
    assert found.calibrated is not None
    points = tuple(
        Point(x=each.probability, y=each.fake, n=each.files) for each in found.calibrated.curve
    )
    return Plot(
        title="Calibration on sources and generators left out",
        x_label="probability of generated",
        y_label="share that is generated",
        series=(Series(label=found.identity, points=points),),
        diagonal=True,
    )


def _sweep(sweep: Sequence[Delivered]) -> Table:
    return Table(
        title="Delivered again",
        columns=("delivery", "files", "abstained", "AUC", "true positives", "false positives",
                 "verdict changed", "contradicted"),
        rows=tuple(
            (
                way.delivery,
                way.files,
                way.abstained,
                way.auc.value,
                way.true_positive_rate.value,
                way.false_positive_rate.value,
                way.changed.value,
                way.contradicted.value,
            )
            for way in sweep
        ),
        note="At the fixed threshold of the files as they are. Contradicted: from generated to no sign "
        "found, or back.",
    )  # fmt: skip
