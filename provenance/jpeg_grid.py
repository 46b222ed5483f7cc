"""Was this picture a JPEG before, on which grid, at which quality: asked of its pixels.

On the grid of a past compression, coefficients lie near multiples of its steps; on the 63 others they do
not, so these show what chance does (Bianchi & Piva 2012, "Detection of nonaligned double JPEG compression
based on integer periodicity maps", doi:10.1109/TIFS.2011.2170836; steps from decoded pixels: Fan & de
Queiroz 2003, doi:10.1109/TIP.2002.807361).
"""

from dataclasses import dataclass
from functools import cache

import numpy
from jaxtyping import Float, Float32

from assaymark.provenance.jpeg_blocks import ZIGZAG, Plane, coefficients, standard_steps

FREQUENCIES = ZIGZAG[1:16]
QUALITIES = tuple(range(30, 98))
_REACH, _FINE = 160, 4  # grey levels of a histogram either side of zero, bins a level
_BINS = _REACH * _FINE + 1
_NEAR = 0.9  # a table of half the steps fits almost as well: the coarsest of the good ones is meant


@dataclass(frozen=True, kw_only=True)
class PastGrid:
    """top, left: 0 to 7, where the blocks begin. score: deviations above the other grids.

    quality: of the standard table that fits best there. contrast: mean cosine of the phase of the
    coefficients against that table, less what the other grids have; 1 is a perfect lattice.
    """

    top: int
    left: int
    quality: int
    score: float
    contrast: float


def past_grid(plane: Plane, *, other_than_zero: bool = False) -> PastGrid | None:
    """The grid and quality that show most; `other_than_zero` leaves out the grid at (0, 0).

    None where fewer than 36 blocks fit. A score says nothing alone: see `jpeg_history.LEAST_SCORE`.
    """
    if min(plane.shape) < 56:
        return None
    phases = _phases(plane)
    chosen = [shift for shift in range(64) if not (other_than_zero and shift == 0)]
    usual = numpy.median(phases, axis=0)
    deviation = 1.4826 * numpy.median(numpy.abs(phases - usual), axis=0) + 0.004
    above = (phases - usual)[chosen]
    scores = above / deviation
    best = int(numpy.argmax(scores.max(axis=1)))
    fits = above[best] * (scores[best] > 0.5 * scores[best].max())
    quality = int(numpy.argmax(fits >= _NEAR * fits.max()))
    return PastGrid(
        top=chosen[best] // 8,
        left=chosen[best] % 8,
        quality=QUALITIES[quality],
        score=float(scores[best].max()),
        contrast=float(above[best, quality]),
    )


def _phases(plane: Plane) -> Float[numpy.ndarray, "64 qualities"]:
    """Mean cosine of coefficients against each quality's steps, of those beyond half a step."""
    counts = numpy.stack([_counts(plane, shift // 8, shift % 8) for shift in range(64)])
    cosines, beyond = _waves()
    return numpy.asarray((counts @ cosines) / (counts @ beyond + 8), float)


def _counts(plane: Plane, top: int, left: int) -> Float32[numpy.ndarray, " bins"]:
    """A histogram of |coefficient| for each frequency, one after the other."""
    found = coefficients(plane, top, left, FREQUENCIES).reshape(-1, len(FREQUENCIES))
    level = numpy.minimum(numpy.abs(found) * _FINE + 0.5, _REACH * _FINE).astype(int)
    level += numpy.arange(len(FREQUENCIES)) * _BINS
    counts = numpy.bincount(level.ravel(), minlength=len(FREQUENCIES) * _BINS)
    return counts.astype(numpy.float32)


@cache
def _waves() -> tuple[
    Float32[numpy.ndarray, "bins qualities"], Float32[numpy.ndarray, "bins qualities"]
]:
    steps = numpy.stack([standard_steps(quality)[list(FREQUENCIES)] for quality in QUALITIES], 1)
    ratio = (numpy.arange(_BINS) / _FINE)[None, :, None] / steps[:, None, :]
    beyond = (ratio > 0.5) & (steps[:, None, :] >= 2)
    cosines = numpy.cos(2 * numpy.pi * ratio) * beyond
    shape = (len(FREQUENCIES) * _BINS, len(QUALITIES))
    return (
        cosines.reshape(shape).astype(numpy.float32),
        beyond.reshape(shape).astype(numpy.float32),
    )
