"""Weights, bands, references and people without a sensitive value, against truths worked out by hand."""

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy
import pandas
import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assaymark.bias import check, groups, predictions
from assaymark.bias.audit import audit
from assaymark.bias.bands import banded
from assaymark.bias.bounds import gap_bounds
from assaymark.bias.codes import MISSING
from assaymark.bias.frames import rates_table, write_rates
from assaymark.bias.gaps import compared_with
from assaymark.bias.paired_findings import growth_findings
from assaymark.bias.references import compare
from assaymark.bias.rows import Predictions
from assaymark.bias.wanted import Wanted
from assaymark.reports.errors import InputError
from assaymark.reports.model import Finding, Gate, Limit

FRAME = pandas.DataFrame(
    {
        "y": [1, 1, 0, 0, 1, 1, 0, 0],
        "yhat": [1, 1, 1, 0, 1, 0, 0, 0],
        "w": [1.0, 2.0, 3.0, 4.0, 1.0, 1.0, 1.0, 1.0],
        "age": [17.0, 18.0, 29.0, 30.0, 64.0, 65.0, 80.0, numpy.nan],
        "group": list("aaaabbbb"),
    }
)


def load(table: pandas.DataFrame, **options: Any) -> Predictions:
    chosen = {"label": "y", "prediction": "yhat", "score": None, "sensitive": ("group",)} | options
    return predictions.load(table, **chosen)


def test_rates_count_weights_and_intervals_the_effective_rows() -> None:
    found = groups.by_group(load(FRAME, weight="w"), "group").groups[0]
    rate = found.rates["selection_rate"]
    assert rate.value == pytest.approx(6 / 10)
    assert rate.n == 4
    assert rate.cases == pytest.approx(10**2 / (1 + 4 + 9 + 16))
    assert found.rates["true_positive_rate"].value == 1
    assert found.rates["false_positive_rate"].value == pytest.approx(3 / 7)


cells = st.lists(
    st.tuples(st.booleans(), st.booleans(), st.sampled_from("ab"), st.integers(1, 4)),
    min_size=4,
    max_size=30,
)


@given(cells)
def test_a_whole_weight_is_as_many_rows(rows: Any) -> None:
    weighted = pandas.DataFrame(rows, columns=["y", "yhat", "group", "w"])
    if not weighted["y"].any():
        return
    repeated = weighted.loc[weighted.index.repeat(weighted["w"])]
    one = groups.by_group(load(weighted, weight="w", positive=True), "group")
    other = groups.by_group(load(repeated, positive=True), "group")
    for gap, value in other.gaps.items():
        assert one.gaps[gap] == (None if value is None else pytest.approx(value, abs=1e-12))


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([-1.0, *[1.0] * 7], "run from -1 to 1: expected numbers of at least 0"),
        ([0.0] * 8, "run from 0 to 0"),
        ([numpy.inf, *[1.0] * 7], "infinite"),
        ([numpy.nan, *[1.0] * 7], "1 missing values"),
        (["heavy"] * 8, "is not numbers"),
    ],
)
def test_wrong_weights(weights: list[Any], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        load(FRAME.assign(w=weights), weight="w")


def test_a_group_that_weighs_nothing_is_not_measured() -> None:
    data = load(FRAME.assign(w=[1.0] * 4 + [0.0] * 4), weight="w")
    found = groups.by_group(data, "group")
    assert found.groups[1].rates["selection_rate"].value is None
    assert set(found.gaps.values()) == {None}


def test_bands_have_their_lower_edge_and_missing_one_of_its_own() -> None:
    data = load(FRAME, sensitive=("age",), bands={"age": (18, 30, 65)})
    column = data.groups["age"]
    assert column.names == (MISSING, "<18", "18 to <30", "30 to <65", "≥65")
    assert [column.names[code] for code in column.codes] == [
        "<18", "18 to <30", "18 to <30", "30 to <65", "30 to <65", "≥65", "≥65", MISSING,
    ]  # fmt: skip


def test_quantile_bands_hold_about_as_many_rows_each() -> None:
    column = banded("x", numpy.random.default_rng(0).random(1000), 4)
    assert numpy.bincount(column.codes).tolist() == pytest.approx([250] * 4, abs=2)
    assert banded("x", numpy.ones(5), 4).names == ("1",)
    # most share the lowest value: the others are a band all the same
    assert banded("gain", numpy.array([0.0] * 8 + [5, 9]), 4).names == ("0", "5–9")
    with pytest.raises(InputError, match="expected numbers in rising order"):
        banded("x", numpy.ones(5), (3, 2))


def test_text_in_a_column_with_bands_is_said() -> None:
    with pytest.raises(InputError, match='column "group" of the table is not numbers'):
        load(FRAME, bands={"group": (1, 2)})


@pytest.mark.parametrize("kind", ["pandas", "arrow", "feather", "parquet", "dictionary"])
def test_tables_in_memory_and_in_files(kind: str, tmp_path: Path) -> None:
    expected = groups.by_group(load(FRAME), "group")
    source: Any = FRAME
    table = pyarrow.Table.from_pandas(FRAME, preserve_index=False)
    if kind == "arrow":
        source = table
    elif kind == "dictionary":
        source = table.set_column(4, "group", table.column("group").dictionary_encode())
    elif kind == "feather":
        pyarrow.feather.write_feather(table, tmp_path / "t.feather")
        source = "t.feather"
    elif kind == "parquet":
        pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
        source = "t.parquet"
    found = load(source, folder=tmp_path)
    assert groups.by_group(found, "group") == expected


def test_what_is_no_table_is_said() -> None:
    with pytest.raises(InputError, match="a list is not a table that is read here"):
        load([1, 2])  # type: ignore[arg-type]


def finding(data: Predictions, measure: str, **options: Any) -> Finding:
    result = check.check_bias_table("c", data, **options)
    return next(one for one in result.findings if one.measure == measure)


def test_disparate_impact_is_beside_the_best_group_or_a_named_one() -> None:
    best = finding(load(FRAME), "disparate_impact_ratio")
    assert best.value == pytest.approx(0.25 / 0.75)
    assert (
        "over that of a, the most selected: 0.333, below four fifths, which chance" in best.summary
    )
    named = finding(load(FRAME), "disparate_impact_ratio", references={"group": "b"})
    assert named.value == pytest.approx(3)
    with pytest.raises(InputError, match='the reference "c" is no group of group'):
        check.check_bias_table("c", load(FRAME), references={"group": "c"})


def test_nobody_selected_in_the_reference_is_not_measured() -> None:
    table = FRAME.assign(yhat=[1, 1, 1, 0, 0, 0, 0, 0])
    found = finding(load(table), "disparate_impact_ratio", references={"group": "b"})
    assert found.value is None
    assert "nobody of b is selected" in found.summary


def test_of_error_rates_the_lowest_is_the_best() -> None:
    compared = compare(groups.by_group(load(FRAME), "group"), "false_positive_rate")
    assert not isinstance(compared, str)
    assert compared.reference == "b"
    assert compared.others[0].difference == 0.5


@pytest.mark.parametrize("chosen", [False, True])
def test_comparisons_with_a_reference_hold_all_at_once(chosen: bool) -> None:
    """All true differences and ratios inside, in at least 93.5 % of 1,000 samples."""
    sizes, truth = numpy.array([60, 100, 80, 150]), numpy.array([0.4, 0.3, 0.5, 0.45])
    draws = numpy.random.default_rng(3).binomial(sizes, truth, size=(1000, 4))
    inside = 0
    for hits in draws:
        found = compared_with(1, hits.tolist(), sizes.tolist(), 0.95, chosen=chosen)
        pairs = [(ends, truth[place]) for place, ends in enumerate(found) if ends is not None]
        assert len(pairs) == 3
        inside += all(
            ends[0].low <= rate - 0.3 <= ends[0].high and ends[1].low <= rate / 0.3 <= ends[1].high
            for ends, rate in pairs
        )
    assert inside >= 935


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.booleans(), st.booleans(), st.sampled_from(["a", "b", None])),
        min_size=4,
        max_size=11,
    )
)
def test_bounds_hold_every_assignment_of_missing_people(rows: Any) -> None:
    """Brute force over all assignments: the unkind end is reached, the kind one is not passed."""
    table = pandas.DataFrame(rows, columns=["y", "yhat", "group"])
    if not table["y"].any() or set(table["group"].dropna()) != {"a", "b"}:
        return
    grouped = groups.by_group(load(table, positive=True), "group", missing_apart=True)
    unknown = table.index[table["group"].isna()]
    if not len(unknown) or len(unknown) > 6:
        return
    decided, group = table["yhat"].to_numpy(), table["group"].to_numpy(dtype=object)
    shares = []
    for names in product("ab", repeat=len(unknown)):
        group[unknown] = names
        shares.append(sorted(decided[group == name].mean() for name in "ab"))
    for gap in ("demographic_parity_difference", "demographic_parity_ratio"):
        bounds = gap_bounds(grouped, gap)
        assert bounds is not None
        if gap.endswith("ratio"):
            reached = [low / high for low, high in shares if high > 0]
        else:
            reached = [high - low for low, high in shares]
        if not reached:
            continue
        assert bounds[0] <= min(reached) + 1e-12
        assert bounds[1] >= max(reached) - 1e-12
        unkind = bounds[0] if gap.endswith("ratio") else bounds[1]
        worst = min(reached) if gap.endswith("ratio") else max(reached)
        assert unkind == pytest.approx(worst)


def missing_people(n: int) -> Predictions:
    """Two groups of 100 with selection rates 0.5 and 0.5, and n people of unknown group."""
    half = [1, 0] * 50
    table = pandas.DataFrame(
        {
            "y": [1, 0] * 100 + [1] * n,
            "yhat": half + half + [1] * n,
            "group": ["a"] * 100 + ["b"] * 100 + [None] * n,
        }
    )
    return load(table)


@pytest.mark.parametrize(
    ("n", "verdict"), [(0, "pass"), (2, "pass"), (80, "inconclusive")], ids=["0", "2", "80"]
)
def test_a_limit_must_hold_wherever_the_missing_belong(n: int, verdict: str) -> None:
    gate = Gate(metric="demographic_parity_difference", limit=Limit(maximum=0.1))
    found = finding(
        missing_people(n), "demographic_parity_difference", gates=(gate,), missing_apart=True
    )
    assert found.value == 0
    assert found.verdict == verdict
    if n == 80:
        assert found.unreliable is not None
        assert "could bring it to 0.222" in found.unreliable  # 50 + 80 of 180, and 50 of 100


@pytest.mark.parametrize("reference", [None, "a"])
@pytest.mark.parametrize(("n", "verdict"), [(2, "pass"), (80, "inconclusive")])
def test_so_must_one_on_disparate_impact(n: int, verdict: str, reference: str | None) -> None:
    gate = Gate(metric="disparate_impact_ratio", limit=Limit(minimum=0.8))
    options: dict[str, Any] = {"references": {"group": reference}} if reference else {}
    found = finding(
        missing_people(n),
        "disparate_impact_ratio",
        gates=(gate,),
        missing_apart=True,
        **options,
    )
    assert (found.value, found.verdict) == (1, verdict)


@pytest.mark.parametrize(("n", "verdict"), [(0, "pass"), (2, "pass"), (80, "inconclusive")])
def test_so_must_one_on_growth(n: int, verdict: str) -> None:
    data = missing_people(n)
    gate = Gate(metric="demographic_parity_growth", limit=Limit(maximum=0.1))
    result = audit("c", data, Wanted(accepted=data.prediction, missing_apart=True), gates=(gate,))
    (found,) = [one for one in result.findings if one.measure == gate.metric]
    assert (found.value, found.verdict) == (0, verdict)
    assert any("without a value" in item for item in result.method.not_tested) == (n > 0)


def test_as_a_group_the_missing_are_compared() -> None:
    found = finding(missing_people(80), "demographic_parity_difference")
    assert found.value == 0.5
    assert "the group of 80 rows" in found.summary


def test_rates_as_an_arrow_table(tmp_path: Path) -> None:
    grouped = groups.by_group(load(FRAME.assign(group=["=1+2"] * 4 + list("bbbb"))), "group")
    table = rates_table([grouped])
    frame = table.to_pandas()
    assert frame["group"].tolist() == ["=1+2", "b"]
    assert frame["selection_rate"].tolist() == [0.75, 0.25]
    assert (frame["selection_rate_low"] < frame["selection_rate"]).all()
    for suffix in ("parquet", "arrow", "csv"):
        write_rates(table, tmp_path / f"rates.{suffix}")
    assert pandas.read_parquet(tmp_path / "rates.parquet")["n"].tolist() == [4, 4]
    assert (tmp_path / "rates.csv").read_text().splitlines()[1].startswith('"group","\'=1+2",4')
    with pytest.raises(InputError, match=r"expected \.parquet, \.arrow or \.csv"):
        write_rates(table, tmp_path / "rates.xlsx")


@pytest.mark.parametrize(
    ("metric", "limit", "selected", "references", "says"),
    [
        # 50 of 180, or 130 of 180, were they all of one group
        ("selection_rate", Limit(minimum=0.4), False, {}, "0.278"),
        ("selection_rate", Limit(maximum=0.6), True, {}, "0.722"),
        # 50 of 100 beside 130 of 180
        ("disparate_impact_ratio", Limit(minimum=0.8), True, {}, "0.692"),
        ("disparate_impact_ratio", Limit(minimum=0.8), True, {"group": "b"}, "0.692"),
    ],
)
def test_every_limit_must_hold_wherever_the_missing_belong(
    metric: str, limit: Limit, selected: bool, references: dict[str, str], says: str
) -> None:
    options: dict[str, Any] = {"gates": (Gate(metric=metric, limit=limit),), "missing_apart": True}
    data = missing_people(80)
    data = replace(data, prediction=data.prediction & (selected | (numpy.arange(data.n) < 200)))
    found = finding(data, metric, references=references, **options)
    assert found.verdict == "inconclusive"
    assert found.unreliable == f"people without a value of group could bring it to {says}"
    assert finding(missing_people(0), metric, references=references, **options).verdict == "pass"


@pytest.mark.parametrize(("apart", "verdict"), [(True, "inconclusive"), (False, "pass")])
def test_growth_without_the_missing_keeps_no_limit_for_certain(apart: bool, verdict: str) -> None:
    data = missing_people(80)
    """Now the gap could be 0.222, and in the accepted run 0."""
    gate = Gate(metric="demographic_parity_growth", limit=Limit(maximum=0.2, on="upper"))
    found = growth_findings("c", data, data.prediction, "group", gates=(gate,), missing_apart=apart)
    assert [one.verdict for one in found if one.limit] == [verdict]


@pytest.mark.parametrize("blank", ["", "  "])
def test_a_blank_group_is_a_missing_one(blank: str) -> None:
    groups_of: list[Any] = [*"aaa", blank, *"bbb", None]
    table = FRAME.assign(group=groups_of)
    assert load(table).groups["group"].names == (MISSING, "a", "b")


@pytest.mark.parametrize("weight", [1e-200, 1e200])
def test_weights_whose_squares_overflow_are_refused(weight: float) -> None:
    with pytest.raises(InputError, match="run from"):
        load(FRAME.assign(w=[weight] + [1.0] * 7), weight="w")
