"""The policy: what a team demands of a model or a file before it ships.

`assaymark.toml`, or `[tool.assaymark]` in pyproject.toml. Every wrong key, type, unit, path or id
is a PolicyError with file:line:column.
"""

import re
import tomllib
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from assaymark.reports.bias_metrics import BINARY, MITIGATION, MULTICLASS, RANKING, REGRESSION
from assaymark.reports.lm_suites import METRICS as LANGUAGE_MODEL
from assaymark.reports.policy_bias import BiasImagesCheck, BiasTableCheck, MitigationCheck
from assaymark.reports.policy_detection import METRICS as DETECTION
from assaymark.reports.policy_detection import DetectionCheck, DetectorCheck
from assaymark.reports.policy_lm import LmCheck
from assaymark.reports.policy_protection import ProtectionCheck
from assaymark.reports.policy_provenance import METRICS as PROVENANCE
from assaymark.reports.policy_provenance import AttestationCheck, FolderCheck, ProvenanceCheck
from assaymark.reports.policy_robustness import (
    CertificateCheck,
    CorruptionCheck,
    DefenseCheck,
    RobustnessCheck,
    SceneCheck,
)
from assaymark.reports.policy_tournament import TournamentCheck
from assaymark.reports.policy_types import Check, Metric, Strict, Text

_OF_REFERENCE = "is a ratio to the reference model: 1 is as good as the reference"
METRICS: dict[str, dict[str, Metric]] = {
    "robustness": {
        "robust_accuracy": Metric(good="high", interval=True),
        "clean_accuracy": Metric(good="high", interval=True),
        "attack_success_rate": Metric(good="low", interval=True),
    },
    "corruption": {
        "corruption_accuracy": Metric(good="high", interval=True),
        "worst_corruption_accuracy": Metric(good="high", interval=True),
        "clean_accuracy": Metric(good="high", interval=True),
        "mean_corruption_error": Metric(good="low", interval=True, scale=_OF_REFERENCE),
        "relative_mean_corruption_error": Metric(good="low", interval=True, scale=_OF_REFERENCE),
    },
    "defense": {
        "robust_accuracy": Metric(good="high", interval=True),
        "clean_accuracy": Metric(good="high", interval=True),
        "robust_gain": Metric(good="high", interval=True),
        "clean_cost": Metric(good="low", interval=True),
        "false_positive_rate": Metric(good="low", interval=True),
    },
    "scene": {
        "robust_accuracy": Metric(good="high", interval=True),
        "clean_accuracy": Metric(good="high", interval=True),
        "attack_success_rate": Metric(good="low", interval=True),
    },
    "tournament": {
        "worst_case_accuracy": Metric(good="high", interval=True),
        "mean_accuracy": Metric(good="high", interval=True),
        "clean_accuracy": Metric(good="high", interval=True),
    },
    "certificate": {
        "certified_accuracy": Metric(good="high", interval=True),
        "clean_accuracy": Metric(good="high", interval=True),
    },
    "protection": {
        "protection_rate": Metric(good="high", interval=True),
        "surviving_protection_rate": Metric(good="high", interval=True),
        "held_out_protection_rate": Metric(good="high", interval=True),
        "least_psnr": Metric(good="high", scale="counts decibels, of which 30 to 50 are usual"),
        "least_ssim": Metric(good="high"),
        "largest_change": Metric(good="low"),
    },
    "bias.table": BINARY | MULTICLASS | REGRESSION | RANKING,
    "bias.images": BINARY | MULTICLASS,
    "bias.mitigation": MITIGATION,
    "bias.lm": LANGUAGE_MODEL,
    **PROVENANCE,
    **DETECTION,
}


AnyCheck = Annotated[
    RobustnessCheck
    | CertificateCheck
    | CorruptionCheck
    | DefenseCheck
    | SceneCheck
    | ProtectionCheck
    | TournamentCheck
    | BiasTableCheck
    | BiasImagesCheck
    | MitigationCheck
    | LmCheck
    | ProvenanceCheck
    | FolderCheck
    | AttestationCheck
    | DetectionCheck
    | DetectorCheck,
    Field(discriminator="kind"),
]
KINDS: dict[str, type[Check]] = {
    "robustness": RobustnessCheck,
    "corruption": CorruptionCheck,
    "defense": DefenseCheck,
    "scene": SceneCheck,
    "protection": ProtectionCheck,
    "tournament": TournamentCheck,
    "certificate": CertificateCheck,
    "bias.table": BiasTableCheck,
    "bias.images": BiasImagesCheck,
    "bias.mitigation": MitigationCheck,
    "bias.lm": LmCheck,
    "provenance": ProvenanceCheck,
    "provenance.folder": FolderCheck,
    "provenance.attestation": AttestationCheck,
    "provenance.detection": DetectionCheck,
    "provenance.detector": DetectorCheck,
}


class WaiverEntry(Strict):
    """A broken or undecided limit that a named person accepts until a date."""

    check: Text
    metric: Text | None = None
    reason: Text
    owner: Text
    expires: date


class Policy(Strict):
    """A whole policy file."""

    schema_version: Annotated[Literal[1], Field(alias="schema")] = 1
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    baseline: Text | None = None
    check: Annotated[tuple[AnyCheck, ...], Field(strict=False)] = ()
    waiver: Annotated[tuple[WaiverEntry, ...], Field(strict=False)] = ()

    def waiver_for(self, check: str, metric: str, today: date) -> WaiverEntry | None:
        """The waiver in force for a metric of a check; an expired one does not count."""
        return next(
            (
                entry
                for entry in self.waiver
                if entry.check == check
                and entry.metric in (None, metric)
                and entry.expires >= today
            ),
            None,
        )


def json_schema() -> dict[str, Any]:
    """JSON Schema of assaymark.toml, for editors."""
    return Policy.model_json_schema(by_alias=True)


def policy_files(start: Path) -> Path | None:
    """The nearest assaymark.toml, or pyproject.toml with [tool.assaymark], from `start` upwards."""
    for folder in (start, *start.parents):
        if (folder / "assaymark.toml").is_file():
            return folder / "assaymark.toml"
        project = folder / "pyproject.toml"
        if project.is_file():
            text = project.read_text(encoding="utf-8-sig", errors="replace")
            try:
                tool = tomllib.loads(text).get("tool", {})
            except (ValueError, RecursionError):
                # broken, but perhaps ours: reading it will say what is wrong
                tool = {"assaymark": None} if re.search(r"tool\.\s*\"?assaymark", text) else {}
            if isinstance(tool, dict) and "assaymark" in tool:
                return project
    return None
