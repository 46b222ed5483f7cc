"""Sparse-RS (https://arxiv.org/abs/2006.12834): random search over which few values differ."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from assaymark.robustness.random_search import (
    Draws,
    Flat,
    Patch,
    Score,
    check_budget,
    restarted,
    search,
    stage,
)
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Images, Labels, Model, Norm

_THRESHOLDS = (0, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
_DIVISORS = (1, 2, 4, 5, 6, 8, 10, 12, 15, 20)
"""By what the share of places that move is divided (appendix A, for 10,000 queries)."""


def sparse_rs(
    model: Model,
    x: Images,
    y: Labels,
    *,
    eps: float,
    norm: Norm = "l0",
    targeted: bool = False,
    streams: Streams | None = None,
    queries: int = 5000,
    alpha_init: float = 0.8,
    restarts: int = 1,
    rescale_schedule: bool = True,
    pixels: bool = False,
    score: Score | None = None,
) -> Images:
    """Set eps values to 0 or 1, then move some of them elsewhere, and keep what helps (section 3).

    A point that never falls costs exactly restarts · queries forward passes and no backward pass.
    eps counts channel values; with `pixels` whole pixels are set, as many as have eps values.
    alpha_init in (0, 1]: which share of the places moves at first; rescale_schedule: lower it over
    the given queries and not as for 10,000. score: what is climbed, by default the margin, and the
    cross-entropy of the target when targeted. Below 1 nothing is moved. Raises ValueError
    when eps allows no pixel.
    """
    check_budget(queries, restarts)
    if not 0 < alpha_init <= 1:
        raise ValueError(f"alpha_init must lie in (0, 1], got {alpha_init}")
    if norm != "l0":
        raise ValueError(f"sparse-rs has no {norm} form: use square")
    channels = x.shape[1] if pixels else 1
    if pixels and not eps >= channels:
        raise ValueError(f"eps = {eps:g} values allow no pixel of {channels} channels: raise eps")
    streams = streams or Streams.of(0, "sparse-rs", list(range(len(x))))
    places = x.shape[1:].numel() // channels
    count = int(min(eps // channels, places))
    if not len(x) or not count:
        return x.clone()
    moving = [
        max(int(alpha_init * count / _DIVISORS[passed]), 1)
        for passed in (
            stage(query, queries, _THRESHOLDS, rescale=rescale_schedule) for query in range(queries)
        )
    ]

    def run(
        x: Images, y: Labels, streams: Streams, restart: int
    ) -> tuple[Images, Bool[Tensor, " batch"]]:
        tag = f"sparse-rs/{restart}"
        flat = x.flatten(1)
        order = streams.uniform(flat[:, :places], f"{tag}/order").argsort(1)
        moves = _Swaps(flat, order, count, channels, moving, Draws(streams, x, tag))
        colours = streams.uniform(x.new_empty(len(x), count * channels), f"{tag}/colours")
        start = flat.scatter(1, *moves.paint(order[:, :count], colours)).view(x.shape)
        return search(model, start, y, moves, queries=queries, targeted=targeted, score=score)

    return restarted(run, x, y, streams, restarts)


class _Swaps:
    """Which places differ, and which of them move next.

    order: all places of an image, the `count` that differ first.
    """

    def __init__(
        self,
        x: Flat,
        order: Int[Tensor, "batch places"],
        count: int,
        channels: int,
        moving: Sequence[int],
        draws: Draws,
    ) -> None:
        self._x, self._order, self._count, self._channels = x, order, count, channels
        self._moving, self._draws, self._swapped = moving, draws, 0

    def propose(self, here: Flat, query: int) -> Sequence[Patch]:
        count, free = self._count, self._order.shape[1] - self._count
        moved = min(self._moving[query], count, free or count)
        drawn = self._draws.take(query, moved * (2 + self._channels))
        out, into, colours = drawn.split([moved, moved, moved * self._channels], 1)
        # the first steps of a shuffle of either part bring the chosen places side by side
        for step in range(moved):
            self._swap(count - 1 - step, (out[:, step] * (count - step)).long())
            if free:
                first = count + step
                self._swap(first, first + (into[:, step] * (free - step)).long())
        leaving = self._order[:, count - moved : count]
        if not free:
            self._swapped = 0
            return (self.paint(leaving, colours),)
        self._swapped = moved
        back = self._values_at(leaving)
        return (
            (back, self._x.gather(1, back)),
            self.paint(self._order[:, count : count + moved], colours),
        )

    def paint(
        self, places: Int[Tensor, "batch chosen"], drawn: Float[Tensor, "batch touched"]
    ) -> Patch:
        """Colours of 0 and 1 for some places; the other colour where the image has that one."""
        at = self._values_at(places)
        colours = (drawn < 0.5).to(self._x.dtype)
        shape = (len(places), self._channels, places.shape[1])
        same = (self._x.gather(1, at) == colours).view(shape).all(1, keepdim=True)
        return at, torch.where(same.expand(shape).flatten(1), 1 - colours, colours)

    def judge(self, better: Bool[Tensor, " batch"]) -> None:
        n, count = self._swapped, self._count
        out = self._order[:, count - n : count].clone()
        into = self._order[:, count : count + n].clone()
        self._order[:, count - n : count] = torch.where(better[:, None], into, out)
        self._order[:, count : count + n] = torch.where(better[:, None], out, into)

    def select(self, stay: Bool[Tensor, " batch"]) -> None:
        self._x, self._order = self._x[stay], self._order[stay]
        self._draws.select(stay)

    def _values_at(self, places: Int[Tensor, "batch chosen"]) -> Int[Tensor, "batch touched"]:
        channel = torch.arange(self._channels, device=places.device)[:, None]
        return (places[:, None] + channel * self._order.shape[1]).flatten(1)

    def _swap(self, first: int, other: Int[Tensor, " batch"]) -> None:
        column, second = self._order[:, first : first + 1].clone(), other[:, None]
        self._order[:, first : first + 1] = self._order.gather(1, second)
        self._order.scatter_(1, second, column)
