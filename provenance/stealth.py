"""Texts in the lowest bits of the pixels of PNG and WebP, as NovelAI and "stealth pnginfo" hide them.

The bits run down each column, from the left: a name of 15 letters, the length of the text in bits as 32
bits, and the text in UTF-8, packed by gzip where the name ends in "comp". They lie in the transparency
(stealth_png…) or in red, green and blue (stealth_rgb…). A picture that is saved with a loss has none.
"""

import io
import warnings
from pathlib import Path

import numpy
from jaxtyping import UInt8
from PIL import Image

from assaymark.provenance.layout import Malformed
from assaymark.provenance.statements import MAX_TEXT, Statement, inflated

Pixels = UInt8[numpy.ndarray, "height width channels"]

_MAX_FILE = 512 << 20
_MAX_PIXELS = 50_000_000
_NAME = 15  # letters
_NAMES = {
    "alpha": (b"stealth_pnginfo", b"stealth_pngcomp"),
    "rgb": (b"stealth_rgbinfo", b"stealth_rgbcomp"),
}


def stealth_statements(path: Path) -> tuple[Statement, ...]:
    """The hidden texts as `stealth:alpha` and `stealth:rgb`; none for what cannot be decoded."""
    if path.stat().st_size > _MAX_FILE:
        return ()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(path.read_bytes())) as opened:
                if opened.mode not in ("RGB", "RGBA") or opened.width * opened.height > _MAX_PIXELS:
                    return ()
                pixels = numpy.asarray(opened)
        except Exception:  # whatever a plugin of PIL raises: this picture has no readable pixels
            return ()
    return stealth_texts(pixels)


def stealth_texts(pixels: Pixels) -> tuple[Statement, ...]:
    """The hidden texts of pixels of 8 bits, RGB or RGBA."""
    found = []
    for place, names in _NAMES.items():
        channels = pixels[:, :, 3:4] if place == "alpha" else pixels[:, :, :3]
        text = _text(channels, names) if channels.shape[2] else None
        if text:
            found.append(Statement(place=f"stealth:{place}", text=text))
    return tuple(found)


def _text(channels: Pixels, names: tuple[bytes, bytes]) -> str | None:
    name = _bytes(channels, 0, _NAME)
    if name not in names:
        return None
    length = int.from_bytes(_bytes(channels, _NAME, 4)) // 8
    if length > MAX_TEXT or 8 * (_NAME + 4 + length) > channels.size:
        return None
    data = _bytes(channels, _NAME + 4, length)
    try:
        plain = inflated(data, "the hidden text", 31) if name == names[1] else data
        return plain.decode()
    except (Malformed, UnicodeDecodeError):
        return None


def _bytes(channels: Pixels, start: int, count: int) -> bytes:
    """`count` bytes from byte `start` on of the lowest bits, column by column."""
    height, _, depth = channels.shape
    first, last = 8 * start // (height * depth), -(-8 * (start + count) // (height * depth))
    columns = channels[:, first:last].transpose(1, 0, 2).reshape(-1) & 1
    skip = 8 * start - first * height * depth
    return numpy.packbits(columns[skip : skip + 8 * count]).tobytes()
