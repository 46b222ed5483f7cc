"""Adversarial patches: a picture that somebody could print, put into the scene and be missed by.

A patch is trained over many random places, sizes, turns and lights (expectation over transformation,
https://arxiv.org/abs/1707.07397), so that it fools where it is put, not where it was trained.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import grid_sample

from assaymark.robustness.balls import per_image
from assaymark.robustness.geometry import offsets
from assaymark.robustness.losses import Loss, fooled
from assaymark.robustness.oracle import logits_of
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

Placements = Float[Tensor, "batch 6"]
"""Centre across and down, width (fractions of the image's width and height; width of its width), angle
in degrees counter-clockwise, brightness added, and contrast around mid-grey."""
PLACED = ("centre across", "centre down", "width", "angle in degrees", "brightness", "contrast")
_TINY = 1e-8


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The outline of a patch, in half-widths from its centre, to the right and down.

    covers: whether points belong to it, of those with |across| ≤ 1 and |down| ≤ aspect. aspect: height
    divided by width. share: of that rectangle that it covers, about.
    """

    covers: Callable[[Tensor, Tensor], Tensor]
    aspect: float = 1.0
    share: float = 1.0

    def mask(self, height: int, width: int) -> Bool[Tensor, "rows columns"]:
        """Which pixels of a picture of the shape's rectangle belong to it."""
        across = (torch.arange(width) + 0.5) * 2 / width - 1
        down = ((torch.arange(height) + 0.5) * 2 / height - 1) * self.aspect
        rows, columns = torch.meshgrid(down, across, indexing="ij")
        return self.holds(columns, rows)

    def holds(self, across: Tensor, down: Tensor) -> Tensor:
        inside = (across.abs() <= 1) & (down.abs() <= self.aspect)
        return inside & self.covers(across, down)


SHAPES: dict[str, Shape] = {
    "square": Shape(covers=lambda across, down: torch.ones_like(across, dtype=torch.bool)),
    "circle": Shape(covers=lambda across, down: across**2 + down**2 <= 1, share=math.pi / 4),
}


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Where and in which light a patch may stand.

    width: fraction of the image's width. centre: across and down, in fractions; None is anywhere inside
    the image. The others say how far a placement may differ: max_shift in fractions of width and height,
    max_rotation in degrees, max_scale as a fraction of the width, brightness and contrast as fractions
    of the pixel range. noise: standard deviation of pixel noise while training.
    """

    shape: Shape
    width: float
    centre: tuple[float, float] | None
    max_shift: float
    max_rotation: float
    max_scale: float
    max_brightness: float
    max_contrast: float
    noise: float

    def __post_init__(self) -> None:
        at_least("max_shift", self.max_shift, 0, 1)
        at_least("max_rotation", self.max_rotation, 0, 180)
        at_least("max_scale", self.max_scale, 0, 0.9)
        at_least("max_brightness", self.max_brightness, 0, 1)
        at_least("max_contrast", self.max_contrast, 0, 1)
        at_least("noise", self.noise, 0, 1)

    def draw(self, x: Images, streams: Streams, tag: str) -> Placements:
        """A random placement for each image."""
        height, width = x.shape[2:]
        like = x.new_empty(len(x), 6)
        across, down, size, turn, light, spread = (2 * streams.uniform(like, tag) - 1).unbind(1)
        breadth = self.width * (1 + self.max_scale * size)
        angle = self.max_rotation * turn
        if self.centre is None:
            # uniform over the places where the turned rectangle lies inside the image
            cos, sin = (angle * math.pi / 180).cos().abs(), (angle * math.pi / 180).sin().abs()
            half = breadth * width / 2
            room_across = (0.5 - half * (cos + self.shape.aspect * sin) / width).clamp_min(0)
            room_down = (0.5 - half * (sin + self.shape.aspect * cos) / height).clamp_min(0)
            across, down = 0.5 + across * room_across, 0.5 + down * room_down
        else:
            across = self.centre[0] + self.max_shift * across
            down = self.centre[1] + self.max_shift * down
        light, spread = self.max_brightness * light, 1 + self.max_contrast * spread
        return torch.stack([across, down, breadth, angle, light, spread], 1)

    def canvas(self, x: Images, resolution: int | None) -> tuple[int, int]:
        """Height and width of the patch in its own pixels; by default as many as it covers."""
        width = resolution or math.ceil(self.width * (1 + self.max_scale) * x.shape[3])
        return max(1, round(width * self.shape.aspect)), width


def paste(
    x: Images,
    patches: Patches,
    placements: Placements,
    shape: Shape,
    noise: Images | None = None,
) -> Images:
    """The images with a patch on each; not one bit changes outside of it.

    patches: one for all or one an image, values in [0, 1]. A pixel belongs to the patch where its centre
    does. noise: added to the patch's pixels.
    """
    across, down = _on_patch(x, placements)
    grid = torch.stack([across, down / shape.aspect], 3)
    colours = grid_sample(
        patches.expand(len(x), -1, -1, -1), grid, padding_mode="border", align_corners=False
    )
    colours = 0.5 + per_image(placements[:, 5]) * (colours - 0.5) + per_image(placements[:, 4])
    if noise is not None:
        colours = colours + noise
    return torch.where(shape.holds(across, down)[:, None], colours.clamp(0, 1), x)


def covered(x: Images, placements: Placements, shape: Shape) -> Float[Tensor, " batch"]:
    """The share of each image's pixels that the patch covers."""
    return shape.holds(*_on_patch(x, placements)).flatten(1).to(x.dtype).mean(1)


def _on_patch(x: Images, placements: Placements) -> tuple[Tensor, Tensor]:
    """Where on the patch each pixel lies, in half-widths right of and below the patch's centre."""
    height, width = x.shape[2:]
    centre_across, centre_down, breadth, angle = (
        column.view(-1, 1, 1) for column in placements[:, :4].unbind(1)
    )
    columns, rows = offsets(x)
    columns = columns - (centre_across - 0.5) * width
    rows = rows - (centre_down - 0.5) * height
    cos, sin = (angle * math.pi / 180).cos(), (angle * math.pi / 180).sin()
    half = breadth * width / 2
    return (cos * columns - sin * rows) / half, (sin * columns + cos * rows) / half


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


def train(
    model: Model,
    x: Images,
    y: Labels,
    scene: Scene,
    training: Training,
    *,
    each: bool,
    resolution: int | None,
    targeted: bool,
    streams: Streams,
    tag: str,
) -> Patches:
    """A patch for all images, or with `each` one for every image; values in [0, 1] of 8 bits."""
    height, width = scene.canvas(x, resolution)
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
    scene: Scene,
    *,
    placements: int,
    targeted: bool,
    streams: Streams,
    tag: str,
) -> Change:
    """The patch on each image at a random place, or at the first of several that fools."""
    at_least("placements", placements, 1)
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
    model: Model,
    x: Images,
    y: Labels,
    scene: Scene,
    training: Training,
    *,
    placements: int,
    resolution: int | None,
    targeted: bool,
    streams: Streams | None,
    tag: str,
) -> Learned:
    """One patch for all images, with the numbers a reader wants to know about it."""
    at_least("placements", placements, 1)
    streams = streams or Streams.of(0, tag, list(range(len(x))))
    patch = train(
        model,
        x,
        y,
        scene,
        training,
        each=False,
        resolution=resolution,
        targeted=targeted,
        streams=streams,
        tag=tag,
    )

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
                model,
                x,
                y,
                what,
                scene,
                placements=placements,
                targeted=targeted,
                streams=streams or Streams.of(0, tag, list(range(len(x)))),
                tag=tag,
            )

        return attack

    mask = scene.shape.mask(*patch.shape[2:]).to(x.device)
    measures = {"total variation": float(total_variation(patch, mask))}
    if x.shape[1] in (1, 3):
        palette = printable(x.shape[1], training.palette)
        measures["non-printability score"] = float(non_printability(patch, palette, mask))
        measures["distance to the nearest printable colour"] = float(
            nearest_colour(patch, palette, mask)
        )
    return Learned(
        pictures={tag: torch.cat([patch[0], mask[None].to(patch)])},
        attack=putting(patch),
        control=putting(torch.full_like(patch, 0.5)),
        measures=measures,
    )


def make_each(
    model: Model,
    x: Images,
    y: Labels,
    scene: Scene,
    training: Training,
    *,
    placements: int,
    resolution: int | None,
    targeted: bool,
    streams: Streams | None,
    tag: str,
) -> Change:
    """A patch of its own for every image, put at places that its training has not seen."""
    at_least("placements", placements, 1)
    streams = streams or Streams.of(0, tag, list(range(len(x))))
    patches = train(
        model,
        x,
        y,
        scene,
        training,
        each=True,
        resolution=resolution,
        targeted=targeted,
        streams=streams,
        tag=tag,
    )
    return put(
        model,
        x,
        y,
        patches,
        scene,
        placements=placements,
        targeted=targeted,
        streams=streams,
        tag=tag,
    )
