"""Confidence intervals of proportions, and the sample size that would decide a limit.

`betting` holds at every sample size at once, so that a run may look as often as it likes and stop when
a limit is decided.
"""

import math
from collections.abc import Callable

import numpy
from scipy.special import logsumexp
from scipy.stats import beta, norm

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
    low = 0.0 if hits == 0 else float(beta.ppf(tail, hits, n - hits + 1))
    high = 1.0 if hits == n else float(beta.isf(tail, hits + 1, n - hits))
    return Interval(low=low, high=high, confidence=confidence, method="Clopper–Pearson")


def wilson(hits: int, n: int, confidence: float = 0.95) -> Interval | None:
    """Score interval of a proportion (Wilson, JASA 22, 1927); None over no samples.

    >>> interval = wilson(8, 10)
    >>> round(interval.low, 4), round(interval.high, 4)
    (0.4902, 0.9433)
    """
    _check(hits, n, confidence)
    if n == 0:
        return None
    z = float(norm.isf((1 - confidence) / 2))
    p = hits / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    return Interval(
        low=0.0 if hits == 0 else max(0.0, centre - half),
        high=1.0 if hits == n else min(1.0, centre + half),
        confidence=confidence,
        method="Wilson",
    )


_STAKES = numpy.geomspace(0.05, 0.9, 20)
"""Shares of the capital that are bet: small ones decide close calls, large ones clear cases."""


def betting(hits: int, n: int, confidence: float = 0.95) -> Interval | None:
    """Interval of a proportion that is valid at every n at once; None over no samples.

    The true proportion stays inside the intervals of all n together with at least `confidence`
    (a confidence sequence by betting, Waudby-Smith and Ramdas 2024, JRSS B 86, section 4; a mixture of
    fixed bets, Ville's inequality, half of the error on each side). Wider than Clopper–Pearson at any
    one n, which must not be looked at twice.

    >>> interval = betting(80, 100)
    >>> round(interval.low, 3), round(interval.high, 3)
    (0.656, 0.903)
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


def _check(hits: int, n: int, confidence: float) -> None:
    if not 0 <= hits <= n:
        raise ValueError(f"a proportion needs 0 <= hits <= n, got {hits} of {n}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence lies in (0, 1), got {confidence}")
