"""Numbers of a group that are made of several rates: balanced accuracy, F1 and Matthews' correlation.

The limits of the first two come from score intervals: of 30 rows they hold as often as they say, where a
bootstrap can do so in three of four samples, since a perfect sample stays perfect.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy

from assaymark.bias.counts import FN, FP, TN, TP, Share, Sums, Tally, effective
from assaymark.bias.estimates import LimitsAt
from assaymark.bias.gaps import wilson_limits
from assaymark.bias.resample import Statistic
from assaymark.bias.rows import Numbers


def balanced_accuracy(cells: Sums) -> Sums:
    """The mean of the true positive and the true negative rate; NaN without positives or negatives."""
    tn, fp, fn, tp = (_at(cells, place) for place in (TN, FP, FN, TP))
    with numpy.errstate(invalid="ignore", divide="ignore"):
        mean: Sums = (tp / (tp + fn) + tn / (tn + fp)) / 2
    return mean


def f1_score(cells: Sums) -> Sums:
    """2 TP / (2 TP + FP + FN) (van Rijsbergen 1979, chapter 7); NaN where all three are 0."""
    fp, fn, tp = (_at(cells, place) for place in (FP, FN, TP))
    with numpy.errstate(invalid="ignore", divide="ignore"):
        score: Sums = 2 * tp / (2 * tp + fp + fn)
    return score


def matthews_correlation(cells: Sums) -> Sums:
    """The correlation of label and decision, in [-1, 1]; NaN where either is the same in all rows."""
    tn, fp, fn, tp = (_at(cells, place) for place in (TN, FP, FN, TP))
    spread = numpy.sqrt(tp + fp) * numpy.sqrt(tp + fn) * numpy.sqrt(tn + fp) * numpy.sqrt(tn + fn)
    with numpy.errstate(invalid="ignore", divide="ignore"):
        correlation: Sums = (tp * tn - fp * fn) / spread
    return correlation


def _balanced_accuracy_limits(counted: Tally) -> LimitsAt:
    """From the score limits of two independent rates (Zou and Donner 2008, Statistics in Medicine 27)."""
    rates = [effective(counted, rate)[:2] for rate in ("true_positive_rate", "true_negative_rate")]

    def at(reach: float) -> tuple[Numbers, Numbers]:
        limits = [wilson_limits(hits, cases, reach) for hits, cases in rates]
        middle = sum(value for _, value, _ in limits) / 2
        down = numpy.sqrt(sum((value - low) ** 2 for low, value, _ in limits)) / 2
        up = numpy.sqrt(sum((high - value) ** 2 for _, value, high in limits)) / 2
        return middle - down, middle + up

    return at


def _f1_limits(counted: Tally) -> LimitsAt:
    """Of the cases that are positive or decided positive a share J is both, and F1 is 2 J / (1 + J)."""
    hits, cases, _, _ = effective(counted, Share((TP,), (FP, FN, TP)))

    def at(reach: float) -> tuple[Numbers, Numbers]:
        low, _, high = wilson_limits(hits, cases, reach)
        return 2 * low / (1 + low), 2 * high / (1 + high)

    return at


@dataclass(frozen=True, kw_only=True)
class Composite:
    """A number of a group. limits: in closed form, None where it is bootstrapped. lacks: when undefined."""

    value: Statistic
    lacks: str
    limits: Callable[[Tally], LimitsAt] | None = None


COMPOSITES: Mapping[str, Composite] = {
    "balanced_accuracy": Composite(
        value=balanced_accuracy,
        lacks="no positives or no negatives",
        limits=_balanced_accuracy_limits,
    ),
    "f1_score": Composite(
        value=f1_score, lacks="neither positives nor positive decisions", limits=_f1_limits
    ),
    "matthews_correlation": Composite(
        value=matthews_correlation, lacks="only one label or only one decision"
    ),
}


def some(counted: Tally, places: Sequence[int]) -> Tally:
    """The counts of some of the groups."""
    at = numpy.asarray(places, int)
    return Tally(rows=counted.rows[at], sums=counted.sums[at], squares=counted.squares[at])


def _at(cells: Sums, place: tuple[int, int]) -> Sums:
    return cells[..., place[0], place[1]]
