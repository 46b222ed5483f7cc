"""A place to make files in before they get their names, that leaves nothing behind."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: what a killed process left stays until somebody removes it
    fcntl = None  # type: ignore[assignment]

_NAME = ".assaymark.room."


@contextmanager
def room(parent: Path) -> Iterator[Path]:
    """A folder of its own in `parent` (made where it is missing), so on the same disk.

    It is locked while it is used; `sweep` tells by that what a killed process has left.
    """
    parent.mkdir(parents=True, exist_ok=True)
    folder, handle = _new(parent)
    try:
        yield Path(folder)
    finally:
        # closed first: a file system takes four times as long to remove an open folder
        if handle is not None:
            os.close(handle)
        _remove(folder)


@contextmanager
def draft(parent: Path, name: str) -> Iterator[Path]:
    """An empty file in `parent` with the ending of `name`, where one is enough; it costs less.

    It is locked and swept as a room is; whoever finishes it moves it away.
    """
    path, handle = _new_file(parent, os.path.splitext(name)[1])
    try:
        yield Path(path)
    finally:
        with suppress(OSError):
            os.unlink(path)
        os.close(handle)


def _new_file(parent: Path, ending: str) -> tuple[str, int]:
    while True:
        path = os.path.join(parent, f"{_NAME}{os.urandom(8).hex()}{ending}")
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            parent.mkdir(parents=True, exist_ok=True)
            continue
        except FileExistsError:
            continue
        if fcntl is not None:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX)
            if not os.fstat(handle).st_nlink:  # swept by another process before it was locked
                os.close(handle)
                continue
        return path, handle


def _remove(folder: str) -> None:
    try:
        os.rmdir(folder)
    except OSError:  # what could not be finished is still in it
        shutil.rmtree(folder, ignore_errors=True)


def _new(parent: Path) -> tuple[str, int | None]:
    while True:
        folder = tempfile.mkdtemp(dir=parent, prefix=_NAME)
        try:
            handle = _lock(folder)
        except FileNotFoundError:
            continue
        if handle is None or os.path.isdir(folder):
            return folder, handle
        os.close(handle)  # swept by another process before it was locked


def sweep(parent: Path) -> None:
    """Remove what processes that were killed have left half-done in a folder."""
    if fcntl is None or not parent.is_dir():
        return
    for path in parent.glob(f"{_NAME}*"):
        with suppress(OSError):
            handle = _lock(str(path))
            if handle is not None:
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
                os.close(handle)


def _lock(folder: str) -> int | None:
    """A handle that holds the folder, or None where somebody else does."""
    if fcntl is None:
        return None
    handle = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held, or a file system without locks
        os.close(handle)
        return None
    return handle
