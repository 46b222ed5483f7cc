"""Labelled files to measure a detector on: a folder by class and source, or a table with paths.

What counts is where files come from, so every real has a source and every fake a generator. Tables are
hostile: paths that leave the table's folder are refused, and each mistake is named with its line.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from assaymark.provenance.files import is_regular
from assaymark.reports.errors import InputError, nearest

_LABELS = {"real": False, "fake": True}
_LARGEST = 256 * 2**20
_MOST = 1_000_000
_MISTAKES = 5


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """A file, whether it is fake, and the source of a real or the generator of a fake."""

    path: Path
    fake: bool
    cluster: str


def read_data(data: Path, *, column: str | None = None) -> tuple[Labelled, ...]:
    """The files of `real/<source>/…` and `fake/<generator>/…` below a folder, or those of a table.

    A table is CSV or JSON Lines with `label` (real or fake), `source`, `generator` (for fakes; their
    source where it is empty) and a column of paths relative to it: `column`, or the only one whose first
    entry is a file. Raises InputError for what cannot be read, with file and line, and for no files.
    """
    if data.is_dir():
        rows = tuple(_folder(data))
    elif data.suffix.lower() in (".csv", ".jsonl"):
        rows = tuple(_table(data, column))
    else:
        raise InputError(
            f"{data} is neither a folder with real/ and fake/ nor a table ending in .csv or .jsonl"
        )
    if not rows:
        raise InputError(f"{data} names no files: expected real/<source>/… and fake/<generator>/…")
    return rows


def _folder(folder: Path) -> Iterator[Labelled]:
    for label, fake in _LABELS.items():
        top = folder / label
        if not top.is_dir():
            raise InputError(f"{folder} has no folder {label}/: expected {label}/<source>/<files>")
        for path in sorted(top.rglob("*")):
            below = path.relative_to(top).parts
            if any(part.startswith(".") for part in below) or not is_regular(path):
                continue
            if len(below) < 2:
                raise InputError(
                    f"{path} lies in no folder of its source: move it to {top}/<source>/"
                )
            yield Labelled(path=path, fake=fake, cluster=below[0])


def _table(table: Path, column: str | None) -> Iterator[Labelled]:
    rows = list(_rows(table))
    if not rows:
        return
    column = column or _path_column(table, rows[0][1])
    found: dict[Path, Labelled] = {}
    mistakes: list[str] = []
    for line, row in rows:
        try:
            labelled = _labelled(table.parent, row, column)
            if labelled.path in found:
                raise InputError(f"{row[column]!r} is named twice")
            found[labelled.path] = labelled
        except InputError as error:
            mistakes.append(f"{table}:{line}: {error}")
            if len(mistakes) == _MISTAKES:
                break
    if mistakes:
        raise InputError("\n".join(mistakes))
    yield from found.values()


def _labelled(folder: Path, row: Mapping[str, str], column: str) -> Labelled:
    if column not in row:
        raise InputError(f'there is no column "{column}"{nearest(column, row)}')
    label = row.get("label", "")
    if label not in _LABELS:
        raise InputError(f"label is {label[:80]!r}: expected real or fake")
    fake = _LABELS[label]
    cluster = (row.get("generator", "") if fake else "") or row.get("source", "")
    if not cluster:
        raise InputError("neither source nor generator is given: without them nothing generalises")
    path = folder / row[column]
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
        regular = bool(row[column]) and inside and path.is_file()
    except (OSError, ValueError):
        regular = inside = False
    if not regular:
        why = "is no file" if inside else "leaves the table's folder"
        raise InputError(f"{row[column][:80]!r} {why}: expected a path relative to the table")
    return Labelled(path=path, fake=fake, cluster=cluster)


def _path_column(table: Path, first: Mapping[str, str]) -> str:
    candidates = [
        name
        for name, value in first.items()
        if value and len(value) < 4096 and "\0" not in value and (table.parent / value).is_file()
    ]
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise InputError(f"{table} has several columns of paths, {', '.join(candidates)}: name one")
    raise InputError(
        f"{table} has no column whose first entry is a file beside it: name the column"
    )


def _rows(table: Path) -> Iterator[tuple[int, Mapping[str, str]]]:
    try:
        if table.stat().st_size > _LARGEST:
            raise InputError(f"{table} has over {_LARGEST:,} bytes: split it")
        with table.open(encoding="utf-8", newline="") as stream:
            read = _csv_rows(stream) if table.suffix.lower() == ".csv" else _json_rows(stream)
            for number, (line, row) in enumerate(_located(table, read)):
                if number == _MOST:
                    raise InputError(f"{table} has over {_MOST:,} rows: split it")
                yield line, row
    except OSError as error:
        raise InputError(f"{table} cannot be read: {error.strerror}") from error


def _located(
    table: Path, rows: Iterator[tuple[int, Mapping[str, str]]]
) -> Iterator[tuple[int, Mapping[str, str]]]:
    line = 1 if table.suffix.lower() == ".csv" else 0  # a header
    try:
        for line, row in rows:
            yield line, row
    except (csv.Error, ValueError, RecursionError) as error:
        raise InputError(f"{table}:{line + 1}: {error}") from error


def _csv_rows(stream: Iterator[str]) -> Iterator[tuple[int, Mapping[str, str]]]:
    reader = csv.DictReader(stream, restval="", strict=True)
    for row in reader:
        if None in row:
            raise ValueError(f"{len(row[None])} more fields than the header names")
        yield reader.line_num, row


def _json_rows(stream: Iterator[str]) -> Iterator[tuple[int, Mapping[str, str]]]:
    for line, text in enumerate(stream, 1):
        if text.strip():
            row = json.loads(text)
            if not isinstance(row, dict):
                raise ValueError(f"expected an object, got {type(row).__name__}")
            yield (
                line,
                {str(key): "" if value is None else str(value) for key, value in row.items()},
            )
