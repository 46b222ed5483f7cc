"""One small real file of every format in the table, for every test that walks the table.

`media(name)` gives its bytes, made once a process; `write(folder, name)` a file of it.
"""

import io
import wave
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import av
import numpy
import pillow_heif
from numpy.typing import NDArray
from PIL import Image

SIDE = 64


@dataclass(frozen=True, kw_only=True)
class Content:
    """What is in a file: a picture, a sound, a sentence."""

    pixels: NDArray[numpy.uint8]
    sound: NDArray[numpy.int16]
    words: str


def _content(seed: int, words: str) -> Content:
    random = numpy.random.default_rng(seed)
    return Content(
        pixels=random.integers(0, 256, (SIDE, SIDE, 3), dtype=numpy.uint8),
        sound=random.integers(-2000, 2000, 8000, dtype=numpy.int16),
        words=f"A caption: {words} at dawn, seen by nobody.\n",
    )


FIRST = _content(0, "a red fox, caf\u00e9")
SECOND = _content(1, "a tan cat, fjor\u00fe")
_ODF = "application/vnd.oasis.opendocument."
_OOXML = "application/vnd.openxmlformats-officedocument."
_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'


def _picture(format_: str, content: Content = FIRST, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(content.pixels).save(stream, format_, **options)
    return stream.getvalue()


def _tiff(tags: dict[int, object], content: Content = FIRST) -> bytes:
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    directory = ImageFileDirectory_v2()
    for tag, value in tags.items():
        if isinstance(value, bytes):
            directory.tagtype[tag] = 1  # BYTE
        directory[tag] = value
    return _picture("TIFF", content, tiffinfo=directory)


def _heif(brand: bytes, content: Content = FIRST) -> bytes:
    stream = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(content.pixels)).save(stream)
    data = stream.getvalue()
    if brand == b"mif1":  # a still picture that does not say how it is coded
        data = data.replace(b"mif1heic", b"mif1miaf", 1)
    return data[:8] + brand + data[12:]


def _jxl(content: Content = FIRST) -> bytes:
    """The container of ISO/IEC 18181-2 around the codestream of one pixel."""

    def box(kind: bytes, body: bytes) -> bytes:
        return (8 + len(body)).to_bytes(4, "big") + kind + body

    codestream = bytes.fromhex("ff0a000041800801000c004b180000") + content.sound.tobytes()[:64]
    return (
        box(b"JXL ", b"\r\n\x87\n") + box(b"ftyp", b"jxl \0\0\0\0jxl ") + box(b"jxlc", codestream)
    )


def _film(container: str, video: str | None, audio: str | None, content: Content = FIRST) -> bytes:
    stream = io.BytesIO()
    with av.open(stream, "w", format=container) as output:
        picture = output.add_stream(video, rate=10) if video else None
        sound = output.add_stream(audio, rate=48000, layout="mono") if audio else None
        if isinstance(picture, av.VideoStream):
            picture.width = picture.height = SIDE
            picture.pix_fmt = "yuv420p"
            for i in range(5):
                frame = av.VideoFrame.from_ndarray(numpy.roll(content.pixels, i, 0), format="rgb24")
                output.mux(picture.encode(frame))
            output.mux(picture.encode())
        if isinstance(sound, av.AudioStream):
            samples = av.AudioFrame.from_ndarray(
                content.sound[None, :], format="s16", layout="mono"
            )
            samples.sample_rate = 48000
            resampler = av.AudioResampler(sound.format, "mono", 48000, sound.frame_size or None)
            for part in (*resampler.resample(samples), *resampler.resample(None)):
                output.mux(sound.encode(part))
            output.mux(sound.encode())
    return stream.getvalue()


def _wav(content: Content = FIRST) -> bytes:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(48000)
        sound.writeframes(content.sound.tobytes())
    return stream.getvalue()


def zipped(
    entries: dict[str, str], mimetype: str = "", method: int = zipfile.ZIP_DEFLATED
) -> bytes:
    """A package; `mimetype` is its first entry and stored, as OpenDocument and EPUB ask."""
    stream, first = io.BytesIO(), {"mimetype": mimetype} if mimetype else {}
    with zipfile.ZipFile(stream, "w", method) as package:
        for name, text in (first | entries).items():
            entry = zipfile.ZipInfo(name, (2026, 1, 2, 3, 4, 6))
            entry.compress_type = zipfile.ZIP_STORED if name == "mimetype" else method
            entry.external_attr = 0o644 << 16
            package.writestr(entry, text)
    return stream.getvalue()


def _epub(content: Content = FIRST) -> bytes:
    container = (
        '<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
        '<rootfile full-path="book.opf" media-type="application/oebps-package+xml"/></rootfiles>'
        "</container>"
    )
    book = '<package xmlns="http://www.idpf.org/2007/opf" version="3.0"/>'
    page = f"<html><body>{content.words * 40}</body></html>"
    entries = {"META-INF/container.xml": container, "book.opf": book, "page.xhtml": page}
    return zipped({key: _HEAD + text for key, text in entries.items()}, "application/epub+zip")


def _odf(kind: str, content: Content = FIRST) -> bytes:
    mimetype = _ODF + kind
    listed = (
        '<manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0">'
        f'<manifest:file-entry manifest:full-path="/" manifest:media-type="{mimetype}"/>'
        "</manifest:manifest>"
    )
    text = (
        '<office:document-content xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0">'
        f"<office:body>{content.words * 30}</office:body></office:document-content>"
    )
    entries = {"content.xml": _HEAD + text, "META-INF/manifest.xml": _HEAD + listed}
    return zipped(entries, mimetype)


def _office(part: str, main: str, content: Content = FIRST) -> bytes:
    types = (
        '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        '<Default Extension="rels" '
        'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Default Extension="xml" ContentType="application/xml"/>'
        f'<Override PartName="/{part}" ContentType="{main}"/></Types>'
    )
    relations = (
        '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        f'<Relationship Id="r1" Type="{_RELATION}" Target="{part}"/></Relationships>'
    )
    body = f"<document>{f'<paragraph>{content.words}</paragraph>' * 30}</document>"
    entries = {"[Content_Types].xml": types, "_rels/.rels": relations, part: body}
    return zipped({key: _HEAD + text for key, text in entries.items()})


_RELATION = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"
_SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"><desc>WORDS</desc>'
    '<rect width="10" height="10" fill="red"/></svg>\n'
)


def _zip(content: Content = FIRST) -> bytes:
    return zipped({"a.txt": content.words * 50, "b/c.txt": "world " * 50})


def _text(frame: str, content: Content = FIRST) -> bytes:
    return frame.replace("WORDS", content.words).encode()


_WORD, _SHEET, _SLIDES = "word/document.xml", "xl/workbook.xml", "ppt/presentation.xml"
_MACRO = "application/vnd.ms-{}.macroEnabled.main+xml"

MEDIA: dict[str, Callable[..., bytes]] = {
    "JPEG": partial(_picture, "JPEG"),
    "PNG": partial(_picture, "PNG"),
    "WebP": partial(_picture, "WEBP"),
    "GIF": partial(_picture, "GIF"),
    "TIFF": partial(_picture, "TIFF"),
    "BigTIFF": partial(_picture, "TIFF", big_tiff=True),
    "DNG": partial(_tiff, {271: "Example", 50706: b"\x01\x04\x00\x00"}),
    "NEF": partial(_tiff, {271: "NIKON CORPORATION"}),
    "ARW": partial(_tiff, {271: "SONY"}),
    "SVG": partial(_text, _SVG),
    "AVIF": partial(_picture, "AVIF"),
    "HEIC": partial(_heif, b"heic"),
    "HEIF": partial(_heif, b"mif1"),
    "JXL": _jxl,
    "MP4": partial(_film, "mp4", "libx264", "aac"),
    "M4V": partial(_film, "ipod", "libx264", "aac"),
    "MOV": partial(_film, "mov", "libx264", "aac"),
    "M4A": partial(_film, "ipod", None, "aac"),
    "WAV": _wav,
    "AVI": partial(_film, "avi", "mpeg4", "mp3"),
    "MP3": partial(_film, "mp3", None, "mp3"),
    "FLAC": partial(_film, "flac", None, "flac"),
    "PDF": partial(_picture, "PDF"),
    "EPUB": _epub,
    "ODT": partial(_odf, "text"),
    "ODS": partial(_odf, "spreadsheet"),
    "ODP": partial(_odf, "presentation"),
    "ODG": partial(_odf, "graphics"),
    "OTT": partial(_odf, "text-template"),
    "OTS": partial(_odf, "spreadsheet-template"),
    "OTP": partial(_odf, "presentation-template"),
    "OTG": partial(_odf, "graphics-template"),
    "DOCX": partial(_office, _WORD, _OOXML + "wordprocessingml.document.main+xml"),
    "XLSX": partial(_office, _SHEET, _OOXML + "spreadsheetml.sheet.main+xml"),
    "PPTX": partial(_office, _SLIDES, _OOXML + "presentationml.presentation.main+xml"),
    "DOCM": partial(_office, _WORD, _MACRO.format("word.document")),
    "XLSM": partial(_office, _SHEET, _MACRO.format("excel.sheet")),
    "PPTM": partial(_office, _SLIDES, _MACRO.format("powerpoint.presentation")),
    "OXPS": partial(
        _office, "FixedDocSeq.fdseq", "application/vnd.ms-package.xps-fixeddocumentsequence+xml"
    ),
    "ZIP": _zip,
    "text": partial(_text, "WORDS" * 8),
    "Markdown": partial(_text, "# A title\n\n" + "WORDS" * 8),
    "HTML": partial(
        _text,
        "<!doctype html>\n<html><head><title>t</title></head><body>WORDSWORDSWORDS</body></html>\n",
    ),
    "XHTML": partial(
        _text,
        f'{_HEAD}<html xmlns="http://www.w3.org/1999/xhtml"><head><title>t</title></head>'
        "<body>WORDSWORDSWORDS</body></html>\n",
    ),
    "XML": partial(_text, f"{_HEAD}<notes><note>WORDSWORDSWORDS</note></notes>\n"),
    "Python": partial(
        _text, '#!/usr/bin/env python3\n# -*- coding: utf-8 -*-\n"""WORDSWORDSWORDS"""\nx = 1\n'
    ),
    "CSS": partial(_text, '@charset "utf-8";\n/* WORDS */\n' + "p { color: red }\n" * 20),
    "YAML": partial(_text, "a: 1\nb: [2, 3]\nc: WORDSd: 4\n" + "# more\n" * 9),
    "TOML": partial(_text, "a = 1\n[b]\nc = [2, 3]\n# WORDS" + "# more\n" * 9),
    "JavaScript": partial(_text, "// WORDS" + "const a = 1;\n" * 9),
    "C": partial(_text, "/* WORDS */\n" + "int a = 1;\n" * 9),
    "Java": partial(_text, "// WORDS" + "class A {}\n" * 9),
    "shell": partial(_text, "#!/bin/sh\n# WORDS" + "echo a\n" * 9),
    "configuration": partial(_text, "# WORDS" + "a = 1\n" * 9),
    "INI": partial(_text, "; WORDS" + "[a]\nb = 1\n"),
    "SQL": partial(_text, "-- WORDS" + "select 1;\n" * 9),
    "TeX": partial(_text, "WORDS" * 3),
    "JSON": partial(_text, '["WORDS"]'.replace("WORDS", "WORDS" * 3).replace("\n", "")),
    "CSV": partial(_text, "a,b\n" + "1,WORDS" * 9),
    "Ogg": partial(_film, "ogg", None, "libopus"),
    "Matroska": partial(_film, "matroska", "libx264", None),
    "file": partial(_text, "\0\1WORDSWORDS"),
}


@cache
def media(name: str) -> bytes:
    """The bytes of a small real file of this format."""
    return MEDIA[name]()


@cache
def other(name: str) -> bytes:
    """The same kind with other content: for what is taken from one file to another."""
    return MEDIA[name](content=SECOND)


def write(folder: Path, name: str, stem: str = "sample") -> Path:
    """A file of this format, under the ending that the table prefers."""
    from assaymark.provenance.formats import FORMATS

    endings = next((kind.endings for kind in FORMATS if kind.name == name), (".bin",))
    path = folder / f"{stem}{endings[0] if endings else '.bin'}"
    path.write_bytes(media(name))
    return path
