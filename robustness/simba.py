"""SimBA (https://arxiv.org/abs/1905.07121): one direction after the other, kept where it helps."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from assaymark.robustness.balls import BALLS, per_image, project
from assaymark.robustness.random_search import Flat, Patch, Score, check_budget, search
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Images, Labels, Model, Norm


def simba(
    model: Model,
    x: Images,
    y: Labels,
    *,
    eps: float,
    norm: Norm = "l2",
    targeted: bool = False,
    streams: Streams | None = None,
    queries: int = 5000,
    step_size: float | None = None,
    basis: Literal["pixel", "dct"] = "pixel",
    frequencies: float = 0.125,
    score: Score | None = None,
) -> Images:
    """Add or take away one direction after the other, where it helps (algorithm 1).

    A point that never falls costs exactly `queries` forward passes. The directions are
    single values, or with basis = "dct" the cosine waves of one channel whose frequency along either
    side is in the lowest share `frequencies` (section 3.2); an order of each example's own runs through
    them, again and again. step_size: the Euclidean length of a step, by default 0.2 and no more than
    eps; in L∞ the largest change of a value, by default 2 · eps, which crosses the ball. Steps that
    leave the ball are projected. score: what is climbed, by default
    the margin, and the cross-entropy of the target when targeted.
    """
    check_budget(queries, 1)
    if not 0 < frequencies <= 1:
        raise ValueError(f"frequencies must lie in (0, 1], got {frequencies}")
    streams = streams or Streams.of(0, "simba", list(range(len(x))))
    channels, height, width = x.shape[1:]
    if not len(x):
        return x.clone()
    default = 2 * eps if norm == "linf" else min(0.2, eps)
    step = default if step_size is None else step_size
    waves = None
    count = x[0].numel()
    if basis == "dct":
        rows, columns = (max(math.ceil(frequencies * side), 1) for side in (height, width))
        waves = tuple(
            _cosines(side, kept).to(x) for side, kept in ((height, rows), (width, columns))
        )
        count = channels * rows * columns
    order = streams.uniform(x.new_empty(len(x), count), "simba").argsort(1)
    moves = _Directions(x, order, waves, step, eps, norm)
    end, _ = search(model, x, y, moves, queries=queries, targeted=targeted, score=score)
    return end


class _Directions:
    """The next direction of each image, first forwards and then, where that did not help, backwards."""

    def __init__(
        self,
        x: Images,
        order: Tensor,
        waves: tuple[Tensor, ...] | None,
        step: float,
        eps: float,
        norm: Norm,
    ) -> None:
        self._x, self._order, self._waves = x, order, waves
        self._step, self._eps, self._ball = step, eps, BALLS[norm]
        self._at = torch.zeros(len(x), 1, dtype=torch.long, device=x.device)
        self._back = torch.zeros(len(x), dtype=torch.bool, device=x.device)

    def propose(self, here: Flat, query: int) -> Sequence[Patch]:
        change = self._direction(self._order.gather(1, self._at)[:, 0])
        if self._ball == BALLS["linf"]:
            change = change / per_image(change.flatten(1).abs().amax(1))
        change = torch.where(per_image(self._back), -change, change) * self._step
        moved = project(self._x, here.view(self._x.shape) + change, self._eps, self._ball)
        places = torch.arange(here.shape[1], device=here.device).expand(here.shape)
        return ((places, moved.flatten(1)),)

    def _direction(self, number: Tensor) -> Images:
        """The unit vectors with these numbers."""
        n = len(self._x)
        change = torch.zeros_like(self._x, memory_format=torch.contiguous_format)
        if self._waves is None:
            change.view(n, -1).scatter_(1, number[:, None], 1.0)
            return change
        down, right = self._waves
        rows, columns = len(down), len(right)
        channel, place = number // (rows * columns), number % (rows * columns)
        wave = down[place // columns][:, :, None] * right[place % columns][:, None]
        change[torch.arange(n, device=number.device), channel] = wave
        return change

    def judge(self, better: Bool[Tensor, " batch"]) -> None:
        done = better | self._back
        self._at = (self._at + done[:, None]) % self._order.shape[1]
        self._back = ~done

    def select(self, stay: Bool[Tensor, " batch"]) -> None:
        self._x, self._order = self._x[stay], self._order[stay]
        self._at, self._back = self._at[stay], self._back[stay]


def _cosines(length: int, kept: int) -> Float[Tensor, "kept length"]:
    """The lowest waves of the orthonormal discrete cosine transform (its second form)."""
    place = torch.arange(length, dtype=torch.float64) + 0.5
    wave = torch.cos(math.pi / length * torch.arange(kept)[:, None] * place)
    length_of: Tensor = torch.linalg.vector_norm(wave, dim=1, keepdim=True)
    return (wave / length_of).float()
