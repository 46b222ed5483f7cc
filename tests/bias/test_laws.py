"""What must hold of every table: laws of the rates, the gaps and their intervals."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy
import pyarrow
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from assaymark.bias import check, predictions
from assaymark.bias.counts import RATES
from assaymark.bias.gap_findings import DISPARATE_IMPACT
from assaymark.bias.groups import GAPS, Grouped, by_group
from assaymark.bias.references import compare
from assaymark.bias.rows import Predictions


class Row(NamedTuple):
    label: int
    prediction: int
    group: str
    band: str
    weight: float = 1.0


Rows = Sequence[Row]
bits = st.integers(0, 1)
one_row = st.builds(Row, bits, bits, st.sampled_from("abc"), st.sampled_from("xy"), st.just(1.0))
rows_of = st.lists(one_row, min_size=4, max_size=60).filter(lambda rows: any(r.label for r in rows))
weighed = st.builds(
    Row, bits, bits, st.sampled_from("abc"), st.sampled_from("xy"), st.integers(0, 5).map(float)
)
weighed_rows = st.lists(weighed, min_size=4, max_size=60).filter(
    lambda rows: any(r.label for r in rows) and any(r.weight for r in rows)
)
DIFFERENCES = [gap for gap in GAPS if gap.endswith("difference")]


def load(rows: Rows, *, weighted: bool = False, both: bool = False) -> Predictions:
    columns = {name: [getattr(row, name) for row in rows] for name in Row._fields}
    return predictions.load(
        pyarrow.table(columns),
        label="label",
        prediction="prediction",
        score=None,
        sensitive=("group", "band") if both else ("group",),
        weight="weight" if weighted else None,
        intersections=both,
    )


def measured(rows: Rows, *, weighted: bool = False) -> Grouped:
    return by_group(load(rows, weighted=weighted), "group")


def rates(found: Grouped) -> dict[str, dict[str, float | None]]:
    return {group.name: {rate: group.rates[rate].value for rate in RATES} for group in found.groups}


def close(found: Any, expected: Any) -> bool:
    return bool(found == pytest.approx(expected, abs=1e-12))


def same(first: Grouped, second: Grouped) -> bool:
    """Equal rates of groups of equal names, and equal gaps."""
    one, other = rates(first), rates(second)
    return (
        one.keys() == other.keys()
        and all(close(one[name], other[name]) for name in one)
        and close(first.gaps, second.gaps)
    )


def wider(gap: str, first: Grouped, second: Grouped) -> bool:
    """Whether the second gap is at least as large as the first, so far as both are defined."""
    narrow, wide = first.gaps[gap], second.gaps[gap]
    if narrow is None or wide is None:
        return True
    return wide <= narrow + 1e-12 if gap.endswith("ratio") else wide >= narrow - 1e-12


@settings(max_examples=40)
@given(weighed_rows, st.randoms())
def test_the_order_of_rows_says_nothing(rows: Rows, random: Any) -> None:
    mixed = random.sample(rows, len(rows))
    assert same(measured(rows, weighted=True), measured(mixed, weighted=True))
    plain, other = (check.check_bias_table("c", load(each)) for each in (rows, mixed))
    assert plain.findings == other.findings


@given(weighed_rows, st.permutations("abc"))
def test_the_names_of_groups_say_nothing(rows: Rows, names: Sequence[str]) -> None:
    called = dict(zip("abc", names, strict=True))
    renamed = [row._replace(group=called[row.group]) for row in rows]
    before, after = measured(rows, weighted=True), measured(renamed, weighted=True)
    assert {called[name]: found for name, found in rates(before).items()} == rates(after)
    assert close(before.gaps, after.gaps)


@settings(max_examples=40)
@given(rows_of, st.integers(2, 5))
def test_every_row_again_changes_no_rate_and_narrows_intervals(rows: Rows, times: int) -> None:
    assert same(measured(rows), measured([*rows] * times))
    few, many = (
        {
            (one.target, one.measure): one.interval
            for one in check.check_bias_table("c", load(each)).findings
        }
        for each in (rows, [*rows] * times)
    )
    for key, wide in few.items():
        narrow = many[key]
        if wide is not None and narrow is not None and key[1] in DIFFERENCES:
            assert narrow.high - narrow.low <= wide.high - wide.low + 1e-12


@given(rows_of)
def test_a_group_cut_into_two_that_are_alike_changes_no_gap(rows: Rows) -> None:
    """Every row twice, one copy of group a in a group of its own: its rates are those of a."""
    copies = [*rows, *(row._replace(group="d" if row.group == "a" else row.group) for row in rows)]
    before, after = measured(rows), measured(copies)
    assume(len(before.groups) > 1)
    found = rates(after)
    if "a" in found:
        assert found["d"] == found["a"]
    assert close(before.gaps, after.gaps)


@given(rows_of)
def test_groups_that_are_put_together_have_no_wider_gap(rows: Rows) -> None:
    """A rate of the union lies between those of its parts, weighted by their cases."""
    merged = measured([row._replace(group="a" if row.group == "b" else row.group) for row in rows])
    apart = measured(rows)
    for gap in GAPS:
        assert wider(gap, merged, apart)
    found, union = rates(apart), rates(merged)
    for rate in RATES if {"a", "b"} <= found.keys() else ():
        parts = [value for name in "ab" if (value := found[name][rate]) is not None]
        whole = union["a"][rate]
        assert (whole is None) == (not parts)
        if whole is not None:
            assert min(parts) - 1e-12 <= whole <= max(parts) + 1e-12


@settings(max_examples=40)
@given(rows_of, st.lists(one_row, min_size=1, max_size=20))
def test_one_more_group_only_widens_gaps(rows: Rows, more: Rows) -> None:
    assume(len({row.group for row in rows}) > 1)
    with_more = [*rows, *(row._replace(group="d") for row in more)]
    for gap in GAPS:
        assert wider(gap, measured(rows), measured(with_more))


@given(weighed_rows, st.floats(1e-6, 1e6))
def test_the_unit_of_weights_says_nothing(rows: Rows, unit: float) -> None:
    scaled = [row._replace(weight=row.weight * unit) for row in rows]
    before, after = (measured(each, weighted=True) for each in (rows, scaled))
    assert same(before, after)
    for one, other in zip(before.groups, after.groups, strict=True):
        for rate in RATES:
            assert one.rates[rate].cases == pytest.approx(other.rates[rate].cases, rel=1e-9)


@given(weighed_rows)
def test_whole_weights_are_rows_that_are_repeated(rows: Rows) -> None:
    repeated = [row for row in rows for _ in range(int(row.weight))]
    assume(any(row.label for row in repeated))
    found, expected = rates(measured(rows, weighted=True)), rates(measured(repeated))
    for name, values in expected.items():
        assert close(found[name], values)
    for name in found.keys() - expected.keys():  # groups in which nobody weighs anything
        assert set(found[name].values()) == {None}


OPPOSITE = {
    "true_positive_rate": "true_negative_rate",
    "false_positive_rate": "false_negative_rate",
    "positive_predictive_value": "negative_predictive_value",
    "false_discovery_rate": "false_omission_rate",
    "accuracy": "accuracy",
}
"""What a rate becomes when positive and negative change places."""
EXCHANGED = {
    "true_positive_rate": "positive_predictive_value",
    "false_positive_rate": "false_omission_rate",
    "false_negative_rate": "false_discovery_rate",
    "true_negative_rate": "negative_predictive_value",
    "selection_rate": "base_rate",
    "accuracy": "accuracy",
}
"""What a rate becomes when labels and decisions change places."""
REST = {
    "true_positive_rate": "false_negative_rate",
    "true_negative_rate": "false_positive_rate",
    "positive_predictive_value": "false_discovery_rate",
    "negative_predictive_value": "false_omission_rate",
}
"""Two rates that make up the whole."""


@given(rows_of)
def test_positive_and_negative_change_places(rows: Rows) -> None:
    turned = [row._replace(label=1 - row.label, prediction=1 - row.prediction) for row in rows]
    assume(any(row.label for row in turned))
    before, after = rates(measured(rows)), rates(measured(turned))
    for name, found in before.items():
        for one, other in OPPOSITE.items():
            assert (found[one], found[other]) == (after[name][other], after[name][one])
        for rate in ("selection_rate", "base_rate"):
            assert close((found[rate] or 0) + (after[name][rate] or 0), 1)


@given(rows_of)
def test_labels_and_decisions_change_places(rows: Rows) -> None:
    turned = [row._replace(label=row.prediction, prediction=row.label) for row in rows]
    assume(len({row.label for row in rows}) == len({row.label for row in turned}) == 2)
    before, after = rates(measured(rows)), rates(measured(turned))
    for name, found in before.items():
        for one, other in EXCHANGED.items():
            assert (found[one], found[other]) == (after[name][other], after[name][one])


@given(weighed_rows)
def test_rates_lie_between_nothing_and_all_and_make_up_the_whole(rows: Rows) -> None:
    found = measured(rows, weighted=True)
    for values in rates(found).values():
        assert all(value is None or 0 <= value <= 1 for value in values.values())
        for one, other in REST.items():
            assert (values[one] is None) == (values[other] is None)
            assert values[one] is None or close((values[one] or 0) + (values[other] or 0), 1)
    assert all(value is None or 0 <= value <= 1 for value in found.gaps.values())
    assert found.why.keys() == {gap for gap, value in found.gaps.items() if value is None}


@given(rows_of)
def test_a_difference_and_a_ratio_tell_one_story(rows: Rows) -> None:
    """Of one rate the difference is the largest rate times 1 - ratio, so 0 exactly where that is 1."""
    found = measured(rows)
    for gap in DIFFERENCES:
        ratio, (rate, *more) = found.gaps[gap.replace("difference", "ratio")], GAPS[gap]
        if ratio is None or more:
            continue
        high = max(group.rates[rate].value or 0 for group in found.groups)
        assert close(found.gaps[gap], high * (1 - ratio))


@given(rows_of, st.sampled_from(sorted(RATES)))
def test_two_groups_beside_each_other_from_either_side(rows: Rows, rate: str) -> None:
    found = measured([row._replace(group="a" if row.group == "c" else row.group) for row in rows])
    if len(found.groups) < 2:
        return
    there, back = (compare(found, rate, name) for name in ("a", "b"))
    if isinstance(there, str) or isinstance(back, str):
        return
    (one,), (other,) = there.others, back.others
    assert one.difference == -other.difference
    ends = (one.difference_interval.low, one.difference_interval.high)
    assert close(ends, (-other.difference_interval.high, -other.difference_interval.low))
    if one.ratio and other.ratio:
        assert close(one.ratio * other.ratio, 1)
        assert math.isclose(one.ratio_interval.low * other.ratio_interval.high, 1, rel_tol=1e-9)


@settings(max_examples=50)
@given(weighed_rows, st.booleans())
def test_an_interval_holds_its_value(rows: Rows, weighted: bool) -> None:
    for one in check.check_bias_table("c", load(rows, weighted=weighted)).findings:
        assert (one.value is None) <= (one.interval is None)
        if one.value is not None and one.interval is not None:
            assert one.interval.low - 1e-12 <= one.value <= one.interval.high + 1e-12, one.measure
            limit = math.inf if one.measure == DISPARATE_IMPACT else 1
            assert 0 <= one.interval.low <= one.interval.high <= limit


@given(rows_of)
def test_intersections_add_up_to_their_groups(rows: Rows) -> None:
    data = load(rows, both=True)
    crossed = by_group(data, "group × band")
    for attribute, place in (("group", 0), ("band", 1)):
        for group in by_group(data, attribute).groups:
            parts = [p for p in crossed.groups if p.name.split(" × ")[place] == group.name]
            assert sum(part.n for part in parts) == group.n
            for rate in RATES:
                assert sum(part.rates[rate].hits for part in parts) == group.rates[rate].hits
                assert sum(part.rates[rate].cases for part in parts) == group.rates[rate].cases


@settings(max_examples=40)
@given(weighed_rows, st.integers(1, 7), st.sampled_from(["int8", "int64", "string", "bool"]))
def test_how_a_table_is_stored_says_nothing(rows: Rows, size: int, kind: str) -> None:
    """Parts of any size, names as dictionaries, labels as any type, a data frame."""
    table = pyarrow.table({name: [getattr(row, name) for row in rows] for name in Row._fields})
    for name in ("label", "prediction"):
        cast = table[name].cast(pyarrow.bool_() if kind == "bool" else kind)
        table = table.set_column(table.column_names.index(name), name, cast)
    place = table.column_names.index("group")
    encoded = table.set_column(place, "group", table["group"].dictionary_encode())
    cut = [table.slice(start, size) for start in range(0, len(rows), size)]
    for form in (table, encoded, pyarrow.concat_tables(cut), encoded.to_pandas()):
        found = predictions.load(
            form,
            label="label",
            prediction="prediction",
            score=None,
            sensitive=("group",),
            weight="weight",
        )
        assert by_group(found, "group") == measured(rows, weighted=True)


def test_many_rows_in_blocks_are_counted_as_few_are() -> None:
    """More rows than a block holds, not a multiple of it; with weights, scores and intersections."""
    rng = numpy.random.default_rng(0)
    n = 200_003
    label, prediction = (rng.integers(0, 2, n).astype(bool) for _ in range(2))
    group, band = rng.integers(0, 3, n), rng.integers(0, 2, n)
    weight, score = rng.random(n), rng.random(n)
    table = pyarrow.table(
        {
            "y": label,
            "p": prediction,
            "g": group.astype(str),
            "h": band.astype(str),
            "w": weight,
            "s": score,
        }
    )
    data = predictions.load(
        table,
        label="y",
        prediction="p",
        score="s",
        sensitive=("g", "h"),
        weight="w",
        intersections=True,
    )
    for one in by_group(data, "g × h").groups:
        inside = (group == int(one.name[0])) & (band == int(one.name[-1]))
        positives = inside & label
        assert (one.n, one.positives) == (inside.sum(), positives.sum())
        expected = weight[positives & prediction].sum() / weight[positives].sum()
        assert one.rates["true_positive_rate"].value == pytest.approx(expected, abs=1e-12)
        kish = weight[positives].sum() ** 2 / (weight[positives] ** 2).sum()
        assert one.rates["true_positive_rate"].cases == pytest.approx(kish, rel=1e-12)
        mean = (score[inside] * weight[inside]).sum() / weight[inside].sum()
        assert one.mean_score == pytest.approx(mean, abs=1e-12)
