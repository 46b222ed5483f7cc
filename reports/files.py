"""Writing files so that a reader never sees half of one."""

import os
import tempfile
from pathlib import Path

from assaymark.reports.errors import InputError


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write beside the target, then rename: no partial file under a final name.

    Raises InputError when the place cannot be written or the text is not Unicode.
    """
    try:
        data = content.encode() if isinstance(content, str) else content
    except UnicodeEncodeError as error:
        raise InputError(
            f"cannot write {path}: the text is not Unicode ({error.reason})"
        ) from error
    name = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".assaymark.")
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        os.chmod(name, 0o666 & ~umask())
        os.replace(name, path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if name is not None:
            Path(name).unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Raise InputError when a file could not be written at `path`; an existing one is not touched."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".assaymark."):
            pass
        if path.is_dir():
            raise InputError(f"{path} is a folder: name a file in it")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error


def unicode(text: str) -> str:
    r"""Text that any file can hold: bytes of a file name that are no Unicode are spelled out.

    >>> unicode("a\udcff.jpg")
    'a\\udcff.jpg'
    """
    return text.encode("utf-8", "backslashreplace").decode()


def umask() -> int:
    """The process's file mode creation mask."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
