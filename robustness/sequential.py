"""Stop as soon as the gates are decided: an interval that may be looked at after every round."""

from dataclasses import dataclass, field, replace

from jaxtyping import Bool
from torch import Tensor

from assaymark.reports.intervals import betting
from assaymark.reports.model import Gate, Interval, Verdict

Counts = tuple[int, int]
"""Hits, and of how many."""


def counts(correct: Bool[Tensor, " n"], robust: Bool[Tensor, " n"]) -> dict[str, Counts]:
    """What each measure counts, over the points attacked so far."""
    n, right, standing = len(correct), int(correct.sum()), int(robust.sum())
    return {
        "robust_accuracy": (standing, n),
        "clean_accuracy": (right, n),
        "attack_success_rate": (right - standing, right),
    }


@dataclass
class Looks:
    """The intervals of some gates over all looks so far.

    The truth lies in the intervals of all looks at once, so what is kept is where they overlap.
    """

    gates: tuple[Gate, ...]
    intervals: dict[Gate, Interval] = field(default_factory=dict)

    def __call__(self, correct: Bool[Tensor, " n"], robust: Bool[Tensor, " n"]) -> bool:
        """Look at the points so far; whether every gate is decided."""
        seen = counts(correct, robust)
        return all([self._look(gate, *seen[gate.metric]) for gate in self.gates])

    def _look(self, gate: Gate, hits: int, n: int) -> bool:
        now = betting(hits, n, gate.confidence)
        if now is None:
            return False
        before = self.intervals.get(gate, now)
        low, high = max(before.low, now.low), min(before.high, now.high)
        if low <= high:  # else the one time in twenty that it misses: stay with what was
            self.intervals[gate] = replace(now, low=low, high=high)
        kept = self.intervals[gate]
        return gate.limit.judge(hits / n, kept) in (Verdict.PASS, Verdict.FAIL)
