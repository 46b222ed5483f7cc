"""Pictures in and out of files for watermarks and fingerprints: hostile input, nothing lost.

JPEG, PNG, WebP, TIFF and AVIF keep their format, colour profile, EXIF (with the orientation), XMP and
transparency; a JPEG keeps its quantisation and subsampling. Content Credentials do not survive, as they
describe the unmarked pixels: mark first, then sign, with the unmarked file as the parent.
"""

import io
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy
from PIL import Image, ImageOps, JpegImagePlugin, PngImagePlugin

from assaymark.provenance.watermark import Mark, Pixels, Watermark
from assaymark.provenance.watermark_lattice import LatticeWatermark
from assaymark.reports.errors import InputError
from assaymark.reports.files import write_atomically

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")
MAX_FILE = 512 * 2**20  # bytes
MAX_PIXELS = 100_000_000
_HEAD = 1 << 16
_QUALITY = 92  # of WebP and AVIF, whose files do not tell what they were made with
_MODES = ("RGB", "RGBA", "L", "LA", "P", "PA")
_STRONGER = tuple(LatticeWatermark(strength=strength) for strength in (1.0, 1.5, 2.2))
_Result = TypeVar("_Result")
_LOSSLESS_TIFF = ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd", "lzma")


def read_pixels(path: Path) -> Pixels:
    """The first picture of a file as RGB of 8 bits: upright, and transparency on white.

    Raises InputError for what is no picture, of over 100 million pixels, or cannot be decoded.
    """
    with _opened(path) as (picture, _):
        upright = ImageOps.exif_transpose(picture)
        if upright.mode.startswith("I;16") or upright.mode == "I":  # 16 bits: the upper half
            levels = numpy.asarray(upright).astype(numpy.int64) >> 8
            upright = Image.fromarray(numpy.clip(levels, 0, 255).astype(numpy.uint8))
        if upright.has_transparency_data:
            white = Image.new("RGBA", upright.size, "white")
            upright = Image.alpha_composite(white, upright.convert("RGBA"))
        return numpy.asarray(upright.convert("RGB"))


def detect_file(path: Path, key: bytes, *, watermark: Watermark | None = None) -> Mark | None:
    """The mark in a file; raises InputError as `read_pixels` does."""
    return (watermark or LatticeWatermark()).detect(read_pixels(path), key)


def mark_file(
    source: Path,
    target: Path,
    payload: int,
    key: bytes,
    *,
    watermark: Watermark | None = None,
    replace: bool = False,
) -> Mark:
    """Write a marked copy of `source`, read back before it gets its name; gives what was read back.

    watermark: the built-in one unless given, and stronger where the file's compression loses it.

    Raises InputError, and then there is no target (or the old one): for animations, more than 8 bits a
    channel, one bit a pixel, colours other than RGB and grey, and pictures in which the mark does not hold.
    """
    _check_target(source, target, replace)
    with _opened(source) as (picture, head):
        _check_markable(picture, head, source)
        for method in (watermark,) if watermark else _STRONGER:
            data = _encoded(picture, head, _marked(picture, payload, key, method))
            with _decoded(data, source) as copy:
                found = method.detect(numpy.asarray(copy.convert("RGB")), key)
            if found is not None and found.payload == payload:
                write_atomically(target, data)
                return found
    raise InputError(
        f"the watermark cannot be read back from {source}: the picture is too small or too strongly "
        "compressed to carry it, or lacks room between black and white; nothing was written"
    )


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Image.Image, bytes]]:
    try:
        if path.stat().st_size > MAX_FILE:
            raise InputError(f"{path} has more than {MAX_FILE} bytes: too large for a picture")
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    with _decoded(data, path) as picture:
        yield picture, data[:_HEAD]


@contextmanager
def _decoded(data: bytes, path: Path) -> Iterator[Image.Image]:
    """An opened and loaded picture; its size is looked at before anything is unpacked."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # decoders warn of what they repair
        picture = _guarded(lambda: Image.open(io.BytesIO(data), formats=FORMATS), path)
        with picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise InputError(
                    f"{path} has {width} × {height} pixels: at most {MAX_PIXELS} are unpacked"
                )
            _guarded(picture.load, path)
            yield picture


def _guarded(act: Callable[[], _Result], path: Path) -> _Result:
    try:
        return act()
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: at most {MAX_PIXELS} pixels are unpacked ({error})") from error
    except Exception as error:  # decoders raise what they like
        raise InputError(
            f"{path} cannot be decoded as JPEG, PNG, WebP, TIFF or AVIF: {_why(error)}"
        ) from error


def _why(error: Exception) -> str:
    """What a decoder says; Pillow names the memory that it read, which nobody knows."""
    text = str(error)[:200]
    return "it is none of them" if "BytesIO" in text else text


def _check_target(source: Path, target: Path, replace: bool) -> None:
    if not os.path.lexists(target):
        return
    if target.exists() and source.exists() and target.samefile(source):
        raise InputError(f"{target} is the source itself, which is never changed: name another")
    if not replace:
        raise InputError(f"{target} exists already: name another file, or say that it be replaced")


def _check_markable(picture: Image.Image, head: bytes, path: Path) -> None:
    refused = ""
    if getattr(picture, "n_frames", 1) > 1:
        refused = "has more than one picture: animations and pages are not marked"
    elif _depth(picture, head) > 8 or picture.mode.startswith(("I", "F")):
        refused = "has more than 8 bits a channel: convert it to 8 bits first"
    elif picture.mode not in _MODES:
        refused = f"has the colours {picture.mode}: expected RGB or grey levels"
    if refused:
        raise InputError(f"{path} {refused}")


def _depth(picture: Image.Image, head: bytes) -> int:
    """Bits a channel in the file; Pillow may have cut them to 8."""
    if picture.format == "TIFF":
        return int(max(picture.tag_v2.get(258, (8,))))  # type: ignore[attr-defined]
    if picture.format == "PNG":
        return head[24]
    at = head.find(b"av1C")
    if picture.format == "AVIF" and at >= 0 and len(head) > at + 6:
        return 10 if head[at + 6] & 0x40 else 8  # high_bitdepth (AV1 in ISOBMFF, section 2.3.3)
    return 8


def _marked(picture: Image.Image, payload: int, key: bytes, method: Watermark) -> Image.Image:
    """The pixels as the file holds them: detection finds its way whatever the orientation."""
    clear = picture.has_transparency_data
    grey = picture.mode in ("L", "LA")
    full = picture.convert("RGBA" if clear else "RGB")
    pixels = numpy.asarray(full.convert("RGB"))
    marked = Image.fromarray(method.embed(pixels, payload, key))
    if grey:
        marked = marked.convert("L")
    if clear:
        marked.putalpha(full.getchannel("A"))
    return marked


def _encoded(picture: Image.Image, head: bytes, marked: Image.Image) -> bytes:
    kind = str(picture.format)
    options = {
        name: picture.info[name]
        for name in ("icc_profile", "exif", "xmp", "dpi")
        if picture.info.get(name)
    }
    if kind == "TIFF":
        options["exif"] = _descriptive(picture.getexif())
    output = io.BytesIO()
    marked.save(output, kind, **options, **_OPTIONS[kind](picture, head))
    return output.getvalue()


_TIFF_KEPT = (270, 271, 272, 274, 282, 283, 296, 305, 306, 315, 33432)
"""TIFF tags that do not describe how the pixels are stored: description, maker, orientation …"""


def _descriptive(exif: Image.Exif) -> Image.Exif:
    kept = Image.Exif()
    for tag in _TIFF_KEPT:
        if tag in exif:
            kept[tag] = exif[tag]
    return kept


def _jpeg(picture: Image.Image, head: bytes) -> dict[str, Any]:
    tables = picture.quantization  # type: ignore[attr-defined]
    found: dict[str, Any] = {
        "qtables": tables,
        "progressive": bool(picture.info.get("progressive")),
        "optimize": True,
    }
    sampling = JpegImagePlugin.get_sampling(picture)
    return found | ({"subsampling": sampling} if sampling >= 0 else {})


def _png(picture: Image.Image, head: bytes) -> dict[str, Any]:
    texts = PngImagePlugin.PngInfo()
    for name, value in getattr(picture, "text", {}).items():
        texts.add_itxt(name, value)
    return {"pnginfo": texts}


def _webp(picture: Image.Image, head: bytes) -> dict[str, Any]:
    lossless = b"VP8L" in _chunks(head)
    return {"lossless": lossless, "quality": 80 if lossless else _QUALITY, "exact": True}


def _chunks(head: bytes) -> list[bytes]:
    """Names of the chunks of a RIFF file's beginning."""
    names, at = [], 12
    while at + 8 <= len(head):
        names.append(head[at : at + 4])
        at += 8 + (int.from_bytes(head[at + 4 : at + 8], "little") + 1 & ~1)
    return names


def _tiff(picture: Image.Image, head: bytes) -> dict[str, Any]:
    kept = picture.info.get("compression")
    return {"compression": kept if kept in _LOSSLESS_TIFF else "tiff_adobe_deflate"}


def _avif(picture: Image.Image, head: bytes) -> dict[str, Any]:
    return {"quality": _QUALITY}


_OPTIONS: dict[str, Callable[[Image.Image, bytes], dict[str, Any]]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "WEBP": _webp,
    "TIFF": _tiff,
    "AVIF": _avif,
}
