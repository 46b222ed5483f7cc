"""The policy: what a team demands of a model or a file before it ships.

`assaymark.toml`, or `[tool.assaymark]` in pyproject.toml. Every wrong key, type, unit, path or id
is a PolicyError with file:line:column.
"""

import re
import tomllib
from collections import Counter
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from assaymark.reports.model import Gate, Limit, Severity


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A number in [0, 1] that a gate may name. good: which limits make sense; interval: has one."""

    good: Literal["high", "low", "either"]
    interval: bool = False


_GAP, _RATIO = Metric(good="low"), Metric(good="high")
METRICS: dict[str, dict[str, Metric]] = {
    "robustness": {
        "robust_accuracy": Metric(good="high", interval=True),
        "clean_accuracy": Metric(good="high", interval=True),
        "attack_success_rate": Metric(good="low", interval=True),
    },
    "bias.table": {
        "demographic_parity_difference": _GAP,
        "demographic_parity_ratio": _RATIO,
        "equalized_odds_difference": _GAP,
        "equalized_odds_ratio": _RATIO,
        "accuracy": Metric(good="high", interval=True),
        "selection_rate": Metric(good="either", interval=True),
        "true_positive_rate": Metric(good="high", interval=True),
        "false_positive_rate": Metric(good="low", interval=True),
    },
    "provenance": {"trusted_files": Metric(good="high"), "intact_files": Metric(good="high")},
}


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


def _scalar(value: object) -> object:
    if not isinstance(value, str | int | float | bool):
        raise ValueError(f'expected one value such as 1 or "yes", got {value!r}')
    return value


def _listed(value: object) -> object:
    return value if isinstance(value, list | tuple) else [value]


Texts = Annotated[
    tuple[Text, ...],
    BeforeValidator(_listed, json_schema_input_type=Text | list[Text]),
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
    """Bias only: the sensitive column the gate is about; without it, all of them."""

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
        )


class Baseline(Strict):
    """How far each gated metric may get worse than in the accepted report."""

    max_drop: Annotated[Number, Field(ge=0)]


class Check(Strict):
    """What all kinds of check have in common."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")]
    gate: Annotated[
        tuple[GateEntry, ...],
        BeforeValidator(_listed, json_schema_input_type=GateEntry | list[GateEntry]),
        Field(strict=False),
    ] = ()
    baseline: Baseline | None = None
    tags: Annotated[tuple[str, ...], Field(strict=False)] = ()

    @property
    def gates(self) -> tuple[Gate, ...]:
        return tuple(entry.gate for entry in self.gate)


class AttackSpec(Strict):
    """An attack by name, with its own options: { name = "pgd", steps = 100 }."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    name: Text

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


def _attack(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


class Normalize(Strict):
    """Per-channel mean and standard deviation, subtracted and divided inside the model."""

    mean: Annotated[tuple[Number, ...], Field(min_length=1, strict=False)]
    std: Annotated[tuple[Annotated[Number, Field(gt=0)], ...], Field(min_length=1, strict=False)]

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        if len(self.mean) != len(self.std):
            raise ValueError(
                f"mean has {len(self.mean)} channels and std {len(self.std)}: give one of each"
            )
        return self


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    if not value[0] < value[1]:
        raise ValueError(f"a range is [low, high] with low < high, got {list(value)}")
    return value


Range = Annotated[tuple[Number, Number], Field(strict=False), AfterValidator(_ordered)]


class RobustnessCheck(Check):
    """Attack an image classifier."""

    kind: Literal["robustness"]
    model: Text
    data: Text
    arch: Text | None = None
    model_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    attack: Annotated[
        tuple[Annotated[AttackSpec, BeforeValidator(_attack)], ...],
        BeforeValidator(
            _listed, json_schema_input_type=Text | AttackSpec | list[Text | AttackSpec]
        ),
        Field(min_length=1, strict=False),
    ]
    norm: Literal["linf", "l2"]
    eps: Annotated[Number, Field(gt=0)]
    target: Text | None = None
    examples: Annotated[int, Field(ge=1)] | None = None
    batch_size: Annotated[int, Field(ge=1)] = 250
    classes: Annotated[tuple[Text, ...], Field(min_length=2, strict=False)] | None = None
    normalize: Normalize | None = None
    input_range: Range | None = None
    data_range: Range | None = None
    image_size: (
        Annotated[
            tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]], Field(strict=False)
        ]
        | None
    ) = None

    @model_validator(mode="after")
    def _classes_once(self) -> Self:
        twice = [name for name, times in Counter(self.classes or ()).items() if times > 1]
        if twice:
            raise ValueError(f"classes names {twice[0]!r} twice: each output has its own name")
        return self

    @model_validator(mode="after")
    def _linf_unit(self) -> Self:
        if self.norm == "linf" and self.eps > 1:
            raise ValueError(
                f"eps = {self.eps:g} is larger than the whole pixel range [0, 1]: "
                f'write eps = "{self.eps:g}/255" for 8-bit units'
            )
        return self


class BiasTableCheck(Check):
    """Group metrics over a table of predictions."""

    kind: Literal["bias.table"]
    data: Text
    label: Text
    prediction: Text | None = None
    score: Text | None = None
    threshold: Number = 0.5
    sensitive: Annotated[Texts, Field(min_length=1)]
    positive: Annotated[
        str | int | float | bool,
        BeforeValidator(_scalar, json_schema_input_type=str | int | float | bool),
    ] = 1
    min_group_size: Annotated[int, Field(ge=1)] = 1

    @model_validator(mode="after")
    def _something_to_audit(self) -> Self:
        if self.prediction is None and self.score is None:
            raise ValueError("name the column of predictions, or of scores with a threshold")
        for gate in self.gate:
            if gate.attribute is not None and gate.attribute not in self.sensitive:
                raise ValueError(
                    f'gate.attribute = "{gate.attribute}" is not in sensitive = '
                    f"{list(self.sensitive)}"
                )
        return self


class ProvenanceCheck(Check):
    """Verify the Content Credentials of files."""

    kind: Literal["provenance"]
    files: Annotated[Texts, Field(min_length=1)]
    trust_anchors: Texts = ()


AnyCheck = Annotated[
    RobustnessCheck | BiasTableCheck | ProvenanceCheck, Field(discriminator="kind")
]
KINDS: dict[str, type[Check]] = {
    "robustness": RobustnessCheck,
    "bias.table": BiasTableCheck,
    "provenance": ProvenanceCheck,
}


class WaiverEntry(Strict):
    """A broken or undecided limit that a named person accepts until a date."""

    check: Text
    metric: Text | None = None
    reason: Text
    owner: Text
    expires: date


class Policy(Strict):
    """A whole policy file."""

    schema_version: Annotated[Literal[1], Field(alias="schema")] = 1
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    baseline: Text | None = None
    check: Annotated[tuple[AnyCheck, ...], Field(strict=False)] = ()
    waiver: Annotated[tuple[WaiverEntry, ...], Field(strict=False)] = ()

    def waiver_for(self, check: str, metric: str, today: date) -> WaiverEntry | None:
        """The waiver in force for a metric of a check; an expired one does not count."""
        return next(
            (
                entry
                for entry in self.waiver
                if entry.check == check
                and entry.metric in (None, metric)
                and entry.expires >= today
            ),
            None,
        )


def json_schema() -> dict[str, Any]:
    """JSON Schema of assaymark.toml, for editors."""
    return Policy.model_json_schema(by_alias=True)


def policy_files(start: Path) -> Path | None:
    """The nearest assaymark.toml, or pyproject.toml with [tool.assaymark], from `start` upwards."""
    for folder in (start, *start.parents):
        if (folder / "assaymark.toml").is_file():
            return folder / "assaymark.toml"
        project = folder / "pyproject.toml"
        if project.is_file():
            text = project.read_text(encoding="utf-8-sig", errors="replace")
            try:
                tool = tomllib.loads(text).get("tool", {})
            except (ValueError, RecursionError):
                # broken, but perhaps ours: reading it will say what is wrong
                tool = {"assaymark": None} if re.search(r"tool\.\s*\"?assaymark", text) else {}
            if isinstance(tool, dict) and "assaymark" in tool:
                return project
    return None
