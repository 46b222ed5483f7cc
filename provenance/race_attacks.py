"""Two attackers of a detector who know its weights: one tunes a generator against it, one each pixel.

What an attack costs its author is part of the answer: the quality of the fakes in dB of PSNR to the
photographs they reconstruct, the steps, and the CPU time. Each stops as soon as the detector is no better
than a coin and keeps its least damage that wins, so that the cost is that of winning; where nothing won,
it is said, and the cost is that of the attempt that got furthest. A perfect attacker of a perfect detector
pays 10 · log10(2) = 3.01 dB: drawing the lost details at random doubles the least squared error (Blau and
Michaeli, The Perception-Distortion Tradeoff, 2018, section 3.2).
"""

import copy
import time
from dataclasses import dataclass

import numpy
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from assaymark.provenance.detection_scores import auc

Photos = UInt8[numpy.ndarray, "photos side side 3"]
Images = Float[Tensor, "batch 3 height width"]
COIN = 0.5
_BATCH = 16
_LADDER = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)  # steps of 255
_CHUNKS = 8
_OWN = 128  # photographs on which an attacker looks at what he reached
_FIRST_WEIGHTS = (0.01, 1.0)


class Reconstructor(nn.Module):
    """A light autoencoder, 6 numbers for every 8 pixels of 3 colours, whose decoder shuffles pixels."""

    def __init__(self, width: int = 48, latents: int = 12) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(4),
            nn.Conv2d(48, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, latents, 3, padding=1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(latents, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.PixelShuffle(2),
            nn.SiLU(),
            nn.Conv2d(width // 2, 48, 3, padding=1),
            nn.PixelShuffle(2),
            nn.SiLU(),
            nn.Conv2d(12, 3, 3, padding=1),
        )

    def forward(self, images: Images) -> Images:
        """Pictures of sides that are multiples of 4, to reconstructions that may leave [0, 1] slightly."""
        found: Tensor = self.decoder(self.encoder(images - 0.5)) + 0.5
        return found


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What an attack took and got. psnr: of the fakes to the photographs, dB; before: without the attack,
    for a generator after as many steps that do not mind the detector.

    reached: the detector's AUC on the photographs that the attacker tuned with. strength: the weight of
    the detector in the loss of a generator, or the largest change of a pixel in steps of 255.
    """

    attacker: str
    psnr_before: float
    psnr: float
    reached: float
    strength: float
    steps: int
    seconds: float

    @property
    def won(self) -> bool:
        """Whether the detector was no better than a coin; if not, the cost is that of the best attempt."""
        return self.reached <= COIN

    @property
    def decibels(self) -> float:
        """What the attack cost in quality; negative if the fakes became better."""
        return self.psnr_before - self.psnr


def tensor(photos: Photos) -> Images:
    """RGB in [0, 1]."""
    return torch.from_numpy(photos).permute(0, 3, 1, 2).float() / 255


def levels(images: Images) -> Photos:
    """Eight bits, as a file holds them."""
    found: Photos = (images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return numpy.ascontiguousarray(found)


def rounded(images: Images) -> Images:
    """The same with a gradient, as if it were not rounded."""
    clamped = images.clamp(0, 1)
    return clamped + ((clamped * 255).round() / 255 - clamped).detach()


def logits(detector: nn.Module, images: Images) -> Float[Tensor, " batch"]:
    """The logit of "generated" of a detector that gives (batch), (batch, 1), or (batch, 2): real, fake."""
    out: Tensor = detector(images)
    if out.ndim == 2 and out.shape[1] == 2:
        return out[:, 1] - out[:, 0]
    return out.reshape(len(images))


@torch.no_grad()
def scores(detector: nn.Module, photos: Photos) -> Float[numpy.ndarray, " photos"]:
    """Logits of any number of pictures, in evaluation mode."""
    detector.eval()
    parts = [
        logits(detector, tensor(photos[at : at + 64])).double() for at in range(0, len(photos), 64)
    ]
    return torch.cat(parts).numpy()


def told_apart(detector: nn.Module, reals: Photos, fakes: Photos) -> float:
    """The detector's AUC."""
    found = auc(
        numpy.repeat([False, True], [len(reals), len(fakes)]),
        numpy.concatenate([scores(detector, reals), scores(detector, fakes)]),
    )
    assert found is not None  # neither is empty
    return found


def psnr(photos: Photos, fakes: Photos) -> float:
    """Mean over pictures of 10 · log10(255² / mean squared error), dB; 99 at most."""
    error = ((photos.astype(float) - fakes) ** 2).mean(axis=(1, 2, 3))
    return float(numpy.minimum(10 * numpy.log10(255**2 / numpy.maximum(error, 1e-9)), 99).mean())


@torch.no_grad()
def reconstructed(generator: nn.Module, photos: Photos) -> Photos:
    """The photographs through the generator, as a file would hold them."""
    generator.eval()
    parts = [levels(generator(tensor(photos[at : at + 64]))) for at in range(0, len(photos), 64)]
    return numpy.concatenate(parts)


def fit(generator: nn.Module, photos: Photos, *, steps: int, rng: numpy.random.Generator) -> None:
    """Train the generator, in place, to reconstruct."""
    generator.train()
    optimiser = torch.optim.Adam(generator.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    for _ in range(steps):
        images = tensor(photos[rng.choice(len(photos), _BATCH)])
        loss = functional.mse_loss(generator(images), images)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()


def fooling(
    detector: nn.Module, generator: nn.Module, images: Images, error: float, weight: float
) -> tuple[Tensor, Images]:
    """The loss of a generator that wants to be faithful and to be taken for a camera, and its fakes."""
    made: Images = generator(images)
    fooled = functional.softplus(logits(detector, rounded(made))).mean()
    return functional.mse_loss(made, images) / error + weight * fooled, made


def squared_error(generator: nn.Module, photos: Photos) -> float:
    """Of a typical picture, in units of [0, 1]."""
    return float(10 ** (-psnr(photos, reconstructed(generator, photos)) / 10))


def tune_against(
    detector: nn.Module,
    generator: nn.Module,
    photos: Photos,
    *,
    steps: int,
    rng: numpy.random.Generator,
) -> tuple[nn.Module, Cost]:
    """A copy of the generator whose fakes the detector takes for photographs, and what it cost.

    Attempts of so many steps begin with each of _FIRST_WEIGHTS of the detector in the loss, which doubles
    after each eighth at which the detector still beats a coin on the attacker's photographs; an attempt
    ends where it no longer does. The attacker takes the attempt that did so with the best pictures, or
    where none did the one that got furthest. It cost what as many steps without a detector would have
    given: a generator that was not trained to its end must not hide the damage.
    """
    began = time.process_time()
    own = photos[:: -(-len(photos) // _OWN)]
    each = max(1, steps // _CHUNKS)
    doubled = 2.0 ** numpy.arange(_CHUNKS)
    attempts = [
        _attempt(detector, generator, photos, first * doubled, each, rng)
        for first in _FIRST_WEIGHTS
    ]
    best = max(attempts, key=_success)
    without = _attempt(detector, generator, photos, 0 * doubled[: best.chunks], each, rng)
    cost = Cost(
        attacker="generator",
        psnr_before=max(psnr(own, reconstructed(generator, own)), without.psnr),
        psnr=best.psnr,
        reached=best.reached,
        strength=best.weight,
        steps=each * sum(tried.chunks for tried in attempts),
        seconds=time.process_time() - began,
    )
    return best.generator, cost


@dataclass(frozen=True, kw_only=True, eq=False)
class _Attempt:
    generator: nn.Module
    psnr: float
    reached: float
    weight: float
    chunks: int


def _success(attempt: _Attempt) -> tuple[bool, float]:
    won = attempt.reached <= COIN
    return won, attempt.psnr if won else -attempt.reached


def _attempt(
    detector: nn.Module,
    generator: nn.Module,
    photos: Photos,
    weights: Float[numpy.ndarray, " chunks"],
    steps: int,
    rng: numpy.random.Generator,
) -> _Attempt:
    """So many steps for each weight, until the detector is beaten."""
    attacker = copy.deepcopy(generator).requires_grad_(True)
    detector.eval()
    optimiser = torch.optim.Adam(attacker.parameters(), 5e-4)
    own = photos[:: -(-len(photos) // _OWN)]
    error = squared_error(generator, own)
    chunks = 0
    for weight in weights.tolist():
        chunks += 1
        attacker.train()
        for _ in range(steps):
            images = tensor(photos[rng.choice(len(photos), _BATCH)])
            loss, _ = fooling(detector, attacker, images, error, weight)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        fakes = reconstructed(attacker, own)
        reached = told_apart(detector, own, fakes)
        if reached <= COIN:
            break
    return _Attempt(
        generator=attacker.eval(),
        psnr=psnr(own, fakes),
        reached=reached,
        weight=weight,
        chunks=chunks,
    )


def pgd(detector: nn.Module, images: Images, *, eps: float, steps: int) -> Images:
    """Pictures within eps of each pixel that the detector takes for photographs (Madry et al. 2018).

    eps: in [0, 1]. Starts at the pictures themselves; step size 2.5 · eps / steps.
    """
    detector.eval()
    delta = torch.zeros_like(images)
    for _ in range(steps):
        delta.requires_grad_(True)
        total = logits(detector, images + delta).sum()
        (gradient,) = torch.autograd.grad(total, delta)
        moved = delta.detach() - 2.5 * eps / steps * gradient.sign()
        delta = (images + moved.clamp(-eps, eps)).clamp(0, 1) - images
    return (images + delta).detach()


def perturb_against(
    detector: nn.Module, photos: Photos, fakes: Photos, *, steps: int = 10
) -> tuple[Photos, Cost]:
    """The fakes, changed by the smallest eps of a ladder at which the detector no longer beats a coin."""
    began = time.process_time()
    usual = psnr(photos, fakes)
    taken = 0
    for eps in _LADDER:
        taken += steps
        parts = [
            levels(pgd(detector, tensor(fakes[at : at + 32]), eps=eps / 255, steps=steps))
            for at in range(0, len(fakes), 32)
        ]
        changed = numpy.concatenate(parts)
        reached = told_apart(detector, photos, changed)
        if reached <= COIN:
            break
    cost = Cost(
        attacker="pixels",
        psnr_before=usual,
        psnr=psnr(photos, changed),
        reached=reached,
        strength=eps,
        steps=taken,
        seconds=time.process_time() - began,
    )
    return changed, cost
