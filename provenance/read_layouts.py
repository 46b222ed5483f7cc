"""Where a manifest store lies in files that only the library writes: MP3, FLAC and JPEG XL.

Whatever is not exactly as the library writes it is Malformed, and then the library reads it.
"""

from collections.abc import Callable

from assaymark.provenance.bmff import boxes
from assaymark.provenance.layout import C2PA, At, Layout, Malformed

_TEXT = 1 << 16  # bytes of a text in a tag
# the description of a store's box, after its length: type, that it has a name, and the name (11.1.4.2)
_STORE = b"jumd" + C2PA + b"\3c2pa\0"
# encoding, media type, name and description, as the library writes a GEOB frame
_GEOB = b"\3application/c2pa\0c2pa\0c2pa manifest store\0"


def id3(at: At, size: int) -> Layout:
    """C2PA 2.4, A.3.4 and A.3.5: a GEOB frame of the ID3 2.4 tag that an MP3 or FLAC file begins with."""
    head = at(0, 10)
    if head[:6] != b"ID3\4\0\0" or len(head) < 10:
        raise Malformed("an ID3 2.4 tag without flags begins the file")
    offset, end = 10, 10 + _syncsafe(head[6:10])
    if end > size:
        raise Malformed("a tag ends in the file")
    store: list[tuple[int, int]] = []
    while offset + 10 <= end and (frame := at(offset, 10))[0]:
        body, last = offset + 10, offset + 10 + _syncsafe(frame[4:8])
        if last > end or last == body or frame[8:] != b"\0\0":
            raise Malformed("a frame without flags ends in its tag")
        if frame[:4] != b"GEOB":
            _check_text(frame[:4], at(body, last - body if last - body <= _TEXT else 0))
        elif at(body, len(_GEOB)) == _GEOB:
            store.append((body + len(_GEOB), last))
        else:
            raise Malformed("another object in the tag, which may be a manifest by another name")
        offset = last
    rest = at(offset, min(end - offset, _TEXT))
    if rest and (any(rest) or len(rest) < 10):
        raise Malformed("what follows the frames of a tag is zero")
    return _only(at, size, store)


def jxl(at: At, size: int) -> Layout:
    """C2PA 2.4, A.3.9: a jumb box at the top level; the store is that box."""
    if at(0, 12) != b"\0\0\0\x0cJXL \r\n\x87\n":
        raise Malformed("a JPEG XL container begins with its signature")
    found = list(boxes(at, 0, size))
    if any(box.kind == b"brob" for box in found):
        raise Malformed("boxes that are packed")
    return _only(at, size, [(box.start, box.end) for box in found if box.kind == b"jumb"])


def _check_text(name: bytes, body: bytes) -> None:
    """Raise Malformed but for a text in UTF-8: the library gives up a tag with a frame that is damaged."""
    try:
        if name[:1] != b"T" or not name.isalnum() or body[:1] != b"\3":
            raise Malformed("a frame that only the library knows")
        body.decode()
    except UnicodeDecodeError as error:
        raise Malformed("a text that is not UTF-8") from error


def _only(at: At, size: int, store: list[tuple[int, int]]) -> Layout:
    """The layout of a file that is read, not written: its one store has nothing around it."""
    if len(store) > 1:
        raise Malformed("two manifest stores")
    if any(at(start + 12, len(_STORE)) != _STORE for start, _ in store):
        raise Malformed("a box that is no manifest store by its name")
    return Layout(size=size, insert_at=0, found=tuple(store), store=tuple(store))


def _syncsafe(data: bytes) -> int:
    """ID3 2.4, section 6.2: seven bits of each byte."""
    if any(byte & 128 for byte in data):
        raise Malformed("a size of ID3 has seven bits a byte")
    return sum(byte << shift for byte, shift in zip(data, (21, 14, 7, 0), strict=True))


READ_LAYOUTS: dict[str, Callable[[At, int], Layout]] = {
    "audio/mpeg": id3,
    "audio/flac": id3,
    "image/jxl": jxl,
}
