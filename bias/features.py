"""Columns of a table as what a model is asked with: numbers, texts, yes or no."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow
import pyarrow.compute

from assaymark.bias.tables import Table
from assaymark.reports.errors import InputError

if TYPE_CHECKING:
    import pandas

_NO_NUMBER = ("", "na", "n/a", "#n/a", "nan", "-nan", "null", "none", "<na>")
"""What stands for a missing number among numbers; among texts each is a text, but the empty one."""


def frame(
    table: Table, columns: Sequence[str] | None = None, *, leave_out: Collection[str] = ()
) -> "pandas.DataFrame":
    """The feature columns of a table, in the order in which they are named.

    columns: by default all but `leave_out` (label, weight, prediction and score). Where every column
    is text, as of a CSV, those whose every value is a number become numbers, true and false become
    yes or no, as pandas.read_csv has it; a table with types keeps them. Empty is missing. Raises
    InputError for an unknown column, or when none is left.
    """
    names = list(dict.fromkeys(table.names if columns is None else columns))
    if columns is None:
        names = [name for name in names if name not in leave_out]
    if not names:
        raise InputError(
            f"{table.name} has no columns for the model to read beside {', '.join(leave_out)}: name its "
            "features"
        )
    found = {name: table.column(name) for name in names}
    if all(_is_text(column.type) for column in table.arrow.columns):
        found = {name: _read(column) for name, column in found.items()}
    data: pandas.DataFrame = pyarrow.table(found).to_pandas()
    return data


def _is_text(kind: Any) -> bool:
    return bool(pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind))


def _read(texts: Any) -> Any:
    trimmed = pyarrow.compute.utf8_trim_whitespace(texts)
    lower = pyarrow.compute.utf8_lower(trimmed)
    if _all_in(lower, ("true", "false")):
        return pyarrow.compute.equal(lower, "true")
    known = pyarrow.compute.is_in(lower, value_set=pyarrow.array(_NO_NUMBER))
    numbers = pyarrow.compute.if_else(known, None, trimmed)
    for kind in (pyarrow.int64(), pyarrow.float64()):
        try:
            return numbers.cast(kind)
        except pyarrow.ArrowInvalid:
            continue
    empty = pyarrow.compute.equal(texts, "")
    return pyarrow.compute.if_else(empty, None, texts)


def _all_in(texts: Any, words: Sequence[str]) -> bool:
    """Whether there are texts, and each is one of the words."""
    inside = pyarrow.compute.is_in(texts, value_set=pyarrow.array(words))
    return bool(pyarrow.compute.all(inside).as_py())
