"""All that a detector needs to say from a score what it was measured to mean, in one JSON file."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from assaymark.provenance.conformal import (
    Conformal,
    Zone,
    conformal,
    operating_point,
    read_zone,
    zone,
)
from assaymark.provenance.detection_intervals import Sample
from assaymark.provenance.evidence import OperatingPoint
from assaymark.provenance.score_calibration import Calibration, calibrate, finite_number
from assaymark.reports.errors import InputError

_FORMAT = "assaymark calibration 1"
_RATES = (
    "false_positive_rate",
    "false_positive_rate_high",
    "true_positive_rate",
    "true_positive_rate_low",
)


@dataclass(frozen=True, kw_only=True)
class Frozen:
    """calibration: score to log-likelihood ratio. point: the rates to state. zone: where to say nothing.
    measured: for p-values."""

    calibration: Calibration
    point: OperatingPoint
    zone: Zone
    measured: Conformal

    def to_json(self) -> str:
        fields = {
            "format": _FORMAT,
            "calibration": json.loads(self.calibration.to_json()),
            "point": asdict(self.point),
            "zone": asdict(self.zone),
            "measured": json.loads(self.measured.to_json()),
        }
        return json.dumps(fields, allow_nan=False)

    @staticmethod
    def from_json(text: str) -> "Frozen":
        """Raises InputError for anything that `to_json` did not write."""
        try:
            fields = json.loads(text)
            if fields["format"] != _FORMAT:
                raise ValueError(f"format is {fields['format']!r}, expected {_FORMAT!r}")
            return Frozen(
                calibration=Calibration.from_json(json.dumps(fields["calibration"])),
                point=read_point(fields["point"]),
                zone=read_zone(fields["zone"]),
                measured=Conformal.from_json(json.dumps(fields["measured"])),
            )
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(
                f"this is no calibration of a detector ({error}): run detect evaluate again"
            ) from error


def freeze(of: Sample, *, rate: float = 0.05, kind: str = "platt", measured_on: str = "") -> Frozen:
    """Fit to all files, and measure on left-out sources; raises InputError with fewer than two of each."""
    return Frozen(
        calibration=calibrate(of, kind, measured_on=measured_on),
        point=operating_point(of, rate, measured_on=measured_on),
        zone=zone(of, rate),
        measured=conformal(of),
    )


def read_point(fields: Mapping[str, Any]) -> OperatingPoint:
    """A point from its JSON object; raises KeyError, TypeError or ValueError for another."""
    rates = {name: finite_number(fields[name]) for name in _RATES}
    threshold = finite_number(fields["threshold"])
    if not all(0 <= rate <= 1 for rate in rates.values()):
        raise ValueError("rates must lie in [0, 1]")
    return OperatingPoint(
        threshold=threshold,
        false_positive_rate=rates["false_positive_rate"],
        false_positive_rate_high=rates["false_positive_rate_high"],
        true_positive_rate=rates["true_positive_rate"],
        true_positive_rate_low=rates["true_positive_rate_low"],
        reals=int(fields["reals"]),
        fakes=int(fields["fakes"]),
        sources=int(fields["sources"]),
        generators=int(fields["generators"]),
        measured_on=str(fields["measured_on"]),
    )
