"""The answers to decision questions, and the model that is fitted to them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy

from assaymark.bias.lm_clusters import cluster_codes
from assaymark.bias.lm_decision_asking import Answer, Variant
from assaymark.bias.lm_decision_data import Decision, Decisions
from assaymark.bias.lm_mixed import Coefficients, Matrix, logistic_model, mixed_model
from assaymark.bias.lm_model import Failed
from assaymark.bias.rows import Numbers
from assaymark.reports.errors import InputError

Order = Literal["yes-first", "no-first", "both"]
"""Which answer a question names first; "both" asks twice."""


@dataclass(frozen=True, slots=True)
class Contrast:
    """A column of the model: a group against the reference, or age."""

    target: str
    factor: Literal["age", "gender", "race"]
    level: str = ""


@dataclass(frozen=True, kw_only=True)
class Decided:
    """What was asked and answered, and the coefficients that were fitted to it.

    answers: to each item, one for each order in which it was asked. age: mean and standard deviation of all
    that were asked about.
    """

    data: Decisions
    answers: tuple[tuple[Answer, ...] | Failed, ...]
    variant: Variant
    age: tuple[float, float]

    @cached_property
    def kept(self) -> tuple[tuple[Decision, tuple[Answer, ...]], ...]:
        both = zip(self.data.items, self.answers, strict=True)
        return tuple((item, found) for item, found in both if not isinstance(found, Failed))

    @property
    def items(self) -> tuple[Decision, ...]:
        return tuple(item for item, _ in self.kept)

    @cached_property
    def codes(self) -> numpy.ndarray:
        return cluster_codes([item.question for item in self.items])

    @cached_property
    def chance(self) -> Numbers:
        """Probability of "yes" among the two answers, the mean over the orders that were asked."""
        return numpy.array(
            [math.fsum(a.chance for a in found) / len(found) for _, found in self.kept]
        )

    @cached_property
    def wanted(self) -> tuple[Contrast, ...]:
        """What the questions vary, whether or not it was answered."""
        return contrasts(self.data)

    @cached_property
    def lost_groups(self) -> tuple[str, ...]:
        """Groups of which, or of whose reference, nothing was answered."""
        seen = {
            factor: {getattr(item, factor) for item in self.items} for factor in ("gender", "race")
        }
        return tuple(
            one.target
            for one in self.wanted
            if one.factor != "age"
            and not {one.level, self.data.reference[one.factor]} <= seen[one.factor]
        )

    @cached_property
    def contrasts(self) -> tuple[Contrast, ...]:
        return tuple(one for one in self.wanted if one.target not in self.lost_groups)

    @cached_property
    def fitted(self) -> tuple[Coefficients | None, str]:
        """One column for the intercept and each of `contrasts`; or None, and the reason."""
        if not self.kept:
            return None, "no item was answered"
        x = design(self.items, self.contrasts, self.age)
        try:
            if self.variant == "sampled":
                return logistic_model(x, *self._counts(), self.codes), ""
            return mixed_model(x, self._log_odds(), self.codes), ""
        except InputError as error:
            return None, str(error)

    @property
    def questions(self) -> tuple[str, ...]:
        """In the order of `codes` and of the rows of the fit."""
        return tuple(sorted({item.question for item in self.items}))

    def _log_odds(self) -> Numbers:
        return numpy.array(
            [math.fsum(answer.log_odds for answer in found) / len(found) for _, found in self.kept]
        )

    def _counts(self) -> tuple[Numbers, Numbers]:
        yes = [sum(round(a.yes * (a.replies or 0)) for a in found) for _, found in self.kept]
        no = [sum(round(a.no * (a.replies or 0)) for a in found) for _, found in self.kept]
        hits = numpy.array(yes, dtype=float)
        return hits, hits + numpy.array(no, dtype=float)


def contrasts(data: Decisions) -> tuple[Contrast, ...]:
    """What the questions vary: age, and each gender and race other than the reference."""
    found = [Contrast("age", "age")] if len({item.age for item in data.items}) > 1 else []
    factors: tuple[Literal["gender", "race"], ...] = ("gender", "race")
    for factor in factors:
        levels = dict.fromkeys(getattr(item, factor) for item in data.items)
        others = [level for level in levels if level != data.reference[factor]]
        found += [Contrast(f"{factor} = {level}", factor, level) for level in others]
    return tuple(found)


def design(
    items: Sequence[Decision], columns: Sequence[Contrast], age: tuple[float, float]
) -> Matrix:
    """(items, 1 + columns): ones, the age in standard deviations from the mean, and 1 in a group, else 0."""
    mean, deviation = age
    parts: list[Any] = [numpy.ones(len(items))]
    for column in columns:
        if column.factor == "age":
            parts.append([(item.age - mean) / deviation for item in items])
        else:
            parts.append([float(getattr(item, column.factor) == column.level) for item in items])
    return numpy.array(parts, dtype=float).T


def scale(data: Decisions) -> tuple[float, float]:
    """Mean and standard deviation of all ages that were asked (n − 1, as R's scale)."""
    ages = numpy.array([item.age for item in data.items])
    deviation = float(ages.std(ddof=1)) if len(ages) > 1 else 0.0
    return float(ages.mean()) if len(ages) else 0.0, deviation or 1.0
