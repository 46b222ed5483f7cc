"""Statements in ISO base media files (films, sound, HEIF and AVIF pictures), JPEG XL and Matroska."""

from collections.abc import Iterator
from dataclasses import dataclass

from assaymark.provenance.bmff import Box, boxes
from assaymark.provenance.layout import At, Malformed
from assaymark.provenance.statements import (
    MAX_PARTS,
    MAX_TEXT,
    Collector,
    behind,
    text_of,
    whole,
)
from assaymark.provenance.statements_exif import read_exif
from assaymark.provenance.statements_xmp import read_xmp

_XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")  # XMP, part 3, 1.2.1
_TEXT = 1  # type indicator of UTF-8 (QuickTime File Format, well-known types)


def read_film(at: At, size: int, out: Collector) -> None:
    """MP4, MOV, M4A: user data of the film, as Apple's item list, QuickTime's keys or texts, and XMP."""
    films = 0
    for box in _shown(at, 0, size, out, "the file"):
        if box.kind == b"ftyp" and box.start:
            behind(at, box.start, size, "the file", out)  # another file was put behind it
            break
        if box.kind == b"moov":
            films += 1
            if films == 1:
                _moov(at, box, out)
        elif box.kind == b"uuid" and at(box.body, 16) == _XMP_UUID:
            read_xmp(whole(at, box.body + 16, box.end, "an XMP packet"), out)
        elif box.kind == b"meta":
            _items(at, box, out)
    if films > 1:
        out.trouble(f"it has {films} descriptions of the film (moov), of which the first was read")


def _shown(at: At, start: int, end: int, out: Collector, what: str) -> Iterator[Box]:
    """The boxes of a range up to the first that is none, which is told."""
    try:
        yield from boxes(at, start, end)
    except Malformed as error:
        out.trouble(f"{what} does not consist of boxes to its end: {error}")


def _moov(at: At, moov: Box, out: Collector) -> None:
    for box in _shown(at, moov.body, moov.end, out, "moov"):
        if box.kind == b"udta":
            for item in _shown(at, box.body, box.end, out, "udta"):
                _user_data(at, item, out)
        elif box.kind == b"meta":
            _meta(at, box, out)


def _user_data(at: At, box: Box, out: Collector) -> None:
    if box.kind == b"meta":
        _meta(at, box, out)
    elif box.kind == b"XMP_":
        read_xmp(whole(at, box.body, box.end, "an XMP packet"), out)
    elif box.kind[:1] == b"\xa9":
        data = whole(at, box.body, box.end, "a text of user data")
        length = int.from_bytes(data[:2])  # then a language of two bytes
        out.add(f"mp4:{box.kind.decode('latin-1')}", text_of(data[4 : 4 + length]))


def _meta(at: At, meta: Box, out: Collector) -> None:
    """Item list (`ilst`) by four letters, or by the names of a `keys` box; a full box but in QuickTime."""
    start = meta.body if at(meta.body + 4, 4) in (b"hdlr", b"keys", b"ilst") else meta.body + 4
    inside = {box.kind: box for box in _shown(at, start, meta.end, out, "meta")}
    keys = _keys(at, inside[b"keys"]) if b"keys" in inside else []
    if b"ilst" not in inside:
        return
    for item in _shown(at, inside[b"ilst"].body, inside[b"ilst"].end, out, "ilst"):
        number = int.from_bytes(item.kind)
        name = keys[number - 1] if 0 < number <= len(keys) else item.kind.decode("latin-1")
        parts = {box.kind: box for box in _shown(at, item.body, item.end, out, "an item")}
        if item.kind == b"----" and b"name" in parts:
            name = text_of(whole(at, parts[b"name"].body + 4, parts[b"name"].end, "a name"))
        data = parts.get(b"data")
        if data is not None and int.from_bytes(at(data.body, 4)) == _TEXT:
            out.add(f"mp4:{_plain(name)}", text_of(whole(at, data.body + 8, data.end, "a value")))


def _plain(name: str) -> str:
    """A key without the owner that QuickTime writes before it."""
    return name.removeprefix("com.apple.quicktime.").lower() if len(name) > 4 else name


def _keys(at: At, box: Box) -> list[str]:
    data = whole(at, box.body, box.end, "the table of keys")
    names, offset = [], 8
    for _ in range(min(int.from_bytes(data[4:8]), 4096)):
        size = int.from_bytes(data[offset : offset + 4])
        if size < 8 or offset + size > len(data):
            raise Malformed("a key ends in its table")
        names.append(text_of(data[offset + 8 : offset + size]))
        offset += size
    return names


def _items(at: At, meta: Box, out: Collector) -> None:
    """EXIF and XMP items of a picture in HEIF (ISO/IEC 23008-12, annex A; ISO/IEC 14496-12, 8.11)."""
    inside = {box.kind: box for box in _shown(at, meta.body + 4, meta.end, out, "meta")}
    if b"iinf" not in inside or b"iloc" not in inside:
        return
    kinds = _item_kinds(at, inside[b"iinf"], out)
    places = _item_places(whole(at, inside[b"iloc"].body, inside[b"iloc"].end, "iloc"))
    idat = inside.get(b"idat")
    for number, kind in kinds.items():
        if number in places:
            method, extents = places[number]
            base = idat.body if method == 1 and idat is not None else 0
            if method > 1 or sum(length for _, length in extents) > MAX_TEXT:
                out.trouble("an item of metadata was left out")
                continue
            data = b"".join(at(base + start, length) for start, length in extents)
            if kind == "Exif":  # four bytes say where the TIFF structure begins
                read_exif(data[4 + int.from_bytes(data[:4]) :], out)
            else:
                read_xmp(data, out)


def _item_kinds(at: At, iinf: Box, out: Collector) -> dict[int, str]:
    version = at(iinf.body, 1)
    found = {}
    start = iinf.body + (6 if version == b"\0" else 8)
    for box in _shown(at, start, iinf.end, out, "iinf"):
        data = whole(at, box.body, box.end, "infe")
        wide = data[:1] == b"\3"
        number = int.from_bytes(data[4 : 8 if wide else 6])
        rest = data[10 if wide else 8 :]
        if rest[:4] == b"Exif" or (rest[:4] == b"mime" and b"application/rdf+xml\0" in rest):
            found[number] = rest[:4].decode()
    return found


def _item_places(data: bytes) -> dict[int, tuple[int, list[tuple[int, int]]]]:
    """Construction method and extents of each item (8.11.3)."""
    version, offset = data[0], 6
    sizes = (data[4] >> 4, data[4] & 15, data[5] >> 4, data[5] & 15 if version else 0)

    def number(size: int) -> int:
        nonlocal offset
        if offset + size > len(data):
            raise Malformed("iloc ends with its items")
        offset += size
        return int.from_bytes(data[offset - size : offset])

    found = {}
    for _ in range(number(2 if version < 2 else 4)):
        item = number(2 if version < 2 else 4)
        method = number(2) & 15 if version else 0
        number(2)  # the file that holds the data: this one
        base = number(sizes[2])
        extents = []
        for _ in range(number(2)):
            number(sizes[3])
            start, length = number(sizes[0]), number(sizes[1])
            extents.append((base + start, length))
        found[item] = (method, extents)
    return found


def read_jxl(at: At, size: int, out: Collector) -> None:
    """JPEG XL container (ISO/IEC 18181-2, 9): its EXIF and XML boxes; packed ones are told."""
    for box in _shown(at, 0, size, out, "the file"):
        if box.kind == b"Exif":
            data = whole(at, box.body, box.end, "the EXIF box")
            read_exif(data[4 + int.from_bytes(data[:4]) :], out)
        elif box.kind == b"xml ":
            read_xmp(whole(at, box.body, box.end, "the XML box"), out)
        elif box.kind == b"brob":
            out.trouble("a packed box of metadata was not looked at")


# Matroska (RFC 9559): identifiers of the elements on the way to tags and information
_EBML, _SEGMENT, _INFO, _TAGS, _TAG, _TARGETS, _SIMPLE = (
    0x1A45DFA3, 0x18538067, 0x1549A966, 0x1254C367, 0x7373, 0x63C0, 0x67C8,
)  # fmt: skip
_NAME, _STRING = 0x45A3, 0x4487
_INFOS = {0x7BA9: "title", 0x4D80: "muxingapp", 0x5741: "writingapp"}
_OF_A_PART = {0x63C5, 0x63C9, 0x63C4, 0x63C6}  # a track, an edition, a chapter, an attachment


@dataclass(frozen=True, kw_only=True)
class _Element:
    name: int
    start: int
    end: int


def read_matroska(at: At, size: int, out: Collector) -> None:
    """The tags of the whole segment, by their names in lower case."""
    for element in _elements(at, 0, size):
        if element.name == _SEGMENT:
            for part in _elements(at, element.start, element.end):
                if part.name == _EBML:  # another file behind a segment of unknown size
                    break
                _segment(at, part, out)
            behind(at, element.end, size, "the segment", out)
            return
        if element.name != _EBML:
            break
    raise Malformed("a Matroska file is a head and a segment")


def _segment(at: At, part: _Element, out: Collector) -> None:
    if part.name == _INFO:
        for item in _elements(at, part.start, part.end):
            if item.name in _INFOS:
                data = whole(at, item.start, item.end, "a text")
                out.add(f"ebml:{_INFOS[item.name]}", text_of(data))
    elif part.name == _TAGS:
        for tag in _elements(at, part.start, part.end):
            if tag.name == _TAG:
                _tag(at, tag, out)


def _tag(at: At, tag: _Element, out: Collector) -> None:
    inside = list(_elements(at, tag.start, tag.end))
    targets = [
        t for one in inside if one.name == _TARGETS for t in _elements(at, one.start, one.end)
    ]
    if any(target.name in _OF_A_PART for target in targets):
        return
    for one in inside:
        if one.name == _SIMPLE:
            texts = {
                item.name: text_of(whole(at, item.start, item.end, "a tag"))
                for item in _elements(at, one.start, one.end)
                if item.name in (_NAME, _STRING)
            }
            out.add(f"ebml:{texts.get(_NAME, '').lower()}", texts.get(_STRING, ""))


def _elements(at: At, start: int, end: int) -> Iterator[_Element]:
    """The elements of a range (RFC 8794, 4); one of unknown size goes to its end."""
    for _ in range(MAX_PARTS):
        if start >= end:
            return
        head = at(start, 12)
        first = _width(head[:1], 4)
        size_at = head[first : first + 8]
        second = _width(size_at[:1], 8)
        if len(size_at) < second:
            raise Malformed("an element has a size")
        length = int.from_bytes(size_at[:second]) & ((1 << 7 * second) - 1)
        body = start + first + second
        unknown = length == (1 << 7 * second) - 1
        stop = end if unknown else body + length
        if stop > end:
            raise Malformed("an element ends in its parent")
        yield _Element(name=int.from_bytes(head[:first]), start=body, end=stop)
        start = stop
    raise Malformed("too many elements")


def _width(first: bytes, most: int) -> int:
    """Bytes of a number by the zeros that it begins with."""
    width = 9 - first[0].bit_length() if first and first[0] else 9
    if width > most:
        raise Malformed("an element begins with a number of at most eight bytes")
    return width
