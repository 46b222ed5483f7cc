"""The tables of Local Law 144 against the worked examples of its rule (6 RCNY 5-301)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assaymark.bias.codes import column_of
from assaymark.bias.impact_findings import impact_method, impact_ratio_findings
from assaymark.bias.impact_ratios import (
    ImpactTable,
    above_median,
    impact_tables,
)
from assaymark.bias.rows import Predictions
from assaymark.reports.errors import InputError
from assaymark.reports.model import Estimates, Gate, Limit, Table, Verdict

RACES = (
    "Hispanic or Latino",
    "White",
    "Black or African American",
    "Native Hawaiian or Pacific Islander",
    "Asian",
    "Native American or Alaska Native",
    "Two or More Races",
)
# applicants, selected, impact ratio, of the example under 5-301(b)
SELECTED = {
    "Male": (
        (205, 90, 0.841),
        (412, 215, 1.000),
        (226, 95, 0.806),
        (87, 37, 0.815),
        (321, 167, 0.997),
        (24, 11, 0.878),
        (115, 52, 0.866),
    ),
    "Female": (
        (190, 82, 0.827),
        (385, 197, 0.981),
        (164, 75, 0.876),
        (32, 15, 0.898),
        (295, 135, 0.877),
        (17, 7, 0.789),
        (98, 44, 0.860),
    ),
}
# the same of the example under 5-301(d); scored above the median are 54.3 % of 92 men and so on
SCORED = {
    "Male": (
        (16, 12, 1.00),
        (20, 7, 0.47),
        (20, 10, 0.67),
        (4, 3, 1.00),
        (12, 7, 0.78),
        (8, 5, 0.83),
        (12, 6, 0.67),
    ),
    "Female": (
        (12, 6, 0.67),
        (20, 8, 0.53),
        (12, 6, 0.67),
        (4, 2, 0.67),
        (12, 3, 0.33),
        (8, 5, 0.83),
        (8, 4, 0.67),
    ),
}


def people(rows: Sequence[tuple[str | None, str | None, int, int]]) -> Predictions:
    """Of each sex and race so many, the first of them selected."""
    n = [count for _, _, count, _ in rows]
    chosen = numpy.concatenate([numpy.arange(count) < hits for _, _, count, hits in rows])
    sex = pyarrow.array(numpy.repeat(numpy.array([row[0] for row in rows], dtype=object), n))
    race = pyarrow.array(numpy.repeat(numpy.array([row[1] for row in rows], dtype=object), n))
    return Predictions(
        name="applicants",
        note="decisions of the tool",
        groups={
            "sex": column_of("sex", sex, most=50),
            "race": column_of("race", race, most=50),
        },
        label=chosen,
        prediction=chosen,
        score=chosen.astype(numpy.float64),
    )


def example(cells: Mapping[str, tuple[tuple[int, int, float], ...]], unknown: int) -> Predictions:
    rows: list[tuple[str | None, str | None, int, int]] = [
        (sex, race, n, hits)
        for sex, races in cells.items()
        for race, (n, hits, _) in zip(RACES, races, strict=True)
    ]
    return people([*rows, ("Unknown", "White", unknown, unknown // 2)])


def ratios(table: ImpactTable) -> dict[str, float | None]:
    return {category.name: category.ratio for category in table.categories}


def test_the_example_of_selection_rates() -> None:
    data = example(SELECTED, unknown=250)
    sex, _, both = impact_tables(data, sex="sex", race="race", unknown=("Unknown",))
    assert ratios(sex) == {"Male": 1.0, "Female": pytest.approx(0.979, abs=5e-4)}
    assert [(one.applicants, one.selected) for one in sex.categories] == [(1181, 555), (1390, 667)]
    assert sex.unknown == both.unknown == 250
    assert ratios(both) == {
        f"{gender} × {race}": pytest.approx(ratio, abs=5.1e-4)
        for gender, races in SELECTED.items()
        for race, (_, _, ratio) in zip(RACES, races, strict=True)
    }


def test_the_example_of_races() -> None:
    """The rule's race table has 13 more people than its others, all Hispanic or Latino."""
    counts = ((408, 204), (797, 412), (390, 170), (119, 52), (616, 302), (41, 18), (213, 96))
    data = people([("Male", race, *count) for race, count in zip(RACES, counts, strict=True)])
    _, race, _ = impact_tables(data, sex="sex", race="race")
    expected = (0.97, 1.00, 0.84, 0.85, 0.95, 0.85, 0.87)
    assert ratios(race) == {
        name: pytest.approx(ratio, abs=5.1e-3) for name, ratio in zip(RACES, expected, strict=True)
    }


def test_the_example_of_scoring_rates() -> None:
    data = replace(example(SCORED, unknown=0), prediction=numpy.zeros(168, dtype=bool))
    sex, race, both = impact_tables(data, sex="sex", race="race", scoring=True)
    assert ratios(sex) == {"Male": 1.0, "Female": pytest.approx(0.82, abs=5e-3)}
    assert ratios(race) == {
        name: pytest.approx(ratio, abs=5.1e-3)
        for name, ratio in zip(RACES, (1.00, 0.58, 0.78, 0.97, 0.65, 0.97, 0.78), strict=True)
    }
    assert ratios(both) == {
        f"{gender} × {race}": pytest.approx(ratio, abs=5.1e-3)
        for gender, races in SCORED.items()
        for race, (_, _, ratio) in zip(RACES, races, strict=True)
    }


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=40), st.data())
def test_the_median_is_that_of_numpy_and_a_weight_is_so_many_people(
    score: list[int], data: st.DataObject
) -> None:
    times = data.draw(st.lists(st.integers(0, 3), min_size=len(score), max_size=len(score)))
    numbers = numpy.array(score, dtype=float)
    assert (above_median(numbers) == (numbers > numpy.median(numbers))).all()
    if any(times):
        weighted = above_median(numbers, numpy.array(times, dtype=float))
        assert (weighted == (numbers > numpy.median(numpy.repeat(numbers, times)))).all()


def test_equal_weights_of_any_size_leave_the_median_where_it_is() -> None:
    for n in range(1, 60):
        numbers = numpy.arange(n, dtype=float)
        assert above_median(numbers, numpy.full(n, 0.1)).sum() == n // 2


def test_the_median_is_of_the_full_sample() -> None:
    """Eight of unknown sex, who all score high, leave nobody else above the median."""
    data = people([("a", "x", 4, 2), ("b", "y", 4, 2), (None, "y", 8, 8)])
    sex, _, _ = impact_tables(data, sex="sex", race="race", scoring=True)
    assert sex.unknown == 8
    assert [category.rate for category in sex.categories] == [0.0, 0.0]
    assert sex.smallest is None
    assert "nobody" in sex.why


def test_each_table_leaves_out_whom_it_does_not_know() -> None:
    data = people(
        [
            ("a", "x", 50, 25),
            ("b", "y", 50, 20),
            (None, "x", 7, 7),
            ("a", None, 5, 0),
            (None, None, 2, 2),
        ]
    )
    sex, race, both = impact_tables(data, sex="sex", race="race")
    assert (sex.unknown, race.unknown, both.unknown) == (9, 7, 14)
    assert [category.applicants for category in sex.categories] == [55, 50]
    assert [category.applicants for category in race.categories] == [57, 50]
    assert [category.applicants for category in both.categories] == [50, 50]


def test_a_small_category_is_shown_and_only_left_out_when_asked() -> None:
    data = people([("a", "x", 100, 50), ("b", "x", 100, 45), ("c", "x", 2, 2)])
    sex, _, _ = impact_tables(data, sex="sex", race="race")
    assert ratios(sex) == {"a": 0.5, "b": 0.45, "c": 1.0}
    sex, _, _ = impact_tables(data, sex="sex", race="race", exclude_below=0.02)
    assert ratios(sex) == {"a": 1.0, "b": pytest.approx(0.9), "c": None}
    small = sex.categories[2]
    assert (small.excluded, small.applicants, small.rate) == (True, 2, 1.0)
    found = impact_ratio_findings("c", data, sex="sex", race="race", exclude_below=0.02)
    table, chart = found[0].evidence
    assert isinstance(table, Table)
    assert table.rows[2] == ("c", 2, 2, 1.0, "excluded", "", "")
    assert table.rows[1][-1] == "at least four fifths, which chance could explain"
    assert isinstance(chart, Estimates)
    assert [(one.label, one.value) for one in chart.estimates] == [
        ("a", 0.5),
        ("b", 0.45),
        ("c", 1),
    ]
    assert found[0].n == 200


@pytest.mark.parametrize(
    ("hits", "verdict", "judged"),
    [
        (300, "below four fifths", Verdict.FAIL),
        (490, "at least four fifths", Verdict.PASS),
        (410, "at least four fifths, which chance could explain", Verdict.INCONCLUSIVE),
        (390, "below four fifths, which chance could explain", Verdict.INCONCLUSIVE),
    ],
)
def test_a_gate_on_the_bound_and_the_words_agree(hits: int, verdict: str, judged: Verdict) -> None:
    data = people([("a", "x", 1000, 500), ("b", "x", 1000, hits)])
    gate = Gate(metric="impact_ratio", limit=Limit(minimum=0.8, on="lower"), attribute="sex")
    sex, race, both = impact_ratio_findings("c", data, sex="sex", race="race", gates=(gate,))
    assert sex.summary.endswith(f"; {verdict}.")
    assert sex.judged is judged
    assert (sex.target, race.target, both.target) == ("sex", "race", "sex × race")
    assert race.value is None  # one race only
    assert race.limit is both.limit is None


def test_nothing_to_compare_is_not_a_pass() -> None:
    gate = Gate(metric="impact_ratio", limit=Limit(minimum=0.8))
    nobody = people([(None, "x", 5, 5), (None, "y", 5, 0)])
    found = impact_ratio_findings("c", nobody, sex="sex", race="race", gates=(gate,))
    assert [one.judged for one in found] == [
        Verdict.NOT_MEASURED,
        Verdict.FAIL,
        Verdict.NOT_MEASURED,
    ]
    assert found[0].blocks
    assert "0 category to compare" in found[0].summary


def test_what_cannot_be_audited_says_why() -> None:
    data = people([("a", "x", 5, 2), ("b", "y", 5, 2)])
    with pytest.raises(InputError, match='"gender" is no sensitive column'):
        impact_tables(data, sex="gender", race="race")
    with pytest.raises(InputError, match="two different columns"):
        impact_tables(data, sex="sex", race="sex")
    with pytest.raises(InputError, match="the rule allows at most"):
        impact_tables(data, sex="sex", race="race", exclude_below=0.05)
    with pytest.raises(InputError, match="scoring rates need scores"):
        impact_tables(replace(data, score=None), sex="sex", race="race", scoring=True)


@pytest.mark.parametrize("scoring", [False, True])
def test_the_method_says_which_rate_and_what_is_left_open(scoring: bool) -> None:
    method = impact_method("c", people([("a", "x", 5, 2)]), scoring=scoring)
    assert ("above the median" in method.steps[1]) is scoring
    assert any("5-303" in open_ for open_ in method.not_tested)


def test_incomes_of_the_adult_census(shared: Path) -> None:
    """adult.data: 30.57 % of 21,790 men and 10.95 % of 10,771 women earn more than 50,000 dollars."""
    lines = (shared / "data" / "bias" / "adult" / "adult.data").read_text().splitlines()
    cells = [line.split(", ") for line in lines if line]
    earns = numpy.array([cell[14] == ">50K" for cell in cells])
    data = Predictions(
        name="adult",
        note="what people earn",
        groups={
            name: column_of(name, pyarrow.array([cell[place] for cell in cells]), most=50)
            for name, place in (("sex", 9), ("race", 8))
        },
        label=earns,
        prediction=earns,
        score=None,
    )
    found = impact_ratio_findings("c", data, sex="sex", race="race", exclude_below=0.02)
    assert found[0].value == pytest.approx((1179 / 10771) / (6662 / 21790))
    assert found[0].summary.endswith("; below four fifths.")
    _, race, both = impact_tables(data, sex="sex", race="race", exclude_below=0.02)
    assert {one.name for one in race.categories if one.excluded} == {"Amer-Indian-Eskimo", "Other"}
    assert len(both.categories) == 10
    table = found[1].evidence[0]
    assert isinstance(table, Table)
    assert ("Other", 271, 25, 25 / 271, "excluded", "", "") in table.rows
