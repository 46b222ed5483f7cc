"""Intervals of gaps against SciPy, and against samples whose truth is known."""

from typing import Any

import numpy
import pytest
from scipy.stats import binom, studentized_range

from assaymark.bias import gaps
from assaymark.bias.gaps import detectable_gap, difference_interval, ratio_interval


@pytest.mark.parametrize("groups", [2, 3, 5, 25, 50])
@pytest.mark.parametrize("probability", [0.5, 0.9, 0.95, 0.999])
def test_the_quantile_of_the_range_is_that_of_scipy(groups: int, probability: float) -> None:
    expected = studentized_range.ppf(probability, groups, numpy.inf)
    assert gaps.studentized_range(probability, groups) == pytest.approx(expected, abs=1e-6)


def test_two_groups_have_the_published_interval() -> None:
    """Newcombe 1998, table II, example (a), method 10: 56/70 − 48/80."""
    found = difference_interval([([56, 48], [70, 80])], 0.95)
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_a_rate_of_zero_leaves_the_ratio_open() -> None:
    found = ratio_interval([([0, 20], [40, 40])], 0.95)
    assert found.low == 0
    assert 0 < found.high < 1


def exact_size(groups: int, n: int, rate: float, interval: Any) -> float:
    """How often a fair model is accused, by the joint distribution of the least and the most hits."""
    hits = range(n + 1)
    accused = numpy.zeros((n + 1, n + 1), dtype=bool)
    for least in hits:
        for most in range(least + 1, n + 1):
            # what lies between changes nothing
            counts = [least, most] + [least] * (groups - 2)
            found = interval([(counts, [n] * groups)], 0.95)
            if found.low > 0 if interval is difference_interval else found.high < 1:
                accused[least, most:] = True  # more only parts them further
                break
    up_to = numpy.concatenate([[0.0], binom.cdf(hits, n, rate)])
    within = (up_to[None, 1:] - up_to[:-1, None]).clip(0) ** groups  # all of them in [least, most]
    exactly = within.copy()
    exactly[:-1] -= within[1:]
    exactly[:, 1:] -= within[:, :-1]
    exactly[:-1, 1:] += within[1:, :-1]
    return float((numpy.triu(exactly, 1) * accused).sum())


@pytest.mark.parametrize("interval", [difference_interval, ratio_interval])
@pytest.mark.parametrize(
    ("groups", "n"), [(2, 40), (3, 30), (4, 20), (6, 30), (10, 40), (15, 30), (25, 30), (25, 60)]
)
def test_the_exact_size_of_a_gap_is_at_most_six_percent(groups: int, n: int, interval: Any) -> None:
    """Without a quarter of a case to either side these are up to 7.4 %."""
    for rate in (0.1, 0.3, 0.4, 0.45, 0.5, 0.6):
        assert exact_size(groups, n, rate, interval) <= 0.06


SIZES = {
    "5 of 30": [30] * 5,
    "2 of 40": [40, 40],
    "uneven": [500, 60, 35, 200],
    "25 of 50": [50] * 25,
}


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_a_fair_model_is_seldom_accused(sizes: list[int], rate: float) -> None:
    """At most 6.6 % of 1,500 samples have a lower end above 0 (a ratio's upper end below 1)."""
    draws = numpy.random.default_rng(0).binomial(sizes, rate, size=(1500, len(sizes)))
    accused = [difference_interval([(hits, sizes)], 0.95).low > 0 for hits in draws.tolist()]
    assert sum(accused) <= 99
    accused = [ratio_interval([(hits, sizes)], 0.95).high < 1 for hits in draws.tolist()]
    assert sum(accused) <= 99


@pytest.mark.parametrize(
    ("rates", "sizes"),
    [
        ((0.5, 0.3), (40, 60)),
        ((0.5, 0.3, 0.4), (100, 50, 80)),
        ((0.9, 0.6, 0.6, 0.6, 0.6), (60,) * 5),
        ((0.1, 0.25), (200, 150)),
    ],
)
def test_the_true_gap_is_covered(rates: tuple[float, ...], sizes: tuple[int, ...]) -> None:
    draws = numpy.random.default_rng(1).binomial(sizes, rates, size=(1000, len(sizes)))
    gap, ratio = max(rates) - min(rates), min(rates) / max(rates)
    found = [difference_interval([(hits, sizes)], 0.95) for hits in draws.tolist()]
    assert sum(one.low <= gap <= one.high for one in found) >= 935
    found = [ratio_interval([(hits, sizes)], 0.95) for hits in draws.tolist()]
    assert sum(one.low <= ratio <= one.high for one in found) >= 935


def test_of_two_rates_the_worse_counts_and_both_are_paid_for() -> None:
    even, apart = ([20, 20], [40, 40]), ([35, 15], [50, 50])
    one = difference_interval([apart], 0.95)
    both = difference_interval([even, apart], 0.95)
    assert both.low < one.low
    assert both.high > one.high


def test_the_detectable_gap_is_detected_four_times_of_five() -> None:
    sizes = [400, 400]
    gap = detectable_gap([0.5, 0.5], sizes, 0.95)
    rates = [0.5 + gap / 2, 0.5 - gap / 2]
    draws = numpy.random.default_rng(2).binomial(sizes, rates, size=(2000, 2))
    seen = [difference_interval([(hits, sizes)], 0.95).low > 0 for hits in draws.tolist()]
    assert numpy.mean(seen) == pytest.approx(0.8, abs=0.03)


def test_another_group_can_only_widen_the_gap() -> None:
    narrow = difference_interval([([30, 20], [50, 50])], 0.95)
    wide = difference_interval([([30, 20, 25], [50, 50, 50])], 0.95)
    assert wide.high >= narrow.high
