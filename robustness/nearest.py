"""What every attack with the goal "nearest" keeps: the nearest adversarial example of each point."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from assaymark.robustness.balls import Ball, exactly, per_image, settle
from assaymark.robustness.losses import fooled
from assaymark.robustness.oracle import certain, logits_of
from assaymark.robustness.types import Images, Labels, Model

Look = Callable[[Int[Tensor, " some"], Images], Bool[Tensor, " some"]]
"""Whether images that fooled, of the numbered points, do so again."""


def second_look(model: Model, y: Labels, *, targeted: bool) -> Look | None:
    """Ask a model that answers at random once more: a lucky answer is no fall. Else None."""
    if certain(model):
        return None
    return lambda places, images: fooled(logits_of(model, images), y[places], targeted=targeted)


class Nearest:
    """The nearest adversarial examples found so far, and which points may leave.

    With a finite radius a point may leave once an adversarial example inside it is known; without
    one, only a point that is adversarial as it stands. look: what a candidate must stand to be kept.
    """

    def __init__(self, x: Images, ball: Ball, eps: float, look: Look | None = None) -> None:
        self.x, self.ball, self.eps, self.look = x, ball, eps, look
        self.images = x.clone()
        self.attempts = x.clone() if math.isfinite(eps) else x
        self.distance: Float[Tensor, " batch"] = torch.full((len(x),), torch.inf, device=x.device)

    def offer(
        self, places: Int[Tensor, " some"], candidates: Images, adversarial: Bool[Tensor, " some"]
    ) -> Bool[Tensor, " some"]:
        """Keep each adversarial candidate that is nearer than what is known; which points may leave.

        places: the points' numbers, each at most once.
        """
        if math.isfinite(self.eps):
            self.attempts[places] = candidates
        if bool(adversarial.any()):
            places_down, down = places[adversarial], candidates[adversarial]
            change = down - self.x[places_down]
            if math.isfinite(self.eps):
                change = exactly(change)  # the check of the answer is as strict
            length = self.ball.distance(change).to(self.distance)
            near = length < self.distance[places_down]
            if self.look is not None and bool(near.any()):
                near[near.clone()] = self.look(places_down[near], down[near])
            self.images[places_down[near]] = down[near]
            self.distance[places_down[near]] = length[near]
        return self.distance[places] <= (self.eps if math.isfinite(self.eps) else 0.0)

    def answer(self) -> Images:
        """The nearest found, or on the way to it as far as the radius allows.

        Where none was found: x, or with a radius the last attempt, so that the point is seen to be tried.
        """
        found = torch.isfinite(self.distance)
        if math.isfinite(self.eps):
            ended = torch.where(per_image(found), self.images, self.attempts)
            return settle(self.x, ended, torch.ones_like(found), self.eps, self.ball)
        return settle(self.x, self.images, found, self.eps, self.ball)
