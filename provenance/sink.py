"""Writing a large file once, from the buffer it was read into, past the page cache.

A signed copy is not read again soon by its writer, and filling the page cache costs as much CPU time as
half of the hash. Where a file system has no direct I/O, the file is written as any other.
"""

import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Self

BLOCK = 1 << 20  # bytes read, hashed and kept at a time
_ROOM = 1 << 22  # bytes written at a time; a multiple of every block size of a disk
DIRECT = 1 << 24  # bytes from which a file is written past the page cache


class Sink:
    """A file that is appended to and patched.

    size: about how long it becomes, in bytes.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        empty(self._file)
        self._direct = _open_direct(path) if size >= DIRECT else None
        # memory of a mapping begins at a page, as direct I/O asks for
        self._view = memoryview(mmap.mmap(-1, min(_ROOM, size) + BLOCK))
        self._filled = self._written = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for descriptor in (self._file, self._direct):
            if descriptor is not None:
                os.close(descriptor)

    @property
    def length(self) -> int:
        """Bytes appended so far."""
        return self._written + self._filled

    def copied(self, source: int, start: int, end: int) -> Iterator[memoryview]:
        """Append [start, end) of an open file; each block, full but for the last, as it is kept.

        What stands in a block when the next one is asked for is written. Raises OSError.
        """
        while start < end:
            block = self._view[self._filled : self._filled + min(BLOCK, end - start)]
            filled = 0
            while filled < len(block):
                count = os.preadv(source, [block[filled:]], start + filled)
                if not count:
                    raise OSError("the file became shorter while it was read")
                filled += count
            yield block
            self._kept(filled)
            start += filled

    def write(self, data: bytes) -> None:
        """Append bytes."""
        for start in range(0, len(data), BLOCK):
            part = data[start : start + BLOCK]
            self._view[self._filled : self._filled + len(part)] = part
            self._kept(len(part))

    def patch(self, data: bytes, offset: int) -> None:
        """Put bytes in the place of earlier ones; nothing is appended after that."""
        self.flush()
        write_all(self._file, data, offset)

    def flush(self) -> None:
        """Hand everything to the file."""
        self._put(self._filled, None)

    def sync(self) -> None:
        """Wait until a file that was written past the page cache is complete on the disk."""
        if self._direct is not None:
            os.fsync(self._file)

    def _kept(self, count: int) -> None:
        self._filled += count
        if self._filled >= _ROOM:
            self._put(_ROOM, self._direct)

    def _put(self, count: int, direct: int | None) -> None:
        block, offset = self._view[:count], self._written
        if direct is not None:
            try:
                done = os.pwrite(direct, block, offset)
            except OSError:  # this file system, or a full disk, which the next write tells
                done = 0
            block, offset = block[done:], offset + done
        write_all(self._file, block, offset)
        rest = self._filled - count
        self._view[:rest] = self._view[count : self._filled]
        self._filled, self._written = rest, self._written + count


def empty(file: int) -> None:
    """Truncate a file that has content; ext4 writes one that was truncated to the disk as it is closed."""
    if os.fstat(file).st_size:
        os.ftruncate(file, 0)


def _open_direct(path: Path) -> int | None:
    try:
        return os.open(path, os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC)
    except (OSError, AttributeError):
        return None


def write_all(file: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of it; the system may take less at a time, as on a disk that fills up."""
    block = memoryview(data)
    while block:
        done = os.pwrite(file, block, offset)
        block, offset = block[done:], offset + done
