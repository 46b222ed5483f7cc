"""Signing JPEG, PNG and RIFF files in one pass: copy and hash, sign the digest, put the manifest in.

A manifest that the source carries is left out of the copy; its history is in the builder's parent
ingredient. Where the structure is not exactly known, the library signs in its own way.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import c2pa

from assaymark.provenance import native
from assaymark.provenance.formats import Format, Route
from assaymark.provenance.job import Job
from assaymark.provenance.layout import At, Damaged, Layout, Malformed, jpeg, png, reader, riff
from assaymark.provenance.plain import sign_plain
from assaymark.provenance.sink import Sink, empty
from assaymark.reports.errors import InputError

_SEARCHED = 1 << 22  # bytes
# what a manifest store begins with (ISO 19566-5), and what XMP does; a long sign is found faster
_STORE = b"jumdc2pa"
_SIGNS = {
    Route.JPEG: (_STORE, b"http://ns.adobe.com/xap/1.0/"),
    Route.PNG: (_STORE, b"XML:com.adobe.xmp"),
    Route.RIFF: (_STORE, b"provenance"),
}
SMALL = 1 << 22  # bytes up to which the library's own way is faster
_RIFF_LIMIT = 2**32 - 1 + 8
LAYOUTS: dict[Route, Callable[[At, int], Layout]] = {
    Route.JPEG: jpeg,
    Route.PNG: png,
    Route.RIFF: riff,
}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The signed file: the copy of these ranges of the source, with a hole for the manifest.

    head: bytes that stand in place of the source's first ones.
    """

    before: tuple[tuple[int, int], ...]
    after: tuple[tuple[int, int], ...]
    hole: int
    head: bytes = b""

    @property
    def start(self) -> int:
        """Where the hole begins in the signed file."""
        return _total(self.before)


def sign_one_pass(job: Job) -> None:
    """Write job.target; the manifest is the one that the library would have written."""
    if not native.available():
        return sign_plain(job)
    source = os.open(job.source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(source).st_size
        if size <= SMALL and job.format.route is not Route.RIFF:
            return sign_by_streams(job)
        layout = LAYOUTS[job.format.route](reader(source), size)
        if size <= SMALL:
            return sign_by_streams(job)
        with job.builder() as builder:
            _sign(job, builder, source, layout)
    except Damaged as error:
        raise InputError(
            f"{job.source} cannot be signed without losing content: {error}; write it anew with the "
            "program that made it"
        ) from error
    except Malformed:
        sign_by_streams(job)
    finally:
        os.close(source)
    return None


def has_no_manifest(path: Path, kind: Format) -> bool:
    """Whether a JPEG, PNG or RIFF file surely carries no manifest and names none; False: unknown.

    A store names itself in its first box, uncompressed in each of these, and a reference to one
    elsewhere is in XMP. So a work that was just made need not be read by the library first.
    """
    signs = _SIGNS.get(kind.route)
    if signs is None or path.stat().st_size > _SEARCHED:
        return False
    data = path.read_bytes()
    return not any(sign in data for sign in signs)


def sign_by_streams(job: Job) -> None:
    """The library's own way over native streams; without them, over Python's."""
    if not native.available():
        return sign_plain(job)
    with (
        job.builder() as builder,
        native.FdStream(job.source) as source,
        native.FdStream(job.target, os.O_RDWR) as target,
    ):
        empty(target.fd)
        try:
            native.sign_stream(builder, job.signer, job.format.media_type, source, target)
        except c2pa.C2paError.Io:
            _check_room(target.fd)
            raise
    return None


def _check_room(target: int) -> None:
    """Raise the OSError of a disk that takes no more; the library only says that writing failed."""
    os.pwrite(target, bytes(1 << 16), os.fstat(target).st_size)


def _sign(job: Job, builder: c2pa.Builder, source: int, layout: Layout) -> None:
    media_type = composed_as(job.format.route, job.format.media_type)
    placeholder = native.data_hash_placeholder(builder, job.signer, media_type)
    plan = plan_for(job.format.route, layout, len(placeholder), reader(source))
    digest = hashlib.sha256()
    with Sink(job.target, layout.size + plan.hole) as target:
        _copy(source, target, plan, digest.update)
        target.patch(sign_hole(builder, job.signer, media_type, digest.digest(), plan), plan.start)
        target.sync()


def composed_as(route: Route, media_type: str) -> str:
    """What the library is to wrap the manifest for; RIFF's chunk is ours to write."""
    return native.STORE if route is Route.RIFF else media_type


def plan_for(route: Route, layout: Layout, manifest: int, at: At) -> Plan:
    """Where everything goes; manifest: the length of the store as the library wraps it."""
    before = tuple(_without(layout.found, 0, layout.insert_at))
    after = tuple(_without(layout.found, layout.insert_at, layout.size))
    if route is not Route.RIFF:
        return Plan(before=before, after=after, hole=manifest)
    if layout.found:  # it is the last chunk, and its padding goes with it
        before = ((0, layout.found[0][0]),)
    hole = 8 + manifest
    size = _total(before) + hole + (hole & 1)
    if size > _RIFF_LIMIT:
        raise Malformed("a RIFF file has less than 4 GiB")
    head = at(0, 4) + (size - 8).to_bytes(4, "little")
    return Plan(before=before, after=(), hole=hole, head=head)


def sign_hole(
    builder: c2pa.Builder, signer: c2pa.Signer, media_type: str, digest: bytes, plan: Plan
) -> bytes:
    """The bytes of the hole, and a RIFF chunk's padding behind it."""
    manifest = native.sign_data_hash(
        builder, signer, digest, (plan.start, plan.hole), media_type=media_type
    )
    if media_type == native.STORE:
        manifest = b"C2PA" + len(manifest).to_bytes(4, "little") + manifest
    if len(manifest) != plan.hole:
        raise c2pa.C2paError(f"the manifest has {len(manifest)} bytes, not {plan.hole}")
    return manifest


def _copy(source: int, target: Sink, plan: Plan, update: Callable[[memoryview], None]) -> None:
    head = plan.head
    for start, end in plan.before:
        for block in target.copied(source, start, end):
            if head:
                block[: len(head)] = head
                head = b""
            update(block)
    target.write(bytes(plan.hole))
    for start, end in plan.after:
        for block in target.copied(source, start, end):
            update(block)
    if plan.head and plan.hole & 1:  # RIFF: the padding of our chunk is hashed
        update(memoryview(b"\0"))
        target.write(b"\0")


def _without(found: tuple[tuple[int, int], ...], start: int, end: int) -> Iterator[tuple[int, int]]:
    """The parts of [start, end) outside of the ranges found."""
    for low, high in found:
        if start <= low < end:
            if start < low:
                yield start, low
            start = high
    if start < end:
        yield start, end


def _total(ranges: tuple[tuple[int, int], ...]) -> int:
    return sum(end - start for start, end in ranges)
