"""Intervals of numbers whose items come in clusters: templates, writers, questions.

Items made from one template, or by one writer, say less than as many independent ones. The clusters are taken
as independent, the items in a cluster are not.
"""

from collections.abc import Callable, Sequence

import numpy
from scipy.special import betaincinv, stdtrit

from assaymark.bias.resample import bca_interval
from assaymark.bias.rows import Numbers
from assaymark.reports.model import Interval

Sums = numpy.ndarray[tuple[int, int], numpy.dtype[numpy.float64]]
Statistic = Callable[[Sums], Numbers]
"""From sums (replicates, columns) to a number each, NaN where it is not defined."""
REPLICATES = 2000


def cluster_codes(clusters: Sequence[str]) -> numpy.ndarray:
    """Clusters by number, in the order of their names."""
    return numpy.unique(numpy.asarray(clusters, dtype=str), return_inverse=True)[1]


def cluster_sums(columns: Sequence[Numbers], codes: numpy.ndarray) -> Sums:
    """Each column summed up in each cluster, (clusters, columns)."""
    size = int(codes.max()) + 1 if len(codes) else 0
    return numpy.stack(
        [numpy.bincount(codes, weights=column, minlength=size) for column in columns], axis=1
    )


def share_interval(
    hits: Numbers, codes: numpy.ndarray, confidence: float = 0.95
) -> Interval | None:
    """Interval of the share of hits (0 or 1, ½ for a tie), over items in clusters of any size.

    Clopper and Pearson's with the effective size in the place of n, corrected for few clusters (Korn and
    Graubard, Survey Methodology 24, 1998; the variance is that of a ratio of cluster sums). Where all items
    agree the variance says nothing: each cluster then counts once. None over no items, or one cluster.
    """
    n = len(hits)
    groups = len(numpy.unique(codes))
    if n == 0 or (groups == 1 and n > 1):
        return None
    mean = float(hits.mean())
    size = float(groups)
    if 0 < mean < 1 and groups > 1:
        apart = numpy.bincount(codes, weights=hits - mean)
        variance = float((apart**2).sum()) / n**2 * groups / (groups - 1)
        if variance > 0:
            few, many = (-stdtrit(count - 1, (1 - confidence) / 2) for count in (groups, n))
            size = float(min(mean * (1 - mean) / variance * (many / few) ** 2, n))
    tail, count = (1 - confidence) / 2, size * mean
    return Interval(
        low=0.0 if mean == 0 else float(betaincinv(count, size - count + 1, tail)),
        high=1.0 if mean == 1 else 1 - float(betaincinv(size - count, count + 1, tail)),
        confidence=confidence,
        method="Korn–Graubard",
    )


def mean_interval(
    values: Numbers,
    codes: numpy.ndarray,
    confidence: float = 0.95,
    *,
    least: float = -numpy.inf,
    most: float = numpy.inf,
) -> Interval | None:
    """Interval of a mean over items in clusters, by the spread of cluster sums and Student's t.

    Liang and Zeger, Biometrika 73, 1986, with clusters − 1 degrees of freedom. None where fewer than two
    clusters, or values that are all alike, say nothing about the error. least, most: between which every
    mean lies; the interval ends there.
    """
    n, groups = len(values), len(numpy.unique(codes))
    if groups < 2 or values.min() == values.max():
        return None
    mean = float(values.mean())
    apart = numpy.bincount(codes, weights=values - mean)
    error = float(numpy.sqrt((apart**2).sum() * groups / (groups - 1))) / n
    if error == 0:
        return None
    reach = float(-stdtrit(groups - 1, (1 - confidence) / 2)) * error
    return Interval(
        low=max(mean - reach, least),
        high=min(mean + reach, most),
        confidence=confidence,
        method="cluster-robust t",
    )


def bootstrap_interval(
    sums: Sums,
    statistic: Statistic,
    confidence: float = 0.95,
    *,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> Interval | None:
    """BCa interval of whatever is computed from sums over clusters, drawn with replacement.

    sums: (clusters, columns). statistic: from summed columns (replicates, columns) to a number each. None of
    fewer than two clusters, where the number is undefined, or too often undefined in the replicates.
    """
    clusters = len(sums)
    if clusters < 2:
        return None
    rng = numpy.random.default_rng(seed)
    drawn = rng.multinomial(clusters, numpy.full(clusters, 1 / clusters), size=replicates) @ sums
    whole = sums.sum(axis=0)
    value = float(statistic(whole[None])[0])
    left_out = statistic(whole - sums)
    kept = left_out[numpy.isfinite(left_out)]
    apart = kept.mean() - kept if len(kept) else numpy.zeros(1)
    square = float((apart**2).sum())
    rise = float((apart**3).sum() / (6 * square**1.5)) if square > 0 else 0.0
    found = bca_interval(statistic(drawn.astype(float)), value, rise, confidence)
    if found is None:
        return None
    return Interval(
        low=found.low, high=found.high, confidence=confidence, method="BCa cluster bootstrap"
    )
