"""The preprocessing that transformers and timm save with a model, done on tensors with gradients."""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from assaymark.reports.errors import InputError
from assaymark.reports.named_code import first_line
from assaymark.robustness.types import Images, Logits

Resampling = Literal["nearest-exact", "bilinear", "bicubic"]
_RESAMPLING: dict[int, Resampling] = {0: "nearest-exact", 2: "bilinear", 3: "bicubic"}
"""As Pillow numbers them."""
_STEPS = ("do_resize", "do_rescale", "do_normalize", "do_center_crop", "do_convert_rgb")
_LONGEST = 4096


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """What stands between a picture with pixels in [0, 1] and the network, in this order.

    shortest: the length the shorter side is brought to; size: (height, width) of the picture; crop:
    (height, width) cut from the middle; scale: what pixels are multiplied with.
    """

    shortest: int | None = None
    size: tuple[int, int] | None = None
    resampling: Resampling = "bilinear"
    crop: tuple[int, int] | None = None
    scale: float = 1.0
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    channels: int = 3

    def __str__(self) -> str:
        steps = [
            f"shorter side resized to {self.shortest} ({self.resampling})" if self.shortest else "",
            f"resized to {_by(self.size)} ({self.resampling})" if self.size else "",
            f"cut to {_by(self.crop)}" if self.crop else "",
            f"pixels times {self.scale:g}" if self.scale != 1 else "",
            f"mean {_listed(self.mean)}, std {_listed(self.std)}" if self.mean and self.std else "",
        ]
        return "; ".join(step for step in steps if step) or "none"


class Piped(nn.Module):
    """A network behind the preprocessing that was saved with it; gradients pass through all of it."""

    mean: Tensor | None
    std: Tensor | None

    def __init__(self, network: nn.Module, pipeline: Pipeline) -> None:
        super().__init__()
        self.network, self.pipeline = network, pipeline
        for name, values in (("mean", pipeline.mean), ("std", pipeline.std)):
            held = None if values is None else torch.tensor(values).view(1, -1, 1, 1)
            self.register_buffer(name, held)

    def preprocess(self, x: Images) -> Tensor:
        """What the network is given: of the size, channels and units it was trained with."""
        steps = self.pipeline
        if x.shape[1] == 1 and steps.channels == 3:  # a grey picture as RGB
            x = x.expand(-1, 3, -1, -1)
        size = steps.size
        if steps.shortest is not None:
            factor = steps.shortest / min(x.shape[2:])
            size = (int(x.shape[2] * factor), int(x.shape[3] * factor))
        if size is not None and size != tuple(x.shape[2:]):
            smooth = steps.resampling != "nearest-exact"
            x = interpolate(x, size, mode=steps.resampling, antialias=smooth).clamp(0, 1)
        if steps.crop is not None:
            x = _middle(x, steps.crop)
        x = x * steps.scale
        if self.mean is not None and self.std is not None:
            x = (x - self.mean) / self.std
        return x

    def forward(self, x: Images) -> Logits:
        answer = self.network(self.preprocess(x))
        logits: Tensor = answer if isinstance(answer, Tensor) else answer.logits
        return logits


def of_processor(saved: dict[str, Any], spec: str, channels: int, *, normalized: bool) -> Pipeline:
    """The steps of a preprocessor_config.json; raises InputError for one that is not done here."""
    other = [key for key, on in saved.items() if key.startswith("do_") and on and key not in _STEPS]
    other += [key for key in ("rescale_offset", "include_top") if saved.get(key)]
    resampling = _RESAMPLING.get(saved.get("resample", 2))
    if resampling is None:
        other.append(f"resample = {saved.get('resample')}")
    try:
        if other:
            raise ValueError(f"{other[0]} is not done here")
        size, shortest = _sizes(saved) if saved.get("do_resize") else (None, None)
        crop = _pair(saved.get("crop_size")) if saved.get("do_center_crop") else None
        percentage = saved.get("crop_pct")
        if shortest is not None and percentage and crop is None:  # as ConvNeXt saves it
            crop = (shortest, shortest)
            shortest = int(shortest / float(percentage)) if shortest < 384 else None
            size = crop if shortest is None else None
        steps = Pipeline(
            shortest=shortest,
            size=size,
            resampling=resampling or "bilinear",
            crop=crop,
            channels=channels,
        )
        if normalized:
            return steps
        factor = float(saved.get("rescale_factor", 1 / 255)) if saved.get("do_rescale", True) else 1
        mean, std = (
            tuple(float(v) for v in saved.get(key) or ()) if saved.get("do_normalize") else ()
            for key in ("image_mean", "image_std")
        )
        if any(len(values) not in (0, channels) for values in (mean, std)) or 0.0 in std:
            raise ValueError(f"image_mean and image_std do not fit {channels} channels")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"preprocessor_config.json of {spec}: {first_line(error)}; take the file out and give "
            "normalize, input_range and image_size"
        ) from error
    return replace(steps, scale=round(255 * factor, 9), mean=mean or None, std=std or None)


def of_timm(card: dict[str, Any], spec: str, *, normalized: bool) -> Pipeline:
    """The steps of the pretrained_cfg in a config.json of timm, as its evaluation does them."""
    try:
        channels, height, width = card.get("input_size") or (3, 224, 224)
        percentage = float(card.get("crop_pct") or 1)
        return Pipeline(
            shortest=_length(math.floor(min(height, width) / percentage)),
            resampling="bicubic" if card.get("interpolation") == "bicubic" else "bilinear",
            crop=(_length(height), _length(width)),
            mean=None if normalized else tuple(map(float, card.get("mean") or ())) or None,
            std=None if normalized else tuple(map(float, card.get("std") or ())) or None,
            channels=channels,
        )
    except (ValueError, TypeError, ZeroDivisionError, AttributeError) as error:
        raise InputError(
            f"pretrained_cfg in config.json of {spec} is not usable: {first_line(error)}"
        ) from error


def _sizes(saved: dict[str, Any]) -> tuple[tuple[int, int] | None, int | None]:
    """The size all pictures get, or the length of the shorter side."""
    size = saved["size"]
    if isinstance(size, dict) and "shortest_edge" in size:
        return None, _length(size["shortest_edge"])
    if isinstance(size, int) and saved.get("do_center_crop"):
        return None, _length(size)
    return _pair(size), None


def _pair(size: Any) -> tuple[int, int]:
    if isinstance(size, dict):
        return _length(size["height"]), _length(size["width"])
    return _length(size), _length(size)


def _length(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _LONGEST:
        raise ValueError(f"a picture of {value!r} pixels is not made here")
    return value


def _middle(x: Tensor, size: tuple[int, int]) -> Tensor:
    """The middle of the pictures, with black around where they are smaller."""
    height, width = size
    down, across = max(height - x.shape[2], 0), max(width - x.shape[3], 0)
    if down or across:
        edges = (across // 2, across - across // 2, down // 2, down - down // 2)
        x = pad(x, edges)
    top, left = (x.shape[2] - height) // 2, (x.shape[3] - width) // 2
    return x[:, :, top : top + height, left : left + width]


def _by(size: tuple[int, int] | None) -> str:
    return "×".join(map(str, size or ()))


def _listed(values: tuple[float, ...] | None) -> str:
    return ", ".join(f"{value:.4g}" for value in values or ())
