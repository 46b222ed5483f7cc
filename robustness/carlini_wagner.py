"""The L2 attack of Carlini and Wagner (https://arxiv.org/abs/1608.04644, section 5 and 6.A)."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from assaymark.robustness.balls import BALLS, per_image
from assaymark.robustness.losses import Loss, advantage
from assaymark.robustness.nearest import Nearest, second_look
from assaymark.robustness.oracle import ascent, logits_of
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Images, Labels, Logits, Model, Norm

_NARROW = 0.999999
"""Pixels at the end of their range would lie at infinity."""
_DECAY = (0.9, 0.999)
WORTH = 0.9999
"""A cost that is not below this share of the cost a tenth of a round ago ends the round for a point."""
_GROWTH = 10.0

Minimise = Callable[
    [Int[Tensor, " some"], Float[Tensor, " some"]],
    tuple[Int[Tensor, " standing"], Bool[Tensor, " standing"]],
]
"""One round over the numbered points with their weights: those that may not leave, and which fooled."""


def search_weight(
    minimise: Minimise, places: Int[Tensor, " some"], first: float, rounds: int
) -> None:
    """Find for each point the least weight of the loss with which it still fools (section 5.A).

    The weight grows tenfold until a round fools, and is bisected from then on.
    """
    low = torch.zeros(len(places), device=places.device)
    high = torch.full_like(low, torch.inf)
    weight = torch.full_like(low, first)
    for _ in range(rounds):
        if not len(places):
            return
        standing, won = minimise(places, weight)
        kept = torch.isin(places, standing, assume_unique=True)
        places, low, high, weight = places[kept], low[kept], high[kept], weight[kept]
        high = torch.where(won, weight, high)
        low = torch.where(won, low, weight)
        weight = torch.where(torch.isfinite(high), (low + high) / 2, weight * _GROWTH)


def ends_round(step: int, steps: int) -> bool:
    """Whether it is time to look if a round of `steps` still makes progress: ten times in all."""
    every = max(steps // 10, 1)
    return step % every == every - 1


def carlini_wagner(
    model: Model,
    x: Images,
    y: Labels,
    *,
    eps: float = math.inf,
    norm: Norm = "l2",
    targeted: bool = False,
    streams: Streams | None = None,
    steps: int = 1000,
    rounds: int = 9,
    learning_rate: float = 0.01,
    kappa: float = 0.0,
    first_weight: float = 1e-3,
) -> Images:
    """Adam on squared distance plus a weighted hinge of the logits, over pixels written as tanh.

    rounds: of the search for each point's own weight, `first_weight` in the first. steps: at most so
    many a round; a point ends its round when a tenth of them brought no progress. kappa ≥ 0: by how
    much the logit of the wrong class must lead. The paper takes 10,000 steps. With a finite eps a
    point leaves once an adversarial example inside it is found. Raises ValueError for settings
    outside their range. `streams` is not used.
    """
    if steps < 1 or rounds < 1 or kappa < 0 or not learning_rate > 0 or not first_weight > 0:
        raise ValueError(
            "steps and rounds must be at least 1, kappa at least 0, learning_rate and first_weight "
            f"above 0, got {steps}, {rounds}, {kappa}, {learning_rate} and {first_weight}"
        )
    nearest = Nearest(x, BALLS[norm], eps, second_look(model, y, targeted=targeted))
    places = torch.arange(len(x), device=x.device)
    lead = advantage(logits_of(model, x), y, targeted=targeted)
    places = places[~nearest.offer(places, x, _fools(lead, kappa))]

    def minimise(
        places: Int[Tensor, " some"], weight: Float[Tensor, " some"]
    ) -> tuple[Tensor, Tensor]:
        origin = x[places]
        start = torch.atanh((2 * origin - 1) * _NARROW)
        w, mean, square = start, torch.zeros_like(start), torch.zeros_like(start)
        number = torch.arange(len(places), device=x.device)
        won = torch.zeros(len(places), dtype=torch.bool, device=x.device)
        gone = torch.zeros_like(won)
        before = torch.full((len(places),), torch.inf, device=x.device)
        for step in range(steps):
            goal = y[places[number]]
            here = (w.tanh() + 1) / 2

            def hinge(logits: Logits, rows: slice, goal: Labels = goal) -> Loss:
                return (kappa - advantage(logits, goal[rows], targeted=targeted)).clamp_min(0)

            logits, loss, gradient = ascent(model, here, hinge)
            down = _fools(advantage(logits, goal, targeted=targeted), kappa)
            won[number] |= down
            left = nearest.offer(places[number], here, down)
            gone[number] |= left
            delta = here - origin
            if ends_round(step, steps):
                cost = delta.square().flatten(1).sum(1) + weight * loss
                left |= cost > before * WORTH
                before = cost
            gradient = gradient.mul_(per_image(weight)).add_(delta, alpha=2)
            gradient *= 2 * here * (1 - here)
            if bool(left.any()):
                stay = ~left
                number, weight, before = number[stay], weight[stay], before[stay]
                if not len(number):
                    break
                origin, w, gradient = origin[stay], w[stay], gradient[stay]
                mean, square = mean[stay], square[stay]
            mean = mean.lerp_(gradient, 1 - _DECAY[0])
            square = square.mul_(_DECAY[1]).addcmul_(gradient, gradient, value=1 - _DECAY[1])
            size = learning_rate / (1 - _DECAY[0] ** (step + 1))
            root = (square / (1 - _DECAY[1] ** (step + 1))).sqrt_().add_(1e-8)
            w = w.addcdiv(mean, root, value=-size)
        return places[~gone], won[~gone]

    search_weight(minimise, places, first_weight, rounds)
    return nearest.answer()


def _fools(lead: Float[Tensor, " batch"], kappa: float) -> Bool[Tensor, " batch"]:
    return lead > 0 if kappa == 0 else lead >= kappa
