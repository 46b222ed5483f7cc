"""What the findings about scores say, and that nothing which is missing looks like good news."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest

from assaymark.bias import predictions
from assaymark.bias.codes import MISSING, Column
from assaymark.bias.rows import Predictions
from assaymark.bias.score_findings import score_findings
from assaymark.bias.score_measures import COMPARED
from assaymark.reports.model import Finding, Gate, Limit, Plot, Table, Verdict

GAPS = [f"{name}_difference" for name in COMPARED]
AT_LEAST, AT_MOST = Limit(minimum=0.6, on="lower"), Limit(maximum=0.3, on="upper")


def gate(metric: str, limit: Limit) -> Gate:
    return Gate(metric=metric, limit=limit)


def people(seed: int = 0, sizes: tuple[int, ...] = (300, 200, 150), **changes: Any) -> Predictions:
    """Groups whose scores are calibrated, decided at 0.5."""
    rng = numpy.random.default_rng(seed)
    score = rng.random(sum(sizes))
    names = tuple("abcdefghijklmnopqrstuvwxyz"[: len(sizes)])
    codes = numpy.repeat(numpy.arange(len(sizes), dtype=numpy.int32), sizes)
    found = Predictions(
        name="t.csv",
        groups={"race": Column(name="race", names=names, codes=codes)},
        note="decisions are scores of 0.5 and more",
        label=rng.random(len(score)) < score,
        prediction=score >= 0.5,
        score=score,
    )
    return replace(found, **changes)


def of(data: Predictions, *gates: Gate, **options: Any) -> list[Finding]:
    return score_findings("c", data, "race", gates=gates, **options)


def by_measure(findings: list[Finding]) -> dict[str, Finding]:
    return {one.measure: one for one in findings}


def test_every_gap_of_a_fair_score_is_measured_and_could_be_nothing() -> None:
    found = of(people())
    assert [one.measure for one in found] == GAPS
    for one in found:
        assert (one.target, one.severity, one.verdict) == ("race", "low", Verdict.MEASURED)
        assert one.value is not None
        assert one.interval is not None
        assert one.interval.low == 0 < one.value < one.interval.high < 0.5
        assert one.n == 650


def test_a_group_with_a_worse_score_is_found() -> None:
    data = people()
    assert data.score is not None
    score = data.score.copy()
    last = data.groups["race"].codes == 2
    score[last] = numpy.random.default_rng(1).random(int(last.sum()))  # says nothing
    found = by_measure(of(replace(data, score=score)))
    for measure in ("auc_difference", "brier_score_difference"):
        interval = found[measure].interval
        assert interval is not None
        assert interval.low > 0.05
    assert "(c 0.4" in found["auc_difference"].summary


def test_without_scores_what_needs_none_is_measured_and_what_is_asked_is_missed() -> None:
    bare = people(score=None)
    assert [one.measure for one in of(bare)] == GAPS[3:]
    asked = [gate("auc", AT_LEAST), gate("brier_score_difference", AT_MOST)]
    found = by_measure(of(bare, *asked))
    for measure in ("auc", "brier_score_difference"):
        assert found[measure].verdict is Verdict.NOT_MEASURED
        assert found[measure].blocks
        assert "names no column with scores" in found[measure].summary


def test_scores_that_are_no_probabilities_have_an_auc_only() -> None:
    data = people()
    assert data.score is not None
    every = of(replace(data, score=data.score * 10), gate("brier_score", AT_MOST))
    found = by_measure(every)
    assert found["auc_difference"].value == by_measure(of(data))["auc_difference"].value
    for measure in (
        "brier_score_difference",
        "expected_calibration_error_difference",
        "brier_score",
    ):
        assert found[measure].value is None
        assert "where a probability lies in [0, 1]" in found[measure].summary
    assert found["brier_score"].blocks
    titles = [getattr(one, "title", "") for finding in every for one in finding.evidence]
    assert titles == [
        "Scores and decisions by race",
        "Spread of the scores by race",
        "Scores by race",
    ]


def test_a_group_of_one_label_has_no_auc_and_so_no_gap() -> None:
    data = people()
    label = data.label | (data.groups["race"].codes == 1)
    found = by_measure(of(replace(data, label=label)))
    for measure in ("auc_difference", "balanced_accuracy_difference"):
        assert found[measure].value is None
        assert found[measure].summary == (
            "Not measured: group 'b' has no positives or no negatives."
        )
    assert found["brier_score_difference"].value is not None


def test_a_group_of_one_positive_leaves_a_gap_without_an_interval() -> None:
    data = people(sizes=(100, 40))
    second = numpy.flatnonzero(data.groups["race"].codes == 1)
    label = data.label.copy()
    label[second] = False
    label[second[0]] = True
    limit = Limit(maximum=1.0, on="upper")
    found = by_measure(of(replace(data, label=label), gate("auc_difference", limit)))
    finding = found["auc_difference"]
    assert finding.value is not None
    assert finding.interval is None
    assert finding.blocks
    assert "no interval: only one positive or one negative in b" in finding.summary


def test_groups_that_are_small_or_missing_are_shown_and_not_compared() -> None:
    data = people(sizes=(300, 200, 20))
    column = replace(data.groups["race"], names=("a", MISSING, "c"))
    data = replace(data, groups={"race": column})
    found = of(data, gate("auc", AT_LEAST), min_group_size=30, missing_apart=True)
    assert {one.target for one in found} == {"race", "race = a"}
    assert by_measure(found)["auc_difference"].summary == (
        "Not measured: race has 1 group that can be compared: two are needed."
    )
    (table,) = [
        one
        for finding in found
        for one in finding.evidence
        if isinstance(one, Table) and one.title.startswith("Scores and")
    ]
    assert [row[:2] for row in table.rows] == [("a", 300), (MISSING, 200), ("c", 20)]


@pytest.mark.parametrize(
    ("apart", "verdict"), [(False, Verdict.PASS), (True, Verdict.INCONCLUSIVE)]
)
def test_people_whose_group_is_not_known_leave_a_good_difference_in_doubt(
    apart: bool, verdict: Verdict
) -> None:
    data = people(sizes=(300, 200, 20))
    column = replace(data.groups["race"], names=("a", "b", MISSING))
    data = replace(data, groups={"race": column})
    limit = Limit(maximum=0.9, on="upper")
    found = by_measure(of(data, gate("brier_score_difference", limit), missing_apart=apart))
    finding = found["brier_score_difference"]
    assert finding.verdict is verdict
    assert (finding.unreliable is not None) == apart
    assert found["auc_difference"].verdict is Verdict.MEASURED
    groups = of(data, gate("auc", Limit(minimum=0.5, on="lower")), missing_apart=apart)
    assert {one.verdict for one in groups if one.measure == "auc"} == {verdict}


def test_where_nobody_is_compared_a_limit_is_not_kept() -> None:
    found = by_measure(of(people(), gate("f1_score", AT_LEAST), min_group_size=10_000))
    assert found["f1_score"].blocks
    assert "no group that is compared" in found["f1_score"].summary


@pytest.mark.parametrize(
    ("metric", "limit"),
    [
        ("auc", AT_LEAST),
        ("brier_score", AT_MOST),
        ("expected_calibration_error", AT_MOST),
        ("balanced_accuracy", AT_LEAST),
        ("f1_score", AT_LEAST),
        ("matthews_correlation", Limit(minimum=0.2, on="lower")),
    ],
)
def test_every_group_that_a_gate_names_is_held_against_it(metric: str, limit: Limit) -> None:
    found = [one for one in of(people(), gate(metric, limit)) if one.measure == metric]
    assert [one.target for one in found] == ["race = a", "race = b", "race = c"]
    assert {one.verdict for one in found} == {Verdict.PASS}
    for one in found:
        assert one.value is not None
        assert one.interval is not None
        assert one.interval.low < one.value < one.interval.high
    hard = Limit(minimum=0.9, on="lower") if limit.minimum else Limit(maximum=1e-9, on="upper")
    worse = [one for one in of(people(), gate(metric, hard)) if one.measure == metric]
    assert Verdict.PASS not in {one.verdict for one in worse}


def test_an_undecided_limit_says_how_many_rows_would_do() -> None:
    limit = Limit(minimum=0.77, on="lower")
    few = [one for one in of(people(), gate("auc", limit)) if one.measure == "auc"]
    undecided = [one for one in few if one.verdict is Verdict.INCONCLUSIVE]
    assert undecided
    for one in undecided:
        assert one.needs_n is not None
        assert one.n is not None
        assert one.value is not None
        assert one.interval is not None
        half = (one.value - one.interval.low) * (one.n / one.needs_n) ** 0.5
        assert half == pytest.approx(abs(one.value - 0.77), rel=0.1)


def test_the_curves_of_many_groups_are_those_of_the_largest() -> None:
    sizes = (30, *range(100, 1300, 100), 40)
    plots = [
        one
        for finding in of(people(sizes=sizes))
        for one in finding.evidence
        if isinstance(one, Plot)
    ]
    assert [one.diagonal for one in plots] == [True, False]
    for plot in plots:
        assert [one.label for one in plot.series] == list("bcdefghijklm")
        assert "2 smallest groups" in plot.note
    points = plots[0].series[0].points
    assert sum(point.n or 0 for point in points) == 100
    assert all(
        point.low is not None and point.high is not None and point.low <= point.y <= point.high
        for point in points
    )


def test_the_names_of_groups_and_the_order_of_rows_change_nothing() -> None:
    data = people(sizes=(80, 60, 40))
    gates = [gate(name, AT_LEAST) for name in (*COMPARED, "matthews_correlation")]
    order = numpy.random.default_rng(2).permutation(180)
    column = data.groups["race"]
    assert data.score is not None
    other = replace(
        data,
        groups={"race": Column(name="race", names=("x", "y", "z"), codes=2 - column.codes[order])},
        label=data.label[order],
        prediction=data.prediction[order],
        score=data.score[order],
    )
    before, after = of(data, *gates), of(other, *gates)
    renamed = {"race = a": "race = z", "race = b": "race = y", "race = c": "race = x"}
    found = {(one.target, one.measure): one for one in after}
    for one in before:
        twin = found[renamed.get(one.target, one.target), one.measure]
        assert twin.value == pytest.approx(one.value, abs=1e-12)
        assert one.interval is not None
        assert twin.interval is not None
        assert twin.interval.low == pytest.approx(one.interval.low, abs=1e-9)
        assert twin.interval.high == pytest.approx(one.interval.high, abs=1e-9)


def test_the_deciles_of_compas_rank_both_races_alike(shared: Path) -> None:
    """Larson et al. 2016 and Flores et al. 2016 (Federal Probation 80): an AUC of about 0.7 in each."""
    data = predictions.load(
        "compas-scores-two-years.csv",
        label="two_year_recid",
        prediction=None,
        score="decile_score",
        threshold=5,
        sensitive=("race",),
        folder=shared / "data" / "bias" / "compas",
    )
    found = of(data, gate("auc", AT_LEAST), min_group_size=1000)
    area = {one.target: one for one in found if one.measure == "auc"}
    assert area["race = African-American"].value == pytest.approx(0.692, abs=5e-4)
    assert area["race = Caucasian"].value == pytest.approx(0.693, abs=5e-4)
    gap = by_measure(found)["auc_difference"]
    assert gap.interval is not None
    assert gap.interval.low == 0
    assert gap.interval.high < 0.04
    assert by_measure(found)["brier_score_difference"].value is None  # deciles run from 1 to 10
