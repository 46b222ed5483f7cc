"""The search for slices of rows in which a loss is more frequent than elsewhere.

Slices are conjunctions of conditions "column = value". All of one and of two conditions are counted, by
crossed codes; longer ones extend the best found so far, a beam search.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from scipy.special import ndtri

from assaymark.bias.rows import Flags, Numbers

Condition = tuple[int, int]
"""The place of a column, and a code in it."""
Conditions = tuple[Condition, ...]
Ranked = list[tuple[float, Conditions]]
"""Slices with their scores."""
Rows = numpy.ndarray | slice
"""Places of rows."""
_ALL = slice(None)
_SCORED = 0.95
"""The score is the lower bound of the excess at this confidence: what is large by luck comes late."""
_SECOND, _FURTHER = 0.99, 0.999
"""A condition is added where the loss is more frequent with it than in the rest of the shorter slice, at
this confidence: with more conditions there are more to choose from."""
_BEAM = 100
"""How many slices are extended by one more condition, beyond two."""
_LOOKED_THROUGH = 1000
"""How many of the best are looked through for slices that say something of their own."""


@dataclass(frozen=True)
class Tally:
    """Of each of some slices the sum of weights, of weights with a loss, and of squared weights."""

    sums: numpy.ndarray
    losses: numpy.ndarray
    squares: numpy.ndarray

    def but(self, part: "Tally") -> "Tally":
        """What is left without each part."""
        return Tally(self.sums - part.sums, self.losses - part.losses, self.squares - part.squares)

    def reshape(self, shape: tuple[int, int]) -> "Tally":
        parts = (self.sums, self.losses, self.squares)
        return Tally(*(one.reshape(shape) for one in parts))

    def along(self, axis: int) -> "Tally":
        """Summed along an axis, which stays."""
        parts = (self.sums, self.losses, self.squares)
        return Tally(*(one.sum(axis=axis, keepdims=True) for one in parts))

    @property
    def effective(self) -> numpy.ndarray:
        """Kish's effective number of rows; without weights their number."""
        some = numpy.where(self.squares > 0, self.squares, numpy.inf)
        size: numpy.ndarray = self.sums * self.sums / some
        return size


@dataclass(frozen=True, kw_only=True, eq=False)
class Half:
    """Rows that a search may look at: codes by column, how many values each has, and the loss."""

    codes: Sequence[numpy.ndarray]
    sizes: Sequence[int]
    loss: Flags
    weight: Numbers | None

    def rows_of(self, conditions: Conditions) -> Flags:
        inside: Flags = numpy.ones(len(self.loss), dtype=numpy.bool_)
        for column, code in conditions:
            inside &= self.codes[column] == code
        return inside

    def part(self, rows: Rows) -> "Half":
        """Some of the rows, as flags or places."""
        return Half(
            codes=[one[rows] for one in self.codes],
            sizes=self.sizes,
            loss=self.loss[rows],
            weight=None if self.weight is None else self.weight[rows],
        )

    def tally(self, codes: numpy.ndarray, size: int, rows: Rows = _ALL) -> Tally:
        """Of each code below size, over these rows, which have the codes."""
        loss = self.loss[rows]
        if self.weight is None:
            both = numpy.bincount(codes * 2 + loss, minlength=2 * size).reshape(size, 2)
            counted = both.sum(axis=1).astype(numpy.float64)
            return Tally(counted, both[:, 1].astype(numpy.float64), counted)
        weight = self.weight[rows]
        return Tally(
            numpy.bincount(codes, weight, minlength=size),
            numpy.bincount(codes, weight * loss, minlength=size),
            numpy.bincount(codes, weight * weight, minlength=size),
        )

    def total(self, rows: Rows = _ALL) -> Tally:
        """The tally of all these rows together."""
        return self.tally(numpy.zeros(len(self.loss[rows]), dtype=numpy.int32), 1, rows)


def score(inside: Tally, outside: Tally, min_size: int) -> numpy.ndarray:
    """The lower bound of the excess of losses; minus infinity below min_size effective rows."""
    enough = (inside.effective >= min_size) & (outside.effective >= min_size)
    bound: numpy.ndarray = numpy.where(enough, _bound(inside, outside, _SCORED), -numpy.inf)
    return bound


def _bound(inside: Tally, outside: Tally, confidence: float) -> numpy.ndarray:
    """One loss and one other row are added on either side, so that rates of 0 and 1 are not certain
    (Agresti and Caffo 2000, The American Statistician 54)."""
    n, m = inside.effective, outside.effective
    rate, other = _smoothed(inside, n), _smoothed(outside, m)
    variance = rate * (1 - rate) / (n + 2) + other * (1 - other) / (m + 2)
    bound: numpy.ndarray = rate - other - float(ndtri(confidence)) * numpy.sqrt(variance)
    return bound


def _smoothed(side: Tally, size: numpy.ndarray) -> numpy.ndarray:
    share = side.losses / numpy.where(side.sums > 0, side.sums, 1)
    rate: numpy.ndarray = (size * share.clip(0, 1) + 1) / (size + 2)
    return rate


def ranked(half: Half, depth: int, min_size: int) -> tuple[Ranked, int]:
    """The slices with a positive score, the best first, and how many were large enough to be scored.

    A condition is added only where it raises the score and the rest of the slice is served better:
    otherwise the shorter slice says as much.
    """
    everything = half.total()
    places = [place for place, size in enumerate(half.sizes) if size > 1]
    found: Ranked = []
    singles: dict[int, numpy.ndarray] = {}
    looked = 0
    for place in places:
        counted = half.tally(half.codes[place], half.sizes[place])
        singles[place] = score(counted, everything.but(counted), min_size)
        looked += _scored(singles[place])
        found += _chosen(singles[place], singles[place] > 0, (place,))
    level: Ranked = []
    for a, b in itertools.combinations(places, 2) if depth > 1 else ():
        shape = (half.sizes[a], half.sizes[b])
        codes = half.codes[a] * numpy.int32(shape[1]) + half.codes[b]
        counted = half.tally(codes, shape[0] * shape[1]).reshape(shape)
        scores = score(counted, everything.but(counted), min_size)
        looked += _scored(scores)
        added = _added(counted, counted.along(1), scores, singles[a][:, None], _SECOND)
        added &= _added(counted, counted.along(0), scores, singles[b], _SECOND)
        level += _chosen(scores, added, (a, b))
    found += level
    for _ in range(2, depth):
        level, more = _extended(half, _sorted(level)[:_BEAM], everything, min_size)
        looked += more
        found += level
    return _sorted(found), looked


def _added(
    child: Tally,
    parent: Tally,
    scores: numpy.ndarray,
    parent_scores: numpy.ndarray | float,
    confidence: float,
) -> numpy.ndarray:
    """Whether a child says more than its parent."""
    higher = scores > numpy.maximum(parent_scores, 0.0)
    apart: numpy.ndarray = higher & (_bound(child, parent.but(child), confidence) > 0)
    return apart


def _scored(scores: numpy.ndarray) -> int:
    return int(numpy.isfinite(scores).sum())


def _chosen(scores: numpy.ndarray, chosen: numpy.ndarray, columns: tuple[int, ...]) -> Ranked:
    cells = numpy.argwhere(chosen).tolist()
    conditions = (tuple(zip(columns, cell, strict=True)) for cell in cells)
    return list(zip(scores[chosen].tolist(), conditions, strict=True))


def _extended(half: Half, parents: Ranked, everything: Tally, min_size: int) -> tuple[Ranked, int]:
    """Each parent with one more condition, and how many of these were large enough."""
    found: dict[Conditions, float] = {}
    looked = set()
    for floor, parent in parents:
        rows = numpy.flatnonzero(half.rows_of(parent))
        whole = half.total(rows)
        taken = {column for column, _ in parent}
        for place, size in enumerate(half.sizes):
            if place in taken or size < 2:
                continue
            counted = half.tally(half.codes[place][rows], size, rows)
            scores = score(counted, everything.but(counted), min_size)
            added = _added(counted, whole, scores, floor, _FURTHER)
            for code in numpy.flatnonzero(numpy.isfinite(scores)).tolist():
                conditions = tuple(sorted((*parent, (place, code))))
                looked.add(conditions)
                if added[code]:
                    found[conditions] = float(scores[code])
    return [(value, conditions) for conditions, value in found.items()], len(looked)


def _sorted(found: Ranked) -> Ranked:
    return sorted(found, key=lambda one: (-one[0], one[1]))


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A slice to be tested, and the slices that it stands for as well."""

    conditions: Conditions
    score: float
    merged: tuple[Conditions, ...]


def distinct(half: Half, found: Ranked, min_size: int, most: int) -> list[Candidate]:
    """Of slices, the best first, those that say something of their own.

    A slice joins the kept one it shares most rows with where half of its rows or more lie in kept
    slices, or where its other rows show no excess over all others outside. So no two kept slices share
    half of the rows of either's union (a Jaccard index of 1/2).
    """
    owner = numpy.full(len(half.loss), -1, dtype=numpy.int32)
    kept: list[tuple[float, Conditions]] = []
    merged: list[list[Conditions]] = []
    everything = half.total()
    for value, conditions in found[:_LOOKED_THROUGH]:
        rows = numpy.flatnonzero(half.rows_of(conditions))
        owners = owner[rows]
        free = rows[owners < 0]
        part = half.total(free)
        own = score(part, everything.but(part), min_size)[0] > 0
        if len(free) < len(rows) and (2 * len(free) <= len(rows) or not own):
            shared = numpy.bincount(owners[owners >= 0], minlength=len(kept))
            merged[int(numpy.argmax(shared))].append(conditions)
        elif len(kept) < most:
            owner[free] = len(kept)
            kept.append((value, conditions))
            merged.append([])
            everything = everything.but(part)  # that is free
    return [
        Candidate(conditions=conditions, score=value, merged=tuple(others))
        for (value, conditions), others in zip(kept, merged, strict=True)
    ]
