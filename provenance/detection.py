"""What detection says of one file, as a value that is stored as JSON and read back."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assaymark.provenance.evidence import (
    Curve,
    Evidence,
    Family,
    HeatMap,
    Medium,
    OperatingPoint,
    Says,
)
from assaymark.provenance.fuse import Contribution, Verdict


@dataclass(frozen=True, kw_only=True)
class Detection:
    """One file's verdict with all that stands behind it.

    probability: of "generated", in [0, 1], at the stated prior; None where nothing was measured.
    declared: the file itself says in a machine-readable way that it is generated (a credential whose
    signature holds, a watermark, or an IPTC digital source type). not_looked_at: what was not examined,
    and why. problem: why the file could not be looked at.
    """

    path: Path
    medium: Medium | None
    kind: str
    verdict: Verdict
    because: str
    probability: float | None = None
    manipulated_probability: float | None = None
    prior: float = 0.5
    declared: bool = False
    evidence: tuple[Evidence, ...] = ()
    contributions: tuple[Contribution, ...] = ()
    conflicts: tuple[str, ...] = ()
    not_looked_at: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    sha256: str = ""
    problem: str = ""
    seconds: float | None = None

    @property
    def generated_unmarked(self) -> bool:
        """Generated, and nothing in the file declares it."""
        return self.verdict is Verdict.GENERATED and not self.declared

    def plain(self) -> dict[str, Any]:
        """Values of JSON; numbers that are not finite become None."""
        fields: dict[str, Any] = _plain(dataclasses.asdict(self))
        return fields


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, bool | int | None):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "item"):  # a number of numpy
        return _plain(value.item())
    return str(value)


def from_plain(fields: Mapping[str, Any]) -> Detection:
    """The detection that `plain` wrote; raises KeyError, TypeError or ValueError for anything else."""
    simple: dict[str, Any] = {key: fields[key] for key in fields if key not in _BUILT}
    simple |= {key: tuple(fields[key]) for key in _LISTS}
    return Detection(
        path=Path(fields["path"]),
        medium=None if fields["medium"] is None else Medium(fields["medium"]),
        verdict=Verdict(fields["verdict"]),
        evidence=tuple(_evidence(item) for item in fields["evidence"]),
        contributions=tuple(
            Contribution(**{**item, "toward": Says(item["toward"])})
            for item in fields["contributions"]
        ),
        **simple,
    )


_LISTS = ("conflicts", "not_looked_at", "notes")
_BUILT = frozenset(("path", "medium", "verdict", "evidence", "contributions", *_LISTS))


def _evidence(fields: Mapping[str, Any]) -> Evidence:
    built = {
        "family": Family(fields["family"]),
        "says": Says(fields["says"]),
        "point": OperatingPoint(**fields["point"]) if fields["point"] else None,
        "drawings": tuple(map(_drawing, fields["drawings"])),
    }
    return Evidence(**{**fields, **built})


def _drawing(fields: Mapping[str, Any]) -> HeatMap | Curve:
    if "values" in fields:
        return HeatMap(title=fields["title"], values=tuple(map(tuple, fields["values"])))
    tuples = {key: tuple(fields[key]) for key in ("x", "y")}
    marked = tuple((float(low), float(high)) for low, high in fields["marked"])
    return Curve(**{**fields, **tuples, "marked": marked})
