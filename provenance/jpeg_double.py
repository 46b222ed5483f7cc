"""A JPEG in a JPEG on the same grid: the first quality, and which blocks went through it.

A coefficient quantised by q1 and then by q2 has a histogram with gaps and peaks. The histogram of one that
was quantised only once is read from the same picture on a grid displaced by half a block, which the first
compression left smooth (Bianchi & Piva 2012, "Image forgery localization via block-grained analysis of
JPEG artifacts", section III-A, doi:10.1109/TIFS.2012.2187516). The first quality is the standard table
of greatest likelihood over all frequencies, so that steps which leave no trace do no harm.
"""

from dataclasses import dataclass
from functools import cache

import numpy
from jaxtyping import Float, Int

from assaymark.provenance.jpeg_blocks import ZIGZAG, Plane, Steps, coefficients, standard_steps

FREQUENCIES = ZIGZAG[1:13]
QUALITIES = tuple(range(40, 100, 2))
REACH = 48  # of a histogram, in steps of the last compression, either side of zero
_SMOOTH = 0.5  # rounding of pixels between two compressions, as a deviation of coefficients
_SHARE = 0.95  # of blocks that were compressed twice, where q1 is sought
_FLOOR = 2e-3  # a probability mixed into every model: one odd block decides nothing


@dataclass(frozen=True, kw_only=True)
class DoubleJpeg:
    """gain: of log likelihood over a single compression, in nats a block; 0 where none was better.

    quality: the standard first quality of most likelihood. blocks: for each block, the log ratio of
    P(its coefficients | twice) to P(... | once): high where the first compression shows.
    """

    quality: int | None
    gain: float
    blocks: Float[numpy.ndarray, "rows columns"]


def double_jpeg(plane: Plane, steps: Steps, qualities: tuple[int, ...] = QUALITIES) -> DoubleJpeg:
    """The first compression of a plane that was last compressed with `steps` on the grid at (0, 0)."""
    rows, columns = plane.shape[0] // 8, plane.shape[1] // 8
    nothing = DoubleJpeg(quality=None, gain=0.0, blocks=numpy.zeros((rows, columns)))
    if rows * columns < 64:
        return nothing
    kept = coefficients(plane, chosen=FREQUENCIES).reshape(-1, len(FREQUENCIES))
    moved = coefficients(plane, 4, 4, FREQUENCIES).reshape(-1, len(FREQUENCIES))
    ratios, gains = [], numpy.zeros(len(qualities))
    for column, frequency in enumerate(FREQUENCIES):
        last = int(steps[frequency])
        levels = _levels(kept[:, column], last)
        once, twice = _models(moved[:, column], last, frequency, qualities)
        table = numpy.log(twice) - numpy.log(once)
        gains += (numpy.log(_SHARE * twice + (1 - _SHARE) * once) - numpy.log(once))[
            :, levels
        ].mean(1)
        ratios.append((levels, table))
    best = int(numpy.argmax(gains))
    if gains[best] <= 0:
        return nothing
    blocks = sum(table[best][levels] for levels, table in ratios)
    return DoubleJpeg(
        quality=qualities[best],
        gain=float(gains[best]),
        blocks=numpy.asarray(blocks).reshape(rows, columns),
    )


def _levels(values: Float[numpy.ndarray, " n"], step: int) -> Int[numpy.ndarray, " n"]:
    return numpy.clip(numpy.rint(values / step), -REACH, REACH).astype(int) + REACH


def _models(
    moved: Float[numpy.ndarray, " n"], last: int, frequency: int, qualities: tuple[int, ...]
) -> tuple[Float[numpy.ndarray, " bins"], Float[numpy.ndarray, "qualities bins"]]:
    """P(level | once) and P(level | twice) for each first quality."""
    reach = int((REACH + 0.5) * last)
    whole = numpy.clip(numpy.rint(moved), -reach, reach).astype(int)
    fine = numpy.bincount(whole + reach, minlength=2 * reach + 1).astype(float)
    fine = numpy.convolve(fine, numpy.hanning(2 * max(last // 2, 1) + 3), "same") + 1e-9
    once = _binned(fine, numpy.arange(-reach, reach + 1), last)
    known: dict[int, Float[numpy.ndarray, " bins"]] = {}
    for quality in qualities:
        first = int(standard_steps(quality)[frequency])
        if first not in known:
            known[first] = _twice(fine, reach, first, last)
    return once, numpy.stack([known[int(standard_steps(q)[frequency])] for q in qualities])


def _binned(
    weights: Float[numpy.ndarray, " n"], values: Float[numpy.ndarray, " n"], last: int
) -> Float[numpy.ndarray, " bins"]:
    found = numpy.bincount(_levels(values, last), weights=weights, minlength=2 * REACH + 1)
    return _proper(found)


def _proper(counts: Float[numpy.ndarray, " bins"]) -> Float[numpy.ndarray, " bins"]:
    found = counts / counts.sum()
    return numpy.asarray((1 - _FLOOR) * found + _FLOOR / len(found))


def _twice(
    fine: Float[numpy.ndarray, " n"], reach: int, first: int, last: int
) -> Float[numpy.ndarray, " bins"]:
    """Quantise by `first`, smear by the rounding of pixels, quantise by `last`."""
    offsets, weights = _smear()
    multiples = numpy.rint(numpy.arange(-reach, reach + 1) / first).astype(int)
    mass = numpy.bincount(multiples - multiples[0], weights=fine)
    values = first * numpy.arange(multiples[0], multiples[-1] + 1)[:, None] + offsets
    return _binned(numpy.outer(mass, weights).ravel(), values.ravel(), last)


@cache
def _smear() -> tuple[Float[numpy.ndarray, " k"], Float[numpy.ndarray, " k"]]:
    offsets = numpy.linspace(-1.5, 1.5, 7)
    weights = numpy.exp(-0.5 * (offsets / _SMOOTH) ** 2)
    return offsets, weights / weights.sum()
