"""ISO base media files (ISO/IEC 14496-12): their top-level boxes, and moving what they point to."""

import struct
import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from assaymark.provenance.layout import STORE_LIMIT, At, Malformed

C2PA_UUID = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")  # C2PA 2.2, A.5.1.1
_BOXES = 1 << 16  # more top-level boxes than a file that is not fragmented has
_INSIDE = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"dinf"}
_HOLD_BOXES = _INSIDE | {
    b"moof",
    b"traf",
    b"mvex",
    b"mfra",
    b"edts",
    b"udta",
    b"meta",
    b"iprp",
    b"ipco",
}
# offsets into the file that we do not move: items, auxiliary data, fragments
_UNMOVED = (b"iloc", b"saio", b"mvex")
_MOVABLE = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"uuid", b"pdin"}


@dataclass(frozen=True, kw_only=True)
class Box:
    """A box [start, end) of the file; body: where its header ends."""

    kind: bytes
    start: int
    body: int
    end: int


def boxes(at: At, start: int, end: int) -> Iterator[Box]:
    """The boxes that fill [start, end); raises Malformed where they do not."""
    for _ in range(_BOXES):
        if start == end:
            return
        head = at(start, 16)
        if len(head) < 8:
            raise Malformed("a box has a size and a type")
        size, kind = struct.unpack(">I4s", head[:8])
        body = start + 8
        if size == 1 and len(head) == 16:
            size, body = int.from_bytes(head[8:]), start + 16
        elif size == 0:
            size = end - start
        if start + size < body or start + size > end:
            raise Malformed("a box ends in its file")
        yield Box(kind=kind, start=start, body=body, end=start + size)
        start += size
    raise Malformed("too many boxes")


def check_count(at: At, size: int) -> None:
    """Raise OSError for more boxes, at any depth, than are read: c2pa's time grows with their square.

    Where the structure is broken it is not followed further.
    """
    left, waiting = _BOXES, [(0, size)]
    while waiting:
        start, end = waiting.pop()
        while end - start >= 8:
            length, kind = struct.unpack(">I4s", at(start, 8).ljust(8, b"\0"))
            head = 16 if length == 1 else 8
            if length == 1:
                length = int.from_bytes(at(start + 8, 8))
            stop = start + length if length else end
            left -= 1
            if not left:
                raise OSError(f"it has more than {_BOXES} boxes, which would take too long to read")
            if (length and length < head) or stop > end:
                break
            if kind in _HOLD_BOXES:
                waiting.append((start + head + (4 if kind == b"meta" else 0), stop))
            start = stop


def manifest_store(at: At, found: list[Box]) -> bytes | None:
    """The store of the only C2PA box; None where there is none, or another one, or it is too large."""
    ours = [box for box in found if is_c2pa(at, box)]
    if len(ours) != 1 or ours[0].end - ours[0].start > STORE_LIMIT:
        return None
    data = at(ours[0].body + 16, ours[0].end - ours[0].body - 16)
    # version and flags, purpose, offset of the first auxiliary box (A.5.3)
    if data[:13] != b"\0\0\0\0manifest\0" or len(data) < 29:
        return None
    length = int.from_bytes(data[21:25])  # what follows the store is padding
    return data[21 : 21 + length] if 8 <= length <= len(data) - 21 else None


def is_c2pa(at: At, box: Box) -> bool:
    """Whether a box is one of C2PA's."""
    return box.kind == b"uuid" and at(box.body, 16) == C2PA_UUID


def movable(at: At, size: int) -> list[Box]:
    """The top-level boxes of a file whose offsets we can move; Malformed for any other file."""
    found = list(boxes(at, 0, size))
    kinds = [box.kind for box in found]
    if not found or kinds[0] != b"ftyp" or kinds.count(b"moov") != 1 or b"mdat" not in kinds:
        raise Malformed("a film begins with ftyp and has one moov and an mdat")
    if not set(kinds) <= _MOVABLE or any(is_c2pa(at, box) for box in found):
        raise Malformed("boxes that we do not move")
    for box in found:
        if box.kind == b"mdat" and (box.end - box.start < 16 or at(box.start, 4) == b"\0\0\0\0"):
            raise Malformed("an mdat says how long it is")
    return found


@dataclass(frozen=True, kw_only=True)
class Move:
    """Bytes [start, end) of the source stand `by` further on in the signed file."""

    start: int
    end: int
    by: int


def moved(moov: bytes, moves: list[Move]) -> bytes:
    """A moov box whose chunk offsets (stco, co64) follow their samples; moves: by their start.

    Malformed where an offset points to none of them, or no longer fits.
    """
    if any(kind in moov for kind in _UNMOVED):
        raise Malformed("offsets that we do not move")
    changed = bytearray(moov)

    def at(start: int, size: int) -> bytes:
        return moov[start : start + size]

    for box in _leaves(at, 0, len(moov)):
        if box.kind == b"dref":
            _check_references(at, box)
        elif box.kind in (b"stco", b"co64"):
            changed[box.body + 8 : box.end] = _moved_table(at, box, moves)
    return bytes(changed)


def _leaves(at: At, start: int, end: int) -> Iterator[Box]:
    for box in boxes(at, start, end):
        if box.kind in _INSIDE:
            yield from _leaves(at, box.body, box.end)
        else:
            yield box


def _check_references(at: At, box: Box) -> None:
    for entry in boxes(at, box.body + 8, box.end):
        if not at(entry.body, 4)[3:] == b"\x01":  # the flag: samples are in this file
            raise Malformed("samples in another file")


def _moved_table(at: At, box: Box, moves: list[Move]) -> bytes:
    table = array("Q" if box.kind == b"co64" else "I")
    if table.itemsize != (8 if box.kind == b"co64" else 4):
        raise Malformed("a platform without these integers")
    data = at(box.body, box.end - box.body)
    if len(data) < 8 or len(data) - 8 != int.from_bytes(data[4:8]) * table.itemsize:
        raise Malformed("a table of chunk offsets is as long as it says")
    table.frombytes(data[8:])
    _big_endian(table)
    starts = [move.start for move in moves]
    try:
        moved = array(table.typecode, (_moved_to(offset, starts, moves) for offset in table))
    except OverflowError as error:
        raise Malformed("an offset that no longer fits") from error
    _big_endian(moved)
    return moved.tobytes()


def _moved_to(offset: int, starts: list[int], moves: list[Move]) -> int:
    index = bisect_right(starts, offset) - 1
    if index < 0 or offset >= moves[index].end:
        raise Malformed("an offset that points to no samples")
    return offset + moves[index].by


def _big_endian(table: "array[int]") -> None:
    if sys.byteorder == "little":
        table.byteswap()
