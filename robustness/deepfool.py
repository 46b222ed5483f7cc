"""DeepFool: from boundary to boundary of the linearised model (https://arxiv.org/abs/1511.04599)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from assaymark.robustness.balls import BALLS, PIXEL_RANGE, per_image
from assaymark.robustness.losses import fooled, other_classes
from assaymark.robustness.nearest import Nearest, second_look
from assaymark.robustness.oracle import logits_of, slopes
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Images, Labels, Logits, Model, Norm

_TINY = torch.finfo(torch.float32).tiny
_BEYOND = 1e-4
"""Added to the distance of each step, as the authors' program does: where pixels are cut at the end of
their range, the steps would otherwise come ever nearer to the boundary and not cross it."""


def deepfool(
    model: Model,
    x: Images,
    y: Labels,
    *,
    eps: float = math.inf,
    norm: Norm = "l2",
    targeted: bool = False,
    streams: Streams | None = None,
    steps: int = 50,
    overshoot: float = 0.02,
    classes: int = 9,
) -> Images:
    """Step to the nearest of the linearised boundaries until one is crossed (algorithm 2).

    L2 or L∞ (section 3.4). steps ≥ 1; overshoot ≥ 0: how far beyond the boundary the sum of all
    steps goes; classes ≥ 1: how many of the other classes are looked at, the likeliest on the image
    first. `streams` is not used. Raises ValueError for settings outside their range, and where
    targeted, which the paper does not define.
    """
    if targeted:
        raise ValueError("deepfool cannot be aimed at a class: use fab-t, ddn or fmn")
    if steps < 1 or classes < 1 or overshoot < 0:
        raise ValueError(
            "steps and classes must be at least 1 and overshoot at least 0, "
            f"got {steps}, {classes} and {overshoot}"
        )
    nearest = Nearest(x, BALLS[norm], eps, second_look(model, y, targeted=False))
    logits = logits_of(model, x)
    places = torch.arange(len(x), device=x.device)
    others = other_classes(logits, y)[:, :classes]
    here = x
    for step in range(steps + 1):
        down = fooled(logits, y[places], targeted=False)
        nearest.offer(places, here, down)
        stay = torch.isinf(nearest.distance[places])
        places, here, others = places[stay], here[stay], others[stay]
        if not len(places) or step == steps:
            break
        labels = y[places]

        def leads(
            logits: Logits, rows: slice, labels: Labels = labels, others: Tensor = others
        ) -> Float[Tensor, "rows others"]:
            return logits.gather(1, others[rows]) - logits.gather(1, labels[rows, None])

        _, values, gradients = slopes(model, here, leads)
        change = _to_nearest(values.abs(), gradients, norm)
        here = (here + (1 + overshoot) * change).clamp(*PIXEL_RANGE)
        logits = logits_of(model, here)
    return nearest.answer()


def _to_nearest(
    gap: Float[Tensor, "batch others"],
    w: Float[Tensor, "batch others channels height width"],
    norm: Norm,
) -> Images:
    """The least change to the nearest of several hyperplanes (equations 8 and 9, and 10 for L∞)."""
    flat = w.flatten(2)
    length = torch.linalg.vector_norm(flat, 1 if norm == "linf" else 2, dim=2).clamp_min(_TINY)
    chosen = (gap / length).argmin(1)
    rows = torch.arange(len(chosen), device=chosen.device)
    gap, length, w = gap[rows, chosen], length[rows, chosen], w[rows, chosen]
    away = gap / length + _BEYOND
    return per_image(away) * (w.sign() if norm == "linf" else w / per_image(length))
