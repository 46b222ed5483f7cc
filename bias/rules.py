"""Decision rules as plain data: thresholds by group, a linear model, or a mixture of linear models.

A rule gives each row the chance of a positive decision. It is 0 or 1 unless the rule draws lots.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy
import pandas
from pydantic import Field, model_validator
from scipy.special import expit

from assaymark.bias.codes import SEPARATOR, Codes
from assaymark.bias.encoders import (
    Encoder,
    Part,
    Text,
    column,
    matrix,
    names_of,
    numbers,
    places,
    texts_of,
)
from assaymark.bias.rows import Numbers
from assaymark.reports.errors import InputError

_SURE = 1e-9
Share = Annotated[float, Field(ge=0, le=1)]


class Step(Part):
    """A score above `above` adds this much to the chance."""

    above: float
    adds: Share


class GroupRule(Part):
    """The chance is always + the sum of the steps that the score is above."""

    group: Text
    always: Share = 0.0
    steps: Annotated[tuple[Step, ...], Field(max_length=10)] = ()

    @model_validator(mode="after")
    def _at_most_one(self) -> "GroupRule":
        if self.most > 1 + _SURE:
            raise ValueError(f"the chances of group {self.group!r} add up to more than 1")
        return self

    @property
    def most(self) -> float:
        return self.always + math.fsum(step.adds for step in self.steps)


class Thresholds(Part):
    """One or more thresholds for each group, on a score.

    group_columns: one, or several whose values joined by " × " are a group.
    """

    kind: Literal["thresholds"] = "thresholds"
    group_columns: Annotated[tuple[Text, ...], Field(min_length=1, max_length=10)]
    score_column: Text
    groups: Annotated[tuple[GroupRule, ...], Field(min_length=1, max_length=1000)]

    @model_validator(mode="after")
    def _once(self) -> "Thresholds":
        if len({rule.group for rule in self.groups}) < len(self.groups):
            raise ValueError("a group is named twice")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.group_columns, self.score_column)))

    @property
    def draws(self) -> bool:
        parts = [part for rule in self.groups for part in (rule.always, *_adds(rule))]
        return any(_SURE < part < 1 - _SURE for part in parts)

    def chances(self, frame: pandas.DataFrame) -> Numbers:
        """Raises InputError for a group that the thresholds were not found for."""
        score, codes = numbers(frame, self.score_column), self._groups(frame)
        chance = numpy.array([rule.always for rule in self.groups])[codes]
        for place, rule in enumerate(self.groups):
            mine = numpy.flatnonzero(codes == place)
            for step in rule.steps:
                chance[mine] += step.adds * (score[mine] > step.above)
        return chance.clip(0, 1)

    probabilities = chances

    def _groups(self, frame: pandas.DataFrame) -> Codes:
        values = _crossed([column(frame, name) for name in self.group_columns])
        known = tuple(rule.group for rule in self.groups)
        codes = places(values, known)
        if (codes < 0).any():
            row = int(numpy.flatnonzero(codes < 0)[0])
            raise InputError(
                f"row {row + 1} has the group {str(values.iloc[row])[:40]!r} in "
                f"{SEPARATOR.join(self.group_columns)}, for which no threshold was found; known are "
                f"{', '.join(known)}: fit again with rows of this group"
            )
        return codes


def _adds(rule: GroupRule) -> tuple[float, ...]:
    return tuple(step.adds for step in rule.steps)


def _crossed(columns: Sequence["pandas.Series[Any]"]) -> "pandas.Series[Any]":
    if len(columns) == 1:
        return columns[0]
    parts = []
    for each in columns:
        texts, codes = texts_of(each)
        parts.append(numpy.array(texts, dtype=object)[codes])
    return pandas.Series([SEPARATOR.join(row) for row in zip(*parts, strict=True)], dtype=object)


class Member(Part):
    """A linear model: positive where coefficients · columns + intercept is above 0.

    weight: the chance that this model decides.
    """

    weight: Annotated[float, Field(gt=0, le=1)]
    intercept: float
    coefficients: Annotated[tuple[float, ...], Field(max_length=100_000)]


class Linear(Part):
    """A logistic regression, or several of which a lot says which one decides."""

    kind: Literal["linear", "mixture"]
    encoders: Annotated[tuple[Encoder, ...], Field(min_length=1, max_length=1000)]
    members: Annotated[tuple[Member, ...], Field(min_length=1, max_length=1000)]

    @model_validator(mode="after")
    def _fits(self) -> "Linear":
        width = sum(encoder.width for encoder in self.encoders)
        for member in self.members:
            if len(member.coefficients) != width:
                raise ValueError(
                    f"{len(member.coefficients)} coefficients for {width} encoded columns"
                )
        if abs(math.fsum(member.weight for member in self.members) - 1) > 1e-6:
            raise ValueError("the weights of the members do not add up to 1")
        if (self.kind == "linear") != (len(self.members) == 1):
            raise ValueError(f"a {self.kind} rule of {len(self.members)} members")
        names = names_of(self.encoders)
        if len(set(names)) < len(names):
            raise ValueError("a column is encoded twice")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        return names_of(self.encoders)

    @property
    def draws(self) -> bool:
        return len(self.members) > 1

    def chances(self, frame: pandas.DataFrame) -> Numbers:
        weights = numpy.array([member.weight for member in self.members])
        positive = (self._sums(frame) > 0) @ weights
        return numpy.asarray(positive).clip(0, 1)

    def probabilities(self, frame: pandas.DataFrame) -> Numbers:
        """What a single logistic regression says; of a mixture the chances."""
        if self.draws:
            return self.chances(frame)
        return numpy.asarray(expit(self._sums(frame)[:, 0]))

    def _sums(self, frame: pandas.DataFrame) -> Any:
        coefficients = numpy.array([member.coefficients for member in self.members])
        intercepts = numpy.array([member.intercept for member in self.members])
        with numpy.errstate(over="ignore", invalid="ignore"):
            sums = matrix(self.encoders, frame) @ coefficients.T + intercepts
        if not numpy.isfinite(sums).all():
            raise InputError(
                "the sums of this model are too large: its numbers are not those of a fit"
            )
        return sums


Rule = Annotated[Thresholds | Linear, Field(discriminator="kind")]


def linear(
    encoders: Sequence[Any], members: Sequence[tuple[float, Sequence[float], float]]
) -> Linear:
    """A rule of members (weight, coefficients, intercept); those of weight 0 are left out."""
    kept = [member for member in members if member[0] > 0]
    total = math.fsum(weight for weight, _, _ in kept)
    return Linear(
        kind="linear" if len(kept) == 1 else "mixture",
        encoders=tuple(encoders),
        members=tuple(
            Member(
                weight=float(weight / total),
                intercept=float(intercept),
                coefficients=tuple(map(float, coefficients)),
            )
            for weight, coefficients, intercept in kept
        ),
    )
