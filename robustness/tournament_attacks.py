"""The attacks of a tournament: one row each, however many stages it has, and what the harness allows."""

import inspect
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from assaymark.reports.errors import InputError
from assaymark.robustness import catalogue
from assaymark.robustness.attacks import ATTACKS
from assaymark.robustness.balls import BALLS, within
from assaymark.robustness.losses import fooled
from assaymark.robustness.oracle import logits_of
from assaymark.robustness.streams import Streams
from assaymark.robustness.suites import SUITES
from assaymark.robustness.types import Attack, Images, Labels, Logits, Model, Norm

SHARE = 100
"""Images that share one time limit (worker.py of the competition)."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One attack. surrogate: the model it is run on where it does not see the defenses."""

    label: str
    name: str
    options: Mapping[str, Any]
    targeted: bool
    surrogate: Model | None = None

    @property
    def called(self) -> str:
        """The label where targeted and untargeted rows stand side by side."""
        return f"{self.label} (targeted)" if self.targeted else self.label


def attack_of(
    name: str, options: Mapping[str, Any], norm: Norm, *, gradient: bool = True, blind: bool = False
) -> Attack:
    """The attack of a row, made anew for each game since a suite keeps notes.

    blind: it is run on a surrogate, so where it can go on after that is fooled, it does. Raises
    InputError for what cannot be built.
    """
    if name in SUITES:
        return in_turn(catalogue.build([(name, options)], norm, gradient=gradient))
    chosen = dict(options)
    if (
        blind
        and name in ATTACKS
        and "until_fooled" in inspect.signature(ATTACKS[name].run).parameters
    ):
        chosen = {"until_fooled": False} | chosen
    return catalogue.find(name, chosen, norm)


def in_turn(stages: Mapping[str, Attack]) -> Attack:
    """Several attacks as one: each is given the points that stand after those before it."""

    def run(
        model: Model,
        x: Images,
        y: Labels,
        *,
        eps: float,
        norm: Norm,
        targeted: bool,
        streams: Streams | None,
    ) -> Images:
        moved, standing = x.clone(), torch.arange(len(x), device=x.device)
        for attack in stages.values():
            if not len(standing):
                break
            own = None if streams is None else streams.select(standing)
            found = attack(
                model, x[standing], y[standing], eps=eps, norm=norm, targeted=targeted, streams=own
            ).detach()
            moved[standing] = found
            fell = fooled(logits_of(model, found), y[standing], targeted=targeted)
            standing = standing[~(fell & within(x[standing], found, eps, BALLS[norm]))]
        return moved

    return run


def eight_bit_steps(eps: float) -> int:
    """The whole 8-bit steps in a radius with pixels in [0, 1]."""
    return math.floor(eps * 255 + 1e-6)


def clip_to_eight_bits(base: Images, submitted: Images, steps: int) -> Images:
    """What the harness makes of an attack's images: 8 bits, and inside the ball around `base`.

    base: multiples of 1/255 in [0, 1]; steps: the radius in 8-bit steps. As AttacksOutput of
    run_attacks_and_defenses.py clips the files that an attack wrote.
    """
    origin = (base * 255).round()
    pixels = (submitted * 255).round().clamp(0, 255)
    return pixels.clamp(origin - steps, origin + steps).clamp(0, 255) / 255


@dataclass(frozen=True)
class Timed:
    """A model that stops answering when the time is up."""

    model: Model
    limit: float | None
    begin: float = field(default_factory=time.monotonic)

    def __call__(self, x: Images) -> Logits:
        self.check()
        return self.model(x)

    def check(self) -> None:
        if self.limit is not None and time.monotonic() - self.begin > self.limit:
            raise InputError(f"over the time limit of {self.limit:g} s for {SHARE} images")
