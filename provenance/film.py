"""Signing large films (MP4, MOV, M4A) in one pass, with Merkle leaves of their samples.

The C2PA box comes after ftyp and before moov and mdat (C2PA 2.4, A.5.3), so chunk offsets move. A free
box behind it, which no hash covers, takes up what the leaves did not need. Small files, pictures,
fragmented files and files with a manifest are signed by the library.
"""

import ctypes
import os

import c2pa

from assaymark.provenance import native
from assaymark.provenance.bmff import Box, Move, movable, moved
from assaymark.provenance.job import Job
from assaymark.provenance.layout import STORE_LIMIT, Malformed, reader
from assaymark.provenance.onepass import sign_by_streams
from assaymark.provenance.sink import Sink

LARGE = 1 << 24  # bytes; the library needs as much memory as a smaller file has
_LEAVES = 8192  # at most, each 34 bytes in the manifest
_LEAST = 1 << 19  # bytes of a leaf; half as much time as leaves of a megabyte take
_LEAF = 64  # bytes that a leaf takes up at most
_SPARE = 4096  # bytes for the rest of the Merkle map


def sign_film(job: Job) -> None:
    """Write job.target; raises what the library raises."""
    source = os.open(job.source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(source).st_size
        if not native.available() or size < LARGE:
            return sign_by_streams(job)
        with job.builder() as builder:
            if not getattr(builder, "_has_context_signer", False):
                raise Malformed("the library signs BMFF hashes by its context's signer only")
            _sign(job, builder, source, movable(reader(source), size))
    except Malformed:
        sign_by_streams(job)
    finally:
        os.close(source)
    return None


def _sign(job: Job, builder: c2pa.Builder, source: int, found: list[Box]) -> None:
    media_type = job.format.media_type
    samples = sum(box.end - box.body for box in found if box.kind == b"mdat")
    leaf = _LEAST * -(-samples // (_LEAST * _LEAVES))
    placeholder = native.bmff_placeholder(builder, media_type, leaf >> 10)
    count = samples // leaf + len(found)
    room = len(placeholder) + count * _LEAF + _SPARE
    with Sink(job.target, found[-1].end + room) as target:
        _copy(builder, source, target, found, room)
        target.patch(_filled(placeholder, room), found[0].end)
        with native.FdStream(job.target) as stream:
            native.hash_boxes(builder, media_type, stream)
        target.patch(_filled(native.sign_bmff(builder, media_type), room), found[0].end)
        target.sync()


def _filled(box: bytes, room: int) -> bytes:
    """The box and a free one behind it, together as long as the room."""
    rest = room - len(box)
    if rest < 8:
        raise Malformed("the manifest is longer than the room kept for it")
    return box + rest.to_bytes(4) + b"free" + bytes(rest - 8)


def _copy(builder: c2pa.Builder, source: int, target: Sink, found: list[Box], room: int) -> None:
    moves, films = _moves(found, room), 0
    for box in found:
        if box.kind == b"moov":
            target.write(_moved(source, box, moves))
        elif box.kind == b"mdat":
            target.write(_long_header(box))
            for block in target.copied(source, box.body, box.end):
                address = ctypes.addressof(ctypes.c_char.from_buffer(block))
                native.hash_mdat(builder, films, address, len(block), large=True)
            films += 1
        else:
            for _ in target.copied(source, box.start, box.end):
                pass
        if box.start == 0:
            target.write(bytes(room))


def _long_header(box: Box) -> bytes:
    """Of an mdat; the leaves begin 16 bytes into the box, so the header must end there.

    With a short header one engine skips the first eight bytes of the samples, and another does not.
    """
    return b"\0\0\0\1mdat" + (box.end - box.body + 16).to_bytes(8)


def _moves(found: list[Box], room: int) -> list[Move]:
    moves, by = [], room
    for box in found:
        if box.kind == b"mdat":
            by += 16 - (box.body - box.start)
            moves.append(Move(start=box.body, end=box.end, by=by))
    return moves


def _moved(source: int, box: Box, moves: list[Move]) -> bytes:
    if box.end - box.start > STORE_LIMIT:
        raise Malformed("a moov that is too large")
    return moved(os.pread(source, box.end - box.start, box.start), moves)
