"""The kinds of file that can carry Content Credentials, and how each is signed and read.

A kind is known by its first bytes; text and code, which have none, by the name's ending.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

HEAD = 4096  # bytes that are enough to know a kind


class Route(StrEnum):
    """How a manifest gets into a file and out of it."""

    JPEG = "jpeg"
    PNG = "png"
    RIFF = "riff"
    BMFF = "bmff"
    LIBRARY = "library"  # whatever c2pa embeds itself
    ZIP = "zip"  # Office, EPUB and OpenDocument packages
    TEXT = "text"  # C2PA 2.4, A.8: invisible characters at the end
    HTML = "html"  # A.7
    STRUCTURED = "structured"  # A.9: in a comment
    SIDECAR = "sidecar"  # a .c2pa file beside it


@dataclass(frozen=True, kw_only=True)
class Format:
    """One kind of file. media_type: what the engine is told; endings: the first is preferred."""

    name: str
    media_type: str
    endings: tuple[str, ...]
    route: Route
    found: Callable[[bytes], bool] = lambda head: False


def _starts(*magic: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(magic)


def _riff(kind: bytes) -> Callable[[bytes], bool]:
    return lambda head: head[:4] in (b"RIFF", b"RF64") and head[8:12] == kind


def _brand(*brands: bytes) -> Callable[[bytes], bool]:
    return lambda head: head[4:8] == b"ftyp" and head[8:12] in brands


def _format(
    name: str,
    media_type: str,
    endings: str,
    route: Route,
    found: Callable[[bytes], bool] = lambda head: False,
) -> Format:
    return Format(
        name=name, media_type=media_type, endings=tuple(endings.split()), route=route, found=found
    )


# The order decides: the first whose bytes fit is taken.
FORMATS: tuple[Format, ...] = (
    _format("JPEG", "image/jpeg", ".jpg .jpeg .jpe", Route.JPEG, _starts(b"\xff\xd8\xff")),
    _format("PNG", "image/png", ".png", Route.PNG, _starts(b"\x89PNG\r\n\x1a\n")),
    _format("WAV", "audio/wav", ".wav", Route.RIFF, _riff(b"WAVE")),
    _format("MP4", "video/mp4", ".mp4 .m4v", Route.BMFF, _brand(b"isom", b"mp42", b"mp41")),
)
SIDECAR = _format("file", "application/octet-stream", "", Route.SIDECAR)


def recognise(path: Path, head: bytes) -> Format | None:
    """The kind of a file by its first HEAD bytes, else by its ending; None where it can carry none."""
    return next((kind for kind in FORMATS if kind.found(head)), None)
