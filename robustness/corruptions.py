"""Common corruptions: what cameras, weather and processing do to images, at five severities.

The 15 corruptions of ImageNet-C and its 4 extra ones (Hendrycks and Dietterich 2019, arXiv
1903.12261), for images of any size with 1 or 3 channels, batched and on any device. Each image's
random numbers come from its own stream. Where this differs from the published programs:

- pixels stay real numbers instead of being rounded down to 8 bits on the way;
- frost lays textures made by `corruption_frost` over the image, not photographs;
- spatter measures exact Euclidean distances, where OpenCV approximates them;
- zoom_blur and snow magnify images of fewer than 32 pixels by the exact factor, where rounding to
  whole pixels would leave many of them as they are;
- motion trails follow ImageMagick's rule, but repeat the edge even where a trail is longer than the
  image;
- elastic_transform measures lengths by the shorter side, not always by 224 pixels;
- constants for small and large images follow one rule (`corruption_severities`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from assaymark.reports.errors import InputError, nearest
from assaymark.robustness.corruption_blur import (
    defocus_blur,
    gaussian_blur,
    glass_blur,
    motion_blur,
    zoom_blur,
)
from assaymark.robustness.corruption_digital import (
    brightness,
    contrast,
    elastic_transform,
    jpeg_compression,
    pixelate,
    saturate,
)
from assaymark.robustness.corruption_noise import (
    gaussian_noise,
    impulse_noise,
    shot_noise,
    speckle_noise,
)
from assaymark.robustness.corruption_severities import Constants, constants
from assaymark.robustness.corruption_weather import fog, frost, snow, spatter
from assaymark.robustness.streams import Streams, seed_of
from assaymark.robustness.types import Images

Family = Literal["noise", "blur", "weather", "digital"]
Corruption = Callable[[Images, Constants, Streams], Images]
"""Images in [0, 1] and the constants of a severity to images in [0, 1] of the same shape."""

SEVERITIES = (1, 2, 3, 4, 5)


@dataclass(frozen=True, kw_only=True)
class CorruptionCard:
    """A corruption of the table. extra: one of the four kept for validation, not in any mean."""

    run: Corruption
    family: Family
    extra: bool = False
    colour_only: bool = False
    """Whether it leaves images of one channel as they are."""
    values_at_once: int = 1 << 18
    """How many values fit the processor's cache; where each step costs, more are better."""


CORRUPTIONS: dict[str, CorruptionCard] = {
    "gaussian_noise": CorruptionCard(run=gaussian_noise, family="noise"),
    "shot_noise": CorruptionCard(run=shot_noise, family="noise"),
    "impulse_noise": CorruptionCard(run=impulse_noise, family="noise"),
    "defocus_blur": CorruptionCard(run=defocus_blur, family="blur"),
    "glass_blur": CorruptionCard(run=glass_blur, family="blur", values_at_once=1 << 22),
    "motion_blur": CorruptionCard(run=motion_blur, family="blur"),
    "zoom_blur": CorruptionCard(run=zoom_blur, family="blur"),
    "snow": CorruptionCard(run=snow, family="weather"),
    "frost": CorruptionCard(run=frost, family="weather"),
    "fog": CorruptionCard(run=fog, family="weather", values_at_once=1 << 20),
    "brightness": CorruptionCard(run=brightness, family="digital"),
    "contrast": CorruptionCard(run=contrast, family="digital"),
    "elastic_transform": CorruptionCard(run=elastic_transform, family="digital"),
    "pixelate": CorruptionCard(run=pixelate, family="digital"),
    "jpeg_compression": CorruptionCard(run=jpeg_compression, family="digital"),
    "speckle_noise": CorruptionCard(run=speckle_noise, family="noise", extra=True),
    "gaussian_blur": CorruptionCard(run=gaussian_blur, family="blur", extra=True),
    "spatter": CorruptionCard(run=spatter, family="weather", extra=True),
    "saturate": CorruptionCard(run=saturate, family="digital", extra=True, colour_only=True),
}
MAIN = tuple(name for name, card in CORRUPTIONS.items() if not card.extra)
_ON_A_GPU = 1 << 26


def corrupt(x: Images, name: str, severity: int, streams: Streams) -> Images:
    """Each image as the corruption leaves it: same shape, type and device, pixels in [0, 1].

    x: n×C×H×W in [0, 1], with C 1 or 3. severity: 1 to 5. streams: one for each image; an image's
    result depends on it, the corruption and the severity alone. Raises InputError for an unknown
    corruption or severity, and for images it cannot take.
    """
    card = CORRUPTIONS.get(name)
    if card is None:
        raise InputError(f'unknown corruption "{name}"{nearest(name, CORRUPTIONS)}')
    if severity not in SEVERITIES:
        raise InputError(f"a severity is a whole number from 1 to 5, got {severity}")
    if x.shape[1] not in (1, 3):
        raise InputError(
            f"corruptions are defined for 1 or 3 channels, got images of {x.shape[1]}: leave an "
            "alpha channel out"
        )
    if len(streams) != len(x):
        raise InputError(f"each image needs a stream, got {len(streams)} for {len(x)} images")
    if not x.numel():
        return x.clone()
    low, high = (float(end) for end in torch.aminmax(x.detach()))
    if not (low >= 0 and high <= 1):
        raise InputError(
            f"pixels must lie in [0, 1], got [{low:.3g}, {high:.3g}]: divide 8-bit images by 255"
        )
    amounts = constants(name, severity, *x.shape[-2:])
    own = Streams(streams.keys ^ seed_of(f"corruption/{name}/{severity}"))
    at_once = max(1, (card.values_at_once if x.device.type == "cpu" else _ON_A_GPU) // x[0].numel())
    parts = []
    with torch.no_grad():
        for begin in range(0, len(x), at_once):
            rows = slice(begin, begin + at_once)
            part = card.run(x[rows].float().contiguous(), amounts, Streams(own.keys[rows]))
            parts.append(part.to(x.dtype))
    return torch.cat(parts)
