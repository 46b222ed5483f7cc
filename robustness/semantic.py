"""Changes that keep the meaning of a picture: colours, light, and the negative."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from assaymark.robustness.balls import per_image
from assaymark.robustness.box_search import Box, search
from assaymark.robustness.scene_types import Change, at_least
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Images, Labels, Model

_TINY = 1e-8
_VALUES = 17
"""Points on each axis that are tried alone."""


def hsv(
    model: Model,
    x: Images,
    y: Labels,
    *,
    targeted: bool = False,
    streams: Streams | None = None,
    max_hue: float = 180.0,
    max_saturation: float = 1.0,
    draws: int = 100,
    steps: int = 20,
) -> Change:
    """Turn all hues and shift all saturations of colour images (https://arxiv.org/abs/1804.00499, 3).

    max_hue: degrees to either side, up to 180, which is every hue. max_saturation: up to 1. Each is tried
    alone, then `draws` random pairs (the paper's search), then `steps` gradient steps from the best.
    """
    limits = {"hue": max_hue, "saturation": max_saturation}
    return _search(model, x, y, limits, draws, steps, targeted, streams, "hsv")


def light(
    model: Model,
    x: Images,
    y: Labels,
    *,
    targeted: bool = False,
    streams: Streams | None = None,
    max_brightness: float = 0.2,
    max_contrast: float = 0.3,
    max_gamma: float = 1.5,
    draws: int = 50,
    steps: int = 20,
) -> Change:
    """Change brightness, contrast and gamma, of images with any number of channels.

    max_brightness: added to or taken from all values, up to 1. max_contrast: the spread around the
    image's mean grows or shrinks by that fraction, up to 1. max_gamma: the exponent lies in
    [1 / max_gamma, max_gamma], so 1 leaves it out. The search is that of `hsv`.
    """
    limits = {"brightness": max_brightness, "contrast": max_contrast, "gamma": max_gamma}
    return _search(model, x, y, limits, draws, steps, targeted, streams, "light")


def colour(
    model: Model,
    x: Images,
    y: Labels,
    *,
    targeted: bool = False,
    streams: Streams | None = None,
    max_hue: float = 30.0,
    max_saturation: float = 0.3,
    max_brightness: float = 0.2,
    max_contrast: float = 0.3,
    max_gamma: float = 1.5,
    draws: int = 100,
    steps: int = 20,
) -> Change:
    """`hsv` and `light` together, of colour images; the limits are theirs."""
    limits = {
        "hue": max_hue,
        "saturation": max_saturation,
        "brightness": max_brightness,
        "contrast": max_contrast,
        "gamma": max_gamma,
    }
    return _search(model, x, y, limits, draws, steps, targeted, streams, "colour")


def negative(
    model: Model,
    x: Images,
    y: Labels,
    *,
    targeted: bool = False,
    streams: Streams | None = None,
) -> Change:
    """Each value becomes 1 minus itself (https://arxiv.org/abs/1703.06857); the model is not asked."""
    return Change(
        names=(),
        parameters=x.new_zeros(len(x), 0),
        render=lambda part, _: 1 - part,
    )


def shift_hsv(
    x: Float[Tensor, "batch 3 height width"],
    hue: Float[Tensor, " batch"],
    saturation: Float[Tensor, " batch"],
) -> Float[Tensor, "batch 3 height width"]:
    """Turn the hue of every pixel by `hue` degrees and add `saturation`, within [0, 1].

    Red, green and blue to hue, saturation and value and back (Smith 1978, doi 10.1145/800248.807361).
    """
    value, low = x.amax(1), x.amin(1)
    spread = value - low
    red, green, blue = x.unbind(1)
    safe = spread.clamp_min(_TINY)
    sector = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    stays = spread / value.clamp_min(_TINY)
    strength = (stays + saturation.view(-1, 1, 1)).clamp(0, 1)
    # a grey pixel has no hue, so no saturation brings out a colour in it
    strength = torch.where(spread > 0, strength, torch.zeros_like(strength))
    turned = sector + hue.view(-1, 1, 1) / 60
    planes = []
    for offset in (5, 3, 1):
        k = (offset + turned) % 6
        planes.append(value - value * strength * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(planes, 1)


def relight(
    x: Images,
    brightness: Float[Tensor, " batch"],
    contrast: Float[Tensor, " batch"],
    gamma: Float[Tensor, " batch"],
) -> Images:
    """x to the power gamma, its spread around its mean times 1 + contrast, plus brightness, in [0, 1]."""
    x = x ** per_image(gamma)
    mean = x.flatten(1).mean(1)
    x = x + per_image(contrast) * (x - per_image(mean))
    return (x + per_image(brightness)).clamp(0, 1)


_NEUTRAL = {"hue": 0.0, "saturation": 0.0, "brightness": 0.0, "contrast": 0.0, "gamma": 1.0}
_MOST = {"hue": 180.0, "saturation": 1.0, "brightness": 1.0, "contrast": 1.0, "gamma": math.inf}


def apply(x: Images, names: tuple[str, ...], numbers: Float[Tensor, "batch numbers"]) -> Images:
    """Hue (degrees), saturation, gamma (exponent), contrast and brightness, in this order.

    Names that are left out, and neutral numbers, change nothing: not one bit where all are neutral.
    """
    given = {
        name: numbers[:, names.index(name)]
        if name in names
        else numbers.new_full((len(x),), neutral)
        for name, neutral in _NEUTRAL.items()
    }
    moved = x
    for parts, change in ((("hue", "saturation"), shift_hsv), (_LIGHT, relight)):
        if set(parts) & set(names):
            done = change(moved, *(given[part] for part in parts))
            neutral = [given[part] == _NEUTRAL[part] for part in parts]
            still = torch.stack(neutral).all(0) & (not numbers.requires_grad)
            moved = torch.where(per_image(still), moved, done)
    return moved


_LIGHT = ("brightness", "contrast", "gamma")


def _search(
    model: Model,
    x: Images,
    y: Labels,
    limits: dict[str, float],
    draws: int,
    steps: int,
    targeted: bool,
    streams: Streams | None,
    tag: str,
) -> Change:
    for name, limit in limits.items():
        at_least(f"max_{name}", limit, 1 if name == "gamma" else 0, _MOST[name])
    names = tuple(name for name, limit in limits.items() if limit != _NEUTRAL[name])
    if not names:
        raise ValueError(f"{tag} has no room: all of its limits are neutral")
    if x.shape[1] != 3 and {"hue", "saturation"} & set(names):
        raise ValueError(
            f"hue and saturation need 3 channels, the images have {x.shape[1]}: use light"
        )

    def natural(box: Box) -> Box:
        columns = [
            limits[name] ** box[:, i] if name == "gamma" else limits[name] * box[:, i]
            for i, name in enumerate(names)
        ]
        return torch.stack(columns, 1)

    best = search(
        model,
        x,
        y,
        lambda part, box: apply(part, names, natural(box)),
        _axes(len(names)),
        draws=draws,
        steps=steps,
        targeted=targeted,
        streams=streams,
        tag=tag,
    )
    units = {"hue": "hue in degrees", "gamma": "gamma exponent"}
    return Change(
        names=tuple(units.get(name, name) for name in names),
        parameters=natural(best),
        render=lambda part, numbers: apply(part, names, numbers),
    )


def _axes(numbers: int) -> Float[Tensor, "candidates numbers"]:
    """Nothing, then each number alone, from the mildest on."""
    sizes = torch.linspace(0, 1, _VALUES // 2 + 1)[1:]
    alone = torch.cat([torch.eye(numbers), -torch.eye(numbers)])
    return torch.cat([torch.zeros(1, numbers), *(size * alone for size in sizes)])
