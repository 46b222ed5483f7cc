"""Rotations, translations and flow: every pixel keeps its colour and changes its place."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import grid_sample

from assaymark.robustness.balls import per_image
from assaymark.robustness.box_search import Box, search
from assaymark.robustness.losses import Loss, fooled
from assaymark.robustness.scene_types import Change, Parameters, ascend, at_least, chosen, gain
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Images, Labels, Logits, Model

PADDINGS = ("zeros", "border", "reflection")
"""What comes in from outside the image: black, the nearest pixel, or the mirrored image."""
_TINY = 1e-8
Shifts = Float[Tensor, "batch 2 height width"]
"""How far right and down of its place each pixel fetches its colour, in pixels."""


def place(x: Images, moves: Float[Tensor, "batch 3"], *, padding: str = "zeros") -> Images:
    """Rotate, then shift each image, with bilinear sampling.

    moves: angle in degrees, counter-clockwise about the centre as seen, then the shifts to the right
    and down, in fractions of width and height. Numbers that are all 0 change no bit.
    """
    angle = moves[:, 0] * (math.pi / 180)
    cos, sin = angle.cos().view(-1, 1, 1), angle.sin().view(-1, 1, 1)
    across, down = offsets(x)
    across = across - (moves[:, 1] * x.shape[3]).view(-1, 1, 1)
    down = down - (moves[:, 2] * x.shape[2]).view(-1, 1, 1)
    # where the colour comes from: the inverse of the rotation, in pixels from the centre
    moved = _sample(x, cos * across - sin * down, sin * across + cos * down, padding)
    return _unless_still(x, moved, moves)


def displace(x: Images, shifts: Shifts, *, padding: str = "border") -> Images:
    """Each pixel fetches its colour `shifts` pixels away (https://arxiv.org/abs/1801.02612, 3.1)."""
    across, down = offsets(x)
    moved = _sample(x, across + shifts[:, 0], down + shifts[:, 1], padding)
    return _unless_still(x, moved, shifts)


def rotation(
    model: Model,
    x: Images,
    y: Labels,
    *,
    targeted: bool = False,
    streams: Streams | None = None,
    max_rotation: float = 30.0,
    max_translation: float = 0.1,
    rotations: int = 31,
    translations: int = 5,
    draws: int = 0,
    steps: int = 10,
    padding: str = "zeros",
) -> Change:
    """Rotate and shift (https://arxiv.org/abs/1712.02779, section 3).

    max_rotation: degrees to either side, up to 180. max_translation: fraction of width and height, up
    to 1. A grid of `rotations` × `translations` × `translations` is tried from the mildest on, then
    `draws` random moves, then `steps` gradient steps from the best. padding: zeros, border or
    reflection. The defaults are the paper's limits and grid.
    """
    at_least("max_rotation", max_rotation, 0, 180)
    at_least("max_translation", max_translation, 0, 1)
    at_least("rotations", rotations, 1)
    at_least("translations", translations, 1)
    if padding not in PADDINGS:
        raise ValueError(f"padding must be one of {', '.join(PADDINGS)}, got {padding!r}")
    if max_rotation == 0 and max_translation == 0:
        raise ValueError("max_rotation and max_translation are both 0, which moves nothing")
    limits = x.new_tensor([max_rotation, max_translation, max_translation])

    def render(part: Images, box: Box) -> Images:
        return place(part, box * limits, padding=padding)

    counts = [
        rotations if max_rotation else 1,
        *[translations if max_translation else 1] * 2,
    ]
    best = search(
        model,
        x,
        y,
        render,
        _grid(counts),
        draws=draws,
        steps=steps,
        targeted=targeted,
        streams=streams,
        tag="rotation",
    )
    return Change(
        names=("angle in degrees", "shift right", "shift down"),
        parameters=best * limits,
        render=lambda part, moves: place(part, moves, padding=padding),
    )


def flow(
    model: Model,
    x: Images,
    y: Labels,
    *,
    targeted: bool = False,
    streams: Streams | None = None,
    max_flow: float = 1.0,
    smoothness: float = 0.05,
    steps: int = 60,
) -> Change:
    """Move each pixel a little (stAdv, https://arxiv.org/abs/1801.02612, section 3.2).

    max_flow: pixels in either direction, above 0; the paper has no such limit, a test needs one.
    smoothness: weight of the flow's total variation. steps ≥ 1, of Adam in place of the paper's L-BFGS.
    `streams` is not used.
    """
    at_least("max_flow", max_flow, _TINY)
    at_least("smoothness", smoothness, 0)
    at_least("steps", steps, 1)
    shape = (len(x), 2, *x.shape[2:])
    best, first, second = x.new_zeros(shape), x.new_zeros(shape), x.new_zeros(shape)
    standing = torch.arange(len(x), device=x.device)
    for step in range(1, steps + 1):
        here, goal, part = best[standing], y[standing], x[standing]

        def loss(logits: Logits, rows: slice, goal: Labels = goal) -> Loss:
            return gain(logits, goal[rows], targeted=targeted)

        def rendered(shifts: Tensor, part: Images = part) -> Images:
            return displace(part, shifts)

        logits, _, gradient = ascend(model, rendered, here, loss)
        still = chosen(~fooled(logits, goal, targeted=targeted))
        standing, here = standing[still], here[still]
        if not len(standing):
            break
        gradient = gradient[still] - smoothness * _roughness_gradient(here)
        first[standing] = 0.9 * first[standing] + 0.1 * gradient
        second[standing] = 0.999 * second[standing] + 0.001 * gradient**2
        size = (second[standing] / (1 - 0.999**step)).sqrt() + _TINY
        move = first[standing] / (1 - 0.9**step) / size
        best[standing] = (here + 0.1 * max_flow * move).clamp(-max_flow, max_flow)
    lengths = best.norm(dim=1).flatten(1)
    return Change(
        names=("largest shift in pixels", "mean shift in pixels"),
        parameters=best,
        render=displace,
        shown=torch.stack([lengths.amax(1), lengths.mean(1)], 1) if len(x) else x.new_empty(0, 2),
    )


def roughness(shifts: Shifts) -> Float[Tensor, " batch"]:
    """How unlike the shifts of neighbours are (https://arxiv.org/abs/1801.02612, equation 4)."""
    across = (shifts[..., :, 1:] - shifts[..., :, :-1]).square().sum(1)
    down = (shifts[..., 1:, :] - shifts[..., :-1, :]).square().sum(1)
    lengths = [(part + _TINY).sqrt().flatten(1).sum(1) for part in (across, down)]
    return lengths[0] + lengths[1]


def _roughness_gradient(shifts: Shifts) -> Shifts:
    with torch.enable_grad():
        inner = shifts.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(roughness(inner).sum(), inner)
    return gradient


def _grid(counts: list[int]) -> Float[Tensor, "candidates numbers"]:
    """All combinations of evenly spaced numbers in [-1, 1], from the mildest on."""
    axes = [torch.linspace(-1, 1, count) if count > 1 else torch.zeros(1) for count in counts]
    # cartesian_prod would do, and warns of its own insides
    points = torch.stack([axis.flatten() for axis in torch.meshgrid(*axes, indexing="ij")], 1)
    # rounded: the size of a number must not depend on the last bit of its sign's twin
    return points[points.abs().amax(1).mul(1e4).round().argsort(stable=True)]


def offsets(
    x: Images,
) -> tuple[Float[Tensor, "1 height width"], Float[Tensor, "1 height width"]]:
    """How far right of and below the centre each pixel lies, in pixels."""
    height, width = x.shape[2:]
    across = torch.arange(width, device=x.device, dtype=x.dtype) - (width - 1) / 2
    down = torch.arange(height, device=x.device, dtype=x.dtype) - (height - 1) / 2
    rows, columns = torch.meshgrid(down, across, indexing="ij")
    return columns[None], rows[None]


def _unless_still(x: Images, moved: Images, numbers: Parameters) -> Images:
    """The image itself where all numbers are 0; not while a gradient is asked for, which has none."""
    if numbers.requires_grad:
        return moved
    return torch.where(per_image((numbers == 0).flatten(1).all(1)), x, moved)


def _sample(
    x: Images,
    across: Float[Tensor, "batch height width"],
    down: Float[Tensor, "batch height width"],
    padding: str,
) -> Images:
    """The colours at places given in pixels right of and below the centre."""
    grid = torch.stack([2 * across / x.shape[3], 2 * down / x.shape[2]], 3)
    return grid_sample(x, grid, mode="bilinear", padding_mode=padding, align_corners=False)
