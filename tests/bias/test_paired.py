"""Growth of gaps: the covariance of both runs by hand, and intervals where the truth is known."""

from pathlib import Path
from typing import Any

import numpy
import pyarrow
import pytest
from fairlearn.metrics import demographic_parity_difference, equalized_odds_difference
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri

from assaymark.bias import paired, predictions
from assaymark.bias.accepted import accepted_decisions, align
from assaymark.bias.codes import Column, column_of
from assaymark.bias.paired import GROWTHS, Errors, errors, growth_interval, tally
from assaymark.bias.paired_findings import growth_findings
from assaymark.bias.rows import Flags, Numbers, Predictions
from assaymark.reports.errors import InputError
from assaymark.reports.model import Finding, Gate, Limit, Table


def flags(values: Any) -> Flags:
    return numpy.array(values, dtype=numpy.bool_)


def rows(label: Any, prediction: Any, group: Any, weight: Any = None) -> Predictions:
    return Predictions(
        name="now.csv",
        label=flags(label),
        prediction=flags(prediction),
        score=None,
        groups={"group": column_of("group", pyarrow.array(group), most=50)},
        note="",
        weight=None if weight is None else numpy.array(weight, dtype=float),
    )


def drawn(n: int, seed: int, groups: int = 2) -> tuple[Predictions, Flags]:
    random = numpy.random.default_rng(seed)
    label, old, new = (random.random((3, n)) < [[0.5], [0.4], [0.5]]).tolist()
    return rows(label, new, [f"g{place % groups}" for place in range(n)]), flags(old)


def by_measure(found: list[Finding]) -> dict[str, Finding]:
    return {finding.measure: finding for finding in found}


# a: selected 3 of 4 before and now; b: 3 of 4 before, 1 of 4 now
LABEL = [1, 1, 0, 0, 1, 1, 0, 0]
OLD = [1, 1, 1, 0, 1, 1, 1, 0]
NEW = [1, 1, 1, 0, 1, 0, 0, 0]
GROUP = list("aaaabbbb")


def test_growth_by_hand() -> None:
    found = by_measure(growth_findings("c", rows(LABEL, NEW, GROUP), flags(OLD), "group"))
    assert {measure: finding.value for measure, finding in found.items()} == {
        "demographic_parity_growth": 0.5,
        "equal_opportunity_growth": 0.5,
        "equalized_odds_growth": 0.5,
        "predictive_parity_growth": pytest.approx(1 / 3),
    }
    assert "is 0.500, and was 0.000" in found["demographic_parity_growth"].summary
    (table,) = [one for finding in found.values() for one in finding.evidence]
    assert isinstance(table, Table)
    assert [row[:4] for row in table.rows] == [("a", 4, 0, 0), ("b", 4, 0, 2)]


def test_errors_are_those_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paired, "_ADDED", 1e-12)
    data, old = drawn(400, 0)
    cells = tally(data.groups["group"], data.label, old, data.prediction)
    assert cells.sum() == 400
    found = errors(cells, cells, "selection_rate")
    positives = errors(cells, cells, "true_positive_rate")
    for place in range(2):
        mine = data.groups["group"].codes == place
        for one, kept in ((found, mine), (positives, mine & data.label)):
            expected = numpy.cov(old[kept], data.prediction[kept], ddof=0) / kept.sum()
            got = [one.var_old[place], one.cov[place], one.var_new[place]]
            assert got == pytest.approx([expected[0, 0], expected[0, 1], expected[1, 1]], rel=1e-9)
            assert one.old[place] == pytest.approx(old[kept].mean())
            assert one.new[place] == pytest.approx(data.prediction[kept].mean())


@pytest.mark.parametrize("weighted", [False, True])
def test_errors_of_a_ratio_are_those_of_the_bootstrap(weighted: bool) -> None:
    random = numpy.random.default_rng(3)
    n = 1500
    label, old = random.random((2, n)) < [[0.5], [0.4]]
    new = numpy.where(random.random(n) < 0.2, ~old, old)
    weight = random.uniform(0.5, 3, n) if weighted else numpy.ones(n)
    one = Column(name="g", names=("g",), codes=numpy.zeros(n, dtype=numpy.int32))
    sums, squares = (tally(one, label, old, new, power) for power in (weight, weight**2))
    found = errors(sums, squares, "positive_predictive_value")
    draws = random.multinomial(n, numpy.full(n, 1 / n), size=2000) * weight
    again = numpy.stack([draws @ (label * each) / (draws @ each) for each in (old, new)])
    expected = numpy.cov(again)
    got = [[found.var_old[0], found.cov[0]], [found.cov[0], found.var_new[0]]]
    assert numpy.array(got) == pytest.approx(expected, rel=0.12)


def test_the_interval_is_the_formula() -> None:
    """All pairs of pairs written out, with the reach read back from one of them."""
    data, old = drawn(300, 5, groups=3)
    cells = tally(data.groups["group"], data.label, old, data.prediction)
    one = errors(cells, cells, "selection_rate")
    pairs = [(g, h) for g in range(3) for h in range(3) if g != h]

    def apart(p: tuple[int, int], q: tuple[int, int]) -> tuple[float, float]:
        signs_new, signs_old = numpy.zeros(3), numpy.zeros(3)
        signs_new[list(p)], signs_old[list(q)] = (1, -1), (1, -1)
        value = float(signs_new @ one.new - signs_old @ one.old)
        variance = signs_new**2 @ one.var_new + signs_old**2 @ one.var_old
        return value, float(variance - 2 * (signs_new * signs_old) @ one.cov) ** 0.5

    def ends(reach: float) -> tuple[float, float]:
        table = {(p, q): apart(p, q) for p in pairs for q in pairs}
        low = min(max(table[p, q][0] - reach * table[p, q][1] for p in pairs) for q in pairs)
        high = max(min(table[p, q][0] + reach * table[p, q][1] for q in pairs) for p in pairs)
        return low, high

    found = growth_interval([one], 0.95)
    bonferroni = float(-ndtri(0.025 / len(pairs)))
    reach = next(c for c in numpy.linspace(1.96, bonferroni, 2000) if ends(c)[0] <= found.low)
    assert 1.97 < reach < bonferroni
    assert ends(reach) == pytest.approx((found.low, found.high), abs=1e-3)


# P(label), P(old decision | label) of each group, and P(the new decision differs | group, old)
SCENES: dict[str, tuple[list[int], list[tuple[float, float]], list[tuple[float, float]]]] = {
    "fair, others decide": ([60, 60], [(0.3, 0.7)] * 2, [(0.1, 0.1)] * 2),
    "fair, rare": ([100, 100], [(0.05, 0.1)] * 2, [(0.02, 0.25)] * 2),
    "as unfair as before": ([80, 80], [(0.4, 0.4), (0.6, 0.6)], [(0.1, 0.15), (0.15, 0.1)]),
    "five groups, fair": ([30] * 5, [(0.3, 0.7)] * 5, [(0.1, 0.1)] * 5),
    "a little growth": ([100, 100], [(0.2, 0.3), (0.6, 0.7)], [(0.0, 0.0), (0.1, 0.0)]),
    "a little rare growth": ([100, 100], [(0.02, 0.02)] * 2, [(0.0, 0.0), (0.03, 0.0)]),
    "much growth": ([100, 100], [(0.3, 0.4), (0.5, 0.6)], [(0.0, 0.3), (0.3, 0.0)]),
    "less of a gap": ([100, 100], [(0.2, 0.3), (0.6, 0.7)], [(0.0, 0.0), (0.0, 0.3)]),
}


def chances(old: list[tuple[float, float]], flips: list[tuple[float, float]]) -> numpy.ndarray:
    """P(label, old, new) of each group; labels are even."""
    found = numpy.zeros((len(old), 2, 2, 2))
    for g, y, a in numpy.ndindex(len(old), 2, 2):
        before = 0.5 * (old[g][y] if a else 1 - old[g][y])
        found[g, y, a, 1 - a] = before * flips[g][a]
        found[g, y, a, a] = before * (1 - flips[g][a])
    return found


def gaps(cells: numpy.ndarray, measure: str) -> tuple[float, float]:
    both = []
    for rate in GROWTHS[measure]:
        old_hits, old_cases, new_hits, new_cases = paired.RATES[rate]
        over = [
            (cells * one).sum(axis=(1, 2, 3)) for one in (old_hits, old_cases, new_hits, new_cases)
        ]
        both.append((numpy.ptp(over[0] / over[1]), numpy.ptp(over[2] / over[3])))
    return max(old for old, _ in both), max(new for _, new in both)


CASES = [(scene, "demographic_parity_growth") for scene in SCENES] + [
    (scene, measure)
    for scene in ("fair, others decide", "as unfair as before", "a little growth", "much growth")
    for measure in GROWTHS
    if measure != "demographic_parity_growth"
]


@pytest.mark.parametrize(("scene", "measure"), CASES)
def test_the_growth_is_covered_and_seldom_alleged(
    scene: str, measure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 150 samples; where nothing grew, at most 6 % have a lower end above 0 (2.5 % are meant)."""
    monkeypatch.setattr(paired, "_DRAWS", 1500)
    sizes, old, flips = SCENES[scene]
    truth = chances(old, flips)
    before, now = gaps(truth, measure)
    random = numpy.random.default_rng(7)
    samples = [
        random.multinomial(size, p.ravel(), size=150) for size, p in zip(sizes, truth, strict=True)
    ]
    covered = alleged = 0
    for each in numpy.stack(samples, axis=1).astype(float):
        cells = each.reshape(-1, 2, 2, 2)
        found = growth_interval([errors(cells, cells, rate) for rate in GROWTHS[measure]], 0.95)
        covered += found.low <= now - before <= found.high
        alleged += found.low > 0
    assert covered >= 141
    if now - before < 1e-9:
        assert alleged <= 9
    if scene == "much growth" and measure == "demographic_parity_growth":
        assert alleged >= 135


def test_pairs_see_what_two_intervals_do_not() -> None:
    """300 people a group, 30 of one group lose: the intervals of the two gaps overlap widely."""
    old = numpy.arange(600) % 300 < 150
    new = old & ~((numpy.arange(600) >= 300) & (numpy.arange(600) % 300 < 30))
    group = ["a"] * 300 + ["b"] * 300
    # in the accepted run the gap was 0.1
    old = old & ~((numpy.arange(600) >= 300) & (numpy.arange(600) % 300 >= 120))
    new &= old
    found = by_measure(growth_findings("c", rows(old, new, group), flags(old), "group"))
    interval = found["demographic_parity_growth"].interval
    assert interval is not None
    assert found["demographic_parity_growth"].value == pytest.approx(0.1)
    assert 0.05 < interval.low < 0.1 < interval.high < 0.16


def test_two_runs_that_decide_alike_have_grown_by_zero_and_not_for_certain() -> None:
    data, _ = drawn(2000, 1)
    for finding in growth_findings("c", data, data.prediction, "group"):
        assert finding.value == 0
        assert finding.interval is not None
        assert -0.02 < finding.interval.low < 0 < finding.interval.high < 0.02
        assert finding.summary.endswith("No decision changed in the groups that are compared.")


def test_what_is_undefined_in_either_run_is_no_growth_of_zero() -> None:
    gate = Gate(metric="predictive_parity_growth", limit=Limit(maximum=0.1))
    nobody = [0, 0, 0, 0, 1, 1, 1, 0]
    for new, old, run in ((NEW, nobody, "in the accepted run"), (nobody, OLD, "now")):
        found = growth_findings("c", rows(LABEL, new, GROUP), flags(old), "group", gates=[gate])
        finding = by_measure(found)["predictive_parity_growth"]
        assert (finding.value, finding.interval, finding.verdict) == (None, None, "not-measured")
        assert finding.blocks
        expected = f"Not measured: {run}, group 'a' has no positive decisions"
        assert finding.summary.startswith(expected)


def test_one_group_or_only_small_ones_are_not_compared() -> None:
    one = growth_findings("c", rows([1, 0], [1, 0], ["a", "a"]), flags([1, 0]), "group")
    small = growth_findings("c", rows(LABEL, NEW, GROUP), flags(OLD), "group", min_group_size=5)
    for finding in (*one, *small):
        assert finding.value is None
        assert "two are needed" in finding.summary


def test_decisions_of_other_rows_are_refused() -> None:
    with pytest.raises(InputError, match=r"now.csv has 8 rows, the accepted run has 7 decisions"):
        growth_findings("c", rows(LABEL, NEW, GROUP), flags(OLD[:7]), "group")


@pytest.mark.parametrize(
    ("limit", "verdict"),
    [
        (Limit(maximum=0.3), "fail"),
        (Limit(maximum=0.3, on="upper"), "inconclusive"),
        (Limit(maximum=0.9, on="upper"), "pass"),
    ],
)
def test_a_limit_may_be_held_against_the_bound(limit: Limit, verdict: str) -> None:
    gate = Gate(metric="demographic_parity_growth", limit=limit, attribute="group")
    other = Gate(metric="demographic_parity_growth", limit=Limit(maximum=-0.9), attribute="sex")
    data = rows(LABEL * 5, NEW * 5, GROUP * 5)
    found = growth_findings("c", data, flags(OLD * 5), "group", gates=[gate, other], tags=("t",))
    (finding,) = [one for one in found if one.limit is not None]
    assert (finding.verdict, finding.references) == (verdict, ("t",))
    assert (finding.evidence != ()) is (verdict != "pass" or found[0] is finding)


def intervals(data: Predictions, old: Flags) -> dict[str, tuple[float, float]]:
    return {
        finding.measure: (finding.interval.low, finding.interval.high)
        for finding in growth_findings("c", data, old, "group")
        if finding.interval is not None
    }


def test_weights_count_as_people_and_never_as_more_rows_than_there_are() -> None:
    data, old = drawn(240, 2)
    label, new = data.label.tolist(), data.prediction.tolist()
    group = [data.groups["group"].names[code] for code in data.groups["group"].codes]
    plain = intervals(data, old)
    assert len(plain) == 4
    equal = intervals(rows(label, new, group, [2.5] * 240), old)
    for measure in GROWTHS:
        assert equal[measure] == pytest.approx(plain[measure], abs=1e-6)
    # a row without weight is nobody
    nobody = [1.0] * 240 + [0.0] * 60
    more = rows(label + [1] * 60, new + [0] * 60, group + ["g0"] * 60, nobody)
    with_nobody = intervals(more, flags([*old, *[1] * 60]))
    uneven = intervals(rows(label, new, group, [0.2, 0.2, 3.0, 3.0] * 60), old)
    for measure in GROWTHS:
        assert with_nobody[measure] == pytest.approx(plain[measure], abs=1e-6)
        low, high = uneven[measure]
        assert high - low > 1.1 * (plain[measure][1] - plain[measure][0])


def test_very_many_groups_have_the_interval_of_two_gaps() -> None:
    data, old = drawn(3000, 4, groups=40)
    for finding in growth_findings("c", data, old, "group"):
        assert finding.interval is not None
        assert "Bonferroni" in finding.interval.method
        assert finding.value is not None
        assert finding.interval.low <= finding.value <= finding.interval.high


@pytest.mark.parametrize("groups", [8, 9, 30])
def test_many_groups_are_paired(groups: int) -> None:
    data, old = drawn(groups * 50, 4, groups=groups)
    found = by_measure(growth_findings("c", data, old, "group"))["demographic_parity_growth"]
    assert found.interval is not None
    assert found.value is not None
    assert "paired" in found.interval.method
    assert found.interval.low < found.value < found.interval.high


cells = st.lists(st.tuples(*[st.booleans()] * 3, st.sampled_from("abc")), min_size=6, max_size=60)


@settings(max_examples=15, deadline=None)
@given(cells, st.randoms())
def test_growth_is_the_difference_of_the_gaps_whatever_the_order(cells: Any, random: Any) -> None:
    label, new, old, group = (list(column) for column in zip(*cells, strict=True))
    found = by_measure(growth_findings("c", rows(label, new, group), flags(old), "group"))
    for measure, gap in (
        ("demographic_parity_growth", demographic_parity_difference),
        ("equalized_odds_growth", equalized_odds_difference),
    ):
        finding = found[measure]
        if finding.value is not None:
            now, then = (gap(label, one, sensitive_features=group) for one in (new, old))
            assert finding.value == pytest.approx(now - then, abs=1e-12)
            assert finding.interval is not None
            assert -1 <= finding.interval.low <= finding.value <= finding.interval.high <= 1
    mixed = list(cells)
    random.shuffle(mixed)
    label, new, old, group = (list(column) for column in zip(*mixed, strict=True))
    assert by_measure(growth_findings("c", rows(label, new, group), flags(old), "group")) == found


def test_the_sign_test_of_each_group() -> None:
    """McNemar: 9 changes one way and 1 the other are p = 0.0215; Holm doubles the smaller of two."""
    old = [0] * 9 + [1] + [0, 1] * 5
    new = [1] * 9 + [0] + [1, 0] * 5
    data = rows([1, 0] * 10, new, ["a"] * 10 + ["b"] * 10)
    tables = [one for f in growth_findings("c", data, flags(old), "group") for one in f.evidence]
    assert isinstance(tables[0], Table)
    a, b = tables[0].rows
    assert list(a) == ["a", 10, 9, 1, pytest.approx(0.021484375), pytest.approx(0.04296875), True]
    assert list(b) == ["b", 10, 5, 5, 1.0, 1.0, True]


def test_compas_with_a_stricter_threshold(shared: Path) -> None:
    """Labelled higher risk from a decile of 7, which was 5: fairlearn's gaps, and which way they moved."""
    folder = shared / "data" / "bias" / "compas"
    old, new = (
        predictions.load(
            "compas-scores-two-years.csv",
            label="two_year_recid",
            prediction=None,
            score="decile_score",
            threshold=threshold,
            sensitive=("sex",),
            folder=folder,
        )
        for threshold in (5, 7)
    )
    accepted = accepted_decisions(new, old)
    found = by_measure(growth_findings("c", new, accepted, "sex"))["equalized_odds_growth"]
    sex = new.groups["sex"].codes
    now, then = (
        equalized_odds_difference(new.label, one, sensitive_features=sex)
        for one in (new.prediction, accepted)
    )
    assert found.value == pytest.approx(now - then, abs=1e-12)
    assert found.interval is not None
    assert found.interval.high - found.interval.low < 0.15
    (table,) = [one for f in growth_findings("c", new, accepted, "sex") for one in f.evidence]
    assert isinstance(table, Table)
    assert {row[2] for row in table.rows} == {0}  # a stricter threshold adds nobody


@given(st.permutations(range(12)), st.booleans())
def test_ids_bring_the_accepted_rows_in_order(places: list[int], as_text: bool) -> None:
    accepted: Any = numpy.arange(100, 112)[places]
    if as_text:
        accepted = pyarrow.array([str(one) for one in accepted]).dictionary_encode()
    order = align(numpy.arange(100, 112), accepted)
    assert numpy.array(places)[order].tolist() == list(range(12))


@pytest.mark.parametrize(
    ("now", "accepted", "expected"),
    [
        (["a", "b", "b"], ["a", "b", "c"], "of this run has 1 ids in more than one row, such as 'b'"),
        (["a", "b"], ["a", "a"], "of the accepted run has 1 ids in more than one row, such as 'a'"),
        (["a", None], ["a", "b"], "of this run has 1 missing values, the first in data row 2"),
        (["a", "b"], [" ", None], "of the accepted run has 2 missing values, the first in data row 1"),
        (["a", "b", "c"], ["a"], "2 ids in column \"id\" of this run are not in the accepted run, the"),
        (["a", "b", "c"], ["a"], "the first is 'b'"),
        (["a"], ["a", "z"], "1 ids in column \"id\" of the accepted run are not in this run, the first"),
        (["01"], ["1"], "the first is '01'"),
    ],
)  # fmt: skip
def test_ids_that_do_not_match_are_one_clear_sentence(
    now: Any, accepted: Any, expected: str
) -> None:
    with pytest.raises(InputError) as caught:
        align(now, accepted)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_accepted_rows_by_id_and_by_order() -> None:
    now = rows(LABEL, NEW, GROUP)
    mixed = [7, 2, 4, 0, 6, 1, 3, 5]
    accepted = rows(*([values[i] for i in mixed] for values in (LABEL, OLD, GROUP)))
    order = align(range(8), mixed)
    assert accepted_decisions(now, accepted, order=order).tolist() == flags(OLD).tolist()
    assert accepted_decisions(now, rows(LABEL, OLD, GROUP)).tolist() == flags(OLD).tolist()


@pytest.mark.parametrize(
    ("label", "group", "expected"),
    [
        (LABEL[:7], GROUP[:7], "now.csv has 8 rows and now.csv, the accepted run, 7"),
        ([*LABEL[:6], 1, 0], GROUP, 'rows differ at data row 7: 1 rows have another "label"'),
        (LABEL, list("aabbbbbb"), 'rows differ at data row 3: 2 rows have another "group"'),
        (LABEL, list("aaaabbbc"), 'rows differ at data row 8: 1 rows have another "group"'),
    ],
)
def test_rows_that_differ_are_not_compared(label: Any, group: Any, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        accepted_decisions(rows(LABEL, NEW, GROUP), rows(label, OLD[: len(label)], group))
    assert expected in str(caught.value)


def test_an_accepted_run_without_the_groups_is_not_compared() -> None:
    from dataclasses import replace

    with pytest.raises(InputError, match='has no groups by "group"'):
        accepted_decisions(rows(LABEL, NEW, GROUP), replace(rows(LABEL, OLD, GROUP), groups={}))


def test_the_quantile_is_that_of_one_contrast_when_there_is_no_other() -> None:
    """The old gap is known: the new gap of two groups has the two-sided quantile of its difference."""
    still: Numbers = numpy.array([1e-12, 1e-12])
    known = Errors(
        old=numpy.array([0.5, 0.5]),
        new=numpy.array([0.6, 0.4]),
        var_old=still,
        var_new=numpy.array([0.0005, 0.0005]),
        cov=numpy.zeros(2),
    )
    found = growth_interval([known], 0.95)
    half = -ndtri(0.0125) * 0.001**0.5  # of either sign, with half of the error
    assert (found.low, found.high) == pytest.approx((0.2 - half, 0.2 + half), abs=0.004)
