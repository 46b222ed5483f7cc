"""Columns of numbers as bands: between edges that are given, or of about as many rows each."""

import itertools
import math
from collections.abc import Sequence

import numpy

from assaymark.bias.codes import MISSING, Column
from assaymark.bias.rows import Numbers
from assaymark.reports.errors import InputError

Bands = Sequence[float] | int
"""The edges between bands, or how many bands of about as many rows."""


def banded(name: str, found: Numbers, bands: Bands) -> Column:
    """Numbers in bands, NaN in one of its own; each band has its lower edge and lacks the upper one.

    bands: the edges, or how many bands (`quantile_bands`). Raises InputError for edges that do not rise.

    >>> banded("age", numpy.array([17.0, 18.0, 64.0, numpy.nan]), (18, 65)).names
    ('(missing)', '<18', '18 to <65')
    """
    if isinstance(bands, int):
        return quantile_bands(name, found, bands)
    edges = [float(edge) for edge in bands]
    if not all(math.isfinite(edge) for edge in edges) or sorted(set(edges)) != edges:
        raise InputError(f"bands of {name} are {edges}: expected numbers in rising order")
    titles = [MISSING, *_titles(edges)]
    place = numpy.searchsorted(numpy.array(edges), found, side="right").astype(numpy.int32) + 1
    place[numpy.isnan(found)] = 0
    held = numpy.flatnonzero(numpy.bincount(place, minlength=len(titles)))
    order = numpy.zeros(len(titles), dtype=numpy.int32)
    order[held] = numpy.arange(len(held), dtype=numpy.int32)
    return Column(name=name, names=tuple(titles[one] for one in held), codes=order[place])


def _titles(edges: list[float]) -> list[str]:
    if not edges:
        return ["all"]
    inner = [f"{low:g} to <{high:g}" for low, high in itertools.pairwise(edges)]
    return [f"<{edges[0]:g}", *inner, f"≥{edges[-1]:g}"]


def quantile_bands(name: str, values: Numbers, bands: int = 5) -> Column:
    """Each row's band, named by the lowest and the highest value that fell into it.

    values of shape (rows,), NaN where missing: those are a band of their own, `MISSING`, the last.
    A value that many rows share is never divided, so there may be fewer bands, and a value that fills
    the lowest band (such as a capital gain of 0) stands alone in it. Raises InputError for infinite
    values or fewer than two bands.

    >>> quantile_bands("age", numpy.array([18.0, 21, 30, 40, 65, 90]), bands=3).names
    ('18–21', '30–40', '65–90')
    """
    if bands < 2:
        raise InputError(f"{name} in {bands} bands: expected at least 2")
    if numpy.isinf(values).any():
        raise InputError(f'column "{name}" has infinite values: expected numbers, or none')
    missing = numpy.isnan(values)
    known = values[~missing]
    if not len(known):
        return Column(name=name, names=(MISSING,), codes=numpy.zeros(len(values), numpy.int32))
    shares = numpy.arange(1, bands) / bands
    edges = numpy.unique(numpy.quantile(known, shares, method="inverted_cdf"))
    edges = edges[edges < known.max()]
    codes = numpy.searchsorted(edges, values, side="left").astype(numpy.int32)
    codes[missing] = len(edges) + 1
    lows = [known.min(), *(known[known > edge].min() for edge in edges)]
    names = _names([float(low) for low in lows], [*map(float, edges), float(known.max())])
    if missing.any():
        names.append(MISSING)
    return Column(name=name, names=tuple(names), codes=codes)


def _names(lows: list[float], highs: list[float]) -> list[str]:
    """With as few digits as tell all ends apart."""
    ends = {*lows, *highs}
    for digits in range(3, 18):
        text = {end: f"{end:.{digits}g}" for end in ends}
        exact = all(float(text[end]) == end for end in ends if end.is_integer() and abs(end) < 1e15)
        if exact and len(set(text.values())) == len(ends):
            break
    pairs = zip(lows, highs, strict=True)
    return [text[low] if low == high else f"{text[low]}–{text[high]}" for low, high in pairs]
