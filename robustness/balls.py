"""The balls an attack may move in: distance, projection, steepest step and a random start."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Images, Norm

_TINY = torch.finfo(torch.float32).tiny
PIXEL_RANGE = (0.0, 1.0)


@runtime_checkable  # tests check argument types
class Ball(Protocol):
    """What a norm must answer for a gradient attack."""

    def distance(self, delta: Tensor) -> Float[Tensor, " batch"]: ...
    def shrink(self, delta: Tensor, eps: float) -> Tensor: ...
    def steepest(self, gradient: Tensor) -> Tensor: ...
    def random(self, like: Tensor, eps: float, streams: Streams, tag: str) -> Tensor: ...


@dataclass(frozen=True)
class Linf:
    """Largest absolute change of a pixel."""

    def distance(self, delta: Tensor) -> Float[Tensor, " batch"]:
        return delta.flatten(1).abs().amax(1)

    def shrink(self, delta: Tensor, eps: float) -> Tensor:
        return delta.clamp(-eps, eps)

    def steepest(self, gradient: Tensor) -> Tensor:
        return gradient.sign()

    def random(self, like: Tensor, eps: float, streams: Streams, tag: str) -> Tensor:
        """Uniform in the cube."""
        return (2 * streams.uniform(like, tag) - 1) * eps


@dataclass(frozen=True)
class L2:
    """Euclidean length of the change over all pixels and channels."""

    def distance(self, delta: Tensor) -> Float[Tensor, " batch"]:
        length: Tensor = torch.linalg.vector_norm(delta.flatten(1), dim=1)
        return length

    def shrink(self, delta: Tensor, eps: float) -> Tensor:
        # clamp_max leaves a delta inside the ball bit for bit as it was
        return delta * (eps / self._length(delta)).clamp_max(1)

    def steepest(self, gradient: Tensor) -> Tensor:
        return gradient / self._length(gradient)

    def random(self, like: Tensor, eps: float, streams: Streams, tag: str) -> Tensor:
        """Uniform in the ball: a uniform direction at radius eps · U^(1/d)."""
        direction = self.steepest(streams.normal(like, tag))
        radius = streams.uniform(like[:, :1, :1, :1], f"{tag}/radius")
        return eps * direction * radius ** (1 / like[0].numel())

    def _length(self, delta: Tensor) -> Tensor:
        return self.distance(delta).clamp_min(_TINY).view(-1, *[1] * (delta.dim() - 1))


BALLS: dict[Norm, Ball] = {"linf": Linf(), "l2": L2()}


def project(x: Images, moved: Images, eps: float, ball: Ball) -> Images:
    """The point of ball and pixel range that `moved` is taken to; both hold afterwards.

    Clamping to the range after the ball cannot leave the ball, because x lies in the range.
    """
    return (x + ball.shrink(moved - x, eps)).clamp(*PIXEL_RANGE)


def within(x: Images, moved: Images, eps: float, ball: Ball, tolerance: float = 1e-6) -> Tensor:
    """For each example: finite, inside the ball and inside the pixel range, to `tolerance`."""
    low, high = PIXEL_RANGE
    flat = moved.flatten(1)
    inside = (flat >= low - tolerance).all(1) & (flat <= high + tolerance).all(1)
    near = ball.distance((moved - x).double()) <= eps + tolerance
    return inside & near & torch.isfinite(flat).all(1)
