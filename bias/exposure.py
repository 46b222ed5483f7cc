"""How much of the exposure of rankings each group of items gets.

A position is worth its discount (Singh and Joachims 2018, Fairness of exposure in rankings, arXiv
1802.07281). In every query shares are compared, so that long and short lists count alike (as Biega,
Gummadi and Weikum 2018, Equity of attention, arXiv 1805.01788, amortize over rankings): a group's exposure
is its share of the exposure over its share of the items, 1 where the order does not depend on the group;
per relevance it is over its share of the relevance. Of one query the ratio of two groups is that of Singh
and Joachims, section 4: of demographic parity, and of disparate treatment.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy
from scipy.special import stdtrit

from assaymark.bias.codes import Codes
from assaymark.bias.ranking import discounts, query_weights
from assaymark.bias.rows import Flags, Numbers, Rankings
from assaymark.reports.model import Interval

Matrix = numpy.ndarray[tuple[int, int], numpy.dtype[numpy.float64]]
GAPS = ("exposure_ratio", "exposure_difference", "exposure_per_relevance_ratio")
"""The smallest exposure over the largest, the largest minus the smallest, and the first per relevance."""
_METHOD = "Student's t over queries (Bonferroni, all pairs of groups)"
_ROUNDING = 1e-24
"""A variance below it is that of queries which all say the same: their spread is not known."""
_AT_ONCE = 2**22
"""Cells of queries and groups in memory."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Shares:
    """Of each group its share of the exposure over its share of something else.

    ratio: NaN for a group without any of it. queries: Kish's effective number of queries with a row of
    the group. covariance: of the ratios, from leaving out
    one query after the other (the jackknife; Miller 1974, Biometrika 61), before its factor (n − 1) / n.
    """

    ratio: Numbers
    queries: Numbers
    covariance: Matrix

    def interval(self, place: int, confidence: float) -> Interval | None:
        """Of one group by itself; None where its spread is not known."""
        n, variance = float(self.queries[place]), float(self.covariance[place, place])
        if not n > 1 or not variance > _ROUNDING:
            return None
        half = _reach(n, (1 - confidence) / 2) * math.sqrt(variance * (n - 1) / n)
        value = float(self.ratio[place])
        return Interval(
            low=max(value - half, 0.0),
            high=value + half,
            confidence=confidence,
            method="Student's t over queries",
        )

    def difference(self, places: Sequence[int], confidence: float) -> Interval | None:
        """Of the largest difference between two groups; None where a spread is not known."""
        return self._widest(places, confidence, self.ratio, numpy.ones(len(self.ratio)))

    def quotient(self, places: Sequence[int], confidence: float) -> Interval | None:
        """Of the smallest over the largest; None where a spread is not known, or a ratio is 0."""
        if not (self.ratio[list(places)] > 0).all():
            return None
        safe = numpy.where(self.ratio > 0, self.ratio, 1)
        found = self._widest(places, confidence, numpy.log(safe), 1 / safe)
        if found is None:
            return None
        return Interval(
            low=math.exp(-found.high),
            high=math.exp(-found.low),
            confidence=confidence,
            method=found.method,
        )

    def _widest(
        self, places: Sequence[int], confidence: float, values: Numbers, slope: Numbers
    ) -> Interval | None:
        """The largest lower and upper end of all pairs; values change by slope as the ratio by 1."""
        if len(places) < 2:
            return None
        one, other = (numpy.asarray(places)[at] for at in numpy.triu_indices(len(places), 1))
        covariance = self.covariance * slope[:, None] * slope[None, :]
        own = numpy.diagonal(covariance)
        variance = own[one] + own[other] - 2 * covariance[one, other]
        n = numpy.minimum(self.queries[one], self.queries[other])
        if not ((n > 1) & (variance > _ROUNDING)).all():
            return None
        tail = (1 - confidence) / 2 / len(one)
        half = -stdtrit(n - 1, tail) * numpy.sqrt(variance * (n - 1) / n)
        apart = numpy.abs(values[one] - values[other])
        return Interval(
            low=max(float((apart - half).max()), 0.0),
            high=float((apart + half).max()),
            confidence=confidence,
            method=_METHOD,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class ExposureByGroup:
    """All groups of an attribute that describes items.

    rows: of each group in the queries that have rows of several groups, which alone compare something;
    discount: the mean worth of their positions. queries: how many of these there are; alone: how many
    queries are left out, since all their rows are of one group. irrelevant: how many of the compared have
    no relevant row, and are left out per relevance. why: for each gap that is None, the reason.
    """

    attribute: str
    names: tuple[str, ...]
    rows: tuple[int, ...]
    discount: tuple[float | None, ...]
    queries: int
    alone: int
    irrelevant: int
    compared: tuple[int, ...]
    by_items: Shares
    by_relevance: Shares
    gaps: Mapping[str, float | None]
    why: Mapping[str, str]

    def interval(self, gap: str, confidence: float) -> Interval | None:
        """Of a gap, for all pairs of groups at once; None where the gap is, or a spread is not known."""
        if self.gaps[gap] is None:
            return None
        shares = self.by_items if gap != GAPS[2] else self.by_relevance
        measure = shares.difference if gap.endswith("difference") else shares.quotient
        return measure(self.compared, confidence)


def exposure_by_group(
    data: Rankings, attribute: str, k: int | None = None, min_group_size: int = 1
) -> ExposureByGroup:
    """The exposure of every group of items, and the gaps between the groups.

    k: positions beyond it give no exposure. min_group_size: rows that a group needs to be compared. A gap
    is None for fewer than two groups; per relevance also where a group has no relevant row.
    """
    column = data.groups[attribute]
    size, queries = len(column.names), int(data.query.max()) + 1
    worth = discounts(data.query, data.score, k)
    mixed = _mixed(data.query, column.codes, queries)
    held = mixed[data.query]
    n = numpy.bincount(column.codes[held], minlength=size)
    sums = numpy.bincount(column.codes[held], weights=worth[held], minlength=size)
    relevant = numpy.bincount(data.query, weights=data.relevance, minlength=queries) > 0
    weights = query_weights(data)
    by_items = _shares(data, column.codes, size, worth, numpy.ones(data.n), mixed, weights)
    by_relevance = _shares(
        data, column.codes, size, worth, data.relevance, mixed & relevant, weights
    )
    compared = tuple(int(place) for place in numpy.flatnonzero(n >= max(min_group_size, 1)))
    gaps: dict[str, float | None] = {}
    why: dict[str, str] = {}
    for gap in GAPS:
        shares = by_items if gap != GAPS[2] else by_relevance
        found = {column.names[place]: float(shares.ratio[place]) for place in compared}
        reason = _undefined(attribute, found)
        gaps[gap] = None if reason else _gap(gap, list(found.values()))
        if reason:
            why[gap] = reason
    return ExposureByGroup(
        attribute=attribute,
        names=column.names,
        rows=tuple(n.tolist()),
        discount=tuple(
            float(total / rows) if rows else None for total, rows in zip(sums, n, strict=True)
        ),
        queries=int(mixed.sum()),
        alone=int((numpy.bincount(data.query, minlength=queries) > 0).sum() - mixed.sum()),
        irrelevant=int((mixed & ~relevant).sum()),
        compared=compared,
        by_items=by_items,
        by_relevance=by_relevance,
        gaps=gaps,
        why=why,
    )


def _reach(queries: float, tail: float) -> float:
    return float(-stdtrit(queries - 1, tail))


def _mixed(query: Codes, codes: Codes, queries: int) -> Flags:
    """Which queries have rows of several groups."""
    one = numpy.zeros(queries, dtype=numpy.int32)
    one[query] = codes
    return numpy.bincount(query, weights=codes != one[query], minlength=queries) > 0


def _shares(
    data: Rankings,
    codes: Codes,
    groups: int,
    worth: Numbers,
    base: Numbers,
    chosen: Flags,
    weights: Numbers | None,
) -> Shares:
    """The share of worth over the share of base of every group, over the chosen queries."""
    order = numpy.argsort(data.query, kind="stable")
    order = order[chosen[data.query[order]]]
    query, group = data.query[order], codes[order]
    weight = numpy.ones(len(query)) if weights is None else weights[query]
    gets = _normalized(query, worth[order], len(chosen)) * weight
    due = _normalized(query, base[order], len(chosen)) * weight
    total = numpy.bincount(group, weights=due, minlength=groups).astype(float)
    ratio = numpy.bincount(group, weights=gets, minlength=groups) / numpy.where(total > 0, total, 1)
    excess = gets - ratio[group] * due
    covariance: Matrix = numpy.zeros((groups, groups))
    sums, squares = numpy.zeros(groups), numpy.zeros(groups)
    for rows, places, shape in _blocks(query, group, groups):
        above, left, mass, rows_there = (
            numpy.bincount(places, weights=one, minlength=shape[0] * groups).reshape(shape)
            for one in (excess[rows], due[rows], weight[rows], None)
        )
        rest = total - left
        change = above / numpy.where(rest > 0, rest, 1)
        covariance += change.T @ change
        of_query = mass / numpy.maximum(rows_there, 1)
        sums += of_query.sum(axis=0)
        squares += (of_query**2).sum(axis=0)
    return Shares(
        ratio=numpy.where(total > 0, ratio, numpy.nan),
        queries=sums**2 / numpy.where(squares > 0, squares, 1),
        covariance=covariance,
    )


def _blocks(
    query: Codes, group: Codes, groups: int
) -> Iterator[tuple[slice, Codes, tuple[int, int]]]:
    """Rows sorted by query, so many queries at once: their rows, cells and number of queries and groups."""
    if not len(query):
        return
    new = numpy.ones(len(query), dtype=bool)
    new[1:] = query[1:] != query[:-1]
    number = numpy.cumsum(new) - 1
    many, step = int(number[-1]) + 1, max(_AT_ONCE // groups, 1)
    for first in range(0, many, step):
        rows = slice(*numpy.searchsorted(number, (first, first + step)))
        places = (number[rows] - first) * groups + group[rows]
        yield rows, places, (min(step, many - first), groups)


def _normalized(query: Codes, values: Numbers, queries: int) -> Numbers:
    """Values as shares of their query's sum."""
    return values / numpy.bincount(query, weights=values, minlength=queries)[query]


def _undefined(attribute: str, ratios: Mapping[str, float]) -> str | None:
    if len(ratios) < 2:
        return (
            f"{attribute} has {len(ratios)} group that can be compared, in queries with rows of several: "
            "two are needed"
        )
    for name, ratio in ratios.items():
        if math.isnan(ratio):
            return (
                f"group {name!r} has no relevant row that weighs anything in the queries compared"
            )
    return None


def _gap(gap: str, ratios: list[float]) -> float:
    low, high = min(ratios), max(ratios)
    return high - low if gap.endswith("difference") else low / high
