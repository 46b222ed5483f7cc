"""Auto-PGD: gradient ascent whose step halves where it stops paying (arXiv 2003.01690, section 3).

One walk serves every norm and loss; L1 takes the sparse steps of arXiv 2103.01208. A point leaves the
walk at the first iterate that fools.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from assaymark.robustness.balls import BALLS, Ball, per_image, project
from assaymark.robustness.losses import (
    Loss,
    damped_cross_entropy,
    difference,
    dlr,
    fooled,
    other_classes,
    targeted_dlr,
)
from assaymark.robustness.oracle import ascent, leaves, logits_of
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Images, Labels, Logits, Model, Norm

_RHO = 0.75
_MOMENTUM = 0.75
Objective = Callable[[Logits, Labels, Labels], Loss]
"""From logits, the goal (y, or the class wanted) and the class steered to: what is climbed."""


@dataclass
class Walk:
    """The state of a walk, one row a point that still stands."""

    place: Int[Tensor, " standing"]
    x: Images
    y: Labels
    steer: Labels
    here: Images
    before: Images
    step: Float[Tensor, " standing"]
    best: Images
    best_gradient: Images
    best_loss: Float[Tensor, " standing"]
    loss: Float[Tensor, " standing"]
    """Of the last iterate."""
    checked_loss: Float[Tensor, " standing"]
    """The best at the last checkpoint."""
    rises: Float[Tensor, " standing"]
    halved: Bool[Tensor, " standing"]
    density: Float[Tensor, " standing"]
    """L1 only: the share of the values that a step moves."""
    changed: Float[Tensor, " standing"]
    """L1 only: how many values differed at the last checkpoint."""

    def keep(self, mask: Bool[Tensor, " standing"]) -> None:
        """Only the points where `mask` is true go on."""
        for name, value in vars(self).items():
            setattr(self, name, value[mask])


class Climbed(NamedTuple):
    """Where walks ended: at what fooled, else at their highest loss."""

    end: Images
    fell: Bool[Tensor, " batch"]
    height: Float[Tensor, " batch"]


def checkpoints(steps: int) -> dict[int, int]:
    """The steps at which a walk looks back, and the length of the window before each.

    Windows shrink from 22 % of all steps by 3 % each time, down to 6 % (section 3.2).

    >>> list(checkpoints(100))
    [22, 41, 57, 70, 80, 87, 93, 99]
    """
    found, at = {}, 0
    window = max(int(0.22 * steps), 1)
    while at + window <= steps:
        at += window
        found[at] = window
        window = max(window - max(int(0.03 * steps), 1), max(int(0.06 * steps), 1))
    return found


def climb(
    model: Model,
    x: Images,
    y: Labels,
    steer: Labels,
    start: Images,
    objective: Objective,
    *,
    eps: float,
    norm: Norm,
    targeted: bool,
    steps: int,
    leave: bool = True,
    first_step: float = 2.0,
) -> Climbed:
    """One walk of `steps` steps from `start`: steps + 1 forward and `steps` backward passes a point.

    leave: whether a point that fools leaves the walk; without it, and where
    `leaves` says so, the end is the highest loss.
    first_step: as a multiple of eps.
    """
    ball = BALLS[norm]
    leave = leave and leaves(model)
    end, fell = start.clone(), torch.zeros(len(x), dtype=torch.bool, device=x.device)
    highest = torch.zeros(len(x), device=x.device)
    walk: Walk | None = None
    place = torch.arange(len(x), device=x.device)
    windows = checkpoints(steps)
    sparse_window = max(int(0.04 * steps), 1)
    here = start
    for i in range(steps):
        goal, towards = (y, steer) if walk is None else (walk.y, walk.steer)

        def loss(
            logits: Logits, rows: slice, goal: Labels = goal, towards: Labels = towards
        ) -> Loss:
            return objective(logits, goal[rows], towards[rows])

        logits, height, gradient = ascent(model, here, loss)
        down = fooled(logits, goal, targeted=targeted) if leave else fell.new_zeros(len(here))
        if down.any():
            gone = place[down] if walk is None else walk.place[down]
            end[gone], fell[gone], highest[gone] = here[down], True, height[down]
        if walk is None:
            walk = _begin(place, x, y, steer, start, height, gradient, eps * first_step)
        if down.any():
            walk.keep(~down)
            height, gradient = height[~down], gradient[~down]
        if not len(walk.place):
            return Climbed(end, fell, highest)
        if i > 0:
            gradient = _remember(walk, height, gradient)
            if norm == "l1" and i % sparse_window == 0:
                gradient = _sparser(walk, gradient, ball, eps)
            elif norm != "l1" and i in windows:
                gradient = _look_back(walk, gradient, windows[i])
        here = _step(walk, gradient, ball, norm, eps, first=i == 0)
        walk.before, walk.here = walk.here, here
    assert walk is not None
    answers = logits_of(model, here)
    fell[walk.place] = fooled(answers, walk.y, targeted=targeted) & leave
    height = objective(answers, walk.y, walk.steer)
    higher = (height > walk.best_loss) | fell[walk.place]
    end[walk.place] = torch.where(per_image(higher), here, walk.best)
    highest[walk.place] = torch.where(higher, height, walk.best_loss)
    return Climbed(end, fell, highest)


def _begin(
    place: Tensor,
    x: Images,
    y: Labels,
    steer: Labels,
    start: Images,
    height: Tensor,
    gradient: Tensor,
    step: float,
) -> Walk:
    ones = torch.ones_like(height)
    return Walk(
        place=place, x=x, y=y, steer=steer, here=start, before=start, step=step * ones,
        best=start, best_gradient=gradient, best_loss=height, loss=height, checked_loss=height,
        rises=0 * ones, halved=ones.bool(), density=0.2 * ones, changed=x[:1].numel() * ones,
    )  # fmt: skip


def _remember(walk: Walk, height: Tensor, gradient: Tensor) -> Tensor:
    walk.rises = walk.rises + (height > walk.loss)
    better = height > walk.best_loss
    walk.loss = height
    walk.best_loss = torch.where(better, height, walk.best_loss)
    walk.best = torch.where(per_image(better), walk.here, walk.best)
    walk.best_gradient = torch.where(per_image(better), gradient, walk.best_gradient)
    return gradient


def _look_back(walk: Walk, gradient: Tensor, window: int) -> Tensor:
    """Halve the step and go back to the best point, where too few steps rose or none helped."""
    few = walk.rises <= _RHO * window
    stuck = ~walk.halved & (walk.checked_loss >= walk.best_loss)
    walk.halved = few | stuck
    walk.step = torch.where(walk.halved, walk.step / 2, walk.step)
    walk.rises, walk.checked_loss = torch.zeros_like(walk.rises), walk.best_loss
    back = per_image(walk.halved)
    walk.here = torch.where(back, walk.best, walk.here)
    return torch.where(back, walk.best_gradient, gradient)


def _sparser(walk: Walk, gradient: Tensor, ball: Ball, eps: float) -> Tensor:
    """L1: how many values the best point changes sets how many a step moves (2103.01208, 3.2)."""
    changed = (walk.best - walk.x).flatten(1).ne(0).sum(1).to(walk.changed)
    fewer = changed / walk.changed.clamp_min(1) < 0.95
    walk.density = changed / walk.x[:1].numel() / 1.5
    walk.step = torch.where(fewer, eps, walk.step / 1.5).clamp(eps / 10, eps)
    walk.changed = changed
    back = per_image(fewer)
    walk.here = torch.where(back, walk.best, walk.here)
    return torch.where(back, walk.best_gradient, gradient)


def _step(
    walk: Walk, gradient: Tensor, ball: Ball, norm: Norm, eps: float, *, first: bool
) -> Images:
    if norm == "l1":
        direction = _sparse_sign(gradient, walk.density)
        return project(walk.x, walk.here + per_image(walk.step) * direction, eps, ball)
    ahead = walk.here + per_image(walk.step) * ball.steepest(gradient)
    ahead = project(walk.x, ahead, eps, ball)
    if first:
        return ahead
    drift = _MOMENTUM * (ahead - walk.here) + (1 - _MOMENTUM) * (walk.here - walk.before)
    return project(walk.x, walk.here + drift, eps, ball)


def _sparse_sign(gradient: Tensor, density: Tensor) -> Tensor:
    """The signs of the largest entries, divided by their number."""
    flat = gradient.flatten(1)
    values = flat.shape[1]
    count = (density * values).long().clamp(1, values)
    least = flat.abs().sort(1).values.gather(1, values - count[:, None])
    sign = torch.where(flat.abs() >= least, flat.sign(), torch.zeros_like(flat))
    return (sign / sign.abs().sum(1, keepdim=True).clamp_min(1)).view_as(gradient)


def random_start(x: Images, *, eps: float, norm: Norm, streams: Streams, tag: str) -> Images:
    """A random point of the sphere, as AutoAttack draws it."""
    ball = BALLS[norm]
    noise = 2 * streams.uniform(x, tag) - 1 if norm == "linf" else streams.normal(x, tag)
    if norm == "l1":
        return project(x, x + noise, eps, ball)
    length = ball.distance(noise).clamp_min(torch.finfo(noise.dtype).tiny)
    return project(x, x + eps * noise / per_image(length), eps, ball)


def untargeted_ce(logits: Logits, goal: Labels, steer: Labels) -> Loss:
    return damped_cross_entropy(logits, goal)


def towards_ce(logits: Logits, goal: Labels, steer: Labels) -> Loss:
    return -damped_cross_entropy(logits, goal)


def untargeted_dlr(logits: Logits, goal: Labels, steer: Labels) -> Loss:
    return dlr(logits, goal)


def away_from(logits: Logits, goal: Labels, steer: Labels) -> Loss:
    return targeted_dlr(logits, goal, steer)


def towards_dlr(logits: Logits, goal: Labels, steer: Labels) -> Loss:
    """Towards the class wanted, away from `steer`, the class answered for the image."""
    return targeted_dlr(logits, steer, goal)


def plain_difference(logits: Logits, goal: Labels, steer: Labels) -> Loss:
    return difference(logits, goal, steer)


def apgd_ce(
    model: Model,
    x: Images,
    y: Labels,
    *,
    eps: float,
    norm: Norm = "linf",
    targeted: bool = False,
    streams: Streams | None = None,
    steps: int = 100,
    restarts: int = 1,
) -> Images:
    """APGD on the cross-entropy (https://arxiv.org/abs/2003.01690, section 3).

    A point that never falls costs (steps + 1) forward and steps backward passes a restart.
    """
    objective = towards_ce if targeted else untargeted_ce
    best, _ = _restarted(
        model, x, y, None, objective, eps=eps, norm=norm, targeted=targeted, streams=streams,
        steps=steps, restarts=restarts, tag="apgd-ce",
    )  # fmt: skip
    return best


def apgd_dlr(
    model: Model,
    x: Images,
    y: Labels,
    *,
    eps: float,
    norm: Norm = "linf",
    targeted: bool = False,
    streams: Streams | None = None,
    steps: int = 100,
    restarts: int = 1,
) -> Images:
    """APGD on the difference of logits ratio (https://arxiv.org/abs/2003.01690, section 4).

    With a target, on its targeted form away from the class that the model answers.
    """
    steer = logits_of(model, x).argmax(1) if targeted else None
    objective = towards_dlr if targeted else untargeted_dlr
    best, _ = _restarted(
        model, x, y, steer, objective, eps=eps, norm=norm, targeted=targeted, streams=streams,
        steps=steps, restarts=restarts, tag="apgd-dlr",
    )  # fmt: skip
    return best


def apgd_t(
    model: Model,
    x: Images,
    y: Labels,
    *,
    eps: float,
    norm: Norm = "linf",
    targeted: bool = False,
    streams: Streams | None = None,
    steps: int = 100,
    targets: int = 9,
) -> Images:
    """APGD on the targeted DLR, towards one class after the other, the most likely first.

    targets: how many classes are tried (all others where there are fewer). Untargeted: it is fooled by
    any of them. Raises ValueError when targeted, since it chooses its targets itself.
    """
    if targeted:
        raise ValueError("apgd-t chooses its targets itself: use apgd-dlr with a target")
    order = other_classes(logits_of(model, x), y)[:, :targets]
    best = x.clone()
    standing = torch.arange(len(x), device=x.device)
    for rank in range(order.shape[1]):
        end, fell = _restarted(
            model, x[standing], y[standing], order[standing, rank], away_from, eps=eps, norm=norm,
            targeted=False, streams=None if streams is None else streams.select(standing),
            steps=steps, restarts=1, tag=f"apgd-t/{rank}",
        )  # fmt: skip
        best[standing] = end
        standing = standing[~fell]
        if not len(standing):
            break
    return best


def _restarted(
    model: Model,
    x: Images,
    y: Labels,
    steer: Labels | None,
    objective: Objective,
    *,
    eps: float,
    norm: Norm,
    targeted: bool,
    streams: Streams | None,
    steps: int,
    restarts: int,
    tag: str,
) -> tuple[Images, Bool[Tensor, " batch"]]:
    if steps < 1 or restarts < 1:
        raise ValueError(f"steps and restarts must be at least 1, got {steps} and {restarts}")
    streams = streams or Streams.of(0, "apgd", list(range(len(x))))
    best = x.clone()
    standing = torch.arange(len(x), device=x.device)
    fallen = torch.ones(len(x), dtype=torch.bool, device=x.device)
    for restart in range(restarts):
        origin = x[standing]
        mine = streams.select(standing)
        goal, towards = y[standing], (y if steer is None else steer)[standing]
        start = random_start(origin, eps=eps, norm=norm, streams=mine, tag=f"{tag}/{restart}")
        end, fell, _ = walks(
            model, origin, goal, towards, start, objective,
            eps=eps, norm=norm, targeted=targeted, steps=steps,
        )  # fmt: skip
        best[standing] = end
        standing = standing[~fell]
        if not len(standing):
            break
    fallen[standing] = False
    return best, fallen


def walks(
    model: Model,
    x: Images,
    y: Labels,
    steer: Labels,
    start: Images,
    objective: Objective,
    *,
    eps: float,
    norm: Norm,
    targeted: bool,
    steps: int,
) -> Climbed:
    """One walk; in L1 first in balls of three and two times the radius (2103.01208, section 3.3)."""
    if norm != "l1":
        return climb(
            model, x, y, steer, start, objective, eps=eps, norm=norm, targeted=targeted, steps=steps
        )
    wide = max(int(0.3 * steps), 1)
    for times in (3, 2):
        start, _, _ = climb(
            model, x, y, steer, project(x, start, times * eps, BALLS[norm]), objective,
            eps=times * eps, norm=norm, targeted=targeted, steps=wide, leave=False, first_step=1.0,
        )  # fmt: skip
    return climb(
        model, x, y, steer, project(x, start, eps, BALLS[norm]), objective,
        eps=eps, norm=norm, targeted=targeted, steps=max(steps - 2 * wide, 1), first_step=1.0,
    )  # fmt: skip
