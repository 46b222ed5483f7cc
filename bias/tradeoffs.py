"""What decisions cost and bring: accuracy and the gaps between groups, each with its interval.

Decisions are chances, so that a rule that draws lots is measured by what it does on average, without
noise of its own: the chance of a positive decision takes the place of the decision in every rate. Its
intervals treat a chance as one draw, which is never too narrow.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy

from assaymark.bias.gaps import difference_interval
from assaymark.bias.rows import Numbers
from assaymark.bias.samples import Sample
from assaymark.reports.intervals import wilson
from assaymark.reports.model import Interval

GAP_RATES: Mapping[str, tuple[str, ...]] = {
    "demographic_parity_difference": ("selection_rate",),
    "equalized_odds_difference": ("true_positive_rate", "false_positive_rate"),
    "equal_opportunity_difference": ("true_positive_rate",),
}
"""The largest difference of these rates between two groups; of two rates the larger."""
_LABELS = {"selection_rate": (0, 1), "true_positive_rate": (1,), "false_positive_rate": (0,)}
_LACKS = {
    "selection_rate": "rows",
    "true_positive_rate": "positives",
    "false_positive_rate": "negatives",
}
Cells = numpy.ndarray[tuple[int, int], numpy.dtype[numpy.float64]]
"""A number of each group and label: cells[g, y]."""


@dataclass(frozen=True, kw_only=True)
class Estimated:
    """A number with its interval at a confidence; value None with the reason `why`."""

    value: float | None
    interval_at: Callable[[float], Interval | None] = lambda confidence: None
    why: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Tally:
    """Sums over the rows of each group and label: of weights, of weights times chances, of squares."""

    attribute: str
    names: tuple[str, ...]
    mass: Cells
    positive: Cells
    squares: Cells

    def rates(self, rate: str) -> tuple[Numbers, Numbers]:
        """Of a rate, the mass and the number of rows that says as much (Kish 1965), by group."""
        labels = list(_LABELS[rate])
        mass = self.mass[:, labels].sum(axis=1)
        with numpy.errstate(invalid="ignore", divide="ignore"):
            share = (self.positive[:, labels].sum(axis=1) / mass).clip(0, 1)
            return share, mass**2 / self.squares[:, labels].sum(axis=1)


def tally(sample: Sample, chance: Numbers) -> Tally:
    """chance: of a positive decision, in [0, 1], for each row of the sample."""
    cell = sample.group.codes * numpy.int32(2) + sample.label
    size = len(sample.group.names)

    def summed(weights: Numbers) -> Cells:
        sums = numpy.bincount(cell, weights=weights, minlength=2 * size)
        return sums.astype(numpy.float64, copy=False).reshape(size, 2)

    mass = sample.mass
    return Tally(
        attribute=sample.group.name,
        names=sample.group.names,
        mass=summed(mass),
        positive=summed(mass * chance),
        squares=summed(mass * mass),
    )


def accuracy(found: Tally) -> Estimated:
    """The share of right decisions, with a Wilson interval."""
    total = float(found.mass.sum())
    if not total:
        return Estimated(value=None, why="there are no rows to measure on")
    right = float(found.positive[:, 1].sum() + (found.mass - found.positive)[:, 0].sum())
    share, n = min(right / total, 1.0), total**2 / float(found.squares.sum())
    return Estimated(value=share, interval_at=lambda confidence: _wilson(share, n, confidence))


def balanced_accuracy(found: Tally) -> Estimated:
    """The mean of true positive and true negative rate.

    The interval adds the Wilson limits of both by squares, as Newcombe does for a difference (Zou and
    Donner 2008, Statistics in Medicine 27).
    """
    mass, positive, squares = (x.sum(axis=0) for x in (found.mass, found.positive, found.squares))
    for label, kind in ((0, "negatives"), (1, "positives")):
        if not mass[label]:
            return Estimated(value=None, why=f"there are no {kind} to measure on")
    rates = [float(1 - positive[0] / mass[0]), float(positive[1] / mass[1])]
    sizes = [float(mass[label] ** 2 / squares[label]) for label in (0, 1)]
    value = sum(rates) / 2

    def interval(confidence: float) -> Interval:
        ends = [_wilson(rate, n, confidence) for rate, n in zip(rates, sizes, strict=True)]
        down = math.hypot(*(rate - end.low for rate, end in zip(rates, ends, strict=True))) / 2
        up = math.hypot(*(end.high - rate for rate, end in zip(rates, ends, strict=True))) / 2
        low, high = max(value - down, 0.0), min(value + up, 1.0)
        return Interval(low=low, high=high, confidence=confidence, method="Wilson, by squares")

    return Estimated(value=value, interval_at=interval)


def gap(found: Tally, measure: str) -> Estimated:
    """A key of GAP_RATES; None when a group lacks the rows that one of its rates is about."""
    if len(found.names) < 2:
        return Estimated(
            value=None, why=f"{found.attribute} has {len(found.names)} group: two are needed"
        )
    families: list[tuple[Sequence[float], Sequence[float]]] = []
    value = 0.0
    for rate in GAP_RATES[measure]:
        shares, sizes = found.rates(rate)
        for name, share in zip(found.names, shares, strict=True):
            if math.isnan(share):
                why = f"group {name!r} has no {_LACKS[rate]} in the half that is measured on"
                return Estimated(value=None, why=why)
        value = max(value, float(shares.max() - shares.min()))
        families.append(((shares * sizes).tolist(), sizes.tolist()))
    return Estimated(
        value=value, interval_at=lambda confidence: difference_interval(families, confidence)
    )


MEASURES: Mapping[str, Callable[[Tally], Estimated]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "demographic_parity_difference": lambda found: gap(found, "demographic_parity_difference"),
    "equalized_odds_difference": lambda found: gap(found, "equalized_odds_difference"),
    "equal_opportunity_difference": lambda found: gap(found, "equal_opportunity_difference"),
}


def change_of_accuracy(sample: Sample, before: Numbers, after: Numbers) -> Estimated:
    """How much more often decisions are right after than before, on the same rows.

    The interval is Newcombe's for paired proportions (1998, Statistics in Medicine 17, 2635-2650,
    method 10), which takes into account that both are right or wrong about the same people.
    """
    mass = sample.mass
    total = float(mass.sum())
    if not total:
        return Estimated(value=None, why="there are no rows to measure on")
    right = [numpy.where(sample.label, chance, 1 - chance) for chance in (after, before)]
    one, two = (float(numpy.clip((mass * each).sum() / total, 0, 1)) for each in right)
    both = float((mass * right[0] * right[1]).sum() / total)
    n = total**2 / float((mass**2).sum())
    return Estimated(
        value=one - two, interval_at=lambda confidence: paired(one, two, both, n, confidence)
    )


def paired(one: float, two: float, both: float, n: float, confidence: float) -> Interval:
    """Newcombe's interval of the difference of two proportions of n pairs; both: the share of pairs
    that are hits of both."""
    first, second = _wilson(one, n, confidence), _wilson(two, n, confidence)
    spread = math.sqrt(one * (1 - one) * two * (1 - two))
    together = both - one * two
    # his continuity correction, of a positive correlation only
    together = max(together - 1 / (2 * n), 0.0) if together > 0 else together
    phi = together / spread if spread else 0.0
    down = _by_squares(one - first.low, second.high - two, phi)
    up = _by_squares(first.high - one, two - second.low, phi)
    low, high = max(one - two - down, -1.0), min(one - two + up, 1.0)
    return Interval(low=low, high=high, confidence=confidence, method="Newcombe, paired")


def _by_squares(left: float, right: float, phi: float) -> float:
    return math.sqrt(max(left * left - 2 * phi * left * right + right * right, 0.0))


def _wilson(share: float, n: float, confidence: float) -> Interval:
    """Of a share that rounding may have moved a hair beyond 0 or 1."""
    found = wilson(min(max(share, 0.0), 1.0) * n, n, confidence)
    assert found is not None
    return found


def pareto(points: Sequence[tuple[float, float] | None]) -> list[bool]:
    """Of pairs (gap, accuracy), which no other pair beats in one without losing in the other.

    A point that was not measured is on no front.

    >>> pareto([(0.3, 0.8), (0.1, 0.7), (0.2, 0.6), None])
    [True, True, False, False]
    """
    known = [point for point in points if point is not None]

    def beaten(point: tuple[float, float]) -> bool:
        return any(
            other[0] <= point[0] and other[1] >= point[1] and other != point for other in known
        )

    return [point is not None and not beaten(point) for point in points]
