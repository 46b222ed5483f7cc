"""The rates of every group as an arrow table, for notebooks, warehouses and spreadsheets."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow

from assaymark.bias.counts import RATES
from assaymark.bias.groups import Group, Grouped
from assaymark.reports.errors import InputError
from assaymark.reports.files import write_atomically
from assaymark.reports.intervals import wilson

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet runs a cell that begins so (OWASP, CSV injection)."""


def rates_table(grouped: Sequence[Grouped], confidence: float = 0.95) -> pyarrow.Table:
    """One row a group of each attribute: counts, and every rate with its Wilson interval.

    Columns: attribute, group, n, positives, compared, mean_score, and for each name in RATES the name,
    name_n, name_low and name_high. What is not defined is null. `.to_pandas()` makes a data frame.
    """
    rows = [(one.attribute, group) for one in grouped for group in one.groups]
    columns: dict[str, list[object]] = {
        "attribute": [attribute for attribute, _ in rows],
        "group": [group.name for _, group in rows],
        "n": [group.n for _, group in rows],
        "positives": [group.positives for _, group in rows],
        "compared": [group.compared for _, group in rows],
        "mean_score": [group.mean_score for _, group in rows],
    }
    for rate in RATES:
        found = [_rate(group, rate, confidence) for _, group in rows]
        for place, suffix in enumerate(("", "_n", "_low", "_high")):
            columns[rate + suffix] = [one[place] for one in found]
    texts = {"attribute", "group"}
    kinds = {name: pyarrow.string() for name in texts} | {"compared": pyarrow.bool_()}
    whole = {"n", "positives", *(f"{rate}_n" for rate in RATES)}
    return pyarrow.table(
        {
            name: pyarrow.array(
                values,
                kinds.get(name, pyarrow.int64() if name in whole else pyarrow.float64()),
            )
            for name, values in columns.items()
        }
    )


def write_rates(table: pyarrow.Table, path: Path) -> None:
    """Write an arrow table as .parquet, .arrow or .csv, whole or not at all.

    In a CSV a text that a spreadsheet would run as a formula gets an apostrophe in front. Raises
    InputError for another format or a place that cannot be written.
    """
    check_format(path)
    suffix = path.suffix.lower()
    sink = pyarrow.BufferOutputStream()
    if suffix == ".parquet":
        from pyarrow import parquet  # slow to import

        parquet.write_table(table, sink)
    elif suffix == ".arrow":
        with pyarrow.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    else:
        from pyarrow import csv

        csv.write_csv(_harmless(table), sink)
    write_atomically(path, sink.getvalue().to_pybytes())


def check_format(path: Path) -> None:
    """Raise InputError for a file name whose format is not written here."""
    if path.suffix.lower() not in (".parquet", ".arrow", ".csv"):
        raise InputError(f"cannot write rates to {path}: expected .parquet, .arrow or .csv")


def _harmless(table: pyarrow.Table) -> pyarrow.Table:
    for place, name in enumerate(table.column_names):
        if pyarrow.types.is_string(table.schema.field(place).type):
            texts = [
                f"'{text}" if text.startswith(_FORMULA) else text
                for text in table.column(place).to_pylist()
            ]
            table = table.set_column(place, name, pyarrow.array(texts, pyarrow.string()))
    return table


def _rate(group: Group, rate: str, confidence: float) -> tuple[object, ...]:
    found = group.rates[rate]
    interval = wilson(found.hits, found.cases, confidence) if found.value is not None else None
    ends = (interval.low, interval.high) if interval else (None, None)
    return (found.value, found.n, *ends)
