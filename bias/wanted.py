"""What an audit of decisions is asked for, and what each part of it hands back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from assaymark.bias.check import gates_of
from assaymark.bias.codes import Column
from assaymark.bias.rows import Flags, Predictions
from assaymark.reports.model import Finding, Gate

if TYPE_CHECKING:
    import pandas

    from assaymark.bias.answers import Positive, TabularModel


@dataclass(frozen=True, kw_only=True)
class SliceOptions:
    """Where slices are sought. loss: a name of slice_check.LOSSES."""

    columns: Mapping[str, Column]
    loss: str = "error"
    depth: int = 2
    min_size: int = 50


@dataclass(frozen=True, kw_only=True)
class ImpactOptions:
    """The columns of impact ratios.

    scoring: of scores above the median. unknown: names of no category. exclude_below: categories of a
    smaller share of the rows take no part, at most 0.02.
    """

    sex: str
    race: str
    scoring: bool = False
    unknown: tuple[str, ...] = ()
    exclude_below: float = 0.0


@dataclass(frozen=True, kw_only=True)
class FlipOptions:
    """Which columns are changed before the model is asked again."""

    model: "TabularModel"
    columns: tuple[str, ...]
    positive: "Positive"
    threshold: float | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Wanted:
    """What is compared how, and what is measured beside the groups.

    features: of each row, for neighbors and flips. accepted: the decisions of the accepted run.
    """

    min_group_size: int = 1
    references: Mapping[str, str] = field(default_factory=dict)
    missing_apart: bool = False
    features: "pandas.DataFrame | None" = None
    neighbors: int | None = None
    flips: FlipOptions | None = None
    slices: SliceOptions | None = None
    impact: ImpactOptions | None = None
    accepted: Flags | None = None


@dataclass(frozen=True, kw_only=True)
class Part:
    """Findings of one subject, with how they were measured."""

    findings: Sequence[Finding]
    steps: Sequence[str] = ()
    sources: Sequence[str] = ()
    not_tested: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """What every part is given."""

    check: str
    data: Predictions
    wanted: Wanted
    gates: tuple[Gate, ...]
    tags: tuple[str, ...]
    seed: int

    def gates_of(self, attribute: str) -> list[Gate]:
        return gates_of(self.gates, self.data, attribute)

    @property
    def gates_of_all(self) -> list[Gate]:
        """Those about one number of the whole table."""
        return [gate for gate in self.gates if gate.attribute is None]
