"""Columns of a table as numbers that a linear model adds up; the description is the encoder.

Numbers are centred and scaled, a missing one is filled with the median. Texts have one column of 0 and
1 for each category that was seen; another one has all zeros (as scikit-learn's
OneHotEncoder(handle_unknown="ignore")). All of it is plain data, so that it can be written and read.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

import numpy
import pandas
from pydantic import BaseModel, ConfigDict, Field, model_validator

from assaymark.bias.codes import MISSING, Codes
from assaymark.bias.columns import NO_VALUE
from assaymark.bias.rows import Numbers
from assaymark.reports.errors import InputError, nearest

Matrix = numpy.ndarray[tuple[int, int], numpy.dtype[numpy.float64]]
MOST_CATEGORIES = 100
Text = Annotated[str, Field(max_length=10_000)]


class Part(BaseModel):
    """A part of a description: frozen, no unknown keys, finite numbers of the right type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class NumberColumn(Part):
    """(value - mean) / scale; a missing value counts as `fill`."""

    kind: Literal["number"] = "number"
    name: Text
    fill: float
    mean: float
    scale: Annotated[float, Field(gt=0)]

    @property
    def width(self) -> int:
        return 1


class CategoryColumn(Part):
    """1 in the place of its category, 0 in all others; a missing value is a category, `MISSING`."""

    kind: Literal["category"] = "category"
    name: Text
    categories: Annotated[tuple[Text, ...], Field(min_length=1, max_length=MOST_CATEGORIES)]

    @property
    def width(self) -> int:
        return len(self.categories)

    @model_validator(mode="after")
    def _once(self) -> "CategoryColumn":
        if len(set(self.categories)) < len(self.categories):
            raise ValueError("a category is named twice")
        return self


Encoder = Annotated[NumberColumn | CategoryColumn, Field(discriminator="kind")]
Encoders = tuple[NumberColumn | CategoryColumn, ...]


def encoders_of(features: pandas.DataFrame) -> Encoders:
    """How to encode each column: a number where every value that is there reads as one, else a text.

    Raises InputError for a table without columns, a column without a value, or one of more than
    MOST_CATEGORIES different texts.
    """
    if not len(features.columns):
        raise InputError("there is no feature column: expected at least one to fit a model on")
    return tuple(_encoder(str(name), column(features, name)) for name in features.columns)


def matrix(encoders: Encoders, frame: pandas.DataFrame) -> Matrix:
    """The encoded columns side by side, a row each.

    Raises InputError for a column that is missing or a number that is none.
    """
    encoded = numpy.zeros((len(frame), sum(encoder.width for encoder in encoders)))
    at = 0
    for encoder in encoders:
        values = column(frame, encoder.name)
        if isinstance(encoder, NumberColumn):
            read = _numbers(encoder.name, values)
            filled = numpy.where(numpy.isnan(read), encoder.fill, read)
            encoded[:, at] = (filled - encoder.mean) / encoder.scale
        else:
            codes = places(values, encoder.categories)
            known = numpy.flatnonzero(codes >= 0)
            encoded[known, at + codes[known]] = 1
        at += encoder.width
    return encoded


def column(frame: pandas.DataFrame, name: Any) -> "pandas.Series[Any]":
    """The one column of this name. Raises InputError when there is none, or several."""
    found = [place for place, other in enumerate(frame.columns) if other == name]
    if not found:
        raise InputError(
            f'the table has no column "{name}"{nearest(str(name), map(str, frame.columns))}'
        )
    if len(found) > 1:
        raise InputError(f'the table has {len(found)} columns called "{name}": expected one')
    return frame.iloc[:, found[0]]


def texts_of(values: "pandas.Series[Any]") -> tuple[list[str], Codes]:
    """The different values of a column as texts, and which of them each row has."""
    codes, found = pandas.factorize(values.astype(object), use_na_sentinel=True)
    texts = [str(value) for value in found]
    if (codes < 0).any():
        codes = numpy.where(codes < 0, len(texts), codes)
        texts.append(MISSING)
    return texts, codes.astype(numpy.int32)


def places(values: "pandas.Series[Any]", names: Sequence[str]) -> Codes:
    """Of each row the place of its value among the names, -1 where it has none.

    Whole numbers may be written 1 or 1.0.
    """
    texts, codes = texts_of(values)
    exact = {name: place for place, name in enumerate(names)}
    whole = {_whole(name): place for place, name in enumerate(names)}
    found = [exact.get(text, whole.get(_whole(text), -1)) for text in texts]
    return numpy.array(found, dtype=numpy.int32)[codes]


def _whole(text: str) -> str:
    return re.sub(r"^(-?\d+)\.0+$", r"\1", text)


def numbers(frame: pandas.DataFrame, name: str) -> Numbers:
    """A column of numbers, each of which must be there. Raises InputError."""
    read = _numbers(name, column(frame, name))
    if numpy.isnan(read).any():
        row = int(numpy.flatnonzero(numpy.isnan(read))[0])
        raise InputError(f'column "{name}" has no value in row {row + 1}: expected a number')
    return read


def _numbers(name: str, values: "pandas.Series[Any]") -> Numbers:
    """NaN where there is none. Raises InputError for a text or an infinite number."""
    read = read_numbers(values)
    wrong = numpy.isinf(read) | (numpy.isnan(read) & ~_missing(values))
    if wrong.any():
        row = int(numpy.flatnonzero(wrong)[0])
        raise InputError(
            f'column "{name}" has {str(values.iloc[row])[:40]!r} in row {row + 1}: expected a number'
        )
    return read


def read_numbers(values: "pandas.Series[Any]") -> Numbers:
    """The numbers that values read as, NaN where one is missing or none."""
    numeric = pandas.api.types.is_numeric_dtype(values.dtype)
    read: Any = values if numeric else pandas.to_numeric(values.astype(object), errors="coerce")
    return numpy.asarray(read.to_numpy(dtype=numpy.float64, na_value=numpy.nan))


def _missing(values: "pandas.Series[Any]") -> numpy.ndarray[tuple[int], numpy.dtype[numpy.bool_]]:
    if pandas.api.types.is_numeric_dtype(values.dtype):
        return values.isna().to_numpy(dtype=numpy.bool_)
    texts, codes = texts_of(values)
    gone = [text == MISSING or text.strip().lower() in NO_VALUE for text in texts]
    return numpy.array(gone, dtype=numpy.bool_)[codes]


def _encoder(name: str, values: "pandas.Series[Any]") -> NumberColumn | CategoryColumn:
    read, missing = read_numbers(values), _missing(values)
    if missing.all():
        raise InputError(f'feature column "{name}" has no value in the half that is fitted on')
    if numpy.isfinite(read[~missing]).all():
        fill = float(numpy.median(read[~missing]))
        filled = numpy.where(missing, fill, read)
        scale = float(filled.std())
        mean = float(filled.mean())
        return NumberColumn(name=name, fill=fill, mean=mean, scale=scale or 1.0)
    categories = sorted(set(texts_of(values)[0]))
    if len(categories) > MOST_CATEGORIES:
        raise InputError(
            f'feature column "{name}" has {len(categories)} different texts: expected at most '
            f"{MOST_CATEGORIES} categories, or numbers only; leave it out, or put values together"
        )
    return CategoryColumn(name=name, categories=tuple(categories))


def names_of(encoders: Iterable[NumberColumn | CategoryColumn]) -> tuple[str, ...]:
    return tuple(encoder.name for encoder in encoders)
