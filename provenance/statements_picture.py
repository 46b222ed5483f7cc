"""Statements in JPEG, PNG, GIF and WebP pictures."""

import zlib
from collections.abc import Iterator

from assaymark.provenance.layout import At, Malformed
from assaymark.provenance.statements import (
    MAX_ALL,
    MAX_PARTS,
    MAX_TEXT,
    Collector,
    behind,
    inflated,
    text_of,
    whole,
)
from assaymark.provenance.statements_exif import read_exif
from assaymark.provenance.statements_iptc import read_iptc, read_resources
from assaymark.provenance.statements_xmp import read_xmp

_XMP_KEYWORD = "XML:com.adobe.xmp"
_XMP_NAME = b"http://ns.adobe.com/xap/1.0/\0"
_EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"
_PIECE = 1 << 20
_STRAY = 1 << 12  # bytes between two segments that are skipped
_PROFILE = "Raw profile type "


def read_png(at: At, size: int, out: Collector) -> None:
    """PNG, third edition: the texts of tEXt, zTXt, iTXt and eXIf up to IEND.

    A text whose checksum is wrong is told and not taken, as decoders skip it too.
    """
    if at(0, 8) != b"\x89PNG\r\n\x1a\n":
        raise Malformed("a PNG begins with its signature")
    offset = 8
    for _ in range(MAX_PARTS):
        head = at(offset, 8)
        if len(head) < 8:
            raise Malformed("a PNG ends with IEND")
        name, start = head[4:], offset + 8
        end = start + int.from_bytes(head[:4])
        if end + 4 > size:
            raise Malformed("a chunk ends in the file")
        if offset == 8 and name != b"IHDR":
            raise Malformed("IHDR comes first")
        if name in (b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"comf"):
            _png_chunk(name, at, start, end, out)
        offset = end + 4
        if name == b"IEND":
            behind(at, offset, size, "the PNG", out)
            return
    raise Malformed("too many chunks")


def _png_chunk(name: bytes, at: At, start: int, end: int, out: Collector) -> None:
    try:
        data = whole(at, start, end, f"a {name.decode()} chunk")
        if zlib.crc32(data, zlib.crc32(name)) != int.from_bytes(at(end, 4)):
            raise Malformed(f"a {name.decode()} chunk does not keep its checksum and was left out")
        if name == b"eXIf":
            read_exif(data, out)
        else:
            _keyword(*_png_text(name, data), out)
    except Malformed as error:
        out.trouble(f"{error}")


def _png_text(name: bytes, data: bytes) -> tuple[str, bytes]:
    """Keyword and text of PNG 11.3.3; comf is ComfyUI's own, laid out like tEXt."""
    keyword, separator, rest = data.partition(b"\0")
    if not separator or not 1 <= len(keyword) <= 79:
        raise Malformed(f"a {name.decode()} chunk has a keyword of 1 to 79 bytes")
    if name == b"zTXt":
        rest = inflated(rest[1:], "a zTXt chunk") if rest[:1] == b"\0" else b""
    elif name == b"iTXt":
        packed = rest[:2] == b"\1\0"
        parts = rest[2:].split(b"\0", 2)  # language, translated keyword, text
        if len(parts) < 3 or rest[:1] not in (b"\0", b"\1"):
            raise Malformed("an iTXt chunk has five fields")
        rest = inflated(parts[2], "an iTXt chunk") if packed else parts[2]
    return keyword.decode("latin-1"), rest


def _keyword(keyword: str, text: bytes, out: Collector) -> None:
    if keyword == _XMP_KEYWORD:
        read_xmp(text, out)
    elif keyword.startswith(_PROFILE):
        _raw_profile(keyword.removeprefix(_PROFILE), text, out)
    else:
        out.add(f"png:{keyword}", text_of(text))


def _raw_profile(kind: str, text: bytes, out: Collector) -> None:
    """ImageMagick's and exiv2's way to keep a JPEG's block in a PNG: a name, a length, and hexadecimal."""
    lines = text.strip().split(b"\n")
    try:
        data = bytes.fromhex(b"".join(lines[2:]).decode("ascii"))
    except ValueError:
        out.trouble(f"a raw profile of type {kind[:20]!r} is not hexadecimal")
        return
    if kind in ("exif", "APP1") and data.startswith((b"Exif\0\0", b"II", b"MM")):
        read_exif(data, out)
    elif kind in ("xmp", "APP1"):
        read_xmp(data.removeprefix(_XMP_NAME), out)
    elif kind in ("iptc", "8bim"):
        (read_resources if data.startswith(b"8BIM") else read_iptc)(data, out)


def read_jpeg(at: At, size: int, out: Collector) -> None:
    """The application segments and comments before the first scan (ISO/IEC 10918-1, B.1.1)."""
    if at(0, 2) != b"\xff\xd8":
        raise Malformed("a JPEG begins with FF D8")
    extended: dict[bytes, dict[int, bytes]] = {}
    offset, exifs, held = 2, 0, 0
    for _ in range(MAX_PARTS):
        head = at(offset, 4)
        if len(head) < 4:
            raise Malformed("a JPEG ends with FF D9")
        if head[0] != 0xFF or head[1] == 0xFF:  # stray bytes, as decoders skip them, or fill bytes
            following = _find(at, offset + 1, min(offset + _STRAY, size), b"\xff")
            if following < 0:
                raise Malformed("a segment begins with FF")
            offset = following
            continue
        if head[1] in (0xD9, 0xDA):
            break
        end = offset + 2 + int.from_bytes(head[2:4])
        if end < offset + 4 or end > size:
            raise Malformed("a segment ends in the file")
        data = at(offset + 4, end - offset - 4)
        if head[1] == 0xE1 and data.startswith(b"Exif\0\0"):
            exifs += 1
            if exifs == 1:
                read_exif(data, out)
        elif head[1] == 0xE1 and data.startswith(_EXTENSION):
            held += len(data)
            if held <= MAX_ALL:
                _extension(data[len(_EXTENSION) :], extended)
            else:
                out.trouble("it holds more text than is read, and the rest was left out")
        else:
            _segment(head[1], data, out)
        offset = end
    else:
        raise Malformed("too many segments")
    if exifs > 1:
        out.trouble(f"it has {exifs} EXIF blocks, of which the first was read")
    _extended(extended, out)
    last = _find(at, offset, size, b"\xff\xd9")
    if last < 0:
        raise Malformed("a JPEG ends with FF D9")
    behind(at, last + 2, size, "the JPEG", out)


def _segment(marker: int, data: bytes, out: Collector) -> None:
    if marker == 0xE1 and data.startswith(_XMP_NAME):
        read_xmp(data.removeprefix(_XMP_NAME), out)
    elif marker == 0xED and data.startswith(b"Photoshop 3.0\0"):
        read_resources(data.removeprefix(b"Photoshop 3.0\0"), out)
    elif marker == 0xFE:
        out.add("jpeg:comment", text_of(data))


def _extension(data: bytes, extended: dict[bytes, dict[int, bytes]]) -> None:
    """XMP, part 3, 1.1.3.1: identifier, full length, offset, and a piece of the extended packet."""
    if len(data) >= 40 and int.from_bytes(data[32:36]) <= MAX_TEXT:
        extended.setdefault(data[:32], {})[int.from_bytes(data[36:40])] = data[40:]


def _extended(extended: dict[bytes, dict[int, bytes]], out: Collector) -> None:
    named = {one.text for one in out.statements if one.place == "xmp:xmpNote:HasExtendedXMP"}
    for identifier, pieces in extended.items():
        if text_of(identifier) not in named:
            out.trouble("an extension of XMP that the packet does not name was left out")
            continue
        read_xmp(b"".join(pieces[start] for start in sorted(pieces)), out)


def _find(at: At, start: int, size: int, wanted: bytes) -> int:
    """Where bytes first stand at or behind `start`, -1 for nowhere; in pieces."""
    while start < size:
        found = at(start, min(_PIECE, size - start) + len(wanted) - 1).find(wanted)
        if found >= 0:
            return start + found
        start += _PIECE
    return -1


def read_gif(at: At, size: int, out: Collector) -> None:
    """GIF89a: comments, and the XMP of application extensions, up to the trailer."""
    head = at(0, 13)
    if head[:6] not in (b"GIF87a", b"GIF89a") or len(head) < 13:
        raise Malformed("a GIF begins with its version")
    offset = 13 + _colours(head[10])
    for _ in range(MAX_PARTS):
        kind = at(offset, 2)
        if kind[:1] == b";":
            behind(at, offset + 1, size, "the GIF", out)
            return
        if kind[:1] == b",":
            descriptor = at(offset, 10)
            if len(descriptor) < 10:
                raise Malformed("a picture ends in the file")
            offset = _blocks_end(at, offset + 11 + _colours(descriptor[9]), size)
        elif kind == b"!\xfe":
            end = _blocks_end(at, offset + 2, size)
            out.add("gif:comment", text_of(_joined(whole(at, offset + 2, end, "a comment"))))
            offset = end
        elif kind == b"!\xff" and at(offset + 2, 12) == b"\x0bXMP DataXMP":
            end = _blocks_end(at, offset + 14, size)
            _gif_xmp(whole(at, offset + 14, end, "an XMP packet"), out)
            offset = end
        elif kind[:1] == b"!":
            offset = _blocks_end(at, offset + 2, size)
        else:
            raise Malformed("a block begins with a comma or an exclamation mark")
    raise Malformed("too many blocks")


def _colours(flags: int) -> int:
    """Bytes of a colour table (GIF89a, section 18)."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _blocks_end(at: At, offset: int, size: int) -> int:
    while offset < size:
        # a large picture has many blocks of 255 bytes
        piece = at(offset, _PIECE)
        within = 0
        while within < len(piece):
            length = piece[within]
            within += 1 + length
            if not length:
                return offset + within
        offset += within
    raise Malformed("a block ends in the file")


def _joined(data: bytes) -> bytes:
    parts, offset = [], 0
    while offset < len(data) and data[offset]:
        parts.append(data[offset + 1 : offset + 1 + data[offset]])
        offset += 1 + data[offset]
    return b"".join(parts)


def _gif_xmp(data: bytes, out: Collector) -> None:
    """XMP, part 3, 1.1.2: the packet as it is, and a trailer of 258 bytes that leads through it."""
    read_xmp(data[:-258] if data[-258:-257] == b"\x01" else _joined(data), out)


def riff_chunks(at: At, size: int, out: Collector) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of the chunks of a RIFF file, up to the size that its header says."""
    end = int.from_bytes(at(4, 4), "little") + 8
    if end > size:
        out.trouble(f"the header of the RIFF file says {end:,} bytes, and it has {size:,}")
    offset = 12
    for _ in range(MAX_PARTS):
        head = at(offset, 8)
        if offset + 8 > min(end, size) or len(head) < 8:
            break
        length = int.from_bytes(head[4:], "little")
        if offset + 8 + length > min(end, size):
            raise Malformed(f"the chunk {head[:4]!r} ends in the file")
        yield head[:4], offset + 8, offset + 8 + length
        offset += 8 + length + (length & 1)
    behind(at, end, size, "the RIFF file", out)


def read_webp(at: At, size: int, out: Collector) -> None:
    """WebP container (RFC 9649, section 2.7): EXIF and XMP."""
    for name, start, end in riff_chunks(at, size, out):
        if name == b"EXIF":
            read_exif(whole(at, start, end, "the EXIF chunk"), out)
        elif name == b"XMP ":
            read_xmp(whole(at, start, end, "the XMP chunk"), out)
