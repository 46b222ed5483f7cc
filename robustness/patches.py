"""Adversarial patches: a picture that somebody could print, put into the scene and be missed by.

A patch is trained over many random places, sizes, turns and lights (expectation over transformation,
https://arxiv.org/abs/1707.07397), so that it fools where it is put, not where it was trained.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from assaymark.robustness.losses import Loss, fooled
from assaymark.robustness.oracle import logits_of
from assaymark.robustness.patch_placing import PLACED, Placements, Scene, covered, paste
from assaymark.robustness.printing import (
    Palette,
    Patches,
    nearest_colour,
    non_printability,
    printable,
    total_variation,
)
from assaymark.robustness.scene_types import (
    Change,
    Learned,
    ascend,
    at_least,
    chosen,
    shortfall,
)
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Images, Labels, Logits, Model

_TINY = 1e-8


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a patch is optimised.

    steps of Adam with rate falling to 0, on `batch` images each where one patch is for all. smoothness:
    weight of the total variation. printability: weight of the distance to the nearest printable colour;
    palette: those colours, K×3.
    """

    steps: int
    rate: float
    batch: int
    smoothness: float
    printability: float
    palette: Palette | None

    def __post_init__(self) -> None:
        at_least("steps", self.steps, 1)
        at_least("rate", self.rate, _TINY)
        at_least("batch", self.batch, 1)
        at_least("smoothness", self.smoothness, 0)
        at_least("printability", self.printability, 0)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A patch to be made: where it may stand, how it is optimised and how it is put on images.

    placements: so many random places are tried on each image. resolution: width of the patch in its own
    pixels. tag: of the random numbers, and its name.
    """

    scene: Scene
    training: Training
    placements: int
    resolution: int | None
    tag: str

    def __post_init__(self) -> None:
        at_least("placements", self.placements, 1)

    def streams(self, x: Images) -> Streams:
        """The random numbers where nobody gave any."""
        return Streams.of(0, self.tag, list(range(len(x))))


def train(
    model: Model, x: Images, y: Labels, plan: Plan, *, each: bool, targeted: bool, streams: Streams
) -> Patches:
    """A patch for all images, or with `each` one for every image; values in [0, 1] of 8 bits."""
    scene, training, tag = plan.scene, plan.training, plan.tag
    height, width = scene.canvas(x, plan.resolution)
    channels, count = x.shape[1], len(x) if each else 1
    patch = x.new_full((count, channels, height, width), 0.5)
    first, second = torch.zeros_like(patch), torch.zeros_like(patch)
    mask = scene.shape.mask(height, width).to(x.device)
    palette = printable(channels, training.palette) if training.printability else None
    for step in range(training.steps if len(x) else 0):
        rows = slice(None) if each else batch_of(x, streams, training.batch, step, tag)
        part, goal, own = x[rows], y[rows], streams.select(torch.arange(len(x))[_cpu(rows)])
        placements = scene.draw(part, own, f"{tag}/{step}")
        noise = scene.noise * own.normal(part, f"{tag}/{step}/noise") if scene.noise else None

        def loss(logits: Logits, some: slice, goal: Labels = goal) -> Loss:
            return shortfall(logits, goal[some], targeted=targeted)

        def render(
            patch: Tensor,
            part: Images = part,
            placements: Placements = placements,
            noise: Images | None = noise,
        ) -> Images:
            return paste(part, patch, placements, scene.shape, noise)

        _, _, gradient = ascend(model, render, patch, loss)
        gradient = gradient if each else gradient / len(part)
        gradient = gradient + _printing_gradient(patch, mask, palette, training)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        size = (second / (1 - 0.999 ** (step + 1))).sqrt() + _TINY
        rate = training.rate * (1 - step / training.steps)
        patch = (patch - rate * first / (1 - 0.9 ** (step + 1)) / size).clamp(0, 1)
    # what is measured is what an 8-bit file holds
    return (patch * 255).round() / 255


def batch_of(x: Images, streams: Streams, size: int, step: int, tag: str) -> Tensor:
    """Some images, so that all have been taken before one is taken again."""
    each = max(1, len(x) // size)
    order = streams.uniform(x.new_empty(len(x), 1), f"{tag}/order/{step // each}")
    start = step % each * size
    return order.flatten().argsort(stable=True)[start : start + size]


def _cpu(rows: Tensor | slice) -> Tensor | slice:
    return rows.cpu() if isinstance(rows, Tensor) else rows


def _printing_gradient(
    patch: Patches, mask: Bool[Tensor, "rows columns"], palette: Palette | None, training: Training
) -> Patches:
    if not (training.smoothness or training.printability):
        return torch.zeros_like(patch)
    with torch.enable_grad():
        inner = patch.detach().requires_grad_()
        cost = training.smoothness * total_variation(inner, mask).sum()
        if palette is not None:
            cost = cost + training.printability * nearest_colour(inner, palette, mask).sum()
        (gradient,) = torch.autograd.grad(cost, inner)
    return gradient


def put(
    model: Model,
    x: Images,
    y: Labels,
    patches: Patches,
    plan: Plan,
    *,
    targeted: bool,
    streams: Streams,
) -> Change:
    """The patch on each image at a random place, or at the first of several that fools."""
    scene, placements, tag = plan.scene, plan.placements, plan.tag
    patches = patches.to(x)
    found = scene.draw(x, streams, f"{tag}/put/0")
    standing = torch.arange(len(x), device=x.device)
    for i in range(placements if placements > 1 else 0):
        drawn = scene.draw(x[standing], streams.select(standing), f"{tag}/put/{i}")
        found[standing] = drawn
        own = patches if len(patches) == 1 else patches[standing]
        logits = logits_of(model, paste(x[standing], own, drawn, scene.shape))
        standing = standing[chosen(~fooled(logits, y[standing], targeted=targeted))]
        if not len(standing):
            break
    size = patches.shape[1:]
    one = len(patches) == 1 and len(x) != 1

    def render(part: Images, numbers: Tensor) -> Images:
        own = patches if one else numbers[:, 6:].reshape(-1, *size)
        return paste(part, own, numbers[:, :6], scene.shape)

    numbers = found if one else torch.cat([found, patches.expand(len(x), *size).flatten(1)], 1)
    share = covered(x, found, scene.shape)
    return Change(
        names=(*PLACED, "share of the image covered"),
        parameters=numbers,
        render=render,
        shown=torch.cat([found, share[:, None]], 1),
    )


def learn(
    model: Model, x: Images, y: Labels, plan: Plan, *, targeted: bool, streams: Streams | None
) -> Learned:
    """One patch for all images, with the numbers a reader wants to know about it."""
    streams = streams or plan.streams(x)
    patch = train(model, x, y, plan, each=False, targeted=targeted, streams=streams)

    def putting(what: Patches) -> Callable[..., Change]:
        def attack(
            model: Model,
            x: Images,
            y: Labels,
            *,
            targeted: bool = False,
            streams: Streams | None = None,
        ) -> Change:
            return put(
                model, x, y, what, plan, targeted=targeted, streams=streams or plan.streams(x)
            )

        return attack

    mask = plan.scene.shape.mask(*patch.shape[2:]).to(x.device)
    measures = {"total variation": float(total_variation(patch, mask))}
    if x.shape[1] in (1, 3):
        palette = printable(x.shape[1], plan.training.palette)
        measures["non-printability score"] = float(non_printability(patch, palette, mask))
        measures["distance to the nearest printable colour"] = float(
            nearest_colour(patch, palette, mask)
        )
    return Learned(
        pictures={plan.tag: torch.cat([patch[0], mask[None].to(patch)])},
        attack=putting(patch),
        control=putting(torch.full_like(patch, 0.5)),
        measures=measures,
    )


def make_each(
    model: Model, x: Images, y: Labels, plan: Plan, *, targeted: bool, streams: Streams | None
) -> Change:
    """A patch of its own for every image, put at places that its training has not seen."""
    streams = streams or plan.streams(x)
    patches = train(model, x, y, plan, each=True, targeted=targeted, streams=streams)
    return put(model, x, y, patches, plan, targeted=targeted, streams=streams)
