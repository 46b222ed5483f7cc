"""What physical and semantic attacks share: a change with limits of its own instead of a ball.

A change is recorded as numbers (an angle, a place, a mask) from which the image can be made again;
whoever reports a success makes it again from them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from assaymark.robustness.losses import Loss, margin
from assaymark.robustness.oracle import LossOf, ascent
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Images, Labels, Logits, Model

Parameters = Float[Tensor, "batch *parameters"]
"""What was done to each image, in the units that `Change.names` says."""
Render = Callable[[Images, Parameters], Images]


@dataclass(frozen=True, eq=False, kw_only=True)
class Change:
    """What was done to each image of a batch, and how to do it again.

    names: of the numbers a reader is shown. shown: those numbers, by default the parameters.
    """

    names: tuple[str, ...]
    parameters: Parameters
    render: Render
    shown: Float[Tensor, "batch numbers"] | None = None

    def images(
        self, x: Images, rows: Int[Tensor, " rows"] | slice = slice(None)
    ) -> Float[Tensor, "rows channels height width"]:
        """The changed images of some rows of the batch, made from the recorded numbers alone."""
        moved = self.render(x[rows], self.parameters[rows])
        return moved.clamp(0, 1)

    def numbers(self, row: int) -> dict[str, float]:
        """What was done to one image, for a reader."""
        values = self.parameters if self.shown is None else self.shown
        return dict(zip(self.names, values[row].tolist(), strict=True))


@runtime_checkable  # tests check argument types
class SceneAttack(Protocol):
    """Looks for a change of each image that fools, within limits that are its options.

    y: the true classes, or with `targeted` the classes the model shall answer. Random numbers come
    from `streams` only.
    """

    def __call__(
        self,
        model: Model,
        x: Images,
        y: Labels,
        *,
        targeted: bool,
        streams: Streams | None,
    ) -> Change: ...


@dataclass(frozen=True, eq=False, kw_only=True)
class Learned:
    """One thing that was learned from some images and is then put on any other.

    pictures: it, as pictures C×h×w in [0, 1], by name. measures: numbers about it. attack: puts it on
    images, as a scene. control: puts a thing of the same size on them that nobody has learned.
    """

    pictures: Mapping[str, Float[Tensor, "channels rows columns"]]
    attack: SceneAttack
    control: SceneAttack
    measures: Mapping[str, float] = field(default_factory=dict)


@runtime_checkable  # tests check argument types
class SceneLearner(Protocol):
    """Learns one thing from training images; the result is measured on others."""

    def __call__(
        self,
        model: Model,
        x: Images,
        y: Labels,
        *,
        targeted: bool,
        streams: Streams | None,
    ) -> Learned: ...


def ascend(
    model: Model,
    render: Callable[[Tensor], Images],
    parameters: Tensor,
    loss: LossOf,
) -> tuple[Logits, Loss, Tensor]:
    """Logits and losses of the rendered images, and the gradient of all losses' sum.

    parameters: anything `render` turns into images. The gradient with respect to the images comes from
    the oracle, in batches that fit; the chain rule takes it on to the parameters.
    """
    with torch.enable_grad():
        inner = parameters.detach().requires_grad_()
        images = render(inner)
    logits, losses, outer = ascent(model, images.detach(), loss)
    (gradient,) = torch.autograd.grad(images, inner, outer)
    return logits, losses, gradient


def gain(logits: Logits, y: Labels, *, targeted: bool) -> Loss:
    """How near the attacker is to its goal; above 0 it is there."""
    return -margin(logits, y) if targeted else margin(logits, y)


def shortfall(logits: Logits, y: Labels, *, targeted: bool) -> Loss:
    """What a thing for many images is to bring down: -log p(y) targeted, else -log(1 - p(y)).

    Both level off where the goal is reached, so that images already won do not drown the others, as
    the clamped loss of https://arxiv.org/abs/1811.11304 (section 3) makes sure.
    """
    whole = logits.logsumexp(1)
    if targeted:
        return whole - logits.gather(1, y[:, None]).squeeze(1)
    return whole - logits.scatter(1, y[:, None], -torch.inf).logsumexp(1)


def at_least(
    name: str, value: float | int, low: float | int, high: float | int = float("inf")
) -> None:
    """Raise ValueError unless an option lies in [low, high]."""
    if not low <= value <= high:
        wanted = f"at least {low:g}" if high == float("inf") else f"from {low:g} to {high:g}"
        raise ValueError(f"{name} must be {wanted}, got {value:g}")


def chosen(values: Bool[Tensor, " batch"]) -> Int[Tensor, " chosen"]:
    """The places where a mask holds."""
    return values.nonzero().flatten()
