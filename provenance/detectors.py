"""The table of detectors: a name, the media it looks at, and the function that looks.

A detector is a function from an opened file to the pieces of evidence it found. It raises InputError for
what it cannot decode, and says `abstains` where the file lies outside what it was measured on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module

from assaymark.provenance.evidence import Evidence, Family, Medium
from assaymark.provenance.material import Material

Look = Callable[[Material], Sequence[Evidence]]
EVERYTHING = tuple(Medium)


@dataclass(frozen=True, kw_only=True)
class Detector:
    """place: `module:function` under assaymark.provenance, imported when the detector is first used."""

    name: str
    family: Family
    media: tuple[Medium, ...]
    place: str
    about: str

    def look(self, material: Material) -> Sequence[Evidence]:
        module, _, function = self.place.partition(":")
        look: Look = getattr(import_module(f"assaymark.provenance.{module}"), function)
        return look(material)


_ROWS: tuple[Detector, ...] = ()
DETECTORS: dict[str, Detector] = {row.name: row for row in _ROWS}
