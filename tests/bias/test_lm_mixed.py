"""The mixed model, against closed forms, statsmodels, single fits without each question, and simulations."""

import warnings
from typing import Any

import numpy
import pytest

from assaymark.bias.lm_mixed import Coefficients, Matrix, logistic_model, mixed_model
from assaymark.reports.errors import InputError

TRUE = numpy.array([1.0, 0.2, 0.3, 0.0, -0.1])


def people(ages: int = 5, races: int = 3, genders: int = 2) -> Matrix:
    """Columns of a full factorial: ones, age in standard deviations, races and genders but the first."""
    age, race, gender = (
        part.ravel() for part in numpy.indices((ages, races, genders), dtype=float)
    )
    columns = [numpy.ones(age.size), (age - age.mean()) / age.std(ddof=1)]
    columns += [(race == level) * 1.0 for level in range(1, races)]
    columns += [(gender == level) * 1.0 for level in range(1, genders)]
    return numpy.stack(columns, axis=1)


def questions(
    seed: int, count: int = 20, *, spread: float = 0.4, noise: float = 0.5, level: float = 1.0
) -> tuple[Matrix, Any, numpy.ndarray]:
    """Log odds of so many questions about the same people, each with coefficients around TRUE."""
    rng = numpy.random.default_rng(seed)
    x, codes = numpy.tile(people(), (count, 1)), numpy.repeat(numpy.arange(count), 30)
    each = TRUE + spread * rng.normal(size=(count, 5))
    each[:, 0] += level * rng.normal(size=count)
    return x, (x * each[codes]).sum(axis=1) + noise * rng.normal(size=len(x)), codes


def some(seed: int, x: Matrix, y: Any, codes: numpy.ndarray, share: float = 0.6) -> Any:
    """Part of the items, of some questions more than of others."""
    rng = numpy.random.default_rng(1000 + seed)
    shares = numpy.clip(share + 0.2 * rng.normal(size=int(codes.max()) + 1), 0.25, 1)
    kept = rng.random(len(y)) < shares[codes]
    return x[kept], y[kept], codes[kept]


def of_statsmodels(x: Matrix, y: Any, codes: numpy.ndarray) -> tuple[Any, Any]:
    """Fixed effects and their errors of MixedLM, restricted maximum likelihood."""
    from statsmodels.regression.mixed_linear_model import MixedLM

    with warnings.catch_warnings():
        warnings.simplefilter(
            "error"
        )  # a fit at the edge or one that did not converge is no oracle
        fitted = MixedLM(y, x, groups=codes, exog_re=x).fit(method="lbfgs")
    return fitted.fe_params, fitted.bse_fe


def test_the_same_people_in_every_question_have_a_closed_form() -> None:
    x, y, codes = questions(3)
    single = numpy.linalg.lstsq(people(), y.reshape(20, 30).T, rcond=None)[0].T
    found = mixed_model(x, y, codes)
    assert found.fit == "balanced"
    assert found.by_question == pytest.approx(single)
    assert found.value == pytest.approx(single.mean(axis=0))
    assert found.errors == pytest.approx(single.std(axis=0, ddof=1) / 20**0.5)
    assert found.effective == pytest.approx(20)
    interval = found.interval(2)
    assert interval is not None
    assert interval.high - found.value[2] == pytest.approx(2.0930240544 * found.errors[2])  # t, 19


def test_equal_to_statsmodels_where_all_ask_the_same_people() -> None:
    x, y, codes = questions(0)
    found = mixed_model(x, y, codes)
    value, error = of_statsmodels(x, y, codes)
    assert found.value == pytest.approx(value, abs=1e-5)
    assert found.errors == pytest.approx(error, rel=1e-3)


@pytest.mark.parametrize("seed", [2, 3])
def test_equal_to_statsmodels_where_items_are_missing(seed: int) -> None:
    x, y, codes = some(seed, *questions(seed))
    found = mixed_model(x, y, codes)
    value, error = of_statsmodels(x, y, codes)
    assert found.fit == "REML"
    assert found.value == pytest.approx(value, abs=2e-5)
    assert found.errors == pytest.approx(error, rel=0.15)  # the jackknife also counts the weights


def test_the_restricted_likelihood_is_at_its_maximum_at_the_edge_too() -> None:
    """Without any spread of slopes G is at its edge; no other G that is tried is likelier there."""
    x, y, codes = some(5, *questions(5, spread=0.0))
    found = mixed_model(x, y, codes)
    within = numpy.linalg.lstsq(
        numpy.column_stack([numpy.eye(20)[codes], x[:, 1:]]), y, rcond=None
    )[0][20:]
    assert found.fit == "REML"
    assert found.value[1:] == pytest.approx(within, abs=0.02)
    wide = mixed_model(*some(5, *questions(5, spread=0.4)))
    assert (found.errors[1:] < wide.errors[1:]).all()


@pytest.mark.parametrize("kind", ["REML", "logistic"])
def test_the_error_is_that_of_leaving_out_each_question(kind: str) -> None:
    x, y, codes = some(7, *questions(7, 25, spread=0.4))
    hits = numpy.random.default_rng(7).binomial(50, 1 / (1 + numpy.exp(-y))).astype(float)

    def fit(kept: numpy.ndarray) -> Coefficients:
        renamed = numpy.unique(codes[kept], return_inverse=True)[1]
        if kind == "REML":
            return mixed_model(x[kept], y[kept], renamed)
        return logistic_model(x[kept], hits[kept], numpy.full(int(kept.sum()), 50.0), renamed)

    found = fit(codes >= 0)
    without = numpy.array([fit(codes != question).value for question in range(25)])
    literal = numpy.sqrt(24 * without.var(axis=0))
    assert found.errors[1:] == pytest.approx(literal[1:], rel=0.1)
    assert found.by_question.mean(axis=0) == pytest.approx(found.value)


def test_logistic_is_statsmodels_with_an_intercept_for_each_question() -> None:
    from statsmodels.genmod.families import Binomial
    from statsmodels.genmod.generalized_linear_model import GLM

    x, y, codes = some(4, *questions(4, 10))
    hits = numpy.random.default_rng(4).binomial(8, 1 / (1 + numpy.exp(-y))).astype(float)
    share = 1 / numpy.bincount(codes)[codes]
    columns = numpy.column_stack([numpy.eye(10)[codes], x[:, 1:]])
    both = numpy.stack([hits + share / 2, 8 - hits + share / 2], axis=1)
    oracle = GLM(both, columns, family=Binomial()).fit(tol=1e-12).params
    found = logistic_model(x, hits, numpy.full(len(x), 8.0), codes)
    assert found.value[1:] == pytest.approx(oracle[10:], abs=1e-6)
    assert found.value[0] == pytest.approx(oracle[:10].mean(), abs=1e-6)


def test_refusing_a_whole_group_is_a_large_effect_not_an_error() -> None:
    x, codes = numpy.tile(people(), (6, 1)), numpy.repeat(numpy.arange(6), 30)
    found = logistic_model(x, 10 * (x[:, 2] == 0), numpy.full(len(x), 10.0), codes)
    assert found.value[2] < -5
    assert abs(found.value[1]) < 1e-6


def test_many_replies_recover_coefficients_that_log_odds_of_few_would_pull_to_0() -> None:
    x, y, codes = questions(1, 40, spread=0.0, noise=0.0, level=2.0)
    hits = numpy.random.default_rng(1).binomial(5, 1 / (1 + numpy.exp(-y))).astype(float)
    found = logistic_model(x, hits, numpy.full(len(x), 5.0), codes)
    haldane = mixed_model(x, numpy.log((hits + 0.5) / (5.5 - hits)), codes)
    assert found.value[1:] == pytest.approx(TRUE[1:], abs=0.12)
    assert abs(haldane.value[2]) < abs(found.value[2])


@pytest.mark.parametrize("constant", [0.0, 0.3])
@pytest.mark.parametrize("part", [False, True])
def test_answers_that_never_differ_have_no_interval(constant: float, part: bool) -> None:
    x, _, codes = questions(0)
    y = numpy.full(len(x), constant)
    found = mixed_model(*(some(0, x, y, codes) if part else (x, y, codes)))
    assert found.value == pytest.approx([constant, 0, 0, 0, 0], abs=1e-12)
    assert all(found.interval(column) is None for column in range(5))
    assert found.p_value(1) is None


def test_questions_count_by_how_much_they_tell() -> None:
    """Of three questions with 30, 30 and 6 items a slope that they share has fewer than three behind it."""
    x, y, codes = questions(2, 3, spread=0.0)
    kept = (codes < 2) | (numpy.arange(len(codes)) % 5 == 0)
    found = mixed_model(x[kept], y[kept], codes[kept])
    assert 2.0 < found.effective[1] < 2.75
    assert mixed_model(x, y, codes).effective == pytest.approx(3)


def test_one_question_has_a_value_and_no_interval() -> None:
    x, y, codes = questions(0, 1)
    found = mixed_model(x, y, codes)
    assert numpy.isfinite(found.value).all()
    assert found.interval(1) is None


def test_columns_that_cannot_be_told_apart_are_refused() -> None:
    x, y, codes = questions(0)
    with pytest.raises(InputError, match="cannot be told apart"):
        mixed_model(numpy.column_stack([x, x[:, 2]]), y, codes)


def test_answers_without_noise_are_fitted_too() -> None:
    """The likelihood then has no maximum; every question tells its coefficients exactly."""
    for seed in range(6):
        x, y, codes = some(seed, *questions(seed, spread=0.2, noise=0.0))
        found = mixed_model(x, y, codes)
        reach = 4 * 0.2 / 20**0.5
        assert abs(found.value[1:] - TRUE[1:]).max() < reach
        assert (found.errors[1:] > 0.02).all()


def coverage(seeds: int, *, spread: float, missing: bool, replies: int = 0) -> Any:
    held = numpy.zeros(5)
    for seed in range(seeds):
        x, y, codes = questions(seed, spread=spread, noise=0.0 if replies else 0.5)
        if missing:
            x, y, codes = some(seed, x, y, codes)
        if replies:
            chance = 1 / (1 + numpy.exp(-y))
            hits = numpy.random.default_rng(seed).binomial(replies, chance).astype(float)
            found = logistic_model(x, hits, numpy.full(len(x), float(replies)), codes)
        else:
            found = mixed_model(x, y, codes)
        for column in range(5):
            interval = found.interval(column)
            assert interval is not None
            held[column] += interval.low <= TRUE[column] <= interval.high
    return held[1:] / seeds if replies else held / seeds


@pytest.mark.parametrize("missing", [False, True])
def test_coverage_with_slopes_that_vary_and_slopes_that_do_not(missing: bool) -> None:
    """Of 500 or 2,000 intervals of 5 coefficients; the longer runs below leave less to chance."""
    shares = [
        coverage(50 if missing else 200, spread=spread, missing=missing) for spread in (0.0, 0.4)
    ]
    chance = 0.025 if missing else 0.015
    assert numpy.mean(shares) == pytest.approx(0.95, abs=chance)
    assert numpy.min(shares) >= 0.88


@pytest.mark.long
@pytest.mark.parametrize("spread", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("missing", [False, True])
def test_coverage_of_every_coefficient(spread: float, missing: bool) -> None:
    shares = coverage(1000, spread=spread, missing=missing)
    assert 0.93 <= shares.min() <= shares.max() <= 0.97


@pytest.mark.long
@pytest.mark.parametrize("spread", [0.0, 0.2])
def test_coverage_of_sampled_replies(spread: float) -> None:
    """Odds averaged over slopes that vary are a little nearer to 1: at this spread by less than the error."""
    shares = coverage(1000, spread=spread, missing=True, replies=10)
    assert 0.93 <= shares.min() <= shares.max() <= 0.97
