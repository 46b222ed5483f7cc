"""Intervals against published tables and against their own definition."""

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from assaymark.reports.intervals import (
    clopper_pearson,
    clustered,
    effective_size,
    sample_size_to_decide,
    wilson,
)
from assaymark.reports.model import Limit

# Newcombe 1998, Statistics in Medicine 17, table I: method 5 (exact) and method 3 (Wilson).
NEWCOMBE = [
    (81, 263, (0.2527, 0.3676), (0.2553, 0.3662)),
    (15, 148, (0.0578, 0.1617), (0.0624, 0.1605)),
    (0, 20, (0.0000, 0.1684), (0.0000, 0.1611)),
    (1, 29, (0.0009, 0.1776), (0.0061, 0.1718)),
]


@pytest.mark.parametrize(("hits", "n", "exact", "score"), NEWCOMBE)
def test_published_intervals(
    hits: int, n: int, exact: tuple[float, float], score: tuple[float, float]
) -> None:
    for function, published in ((clopper_pearson, exact), (wilson, score)):
        interval = function(hits, n)
        assert interval is not None
        assert (round(interval.low, 4), round(interval.high, 4)) == published


@pytest.mark.parametrize("n", [1, 7, 30])
@pytest.mark.parametrize("p", [0.01, 0.2, 0.5, 0.93])
def test_clopper_pearson_covers_at_least_as_often_as_it_says(n: int, p: float) -> None:
    covered = 0.0
    for hits in range(n + 1):
        interval = clopper_pearson(hits, n, 0.9)
        assert interval is not None
        covered += float(binom.pmf(hits, n, p)) * (interval.low <= p <= interval.high)
    assert covered >= 0.9


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_intervals_hold_the_estimate_and_mirror(counts: tuple[int, int]) -> None:
    hits, n = counts
    for function in (clopper_pearson, wilson):
        interval, mirrored = function(hits, n), function(n - hits, n)
        assert interval is not None
        assert mirrored is not None
        assert 0 <= interval.low <= hits / n <= interval.high <= 1
        assert interval.low == pytest.approx(1 - mirrored.high, abs=1e-9)


@pytest.mark.parametrize("function", [clopper_pearson, wilson])
def test_no_samples_no_interval(function: object) -> None:
    assert function(0, 0) is None  # type: ignore[operator]


@pytest.mark.parametrize(("hits", "n", "confidence"), [(-1, 3, 0.9), (4, 3, 0.9), (1, 3, 1.0)])
def test_impossible_counts_are_refused(hits: int, n: int, confidence: float) -> None:
    with pytest.raises(ValueError, match=r"needs|lies"):
        clopper_pearson(hits, n, confidence)


@pytest.mark.parametrize(("p", "bound"), [(0.5, 0.4), (0.9, 0.85), (0.3, 0.5), (0.02, 0.1)])
def test_the_advised_sample_size_decides_and_a_much_smaller_one_does_not(
    p: float, bound: float
) -> None:
    limit = Limit(minimum=bound, on="lower")
    n = sample_size_to_decide(p, limit)
    assert n is not None
    for size, decided in ((n, True), (n // 2, False)):
        interval = clopper_pearson(round(p * size), size)
        assert (limit.judge(p, interval) != "inconclusive") is decided


def test_no_sample_size_decides_a_value_on_its_limit() -> None:
    assert sample_size_to_decide(0.4, Limit(minimum=0.4, on="lower")) is None


def test_clusters_of_one_trial_are_single_trials() -> None:
    """Korn and Graubard's size is then n, but for n - 1 in the variance."""
    shares = [1.0] * 81 + [0.0] * 182
    assert effective_size(shares, 1) == pytest.approx(262)
    interval, exact = clustered(shares, 1), clopper_pearson(81, 263)
    assert interval is not None
    assert exact is not None
    assert interval.low == pytest.approx(exact.low, abs=2e-4)
    assert interval.high == pytest.approx(exact.high, abs=2e-4)


def test_clusters_that_agree_within_count_once() -> None:
    """99 from the variance; then the squared ratio of Student quantiles of 7,499 and 99 degrees."""
    expected = 99 * (1.9603 / 1.9842) ** 2
    assert effective_size([0.0, 1.0] * 50, 75) == pytest.approx(expected, rel=1e-3)


def test_intervals_over_no_clusters_or_without_variance() -> None:
    assert clustered([], 5) is None
    for value in (0.0, 1.0):
        interval, exact = clustered([value] * 30, 5), clopper_pearson(round(30 * value), 30)
        assert interval is not None
        assert exact is not None
        assert (interval.low, interval.high) == (exact.low, exact.high)


@pytest.mark.parametrize("n", [20, 100])
@pytest.mark.parametrize(("a", "b"), [(0.3, 0.2), (8.0, 1.0), (2.0, 5.0)])
def test_clustered_intervals_cover_the_mean_of_uneven_clusters(n: int, a: float, b: float) -> None:
    """Beta-distributed clusters of 15 binomial trials; 0.92 is 0.95 less 3 standard errors."""
    generator = numpy.random.default_rng(0)
    covered = 0
    for _ in range(500):
        shares = generator.binomial(15, generator.beta(a, b, n)) / 15
        interval = clustered(shares.tolist(), 15)
        assert interval is not None
        covered += interval.low <= a / (a + b) <= interval.high
    assert covered / 500 >= 0.92
