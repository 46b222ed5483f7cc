"""A random half of the rows that depends on what is in them, not on their order."""

from collections.abc import Sequence

import numpy

Places = numpy.ndarray[tuple[int], numpy.dtype[numpy.int64]]


def halves(content: Sequence[numpy.ndarray], seed: int) -> tuple[Places, Places]:
    """The places of the rows in either half: a fair coin for each row, thrown by the seed and its content.

    content: columns of shape (rows,), of whole numbers, flags or floats. Rows that are the same have a
    coin each; which of them is which does not matter. The places are in an order that depends on the
    content as well, so that sums over a half are the same to the last digit.
    """
    key = numpy.full(len(content[0]), seed % 2**64, dtype=numpy.uint64)
    for one in content:
        bits = one.view(numpy.uint64) if one.dtype == numpy.float64 else one.astype(numpy.uint64)
        key = mixed(key + bits)
    order = numpy.argsort(key, kind="stable")
    key = key[order]
    new = numpy.ones(len(key), dtype=numpy.bool_)
    new[1:] = key[1:] != key[:-1]
    place = numpy.arange(len(key))
    copy = place - numpy.maximum.accumulate(numpy.where(new, place, 0))
    first = mixed(key + copy.astype(numpy.uint64)) >> numpy.uint64(63) == 0
    return order[first], order[~first]


def mixed(key: numpy.ndarray) -> numpy.ndarray:
    """A step of SplitMix64 (Steele, Lea and Flood 2014, OOPSLA), modulo 2**64."""
    key = key + numpy.uint64(0x9E3779B97F4A7C15)
    key = (key ^ (key >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
    found: numpy.ndarray = key ^ (key >> numpy.uint64(31))
    return found
