"""Attacks that change as few channel values as they can: sigma-zero and the Jacobian saliency map."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from assaymark.robustness.balls import BALLS, PIXEL_RANGE, per_image
from assaymark.robustness.losses import Loss, advantage, fooled, other_classes
from assaymark.robustness.nearest import Nearest, second_look
from assaymark.robustness.oracle import ascent, logits_of, slopes
from assaymark.robustness.schedules import cosine
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Images, Labels, Logits, Model, Norm

_TINY = torch.finfo(torch.float32).tiny
_DECAY = (0.9, 0.999)
_PAIRED = 64

Flat = Float[Tensor, "batch values"]


def sigma_zero(
    model: Model,
    x: Images,
    y: Labels,
    *,
    eps: float = math.inf,
    norm: Norm = "l0",
    targeted: bool = False,
    streams: Streams | None = None,
    steps: int = 1000,
    step_size: float = 1.0,
    sigma: float = 1e-3,
    threshold: float = 0.3,
    change: float = 0.01,
) -> Images:
    """Gradient steps on a smooth count of the changed values (arXiv 2402.01879, algorithm 1).

    The count of a change d is d² / (d² + sigma). Changes below a threshold are set to 0; it starts at
    `threshold` and moves by `change` times the step size, up where the point fools and down where
    not. step_size anneals to a tenth. steps ≥ 1, the other settings above 0. With a finite eps a
    point leaves once an adversarial example inside it is found. Raises ValueError for settings
    outside their range. `streams` is not used.
    """
    if steps < 1 or min(step_size, sigma, threshold, change) <= 0:
        raise ValueError(
            "steps must be at least 1, step_size, sigma, threshold and change above 0, "
            f"got {steps}, {step_size}, {sigma}, {threshold} and {change}"
        )
    nearest = Nearest(x, BALLS[norm], eps, second_look(model, y, targeted=targeted))
    places = torch.arange(len(x), device=x.device)
    origin, delta = x, torch.zeros_like(x)
    mean, square = torch.zeros_like(x), torch.zeros_like(x)
    limit = torch.full((len(x),), threshold, dtype=x.dtype, device=x.device)
    pull = 2 * sigma / max(math.prod(x.shape[1:]), 1)  # of the count, as a share of all values
    for step in range(steps - 1):
        goal, here = y[places], origin + delta

        def hinge(logits: Logits, rows: slice, goal: Labels = goal) -> Loss:
            return -advantage(logits, goal[rows], targeted=targeted).clamp_max(0)

        logits, _, gradient = ascent(model, here, hinge)
        down = fooled(logits, goal, targeted=targeted)
        left = nearest.offer(places, here, down)
        if bool(left.any()):
            stay = ~left
            places, origin, delta, limit = places[stay], origin[stay], delta[stay], limit[stay]
            mean, square = mean[stay], square[stay]
            gradient, down = gradient[stay], down[stay]
            if not len(places):
                return nearest.answer()
        room = delta.square().add_(sigma).square_()
        gradient += delta.mul(pull).div_(room)
        gradient /= per_image(gradient.flatten(1).abs().amax(1).clamp_min(_TINY))
        mean = mean.lerp_(gradient, 1 - _DECAY[0])
        square = square.mul_(_DECAY[1]).addcmul_(gradient, gradient, value=1 - _DECAY[1])
        size = cosine(step_size, step_size / 10, step, steps)
        root = (square / (1 - _DECAY[1] ** (step + 1))).sqrt_().add_(1e-8)
        delta = delta.addcdiv_(mean, root, value=-size / (1 - _DECAY[0] ** (step + 1)))
        delta = delta.add_(origin).clamp_(*PIXEL_RANGE).sub_(origin)
        limit = (limit + torch.where(down, change, -change) * size).clamp_(0, 1)
        delta *= delta.abs() >= per_image(limit)
    here = origin + delta
    nearest.offer(places, here, fooled(logits_of(model, here), y[places], targeted=targeted))
    return nearest.answer()


def jsma(
    model: Model,
    x: Images,
    y: Labels,
    *,
    eps: float = math.inf,
    norm: Norm = "l0",
    targeted: bool = False,
    streams: Streams | None = None,
    share: float = 0.145,
    targets: int = 3,
) -> Images:
    """Pairs of values to the end of their range, by saliency (arXiv 1511.07528, algorithm 2 and 3).

    A pair is salient when moving it raises the target's logit and lowers the sum of the others.
    share in (0, 1]: at most so much of all values is changed. Without `targeted`, the `targets`
    likeliest other classes are tried. Both ways of moving a value are weighed, by the room it has
    (arXiv 1808.07945); pairs are formed among the 64 values that matter most. With a finite eps a
    point leaves once an adversarial example inside it is found. Raises ValueError for settings
    outside their range. `streams` is not used.
    """
    if not 0 < share <= 1 or targets < 1:
        raise ValueError(f"share must be in (0, 1] and targets at least 1, got {share}, {targets}")
    nearest = Nearest(x, BALLS[norm], eps, second_look(model, y, targeted=targeted))
    places = torch.arange(len(x), device=x.device)
    logits = logits_of(model, x)
    places = places[~nearest.offer(places, x, fooled(logits, y, targeted=targeted))]
    most = min(eps, max(2.0, share * math.prod(x.shape[1:])))
    aims = [y] if targeted else list(other_classes(logits, y).unbind(1)[:targets])
    for aim in aims:
        if not len(places):
            break
        places = _climb_saliency(model, nearest, places, y, aim, most, targeted=targeted)
    return nearest.answer()


def _climb_saliency(
    model: Model,
    nearest: Nearest,
    places: Int[Tensor, " some"],
    y: Labels,
    aim: Labels,
    most: float,
    *,
    targeted: bool,
) -> Int[Tensor, " standing"]:
    """One run towards a class; the points that may not leave."""
    standing = torch.ones(len(places), dtype=torch.bool, device=places.device)
    number = torch.arange(len(places), device=places.device)
    here = nearest.x[places]
    untouched = torch.ones_like(here.flatten(1), dtype=torch.bool)
    changed = 0
    while True:
        # a run that cannot end nearer than what is known, or inside the limit, is over
        may = (nearest.distance[places[number]] > changed + 1) & (most >= changed + 1)
        number, here, untouched = number[may], here[may], untouched[may]
        if not len(number):
            return places[standing]
        goal = aim[places[number]]

        def logits_and_rest(
            logits: Logits, rows: slice, goal: Labels = goal
        ) -> Float[Tensor, "rows two"]:
            own = logits.gather(1, goal[rows, None])
            return torch.cat([own, logits.sum(1, keepdim=True) - own], 1)

        _, _, gradients = slopes(model, here, logits_and_rest)
        up, others = gradients.flatten(2).unbind(1)
        here, touched = _move_pair(here.flatten(1), up, others, untouched, most - changed)
        here = here.view(len(number), *nearest.x.shape[1:])
        untouched = untouched & ~touched
        changed += 2
        down = fooled(logits_of(model, here), y[places[number]], targeted=targeted)
        standing[number] = ~nearest.offer(places[number], here, down)
        on = nearest.distance[places[number]] > changed
        number, here, untouched = number[on], here[on], untouched[on]


def _move_pair(
    here: Flat, own: Flat, others: Flat, untouched: Tensor, left: float
) -> tuple[Flat, Tensor]:
    """The most salient pair (or one value, where one is left) moved to the end of its range."""
    upward = own > others
    room = torch.where(upward, 1 - here, here) * untouched
    signed = torch.where(upward, room, -room)
    gain, loss = own * signed, -others * signed
    best, order = (gain + loss).topk(min(_PAIRED, gain.shape[1]), 1)
    gain, loss = gain.gather(1, order), loss.gather(1, order)
    raised, lowered = gain[:, :, None] + gain[:, None], loss[:, :, None] + loss[:, None]
    saliency = raised.clamp_min(0) * lowered.clamp_min(0)
    saliency = saliency.triu(1).flatten(1)
    value, pair = saliency.max(1)
    count = order.shape[1]
    first, second = pair // count, pair % count
    # no pair raises one and lowers the others: the two that widen the gap most
    none = value <= 0
    first, second = first.masked_fill(none, 0), second.masked_fill(none, min(1, count - 1))
    chosen = torch.stack([first, second], 1)
    if left < 2:
        alone = best.gather(1, chosen).argmax(1, keepdim=True)
        chosen = chosen.gather(1, alone)
    touched = torch.zeros_like(untouched).scatter(1, order.gather(1, chosen), True) & (room > 0)
    return torch.where(touched, upward.to(here.dtype), here), touched
