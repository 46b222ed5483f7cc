"""Signing a large WAV or AVI file in the file itself, with a journal that undoes it after a crash.

The manifest is the last chunk of a RIFF file, so that signing appends it and changes four bytes. Before
the first change, the size and the bytes that will change are on disk beside it, in
`.NAME.assaymark-undo`. Films are not signed so: their manifest stands before the samples
(C2PA 2.4, A.5.3), which would all have to move.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import c2pa

from assaymark.provenance import native
from assaymark.provenance.fast_read import manifest_holds
from assaymark.provenance.formats import Format, Route
from assaymark.provenance.job import Reading
from assaymark.provenance.layout import Layout, Malformed, reader, riff
from assaymark.provenance.onepass import Plan, composed_as, plan_for, sign_hole
from assaymark.provenance.room import room
from assaymark.provenance.sink import BLOCK, write_all
from assaymark.reports.errors import InputError

JOURNAL_LIMIT = 1 << 28  # bytes of a journal that are read
_FORMAT = "assaymark undo 1"


def sign_in_place(
    path: Path,
    kind: Format,
    builder: Callable[[], c2pa.Builder],
    signer: c2pa.Signer,
    context: c2pa.Context,
    accept: Callable[[Reading], None] = lambda reading: None,
) -> Reading:
    """Sign the file itself; the reading of its manifest, by a context that says who is trusted.

    accept: raises where that reading is not good enough, before the file is changed.

    A manifest that it carries is replaced; the builder's parent ingredient keeps its history. An
    unfinished earlier run is undone first. Raises InputError where this kind of file or this
    structure cannot be signed in place, c2pa.C2paError and OSError; then the file is as it was.
    """
    if kind.route is not Route.RIFF or not native.available():
        raise InputError(
            f"{path} is {kind.media_type}, which cannot be signed in place here: expected a RIFF file "
            "(WAV, AVI, WebP) and c2pa-rs 0.91 on Linux; sign a copy instead"
        )
    undo(path)
    with _locked(path) as descriptor:
        try:
            layout = riff(reader(descriptor), os.fstat(descriptor).st_size)
            with builder() as made:
                return _sign(path, descriptor, layout, kind, made, signer, context, accept)
        except Malformed as error:
            raise InputError(
                f"{path} cannot be signed in place: {error}; sign a copy instead"
            ) from error


def undo(path: Path) -> bool:
    """Restore a file whose signing did not end, byte for byte; False where nothing is to be undone.

    Raises InputError for a journal that is not ours or is damaged, and OSError.
    """
    journal = journal_of(path)
    if not os.path.lexists(journal):
        return False
    with _locked(path) as descriptor:
        _restore(descriptor, journal)
    return True


def journal_of(path: Path) -> Path:
    """Where the journal of a file lies."""
    return path.with_name(f".{path.name}.assaymark-undo")


def _sign(
    path: Path,
    descriptor: int,
    layout: Layout,
    kind: Format,
    builder: c2pa.Builder,
    signer: c2pa.Signer,
    context: c2pa.Context,
    accept: Callable[[Reading], None],
) -> Reading:
    media_type = composed_as(kind.route, kind.media_type)
    placeholder = native.data_hash_placeholder(builder, signer, media_type)
    plan = plan_for(kind.route, layout, len(placeholder), reader(descriptor))
    _write_journal(path, descriptor, layout.size, plan)
    try:
        manifest = sign_hole(builder, signer, media_type, _digest(descriptor, plan), plan)
        reading = manifest_holds(manifest[8:], kind, context)
        accept(reading)
        _put(descriptor, plan, manifest)
    except BaseException:
        _restore(descriptor, journal_of(path))
        raise
    _remove(journal_of(path))
    return reading


def _put(descriptor: int, plan: Plan, manifest: bytes) -> None:
    write_all(descriptor, manifest + bytes(plan.hole & 1), plan.start)
    os.ftruncate(descriptor, plan.start + plan.hole + (plan.hole & 1))
    write_all(descriptor, plan.head, 0)
    os.fsync(descriptor)


def _digest(descriptor: int, plan: Plan) -> bytes:
    digest, buffer = hashlib.sha256(plan.head), memoryview(bytearray(BLOCK))
    offset = len(plan.head)
    while offset < plan.start:
        count = os.preadv(descriptor, [buffer[: plan.start - offset]], offset)
        if not count:
            raise OSError("the file became shorter while it was read")
        digest.update(buffer[:count])
        offset += count
    digest.update(bytes(plan.hole & 1))
    return digest.digest()


# the journal


def _write_journal(path: Path, descriptor: int, size: int, plan: Plan) -> None:
    changed = [(0, len(plan.head)), (plan.start, size - plan.start)]
    record = {
        "format": _FORMAT,
        "size": size,
        "bytes": [[at, os.pread(descriptor, count, at).hex()] for at, count in changed if count],
    }
    text = json.dumps(record)
    sealed = {"record": text, "sha256": hashlib.sha256(text.encode()).hexdigest()}
    journal = journal_of(path)
    with room(path.parent) as folder:
        draft = folder / journal.name
        draft.write_text(json.dumps(sealed))
        _sync(draft)
        os.replace(draft, journal)
    _sync(journal.parent)


def _restore(descriptor: int, journal: Path) -> None:
    size, changed = _read_journal(journal)
    if os.fstat(descriptor).st_size < max((at for at, _ in changed), default=0):
        raise InputError(f"{journal} is not the journal of this file: it is shorter; remove one")
    for at, data in changed:
        write_all(descriptor, data, at)
    os.ftruncate(descriptor, size)
    os.fsync(descriptor)
    _remove(journal)


def _read_journal(journal: Path) -> tuple[int, list[tuple[int, bytes]]]:
    try:
        handle = os.open(journal, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as stream:
            sealed = json.loads(stream.read(JOURNAL_LIMIT))
        if hashlib.sha256(sealed["record"].encode()).hexdigest() != sealed["sha256"]:
            raise ValueError("its digest does not hold")
        record = json.loads(sealed["record"])
        if record["format"] != _FORMAT:
            raise ValueError(f"its format is {record['format']}")
        return int(record["size"]), [(int(at), bytes.fromhex(data)) for at, data in record["bytes"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{journal} cannot undo an unfinished signature: {error}; restore the file from a copy, "
            "then remove the journal"
        ) from error


def _remove(journal: Path) -> None:
    journal.unlink()
    _sync(journal.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield descriptor
    except BlockingIOError as error:
        raise InputError(f"{path} is being signed by another process: wait for it") from error
    finally:
        os.close(descriptor)
