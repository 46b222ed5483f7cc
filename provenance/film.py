"""Signing large films (MP4, MOV, M4A) in one pass, with a hash and Merkle leaves of our own.

The C2PA box comes after ftyp and before moov and mdat (C2PA 2.4, A.5.3), so chunk offsets move. A free
box behind it, which no hash covers, takes up what the manifest did not need. Small files, pictures,
fragmented files and files with a manifest are signed by the library.
"""

import hashlib
import os
from collections.abc import Iterable
from typing import Any

from assaymark.provenance import native
from assaymark.provenance.bmff import C2PA_UUID, Box, Move, movable, moved
from assaymark.provenance.job import Job
from assaymark.provenance.layout import STORE_LIMIT, Malformed, reader
from assaymark.provenance.onepass import sign_by_streams
from assaymark.provenance.sink import BLOCK, Sink

LARGE = 1 << 24  # bytes; the library needs as much memory as a smaller file has
_LEAVES = 8192  # at most
_LEAF = 36  # bytes that a leaf takes up in the manifest, at most
SPARE = (
    1 << 14
)  # bytes kept for a manifest besides its leaves; one that is longer takes a second copy
_UNHASHED = (b"ftyp", b"free", b"skip")


def sign_film(job: Job) -> None:
    """Write job.target; raises what the library raises."""
    source = os.open(job.source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(source).st_size
        if not native.available() or size < LARGE:
            return sign_by_streams(job)
        _sign(job, source, movable(reader(source), size))
    except Malformed:
        sign_by_streams(job)
    finally:
        os.close(source)
    return None


def _sign(job: Job, source: int, found: list[Box]) -> None:
    samples = [box.end - box.body for box in found if box.kind == b"mdat"]
    if samples == [0]:
        raise Malformed("an mdat without samples has no leaves")
    # c2pa-rs 0.91 takes the leaves of several mdat boxes for one another's, now and then
    leaf = BLOCK * -(-samples[0] // (BLOCK * _LEAVES)) if len(samples) == 1 else None
    room = SPARE + (_LEAF * (samples[0] // leaf + 1) if leaf else 0)
    if not _signed(job, source, found, leaf, room):
        raise Malformed("the manifest is longer than the room kept for it")


def _signed(
    job: Job, source: int, found: list[Box], leaf: int | None, room: int, again: bool = True
) -> bool:
    """Whether the manifest went into its room; a longer one gets the room it needs, once."""
    with Sink(job.target, found[-1].end + room) as target:
        binding = _copy(source, target, found, leaf, room)
        with job.builder(hard_binding=binding) as builder:
            if not getattr(builder, "_has_context_signer", False):
                raise Malformed("the library signs a ready hash by its context's signer only")
            box = native.sign_bmff(builder, job.format.media_type)
        if len(box) + 8 <= room:
            target.patch(_filled(box, room), found[0].end)
            target.sync()
            return True
    # a time stamp's length is not always the same
    return again and _signed(job, source, found, leaf, len(box) + SPARE, again=False)


def _filled(box: bytes, room: int) -> bytes:
    """The box and a free one behind it, together as long as the room."""
    rest = room - len(box)
    return box + rest.to_bytes(4) + b"free" + bytes(rest - 8)


def _copy(
    source: int, target: Sink, found: list[Box], leaf: int | None, room: int
) -> dict[str, Any]:
    """Write all but the manifest; the c2pa.hash.bmff.v3 assertion (section 18.6) of what is written.

    leaf: bytes of a leaf of the only mdat; None hashes everything as one.
    """
    moves, digest = _moves(found, room), hashlib.sha256()
    merkle: list[dict[str, Any]] = []

    def put(data: bytes) -> None:
        digest.update(data)
        target.write(data)

    for box in found:
        blocks = target.copied(source, box.start if box.kind != b"mdat" else box.body, box.end)
        if box.kind not in _UNHASHED:
            digest.update(target.length.to_bytes(8))
        if box.kind == b"mdat":
            put(_long_header(box))
        if box.kind == b"moov":
            put(_moved(source, box, moves))
        elif box.kind == b"mdat" and leaf:
            merkle.append(_leaves(blocks, leaf))
        else:
            for block in blocks:
                if box.kind not in _UNHASHED:
                    digest.update(block)
        if box.start == 0:
            target.write(bytes(room))
    made = {"exclusions": _exclusions(merkle), "alg": "sha256", "hash": list(digest.digest())}
    return made | ({"merkle": merkle} if merkle else {}) | {"name": "jumbf manifest"}


def _leaves(blocks: Iterable[memoryview], leaf: int) -> dict[str, Any]:
    """The Merkle map of an mdat; a leaf is a whole number of blocks, and the last one what remains."""
    hashed, size = [hashlib.sha256()], 0
    for block in blocks:
        if size == leaf:
            hashed.append(hashlib.sha256())
            size = 0
        hashed[-1].update(block)
        size += len(block)
    return {
        "uniqueId": 0,
        "localId": 0,
        "count": len(hashed),
        "alg": "sha256",
        "hashes": [list(made.digest()) for made in hashed],
        "fixedBlockSize": leaf,
    }


def _exclusions(merkle: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The boxes that section 18.6.2.1 leaves out, and of an mdat what its leaves hold."""
    manifest = {"xpath": "/uuid", "data": [{"offset": 8, "value": list(C2PA_UUID)}]}
    whole = [{"xpath": path} for path in ("/ftyp", "/mfra", "/free", "/skip")]
    samples = [{"xpath": "/mdat", "subset": [{"offset": 16, "length": 0}]}] if merkle else []
    return [manifest, *whole, *samples]


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
