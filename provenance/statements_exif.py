"""EXIF (CIPA DC-008) and TIFF 6.0: the texts of the first and of the EXIF directory, and the camera.

The directory of the thumbnail makes no statement about the picture.
"""

import struct
from dataclasses import dataclass

from assaymark.provenance.layout import At, Malformed
from assaymark.provenance.statements import MAX_TEXT, Camera, Collector, guarded, text_of, within
from assaymark.provenance.statements_iptc import read_iptc, read_resources
from assaymark.provenance.statements_xmp import read_xmp

_ENTRIES = 1000
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
_TEXTS = {
    0x010D: "DocumentName",
    0x010E: "ImageDescription",
    0x010F: "Make",
    0x0110: "Model",
    0x0131: "Software",
    0x013B: "Artist",
    0x013C: "HostComputer",
    0x8298: "Copyright",
    0x9286: "UserComment",
}
_WINDOWS = {0x9C9B: "XPTitle", 0x9C9C: "XPComment", 0x9C9D: "XPAuthor", 0x9C9E: "XPKeywords"}
_MAKER_NOTE, _EXPOSURE, _THUMBNAIL = 0x927C, (0x829A, 0x829D, 0x8827), 0x0201
_EXIF, _GPS, _XMP, _IPTC, _RESOURCES = 0x8769, 0x8825, 0x02BC, 0x83BB, 0x8649
# How maker notes begin, and a word of the make that they belong to; Canon's and others' have no name.
_NOTES = {
    b"Nikon\0": "nikon",
    b"OLYMP\0": "olympus",
    b"OLYMPUS\0": "olympus",
    b"OM SYSTEM\0": "om digital",
    b"FUJIFILM": "fujifilm",
    b"Apple iOS\0": "apple",
    b"SONY DSC \0": "sony",
    b"SONY CAM \0": "sony",
    b"Panasonic\0": "panasonic",
    b"LEICA\0": "leica",
    b"PENTAX \0": "pentax",
    b"AOC\0": "pentax",
    b"SIGMA\0\0\0": "sigma",
    b"EPSON\0": "epson",
}


@dataclass(frozen=True, kw_only=True)
class _Entry:
    kind: int
    size: int
    offset: int


@dataclass(frozen=True, kw_only=True)
class _File:
    """A TIFF structure. order: `<` or `>` of struct; wide: the 8 bytes of BigTIFF for offsets."""

    at: At
    size: int
    order: str
    wide: bool

    def number(self, offset: int, size: int) -> int:
        data = self.at(offset, size)
        if len(data) < size:
            raise Malformed("a directory ends with it")
        return int.from_bytes(data, "little" if self.order == "<" else "big")

    def directory(self, offset: int) -> tuple[dict[int, _Entry], int]:
        """Its entries by tag, the first of each, and where the next directory is (0: nowhere)."""
        width, count_size = (8, 8) if self.wide else (4, 2)
        count = self.number(offset, count_size)
        if count > _ENTRIES:
            raise Malformed(f"a directory of {count} entries")
        start, step = offset + count_size, 4 + 2 * width
        rows = self.at(start, count * step)
        if len(rows) < count * step:
            raise Malformed("a directory ends with it")
        found: dict[int, _Entry] = {}
        for n in range(count):
            tag, kind = struct.unpack_from(f"{self.order}HH", rows, n * step)
            at = start + n * step + 4
            size = self.number(at, width) * _SIZES.get(kind, 0)
            place = at + width if size <= width else self.number(at + width, width)
            found.setdefault(tag, _Entry(kind=kind, size=size, offset=place))
        return found, self.number(start + count * step, width)

    def value(self, entry: _Entry) -> bytes:
        """The bytes of a value, none where it is larger than a text or lies outside."""
        if entry.size > MAX_TEXT or entry.offset + entry.size > self.size:
            return b""
        return self.at(entry.offset, entry.size)

    def pointer(self, entry: _Entry) -> int:
        return self.number(entry.offset, 8 if entry.kind in (16, 18) else 4)


def read_exif(data: bytes, out: Collector) -> None:
    """The EXIF block of a picture, with or without the name that JPEG puts before it."""
    data = data.removeprefix(b"Exif\0\0")
    guarded(read_tiff, within(data), len(data), out, "the EXIF block")


def read_tiff(at: At, size: int, out: Collector) -> None:
    """A TIFF file or structure; raises Malformed."""
    head = at(0, 16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 8:
        raise Malformed("it begins with II or MM")
    version = int.from_bytes(head[2:4], "little" if order == "<" else "big")
    if version not in (42, 43):
        raise Malformed(f"its version is 42 or 43, not {version}")
    tiff = _File(at=at, size=size, order=order, wide=version == 43)
    first, following = tiff.directory(tiff.number(8 if tiff.wide else 4, 8 if tiff.wide else 4))
    exif = tiff.directory(tiff.pointer(first[_EXIF]))[0] if _EXIF in first else {}
    for entries in (first, exif):
        _texts(tiff, entries, out)
    _packets(tiff, first, out)
    if out.camera is None:
        out.camera = _camera(tiff, first, exif, following)


def _texts(tiff: _File, entries: dict[int, _Entry], out: Collector) -> None:
    for tag, entry in entries.items():
        data = tiff.value(entry)
        if tag == 0x9286:
            out.add("exif:UserComment", user_comment(data, tiff.order))
        elif tag in _TEXTS and entry.kind in (1, 2, 7):
            out.add(f"exif:{_TEXTS[tag]}", text_of(data.split(b"\0", 1)[0]))
        elif tag in _WINDOWS and entry.kind == 1:
            out.add(f"exif:{_WINDOWS[tag]}", data.decode("utf-16-le", "replace"))
        elif tag == _MAKER_NOTE and entry.kind == 2:  # a word, where a camera has a structure
            out.add("exif:MakerNote", text_of(data.split(b"\0", 1)[0]))


def user_comment(data: bytes, order: str = ">") -> str:
    """The text of a UserComment by its character code (CIPA DC-008, 4.6.6), or of one that has none.

    UNICODE is written in both byte orders, whatever the order of the file: the one that gives more
    ASCII is taken.
    """
    code, rest = data[:8], data[8:]
    if code == b"UNICODE\0":
        codes = ("utf-16-be", "utf-16-le") if order == ">" else ("utf-16-le", "utf-16-be")
        texts = [rest[: len(rest) // 2 * 2].decode(name, "replace") for name in codes]
        return max(texts, key=lambda text: sum(character < "\x80" for character in text))
    if code in (b"ASCII\0\0\0", bytes(8)):
        return text_of(rest)
    return rest.decode("shift_jis", "replace") if code == b"JIS\0\0\0\0\0" else text_of(data)


def _packets(tiff: _File, first: dict[int, _Entry], out: Collector) -> None:
    if _XMP in first:
        read_xmp(tiff.value(first[_XMP]), out)
    if _IPTC in first:
        read_iptc(tiff.value(first[_IPTC]), out)
    if _RESOURCES in first:
        read_resources(tiff.value(first[_RESOURCES]), out)


def _camera(
    tiff: _File, first: dict[int, _Entry], exif: dict[int, _Entry], following: int
) -> Camera | None:
    make, model = (
        text_of(tiff.value(first[tag]).split(b"\0", 1)[0]).strip() if tag in first else ""
        for tag in (0x010F, 0x0110)
    )
    if not make or not model:
        return None
    note = tiff.value(exif[_MAKER_NOTE])[:16] if _MAKER_NOTE in exif else b""
    try:
        thumbnail = bool(following) and _THUMBNAIL in tiff.directory(following)[0]
    except Malformed:
        thumbnail = False
    return Camera(
        make=make,
        model=model,
        exposure=any(tag in exif for tag in _EXPOSURE),
        maker_note=next((word for start, word in _NOTES.items() if note.startswith(start)), ""),
        thumbnail=thumbnail,
        position=_GPS in first,
    )
