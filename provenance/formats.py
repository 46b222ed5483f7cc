"""The kinds of file that can carry Content Credentials, and how each is signed and read.

A kind is known by its first bytes; text and code, which have none, by the name's ending. A kind that
nothing embeds in gets its manifest in a file beside it, so there is a way for every file.
"""

import codecs
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

HEAD = 4096  # bytes that are enough to know a kind
_FIRST_ENTRY = 1 << 16  # of a package's first entry this much is unpacked, at most


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


EMBEDDED_IN_TEXT = (Route.TEXT, Route.HTML, Route.STRUCTURED)


@dataclass(frozen=True, kw_only=True)
class Format:
    """One kind of file. media_type: what the engine is told; endings: the first is preferred.

    comment: how a comment begins and ends, for Route.STRUCTURED.
    """

    name: str
    media_type: str
    endings: tuple[str, ...]
    route: Route
    found: Callable[[bytes], bool] = lambda head: False
    comment: tuple[str, str] = ("", "")


def _starts(*magic: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(magic)


def _riff(kind: bytes) -> Callable[[bytes], bool]:
    return lambda head: head[:4] == b"RIFF" and head[8:12] == kind


def _brand(*brands: bytes) -> Callable[[bytes], bool]:
    """The first brand of a file type box that is known here (ISO/IEC 14496-12, section 4.3)."""

    def found(head: bytes) -> bool:
        if head[4:8] != b"ftyp":
            return False
        end = min(int.from_bytes(head[:4], "big"), len(head))
        named = [head[8:12], *(head[at : at + 4] for at in range(16, end, 4))]
        if named[0] in _HEIF:  # any still picture: what else it is says which
            named.sort(key=_HEIF.__contains__)
        return next((brand for brand in named if brand in _BRANDS), None) in brands

    return found


_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")
_AVIF, _HEIF = (b"avif", b"avis"), (b"mif1", b"msf1", b"mif2")
_M4A, _M4V, _MOV = (b"M4A ", b"M4B "), (b"M4V ", b"M4VH", b"M4VP"), (b"qt  ",)
_MP4 = (
    b"isom", b"iso2", b"iso3", b"iso4", b"iso5", b"iso6", b"iso7", b"iso8", b"iso9", b"mp41",
    b"mp42", b"avc1", b"dash", b"cmfc", b"3gp4", b"3gp5", b"3gp6", b"MSNV", b"f4v ", b"F4V ",
)  # fmt: skip
_BRANDS = frozenset((*_HEIC, *_AVIF, *_HEIF, *_M4A, *_M4V, *_MOV, *_MP4))


def _behind_id3(head: bytes) -> bytes:
    """What follows an ID3 tag (ID3 2.4, section 3.1), as far as it can be seen."""
    size = sum(
        (byte & 127) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=False)
    )
    return head[10 + size :]


def _flac(head: bytes) -> bool:
    return (_behind_id3(head) if head.startswith(b"ID3") else head).startswith(b"fLaC")


def _mp3(head: bytes) -> bool:
    """An ID3 tag, or a frame header of MPEG audio layer III (ISO/IEC 11172-3, section 2.4.1.3)."""
    if head.startswith(b"ID3"):
        return True
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2 or head[1] & 0x18 == 0x08:
        return False
    return head[2] >> 4 not in (0, 15) and head[2] & 0x0C != 0x0C


# What may stand before the root element: a byte order mark, declarations, comments. Nothing here is
# ever parsed as XML, so an entity cannot grow.
_PROLOG = re.compile(
    rb"(?:\xef\xbb\xbf)?(?:\s+|<\?[^>]*\?>|<!--.*?-->|<!DOCTYPE\s[^\[>]*(?:\[[^\]]*\]\s*)?>)*",
    re.DOTALL,
)
_SVG_ROOT = re.compile(rb"<(?:[A-Za-z_][\w.-]*:)?svg[\s/>]")
_UNFINISHED = re.compile(rb"<!--|<!DOCTYPE\s|<\?|$")  # the root lies behind what is seen
_HTML_ROOT = re.compile(rb"<!doctype\s+html|<html[\s>]", re.IGNORECASE)


def _root(head: bytes) -> bytes:
    start = _PROLOG.match(head)
    return head[start.end() :] if start else head


def _svg(head: bytes) -> bool:
    return _SVG_ROOT.match(_root(head)) is not None


def first_entry(head: bytes) -> tuple[str, bytes]:
    """Name and beginning of the first entry of a package (APPNOTE 4.3.7); empty where it has none.

    At most 64 KiB are unpacked, whatever the entry says of its size.
    """
    if not head.startswith(b"PK\x03\x04") or len(head) < 30:
        return "", b""
    method, size = int.from_bytes(head[8:10], "little"), int.from_bytes(head[18:22], "little")
    name = int.from_bytes(head[26:28], "little")
    start = 30 + name + int.from_bytes(head[28:30], "little")
    text = head[30 : 30 + name].decode("utf-8", "replace")
    if method == 0:
        return text, head[start : start + size]
    try:
        return text, zlib.decompressobj(-15).decompress(head[start:], _FIRST_ENTRY)
    except zlib.error:
        return text, b""


def _package(mimetype: str) -> Callable[[bytes], bool]:
    """OpenDocument and EPUB: the first entry is called `mimetype` and says so."""
    return lambda head: first_entry(head) == ("mimetype", mimetype.encode())


def _office(main: str) -> Callable[[bytes], bool]:
    """Office: the list of content types names the main part."""

    def found(head: bytes) -> bool:
        name, content = first_entry(head)
        return name == "[Content_Types].xml" and main.encode() in content

    return found


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


_ODF = "application/vnd.oasis.opendocument."
_OOXML = "application/vnd.openxmlformats-officedocument."
_MACRO = "application/vnd.ms-{}.macroEnabled"


def _opendocument(name: str, kind: str) -> Format:
    return _format(name, _ODF + kind, f".{name.lower()}", Route.ZIP, _package(_ODF + kind))


def _document(name: str, media_type: str, main: str) -> Format:
    return _format(name, media_type.lower(), f".{name.lower()}", Route.ZIP, _office(main))


def _code(name: str, media_type: str, endings: str, comment: str) -> Format:
    begin, _, end = comment.partition(" ")
    return Format(
        name=name, media_type=media_type, endings=tuple(endings.split()), route=Route.STRUCTURED,
        comment=(begin, end),
    )  # fmt: skip


_SVG = _format("SVG", "image/svg+xml", ".svg", Route.LIBRARY, _svg)
_FLAC = _format("FLAC", "audio/flac", ".flac", Route.LIBRARY, _flac)

# The order decides: the first whose bytes fit is taken.
FORMATS: tuple[Format, ...] = (
    _format("JPEG", "image/jpeg", ".jpg .jpeg .jpe", Route.JPEG, _starts(b"\xff\xd8\xff")),
    _format("PNG", "image/png", ".png", Route.PNG, _starts(b"\x89PNG\r\n\x1a\n")),
    _format("WebP", "image/webp", ".webp", Route.RIFF, _riff(b"WEBP")),
    _format("GIF", "image/gif", ".gif", Route.LIBRARY, _starts(b"GIF87a", b"GIF89a")),
    _format("BigTIFF", "image/tiff", ".tif .tiff", Route.LIBRARY, _starts(b"II+\0", b"MM\0+")),
    _format("TIFF", "image/tiff", ".tif .tiff", Route.LIBRARY, _starts(b"II*\0", b"MM\0*")),
    _format("AVIF", "image/avif", ".avif", Route.LIBRARY, _brand(*_AVIF)),
    _format("HEIC", "image/heic", ".heic .hif", Route.LIBRARY, _brand(*_HEIC)),
    _format("HEIF", "image/heif", ".heif .hif .heic", Route.LIBRARY, _brand(*_HEIF)),
    _format("JXL", "image/jxl", ".jxl", Route.LIBRARY, _starts(b"\0\0\0\x0cJXL \r\n\x87\n")),
    _SVG,
    _format("M4A", "audio/mp4", ".m4a .m4b .mp4", Route.BMFF, _brand(*_M4A)),
    _format("M4V", "video/x-m4v", ".m4v .mp4", Route.BMFF, _brand(*_M4V)),
    _format("MOV", "video/quicktime", ".mov .qt", Route.BMFF, _brand(*_MOV)),
    _format("MP4", "video/mp4", ".mp4 .m4v .m4a .3gp", Route.BMFF, _brand(*_MP4)),
    _format("WAV", "audio/wav", ".wav .wave", Route.RIFF, _riff(b"WAVE")),
    _format("AVI", "video/x-msvideo", ".avi", Route.RIFF, _riff(b"AVI ")),
    _FLAC,
    _format("MP3", "audio/mpeg", ".mp3", Route.LIBRARY, _mp3),
    _format("PDF", "application/pdf", ".pdf", Route.LIBRARY, _starts(b"%PDF-")),
    _format("EPUB", "application/epub+zip", ".epub", Route.ZIP, _package("application/epub+zip")),
    _opendocument("ODT", "text"),
    _opendocument("ODS", "spreadsheet"),
    _opendocument("ODP", "presentation"),
    _opendocument("ODG", "graphics"),
    _opendocument("OTT", "text-template"),
    _opendocument("OTS", "spreadsheet-template"),
    _opendocument("OTP", "presentation-template"),
    _opendocument("OTG", "graphics-template"),
    _document("DOCX", _OOXML + "wordprocessingml.document", "wordprocessingml.document.main+xml"),
    _document("XLSX", _OOXML + "spreadsheetml.sheet", "spreadsheetml.sheet.main+xml"),
    _document(
        "PPTX", _OOXML + "presentationml.presentation", "presentationml.presentation.main+xml"
    ),
    _document(
        "DOCM", _MACRO.format("word.document") + ".12", "ms-word.document.macroEnabled.main+xml"
    ),
    _document("XLSM", _MACRO.format("excel.sheet") + ".12", "ms-excel.sheet.macroEnabled.main+xml"),
    _document(
        "PPTM",
        _MACRO.format("powerpoint.presentation") + ".12",
        "ms-powerpoint.presentation.macroEnabled.main+xml",
    ),
    _document("OXPS", "application/oxps", "xps-fixeddocumentsequence+xml"),
)

# Told by the ending, where the bytes fit the family but do not say more.
_RAW = (
    _format("DNG", "image/x-adobe-dng", ".dng", Route.LIBRARY),
    _format("NEF", "image/x-nikon-nef", ".nef", Route.SIDECAR),  # c2pa only reads these two
    _format("ARW", "image/x-sony-arw", ".arw", Route.SIDECAR),
)
_ZIPPED = (
    _format(
        "ZIP",
        "application/x-zip",
        ".zip .dotx .dotm .xltx .xltm .potx .potm .ppsx .ppsm .vsdx .xps",
        Route.ZIP,
    ),
)
_TEXTS = (
    _format("text", "text/plain", ".txt .text", Route.TEXT),
    _format("HTML", "text/html", ".html .htm", Route.HTML),
    _code("Markdown", "text/markdown", ".md .markdown", "<!-- -->"),
    _code("Python", "text/x-python", ".py .pyi", "#"),
    _code("CSS", "text/css", ".css", "/* */"),
    _code("YAML", "application/yaml", ".yaml .yml", "#"),
    _code("TOML", "application/toml", ".toml", "#"),
    _code("JavaScript", "text/javascript", ".js .mjs .cjs .ts .jsx .tsx", "//"),
    _code("C", "text/x-c", ".c .h .cc .cpp .hpp .cu", "/* */"),
    _code("Java", "text/x-java", ".java .kt .scala .go .rs .swift .cs .dart .proto", "//"),
    _code("shell", "text/x-shellscript", ".sh .bash .zsh .rb .pl .r .jl .tf", "#"),
    _code("configuration", "text/x-properties", ".cfg .conf .properties", "#"),
    _code("INI", "text/x-ini", ".ini", ";"),
    _code("SQL", "text/x-sql", ".sql .lua .hs", "--"),
    _code("TeX", "text/x-tex", ".tex .sty .bib .erl", "%"),
)
# A comment of XML cannot hold the two hyphens of A.9's delimiters (XML 1.0, section 2.5), and JSON and
# CSV know no comment: their manifest lies beside them. What others embedded is read all the same.
_BESIDE = (
    _format("XML", "application/xml", ".xml", Route.SIDECAR),
    _format("XHTML", "application/xhtml+xml", ".xhtml", Route.SIDECAR),
    _format("JSON", "application/json", ".json .jsonl .ipynb", Route.SIDECAR),
    _format("CSV", "text/csv", ".csv .tsv", Route.SIDECAR),
    _format("Ogg", "application/ogg", ".ogg .oga .opus", Route.SIDECAR),
    _format("font", "font/sfnt", ".ttf .otf", Route.SIDECAR),
    _format("Matroska", "video/webm", ".webm .mkv", Route.SIDECAR),
)
SIDECAR = _format("file", "application/octet-stream", "", Route.SIDECAR)
MANIFEST = _format("manifest store", "application/c2pa", ".c2pa", Route.SIDECAR)
FORMATS = (*FORMATS, *_RAW, *_ZIPPED, *_TEXTS, *_BESIDE, MANIFEST)

_BY_ENDING = {
    ending: kind
    for kind in (*_RAW, *_TEXTS, *_BESIDE, MANIFEST, *(k for k in FORMATS if k.route is Route.ZIP))
    for ending in kind.endings
}


def named(path: Path) -> Format | None:
    """The kind that a file's ending speaks of, whatever its bytes say."""
    ending = path.suffix.lower()
    told = _BY_ENDING.get(ending)
    return told or next((kind for kind in FORMATS if ending in kind.endings), None)


def recognise(path: Path, head: bytes) -> Format | None:
    """The kind of a file by its first HEAD bytes, else by its ending; None for an empty file.

    A name that lies does not matter where the bytes speak. An empty text is a text.
    """
    by_name = _BY_ENDING.get(path.suffix.lower())
    if not head:
        return by_name if by_name in _TEXTS else None
    if by_name in _RAW and head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return by_name
    if path.suffix.lower() == ".flac" and head.startswith(b"ID3"):  # c2pa puts a tag before it
        return _FLAC
    if path.suffix.lower() == ".svg" and len(head) >= HEAD and _UNFINISHED.match(_root(head)):
        return _SVG
    told = next((kind for kind in FORMATS if kind.found(head)), None)
    if told is not None:
        return told
    if head.startswith(b"PK\x03\x04"):
        return by_name if by_name is not None and by_name.route is Route.ZIP else SIDECAR
    if by_name is None or by_name.route is Route.ZIP or by_name in _RAW:
        page = not path.suffix and _HTML_ROOT.match(_root(head))
        return _TEXTS[1] if page else SIDECAR
    if by_name in _TEXTS and not is_utf8(head):
        return SIDECAR
    return by_name


def is_utf8(head: bytes) -> bool:
    """Whether this is the beginning of a text in UTF-8; the last character may be cut."""
    if b"\0" in head:
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True
