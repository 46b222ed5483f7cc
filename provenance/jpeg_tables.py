"""Quantisation tables: which quality they stand for, and whether the IJG encoder or another wrote them.

J. Kornblum 2008, "Using JPEG quantization tables to identify imagery processed by software",
doi:10.1016/j.diin.2008.05.004. A table that is a standard one scaled says only "an IJG encoder", which most
programs use.
"""

from dataclasses import dataclass

import numpy

from assaymark.provenance.jpeg_blocks import CHROMINANCE, LUMINANCE, standard_steps

# N. Robidoux's table, the default of mozjpeg since 3.0 (jcparam.c, index 3).
MOZJPEG = (
    *(16, 16, 16, 18, 25, 37, 56, 85, 16, 17, 20, 27, 34, 40, 53, 75),
    *(16, 20, 24, 31, 43, 62, 91, 135, 18, 27, 31, 40, 53, 74, 106, 156),
    *(25, 34, 43, 53, 69, 94, 131, 189, 37, 40, 62, 74, 94, 124, 169, 238),
    *(56, 53, 91, 106, 131, 169, 226, 311, 85, 75, 135, 156, 189, 238, 311, 418),
)
_FAMILIES = {"standard (IJG)": (LUMINANCE, CHROMINANCE), "mozjpeg": (MOZJPEG, MOZJPEG)}


@dataclass(frozen=True, kw_only=True)
class Tables:
    """quality: 1 to 100 of the nearest standard tables. encoder: whose tables these are, or None.

    distance: mean |log ratio| to the standard luminance table of that quality; 0 where it is that table.
    """

    quality: int
    encoder: str | None
    distance: float


def whole_tables(tables: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
    """The tables where each has 64 steps of 1 to 255, as eight-bit JPEG has; else none."""
    whole = all(len(table) == 64 and 1 <= min(table) <= max(table) <= 255 for table in tables)
    return tables if whole else ()


def read_tables(tables: tuple[tuple[int, ...], ...]) -> Tables | None:
    """What wrote these tables (luminance first, 64 steps row by row); None where they are not whole."""
    if not whole_tables(tables):
        return None
    for encoder, (luminance, chrominance) in _FAMILIES.items():
        wanted = (luminance, *(chrominance for _ in tables[1:]))
        for quality in range(1, 101):
            if all(
                tuple(standard_steps(quality, base)) == table
                for base, table in zip(wanted, tables, strict=True)
            ):
                return Tables(quality=quality, encoder=encoder, distance=0.0)
    steps = numpy.log(numpy.array(tables[0], float))
    away = [
        float(numpy.abs(numpy.log(standard_steps(quality)) - steps).mean())
        for quality in range(1, 101)
    ]
    nearest = int(numpy.argmin(away))
    return Tables(quality=nearest + 1, encoder=None, distance=away[nearest])
