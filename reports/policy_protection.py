"""The check of protective noise, as a policy writes it: pictures and those who shall not read them."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from assaymark.reports.policy_robustness import AttackSpec, ModelKeys, Size, as_attack
from assaymark.reports.policy_types import Check, Text, Texts, listed


class RecogniserEntry(ModelKeys):
    """A classifier that shall not recognise pictures: { model = "x.onnx", image_size = [224, 224] }."""

    image_size: Size | None = None


def _recogniser(value: object) -> object:
    return {"model": value} if isinstance(value, str) else value


Recognisers = Annotated[
    tuple[Annotated[RecogniserEntry, BeforeValidator(_recogniser)], ...],
    BeforeValidator(
        listed, json_schema_input_type=Text | RecogniserEntry | list[Text | RecogniserEntry]
    ),
    Field(strict=False),
]
"""A model spec, a table, or a list of them."""
COUNTERMEASURES = ("jpeg", "median", "resize", "blur", "bit-depth")
"""Tried on protected pictures where a check names none."""


class ProtectionCheck(Check):
    """Whether recognisers no longer recognise pictures with protective noise."""

    kind: Literal["protection"]
    originals: Annotated[Texts, Field(min_length=1)]
    protected: Text
    models: Annotated[Recognisers, Field(min_length=1)]
    held_out_models: Recognisers = ()
    labels: Text | None = None
    classes: Annotated[tuple[Text, ...], Field(min_length=2, strict=False)] | None = None
    countermeasures: Annotated[
        tuple[Annotated[AttackSpec, BeforeValidator(as_attack)], ...],
        BeforeValidator(listed, json_schema_input_type=Text | AttackSpec | list[Text | AttackSpec]),
        Field(strict=False),
    ] = tuple(AttackSpec(name=name) for name in COUNTERMEASURES)

    @property
    def touches_files(self) -> bool:
        """It reads pictures beside models, so it is always run anew."""
        return True

    @model_validator(mode="after")
    def _gates_of_what_is_named(self) -> Self:
        metrics = {entry.metric for entry in self.gate}
        if "held_out_protection_rate" in metrics and not self.held_out_models:
            raise ValueError(
                "held_out_protection_rate is that of recognisers that the noise was not made for: name "
                "them with held_out_models = […]"
            )
        if "surviving_protection_rate" in metrics and not self.countermeasures:
            raise ValueError(
                "surviving_protection_rate is that after countermeasures, and the list is empty"
            )
        return self
