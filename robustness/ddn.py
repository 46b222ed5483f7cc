"""Decoupled direction and norm: the loss gives the direction, success the length (arXiv 1811.09600)."""

import math

import torch

from assaymark.robustness.balls import BALLS, PIXEL_RANGE, per_image
from assaymark.robustness.losses import Loss, fooled, level_log_odds
from assaymark.robustness.nearest import Nearest, second_look
from assaymark.robustness.oracle import ascent, logits_of
from assaymark.robustness.schedules import cosine
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Images, Labels, Logits, Model, Norm

_TINY = torch.finfo(torch.float32).tiny


def ddn(
    model: Model,
    x: Images,
    y: Labels,
    *,
    eps: float = math.inf,
    norm: Norm = "l2",
    targeted: bool = False,
    streams: Streams | None = None,
    steps: int = 100,
    gamma: float = 0.05,
    start: float = 1.0,
) -> Images:
    """Gradient steps on a sphere that shrinks where the point fools and grows where not (algorithm 1).

    The radius begins at `start` (pixel units, L2) and changes by the factor 1 ± gamma; the step size
    anneals from 1 to 0.01. The direction is that of the cross-entropy, of logits of a set spread.
    Pixels are not rounded to 256 levels, as the paper does. steps ≥ 1, gamma in (0, 1), start above 0.
    `streams` gives a direction where the gradient is 0. With a finite eps a point leaves once an
    adversarial example inside it is found. Raises ValueError for settings outside their range.
    """
    if steps < 1 or not 0 < gamma < 1 or not start > 0:
        raise ValueError(
            "steps must be at least 1, gamma in (0, 1) and start above 0, "
            f"got {steps}, {gamma} and {start}"
        )
    ball = BALLS[norm]
    streams = streams or Streams.of(0, "ddn", list(range(len(x))))
    nearest = Nearest(x, ball, eps, second_look(model, y, targeted=targeted))
    places = torch.arange(len(x), device=x.device)
    origin, delta = x, torch.zeros_like(x)
    radius = torch.full((len(x),), start, dtype=x.dtype, device=x.device)
    sign = -1 if targeted else 1
    for step in range(steps - 1):
        goal, here = y[places], origin + delta

        def climb(logits: Logits, rows: slice, goal: Labels = goal) -> Loss:
            return sign * level_log_odds(logits, goal[rows])

        logits, _, gradient = ascent(model, here, climb)
        down = fooled(logits, goal, targeted=targeted)
        left = nearest.offer(places, here, down)
        if bool(left.any()):
            stay = ~left
            places, origin, delta, radius = places[stay], origin[stay], delta[stay], radius[stay]
            gradient, down = gradient[stay], down[stay]
            if not len(places):
                return nearest.answer()
        length = ball.distance(gradient)
        flat = length < _TINY
        if bool(flat.any()):
            noise = streams.select(places).normal(gradient, f"ddn/{step}")
            gradient = torch.where(per_image(flat), noise, gradient)
            length = ball.distance(gradient)
        radius = radius * torch.where(down, 1 - gamma, 1 + gamma)
        delta = delta + gradient * per_image(cosine(1.0, 0.01, step, steps) / length)
        delta *= per_image(radius / ball.distance(delta).clamp_min(_TINY))
        delta = (origin + delta).clamp_(*PIXEL_RANGE) - origin
    here = origin + delta
    nearest.offer(places, here, fooled(logits_of(model, here), y[places], targeted=targeted))
    return nearest.answer()
