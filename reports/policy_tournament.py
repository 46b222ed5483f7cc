"""The tournament check, as a policy writes it: many attacks, many defenses, one data set."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from assaymark.reports.policy_robustness import (
    AttackSpec,
    DataCheck,
    ModelKeys,
    Normalize,
    as_attack,
    check_unit,
)
from assaymark.reports.policy_types import Number, Range, Text, listed

TIME_LIMIT = 500.0
"""Seconds for 100 images in the competition."""


class Entrant(ModelKeys):
    """A defense or a surrogate: a model spec, or a table with how it is opened."""

    name: Text | None = None

    @property
    def called(self) -> str:
        return self.name or self.model


def _entrant(value: object) -> object:
    return {"model": value} if isinstance(value, str) else value


Entrants = Annotated[
    tuple[Annotated[Entrant, BeforeValidator(_entrant)], ...],
    BeforeValidator(listed, json_schema_input_type=Text | Entrant | list[Text | Entrant]),
    Field(strict=False),
]
AttacksOrNone = Annotated[
    tuple[Annotated[AttackSpec, BeforeValidator(as_attack)], ...],
    BeforeValidator(listed, json_schema_input_type=Text | AttackSpec | list[Text | AttackSpec]),
    Field(strict=False),
]


class TournamentCheck(DataCheck):
    """Every attack against every defense, on the same images."""

    kind: Literal["tournament"]
    defenses: Annotated[Entrants, Field(min_length=1)]
    attack: AttacksOrNone = ()
    targeted: AttacksOrNone = ()
    target: Literal["random", "least-likely"] = "random"
    norm: Literal["linf", "l2", "l1", "l0"] = "linf"
    eps: Annotated[Number, Field(gt=0)]
    protocol: Literal["white-box", "nips17"] = "white-box"
    surrogates: Entrants = ()
    ensemble: bool = False
    time_limit: Annotated[Number, Field(gt=0)] | None = None
    matrices: Text | None = None
    normalize: Normalize | None = None
    input_range: Range | None = None

    @model_validator(mode="after")
    def _playable(self) -> Self:
        check_unit(self.norm, self.eps)
        if not self.attack and not self.targeted:
            raise ValueError("a tournament needs attack, targeted, or both")
        names = [entry.called for entry in self.defenses]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(
                f'the defense "{twice}" takes part twice: give each its own name, or leave one out'
            )
        plain = [entry.model_copy(update={"name": None}) for entry in self.defenses]
        again = next((i for i, entry in enumerate(plain) if entry in plain[:i]), None)
        if again is not None:
            raise ValueError(
                f'"{names[plain.index(plain[again])]}" and "{names[again]}" are one defense: leave one out'
            )
        if self.protocol == "nips17":
            self._blind()
        elif self.surrogates or self.ensemble:
            raise ValueError(
                "surrogates are what an attack is run on when it does not see the defenses: write "
                'protocol = "nips17", or leave them out'
            )
        for gate in self.gate:
            if gate.defense is not None and gate.defense not in names:
                raise ValueError(f'gate.defense = "{gate.defense}" is not one of {names}')
        return self

    def _blind(self) -> None:
        if self.norm != "linf" or self.eps < (1 - 1e-6) / 255:
            raise ValueError(
                f"the nips17 protocol counts whole 8-bit steps in linf, got {self.norm} with eps = "
                f"{self.eps:g}: choose linf and an eps of at least 1/255"
            )
        if not self.surrogates:
            raise ValueError(
                "in the nips17 protocol an attack does not see the defenses: name the model it is run on "
                "with surrogates"
            )
        names = [entry.called for entry in self.surrogates]
        if len(set(names)) < len(names):
            raise ValueError(f"a surrogate is named twice in {names}: name each once")
        if self.ensemble and len(names) < 2:
            raise ValueError("ensemble attacks the mean of several surrogates, and one is named")

    @property
    def limit(self) -> float | None:
        """Seconds for 100 images: as the policy says, or as the protocol does."""
        return self.time_limit or (TIME_LIMIT if self.protocol == "nips17" else None)

    @property
    def entrants(self) -> tuple[Entrant, ...]:
        return (*self.defenses, *self.surrogates)

    @property
    def touches_files(self) -> bool:
        """Whether it writes files beside the report."""
        return self.matrices is not None
