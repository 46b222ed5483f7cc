"""Two attackers of a detector who know its weights: one tunes a generator against it, one each pixel.

What an attack costs its author is part of the answer: the quality of the fakes in dB of PSNR to the
photographs they reconstruct, the steps, and the CPU time. Each stops as soon as the detector is no better
than a coin, so that the cost is that of winning, or of the whole budget where it did not win.
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
_LADDER = (0.5, 1.0, 2.0, 4.0, 8.0)  # steps of 255
_CHUNKS = 8
_FIRST_WEIGHT = 0.1


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
    """What an attack took and got. psnr: of the fakes to the photographs, dB; before: without the attack.

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


def tune_against(
    detector: nn.Module,
    generator: nn.Module,
    photos: Photos,
    *,
    steps: int,
    rng: numpy.random.Generator,
) -> tuple[nn.Module, Cost]:
    """A copy of the generator whose fakes the detector takes for photographs, and what it cost.

    The weight of the detector in the loss doubles after each eighth of the steps at which the detector
    still beats a coin on the attacker's photographs; the attack ends where it no longer does.
    """
    began = time.process_time()
    attacker = copy.deepcopy(generator).requires_grad_(True)
    detector.eval()
    optimiser = torch.optim.Adam(attacker.parameters(), 5e-4)
    usual = psnr(photos, reconstructed(generator, photos))
    error, weight, done = 10 ** (-usual / 10), _FIRST_WEIGHT, 0
    for _ in range(_CHUNKS):
        attacker.train()
        for _ in range(max(1, steps // _CHUNKS)):
            images = tensor(photos[rng.choice(len(photos), _BATCH)])
            made = attacker(images)
            fooled = functional.softplus(logits(detector, rounded(made))).mean()
            loss = functional.mse_loss(made, images) / error + weight * fooled
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            done += 1
        fakes = reconstructed(attacker, photos)
        reached = told_apart(detector, photos, fakes)
        if reached <= COIN:
            break
        weight *= 2
    cost = Cost(
        attacker="generator",
        psnr_before=usual,
        psnr=psnr(photos, fakes),
        reached=reached,
        strength=weight,
        steps=done,
        seconds=time.process_time() - began,
    )
    return attacker.eval(), cost


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
