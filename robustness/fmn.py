"""Fast minimum-norm attack in L0, L1, L2 and L∞ (https://arxiv.org/abs/2102.12827)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from assaymark.robustness.balls import BALLS, PIXEL_RANGE, per_image
from assaymark.robustness.losses import Loss, advantage, fooled
from assaymark.robustness.nearest import Nearest, second_look
from assaymark.robustness.oracle import ascent, logits_of
from assaymark.robustness.schedules import cosine
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Images, Labels, Logits, Model, Norm

_TINY = torch.finfo(torch.float32).tiny
_DUAL: dict[Norm, float] = {"linf": 1, "l2": 2, "l1": math.inf}


def fmn(
    model: Model,
    x: Images,
    y: Labels,
    *,
    eps: float = math.inf,
    norm: Norm = "l2",
    targeted: bool = False,
    streams: Streams | None = None,
    steps: int = 100,
    step_size: float = 1.0,
    gamma: float = 0.05,
) -> Images:
    """Gradient steps inside a ball whose radius follows the distance of the boundary (algorithm 1).

    Until a point has fooled, its radius is the linear estimate of that distance (for L0 it grows);
    from then on it shrinks by gamma where the point fools and grows by gamma where not. step_size:
    the length in L2 of the first step; both anneal to a hundredth. steps ≥ 1, gamma in (0, 1),
    step_size above 0. With a finite eps a point leaves once an adversarial example inside it is
    found. Raises ValueError for settings outside their range. `streams` is not used.
    """
    if steps < 1 or not 0 < gamma < 1 or not step_size > 0:
        raise ValueError(
            "steps must be at least 1, gamma in (0, 1) and step_size above 0, "
            f"got {steps}, {gamma} and {step_size}"
        )
    ball = BALLS[norm]
    nearest = Nearest(x, ball, eps, second_look(model, y, targeted=targeted))
    places = torch.arange(len(x), device=x.device)
    origin, here = x, x
    radius = torch.full((len(x),), 1.0 if norm == "l0" else torch.inf, device=x.device)
    for step in range(steps - 1):
        goal = y[places]

        def lead(logits: Logits, rows: slice, goal: Labels = goal) -> Loss:
            return advantage(logits, goal[rows], targeted=targeted)

        logits, ahead, gradient = ascent(model, here, lead)
        down = fooled(logits, goal, targeted=targeted)
        left = nearest.offer(places, here, down)
        if bool(left.any()):
            stay = ~left
            places, origin, here, radius = places[stay], origin[stay], here[stay], radius[stay]
            gradient, down, ahead = gradient[stay], down[stay], ahead[stay]
            if not len(places):
                return nearest.answer()
        gradient = _movable(here, gradient)
        known = nearest.distance[places]
        change = cosine(gamma, gamma / 50, step, steps)
        if norm == "l0":
            radius = torch.where(
                down,
                torch.minimum(radius - 1, (radius * (1 - change)).floor()).minimum(known - 1),
                torch.maximum(radius + 1, (radius * (1 + change)).floor()).minimum(known - 1),
            ).clamp_min(1)
        else:
            length = torch.linalg.vector_norm(gradient.flatten(1), _DUAL[norm], dim=1)
            estimate = ball.distance(here - origin) - ahead / length.clamp_min(_TINY)
            # a little beyond the estimate: where it is exact, the point would end on the boundary
            grown = torch.where(torch.isfinite(known), radius, estimate) * (1 + change)
            radius = torch.where(down, (radius * (1 - change)).minimum(known * (1 - change)), grown)
        size = cosine(step_size, step_size / 100, step, steps)
        length = torch.linalg.vector_norm(gradient.flatten(1), dim=1).clamp_min(_TINY)
        moved = here + gradient * per_image(size / length)
        here = _into(origin, moved, radius, norm)
    down = fooled(logits_of(model, here), y[places], targeted=targeted)
    nearest.offer(places, here, down)
    return nearest.answer()


def _movable(here: Images, gradient: Images) -> Images:
    """The gradient of the values that can move its way; the others stand at the end of their range.

    The paper takes the whole gradient. Where many pixels are black or white, that promises distances
    that cannot be had, and points are then never reached.
    """
    low, high = PIXEL_RANGE
    stuck = ((here <= low) & (gradient < 0)) | ((here >= high) & (gradient > 0))
    return gradient.masked_fill(stuck, 0.0)


def _into(x: Images, moved: Images, radius: Float[Tensor, " batch"], norm: Norm) -> Images:
    """The nearest point of each image's own ball, then of the pixel range."""
    delta = moved - x
    if norm == "linf":
        limit = per_image(radius)
        delta = delta.clamp(-limit, limit)
    elif norm == "l2":
        length = torch.linalg.vector_norm(delta.flatten(1), dim=1).clamp_min(_TINY)
        delta *= per_image((radius / length).clamp_max(1))
    elif norm == "l1":
        delta = _shrink(delta.flatten(1), radius).view_as(x)
    else:
        delta = _keep_largest(delta.flatten(1), radius).view_as(x)
    return (x + delta).clamp_(*PIXEL_RANGE)


def _shrink(
    delta: Float[Tensor, "batch values"], radius: Float[Tensor, " batch"]
) -> Float[Tensor, "batch values"]:
    """The nearest point of the L1 ball: soft thresholding (Duchi et al. 2008)."""
    size = delta.abs()
    limit = radius[:, None]
    threshold = torch.zeros_like(limit)
    beyond = size.sum(1, keepdim=True) > limit
    # Newton's method on a convex, piecewise linear function of the threshold: exact in a few steps
    count = torch.zeros_like(limit)
    for _ in range(50):
        above = size > threshold
        now = above.sum(1, keepdim=True).to(size.dtype)
        if bool((now == count).all()):
            break
        count = now
        raised = ((size * above).sum(1, keepdim=True) - limit) / count.clamp_min(1)
        threshold = torch.where(beyond, raised.maximum(threshold), threshold)
    return delta.sign() * (size - threshold).clamp_min_(0)


def _keep_largest(
    delta: Float[Tensor, "batch values"], count: Float[Tensor, " batch"]
) -> Float[Tensor, "batch values"]:
    """The largest changes, as many as each image may have."""
    size = delta.abs()
    most = int(count.clamp(1, size.shape[1]).max()) if len(count) else 0
    order = size.topk(most, 1).indices
    rank = torch.arange(most, device=delta.device)
    kept = delta.gather(1, order) * (rank < count[:, None])
    return torch.zeros_like(delta).scatter_(1, order, kept)
