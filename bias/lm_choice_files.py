"""Files of questions are read with a limit on their size, and their digest is kept."""

import hashlib
from pathlib import Path

from assaymark.reports.errors import InputError

LARGEST = 512 * 2**20


def read_text(path: Path, what: str) -> tuple[str, str]:
    """The text of a UTF-8 file and the SHA-256 of its bytes. what: for the message, such as "a BBQ file".

    Raises InputError where it cannot be read, is larger than LARGEST, empty or not UTF-8.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise InputError(f"{path}: {size} bytes, but {what} has at most {LARGEST}")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); give the path of {what}"
        ) from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: {what} is UTF-8, but byte {error.start} is not") from error
    if not text.strip():
        raise InputError(f"{path}: is empty; give {what} as it was published")
    return text, hashlib.sha256(data).hexdigest()


def clip(text: str, length: int = 200) -> str:
    """One line of at most so many characters."""
    short = " ".join(text.split())
    return short if len(short) <= length else short[: length - 1] + "…"
