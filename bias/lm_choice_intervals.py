"""Intervals of shares and differences of shares over answers in clusters, of perfect scores too."""

import numpy

from assaymark.bias.lm_clusters import (
    bootstrap_interval,
    cluster_sums,
    mean_interval,
    share_interval,
)
from assaymark.bias.rows import Numbers
from assaymark.reports.model import Interval


def mean_within(
    values: Numbers, codes: numpy.ndarray, confidence: float, low: float = -1.0, high: float = 1.0
) -> Interval | None:
    """Interval of a mean of values in [low, high].

    Where all clusters have the same mean their spread says nothing: as many of them as the interval of a
    share of one leaves open could then have any mean.
    """
    found = mean_interval(values, codes, confidence)
    if found is not None:
        return _kept(found, low, high)
    if not len(values):
        return None
    alike = share_interval(numpy.ones(len(values)), codes, confidence)
    if alike is None:
        return None
    sure, value = alike.low, float(values.mean())
    return Interval(
        low=sure * value + (1 - sure) * low,
        high=sure * value + (1 - sure) * high,
        confidence=confidence,
        method=alike.method,
    )


def ratio_within(
    part: Numbers, whole: Numbers, codes: numpy.ndarray, confidence: float, *, seed: int = 0
) -> Interval | None:
    """Interval of sum(part) / sum(whole); part ≤ whole, both in [0, 1] of each item."""
    some = whole > 0
    if (whole[some] == 1).all():
        return share_interval(part[some], codes[some], confidence)
    found = bootstrap_interval(
        cluster_sums([part, whole], codes),
        lambda sums: _over(sums[:, 0], sums[:, 1]),
        confidence,
        seed=seed,
    )
    return found or share_interval(part[some] / whole[some], codes[some], confidence)


def difference_within(
    values: Numbers, first: numpy.ndarray, codes: numpy.ndarray, confidence: float, *, seed: int = 0
) -> Interval | None:
    """Interval of the mean of the first minus that of the others, of values in [0, 1].

    first: which items belong to the first mean. Clusters may have both kinds, so they are drawn whole. Where
    the bootstrap says nothing, such as two perfect scores, the intervals of the two shares are put together
    (Newcombe 1998, method 10; too wide where they go up and down together).
    """
    one, two = first.astype(float), 1.0 - first
    found = bootstrap_interval(
        cluster_sums([values * one, one, values * two, two], codes),
        lambda sums: _over(sums[:, 0], sums[:, 1]) - _over(sums[:, 2], sums[:, 3]),
        confidence,
        seed=seed,
    )
    if found is not None:
        return found
    left = share_interval(values[first], codes[first], confidence)
    right = share_interval(values[~first], codes[~first], confidence)
    if left is None or right is None:
        return None
    p, q = float(values[first].mean()), float(values[~first].mean())
    return Interval(
        low=p - q - float(numpy.hypot(p - left.low, right.high - q)),
        high=p - q + float(numpy.hypot(left.high - p, q - right.low)),
        confidence=confidence,
        method="Newcombe of Korn–Graubard",
    )


def _over(part: Numbers, whole: Numbers) -> Numbers:
    found: Numbers = numpy.divide(
        part, whole, out=numpy.full(len(whole), numpy.nan), where=whole > 0
    )
    return found


def _kept(interval: Interval, low: float, high: float) -> Interval:
    return Interval(
        low=max(interval.low, low),
        high=min(interval.high, high),
        confidence=interval.confidence,
        method=interval.method,
    )
