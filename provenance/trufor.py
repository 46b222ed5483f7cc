"""TruFor: where a picture was edited, how far that can be relied on, and one score of its integrity.

Guillaro et al., "TruFor: Leveraging all-round clues for trustworthy image forgery detection and
localization", CVPR 2023, https://arxiv.org/abs/2212.10957, section 3: Noiseprint++ and the picture in
two transformers, a map of anomalies, a map of confidence, and statistics of the first weighed by the second.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from assaymark.provenance.image_tensors import (
    IMAGENET,
    Features,
    Images,
    LogOdds,
    at_least,
    normalised,
)
from assaymark.provenance.trufor_encoder import WIDTHS, TwoBranches, grid, tokens
from assaymark.provenance.weight_files import fill, read_weights, unfilled

SMALLEST = 32  # pixels: the coarsest keys of the first stage cover 32 x 32
_JOINT = 512
_DEPTH = 17


@dataclass(frozen=True, kw_only=True)
class Maps:
    """What TruFor says of a batch. anomaly and confidence lie in [0, 1]; logit: positive, manipulated.

    noise: Noiseprint++, which has no unit.
    """

    anomaly: Float[Tensor, "batch height width"]
    confidence: Float[Tensor, "batch height width"]
    logit: LogOdds
    noise: Float[Tensor, "batch height width"]


class _Linear(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.proj = nn.Linear(inputs, outputs)


class Decoder(nn.Module):
    """Maps of four sizes to one of the largest size, by one linear layer each and one for all."""

    def __init__(self, outputs: int, eps: float = 1e-5) -> None:
        super().__init__()
        for i, width in enumerate(WIDTHS, 1):
            self.add_module(f"linear_c{i}", _Linear(width, _JOINT))
        self.linear_fuse = nn.Sequential(
            nn.Conv2d(4 * _JOINT, _JOINT, 1), nn.BatchNorm2d(_JOINT, eps), nn.ReLU()
        )
        self.linear_pred = nn.Conv2d(_JOINT, outputs, 1)

    def forward(self, maps: list[Features]) -> Features:
        size = (maps[0].shape[2], maps[0].shape[3])
        parts = [self._resized(i, maps[i - 1], size) for i in (4, 3, 2, 1)]
        out: Tensor = self.linear_pred(self.linear_fuse(torch.cat(parts, 1)))
        return out

    def _resized(self, i: int, x: Features, size: tuple[int, int]) -> Features:
        linear = self.get_submodule(f"linear_c{i}.proj")
        y = grid(linear(tokens(x)), (x.shape[2], x.shape[3]))
        return functional.interpolate(y, size, mode="bilinear") if i > 1 else y


class TruFor(nn.Module):
    """Images in [0, 1], at least 32 x 32, to one logit each; positive: manipulated."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = TwoBranches()
        self.decode_head = Decoder(2, eps=1e-3)  # the configuration's BN_EPS reaches this head only
        self.decode_head_conf = Decoder(1)
        self.detection = nn.Sequential(
            nn.Linear(8, 128), nn.ReLU(), nn.Dropout(), nn.Linear(128, 1)
        )
        self.dncnn = _noiseprint()

    def forward(self, x: Images) -> LogOdds:
        return self.maps(x).logit

    def maps(self, x: Images) -> Maps:
        """All that the network says; the maps have the size of the images."""
        at_least(x, SMALLEST, "TruFor")
        x = x * (255 / 256)  # pixels were divided by 256
        noise = self.dncnn(x)
        joint = self.backbone(normalised(x, IMAGENET), noise.expand(-1, 3, -1, -1))
        size = (x.shape[2], x.shape[3])
        place = functional.interpolate(self.decode_head(joint), size, mode="bilinear")
        trust = functional.interpolate(self.decode_head_conf(joint), size, mode="bilinear")
        margin = (place[:, 1] - place[:, 0]).flatten(1)
        trusted = trust.flatten(1)
        plain = statistics(trusted, torch.zeros_like(trusted))
        weighed = statistics(margin, functional.logsigmoid(trusted))
        return Maps(
            anomaly=place.softmax(1)[:, 1],
            confidence=trust.sigmoid()[:, 0],
            logit=self.detection(torch.cat([plain, weighed], 1))[:, 0],
            noise=noise[:, 0],
        )


def statistics(
    x: Float[Tensor, "batch places"], log_weight: Float[Tensor, "batch places"]
) -> Float[Tensor, "batch 4"]:
    """Smooth minimum and maximum, mean and mean square under weights (section 3.4)."""
    log_weight = log_weight.log_softmax(-1)
    weight = log_weight.exp()
    lowest = -torch.logsumexp(log_weight - x, -1)
    highest = torch.logsumexp(log_weight + x, -1)
    return torch.stack([lowest, highest, (weight * x).sum(-1), (weight * x * x).sum(-1)], 1)


def _noiseprint() -> nn.Sequential:
    """Noiseprint++: a DnCNN of 17 layers (section 3.1)."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, padding=1), nn.ReLU()]
    for _ in range(_DEPTH - 2):
        layers += [nn.Conv2d(64, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(64, 1, 3, padding=1))


def load_trufor(path: Path) -> nn.Module:
    """trufor.pth.tar as published (68,697,421 parameters); raises InputError for any other file."""
    weights = read_weights(path, numpy_scalars=True)
    detector = unfilled(TruFor)
    fill(detector, weights, name=path.name, kind="weights of TruFor")
    return detector
