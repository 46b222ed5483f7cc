"""A perceptual fingerprint: the 256-bit ISCC Image-Code of ISO 24138:2024, `io.iscc.v0` for C2PA.

Pictures that look alike have fingerprints that differ in few of 256 bits. The fingerprint is public
and carries no secret: anybody can make a picture whose fingerprint is near that of another one, so a
near match is a lead to a manifest and never a proof.
"""

import base64
import math
from functools import cache

import numpy
from jaxtyping import UInt8
from PIL import Image
from scipy.fft import dctn

from assaymark.reports.errors import InputError

Pixels = UInt8[numpy.ndarray, "height width 3"]

ALGORITHM = "io.iscc.v0"  # the name in the C2PA soft binding algorithm list
BITS = 256
_SIDE = 32
_HEADER = bytes((0x21, 0x07))  # Content, Image, version 0, 8 times 32 bits (ISO 24138, ISCC header)
_FLAT = 3.0  # standard deviation of grey levels below which a picture shows nothing to tell it by

# Of unrelated pictures, at most 10 ** (_SLOPE * (d - _ZERO)) of all pairs differ in d or fewer of 256
# bits: a line above what tests/bench/soft_bindings.py measures on 500 photographs and generated pictures.
# Pairs of near duplicates, of which every collection has some, come on top: CIFAR-10 has 24 in 7e7 pairs.
_SLOPE, _ZERO = 0.125, 90.0
_FARTHEST = 60


def fingerprint(pixels: Pixels) -> bytes | None:
    """The 32 bytes of a picture's Image-Code, or None for one too flat to be told by its looks.

    pixels: upright (EXIF orientation applied), transparency laid on white, 8 bits a channel.
    A border of one colour is cut off first, as ISO 24138's reference implementation does.
    """
    picture = _trimmed(Image.fromarray(pixels)).convert("L")
    grey = numpy.asarray(picture.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC))
    return image_code(grey) if grey.std() >= _FLAT else None


def image_code(grey: UInt8[numpy.ndarray, "32 32"]) -> bytes:
    """Signs of four 8 × 8 squares of low DCT coefficients against their medians (ISO 24138)."""
    # rounded, or noise of the transform would set bits where a coefficient is truly zero
    waves = numpy.round(dctn(grey.astype(float), type=2), 6)
    squares = [waves[y : y + 8, x : x + 8].ravel() for y, x in ((0, 0), (0, 8), (8, 0), (8, 8))]
    return b"".join(numpy.packbits(square > numpy.median(square)).tobytes() for square in squares)


def distance(a: bytes, b: bytes) -> int:
    """In how many bits two fingerprints differ, 0 to 256.

    >>> distance(bytes(32), bytes(31) + bytes([3]))
    2
    """
    return (int.from_bytes(a) ^ int.from_bytes(b)).bit_count()


@cache
def largest_distance(size: int, false_match: float = 1e-3) -> int:
    """How far apart two fingerprints may be and still count as a match.

    size: fingerprints in the store; the more there are, the nearer a match must be. false_match: the
    probability that an unrelated picture matches any of them. At most 60 bits.
    """
    if not 0 < false_match < 1:
        raise InputError(f"false_match is {false_match}: expected a probability between 0 and 1")
    return max(
        0, min(_FARTHEST, math.floor(_ZERO + math.log10(false_match / max(size, 1)) / _SLOPE))
    )


def to_iscc(digest: bytes) -> str:
    """The code as ISO 24138 writes it.

    >>> to_iscc(bytes(32))[:12]
    'ISCC:EEDQAAA'
    """
    text = base64.b32encode(to_unit(digest)).decode().rstrip("=")
    return f"ISCC:{text}"


def to_unit(digest: bytes) -> bytes:
    """Header and body: what a C2PA soft binding of `io.iscc.v0` holds (ISCC IEP-0020)."""
    if len(digest) * 8 != BITS:
        raise InputError(f"a fingerprint of {len(digest) * 8} bits: expected {BITS}")
    return _HEADER + digest


def from_unit(unit: bytes) -> bytes | None:
    """The digest in an ISCC unit; None where it is no 256-bit Image-Code of version 0."""
    body = unit.removeprefix(_HEADER)
    return body if len(unit) == BITS // 8 + 2 and len(body) * 8 == BITS else None


def _trimmed(picture: Image.Image) -> Image.Image:
    """Without a border of the top left pixel's colour."""
    from PIL import ImageChops

    border = Image.new(picture.mode, picture.size, picture.getpixel((0, 0)) or 0)
    apart = ImageChops.difference(picture, border)
    box = ImageChops.add(apart, apart).getbbox()
    return picture.crop(box) if box else picture
