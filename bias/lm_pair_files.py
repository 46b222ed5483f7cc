"""Reading the files of benchmarks for language models: bounded, hashed, and refused in one sentence."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

from assaymark.reports.errors import InputError

MOST_BYTES = 64 * 2**20
LONGEST_TEXT = 5_000
"""Characters of one sentence or context; no benchmark comes near."""


def read_text(path: Path, most: int = MOST_BYTES) -> tuple[str, str]:
    """The text of a UTF-8 file, without a byte order mark, and the SHA-256 of its bytes.

    Raises InputError for a file that is not there, too large, or not UTF-8.
    """
    try:
        with path.open("rb") as stream:
            raw = stream.read(most + 1)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    if len(raw) > most:
        raise InputError(
            f"{path} has more than {most // 2**20} MiB: expected a file of the benchmark"
        )
    try:
        return raw.decode("utf-8-sig"), hashlib.sha256(raw).hexdigest()
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8 (byte {error.start}): expected the benchmark's own file, unchanged"
        ) from error


def read_json(path: Path, most: int = MOST_BYTES) -> tuple[Any, str]:
    """The value in a JSON file, and the SHA-256 of its bytes; raises InputError as `read_text`."""
    text, digest = read_text(path, most)
    try:
        return json.loads(text, object_pairs_hook=_record), digest
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno} is not JSON: {error.msg}") from error
    except (RecursionError, ValueError) as error:  # too deep; too many digits; a key twice
        raise InputError(f"{path} is not JSON that can be read: {error}") from error


def _record(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A record whose keys stand once; JSON would let the last one win unseen."""
    record = dict(pairs)
    if len(record) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f'the key "{clip(twice, 60)}" stands twice in one record')
    return record


def field(record: Any, key: str, kind: type, where: str) -> Any:
    """`record[key]`, which must be there and of this type.

    Raises InputError with the place of what is missing or of another type, or is too long a text.
    """
    if not isinstance(record, dict) or key not in record:
        raise InputError(f'{where} has no "{key}": expected the layout of the official file')
    value: Any = record[key]
    if not isinstance(value, kind):
        raise InputError(f'"{key}" of {where} is {clip(repr(value), 60)}: expected a {NAMES[kind]}')
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        raise InputError(f'"{key}" of {where} has {len(value):,} characters: expected a sentence')
    return value


NAMES: dict[type, str] = {str: "text", list: "list", dict: "record"}


def clip(text: str, most: int = 200) -> str:
    """
    >>> clip("a long sentence", 8)
    'a long …'
    """
    return text if len(text) <= most else text[: most - 1] + "…"
