"""Confidence intervals of proportions, and the sample size that would decide a limit.

`betting` holds at every sample size at once, so that a run may look as often as it likes and stop when
a limit is decided.
"""

import math
from collections.abc import Callable, Sequence

import numpy
from scipy.special import (  # scipy.stats is slow to import
    bdtr,
    betaincinv,
    logsumexp,
    ndtri,
    stdtrit,
)

from assaymark.reports.model import Interval, Limit, Verdict


def clopper_pearson(hits: int, n: int, confidence: float = 0.95) -> Interval | None:
    """Exact two-sided interval of a proportion; None over no samples.

    hits in [0, n], confidence in (0, 1). Coverage is at least `confidence` for every true
    proportion (Clopper and Pearson, Biometrika 26, 1934).

    >>> interval = clopper_pearson(8, 10)
    >>> round(interval.low, 4), round(interval.high, 4)
    (0.4439, 0.9748)
    """
    _check(hits, n, confidence)
    if n == 0:
        return None
    tail = (1 - confidence) / 2
    low = 0.0 if hits == 0 else float(betaincinv(hits, n - hits + 1, tail))
    high = 1.0 if hits == n else 1 - float(betaincinv(n - hits, hits + 1, tail))
    return Interval(low=low, high=high, confidence=confidence, method="Clopper–Pearson")


def wilson(hits: float, n: float, confidence: float = 0.95) -> Interval | None:
    """Score interval of a proportion (Wilson, JASA 22, 1927); None over no samples.

    hits and n need not be whole: of weighted samples they are the effective numbers.

    >>> interval = wilson(8, 10)
    >>> round(interval.low, 4), round(interval.high, 4)
    (0.4902, 0.9433)
    """
    _check(hits, n, confidence)
    if n == 0:
        return None
    z = float(-ndtri((1 - confidence) / 2))
    p = hits / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    return Interval(
        low=0.0 if hits == 0 else max(0.0, centre - half),
        high=1.0 if hits == n else min(1.0, centre + half),
        confidence=confidence,
        method="Wilson",
    )


_STAKES = numpy.geomspace(0.06, 0.7, 10)
"""Shares of the capital that are bet: small ones decide close calls, large ones clear cases."""


def betting(hits: int, n: int, confidence: float = 0.95) -> Interval | None:
    """Interval of a proportion that is valid at every n at once; None over no samples.

    The true proportion stays inside the intervals of all n together with at least `confidence`
    (a confidence sequence by betting, Waudby-Smith and Ramdas 2024, JRSS B 86, section 4; a mixture of
    fixed bets, Ville's inequality, half of the error on each side). Wider than Clopper–Pearson at any
    one n, which must not be looked at twice.

    >>> interval = betting(80, 100)
    >>> round(interval.low, 3), round(interval.high, 3)
    (0.658, 0.903)
    """
    _check(hits, n, confidence)
    if n == 0:
        return None
    return Interval(
        low=_betting_low(hits, n, confidence),
        high=1 - _betting_low(n - hits, n, confidence),
        confidence=confidence,
        method="betting (anytime-valid)",
    )


def betting_evidence(hits: numpy.ndarray, n: numpy.ndarray, proportion: float) -> numpy.ndarray:
    """How strongly each pair of hits and n speaks against a proportion, on either side.

    The logarithm of what the better of two gamblers has won, one betting on hits, the other on misses;
    `betting` excludes the proportion where it reaches log(2 / (1 - confidence)).
    """
    if not 0 < proportion < 1:
        return numpy.zeros(len(n))
    best = numpy.full(len(n), -numpy.inf)
    for wins, share in ((hits, proportion), (n - hits, 1 - proportion)):
        won = numpy.multiply.outer(wins, numpy.log1p(_STAKES * (1 - share) / share))
        lost = numpy.multiply.outer(n - wins, numpy.log1p(-_STAKES))
        best = numpy.maximum(best, logsumexp(won + lost, axis=1) - math.log(len(_STAKES)))
    return best


def _betting_low(hits: int, n: int, confidence: float) -> float:
    """The least proportion against which betting on hits has not yet won 2 / (1 - confidence)."""
    if hits == 0:
        return 0.0
    target = math.log(2 / (1 - confidence))
    losses = (n - hits) * numpy.log1p(-_STAKES)

    def won(proportion: float) -> bool:
        wins = hits * numpy.log1p(_STAKES * (1 - proportion) / proportion)
        return bool(logsumexp(wins + losses) - math.log(len(_STAKES)) >= target)

    low, high = 0.0, hits / n
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if won(middle) else (low, middle)
    return low


def effective_size(shares: Sequence[float], trials: int, confidence: float = 0.95) -> float | None:
    """How many independent trials say as much as these clusters do; None over no clusters.

    shares: the share of hits in each cluster of `trials` trials, such as one image under several
    corruptions. The size that would give the mean of the shares the variance it has, corrected for
    few clusters and at most their trials (Korn and Graubard, Survey Methodology 24, 1998). Where all
    trials agree the variance says nothing: each cluster then counts once.
    """
    n = len(shares)
    if n == 0:
        return None
    mean = math.fsum(shares) / n
    if n == 1 or not 0 < mean < 1:
        return float(n)
    variance = math.fsum((share - mean) ** 2 for share in shares) / (n - 1) / n
    if variance == 0:
        return float(n)
    few, many = (float(-stdtrit(size - 1, (1 - confidence) / 2)) for size in (n, n * trials))
    return float(min(mean * (1 - mean) / variance * (many / few) ** 2, n * trials))


def clustered(shares: Sequence[float], trials: int, confidence: float = 0.95) -> Interval | None:
    """Interval of a proportion whose trials come in clusters; None over no clusters.

    Clopper and Pearson's with the effective size in the place of n, as Korn and Graubard propose. The
    clusters are taken as independent, the trials in a cluster are not.

    >>> alike, unlike = clustered([0.0, 1.0] * 50, 75), clustered([0.5] * 99 + [0.4], 75)
    >>> round(alike.high - alike.low, 2), round(unlike.high - unlike.low, 2)
    (0.21, 0.02)
    """
    size = effective_size(shares, trials, confidence)
    if size is None:
        return None
    mean = math.fsum(shares) / len(shares)
    tail, hits = (1 - confidence) / 2, size * mean
    return Interval(
        low=0.0 if mean == 0 else float(betaincinv(hits, size - hits + 1, tail)),
        high=1.0 if mean == 1 else 1 - float(betaincinv(size - hits, hits + 1, tail)),
        confidence=confidence,
        method="Korn–Graubard",
    )


def sign_test(more: int, less: int) -> float:
    """Exact two-sided p-value that of two paired measurements neither is larger more often.

    more, less: how many pairs differ either way; equal pairs say nothing. Of pairs that hold yes or no
    it is McNemar's exact test (McNemar 1947, Psychometrika 12; the binomial form of it).

    >>> sign_test(9, 1), sign_test(0, 0)
    (0.021484375, 1.0)
    """
    if more < 0 or less < 0:
        raise ValueError(f"counts are not negative, got {more} and {less}")
    return min(1.0, 2 * float(bdtr(min(more, less), more + less, 0.5)))


def sample_size_to_decide(
    proportion: float,
    limit: Limit,
    confidence: float = 0.95,
    *,
    more_than: int = 0,
    method: Callable[[int, int, float], Interval | None] = clopper_pearson,
) -> int | None:
    """About how many samples would decide `limit`, were `proportion` the truth.

    An n above `more_than` whose intervals around n · proportion, rounded either way, both judge the
    limit; found by doubling and bisection, and rounded up to two digits. None when the proportion
    sits on the limit.

    >>> sample_size_to_decide(0.5, Limit(minimum=0.4, on="lower"))
    110
    """
    bound = limit.minimum if limit.maximum is None else limit.maximum
    assert bound is not None
    if not 0 <= bound <= 1 or abs(proportion - bound) < 1e-4:
        return None

    def decided(n: int) -> bool:
        verdicts = {
            limit.judge(hits / n, method(hits, n, confidence))
            for hits in (math.floor(proportion * n), math.ceil(proportion * n))
        }
        return len(verdicts) == 1 and Verdict.INCONCLUSIVE not in verdicts

    few, enough = more_than, more_than + 1
    while not decided(enough):
        few, enough = enough, enough * 2
        if enough > 10**9:
            return None
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (few, middle) if decided(middle) else (middle, enough)
    unit: int = 10 ** max(len(str(enough)) - 2, 0)
    return -(-enough // unit) * unit


def _check(hits: float, n: float, confidence: float) -> None:
    if not 0 <= hits <= n:
        raise ValueError(f"a proportion needs 0 <= hits <= n, got {hits} of {n}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence lies in (0, 1), got {confidence}")
