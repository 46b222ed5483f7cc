"""Square Attack (https://arxiv.org/abs/1912.00049): random search over square windows."""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from assaymark.robustness.balls import exactly, per_image
from assaymark.robustness.random_search import (
    Draws,
    Flat,
    Moves,
    Patch,
    Score,
    check_budget,
    restarted,
    search,
    stage,
)
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Images, Labels, Model, Norm

_HALVE_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Queries after which the share of the window is halved (section 4.2, for 10,000 queries)."""
_ROUNDING = 2.0**-25
"""How far a float32 in [0, 1] may lie from the number it stands for."""
_INSIDE = 1 - 1e-6
_HALVINGS = 20
_TINY = 1e-12


def square(
    model: Model,
    x: Images,
    y: Labels,
    *,
    eps: float,
    norm: Norm = "linf",
    targeted: bool = False,
    streams: Streams | None = None,
    queries: int = 5000,
    p_init: float = 0.8,
    restarts: int = 1,
    rescale_schedule: bool = False,
    score: Score | None = None,
) -> Images:
    """Set windows of an image to ±eps, or move its change from window to window (algorithms 2, 3).

    A point that never falls costs exactly restarts · queries forward passes and no backward pass.
    p_init in (0, 1]: the share of the image that the first windows cover; rescale_schedule: shrink
    them over the given queries and not as for 10,000. score: what is climbed, by default the margin,
    and the cross-entropy of the target when targeted. Places and signs are each example's own, a
    window reaches every row and column, and in L∞ every proposal changes something. L1 is the form of
    https://arxiv.org/abs/2103.01208, section 4, its projection inside the window. eps = 0 moves nothing.
    """
    check_budget(queries, restarts)
    streams = streams or Streams.of(0, "square", list(range(len(x))))

    def run(
        x: Images, y: Labels, streams: Streams, restart: int
    ) -> tuple[Images, Bool[Tensor, " batch"]]:
        return square_from(
            model, x, y, None, eps=eps, norm=norm, targeted=targeted, streams=streams,
            queries=queries, p_init=p_init, rescale_schedule=rescale_schedule, score=score,
            tag=f"square/{restart}",
        )  # fmt: skip

    return restarted(run, x, y, streams, restarts)


def square_from(
    model: Model,
    x: Images,
    y: Labels,
    start: Images | None,
    *,
    eps: float,
    norm: Norm,
    targeted: bool,
    streams: Streams,
    queries: int,
    p_init: float,
    rescale_schedule: bool,
    score: Score | None = None,
    tag: str = "square",
) -> tuple[Images, Bool[Tensor, " batch"]]:
    """One search from `start`, points in the ball, by default the stripes or bumps of the paper.

    Where each ends, and whether it fools there.
    """
    if not 0 < p_init <= 1:
        raise ValueError(f"p_init must lie in (0, 1], got {p_init}")
    if norm == "l0":
        raise ValueError("square has no l0 form: use sparse-rs")
    windows = _Windows(x, p_init, queries, rescale_schedule)
    draws = Draws(streams, x, tag)
    moves: Moves
    if norm == "linf":
        low, high = (x - eps).clamp_min(0), (x + eps).clamp_max(1)
        if start is None:
            stripes = streams.signs(x[:, :, :1], f"{tag}/stripes")
            start = torch.where(stripes > 0, high, low)
        moves = _Corners(low, high, windows, draws)
    else:
        power = 2 if norm == "l2" else 1
        if start is None:
            start = _tiles(x, eps * _INSIDE, power, streams, tag)
        moves = _Masses(x, start, eps * _INSIDE, power, windows, draws)
    return search(model, start, y, moves, queries=queries, targeted=targeted, score=score)


class _Windows:
    """How large the window of a query is, and which values it covers."""

    def __init__(self, x: Images, p_init: float, queries: int, rescale: bool) -> None:
        self.channels, self.height, self.width = x.shape[1:]
        self._p_init, self._queries, self._rescale = p_init, queries, rescale
        self._device = x.device
        self._size = (0, 0)
        self._prepare((1, 1))

    def size(self, query: int, *, odd: bool = False) -> tuple[int, int]:
        """Rows and columns; a square, but where it is longer than the image."""
        passed = stage(query, self._queries, _HALVE_AFTER, rescale=self._rescale)
        share = self._p_init / 2**passed
        side = max(round(math.sqrt(share * self.height * self.width)), 1)
        if odd:
            # bumps need three pixels; a small image is better searched value by value
            side = max(side, min(3, self.height // 3, self.width // 3)) // 2 * 2 + 1
        return min(side, self.height), min(side, self.width)

    def corner(
        self, drawn: Float[Tensor, "batch two"], size: tuple[int, int]
    ) -> Int[Tensor, "batch two"]:
        """Top and left of a window from two uniform numbers; every place has the same chance."""
        self._prepare(size)
        return (drawn * self._room).long()

    def places(
        self, corner: Int[Tensor, "batch two"], size: tuple[int, int]
    ) -> Int[Tensor, "batch touched"]:
        """Where the values of the window stand in a flat image: by channel, row and column."""
        self._prepare(size)
        return (corner[:, :1] * self.width + corner[:, 1:]) + self._offsets

    def _prepare(self, size: tuple[int, int]) -> None:
        """What all windows of a size share, kept until the size changes."""
        if size == self._size:
            return
        channel, row, column = torch.meshgrid(
            *(torch.arange(n, device=self._device) for n in (self.channels, *size)),
            indexing="ij",
        )
        offsets = (channel * self.height + row) * self.width + column
        room = [self.height - size[0] + 1, self.width - size[1] + 1]
        self._size, self._offsets = size, offsets.flatten()
        self._room = torch.tensor(room, device=self._device)


class _Corners:
    """L∞: a window is set to one corner of the ball, a sign for each channel."""

    def __init__(self, low: Images, high: Images, windows: _Windows, draws: Draws) -> None:
        self._low, self._high = low.flatten(1), high.flatten(1)
        self._windows, self._draws = windows, draws
        self._channel = torch.arange(windows.channels, device=low.device)

    def propose(self, here: Flat, query: int) -> Sequence[Patch]:
        channels, size = self._windows.channels, self._windows.size(query)
        drawn = self._draws.take(query, channels + 3)
        places = self._windows.places(self._windows.corner(drawn[:, :2], size), size)
        low, high, old = (t.gather(1, places) for t in (self._low, self._high, here))
        up = drawn[:, 3:] < 0.5
        # where nothing would change, one channel is turned over
        same = (self._spread(up, low, high) == old).all(1, keepdim=True)
        turned = (drawn[:, 2:3] * channels).long() == self._channel
        return ((places, self._spread(up ^ (same & turned), low, high)),)

    def _spread(self, up: Bool[Tensor, "batch channels"], low: Tensor, high: Tensor) -> Tensor:
        shape = (len(up), up.shape[1], -1)
        chosen = torch.where(up[:, :, None], high.view(shape), low.view(shape))
        return chosen.view_as(low)

    def judge(self, better: Bool[Tensor, " batch"]) -> None:
        pass

    def select(self, stay: Bool[Tensor, " batch"]) -> None:
        self._low, self._high = self._low[stay], self._high[stay]
        self._draws.select(stay)


class _Masses:
    """L2 and L1: the change in one window, and what is unused, goes into another window."""

    def __init__(
        self,
        x: Images,
        start: Images,
        eps: float,
        power: int,
        windows: _Windows,
        draws: Draws,
    ) -> None:
        self._x, self._power, self._total = x.flatten(1), power, eps**power
        self._windows, self._draws = windows, draws
        self._used = self._new_used = self._sum(exactly((start - x).flatten(1)))
        self._size = (0, 0)
        self._bumps = self._x[:0]

    def _sum(self, change: Tensor) -> Tensor:
        return (change.square() if self._power == 2 else change.abs()).sum(-1)

    def propose(self, here: Flat, query: int) -> Sequence[Patch]:
        windows, channels = self._windows, self._windows.channels
        size = windows.size(query, odd=True)
        drawn = self._draws.take(query, channels + 5)
        to, source = windows.corner(drawn[:, :2], size), windows.corner(drawn[:, 2:4], size)
        to_places, source_places = windows.places(to, size), windows.places(source, size)
        x_to, x_source = self._x.gather(1, to_places), self._x.gather(1, source_places)
        shape = (len(here), channels, -1)
        old = (here.gather(1, to_places) - x_to).view(shape)
        # what stands in both windows is counted once
        taken = (here.gather(1, source_places) - x_source).view(shape)
        taken = taken.masked_fill(_overlap(to, source, size)[:, None], 0)
        # below 0 by rounding, which is then taken back
        free = (self._total - self._used)[:, None] / channels
        mine, theirs = self._sum(old), self._sum(taken)
        available = (mine + theirs + free.to(here)).clamp_min(0) ** (1 / self._power)
        signs = torch.where(drawn[:, 5:] < 0.5, -1.0, 1.0).to(here.dtype)
        across = drawn[:, 4, None] < 0.5
        shapes = self._shapes(size)
        bump = signs[:, :, None] * torch.where(across, shapes[1], shapes[0])[:, None]
        mixed = bump + old / (mine ** (1 / self._power) + _TINY)[..., None]
        length = self._sum(mixed) ** (1 / self._power)
        change = (mixed * (available / (length + _TINY))[..., None]).flatten(1)
        if self._power == 1:
            # made too large and cut again, which leaves it sparse
            change = _cut(change * max(channels, 2), x_to, available.sum(1, keepdim=True))
        values = (x_to + change).clamp(0, 1)
        gone = exactly((mine + theirs).sum(1))
        self._new_used = self._used - gone + self._sum(exactly(values - x_to))
        return ((source_places, x_source), (to_places, values))

    def _shapes(self, size: tuple[int, int]) -> Float[Tensor, "two window"]:
        if size != self._size:
            both = [_bumps(*size, self._power, turned).flatten() for turned in (0, 1)]
            self._size, self._bumps = size, torch.stack(both).to(self._x)
        return self._bumps

    def judge(self, better: Bool[Tensor, " batch"]) -> None:
        better = better.to(self._used.device)
        self._used = torch.where(better, self._new_used, self._used)

    def select(self, stay: Bool[Tensor, " batch"]) -> None:
        self._x, self._used = self._x[stay], self._used[stay.to(self._used.device)]
        self._draws.select(stay)


def _overlap(
    to: Int[Tensor, "batch two"], source: Int[Tensor, "batch two"], size: tuple[int, int]
) -> Bool[Tensor, "batch window"]:
    """Which places of the window at `source` lie in the window at `to` too."""
    inside = []
    for axis in (0, 1):
        at = source[:, axis, None] + torch.arange(size[axis], device=to.device)
        begin = to[:, axis, None]
        inside.append((at >= begin) & (at < begin + size[axis]))
    return (inside[0][:, :, None] & inside[1][:, None]).flatten(1)


def _cut(change: Flat, x: Flat, radius: Float[Tensor, "batch 1"]) -> Flat:
    """The nearest change with L1 length of at most `radius` that stays in the pixel range."""
    size = change.abs()
    room = torch.where(change > 0, 1 - x, x)
    low, high = torch.zeros_like(radius), size.amax(1, keepdim=True)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        beyond = torch.minimum((size - middle).clamp_min(0), room).sum(1, keepdim=True) > radius
        low, high = torch.where(beyond, middle, low), torch.where(beyond, high, middle)
    inside = torch.minimum(size, room).sum(1, keepdim=True) <= radius
    threshold = torch.where(inside, 0, high)
    return torch.minimum((size - threshold).clamp_min(0), room) * change.sign()


@lru_cache(maxsize=64)
def _bumps(rows: int, columns: int, power: int, turned: int) -> Float[Tensor, "rows columns"]:
    """A raised and a sunken half, of length 1 (equation 2); `turned` ones lie side by side."""
    if turned:
        return _bumps(columns, rows, power, 0).T.contiguous()
    halves = []
    for sign, height in ((1, rows // 2), (-1, rows - rows // 2)):
        row = (torch.arange(height) - height // 2).abs()[:, None]
        column = (torch.arange(columns) - columns // 2).abs()
        ring = torch.maximum(row, column.expand(height, -1))
        steps = max(height, columns) // 2 + 1
        terms = 1 / torch.arange(1, steps + 1, dtype=torch.float64) ** 2
        # a place is raised by its own ring and by every one around it
        raised = terms.flip(0).cumsum(0).flip(0)[ring]
        halves.append(sign * raised / torch.linalg.vector_norm(raised, power).clamp_min(_TINY))
    whole = torch.cat(halves)
    length: Tensor = torch.linalg.vector_norm(whole, power)
    return (whole / length).float()


def _tiles(x: Images, eps: float, power: int, streams: Streams, tag: str) -> Images:
    """The start in L2 and L1: an image full of small bumps, of length eps before it is clipped."""
    channels, height, width = x.shape[1:]
    side = max(min(height, width) // 5, 1)
    down, right = height // side, width // side
    like = x.new_empty(len(x), channels, down, right)
    signs = streams.signs(like, f"{tag}/tiles").repeat_interleave(side, 2)
    signs = signs.repeat_interleave(side, 3)
    turned = streams.signs(like[:, :1], f"{tag}/turned").repeat_interleave(side, 2)
    turned = turned.repeat_interleave(side, 3)
    up, across = (_bumps(side, side, power, way).to(x).repeat(down, right) for way in (0, 1))
    pattern = signs * torch.where(turned > 0, up, across)
    top, left = (height - down * side) // 2, (width - right * side) // 2
    change = torch.zeros_like(x)
    change[:, :, top : top + down * side, left : left + right * side] = pattern
    length = exactly(change).abs().pow(power).flatten(1).sum(1) ** (1 / power)
    moved: Tensor = x + change * per_image(eps / length).to(x)
    return moved.clamp(0, 1)
