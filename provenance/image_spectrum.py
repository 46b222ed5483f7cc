"""The power spectrum of luma and colour: its azimuthal mean, its axes, and how it varies over the picture.

Up-samplers of generators leave too much or too little power at high frequencies (Durall et al., Watch Your
Up-Convolution, CVPR 2020, section 3), and peaks on the axes (Frank et al., Leveraging Frequency Analysis,
ICML 2020, section 3). Means over windowed tiles (Welch, 1967) instead of one transform of the whole
picture: the same numbers come from every size, and edges at the border leave no cross.
All shapes are logarithms less their mean, so that a gain changes nothing.
"""

from functools import cache

import numpy
from jaxtyping import Complex64, Float32, Float64, Int
from scipy.fft import rfft2

from assaymark.provenance.image_planes import Plane, Planes, Vector

TILE = 64
RINGS = 46  # 0 to 45: half the diagonal of the spectrum of a tile
BANDS = 32  # rings up to the highest frequency of the axes
_FLOOR = 1e-2  # power of a flat tile; the noise of rounding to 8 bits is over 100 times that

Spectra = Complex64[numpy.ndarray, "tiles rows half"]


@cache
def _window() -> Float32[numpy.ndarray, "64 64"]:
    line = numpy.hanning(TILE + 1)[:TILE]
    return numpy.outer(line, line).astype(numpy.float32)


@cache
def _rings() -> tuple[Int[numpy.ndarray, " cells"], Float64[numpy.ndarray, " cells"]]:
    """Ring of every cell of a half spectrum, and how often the cell stands in the whole one."""
    rows = numpy.fft.fftfreq(TILE)[:, None] * TILE
    columns = numpy.arange(TILE // 2 + 1)[None, :]
    ring = numpy.rint(numpy.hypot(rows, columns)).astype(numpy.int64)
    times = numpy.where((columns == 0) | (columns == TILE // 2), 1.0, 2.0) * numpy.ones_like(rows)
    return numpy.minimum(ring, RINGS - 1).ravel(), times.ravel()


def tiles(plane: Plane, step: int = TILE // 2) -> Spectra:
    """Half spectra of the windowed tiles of 64 x 64 pixels, each less its mean."""
    views = numpy.lib.stride_tricks.sliding_window_view(plane, (TILE, TILE))[::step, ::step]
    cut = views.reshape(-1, TILE, TILE)
    spectra: Spectra = rfft2((cut - cut.mean((1, 2), keepdims=True)) * _window())
    return spectra


def azimuthal(power: Float32[numpy.ndarray, "rows half"]) -> Float64[numpy.ndarray, " rings"]:
    """Mean over every ring, from frequency 0 to 45 / 64 cycles a pixel."""
    ring, times = _rings()
    total = numpy.bincount(ring, power.ravel() * times, RINGS)
    return total / numpy.bincount(ring, times, RINGS)


def spectrum(picture: Planes) -> Vector:
    """Shape of the luma spectrum (45 rings), its axes (32), the colour spectra (44), and its spread (35)."""
    bright = numpy.abs(tiles(picture.luma)) ** 2
    parts = [*_luma(bright), *_spread(bright)]
    for plane in (picture.blue, picture.red):
        power = (numpy.abs(tiles(plane)) ** 2).mean(0) + _FLOOR
        ring = azimuthal(numpy.log(power))[1:45].reshape(22, 2).mean(1)
        parts.append(ring - ring[:16].mean())
    return numpy.concatenate(parts).astype(numpy.float32)


def _luma(power: Float32[numpy.ndarray, "tiles rows half"]) -> list[Float64[numpy.ndarray, " n"]]:
    log = numpy.log(power.mean(0) + _FLOOR)
    ring = azimuthal(log)[1:]
    return [
        ring - ring[:BANDS].mean(),
        log[0, 2:33:2] - ring[1:32:2],
        log[2:33:2, 0] - ring[1:32:2],
    ]


def _spread(power: Float32[numpy.ndarray, "tiles rows half"]) -> list[Float64[numpy.ndarray, " n"]]:
    """Shapes of the quiet, the middle and the busy third of the tiles, and how they differ."""
    each = numpy.log(power.reshape(len(power), -1) + _FLOOR) @ _bands()
    order = numpy.argsort(each.mean(1), kind="stable")
    thirds = [each[part].mean(0) for part in numpy.array_split(order, 3)]
    levels = numpy.array([third.mean() for third in thirds])
    shapes = [third - third.mean() for third in thirds]
    return [*shapes, each.std(0), numpy.diff(levels), numpy.ptp(each.mean(1), keepdims=True)]


@cache
def _bands() -> Float32[numpy.ndarray, "cells 8"]:
    """What takes the cells of a half spectrum to the means of eight bands of four rings."""
    ring, times = _rings()
    inside = (ring[:, None] - 1) // 4 == numpy.arange(8)
    inside[ring == 0, 0] = True
    share = inside * times[:, None]
    means: Float32[numpy.ndarray, "cells 8"] = (share / share.sum(0)).astype(numpy.float32)
    return means
