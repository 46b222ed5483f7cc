"""A list of works with what is said about each, as generators write it: CSV or JSON lines."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from assaymark.provenance.claims import check_field
from assaymark.provenance.template import TEXT_KEYS, each_key_once, read_limited
from assaymark.reports.errors import InputError, nearest

SIZE_LIMIT = 64 << 20  # bytes
_COLUMNS = ("path", *TEXT_KEYS)
_FILE = ("file", "filename", "name", "File", "Path", "source")
_LINES = (".jsonl", ".ndjson")


def load_index(path: Path) -> dict[str, dict[str, str]]:
    """Rows by relative path; the other columns are text fields of Claims, taken as they are.

    An empty cell says nothing. Raises InputError, with the line, for unknown columns, rows without
    a path or with too many cells, a path named twice, and values outside their vocabulary.
    """
    text = read_limited(path, "index", SIZE_LIMIT)
    rows: dict[str, dict[str, str]] = {}
    for line, row in _rows(path, text):
        try:
            name, said = _checked(row)
        except InputError as error:
            raise InputError(f"{path}:{line}: {error}") from error
        if name in rows:
            raise InputError(f'{path}:{line}: "{name}" has a row already: keep one')
        rows[name] = said
    if not rows:
        raise InputError(f"{path} has no rows: expected one a file, with a path")
    return rows


def _checked(row: dict[Any, Any]) -> tuple[str, dict[str, str]]:
    if None in row:  # where the csv module puts what has no column
        raise InputError(f"{len(row[None])} cells too many: quote a text that holds a comma")
    if wrong := next((key for key in row if key not in _COLUMNS), ""):
        raise InputError(_unknown(wrong))
    if not all(isinstance(value, str) for value in row.values() if value is not None):
        raise InputError("expected texts only")
    name = (row.get("path") or "").removeprefix("./")
    if not name:
        raise InputError("no path: expected the file's path below the signed folder")
    said = {key: value for key, value in row.items() if key != "path" and value}
    for key, value in said.items():
        check_field(key, value)
    return name, said


def _unknown(column: str) -> str:
    hint = ': did you mean "path"?' if column in _FILE else nearest(column, _COLUMNS)
    return f'unknown column "{column}"{hint}'


def _rows(path: Path, text: str) -> Iterator[tuple[int, dict[Any, Any]]]:
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return _csv_rows(path, text)
    if suffix in _LINES:
        return _json_rows(path, text.split("\n"))
    raise InputError(f"{path} is no index: expected a name that ends in .csv, .jsonl or .ndjson")


def _csv_rows(path: Path, text: str) -> Iterator[tuple[int, dict[Any, Any]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        names = reader.fieldnames or ()
        if len(set(names)) != len(names):
            raise InputError(f"{path}:1: a column is named twice")
        if wrong := next((name for name in names if name not in _COLUMNS), ""):
            raise InputError(f"{path}:1: {_unknown(wrong)}")
        for row in reader:
            if None in row.values():
                raise InputError(f"{path}:{reader.line_num}: too few cells: was the file cut off?")
            yield reader.line_num, row
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: not valid CSV: {error}") from error


def _json_rows(path: Path, lines: Iterable[str]) -> Iterator[tuple[int, dict[Any, Any]]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=each_key_once)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}:{number}: not valid JSON: {error}") from error
        if not isinstance(row, dict):
            raise InputError(f"{path}:{number}: expected a JSON object with a path")
        yield number, row
