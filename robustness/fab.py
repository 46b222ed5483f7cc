"""Fast adaptive boundary attack: project on the linearised decision boundary, drawn to the image.

https://arxiv.org/abs/1907.02044. FAB looks at the boundaries to all other classes in each step; its
targeted form FAB-T at one class at a time (https://arxiv.org/abs/2003.01690, section 4).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from assaymark.robustness.balls import BALLS, PIXEL_RANGE, Ball, per_image
from assaymark.robustness.hyperplanes import to_hyperplane
from assaymark.robustness.losses import Loss, advantage, difference, fooled, other_classes
from assaymark.robustness.nearest import Nearest, second_look
from assaymark.robustness.oracle import ascent, logits_of, slopes
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Images, Labels, Logits, Model, Norm

_TINY = torch.finfo(torch.float32).tiny
_BEYOND = 1.001
"""A step to the boundary goes so much further, to fool."""
_DUAL: dict[Norm, float] = {"linf": 1, "l2": 2, "l1": math.inf}

Plane = Callable[[Images, Int[Tensor, " some"]], tuple[Float[Tensor, " some"], Images]]
"""How far the attacker is ahead at some images of the numbered points, and the gradient of that."""


@dataclass(frozen=True, kw_only=True)
class _Walk:
    """The settings of the steps, named as in the paper."""

    model: Model
    y: Labels
    norm: Norm
    targeted: bool
    steps: int
    alpha_max: float
    eta: float
    beta: float
    final: int


def fab(
    model: Model,
    x: Images,
    y: Labels,
    *,
    eps: float = math.inf,
    norm: Norm = "linf",
    targeted: bool = False,
    streams: Streams | None = None,
    steps: int = 100,
    restarts: int = 1,
    alpha_max: float = 0.1,
    eta: float = 1.05,
    beta: float = 0.9,
    final: int = 3,
) -> Images:
    """The nearest adversarial example, by steps to the nearest of all linearised boundaries.

    Each step costs two forward passes and a backward pass for each other class (section 2.3). steps
    and restarts ≥ 1, the first run starts at the image; alpha_max in [0, 1]: how much a step is
    drawn back to the image; eta ≥ 1: how far it goes beyond the boundary; beta in (0, 1): where
    between the image and an adversarial example the next step begins; final: how many steps go back on
    the segment from what was found to the image, at a forward pass each and one to begin
    with (section 2.4). With a finite eps a point leaves once an adversarial
    example inside it is found. Raises ValueError for settings outside their range.
    """
    walk = _settings(model, y, norm, targeted, steps, alpha_max, eta, beta, final)

    def plane(here: Images, places: Tensor) -> tuple[Tensor, Tensor]:
        labels = y[places]

        def leads(logits: Logits, rows: slice) -> Float[Tensor, "rows others"]:
            others = other_classes(logits.detach(), labels[rows])
            return logits.gather(1, others) - logits.gather(1, labels[rows, None])

        _, values, gradients = slopes(model, here, leads)
        flat = gradients.flatten(2)
        length = torch.linalg.vector_norm(flat, _DUAL[norm], dim=2)
        chosen = (values.abs() / length.clamp_min(_TINY)).argmin(1)
        rows = torch.arange(len(chosen), device=chosen.device)
        return values[rows, chosen], gradients[rows, chosen]

    planes = [_to_class(model, y) if targeted else plane]
    return _search(x, eps, streams, walk, planes, restarts, logits_of(model, x))


def fab_t(
    model: Model,
    x: Images,
    y: Labels,
    *,
    eps: float = math.inf,
    norm: Norm = "linf",
    targeted: bool = False,
    streams: Streams | None = None,
    steps: int = 100,
    restarts: int = 1,
    targets: int = 9,
    alpha_max: float = 0.1,
    eta: float = 1.05,
    beta: float = 0.9,
    final: int = 3,
) -> Images:
    """As `fab`, towards one class at a time: one backward pass a step however many classes there are.

    targets: how many of the other classes are tried, the likeliest on the image first; all of them
    where there are fewer. With `targeted` only class y is. Raises ValueError as `fab`.
    """
    if targets < 1:
        raise ValueError(f"targets must be at least 1, got {targets}")
    walk = _settings(model, y, norm, targeted, steps, alpha_max, eta, beta, final)
    if targeted:
        planes = [_to_class(model, y)]
        return _search(x, eps, streams, walk, planes, restarts, logits_of(model, x))
    begin = _Beginning(model, x, y)
    others = other_classes(begin.logits, y).unbind(1)[:targets]
    planes = [_between(model, y, other) for other in others]
    begin.others = others
    return _search(x, eps, streams, walk, planes, restarts, begin.logits, begin)


class _Beginning:
    """Slopes at the images themselves, where the first run towards each class begins.

    One forward pass orders the classes and gives the slope towards the first; each later one gives
    the slopes towards the next three, but not towards all: points fall before those are needed, and
    each takes the memory of an image.
    """

    _TOGETHER = 3

    def __init__(self, model: Model, x: Images, y: Labels) -> None:
        self.model, self.x, self.y = model, x, y
        self.others: tuple[Labels, ...] = ()
        self._known = range(1)
        self._places = torch.arange(len(x), device=x.device)

        def lead(logits: Logits, rows: slice) -> Float[Tensor, "rows 1"]:
            first = other_classes(logits.detach(), y[rows])[:, 0]
            return difference(logits, y[rows], first)[:, None]

        self.logits, self._values, self._gradients = slopes(model, x, lead)

    def __call__(self, number: int, places: Int[Tensor, " some"]) -> tuple[Tensor, Images]:
        """As a plane, of the numbered points at their images; numbers ascend, points leave."""
        if number not in self._known:
            self._ask(range(number, min(number + self._TOGETHER, len(self.others))), places)
        rows, column = torch.searchsorted(self._places, places), self._known.index(number)
        return self._values[rows, column], self._gradients[rows, column]

    def _ask(self, known: range, places: Int[Tensor, " some"]) -> None:
        labels = self.y[places]
        goals = [self.others[number][places] for number in known]

        def leads(logits: Logits, rows: slice) -> Float[Tensor, "rows known"]:
            ahead = [difference(logits, labels[rows], goal[rows]) for goal in goals]
            return torch.stack(ahead, 1)

        _, self._values, self._gradients = slopes(self.model, self.x[places], leads)
        self._known, self._places = known, places


def _to_class(model: Model, target: Labels) -> Plane:
    """The boundary of the target's region, whichever class lies on the other side."""

    def plane(here: Images, places: Tensor) -> tuple[Tensor, Tensor]:
        goal = target[places]

        def loss(logits: Logits, rows: slice) -> Loss:
            return advantage(logits, goal[rows], targeted=True)

        return ascent(model, here, loss)[1:]

    return plane


def _between(model: Model, y: Labels, other: Labels) -> Plane:
    """The boundary between the true class and another one."""

    def plane(here: Images, places: Tensor) -> tuple[Tensor, Tensor]:
        labels, goal = y[places], other[places]

        def loss(logits: Logits, rows: slice) -> Loss:
            return difference(logits, labels[rows], goal[rows])

        return ascent(model, here, loss)[1:]

    return plane


def _settings(
    model: Model,
    y: Labels,
    norm: Norm,
    targeted: bool,
    steps: int,
    alpha_max: float,
    eta: float,
    beta: float,
    final: int,
) -> _Walk:
    if steps < 1 or not 0 <= alpha_max <= 1 or eta < 1 or not 0 < beta < 1 or final < 0:
        raise ValueError(
            "steps must be at least 1, alpha_max in [0, 1], eta at least 1, beta in (0, 1) and final at "
            f"least 0, got {steps}, {alpha_max}, {eta}, {beta} and {final}"
        )
    return _Walk(
        model=model,
        y=y,
        norm=norm,
        targeted=targeted,
        steps=steps,
        alpha_max=alpha_max,
        eta=eta,
        beta=beta,
        final=final,
    )


def _search(
    x: Images,
    eps: float,
    streams: Streams | None,
    walk: _Walk,
    planes: list[Plane],
    restarts: int,
    logits: Logits,
    begin: _Beginning | None = None,
) -> Images:
    """One run for each boundary and restart, over the points that still stand."""
    if restarts < 1:
        raise ValueError(f"restarts must be at least 1, got {restarts}")
    ball = BALLS[walk.norm]
    streams = streams or Streams.of(0, "fab", list(range(len(x))))
    nearest = Nearest(x, ball, eps, second_look(walk.model, walk.y, targeted=walk.targeted))
    places = torch.arange(len(x), device=x.device)
    down = fooled(logits, walk.y, targeted=walk.targeted)
    places = places[~nearest.offer(places, x, down)]
    behind = advantage(logits, walk.y, targeted=walk.targeted)
    for restart in range(restarts):
        for number, plane in enumerate(planes):
            if not len(places):
                return nearest.answer()
            start = x[places]
            if restart:
                noise = ball.random(start, 1.0, streams.select(places), f"fab/{restart}/{number}")
                # half way to what is known, as far as the radius allows (section 2.5)
                radius = nearest.distance[places].clamp_max(min(eps, 1.0)) / 2
                start = (start + per_image(radius) * noise).clamp(*PIXEL_RANGE)
            first = begin(number, places) if begin is not None and not restart else None
            places = _run(nearest, places, start, plane, walk, ball, first)
    _draw_back(nearest, places, behind, walk)
    return nearest.answer()


def _draw_back(
    nearest: Nearest, places: Int[Tensor, " standing"], behind: Loss, walk: _Walk
) -> None:
    """Towards the image, to where the attacker would be level if its lead grew evenly (secant steps).

    behind: how far it is ahead at the images themselves, which is below 0.
    """
    places = places[torch.isfinite(nearest.distance[places])]
    if not walk.final or not len(places):
        return
    x, away = nearest.x[places], nearest.images[places] - nearest.x[places]
    low, at_low = torch.zeros(len(places), device=x.device), behind[places]
    high = torch.ones_like(low)
    logits = logits_of(walk.model, nearest.images[places])
    at_high = advantage(logits, walk.y[places], targeted=walk.targeted)
    for _ in range(walk.final):
        share = at_low / (at_low - at_high).clamp_max(-_TINY)
        level = low + (high - low) * (share * _BEYOND).clamp(0, 1)
        here = (x + per_image(level) * away).clamp(*PIXEL_RANGE)
        logits = logits_of(walk.model, here)
        ahead = advantage(logits, walk.y[places], targeted=walk.targeted)
        down = fooled(logits, walk.y[places], targeted=walk.targeted)
        nearest.offer(places, here, down)
        low, at_low = torch.where(down, low, level), torch.where(down, at_low, ahead)
        high, at_high = torch.where(down, level, high), torch.where(down, ahead, at_high)


def _run(
    nearest: Nearest,
    places: Tensor,
    start: Images,
    plane: Plane,
    walk: _Walk,
    ball: Ball,
    first: tuple[Tensor, Images] | None = None,
) -> Int[Tensor, " standing"]:
    """Steps from `start`; the points that may not leave (section 2.3, algorithm 1).

    first: what `plane` says at the start, where that is known.
    """
    x, here = nearest.x[places], start
    for step in range(walk.steps):
        ahead, w = first if first is not None and step == 0 else plane(here, places)
        ahead_of_x = ahead + (w * (x - here)).flatten(1).sum(1)
        from_here = to_hyperplane(here, w, -ahead, walk.norm)
        from_x = to_hyperplane(x, w, -ahead_of_x, walk.norm)
        near, far = ball.distance(from_here), ball.distance(from_x)
        drawn = per_image((near / (near + far).clamp_min(_TINY)).clamp_max(walk.alpha_max))
        here = (from_here.mul_(walk.eta).add_(here)).lerp_(from_x.mul_(walk.eta).add_(x), drawn)
        here.clamp_(*PIXEL_RANGE)
        down = fooled(logits_of(walk.model, here), walk.y[places], targeted=walk.targeted)
        left = nearest.offer(places, here, down)
        if bool(left.any()):
            stay = ~left
            places, x, here, down = places[stay], x[stay], here[stay], down[stay]
            if not len(places):
                break
        here = torch.where(per_image(down), torch.lerp(x, here, walk.beta), here)
    return places
