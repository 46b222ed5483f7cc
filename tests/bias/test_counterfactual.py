"""Attribute flips of models whose flip rate is known, and of real ones."""

from typing import Any

import numpy
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LogisticRegression

from assaymark.bias.answers import TabularModel
from assaymark.bias.counterfactual import flips, why_not
from assaymark.bias.estimators import of_estimator, of_function
from assaymark.bias.individual_findings import flip_findings
from assaymark.reports.errors import InputError
from assaymark.reports.intervals import wilson
from assaymark.reports.model import Gate, Limit, Table, Verdict


def tilted(rows: pandas.DataFrame) -> Any:
    """Selects x ≥ 0.5, and of women only x ≥ 0.75: 0.5 ≤ x < 0.75 turns on the sex alone."""
    return rows["x"] >= rows["sex"].map({"f": 0.75, "m": 0.5, "x": 0.5})


TILTED = of_function(tilted, "tilted", True)
HUNDRED = pandas.DataFrame({"x": numpy.arange(100) / 100, "sex": ["f", "m"] * 50})


def test_a_known_share_flips() -> None:
    found = flips(TILTED, HUNDRED, "sex", positive=True)
    assert (found.total.n, found.total.value, found.total.hits) == (100, 0.25, 25)
    assert {name: one.hits for name, one in found.by_value.items()} == {"f": 13, "m": 12}
    up, down = found.pairs
    assert (up.old, up.new, up.changed.hits, up.gained, up.lost) == ("f", "m", 13, 13 / 50, 0)
    assert (down.old, down.new, down.changed.hits, down.gained, down.lost) == (
        "m",
        "f",
        12,
        0,
        0.24,
    )
    assert found.score_change is None
    assert [(one.row, one.old, one.new, one.gained) for one in found.examples[:1]] == [
        (51, "m", "f", False)
    ]
    assert len(found.examples) == 5


def test_any_other_value_counts_once() -> None:
    rows = HUNDRED.assign(sex=["f", "m", "x", "x"] * 25)
    found = flips(TILTED, rows, "sex", positive=True)
    # a man or x flips to f only; a woman flips to both, and is one row
    inside = rows[(rows["x"] >= 0.5) & (rows["x"] < 0.75)]
    assert found.total.hits == len(inside) == 25
    by_pair = {(pair.old, pair.new): pair.changed.value for pair in found.pairs}
    assert by_pair[("m", "x")] == by_pair[("x", "m")] == 0
    assert by_pair[("f", "m")] == by_pair[("f", "x")] == found.by_value["f"].value


def test_weights_count() -> None:
    weight = numpy.where(HUNDRED["sex"] == "f", 3.0, 1.0)
    found = flips(TILTED, HUNDRED, "sex", positive=True, weight=weight)
    assert found.total.value == pytest.approx((13 * 3 + 12) / 200)
    assert found.total.cases == pytest.approx(200**2 / (50 * 9 + 50))
    assert found.by_value["f"].value == pytest.approx(13 / 50)
    nobody = flips(TILTED, HUNDRED, "sex", positive=True, weight=numpy.zeros(100))
    assert nobody.total.value is None


def test_rows_without_a_value_are_left_out_and_counted() -> None:
    rows = HUNDRED.assign(sex=pandas.Series(["f", "m", None, "m"] * 25))
    found = flips(TILTED, rows, "sex", positive=True, weight=numpy.ones(100))
    assert (found.total.n, found.missing) == (75, 25)
    known = rows[rows["sex"].notna()].reset_index(drop=True)
    again = flips(TILTED, known, "sex", positive=True)
    assert found.total == again.total
    (finding,) = flip_findings("c", TILTED, rows, ["sex"], True)
    assert "25 rows without a value were left out" in finding.summary


@pytest.mark.parametrize("kind", ["object", "category", "string"])
def test_the_column_keeps_its_type(kind: str) -> None:
    seen = []

    def predict(rows: pandas.DataFrame) -> Any:
        seen.append(rows["sex"].dtype)
        return tilted(rows.astype({"sex": "object"}))

    rows = HUNDRED.astype({"sex": kind})
    found = flips(of_function(predict, "m", True), rows, "sex", positive=True)
    assert found.total.hits == 25
    assert set(seen) == {rows["sex"].dtype}


def test_a_linear_model_flips_where_its_margin_is_less_than_the_coefficient() -> None:
    """Closed form: changing a binary column moves the log-odds by its coefficient."""
    bunch = load_diabetes(scaled=False, as_frame=True)
    features = bunch.data[["sex", "bmi", "bp", "s5"]]
    fitted = LogisticRegression(max_iter=2000).fit(features, (bunch.target > 140).astype(int))
    before = fitted.decision_function(features)
    change = numpy.where(features["sex"] == 1, 1, -1) * fitted.coef_[0, 0]
    found = flips(of_estimator(fitted, "m", 1), features, "sex", positive=1)
    assert found.total.hits == ((before > 0) != (before + change > 0)).sum() > 0
    moved = 1 / (1 + numpy.exp(-before - change)) - 1 / (1 + numpy.exp(-before))
    assert found.score_change == pytest.approx(numpy.abs(moved).mean())
    one, two = found.pairs
    assert one.score == pytest.approx(moved[features["sex"] == 1].mean())
    assert (one.old, one.new) == ("1", "2")
    # at another threshold it is the score that decides
    strict = flips(of_estimator(fitted, "m", 1), features, "sex", positive=1, threshold=0.8)
    assert strict.total.hits == ((before > numpy.log(4)) != (before + change > numpy.log(4))).sum()
    assert two.changed.n + one.changed.n == 442


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from("abc")), min_size=2, max_size=30))
def test_a_model_blind_to_the_column_never_flips_and_one_of_it_alone_always_does(
    rows: list[tuple[int, str]],
) -> None:
    table = pandas.DataFrame(rows, columns=["x", "group"])
    if table["group"].nunique() < 2:
        return
    blind = of_function(lambda rows: rows["x"] > 4, "blind", True)
    assert flips(blind, table, "group", positive=True).total.value == 0
    alone = of_function(lambda rows: rows["group"] == "a", "alone", True)
    expected = {"a"} < set(table["group"])
    assert flips(alone, table, "group", positive=True).total.value == (1.0 if expected else 0.0)


def test_changed_rows_of_whom_none_is_positive() -> None:
    model = of_function(
        lambda rows: rows["group"].map({"a": "yes", "b": "no"}).tolist(), "m", "yes"
    )
    table = pandas.DataFrame({"group": list("aaabb")})
    assert flips(model, table, "group", positive="yes").total.value == 1
    with pytest.raises(InputError, match="answers 'no', 'yes', never the positive value 'Yes'"):
        flips(model, table, "group", positive="Yes")


@pytest.mark.parametrize("positive", [1, "yes", 0])
def test_probabilities_that_are_all_certain_stay_probabilities(positive: Any) -> None:
    """The positive class is certain for x = 1; of a the rest is open."""
    model = of_function(
        lambda rows: rows["x"].where(rows["group"] == "b", 0.7).astype(float), "m", positive
    )
    table = pandas.DataFrame({"x": [0, 1, 0, 1], "group": list("abab")})
    table.loc[4] = (1, "a")
    found = flips(model, table, "group", positive=positive)
    # 0.7 becomes 0, 0 and 1; 1 becomes 0.7 twice
    assert found.total.hits == 2
    assert found.score_change == pytest.approx((0.7 * 2 + 0.3 * 3) / 5)


def test_decisions_that_turn_into_probabilities_are_refused() -> None:
    model = of_function(
        lambda rows: (rows["x"] >= 0.5) * (0.9 if (rows["sex"] == "m").all() else 1.0), "m", 1
    )
    with pytest.raises(InputError, match="m answers with decisions of some rows"):
        flips(model, HUNDRED, "sex", positive=1)


def test_the_order_of_rows_changes_nothing() -> None:
    mixed = HUNDRED.sample(frac=1, random_state=0)
    first, second = (
        flips(TILTED, table, "sex", positive=True, examples=0) for table in (HUNDRED, mixed)
    )
    assert first == second


def test_a_model_that_draws_lots_is_refused() -> None:
    rng = numpy.random.default_rng(0)
    model = of_function(lambda rows: rng.random(len(rows)) > 0.5, "lottery", True)
    with pytest.raises(InputError, match=r"lottery decided \d+ of 100 rows differently"):
        flips(model, HUNDRED, "sex", positive=True)


WHY: dict[str, tuple[pandas.DataFrame, str, str]] = {
    "not a feature": (HUNDRED[["x"]], "sex", "does not read the column sex, so .* says nothing"),
    "one value": (HUNDRED.assign(sex="f"), "sex", "sex has 1 different values"),
    "only missing": (HUNDRED.assign(sex=None), "sex", "sex has 0 different values"),
    "too many": (HUNDRED, "x", "x has 100 different values and is flipped between at most 50"),
}


@pytest.mark.parametrize(("rows", "column", "said"), WHY.values(), ids=WHY)
def test_what_cannot_be_flipped_is_not_measured(
    rows: pandas.DataFrame, column: str, said: str
) -> None:
    gate = Gate(metric="counterfactual_flip_rate", limit=Limit(maximum=0.5))
    (finding,) = flip_findings("c", TILTED, rows, [column], True, gates=[gate])
    assert finding.value is None
    assert finding.verdict is Verdict.NOT_MEASURED
    assert finding.blocks
    with pytest.raises(InputError, match=said):
        flips(TILTED, rows, column, positive=True)


def test_a_column_that_the_model_leaves_out_is_not_measured() -> None:
    model = TabularModel(name="m", predict=TILTED.predict, features=("x",))
    assert "does not read" in (why_not(model, HUNDRED, "sex") or "")


def test_findings_hold_the_interval_against_the_gate() -> None:
    limit = Limit(maximum=0.3, on="upper")
    gates = [
        Gate(metric="counterfactual_flip_rate", limit=limit, severity="critical", confidence=0.9),
        Gate(metric="counterfactual_flip_rate", limit=limit, attribute="ward"),
        Gate(metric="accuracy", limit=limit),
    ]
    (finding,) = flip_findings("c", TILTED, HUNDRED, ["sex"], True, gates=gates, tags=("t",))
    assert (finding.target, finding.value, finding.n) == ("sex", 0.25, 100)
    assert finding.interval == wilson(25, 100, 0.9)
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert (finding.severity, finding.references) == ("critical", ("t",))
    assert finding.summary == "Changing nothing but sex changes the decision on 25.0 % of 100 rows."
    pairs, _, examples = finding.evidence
    assert isinstance(pairs, Table)
    assert isinstance(examples, Table)
    assert {row[:4] for row in pairs.rows} == {("f", "m", 50, 0.26), ("m", "f", 50, 0.24)}
    assert examples.columns == ("data row", "sex", "asked as", "the decision", "x")
    assert examples.rows[0] == (52, "m", "f", "is positive no more", 0.51)
    assert len(examples.rows) == 5


def test_a_steady_score_says_that_proxies_are_another_matter() -> None:
    blind = of_function(lambda rows: rows["x"] / 2, "blind", 1)
    (finding,) = flip_findings("c", blind, HUNDRED, ["sex"], 1, threshold=0.3)
    assert finding.value == 0
    assert "says nothing about other columns" in finding.summary
    assert finding.interval is not None
    assert finding.interval.high > 0.03


def test_an_error_of_the_model_is_no_finding() -> None:
    def predict(rows: pandas.DataFrame) -> Any:
        answers = (rows["x"] >= 0.5).astype(float)
        answers[rows["sex"] == "m"] = numpy.nan
        return answers

    with pytest.raises(InputError, match="mine leaves 50 of 100 answers out"):
        flip_findings("c", of_function(predict, "mine", 1), HUNDRED, ["sex"], 1)
