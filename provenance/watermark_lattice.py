"""A watermark of waves on a lattice of frequencies: plain numpy, no trained model.

The mark is a sum of 606 faint waves whose numbers of periods across the picture are whole numbers of a
quarter of its shorter side; the key gives each wave its phase. A hundred known waves (pilots) tell where
the lattice lies after resizing, cropping or turning; the others carry the bits by their sign. What the
lattice looks like is public and only the phases are secret, so this stops nobody who is set on removing
the mark: averaging many marked pictures, or lowering these frequencies, is enough.

Detection: a template in the Fourier magnitudes finds scale, angle and stretch (Pereira and Pun 2000,
https://doi.org/10.1109/83.846253); the phases of the pilots then give the shift.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy
from PIL import Image
from scipy import fft, ndimage

from assaymark.provenance import convolutional
from assaymark.provenance.watermark import (
    PAYLOAD_BITS,
    SEAL_BITS,
    Mark,
    Pixels,
    check_payload,
    derived,
    seal,
)
from assaymark.reports.errors import InputError

Array = numpy.ndarray[Any, Any]

ALGORITHM = "org.assaymark.lattice.1"  # not in the C2PA soft binding algorithm list
SHORTEST_SIDE = 128  # pixels
_PERIODS = 4  # of the lattice's coarsest wave, across the shorter side
_LOWEST, _HIGHEST = 4, 20  # waves: distance from the centre of the lattice
_PILOTS = 100
_WORKING_SIDE = 512  # pixels: larger pictures are made smaller first
_LONGEST = 3  # times the shorter side; what sticks out is not looked at
_CROPPED = 3.2  # the shorter side may have been cut to 1 / 3.2
_STEP = 0.005  # relative, of scale; a shift of half a line at the finest waves
_TURNS = numpy.deg2rad(numpy.arange(-5, 5.01, 0.35))
_SHIFTS = 128  # tried across one period, each way
_CANDIDATES = 12  # geometries whose phases are looked at
_ORIENTATIONS = 8  # quarter turns, and their mirror images
_BITS = PAYLOAD_BITS + SEAL_BITS
_CODED = convolutional.coded_length(_BITS)


def _lattice() -> Array:
    """Waves (rows, columns): half of a ring, as the other half mirrors it."""
    y, x = numpy.mgrid[-_HIGHEST : _HIGHEST + 1, -_HIGHEST : _HIGHEST + 1]
    square = y**2 + x**2
    upper = (y > 0) | ((y == 0) & (x > 0))
    ring = upper & (square >= _LOWEST**2) & (square <= _HIGHEST**2)
    return numpy.stack([y[ring], x[ring]])


_Y, _X = _lattice()
_RADIUS = numpy.hypot(_Y, _X)
_SIDE = 2 * _HIGHEST + 1


class _Secret(NamedTuple):
    pilots: Array
    carriers: Array
    phases: Array  # as complex numbers of length one


class _Geometry(NamedTuple):
    """How the lattice may lie: radians, and pixels of one period down and across."""

    turn: float
    down: float
    across: float


class _Spectrum(NamedTuple):
    """Of a whitened picture, about its centre."""

    values: Array  # bounded by one
    magnitudes: Array
    height: int
    width: int


@dataclass(frozen=True, kw_only=True)
class LatticeWatermark:
    """The built-in method.

    strength: amplitude, 1 changes pixels by 1 to 5 of 255 levels (about 41 dB); largest_p: a mark
    must be less likely than this by chance.
    """

    strength: float = 1.0
    largest_p: float = 1e-6
    algorithm: str = ALGORITHM

    def embed(self, pixels: Pixels, payload: int, key: bytes) -> Pixels:
        """See `Watermark`; the picture's shorter side must have 128 pixels."""
        check_payload(payload)
        height, width = pixels.shape[:2]
        if min(height, width) < SHORTEST_SIDE:
            raise InputError(
                f"a picture of {width} × {height} pixels: a watermark needs at least "
                f"{SHORTEST_SIDE} on the shorter side"
            )
        small = _grey(pixels)
        _, busy = _local(small)
        visible = numpy.minimum(1.2 + 0.075 * busy, 4.5) * self.strength
        change = _resized(_pattern(small.shape, _waves(payload, key)) * visible, width, height)
        levels = numpy.rint(change).astype(numpy.int16)
        marked = numpy.empty_like(pixels)
        for channel in range(3):  # one at a time: large pictures
            marked[..., channel] = numpy.clip(pixels[..., channel] + levels, 0, 255)
        return marked

    def detect(self, pixels: Pixels, key: bytes) -> Mark | None:
        """See `Watermark`.

        p_value is a bound over random keys for any picture. With phases drawn at random, the sum S of
        bounded pilots u exceeds s with probability at most exp(-s² / Σ|u|²), as each factor I0(x) of the
        moment generating function is at most exp(x² / 4); times the positions tried, times the
        chance 2**-32 that a wrong payload bears the right seal.
        """
        secret = _secret(key)
        if min(pixels.shape[:2]) < 32:
            return None
        spectrum = _spectrum(pixels)
        decoded, positions = 0, 0
        for geometries in (_upright(spectrum), _turned(spectrum)):
            best = _best(spectrum, geometries, secret)
            decoded, positions = decoded + 1, positions + _CANDIDATES * _ORIENTATIONS * _SHIFTS**2
            payload = _payload(best.aligned, secret, key)
            chance = min(1.0, positions * math.exp(-best.evidence))
            p = chance * decoded * 2.0**-SEAL_BITS
            if payload is not None and p <= self.largest_p:
                score = float(best.aligned[secret.pilots].mean())
                return Mark(payload=payload, score=min(1.0, max(0.0, score)), p_value=p)
        return None

    def pilot_p_value(self, pixels: Pixels, key: bytes) -> float:
        """The part of the p-value that the pilots give, without turning: for measuring it."""
        spectrum = _spectrum(pixels)
        best = _best(spectrum, _upright(spectrum), _secret(key))
        return min(1.0, _CANDIDATES * _ORIENTATIONS * _SHIFTS**2 * math.exp(-best.evidence))


@lru_cache(maxsize=8)
def _secret(key: bytes) -> _Secret:
    stream = hashlib.shake_256(derived(key, "phases")).digest(16 * len(_Y))
    words = numpy.frombuffer(stream, "<u8").reshape(2, -1)
    order = numpy.argsort(words[0], kind="stable")
    phases = numpy.exp(2j * numpy.pi * (words[1] / 2.0**64))
    return _Secret(order[:_PILOTS], order[_PILOTS:], phases)


def _waves(payload: int, key: bytes) -> Array:
    secret = _secret(key)
    word = payload << SEAL_BITS | seal(payload, key)
    bits = numpy.unpackbits(numpy.frombuffer(word.to_bytes(_BITS // 8), numpy.uint8))
    coded = convolutional.encode(bits)
    waves = secret.phases.copy()
    waves[secret.carriers] *= 1.0 - 2.0 * coded[numpy.arange(len(secret.carriers)) % _CODED]
    return waves


def _pattern(shape: tuple[int, ...], waves: Array) -> Array:
    """The sum of the waves about the centre of a picture, with a mean square of one."""
    period = min(shape) / _PERIODS
    square = numpy.zeros((_SIDE, _SIDE), numpy.complex64)
    square[_Y + _HIGHEST, _X + _HIGHEST] = waves
    k = numpy.arange(-_HIGHEST, _HIGHEST + 1)
    down, across = (
        numpy.exp(2j * numpy.pi / period * numpy.outer(numpy.arange(n) - (n - 1) / 2, k)).astype(
            numpy.complex64
        )
        for n in shape
    )
    return (down @ square @ across.T).real * math.sqrt(2 / len(waves))


def _grey(pixels: Pixels) -> Array:
    """Brightness at the working size, as floating point numbers of 0 to 255."""
    grey = Image.fromarray(pixels).convert("L").convert("F")
    scale = min(1.0, _WORKING_SIDE / min(grey.size))
    width, height = (max(1, round(side * scale)) for side in grey.size)
    return numpy.asarray(grey.resize((width, height), Image.Resampling.LANCZOS))


def _resized(values: Array, width: int, height: int) -> Array:
    picture = Image.fromarray(values.astype(numpy.float32))
    return numpy.asarray(picture.resize((width, height), Image.Resampling.LANCZOS))


def _local(grey: Array, share: int = _HIGHEST) -> tuple[Array, Array]:
    """Mean and standard deviation about each pixel, within a share of the lattice's period."""
    reach = max(2.0, min(grey.shape) / _PERIODS / share)
    mean = ndimage.gaussian_filter(grey, reach)
    variance = ndimage.gaussian_filter((grey - mean) ** 2, reach)
    return mean, numpy.sqrt(variance)


def _spectrum(pixels: Pixels) -> _Spectrum:
    height, width = pixels.shape[:2]
    far = _LONGEST * min(height, width)
    top, left = max(0, height - far) // 2, max(0, width - far) // 2
    grey = _grey(pixels[top : top + far, left : left + far])
    mean, busy = _local(grey)
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
    reach = [int(1.5 * n * _PERIODS / min(white.shape)) | 1 for n in size]
    around = ndimage.uniform_filter(power, reach) + 1e-9
    return _Spectrum(
        waves / numpy.sqrt(power + around),
        numpy.minimum(numpy.sqrt(power / around), 3),
        *white.shape,
    )


def _frequencies(at: _Geometry) -> tuple[Array, Array]:
    """Of every wave, in cycles per pixel."""
    c, s = math.cos(at.turn), math.sin(at.turn)
    return (c * _Y + s * _X) / at.down, (c * _X - s * _Y) / at.across


def _looked_up(values: Array, y: Array, x: Array) -> Array:
    height, width = values.shape
    places = [y * height + height // 2, x * width + width // 2]
    found = ndimage.map_coordinates(values, places, order=1, mode="constant")
    inside: Array = (abs(y) < 0.5) & (abs(x) < 0.5)
    return numpy.where(inside, found, 0)


def _scales() -> Array:
    scales: Array = numpy.exp(numpy.arange(0, math.log(_CROPPED), _STEP))
    return scales


def _upright(spectrum: _Spectrum) -> Iterator[_Geometry]:
    """Cropped with both sides to one scale, or not cropped and stretched along one side."""
    down, across = spectrum.height / _PERIODS, spectrum.width / _PERIODS
    for scale in _scales():
        cropped = min(down, across) * scale
        yield _Geometry(0.0, cropped, cropped)
        yield _Geometry(0.0, down, across / scale)
        yield _Geometry(0.0, down / scale, across)


def _turned(spectrum: _Spectrum) -> Iterator[_Geometry]:
    shorter = min(spectrum.height, spectrum.width) / _PERIODS
    for turn in _TURNS:
        for scale in _scales():
            yield _Geometry(turn, shorter * scale, shorter * scale)


class _Found(NamedTuple):
    evidence: float
    aligned: Array  # each wave against the key's phase, in [-1, 1]


def _best(spectrum: _Spectrum, geometries: Iterator[_Geometry], secret: _Secret) -> _Found:
    """The position whose pilots agree best, among the geometries with the strongest lattice."""
    tried = list(geometries)
    strength = numpy.concatenate(
        [_strengths(spectrum, tried[i : i + 256]) for i in range(0, len(tried), 256)]
    )
    found = _Found(-math.inf, numpy.zeros(len(_Y)))
    for i in numpy.argsort(-strength)[:_CANDIDATES]:
        y, x = _frequencies(tried[i])
        waves = _looked_up(spectrum.values.real, y, x) + 1j * _looked_up(spectrum.values.imag, y, x)
        for turned in _orientations(waves):
            found = max(found, _shifted(turned, secret), key=lambda item: item.evidence)
    return found


def _strengths(spectrum: _Spectrum, tried: list[_Geometry]) -> Array:
    y, x = (numpy.stack(part) for part in zip(*map(_frequencies, tried), strict=True))
    found = _looked_up(spectrum.magnitudes, y, x)
    within = numpy.count_nonzero(found, axis=1) + 1
    # 0.85 is about the mean magnitude of noise: more waves must not look like more strength
    strengths: Array = found.sum(1) / numpy.sqrt(within) - 0.85 * numpy.sqrt(within)
    return strengths


def _orientations(waves: Array) -> Iterator[Array]:
    square = numpy.zeros((_SIDE, _SIDE), complex)
    square[_HIGHEST + _Y, _HIGHEST + _X] = waves
    square[_HIGHEST - _Y, _HIGHEST - _X] = waves.conj()
    for mirrored in (square, square[:, ::-1]):
        for quarter in range(4):
            yield numpy.rot90(mirrored, quarter)[_HIGHEST + _Y, _HIGHEST + _X]


def _shifted(waves: Array, secret: _Secret) -> _Found:
    """The shift at which the pilots' phases agree best with the key's."""
    agree = waves * secret.phases.conj()
    pilots = secret.pilots
    square = numpy.zeros((_SHIFTS, _SHIFTS), complex)
    square[_Y[pilots], _X[pilots]] = agree[pilots]
    sums = fft.ifft2(square, norm="forward").real
    y, x = numpy.unravel_index(int(numpy.argmax(sums)), sums.shape)
    total = float((numpy.abs(agree[pilots]) ** 2).sum())
    evidence = max(0.0, float(sums[y, x])) ** 2 / total if total else 0.0
    ramp = numpy.exp(2j * numpy.pi / _SHIFTS * (_Y * y + _X * x))
    return _Found(evidence, (agree * ramp).real)


def _payload(aligned: Array, secret: _Secret, key: bytes) -> int | None:
    """The payload that the waves carry, if its seal is right."""
    carriers, pilots = secret.carriers, secret.pilots
    # what pilots of a like frequency kept tells how far a wave can be trusted
    near = numpy.exp(-0.5 * ((_RADIUS[carriers, None] - _RADIUS[pilots]) / 2) ** 2)
    kept = numpy.clip(near @ aligned[pilots] / near.sum(1), 0, 0.95)
    soft = aligned[carriers] * kept / (1 - kept**2)
    where = numpy.arange(len(carriers)) % _CODED
    bits = convolutional.decode(numpy.bincount(where, soft, _CODED))
    word = int.from_bytes(numpy.packbits(bits).tobytes())
    payload, tag = word >> SEAL_BITS, word & ((1 << SEAL_BITS) - 1)
    return payload if tag == seal(payload, key) else None
