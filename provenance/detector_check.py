"""The check of a detector: how well it tells generated files from others, with intervals over sources."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from assaymark.provenance.deliveries import DELIVERIES, EIGHT
from assaymark.provenance.detect import DEFAULT, detect
from assaymark.provenance.detect_data import read_data
from assaymark.provenance.detect_evaluate import measure, sample_of
from assaymark.provenance.detect_results import Evaluation
from assaymark.provenance.detect_scoring import Scored, score_files
from assaymark.provenance.detector_names import FUSED, measurable
from assaymark.provenance.detectors import DETECTORS
from assaymark.provenance.evaluation_findings import findings_of
from assaymark.provenance.evidence import Says
from assaymark.provenance.frozen_scores import freeze
from assaymark.provenance.material import open_material
from assaymark.provenance.published_calibration import Calibrated, write_calibrated
from assaymark.provenance.published_detectors import NAMES as PUBLISHED
from assaymark.provenance.sound_deliveries import SOUND_DELIVERIES, SOUND_EIGHT
from assaymark.reports.errors import InputError, nearest
from assaymark.reports.model import CheckResult, Gate, Method

_WAYS = {"eight": (*EIGHT, *SOUND_EIGHT), "sweep": (*DELIVERIES, *SOUND_DELIVERIES)}


def check_detector(
    check: str,
    labelled: Path,
    detector: str = "learned",
    *,
    checkpoint: Path | None = None,
    options: Mapping[str, object] | None = None,
    column: str | None = None,
    deliveries: Sequence[str] = (),
    threshold: float | None = None,
    rate: float = 0.05,
    scores: Path | None = None,
    calibration: Path | None = None,
    gates: tuple[Gate, ...] = (),
    tags: tuple[str, ...] = (),
    workers: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CheckResult:
    """Measure one detector on labelled files; the words are those of `detect_evaluate.evaluate`.

    detector: a row of the table of detectors, `fused`, or a published one with its checkpoint. deliveries:
    names, or `eight` and `sweep`. calibration: where to write what makes scores evidence. Raises InputError
    for unknown names and data that cannot be measured on.
    """
    score = _score_of(detector, checkpoint, options or {})
    ways = tuple(dict.fromkeys(way for name in deliveries for way in _WAYS.get(name, (name,))))
    scored = score_files(
        read_data(labelled, column=column),
        score,
        deliveries=ways,
        workers=workers,
        scores=scores,
        identity=detector,
        progress=progress,
    )
    found = measure(
        scored,
        deliveries=ways,
        rate=rate,
        threshold=threshold,
        ratios=detector == FUSED,
        identity=detector,
    )
    if calibration is not None:
        _write(calibration, detector, scored, rate, labelled)
    return CheckResult(
        findings=findings_of(check, found, gates, tags),
        method=_method(check, found, labelled, detector, ways, rate),
    )


def _score_of(
    detector: str, checkpoint: Path | None, options: Mapping[str, object]
) -> Callable[[Path], float | None]:
    if detector in PUBLISHED:
        if checkpoint is None:
            raise InputError(f"{detector} needs its weights: name the file with --checkpoint")
        return partial(_piece, "published", {**options, "checkpoints": {detector: checkpoint}})
    if checkpoint is not None:
        raise InputError(
            f"{detector} is one of our own, which takes no checkpoint: name one of {', '.join(PUBLISHED)}"
        )
    if detector == FUSED:
        return _fused
    own = measurable()
    if detector not in own:
        raise InputError(
            f'there is no detector "{detector}"{nearest(detector, (FUSED, *own, *PUBLISHED))}'
        )
    return partial(_piece, detector, dict(options))


def _piece(detector: str, options: Mapping[str, object], path: Path) -> float | None:
    """The score of the first piece of evidence; None where the detector does not look at such a file."""
    material = open_material(path, options)
    row = DETECTORS[detector]
    if material.medium not in row.media:
        return None
    piece = next(iter(row.look(material)), None)
    if piece is None or (piece.says is Says.ABSTAINS and detector != "published"):
        return None
    return piece.score


def _fused(path: Path) -> float | None:
    """The log-odds of the verdict's probability."""
    probability = detect(path, DEFAULT).probability
    return None if probability is None else math.log(probability / (1 - probability))


def _write(
    path: Path, detector: str, scored: Sequence[Scored], rate: float, labelled: Path
) -> None:
    frozen = freeze(sample_of(scored), rate=rate, measured_on=f"{labelled.name}, sources held out")
    offset_slope = frozen.calibration.curve.parameters
    name = f"published:{detector}" if detector in PUBLISHED else detector
    write_calibrated(
        path,
        Calibrated(
            detector=name,
            slope=float(offset_slope[0]),
            offset=float(offset_slope[1]),
            lowest=frozen.calibration.lowest,
            highest=frozen.calibration.highest,
            point=frozen.point,
        ),
    )


def _method(
    check: str,
    found: Evaluation,
    labelled: Path,
    detector: str,
    ways: Sequence[str],
    rate: float,
) -> Method:
    return Method(
        check=check,
        title=f"The detector {detector} on {found.reals} real and {found.fakes} generated files",
        steps=(
            f"Files of {labelled}: {found.sources} sources, {found.generators} generators.",
            "Files on which the detector abstains are counted apart (coverage), never as right or wrong.",
            "Intervals resample sources and generators, then their files (95 %).",
            f"The threshold is {found.threshold:.4g}, for {rate:.0%} false positives; the operating point is "
            "measured on sources that the threshold was not chosen on.",
            "Probabilities are calibrated on the other sources and generators.",
            *((f"Delivered as {', '.join(ways)}.",) if ways else ()),
            *((f"{found.refusal}.",) if found.refusal else ()),
        ),
        not_tested=tuple(f"{count} files: {why}" for why, count in found.why),
        sources=("Dunn, Wasserman and Ramdas 2022, two-layer hierarchical conformal prediction",),
    )
