"""A file opened for detectors: decoded once, when the first of them asks, within stated limits.

Files are hostile: sizes are checked before anything is allocated, and every failure to decode is an
InputError whose sentence the result repeats. A name's ending is never believed.
"""

import io
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy
from jaxtyping import Float32, UInt8
from PIL import Image

from assaymark.provenance.evidence import Medium
from assaymark.provenance.formats import HEAD, Format, recognise
from assaymark.reports.errors import InputError

MAX_FILE = 512 * 2**20  # bytes of a picture
MAX_PIXELS = 100_000_000
_TILE = 1024  # pixels a side
_MEDIA = {"image": Medium.IMAGE, "audio": Medium.AUDIO, "video": Medium.VIDEO}
_NOT_PICTURES = ("SVG", "NEF", "ARW", "DNG")
_AUDIO_OR_VIDEO = {"Ogg": Medium.AUDIO, "Matroska": Medium.VIDEO}

Pixels = UInt8[numpy.ndarray, "height width 3"]
Samples = Float32[numpy.ndarray, " samples"]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """The first picture of a file, not turned upright: forensics needs the stored grid of blocks.

    pixels: RGB, 8 bits, transparency on white. mode, format, bits, frames: as stored. tables: the JPEG's
    quantisation tables, each 64 steps in natural (row by row) order, luminance first; empty for others.
    turn: EXIF's orientation, 1 to 8. notes: what was lost on the way to RGB (alpha, 16 bits, CMYK).
    """

    pixels: Pixels
    format: str
    mode: str
    bits: int
    frames: int
    tables: tuple[tuple[int, ...], ...] = ()
    subsampling: tuple[tuple[int, int], ...] = ()
    turn: int = 1
    notes: tuple[str, ...] = ()

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])


@dataclass(frozen=True, kw_only=True)
class Material:
    """One file and what it decodes to. options: what the user set for single detectors, by their names."""

    path: Path
    kind: Format | None
    medium: Medium | None
    options: Mapping[str, object] = field(default_factory=dict)

    @cached_property
    def picture(self) -> Picture:
        """Raises InputError for what cannot be decoded, or only at over 100 million pixels."""
        if isinstance(self._tried, str):
            raise InputError(self._tried)
        return self._tried

    @cached_property
    def _tried(self) -> Picture | str:
        """The picture, or why there is none: a large broken one is not decoded for every detector anew."""
        try:
            return read_picture(self.path)
        except (InputError, OSError) as error:
            return str(error)


def open_material(path: Path, options: Mapping[str, object] | None = None) -> Material:
    """Look at a file's first bytes; raises InputError where it cannot be read at all."""
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    kind = recognise(path, head)
    return Material(path=path, kind=kind, medium=_medium(kind), options=options or {})


def _medium(kind: Format | None) -> Medium | None:
    if kind is None or kind.name in _NOT_PICTURES:
        return None
    return _AUDIO_OR_VIDEO.get(kind.name) or _MEDIA.get(kind.media_type.partition("/")[0])


def read_picture(path: Path) -> Picture:
    """Decode a file's first picture; raises InputError with what stands in the way."""
    size = path.stat().st_size
    if size > MAX_FILE:
        raise InputError(f"{path} has {size:,} bytes: pictures of at most {MAX_FILE:,} are decoded")
    try:
        return picture_of(path.read_bytes())
    except InputError as error:
        raise InputError(f"{path} {error}") from error


def picture_of(data: bytes) -> Picture:
    """The same for bytes in memory; the sentence of the InputError lacks the name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data)) as opened:
                if opened.width * opened.height > MAX_PIXELS:
                    raise InputError(
                        f"has {opened.width} x {opened.height} pixels: at most {MAX_PIXELS:,} are decoded"
                    )
                return _decoded(opened)
        except InputError:
            raise
        except (OSError, SyntaxError, ValueError, EOFError, MemoryError, ArithmeticError) as error:
            said = str(error) or type(error).__name__  # a MemoryError has no words
            raise InputError(f"is no picture that can be decoded: {said}") from error
        except Exception as error:  # PIL's plugins raise struct.error, KeyError and their like
            raise InputError(
                f"is no picture that can be decoded: {type(error).__name__}"
            ) from error


def _decoded(opened: Image.Image) -> Picture:
    tables = getattr(opened, "quantization", None) or {}
    layers = getattr(opened, "layer", None) or ()
    frames = int(getattr(opened, "n_frames", 1))
    mode = opened.mode
    notes: list[str] = []
    turn = int(opened.getexif().get(0x0112, 1) or 1)
    pixels, bits = _rgb(opened, notes)
    if frames > 1:
        notes.append(f"only the first of {frames} frames was looked at")
    return Picture(
        pixels=pixels,
        format=opened.format or "",
        mode=mode,
        bits=bits,
        frames=frames,
        tables=tuple(tuple(int(step) for step in tables[key]) for key in sorted(tables)),
        subsampling=tuple((int(layer[1]), int(layer[2])) for layer in layers),
        turn=turn if 1 <= turn <= 8 else 1,
        notes=tuple(notes),
    )


def _rgb(opened: Image.Image, notes: list[str]) -> tuple[Pixels, int]:
    """RGB of 8 bits, and the bits that were stored."""
    opened.load()
    if opened.mode.startswith("I") or opened.mode == "F":
        notes.append(f"mode {opened.mode}: reduced to 8 bits of grey")
        return _grey(opened), 16
    if opened.has_transparency_data:
        notes.append("transparency was put on white")
        return _tiled(opened, _on_white), 8
    if opened.mode not in ("RGB", "L"):
        notes.append(f"mode {opened.mode} was converted to RGB")
    return numpy.asarray(opened.convert("RGB")), 8


def _grey(opened: Image.Image) -> Pixels:
    if opened.mode.startswith("I"):
        top = 65535.0
    else:
        finite = numpy.nan_to_num(numpy.asarray(opened), posinf=numpy.inf)
        top = max(float(finite.max()), 1.0)

    def grey(part: Image.Image) -> Pixels:
        levels = numpy.nan_to_num(numpy.asarray(part, dtype=numpy.float64)) / top * 255.0
        eight = numpy.clip(levels, 0, 255).astype(numpy.uint8)
        return numpy.repeat(eight[:, :, None], 3, axis=2)

    return _tiled(opened, grey)


def _on_white(part: Image.Image) -> Pixels:
    white = Image.new("RGBA", part.size, "white")
    return numpy.asarray(Image.alpha_composite(white, part.convert("RGBA")).convert("RGB"))


def _tiled(opened: Image.Image, convert: Callable[[Image.Image], Pixels]) -> Pixels:
    """A conversion tile by tile: of a large picture the steps between would take gigabytes."""
    pixels = numpy.empty((opened.height, opened.width, 3), numpy.uint8)
    for top in range(0, opened.height, _TILE):
        for left in range(0, opened.width, _TILE):
            low, right = min(top + _TILE, opened.height), min(left + _TILE, opened.width)
            pixels[top:low, left:right] = convert(opened.crop((left, top, right, low)))
    return pixels


def upright(picture: Picture) -> Pixels:
    """The pixels as a viewer shows them (EXIF's orientation applied)."""
    turned = Image.fromarray(picture.pixels)
    way = _TURNS.get(picture.turn)
    return picture.pixels if way is None else numpy.asarray(turned.transpose(way))


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
