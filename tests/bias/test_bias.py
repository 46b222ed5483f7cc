"""Group metrics against hand-computed numbers and fairlearn, and every way a table can be wrong."""

from pathlib import Path
from typing import Any

import fairlearn.metrics
import numpy
import pandas
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_score

from assaymark.bias import check, groups, predictions
from assaymark.bias.codes import MISSING, column_of, crossed
from assaymark.bias.rows import Predictions
from assaymark.reports.errors import InputError
from assaymark.reports.model import Gate, Limit, Table

# group a: 3 of 4 selected, TPR 2/2, FPR 1/2; group b: 1 of 4 selected, TPR 1/2, FPR 0/2
BY_HAND = pandas.DataFrame(
    {
        "y": [1, 1, 0, 0, 1, 1, 0, 0],
        "yhat": [1, 1, 1, 0, 1, 0, 0, 0],
        "p": [0.9, 0.8, 0.6, 0.1, 0.7, 0.4, 0.3, 0.2],
        "group": list("aaaabbbb"),
    }
)


def load(table: pandas.DataFrame, folder: Path, **options: Any) -> Predictions:
    table.to_csv(folder / "t.csv", index=False)
    chosen = {"label": "y", "prediction": "yhat", "score": None, "sensitive": ("group",)} | options
    return predictions.load("t.csv", folder=folder, **chosen)


def test_rates_and_gaps_by_hand(tmp_path: Path) -> None:
    found = groups.by_group(load(BY_HAND, tmp_path), "group")
    a, b = found.groups
    assert {metric: rate.value for metric, rate in a.rates.items()} == {
        "selection_rate": 0.75,
        "base_rate": 0.5,
        "accuracy": 0.75,
        "true_positive_rate": 1.0,
        "false_positive_rate": 0.5,
        "true_negative_rate": 0.5,
        "false_negative_rate": 0.0,
        "positive_predictive_value": pytest.approx(2 / 3),
        "negative_predictive_value": 1.0,
        "false_discovery_rate": pytest.approx(1 / 3),
        "false_omission_rate": 0.0,
    }
    assert {metric: rate.value for metric, rate in b.rates.items()} == {
        "selection_rate": 0.25,
        "base_rate": 0.5,
        "accuracy": 0.75,
        "true_positive_rate": 0.5,
        "false_positive_rate": 0.0,
        "true_negative_rate": 1.0,
        "false_negative_rate": 0.5,
        "positive_predictive_value": 1.0,
        "negative_predictive_value": pytest.approx(2 / 3),
        "false_discovery_rate": 0.0,
        "false_omission_rate": pytest.approx(1 / 3),
    }
    assert (a.n, a.positives) == (4, 2)
    assert found.gaps == {
        "demographic_parity_difference": 0.5,
        "demographic_parity_ratio": pytest.approx(1 / 3),
        "equalized_odds_difference": 0.5,
        "equalized_odds_ratio": 0.0,
        "equal_opportunity_difference": 0.5,
        "equal_opportunity_ratio": 0.5,
        "predictive_parity_difference": pytest.approx(1 / 3),
        "predictive_parity_ratio": pytest.approx(2 / 3),
    }


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
def test_every_table_format(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t.{suffix}"
    if suffix == "parquet":
        BY_HAND.to_parquet(path)
    else:
        BY_HAND.to_csv(path, index=False, sep="\t" if suffix == "tsv" else ",")
    data = predictions.load(
        path.name, label="y", prediction=None, score="p", sensitive=("group",), folder=tmp_path
    )
    assert data.n == 8
    assert data.prediction.tolist() == (BY_HAND["p"] >= 0.5).tolist()


@pytest.mark.parametrize(
    ("values", "positive"),
    [
        ((1, 0), 1),
        ((1.0, 0.0), "1"),
        (("yes", "no"), "yes"),
        ((True, False), 1),
        ((True, False), True),
        ((">50K", "<=50K"), ">50K"),
        ((2, 1), 2),
    ],
)
def test_positive_may_be_written_as_the_table_writes_it(
    tmp_path: Path, values: tuple[Any, Any], positive: Any
) -> None:
    table = BY_HAND.copy()
    for column in ("y", "yhat"):
        table[column] = [values[0] if value else values[1] for value in BY_HAND[column]]
    data = load(table, tmp_path, positive=positive)
    assert data.label.tolist() == BY_HAND["y"].astype(bool).tolist()
    assert data.prediction.tolist() == BY_HAND["yhat"].astype(bool).tolist()


def rows(label: list[int], prediction: list[int], group: list[str]) -> Predictions:
    return Predictions(
        name="rows",
        label=numpy.array(label, dtype=bool),
        prediction=numpy.array(prediction, dtype=bool),
        score=None,
        groups={"group": column_of("group", pyarrow.array(group), most=50)},
        note="",
    )


def test_a_group_without_positives_is_not_measured_although_fairlearn_says_zero() -> None:
    label, group = [1, 1, 0, 0, 0, 0], list("aaabbb")
    perfect = rows(label, label, group)
    assert fairlearn.metrics.equalized_odds_difference(label, label, sensitive_features=group) == 1
    found = groups.by_group(perfect, "group")
    assert found.groups[1].rates["true_positive_rate"].value is None
    assert found.gaps["equalized_odds_difference"] is None
    assert found.gaps["equalized_odds_ratio"] is None
    assert found.gaps["demographic_parity_difference"] == pytest.approx(2 / 3)
    gate = Gate(metric="equalized_odds_difference", limit=Limit(maximum=0.1))
    result = check.check_bias_table("c", perfect, gates=(gate,))
    finding = next(f for f in result.findings if f.measure == "equalized_odds_difference")
    assert finding.verdict == "not-measured"
    assert finding.blocks
    assert "group 'b' has no positives" in finding.summary
    table = finding.evidence[0]  # beside the finding that the reader looks at first
    assert isinstance(table, Table)
    assert table.rows[1][4] is None


def test_one_group_compares_with_nothing() -> None:
    found = groups.by_group(rows([1, 0], [1, 0], ["a", "a"]), "group")
    assert set(found.gaps.values()) == {None}
    assert "two are needed" in found.why["demographic_parity_ratio"]


def test_a_ratio_of_zeros_is_not_measured() -> None:
    found = groups.by_group(rows([1, 0, 1, 0], [0, 0, 0, 0], list("aabb")), "group")
    assert found.gaps["demographic_parity_ratio"] is None
    assert found.gaps["demographic_parity_difference"] == 0


def test_small_groups_are_shown_but_not_compared() -> None:
    label, group = [1, 0] * 10 + [1], ["a"] * 10 + ["b"] * 10 + ["tiny"]
    data = rows(label, label, group)
    found = groups.by_group(data, "group", 5)
    assert [group.compared for group in found.groups] == [True, True, False]
    assert found.gaps["equalized_odds_difference"] == 0
    result = check.check_bias_table("c", data, min_group_size=5)
    assert any("group = tiny" in item for item in result.method.not_tested)


def test_missing_sensitive_values_are_a_group_of_their_own(tmp_path: Path) -> None:
    table = BY_HAND.copy()
    table.loc[7, "group"] = None
    found = groups.by_group(load(table, tmp_path), "group")
    assert [group.name for group in found.groups] == [MISSING, "a", "b"]


def test_group_names_are_the_text_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        "\ufeffy,yhat,group\r\n1,1,01\r\n0,0,1\r\n1,1,NA\r\n0,1,None\r\n0,1,\r\n"
    )
    data = predictions.load(
        "t.csv", label="y", prediction="yhat", score=None, sensitive=("group",), folder=tmp_path
    )
    column = data.groups["group"]
    found = [column.names[code] for code in column.codes]
    assert found == ["01", "1", "NA", "None", MISSING]


def test_a_gate_on_groups_that_are_all_too_small_is_not_measured(tmp_path: Path) -> None:
    gate = Gate(metric="accuracy", limit=Limit(minimum=0.1))
    result = check.check_bias_table("c", load(BY_HAND, tmp_path), gates=(gate,), min_group_size=100)
    mine = [finding for finding in result.findings if finding.measure == "accuracy"]
    assert [(finding.target, finding.verdict) for finding in mine] == [("group", "not-measured")]


def test_gates_on_group_rates_make_a_finding_for_each_group(tmp_path: Path) -> None:
    gate = Gate(metric="accuracy", limit=Limit(minimum=0.9, on="lower"), severity="medium")
    result = check.check_bias_table("c", load(BY_HAND, tmp_path), gates=(gate,))
    mine = [finding for finding in result.findings if finding.measure == "accuracy"]
    assert [finding.target for finding in mine] == ["group = a", "group = b"]
    assert [finding.verdict for finding in mine] == ["inconclusive"] * 2
    assert all((finding.needs_n or 0) > 4 for finding in mine)


def of_fairlearn(gap: str, label: Any, prediction: Any, group: Any) -> float:
    """The gap as fairlearn computes it; predictive parity through its frame, as it has no name there."""
    if gap.startswith("predictive"):
        frame = fairlearn.metrics.MetricFrame(
            metrics=precision_score, y_true=label, y_pred=prediction, sensitive_features=group
        )
        return float(frame.difference() if gap.endswith("difference") else frame.ratio())
    return float(getattr(fairlearn.metrics, gap)(label, prediction, sensitive_features=group))


@pytest.mark.parametrize(
    ("times", "verdict"), [(1, "inconclusive"), (100, "pass")], ids=["few", "many"]
)
def test_a_gap_held_on_its_bound_needs_enough_people(times: int, verdict: str) -> None:
    """Selection rates 0.5 and 0.4, limit 0.2."""
    label = ([1] * 5 + [0] * 5) * 2 * times
    prediction = ([1, 0] * 5 + [1, 0, 0, 1, 0] * 2) * times
    group = (["a"] * 10 + ["b"] * 10) * times
    gate = Gate(
        metric="demographic_parity_difference",
        limit=Limit(maximum=0.2, on="upper"),
        severity="high",
    )
    result = check.check_bias_table("c", rows(label, prediction, group), gates=(gate,))
    (finding,) = [f for f in result.findings if f.limit is not None]
    assert finding.value == pytest.approx(0.1)
    assert finding.interval is not None
    assert finding.interval.low <= 0.1 <= finding.interval.high
    assert finding.verdict == verdict
    if verdict == "inconclusive":
        assert finding.needs_n is not None
        assert 200 < finding.needs_n < 2000


def test_a_dictionary_column_of_small_codes_may_have_gaps() -> None:
    names = [f"{place:03d}" for place in range(128)]
    indices = pyarrow.array([*range(128), None], pyarrow.int8())
    column = column_of("g", pyarrow.DictionaryArray.from_arrays(indices, names), most=200)
    assert [column.names[code] for code in column.codes] == [*names, MISSING]


@given(st.lists(st.tuples(*[st.sampled_from("abc")] * 3), min_size=1, max_size=40))
def test_intersections_are_those_with_rows(cells: Any) -> None:
    columns = [
        column_of(f"c{place}", pyarrow.array(values), most=50)
        for place, values in enumerate(zip(*cells, strict=True))
    ]
    both = crossed(columns, most=500)
    assert [both.names[code] for code in both.codes] == [" × ".join(cell) for cell in cells]
    assert set(both.names) == {" × ".join(cell) for cell in cells}


def test_many_columns_are_crossed_without_a_wrong_group() -> None:
    """50^8 combinations are more than 64 bits hold half of; 60 of them have rows."""
    names = [f"{place:02d}" for place in range(50)]
    values = [
        [names[(row * step) % 50] for row in range(60)] for step in (1, 3, 7, 9, 11, 13, 17, 19)
    ]
    columns = [
        column_of(f"c{place}", pyarrow.array(column), most=50)
        for place, column in enumerate(values)
    ]
    both = crossed(columns, most=500)
    expected = [" × ".join(row) for row in zip(*values, strict=True)]
    assert [both.names[code] for code in both.codes] == expected
    with pytest.raises(InputError, match="more than 20 intersections with rows"):
        crossed(columns, most=20)


def test_a_gate_may_name_the_intersections(tmp_path: Path) -> None:
    table = BY_HAND.assign(age=list("yyooyyoo"))
    data = load(table, tmp_path, sensitive=("group", "age"), intersections=True)
    assert data.groups["group × age"].names == ("a × o", "a × y", "b × o", "b × y")
    gate = Gate(metric="selection_rate", limit=Limit(minimum=0.1), attribute="intersections")
    result = check.check_bias_table("c", data, gates=(gate,))
    mine = {f.target: f.value for f in result.findings if f.measure == "selection_rate"}
    assert mine == {
        "group × age = a × o": 0.5,
        "group × age = a × y": 1.0,
        "group × age = b × o": 0.0,
        "group × age = b × y": 0.5,
    }
    assert not any("intersections" in item for item in result.method.not_tested)


counts = st.lists(
    st.tuples(st.booleans(), st.booleans(), st.sampled_from("abc")), min_size=6, max_size=60
)


@given(counts)
@settings(max_examples=20)
def test_gaps_are_those_of_fairlearn_wherever_they_are_defined(cells: Any) -> None:
    label, prediction, group = (list(column) for column in zip(*cells, strict=True))
    found = groups.by_group(rows(label, prediction, group), "group")
    for gap in groups.GAPS:
        value = found.gaps[gap]
        if value is not None:
            reference = of_fairlearn(gap, label, prediction, group)
            assert value == pytest.approx(reference, abs=1e-12)
            assert 0 <= value <= 1
        else:
            assert found.why[gap]


@settings(max_examples=40)
@given(counts, st.randoms())
def test_the_order_of_rows_changes_nothing(cells: Any, random: Any) -> None:
    first = groups.by_group(rows(*(list(c) for c in zip(*cells, strict=True))), "group")
    mixed = list(cells)
    random.shuffle(mixed)
    second = groups.by_group(rows(*(list(c) for c in zip(*mixed, strict=True))), "group")
    assert first == second


def edited(**columns: Any) -> pandas.DataFrame:
    return BY_HAND.assign(**columns)


WRONG: list[tuple[str, pandas.DataFrame, dict[str, Any], str]] = [
    ("no column", BY_HAND, {"label": "outcome"}, 't.csv has no column "outcome"'),
    ("spelling", BY_HAND, {"sensitive": ("groop",)}, 'did you mean "group"?'),
    ("no rows", BY_HAND[:0], {}, "t.csv has no rows"),
    ("missing label", edited(y=[1, None] * 4), {}, 'column "y" of t.csv has 4 missing values'),
    ("missing prediction", edited(yhat=[None, *[1] * 7]), {}, "the first in data row 1"),
    ("missing by sign", edited(y=["1", "-"] * 4), {}, "has 4 missing values"),
    ("missing by name", edited(yhat=["NA", *[1] * 7]), {}, "has 1 missing values"),
    ("other words", edited(yhat=["yes", "no"] * 4), {}, "has 'no', 'yes', column \"y\" has 0, 1"),
    (
        "probabilities",
        edited(yhat=[0.9, 0.1] * 4),
        {},
        "for probabilities name the column as score",
    ),
    ("same column", BY_HAND, {"prediction": "y"}, 'label and prediction are both "y"'),
    (
        "threshold",
        BY_HAND,
        {"score": "p", "prediction": None, "threshold": 5},
        'the threshold 5 does not divide column "p" of t.csv, which runs from 0.1 to 0.9',
    ),
    ("three labels", edited(y=[0, 1, 2, 0, 1, 2, 0, 1]), {}, "has 3 different labels"),
    ("positive", BY_HAND, {"positive": 7}, "no row of t.csv has the positive value 7"),
    ("positive text", BY_HAND, {"positive": "yes"}, "has the positive value 'yes'"),
    ("score text", BY_HAND, {"score": "group", "prediction": None}, "is not numbers"),
    ("score inf", edited(p=[numpy.inf] * 8), {"score": "p"}, "has infinite values"),
    (
        "ages",
        pandas.DataFrame({"y": [0, 1] * 60, "yhat": [0, 1] * 60, "group": range(120)}),
        {},
        "has 120 different values: expected at most 50 groups; add a column with bands",
    ),
]


@pytest.mark.parametrize(
    ("table", "options", "expected"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG]
)
def test_a_wrong_table_is_one_clear_sentence(
    tmp_path: Path, table: pandas.DataFrame, options: dict[str, Any], expected: str
) -> None:
    with pytest.raises(InputError) as caught:
        load(table, tmp_path, **options)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("t.csv", b"", "cannot read t.csv: Empty CSV"),
        ("t.csv", b'y,p,g\n1,1,a\n"",0,b\n', 'column "y" of t.csv has 1 missing values'),
        ("t.csv", b"y,p,g\n1,1,a,z\n", "cannot read t.csv: CSV parse error: Expected 3 columns"),
        ("t.csv", b"y,p,g,p\n1,1,a,0\n0,0,b,1\n", 't.csv has 2 different columns called "p"'),
        ("t.csv", b"\xff\xfe\x00bad", "cannot read t.csv"),
        ("t.parquet", b"PAR1 no", "cannot read t.parquet"),
        ("t.xlsx", b"", "t.xlsx is not a table that is read here"),
    ],
)
def test_an_unreadable_table(tmp_path: Path, name: str, content: bytes, expected: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=expected):
        predictions.load(
            name, label="y", prediction="p", score=None, sensitive=("g",), folder=tmp_path
        )


def test_compas_as_fairlearn_counts_it(shared: Path) -> None:
    """ProPublica's two-year recidivism; a decile score of 5 or more is "medium or high"."""
    folder = shared / "data" / "bias" / "compas"
    data = predictions.load(
        "compas-scores-two-years.csv",
        label="two_year_recid",
        prediction=None,
        score="decile_score",
        threshold=5,
        sensitive=("race", "sex"),
        folder=folder,
    )
    table = pandas.read_csv(folder / "compas-scores-two-years.csv")
    predicted = table["decile_score"] >= 5
    for attribute in ("race", "sex"):
        found = groups.by_group(data, attribute)
        for gap, value in found.gaps.items():
            reference = of_fairlearn(gap, table["two_year_recid"], predicted, table[attribute])
            assert value == pytest.approx(reference, abs=1e-12)
    # Larson et al. 2016: of those who did not reoffend, 44.9 % of Black and 23.5 % of white
    # defendants had been labelled higher risk
    race = {group.name: group for group in groups.by_group(data, "race").groups}
    rates = {name: race[name].rates["false_positive_rate"].value for name in race}
    assert rates["African-American"] == pytest.approx(0.4485, abs=5e-4)
    assert rates["Caucasian"] == pytest.approx(0.2345, abs=5e-4)


def test_the_demo_study_is_scikit_learns() -> None:
    data = predictions.load(
        "demo:diabetes",
        label="progressed",
        prediction="predicted",
        score="score",
        sensitive=("sex", "age_band"),
    )
    assert data.n == 442
    accuracy = (data.label == data.prediction).mean()
    assert 0.7 < accuracy < 0.8  # cross-validated: far from perfect
