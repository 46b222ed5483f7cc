"""Where a lattice of waves lies in a picture: its scale, stretch and small turns, without any key.

A template in the Fourier magnitudes (Pereira and Pun 2000, https://doi.org/10.1109/83.846253).
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy
from PIL import Image
from scipy import fft, ndimage

from assaymark.provenance.watermark import Pixels

Array = numpy.ndarray[Any, Any]

PERIODS = 4  # of the lattice's coarsest wave, across the shorter side
_LOWEST, HIGHEST = 4, 20  # waves: distance from the centre of the lattice
_WORKING_SIDE = 512  # pixels: larger pictures are made smaller first
_LONGEST = 3  # times the shorter side; what sticks out is not looked at
_CROPPED = 3.2  # the shorter side may have been cut to 1 / 3.2
_STEP = 0.005  # relative, of scale; a shift of half a line at the finest waves
_TURNS = numpy.deg2rad(numpy.arange(-5, 5.01, 0.35))


def _lattice() -> Array:
    """Waves (rows, columns): half of a ring, as the other half mirrors it."""
    y, x = numpy.mgrid[-HIGHEST : HIGHEST + 1, -HIGHEST : HIGHEST + 1]
    square = y**2 + x**2
    upper = (y > 0) | ((y == 0) & (x > 0))
    ring = upper & (square >= _LOWEST**2) & (square <= HIGHEST**2)
    return numpy.stack([y[ring], x[ring]])


Y, X = _lattice()
RADIUS = numpy.hypot(Y, X)
SIDE = 2 * HIGHEST + 1


class Geometry(NamedTuple):
    """How the lattice may lie: radians, and pixels of one period down and across."""

    turn: float
    down: float
    across: float


class Spectrum(NamedTuple):
    """Of a whitened picture, about its centre."""

    values: Array  # bounded by one
    magnitudes: Array
    height: int
    width: int


def grey_of(pixels: Pixels) -> Array:
    """Brightness at the working size, as floating point numbers of 0 to 255."""
    grey = Image.fromarray(pixels).convert("L").convert("F")
    scale = min(1.0, _WORKING_SIDE / min(grey.size))
    width, height = (max(1, round(side * scale)) for side in grey.size)
    return numpy.asarray(grey.resize((width, height), Image.Resampling.LANCZOS))


def local(grey: Array, share: int = HIGHEST) -> tuple[Array, Array]:
    """Mean and standard deviation about each pixel, within a share of the lattice's period."""
    reach = max(2.0, min(grey.shape) / PERIODS / share)
    mean = ndimage.gaussian_filter(grey, reach)
    variance = ndimage.gaussian_filter((grey - mean) ** 2, reach)
    return mean, numpy.sqrt(variance)


def spectrum_of(pixels: Pixels) -> Spectrum:
    height, width = pixels.shape[:2]
    far = _LONGEST * min(height, width)
    top, left = max(0, height - far) // 2, max(0, width - far) // 2
    grey = grey_of(pixels[top : top + far, left : left + far])
    mean, busy = local(grey)
    white = (grey - mean) / (busy + 2)  # what was marked more strongly is also noisier
    for axis, n in enumerate(white.shape):
        window = numpy.sqrt(numpy.hanning(n + 2)[1:-1])
        white = white * numpy.expand_dims(window, 1 - axis)
    size = [fft.next_fast_len(2 * n, real=False) for n in white.shape]
    waves = fft.fft2(white.astype(numpy.complex64), s=size)
    for axis, n in enumerate(
        white.shape
    ):  # phases about the centre vary slowly: can be interpolated
        ramp = numpy.exp(1j * numpy.pi * fft.fftfreq(size[axis]) * (n - 1)).astype(numpy.complex64)
        waves = waves * numpy.expand_dims(ramp, 1 - axis)
    waves = fft.fftshift(waves)
    power = numpy.abs(waves) ** 2
    reach = [int(1.5 * n * PERIODS / min(white.shape)) | 1 for n in size]
    around = ndimage.uniform_filter(power, reach) + 1e-9
    return Spectrum(
        waves / numpy.sqrt(power + around),
        numpy.minimum(numpy.sqrt(power / around), 3),
        *white.shape,
    )


def _frequencies(at: Geometry) -> tuple[Array, Array]:
    """Of every wave, in cycles per pixel."""
    c, s = math.cos(at.turn), math.sin(at.turn)
    return (c * Y + s * X) / at.down, (c * X - s * Y) / at.across


def _looked_up(values: Array, y: Array, x: Array) -> Array:
    height, width = values.shape
    places = [y * height + height // 2, x * width + width // 2]
    found = ndimage.map_coordinates(values, places, order=1, mode="constant")
    inside: Array = (abs(y) < 0.5) & (abs(x) < 0.5)
    return numpy.where(inside, found, 0)


def _scales() -> Array:
    scales: Array = numpy.exp(numpy.arange(0, math.log(_CROPPED), _STEP))
    return scales


def upright(spectrum: Spectrum) -> Iterator[Geometry]:
    """Cropped with both sides to one scale, or not cropped and stretched along one side."""
    down, across = spectrum.height / PERIODS, spectrum.width / PERIODS
    for scale in _scales():
        cropped = min(down, across) * scale
        yield Geometry(0.0, cropped, cropped)
        yield Geometry(0.0, down, across / scale)
        yield Geometry(0.0, down / scale, across)


def turned(spectrum: Spectrum) -> Iterator[Geometry]:
    shorter = min(spectrum.height, spectrum.width) / PERIODS
    for turn in _TURNS:
        for scale in _scales():
            yield Geometry(turn, shorter * scale, shorter * scale)


def strongest(spectrum: Spectrum, geometries: Iterable[Geometry], most: int) -> Iterator[Array]:
    """The waves' values at the geometries with the strongest lattice."""
    tried = list(geometries)
    strength = numpy.concatenate(
        [_strengths(spectrum, tried[i : i + 256]) for i in range(0, len(tried), 256)]
    )
    for i in numpy.argsort(-strength)[:most]:
        y, x = _frequencies(tried[i])
        real, imaginary = spectrum.values.real, spectrum.values.imag
        yield _looked_up(real, y, x) + 1j * _looked_up(imaginary, y, x)


def _strengths(spectrum: Spectrum, tried: list[Geometry]) -> Array:
    y, x = (numpy.stack(part) for part in zip(*map(_frequencies, tried), strict=True))
    found = _looked_up(spectrum.magnitudes, y, x)
    within = numpy.count_nonzero(found, axis=1) + 1
    # 0.85 is about the mean magnitude of noise: more waves must not look like more strength
    strengths: Array = found.sum(1) / numpy.sqrt(within) - 0.85 * numpy.sqrt(within)
    return strengths
