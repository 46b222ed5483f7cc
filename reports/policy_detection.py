"""The check of detection, as a policy writes it: which files are generated or manipulated."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from assaymark.reports.model import Gate, Limit
from assaymark.reports.policy_types import Check, Metric, Number, Strict, Text, Texts

_KIND = "provenance.detection"
METRICS: dict[str, dict[str, Metric]] = {
    _KIND: {
        "generated_files": Metric(good="low", interval=True, zero=True),
        "generated_unmarked_files": Metric(good="low", interval=True, zero=True),
        "manipulated_files": Metric(good="low", interval=True, zero=True),
        "undecided_files": Metric(good="low", interval=True, zero=True),
        "max_probability": Metric(good="low", interval=True),
    }
}
Forbidden = Literal["generated", "generated-unmarked", "manipulated", "cannot-tell"]
_FORBIDDEN = {
    "generated": "generated_files",
    "generated-unmarked": "generated_unmarked_files",
    "manipulated": "manipulated_files",
    "cannot-tell": "undecided_files",
}


class Checkpoint(Strict):
    """A published detector's file. calibration: what `assaymark detect evaluate --calibrate` wrote."""

    detector: Text
    file: Text
    calibration: Text | None = None


class DetectionCheck(Check):
    """Look for signs of generation and manipulation in files."""

    kind: Literal["provenance.detection"]
    files: Annotated[Texts, Field(min_length=1)]
    forbid: Annotated[tuple[Forbidden, ...], Field(strict=False)] = ()
    """Verdicts that no file may have; a file of which it cannot be told leaves the check undecided."""
    max_probability: Annotated[Number, Field(gt=0, lt=1)] | None = None
    """The highest probability of "generated" that a file may have."""
    prior: Annotated[Number, Field(gt=0, lt=1)] = 0.5
    """Probability that such a file is generated, before anything is looked at."""
    detectors: Texts | None = None
    skip: Texts = ()
    trust_anchors: Texts = ()
    watermark_key: Text | None = None
    """File with the secret of the watermark."""
    binding_store: Text | None = None
    """Store of manifests (sign --store) in which stripped credentials are looked up."""
    references: Text | None = None
    """Folder with pictures of one camera, for its sensor's noise (PRNU)."""
    weights: Text | None = None
    """Folder of image detectors that `assaymark detect train` wrote, in place of the shipped ones."""
    checkpoints: Annotated[tuple[Checkpoint, ...], Field(strict=False)] = ()
    records: Text | None = None
    """A file for one line of JSON about every file."""

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        names = [entry.detector for entry in self.checkpoints]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"{min(twice)} is named twice in checkpoints: name each detector once")
        return self

    @model_validator(mode="after")
    def _unknown_is_not_zero(self) -> Self:
        for entry in self.gate:
            if entry.metric in METRICS[_KIND] and entry.on != "upper":
                raise ValueError(
                    f'a gate on {entry.metric} would pass over files that cannot be told: write on = "upper"'
                )
        return self

    @property
    def gates(self) -> tuple[Gate, ...]:
        """The gates, and those that `forbid` and `max_probability` stand for."""
        limits = [(_FORBIDDEN[word], 0.0) for word in self.forbid]
        if self.max_probability is not None:
            limits.append(("max_probability", self.max_probability))
        return (
            *super().gates,
            *(
                Gate(metric=metric, limit=Limit(maximum=most, on="upper"), severity="critical")
                for metric, most in limits
            ),
        )

    @property
    def touches_files(self) -> bool:
        """It reads files of any name, so it is always run anew; files are kept one by one."""
        return True

    @property
    def named_files(self) -> tuple[tuple[tuple[str | int, ...], str], ...]:
        """The files that it reads beside the media, each with its place in the policy."""
        single = (
            ("watermark_key", self.watermark_key),
            ("references", self.references),
            ("weights", self.weights),
        )
        listed = enumerate(self.trust_anchors)
        return (
            *((("trust_anchors", place), name) for place, name in listed),
            *(((key,), name) for key, name in single if name is not None),
            *(
                (("checkpoints", place, key), name)
                for place, entry in enumerate(self.checkpoints)
                for key, name in (("file", entry.file), ("calibration", entry.calibration))
                if name is not None
            ),
        )


METRICS["provenance.detector"] = {
    "auc": Metric(good="high", interval=True),
    "average_precision": Metric(good="high", interval=True),
    "equal_error_rate": Metric(good="low", interval=True),
    "true_positive_rate": Metric(good="high", interval=True),
    "false_positive_rate": Metric(good="low", interval=True),
    "calibration_error": Metric(good="low", interval=True),
    "coverage": Metric(good="high"),
    "changed_verdicts": Metric(good="low", interval=True, zero=True),
}


class DetectorCheck(Check):
    """Measure a detector on labelled files."""

    kind: Literal["provenance.detector"]
    labelled: Text
    """A folder real/SOURCE/FILE, fake/GENERATOR/FILE, or a table with path, label, source, generator."""
    detector: Text = "learned"
    checkpoint: Text | None = None
    """Weights, where the detector is a published one."""
    column: Text | None = None
    """The column of paths, where a table has several."""
    deliveries: Annotated[tuple[Text, ...], Field(strict=False)] = ()
    """Ways in which every file is delivered again: names, `eight` or `sweep`."""
    threshold: Number | None = None
    """Of the score; default: the one that the rate of false positives asks for."""
    rate: Annotated[Number, Field(gt=0, lt=1)] = 0.05
    scores: Text | None = None
    """A file of scores, from which a run that was interrupted goes on."""
    calibration: Text | None = None
    """Where to write what makes the detector's scores evidence (`checkpoints`)."""

    @property
    def touches_files(self) -> bool:
        """It reads files of any name, so it is always run anew; scores are kept one by one."""
        return True

    @property
    def named_files(self) -> tuple[tuple[tuple[str | int, ...], str], ...]:
        """The files that it reads, each with its place in the policy."""
        single = (("labelled", self.labelled), ("checkpoint", self.checkpoint))
        return tuple(((key,), name) for key, name in single if name is not None)
