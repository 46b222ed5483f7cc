"""Names and digests of the files below a folder, as OpenSSF model signing 1.0 lists them.

A name is the path from the folder with `/`; the list is ordered by the parts of the path. Files are
read once, in blocks, several at a time; memory does not grow with their size.
"""

import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Protocol

from assaymark.reports.errors import InputError
from assaymark.reports.files import unicode


class Hasher(Protocol):
    """What hashlib makes."""

    def update(self, data: bytes | memoryview, /) -> None: ...
    def digest(self) -> bytes: ...


HASHES: Mapping[str, Callable[[], Hasher]] = {"sha256": hashlib.sha256, "blake2b": hashlib.blake2b}
GIT = (".git", ".gitattributes", ".github", ".gitignore")
_BLOCK = 1 << 16  # 64 KiB to 4 MiB take the same time; this one leaves the caches to others
_BATCH = 16 << 20  # bytes of small files that one task hashes: a task per file costs more than it
_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_BINARY = getattr(os, "O_BINARY", 0)


class Links(StrEnum):
    """What to do with a symbolic link to a file. A link to a folder is never followed."""

    REFUSE = "refuse"
    INSIDE = "inside"
    """Hash the file it leads to, which must lie in the folder as well."""
    FOLLOW = "follow"
    """Hash the file it leads to, wherever that is (the cache of a model hub is made of these)."""


@dataclass(frozen=True, kw_only=True)
class File:
    """A file to hash. name: the path from the folder. Times in nanoseconds, as the file system says."""

    name: str
    path: Path
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int

    @property
    def identity(self) -> tuple[int, int, int, int, int]:
        """What changes when the content does, unless somebody sets the clock back."""
        return (self.size, self.mtime_ns, self.ctime_ns, self.inode, self.device)


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What lies in a folder. refused: what cannot be hashed, by name, with the reason.

    ignored: the ignored paths that exist, so that a reader sees what nobody vouches for.
    """

    files: tuple[File, ...]
    refused: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()


def list_folder(
    folder: Path, *, ignore: Iterable[str] = (), links: Links = Links.REFUSE
) -> Listing:
    """Every file below `folder` in the standard's order; one file alone is named ".".

    ignore: names from the folder; what is below an ignored folder is ignored with it.
    Raises InputError when the folder cannot be read at all.
    """
    ignored = {name.rstrip("/") for name in ignore}
    if folder.is_file():
        return _listing([_file(".", folder)], {}, ())
    refused: dict[str, str] = {}
    files: list[File] = []
    met: list[str] = []
    root = folder.resolve()
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        try:
            with os.scandir(root / prefix) as entries:
                found = list(entries)
        except OSError as error:
            if not prefix:
                raise InputError(
                    f"cannot read {folder}: {error.strerror or error}; expected a folder or a file"
                ) from error
            refused[prefix] = f"cannot be read: {error.strerror or error}"
            continue
        for entry in found:
            name = f"{prefix}/{entry.name}" if prefix else entry.name
            if name in ignored:
                met.append(name)
            elif entry.is_dir(follow_symlinks=False):
                waiting.append(name)
            else:
                _take(entry, name, root, links, files, refused)
    return _listing(files, refused, sorted(met))


def hash_files(
    files: Sequence[File],
    *,
    algorithm: str = "sha256",
    shard_size: int | None = None,
    workers: int | None = None,
) -> Iterator[tuple[File, list[tuple[str, bytes]] | str]]:
    """Each file with the names and digests of its parts, or with why it could not be hashed.

    algorithm: a key of HASHES. shard_size: bytes of a part, named "file:start:end"; without it a
    file is one part of the file's own name. workers: files read at a time, by default the
    processors (at most 8). A file that changes while it is read is told, not hashed.
    """
    made = HASHES[algorithm]
    tasks = list(_tasks(files, shard_size))
    workers = workers or min(8, _processors())
    if workers == 1 or len(tasks) <= 1:
        parts = (part for task in tasks for part in _hash_task(task, made))
        yield from _joined(parts)
        return
    with ThreadPoolExecutor(workers) as pool:
        done = pool.map(_hash_task, tasks, [made] * len(tasks))
        yield from _joined(part for task in done for part in task)


def root_digest(digests: Iterable[bytes]) -> str:
    """SHA-256 over all digests in order: the digest of the folder (OMS 1.0, `subject`)."""
    joined = hashlib.sha256()
    for digest in digests:
        joined.update(digest)
    return joined.hexdigest()


def order(name: str) -> tuple[str, ...]:
    """The key names are sorted by: "a/b" stands before "a.txt".

    >>> sorted(["a.txt", "a/b"], key=order)
    ['a/b', 'a.txt']
    """
    return tuple(name.split("/"))


def flaw(name: str) -> str:
    """Why a name in a signature cannot be a file of the folder; empty when it can.

    >>> flaw("../secret"), flaw("weights/a.bin")
    ('leads out of the folder', '')
    """
    if name == ".":
        return ""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        return "leads out of the folder"
    if "\x00" in name or str(path) != name or (os.sep == "\\" and "\\" in name):
        return "is no plain path"
    return ""


Part = tuple[File, int, int | None]
Hashed = tuple[File, str, bytes | str]


def _listing(files: list[File], refused: Mapping[str, str], ignored: Iterable[str]) -> Listing:
    files.sort(key=lambda file: order(file.name))
    return Listing(files=tuple(files), refused=dict(refused), ignored=tuple(ignored))


def _take(
    entry: "os.DirEntry[str]",
    name: str,
    root: Path,
    links: Links,
    files: list[File],
    refused: dict[str, str],
) -> None:
    try:
        reason = _unfit(entry, name, root, links)
        if reason:
            refused[name] = reason
        elif entry.is_symlink():
            files.append(_file(name, Path(entry.path).resolve(strict=True)))
        else:
            found = entry.stat(follow_symlinks=False)
            # Windows tells the inode only when asked for one file
            files.append(_file(name, Path(entry.path), found if found.st_ino else None))
    except (OSError, RuntimeError) as error:
        refused[name] = f"cannot be read: {getattr(error, 'strerror', None) or error}"


def _unfit(entry: "os.DirEntry[str]", name: str, root: Path, links: Links) -> str:
    if unicode(name) != name:
        return "its name is not Unicode, which a signature cannot hold: rename it"
    if entry.is_symlink():
        if links is Links.REFUSE:
            return "is a symbolic link: allow links, or put the file itself there"
        if entry.is_dir():
            return "is a link to a folder, which the standard does not follow: copy the folder"
        target = Path(entry.path).resolve(strict=True)
        if links is Links.INSIDE and not target.is_relative_to(root):
            return f"is a link that leads out of the folder, to {unicode(str(target))}"
    if not entry.is_file():
        return "is neither a file nor a folder"
    return ""


def _file(name: str, path: Path, found: os.stat_result | None = None) -> File:
    found = path.stat() if found is None else found
    return File(
        name=name,
        path=path,
        size=found.st_size,
        mtime_ns=found.st_mtime_ns,
        ctime_ns=found.st_ctime_ns,
        inode=found.st_ino,
        device=found.st_dev,
    )


def _tasks(files: Sequence[File], shard_size: int | None) -> Iterator[list[Part]]:
    task: list[Part] = []
    size = 0
    for file in files:
        for part in _parts(file, shard_size):
            task.append(part)
            size += (part[2] or file.size) - part[1] + 4096
            if size >= _BATCH:
                yield task
                task, size = [], 0
    if task:
        yield task


def _parts(file: File, shard_size: int | None) -> Iterator[Part]:
    if shard_size is None:
        yield file, 0, None
        return
    for start in range(0, file.size, shard_size):
        yield file, start, min(start + shard_size, file.size)


def _hash_task(task: Sequence[Part], made: Callable[[], Hasher]) -> list[Hashed]:
    block = _block()
    return [
        (
            file,
            file.name if end is None else f"{file.name}:{start}:{end}",
            _hash(file, start, end, made(), block),
        )
        for file, start, end in task
    ]


_local = threading.local()


def _block() -> bytearray:
    """One buffer a thread, kept: fresh memory for each task would have to be faulted in again."""
    block: bytearray | None = getattr(_local, "block", None)
    if block is None:
        block = _local.block = bytearray(_BLOCK)
    return block


def _hash(file: File, start: int, end: int | None, hasher: Hasher, block: bytearray) -> bytes | str:
    try:
        handle = os.open(file.path, _FLAGS | _BINARY)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    try:
        before = os.fstat(handle)
        if not stat.S_ISREG(before.st_mode):
            return "is not a file any more"
        if _seen(before) != file.identity:
            return "changed while the folder was read"
        left = file.size if end is None else end - start
        if start:
            os.lseek(handle, start, os.SEEK_SET)
        if not _read(handle, left, hasher, block) or _seen(os.fstat(handle)) != file.identity:
            return "changed while it was read"
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    finally:
        os.close(handle)
    return hasher.digest()


def _read(handle: int, left: int, hasher: Hasher, block: bytearray) -> bool:
    """Hash exactly `left` bytes; False when the file has fewer."""
    if left <= 1 << 15:  # one call for a small file
        data = os.read(handle, left)
        hasher.update(data)
        return len(data) == left
    view = memoryview(block)
    with os.fdopen(handle, "rb", buffering=0, closefd=False) as stream:
        while left:
            got = stream.readinto(view[: min(left, len(block))])
            if not got:
                return False
            hasher.update(view[:got])
            left -= got
    return True


def _seen(found: os.stat_result) -> tuple[int, int, int, int, int]:
    return (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev)


def _joined(parts: Iterable[Hashed]) -> Iterator[tuple[File, list[tuple[str, bytes]] | str]]:
    """The parts of one file, which follow each other, as one answer."""
    current: File | None = None
    found: list[tuple[str, bytes]] | str = []
    for file, name, digest in parts:
        if current is not None and file is not current:
            yield current, found
            found = []
        current = file
        if isinstance(digest, str):
            found = digest
        elif isinstance(found, list):
            found.append((name, digest))
    if current is not None:
        yield current, found


def _processors() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1
