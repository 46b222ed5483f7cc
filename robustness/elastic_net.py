"""EAD: the attack of Carlini and Wagner with an L1 term (https://arxiv.org/abs/1709.04114)."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from assaymark.robustness.balls import BALLS, PIXEL_RANGE, per_image
from assaymark.robustness.carlini_wagner import WORTH, ends_round, search_weight
from assaymark.robustness.losses import Loss, advantage, fooled
from assaymark.robustness.nearest import Nearest, second_look
from assaymark.robustness.oracle import ascent, logits_of
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Images, Labels, Logits, Model, Norm

_PATIENCE = 2
"""Looks without progress that end a round: momentum makes the cost rise and fall."""


def ead(
    model: Model,
    x: Images,
    y: Labels,
    *,
    eps: float = math.inf,
    norm: Norm = "l1",
    targeted: bool = False,
    streams: Streams | None = None,
    steps: int = 1000,
    rounds: int = 9,
    step_size: float = 0.01,
    beta: float = 0.01,
    first_weight: float = 1e-3,
) -> Images:
    """Shrinkage-thresholding with momentum (FISTA) on squared L2 + beta · L1 + a weighted hinge.

    The nearest in L1 is kept (section 4, the L1 rule). rounds: of the search for each point's weight,
    as in `carlini_wagner`. beta ≥ 0: changes below it are set to 0 in each step. step_size falls to
    0 as a square root. With a finite eps a point leaves once an adversarial example inside it is
    found. Raises ValueError for settings outside their range. `streams` is not used.
    """
    if steps < 1 or rounds < 1 or beta < 0 or not step_size > 0 or not first_weight > 0:
        raise ValueError(
            "steps and rounds must be at least 1, beta at least 0, step_size and first_weight above "
            f"0, got {steps}, {rounds}, {beta}, {step_size} and {first_weight}"
        )
    nearest = Nearest(x, BALLS[norm], eps, second_look(model, y, targeted=targeted))
    places = torch.arange(len(x), device=x.device)
    down = fooled(logits_of(model, x), y, targeted=targeted)
    places = places[~nearest.offer(places, x, down)]

    def minimise(
        places: Int[Tensor, " some"], weight: Float[Tensor, " some"]
    ) -> tuple[Tensor, Tensor]:
        origin = x[places]
        ahead = last = origin
        number = torch.arange(len(places), device=x.device)
        won = torch.zeros(len(places), dtype=torch.bool, device=x.device)
        gone = torch.zeros_like(won)
        stale = torch.zeros(len(places), dtype=torch.long, device=x.device)
        before = torch.full((len(places),), torch.inf, device=x.device)
        for step in range(steps):
            goal = y[places[number]]

            def hinge(logits: Logits, rows: slice, goal: Labels = goal) -> Loss:
                return -advantage(logits, goal[rows], targeted=targeted).clamp_max(0)

            logits, loss, gradient = ascent(model, ahead, hinge)
            down = fooled(logits, goal, targeted=targeted)
            won[number] |= down
            left = nearest.offer(places[number], ahead, down)
            gone[number] |= left
            delta = ahead - origin
            if ends_round(step, steps):
                flat = delta.flatten(1)
                cost = weight * loss + flat.square().sum(1) + beta * flat.abs().sum(1)
                stale = torch.where(cost > before * WORTH, stale + 1, 0)
                left |= stale >= _PATIENCE
                before = torch.minimum(before, cost)
            if bool(left.any()):
                stay = ~left
                number, weight, before = number[stay], weight[stay], before[stay]
                origin, ahead, last = origin[stay], ahead[stay], last[stay]
                gradient, delta, stale = gradient[stay], delta[stay], stale[stay]
                if not len(number):
                    break
            gradient = gradient.mul_(per_image(weight)).add_(delta, alpha=2)
            size = step_size * math.sqrt(1 - step / steps)
            change = ahead.sub(gradient, alpha=size).sub_(origin)
            change = change.sign() * (change.abs() - beta).clamp_min_(0)
            here = (origin + change).clamp_(*PIXEL_RANGE)
            ahead = (here + (here - last) * (step / (step + 3))).clamp_(*PIXEL_RANGE)
            last = here
        return places[~gone], won[~gone]

    search_weight(minimise, places, first_weight, rounds)
    return nearest.answer()
