"""Steps along the gradient inside a fixed ball: FGSM, R+FGSM, BIM and PGD."""

import math

import torch
from jaxtyping import Bool
from torch import Tensor

from assaymark.robustness.balls import BALLS, Ball, per_image, project
from assaymark.robustness.losses import (
    Loss,
    advantage,
    cross_entropy,
    damped_cross_entropy,
    fooled,
)
from assaymark.robustness.oracle import ascent, leaves, logits_of
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Images, Labels, Logits, Model, Norm


def fgsm(
    model: Model,
    x: Images,
    y: Labels,
    *,
    eps: float,
    norm: Norm = "linf",
    targeted: bool = False,
    streams: Streams | None = None,
) -> Images:
    """One step of length eps up the loss (https://arxiv.org/abs/1412.6572, section 4).

    L∞ is the fast gradient sign method; L2 its normalised-gradient form; L1 moves the one value that
    matters most. `streams` is not used.
    """
    ball = BALLS[norm]
    sign = -1 if targeted else 1

    def loss(logits: Logits, rows: slice) -> Loss:
        return sign * cross_entropy(logits, y[rows])

    _, _, gradient = ascent(model, x, loss)
    return project(x, x + eps * ball.steepest(gradient), eps, ball)


def rfgsm(
    model: Model,
    x: Images,
    y: Labels,
    *,
    eps: float,
    norm: Norm = "linf",
    targeted: bool = False,
    streams: Streams | None = None,
) -> Images:
    """A random step of half the radius, then FGSM with the rest (R+FGSM, arXiv 1705.07204, 3.3)."""
    ball = BALLS[norm]
    streams = streams or Streams.of(0, "rfgsm", list(range(len(x))))
    noise = streams.normal(x, "rfgsm")
    start = project(x, x + eps / 2 * ball.steepest(noise), eps, ball)
    moved = fgsm(model, start, y, eps=eps / 2, norm=norm, targeted=targeted)
    return project(x, moved, eps, ball)


def bim(
    model: Model,
    x: Images,
    y: Labels,
    *,
    eps: float,
    norm: Norm = "linf",
    targeted: bool = False,
    streams: Streams | None = None,
    steps: int = 10,
    step_size: float | None = None,
) -> Images:
    """FGSM again and again from the image itself (https://arxiv.org/abs/1607.02533, section 2.2).

    step_size in pixel units, by default eps / steps. `streams` is not used.
    """
    return pgd(
        model,
        x,
        y,
        eps=eps,
        norm=norm,
        targeted=targeted,
        streams=streams,
        steps=steps,
        step_size=eps / steps if step_size is None and steps > 0 else step_size,
        random_start=False,
    )


def pgd(
    model: Model,
    x: Images,
    y: Labels,
    *,
    eps: float,
    norm: Norm = "linf",
    targeted: bool = False,
    streams: Streams | None = None,
    steps: int = 40,
    step_size: float | None = None,
    restarts: int = 1,
    random_start: bool = True,
) -> Images:
    """Projected gradient descent from random starts (https://arxiv.org/abs/1706.06083, section 2.1).

    The loss is the cross-entropy of logits whose spread is brought to at most 10, so that a very
    confident model does not hide its gradient. steps ≥ 1; step_size in pixel units, by default
    2.5 · eps / steps; each restart draws a new start for the points that still stand, and of those
    that never fall the end with the best margin is kept. Without `streams`, the examples are numbered
    from 0 and the seed is 0.
    """
    if steps < 1 or restarts < 1:
        raise ValueError(f"steps and restarts must be at least 1, got {steps} and {restarts}")
    ball = BALLS[norm]
    step = 2.5 * eps / steps if step_size is None else step_size
    if not 0 < step < math.inf:
        raise ValueError(f"step_size must be a number above 0, got {step_size}")
    streams = streams or Streams.of(0, "pgd", list(range(len(x))))
    best = x.clone()
    highest = torch.full((len(x),), -torch.inf, device=x.device)
    standing = torch.ones(len(x), dtype=torch.bool, device=x.device)
    for restart in range(restarts):
        origin, labels = x[standing], y[standing]
        start = origin
        if random_start:
            noise = ball.random(origin, eps, streams.select(standing), f"pgd/{restart}")
            start = project(origin, origin + noise, eps, ball)
        end, fell, height = _climb(
            model,
            origin,
            labels,
            start,
            eps=eps,
            ball=ball,
            targeted=targeted,
            steps=steps,
            step=step,
        )
        higher = height > highest[standing]
        best[standing] = torch.where(per_image(higher), end, best[standing])
        highest[standing] = height.maximum(highest[standing])
        standing[standing.clone()] = ~fell
        if not standing.any():
            break
    return best


def _climb(
    model: Model,
    x: Images,
    y: Labels,
    start: Images,
    *,
    eps: float,
    ball: Ball,
    targeted: bool,
    steps: int,
    step: float,
) -> tuple[Images, Bool[Tensor, " batch"], Loss]:
    """The end of each walk, whether it fools there, and by how much.

    A walk ends where it first fools, but for models of which no point leaves.
    """
    end, fell = start.clone(), torch.zeros(len(x), dtype=torch.bool, device=x.device)
    height = torch.zeros(len(x), device=x.device)
    leave = leaves(model)
    active = torch.arange(len(x), device=x.device)
    here = start
    sign = -1 if targeted else 1
    for _ in range(steps):
        goal = y[active]

        def loss(logits: Logits, rows: slice, goal: Labels = goal) -> Loss:
            return sign * damped_cross_entropy(logits, goal[rows])

        logits, _, gradient = ascent(model, here, loss)
        down = fooled(logits, goal, targeted=targeted) & leave
        if down.any():
            end[active[down]], fell[active[down]] = here[down], True
            height[active[down]] = advantage(logits, goal, targeted=targeted)[down].float()
            active, here, gradient = active[~down], here[~down], gradient[~down]
        if not len(active):
            return end, fell, height
        here = project(x[active], here + step * ball.steepest(gradient), eps, ball)
    end[active] = here
    logits = logits_of(model, here)
    fell[active] = fooled(logits, y[active], targeted=targeted) & leave
    height[active] = advantage(logits, y[active], targeted=targeted).float()
    return end, fell, height
