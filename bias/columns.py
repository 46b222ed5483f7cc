"""Columns as what they mean: labels, numbers, weights, and sensitive values in bands."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import pyarrow
import pyarrow.compute

from assaymark.bias.bands import Bands, banded
from assaymark.bias.codes import Codes, Column, Places, coded, column_of, plain, valid
from assaymark.bias.rows import Flags, Numbers
from assaymark.bias.tables import Table
from assaymark.reports.errors import InputError

MANY_GROUPS = 50
MANY_INTERSECTIONS = 500
_HEAVIEST = 1e100
NO_VALUE = frozenset({"", "-", "?", ".", "na", "n/a", "nan", "null", "none", "#n/a"})
"""What stands for a missing label, prediction or score; as a group name each is a name."""
_NO_NUMBER = f"^({'|'.join(map(re.escape, sorted(NO_VALUE)))})$"


@dataclass(frozen=True, eq=False)
class Values:
    """A column without gaps: the values it holds, and which of them each row has."""

    kinds: list[float | str]
    places: Places

    @property
    def codes(self) -> Codes:
        return self.places.astype(numpy.int32)

    def equal(self, wanted: float | str) -> Flags:
        found: Flags = numpy.zeros(len(self.places), dtype=numpy.bool_)
        for place, kind in enumerate(self.kinds):
            if kind == wanted:
                found |= self.places == place
        return found


def values(table: Table, column: str) -> Values:
    """Labels or decisions. Raises InputError where one is missing."""
    found, places = coded(table.column(column))
    texts = ["" if value is None else str(value).strip() for value in found]
    missing = [place for place, text in enumerate(texts) if text.lower() in NO_VALUE]
    if missing:
        _present(numpy.isin(places, missing), column, table)
    return Values([value_of(text) for text in texts], places)


def numbers(table: Table, column: str) -> Numbers:
    """Finite numbers. Raises InputError where one is missing, infinite or no number."""
    found = floats(table, column)
    _present(numpy.isnan(found), column, table)
    if not numpy.isfinite(found).all():
        raise InputError(f'column "{column}" of {table.name} has infinite values: expected numbers')
    return found


def weights(table: Table, column: str) -> Numbers:
    """How many people each row stands for.

    Raises InputError for a negative one, no positive one, or one whose square would overflow or be lost.
    """
    found = numbers(table, column)
    low, high = found.min(), found.max()
    if low < 0 or not 1 / _HEAVIEST <= high <= _HEAVIEST:
        raise InputError(
            f'weights in column "{column}" of {table.name} run from {low:g} to {high:g}: expected '
            f"numbers of at least 0, the largest of them from {1 / _HEAVIEST:g} to {_HEAVIEST:g}"
        )
    least = found[found > 0].min()
    if least < 1 / _HEAVIEST:
        raise InputError(
            f'weights in column "{column}" of {table.name} run from {least:g}, whose square is lost: '
            f"expected 0, or at least {1 / _HEAVIEST:g}"
        )
    return found


def sensitive(table: Table, column: str, bands: Bands | None = None) -> Column:
    """A sensitive column; a missing value is a group of its own, numbers are cut where bands say."""
    if bands is None:
        return column_of(column, table.column(column), most=MANY_GROUPS, where=table.name)
    return banded(column, floats(table, column), bands)


def _present(missing: Flags, column: str, table: Table) -> None:
    if missing.any():
        first = int(numpy.flatnonzero(missing)[0])
        raise InputError(
            f'column "{column}" of {table.name} has {int(missing.sum())} missing values, the first in '
            f"data row {first + 1}: expected a value in each row; drop or fill them before the audit"
        )


def floats(table: Table, column: str) -> Numbers:
    """The numbers of a column, NaN where one is missing."""
    array = table.column(column)
    if pyarrow.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    try:
        cast = _as_numbers(array).combine_chunks()
    except (pyarrow.ArrowException, ValueError) as error:
        reason = str(error).splitlines()[0][:200]
        raise InputError(f'column "{column}" of {table.name} is not numbers: {reason}') from error
    found: Numbers = numpy.where(valid(cast), plain(cast, numpy.float64), numpy.nan)
    return found


def _as_numbers(array: Any) -> Any:
    """An arrow array as numbers; null, or "nan", where one is missing."""
    try:
        return array.cast(pyarrow.float64())
    except pyarrow.ArrowInvalid:
        if not (pyarrow.types.is_string(array.type) or pyarrow.types.is_large_string(array.type)):
            raise
    text = pyarrow.compute.utf8_trim_whitespace(array)
    missing = pyarrow.compute.match_substring_regex(text, _NO_NUMBER, ignore_case=True)
    nothing = pyarrow.nulls(len(text), text.type)  # a plain None would import pandas
    return pyarrow.compute.if_else(missing, nothing, text).cast(pyarrow.float64())


def value_of(item: object) -> float | str:
    """1, 1.0, true and "1" are one value, however the table writes it."""
    text = str(item).strip()
    if text.lower() in ("true", "false"):
        return float(text.lower() == "true")
    try:
        return float(text)
    except ValueError:
        return text


def shown(found: Sequence[float | str]) -> str:
    """A few values for a message."""
    texts = [
        f"{value:g}" if isinstance(value, float) else repr(value[:40] + "…" * (len(value) > 40))
        for value in found[:4]
    ]
    return ", ".join(texts) + (f" and {len(found) - 4} more" if len(found) > 4 else "")
