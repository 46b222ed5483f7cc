"""A column of names as whole numbers: what is counted are codes, never strings."""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import pyarrow
import pyarrow.compute

from assaymark.reports.errors import InputError

Codes = numpy.ndarray[tuple[int], numpy.dtype[numpy.int32]]
"""One whole number a row, from 0."""
Places = numpy.ndarray[tuple[int], numpy.dtype[numpy.integer[Any]]]
"""The same in as few bytes as the table uses: not for arithmetic."""
MISSING = "(missing)"
SEPARATOR = " × "
"""Between the names of columns that are crossed, and between their values."""
_CLOSE = 256
_LONGEST = 500
_BLOCK = 1 << 16


@dataclass(frozen=True, kw_only=True, eq=False)
class Column:
    """A column with few different values: `names` in their order, and which of them each row has."""

    name: str
    names: tuple[str, ...]
    codes: Codes


def is_missing(name: str) -> bool:
    """Whether a group is of people whose value, or one of several, is missing."""
    return MISSING in name.split(SEPARATOR)


def coded(array: Any) -> tuple[list[Any], Places]:
    """The different values of an arrow array, None among them for a null or NaN, and the code of each row."""
    chunked = pyarrow.chunked_array([array]) if isinstance(array, pyarrow.Array) else array
    if pyarrow.types.is_dictionary(chunked.type):
        found, places = _held(*_of_dictionary(chunked))
    elif (small := _small(chunked)) is not None:
        found, places = _held(*small)
    else:
        found, places = _of_dictionary(chunked.dictionary_encode())
    return [None if value != value else value for value in found], places


def _held(found: list[Any], places: Places) -> tuple[list[Any], Places]:
    """Without the values that no row has."""
    held = counted(places, len(found)) > 0
    if held.all():
        return found, places
    order = numpy.cumsum(held, dtype=numpy.int32) - numpy.int32(1)
    return [value for value, there in zip(found, held, strict=True) if there], taken(order, places)


def _small(chunked: pyarrow.ChunkedArray) -> tuple[list[Any], Places] | None:
    """Whole numbers that lie close together are codes, but for the least of them."""
    if not pyarrow.types.is_integer(chunked.type) or chunked.null_count or not len(chunked):
        return None
    numbers = plain(_joined(chunked), chunked.type.to_pandas_dtype())
    low, high = int(numbers.min()), int(numbers.max())
    if high - low >= _CLOSE:
        return None
    return list(range(low, high + 1)), (numbers - numbers.dtype.type(low)).astype(numpy.uint8)


def _of_dictionary(chunked: pyarrow.ChunkedArray) -> tuple[list[Any], Places]:
    if chunked.num_chunks > 1:  # together they may need larger codes than each by itself
        chunked = chunked.cast(pyarrow.dictionary(pyarrow.int32(), chunked.type.value_type))
    joined = _joined(chunked.unify_dictionaries())
    found, indices = joined.dictionary.to_pylist(), joined.indices
    kind = numpy.int32 if indices.type.bit_width == 64 else indices.type.to_pandas_dtype()
    places: Places = plain(indices, kind)
    if indices.null_count:  # arrow's own fill_null imports pandas
        places = numpy.where(valid(indices), places, numpy.int32(len(found)))
        found.append(None)
    return found, places


def _joined(chunked: pyarrow.ChunkedArray) -> pyarrow.Array:
    joined = chunked.combine_chunks()
    # of older versions, or without a row
    return joined.chunk(0) if isinstance(joined, pyarrow.ChunkedArray) else joined


def plain(array: pyarrow.Array, kind: type[Any]) -> numpy.ndarray[tuple[int], Any]:
    """The numbers of an arrow array without nulls; its own way to NumPy imports pandas, which is slow."""
    if not len(array):
        return numpy.empty(0, dtype=kind)
    cast = array.cast(pyarrow.from_numpy_dtype(kind))
    numbers = numpy.frombuffer(cast.buffers()[1], dtype=kind)
    return numbers[cast.offset : cast.offset + len(cast)]


def valid(array: pyarrow.Array) -> numpy.ndarray[tuple[int], numpy.dtype[numpy.bool_]]:
    """Which rows of an arrow array are not null."""
    return plain(array.is_valid(), numpy.uint8).view(numpy.bool_)


def counted(places: Places, size: int) -> numpy.ndarray[tuple[int], numpy.dtype[numpy.int64]]:
    """How many rows have each of `size` codes."""
    total = numpy.zeros(size, dtype=numpy.int64)
    for block in blocks(len(places)):
        total += numpy.bincount(places[block], minlength=size)
    return total


def taken(order: Codes, places: Places) -> Codes:
    """The new code of every row: order[places], without its copy of all rows at 8 bytes each."""
    if numpy.array_equal(order, numpy.arange(len(order))):
        return places.astype(numpy.int32, copy=False)
    codes: Codes = numpy.empty(len(places), dtype=numpy.int32)
    for block in blocks(len(places)):
        numpy.take(order, places[block], out=codes[block], mode="clip")
    return codes


def blocks(rows: int) -> Iterator[slice]:
    """Slices of rows, so few that what is computed of them stays in the processor's cache."""
    return (slice(start, start + _BLOCK) for start in range(0, rows, _BLOCK))


def column_of(name: str, array: Any, *, most: int, where: str = "the table") -> Column:
    """The column of an arrow array; a null or blank is a value of its own, `MISSING`.

    Names are in alphabetical order, so that the order of rows changes nothing. Raises InputError for
    more than `most` different values, and for names that no reader could tell apart.
    """
    found, places = coded(array)
    texts = ["" if value is None else str(value) for value in found]
    texts = [text if text.strip() else MISSING for text in texts]
    names = sorted(set(texts))
    if len(names) > most:
        raise InputError(
            f'sensitive column "{name}" of {where} has {len(names)} different values: expected at most '
            f"{most} groups; add a column with bands, such as 18-29, 30-44"
        )
    _legible(names, name, where)
    place_of = {text: place for place, text in enumerate(names)}
    order = numpy.array([place_of[text] for text in texts], dtype=numpy.int32)
    return Column(name=name, names=tuple(names), codes=taken(order, places))


def _legible(names: Sequence[str], column: str, where: str) -> None:
    looks: dict[str, str] = {}
    for name in names:
        if len(name) > _LONGEST or "\0" in name or not _look(name):
            raise InputError(
                f'sensitive column "{column}" of {where} has a value of {len(name):,} characters that '
                f"begins with {name[:20]!a}: expected names of at most {_LONGEST} characters, to be "
                "seen and without NUL; is the file damaged, or a quote missing?"
            )
        twin = looks.setdefault(_look(name), name)
        if twin != name:
            raise InputError(
                f'sensitive column "{column}" of {where} has {twin!a} and {name!a}, which look '
                "alike: one group would be shown as two; write them as one value"
            )


def _look(name: str) -> str:
    """What a reader sees: letters in one composition, no invisible signs, no blanks at the ends."""
    composed = unicodedata.normalize("NFC", name)
    return " ".join("".join(c for c in composed if unicodedata.category(c) != "Cf").split())


def crossed(columns: Sequence[Column], *, most: int, where: str = "the table") -> Column:
    """The intersections of several columns, those without a row left out.

    Raises InputError for more than `most` with rows, and for two of one name.
    """
    whole = columns[0]
    title = SEPARATOR.join(column.name for column in columns)
    for other in columns[1:]:
        # those without a row are left out at each step, so that the codes stay small
        codes = whole.codes * numpy.int32(len(other.names)) + other.codes
        held = numpy.flatnonzero(counted(codes, len(whole.names) * len(other.names)))
        if len(held) > most:
            raise InputError(
                f"{title} of {where} has more than {most} intersections with rows: cross fewer columns, "
                "or wider bands"
            )
        order = numpy.zeros(int(held[-1]) + 1, dtype=numpy.int32)
        order[held] = numpy.arange(len(held), dtype=numpy.int32)
        pairs = (divmod(int(place), len(other.names)) for place in held)
        names = tuple(
            SEPARATOR.join((whole.names[left], other.names[right])) for left, right in pairs
        )
        if len(set(names)) < len(names):
            raise InputError(
                f'two intersections of {title} of {where} have one name, since a value holds "×": '
                "write that value in another way"
            )
        whole = Column(name=title, names=names, codes=taken(order, codes))
    return whole
