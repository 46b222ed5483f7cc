"""A column of numbers as bands of about as many rows, in which slices are sought."""

import numpy

from assaymark.bias.codes import MISSING, Column
from assaymark.bias.rows import Numbers
from assaymark.reports.errors import InputError


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
