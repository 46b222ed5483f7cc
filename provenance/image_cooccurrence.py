"""How often short runs of rounded residuals stand side by side: luma at two sizes, colour at half size.

The residuals are differences of first, second and third order; runs of three, each rounded and clipped to
-2 .. 2, are counted along rows and columns, and a run counts as its mirror image and its negative do
(Fridrich and Kodovsky, Rich Models for Steganalysis, 2012, section II; Cozzolino et al., 2014).
"""

from functools import cache
from itertools import product

import numpy
from jaxtyping import Float64, Int

from assaymark.provenance.image_planes import Plane, Planes, Vector, halved

CLIP = 2
RUN = 3
_VALUES = 2 * CLIP + 1


@cache
def classes() -> tuple[Int[numpy.ndarray, " runs"], int]:
    """Class of every run under mirror and sign, and how many classes there are."""
    seen: dict[tuple[int, ...], int] = {}
    table = []
    for run in product(range(-CLIP, CLIP + 1), repeat=RUN):
        negative = tuple(-value for value in run)
        first = min(run, run[::-1], negative, negative[::-1])
        table.append(seen.setdefault(first, len(seen)))
    return numpy.array(table), len(seen)


def runs(residual: Plane, step: float) -> Float64[numpy.ndarray, " classes"]:
    """Square roots of the shares of the classes, along rows and columns together."""
    level = (numpy.clip(numpy.rint(residual / step), -CLIP, CLIP) + CLIP).astype(numpy.int16)
    along = (level[:, :-2] * _VALUES + level[:, 1:-1]) * _VALUES + level[:, 2:]
    down = (level[:-2] * _VALUES + level[1:-1]) * _VALUES + level[2:]
    count = sum(numpy.bincount(code.ravel(), minlength=_VALUES**RUN) for code in (along, down))
    table, number = classes()
    share = numpy.bincount(table, count, number)
    return numpy.asarray(numpy.sqrt(share / max(share.sum(), 1)))


def residuals(plane: Plane) -> list[list[Plane]]:
    """Differences of first, second and third order, each along rows and columns; scaled to one size."""
    orders: list[list[Plane]] = [[], [], []]
    for axis in (0, 1):
        rest = plane
        for order, scale in enumerate((1.0, 2.0, 3.0)):
            rest = numpy.diff(rest, axis=axis)
            orders[order].append(rest / numpy.float32(scale))
    return orders


def cooccurrence(picture: Planes) -> Vector:
    """39 classes for each of three orders of luma, of half-size luma, and of both half-size colours."""
    small = halved(picture.luma)
    parts = [
        (picture.luma, 1.0),
        (small, max(float(numpy.abs(numpy.diff(small)).mean()), 0.3) * 0.8),
    ]
    parts += [(halved(plane), 0.7) for plane in (picture.blue, picture.red)]
    means = [
        (runs(along, step) + runs(down, step)) / 2
        for plane, step in parts
        for along, down in residuals(plane)
    ]
    return numpy.concatenate(means).astype(numpy.float32)
