"""Mitigations against the libraries and formulas they come from, and every way one can fail."""

import itertools
import warnings
from typing import Any

import numpy
import pandas
import pytest
from fairlearn.postprocessing import ThresholdOptimizer
from fairlearn.reductions import DemographicParity, ExponentiatedGradient
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from whatif_rows import adult, compas, diabetes, rows

from assaymark.bias import mitigation_fits, mitigations
from assaymark.bias.encoders import encoders_of, matrix
from assaymark.bias.group_thresholds import group_thresholds
from assaymark.bias.mitigation_fits import reweighed
from assaymark.bias.mitigations import CONSTRAINTS, MITIGATIONS
from assaymark.bias.samples import Sample, sample_of
from assaymark.bias.tradeoffs import gap, tally
from assaymark.bias.whatif import AS_IS, BASE, fitted_by, what_if
from assaymark.reports.errors import InputError


def sample(data: Any, features: Any = None, attribute: str = "group") -> Sample:
    return sample_of(data, features, attribute=attribute)[0]


STUDY = diabetes()
BY_SEX = sample(*STUDY, "sex")

CELLS = [(g, y) for g in "ab" for y in (False, True)]


@given(st.lists(st.integers(1, 9), min_size=4, max_size=4), st.sampled_from([None, 0.5]))
def test_reweighing_is_the_formula_of_aif360_and_makes_label_and_group_independent(
    sizes: list[int], weight: float | None
) -> None:
    cells = [cell for cell, n in zip(CELLS, sizes, strict=True) for _ in range(n)]
    group, label = numpy.array([g for g, _ in cells]), numpy.array([y for _, y in cells])
    ours = sample(rows(label, group, weight=None if weight is None else [weight] * len(cells)))
    found = reweighed(ours)
    n = len(cells)
    for g, y in CELLS:
        here = (group == g) & (label == y)
        expected = (group == g).sum() * (label == y).sum() / (n * here.sum())
        assert found[here] == pytest.approx(expected)
    assert found.sum() == pytest.approx(n)
    rates = [found[(group == g) & label].sum() / found[group == g].sum() for g in "ab"]
    assert rates[0] == pytest.approx(rates[1])


def test_reweighing_by_hand() -> None:
    """The job applicants of Kamiran and Calders 2012: 4 of 5 men and 2 of 5 women were hired."""
    ours = sample(rows([1, 1, 1, 1, 0, 1, 1, 0, 0, 0], list("mmmmmfffff")))
    assert reweighed(ours) == pytest.approx([0.75] * 4 + [2] + [1.5] * 2 + [0.67] * 3, abs=5e-3)


NAMES = {"equal_opportunity": "true_positive_rate_parity"}


@pytest.mark.parametrize("constraint", CONSTRAINTS)
@pytest.mark.parametrize("where", ["diabetes", "compas"])
def test_the_threshold_optimizer_is_fairlearns(
    where: str, constraint: str, request: pytest.FixtureRequest
) -> None:
    data, _ = STUDY if where == "diabetes" else compas(request.getfixturevalue("shared"))
    ours = sample(data, None, "sex")
    assert ours.score is not None
    reference = ThresholdOptimizer(
        estimator=mitigation_fits._Score(),
        constraints=NAMES.get(constraint, constraint),
        prefit=True,
        predict_method="predict",
    )
    x, group = ours.score[:, None], ours.group.codes
    reference.fit(x, ours.label.astype(int), sensitive_features=group)
    rule = fitted_by(MITIGATIONS["threshold-optimizer"], ours, constraint).rule
    chance = rule.chances(ours.table)
    assert chance == pytest.approx(
        reference._pmf_predict(x, sensitive_features=group)[:, 1], abs=1e-12
    )
    assert gap(tally(ours, chance), CONSTRAINTS[constraint]).value == pytest.approx(0, abs=1e-9)


def test_exponentiated_gradient_is_fairlearns() -> None:
    assert BY_SEX.features is not None
    x = matrix(encoders_of(BY_SEX.features), BY_SEX.features)
    reference = ExponentiatedGradient(
        LogisticRegression(max_iter=1000), DemographicParity(difference_bound=0.05), eps=0.05
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of pandas, in fairlearn
        reference.fit(x, BY_SEX.label.astype(int), sensitive_features=BY_SEX.group.codes)
    fitted = fitted_by(MITIGATIONS["exponentiated-gradient-0.05"], BY_SEX, "demographic_parity")
    chance = fitted.rule.chances(BY_SEX.table)
    assert fitted.rule.draws
    assert chance == pytest.approx(reference._pmf_predict(x)[:, 1], abs=1e-9)
    # each group within 0.05 of the mean, up to the duality gap
    found = gap(tally(BY_SEX, chance), "demographic_parity_difference").value
    assert found is not None
    assert found <= 2 * (0.05 + reference.best_gap_)


def pipeline(features: pandas.DataFrame) -> Any:
    text = make_column_selector(dtype_exclude="number")
    number = make_column_selector(dtype_include="number")
    return make_pipeline(
        make_column_transformer(
            (OneHotEncoder(handle_unknown="ignore"), text), (StandardScaler(), number)
        ),
        LogisticRegression(max_iter=1000),
    )


@pytest.mark.parametrize("where", ["diabetes", "adult"])
def test_the_base_estimator_is_a_pipeline_of_scikit_learn(
    where: str, request: pytest.FixtureRequest
) -> None:
    data, features = STUDY if where == "diabetes" else adult(request.getfixturevalue("shared"))
    fitting, other = features.iloc[::2], features.iloc[1::2]
    label = data.label[::2]
    reference = pipeline(fitting).fit(fitting, label)
    ours = sample(data, features, "sex").take(numpy.arange(0, data.n, 2))
    rule = fitted_by(mitigations.BASE_ESTIMATOR, ours, "demographic_parity").rule
    expected = reference.predict_proba(other)[:, 1]
    assert rule.probabilities(other) == pytest.approx(expected, abs=2e-3)  # of another start
    clear = abs(expected - 0.5) > 2e-3
    assert (rule.chances(other)[clear] == reference.predict(other)[clear]).all()


def test_encoded_columns_are_those_of_scikit_learn() -> None:
    features = STUDY[1]
    found = matrix(encoders_of(features), features)
    texts = OneHotEncoder(sparse_output=False).fit_transform(features[["age_band"]])
    numbers = StandardScaler().fit_transform(features[["bmi", "bp", "s5"]])
    assert found == pytest.approx(numpy.hstack([numbers, texts]), abs=1e-12)


@pytest.mark.parametrize("constraint", CONSTRAINTS)
@pytest.mark.parametrize("seed", range(4))
def test_one_threshold_each_is_the_best_of_all(constraint: str, seed: int) -> None:
    """Every pair of thresholds of 2 x 12 rows is tried."""
    rng = numpy.random.default_rng(seed)
    score, group = rng.integers(0, 8, 24) / 8, numpy.repeat(["a", "b"], 12)
    label = rng.random(24) < score
    label[[0, 1, 12, 13]] = [1, 0, 1, 0]
    ours = sample(rows(label, group, score=score))
    tolerance = 0.25
    best = 0.0
    for low, high in itertools.product(numpy.arange(-1, 8) / 8, repeat=2):
        decision = (score > numpy.where(group == "a", low, high)).astype(float)
        found = gap(tally(ours, decision), CONSTRAINTS[constraint]).value
        # windows stand a hundredth apart
        if found is not None and found <= tolerance - 0.02:
            best = max(best, float((decision == label).mean()))
    fitted = mitigation_fits.one_threshold_each(ours, constraint, tolerance=tolerance)
    chance = fitted.rule.chances(ours.table)
    assert {*chance} <= {0, 1}
    reached = gap(tally(ours, chance), CONSTRAINTS[constraint]).value
    assert reached is not None
    assert reached <= tolerance + 1e-9
    assert (chance == label).mean() >= best


@settings(max_examples=30)
@given(st.integers(0, 10**6))
def test_a_weight_counts_as_so_many_rows(seed: int) -> None:
    rng = numpy.random.default_rng(seed)
    label, group, score = rng.random(30) < 0.5, rng.choice(list("ab"), 30), rng.integers(0, 9, 30)
    weight = rng.integers(1, 4, 30)
    weighted = sample(rows(label, group, score=score, weight=weight))
    often = (numpy.repeat(each, weight) for each in (label, group))
    repeated = sample(rows(*often, score=numpy.repeat(score, weight)))
    found = [group_thresholds(each, ("selection_rate",), 0.3) for each in (weighted, repeated)]
    assert found[0] == found[1]


def test_thresholds_between_neighbouring_numbers_still_divide_them() -> None:
    low = 0.5
    high = float(numpy.nextafter(low, 1))
    ours = sample(rows([1, 0, 1, 0], list("aabb"), score=[high, low, high, low]))
    fitted = mitigation_fits.one_threshold_each(ours, "demographic_parity", tolerance=0.02)
    assert fitted.rule.chances(ours.table).tolist() == [1, 0, 1, 0]


SMALL = rows([1, 0] * 12, list("aabb") * 6, score=numpy.linspace(0, 1, 24))
NO_SCORE = rows([1, 0] * 9, list("aabbab") * 3)
TEXTS = pandas.DataFrame({"city": [f"city {place}" for place in range(400)]})
MANY = rows([1, 0] * 200, list("aabb") * 100, score=numpy.linspace(0, 1, 400))
ONE_GROUP = rows([1, 0] * 12, ["a"] * 24, score=numpy.linspace(0, 1, 24))
ONE_LABEL = rows([1] * 24, list("ab") * 12, score=numpy.linspace(0, 1, 24))
X = pandas.DataFrame({"x": numpy.arange(28.0)})


@pytest.mark.parametrize(
    ("method", "data", "features", "constraint", "reason"),
    [
        ("reweighing", SMALL, None, "demographic_parity", "needs features"),
        ("exponentiated-gradient", SMALL, None, "equalized_odds", "needs features"),
        ("threshold-optimizer", NO_SCORE, None, "equalized_odds", "needs a score"),
        ("threshold-optimizer", ONE_GROUP, None, "demographic_parity", "group has 1 group"),
        ("group-thresholds", ONE_GROUP, None, "demographic_parity", "group has 1 group"),
        ("reweighing", ONE_GROUP, X[:24], "demographic_parity", "group has 1 group"),
        ("exponentiated-gradient", ONE_GROUP, X[:24], "equalized_odds", "group has 1 group"),
        ("reweighing", ONE_LABEL, X[:24], "demographic_parity", "has no negatives"),
        ("exponentiated-gradient", MANY, TEXTS, "demographic_parity", "200 different texts"),
        ("reweighing", MANY, TEXTS, "demographic_parity", "200 different texts"),
        ("reweighing", SMALL, pandas.DataFrame({"x": [None] * 24}), "equalized_odds", "no value"),
        ("reweighing", SMALL, pandas.DataFrame(index=range(24)), "equalized_odds", "no feature column"),
    ],
)  # fmt: skip
def test_a_method_that_cannot_be_fitted_says_why(
    method: str, data: Any, features: Any, constraint: str, reason: str
) -> None:
    found = what_if(data, features, attribute="group", methods=[method], constraint=constraint)
    mine = [each for each in found.tried if each.name not in (AS_IS, BASE)]
    assert mine
    for each in mine:
        assert reason in each.why
        assert {one.value for one in each.measures.values()} == {None}
        assert not each.front


@pytest.mark.parametrize("method", MITIGATIONS)
def test_a_group_without_positives_is_never_fair(method: str) -> None:
    label = [1, 0] * 10 + [0] * 20
    data = rows(label, ["a"] * 20 + ["b"] * 20, score=numpy.linspace(0, 1, 40))
    features = pandas.DataFrame({"x": numpy.linspace(0, 1, 40)})
    found = what_if(
        data, features, attribute="group", methods=[method], constraint="equal_opportunity"
    )
    assert {each.measures[found.gap].value for each in found.tried} == {None}
    assert not any(each.front for each in found.tried)
    for each in found.tried:
        assert "group 'b' has no positives" in each.measures[found.gap].why


def test_no_convergence_is_a_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    hasty = LogisticRegression(max_iter=1)
    monkeypatch.setattr(mitigation_fits, "LogisticRegression", lambda max_iter: clone(hasty))
    for name in ("reweighing", "exponentiated-gradient-0.05"):
        fitted = fitted_by(MITIGATIONS[name], BY_SEX, "demographic_parity")
        assert fitted.doubt is not None
        assert "did not converge" in fitted.doubt


def test_names() -> None:
    assert list(mitigations.chosen(["group-thresholds", "reweighing"])) == [
        "group-thresholds-0.02",
        "group-thresholds-0.05",
        "group-thresholds-0.1",
        "reweighing",
    ]
    with pytest.raises(InputError, match='did you mean "reweighing"'):
        mitigations.chosen(["reweighting"])


def test_missing_numbers_and_texts_are_filled_as_described() -> None:
    frame = pandas.DataFrame({"age": ["20", "?", "40", None], "job": ["a", None, "b", "a"]})
    encoded = matrix(encoders_of(frame), frame)
    assert encoded[:, 0] == pytest.approx([-(2**0.5), 0, 2**0.5, 0])
    assert encoded[:, 1:].tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 1, 0]]
