"""Where a patch stands in a scene, and how it looks there."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import grid_sample

from assaymark.robustness.balls import per_image
from assaymark.robustness.geometry import offsets
from assaymark.robustness.printing import (
    Patches,
)
from assaymark.robustness.scene_types import (
    at_least,
)
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Images

Placements = Float[Tensor, "batch 6"]
"""Centre across and down, width (fractions of the image's width and height; width of its width), angle
in degrees counter-clockwise, brightness added, and contrast around mid-grey."""
PLACED = ("centre across", "centre down", "width", "angle in degrees", "brightness", "contrast")


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
