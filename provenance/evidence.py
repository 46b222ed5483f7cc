"""What a detector says of a file, what it was measured on, and what it looked at: values, no markup.

A detector never says how sure it is in words. It gives a log-likelihood ratio that was measured on files
whose source it had not seen, or none; fusion (assaymark.provenance.fuse) adds them up by a written rule.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Medium(StrEnum):
    """What a file is to a detector."""

    IMAGE = "image"
    AUDIO = "audio"
    VIDEO = "video"


class Says(StrEnum):
    """What one piece of evidence speaks for; NOTHING: it looked and found no sign either way."""

    GENERATED = "generated"
    MANIPULATED = "manipulated"
    AUTHENTIC = "authentic"
    NOTHING = "nothing"
    ABSTAINS = "abstains"  # it could not look, or the file lies outside what it was measured on


class Family(StrEnum):
    """Where evidence comes from; this orders how far it can be relied on."""

    CREDENTIAL = "credential"  # a signature that was checked
    WATERMARK = "watermark"  # a mark in the samples, read with its check bits
    METADATA = "metadata"  # a statement in the file, which anybody can write or remove
    LEARNED = "learned"  # a statistic of the samples, fitted to data
    FORENSIC = "forensic"  # a statistic of the samples, by a physical or codec model


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """How often a threshold errs, on sources and generators that were not fitted to.

    threshold: of the score, at or above which the detector speaks. false_positive_rate and
    true_positive_rate lie in [0, 1]; *_high and *_low are the bounds of a 95 % interval over sources.
    reals and fakes: files counted; sources and generators: how many different ones they come from.
    measured_on: which data, in words.
    """

    threshold: float
    false_positive_rate: float
    false_positive_rate_high: float
    true_positive_rate: float
    true_positive_rate_low: float
    reals: int
    fakes: int
    sources: int
    generators: int
    measured_on: str


@dataclass(frozen=True, kw_only=True)
class HeatMap:
    """A number for every cell of a grid over the picture, row by row from the top; high is suspicious.

    values: rows of equal length, each in [0, 1]; at most 96 x 96, so that a report stays small.
    """

    title: str
    values: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A line to draw: a spectrum, or a score over time. marked: spans (from, to) of x that stand out."""

    title: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    x_label: str
    y_label: str
    marked: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What one detector found in one file.

    detector: its name in the table (assaymark.provenance.detectors). summary: one sentence for a
    reader, in which text from the file is quoted with repr and at most 80 characters. score: the
    detector's own number. llr: natural logarithm of P(score | generated) / P(score | not generated),
    or the same of manipulated for evidence of manipulation; None where it was not measured. point: the
    measured operating point that the summary may be held to; None for evidence that is not statistical.
    details: JSON values. seconds: CPU time.
    """

    detector: str
    family: Family
    says: Says
    summary: str
    score: float | None = None
    llr: float | None = None
    point: OperatingPoint | None = None
    drawings: tuple[HeatMap | Curve, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    seconds: float | None = None


def abstains(detector: str, family: Family, why: str, **details: Any) -> Evidence:
    """The detector did not look, or cannot be relied on here; `why` is a clause that ends the sentence."""
    return Evidence(
        detector=detector, family=family, says=Says.ABSTAINS, summary=why, details=details
    )
