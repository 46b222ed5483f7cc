"""The gap of numbers with errors: closed forms, and samples whose truth is known."""

from collections.abc import Callable
from dataclasses import replace

import numpy
import pytest
from scipy.stats import sem, skew, t, tukey_hsd

from assaymark.bias import gaps
from assaymark.bias.codes import Codes
from assaymark.bias.estimates import (
    difference_of_estimates,
    intervals_of_estimates,
    logit_limits,
    mean_limits,
    means_by_group,
    plain_limits,
)
from assaymark.bias.rows import Numbers
from assaymark.reports.intervals import wilson


def in_rows(samples: list[Numbers]) -> tuple[Codes, Numbers]:
    codes = numpy.repeat(numpy.arange(len(samples), dtype=numpy.int32), [len(s) for s in samples])
    return codes, numpy.concatenate(samples)


def test_one_group_has_the_interval_of_student() -> None:
    sample = numpy.random.default_rng(0).normal(size=(3, 12))
    values, errors = sample.mean(axis=1), sample.std(axis=1, ddof=1) / 12**0.5
    found = intervals_of_estimates(plain_limits(values, errors, 11), 0.9, "Student")
    low, high = t.interval(0.9, 11, loc=values, scale=errors)
    assert [one.low for one in found] == pytest.approx(low)
    assert [one.high for one in found] == pytest.approx(high)


def test_pairs_of_many_rows_have_the_intervals_of_scipy() -> None:
    """Where every group has the same spread and many rows, it is Tukey's test of SciPy."""
    sample = numpy.random.default_rng(1).normal([0.0, 0.1, 0.2, 0.3], size=(5000, 4)).T
    values, errors = sample.mean(axis=1), sample.std(axis=1, ddof=1) / 5000**0.5
    found = difference_of_estimates(values, plain_limits(values, errors), 0.95)
    expected = tukey_hsd(*sample).confidence_interval(0.95)
    assert found.low == pytest.approx(expected.low.max(), abs=2e-3)
    assert found.high == pytest.approx(expected.high.max(), abs=2e-3)


def test_rates_with_their_score_limits_have_the_interval_of_gaps() -> None:
    """Of two groups: of more, gaps of counts add a quarter of a case."""
    hits, cases = [56, 48], [70, 80]

    def limits(reach: float) -> tuple[Numbers, Numbers]:
        confidence = 2 * float(t.cdf(reach, 1e9)) - 1
        found = [wilson(h, n, confidence) for h, n in zip(hits, cases, strict=True)]
        return (
            numpy.array([one.low for one in found if one]),
            numpy.array([one.high for one in found if one]),
        )

    values = numpy.divide(hits, cases)
    found = difference_of_estimates(values, limits, 0.95)
    expected = gaps.difference_interval([(hits, cases)], 0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_logit_limits_stay_inside() -> None:
    low, high = logit_limits([0.99, 0.02, 0.5, 1.0], [0.02, 0.03, 0.1, 0.0])(3.0)
    assert ((low >= 0) & (high <= 1)).all()
    assert (low < [0.99, 0.02, 0.5, 1.1]).all()


def test_means_are_those_of_numpy_and_a_weight_is_a_number_of_rows_in_the_mean() -> None:
    rng = numpy.random.default_rng(3)
    samples = [rng.exponential(size=n) for n in (40, 7, 1)]
    codes, values = in_rows(samples)
    found = means_by_group(codes, 4, values)
    for place, sample in enumerate(samples[:2]):
        assert found.value[place] == pytest.approx(sample.mean())
        assert found.error[place] == pytest.approx(sem(sample))
        assert found.skewness[place] == pytest.approx(skew(sample) / len(sample) ** 0.5)
    assert found.n.tolist()[:3] == [40, 7, 1]
    assert numpy.isnan(found.error[2:]).all()
    weight = rng.integers(1, 4, len(values)).astype(float)
    weighted, doubled = (means_by_group(codes, 3, values, w) for w in (weight, 2 * weight))
    repeated = means_by_group(
        codes.repeat(weight.astype(int)), 3, values.repeat(weight.astype(int))
    )
    assert weighted.value == pytest.approx(repeated.value)
    assert weighted.n[0] == pytest.approx(weight[:40].sum() ** 2 / (weight[:40] ** 2).sum())
    for one in ("n", "value", "error", "skewness"):
        assert getattr(doubled, one) == pytest.approx(getattr(weighted, one), nan_ok=True)


SIZES = {"2 of 30": [30, 30], "5 of 30": [30] * 5, "25 of 30": [30] * 25, "uneven": [30, 200, 60]}
DRAWS: dict[str, Callable[[numpy.random.Generator, int], Numbers]] = {
    "normal": lambda rng, n: rng.normal(size=n),
    "unlike spreads": lambda rng, n: rng.normal(size=n) * (3 if n == 30 else 1),
    "skewed": lambda rng, n: rng.exponential(size=n) - 1,
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_equal_groups_are_seldom_told_apart_and_the_true_gap_is_covered(
    sizes: list[int], draw: Callable[[numpy.random.Generator, int], Numbers]
) -> None:
    """At most 6 % of 2,000 samples accuse equal groups; 93 % and more cover a gap of 0.5."""
    rng = numpy.random.default_rng(2)
    codes, size = numpy.repeat(numpy.arange(len(sizes)), sizes), len(sizes)
    moved = numpy.zeros(size)
    moved[0] = 0.5
    # all samples at once: each group of each sample is a group
    samples = numpy.array([numpy.concatenate([draw(rng, n) for n in sizes]) for _ in range(2000)])
    every = (codes + size * numpy.arange(2000)[:, None]).ravel().astype(numpy.int32)
    found = means_by_group(every, size * 2000, samples.ravel())
    accused = covered = 0
    for first in range(0, size * 2000, size):
        one = found.of(range(first, first + size))
        accused += difference_of_estimates(one.value, mean_limits(one), 0.95).low > 0
        apart = replace(one, value=one.value + moved)
        gap = difference_of_estimates(apart.value, mean_limits(apart), 0.95)
        covered += gap.low <= 0.5 <= gap.high
    assert accused <= 120
    assert covered >= 1860


@pytest.mark.parametrize("draw", ["normal", "skewed"])
@pytest.mark.parametrize("n", [30, 60, 200])
def test_the_mean_of_one_group_is_covered(n: int, draw: str) -> None:
    rng = numpy.random.default_rng(4)
    codes = numpy.repeat(numpy.arange(4000, dtype=numpy.int32), n)
    found = means_by_group(codes, 4000, DRAWS[draw](rng, 4000 * n))
    low, high = mean_limits(found)(1.959964)
    assert 0.94 < ((low <= 0) & (high >= 0)).mean() < 0.965
    assert 0.015 < (low > 0).mean() < 0.035


def test_what_has_no_error_is_refused() -> None:
    with pytest.raises(ValueError, match="two groups"):
        difference_of_estimates([0.5], plain_limits([0.5], [0.1]), 0.95)
    with pytest.raises(ValueError, match="error of at least 0"):
        plain_limits([0.5, 0.4], [0.1, float("nan")])
    with pytest.raises(ValueError, match="number and limits"):
        difference_of_estimates([0.5, float("nan")], plain_limits([0.5, 0.4], [0.1, 0.1]), 0.95)
    with pytest.raises(ValueError, match="degrees of freedom"):
        plain_limits([0.5], [0.1], 0)(1.0)
