"""The columns in which slices are sought: names as they are, numbers in bands."""

from collections.abc import Mapping, Sequence

import numpy

from assaymark.bias.bands import Bands, quantile_bands
from assaymark.bias.codes import Column
from assaymark.bias.columns import MANY_GROUPS, floats, sensitive
from assaymark.bias.tables import Table
from assaymark.reports.errors import InputError

_FEW = 12
"""A column of so many different numbers is taken as it is."""
_BANDS = 5


def slice_columns(
    table: Table, names: Sequence[str], bands: Mapping[str, Bands]
) -> dict[str, Column]:
    """Each column as few values; numbers that are many are cut in five bands of about as many rows.

    Raises InputError for a column of many texts, such as names of people.
    """
    return {name: _column(table, name, bands.get(name)) for name in names}


def _column(table: Table, name: str, bands: Bands | None) -> Column:
    if bands is not None:
        return sensitive(table, name, bands)
    numbers = _numbers(table, name)
    if numbers is not None and len(numpy.unique(numbers[~numpy.isnan(numbers)])) > _FEW:
        return quantile_bands(name, numbers, _BANDS)
    try:
        return sensitive(table, name)
    except InputError as error:
        raise InputError(
            f'slices of column "{name}" of {table.name} would be too small: it holds more than '
            f"{MANY_GROUPS} different texts; leave it out of slices, or make a column of its kinds"
        ) from error


def _numbers(table: Table, name: str) -> numpy.ndarray | None:
    try:
        return floats(table, name)
    except InputError:
        return None
