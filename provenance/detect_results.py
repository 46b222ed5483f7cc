"""What a detector's evaluation found, as values that are written as JSON or CSV."""

import csv
import io
import json
import math
from dataclasses import asdict, dataclass
from typing import Any

from assaymark.provenance.conformal import Zone
from assaymark.provenance.detection_scores import Bin
from assaymark.provenance.evidence import OperatingPoint
from assaymark.reports.model import Interval


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A number with its interval; None where it is not defined."""

    value: float | None
    interval: Interval | None = None


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """One source of reals or one generator. auc: against all files of the other label. called: the share
    of its scored files at or above the threshold: false positives of a source, true ones of a generator.
    """

    name: str
    fake: bool
    files: int
    abstained: int
    auc: Measured
    called: Measured


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """The files after one delivery. changed: the share that crossed the threshold, of those scored both
    ways; contradicted: that went from `generated` to no sign found or back, beyond the zone between.
    """

    delivery: str
    files: int
    abstained: int
    auc: Measured
    true_positive_rate: Measured
    false_positive_rate: Measured
    changed: Measured
    contradicted: Measured


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """How far probabilities hold on sources and generators that the calibration has not seen.

    error, error_equal_mass: ECE of ten bins, of equal width and of equal numbers; by_chance: the mean of
    `error` if they held perfectly. brier: in [0, 1]. curve: the bins of equal width.
    """

    error: Measured
    error_equal_mass: float | None
    by_chance: float | None
    brier: Measured
    curve: tuple[Bin, ...]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What was measured. refusal: why nothing is claimed of other sources; empty where it is.

    threshold: the fixed one of all rates. coverage: the share of files that got a score. next_source: in
    which range the false-positive rate of one more source lies (90 %), None where those measured do not
    tell. any_changed: the share of files whose verdict changed under at least one delivery. calibrated,
    point: None with fewer than two sources (or generators). why: reasons of abstentions and how often each
    was given.
    """

    identity: str
    reals: int
    fakes: int
    sources: int
    generators: int
    refusal: str
    coverage: float | None
    threshold: float
    auc: Measured
    average_precision: Measured
    equal_error_rate: Measured
    true_positive_rate: Measured
    point: OperatingPoint | None
    zone: Zone
    next_source: Interval | None
    calibrated: Calibrated | None
    clusters: tuple[Cluster, ...]
    sweep: tuple[Delivered, ...]
    any_changed: Measured
    why: tuple[tuple[str, int], ...]

    def to_json(self) -> str:
        """All of it; thresholds that are infinite become null."""
        return json.dumps(_finite(asdict(self)), indent=1, allow_nan=False)

    def to_csv(self) -> str:
        """Clusters and deliveries, one a row."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for each in self.clusters:
            kind = "generator" if each.fake else "source"
            called = [each.called, None] if each.fake else [None, each.called]
            writer.writerow(_row(kind, each.name, each.files, each.abstained, each.auc, *called))
        for way in self.sweep:
            rates = (way.true_positive_rate, way.false_positive_rate)
            row = _row("delivery", way.delivery, way.files, way.abstained, way.auc, *rates)
            writer.writerow([*row, _number(way.changed.value), _number(way.contradicted.value)])
        return out.getvalue()


_COLUMNS = (
    "kind",
    "name",
    "files",
    "abstained",
    "auc",
    "auc_low",
    "auc_high",
    "true_positive_rate",
    "tpr_low",
    "tpr_high",
    "false_positive_rate",
    "fpr_low",
    "fpr_high",
    "changed",
    "contradicted",
)


def _row(kind: str, name: str, files: int, abstained: int, *numbers: Measured | None) -> list[str]:
    row = [kind, name, str(files), str(abstained)]
    for number in numbers:
        interval = number.interval if number else None
        ends = (interval.low, interval.high) if interval else (None, None)
        row += [_number(number.value if number else None), *map(_number, ends)]
    return row


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
