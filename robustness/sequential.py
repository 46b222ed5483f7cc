"""Stop as soon as the gates are decided: an interval that may be looked at after every point."""

from dataclasses import dataclass, field, replace

import numpy
from jaxtyping import Bool
from torch import Tensor

from assaymark.reports.intervals import betting, betting_evidence
from assaymark.reports.model import Gate, Interval, Verdict

Counts = tuple[int, int]
"""Hits, and of how many."""


def outcomes(
    measure: str, correct: Bool[Tensor, " n"], robust: Bool[Tensor, " n"]
) -> Bool[Tensor, " counted"]:
    """What a measure counts, point by point in the order of the run."""
    if measure == "robust_accuracy":
        return robust
    if measure == "clean_accuracy":
        return correct
    assert measure == "attack_success_rate"
    return ~robust[correct]


def counts(correct: Bool[Tensor, " n"], robust: Bool[Tensor, " n"]) -> dict[str, Counts]:
    """What each measure counts, over the points attacked so far."""
    found = {}
    for measure in ("robust_accuracy", "clean_accuracy", "attack_success_rate"):
        hits = outcomes(measure, correct, robust)
        found[measure] = (int(hits.sum()), len(hits))
    return found


@dataclass
class Looks:
    """The intervals of some gates over all looks so far.

    The truth lies in the intervals of all sample sizes at once, so what is kept is where they
    overlap: now, and where the evidence against the limit was strongest.
    """

    gates: tuple[Gate, ...]
    intervals: dict[Gate, Interval] = field(default_factory=dict)

    def __call__(self, correct: Bool[Tensor, " n"], robust: Bool[Tensor, " n"]) -> bool:
        """Look at the points so far; whether every gate is decided."""
        return all(
            [self._look(gate, outcomes(gate.metric, correct, robust)) for gate in self.gates]
        )

    def _look(self, gate: Gate, seen: Bool[Tensor, " counted"]) -> bool:
        n = len(seen)
        if n == 0:
            return False
        hits = seen.cpu().numpy().cumsum()
        limit = gate.limit.minimum if gate.limit.maximum is None else gate.limit.maximum
        assert limit is not None
        evidence = betting_evidence(hits, numpy.arange(1, n + 1), limit)
        for size in sorted({int(evidence.argmax()) + 1, n}):
            now = betting(int(hits[size - 1]), size, gate.confidence)
            assert now is not None
            before = self.intervals.get(gate, now)
            low, high = max(before.low, now.low), min(before.high, now.high)
            if low <= high:  # else the one time in twenty that it misses: stay with what was
                self.intervals[gate] = replace(now, low=low, high=high)
        verdict = gate.limit.judge(float(hits[-1]) / n, self.intervals[gate])
        return verdict in (Verdict.PASS, Verdict.FAIL)
