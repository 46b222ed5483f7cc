"""Rows that are audited: what is true, what the model said, and which groups each row belongs to."""

from dataclasses import dataclass

import numpy

from assaymark.bias.codes import Codes, Column

Flags = numpy.ndarray[tuple[int], numpy.dtype[numpy.bool_]]
Numbers = numpy.ndarray[tuple[int], numpy.dtype[numpy.float64]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """One row a person or case.

    note: where the answers come from, for the report. weight: how many people a row stands for, at
    least 0 and finite. crossed: which of the groups are intersections of the others.
    """

    name: str
    groups: dict[str, Column]
    note: str
    weight: Numbers | None = None
    crossed: str | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions(Rows):
    """Two classes: label and decision, each positive or not. score: the model's number behind it."""

    label: Flags
    prediction: Flags
    score: Numbers | None

    @property
    def n(self) -> int:
        return len(self.label)


@dataclass(frozen=True, kw_only=True, eq=False)
class Classes(Rows):
    """Several classes: the codes of label and prediction count the same `classes`."""

    classes: tuple[str, ...]
    label: Codes
    prediction: Codes

    @property
    def n(self) -> int:
        return len(self.label)


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcomes(Rows):
    """A number and what the model said it would be, in the same unit."""

    label: Numbers
    prediction: Numbers

    @property
    def n(self) -> int:
        return len(self.label)


@dataclass(frozen=True, kw_only=True, eq=False)
class Rankings(Rows):
    """Items ranked by score within each query; relevance is at least 0."""

    query: Codes
    relevance: Numbers
    score: Numbers

    @property
    def n(self) -> int:
        return len(self.score)
