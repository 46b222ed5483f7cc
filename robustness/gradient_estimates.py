"""Walks along a gradient that pairs of scores estimate: NES and SPSA."""

import math
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool
from torch import Tensor

from assaymark.robustness.balls import BALLS, Ball, per_image, project
from assaymark.robustness.losses import fooled
from assaymark.robustness.oracle import leaves, logits_of
from assaymark.robustness.random_search import Score, score_of
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Images, Labels, Model, Norm

Directions = Callable[[Streams, Images, str], Images]
"""Random directions shaped as some images, from streams and a tag."""


def nes(
    model: Model,
    x: Images,
    y: Labels,
    *,
    eps: float,
    norm: Norm = "linf",
    targeted: bool = False,
    streams: Streams | None = None,
    queries: int = 5000,
    samples: int = 50,
    sigma: float = 0.001,
    step_size: float | None = None,
    momentum: float = 0.9,
    score: Score | None = None,
) -> Images:
    """PGD along a gradient that Gaussian pairs estimate (https://arxiv.org/abs/1804.08598, section 2).

    A step asks `samples` points, an even number, in pairs around the image, and then looks whether
    it fools. A point that never falls costs `affordable(queries, samples)` forward passes, which are
    at most two fewer than `queries`. sigma and step_size in pixel units: how far out a pair lies, and
    by default eps / 5. momentum in [0, 1): how much of the last estimate is kept. score: what is
    climbed, by default the margin, and the cross-entropy of the target when targeted.
    """
    step = eps / 5 if step_size is None else step_size
    return _walk(
        model,
        x,
        y,
        _Momentum(step, momentum, BALLS[norm]),
        lambda streams, like, tag: streams.normal(like, tag),
        eps=eps,
        ball=BALLS[norm],
        targeted=targeted,
        streams=streams or Streams.of(0, "nes", list(range(len(x)))),
        tag="nes",
        queries=queries,
        samples=samples,
        reach=sigma,
        score=score,
    )


def spsa(
    model: Model,
    x: Images,
    y: Labels,
    *,
    eps: float,
    norm: Norm = "linf",
    targeted: bool = False,
    streams: Streams | None = None,
    queries: int = 5000,
    samples: int = 128,
    delta: float = 0.01,
    learning_rate: float = 0.01,
    score: Score | None = None,
) -> Images:
    """Adam along a gradient that pairs of random corners estimate (https://arxiv.org/abs/1802.05666).

    Algorithm 1: a step asks `samples` points, an even number, in pairs around the image, and then
    looks whether it fools. A point that never falls costs `affordable(queries, samples)` forward
    passes, which are at most two fewer than `queries`. delta and learning_rate in pixel units: how
    far out a pair lies in each value, and the length of a first step. score: as in `nes`, but the
    margin when targeted too.
    """
    return _walk(
        model,
        x,
        y,
        _Adam(learning_rate),
        lambda streams, like, tag: streams.signs(like, tag),
        eps=eps,
        ball=BALLS[norm],
        targeted=targeted,
        streams=streams or Streams.of(0, "spsa", list(range(len(x)))),
        tag="spsa",
        queries=queries,
        samples=samples,
        reach=delta,
        score=score or "margin",
    )


def affordable(queries: int, samples: int) -> int:
    """Forward passes of a point that never falls: steps of `samples` and one look, the last shorter.

    >>> affordable(1000, 50), affordable(102, 50), affordable(106, 50)
    (1000, 102, 105)
    """
    full, left = divmod(queries, samples + 1)
    return full * (samples + 1) + (2 * ((left - 1) // 2) + 1 if left >= 3 else 0)


@runtime_checkable  # tests check argument types
class _Rule(Protocol):
    """From an estimate of the gradient to a step; it remembers the estimates before."""

    def step(self, gradient: Images) -> Images: ...
    def select(self, stay: Bool[Tensor, " batch"]) -> None: ...


class _Momentum:
    """The steepest step of the ball along a running mean."""

    def __init__(self, length: float, momentum: float, ball: Ball) -> None:
        self._length, self._momentum, self._ball = length, momentum, ball
        self._mean: Tensor | None = None

    def step(self, gradient: Images) -> Images:
        if self._mean is None:
            self._mean = gradient
        self._mean = self._momentum * self._mean + (1 - self._momentum) * gradient
        return self._length * self._ball.steepest(self._mean)

    def select(self, stay: Bool[Tensor, " batch"]) -> None:
        if self._mean is not None:
            self._mean = self._mean[stay]


class _Adam:
    """https://arxiv.org/abs/1412.6980, algorithm 1, with the constants it recommends."""

    def __init__(self, rate: float) -> None:
        self._rate, self._count = rate, 0
        self._first: Tensor | None = None
        self._second: Tensor | None = None

    def step(self, gradient: Images) -> Images:
        if self._first is None or self._second is None:
            self._first, self._second = torch.zeros_like(gradient), torch.zeros_like(gradient)
        self._count += 1
        self._first = 0.9 * self._first + 0.1 * gradient
        self._second = 0.999 * self._second + 0.001 * gradient.square()
        mean = self._first / (1 - 0.9**self._count)
        size = (self._second / (1 - 0.999**self._count)).sqrt()
        change: Tensor = self._rate * mean / (size + 1e-8)
        return change

    def select(self, stay: Bool[Tensor, " batch"]) -> None:
        if self._first is not None and self._second is not None:
            self._first, self._second = self._first[stay], self._second[stay]


def _walk(
    model: Model,
    x: Images,
    y: Labels,
    rule: _Rule,
    directions: Directions,
    *,
    eps: float,
    ball: Ball,
    targeted: bool,
    streams: Streams,
    tag: str,
    queries: int,
    samples: int,
    reach: float,
    score: Score | None,
) -> Images:
    if samples < 2 or samples % 2 or queries < 3:
        raise ValueError(
            "samples must be an even number of at least 2, and queries at least 3, "
            f"got {samples} and {queries}"
        )
    if not 0 < reach < math.inf:
        raise ValueError(f"the distance of a pair must be a number above 0, got {reach}")
    end = x.clone()
    active = torch.arange(len(x), device=x.device)
    here, origin, left, step = x, x, queries, 0
    while left >= 3 and len(active):
        pairs = min(samples // 2, (left - 1) // 2)
        gradient = torch.zeros_like(here)
        for pair in range(pairs):
            away = directions(streams, here, f"{tag}/{step}/{pair}")
            up, down = (
                score_of(logits_of(model, here + sign * reach * away), y, targeted, score)
                for sign in (1, -1)
            )
            gradient += per_image(up - down) * away
        here = project(origin, here + rule.step(gradient / (2 * reach * pairs)), eps, ball)
        fell = fooled(logits_of(model, here), y, targeted=targeted) & leaves(model)
        left, step = left - 2 * pairs - 1, step + 1
        if fell.any():
            end[active[fell]] = here[fell]
            stay = ~fell
            active, here, origin, y = active[stay], here[stay], origin[stay], y[stay]
            streams = streams.select(stay)
            rule.select(stay)
    end[active] = here
    return end
