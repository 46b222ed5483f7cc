"""AUC, Brier score and calibration of groups, against scikit-learn, by hand, and on samples."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit, ndtr
from sklearn.metrics import brier_score_loss, roc_auc_score

from assaymark.bias.auc import Areas, area_limits, areas
from assaymark.bias.calibration import (
    Curves,
    corrected_errors,
    curves,
    error_limits,
    plain_errors,
)
from assaymark.bias.codes import Column
from assaymark.bias.estimates import LimitsAt, difference_of_estimates
from assaymark.bias.rows import Flags, Numbers, Predictions
from assaymark.bias.scores import (
    QUANTILES,
    brier_limits,
    brier_scores,
    distribution,
    outside,
    ties,
)

Draw = Callable[[numpy.random.Generator, int], tuple[Numbers, Flags]]
Z = 1.959964


def table(groups: Any, label: Any, score: Any, weight: Any = None) -> Predictions:
    names, codes = numpy.unique(groups, return_inverse=True)
    column = Column(name="group", names=tuple(map(str, names)), codes=codes.astype(numpy.int32))
    return Predictions(
        name="t.csv",
        groups={"group": column},
        note="decisions as given",
        weight=None if weight is None else numpy.asarray(weight, float),
        label=numpy.asarray(label, bool),
        prediction=numpy.asarray(score) >= 0.5,
        score=numpy.asarray(score, float),
    )


def areas_of(data: Predictions) -> Areas:
    assert data.score is not None
    return areas(ties(data.groups["group"], data.label, data.score, data.weight))


def curves_of(data: Predictions) -> Curves:
    assert data.score is not None
    return curves(ties(data.groups["group"], data.label, data.score, data.weight))


def uneven(seed: int, *, decimals: int, weighted: bool) -> Predictions:
    """Five groups of unlike sizes; few decimals make ties."""
    rng = numpy.random.default_rng(seed)
    groups = rng.choice(5, size=400, p=[0.5, 0.3, 0.1, 0.05, 0.05])
    score = rng.random(400).round(decimals)
    label = rng.random(400) < 0.2 + 0.6 * score
    return table(groups, label, score, rng.integers(1, 5, 400) if weighted else None)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("decimals", [1, 12])
def test_areas_and_brier_scores_are_those_of_scikit_learn(decimals: int, weighted: bool) -> None:
    data = uneven(0, decimals=decimals, weighted=weighted)
    column, score = data.groups["group"], data.score
    assert score is not None
    area, brier = areas_of(data).value, brier_scores(data, column).value
    for place in range(5):
        mine = column.codes == place
        weight = None if data.weight is None else data.weight[mine]
        expected = roc_auc_score(data.label[mine], score[mine], sample_weight=weight)
        assert area[place] == pytest.approx(expected, abs=1e-12)
        expected = brier_score_loss(data.label[mine], score[mine], sample_weight=weight)
        assert brier[place] == pytest.approx(expected, abs=1e-12)


def test_the_error_of_an_area_is_that_of_all_pairs() -> None:
    """DeLong 1988, equations 4 to 6, over every pair of a positive and a negative."""
    data = uneven(1, decimals=1, weighted=False)
    found, score = areas_of(data), data.score
    assert score is not None
    for place in range(5):
        mine = data.groups["group"].codes == place
        yes, no = score[mine & data.label], score[mine & ~data.label]
        pairs = (yes[:, None] > no) + 0.5 * (yes[:, None] == no)
        first, second = pairs.mean(axis=1), pairs.mean(axis=0)
        variance = first.var(ddof=1) / len(yes) + second.var(ddof=1) / len(no)
        assert found.error[place] == pytest.approx(variance**0.5)


def test_ties_count_half_and_what_has_one_label_has_no_area() -> None:
    found = areas_of(table([0] * 4 + [1, 1], [1, 0, 1, 0, 1, 1], [0.5, 0.5, 0.9, 0.5, 0.1, 0.2]))
    assert found.value[0] == 0.75  # of four pairs two are ties
    assert numpy.isnan(found.value[1])
    with pytest.raises(ValueError, match="two positives and two negatives"):
        area_limits(found)


def test_a_perfect_area_is_not_certain() -> None:
    """Newcombe 2006, method 5, at m = n = 10: the lower limit solves 1 - a = z · se(a)."""
    label = [0] * 10 + [1] * 10
    found = areas_of(table([0] * 20 + [1] * 20, label * 2, [*range(20), *range(19, -1, -1)]))
    low, high = area_limits(found)(Z)
    assert (high[0], low[1]) == (1.0, 0.0)
    a = low[0]
    variance = a * (1 - a) / 100 * (1 + 9 * (1 - a) / (2 - a) + 9 * a / (1 + a))
    assert 1 - a == pytest.approx(Z * variance**0.5, rel=1e-6)
    assert high[1] == pytest.approx(1 - low[0])


def test_a_calibration_error_by_hand() -> None:
    """Twenty rows are two bins: scored 0.2 with 5 of 10 positive, and 0.9 with 8 of 10."""
    label = [1] * 5 + [0] * 5 + [1] * 8 + [0] * 2
    found = curves_of(table([0] * 20, label, [0.2] * 10 + [0.9] * 10))
    assert found.weight[0].tolist() == [0.5, 0.5] + [0.0] * 8
    assert found.rate[0, :2].tolist() == [0.5, 0.8]
    assert plain_errors(found)[0] == pytest.approx(0.5 * 0.3 + 0.5 * 0.1)


def test_rows_of_one_score_share_a_bin() -> None:
    found = curves_of(table([0] * 100, [1, 0] * 50, [0.5] * 60 + [0.7] * 40))
    assert sorted(found.rows[0][found.rows[0] > 0].tolist()) == [40, 60]


def test_the_correction_is_what_sampling_would_take_away() -> None:
    """Kumar et al. 2019 draw the rate of every bin again; here 20,000 times."""
    rng = numpy.random.default_rng(2)
    score = rng.random(300)
    found = curves_of(table([0] * 300, rng.random(300) < score, score))
    share = (found.rate * found.cases + found.score) / (found.cases + 1)
    again = rng.normal(found.rate, (share * (1 - share) / found.cases) ** 0.5, size=(20000, 10))
    chance = (found.weight * numpy.abs(again - found.score)).sum(axis=1).mean()
    plain = plain_errors(found)[0]
    assert corrected_errors(found)[0] == pytest.approx(2 * plain - chance, abs=1e-3)


def test_a_weight_is_a_number_of_rows_and_quantiles_are_numpys() -> None:
    data = uneven(3, decimals=2, weighted=True)
    column, score, weight = data.groups["group"], data.score, data.weight
    assert score is not None
    assert weight is not None
    found = distribution(ties(column, data.label, score, weight))
    for place in range(5):
        mine = column.codes == place
        repeated = score[mine].repeat(weight[mine].astype(int))
        assert found.mean[place] == pytest.approx(repeated.mean())
        assert found.deviation[place] == pytest.approx(repeated.std())
        expected = numpy.quantile(repeated, QUANTILES, method="inverted_cdf")
        assert found.quantiles[place].tolist() == expected.tolist()
        bars = numpy.histogram((repeated * 100).round(), bins=numpy.arange(0, 101, 10))[0]
        assert found.share[place] == pytest.approx(bars / len(repeated))


def test_scores_that_are_no_probabilities() -> None:
    assert outside(numpy.array([0.0, 1.0])) is None
    assert outside(numpy.array([1.0, 10.0])) == (
        "scores run from 1 to 10, where a probability lies in [0, 1]"
    )
    found = distribution(ties(*_one_group([1.0, 10.0, 10.0])))
    assert (found.edges[0], found.edges[-1]) == (1, 10)
    assert found.share[0][[0, -1]] == pytest.approx([1 / 3, 2 / 3])
    assert distribution(ties(*_one_group([7.0, 7.0]))).share.sum() == 1


def _one_group(score: list[float]) -> tuple[Column, Flags, Numbers]:
    codes = numpy.zeros(len(score), numpy.int32)
    return Column(name="g", names=("a",), codes=codes), codes == 0, numpy.array(score)


ROWS = st.lists(
    st.tuples(
        st.integers(0, 2), st.booleans(), st.integers(0, 8).map(lambda k: k / 8), st.integers(1, 4)
    ),
    min_size=4,
    max_size=60,
)


def everything(groups: Any, label: Any, score: Any, weight: Any) -> Numbers:
    """Every number of every group by its name; the groups are in alphabetical order."""
    data = table(groups, label, score, weight)
    column = data.groups["group"]
    curve = curves_of(data)
    spread = distribution(ties(column, data.label, numpy.asarray(score, float), data.weight))
    found = areas_of(data)
    parts = [found.value, found.error, brier_scores(data, column).value, plain_errors(curve)]
    parts += [corrected_errors(curve), error_limits(curve)(Z)[1], spread.mean, *spread.quantiles.T]
    return numpy.array(parts)


@settings(max_examples=40, deadline=None)
@given(ROWS, st.randoms(use_true_random=False))
def test_order_names_and_the_unit_of_weight_change_nothing(
    found: list[tuple[int, bool, float, int]], random: Any
) -> None:
    groups, label, score, weight = map(numpy.array, zip(*found, strict=True))
    before = everything(groups, label, score, weight)
    order = numpy.array(random.sample(range(len(found)), len(found)))
    shuffled = everything(groups[order], label[order], score[order], weight[order])
    assert shuffled == pytest.approx(before, abs=1e-9, nan_ok=True)
    doubled = everything(groups, label, score, 2 * weight)
    assert doubled == pytest.approx(before, abs=1e-9, nan_ok=True)
    renamed = everything(2 - groups, label, score, weight)
    assert renamed[:, ::-1] == pytest.approx(before, abs=1e-9, nan_ok=True)


# Samples whose truth is known: (score, label) of a size, AUC, Brier score, calibration error.


def calibrated(rng: numpy.random.Generator, size: int) -> tuple[Numbers, Flags]:
    score = rng.random(size)
    return score, rng.random(size) < score


def rare(rng: numpy.random.Generator, size: int) -> tuple[Numbers, Flags]:
    score = rng.beta(1, 4, size)
    return score, rng.random(size) < score


def shifted(rng: numpy.random.Generator, size: int) -> tuple[Numbers, Flags]:
    score = rng.uniform(0.1, 0.8, size)
    return score, rng.random(size) < score + 0.1


def boastful(rng: numpy.random.Generator, size: int) -> tuple[Numbers, Flags]:
    score = rng.random(size)
    return score, rng.random(size) < expit(0.5 * logit(score))


def normal(rng: numpy.random.Generator, size: int) -> tuple[Numbers, Flags]:
    label = rng.random(size) < 0.4
    return ndtr(rng.normal(label * 1.2)), label


def many(draw: Draw, n: int, times: int, seed: int) -> Predictions:
    """Samples of n rows as groups, whose names sort as they were drawn."""
    score, label = draw(numpy.random.default_rng(seed), times * n)
    return table(numpy.repeat(numpy.arange(times) + 10**6, n), label, score)


def covered(limits: LimitsAt, truth: float) -> tuple[float, float]:
    """The shares of samples whose limits lie above the truth, and below."""
    low, high = limits(Z)
    return float((low > truth + 1e-9).mean()), float((high < truth - 1e-9).mean())


@pytest.mark.parametrize("n", [40, 100, 200])
@pytest.mark.parametrize(
    ("draw", "truth"), [(calibrated, 5 / 6), (normal, float(ndtr(1.2 / 2**0.5)))]
)
def test_the_area_is_covered(draw: Draw, truth: float, n: int) -> None:
    found = areas_of(many(draw, n, 4000, 4))
    low, high = covered(
        area_limits(found.of(numpy.flatnonzero(numpy.isfinite(found.error)).tolist())), truth
    )
    assert 0.93 <= 1 - low - high <= 0.975
    assert max(low, high) <= 0.045


@pytest.mark.parametrize("n", [30, 60, 200])
@pytest.mark.parametrize(("draw", "truth"), [(calibrated, 1 / 6), (rare, 2 / 15), (shifted, None)])
def test_the_brier_score_is_covered(draw: Draw, truth: float | None, n: int) -> None:
    if truth is None:  # E p(1-p) + 0.1², p uniform in [0.2, 0.9]
        truth = (0.9**2 - 0.2**2) / 1.4 - (0.9**3 - 0.2**3) / 2.1 + 0.01
    data = many(draw, n, 4000, 5)
    low, high = covered(brier_limits(brier_scores(data, data.groups["group"])), truth)
    assert 0.935 <= 1 - low - high <= 0.98
    assert max(low, high) <= 0.04


def test_rows_that_are_all_right_do_not_make_a_brier_score_certain() -> None:
    found = brier_scores(data := table([0] * 30, [1, 0] * 15, [1, 0] * 15), data.groups["group"])
    low, high = brier_limits(found)(Z)
    assert (low[0], high[0]) == pytest.approx((0, Z**2 / (30 + Z**2)))


def hard(rng: numpy.random.Generator, size: int) -> tuple[Numbers, Flags]:
    label = rng.random(size) < 0.5
    return (label ^ (rng.random(size) < 0.05)).astype(float), label


def binned(n: int) -> float:
    """The calibration error of `boastful` in the bins of n rows."""
    score = (numpy.arange(120_000) + 0.5) / 120_000
    apart = (expit(0.5 * logit(score)) - score).reshape(min(10, n // 10), -1)
    return float(numpy.abs(apart.mean(axis=1)).mean())


ERRORS: dict[Draw, Callable[[int], float]] = {
    calibrated: lambda n: 0.0,
    rare: lambda n: 0.0,
    shifted: lambda n: 0.1,
    boastful: binned,
    hard: lambda n: 0.05,
}


@pytest.mark.parametrize("n", [30, 100, 200, 500])
@pytest.mark.parametrize("draw", ERRORS)
def test_the_calibration_error_is_covered_whatever_its_shape(draw: Draw, n: int) -> None:
    """At least 95 of 100 samples: the limits hold for the least favourable shape."""
    truth = ERRORS[draw](n)
    found = curves_of(many(draw, n, 1500, 7))
    low, high = covered(error_limits(found), truth)
    assert low <= 0.035
    assert high <= 0.035
    off = abs(plain_errors(found).mean() - truth)
    assert abs(corrected_errors(found).mean() - truth) <= max(0.75 * off, 0.01)


def test_scores_that_are_all_right_do_not_make_calibration_certain() -> None:
    found = curves_of(table([0] * 30, [1, 0] * 15, [1, 0] * 15))
    low, high = error_limits(found)(Z)
    assert (low[0], high[0]) == pytest.approx((0, Z**2 / (30 + Z**2)))


FAIR = {"2 of 40": [40, 40], "6 of 40": [40] * 6, "uneven": [400, 40, 100]}


def _area(data: Predictions) -> tuple[Numbers, LimitsAt]:
    found = areas_of(data)
    return found.value, area_limits(found)


def _brier(data: Predictions) -> tuple[Numbers, LimitsAt]:
    found = brier_scores(data, data.groups["group"])
    return found.value, brier_limits(found)


def _calibration(data: Predictions) -> tuple[Numbers, LimitsAt]:
    found = curves_of(data)
    return corrected_errors(found), error_limits(found)


@pytest.mark.parametrize("measure", [_area, _brier, _calibration])
@pytest.mark.parametrize("draw", [calibrated, shifted, normal])
@pytest.mark.parametrize("sizes", FAIR.values(), ids=FAIR)
def test_groups_with_one_truth_are_seldom_told_apart(
    sizes: list[int], draw: Draw, measure: Callable[[Predictions], tuple[Numbers, LimitsAt]]
) -> None:
    """At most 6 of 100 samples have a difference whose lower end is above 0."""
    times, size = 1000, len(sizes)
    score, label = draw(numpy.random.default_rng(8), times * sum(sizes))
    groups = numpy.repeat(numpy.arange(times * size) + 10**6, sizes * times)
    values, limits = measure(table(groups, label, score))  # all samples at once
    every = cache(limits)
    accused = 0
    for at in numpy.arange(times * size).reshape(times, size):
        found = difference_of_estimates(values[at], _some(every, at), 0.95)
        accused += found.low > 0
    assert accused <= 60


def _some(limits: LimitsAt, at: Any) -> LimitsAt:
    return lambda reach: (limits(reach)[0][at], limits(reach)[1][at])


@pytest.mark.parametrize(
    ("measure", "other", "gap"),
    [
        (_area, normal, 5 / 6 - float(ndtr(1.2 / 2**0.5))),
        (_brier, rare, 1 / 6 - 2 / 15),
        (_calibration, shifted, 0.1),
    ],
)
@pytest.mark.parametrize("sizes", [(60, 60), (60, 200), (200, 60)])
def test_the_true_difference_of_two_groups_is_covered(
    sizes: tuple[int, int],
    measure: Callable[[Predictions], tuple[Numbers, LimitsAt]],
    other: Draw,
    gap: float,
) -> None:
    """In at least 93.5 of 100 samples of a group of `calibrated` and one of `other`."""
    times, rng = 1000, numpy.random.default_rng(9)
    drawn = [draw(rng, times * n) for draw, n in zip((calibrated, other), sizes, strict=True)]
    groups = [numpy.repeat(numpy.arange(times) * 2 + k + 10**6, n) for k, n in enumerate(sizes)]
    score, label = (numpy.concatenate(both) for both in zip(*drawn, strict=True))
    values, limits = measure(table(numpy.concatenate(groups), label, score))
    every = cache(limits)
    inside = 0
    for at in numpy.arange(times * 2).reshape(times, 2):
        found = difference_of_estimates(values[at], _some(every, at), 0.95)
        inside += found.low <= gap <= found.high
    assert inside >= 935
