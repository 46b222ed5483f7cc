"""What a suite for language models hands back: numbers, and how many items stand behind them."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from assaymark.bias.findings import Measured
from assaymark.bias.lm_model import Failed
from assaymark.reports.model import Evidence

ALL = "all"
"""The target of a number of all items together, where the definition has one."""


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
    answered: how many of them could be scored. lost: why the others could not, counted. ties: items on
    which the model prefers neither side, None where the definition knows none. worst: a table of the
    examples that a reader should see. revision: which edition of the data this is, in words.
    """

    measured: tuple[Measured, ...]
    items: int
    answered: int
    lost: Mapping[str, int] = field(default_factory=dict)
    ties: int | None = None
    evidence: tuple[Evidence, ...] = ()
    item_values: tuple[ItemValues, ...] = ()
    revision: str = ""
    steps: tuple[str, ...] = ()
    not_tested: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()


def reasons(failures: Iterable[Failed]) -> dict[str, int]:
    """How often each kind of failure happened."""
    return dict(Counter(failure.kind for failure in failures))
