"""The least change of an image, inside the pixel range, that meets a linear equation.

FAB linearises the model at a point and asks, in each norm, for the nearest point of the resulting
hyperplane that is still an image (https://arxiv.org/abs/1907.02044, section 2.2).
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from assaymark.robustness.types import Images, Norm

_TINY = torch.finfo(torch.float32).tiny
_NEWTON = 50
"""Most steps; as a rule three to six suffice."""
_FIRST_PICK = 32

Flat = Float[Tensor, "batch values"]
Column = Float[Tensor, "batch 1"]


def to_hyperplane(x: Images, w: Images, gain: Float[Tensor, " batch"], norm: Norm) -> Images:
    """The change d of least norm (L∞, L2 or L1) with w · d = gain and x + d in [0, 1].

    Where the pixel range has no such point, the change that comes nearest to the gain: every value
    at its end of the range. Raises KeyError for L0.
    """
    flat = w.flatten(1)
    wanted = gain[:, None]
    weight = flat.abs()
    # each value can only help by moving the way its weight and the sign of the gain say
    upward = (flat > 0) == (wanted > 0)
    place = x.flatten(1)
    room = torch.where(upward, 1 - place, place)
    size = _SIZES[norm](weight, room, wanted.abs())
    return torch.where(upward, size, -size).mul_(flat != 0).view_as(x)


def _linf(weight: Flat, room: Flat, gain: Column) -> Flat:
    """All values move by the same t, as far as they have room."""
    return _waterline(torch.ones_like(weight), weight, room, gain)


def _l2(weight: Flat, room: Flat, gain: Column) -> Flat:
    """Each value moves by t times its weight, as far as it has room."""
    return _waterline(weight, weight, room, gain)


def _waterline(speed: Flat, weight: Flat, room: Flat, gain: Column) -> Flat:
    """min(t · speed, room) with the t that reaches the gain.

    What is gained is concave and piecewise linear in t, so Newton's method from t = 0 climbs to the
    root and meets it exactly once it is on the right piece; no sorting.
    """
    gains = weight * speed
    slope = gains.sum(1, keepdim=True)
    t = gain / slope.clamp_min(_TINY)
    for _ in range(_NEWTON):
        moved = t * speed
        free = moved < room
        left = (gains * free).sum(1, keepdim=True)
        if bool((left == slope).all()):
            break  # the same values are free, so the last step was exact
        missing = gain - torch.minimum(moved, room).mul_(weight).sum(1, keepdim=True)
        t = torch.where(left > 0, t + missing.clamp_min(0) / left.clamp_min(_TINY), t)
        slope = left
    return torch.minimum(t * speed, room)


def _l1(weight: Flat, room: Flat, gain: Column) -> Flat:
    """The values that gain most for their size move first, all the way, and the last in part."""
    values = weight.shape[1]
    count = min(_FIRST_PICK, values)
    while True:
        best, order = weight.topk(count, 1)
        space = room.gather(1, order)
        gained = (best * space).cumsum(1)
        if count == values or bool((gained[:, -1:] >= gain).all()):
            break
        count = min(4 * count, values)
    before = torch.cat([torch.zeros_like(gain), gained[:, :-1]], 1)
    part = ((gain - before).clamp_min(0) / best.clamp_min(_TINY)).minimum(space)
    return torch.zeros_like(weight).scatter_(1, order, part)


_SIZES: dict[Norm, Callable[[Flat, Flat, Column], Flat]] = {"linf": _linf, "l2": _l2, "l1": _l1}
