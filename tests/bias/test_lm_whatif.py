"""Mitigations compared: paired changes against scipy, what stands for nothing, and planted cures."""

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy
import pytest
from scipy.stats import ttest_rel

from assaymark.bias.findings import Measured
from assaymark.bias.lm_clusters import cluster_codes, mean_interval
from assaymark.bias.lm_outcome import ALL, ItemValues, Outcome
from assaymark.bias.lm_whatif import CHANGE, Good, compare
from assaymark.reports.errors import InputError
from assaymark.reports.model import Interval, Plot, Table

FAIR = {"score": 0.5, "largest": 0.0}
ABILITY: dict[str, Good] = {"accuracy": "high", "perplexity": "low"}


def of_items(
    measure: str, values: Sequence[float], ids: Sequence[str] = (), clusters: int = 0
) -> tuple[Measured, ItemValues]:
    names = tuple(ids) or tuple(f"item {at}" for at in range(len(values)))
    groups = tuple(str(at % clusters if clusters else at) for at in range(len(values)))
    array = numpy.array(values, dtype=float)
    measured = Measured(
        target=ALL,
        measure=measure,
        value=float(array.mean()),
        summary="",
        n=len(array),
        interval_at=lambda confidence: mean_interval(array, cluster_codes(groups), confidence),
    )
    items = ItemValues(
        measure=measure, target=ALL, ids=names, values=tuple(array.tolist()), clusters=groups
    )
    return measured, items


def outcome(*parts: tuple[Measured, ItemValues | None]) -> Outcome:
    return Outcome(
        measured=tuple(measured for measured, _ in parts),
        items=100,
        answered=99,
        lost={"error": 1},
        item_values=tuple(items for _, items in parts if items is not None),
        revision="data",
    )


def whole(value: float | None, half: float = 0.1) -> tuple[Measured, None]:
    """A number that is no mean over items."""

    def interval_at(confidence: float) -> Interval | None:
        if value is None:
            return None
        return Interval(low=value - half, high=value + half, confidence=confidence, method="t")

    return (
        Measured(
            target=ALL,
            measure="largest",
            value=value,
            summary="",
            n=100,
            interval_at=interval_at,
        ),
        None,
    )


def draws(seed: int, mean: float, n: int = 100) -> list[float]:
    found: list[float] = (mean + 0.1 * numpy.random.default_rng(seed).normal(size=n)).tolist()
    return found


def rows(found: Outcome, title: str) -> list[dict[str, object]]:
    table = next(one for one in found.evidence if isinstance(one, Table) and one.title == title)
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def change(found: Outcome, label: str) -> Measured:
    return next(one for one in found.measured if one.target.endswith(label))


def test_identical_runs_change_by_exactly_0_and_have_no_interval() -> None:
    same = outcome(of_items("score", draws(0, 0.6)), of_items("accuracy", draws(1, 0.8)))
    found = compare({"none": same, "prefix": same}, fair=FAIR, ability=ABILITY)
    assert [one.value for one in found.measured] == [0.0, 0.0]
    assert all(one.interval_at(0.95) is None for one in found.measured)
    table = rows(found, "Before and after each mitigation")
    assert [row["reading"] for row in table] == ["no item changed"] * 2
    assert [row["p (Holm)"] for row in table] == [None, None]
    assert rows(found, "What each mitigation does")[0]["in short"] == "no change shown"


def test_disjoint_items_have_no_number() -> None:
    old = outcome(of_items("score", draws(0, 0.6)))
    new = outcome(of_items("score", draws(0, 0.5), [f"other {at}" for at in range(100)]))
    found = compare({"none": old, "prefix": new}, fair=FAIR, ability=ABILITY)
    (only,) = found.measured
    assert only.value is None
    assert "of 200 items 0 were answered by both runs" in only.summary
    assert only.interval_at(0.95) is None
    assert rows(found, "Before and after each mitigation")[0]["reading"] == "not measured"


def test_a_paired_change_is_the_paired_t_test_of_scipy() -> None:
    old, new = draws(0, 0.62), draws(1, 0.6)
    found = compare(
        {"none": outcome(of_items("score", old)), "prefix": outcome(of_items("score", new))},
        fair=FAIR,
        ability=ABILITY,
    )
    oracle = ttest_rel(new, old)
    interval = found.measured[0].interval_at(0.9)
    assert interval is not None
    assert found.measured[0].value == pytest.approx(numpy.mean(new) - numpy.mean(old))
    assert (interval.low, interval.high) == pytest.approx(tuple(oracle.confidence_interval(0.9)))
    table = rows(found, "Before and after each mitigation")
    assert table[0]["p (Holm)"] == pytest.approx(oracle.pvalue)


def test_items_of_one_cluster_count_together() -> None:
    """Ten items that are copies of one say no more than the one."""
    old, new = draws(0, 0.6, 20), draws(1, 0.5, 20)
    single = compare(
        {"none": outcome(of_items("score", old)), "p": outcome(of_items("score", new))},
        fair=FAIR,
        ability=ABILITY,
    )
    many = compare(
        {
            "none": outcome(of_items("score", old * 10, clusters=20)),
            "p": outcome(of_items("score", new * 10, clusters=20)),
        },
        fair=FAIR,
        ability=ABILITY,
    )
    ends = [one.measured[0].interval_at(0.95) for one in (single, many)]
    assert ends[0] is not None
    assert ends[1] is not None
    assert (ends[0].low, ends[0].high) == pytest.approx((ends[1].low, ends[1].high))


def test_one_cluster_says_nothing_about_its_error() -> None:
    runs = {
        name: outcome(of_items("score", draws(seed, 0.6), clusters=1))
        for name, seed in (("none", 0), ("it", 1))
    }
    found = compare(runs, fair=FAIR, ability=ABILITY)
    assert found.measured[0].value is not None
    assert found.measured[0].interval_at(0.95) is None
    assert rows(found, "Before and after each mitigation")[0]["reading"] == "its error is not known"


def test_p_values_are_holms_over_all_changes() -> None:
    runs = {
        "none": outcome(of_items("score", draws(0, 0.6)), of_items("accuracy", draws(1, 0.8))),
        "a": outcome(of_items("score", draws(2, 0.57)), of_items("accuracy", draws(3, 0.81))),
        "b": outcome(of_items("score", draws(4, 0.5)), of_items("accuracy", draws(5, 0.8))),
    }
    found = compare(runs, fair=FAIR, ability=ABILITY)
    plain = {}
    for name in "ab":
        for place, measure in enumerate(("score", "accuracy")):
            values = [runs[one].item_values[place].values for one in (name, "none")]
            plain[name, measure] = ttest_rel(*values).pvalue
    worst, expected = 0.0, {}
    for rank, key in enumerate(sorted(plain, key=lambda one: plain[one])):
        worst = max(worst, min(1.0, (4 - rank) * plain[key]))
        expected[key] = worst
    table = rows(found, "Before and after each mitigation")
    for row in table:
        key = str(row["mitigation"]), str(row["measure"])
        assert row["p (Holm)"] == pytest.approx(expected[key])


@pytest.mark.parametrize(
    ("score", "accuracy", "short"),
    [
        (0.5, 0.8, "fairer, and no cost shown"),
        (0.5, 0.5, "fairer in part, at a cost"),
        (0.6, 0.5, "makes the model worse, and not fairer"),
        (0.7, 0.5, "makes the model worse, and not fairer"),
        (0.8, 0.8, "less fair"),
        (0.6, 0.9, "better, and no change of bias shown"),
        (0.6, 0.8, "no change shown"),
    ],
)
def test_a_mitigation_that_only_makes_the_model_worse_is_seen(
    score: float, accuracy: float, short: str
) -> None:
    runs = {
        "none": outcome(of_items("score", draws(0, 0.6)), of_items("accuracy", draws(1, 0.8))),
        "it": outcome(
            of_items("score", draws(0, score) if score == 0.6 else draws(2, score)),
            of_items("accuracy", draws(1, accuracy) if accuracy == 0.8 else draws(3, accuracy)),
        ),
    }
    found = compare(runs, fair=FAIR, ability=ABILITY)
    assert rows(found, "What each mitigation does")[0]["in short"] == short


def test_lower_is_better_where_it_is_said() -> None:
    runs = {
        "none": outcome(of_items("perplexity", draws(0, 20))),
        "it": outcome(of_items("perplexity", draws(1, 30))),
    }
    found = compare(runs, fair=FAIR, ability=ABILITY)
    assert rows(found, "Before and after each mitigation")[0]["reading"] == "worse"


def test_numbers_that_are_no_means_have_both_intervals_and_no_verdict() -> None:
    runs = {"none": outcome(whole(0.8)), "it": outcome(whole(0.3))}
    found = compare(runs, fair=FAIR, ability=ABILITY)
    assert found.measured[0].value == pytest.approx(-0.5)
    assert found.measured[0].interval_at(0.95) is None
    row = rows(found, "Before and after each mitigation")[0]
    assert row["none"] == "0.800 [0.700, 0.900]"
    assert row["with it"] == "0.300 [0.200, 0.400]"
    assert (row["p (Holm)"], row["items compared"]) == (None, None)
    assert row["reading"] == "compare the intervals"


@pytest.mark.parametrize(("values", "when"), [((None, 0.3), "before"), ((0.3, None), "after")])
def test_what_was_not_measured_once_has_no_change(
    values: tuple[float | None, float | None], when: str
) -> None:
    runs = {"none": outcome(whole(values[0])), "it": outcome(whole(values[1]))}
    found = compare(runs, fair=FAIR, ability=ABILITY)
    assert found.measured[0].value is None
    assert f"not measured {when} the mitigation" in found.measured[0].summary


def test_a_mitigation_that_loses_the_biased_items_is_no_cure() -> None:
    values = [1.0] * 10 + draws(0, 0.5, 90)
    names = [f"item {at}" for at in range(100)]
    old = outcome(of_items("score", values))
    new = outcome(of_items("score", values[10:], names[10:]))
    found = compare({"none": old, "it": new}, fair=FAIR, ability=ABILITY)
    assert found.measured[0].value is None
    assert "of 100 items 90 were answered by both runs" in found.measured[0].summary
    allowed = compare({"none": old, "it": new}, fair=FAIR, ability=ABILITY, min_common=0.9)
    assert allowed.measured[0].value == 0
    assert "10 items were answered by one run only" in allowed.measured[0].summary
    assert rows(allowed, "Before and after each mitigation")[0]["in one run only"] == 10


def test_a_mitigation_that_answers_fewer_items_is_not_compared_at_all() -> None:
    """Numbers whose items are questions or that have none do not tell which items were lost."""
    runs = {"none": outcome(whole(0.8)), "it": replace(outcome(whole(0.3)), answered=90)}
    found = compare(runs, fair=FAIR, ability=ABILITY)
    assert found.measured[0].value is None
    assert "90 items were answered with it, and 99 without" in found.measured[0].summary


def test_a_mitigation_that_loses_what_is_behind_one_number_changes_it_in_no_way() -> None:
    """All but 1 % of the items are there, and of those behind this number a fifth is lost."""
    old = outcome(whole(0.9))
    new = replace(outcome(whole(0.1)), parts={("largest", ALL): (8, 10)})
    (change,) = compare({"none": old, "it": new}, fair=FAIR, ability=ABILITY).measured
    assert change.value is None
    assert "8 of 10 items" in change.summary
    (change,) = compare({"none": new, "it": new}, fair=FAIR, ability=ABILITY).measured
    assert change.value == 0


def test_values_that_are_no_numbers_are_not_matched_and_ids_are_unique() -> None:
    measured, items = of_items("score", draws(0, 0.5))
    holes = replace(items, values=(float("nan"), *items.values[1:]))
    found = compare(
        {"none": outcome((measured, items)), "it": outcome((measured, holes))},
        fair=FAIR,
        ability=ABILITY,
    )
    assert found.measured[0].n == 99
    twice = replace(items, ids=("item 1", *items.ids[1:]))
    found = compare(
        {"none": outcome((measured, items)), "it": outcome((measured, twice))},
        fair=FAIR,
        ability=ABILITY,
    )
    assert found.measured[0].value is None
    assert "have the same id" in found.measured[0].summary


def test_the_plot_has_a_point_a_mitigation() -> None:
    runs = {
        "none": outcome(of_items("score", draws(0, 0.4)), of_items("accuracy", draws(1, 0.8))),
        "it": outcome(of_items("score", draws(2, 0.5)), of_items("accuracy", draws(3, 0.6))),
    }
    found = compare(runs, fair=FAIR, ability=ABILITY)
    (plot,) = [one for one in found.evidence if isinstance(one, Plot)]
    (series,) = plot.series
    assert [point.label for point in series.points] == ["none", "it"]
    before, after = series.points
    assert before.y == pytest.approx(0.5 - numpy.mean(draws(0, 0.4)))
    assert before.low is not None
    assert before.high is not None
    assert 0 < before.low < before.y < before.high
    assert after.low == 0.0  # the fair value is in its interval
    assert before.x == pytest.approx(0.8, abs=0.05)


def test_counts_of_all_runs_stand_behind_the_comparison() -> None:
    same = outcome(of_items("score", draws(0, 0.5)))
    found = compare({"none": same, "a": same, "b": same}, fair=FAIR, ability=ABILITY)
    assert (found.items, found.answered, dict(found.lost)) == (300, 297, {"error": 3})
    assert {one.measure for one in found.measured} == {CHANGE}
    assert [one.target for one in found.measured] == ["a: score, all", "b: score, all"]


def test_what_cannot_be_compared_is_refused() -> None:
    one = outcome(of_items("score", draws(0, 0.5)))
    with pytest.raises(InputError, match="expected 2 runs or more, got 1"):
        compare({"none": one}, fair=FAIR, ability=ABILITY)
    with pytest.raises(InputError, match=re.escape('"score" is a measure of bias or of ability')):
        compare({"none": one, "it": one}, fair=FAIR, ability={"score": "high"})
    with pytest.raises(InputError, match="min_common"):
        compare({"none": one, "it": one}, fair=FAIR, ability=ABILITY, min_common=2)


@pytest.mark.long
def test_runs_that_differ_by_chance_are_rarely_called_changed() -> None:
    wrong = 0
    for seed in range(0, 1200, 4):
        runs = {
            "none": outcome(
                of_items("score", draws(seed, 0.6)), of_items("accuracy", draws(seed + 1, 0.8))
            ),
            "it": outcome(
                of_items("score", draws(seed + 2, 0.6)), of_items("accuracy", draws(seed + 3, 0.8))
            ),
        }
        found = compare(runs, fair=FAIR, ability=ABILITY)
        wrong += rows(found, "What each mitigation does")[0]["in short"] != "no change shown"
    assert wrong <= 0.06 * 300
