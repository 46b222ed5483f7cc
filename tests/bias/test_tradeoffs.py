"""Accuracy, gaps and their intervals against fairlearn, scikit-learn and published numbers."""

from typing import Any

import fairlearn.metrics
import numpy
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from whatif_rows import rows

from assaymark.bias.samples import halves, sample_of
from assaymark.bias.tradeoffs import (
    MEASURES,
    balanced_accuracy,
    change_of_accuracy,
    paired,
    pareto,
    tally,
)

RNG = numpy.random.default_rng(3)
LABEL, DECISION, GROUP = RNG.random(400) < 0.4, RNG.random(400) < 0.5, RNG.choice(list("abc"), 400)


def measured(data: Any, chance: Any) -> dict[str, float | None]:
    sample, _ = sample_of(data, None, attribute="group")
    found = tally(sample, numpy.array(chance, dtype=float))
    return {name: measure(found).value for name, measure in MEASURES.items()}


def test_numbers_are_those_of_scikit_learn_and_fairlearn() -> None:
    found = measured(rows(LABEL, GROUP), DECISION)
    assert found == {
        "accuracy": pytest.approx(sklearn.metrics.accuracy_score(LABEL, DECISION), abs=1e-12),
        "balanced_accuracy": pytest.approx(
            sklearn.metrics.balanced_accuracy_score(LABEL, DECISION), abs=1e-12
        ),
    } | {
        gap: pytest.approx(
            getattr(fairlearn.metrics, gap)(LABEL, DECISION, sensitive_features=GROUP), abs=1e-12
        )
        for gap in list(MEASURES)[2:]
    }


def test_a_weight_counts_as_so_many_rows() -> None:
    weight = RNG.integers(0, 4, 400)
    weighted = measured(rows(LABEL, GROUP, weight=weight), DECISION)
    repeated = measured(
        rows(numpy.repeat(LABEL, weight), numpy.repeat(GROUP, weight)),
        numpy.repeat(DECISION, weight),
    )
    assert weighted == {name: pytest.approx(value, abs=1e-12) for name, value in repeated.items()}


def test_a_weight_that_all_rows_share_changes_no_interval() -> None:
    for weight in (None, numpy.full(400, 0.25)):
        sample, _ = sample_of(rows(LABEL, GROUP, weight=weight), None, attribute="group")
        found = tally(sample, DECISION.astype(float))
        ends = [measure(found).interval_at(0.9) for measure in MEASURES.values()]
        if weight is None:
            expected = [(end.low, end.high) for end in ends if end]
        else:
            assert [(end.low, end.high) for end in ends if end] == [
                pytest.approx(each, abs=1e-9) for each in expected
            ]


def test_a_chance_is_the_mean_of_what_lots_decide() -> None:
    data, chance = rows(LABEL, GROUP), RNG.random(400)
    sample, _ = sample_of(data, None, attribute="group")
    drawn = (RNG.random((4000, 400)) < chance).astype(float)
    right = [MEASURES["accuracy"](tally(sample, each)).value for each in drawn]
    assert measured(data, chance)["accuracy"] == pytest.approx(numpy.mean(right), abs=2e-3)  # type: ignore[arg-type]


def test_the_paired_interval_is_the_published_one() -> None:
    """Fagerland, Lydersen and Laake 2017, section 8: 59, 6, 16, 80 of 161 (Cavo et al. 2012)."""
    found = paired(65 / 161, 75 / 161, 59 / 161, 161, 0.95)
    assert (found.low, found.high) == pytest.approx((-0.1186, -0.0046), abs=5e-5)


def test_the_change_of_nothing_is_zero_and_of_everything_is_not_certain() -> None:
    sample, _ = sample_of(rows([1, 0] * 20, list("ab") * 20), None, attribute="group")
    right = sample.label.astype(float)
    assert change_of_accuracy(sample, right, right).value == 0
    better = change_of_accuracy(sample, 1 - right, right)
    interval = better.interval_at(0.95)
    assert interval is not None
    assert better.value == 1
    assert 0.7 < interval.low < interval.high == 1


@pytest.mark.parametrize(("n", "agree"), [(60, 0.9), (200, 0.7), (40, 0.5)])
def test_the_true_change_is_covered(n: int, agree: float) -> None:
    """Before: right with 0.6. After: the same answer with `agree`, otherwise right with 0.8."""
    rng, covered = numpy.random.default_rng(5), 0
    truth = agree * 0.6 + (1 - agree) * 0.8 - 0.6
    sample, _ = sample_of(rows([1] * n, ["a"] * n), None, attribute="group")
    for _ in range(1000):
        before = (rng.random(n) < 0.6).astype(float)
        fresh = (rng.random(n) < 0.8).astype(float)
        after = numpy.where(rng.random(n) < agree, before, fresh)
        found = change_of_accuracy(sample, before, after).interval_at(0.95)
        assert found is not None
        covered += found.low <= truth <= found.high
    assert covered >= 935


def test_the_true_balanced_accuracy_is_covered() -> None:
    rng, covered = numpy.random.default_rng(6), 0
    sample, _ = sample_of(rows([1] * 30 + [0] * 70, ["a"] * 100), None, attribute="group")
    for _ in range(1000):
        right = rng.random(100) < numpy.where(sample.label, 0.9, 0.6)
        found = balanced_accuracy(tally(sample, (right == sample.label).astype(float)))
        interval = found.interval_at(0.95)
        assert interval is not None
        covered += interval.low <= 0.75 <= interval.high
    assert covered >= 935


@pytest.mark.parametrize(
    ("label", "group", "measure", "reason"),
    [
        ([1, 0, 0, 0], "aabb", "equalized_odds_difference", "group 'b' has no positives"),
        ([1, 0, 1, 1], "aabb", "equalized_odds_difference", "group 'b' has no negatives"),
        ([1, 0, 0, 0], "aabb", "equal_opportunity_difference", "group 'b' has no positives"),
        ([1, 0, 1, 0], "aaaa", "demographic_parity_difference", "has 1 group: two are needed"),
        ([0, 0, 0, 0], "aabb", "balanced_accuracy", "no positives"),
    ],
)
def test_what_cannot_be_measured_says_why(
    label: list[int], group: str, measure: str, reason: str
) -> None:
    sample, _ = sample_of(rows(label, list(group)), None, attribute="group")
    found = MEASURES[measure](tally(sample, sample.label.astype(float)))
    assert found.value is None
    assert reason in found.why


POINT = st.none() | st.tuples(st.integers(0, 5), st.integers(0, 5))


@given(st.lists(POINT, max_size=12))
def test_the_front_is_what_nothing_beats(points: list[tuple[float, float] | None]) -> None:
    front = pareto(points)
    known = [point for point in points if point is not None]
    assert any(front) == bool(known)
    for point, on in zip(points, front, strict=True):
        better = point is not None and any(
            (gap < point[0] and right >= point[1]) or (gap <= point[0] and right > point[1])
            for gap, right in known
        )
        assert on == (point is not None and not better)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), min_size=1, max_size=60),
    st.integers(0, 2**32),
)
def test_the_halves_have_as_many_of_each_group_and_label(
    cells: list[tuple[str, bool]], seed: int
) -> None:
    sample, _ = sample_of(
        rows([y for _, y in cells], [g for g, _ in cells]), None, attribute="group"
    )
    first, second = halves(sample, seed)
    assert sorted([*first, *second]) == list(range(len(cells)))
    for cell in set(cells):
        ours = [sum(cells[place] == cell for place in half) for half in (first, second)]
        assert ours[0] - ours[1] in (0, 1)
    again, _ = halves(sample, seed)
    assert (first == again).all()
