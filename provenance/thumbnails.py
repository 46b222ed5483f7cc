"""Pictures inside a manifest store, decoded and encoded anew so that no hostile byte goes on."""

import base64
import io
import warnings
from collections.abc import Iterator

from PIL import Image

from assaymark.provenance import jumbf
from assaymark.reports.errors import InputError
from assaymark.reports.model import Picture

SIDE = 256  # pixels, the longest edge of what is shown
_MAX_PICTURES = 64
_MAX_BYTES = 4 << 20
_MAX_PIXELS = 16_000_000
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF")


def thumbnails(store: bytes) -> dict[str, Picture]:
    """Pictures by "manifest label, space, assertion label"; what cannot be decoded is left out."""
    try:
        root = jumbf.parse(store) if store else None
    except InputError:
        return {}
    found: dict[str, Picture] = {}
    for manifest in jumbf.superboxes(root) if root else ():
        for label, data in _embedded(store, manifest):
            picture = small(data) if len(found) < _MAX_PICTURES else None
            if picture is not None:
                found[f"{manifest.label} {label}"] = picture
    return found


def _embedded(store: bytes, manifest: jumbf.Box) -> Iterator[tuple[str, bytes]]:
    """Embedded files (ISO 19566-5, B.6) that are called thumbnails, or stand among the data boxes."""
    for box in manifest.walk():
        if box.is_superbox and (box.label.startswith("c2pa.thumbnail") or box.kind == "c2db"):
            for child in box.children:
                if child.kind == "bidb" and child.end - child.content_start <= _MAX_BYTES:
                    yield box.label, store[child.content_start : child.end]


def small(data: bytes) -> Picture | None:
    """A picture of at most SIDE pixels as a fresh JPEG; None for what is none, or too large."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Image.open(io.BytesIO(data), formats=_FORMATS) as picture:
                if picture.width * picture.height > _MAX_PIXELS:
                    return None
                picture.draft("RGB", (SIDE, SIDE))
                copy = picture.convert("RGB")
        copy.thumbnail((SIDE, SIDE))
        stream = io.BytesIO()
        copy.save(stream, "JPEG", quality=80)
    except Exception:  # decoders raise what they like
        return None
    return Picture(
        media_type="image/jpeg",
        data=base64.b64encode(stream.getvalue()).decode(),
        width=copy.width,
        height=copy.height,
    )
