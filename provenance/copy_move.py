"""Is a region of the picture a copy of another: shifts at which it correlates with itself, then where.

A copy of displacement d puts a ripple of period 1/d on the power spectrum, that is a peak at d on the
autocorrelation of the whitened picture (the phase correlation of Kuglin & Hines 1975 with itself); each peak
is then verified pixel by pixel, as the dense methods compared by Christlein et al. 2012, "An evaluation of
popular copy-move forgery detection approaches", doi:10.1109/TIFS.2012.2218597, verify their matches.
Only moves are found: a copy that was turned or scaled by more than a little is not.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from jaxtyping import Bool, Float32
from PIL import Image
from scipy.ndimage import gaussian_filter, label, uniform_filter

from assaymark.provenance.evidence import Evidence, Family, Says
from assaymark.provenance.forensic_view import Pixels, heat_map, refusal
from assaymark.provenance.jpeg_blocks import Plane
from assaymark.provenance.material import Material

NAME = "copy-move"
NEAREST = 24  # pixels a copy must have moved: textures resemble themselves nearby
CANDIDATES = 6
LEAST_CORRELATION = 0.9  # of the region with its copy, over 15 x 15 pixels
LEAST_AREA = 400  # pixels of a region
LEAST_CONTRAST = 2.0  # grey levels of texture: flat regions resemble any other
LEAST_ROUND = 0.25  # smaller eigenvalue of the structure tensor over the mean of both
_LARGEST = 768  # pixels a side; larger pictures are reduced by a whole factor
_WINDOW = 15

Map = Bool[numpy.ndarray, "height width"]


@dataclass(frozen=True, kw_only=True)
class Copy:
    """down, right: the move in pixels. area: of the larger connected region. correlation: its mean."""

    down: int
    right: int
    area: int
    correlation: float


def copies(luma: Plane) -> tuple[tuple[Copy, ...], Map]:
    """Verified moves, largest area first, and the map of both the regions and their copies."""
    fine = luma - gaussian_filter(luma, 3.0)
    found: list[Copy] = []
    marked = numpy.zeros(luma.shape, bool)
    textured = _textured(luma, fine)
    for down, right in _shifts(fine):
        one = _verified(fine, textured, down, right)
        if one is not None:
            copy, there = one
            found.append(copy)
            marked |= there | numpy.roll(there, (down, right), (0, 1))
    return tuple(sorted(found, key=lambda copy: -copy.area)), marked


def _shifts(fine: Plane) -> list[tuple[int, int]]:
    """Displacements of the highest peaks of the whitened autocorrelation; down is never negative."""
    height, width = fine.shape
    if min(height, width) < 9:  # a picture far from square, once reduced
        return []
    power = numpy.abs(numpy.fft.rfft2(fine)) ** 2
    surroundings = uniform_filter(power, 9, mode="wrap")
    whitened = numpy.fft.irfft2(power / (surroundings + 1e-6 * power.mean()), s=fine.shape)
    whitened = whitened[: height // 2 + 1].copy()
    down, right = numpy.arange(len(whitened))[:, None], numpy.arange(width)[None]
    right = (right + width // 2) % width - width // 2
    whitened[numpy.hypot(down, right) < NEAREST] = 0
    shifts = []
    for _ in range(CANDIDATES):
        row, column = numpy.unravel_index(int(numpy.argmax(whitened)), whitened.shape)
        shifts.append((int(row), int((column + width // 2) % width - width // 2)))
        whitened[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3] = 0
    return shifts


def _verified(fine: Plane, textured: Map, down: int, right: int) -> tuple[Copy, Map] | None:
    """Where the picture correlates with itself at a displacement (or its wrapped counterpart)."""
    other = numpy.roll(fine, (-down, -right), (0, 1))
    power, moved = _mean(fine * fine), _mean(other * other)
    likeness = _mean(fine * other) / numpy.sqrt(power * moved + 1e-6)
    same_strength = numpy.abs(numpy.log((power + 1e-6) / (moved + 1e-6))) < 0.5
    good = (likeness > LEAST_CORRELATION) & textured & same_strength
    regions, count = label(good)
    if count == 0:
        return None
    sizes = numpy.bincount(regions.ravel())
    sizes[0] = 0
    largest = regions == int(numpy.argmax(sizes))
    if sizes.max() < LEAST_AREA:
        return None
    copy = Copy(
        down=down, right=right, area=int(sizes.max()), correlation=float(likeness[largest].mean())
    )
    return copy, largest


def _textured(luma: Plane, fine: Plane) -> Map:
    """Contrast that varies in two directions: a straight edge is like itself all along."""
    rows, columns = numpy.gradient(luma)
    down, across, both = _mean(rows * rows), _mean(columns * columns), _mean(rows * columns)
    middle = (down + across) / 2
    least = middle - numpy.sqrt((down - across) ** 2 / 4 + both * both)
    return numpy.asarray((_mean(fine * fine) > LEAST_CONTRAST**2) & (least > LEAST_ROUND * middle))


def _mean(plane: Plane) -> Float32[numpy.ndarray, "height width"]:
    return numpy.asarray(uniform_filter(plane, _WINDOW))


def look_copy_move(material: Material) -> Sequence[Evidence]:
    """Score: share of the picture that the largest verified copy covers."""
    began = time.process_time()
    pixels = material.picture.pixels
    if (no := refusal(NAME, pixels)) is not None:
        return [no]
    luma, factor = _reduced(pixels)
    found, marked = copies(luma)
    score = found[0].area / luma.size if found else 0.0
    rows, columns = luma.shape[0] // 8, luma.shape[1] // 8
    cells = marked[: rows * 8, : columns * 8].reshape(rows, 8, columns, 8).mean(axis=(1, 3))
    summary = "no region repeats itself elsewhere"
    if found:
        summary = (
            f"a region of {score:.1%} of the picture is found again {found[0].down * factor} pixels "
            f"lower and {found[0].right * factor} to the right: copied, or a repeated object"
        )
    details = [
        {"down": copy.down * factor, "right": copy.right * factor, "area": copy.area * factor**2}
        | {"correlation": round(copy.correlation, 3)}
        for copy in found
    ]
    return [
        Evidence(
            detector=NAME,
            family=Family.FORENSIC,
            says=Says.NOTHING,
            summary=summary,
            score=score,
            drawings=(heat_map("Repeated regions", cells, 0, 1),) if found else (),
            details={"copies": details, "reduced_by": factor},
            seconds=time.process_time() - began,
        )
    ]


def _reduced(pixels: Pixels) -> tuple[Plane, int]:
    """Luminance, of large pictures the mean over squares; and the side of a square."""
    factor = -(-max(pixels.shape[:2]) // _LARGEST)
    luma = Image.fromarray(pixels).convert("L").reduce(factor)
    return numpy.asarray(luma, numpy.float32), factor
