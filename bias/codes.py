"""A column of names as whole numbers: what is counted are codes, never strings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import pyarrow
import pyarrow.compute

from assaymark.reports.errors import InputError

Codes = numpy.ndarray[tuple[int], numpy.dtype[numpy.int32]]
"""One whole number a row, from 0."""
MISSING = "(missing)"
_SEPARATOR = " × "


@dataclass(frozen=True, kw_only=True, eq=False)
class Column:
    """A column with few different values: `names` in their order, and which of them each row has."""

    name: str
    names: tuple[str, ...]
    codes: Codes


def is_missing(name: str) -> bool:
    """Whether a group is of people whose value, or one of several, is missing."""
    return MISSING in name.split(_SEPARATOR)


def coded(array: Any) -> tuple[list[Any], Codes]:
    """The different values of an arrow array, None among them for a null or NaN, and the code of each row."""
    chunked = pyarrow.chunked_array([array]) if isinstance(array, pyarrow.Array) else array
    if not pyarrow.types.is_dictionary(chunked.type):
        if pyarrow.types.is_floating(chunked.type):
            chunked = pyarrow.compute.if_else(pyarrow.compute.is_nan(chunked), None, chunked)
        chunked = chunked.dictionary_encode()
    joined = chunked.unify_dictionaries().combine_chunks()
    if isinstance(joined, pyarrow.ChunkedArray):  # of older versions, or without a row
        joined = joined.chunk(0)
    found = joined.dictionary.to_pylist()
    indices = joined.indices.cast(pyarrow.int32())
    if indices.null_count:
        indices = pyarrow.compute.fill_null(indices, len(found))
        found.append(None)
    codes: Codes = plain(indices, numpy.int32)
    return found, codes


def plain(array: pyarrow.Array, kind: type[Any]) -> numpy.ndarray[tuple[int], Any]:
    """The numbers of an arrow array without nulls; its own way to NumPy imports pandas, which is slow."""
    if not len(array):
        return numpy.empty(0, dtype=kind)
    cast = array.cast(pyarrow.from_numpy_dtype(kind))
    numbers = numpy.frombuffer(cast.buffers()[1], dtype=kind)
    return numbers[cast.offset : cast.offset + len(cast)]


def column_of(name: str, array: Any, *, most: int, where: str = "the table") -> Column:
    """The column of an arrow array; a null is a value of its own, `MISSING`.

    Names are in alphabetical order, so that the order of rows changes nothing. Raises InputError for
    more than `most` different values.
    """
    found, raw = coded(array)
    texts = [MISSING if value is None else str(value) for value in found]
    held = numpy.bincount(raw, minlength=len(texts)) > 0
    names = sorted({text for text, there in zip(texts, held, strict=True) if there})
    if len(names) > most:
        raise InputError(
            f'sensitive column "{name}" of {where} has {len(names)} different values: expected at most '
            f"{most} groups; add a column with bands, such as 18-29, 30-44"
        )
    place_of = {text: place for place, text in enumerate(names)}
    order = numpy.array([place_of.get(text, 0) for text in texts], dtype=numpy.int32)
    return Column(name=name, names=tuple(names), codes=order[raw])


def crossed(columns: Sequence[Column], *, most: int, where: str = "the table") -> Column:
    """The intersections of several columns, those without a row left out.

    Raises InputError for more than `most` with rows.
    """
    whole = columns[0]
    title = _SEPARATOR.join(column.name for column in columns)
    for other in columns[1:]:
        # those without a row are left out at each step, so that the codes stay small
        codes = whole.codes * numpy.int32(len(other.names)) + other.codes
        held = numpy.flatnonzero(
            numpy.bincount(codes, minlength=len(whole.names) * len(other.names))
        )
        if len(held) > most:
            raise InputError(
                f"{title} of {where} has more than {most} intersections with rows: cross fewer columns, "
                "or wider bands"
            )
        order = numpy.zeros(int(held[-1]) + 1, dtype=numpy.int32)
        order[held] = numpy.arange(len(held), dtype=numpy.int32)
        pairs = (divmod(int(place), len(other.names)) for place in held)
        names = tuple(
            _SEPARATOR.join((whole.names[left], other.names[right])) for left, right in pairs
        )
        whole = Column(name=title, names=names, codes=order[codes])
    return whole
