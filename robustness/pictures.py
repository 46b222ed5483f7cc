"""Evidence a person can look at: original, adversarial, and the difference made visible."""

import base64
import io
import math

import numpy
from PIL import Image
from torch import Tensor

from assaymark.reports.model import ImageTrio, Picture
from assaymark.robustness.shard import Example

_LARGEST = 144
"""Longest side of a stored picture: 12 trios of noise stay under 600 KB of HTML."""
_LOSSLESS = 64


def trio(example: Example, classes: tuple[str, ...], *, confident: bool = True) -> ImageTrio:
    """The three pictures of an adversarial example, with both answers and the distances.

    confident: whether the model says how sure it is; one that answers labels does not.
    """
    delta = (example.adversarial - example.original).double()
    linf, l2 = float(delta.abs().max()), float(delta.norm())
    factor = _readable(0.5 / linf) if linf else 1.0
    return ImageTrio(
        title=f"example {example.index}",
        original=encode(example.original),
        adversarial=encode(example.adversarial),
        difference=encode((0.5 + factor * delta).clamp(0, 1)),
        factor=factor,
        label=classes[example.label],
        prediction=classes[example.prediction],
        confidence=example.confidence if confident else None,
        fooled_prediction=classes[example.fooled_prediction],
        fooled_confidence=example.fooled_confidence if confident else None,
        linf=linf,
        l2=l2,
        attack=example.attack,
    )


def encode(image: Tensor) -> Picture:
    """C×H×W in [0, 1] as PNG when small, else reduced and as WebP."""
    array = (
        (image.detach().cpu().clamp(0, 1) * 255).round().to(dtype=image.new_empty(0).byte().dtype)
    )
    planes = array.numpy().transpose(1, 2, 0)
    planes = planes[:, :, 0] if planes.shape[2] in (1, 2) else planes[:, :, :3]
    picture = Image.fromarray(numpy.ascontiguousarray(planes))
    stream = io.BytesIO()
    if max(picture.size) <= _LOSSLESS:
        picture.save(stream, "PNG", optimize=True)
        kind = "image/png"
    else:
        picture.thumbnail((_LARGEST, _LARGEST))
        picture.save(stream, "WEBP", quality=70, method=4)
        kind = "image/webp"
    return Picture(
        media_type="image/png" if kind == "image/png" else "image/webp",
        data=base64.b64encode(stream.getvalue()).decode(),
        width=picture.width,
        height=picture.height,
    )


def _readable(factor: float) -> float:
    """Rounded down to 1, 2 or 5 times a power of ten, so that ×k can be read."""
    power = 10.0 ** math.floor(math.log10(factor))
    return max(step for step in (1, 2, 5) if step * power <= factor) * power
