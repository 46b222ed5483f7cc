"""Errors of a regression by group, against hand-computed numbers, scikit-learn, and known truths."""

from collections.abc import Sequence
from dataclasses import replace

import numpy
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_absolute_error, root_mean_squared_error
from sklearn.model_selection import cross_val_predict

from assaymark.bias.codes import column_of
from assaymark.bias.means import group_means
from assaymark.bias.regression import GAPS, METRICS, errors_by_group
from assaymark.bias.regression_check import check_regression
from assaymark.bias.rows import Outcomes
from assaymark.reports.model import Gate, Limit, Table, Verdict


def outcomes(
    label: Sequence[float],
    prediction: Sequence[float],
    group: Sequence[str],
    weight: Sequence[float] | None = None,
) -> Outcomes:
    return Outcomes(
        name="rows",
        note="predictions of a model",
        groups={"group": column_of("group", pyarrow.array(group), most=50)},
        weight=None if weight is None else numpy.array(weight, dtype=float),
        label=numpy.array(label, dtype=float),
        prediction=numpy.array(prediction, dtype=float),
    )


# residuals of a: 1, -2, 1; of b: 4, 2
BY_HAND = outcomes([1, 2, 3, 4, 5], [2, 0, 4, 8, 7], list("aaabb"))


@pytest.fixture(scope="module")
def patients() -> Outcomes:
    """The diabetes study, predicted by a linear model that never saw the patient, by sex."""
    measured, progression = load_diabetes(return_X_y=True)
    said = cross_val_predict(LinearRegression(), measured, progression, cv=5)
    sex = numpy.where(measured[:, 1] > 0, "2", "1")
    return outcomes(progression, said, sex.tolist())


def test_metrics_and_gaps_by_hand() -> None:
    found = errors_by_group(BY_HAND, "group")
    values = {metric: [found.value(metric, place) for place in range(2)] for metric in METRICS}
    assert values == {
        "mean_residual": [0.0, 3.0],
        "mean_absolute_error": [pytest.approx(4 / 3), 3.0],
        "root_mean_squared_error": [pytest.approx(2**0.5), pytest.approx(10**0.5)],
        "mean_prediction": [2.0, 7.5],
    }
    assert found.gaps == {
        "mean_residual_difference": 3.0,
        "mean_absolute_error_difference": pytest.approx(5 / 3),
        "mean_absolute_error_ratio": pytest.approx(4 / 9),
        "mean_prediction_difference": 5.5,
    }
    assert found.n == (3, 2)


def test_a_model_that_says_too_much_has_a_residual_above_zero() -> None:
    data = outcomes([10, 10, 10, 10], [12, 14, 9, 7], list("hhll"))
    found = errors_by_group(data, "group")
    assert [found.value("mean_residual", place) for place in range(2)] == [3.0, -2.0]


def test_every_metric_of_real_patients_is_that_of_scikit_learn(patients: Outcomes) -> None:
    found = errors_by_group(patients, "group")
    for place in range(2):
        rows = patients.groups["group"].codes == place
        label, said = patients.label[rows], patients.prediction[rows]
        expected = {
            "mean_residual": numpy.mean(said - label),
            "mean_absolute_error": mean_absolute_error(label, said),
            "root_mean_squared_error": root_mean_squared_error(label, said),
            "mean_prediction": numpy.mean(said),
        }
        assert {metric: found.value(metric, place) for metric in METRICS} == pytest.approx(expected)
    # Student's interval, which the correction for skewness moves by little here
    residual = (patients.prediction - patients.label)[patients.groups["group"].codes == 0]
    student = ttest_1samp(residual, 0).confidence_interval(0.95)
    interval = found.interval("mean_residual", 0, 0.95)
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx((student.low, student.high), abs=0.5)


@given(
    st.lists(
        st.tuples(
            st.integers(-9, 9), st.integers(-9, 9), st.sampled_from("abc"), st.integers(0, 3)
        ),
        min_size=2,
        max_size=30,
    )
)
def test_a_whole_weight_is_so_many_rows(rows: list[tuple[int, int, str, int]]) -> None:
    label, said, group, times = zip(*rows, strict=True)
    weighted = errors_by_group(outcomes(label, said, group, times), "group")
    repeated = [row for row in rows for _ in range(row[3])]
    if not repeated:
        assert set(weighted.gaps.values()) == {None}
        return
    label, said, group, _ = zip(*repeated, strict=True)
    plain = errors_by_group(outcomes(label, said, group), "group")
    for place, name in enumerate(weighted.names):
        for metric in METRICS:
            value = weighted.value(metric, place)
            if name in plain.names:
                assert value == pytest.approx(plain.value(metric, plain.names.index(name)))
            else:
                assert value is None


def test_equal_weights_change_nothing_and_unequal_ones_widen(patients: Outcomes) -> None:
    """Weights of 1 and 9 in turn: the effective size is 0.61 of the rows (Kish)."""
    plain = errors_by_group(patients, "group")
    twice = errors_by_group(replace(patients, weight=numpy.full(patients.n, 2.0)), "group")
    uneven = errors_by_group(
        replace(patients, weight=numpy.where(numpy.arange(patients.n) % 2, 9.0, 1.0)), "group"
    )
    for metric in METRICS:
        one, other, third = (each.interval(metric, 0, 0.95) for each in (plain, twice, uneven))
        assert one is not None
        assert other is not None
        assert third is not None
        assert (one.low, one.high) == pytest.approx((other.low, other.high))
        wider = (third.high - third.low) / (one.high - one.low)
        assert wider == pytest.approx(0.61**-0.5, rel=0.15)
    assert all(plain.gap_interval(gap, 0.95) == twice.gap_interval(gap, 0.95) for gap in GAPS)


@pytest.mark.parametrize(
    ("data", "gap", "reason"),
    [
        (outcomes([1, 2], [1, 2], ["a", "a"]), "mean_residual_difference", "two are needed"),
        (outcomes([1, 2], [1, 2], ["a", "b"]), "mean_absolute_error_ratio", "no prediction of any"),
        (
            outcomes([1, 2], [1, 2], ["a", "b"], [1, 0]),
            "mean_absolute_error_difference",
            "no row of group 'b' has a weight",
        ),
    ],
)
def test_what_is_undefined_says_why(data: Outcomes, gap: str, reason: str) -> None:
    found = errors_by_group(data, "group")
    assert found.gaps[gap] is None
    assert reason in found.why[gap]
    assert found.gap_interval(gap, 0.95) is None


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(([0.0] * 5, [0.1] * 5, list("aaabb")), id="alike but for rounding"),
        pytest.param(([1, 2, 3], [2, 2, 4], list("aab")), id="one row"),
    ],
)
def test_rows_that_say_nothing_of_their_spread_never_keep_a_bound(
    rows: tuple[list[float], list[float], list[str]],
) -> None:
    gate = Gate(
        metric="mean_absolute_error_difference",
        limit=Limit(maximum=9, on="upper"),
        attribute="group",
    )
    found = check_regression("c", outcomes(*rows), gates=(gate,)).findings
    gap = next(one for one in found if one.limit is not None)
    assert gap.value is not None
    assert gap.interval is None
    assert gap.judged is Verdict.NOT_MEASURED
    assert gap.blocks
    assert "No interval" in gap.summary


def test_a_gate_on_a_group_metric_has_a_finding_for_every_group(patients: Outcomes) -> None:
    gates = (
        Gate(metric="mean_absolute_error", limit=Limit(maximum=60, on="upper")),
        Gate(metric="mean_residual_difference", limit=Limit(maximum=1), attribute="other"),
    )
    result = check_regression("c", patients, gates=gates, tags=("T",))
    by_group = [one for one in result.findings if one.measure == "mean_absolute_error"]
    assert [one.target for one in by_group] == ["group = 1", "group = 2"]
    assert {one.judged for one in by_group} == {Verdict.PASS}
    assert all(one.references == ("T",) for one in by_group)
    *gaps, other = [one for one in result.findings if one.measure in GAPS]
    assert (other.target, other.judged) == ("other", Verdict.NOT_MEASURED)
    assert [one.measure for one in gaps] == list(GAPS)
    assert all(one.limit is None and one.interval is not None for one in gaps)
    tables = [one for finding in result.findings for one in finding.evidence]
    assert len(tables) == 1
    assert isinstance(tables[0], Table)
    assert [row[0] for row in tables[0].rows] == ["1", "2"]


def test_small_groups_are_shown_but_not_compared() -> None:
    data = outcomes(range(9), [1, 3, 2, 5, 4, 9, 6, 8, 0], list("aaaabbbbc"))
    result = check_regression("c", data, min_group_size=2)
    gap = result.findings[0]
    assert gap.n == 8
    assert isinstance(gap.evidence[0], Table)
    assert len(gap.evidence[0].rows) == 3
    assert any("fewer than 2 rows" in line and "c" in line for line in result.method.not_tested)
    gate = Gate(metric="mean_residual", limit=Limit(maximum=1))
    found = check_regression("c", data, gates=(gate,), min_group_size=50).findings
    assert [one.judged for one in found if one.limit] == [Verdict.NOT_MEASURED]


SIZES = {"5 of 30": [30] * 5, "2 of 30": [30, 30], "uneven": [300, 40, 20, 100]}


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_equal_errors_are_seldom_called_different_and_the_truth_is_covered(
    sizes: list[int], scale: float
) -> None:
    """Absolute errors of a normal model; the last group's are so many times as large."""
    draw = numpy.random.default_rng(0)
    codes = numpy.repeat(numpy.arange(len(sizes), dtype=numpy.int32), sizes)
    factor = numpy.where(codes == len(sizes) - 1, scale, 1.0)
    gap, runs = (scale - 1) * (2 / numpy.pi) ** 0.5, 800
    covered = ratios = 0
    for _ in range(runs):
        found = group_means(codes, len(sizes), numpy.abs(draw.normal(size=len(codes))) * factor)
        difference, ratio = (
            measure(range(len(sizes)), 0.95) for measure in (found.difference, found.ratio)
        )
        assert difference is not None
        assert ratio is not None
        covered += difference.low <= gap <= difference.high
        ratios += ratio.low <= 1 / scale <= ratio.high
    assert covered >= 0.94 * runs
    assert ratios >= 0.94 * runs
