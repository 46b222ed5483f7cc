"""Images in tables: a .parquet or .csv with a column of pictures, or a Hugging Face dataset folder."""

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assaymark.reports.errors import InputError, nearest
from assaymark.reports.named_code import first_line
from assaymark.robustness.decode import MOST_BYTES

SUFFIXES = (".parquet", ".csv")
_IMAGES = ("image", "img", "picture", "pixels", "path", "file_name", "file", "x")
_LABELS = ("label", "labels", "class", "target", "fine_label", "y")
_ROWS = 64
_LONGEST_CELL = 1 << 26
_SHARD = re.compile(r"(?P<split>[\w.]+?)-(?P<number>\d{5})-of-(?P<count>\d{5})")


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which columns hold the pictures and the labels; None: the usual names are looked for."""

    image: str | None = None
    label: str | None = None


@dataclass(frozen=True, kw_only=True)
class Cells:
    """A column of pictures, read one after the other, and the labels, filled while they are read."""

    images: Iterator[object]
    labels: list[object]
    classes: tuple[str, ...] | None = None


def is_dataset(folder: Path) -> bool:
    """Whether a folder holds parquet files as datasets of Hugging Face do."""
    return bool(_shards(folder))


def dataset(folder: Path, name: str, split: str | None, columns: Columns) -> tuple[Cells, str]:
    """The rows of one split, and its name; by default the test split, or the only one."""
    splits: dict[str, list[Path]] = {}
    for path in _shards(folder):
        splits.setdefault(_split(path), []).append(path)
    usual = [key for key in (split, "test", "validation") if key in splits]
    chosen = split or (usual[0] if usual else next(iter(splits)) if len(splits) == 1 else None)
    if chosen is None:
        raise InputError(f"{name} has the splits {', '.join(splits)}: choose one with split")
    if chosen not in splits:
        raise InputError(f'{name} has no split "{chosen}"{nearest(chosen, splits)}')
    paths = splits[chosen]
    if len({path.parent for path in paths}) > 1:
        places = sorted({str(path.parent.relative_to(folder)) for path in paths})
        raise InputError(f"{name} has the split {chosen} in {', '.join(places)}: name one of them")
    counts = [int(match["count"]) for p in paths if (match := _SHARD.match(p.name))]
    if counts and (len(paths) != counts[0] or len(set(counts)) > 1):
        raise InputError(
            f"{name} has {len(paths)} of the {max(counts)} files of the split {chosen}: copy the rest"
        )
    return _parquet(paths, name, columns), chosen


def table(path: Path, name: str, columns: Columns) -> Cells:
    """The rows of one file."""
    if path.suffix.lower() == ".csv":
        return _csv(path, name, columns)
    return _parquet([path], name, columns)


def _shards(folder: Path) -> list[Path]:
    found = [path for depth in ("", "*/", "*/*/") for path in folder.glob(f"{depth}*.parquet")]
    return sorted(
        path
        for path in found
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def _split(path: Path) -> str:
    """As the hub names files: test-00000-of-00002.parquet, test.parquet or test/0000.parquet."""
    if match := _SHARD.match(path.name):
        return match["split"]
    return path.parent.name if path.stem.isdecimal() else path.stem


def _parquet(paths: list[Path], name: str, columns: Columns) -> Cells:
    import pyarrow.parquet

    try:
        files = [pyarrow.parquet.ParquetFile(path) for path in paths]
        held = sum(
            file.metadata.row_group(i).total_byte_size
            for file in files
            for i in range(file.metadata.num_row_groups)
        )
        schema = files[0].schema_arrow
        names = _class_names(schema)
    except Exception as error:  # hostile files fail in pyarrow in many ways
        raise InputError(f"{name} is no readable parquet file: {first_line(error)}") from error
    if held > MOST_BYTES:
        raise InputError(
            f"{name} says it holds {held >> 30} GiB, more than the {MOST_BYTES >> 30} GiB that are read: "
            "give fewer rows"
        )
    image = _column(columns.image, _IMAGES, schema.names, name, "image_column")
    label = _column(columns.label, _LABELS, schema.names, name, "label_column")
    labels: list[object] = []

    def cells() -> Iterator[object]:
        for file in files:
            try:
                leaf = file.schema_arrow.field(image).type
                while hasattr(leaf, "value_type"):
                    leaf = leaf.value_type
                for batch in file.iter_batches(_ROWS, columns=[image, label]):
                    labels.extend(batch.column(label).to_pylist())
                    for cell in batch.column(image):
                        yield _in_bytes(cell.as_py(), str(leaf))
            except InputError:
                raise
            except Exception as error:
                raise InputError(f"{name} cannot be read: {first_line(error)}") from error

    return Cells(images=cells(), labels=labels, classes=names.get(label))


def _in_bytes(cell: object, kind: str) -> object:
    """Lists of bytes stay bytes, so that they are known to span 0 to 255."""
    if kind != "uint8" or not isinstance(cell, list):
        return cell
    import numpy

    try:
        return numpy.array(cell, dtype=numpy.uint8)
    except (ValueError, TypeError):
        return cell  # uneven: whoever reads the cell says so


def _class_names(schema: Any) -> dict[str, tuple[str, ...]]:
    """What a Hugging Face dataset writes into its files about label columns."""
    try:
        stored = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = stored.get("info", {}).get("features", {})
        return {
            str(column): tuple(map(str, feature["names"]))
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("names")
        }
    except (ValueError, AttributeError, TypeError, RecursionError):
        return {}


def _csv(path: Path, name: str, columns: Columns) -> Cells:
    labels: list[object] = []
    limit = csv.field_size_limit()
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            header = next(csv.reader(stream), [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{name} is no readable CSV file: {first_line(error)}") from error
    image = header.index(_column(columns.image, _IMAGES, header, name, "image_column"))
    label = header.index(_column(columns.label, _LABELS, header, name, "label_column"))

    def cells() -> Iterator[object]:
        csv.field_size_limit(_LONGEST_CELL)
        try:
            with path.open(encoding="utf-8-sig", newline="") as stream:
                reader = csv.reader(stream)
                next(reader)
                for row in reader:
                    if not row:
                        continue
                    if len(row) != len(header):
                        raise InputError(
                            f"{name}, line {reader.line_num} has {len(row)} cells, the header has "
                            f"{len(header)}"
                        )
                    labels.append(row[label])
                    yield row[image] or None
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{name} is no readable CSV file: {first_line(error)}") from error
        finally:
            csv.field_size_limit(limit)

    return Cells(images=cells(), labels=labels)


def _column(
    wanted: str | None, usual: tuple[str, ...], there: list[str], name: str, key: str
) -> str:
    found = [column for column in ([wanted] if wanted else usual) if column in there]
    if not found:
        said = f'no column "{wanted}"' if wanted else f"no column {usual[0]}"
        close = nearest(wanted, there) if wanted and there else ""
        raise InputError(
            f"{name} has {said}{close or '; it has ' + (', '.join(there[:20]) or 'none')}: name it with "
            f"{key}"
        )
    if there.count(found[0]) > 1:
        raise InputError(f"{name} has two columns called {found[0]}: rename one")
    return found[0]
