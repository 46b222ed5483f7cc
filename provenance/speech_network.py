"""The shipped model of speech: a small network on cepstra, a linear model on statistics, and how they add up.

Both read the loud frames of 4 s and know nothing of gain. There is one linear model and one calibration for
each bandwidth, because what a telephone cuts away must not be missed.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy
import torch
from jaxtyping import Float
from torch import Tensor, nn

from assaymark.provenance.evidence import OperatingPoint
from assaymark.provenance.sound import Samples
from assaymark.provenance.speech_features import (
    NARROW,
    WIDE,
    Frames,
    Vector,
    speech_frames,
    statistics,
    vocoder_traits,
)
from assaymark.reports.errors import InputError

COEFFICIENTS = 59
MAX_WEIGHTS = 5 * 2**20  # bytes
BANDWIDTHS = ("narrow", "wide")
_WEIGHTS = Path(__file__).parent / "weights" / "speech_lfcc.safetensors"


class SpeechNetwork(nn.Module):
    """Convolutions over time with max-feature-map activations (Wu et al., https://arxiv.org/abs/1511.02683),
    then mean and spread over time; the logit is high for synthetic speech.
    """

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.width = width
        self.middle: Tensor
        self.scale: Tensor
        self.register_buffer("middle", torch.zeros(COEFFICIENTS, 1))
        self.register_buffer("scale", torch.ones(COEFFICIENTS, 1))
        self.first = nn.Conv1d(COEFFICIENTS, 2 * width, 5, stride=2, padding=2)
        self.second = nn.Conv1d(width, 2 * width, 3, padding=1)
        self.third = nn.Conv1d(width, 2 * width, 3, padding=2, dilation=2)
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(3))
        self.drop = nn.Dropout(0.3)
        self.last = nn.Linear(2 * width, 1)

    def forward(self, frames: Float[Tensor, "batch 59 time"]) -> Float[Tensor, " batch"]:
        x = (frames - self.middle) / self.scale
        for layer, norm in zip((self.first, self.second, self.third), self.norms, strict=True):
            x = norm(torch.maximum(*layer(x).chunk(2, dim=1)))
        pooled = torch.cat([x.mean(2), (x.var(2, correction=0) + 1e-5).sqrt()], 1)
        logit: Tensor = self.last(self.drop(pooled))[:, 0]
        return logit


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a window of speech gives the model: `frames` (frames, 59) and the vector of its bandwidth."""

    frames: Frames
    narrow: Vector
    wide: Vector | None

    def vector(self, bandwidth: str) -> Vector:
        if bandwidth == "narrow" or self.wide is None:
            return self.narrow
        return self.wide


def measure(samples: Samples, *, wide: bool) -> Measured:
    """The features of at least half a second of sound at 16 kHz; the wide ones include the narrow ones."""
    frames = speech_frames(samples, top=NARROW)
    spread = numpy.log(frames.astype(numpy.float64).std(0) + 1e-3)
    traits = vocoder_traits(samples, bands=4 if wide else 2)
    of_narrow = numpy.concatenate([traits[:24], traits[-10:]])
    narrow = numpy.concatenate([spread, of_narrow])
    if not wide:
        return Measured(frames=frames, narrow=narrow, wide=None)
    more = numpy.concatenate([narrow, traits[24:-10], statistics(samples, top=WIDE)])
    return Measured(frames=frames, narrow=narrow, wide=more)


@dataclass(frozen=True, kw_only=True)
class Linear:
    """A linear model on how far features lie from those of recordings, in either direction.

    middle, scale: mean and standard deviation of recorded speech. weights: of the deviations, then of their
    squares, because vocoders err on both sides: some are too regular, others too blurred.
    """

    middle: Vector
    scale: Vector
    weights: Vector
    bias: float

    def __call__(self, vector: Vector) -> float:
        return float(deviations(vector, self.middle, self.scale) @ self.weights) + self.bias


def deviations(vectors: Vector, middle: Vector, scale: Vector) -> Vector:
    """(..., 2 n): z clipped to [-4, 4], and z squared, at most 9, less its mean of 1."""
    z = numpy.clip((vectors - middle) / scale, -4, 4)
    both: Vector = numpy.concatenate([z, numpy.minimum(z * z, 9) - 1], axis=-1)
    return both


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """llr = offset + network * logit + linear * logit, within the limits that the number of clips allows."""

    offset: float
    network: float
    linear: float
    lowest: float
    highest: float
    point: OperatingPoint

    def __call__(self, network: float, linear: float) -> float:
        llr = self.offset + self.network * network + self.linear * linear
        return float(numpy.clip(llr, self.lowest, self.highest))


@dataclass(frozen=True, kw_only=True)
class SpeechModel:
    """Loaded weights with their card. linear, calibration: by bandwidth, `narrow` or `wide`."""

    network: SpeechNetwork
    linear: Mapping[str, Linear]
    calibration: Mapping[str, Calibration]
    card: Mapping[str, Any]

    def parts(self, measured: Measured, bandwidth: str) -> tuple[float, float]:
        """The logits of the network and of the linear model."""
        with torch.inference_mode():
            frames = torch.from_numpy(numpy.ascontiguousarray(measured.frames.T))[None]
            logit = float(self.network(frames)[0])
        return logit, self.linear[bandwidth](measured.vector(bandwidth))

    def llr(self, measured: Measured, bandwidth: str) -> float:
        """Natural logarithm of the likelihood ratio, synthetic to recorded."""
        return self.calibration[bandwidth](*self.parts(measured, bandwidth))


@cache
def shipped_model() -> SpeechModel:
    """The model that comes with the package."""
    return load_model(_WEIGHTS)


def load_model(weights: Path) -> SpeechModel:
    """Read safetensors weights and the card (the same name, .json) that `save_model` wrote.

    Raises InputError where either is missing, over 5 MB, or not of this model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    card_path = weights.with_suffix(".json")
    try:
        if weights.stat().st_size > MAX_WEIGHTS or card_path.stat().st_size > MAX_WEIGHTS:
            raise InputError(
                f"{weights} or its card is over {MAX_WEIGHTS:,} bytes: no weights of speech"
            )
        tensors, card = load(weights.read_bytes()), json.loads(card_path.read_text())
        return _model(tensors, card)
    except OSError as error:
        raise InputError(f"{error.filename} cannot be read: {error.strerror}") from error
    except (SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{weights} holds no model of speech: {error}") from error


def save_model(model: SpeechModel, weights: Path) -> None:
    """Write the weights, and the card beside them, so that no reader sees half of a file."""
    from safetensors.torch import save

    from assaymark.reports.files import write_atomically

    tensors = {f"network.{name}": value for name, value in model.network.state_dict().items()}
    for name, linear in model.linear.items():
        for field in ("middle", "scale", "weights", "bias"):
            tensors[f"{name}.{field}"] = torch.tensor(getattr(linear, field), dtype=torch.float64)
    whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_atomically(weights, save(whole))
    write_atomically(weights.with_suffix(".json"), json.dumps(model.card, indent=1) + "\n")


def _model(tensors: Mapping[str, Tensor], card: Mapping[str, Any]) -> SpeechModel:
    network = SpeechNetwork(width=int(card["width"]))
    state = {name[8:]: value for name, value in tensors.items() if name.startswith("network.")}
    network.load_state_dict(state)
    linear = {name: _linear(tensors, name) for name in BANDWIDTHS}
    calibration = {
        name: Calibration(
            **{**card["calibration"][name], "point": OperatingPoint(**card["points"][name])}
        )
        for name in BANDWIDTHS
    }
    return SpeechModel(network=network.eval(), linear=linear, calibration=calibration, card=card)


def _linear(tensors: Mapping[str, Tensor], name: str) -> Linear:
    middle, scale, weights = (
        tensors[f"{name}.{field}"].numpy() for field in ("middle", "scale", "weights")
    )
    return Linear(middle=middle, scale=scale, weights=weights, bias=float(tensors[f"{name}.bias"]))
