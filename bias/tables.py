"""Tables of predictions: files, arrow tables, data frames, or the embedded diabetes study."""

import csv
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow
import pyarrow.csv

from assaymark.reports.errors import InputError, nearest

if TYPE_CHECKING:
    import pandas

    Source: TypeAlias = str | pyarrow.Table | pandas.DataFrame | "Table"

_SUFFIXES = (".csv", ".tsv", ".txt", ".parquet", ".arrow", ".feather")


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """An arrow table, and what it is called in messages."""

    name: str
    arrow: pyarrow.Table

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.arrow.column_names)

    def column(self, name: str) -> Any:
        """A column, by its name.

        Raises InputError when there is none, several that differ, or one of lists or records.
        """
        places = [place for place, other in enumerate(self.names) if other == name]
        if not places:
            raise InputError(f'{self.name} has no column "{name}"{nearest(name, self.names)}')
        first = self.arrow.column(places[0])
        if pyarrow.types.is_nested(first.type):
            raise InputError(
                f'column "{name}" of {self.name} holds {first.type}: expected one value a row'
            )
        if any(not self.arrow.column(place).equals(first) for place in places[1:]):
            raise InputError(
                f'{self.name} has {len(places)} different columns called "{name}": rename one, so '
                "that it is clear which is meant"
            )
        return first

    def with_columns(self, **columns: Any) -> "Table":
        """The table with more columns, which replace those of the same name."""
        arrow = self.arrow
        for name, values in columns.items():
            if name in arrow.column_names:
                arrow = arrow.drop_columns(name)
            arrow = arrow.append_column(name, pyarrow.array(values))
        return Table(name=self.name, arrow=arrow)


def read(source: "Source", *, folder: Path = Path(), columns: Collection[str] = ()) -> Table:
    """A table from a file (.csv, .tsv, .parquet, .arrow, .feather), `demo:diabetes`, or memory.

    columns: those that are needed; without them, all. In a CSV every field stays the text it is.
    Raises InputError for what cannot be read, and for a table without rows or without a column.
    """
    if isinstance(source, Table):
        table = source
    elif isinstance(source, str):
        table = Table(name=source, arrow=_file(source, folder))
    else:
        table = Table(name="the table", arrow=_memory(source))
    if not len(table.arrow):
        raise InputError(f"{table.name} has no rows: expected at least one prediction")
    if columns:
        found = {name: table.column(name) for name in columns}
        table = Table(name=table.name, arrow=pyarrow.table(found))
    return table


def _memory(source: Any) -> pyarrow.Table:
    if isinstance(source, pyarrow.Table):
        return source
    try:
        return pyarrow.Table.from_pandas(source, preserve_index=False)
    except (pyarrow.ArrowException, AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f"a {type(source).__name__} is not a table that is read here ({_first(error)}): expected "
            "a file, a pandas.DataFrame or a pyarrow.Table"
        ) from error


def _file(spec: str, folder: Path) -> pyarrow.Table:
    if spec.startswith("demo:"):
        if spec != "demo:diabetes":
            raise InputError(f'no demo table "{spec}"{nearest(spec, ["demo:diabetes"])}')
        from assaymark.bias import demo

        return pyarrow.Table.from_pandas(demo.diabetes(), preserve_index=False)
    path = folder / spec
    suffix = path.suffix.lower()
    if not path.is_file():
        raise InputError(f"no table at {spec}: expected a .csv, .parquet or .arrow file")
    if suffix not in _SUFFIXES:
        raise InputError(
            f"{spec} is not a table that is read here: expected .csv, .tsv, .parquet or .arrow"
        )
    try:
        if suffix == ".parquet":
            from pyarrow import parquet  # slow to import, and most tables are CSV

            return parquet.read_table(path)
        if suffix in (".arrow", ".feather"):
            from pyarrow import feather

            return feather.read_table(path)
        return _csv(path, spec)
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(
            f"cannot read {spec}: {_first(error)}; expected a table with a header line and as many "
            "fields in each row"
        ) from error


def _csv(path: Path, spec: str) -> pyarrow.Table:
    """Every field as the text it is: 01 and 1 are two groups, NA is one; an empty field is missing."""
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            header = next(csv.reader(stream, delimiter=separator), [])
        return pyarrow.csv.read_csv(
            path,
            parse_options=pyarrow.csv.ParseOptions(delimiter=separator, newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(header, pyarrow.string()),
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                null_values=[""],
            ),
        )
    except (UnicodeDecodeError, pyarrow.ArrowInvalid) as error:
        if isinstance(error, UnicodeDecodeError) or "invalid UTF8" in str(error):
            raise InputError(
                f"cannot read {spec}: {_where_not_unicode(path)}; save it as UTF-8"
            ) from error
        raise
    except csv.Error as error:
        raise InputError(f"cannot read {spec}: its header line is no CSV ({error})") from error


def _where_not_unicode(path: Path) -> str:
    """The first line of a file that is not UTF-8."""
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                return f"line {number} is not UTF-8 (byte 0x{line[error.start]:02x})"
    return "it is not UTF-8"


def _first(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
