"""Many tests at once: adjusted p-values, so that chance findings stay as rare as promised.

Both take the p-values of one family, in any order. A test that could not be made has no p-value (None
or NaN): it stays None and is no member of the family, since nothing was looked at that could have
looked significant by chance.
"""

import math
from collections.abc import Sequence

import numpy

FAMILY_LEVEL = 0.05
"""Holm: one claim or more is false in at most this share of audits."""
FALSE_DISCOVERY_LEVEL = 0.10
"""Benjamini and Hochberg: of what is pointed at, this share is expected to be chance."""
PValues = Sequence[float | None]


def holm(p: PValues) -> list[float | None]:
    """Adjusted p-values that bound the chance of any false claim (Holm 1979, Scand. J. Statistics 6).

    Valid whatever the dependence between the tests. Raises ValueError for a p-value outside [0, 1].

    >>> holm([0.01, None, 0.04, 0.03])
    [0.03, None, 0.06, 0.06]
    """
    places, order, ranked = _ranked(p)
    factors = len(ranked) - numpy.arange(len(ranked))
    return _placed(len(p), places[order], numpy.maximum.accumulate(ranked * factors))


def benjamini_hochberg(p: PValues) -> list[float | None]:
    """Adjusted p-values that bound the expected share of false ones among those that stand.

    Benjamini and Hochberg 1995, JRSS B 57; for tests that are independent or positively dependent
    (Benjamini and Yekutieli 2001). Raises ValueError for a p-value outside [0, 1].

    >>> benjamini_hochberg([0.01, None, 0.04, 0.03])
    [0.03, None, 0.04, 0.04]
    """
    places, order, ranked = _ranked(p)
    factors = len(ranked) / numpy.arange(1, len(ranked) + 1)
    adjusted = numpy.minimum.accumulate((ranked * factors)[::-1])[::-1]
    return _placed(len(p), places[order], adjusted)


def _ranked(p: PValues) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]:
    """Where the p-values stand, their rising order, and the p-values in that order."""
    numbers = numpy.array([math.nan if one is None else one for one in p], dtype=numpy.float64)
    places = numpy.flatnonzero(~numpy.isnan(numbers))
    known = numbers[places]
    if ((known < 0) | (known > 1)).any():
        raise ValueError(f"p-values lie in [0, 1], got {known.min():g} to {known.max():g}")
    order = numpy.argsort(known, kind="stable")  # an order, not ranks: ranks are its inverse
    return places, order, known[order]


def _placed(length: int, places: numpy.ndarray, adjusted: numpy.ndarray) -> list[float | None]:
    placed: list[float | None] = [None] * length
    for place, value in zip(places.tolist(), adjusted.tolist(), strict=True):
        placed[place] = min(value, 1.0)
    return placed
