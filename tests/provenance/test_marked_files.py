"""Marking files: what a format holds is kept, and what cannot be kept is refused."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
from PIL import Image, ImageCms
from sklearn.datasets import load_sample_image

from assaymark.provenance.marked_files import detect_file, mark_file, read_pixels
from assaymark.provenance.watermark_lattice import LatticeWatermark
from assaymark.reports.errors import InputError

KEY = b"a key of 32 bytes for tests only"
PAYLOAD = 7
PHOTOGRAPH = Image.fromarray(load_sample_image("china.jpg")).crop((150, 60, 450, 300))
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"></x:xmpmeta>'


def clear(mode: str) -> Image.Image:
    picture = PHOTOGRAPH.convert(mode)
    picture.putalpha(Image.linear_gradient("L").resize(PHOTOGRAPH.size))
    return picture


def exif(orientation: int) -> Image.Exif:
    made = Image.Exif()
    made[0x0112], made[0x013B] = orientation, "A. Maker"
    return made


FILES: dict[str, tuple[Image.Image, dict[str, Any]]] = {
    "a.jpg": (PHOTOGRAPH, {"quality": 87, "subsampling": 0, "progressive": True, "xmp": XMP}),
    "grey.jpg": (PHOTOGRAPH.convert("L"), {"quality": 90}),
    "a.png": (PHOTOGRAPH, {}),
    "clear.png": (clear("RGB"), {}),
    "greyclear.png": (clear("L"), {}),
    "palette.png": (PHOTOGRAPH.quantize(64), {}),
    "a.webp": (PHOTOGRAPH, {"quality": 80, "xmp": XMP}),
    "clear.webp": (clear("RGB"), {"lossless": True}),
    "a.tiff": (PHOTOGRAPH, {"compression": "tiff_lzw"}),
    "a.avif": (PHOTOGRAPH, {"speed": 10}),
}


@pytest.mark.parametrize("name", FILES)
def test_a_marked_file_keeps_what_it_held(name: str, tmp_path: Path) -> None:
    picture, options = FILES[name]
    source, target = tmp_path / name, tmp_path / "marked" / name
    picture.save(source, icc_profile=PROFILE, exif=exif(6), **options)
    before = source.read_bytes()
    written = mark_file(source, target, PAYLOAD, KEY)
    found = detect_file(target, KEY)
    assert found is not None
    assert found.payload == written.payload == PAYLOAD
    assert source.read_bytes() == before
    with Image.open(source) as old, Image.open(target) as new:
        assert new.format == old.format
        assert new.info["icc_profile"] == PROFILE
        assert new.getexif()[0x013B] == "A. Maker"
        assert new.info.get("xmp") == old.info.get("xmp")
        assert new.info.get("progressive") == old.info.get("progressive")
        assert getattr(new, "quantization", None) == getattr(old, "quantization", None)
        if "A" in old.getbands():
            assert new.getchannel("A").tobytes() == old.getchannel("A").tobytes()
        if old.mode in ("L", "LA"):
            assert new.mode == old.mode
    # upright, both look alike: the orientation was neither lost nor applied twice
    upright = read_pixels(source).astype(int), read_pixels(target).astype(int)
    assert upright[0].shape == upright[1].shape
    assert abs(upright[0] - upright[1]).mean() < 8


def test_text_of_a_png_is_kept(tmp_path: Path) -> None:
    from PIL.PngImagePlugin import PngInfo

    texts = PngInfo()
    texts.add_text("Title", "A flower")
    texts.add_itxt("parameters", "Blüte")
    PHOTOGRAPH.save(tmp_path / "a.png", pnginfo=texts)
    mark_file(tmp_path / "a.png", tmp_path / "b.png", PAYLOAD, KEY)
    with Image.open(tmp_path / "b.png") as copy:
        assert copy.text == {"Title": "A flower", "parameters": "Blüte"}  # type: ignore[attr-defined]


def saved(name: str, picture: Image.Image, **options: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        picture.save(folder / name, **options)
        return folder / name

    return make


def written(name: str, data: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return make


def png(width: int, height: int, depth: int, rows: bytes = b"") -> bytes:
    """A PNG as its header says; without rows, its pixels do not come."""
    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def jpeg_half() -> bytes:
    stream = io.BytesIO()
    PHOTOGRAPH.save(stream, "JPEG")
    return stream.getvalue()[: len(stream.getvalue()) // 2]


TWO = [PHOTOGRAPH.resize((140, 140)), PHOTOGRAPH.rotate(9).resize((140, 140))]
DEEP = Image.fromarray(numpy.arange(200 * 200, dtype=numpy.uint16).reshape(200, 200))
REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "animated webp": (
        saved("a.webp", TWO[0], save_all=True, append_images=TWO[1:]),
        "more than one picture",
    ),
    "pages": (saved("a.tiff", TWO[0], save_all=True, append_images=TWO[1:]), "more than one"),
    "16-bit grey": (saved("a.png", DEEP), "more than 8 bits a channel"),
    "16-bit colour": (
        # Pillow would cut these to 8 bits without a word
        written("a.png", png(130, 130, 16, bytes(781 * 130))),
        "more than 8 bits a channel",
    ),
    "16-bit tiff": (saved("a.tiff", DEEP), "more than 8 bits a channel"),
    "one bit": (saved("a.png", PHOTOGRAPH.convert("1")), "has the colours 1"),
    "cmyk": (saved("a.jpg", PHOTOGRAPH.convert("CMYK")), "has the colours CMYK"),
    "small": (saved("a.png", PHOTOGRAPH.resize((90, 300))), "at least 128"),
    "bomb": (written("a.png", png(50_000, 50_000, 8)), "at most 100000000"),
    "large": (written("a.png", png(12_000, 10_000, 8)), "at most 100000000"),
    "cut": (written("a.jpg", jpeg_half()), "cannot be decoded"),
    "text": (written("a.png", b"hello"), "cannot be decoded"),
    "empty": (written("a.jpg", b""), "cannot be decoded"),
    "gif": (saved("a.gif", PHOTOGRAPH), "cannot be decoded as JPEG"),
    "missing": (lambda folder: folder / "none.jpg", "cannot read"),
    "folder": (lambda folder: folder, "cannot read"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_marked_is_refused(name: str, tmp_path: Path) -> None:
    make, words = REFUSED[name]
    source, target = make(tmp_path), tmp_path / "out" / "marked.png"
    with pytest.raises(InputError, match=words):
        mark_file(source, target, PAYLOAD, KEY)
    assert not target.exists()


def test_a_mark_that_does_not_survive_the_format_is_not_claimed(tmp_path: Path) -> None:
    PHOTOGRAPH.save(tmp_path / "a.jpg", quality=1)
    with pytest.raises(InputError, match="cannot be read back"):
        mark_file(
            tmp_path / "a.jpg", tmp_path / "b.jpg", PAYLOAD, KEY, watermark=LatticeWatermark()
        )
    assert not (tmp_path / "b.jpg").exists()


def test_neither_the_source_nor_another_file_is_overwritten(tmp_path: Path) -> None:
    source, other = tmp_path / "a.png", tmp_path / "b.png"
    PHOTOGRAPH.save(source)
    other.write_bytes(b"mine")
    with pytest.raises(InputError, match="the source itself"):
        mark_file(source, source, PAYLOAD, KEY, replace=True)
    with pytest.raises(InputError, match="exists already"):
        mark_file(source, other, PAYLOAD, KEY)
    assert other.read_bytes() == b"mine"
    mark_file(source, other, PAYLOAD, KEY, replace=True)
    assert detect_file(other, KEY) is not None


def test_transparency_is_read_on_white_and_16_bits_by_their_upper_half(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (read_pixels(tmp_path / "clear.png") == 255).all()
    Image.fromarray(numpy.full((4, 4), 0x8000, numpy.uint16)).save(tmp_path / "deep.png")
    assert (read_pixels(tmp_path / "deep.png") == 0x80).all()
