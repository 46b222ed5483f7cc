"""How a policy's check of detection is run."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from assaymark.cli.opening import Context
from assaymark.reports.model import CheckResult
from assaymark.reports.policy_detection import Checkpoint, DetectionCheck, DetectorCheck

if TYPE_CHECKING:
    from assaymark.provenance.detect import Settings


def detection(check: DetectionCheck, context: Context) -> CheckResult:
    from assaymark.provenance.detect_check import check_detection

    return check_detection(
        check.id,
        check.files,
        settings_of(check, context.folder),
        folder=context.folder,
        gates=check.gates,
        tags=check.tags,
        workers=context.workers if context.workers > 1 else None,
        keep=context.keep,
        records=context.folder / check.records if check.records else None,
        progress=context.progress,
    )


def detector(check: DetectorCheck, context: Context) -> CheckResult:
    from assaymark.provenance.detector_check import check_detector

    def place(name: str | None) -> Path | None:
        return None if name is None else context.folder / name

    return check_detector(
        check.id,
        context.folder / check.labelled,
        check.detector,
        checkpoint=place(check.checkpoint),
        column=check.column,
        deliveries=check.deliveries,
        threshold=check.threshold,
        rate=check.rate,
        scores=place(check.scores),
        calibration=place(check.calibration),
        gates=check.gates,
        tags=check.tags,
        workers=context.workers if context.workers > 1 else None,
        progress=context.progress,
    )


def settings_of(check: DetectionCheck, folder: Path) -> "Settings":
    """What a policy says of detectors, with its files read."""
    from assaymark.cli.sign import secret_of
    from assaymark.provenance.detect import Settings
    from assaymark.provenance.files import find_files
    from assaymark.provenance.keys import load_anchors
    from assaymark.provenance.trust import Trust

    anchors = load_anchors([folder / name for name in check.trust_anchors])
    options: dict[str, object] = {"trust": Trust(signers=anchors)}
    if check.watermark_key is not None:
        options["watermark_key"] = secret_of(folder / check.watermark_key)
    if check.binding_store is not None:
        options["binding_store"] = _store(check.binding_store, folder)
    if check.references is not None:
        options["prnu_references"] = tuple(find_files((check.references,), folder))
    if check.weights is not None:
        options["image_weights"] = folder / check.weights
    if check.checkpoints:
        options["checkpoints"] = _files(check.checkpoints, folder, "file")
        options["calibrations"] = _files(check.checkpoints, folder, "calibration")
    return Settings(only=check.detectors or (), skip=check.skip, prior=check.prior, options=options)


def _store(name: str, folder: Path) -> str:
    return name if "://" in name else str(folder / name)


def _files(entries: tuple[Checkpoint, ...], folder: Path, key: str) -> Mapping[str, Path]:
    named = {entry.detector: getattr(entry, key) for entry in entries}
    return {detector: folder / file for detector, file in named.items() if file is not None}
