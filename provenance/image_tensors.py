"""What detectors of pictures share: pixels as tensors, and the normalisations networks were trained with."""

import torch
from jaxtyping import Float
from torch import Tensor

from assaymark.provenance.material import Pixels
from assaymark.reports.errors import InputError

Images = Float[Tensor, "batch 3 height width"]  # in [0, 1]
Features = Float[Tensor, "batch channels height width"]
LogOdds = Float[Tensor, " batch"]  # positive: the detector's finding

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


def normalised(x: Images, by: tuple[tuple[float, ...], tuple[float, ...]]) -> Images:
    """Each channel less its mean, divided by its deviation."""
    mean, deviation = (x.new_tensor(values).view(1, 3, 1, 1) for values in by)
    return (x - mean) / deviation


def as_images(pixels: Pixels) -> Images:
    """One picture as a batch: 8 bits divided by 255, as torchvision's ToTensor does."""
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


def at_least(x: Images, side: int, name: str) -> None:
    """Raise InputError for a picture too small for a network."""
    height, width = x.shape[-2:]
    if min(height, width) < side:
        raise InputError(
            f"{name} looks at pictures of at least {side} x {side} pixels, got {width} x {height}"
        )
