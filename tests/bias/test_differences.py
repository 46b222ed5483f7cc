"""Fisher's test and Newcombe's interval against SciPy and print; tests of groups against simulations."""

import math
from typing import Any

import numpy
import pytest
from scipy.stats import fisher_exact

from assaymark.bias.codes import Column, crossed
from assaymark.bias.differences import TESTED, Difference, differences, table_of
from assaymark.bias.exact import effective, fisher_greater, fisher_two_sided, newcombe
from assaymark.bias.rows import Predictions
from assaymark.reports.errors import InputError


def column(name: str, values: Any) -> Column:
    names, codes = numpy.unique(numpy.asarray(values), return_inverse=True)
    return Column(name=name, names=tuple(map(str, names)), codes=codes.astype(numpy.int32))


def table(label: Any, prediction: Any, weight: Any = None, **groups: Any) -> Predictions:
    return Predictions(
        name="t",
        groups={name: column(name, values) for name, values in groups.items()},
        note="n",
        weight=None if weight is None else numpy.asarray(weight, dtype=float),
        label=numpy.asarray(label, dtype=bool),
        prediction=numpy.asarray(prediction, dtype=bool),
        score=None,
    )


def find(found: tuple[Difference, ...], group: str, rate: str) -> Difference:
    return next(one for one in found if (one.group, one.rate) == (group, rate))


def test_the_exact_test_is_that_of_scipy() -> None:
    random = numpy.random.default_rng(0)
    n, m = random.integers(1, 400, 200), random.integers(1, 3000, 200)
    a, b = random.integers(0, n + 1), random.integers(0, m + 1)
    tables = [[[x, k - x], [y, j - y]] for x, k, y, j in zip(a, n, b, m, strict=True)]
    expected = {
        side: numpy.array([fisher_exact(one, alternative=side).pvalue for one in tables])
        for side in ("greater", "less")
    }
    found = fisher_greater(a, n, b, m)
    assert found == pytest.approx(expected["greater"], rel=1e-9, abs=1e-12)
    smaller = 2 * numpy.minimum(expected["greater"], expected["less"])
    assert fisher_two_sided(a, n, b, m) == pytest.approx(smaller.clip(max=1), rel=1e-9, abs=1e-12)


def test_no_case_is_no_test() -> None:
    assert numpy.isnan(fisher_greater([0, 1, 3], [0, 2, 4], [1, 0, 1], [4, 0, 4])).tolist() == [
        True,
        True,
        False,
    ]
    assert newcombe(0, 0, 1, 4) is None
    assert fisher_greater([], [], [], []).tolist() == []


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [  # Newcombe 1998, table II, method 10
        ((56, 70, 48, 80), 0.0524, 0.3339),
        ((9, 10, 3, 10), 0.1705, 0.8090),
        ((10, 10, 0, 20), 0.6791, 1.0),
        ((0, 10, 0, 20), -0.1611, 0.2775),
        ((5, 56, 0, 29), -0.0381, 0.1926),
    ],
)
def test_the_published_intervals(
    counts: tuple[int, int, int, int], low: float, high: float
) -> None:
    found = newcombe(*counts)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(("n", "m"), [(30, 30), (30, 200), (50, 400), (100, 100)])
def test_the_size_holds_at_every_rate(n: int, m: int) -> None:
    """Every outcome counted with its probability: no simulation."""
    from scipy.stats import binom

    a, b = (axis.ravel() for axis in numpy.meshgrid(numpy.arange(n + 1), numpy.arange(m + 1)))
    full = numpy.ones_like(a)
    rejected = fisher_two_sided(a, n * full, b, m * full) <= 0.05
    for rate in (0.02, 0.1, 0.3, 0.5, 0.77, 0.95):
        chance = binom.pmf(a, n, rate) * binom.pmf(b, m, rate)
        assert chance[rejected].sum() <= 0.05


def test_weighed_counts() -> None:
    assert effective(3.0, 5.0, 5.0) == (3, 5)
    assert effective(6.0, 10.0, 20.0) == (3, 5)  # all weights 2
    assert effective(0.0, 0.0, 0.0) == (0, 0)
    assert effective(4.0, 8.0, 4.0 * 4 + 4 * 1) == (2, 3)  # weights 4, 1, 1, 1, 1: 64 / 20 = 3.2


def test_by_hand() -> None:
    found = differences(
        table([1, 1, 0, 0, 1, 1, 0, 0, 0], [1, 1, 1, 0, 1, 0, 0, 0, 0], group=list("aaaabbbbb"))
    )
    assert {one.group for one in found} == {"a"}  # b is its mirror image
    assert {one.rate for one in found} == set(TESTED)
    selected = find(found, "a", "selection_rate")
    assert (selected.hits, selected.cases, selected.other_hits, selected.other_cases) == (
        3,
        4,
        1,
        5,
    )
    assert selected.difference == pytest.approx(3 / 4 - 1 / 5)
    # hypergeometric: (C(4,3) C(5,1) + C(4,4)) / C(9,4) = 21/126
    assert selected.p == pytest.approx(2 * 21 / 126)
    assert selected.holm == 1.0


def test_what_cannot_be_tested_is_listed_and_not_counted() -> None:
    label = [0] * 10 + [1, 0] * 20
    data = table(
        label, [1] * 10 + [1, 0] * 20, group=["no positives"] * 10 + ["b", "b", "c", "c"] * 10
    )
    found = differences(data)
    lacking = find(found, "no positives", "true_positive_rate")
    assert (lacking.p, lacking.holm, lacking.benjamini_hochberg) == (None, None, None)
    assert lacking.why == "the group has no case of it"
    tested = [one for one in found if one.p is not None]
    surest = tested[0]
    assert surest.p is not None
    assert surest.holm == pytest.approx(min(1.0, len(tested) * surest.p))
    listed = [row for row in table_of(found).rows if str(row[-1]).startswith("not measured")]
    assert [row[:3] for row in listed] == [("group", "no positives", "true positive rate")]
    small = differences(data, min_group_size=11)
    assert find(small, "no positives", "accuracy").why == "the group has 10 rows, fewer than 11"
    assert find(small, "b", "accuracy").p is not None


def test_a_rest_too_small_is_no_comparison() -> None:
    data = table([0, 1] * 50, [1, 0] * 50, group=["a"] * 90 + ["b"] * 5 + ["c"] * 5)
    assert find(differences(data, min_group_size=20), "a", "accuracy").why == (
        "the rest has 10 rows, fewer than 20"
    )
    alone = table([0, 1] * 5, [1, 0] * 5, group=["a"] * 10)
    found = differences(alone)
    assert all(one.p is None for one in found)
    assert "no sign of fairness" in table_of(found).note


def test_an_unknown_rate() -> None:
    with pytest.raises(InputError, match='did you mean "selection_rate"'):
        differences(table([0, 1], [0, 1], g=["a", "b"]), rates=("selektion_rate",))


def test_equal_weights_and_the_order_of_rows_change_nothing() -> None:
    random = numpy.random.default_rng(3)
    label, prediction = random.random(300) < 0.4, random.random(300) < 0.5
    group, other = random.integers(0, 4, 300), random.integers(0, 2, 300)
    plain = differences(table(label, prediction, group=group, other=other))
    order = random.permutation(300)
    weight = numpy.full(300, 2.5)
    weighed = differences(
        table(label[order], prediction[order], weight, group=group[order], other=other[order])
    )
    assert len(plain) == (4 + 1) * len(TESTED)
    for one, two in zip(plain, weighed, strict=True):
        assert (one.attribute, one.group, one.rate) == (two.attribute, two.group, two.rate)
        assert (one.hits, one.cases, one.p, one.holm) == (two.hits, two.cases, two.p, two.holm)
        assert one.value == pytest.approx(two.value)


def test_rows_without_weight_stand_for_nobody() -> None:
    label, prediction = [1, 1, 0, 0] * 20, [1, 0, 1, 0] * 20
    group = list("aabb") * 20
    weight = numpy.ones(80)
    weight[:8] = 0
    kept = differences(table(label[8:], prediction[8:], group=group[8:]))
    weighed = differences(table(label, prediction, weight, group=group))
    assert [one.p for one in kept] == [one.p for one in weighed]
    huge = differences(table(label, prediction, weight * 1e200, group=group))
    assert [one.p for one in huge] == [one.p for one in weighed]
    nobody = table(label, prediction, [1.0, 1, 0, 0] * 20, group=group)
    assert all(one.p is None for one in differences(nobody))


def test_intersections_are_in_the_family() -> None:
    random = numpy.random.default_rng(4)
    sex, age = column("sex", random.integers(0, 2, 400)), column("age", random.integers(0, 3, 400))
    both = crossed([sex, age], most=10)
    data = table(random.random(400) < 0.5, random.random(400) < 0.5)
    data.groups.update({"sex": sex, "age": age, both.name: both})
    found = differences(data, rates=("accuracy",))
    assert len(found) == 1 + 3 + 6
    smallest = min(one.p for one in found if one.p is not None)
    assert found[0].holm == pytest.approx(min(1, 10 * smallest))


@pytest.mark.parametrize("weighed", [False, True], ids=["plain", "weighed"])
def test_a_fair_model_is_seldom_accused_and_an_unfair_one_found(weighed: bool) -> None:
    random = numpy.random.default_rng(5)
    claimed = found = 0
    raw = []
    for _ in range(200):
        n = 600
        group = random.integers(0, 6, n)
        label = random.random(n) < 0.4
        weight = random.lognormal(0, 0.7, n) if weighed else None
        fair = differences(table(label, random.random(n) < 0.3 + 0.3 * label, weight, g=group))
        claimed += any(one.claimed for one in fair)
        raw += [one.p <= 0.05 for one in fair if one.p is not None]
        unfair = random.random(n) < 0.3 + 0.3 * label + 0.35 * (group == 2)
        worst = differences(table(label, unfair, weight, g=group))
        found += find(worst, "2", "selection_rate").claimed
    assert claimed <= 10  # 5 %
    assert numpy.mean(raw) <= 0.05
    assert found >= (133 if weighed else 190)


def test_the_table_counts_what_it_leaves_out() -> None:
    random = numpy.random.default_rng(6)
    n = 4000
    group = random.integers(0, 40, n)
    data = table(random.random(n) < 0.5, (random.random(n) < 0.5) | (group == 7), g=group)
    found = differences(data)
    shown = table_of(found)
    assert shown.rows[0][-1] == "differs"
    assert len(found) == 200
    standing = sum(one.claimed or one.likely for one in found)
    assert len(shown.rows) == standing + 25
    assert f"{200 - standing - 25} more that may be chance are not shown" in shown.note
    assert "200 exact tests" in shown.note
    p = [row[9] for row in shown.rows]
    assert p == sorted(p, key=lambda one: math.inf if one is None else float(one))
