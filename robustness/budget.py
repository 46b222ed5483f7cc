"""What a black box may be asked: so many images in all, so many a point, and no point left unsaid.

A point is attacked in full when its attack ended by itself, fooled the model, or asked as often as an
attacker may. Where the money runs out first, nothing is known about the point.
"""

import inspect
import math
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool
from torch import Tensor

from assaymark.reports.errors import InputError
from assaymark.robustness.balls import BALLS, Ball, within
from assaymark.robustness.losses import fooled
from assaymark.robustness.oracle import logits_of
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Attack, Images, Labels, Logits, Model, Norm

_CONFIRM = 2
"""Queries with which the engine checks what an attack says about a point."""


class BudgetSpent(InputError):
    """No query is left in the whole budget."""


class CannotRun(InputError):
    """An attack that cannot begin at these points, though it may at others."""


@dataclass(eq=False)
class Budget:
    """Images that a black box may be asked about, and how many it was asked about.

    per_point: at most so many by one attack at one point; total: at most so many in all; None is no
    limit. reserved: queries that attacks must leave for the answers to images as they are.
    """

    per_point: int | None = None
    total: int | None = None
    spent: int = 0
    reserved: int = 0

    @property
    def limited(self) -> bool:
        return self.per_point is not None or self.total is not None

    @property
    def left(self) -> float:
        """What attacks may still ask; infinite without a limit."""
        return math.inf if self.total is None else float(self.total - self.spent - self.reserved)

    def pays_for(self, images: int) -> None:
        """Set one answer to each of these images apart; raises BudgetSpent when they are too many."""
        if self.total is not None and self.spent + images > self.total:
            raise BudgetSpent(
                f"max_queries = {self.total} does not pay for one answer to each of {images} images "
                f"({self.spent} were asked about before): raise it, or draw fewer with examples"
            )
        self.reserved = images

    def spend(self, images: int) -> None:
        """Count images before they are sent; raises BudgetSpent when they are too many."""
        if self.total is not None and self.spent + images > self.total:
            raise BudgetSpent(
                f"max_queries = {self.total} does not allow {images} more images, {self.spent} were "
                "asked about: raise it, or draw fewer images with examples"
            )
        self.spent += images


def attack_within(
    budget: Budget,
    attack: Attack,
    model: Model,
    x: Images,
    y: Labels,
    *,
    eps: float,
    norm: Norm,
    targeted: bool,
    streams: Streams,
) -> tuple[Images, Bool[Tensor, " batch"]]:
    """The moved images, and which points were attacked in full.

    An attack with an option `queries` counts for itself and is given as many points at once as the
    budget surely pays for. Any other is run point by point: then each image it asks about is known
    to belong to that point, and the attack ends at the first one that fools inside the ball.
    """
    run = partial(attack, eps=eps, norm=norm, targeted=targeted)
    options = inspect.signature(attack).parameters
    if "queries" in options and options["queries"].default is not inspect.Parameter.empty:
        each = int(options["queries"].default)
        rounds = int(options["restarts"].default) if "restarts" in options else 1
        if budget.per_point is not None:
            each = min(each, budget.per_point // rounds)
        if each < min(1, int(options["queries"].default)):  # a transfer asks nothing
            raise InputError(
                f"queries = {budget.per_point} is less than one for each of {rounds} restarts"
            )
        counted = partial(run, queries=each)
        return _in_rounds(budget, counted, each * rounds, model, x, y, streams)
    watch = partial(_Watch, ball=BALLS[norm], eps=eps, targeted=targeted)
    return _one_by_one(budget, run, watch, model, x, y, streams)


def _in_rounds(
    budget: Budget,
    run: "partial[Images]",
    most: int,
    model: Model,
    x: Images,
    y: Labels,
    streams: Streams,
) -> tuple[Images, Bool[Tensor, " batch"]]:
    moved, full = x.clone(), torch.zeros(len(x), dtype=torch.bool, device=x.device)
    begin = 0
    while begin < len(x):
        payable = (budget.left - begin * _CONFIRM) / (most + _CONFIRM)
        end = len(x) if payable >= len(x) - begin else begin + int(payable)
        if end <= begin:
            break
        chosen = torch.arange(begin, end, device=x.device)
        try:
            moved[chosen] = run(model, x[chosen], y[chosen], streams=streams.select(chosen))
        except BudgetSpent:  # it asked more than it said
            break
        full[chosen] = True
        begin = end
    return moved, full


def _one_by_one(
    budget: Budget,
    run: "partial[Images]",
    watch: "partial[_Watch]",
    model: Model,
    x: Images,
    y: Labels,
    streams: Streams,
) -> tuple[Images, Bool[Tensor, " batch"]]:
    moved, full = x.clone(), torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for place in range(len(x)):
        own = slice(place, place + 1)
        payable = budget.left - (place + 1) * _CONFIRM
        allowed = min(float(budget.per_point or math.inf), payable)
        if allowed < 1:
            break
        seen = watch(model, x[own], y[own], allowed=allowed)
        only = torch.tensor([place], device=x.device)
        try:
            moved[own] = run(seen, x[own], y[own], streams=streams.select(only))
            full[place] = True
        except _Ended:
            moved[own] = seen.answer
            full[place] = seen.found or allowed == budget.per_point
        except CannotRun:
            continue
    return moved, full


class _Ended(Exception):
    """The point has fallen, or no query is left for it."""


class _Watch:
    """A model asked about one point, which sees what it is asked and ends the attack in time."""

    def __init__(
        self,
        model: Model,
        x: Images,
        y: Labels,
        *,
        ball: Ball,
        eps: float,
        targeted: bool,
        allowed: float,
    ) -> None:
        self.model, self.x, self.y = model, x, y
        self.ball, self.eps, self.targeted, self.allowed = ball, eps, targeted, allowed
        self.asked = 0
        self.found = False
        self.answer = x
        """What fools inside the ball; until then the last image asked about, taken into the ball."""

    def __call__(self, asked: Images) -> Logits:
        if self.asked + len(asked) > self.allowed:
            raise _Ended
        self.asked += len(asked)
        logits = logits_of(self.model, asked)
        there = self.x.expand_as(asked)
        hit = fooled(logits, self.y.expand(len(asked)), targeted=self.targeted)
        hit &= within(there, asked.detach(), self.eps, self.ball)
        if hit.any() and math.isfinite(self.eps):
            self.answer, self.found = asked[hit][:1].detach(), True
            raise _Ended
        if len(asked):
            self.answer = self.ball.project(self.x, asked[-1:].detach(), self.eps)
        return logits
