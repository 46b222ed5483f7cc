"""NDCG and exposure by group, against scikit-learn, hand-computed numbers, and simulated rankings."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from assaymark.bias import exposure
from assaymark.bias.codes import Column, column_of
from assaymark.bias.exposure import GAPS, exposure_by_group
from assaymark.bias.ranking import discounts, mixed_queries, ndcg, ndcg_by_group
from assaymark.bias.ranking_check import check_ranking
from assaymark.bias.rows import Rankings
from assaymark.reports.errors import InputError
from assaymark.reports.model import Estimates, Gate, Limit, Table, Verdict


def rankings(
    query: Sequence[int],
    score: Sequence[float],
    group: Sequence[str],
    relevance: Sequence[float] | None = None,
    weight: Sequence[float] | None = None,
) -> Rankings:
    return Rankings(
        name="rows",
        note="rankings of a model",
        groups={"group": column_of("group", pyarrow.array(group), most=50)},
        weight=None if weight is None else numpy.array(weight, dtype=float),
        query=numpy.array(query, dtype=numpy.int32),
        relevance=numpy.array([1.0] * len(query) if relevance is None else relevance, dtype=float),
        score=numpy.array(score, dtype=float),
    )


# six people ask for a job; the three men are ranked first for a little more relevance
SEEKERS = rankings(
    [0] * 6, [6, 5, 4, 3, 2, 1], list("mmmfff"), [0.82, 0.81, 0.80, 0.79, 0.78, 0.77]
)
MEN = (1 + 1 / math.log2(3) + 1 / 2) / 3
WOMEN = (1 / math.log2(5) + 1 / math.log2(6) + 1 / math.log2(7)) / 3


def test_exposure_of_one_ranking_is_that_of_singh_and_joachims() -> None:
    found = exposure_by_group(SEEKERS, "group")
    assert found.names == ("f", "m")
    assert found.discount == pytest.approx((WOMEN, MEN))
    assert found.gaps["exposure_ratio"] == pytest.approx(WOMEN / MEN)
    assert found.gaps["exposure_per_relevance_ratio"] == pytest.approx(
        (WOMEN / 0.78) / (MEN / 0.81)
    )
    # shares of exposure over half of the people each
    assert found.gaps["exposure_difference"] == pytest.approx(2 * (MEN - WOMEN) / (MEN + WOMEN))
    assert all(found.interval(gap, 0.95) is None for gap in GAPS)  # one query


def test_tied_items_share_their_positions_whatever_the_order_of_the_file() -> None:
    tied = rankings([0] * 4, [1, 1, 1, 0], list("abab"))
    turned = rankings([0] * 4, [1, 1, 0, 1], list("babb"))
    mean = (1 + 1 / math.log2(3) + 1 / 2) / 3
    assert discounts(tied.query, tied.score).tolist() == pytest.approx(
        [mean, mean, mean, 1 / math.log2(5)]
    )
    assert sorted(discounts(turned.query, turned.score)) == pytest.approx(
        sorted(discounts(tied.query, tied.score))
    )
    # the cutoff lies within the tie: two of three positions are worth something
    assert discounts(tied.query, tied.score, 2).tolist() == pytest.approx(
        [(1 + 1 / math.log2(3)) / 3] * 3 + [0.0]
    )


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=2, max_size=12),
    st.integers(1, 13),
)
def test_ndcg_is_that_of_scikit_learn_ties_and_cutoffs_included(
    items: list[tuple[int, int]], k: int
) -> None:
    relevance, score = zip(*items, strict=True)
    n = len(items)
    # a second query between its rows, which must change nothing
    data = rankings(
        [0, 1] * n,
        [x for one in score for x in (one, -one)],
        ["a"] * 2 * n,
        [x for one in relevance for x in (one, one)],
    )
    for cutoff in (k, None):
        values, scored = ndcg(data, cutoff)
        if any(relevance):
            expected = ndcg_score([relevance], [score], k=cutoff)
            assert values[0] == pytest.approx(expected)
            assert scored.all()
        else:
            assert not scored.any()


def by_users() -> Rankings:
    """Three queries of a, two of b; one of a has nothing relevant. NDCG of a 1 and 1/log2 3, of b 1, 1/2."""
    return rankings(
        [0, 0, 1, 1, 2, 2, 3, 3, 3, 4, 4, 4],
        [2, 1, 2, 1, 2, 1, 3, 2, 1, 3, 2, 1],
        list("aaaaaabbbbbb"),
        [1, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 1],
    )


def test_users_have_mean_ndcg_and_queries_without_a_relevant_row_are_counted() -> None:
    data = by_users()
    assert mixed_queries(data, "group") == 0
    found = ndcg_by_group(data, "group")
    a, b = (1 + 1 / math.log2(3)) / 2, 0.75
    assert [found.means.value(place) for place in range(2)] == pytest.approx([a, b])
    assert found.gap == pytest.approx(a - b)
    assert found.queries == (3, 2)
    assert found.means.rows.tolist() == [2, 2]
    result = check_ranking("c", data)
    (finding,) = result.findings
    assert finding.measure == "ndcg_difference"
    assert finding.n == 4
    table, chart = finding.evidence
    assert isinstance(table, Table)
    assert [row[:3] for row in table.rows] == [("a", 3, 1), ("b", 2, 0)]
    assert isinstance(chart, Estimates)


def test_a_group_of_users_with_nothing_relevant_is_not_measured() -> None:
    data = rankings([0, 0, 1, 1, 2, 2], [2, 1] * 3, list("aabbbb"), [0, 0, 1, 0, 0, 1])
    gate = Gate(metric="ndcg_difference", limit=Limit(maximum=0.5))
    (finding,) = check_ranking("c", data, gates=(gate,)).findings
    assert finding.judged is Verdict.NOT_MEASURED
    assert "no query of group 'a' has a relevant row" in finding.summary


@pytest.mark.parametrize(
    ("data", "metric", "reason"),
    [
        (by_users(), "exposure_ratio", "describes users"),
        (SEEKERS, "ndcg_difference", "1 queries have rows of several groups"),
    ],
)
def test_a_gate_that_the_attribute_does_not_allow_is_not_measured(
    data: Rankings, metric: str, reason: str
) -> None:
    gate = Gate(metric=metric, limit=Limit(minimum=0.1))
    found = check_ranking("c", data, gates=(gate,)).findings
    (asked,) = [one for one in found if one.limit is not None]
    assert asked.judged is Verdict.NOT_MEASURED
    assert asked.blocks
    assert reason in asked.summary
    # without the gate nothing is said of it
    assert metric not in {one.measure for one in check_ranking("c", data).findings}


def test_queries_with_one_group_compare_nothing_and_a_group_always_alone_is_named() -> None:
    more = rankings(
        [0] * 6 + [1, 1, 2, 2], [6, 5, 4, 3, 2, 1, 2, 1, 2, 1], list("mmmfffmmzz"), None
    )
    found = exposure_by_group(more, "group")
    assert (found.queries, found.alone) == (1, 2)
    assert found.gaps["exposure_ratio"] == pytest.approx(WOMEN / MEN)
    method = check_ranking("c", more).method
    assert any("group = z" in line for line in method.not_tested)


def test_per_relevance_needs_a_relevant_row_of_every_group() -> None:
    data = rankings([0, 0, 1, 1], [2, 1, 1, 2], list("abab"), [1, 0, 1, 0])
    found = exposure_by_group(data, "group")
    assert found.gaps["exposure_ratio"] == pytest.approx(1)
    assert found.gaps["exposure_per_relevance_ratio"] is None
    assert "group 'b' has no relevant row" in found.why["exposure_per_relevance_ratio"]


def test_queries_that_are_all_alike_never_keep_a_bound() -> None:
    """In each of 40 queries a stands above b: how often it would not is not known."""
    query = numpy.repeat(numpy.arange(40), 2).tolist()
    gate = Gate(metric="exposure_ratio", limit=Limit(minimum=0.5, on="lower"))
    data = rankings(query, [2, 1] * 40, list("ab") * 40)
    found = check_ranking("c", data, gates=(gate,)).findings
    finding = next(one for one in found if one.limit is not None)
    assert finding.value == pytest.approx(1 / math.log2(3))
    assert finding.judged is Verdict.NOT_MEASURED
    assert "No interval" in finding.summary


def test_a_cutoff_leaves_a_group_below_it_without_exposure() -> None:
    query = [0] * 4 + [1] * 4
    data = rankings(query, [4, 3, 2, 1] * 2, list("aabb") * 2)
    found = exposure_by_group(data, "group", k=2)
    assert found.gaps["exposure_ratio"] == 0
    assert found.interval("exposure_ratio", 0.95) is None
    with pytest.raises(InputError, match="at least 1"):
        check_ranking("c", data, k=0)


def test_a_weight_is_so_many_queries_and_one_for_each() -> None:
    draw = numpy.random.default_rng(3)
    data = drawn(draw, 40, (3, 9), (0.5, 0.3, 0.2))
    times = draw.integers(0, 3, size=40)
    weighted = replace(data, weight=times[data.query].astype(float))
    rows = numpy.concatenate(
        [numpy.flatnonzero(data.query == q) for q in range(40) for _ in range(times[q])]
    )
    copies = numpy.repeat(
        numpy.arange(times.sum()),
        [int((data.query == q).sum()) for q in range(40) for _ in range(times[q])],
    )
    repeated = replace(
        data,
        groups={"g": replace(data.groups["g"], codes=data.groups["g"].codes[rows])},
        query=copies.astype(numpy.int32),
        relevance=data.relevance[rows],
        score=data.score[rows],
    )
    one, other = exposure_by_group(weighted, "g"), exposure_by_group(repeated, "g")
    assert one.gaps == pytest.approx(dict(other.gaps))
    doubled = exposure_by_group(replace(data, weight=numpy.full(data.n, 2.0)), "g")
    plain = exposure_by_group(data, "g")
    for gap in GAPS:
        left, right = doubled.interval(gap, 0.95), plain.interval(gap, 0.95)
        assert left is not None
        assert right is not None
        assert (left.low, left.high) == pytest.approx((right.low, right.high))
    uneven = replace(data, weight=numpy.arange(data.n, dtype=float))
    with pytest.raises(InputError, match="one weight a query"):
        exposure_by_group(uneven, "g")


def test_the_spread_is_that_of_leaving_out_one_query_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = drawn(numpy.random.default_rng(4), 25, (2, 9), (0.5, 0.3, 0.2))
    found = exposure_by_group(data, "g")
    changes = []
    for query in range(25):
        kept = data.query != query
        rest = replace(
            data,
            groups={"g": replace(data.groups["g"], codes=data.groups["g"].codes[kept])},
            query=data.query[kept],
            relevance=data.relevance[kept],
            score=data.score[kept],
        )
        changes.append(exposure_by_group(rest, "g").by_items.ratio - found.by_items.ratio)
    expected = numpy.array(changes).T @ numpy.array(changes)
    assert found.by_items.covariance == pytest.approx(expected)
    monkeypatch.setattr(exposure, "_AT_ONCE", 7)  # two queries of three groups in memory
    again = exposure_by_group(data, "g")
    assert again.by_items.covariance == pytest.approx(expected)
    assert again.by_items.queries.tolist() == found.by_items.queries.tolist()


def test_users_are_weighted_by_query() -> None:
    data = replace(by_users(), weight=numpy.array([3.0] * 2 + [1.0] * 10))
    found = ndcg_by_group(data, "group")
    assert found.means.value(0) == pytest.approx((3 + 1 / math.log2(3)) / 4)


def test_a_group_needs_so_many_queries_or_rows() -> None:
    result = check_ranking("c", by_users(), min_group_size=3)
    assert result.findings[0].value is None
    assert any("fewer than 3 queries" in line for line in result.method.not_tested)
    assert exposure_by_group(SEEKERS, "group", min_group_size=4).gaps["exposure_ratio"] is None


def drawn(
    draw: numpy.random.Generator,
    queries: int,
    lengths: tuple[int, int],
    shares: Sequence[float],
    *,
    behind: float = 0.0,
    long: bool = False,
) -> Rankings:
    """Scores and groups at random, the first group so far behind.

    long: its share is turned round in the longer half of the lists, where positions are worth less.
    """
    n = draw.integers(lengths[0], lengths[1] + 1, size=queries)
    query = numpy.repeat(numpy.arange(queries, dtype=numpy.int32), n)
    lists = (n > sum(lengths) / 2)[query] & long
    ends = numpy.where(lists[:, None], numpy.cumsum(shares[::-1]), numpy.cumsum(shares))
    codes = (draw.random(len(query))[:, None] > ends[:, :-1]).sum(axis=1).astype(numpy.int32)
    score = draw.normal(size=len(query)) - behind * (codes == 0)
    return Rankings(
        name="drawn",
        note="",
        groups={"g": Column(name="g", names=tuple("abcdef"[: len(shares)]), codes=codes)},
        query=query,
        relevance=(draw.random(len(query)) < 0.4).astype(float),
        score=score.round(1),
    )


@pytest.mark.parametrize(
    ("queries", "lengths", "shares", "long"),
    [
        (30, (5, 20), (0.5, 0.5), False),
        (80, (3, 10), (0.6, 0.25, 0.15), False),
        (60, (2, 30), (0.8, 0.2), True),
    ],
)
def test_an_order_that_does_not_depend_on_the_group_is_seldom_called_unfair(
    queries: int, lengths: tuple[int, int], shares: tuple[float, ...], long: bool
) -> None:
    draw, runs = numpy.random.default_rng(0), 400
    accused = dict.fromkeys(GAPS, 0)
    for _ in range(runs):
        found = exposure_by_group(drawn(draw, queries, lengths, shares, long=long), "g")
        for gap in GAPS:
            interval = found.interval(gap, 0.95)
            assert interval is not None
            accused[gap] += interval.high < 1 if gap.endswith("ratio") else interval.low > 0
    assert max(accused.values()) <= 0.077 * runs  # 5 % and 2.5 standard errors


def test_the_true_exposure_is_covered() -> None:
    """The truth is that of 40,000 queries of the same kind."""
    draw, runs = numpy.random.default_rng(1), 600
    truth = exposure_by_group(drawn(draw, 40_000, (4, 12), (0.5, 0.5), behind=0.7), "g").gaps
    covered = dict.fromkeys(GAPS, 0)
    for _ in range(runs):
        found = exposure_by_group(drawn(draw, 60, (4, 12), (0.5, 0.5), behind=0.7), "g")
        for gap in GAPS:
            interval, value = found.interval(gap, 0.95), truth[gap]
            assert interval is not None
            assert value is not None
            covered[gap] += interval.low <= value <= interval.high
    assert min(covered.values()) >= 0.93 * runs


def test_equally_served_users_are_seldom_called_unequal() -> None:
    draw, runs = numpy.random.default_rng(2), 500
    accused = 0
    for _ in range(runs):
        data = drawn(draw, 120, (4, 12), (0.5, 0.3, 0.2))
        users = draw.choice(3, size=120, p=(0.5, 0.3, 0.2)).astype(numpy.int32)
        data = replace(data, groups={"g": replace(data.groups["g"], codes=users[data.query])})
        interval = ndcg_by_group(data, "g").interval(0.95)
        assert interval is not None
        accused += interval.low > 0
    assert accused <= 0.065 * runs
