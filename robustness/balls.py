"""The balls an attack may move in: distance, projection, steepest step and a random start."""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Images, Norm

_TINY = torch.finfo(torch.float32).tiny
PIXEL_RANGE = (0.0, 1.0)
_HALVINGS = 26
"""Of the threshold of an L1 projection: to the last bit of a float32."""


@runtime_checkable  # tests check argument types
class Ball(Protocol):
    """What a norm must answer for a gradient attack."""

    def distance(self, delta: Tensor) -> Float[Tensor, " batch"]: ...
    def project(self, x: Images, moved: Images, eps: float) -> Images: ...
    def steepest(self, gradient: Tensor) -> Tensor: ...
    def random(self, like: Tensor, eps: float, streams: Streams, tag: str) -> Tensor: ...


@dataclass(frozen=True)
class Linf:
    """Largest absolute change of a channel value."""

    def distance(self, delta: Tensor) -> Float[Tensor, " batch"]:
        return delta.flatten(1).abs().amax(1)

    def project(self, x: Images, moved: Images, eps: float) -> Images:
        return (x + (moved - x).clamp(-eps, eps)).clamp(*PIXEL_RANGE)

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

    def project(self, x: Images, moved: Images, eps: float) -> Images:
        """Into the ball, then into the range, which cannot leave the ball since x lies in it."""
        delta = moved - x
        # clamp_max leaves a delta inside the ball bit for bit as it was
        return (x + delta * (eps / self._length(delta)).clamp_max(1)).clamp(*PIXEL_RANGE)

    def steepest(self, gradient: Tensor) -> Tensor:
        return gradient / self._length(gradient)

    def random(self, like: Tensor, eps: float, streams: Streams, tag: str) -> Tensor:
        """Uniform in the ball: a uniform direction at radius eps · U^(1/d)."""
        direction = self.steepest(streams.normal(like, tag))
        radius = streams.uniform(like[:, :1, :1, :1], f"{tag}/radius")
        return eps * direction * radius ** (1 / like[0].numel())

    def _length(self, delta: Tensor) -> Tensor:
        return per_image(self.distance(delta).clamp_min(_TINY))


@dataclass(frozen=True)
class L1:
    """Sum of the absolute changes of all channel values."""

    def distance(self, delta: Tensor) -> Float[Tensor, " batch"]:
        return delta.flatten(1).abs().sum(1)

    def project(self, x: Images, moved: Images, eps: float) -> Images:
        """The nearest point of ball and range together (https://arxiv.org/abs/2103.01208, section 2).

        Each change is cut to the room it has, less a threshold that bisection finds.
        """
        change = (moved - x).flatten(1)
        size = change.abs()
        room = torch.where(change > 0, 1 - x.flatten(1), x.flatten(1))
        low = torch.zeros(len(x), 1, device=x.device, dtype=x.dtype)
        high = size.amax(1, keepdim=True) if size.numel() else low
        inside = torch.minimum(size, room).sum(1, keepdim=True) <= eps
        for _ in range(0 if bool(inside.all()) else _HALVINGS):
            middle = (low + high) / 2
            beyond = torch.minimum((size - middle).clamp_min(0), room).sum(1, keepdim=True) > eps
            low, high = torch.where(beyond, middle, low), torch.where(beyond, high, middle)
        left = torch.minimum((size - high).clamp_min(0), room)
        moving = ((size > high) & (left < room)).sum(1, keepdim=True).clamp_min(1)
        exact = (high - (eps - left.sum(1, keepdim=True)) / moving).maximum(low)
        threshold = torch.where(inside, torch.zeros_like(high), exact)
        kept = torch.minimum((size - threshold).clamp_min(0), room) * change.sign()
        whole = inside & (size <= room).all(1, keepdim=True)
        kept = torch.where(whole, change, kept)  # bit for bit as it was
        return (x + kept.view_as(x)).clamp(*PIXEL_RANGE)

    def steepest(self, gradient: Tensor) -> Tensor:
        """All of the step on the largest entry."""
        flat = gradient.flatten(1)
        place = flat.abs().argmax(1, keepdim=True) if flat.numel() else flat[:, :0].long()
        return (
            torch.zeros_like(flat).scatter(1, place, flat.gather(1, place).sign()).view_as(gradient)
        )

    def random(self, like: Tensor, eps: float, streams: Streams, tag: str) -> Tensor:
        """Uniform in the ball, by exponentials (Barthe et al. 2005, Annals of Probability 33)."""
        share = -torch.log1p(-exactly(streams.uniform(like, tag)))
        rest = -torch.log1p(-exactly(streams.uniform(like[:, :1, :1, :1], f"{tag}/rest")))
        total = per_image(share.flatten(1).sum(1)) + rest
        return (eps * share / total.clamp_min(_TINY)).to(like) * streams.signs(like, f"{tag}/signs")


@dataclass(frozen=True)
class L0:
    """How many channel values differ."""

    def distance(self, delta: Tensor) -> Float[Tensor, " batch"]:
        return (delta.flatten(1) != 0).sum(1, dtype=delta.dtype)

    def project(self, x: Images, moved: Images, eps: float) -> Images:
        """The changes that matter most to the Euclidean distance, inside the range."""
        moved = moved.clamp(*PIXEL_RANGE)
        size = (moved - x).flatten(1).abs()
        count = min(int(eps), size.shape[1]) if math.isfinite(eps) else size.shape[1]
        places = size.topk(count, 1).indices if size.numel() else size[:, :0].long()
        mask = torch.zeros_like(size, dtype=torch.bool).scatter(1, places, True)
        return torch.where(mask.view_as(x), moved, x)

    def steepest(self, gradient: Tensor) -> Tensor:
        return gradient.sign()

    def random(self, like: Tensor, eps: float, streams: Streams, tag: str) -> Tensor:
        """Uniform changes in [-1, 1] of `eps` values chosen at random."""
        rank = streams.uniform(like, tag).flatten(1)
        places = rank.topk(min(int(eps), rank.shape[1]), 1).indices
        chosen = torch.zeros_like(rank).scatter(1, places, 1.0).view_as(like)
        return chosen * (2 * streams.uniform(like, f"{tag}/size") - 1)


BALLS: dict[Norm, Ball] = {"linf": Linf(), "l2": L2(), "l1": L1(), "l0": L0()}


def per_image(values: Shaped[Tensor, " batch"]) -> Shaped[Tensor, "batch 1 1 1"]:
    """One number an image, ready to multiply images with."""
    return values.view(-1, 1, 1, 1)


def exactly(values: Tensor) -> Tensor:
    """In float64; on the CPU where the device has none, as MPS."""
    return (values.cpu() if values.device.type == "mps" else values).double()


def project(x: Images, moved: Images, eps: float, ball: Ball) -> Images:
    """The point of ball and pixel range that `moved` is taken to; both hold afterwards."""
    return ball.project(x, moved, eps)


def settle(
    x: Images, nearest: Images, found: Bool[Tensor, " batch"], eps: float, ball: Ball
) -> Images:
    """What an attack that looks for the nearest adversarial example answers.

    nearest: the nearest found, where `found`. Without a radius that itself, or x; with one, the
    point on the way to it that lies in the ball, so that a point out of reach is seen to be tried.
    """
    answer = torch.where(per_image(found), nearest, x)
    if math.isinf(eps):
        return answer
    near = (ball.distance(exactly(answer - x)) <= eps).to(x.device)
    return torch.where(per_image(near), answer, ball.project(x, answer, eps))


def within(
    x: Images, moved: Images, eps: float, ball: Ball, tolerance: float = 1e-6
) -> Bool[Tensor, " batch"]:
    """For each example: finite, inside the ball and inside the pixel range, to `tolerance`."""
    low, high = PIXEL_RANGE
    flat = moved.flatten(1)
    inside = (flat >= low - tolerance).all(1) & (flat <= high + tolerance).all(1)
    near = (ball.distance(exactly(moved - x)) <= eps + tolerance).to(x.device)
    return inside & near & torch.isfinite(flat).all(1)
