"""Distances between groups, which noise alone makes larger than 0, beside what chance would give.

A distance is never negative, so that a fair model with few texts seems far from fair. Labels that mean
nothing to a fair model are drawn anew (a randomization test): the mean of the distances found then is the
level of chance, and the share that is as large as the one measured is its p-value.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy

from assaymark.bias.rows import Numbers
from assaymark.reports.model import Interval

DRAWS = 1999
Codes = numpy.ndarray
"""Small whole numbers from 0 on, one a value."""
Random = numpy.random.Generator
_CELLS = 1 << 22
"""Numbers held at once."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Distance:
    """A distance and what it is when labels mean nothing.

    null: one a draw, infinite where a draw leaves it undefined. largest: what it can be.
    """

    value: float
    null: Numbers
    largest: float

    @property
    def chance(self) -> float | None:
        """What a fair model would seem to have; None where no draw defines it."""
        known = self.null[numpy.isfinite(self.null)]
        return float(known.mean()) if len(known) else None

    @property
    def p(self) -> float:
        """How often chance gives as much: (1 + hits) / (1 + draws) (Phipson and Smyth 2010)."""
        return float((1 + (self.null >= self.value - 1e-12).sum()) / (1 + len(self.null)))

    def interval(self, confidence: float = 0.95) -> Interval | None:
        """As far on both sides as chance reaches.

        A distance from the truth cannot be wrong by more than the distance between truth and sample
        (triangle inequality), which is taken from the draws. It holds at a true distance of 0, where the
        bootstrap of a distance never contains it, and is wide elsewhere. None where chance reaches anywhere.
        """
        rank = numpy.ceil(confidence * (len(self.null) + 1)) - 1
        far = float(numpy.sort(self.null)[min(int(rank), len(self.null) - 1)])
        if not numpy.isfinite(far):
            return None
        return Interval(
            low=max(0.0, self.value - far),
            high=min(self.largest, self.value + far),
            confidence=confidence,
            method="randomization, triangle inequality",
        )


def wasserstein(values: Numbers, group: Codes, groups: int) -> numpy.ndarray:
    """The W1 distance of the distributions of every two groups, (groups, groups).

    With as many values in both it is the mean difference of the sorted values.

    >>> wasserstein(numpy.array([0.0, 1.0, 0.5, 1.5]), numpy.array([0, 0, 1, 1]), 2)[0, 1].item()
    0.5
    """
    order = numpy.argsort(values, kind="stable")
    found: numpy.ndarray = _distances(numpy.diff(values[order]), group[order][None], groups)[0]
    return found


def permuted_wasserstein(
    values: Numbers,
    group: Codes,
    unit: Codes,
    cluster: Codes,
    groups: int,
    *,
    seed: int,
    draws: int = DRAWS,
    widest: float,
) -> Distance:
    """The W1 of the two groups that differ most, and the same after labels are dealt anew.

    group, unit, cluster: one code a value. Units, such as the samples of one prompt, belong together and to
    one group. Labels change places among the units of a cluster; where each cluster is of one group, among
    clusters. widest: how far two values can lie apart.
    """
    order = numpy.argsort(values, kind="stable")
    steps = numpy.diff(values[order])
    where, stratum = _exchangeable(unit, cluster, group)
    label = numpy.zeros(int(where.max()) + 1, dtype=numpy.int64)
    label[where] = group
    rng = numpy.random.default_rng(seed)
    at_once = max(1, _CELLS // (len(values) * groups + 1))
    found = []
    for begin in range(0, draws, at_once):
        dealt = _deal(rng, label, stratum, min(at_once, draws - begin))
        found.append(_distances(steps, dealt[:, where[order]], groups).max(axis=(1, 2)))
    value = float(wasserstein(values, group, groups).max())
    return Distance(value=value, null=numpy.concatenate(found), largest=widest)


def _exchangeable(unit: Codes, cluster: Codes, group: Codes) -> tuple[Codes, Codes]:
    """The unit of each value whose label may move, and the stratum of each unit within which it moves."""
    pairs = numpy.unique(numpy.stack([cluster, group]), axis=1)
    if pairs.shape[1] == len(numpy.unique(cluster)):
        where = numpy.unique(cluster, return_inverse=True)[1]
        return where, numpy.zeros(int(where.max()) + 1, dtype=numpy.int64)
    where = numpy.unique(unit, return_inverse=True)[1]
    stratum = numpy.zeros(int(where.max()) + 1, dtype=numpy.int64)
    stratum[where] = cluster
    return where, stratum


def _deal(rng: Random, label: Codes, stratum: Codes, draws: int) -> numpy.ndarray:
    """So many random orders of the labels, each within its stratum, (draws, units)."""
    lots = rng.random((draws, len(label)))
    into = numpy.argsort(stratum, kind="stable")
    mixed = numpy.argsort(stratum[None] + lots, axis=1)
    dealt = numpy.empty((draws, len(label)), dtype=numpy.int64)
    dealt[:, into] = label[mixed]
    return dealt


def _distances(steps: Numbers, group: numpy.ndarray, groups: int) -> numpy.ndarray:
    """∫ |F − G| of every two groups; group: labels in the order of the values, (draws, values)."""
    shares = []
    for place in range(groups):
        mine = (group == place).cumsum(axis=1, dtype=float)
        shares.append(mine[:, :-1] / numpy.maximum(mine[:, -1:], 1))
    found = numpy.zeros((len(group), groups, groups))
    for one in range(groups):
        for other in range(one):
            apart = numpy.abs(shares[one] - shares[other]) @ steps
            found[:, one, other] = found[:, other, one] = apart
    return found


def codes_of(names: Sequence[str]) -> Codes:
    """Names by number."""
    codes: numpy.ndarray = numpy.unique(numpy.asarray(list(names), dtype=str), return_inverse=True)[
        1
    ]
    return codes
