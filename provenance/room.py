"""A folder to make files in before they get their names, that leaves nothing behind."""

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
        shutil.rmtree(folder, ignore_errors=True)
        if handle is not None:
            os.close(handle)


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
                shutil.rmtree(path, ignore_errors=True)
                os.close(handle)


def _lock(folder: str) -> int | None:
    """A handle that holds the folder, or None where somebody else does."""
    if fcntl is None:
        return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held, or a file system without locks
        os.close(handle)
        return None
    return handle
