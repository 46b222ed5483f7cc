"""What all parts of a policy are made of: numbers, texts, gates and the base of every check."""

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from assaymark.reports.model import Gate, Limit, Severity


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A number that a gate may name. good: which limits make sense; interval: has one.

    scale: what it counts, where it is no share of 1 and may exceed it. zero: 0 may be demanded of it.
    """

    good: Literal["high", "low", "either"]
    interval: bool = False
    scale: str | None = None
    zero: bool = False


def number(value: object) -> float:
    """A number, or a fraction in a string such as "8/255".

    >>> number("8/255") == 8 / 255
    True
    """
    wrong = f'expected a number or a fraction such as "8/255", got {str(value)[:40]!r}'
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(wrong)
    # a short pattern first: Fraction would compute 10^999999999
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        raise ValueError(wrong)
    try:
        return float(Fraction(value.replace(" ", "")) if isinstance(value, str) else value)
    except (ValueError, ZeroDivisionError, OverflowError):
        raise ValueError(wrong) from None


_NUMBER = re.compile(r"\s*[+-]?[0-9.]{1,20}(e[+-]?[0-9]{1,2})?\s*(/\s*[0-9]{1,20}\s*)?")
Number = Annotated[
    float,
    BeforeValidator(number, json_schema_input_type=float | str),
    Field(allow_inf_nan=False),
]
Text = Annotated[str, Field(min_length=1)]


def scalar(value: object) -> object:
    if not isinstance(value, str | int | float | bool):
        raise ValueError(f'expected one value such as 1 or "yes", got {value!r}')
    return value


def listed(value: object) -> object:
    return value if isinstance(value, list | tuple) else [value]


Texts = Annotated[
    tuple[Text, ...],
    BeforeValidator(listed, json_schema_input_type=Text | list[Text]),
    Field(strict=False),
]
"""One text or a list of them."""


class Strict(BaseModel):
    """Unknown keys and silent conversions are errors; values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class GateEntry(Strict):
    """A limit on one metric: exactly one of `min` and `max`."""

    metric: Text
    min: Number | None = None
    max: Number | None = None
    on: Literal["estimate", "lower", "upper"] = "estimate"
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    severity: Severity = "high"
    attribute: Text | None = None
    """Bias only: the sensitive column or the category the gate is about; without it, all of them."""
    defense: Text | None = None
    """Tournament only: the defense the gate is about; without it, all of them."""

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        if (self.min is None) == (self.max is None):
            raise ValueError("a gate has either min or max")
        wrong, right = ("upper", "lower") if self.max is None else ("lower", "upper")
        if self.on == wrong:
            which = "min" if self.max is None else "max"
            raise ValueError(
                f'on = "{wrong}" with {which} would pass by luck on few samples: '
                f'write on = "{right}" or "estimate"'
            )
        return self

    @property
    def gate(self) -> Gate:
        return Gate(
            metric=self.metric,
            limit=Limit(minimum=self.min, maximum=self.max, on=self.on),
            confidence=self.confidence,
            severity=self.severity,
            attribute=self.attribute,
            defense=self.defense,
        )


class Baseline(Strict):
    """How far each gated metric may get worse than in the accepted report."""

    max_drop: Annotated[Number, Field(ge=0)]


class Check(Strict):
    """What all kinds of check have in common."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")]
    gate: Annotated[
        tuple[GateEntry, ...],
        BeforeValidator(listed, json_schema_input_type=GateEntry | list[GateEntry]),
        Field(strict=False),
    ] = ()
    baseline: Baseline | None = None
    tags: Annotated[tuple[str, ...], Field(strict=False)] = ()

    @property
    def gates(self) -> tuple[Gate, ...]:
        return tuple(entry.gate for entry in self.gate)


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    if not value[0] < value[1]:
        raise ValueError(f"a range is [low, high] with low < high, got {list(value)}")
    return value


Range = Annotated[tuple[Number, Number], Field(strict=False), AfterValidator(_ordered)]
