"""A small network that takes noise out of photographs, and pictures that pass through its noise.

A diffusion model that starts from a photograph with some noise rather than from noise alone keeps the
content and renews the detail (SDEdit, https://arxiv.org/abs/2108.01073, section 3). Preconditioning,
distribution of noise and deterministic sampler are those of https://arxiv.org/abs/2206.00364 (table 1,
algorithm 1 without its second order).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from assaymark.provenance.decoder_training import Course, Progress, train
from assaymark.provenance.decoders import Images, Pixels, check_pixels, to_images, to_pixels
from assaymark.provenance.network_files import load_network, save_network
from assaymark.reports.errors import InputError

_DATA = 0.5  # standard deviation of photographs in [-1, 1]
_LOG_NOISE = (-1.8, 1.0)  # mean and deviation of the logarithm of the noise that is trained on
_LEAST = 0.005  # noise at which sampling ends, in [-1, 1]
_CELL = 4

Noise = Float[Tensor, " batch"]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """width: features at half the resolution. depth: blocks at each of the two resolutions."""

    width: int = 32
    depth: int = 2

    def __post_init__(self) -> None:
        if not (1 <= self.width <= 128 and 1 <= self.depth <= 16):
            raise InputError(
                "a denoiser's width lies in [1, 128] and its depth in [1, 16], got "
                f"{self.width} and {self.depth}"
            )


class _Block(nn.Module):
    """Two convolutions beside the identity, shifted and scaled by the level of noise."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.level = nn.Linear(16, 2 * channels)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        scale, shift = self.level(level)[:, :, None, None].chunk(2, 1)
        found = self.first(F.silu(x)) * (1 + scale) + shift
        total: Tensor = x + self.second(F.silu(found))
        return total


class Denoiser(nn.Module):
    """Photographs in [-1, 1] from photographs with noise of known deviation; sides are multiples of 4."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        width, wide = shape.width, 2 * shape.width
        self.enter = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, width, 3, padding=1))
        self.above = nn.ModuleList(_Block(width) for _ in range(shape.depth))
        self.down = nn.Conv2d(width, wide, 2, 2)
        self.below = nn.ModuleList(_Block(wide) for _ in range(shape.depth))
        self.up = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(wide, width, 3, padding=1))
        self.after = nn.ModuleList(_Block(width) for _ in range(shape.depth))
        self.leave = nn.Sequential(
            nn.SiLU(), nn.Conv2d(width, 12, 3, padding=1), nn.PixelShuffle(2)
        )
        self.level = nn.Sequential(nn.Linear(2, 16), nn.SiLU(), nn.Linear(16, 16), nn.SiLU())

    def forward(self, images: Images, noise: Noise) -> Images:
        sigma = noise[:, None, None, None]
        total = (sigma**2 + _DATA**2).sqrt()
        logarithm = noise.log() / 4
        level = self.level(torch.stack([logarithm, noise], 1))
        x = self.enter(images / total)
        for block in self.above:
            x = block(x, level)
        y = self.down(x)
        for block in self.below:
            y = block(y, level)
        x = x + self.up(y)
        for block in self.after:
            x = block(x, level)
        found: Tensor = images * (_DATA / total) ** 2 + self.leave(x) * sigma * _DATA / total
        return found


class DenoiserLoss(nn.Module):
    """The weighted squared error over random levels of noise (the same paper, section 5)."""

    def __init__(self, model: Denoiser) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Images, generator: torch.Generator) -> Float[Tensor, ""]:
        clean = images * 2 - 1
        mean, deviation = _LOG_NOISE
        noise = (torch.randn(len(clean), generator=generator) * deviation + mean).exp().to(clean)
        noisy = torch.randn(clean.shape, generator=generator).to(clean) * noise[:, None, None, None]
        error = (self.model(clean + noisy, noise) - clean).square().mean((1, 2, 3))
        weighted: Tensor = error * (noise**2 + _DATA**2) / (noise * _DATA) ** 2
        return weighted.mean()


def build_denoiser(shape: Shape | None = None, *, seed: int = 0) -> Denoiser:
    """A denoiser that has learnt nothing yet; the same seed gives the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Denoiser(shape or Shape())


def train_denoiser(
    photos: Sequence[Pixels],
    *,
    shape: Shape | None = None,
    course: Course | None = None,
    device: str = "cpu",
    checkpoint: Path | None = None,
    every: int = 100,
    progress: Progress | None = None,
) -> Denoiser:
    """A denoiser trained on crops of the photographs; errors as of decoder_training.train."""
    course = course or Course()
    task = DenoiserLoss(build_denoiser(shape, seed=course.seed))
    train(
        task,
        photos,
        course=course,
        device=device,
        checkpoint=checkpoint,
        every=every,
        told=asdict(task.model.shape),
        progress=progress,
    )
    return task.model


def renew(
    model: Denoiser, pixels: Pixels, *, noise: float, steps: int = 6, seed: int = 0
) -> Pixels:
    """A picture of 8-bit RGB after noise was added and taken out again in so many steps, of the same size.

    noise: its deviation in [0.01, 4], where white is 1 and black -1. Raises InputError for another array
    or for numbers outside their range.
    """
    check_pixels(pixels)
    if not 0.01 <= noise <= 4 or not 1 <= steps <= 200:
        raise InputError(
            f"expected noise in [0.01, 4] and 1 to 200 steps, got {noise} and {steps} steps"
        )
    device = next(model.parameters()).device
    height, width = pixels.shape[:2]
    clean = F.pad(
        to_images(pixels, device), (0, -width % _CELL, 0, -height % _CELL), mode="replicate"
    )
    generator = torch.Generator().manual_seed(seed)
    levels = [*numpy.geomspace(noise, _LEAST, steps), 0.0]
    with torch.inference_mode():
        x = clean * 2 - 1
        x = x + torch.randn(x.shape, generator=generator).to(x) * noise
        for now, then in pairwise(levels):
            found = model(x, x.new_full((1,), now))
            x = found + (x - found) * (then / now)
    return to_pixels(x[:, :, :height, :width] * 0.5 + 0.5)


def save_denoiser(model: Denoiser, path: Path) -> None:
    """Weights as safetensors, with the shape in the header."""
    save_network(model, path, kind="denoiser", settings=asdict(model.shape))


def load_denoiser(path: Path) -> Denoiser:
    """The denoiser of a file of save_denoiser; raises InputError for any other file."""
    return load_network(path, kind="denoiser", build=lambda told: Denoiser(Shape(**told)))
