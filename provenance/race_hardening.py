"""Hardening: a detector is trained further on every generation so far, never on the newest alone.

A photograph and its reconstruction always share crop and delivery, so that neither content nor compression
can be the clue. Part of each batch is perturbed against the detector itself (Madry et al. 2018), which is
what makes the next attack dear.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy
import torch
from torch import nn
from torch.nn import functional

from assaymark.provenance.deliveries import deliver
from assaymark.provenance.race_attacks import Images, Photos, logits, pgd, tensor

PATCH = 64  # pixels a side that a step sees: what is left of 96 after each of DELIVERED
DELIVERED = (
    "jpeg95",
    "jpeg75",
    "jpeg60",
    "webp75",
    "double-jpeg",
    "resize75-bicubic",
    "resize150-bilinear",
    "blur0.5",
    "noise2",
    "sharpen",
)


@dataclass(frozen=True, kw_only=True)
class Hardening:
    """How a detector is trained. steps: batches. pairs: photographs with their fakes in each.

    eps: how far fakes and photographs of every second batch are perturbed, in steps of 255; 0 never.
    newest: the share of the newest generation; the older ones share the rest.
    """

    steps: int = 150
    pairs: int = 16
    rate: float = 1e-3
    eps: float = 1.0
    newest: float = 0.4


def harden(
    detector: nn.Module,
    photos: Photos,
    generations: Sequence[Photos],
    how: Hardening,
    rng: numpy.random.Generator,
) -> nn.Module:
    """A copy of the detector, trained on photographs against each generation's fakes of them."""
    hardened = copy.deepcopy(detector).requires_grad_(True)  # loaded detectors are frozen
    optimiser = torch.optim.AdamW(hardened.parameters(), how.rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, how.rate, total_steps=how.steps)
    older = (1 - how.newest) / max(len(generations) - 1, 1)
    shares = [older] * (len(generations) - 1) + [how.newest]
    chances = numpy.asarray(shares) / sum(shares)
    for step in range(how.steps):
        places = rng.choice(len(photos), how.pairs)
        drawn = rng.choice(len(generations), how.pairs, p=chances)
        pairs = [
            _pair(photos[at], generations[made][at], rng)
            for at, made in zip(places, drawn, strict=True)
        ]
        reals, fakes = (tensor(numpy.stack(side)) for side in zip(*pairs, strict=True))
        if how.eps and step % 2:
            reals, fakes = _perturbed(hardened, reals, fakes, how.eps / 255)
        hardened.train()
        told = logits(hardened, torch.cat([reals, fakes]))
        wanted = torch.cat([torch.zeros(len(reals)), torch.ones(len(fakes))])
        loss = functional.binary_cross_entropy_with_logits(told, wanted)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return hardened.eval()


def _perturbed(
    detector: nn.Module, reals: Images, fakes: Images, eps: float
) -> tuple[Images, Images]:
    """Fakes that look real, and photographs with a change of the same size, so that size is no clue."""
    towards = pgd(detector, fakes, eps=eps, steps=2)
    return pgd(_Contrary(detector), reals, eps=eps, steps=2), towards


class _Contrary(nn.Module):
    """The detector with its sign turned: what lowers this raises that."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Images) -> torch.Tensor:
        return -logits(self.detector, images)


def _pair(real: Photos, fake: Photos, rng: numpy.random.Generator) -> tuple[Photos, Photos]:
    """Both after one delivery of the same seed, every second time, and one place of PATCH pixels."""
    name = str(rng.choice(DELIVERED)) if rng.random() < 0.5 else "unchanged"
    seed = int(rng.integers(2**32))
    real, fake = deliver(real, name, seed), deliver(fake, name, seed)
    top, left = (int(rng.integers(side - PATCH + 1)) for side in real.shape[:2])
    window = numpy.s_[top : top + PATCH, left : left + PATCH]
    return real[window], fake[window]
