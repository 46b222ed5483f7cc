"""How often a picture went through JPEG: from its tables, its coefficients and past grids.

Saving twice is ordinary (every social network does it), so this speaks for nothing; it tells what other
evidence must be measured against.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy

from assaymark.provenance.evidence import Evidence, Family, Says
from assaymark.provenance.forensic_view import centre, refusal
from assaymark.provenance.jpeg_blocks import planes
from assaymark.provenance.jpeg_double import DoubleJpeg, double_jpeg
from assaymark.provenance.jpeg_grid import PastGrid, past_grid
from assaymark.provenance.jpeg_tables import Tables, read_tables, whole_tables
from assaymark.provenance.material import Material, Picture

NAME = "jpeg-history"
LEAST_GAIN = 0.5  # nats a block; photographs saved once reach 0.2
LEAST_SCORE = 10.0  # deviations; pictures that never were a JPEG reach 5
LEAST_CONTRAST = 0.08
_LOOKED_AT = 512  # pixels a side, in the middle


@dataclass(frozen=True, kw_only=True)
class History:
    """tables: of the file itself. earlier: first quality on the same grid. grid: another grid, or,
    for a file that is no JPEG, the one it had. None: no trace of it, which does not rule it out.
    """

    tables: Tables | None
    earlier: int | None
    earlier_gain: float
    grid: PastGrid | None


def jpeg_history(picture: Picture) -> History:
    """What the middle 512 x 512 pixels and the tables show."""
    luma = planes(centre(picture.pixels, _LOOKED_AT))[0]
    is_jpeg = bool(picture.tables)
    found = _earlier(luma, picture.tables)
    past = past_grid(luma, other_than_zero=is_jpeg)
    clear = past is not None and past.score >= LEAST_SCORE and past.contrast >= LEAST_CONTRAST
    return History(
        tables=read_tables(picture.tables),
        earlier=found.quality if found.gain >= LEAST_GAIN else None,
        earlier_gain=found.gain,
        grid=past if clear else None,
    )


def _earlier(luma: numpy.ndarray, tables: tuple[tuple[int, ...], ...]) -> DoubleJpeg:
    if whole_tables(tables):
        return double_jpeg(luma, numpy.array(tables[0]))
    return DoubleJpeg(quality=None, gain=0.0, blocks=numpy.zeros((0, 0)))


def look_jpeg_history(material: Material) -> Sequence[Evidence]:
    """One piece of evidence that says nothing for or against: the history in words and details."""
    began = time.process_time()
    picture = material.picture
    if (no := refusal(NAME, picture.pixels)) is not None:
        return [no]
    history = jpeg_history(picture)
    return [
        Evidence(
            detector=NAME,
            family=Family.FORENSIC,
            says=Says.NOTHING,
            summary=_sentence(history, picture),
            details={
                "quality": history.tables.quality if history.tables else None,
                "encoder": history.tables.encoder if history.tables else None,
                "earlier_quality": history.earlier,
                "earlier_gain": round(history.earlier_gain, 3),
                "other_grid": asdict(history.grid) if history.grid else None,
                "subsampling": [list(factors) for factors in picture.subsampling],
            },
            seconds=time.process_time() - began,
        )
    ]


def _sentence(history: History, picture: Picture) -> str:
    parts = []
    if history.tables is not None:
        whose = history.tables.encoder or "unknown encoder's"
        about = "" if history.tables.distance == 0 else "about "
        parts.append(f"a JPEG of quality {about}{history.tables.quality} by {whose} tables")
    elif picture.tables:
        parts.append("a JPEG whose quantisation tables are not whole")
    else:
        parts.append(f"no JPEG ({picture.format or 'unknown format'})")
    if history.earlier is not None:
        parts.append(f"saved before on the same grid at a quality of about {history.earlier}")
    if history.grid is not None:
        parts.append(
            f"a JPEG before at a quality of about {history.grid.quality}, its grid now beginning at "
            f"row {history.grid.top} and column {history.grid.left}"
        )
    if len(parts) == 1:
        parts.append("no trace of an earlier compression")
    return "; ".join(parts)
