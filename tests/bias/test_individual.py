"""Inequality indices and consistency against hand-computed numbers, AIF360's formulas, and simulation."""

import math

import numpy
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from assaymark.bias import consistency as neighbourhoods
from assaymark.bias import entropy
from assaymark.bias.codes import column_of
from assaymark.bias.consistency import consistency, points, sample
from assaymark.bias.entropy import Benefits, benefits, benefits_by_group, index, interval, parts
from assaymark.bias.entropy_findings import entropy_findings
from assaymark.bias.individual_findings import consistency_findings
from assaymark.bias.rows import Predictions
from assaymark.reports.errors import InputError
from assaymark.reports.model import Gate, Limit, Table, Verdict

ALPHAS = (0.5, 1, 2, 3)


def rows(
    label: list[int], prediction: list[int], group: list[str], weight: list[float] | None = None
) -> Predictions:
    import pyarrow

    return Predictions(
        name="rows",
        note="by hand",
        label=numpy.array(label, dtype=bool),
        prediction=numpy.array(prediction, dtype=bool),
        score=None,
        groups={"group": column_of("group", pyarrow.array(group), most=50)},
        weight=None if weight is None else numpy.array(weight, dtype=float),
    )


def counted(*weights: float) -> Benefits:
    total = sum(weights)
    return Benefits(
        name="", n=int(total), weights=(weights[0], weights[1], weights[2]), cases=total
    )


def aif360(b: numpy.ndarray, alpha: float) -> float:
    """ClassificationMetric.generalized_entropy_index of AIF360 0.6.1, on benefits."""
    if alpha == 1:
        return float(numpy.mean(numpy.log((b / numpy.mean(b)) ** b) / numpy.mean(b)))
    return float(numpy.mean((b / numpy.mean(b)) ** alpha - 1) / (alpha * (alpha - 1)))


def aif360_between(b: numpy.ndarray, group: numpy.ndarray, alpha: float) -> float:
    """ClassificationMetric._between_group_generalized_entropy_index of AIF360 0.6.1."""
    means = numpy.zeros(len(b))
    for name in set(group.tolist()):
        means[group == name] = b[group == name].mean()
    return aif360(means, alpha)


def aif360_of_shares(shares: numpy.ndarray, alpha: float) -> numpy.ndarray:
    """The same of shares of the benefits 0, 1 and 2, along the last axis."""
    benefit = numpy.array([0.0, 1, 2])
    ratio = benefit / (shares @ benefit)[:, None]
    if alpha == 1:
        return (shares * numpy.log(ratio**ratio)).sum(axis=1)  # type: ignore[no-any-return]
    return (shares * (ratio**alpha - 1)).sum(axis=1) / (alpha * (alpha - 1))  # type: ignore[no-any-return]


def test_by_hand() -> None:
    """Benefits 2, 1, 1, 0 in a and 1, 1 in b: mean 1, variance 1/3."""
    data = rows([0, 1, 0, 1, 1, 0], [1, 1, 0, 0, 1, 0], list("aaaabb"))
    assert benefits(data).weights == (1, 4, 1)
    assert index(benefits(data)) == pytest.approx(1 / 6)
    assert index(benefits(data), 1) == pytest.approx(2 * math.log(2) / 6)
    groups = benefits_by_group(data, "group")
    assert [group.mean for group in groups] == [1, 1]
    assert [index(group) for group in groups] == [0.25, 0]
    both = parts(groups)
    assert both is not None
    assert (both.between, both.within) == pytest.approx((0, 1 / 6))


@given(
    st.lists(st.tuples(st.booleans(), st.booleans(), st.sampled_from("abc")), min_size=1),
    st.sampled_from(ALPHAS),
)
def test_indices_are_those_of_aif360(found: list[tuple[bool, bool, str]], alpha: float) -> None:
    label, prediction, group = (list(column) for column in zip(*found, strict=True))
    data = rows(label, prediction, group)
    benefit = 1.0 + numpy.array(prediction, dtype=float) - numpy.array(label, dtype=float)
    if not benefit.any():
        assert index(benefits(data), alpha) is None
        assert parts(benefits_by_group(data, "group"), alpha) is None
        return
    assert index(benefits(data), alpha) == pytest.approx(aif360(benefit, alpha), abs=1e-12)
    both = parts(benefits_by_group(data, "group"), alpha)
    assert both is not None
    between = aif360_between(benefit, numpy.array(group), alpha)
    assert both.between == pytest.approx(between, abs=1e-12)


@given(
    st.lists(st.tuples(*[st.integers(0, 20)] * 3), min_size=1, max_size=5), st.sampled_from(ALPHAS)
)
def test_the_parts_add_up(groups: list[tuple[int, int, int]], alpha: float) -> None:
    """Within: Σ share of people · (mean / overall mean) ** alpha · index of the group."""
    found = [counted(*map(float, group)) for group in groups]
    whole = counted(*(float(sum(column)) for column in zip(*groups, strict=True)))
    both = parts(found, alpha)
    if both is None:
        assert index(whole, alpha) is None
        return
    assert whole.mean
    inside = sum(
        group.n / whole.n * (group.mean / whole.mean) ** alpha * (index(group, alpha) or 0)
        for group in found
        if group.mean
    )
    assert both.within == pytest.approx(inside, abs=1e-9)
    assert both.between + both.within == pytest.approx(index(whole, alpha), abs=1e-9)


def test_a_weight_of_two_is_two_rows() -> None:
    once = rows([0, 1, 1], [1, 1, 0], list("aab"), [2.0, 3.0, 1.0])
    each = rows([0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0], list("aaaaab"))
    assert index(benefits(once)) == pytest.approx(index(benefits(each)))
    assert parts(benefits_by_group(once, "group")) == parts(benefits_by_group(each, "group"))
    assert benefits(once).cases == pytest.approx(36 / 14)


def test_alpha_is_above_zero() -> None:
    with pytest.raises(ValueError, match="alpha is above 0"):
        index(counted(1, 1, 1), 0)


@pytest.mark.parametrize("alpha", [1, 2])
@pytest.mark.parametrize("weights", [(5, 80, 15), (0, 20, 3), (3, 20, 0), (30, 0, 10), (1, 1, 1)])
def test_the_interval_is_the_range_of_likely_shares(
    weights: tuple[int, int, int], alpha: float
) -> None:
    """Against a search over the whole simplex."""
    found = interval(counted(*weights), alpha, 0.95)
    assert found is not None
    none, double = (grid.ravel() for grid in numpy.meshgrid(*[numpy.linspace(0, 1, 801)] * 2))
    inside = none + double < 1 - 1e-9
    other = numpy.stack([none, 1 - none - double, double], axis=1)[inside]
    shares = numpy.array(weights) / sum(weights)
    likely = other[entropy._deviance(shares, other, sum(weights)) <= 3.8415]
    values = aif360_of_shares(likely, alpha)
    assert found.low == pytest.approx(values.min(), abs=0.01)
    assert found.high == pytest.approx(values.max(), rel=0.03, abs=0.002)
    assert found.low <= values.min() + 1e-5
    assert found.high >= values.max() - 1e-5


def test_no_error_among_few_rows_is_no_proof() -> None:
    """Without errors the likely shares p of one kind of error have n log(1 / (1 - p)) ≤ z² / 2."""
    found = interval(counted(0, 10, 0), 2, 0.95)
    assert found is not None
    p = 1 - math.exp(-(1.959964**2) / 20)
    worst = (1 / (1 - p) - 1) / 2  # all errors are false negatives
    assert (found.low, found.high) == pytest.approx((0, worst), abs=1e-6)


@pytest.mark.parametrize("alpha", [1, 2])
@pytest.mark.parametrize(
    ("shares", "n"), [((0.1, 0.8, 0.1), 60), ((0.02, 0.95, 0.03), 200), ((0.3, 0.4, 0.3), 40)]
)
def test_the_index_is_covered(shares: tuple[float, float, float], n: int, alpha: float) -> None:
    truth = index(counted(*shares), alpha)
    assert truth is not None
    draws = numpy.random.default_rng(0).multinomial(n, shares, size=400)
    held = 0
    for draw, times in zip(*numpy.unique(draws, axis=0, return_counts=True), strict=True):
        found = interval(counted(*map(float, draw)), alpha, 0.95)
        held += times * (found is not None and found.low <= truth <= found.high)
    assert 0.925 <= held / 400 <= 0.98


def test_entropy_findings() -> None:
    data = rows([0, 1, 0, 1, 1, 0], [1, 1, 0, 0, 1, 0], list("aaaabb"))
    gate = Gate(metric="theil_index", limit=Limit(maximum=0.5, on="upper"), severity="high")
    general, theil = entropy_findings("c", data, gates=[gate], tags=("t",))
    assert general.measure == "generalized_entropy_index"
    assert general.value == pytest.approx(1 / 6)
    assert general.verdict is Verdict.MEASURED
    assert theil.verdict is Verdict.INCONCLUSIVE
    assert (theil.target, theil.n, theil.references) == ("rows", 6, ("t",))
    (table,) = general.evidence
    assert isinstance(table, Table)
    assert table.rows == (("a", 4, 1.0, 0.25, 0.25, 0.25), ("b", 2, 1.0, 0.0, 0.0, 0.0))
    assert table.note.startswith("Between the groups lies 0.0000 (0.0 % of the whole)")


def test_nobody_with_a_benefit_is_not_measured() -> None:
    found = entropy_findings("c", rows([1, 1], [0, 0], list("ab")))
    assert [finding.value for finding in found] == [None, None]
    assert {finding.verdict for finding in found} == {Verdict.NOT_MEASURED}


# consistency


def with_itself(x: numpy.ndarray, y: numpy.ndarray, k: int) -> float:
    """consistency_score of AIF360 0.6.1."""
    search = NearestNeighbors(n_neighbors=k, algorithm="ball_tree").fit(x)
    indices = search.kneighbors(x, return_distance=False)
    return float(1 - abs(y - y[indices].mean(axis=1)).mean())


@pytest.fixture(scope="module")
def cloud() -> tuple[numpy.ndarray, numpy.ndarray]:
    rng = numpy.random.default_rng(0)
    x = rng.normal(size=(200, 3))
    return x, x[:, 0] + rng.normal(size=200) > 0.3


@pytest.mark.parametrize("k", [1, 5, 20])
def test_consistency_is_that_of_its_formula(
    cloud: tuple[numpy.ndarray, numpy.ndarray], k: int
) -> None:
    x, y = cloud
    assert consistency(x, y, neighbors=k, with_itself=True).value == pytest.approx(
        with_itself(x, y.astype(float), k)
    )
    distances = numpy.linalg.norm(x[:, None] - x[None], axis=2)
    numpy.fill_diagonal(distances, numpy.inf)
    near = distances.argsort(axis=1)[:, :k]
    expected = 1 - abs(y - y[near].mean(axis=1)).mean()
    assert consistency(x, y, neighbors=k).value == pytest.approx(expected)


def test_consistency_by_hand() -> None:
    """On a line 0 1 2 | 10 11 12, one nearest neighbour: only the row at 2 disagrees with it."""
    x = numpy.array([[0.0], [1.1], [2], [10], [11.1], [12]])
    y = numpy.array([True, True, False, False, False, False])
    # nearest: 0→1.1, 1.1→2, 2→1.1, 10→11.1, 11.1→12, 12→11.1
    assert consistency(x, y, neighbors=1).value == pytest.approx(1 - 2 / 6)
    weight = numpy.array([1.0, 3, 2, 1, 1, 1])
    assert consistency(x, y, neighbors=1, weight=weight).value == pytest.approx(1 - 5 / 9)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("k", [1, 4])
def test_the_jackknife_leaves_each_row_out(
    cloud: tuple[numpy.ndarray, numpy.ndarray], k: int, weighted: bool
) -> None:
    x, y = cloud[0][:40], cloud[1][:40]
    weight = numpy.random.default_rng(1).random(40) if weighted else numpy.ones(40)
    search = NearestNeighbors(n_neighbors=k + 1).fit(x)
    near = search.kneighbors(return_distance=False)
    value, variance = neighbourhoods._jackknife(near, y.astype(float), weight)
    left = [
        consistency(
            numpy.delete(x, i, 0), numpy.delete(y, i), neighbors=k, weight=numpy.delete(weight, i)
        ).value
        for i in range(40)
    ]
    assert value == consistency(x, y, neighbors=k, weight=weight).value
    means = numpy.array(left, dtype=float)
    assert variance == pytest.approx(39 / 40 * ((means - means.mean()) ** 2).sum())


def test_the_consistency_of_new_samples_is_covered() -> None:
    """The interval holds what samples of this size have on average, seldom less often than it says."""
    rng = numpy.random.default_rng(2)
    found = []
    for _ in range(300):
        x = rng.normal(size=(120, 2))
        found.append(consistency(x, x[:, 0] + 0.7 * rng.normal(size=120) > 0))
    mean = numpy.mean([one.value for one in found if one.value is not None])
    ends = [one.interval(0.95) for one in found]
    held = numpy.mean([end is not None and end.low <= mean <= end.high for end in ends])
    assert 0.94 <= held <= 1


def test_neighbours_that_all_agree_are_no_proof() -> None:
    x = (
        numpy.concatenate([numpy.zeros((20, 1)), numpy.ones((20, 1))])
        + 1e-3 * numpy.arange(40)[:, None]
    )
    found = consistency(x, numpy.arange(40) >= 20)
    ends = found.interval(0.95)
    assert found.value == 1
    assert ends is not None
    assert (0.6 < ends.low < 0.8, ends.high) == (True, 1)


@pytest.mark.parametrize(
    ("decision", "weight", "said"),
    [
        ([1] * 8, None, "every row has the same decision"),
        ([0] * 8, None, "every row has the same decision"),
        ([0, 1] * 3, None, "6 rows are too few to compare each with 5 others"),
        ([0, 1] * 4, [0.0] * 8, "no row weighs anything"),
    ],
)
def test_consistency_that_says_nothing_is_not_measured(
    decision: list[int], weight: list[float] | None, said: str
) -> None:
    data = rows(decision, decision, ["a"] * len(decision), weight)
    table = pandas.DataFrame({"x": numpy.arange(float(len(decision)))})
    gate = Gate(metric="consistency", limit=Limit(minimum=0.5))
    (finding,) = consistency_findings("c", data, table, gates=[gate])
    assert finding.value is None
    assert said in finding.summary
    assert finding.blocks


def test_points_are_standardised() -> None:
    table = pandas.DataFrame(
        {
            "x": [0.0, 2, 4, None],
            "t": ["a", "b", "a", None],
            "yes": [True, True, False, False],
            "same": 1,
        }
    )
    found = points(table)
    spread = math.sqrt(8 / 3)
    half = math.sqrt(0.5)
    expected = [
        [-2 / spread, 0, half, 0, 0, 1],
        [0, 0, 0, half, 0, 1],
        [2 / spread, 0, half, 0, 0, -1],
        [0, 1, 0, 0, half, -1],
    ]
    assert found == pytest.approx(numpy.array(expected))
    assert numpy.linalg.norm(found[0, 2:5] - found[1, 2:5]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ([0.0, float("inf"), 1], "has infinite numbers"),
        (pandas.to_datetime(["2020-01-01"] * 3), "holds dates"),
        ([1, 1, 1], "have one value each"),
        ([None] * 3, "have one value each"),
        ([f"name {i}" for i in range(201)], "201 different texts"),
    ],
)
def test_features_that_are_no_points(column: list[object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        points(pandas.DataFrame({"x": column}))


def test_neighbours_are_counted_from_one() -> None:
    with pytest.raises(InputError, match="1 neighbour or more, got 0"):
        consistency(numpy.zeros((5, 1)), numpy.array([True, False] * 2 + [True]), neighbors=0)


def test_many_rows_are_sampled_and_the_report_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sample(10, 0, most=10).tolist() == list(range(10))
    first, again, other = (sample(1000, seed, most=50) for seed in (1, 1, 2))
    assert first.tolist() == again.tolist() == sorted(set(first.tolist()))
    assert len(first) == 50
    assert first.tolist() != other.tolist()
    rng = numpy.random.default_rng(0)
    n = neighbourhoods.MOST_ROWS + 5
    chosen = (rng.random(n) > 0.5).astype(int).tolist()
    data = rows(chosen, chosen, ["a"] * n)
    table = pandas.DataFrame({"x": rng.normal(size=n), "group": "a"})
    (finding,) = consistency_findings("c", data, table, seed=3)
    assert finding.n == 20_000
    assert "in a sample of 20,000 of 20,005 rows (seed 3)" in finding.summary
    assert "Alike includes alike in group." in finding.summary
    # a fair coin agrees with the mean of others half of the time
    assert finding.value == pytest.approx(0.5, abs=0.02)
    assert finding.interval is not None
    assert finding.interval.low < 0.5 < finding.interval.high


def test_rows_that_are_the_same_do_not_hang_on_a_few_of_them() -> None:
    """Groups of 300 at one point, decided by lot: |lot − mean of k lots| has a closed form."""
    rng = numpy.random.default_rng(0)
    share, k = 0.3, 5
    chosen = (rng.random(1200) < share).astype(int)
    table = pandas.DataFrame({"ward": list("abcd") * 300})
    expected = 1 - 2 * share * (1 - share)
    values = []
    for order in (numpy.arange(1200), numpy.arange(1200)[::-1]):
        decided = chosen[order].tolist()
        data = rows(decided, decided, ["a"] * 1200)
        (finding,) = consistency_findings("c", data, table.iloc[order], neighbors=k)
        assert finding.interval is not None
        assert finding.interval.low < expected < finding.interval.high
        values.append(finding.value)
    assert values == [pytest.approx(expected, abs=0.03)] * 2


def test_features_of_other_rows_are_refused() -> None:
    data = rows([0, 1], [0, 1], list("ab"))
    with pytest.raises(InputError, match="features have 3 rows, rows has 2"):
        consistency_findings("c", data, pandas.DataFrame({"x": [1, 2, 3]}))
