"""A picture walked tile by tile within a time limit, and grids of 8 x 8 blocks as heat maps."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy
from jaxtyping import Float, UInt8
from PIL import Image

from assaymark.provenance.evidence import Evidence, Family, HeatMap, Says, abstains
from assaymark.provenance.material import Material
from assaymark.reports.errors import InputError

SIDE = 1024  # pixels of a tile
SMALLEST = 64  # pixels a side: eight blocks
SECONDS = 4.0  # of CPU time a look may spend on one file
CELLS = 96  # of a heat map, at most, either way

Pixels = UInt8[numpy.ndarray, "height width 3"]
Grid = Float[numpy.ndarray, "rows columns"]


@dataclass(frozen=True, kw_only=True)
class Walk:
    """grid: one number a block, NaN where the time did not reach. looked: share of the picture."""

    grid: Grid
    looked: float
    seconds: float

    @property
    def values(self) -> Float[numpy.ndarray, " n"]:
        """Of the blocks that were looked at."""
        return numpy.asarray(self.grid[numpy.isfinite(self.grid)])

    @property
    def note(self) -> str:
        return "" if self.looked > 0.999 else f" ({self.looked:.0%} of the picture was looked at)"


def tiles(height: int, width: int, side: int = SIDE) -> Iterator[tuple[int, int, int, int]]:
    """(top, left, bottom, right) of tiles that cover all whole blocks, spread over the picture.

    Tiles are of equal size but for 8 pixels. A fixed stride that shares no divisor with their number
    visits them, so that a walk that stops early has been everywhere a little.
    """
    rows, columns = _edges(height // 8, side // 8), _edges(width // 8, side // 8)
    count = (len(rows) - 1) * (len(columns) - 1)
    stride = max(1, round(count * 0.382))
    while numpy.gcd(stride, count) != 1:
        stride += 1
    for step in range(count):
        row, column = divmod(step * stride % count, len(columns) - 1)
        yield 8 * rows[row], 8 * columns[column], 8 * rows[row + 1], 8 * columns[column + 1]


def _edges(blocks: int, most: int) -> list[int]:
    parts = max(1, -(-blocks // most))
    return [blocks * part // parts for part in range(parts + 1)]


def walk(pixels: Pixels, measure: Callable[[Pixels], Grid], seconds: float = SECONDS) -> Walk:
    """Measure tiles until the CPU time is spent; the first is always measured."""
    height, width = pixels.shape[:2]
    grid = numpy.full((height // 8, width // 8), numpy.nan)
    began = time.process_time()
    for top, left, bottom, right in tiles(height, width):
        part = numpy.ascontiguousarray(pixels[top:bottom, left:right])
        grid[top // 8 : bottom // 8, left // 8 : right // 8] = measure(part)
        if time.process_time() - began > seconds:
            break
    looked = float(numpy.isfinite(grid).mean())
    return Walk(grid=grid, looked=looked, seconds=time.process_time() - began)


def centre(pixels: Pixels, side: int) -> Pixels:
    """The middle of a picture, beginning on the grid of blocks."""
    top = max(0, (pixels.shape[0] - side) // 16 * 8)
    left = max(0, (pixels.shape[1] - side) // 16 * 8)
    return numpy.ascontiguousarray(pixels[top : top + side, left : left + side])


def heat_map(title: str, grid: Grid, low: float, high: float) -> HeatMap:
    """`low` becomes 0 and `high` 1; what was not looked at is 0."""
    scaled = numpy.clip((numpy.nan_to_num(grid, nan=low) - low) / max(high - low, 1e-9), 0, 1)
    rows, columns = (min(CELLS, size) for size in grid.shape)
    picture = Image.fromarray(scaled.astype(numpy.float32)).resize(
        (columns, rows), Image.Resampling.BOX
    )
    return HeatMap(
        title=title,
        values=tuple(
            tuple(round(min(1.0, float(value)), 3) for value in row)
            for row in numpy.asarray(picture)
        ),
    )


def spread(values: Float[numpy.ndarray, " n"]) -> tuple[float, float]:
    """Median, and the deviation that a normal distribution of this median absolute deviation has."""
    middle = float(numpy.median(values))
    return middle, 1.4826 * float(numpy.median(numpy.abs(values - middle)))


def seconds_of(material: Material) -> float:
    """Option `forensic_seconds`: CPU seconds for each look at one file.

    Raises InputError where it is no number above 0.
    """
    value = material.options.get("forensic_seconds", SECONDS)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 86400:
        raise InputError(
            f"forensic_seconds must be a number of CPU seconds above 0, got {value!r}: "
            f"leave it out for {SECONDS:g}"
        )
    return float(value)


def refusal(name: str, pixels: Pixels, smallest: int = SMALLEST) -> Evidence | None:
    """Abstain from pictures too small or too even for a statistic; None where one can look."""
    height, width = pixels.shape[:2]
    if min(height, width) < smallest:
        why = f"{width} x {height} pixels are too few: at least {smallest} a side are looked at"
        return abstains(name, Family.FORENSIC, why, width=width, height=height)
    if float(pixels[:: max(1, height // 256), :: max(1, width // 256)].std(axis=(0, 1)).max()) < 1:
        return abstains(name, Family.FORENSIC, "the picture is even: there is nothing to measure")
    return None


def shown(
    name: str, summary: str, score: float | None, walked: Walk, *drawings: HeatMap
) -> Evidence:
    """Evidence for the eye: a map and a score, of which no error rate was measured."""
    return Evidence(
        detector=name,
        family=Family.FORENSIC,
        says=Says.NOTHING,
        summary=summary + walked.note,
        score=score,
        drawings=drawings,
        details={"looked_at": round(walked.looked, 4)},
        seconds=walked.seconds,
    )
