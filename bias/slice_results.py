"""What a search for slices found: each slice with its test on the rows that the search never saw."""

from dataclasses import dataclass, replace

import numpy
from scipy.special import ndtri

from assaymark.bias.exact import newcombe
from assaymark.bias.multiplicity import FALSE_DISCOVERY_LEVEL, FAMILY_LEVEL
from assaymark.reports.model import Interval


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A slice that the search proposed, and what the half that it never saw says of it.

    conditions: pairs of column and value. rows: those of the slice that were held out. losses of cases,
    other_losses of other_cases: whole numbers, effective ones of weighed rows; rate and other_rate are
    the weighed shares, None over no rows. p: exact, one-sided, that the slice is served no worse than all
    other rows, or is so only because of slices with a higher score that it overlaps (the larger of both
    p-values); holm, benjamini_hochberg: adjusted for all slices that were tested. merged: similar slices
    that the search saw, and did not propose.
    """

    conditions: tuple[tuple[str, str], ...]
    rows: int
    losses: int
    cases: int
    rate: float | None
    other_losses: int
    other_cases: int
    other_rate: float | None
    merged: tuple[tuple[tuple[str, str], ...], ...]
    p: float | None = None
    holm: float | None = None
    benjamini_hochberg: float | None = None

    @property
    def name(self) -> str:
        return named(self.conditions)

    @property
    def excess(self) -> float | None:
        """How much more frequent the loss is inside than outside."""
        if self.rate is None or self.other_rate is None:
            return None
        return self.rate - self.other_rate

    def interval(self, confidence: float = 0.95, among: int = 1) -> Interval | None:
        """Of the excess; among: so many hold at once (Bonferroni)."""
        alone = 1 - (1 - confidence) / among
        found = newcombe(self.losses, self.cases, self.other_losses, self.other_cases, alone)
        if found is None or among == 1:
            return found
        method = f"Newcombe, {among} slices at once (Bonferroni)"
        return replace(found, confidence=confidence, method=method)


def named(conditions: tuple[tuple[str, str], ...]) -> str:
    """As it is shown: `sex = Female and age = 17–26`."""
    return " and ".join(f"{column} = {value}" for column, value in conditions)


@dataclass(frozen=True, kw_only=True)
class Search:
    """What a search found. why: the reason that none was possible; tested is then empty.

    rows: those with a weight; searched and held_out: the halves. looked: how many slices were large
    enough to be compared. rate: the share of losses among the rows held out.
    """

    rows: int
    searched: int
    held_out: int
    looked: int
    rate: float | None
    min_size: int
    tested: tuple[Slice, ...] = ()
    why: str | None = None

    @property
    def confirmed(self) -> tuple[Slice, ...]:
        """Those that stand after Holm: the chance that any of them is no worse is at most 5 %."""
        return tuple(
            one for one in self.tested if one.holm is not None and one.holm <= FAMILY_LEVEL
        )

    @property
    def likely(self) -> tuple[Slice, ...]:
        """Those that stand after Benjamini and Hochberg: leads, of which one in ten may be chance."""
        level = FALSE_DISCOVERY_LEVEL
        return tuple(
            one
            for one in self.tested
            if one.benjamini_hochberg is not None and one.benjamini_hochberg <= level
        )

    def worst_interval(self, confidence: float) -> Interval | None:
        """Of the largest excess of any confirmed slice; those of all tested slices hold at once."""
        found = [one.interval(confidence, len(self.tested)) for one in self.confirmed]
        held = [one for one in found if one is not None]
        if not held:
            return None
        low, high = max(one.low for one in held), max(one.high for one in held)
        return replace(held[0], low=low, high=high)

    def detectable(self, power: float = 0.8) -> float | None:
        """The least excess that the smallest slice would be confirmed for, in such a share of samples.

        None where even a loss of every row would not do. In the normal approximation, for a slice of
        min_size held-out rows that the search has proposed.
        """
        if self.rate is None or self.held_out <= self.min_size:
            return None
        n, m = self.min_size, self.held_out - self.min_size
        reach = float(-ndtri(FAMILY_LEVEL / max(len(self.tested), 1)))

        def seen(excess: float) -> bool:
            other = max(self.rate or 0.0, 1 / self.held_out)
            rate = min(other + excess, 1.0)
            pooled = (n * rate + m * other) / (n + m)
            under = (pooled * (1 - pooled) * (1 / n + 1 / m)) ** 0.5
            spread = (rate * (1 - rate) / n + other * (1 - other) / m) ** 0.5
            return bool(rate - other >= reach * under + float(ndtri(power)) * spread)

        steps = numpy.arange(0, 1 - self.rate, 0.001)
        return next((float(step) for step in steps if seen(float(step))), None)
