"""Proven lower bounds of a classifier's margin over a ball: what no attack inside it can fall below.

"ibp": intervals forwards (https://arxiv.org/abs/1810.12715). "crown-ibp": linear functions backwards
from the margin, between those intervals (https://arxiv.org/abs/1906.06316). "crown": the same, where
the bounds in between are found backwards too (https://arxiv.org/abs/1811.00866, section 3).
"alpha-crown": in addition the slopes below each ReLU are optimised (https://arxiv.org/abs/2011.13824).

All is computed in float64, and a point counts as certified only where its margin is above 1e-5 of its
largest logit, far more than the rounding of float64. What is proven is a statement about the network
with exact arithmetic; the rounding of a deployed float32 network is not followed through its layers,
and 1e-5 is the room it has.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from assaymark.reports.errors import InputError
from assaymark.robustness.graphs import Graph, trace
from assaymark.robustness.oracle import Oracle, logits_of
from assaymark.robustness.relaxations import Affine, Bounds, Clamp, Curve, Lines, Offsets
from assaymark.robustness.types import Images, Labels, Model, Norm

BoundMethod = Literal["ibp", "crown-ibp", "crown", "alpha-crown"]
BOUND_METHODS: tuple[BoundMethod, ...] = ("ibp", "crown-ibp", "crown", "alpha-crown")
_ROOM = 1e-5
_BYTES = 1 << 27
"""Of the largest array of linear functions held at once."""
_WIDE = 250
"""Images of a batch for intervals alone."""
_ALPHA_STEPS = 20
_ALPHA_RATE = 0.1


def _quiet(done: int) -> None:
    """Nobody asked how far it is."""


@dataclass(frozen=True, kw_only=True)
class Region:
    """Where each image may go: at most eps in `norm`, with pixels in [0, 1]."""

    x: Float[Tensor, "batch channels height width"]
    eps: float
    norm: Norm

    def box(self) -> Bounds:
        """Each pixel alone."""
        return (self.x - self.eps).clamp(0, 1), (self.x + self.eps).clamp(0, 1)

    def least(self, weights: Float[Tensor, "bounds batch channels height width"]) -> Offsets:
        """A lower bound of weights · point, tight but for rounding, by duality for L2 and L1."""
        a = weights.flatten(2)
        x = self.x.flatten(1)
        size, room = a.abs(), torch.where(a > 0, x, 1 - x)
        here = (a * x).sum(2)
        if self.norm == "linf":
            return here - (size * room.clamp_max(self.eps)).sum(2)
        return here - (_most_l2(size, room, self.eps) if self.norm == "l2" else
                       _most_l1(size, room, self.eps))  # fmt: skip


def _most_l1(size: Tensor, room: Tensor, eps: float) -> Offsets:
    """An upper bound of size · d over 0 <= d <= room with sum(d) <= eps.

    price · eps + sum((size - price)+ · room) is one for every price >= 0; the best is the size of the
    entry that the last of eps is spent on.
    """
    fixed = size.detach()  # of the best price the derivative is 0
    order = fixed.argsort(dim=-1, descending=True)
    spent = room.gather(-1, order).cumsum(-1)
    last = (spent < eps).sum(-1, keepdim=True)
    padded = torch.cat([fixed.gather(-1, order), torch.zeros_like(fixed[..., :1])], -1)
    price = padded.gather(-1, last)
    bound: Tensor = price.squeeze(-1) * eps + ((size - price).clamp_min(0) * room).sum(-1)
    return bound


def _most_l2(size: Tensor, room: Tensor, eps: float) -> Offsets:
    """An upper bound of size · d over 0 <= d <= room with ||d|| <= eps.

    d = min(t · size, room) is best for the t that makes ||d|| = eps; it is found by sorting where the
    entries reach their room. The bound then taken is that of the dual, which holds for every t.
    """
    fixed = size.detach()  # of the best t the derivative is 0
    reach = torch.where(
        fixed > 0, room / fixed.clamp_min(1e-300), torch.full_like(fixed, torch.inf)
    )
    reach, order = reach.sort(-1)
    room2, size2 = room.gather(-1, order) ** 2, fixed.gather(-1, order) ** 2
    full = torch.cat([torch.zeros_like(room2[..., :1]), room2.cumsum(-1)], -1)
    free = torch.cat([size2.flip(-1).cumsum(-1).flip(-1), torch.zeros_like(size2[..., :1])], -1)
    # with the first k entries full and the others growing, ||d|| = eps at
    t = ((eps**2 - full).clamp_min(0) / free.clamp_min(1e-300)).sqrt()
    ends = torch.cat([reach, torch.full_like(reach[..., :1], torch.inf)], -1)
    k = (t > ends).sum(-1, keepdim=True).clamp_max(size.shape[-1])
    t = t.gather(-1, k).clamp(1e-150, 1e150)
    # the dual: max over d of size · d - (||d||^2 - eps^2) / 2t, in each entry alone
    d = torch.minimum(size * t, room)
    dual = (size * d - d**2 / (2 * t)).sum(-1) + eps**2 / (2 * t.squeeze(-1))
    straight = eps * torch.linalg.vector_norm(size, dim=-1)
    everywhere = (size * room).sum(-1)
    bound: Tensor = torch.minimum(torch.minimum(dual, straight), everywhere)
    return bound


@dataclass(eq=False)
class _Bounder:
    """A graph with what does not depend on the images it is asked about."""

    graph: Graph
    norm: Norm
    device: torch.device
    radii: dict[int, Float[Tensor, "1 *shape"]] = field(default_factory=dict)
    """Dual norm of each entry of a value that is affine in the image."""

    def __post_init__(self) -> None:
        straight = {0}
        for number, step in enumerate(self.graph.steps, 1):
            if isinstance(step, Affine) and set(step.sources) <= straight:
                straight.add(number)
        for number in self.hinges():
            if number in straight:
                self.radii[number] = self._dual_norms(number)

    def hinges(self) -> list[int]:
        """The values that the steps which are not affine read."""
        return sorted({s for step in self.graph.steps if not isinstance(step, Affine)
                       for s in step.sources})  # fmt: skip

    def _dual_norms(self, number: int) -> Float[Tensor, "1 *shape"]:
        shape = self.graph.shapes[number][1:]
        size, batch = math.prod(shape), self.graph.batch
        order = {"linf": 1, "l2": 2, "l1": math.inf}[self.norm]
        found = []
        per_part = self.per_part() * batch
        for begin in range(0, size, per_part):
            # the rows of an affine map are the same for all images: each image takes a share
            entries = torch.arange(begin, min(begin + per_part, size), device=self.device)
            parts = -(-len(entries) // batch)
            rows = torch.zeros(parts * batch, size, dtype=torch.float64, device=self.device)
            rows[entries - begin, entries] = 1
            pulled, _ = self._back(number, rows.view(parts, batch, *shape), {}, through=True)
            norms = torch.linalg.vector_norm(pulled.flatten(2), ord=order, dim=2)
            found.append(norms.flatten()[: len(entries)])
        return torch.cat(found).view(1, *shape)

    def per_part(self) -> int:
        """How many linear functions an image are held at once."""
        largest = max(math.prod(shape) for shape in self.graph.shapes)
        return max(1, _BYTES // (8 * largest))

    def intervals(self, region: Region, *, backwards: bool) -> dict[int, Bounds]:
        """Bounds of every value; backwards: those that steps bend on, by CROWN where it matters."""
        found: dict[int, Bounds] = {0: region.box()}
        clean = self.graph.values(region.x)
        straight = set(self.radii)
        readers: dict[int, list[Curve]] = {}
        for step in self.graph.steps:
            if not isinstance(step, Affine):
                readers.setdefault(step.sources[0], []).append(step)  # type: ignore[arg-type]
        for number, step in enumerate(self.graph.steps, 1):
            low, high = step.interval(*(found[source] for source in step.sources))
            if number in straight:
                reach = region.eps * self.radii[number]
                low = torch.maximum(low, clean[number] - reach)
                high = torch.minimum(high, clean[number] + reach)
            elif backwards and number in readers and isinstance(step, Affine):
                loose = torch.stack([reader.loose(low, high) for reader in readers[number]]).any(0)
                low, high = self._tightened(number, loose, (low, high), region, found)
            found[number] = (low, high)
        return found

    def _tightened(
        self,
        number: int,
        loose: Bool[Tensor, "batch *shape"],
        bounds: Bounds,
        region: Region,
        found: dict[int, Bounds],
    ) -> Bounds:
        """The bounds of the entries that matter, each found backwards from that entry."""
        low, high = (bound.flatten(1).clone() for bound in bounds)
        most = int(loose.flatten(1).sum(1).max())
        if not most:
            return bounds
        order = loose.flatten(1).int().argsort(dim=1, descending=True, stable=True)
        shape = loose.shape[1:]
        for places in order[:, :most].split(max(1, self.per_part() // 2 // len(order)), 1):
            unit = torch.zeros(places.shape[1], *low.shape, dtype=low.dtype, device=low.device)
            unit.scatter_(2, places.T[:, :, None], 1)
            unit = unit.view(places.shape[1], len(low), *shape)
            weights, offsets = self._back(number, torch.cat([unit, -unit]), found, through=True)
            below, above = (region.least(weights) + offsets).chunk(2)
            low.scatter_reduce_(1, places, below.T, "amax")
            high.scatter_reduce_(1, places, -above.T, "amin")
        # where the two cross by rounding, the value lies between them all the same
        low, high = torch.minimum(low, high), torch.maximum(low, high)
        return low.view(loose.shape), high.view(loose.shape)

    def _back(
        self,
        start: int,
        weights: Tensor,
        bounds: dict[int, Bounds],
        *,
        through: bool,
        slopes: dict[int, Tensor] | None = None,
    ) -> tuple[Tensor, Offsets]:
        """A linear function of the image that is nowhere above weights · value `start`.

        through: steps that bend are replaced by lines; else by the bounds of what they make.
        slopes: of the lines below ReLU steps, by the number of the step's value.
        """
        waiting = {start: weights}
        image = weights.new_zeros(len(weights), *self.graph.shapes[0])
        offsets = weights.new_zeros(weights.shape[:2])
        for number in range(start, 0, -1):
            mine = waiting.pop(number, None)
            if mine is None:
                continue
            step = self.graph.steps[number - 1]
            if isinstance(step, Affine) or through:
                read = [bounds[source] for source in step.sources] if bounds else []
                if slopes is not None and number in slopes:
                    assert isinstance(step, Clamp)
                    parts, rest = _with_slope(step, slopes[number], read[0]).pull(mine)
                else:
                    parts, rest = step.pull(mine, *read)
                for source, part in zip(step.sources, parts, strict=True):
                    waiting[source] = waiting[source] + part if source in waiting else part
            else:
                low, high = bounds[number]
                rest = (mine.clamp_min(0) * low + mine.clamp_max(0) * high).flatten(2).sum(2)
            offsets = offsets + rest
        return waiting.get(0, image), offsets

    def margins(
        self, region: Region, y: Labels, method: BoundMethod
    ) -> Float[Tensor, "others batch"]:
        """Lower bounds of how far class y stays above each other class; the best of method and IBP."""
        compare = _comparisons(y, self.graph.classes).to(region.x)
        bounds = self.intervals(region, backwards=method in ("crown", "alpha-crown"))
        parts = []
        for weights in compare.split(max(1, self.per_part() // len(y))):
            image, offsets = self._back(self.graph.output, weights, bounds, through=False)
            best = region.least(image) + offsets
            if method != "ibp":
                image, offsets = self._back(self.graph.output, weights, bounds, through=True)
                best = torch.maximum(best, region.least(image) + offsets)
            if method == "alpha-crown":
                best = torch.maximum(best, self._optimised(region, weights, bounds))
            parts.append(best)
        return torch.cat(parts)

    def _optimised(self, region: Region, weights: Tensor, bounds: dict[int, Bounds]) -> Offsets:
        """The best bound seen while the slopes climb it; every slope in [0, 1] gives a sound one."""
        slopes = {
            number: _first_slope(*bounds[step.source]).expand(len(weights), *self.graph.shapes[number])
            .clone().requires_grad_()
            for number, step in enumerate(self.graph.steps, 1)
            if isinstance(step, Clamp) and step.floor == 0 and step.ceiling == math.inf
        }  # fmt: skip
        best = weights.new_full(weights.shape[:2], -math.inf)
        if not slopes:
            return best
        optimizer = torch.optim.Adam(slopes.values(), lr=_ALPHA_RATE)
        for _ in range(_ALPHA_STEPS):
            with torch.enable_grad():
                image, offsets = self._back(
                    self.graph.output, weights, bounds, through=True, slopes=slopes
                )
                bound = region.least(image) + offsets
                optimizer.zero_grad()
                (-bound.sum()).backward()
            best = torch.maximum(best, bound.detach())
            optimizer.step()
            with torch.no_grad():
                for slope in slopes.values():
                    slope.clamp_(0, 1)
        return best


def _first_slope(low: Tensor, high: Tensor) -> Tensor:
    return (high > -low).to(low)


def _with_slope(step: Clamp, slope: Tensor, bounds: Bounds) -> Lines:
    """The lines of a ReLU with another slope below, where it bends."""
    lines = step.lines(*bounds)
    bends = step.loose(*bounds)
    return replace(
        lines,
        low_slope=torch.where(bends, slope, lines.low_slope),
        low_rest=torch.where(bends, torch.zeros_like(lines.low_rest), lines.low_rest),
    )


def _comparisons(y: Labels, classes: int) -> Float[Tensor, "others batch classes"]:
    """For each image the rows e_y - e_t over all other classes t."""
    steps = torch.arange(1, classes, device=y.device)
    others = (y + steps[:, None]) % classes
    own = nn.functional.one_hot(y, classes).double()
    return own - nn.functional.one_hot(others, classes).double()


def margins(
    model: nn.Module | Model,
    x: Images,
    y: Labels,
    *,
    eps: float,
    norm: Norm = "linf",
    method: BoundMethod = "crown",
    batch_size: int = 32,
    progress: Callable[[int], None] = _quiet,
) -> Float[Tensor, " batch"]:
    """For each image a lower bound, in float64, of z_y - z_t over the ball and all classes t.

    The ball: at most eps in `norm` (linf, l2 or l1), with pixels in [0, 1]. Above 0, every image in
    the ball is answered with y. Raises InputError where a step of the model cannot be bounded, which
    it names, and for the L0 norm.
    """
    if norm not in ("linf", "l2", "l1"):
        raise InputError(f"no bound is known for {norm}: certify in linf, l2 or l1")
    if not len(x):
        return torch.zeros(0, dtype=torch.float64, device=x.device)
    size = min(batch_size, len(x))
    bounder = None
    found = []
    with torch.no_grad():
        for images, labels in _batches(x, y, size):
            if bounder is None:
                bounder = _Bounder(trace(model, images), norm, images.device)
            region = Region(x=images.double(), eps=eps, norm=norm)
            found.append(bounder.margins(region, labels, method).amin(0))
            progress(min(len(found) * size, len(x)))
    return torch.cat(found)[: len(x)]


def _batches(x: Images, y: Labels, size: int) -> Iterator[tuple[Images, Labels]]:
    """Batches of one size: the last is filled up with the first image."""
    for images, labels in zip(x.split(size), y.split(size), strict=True):
        missing = size - len(images)
        yield (
            torch.cat([images, x[:1].expand(missing, *x.shape[1:])]),
            torch.cat([labels, y[:1].expand(missing)]),
        )


def certified(
    model: nn.Module | Model,
    x: Images,
    y: Labels,
    eps: float,
    norm: Norm = "linf",
    method: BoundMethod = "crown",
    *,
    batch_size: int = 32,
    progress: Callable[[int], None] = _quiet,
) -> Bool[Tensor, " batch"]:
    """Whether each image is proven to be answered with y throughout its ball.

    Arguments and errors as for `margins`. What IBP settles is not asked of a dearer method, and what
    the model gets wrong is not certified.
    """
    logits = logits_of(Oracle(model), x).double()
    threshold = _ROOM * logits.abs().amax(1).clamp_min(1)
    found = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    left = (logits.argmax(1) == y).nonzero().flatten()
    methods: tuple[BoundMethod, ...] = ("ibp",) if method == "ibp" else ("ibp", method)
    for each in methods:
        bound = margins(
            model,
            x[left],
            y[left],
            eps=eps,
            norm=norm,
            method=each,
            batch_size=batch_size if each != "ibp" else max(batch_size, _WIDE),
            progress=partial(_further, progress, len(x) - len(left)) if each == method else _quiet,
        )
        held = bound > threshold[left]
        found[left[held]] = True
        left = left[~held]
    return found


def _further(progress: Callable[[int], None], before: int, done: int) -> None:
    progress(before + done)
