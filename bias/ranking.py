"""How well rankings serve each group of users: positions, discounts and NDCG, query by query.

A position that two items share by their score is worth what it is worth on average over all orders of
the tied items, so that the order of the file changes nothing (McSherry and Najork 2008, Computing
information retrieval performance measures efficiently in the presence of tied scores, ECIR).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy

from assaymark.bias.codes import Codes
from assaymark.bias.means import GroupMeans, group_means
from assaymark.bias.rows import Flags, Numbers, Rankings
from assaymark.reports.errors import InputError
from assaymark.reports.model import Interval


def discounts(query: Codes, score: Numbers, k: int | None = None) -> Numbers:
    """What each row's position is worth: 1 / log2(1 + rank), rank from 1 in each query by falling score.

    Of tied rows the mean over their positions. k: positions beyond it are worth 0. (Järvelin and
    Kekäläinen 2002, ACM TOIS 20; the exposure of Singh and Joachims 2018, arXiv 1802.07281, section 3.)

    >>> discounts(numpy.array([0, 0, 0, 1]), numpy.array([0.1, 0.9, 0.9, 0.5])).round(3).tolist()
    [0.5, 0.815, 0.815, 1.0]
    """
    order = numpy.lexsort((-score, query))
    worth = _by_position(query[order], k)
    sorted_query, sorted_score = query[order], score[order]
    new = numpy.ones(len(order), dtype=bool)
    new[1:] = (sorted_query[1:] != sorted_query[:-1]) | (sorted_score[1:] != sorted_score[:-1])
    run = numpy.cumsum(new) - 1
    mean = numpy.bincount(run, weights=worth) / numpy.bincount(run)
    found = numpy.empty(len(order))
    found[order] = mean[run]
    return found


def ndcg(data: Rankings, k: int | None = None) -> tuple[Numbers, Flags]:
    """The normalized discounted cumulative gain of each query, and whether it has one.

    DCG is the sum of relevance times discount over the first k positions, all without k; NDCG divides by
    that of the best order (Järvelin and Kekäläinen 2002, relevance as gain). A query without a relevant
    row has none.
    """
    queries = int(data.query.max()) + 1 if data.n else 0
    gain = numpy.bincount(
        data.query,
        weights=data.relevance * discounts(data.query, data.score, k),
        minlength=queries,
    )
    order = numpy.lexsort((-data.relevance, data.query))
    best = numpy.bincount(
        data.query[order],
        weights=data.relevance[order] * _by_position(data.query[order], k),
        minlength=queries,
    )
    scored: Flags = best > 0
    return gain / numpy.where(scored, best, 1), scored


def query_weights(data: Rankings) -> Numbers | None:
    """The weight of each query; None where rows have none.

    Raises InputError when rows of one query weigh differently: a ranking is seen as a whole.
    """
    if data.weight is None:
        return None
    weights = numpy.zeros(int(data.query.max()) + 1)
    weights[data.query] = data.weight
    unequal = weights[data.query] != data.weight
    if unequal.any():
        row = int(numpy.flatnonzero(unequal)[0])
        raise InputError(
            f"rows of one query weigh {data.weight[row]:g} and {weights[data.query[row]]:g} in "
            f"{data.name}: expected one weight a query; weigh queries, or leave weights out"
        )
    return weights


def mixed_queries(data: Rankings, attribute: str) -> int:
    """How many queries have rows of several groups. At 0 the attribute describes users, not items."""
    codes = data.groups[attribute].codes
    differs = codes != _group_of_query(data, attribute)[data.query]
    return int(numpy.count_nonzero(numpy.bincount(data.query[differs])))


@dataclass(frozen=True, kw_only=True, eq=False)
class NdcgByGroup:
    """Mean NDCG of the queries of each group of users.

    queries: of each group; means: over those with a relevant row. gap: the largest difference between
    two of the compared groups, None with the reason in why.
    """

    attribute: str
    names: tuple[str, ...]
    queries: tuple[int, ...]
    means: GroupMeans
    compared: tuple[int, ...]
    gap: float | None
    why: str

    def interval(self, confidence: float) -> Interval | None:
        """Of the gap, all pairs of groups at once; None where one group's spread is not known."""
        return None if self.gap is None else self.means.difference(self.compared, confidence)


def ndcg_by_group(
    data: Rankings, attribute: str, k: int | None = None, min_group_size: int = 1
) -> NdcgByGroup:
    """NDCG by group of an attribute that describes users, whose queries all have one group.

    min_group_size: queries that a group needs to be compared.
    """
    values, scored = ndcg(data, k)
    held = numpy.bincount(data.query) > 0
    groups, weights = _group_of_query(data, attribute), query_weights(data)
    names = data.groups[attribute].names
    means = group_means(
        groups[scored], len(names), values[scored], None if weights is None else weights[scored]
    )
    queries = tuple(numpy.bincount(groups[held], minlength=len(names)).tolist())
    compared = tuple(place for place, n in enumerate(queries) if n >= min_group_size)
    found = {names[place]: means.value(place) for place in compared}
    gap, why = _gap(attribute, found)
    return NdcgByGroup(
        attribute=attribute,
        names=names,
        queries=queries,
        means=means,
        compared=compared,
        gap=gap,
        why=why,
    )


def _gap(attribute: str, values: Mapping[str, float | None]) -> tuple[float | None, str]:
    if len(values) < 2:
        return None, f"{attribute} has {len(values)} group that can be compared: two are needed"
    known = [value for value in values.values() if value is not None]
    if len(known) < len(values):
        name = next(name for name, value in values.items() if value is None)
        return None, f"no query of group {name!r} has a relevant row, so its NDCG is not defined"
    return max(known) - min(known), ""


def _by_position(sorted_query: Codes, k: int | None) -> Numbers:
    """The discount of each row's position among the rows of its query, which stand together."""
    first = numpy.searchsorted(sorted_query, sorted_query, side="left")
    position = numpy.arange(len(sorted_query)) - first
    worth: Numbers = 1 / numpy.log2(2.0 + position)
    if k is not None:
        worth[position >= k] = 0
    return worth


def _group_of_query(data: Rankings, attribute: str) -> Codes:
    """A group that each query has a row of; of one without rows the first."""
    found = numpy.zeros(int(data.query.max()) + 1, dtype=numpy.int32)
    found[data.query] = data.groups[attribute].codes
    return found
