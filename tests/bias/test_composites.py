"""Numbers made of rates, against scikit-learn, and their intervals on samples whose truth is known."""

import time
from typing import Any

import numpy
import pytest
from scipy.stats import ks_2samp
from sklearn.metrics import balanced_accuracy_score, f1_score, matthews_corrcoef

from assaymark.bias.codes import Column
from assaymark.bias.composites import COMPOSITES, some
from assaymark.bias.counts import RATES as RATES_BY_NAME
from assaymark.bias.counts import Sums, Tally, hits_and_n, tally
from assaymark.bias.estimates import difference_of_estimates
from assaymark.bias.resample import bootstrap_intervals, resample
from assaymark.bias.rows import Predictions

PEERS = {
    "balanced_accuracy": balanced_accuracy_score,
    "f1_score": f1_score,
    "matthews_correlation": matthews_corrcoef,
}
CLOSED = [name for name, one in COMPOSITES.items() if one.limits is not None]
Z = 1.959964


def counts(cells: Any) -> Tally:
    whole = cells.astype(float)
    return Tally(rows=cells, sums=whole, squares=whole)


def table(seed: int, rows: int, *, weighted: bool) -> Predictions:
    rng = numpy.random.default_rng(seed)
    label = rng.random(rows) < 0.4
    return Predictions(
        name="t.csv",
        groups={
            "g": Column(
                name="g", names=("a", "b", "c"), codes=rng.integers(0, 3, rows, numpy.int32)
            )
        },
        note="",
        weight=rng.gamma(2.0, size=rows) if weighted else None,
        label=label,
        prediction=label ^ (rng.random(rows) < 0.3),
        score=None,
    )


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", COMPOSITES)
def test_values_are_those_of_scikit_learn(name: str, weighted: bool) -> None:
    data = table(0, 300, weighted=weighted)
    found = COMPOSITES[name].value(tally(data.groups["g"], data).sums)
    for place in range(3):
        mine = data.groups["g"].codes == place
        weight = None if data.weight is None else data.weight[mine]
        expected = PEERS[name](data.label[mine], data.prediction[mine], sample_weight=weight)
        assert found[place] == pytest.approx(expected)


@pytest.mark.parametrize("name", COMPOSITES)
def test_what_has_no_case_is_not_defined(name: str) -> None:
    """A group without rows, and one that says no to rows that are all negative."""
    empty = numpy.zeros((2, 2, 2))
    empty[1, 0, 0] = 30
    assert numpy.isnan(COMPOSITES[name].value(empty)).all()


RATES = {"even": (0.5, 0.8, 0.2), "rare": (0.2, 0.7, 0.1), "good": (0.5, 0.95, 0.05)}


def cell_shares(base: float, hit: float, alarm: float) -> Sums:
    negative, positive = (1 - base), base
    shares = [
        [negative * (1 - alarm), negative * alarm],
        [positive * (1 - hit), positive * hit],
    ]
    return numpy.array(shares)


@pytest.mark.parametrize("n", [30, 60, 200])
@pytest.mark.parametrize("rates", RATES.values(), ids=RATES)
@pytest.mark.parametrize("name", CLOSED)
def test_the_truth_is_covered(name: str, rates: tuple[float, float, float], n: int) -> None:
    """On average over the sizes it is 95 of 100 samples; a size alone may have 92, as Wilson's."""
    composite, shares = COMPOSITES[name], cell_shares(*rates)
    truth = float(composite.value(shares[None])[0])
    found = counts(
        numpy.random.default_rng(1).multinomial(n, shares.ravel(), 8000).reshape(-1, 2, 2)
    )
    found = some(found, numpy.flatnonzero(numpy.isfinite(composite.value(found.sums))).tolist())
    assert composite.limits is not None
    low, high = composite.limits(found)(Z)
    assert 0.92 <= ((low <= truth) & (truth <= high)).mean() <= 0.98


@pytest.mark.parametrize("sizes", [(40, 40), (100,) * 6, (400, 40, 100)])
@pytest.mark.parametrize("rates", RATES.values(), ids=RATES)
@pytest.mark.parametrize("name", CLOSED)
def test_equal_groups_are_seldom_told_apart(
    name: str, rates: tuple[float, float, float], sizes: tuple[int, ...]
) -> None:
    """At most 6 % of 1,000 samples have a difference whose lower end is above 0."""
    composite, rng = COMPOSITES[name], numpy.random.default_rng(2)
    assert composite.limits is not None
    shares = cell_shares(*rates).ravel()
    drawn = rng.multinomial(sizes, shares, size=(1000, len(sizes))).reshape(1000, -1, 2, 2)
    accused = 0
    for cells in drawn:
        found = counts(cells)
        values = composite.value(found.sums)
        if numpy.isfinite(values).all():
            limits = composite.limits(found)
            accused += difference_of_estimates(values, limits, 0.95).low > 0
    assert accused <= 60


def test_a_weight_that_is_the_same_for_all_changes_no_limit() -> None:
    cells = numpy.array([[[30.0, 5.0], [4.0, 20.0]]])
    for name in CLOSED:
        limits = COMPOSITES[name].limits
        assert limits is not None
        plain = limits(counts(cells))(Z)
        tripled = limits(Tally(rows=cells, sums=3 * cells, squares=9 * cells))(Z)
        assert numpy.array(tripled) == pytest.approx(numpy.array(plain))
    value = COMPOSITES["matthews_correlation"].value
    once, thrice = (
        bootstrap_intervals(k * cells, value, 0.95, seed=1, squares=k * k * cells)[0]
        for k in (1.0, 3.0)
    )
    assert once is not None
    assert thrice is not None
    assert (once.low, once.high) == pytest.approx((thrice.low, thrice.high))


def test_counting_resampled_rows_is_resampling_counts() -> None:
    """F1 over 3,000 replicates has one distribution, whichever way they are drawn."""
    rng = numpy.random.default_rng(3)
    cells = numpy.array([[[30.0, 5.0], [4.0, 20.0]], [[10.0, 6.0], [2.0, 9.0]]])
    value = COMPOSITES["f1_score"].value
    found = value(resample(cells, seed=4, replicates=3000))
    for place, group in enumerate(cells):
        rows = numpy.repeat(numpy.arange(4), group.ravel().astype(int))
        picked = rng.choice(rows, size=(3000, len(rows)))
        again = numpy.array([numpy.bincount(one, minlength=4) for one in picked])
        expected = value(again.reshape(-1, 2, 2).astype(float))
        assert ks_2samp(found[:, place], expected).pvalue > 0.01
        assert found[:, place].std() == pytest.approx(expected.std(), rel=0.06)


def test_weighted_counts_are_resampled_as_weighted_rows_are() -> None:
    """Of rows drawn a Poisson number of times each: the same mean, spread and quantiles of F1."""
    data = table(5, 240, weighted=True)
    column, weight = data.groups["g"], data.weight
    assert weight is not None
    counted, value = tally(column, data), COMPOSITES["f1_score"].value
    found = value(resample(counted.sums, seed=6, squares=counted.squares, replicates=4000))
    times = numpy.random.default_rng(7).poisson(1.0, size=(4000, 240)) * weight
    places = column.codes * 4 + data.label * 2 + data.prediction
    cells = (times @ (places[:, None] == numpy.arange(12))).reshape(4000, 3, 2, 2)
    expected = value(cells)
    assert found.mean(axis=0) == pytest.approx(expected.mean(axis=0), abs=0.006)
    assert found.std(axis=0) == pytest.approx(expected.std(axis=0), rel=0.06)
    levels = [0.025, 0.5, 0.975]
    ours, theirs = (numpy.quantile(one, levels, axis=0) for one in (found, expected))
    assert ours == pytest.approx(theirs, abs=0.02)


@pytest.mark.parametrize("n", [60, 200])
@pytest.mark.parametrize("rates", [RATES["even"], RATES["rare"]], ids=["even", "rare"])
def test_the_bootstrap_covers_the_truth(rates: tuple[float, float, float], n: int) -> None:
    shares, value = cell_shares(*rates), COMPOSITES["matthews_correlation"].value
    cells = numpy.random.default_rng(8).multinomial(n, shares.ravel(), 800).reshape(-1, 2, 2)
    found = bootstrap_intervals(cells.astype(float), value, 0.95, seed=9, replicates=1000)
    truth = float(value(shares[None])[0])
    inside = [one.low <= truth <= one.high for one in found if one]
    assert len(inside) >= 790
    assert 0.93 <= numpy.mean(inside) <= 0.98


@pytest.mark.parametrize(("positives", "there"), [(3, False), (5, True), (30, True)])
def test_where_too_many_replicates_lack_the_number_there_is_none(
    positives: int, there: bool
) -> None:
    """Of 100 rows with k positives a share (1 - k / 100)^100 of the replicates has none: 4.8 %, 0.6 %, 0."""
    hits = positives // 2
    cells = numpy.array([[[90.0 - positives, 10.0], [hits, positives - hits]]])
    (found,) = bootstrap_intervals(cells, COMPOSITES["balanced_accuracy"].value, 0.95, seed=10)
    assert (found is not None) == there


def test_replicates_without_the_number_widen_the_interval() -> None:
    """Those with 29 true negatives, one in 80, are lost: they are no other in the rate of the positives."""
    cells = numpy.array([[[20.0, 10.0], [300.0, 500.0]]])

    def hit_rate(drawn: Sums) -> Sums:
        found: Sums = drawn[..., 1, 1] / drawn[..., 1, :].sum(axis=-1)
        return found

    def blind(drawn: Sums) -> Sums:
        return numpy.where(drawn[..., 0, 0] == 29, numpy.nan, hit_rate(drawn))

    (narrow,) = bootstrap_intervals(cells, hit_rate, 0.95, seed=10, replicates=20_000)
    (wide,) = bootstrap_intervals(cells, blind, 0.95, seed=10, replicates=20_000)
    assert narrow is not None
    assert wide is not None
    # 2.5 % less 1.2 % on either side
    ratio = (wide.high - wide.low) / (narrow.high - narrow.low)
    assert ratio == pytest.approx(2.24 / 1.96, abs=0.04)


def test_a_sample_that_is_all_right_says_nothing_by_bootstrap_and_little_in_closed_form() -> None:
    cells = numpy.array([[[15.0, 0.0], [0.0, 15.0]]])
    value = COMPOSITES["balanced_accuracy"].value
    assert bootstrap_intervals(cells, value, 0.95, seed=11) == [None]
    for name in CLOSED:
        limits = COMPOSITES[name].limits
        assert limits is not None
        low, high = limits(counts(cells))(Z)
        assert high[0] == 1
        assert 0.7 < low[0] < 0.9


def test_the_order_of_groups_moves_no_interval_and_the_seed_does() -> None:
    cells = numpy.random.default_rng(12).integers(3, 40, size=(5, 2, 2)).astype(float)
    value = COMPOSITES["matthews_correlation"].value
    before = bootstrap_intervals(cells, value, 0.95, seed=13)
    assert bootstrap_intervals(cells[::-1], value, 0.95, seed=13)[::-1] == before
    assert bootstrap_intervals(cells, value, 0.95, seed=14) != before


def test_two_thousand_replicates_of_25_groups_take_no_time() -> None:
    """Six numbers of each: 0.015 CPU seconds on a laptop, here with room for a slow machine."""
    cells = numpy.random.default_rng(15).integers(1000, 10_000, size=(25, 2, 2)).astype(float)
    started = time.process_time()
    drawn = resample(cells, seed=16)
    found = [numpy.divide(*hits_and_n(drawn, rate)) for rate in list(RATES_BY_NAME)[:6]]
    assert time.process_time() - started < 0.3
    assert numpy.isfinite(found).all()
    assert numpy.shape(found) == (6, 2000, 25)
