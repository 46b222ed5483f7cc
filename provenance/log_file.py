"""The file a log lives in: lines of JSON that are only ever added, each with the hash of the last.

One writer at a time (a lock on the file itself), everything on disk before an append returns. A
line that a crash cut short is moved to a file beside the log before anything is added.
"""

import glob
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, Any

from assaymark.provenance.merkle import leaf_hash
from assaymark.reports.errors import InputError, IntegrityError

GENESIS = bytes(32)
LONGEST = 1 << 16  # bytes of a line


class _Pairs(list[tuple[str, Any]]):
    """An object of JSON with every key it has, also one that stands twice."""


_HEX = re.compile(r"[0-9a-f]{64}").fullmatch
_decode = json.JSONDecoder(object_pairs_hook=_Pairs).decode
_encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode


@dataclass(frozen=True, kw_only=True)
class LogEntry:
    """What was signed. time: ISO 8601 in UTC. sha256: of the file as signed. manifest_sha256: of the
    manifest store in or beside it, None where there is none. signer: SHA-256 of the certificate.
    format: a media type. source: what was said of it, such as an IPTC digital source type."""

    time: str
    name: str
    sha256: str
    manifest_sha256: str | None
    signer: str
    format: str
    source: str = ""


FIELDS = tuple(one.name for one in fields(LogEntry))
KEYS = ("index", "previous", *FIELDS)


def append_lines(log: Path, entries: Sequence[LogEntry]) -> range:
    """Add entries at the end; returns their indices. O(1) in the length of the log.

    Raises InputError when the file cannot be written or an entry is too long, IntegrityError when
    its last line is not an entry.
    """
    if not entries:
        raise InputError("nothing to add to the log: expected at least one entry")
    try:
        fresh = not log.exists()
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a+b") as stream, _lock(stream):
            index, previous = _end(log, stream)
            lines = []
            for offset, entry in enumerate(entries):
                line = encode_line(index + offset, previous, plain(entry))
                previous = leaf_hash(line)
                lines.append(line + b"\n")
            _write(stream, b"".join(lines))
        if fresh:
            _sync_folder(log.parent)
    except OSError as error:
        raise InputError(f"cannot write the log {log}: {error.strerror or error}") from error
    return range(index, index + len(entries))


def check_end(log: Path) -> None:
    """Whether entries could be added: raises as `append_lines`, and changes nothing."""
    try:
        if log.exists():
            with log.open("rb") as stream, _lock(stream, shared=True):
                last, _, whole = _tail(stream)
                _next(log, last, whole)
    except OSError as error:
        raise InputError(f"cannot read the log {log}: {error.strerror or error}") from error


def read_lines(log: Path) -> Iterator[bytes]:
    """The lines without their ends; a last one that was cut short is not one of them.

    Raises InputError when the file cannot be read or has a line that is too long.
    """
    try:
        with log.open("rb") as stream, _lock(stream, shared=True):
            while line := stream.readline(LONGEST + 1):
                if line.endswith(b"\n"):
                    yield line[:-1]
                elif len(line) > LONGEST:
                    raise InputError(f"{log} has a line of over {LONGEST} bytes: it is no log")
    except OSError as error:
        raise InputError(f"cannot read the log {log}: {error.strerror or error}") from error


def torn_bytes(log: Path) -> int:
    """How many bytes stand after the last whole line: an append that was cut short."""
    try:
        with log.open("rb") as stream, _lock(stream, shared=True):
            return len(_tail(stream)[1])
    except OSError as error:
        raise InputError(f"cannot read the log {log}: {error.strerror or error}") from error


def set_aside(log: Path) -> tuple[Path, ...]:
    """The files that hold lines which were cut short, oldest first."""
    return tuple(sorted(log.parent.glob(f"{glob.escape(log.name)}.torn-*")))


def encode_line(index: int, previous: bytes, entry: Mapping[str, Any]) -> bytes:
    """The bytes of one line: the leaf of the tree. Raises InputError when they are too many."""
    line = _encode({"index": index, "previous": previous.hex(), **entry}).encode()
    if len(line) >= LONGEST:
        raise InputError(f"an entry of the log has {len(line)} bytes, expected under {LONGEST}")
    return line


def plain(entry: LogEntry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in FIELDS}


def decode_entry(line: bytes) -> LogEntry:
    """The entry a line holds; raises InputError when it is none."""
    found = decode_line(line)
    return LogEntry(**{name: found[name] for name in FIELDS})


def decode_line(line: bytes) -> dict[str, Any]:
    """A line's keys, each once and in order, and their values; raises InputError for anything else."""
    try:
        pairs = _decode(line.decode())
        names = tuple(name for name, _ in pairs) if isinstance(pairs, _Pairs) else ()
        if names != KEYS:
            raise ValueError(f"expected the keys {', '.join(KEYS)}")
        found = dict(pairs)
        if type(found["index"]) is not int:
            raise ValueError("its index is no whole number")
    except (ValueError, RecursionError) as error:
        raise InputError(f"a line of the log is no entry: {error}") from error
    if flaw := entry_flaw(found):
        raise InputError(f"a line of the log is no entry: it {flaw}")
    return found


def entry_flaw(found: Mapping[str, Any]) -> str:
    """What is wrong with the fields of an entry; empty when nothing is."""
    for name in FIELDS:
        value = found[name]
        if not isinstance(value, str) and not (value is None and name == "manifest_sha256"):
            return f"has a {name} that is no text"
    for name in ("sha256", "signer", "manifest_sha256"):
        value = found[name]
        if value is not None and not _HEX(value):
            return f"has the {name} {value[:80]!r}: expected 64 hexadecimal digits"
    time = found["time"]
    return "" if time.endswith("Z") else f"has the time {time[:80]!r}: expected UTC, …Z"


def _end(log: Path, stream: IO[bytes]) -> tuple[int, bytes]:
    """The next index and the hash of the last line; what was cut short is set aside first."""
    last, torn, whole = _tail(stream)
    found = _next(log, last, whole)
    if torn:
        _set_aside(log, stream, torn, whole)
    return found


def _next(log: Path, last: bytes | None, whole: int) -> tuple[int, bytes]:
    """The next index and the hash of the last whole line."""
    if last is None and whole:
        raise IntegrityError(
            f"the log {log} ends in over {LONGEST} bytes that are no entry: check the log before "
            "anything is added to it"
        )
    if last is None:
        return 0, GENESIS
    try:
        index = decode_line(last)["index"]
    except InputError as error:
        raise IntegrityError(
            f"the last line of the log {log} is damaged ({error}): check the log before anything "
            "is added to it"
        ) from error
    return index + 1, leaf_hash(last)


def _tail(stream: IO[bytes]) -> tuple[bytes | None, bytes, int]:
    """The last whole line, what stands after it, and where that begins."""
    size = stream.seek(0, os.SEEK_END)
    start = max(0, size - 2 * LONGEST)
    stream.seek(start)
    block = stream.read(size - start)
    lines, newline, torn = block.rpartition(b"\n")
    if not newline:
        return None, block, start
    _, found, last = lines.rpartition(b"\n")
    whole = size - len(torn)
    return (last if found or start == 0 else None), torn, whole


def _set_aside(log: Path, stream: IO[bytes], torn: bytes, whole: int) -> None:
    place = log.with_name(f"{log.name}.torn-{whole:012}")
    number = 0
    while place.exists():
        number += 1
        place = log.with_name(f"{log.name}.torn-{whole:012}-{number}")
    with place.open("xb") as aside:
        _write(aside, torn)
    _sync_folder(log.parent)
    stream.truncate(whole)  # only once the bytes are safe elsewhere


def _write(stream: IO[bytes], data: bytes) -> None:
    stream.write(data)
    stream.flush()
    os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    """A new file's name is on disk only once its folder is."""
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _lock(stream: IO[bytes], *, shared: bool = False) -> Iterator[None]:
    """Wait for, and hold, the log; the system lets go of it when the process dies."""
    if sys.platform == "win32":
        import msvcrt

        far = 1 << 62  # beyond the content, so that reading is not blocked
        stream.seek(far)
        msvcrt.locking(stream.fileno(), msvcrt.LK_LOCK, 1)
        try:
            stream.seek(0)
            yield
        finally:
            stream.seek(far)
            msvcrt.locking(stream.fileno(), msvcrt.LK_UNLCK, 1)
    else:
        import fcntl

        fcntl.flock(stream, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(stream, fcntl.LOCK_UN)
