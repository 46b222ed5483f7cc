"""One small real file of every format in the table, for every test that walks the table.

`media(name)` gives its bytes, made once a process; `write(folder, name)` a file of it.
"""

import io
import wave
import zipfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import av
import numpy
import pillow_heif
from PIL import Image

SIDE = 64
PIXELS = numpy.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=numpy.uint8)
SPEECH = (numpy.random.default_rng(1).integers(-2000, 2000, 8000)).astype(numpy.int16)
_ODF = "application/vnd.oasis.opendocument."
_OOXML = "application/vnd.openxmlformats-officedocument."
_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'


def _picture(format_: str, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, format_, **options)
    return stream.getvalue()


def _tiff(tags: dict[int, object]) -> bytes:
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    directory = ImageFileDirectory_v2()
    for tag, value in tags.items():
        if isinstance(value, bytes):
            directory.tagtype[tag] = 1  # BYTE
        directory[tag] = value
    return _picture("TIFF", tiffinfo=directory)


def _big_tiff() -> bytes:
    return _picture("TIFF", big_tiff=True)


def _heif(brand: bytes) -> bytes:
    stream = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(PIXELS)).save(stream)
    data = stream.getvalue()
    return data[:8] + brand + data[12:]


def _jxl() -> bytes:
    """The container of ISO/IEC 18181-2 around the codestream of one pixel."""

    def box(kind: bytes, body: bytes) -> bytes:
        return (8 + len(body)).to_bytes(4, "big") + kind + body

    codestream = bytes.fromhex("ff0a000041800801000c004b180000")
    return (
        box(b"JXL ", b"\r\n\x87\n") + box(b"ftyp", b"jxl \0\0\0\0jxl ") + box(b"jxlc", codestream)
    )


def _film(container: str, video: str | None, audio: str | None) -> bytes:
    stream = io.BytesIO()
    with av.open(stream, "w", format=container) as output:
        picture = output.add_stream(video, rate=10) if video else None
        sound = output.add_stream(audio, rate=48000, layout="mono") if audio else None
        if isinstance(picture, av.VideoStream):
            picture.width = picture.height = SIDE
            picture.pix_fmt = "yuv420p"
            for i in range(5):
                frame = av.VideoFrame.from_ndarray(numpy.roll(PIXELS, i, 0), format="rgb24")
                output.mux(picture.encode(frame))
            output.mux(picture.encode())
        if isinstance(sound, av.AudioStream):
            samples = av.AudioFrame.from_ndarray(SPEECH[None, :], format="s16", layout="mono")
            samples.sample_rate = 48000
            resampler = av.AudioResampler(sound.format, "mono", 48000, sound.frame_size or None)
            for part in (*resampler.resample(samples), *resampler.resample(None)):
                output.mux(sound.encode(part))
            output.mux(sound.encode())
    return stream.getvalue()


def _wav() -> bytes:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(48000)
        sound.writeframes(SPEECH.tobytes())
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


def _epub() -> bytes:
    container = (
        '<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
        '<rootfile full-path="book.opf" media-type="application/oebps-package+xml"/></rootfiles>'
        "</container>"
    )
    book = '<package xmlns="http://www.idpf.org/2007/opf" version="3.0"/>'
    page = f"<html><body>{'A page. ' * 40}</body></html>"
    entries = {"META-INF/container.xml": container, "book.opf": book, "page.xhtml": page}
    return zipped({key: _HEAD + text for key, text in entries.items()}, "application/epub+zip")


def _odf(kind: str) -> bytes:
    mimetype = _ODF + kind
    listed = (
        '<manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0">'
        f'<manifest:file-entry manifest:full-path="/" manifest:media-type="{mimetype}"/>'
        "</manifest:manifest>"
    )
    content = (
        '<office:document-content xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0">'
        f"{'<office:body/>' * 30}</office:document-content>"
    )
    entries = {"content.xml": _HEAD + content, "META-INF/manifest.xml": _HEAD + listed}
    return zipped(entries, mimetype)


def _office(part: str, main: str) -> bytes:
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
    body = f"<document>{'<paragraph>Hello</paragraph>' * 30}</document>"
    entries = {"[Content_Types].xml": types, "_rels/.rels": relations, part: body}
    return zipped({key: _HEAD + text for key, text in entries.items()})


_RELATION = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"
_SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10">'
    '<rect width="10" height="10" fill="red"/></svg>\n'
)
_TEXT = "A caption: a red fox, café at dawn, seen by nobody.\n" * 8
_WORD, _SHEET, _SLIDES = "word/document.xml", "xl/workbook.xml", "ppt/presentation.xml"
_MACRO = "application/vnd.ms-{}.macroEnabled.main+xml"

MEDIA: dict[str, Callable[[], bytes]] = {
    "JPEG": partial(_picture, "JPEG"),
    "PNG": partial(_picture, "PNG"),
    "WebP": partial(_picture, "WEBP"),
    "GIF": partial(_picture, "GIF"),
    "TIFF": partial(_picture, "TIFF"),
    "BigTIFF": _big_tiff,
    "DNG": partial(_tiff, {271: "Example", 50706: b"\x01\x04\x00\x00"}),
    "NEF": partial(_tiff, {271: "NIKON CORPORATION"}),
    "ARW": partial(_tiff, {271: "SONY"}),
    "SVG": _SVG.encode,
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
    "ZIP": partial(zipped, {"a.txt": "hello " * 50, "b/c.txt": "world " * 50}),
    "text": _TEXT.encode,
    "Markdown": f"# A title\n\n{_TEXT}".encode,
    "HTML": f"<!doctype html>\n<html><head><title>t</title></head><body>{_TEXT}</body></html>\n".encode,
    "XHTML": (
        f'{_HEAD}<html xmlns="http://www.w3.org/1999/xhtml"><head><title>t</title></head>'
        f"<body>{_TEXT}</body></html>\n"
    ).encode,
    "XML": f"{_HEAD}<notes><note>{_TEXT}</note></notes>\n".encode,
    "Python": f'#!/usr/bin/env python3\n# -*- coding: utf-8 -*-\n"""{_TEXT}"""\nx = 1\n'.encode,
    "CSS": ('@charset "utf-8";\n' + "p { color: red }\n" * 20).encode,
    "YAML": ("a: 1\nb: [2, 3]\n" + f"# {_TEXT[:51]}\n").encode,
    "TOML": ("a = 1\n[b]\nc = [2, 3]\n" + f"# {_TEXT[:51]}\n").encode,
    "JavaScript": ("const a = 1;\n" * 20).encode,
    "file": lambda: b'{"a": [1, 2]}\n' * 40,
}


@cache
def media(name: str) -> bytes:
    """The bytes of a small real file of this format."""
    return MEDIA[name]()


def write(folder: Path, name: str, stem: str = "sample") -> Path:
    """A file of this format, under the ending that the table prefers."""
    from assaymark.provenance.formats import FORMATS

    endings = next((kind.endings for kind in FORMATS if kind.name == name), (".bin",))
    path = folder / f"{stem}{endings[0] if endings else '.bin'}"
    path.write_bytes(media(name))
    return path
