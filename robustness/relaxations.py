"""The steps a bound is carried through: intervals forwards, linear functions backwards.

Between bounds of its input each step lies above one linear function and below another (CROWN,
https://arxiv.org/abs/1811.00866, section 3); for an affine step both are the step itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

Values = Float[Tensor, "batch *shape"]
Weights = Float[Tensor, "bounds batch *shape"]
"""Factors of a linear function of some values: several such functions for each image."""
Offsets = Float[Tensor, "bounds batch"]
Bounds = tuple[Tensor, Tensor]
"""Low and high, with low <= high everywhere."""


@runtime_checkable  # tests check argument types
class Step(Protocol):
    """One operation of a network, on values numbered `sources`."""

    @property
    def sources(self) -> tuple[int, ...]: ...
    def run(self, *values: Tensor) -> Tensor: ...
    def interval(self, *bounds: Bounds) -> Bounds:
        """Bounds of what the step makes of values within bounds."""

    def pull(self, weights: Weights, *bounds: Bounds) -> tuple[tuple[Tensor, ...], Offsets]:
        """A linear function of the sources that is nowhere above weights · what the step makes."""


@runtime_checkable
class Curve(Step, Protocol):
    """A step whose bounds depend on those of its one source."""

    def loose(self, low: Values, high: Values) -> Bool[Tensor, "batch *shape"]:
        """Where tighter bounds of the source would make the step's tighter."""


@dataclass(frozen=True, eq=False)
class Affine:
    """A step that is affine in all of its sources together.

    spread: its linear part with the sign of each weight dropped, which carries radii.
    """

    name: str
    sources: tuple[int, ...]
    shapes: tuple[torch.Size, ...]
    run: Callable[..., Tensor]
    spread: Callable[..., Tensor]

    def interval(self, *bounds: Bounds) -> Bounds:
        """Centre and radius (https://arxiv.org/abs/1810.12715, section 3)."""
        centre = self.run(*((low + high) / 2 for low, high in bounds))
        radius = self.spread(*((high - low) / 2 for low, high in bounds))
        return centre - radius, centre + radius

    def pull(self, weights: Weights, *bounds: Bounds) -> tuple[tuple[Tensor, ...], Offsets]:
        zeros = [weights.new_zeros(shape) for shape in self.shapes]
        constant, back = torch.func.vjp(self.run, *zeros)  # type: ignore[misc]
        offsets = (weights * constant).flatten(2).sum(2)
        return tuple(torch.vmap(back)(weights)), offsets


@dataclass(frozen=True)
class Lines:
    """slope · z + rest below a curve, and another above it; shaped as z, or as functions of it."""

    low_slope: Tensor
    low_rest: Tensor
    high_slope: Tensor
    high_rest: Tensor

    def pull(self, weights: Weights) -> tuple[tuple[Tensor, ...], Offsets]:
        up, down = weights.clamp_min(0), weights.clamp_max(0)
        offsets = (up * self.low_rest + down * self.high_rest).flatten(2).sum(2)
        return (up * self.low_slope + down * self.high_slope,), offsets


@dataclass(frozen=True)
class Clamp:
    """min(max(z, floor), ceiling): ReLU is the clamp to [0, inf], ReLU6 that to [0, 6]."""

    source: int
    floor: float
    ceiling: float

    @property
    def sources(self) -> tuple[int, ...]:
        return (self.source,)

    def run(self, *values: Values) -> Values:
        return values[0].clamp(self.floor, self.ceiling)

    def interval(self, *bounds: Bounds) -> Bounds:
        return self.run(bounds[0][0]), self.run(bounds[0][1])

    def loose(self, low: Values, high: Values) -> Bool[Tensor, "batch *shape"]:
        across_floor = (low < self.floor) & (high > self.floor)
        return across_floor | ((low < self.ceiling) & (high > self.ceiling))

    def lines(self, low: Values, high: Values) -> Lines:
        slope, rest = _clamp_above(low, high, self.floor, self.ceiling)
        # the clamp turned by half a turn is a clamp: what lies above that lies below this
        turned, less = _clamp_above(-high, -low, -self.ceiling, -self.floor)
        return Lines(turned, -less, slope, rest)

    def pull(self, weights: Weights, *bounds: Bounds) -> tuple[tuple[Tensor, ...], Offsets]:
        return self.lines(*bounds[0]).pull(weights)


def _clamp_above(low: Values, high: Values, floor: float, ceiling: float) -> tuple[Values, Values]:
    """Slope and rest of a line above a clamp between low and high.

    Where the floor is crossed, the chord up to the ceiling. Where only the ceiling is, z itself or the
    ceiling, whichever leaves less room: for ReLU, turned, this is the adaptive slope of CROWN.
    """
    top = high.clamp_max(ceiling)
    chord = (top - floor) / (top - low).clamp_min(torch.finfo(low.dtype).tiny)
    zero, one = torch.zeros_like(low), torch.ones_like(low)
    cases: tuple[tuple[Tensor, Values, Values], ...] = (
        (high <= floor, zero, zero + floor),
        (low >= ceiling, zero, zero + ceiling),
        ((low >= floor) & (high <= ceiling), one, zero),
        (low < floor, chord, floor - chord * low),
        (ceiling - low > high - ceiling, one, zero),
    )
    slope, rest = zero, zero + ceiling
    for condition, its_slope, its_rest in reversed(cases):
        slope = torch.where(condition, its_slope, slope)
        rest = torch.where(condition, its_rest, rest)
    return slope, rest


@dataclass(frozen=True)
class LeakyReLU:
    """z above 0 and leak · z below, for a leak in [0, 1]: a share of z and a share of ReLU."""

    source: int
    leak: float

    @property
    def sources(self) -> tuple[int, ...]:
        return (self.source,)

    def run(self, *values: Values) -> Values:
        return F.leaky_relu(values[0], self.leak)

    def interval(self, *bounds: Bounds) -> Bounds:
        return self.run(bounds[0][0]), self.run(bounds[0][1])

    def loose(self, low: Values, high: Values) -> Bool[Tensor, "batch *shape"]:
        return (low < 0) & (high > 0)

    def pull(self, weights: Weights, *bounds: Bounds) -> tuple[tuple[Tensor, ...], Offsets]:
        relu = Clamp(self.source, 0.0, torch.inf).lines(*bounds[0])
        share = 1 - self.leak
        return Lines(
            self.leak + share * relu.low_slope,
            share * relu.low_rest,
            self.leak + share * relu.high_slope,
            share * relu.high_rest,
        ).pull(weights)


_S_SHAPES: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "tanh": (torch.tanh, lambda z: 1 - z.tanh() ** 2),
    "sigmoid": (torch.sigmoid, lambda z: z.sigmoid() * (1 - z.sigmoid())),
}
"""The curve and its slope, which grows up to 0 and falls after it."""


@dataclass(frozen=True)
class SShape:
    """tanh or sigmoid."""

    source: int
    name: str

    @property
    def sources(self) -> tuple[int, ...]:
        return (self.source,)

    def run(self, *values: Values) -> Values:
        return _S_SHAPES[self.name][0](values[0])

    def interval(self, *bounds: Bounds) -> Bounds:
        return self.run(bounds[0][0]), self.run(bounds[0][1])

    def loose(self, low: Values, high: Values) -> Bool[Tensor, "batch *shape"]:
        return high > low

    def pull(self, weights: Weights, *bounds: Bounds) -> tuple[tuple[Tensor, ...], Offsets]:
        """Chord and tangent where the curve bends one way; else the least slope from either end."""
        low, high = bounds[0]
        curve, slope_at = _S_SHAPES[self.name]
        middle = (low + high) / 2
        least = torch.minimum(slope_at(low), slope_at(high))
        tangent = slope_at(middle)
        width = (high - low).clamp_min(torch.finfo(low.dtype).tiny)
        # a chord of a very short piece is all rounding: the least slope is a bound there too
        chord = torch.where(high - low > 1e-6, (curve(high) - curve(low)) / width, least)
        hollow, domed = high <= 0, low >= 0

        def line(slope: Tensor, through: Tensor) -> tuple[Tensor, Tensor]:
            return slope, curve(through) - slope * through

        def chosen(bent: Tensor, at_chord: Tensor, other: Tensor, end: Tensor) -> Bounds:
            slope = torch.where(at_chord, chord, torch.where(bent, tangent, least))
            return line(slope, torch.where(bent, middle, end))

        below = chosen(hollow, domed, domed, low)
        above = chosen(domed, hollow, hollow, high)
        return Lines(*below, *above).pull(weights)


@dataclass(frozen=True)
class MaxPool:
    """The largest of each window of an image."""

    source: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    ceil: bool

    @property
    def sources(self) -> tuple[int, ...]:
        return (self.source,)

    def run(self, *values: Values) -> Tensor:
        return self._largest(values[0])[0]

    def interval(self, *bounds: Bounds) -> Bounds:
        return self.run(bounds[0][0]), self.run(bounds[0][1])

    def loose(self, low: Values, high: Values) -> Bool[Tensor, "batch *shape"]:
        return high > low

    def pull(self, weights: Weights, *bounds: Bounds) -> tuple[tuple[Tensor, ...], Offsets]:
        """Below: the entry with the largest bounds, taken together, since low bounds after a ReLU are
        mostly 0. Above: max(z, rest) for the entry z with the largest high bound, where rest is that
        of the others: its chord is z itself where nothing else can be larger."""
        low, high = bounds[0]
        below, (top, above) = self._largest(low + high)[1], self._largest(high)
        least = low.flatten(2).gather(2, above.flatten(2)).view(top.shape)
        rest = torch.maximum(self._second_highest(high, above), least)
        slope = (top - rest) / (top - least).clamp_min(torch.finfo(low.dtype).tiny)
        up, down = weights.clamp_min(0), weights.clamp_max(0)
        offsets = (down * (top - slope * top)).flatten(2).sum(2)
        plane = low[0, 0].numel()
        flat = weights.new_zeros(*weights.shape[:2], plane * low.shape[1])
        channels = plane * torch.arange(low.shape[1], device=low.device).view(1, -1, 1, 1)
        for place, part in ((below, up), (above, down * slope)):
            index = (place + channels).flatten(1)
            flat.scatter_add_(2, index.expand(len(weights), *index.shape), part.flatten(2))
        return (flat.view(len(weights), *low.shape),), offsets

    def _largest(self, values: Values) -> tuple[Tensor, Tensor]:
        best, place = F.max_pool2d(
            values,
            self.kernel,
            self.stride,
            self.padding,
            self.dilation,
            self.ceil,
            return_indices=True,
        )
        return best, place

    def _second_highest(self, high: Tensor, place: Tensor) -> Tensor:
        """The largest entry of each window beside the one at `place` of its plane."""
        rows, columns = place.shape[2:]
        width = high.shape[3]
        result = torch.full_like(high[:, :, :1, :1], -torch.inf).expand(place.shape)
        top = torch.arange(rows, device=high.device).view(-1, 1) * self.stride[0] - self.padding[0]
        left = torch.arange(columns, device=high.device) * self.stride[1] - self.padding[1]
        for i in range(self.kernel[0]):
            for j in range(self.kernel[1]):
                y, x = top + i * self.dilation[0], left + j * self.dilation[1]
                inside = (y >= 0) & (y < high.shape[2]) & (x >= 0) & (x < width)
                index = (y.clamp(0, high.shape[2] - 1) * width + x.clamp(0, width - 1)).flatten()
                entry = high.flatten(2)[:, :, index].view(place.shape)
                other = inside & (place != index.view(rows, columns))
                result = torch.where(other, torch.maximum(result, entry), result)
        return result
