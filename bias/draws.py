"""Lots that a row draws from its own content: the same row draws the same lot, today and elsewhere.

A rule that decides by chance must not decide anew when it is asked again, and not by a random stream
of the process, which depends on the order of the rows.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy
import pandas

from assaymark.bias.encoders import column, read_numbers, texts_of
from assaymark.bias.halves import mixed
from assaymark.bias.rows import Numbers

Words = numpy.ndarray[tuple[int], numpy.dtype[numpy.uint64]]
_EXACT = 2.0**53
"""Whole numbers below it are exact as floating point."""


def lots(frame: pandas.DataFrame, columns: Sequence[str], seed: int) -> Numbers:
    """A number in [0, 1) for each row, uniform over the contents of these columns.

    Rows of the same content draw the same lot. A text that reads as a number below 2^53 is that number, a
    missing value is the text "(missing)". The rule: h starts as seed; for each column h = mix(h xor value),
    where a value is the bits of its IEEE 754 double, or of a text the first 8 bytes of its BLAKE2b digest
    (little endian), and mix is SplitMix64's (Steele, Lea and Flood 2014, OOPSLA); the lot is the upper 53
    bits of the last h, over 2^53.
    Raises InputError for a missing column.
    """
    words: Words = numpy.full(len(frame), seed, dtype=numpy.uint64)
    for name in columns:
        words = mixed(words ^ _words(column(frame, name)))
    return (words >> numpy.uint64(11)).astype(numpy.float64) / _EXACT


def contents(frame: pandas.DataFrame, columns: Sequence[str]) -> int:
    """How many different contents the rows have in these columns."""
    return len(numpy.unique(lots(frame, columns, 0)))


def _words(values: "pandas.Series[Any]") -> Words:
    read = read_numbers(values)
    exact = numpy.abs(read) < _EXACT  # False for NaN
    words: Words = (read + 0.0).view(numpy.uint64).copy()  # -0.0 becomes 0.0
    if not exact.all():
        texts, codes = texts_of(values[~exact])
        words[~exact] = numpy.array([_digest(text) for text in texts], dtype=numpy.uint64)[codes]
    return words


def _digest(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(errors="replace"), digest_size=8).digest(), "little")
