"""What a user measured of somebody else's detector: scores as log-likelihood ratios, and how often it errs.

A file of JSON: `{"detector": …, "calibration": {"curve": {"kind": "platt", "parameters": [slope, offset]},
"lowest": …, "highest": …}, "point": {an OperatingPoint}}`. The ratio is offset + slope · score (Platt
1999), cut to what so many files support.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from assaymark.provenance.evidence import OperatingPoint
from assaymark.reports.errors import InputError
from assaymark.reports.files import write_atomically

_LARGEST = 1 << 20
_WORDS = ("measured_on",)
_COUNTS = ("reals", "fakes", "sources", "generators")


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """slope ≥ 0; lowest ≤ 0 ≤ highest: natural logarithms of ratios."""

    detector: str
    slope: float
    offset: float
    lowest: float
    highest: float
    point: OperatingPoint

    def llr(self, score: float) -> float:
        """ln P(score | generated) / P(score | not generated)."""
        return min(max(self.offset + self.slope * score, self.lowest), self.highest)


def write_calibrated(path: Path, of: Calibrated) -> None:
    """Raises InputError when the place cannot be written."""
    document = {
        "detector": of.detector,
        "calibration": {
            "curve": {"kind": "platt", "parameters": [of.slope, of.offset]},
            "lowest": of.lowest,
            "highest": of.highest,
        },
        "point": asdict(of.point),
    }
    write_atomically(path, json.dumps(document, indent=2, allow_nan=False) + "\n")


def read_calibrated(path: Path, detector: str) -> Calibrated:
    """Raises InputError for anything but a calibration of that detector."""
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError(f"it has more than {_LARGEST:,} bytes")
        document = json.loads(path.read_text(encoding="utf-8"))
        found = _calibrated(document)
    except (
        OSError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        ArithmeticError,
        RecursionError,
    ) as error:
        raise InputError(
            f"{path} is no calibration of a detector ({error!r:.120}): make one with "
            "assaymark detect evaluate --calibration"
        ) from error
    if found.detector != detector:
        raise InputError(
            f"{path} calibrates {found.detector[:80]!r}, expected {detector!r}: its scores differ"
        )
    return found


def _calibrated(document: Mapping[str, Any]) -> Calibrated:
    fitted = document["calibration"]
    if fitted["curve"]["kind"] != "platt":
        raise ValueError(f"its curve is {fitted['curve']['kind']!r}, expected 'platt'")
    slope, offset = (_finite(value) for value in fitted["curve"]["parameters"])
    lowest, highest = _finite(fitted["lowest"]), _finite(fitted["highest"])
    if slope < 0 or not lowest <= 0 <= highest:
        raise ValueError("slope must not be negative, and limits must enclose 0")
    return Calibrated(
        detector=str(document["detector"]),
        slope=slope,
        offset=offset,
        lowest=lowest,
        highest=highest,
        point=_point(document["point"]),
    )


def _point(values: Mapping[str, Any]) -> OperatingPoint:
    found: dict[str, Any] = {}
    for item in fields(OperatingPoint):
        value = values[item.name]
        if item.name in _WORDS:
            found[item.name] = str(value)
        elif item.name in _COUNTS:
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ValueError(f"{item.name} is {str(value)[:80]!r}, expected a count")
            found[item.name] = value
        else:
            found[item.name] = _finite(value)
    rates = [value for name, value in found.items() if "rate" in name]
    if not all(0 <= rate <= 1 for rate in rates):
        raise ValueError(f"rates must lie in [0, 1], got {rates}")
    return OperatingPoint(**found)


def _finite(value: Any) -> float:
    if isinstance(value, bool | str):
        raise ValueError(f"{str(value)[:80]!r} is no number")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is no finite number")
    return number
