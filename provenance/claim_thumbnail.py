"""A small picture of a work for its manifest; c2pa's own are up to 1024 pixels and half a megabyte."""

import io
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from assaymark.reports.errors import InputError

LIMIT = 16_384  # bytes
_QUALITIES = (80, 65, 50, 35, 20)
_SHRINK = 0.7


def thumbnail(source: Path, longest_edge: int, limit: int = LIMIT) -> bytes | None:
    """A JPEG of at most `limit` bytes and `longest_edge` pixels; None for a file that is no picture.

    Quality is lowered first, then size. A picture is never enlarged. Raises InputError for a
    picture that cannot be decoded.
    """
    try:
        with Image.open(source) as picture:
            picture.draft("RGB", (longest_edge, longest_edge))  # a JPEG is decoded small at once
            small = _flat(ImageOps.exif_transpose(picture))
    except UnidentifiedImageError:
        return None
    except Exception as error:  # decoders raise what they like
        raise InputError(f"{source} has no thumbnail: it cannot be decoded ({error})") from error
    edge = min(longest_edge, max(small.size))
    while True:
        small.thumbnail((edge, edge))
        for quality in _QUALITIES:
            data = _jpeg(small, quality)
            if len(data) <= limit:
                return data
        if edge == 1:
            raise InputError(f"no thumbnail of {source} fits into {limit} bytes")
        edge = max(1, int(edge * _SHRINK))


def _flat(picture: Image.Image) -> Image.Image:
    """The picture on white, as JPEG has no transparency."""
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layers = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers).convert("RGB")


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality, optimize=True)
    return stream.getvalue()
