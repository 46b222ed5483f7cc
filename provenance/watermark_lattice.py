"""A watermark of waves on a lattice of frequencies: plain numpy, no trained model.

The mark is a sum of 606 faint waves whose numbers of periods across the picture are whole numbers of a
quarter of its shorter side; the key gives each wave its phase. A hundred known waves (pilots) tell where
the lattice lies after resizing, cropping or turning; the others carry the bits by their sign. What the
lattice looks like is public and only the phases are secret, so this stops nobody who is set on removing
the mark: averaging many marked pictures, or lowering these frequencies, is enough.

Detection: `lattice_search` finds scale, angle and stretch; the phases of the pilots then give the shift.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy
from PIL import Image
from scipy import fft

from assaymark.provenance import convolutional
from assaymark.provenance.lattice_search import (
    HIGHEST,
    PERIODS,
    RADIUS,
    SIDE,
    Geometry,
    Spectrum,
    X,
    Y,
    grey_of,
    local,
    spectrum_of,
    strongest,
    turned,
    upright,
)
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
_PILOTS = 100
_SHIFTS = 128  # tried across one period, each way
_CANDIDATES = 12  # geometries whose phases are looked at
_ORIENTATIONS = 8  # quarter turns, and their mirror images
_BITS = PAYLOAD_BITS + SEAL_BITS
_CODED = convolutional.coded_length(_BITS)


class _Secret(NamedTuple):
    pilots: Array
    carriers: Array
    phases: Array  # as complex numbers of length one


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
        small = grey_of(pixels)
        _, busy = local(small)
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
        spectrum = spectrum_of(pixels)
        decoded, positions = 0, 0
        for geometries in (upright(spectrum), turned(spectrum)):
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
        spectrum = spectrum_of(pixels)
        best = _best(spectrum, upright(spectrum), _secret(key))
        return min(1.0, _CANDIDATES * _ORIENTATIONS * _SHIFTS**2 * math.exp(-best.evidence))


@lru_cache(maxsize=8)
def _secret(key: bytes) -> _Secret:
    stream = hashlib.shake_256(derived(key, "phases")).digest(16 * len(Y))
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
    period = min(shape) / PERIODS
    square = numpy.zeros((SIDE, SIDE), numpy.complex64)
    square[Y + HIGHEST, X + HIGHEST] = waves
    k = numpy.arange(-HIGHEST, HIGHEST + 1)
    down, across = (
        numpy.exp(2j * numpy.pi / period * numpy.outer(numpy.arange(n) - (n - 1) / 2, k)).astype(
            numpy.complex64
        )
        for n in shape
    )
    return (down @ square @ across.T).real * math.sqrt(2 / len(waves))


def _resized(values: Array, width: int, height: int) -> Array:
    picture = Image.fromarray(values.astype(numpy.float32))
    return numpy.asarray(picture.resize((width, height), Image.Resampling.LANCZOS))


class _Found(NamedTuple):
    evidence: float
    aligned: Array  # each wave against the key's phase, in [-1, 1]


def _best(spectrum: Spectrum, geometries: Iterator[Geometry], secret: _Secret) -> _Found:
    """The position whose pilots agree best, among the geometries with the strongest lattice."""
    found = _Found(-math.inf, numpy.zeros(len(Y)))
    for waves in strongest(spectrum, geometries, _CANDIDATES):
        for oriented in _orientations(waves):
            found = max(found, _shifted(oriented, secret), key=lambda item: item.evidence)
    return found


def _orientations(waves: Array) -> Iterator[Array]:
    square = numpy.zeros((SIDE, SIDE), complex)
    square[HIGHEST + Y, HIGHEST + X] = waves
    square[HIGHEST - Y, HIGHEST - X] = waves.conj()
    for mirrored in (square, square[:, ::-1]):
        for quarter in range(4):
            yield numpy.rot90(mirrored, quarter)[HIGHEST + Y, HIGHEST + X]


def _shifted(waves: Array, secret: _Secret) -> _Found:
    """The shift at which the pilots' phases agree best with the key's."""
    agree = waves * secret.phases.conj()
    pilots = secret.pilots
    square = numpy.zeros((_SHIFTS, _SHIFTS), complex)
    square[Y[pilots], X[pilots]] = agree[pilots]
    sums = fft.ifft2(square, norm="forward").real
    y, x = numpy.unravel_index(int(numpy.argmax(sums)), sums.shape)
    total = float((numpy.abs(agree[pilots]) ** 2).sum())
    evidence = max(0.0, float(sums[y, x])) ** 2 / total if total else 0.0
    ramp = numpy.exp(2j * numpy.pi / _SHIFTS * (Y * y + X * x))
    return _Found(evidence, (agree * ramp).real)


def _payload(aligned: Array, secret: _Secret, key: bytes) -> int | None:
    """The payload that the waves carry, if its seal is right."""
    carriers, pilots = secret.carriers, secret.pilots
    # what pilots of a like frequency kept tells how far a wave can be trusted
    near = numpy.exp(-0.5 * ((RADIUS[carriers, None] - RADIUS[pilots]) / 2) ** 2)
    kept = numpy.clip(near @ aligned[pilots] / near.sum(1), 0, 0.95)
    soft = aligned[carriers] * kept / (1 - kept**2)
    where = numpy.arange(len(carriers)) % _CODED
    bits = convolutional.decode(numpy.bincount(where, soft, _CODED))
    word = int.from_bytes(numpy.packbits(bits).tobytes())
    payload, tag = word >> SEAL_BITS, word & ((1 << SEAL_BITS) - 1)
    return payload if tag == seal(payload, key) else None
