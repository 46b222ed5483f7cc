"""Our own attacks: pure functions from images to images, in one table.

Gradients are taken of the images only, so the model's parameters get none. A point leaves the
batch the moment it falls.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import cross_entropy

from assaymark.reports.errors import InputError
from assaymark.robustness.balls import BALLS, Ball, project
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Attack, Images, Labels, Logits, Model, Norm

_SPREAD = 10.0


def fooled(logits: Logits, y: Labels, *, targeted: bool) -> Bool[Tensor, " batch"]:
    """Whether the attacker has what it wants: any other class, or class y when targeted."""
    hit: Tensor = logits.argmax(1) == y
    return hit if targeted else ~hit


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

    L∞ is the fast gradient sign method; L2 its normalised-gradient form. `streams` is not used.
    """
    ball = BALLS[norm]
    _, gradient = _logits_and_gradient(model, x, y, targeted=targeted, damped=False)
    return project(x, x + eps * ball.steepest(gradient), eps, ball)


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
    2.5 · eps / steps; each restart draws a new start for the points that still stand. Without
    `streams`, the examples are numbered from 0 and the seed is 0.
    """
    if steps < 1 or restarts < 1:
        raise ValueError(f"steps and restarts must be at least 1, got {steps} and {restarts}")
    ball = BALLS[norm]
    step = 2.5 * eps / steps if step_size is None else step_size
    if not 0 < step < math.inf:
        raise ValueError(f"step_size must be a number above 0, got {step_size}")
    streams = streams or Streams.of(0, "pgd", list(range(len(x))))
    best = x.clone()
    standing = torch.ones(len(x), dtype=torch.bool, device=x.device)
    for restart in range(restarts):
        origin, labels = x[standing], y[standing]
        start = origin
        if random_start:
            noise = ball.random(origin, eps, streams.select(standing), f"pgd/{restart}")
            start = project(origin, origin + noise, eps, ball)
        end, fell = _climb(
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
        best[standing] = end
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
) -> tuple[Images, Bool[Tensor, " batch"]]:
    """The end of each walk, and whether it fools; a walk ends where it first fools."""
    end, fell = start.clone(), torch.zeros(len(x), dtype=torch.bool, device=x.device)
    active = torch.arange(len(x), device=x.device)
    here = start
    for _ in range(steps):
        logits, gradient = _logits_and_gradient(
            model, here, y[active], targeted=targeted, damped=True
        )
        down = fooled(logits, y[active], targeted=targeted)
        if down.any():
            end[active[down]], fell[active[down]] = here[down], True
            active, here, gradient = active[~down], here[~down], gradient[~down]
        if not len(active):
            return end, fell
        here = project(x[active], here + step * ball.steepest(gradient), eps, ball)
    end[active] = here
    with torch.no_grad():
        fell[active] = fooled(model(here), y[active], targeted=targeted)
    return end, fell


def _logits_and_gradient(
    model: Model, x: Images, y: Labels, *, targeted: bool, damped: bool
) -> tuple[Logits, Images]:
    """Logits, and the direction in which the attacker's loss grows."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        logits = model(x)
        scale = _damping(logits.detach()) if damped else 1.0
        loss = cross_entropy(logits * scale, y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, x)
    if not torch.isfinite(gradient).all():
        bad = int((~torch.isfinite(gradient.flatten(1))).any(1).sum())
        raise InputError(
            f"the model's gradient is NaN or infinite for {bad} of {len(x)} images, so they cannot be "
            "attacked: look for powers, roots or logarithms at 0, or attack with labels only "
            '("foolbox:HopSkipJumpAttack")'
        )
    return logits.detach(), -gradient if targeted else gradient


def _damping(logits: Logits) -> Float[Tensor, "batch 1"]:
    """A factor that brings the spread of each row of logits to at most 10.

    The cross-entropy of a very confident model is flat in float32: its gradient would vanish, and
    the model look robust (https://arxiv.org/abs/1608.04644, section 6).
    """
    spread = logits.amax(1, keepdim=True) - logits.amin(1, keepdim=True)
    return (_SPREAD / spread.clamp_min(_SPREAD)).to(logits.dtype)


@dataclass(frozen=True, kw_only=True)
class AttackCard:
    """An attack of the table with what a reader of the list wants to know."""

    run: Attack
    knowledge: Literal["white-box", "scores", "labels"]
    norms: tuple[Norm, ...]
    paper: str


ATTACKS: dict[str, AttackCard] = {
    "fgsm": AttackCard(
        run=fgsm,
        knowledge="white-box",
        norms=("linf", "l2"),
        paper="Goodfellow et al. 2015, arXiv 1412.6572",
    ),
    "pgd": AttackCard(
        run=pgd,
        knowledge="white-box",
        norms=("linf", "l2"),
        paper="Madry et al. 2018, arXiv 1706.06083",
    ),
}
