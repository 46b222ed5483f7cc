"""Rates of several classes by group, against hand-computed numbers, fairlearn, and known truths."""

from collections.abc import Sequence
from dataclasses import replace

import fairlearn.metrics
import numpy
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from assaymark.bias.codes import Column, column_of
from assaymark.bias.counts import RATES
from assaymark.bias.groups import by_group
from assaymark.bias.multiclass import GAPS, confusion, rates_by_class
from assaymark.bias.multiclass_check import check_multiclass
from assaymark.bias.rows import Classes, Predictions
from assaymark.reports.model import Estimates, Gate, HeatMap, Limit, Table, Verdict


def classes(
    label: Sequence[int],
    prediction: Sequence[int],
    group: Sequence[str],
    names: Sequence[str] = ("x", "y", "z"),
    weight: Sequence[float] | None = None,
) -> Classes:
    return Classes(
        name="rows",
        note="predictions of a model",
        groups={"group": column_of("group", pyarrow.array(group), most=50)},
        weight=None if weight is None else numpy.array(weight, dtype=float),
        classes=tuple(names),
        label=numpy.array(label, dtype=numpy.int32),
        prediction=numpy.array(prediction, dtype=numpy.int32),
    )


# group a: labels x x y z, all right but one x said to be y; group b: labels x y z z, z z said to be y x
BY_HAND = classes([0, 0, 1, 2, 0, 1, 2, 2], [0, 1, 1, 2, 0, 1, 1, 0], list("aaaabbbb"))


@pytest.fixture(scope="module")
def patients() -> Classes:
    """The diabetes study in three classes of progression, predicted for patients never seen, by sex."""
    measured, progression = load_diabetes(return_X_y=True)
    label = numpy.searchsorted([100.0, 180.0], progression)
    model = make_pipeline(StandardScaler(), LogisticRegression())
    said = cross_val_predict(model, measured, label, cv=5)
    sex = numpy.where(measured[:, 1] > 0, "2", "1")
    return classes(label, said, sex.tolist(), ("slow", "middle", "fast"))


def one_class(data: Classes, place: int) -> Predictions:
    return Predictions(
        name=data.name,
        note=data.note,
        groups=data.groups,
        weight=data.weight,
        label=data.label == place,
        prediction=data.prediction == place,
        score=None,
    )


def test_rates_and_gaps_by_hand() -> None:
    found = rates_by_class(BY_HAND, "group")
    recall = found.rates["true_positive_rate"]
    assert [[recall.value(one, group) for group in range(2)] for one in range(3)] == [
        [0.5, 1.0],
        [1.0, 1.0],
        [1.0, 0.0],
    ]
    assert [found.overall.value(0, group) for group in range(2)] == [0.75, 0.5]
    # z is predicted once in a and never in b, so b has no precision for it
    assert found.gaps == {
        "accuracy_difference": 0.25,
        "demographic_parity_difference": 0.25,
        "equalized_odds_difference": 1.0,
        "equal_opportunity_difference": 1.0,
        "predictive_parity_difference": None,
    }
    assert found.classes[found.worst["equal_opportunity_difference"]] == "z"
    assert found.why == {
        "predictive_parity_difference": "group 'b' has no rows that were predicted to be \"z\", so its "
        "positive predictive value is not defined"
    }


def test_a_gap_is_that_of_the_worst_class_against_all_others(patients: Classes) -> None:
    found = rates_by_class(patients, "group")
    sex = [patients.groups["group"].names[code] for code in patients.groups["group"].codes]
    for gap, expected in (
        ("demographic_parity_difference", fairlearn.metrics.demographic_parity_difference),
        ("equalized_odds_difference", fairlearn.metrics.equalized_odds_difference),
        ("equal_opportunity_difference", fairlearn.metrics.equal_opportunity_difference),
    ):
        each = [
            expected(patients.label == one, patients.prediction == one, sensitive_features=sex)
            for one in range(3)
        ]
        assert found.gaps[gap] == pytest.approx(max(each), abs=1e-12)
        assert found.worst[gap] == int(numpy.argmax(each))


def test_confusion_is_that_of_scikit_learn(patients: Classes) -> None:
    found = confusion(patients, "group")
    for place in range(2):
        rows = patients.groups["group"].codes == place
        expected = confusion_matrix(patients.label[rows], patients.prediction[rows])
        assert (found[place] == expected).all()


ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from("abc"), st.integers(0, 3)),
    min_size=1,
    max_size=40,
)


@settings(max_examples=40)
@given(ROWS)
def test_every_rate_is_that_of_the_class_as_a_classifier_with_two(
    rows: list[tuple[int, int, str, int]],
) -> None:
    label, said, group, weight = zip(*rows, strict=True)
    for data in (
        classes(label, said, group, "wxyz"),
        classes(label, said, group, "wxyz", [one + 0.1 for one in weight]),
    ):
        found = rates_by_class(data, "group")
        for one, name in enumerate(found.classes):
            grouped = by_group(one_class(data, "wxyz".index(name)), "group")
            for place, expected in enumerate(grouped.groups):
                for rate in RATES:
                    tallied = found.rates[rate]
                    assert tallied.hits[one, place] == pytest.approx(expected.rates[rate].hits)
                    assert tallied.cases[one, place] == pytest.approx(expected.rates[rate].cases)


@given(ROWS)
def test_a_whole_weight_is_so_many_rows(rows: list[tuple[int, int, str, int]]) -> None:
    repeated = [row for row in rows for _ in range(row[3])]
    if {row[2] for row in rows} != {row[2] for row in repeated}:
        return
    label, said, group, weight = zip(*rows, strict=True)
    weighted = rates_by_class(classes(label, said, group, "wxyz", weight), "group")
    label, said, group, _ = zip(*repeated, strict=True)
    plain = rates_by_class(classes(label, said, group, "wxyz"), "group")
    assert weighted.gaps["accuracy_difference"] == pytest.approx(plain.gaps["accuracy_difference"])
    assert weighted.gaps["demographic_parity_difference"] == pytest.approx(
        plain.gaps["demographic_parity_difference"]
    )


def test_a_gate_on_what_a_class_lacks_is_not_measured() -> None:
    gate = Gate(metric="predictive_parity_difference", limit=Limit(maximum=0.9))
    result = check_multiclass("c", BY_HAND, gates=(gate,))
    finding = next(one for one in result.findings if one.limit is not None)
    assert finding.judged is Verdict.NOT_MEASURED
    assert finding.blocks
    assert "group 'b' has no rows that were predicted to be \"z\"" in finding.summary
    assert finding.evidence  # beside the finding that the reader looks at first


def test_one_group_compares_with_nothing_and_small_groups_are_not_compared() -> None:
    found = rates_by_class(classes([0, 1], [0, 1], ["a", "a"]), "group")
    assert set(found.gaps.values()) == {None}
    result = check_multiclass("c", BY_HAND, min_group_size=5)
    assert all(one.value is None for one in result.findings)
    assert any("fewer than 5 rows" in line for line in result.method.not_tested)
    gate = Gate(metric="accuracy", limit=Limit(minimum=0.1))
    found_ = check_multiclass("c", BY_HAND, gates=(gate,), min_group_size=5).findings
    assert [one.judged for one in found_ if one.limit] == [Verdict.NOT_MEASURED]


def test_classes_that_nobody_has_are_named_and_not_compared(patients: Classes) -> None:
    more = replace(patients, classes=(*patients.classes, "never"))
    assert rates_by_class(more, "group").gaps == rates_by_class(patients, "group").gaps
    method = check_multiclass("c", more).method
    assert any("never" in line for line in method.not_tested)


def test_a_gate_on_accuracy_has_a_finding_for_every_group(patients: Classes) -> None:
    gates = (
        Gate(metric="accuracy", limit=Limit(minimum=0.4, on="lower")),
        Gate(metric="accuracy", limit=Limit(minimum=0.9), attribute="other"),
    )
    result = check_multiclass("c", patients, gates=gates)
    *found, other = [one for one in result.findings if one.measure == "accuracy"]
    assert (other.target, other.judged) == ("other", Verdict.NOT_MEASURED)
    assert [one.target for one in found] == ["group = 1", "group = 2"]
    assert {one.judged for one in found} == {Verdict.PASS}
    right = patients.label == patients.prediction
    first = patients.groups["group"].codes == 0
    assert found[0].value == pytest.approx(numpy.mean(right[first]))
    assert found[0].n == first.sum()


def test_evidence_shows_rates_accuracies_and_who_is_taken_for_what(patients: Classes) -> None:
    evidence = [
        one for finding in check_multiclass("c", patients).findings for one in finding.evidence
    ]
    table, chart, *maps = evidence
    assert isinstance(table, Table)
    assert [row[:2] for row in table.rows[:2]] == [("slow", "1"), ("slow", "2")]
    assert len(table.rows) == 6
    assert isinstance(chart, Estimates)
    assert all(one.low is not None and one.value is not None for one in chart.estimates)
    assert len(maps) == 2
    assert isinstance(maps[0], HeatMap)
    expected = confusion(patients, "group")[0]
    cells = [[cell.value for cell in row.cells] for row in maps[0].rows]
    assert cells == (expected / expected.sum(axis=1, keepdims=True)).tolist()


def test_of_many_classes_the_table_shows_those_that_lie_furthest_apart() -> None:
    """Of 300 classes, 6 in each group; class 250 is never recognized in group b."""
    label = numpy.tile(numpy.repeat(numpy.arange(300), 6), 2)
    group = numpy.repeat(["a", "b"], 1800)
    said = numpy.where((label == 250) & (group == "b"), 0, label)
    names = [f"c{one}" for one in range(300)]
    data = classes(label.tolist(), said.tolist(), group.tolist(), names)
    found = next(one for one in check_multiclass("c", data).findings if one.evidence)
    table = found.evidence[0]
    assert isinstance(table, Table)
    assert len(table.rows) == 200
    assert {"c250", "c0"} <= {row[0] for row in table.rows}
    assert "Of 300 classes" in table.note
    assert not any(isinstance(one, HeatMap) for one in found.evidence)


def drawn(
    sizes: Sequence[int],
    priors: Sequence[float],
    accuracy: Sequence[float],
    draw: numpy.random.Generator,
) -> Classes:
    """Each group has the same priors; a wrong prediction is any other class, all as likely."""
    codes = numpy.repeat(numpy.arange(len(sizes), dtype=numpy.int32), sizes)
    many = len(priors)
    label = draw.choice(many, size=len(codes), p=priors)
    right = draw.random(len(codes)) < numpy.array(accuracy)[codes]
    said = numpy.where(right, label, (label + draw.integers(1, many, size=len(codes))) % many)
    return Classes(
        name="drawn",
        note="",
        groups={"g": Column(name="g", names=tuple(map(str, range(len(sizes)))), codes=codes)},
        classes=tuple(map(str, range(many))),
        label=label.astype(numpy.int32),
        prediction=said.astype(numpy.int32),
    )


AT_MOST = 0.077
"""Of 400 samples: 5 % and 2.5 standard errors."""


@pytest.mark.parametrize(
    ("sizes", "priors", "accuracy"),
    [
        ([150, 150], [0.2] * 5, 0.6),
        ([400, 80, 80], [0.4, 0.3, 0.3], 0.8),
    ],
)
def test_a_fair_model_is_seldom_accused_however_many_classes(
    sizes: list[int], priors: list[float], accuracy: float
) -> None:
    draw, runs = numpy.random.default_rng(0), 400
    accused = dict.fromkeys(GAPS, 0)
    for _ in range(runs):
        found = rates_by_class(drawn(sizes, priors, [accuracy] * len(sizes), draw), "g")
        for gap in GAPS:
            interval = found.interval(gap, 0.95)
            assert interval is not None
            assert interval.confidence == 0.95
            accused[gap] += interval.low > 0
    assert max(accused.values()) <= AT_MOST * runs


def test_the_true_gap_of_the_worst_class_is_covered() -> None:
    """Recall is 0.8 and 0.6, the false positive rate of each of four classes 0.2 / 3 and 0.4 / 3."""
    draw, runs = numpy.random.default_rng(1), 400
    truth = {
        "accuracy_difference": 0.2,
        "equal_opportunity_difference": 0.2,
        "equalized_odds_difference": 0.2,
        "demographic_parity_difference": 0.0,
    }
    covered = dict.fromkeys(truth, 0)
    for _ in range(runs):
        found = rates_by_class(drawn([400, 400], [0.25] * 4, [0.8, 0.6], draw), "g")
        for gap, expected in truth.items():
            interval = found.interval(gap, 0.95)
            assert interval is not None
            covered[gap] += interval.low <= expected <= interval.high
    assert min(covered.values()) >= 0.935 * runs
