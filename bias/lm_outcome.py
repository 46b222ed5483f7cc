"""What a suite for language models hands back: numbers, and how many items stand behind them."""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field

from assaymark.bias.findings import Measured
from assaymark.bias.lm_model import Failed
from assaymark.reports.model import Evidence

ALL = "all"
"""The target of a number of all items together, where the definition has one."""
Parts = Mapping[tuple[str, str], tuple[int, int]]
"""By measure ("" for all of them) and target: how many items were answered, of how many."""


@dataclass(frozen=True, kw_only=True)
class ItemValues:
    """A number an item whose mean is a measure, so that two models can be compared on the same items.

    clusters: what items that are not independent have in common, such as a template or a writer.
    """

    measure: str
    target: str
    ids: tuple[str, ...]
    values: tuple[float, ...]
    clusters: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A suite's result on one model.

    measured: its numbers; the target of each is its category, or ALL. items: how many were asked.
    answered: how many of them could be scored. lost: why the others could not, counted. said: of each of
    these kinds the commonest reason, a sentence of the model's or server's. ties: items on
    which the model prefers neither side, None where the definition knows none. worst: a table of the
    examples that a reader should see. revision: which edition of the data this is, in words. parts: how many
    of the items behind a number were answered, where it is of some of them; where it compares kinds of items,
    of the kind that lost most. absent: categories of the data of which a sample has nothing.
    """

    measured: tuple[Measured, ...]
    items: int
    answered: int
    lost: Mapping[str, int] = field(default_factory=dict)
    said: Mapping[str, str] = field(default_factory=dict)
    ties: int | None = None
    evidence: tuple[Evidence, ...] = ()
    item_values: tuple[ItemValues, ...] = ()
    revision: str = ""
    steps: tuple[str, ...] = ()
    not_tested: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    parts: Parts = field(default_factory=dict)
    absent: tuple[str, ...] = ()

    def behind(self, measure: str, target: str) -> tuple[int, int]:
        """How many of how many items of a number were answered."""
        whole = (self.answered, self.items)
        return self.parts.get((measure, target), self.parts.get(("", target), whole))


def parts_of(
    items: Iterable[tuple[str, Hashable, bool]], measure: str = ""
) -> dict[tuple[str, str], tuple[int, int]]:
    """How many items of each target were answered, of the kind that lost most.

    items: of each the target, the kind, and whether it was answered.

    >>> parts_of([("age", "pro", True), ("age", "anti", False), ("age", "pro", True)])
    {('', 'age'): (0, 1)}
    """
    counts: dict[str, dict[Hashable, list[int]]] = {}
    for target, kind, answered in items:
        count = counts.setdefault(target, {}).setdefault(kind, [0, 0])
        count[0] += answered
        count[1] += 1
    worst = {
        target: min(kinds.values(), key=lambda count: count[0] / count[1])
        for target, kinds in counts.items()
    }
    return {(measure, target): (count[0], count[1]) for target, count in worst.items()}


def reasons(failures: Iterable[Failed]) -> dict[str, int]:
    """How often each kind of failure happened."""
    return dict(Counter(failure.kind for failure in failures))


def commonest(failures: Iterable[Failed]) -> dict[str, str]:
    """Of each kind of failure the reason that was given most often, the first of those where several were."""
    said: dict[str, Counter[str]] = {}
    for failure in failures:
        said.setdefault(failure.kind, Counter())[failure.reason] += 1
    return {kind: found.most_common(1)[0][0] for kind, found in said.items()}
