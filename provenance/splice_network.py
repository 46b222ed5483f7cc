"""The small network that turns the features of blocks into log odds that a block is not of the picture.

Each feature is given twice: against photographs at large, and against the median of its own picture, since
what gives a region away is that it differs from the rest.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy
import torch
from jaxtyping import Float, Float32
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from assaymark.provenance.splice_features import Features
from assaymark.reports.errors import InputError

FEATURES = 63
WEIGHTS = Path(__file__).with_name("weights") / "localiser.safetensors"
_WIDTH = 32
_CLIP = 5.0  # deviations


class SpliceNetwork(nn.Module):
    """Three residual 3 x 3 layers of growing dilation, each normalised over its picture."""

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("deviation", torch.ones(FEATURES))
        self.mix = nn.Conv2d(2 * FEATURES, _WIDTH, 1)
        self.layers = nn.ModuleList(
            nn.Conv2d(_WIDTH, _WIDTH, 3, padding=reach, dilation=reach, padding_mode="replicate")
            for reach in (1, 2, 3)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(4, _WIDTH) for _ in self.layers)
        self.out = nn.Conv2d(2 * _WIDTH, 1, 1)

    def forward(
        self, features: Float[Tensor, "batch features rows columns"]
    ) -> Float[Tensor, "batch rows columns"]:
        """Log odds of each block."""
        middle = features[:, :, ::2, ::2].flatten(2).median(dim=2).values[:, :, None, None]
        scale = self.deviation[None, :, None, None]
        usual = (features - self.mean[None, :, None, None]) / scale
        own = (features - middle) / scale
        x = torch.relu(self.mix(torch.cat([usual, own], 1).clamp(-_CLIP, _CLIP)))
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = x + torch.relu(norm(layer(x)))
        apart = x - x.mean(dim=(2, 3), keepdim=True)
        found: Tensor = self.out(torch.cat([x, apart], 1))
        return found[:, 0]


@dataclass(frozen=True, kw_only=True)
class Card:
    """What the shipped weights were measured to do; `platt` maps a score to natural log odds ratios."""

    threshold: float
    platt: tuple[float, float]
    measured: dict[str, float | int | str]


def load_network(path: Path = WEIGHTS) -> SpliceNetwork:
    """Raises InputError where the file is no weights of this network."""
    network = SpliceNetwork()
    try:
        network.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise InputError(f"{path} holds no weights of the splice network: {error}") from error
    return network.eval()


@cache
def shipped() -> tuple[SpliceNetwork, Card]:
    card = json.loads(WEIGHTS.with_suffix(".json").read_text(encoding="utf-8"))
    return load_network(), Card(
        threshold=float(card["threshold"]),
        platt=(float(card["platt"][0]), float(card["platt"][1])),
        measured=card["measured"],
    )


def log_odds(network: SpliceNetwork, features: Features) -> Float32[numpy.ndarray, "rows columns"]:
    """Of each block, from the features of a picture or a tile of it."""
    with torch.inference_mode():
        return numpy.asarray(network(torch.from_numpy(features)[None])[0])
