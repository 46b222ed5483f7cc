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
from assaymark.provenance.race_attacks import (
    Images,
    Photos,
    fooling,
    levels,
    logits,
    pgd,
    squared_error,
    tensor,
)

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

    eps: how far fakes and photographs of every second batch are perturbed at most, in steps of 255; 0
    never; eps_steps: steps to find each change. newest: the share of the newest generation; the older ones
    share the rest. rivals: for each, a generator is tuned against the detector while it learns, with this
    weight of the detector in its loss; half of all fakes are theirs.
    """

    steps: int = 150
    pairs: int = 12
    rate: float = 1e-3
    eps: float = 4.0
    eps_steps: int = 3
    newest: float = 0.4
    rivals: tuple[float, ...] = ()  # (0.5, 5.0) cost more and gained nothing by the third round


def harden(
    detector: nn.Module,
    photos: Photos,
    generations: Sequence[Photos],
    how: Hardening,
    rng: numpy.random.Generator,
    *,
    generator: nn.Module | None = None,
) -> nn.Module:
    """A copy of the detector, trained on photographs against each generation's fakes of them.

    generator: what rivals begin as; without it there are none.
    """
    hardened = copy.deepcopy(detector).requires_grad_(True)  # loaded detectors are frozen
    rivals = [_Rival(generator, photos, weight) for weight in how.rivals] if generator else []
    optimiser = torch.optim.AdamW(hardened.parameters(), how.rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, how.rate, total_steps=how.steps)
    older = (1 - how.newest) / max(len(generations) - 1, 1)
    shares = [older] * (len(generations) - 1) + [how.newest]
    chances = numpy.asarray(shares) / sum(shares)
    for step in range(how.steps):
        places = rng.choice(len(photos), how.pairs)
        drawn = rng.choice(len(generations), how.pairs, p=chances)
        fakes_of = [generations[made][at] for at, made in zip(places, drawn, strict=True)]
        if rivals:
            some = places[: how.pairs // 2]
            fakes_of[: len(some)] = rivals[step % len(rivals)].turn(hardened, photos[some])
        pairs = [_pair(photos[at], fake, rng) for at, fake in zip(places, fakes_of, strict=True)]
        reals, fakes = (tensor(numpy.stack(side)) for side in zip(*pairs, strict=True))
        if how.eps and step % 2:
            eps = float(rng.uniform(0, how.eps)) / 255
            reals, fakes = _perturbed(hardened, reals, fakes, eps, how.eps_steps)
        hardened.train()
        told = logits(hardened, torch.cat([reals, fakes]))
        wanted = torch.cat([torch.zeros(len(reals)), torch.ones(len(fakes))])
        loss = functional.binary_cross_entropy_with_logits(told, wanted)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return hardened.eval()


class _Rival:
    """A generator that learns while the detector does, as the next attacker will."""

    def __init__(self, generator: nn.Module, photos: Photos, weight: float) -> None:
        self._error = squared_error(generator, photos[:64])
        self._weight = weight
        self._generator = copy.deepcopy(generator).requires_grad_(True)
        self._optimiser = torch.optim.Adam(self._generator.parameters(), 5e-4)

    def turn(self, detector: nn.Module, photos: Photos) -> Photos:
        """One step against the detector as it is; the fakes before that step."""
        detector.eval()
        self._generator.train()
        loss, made = fooling(detector, self._generator, tensor(photos), self._error, self._weight)
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()
        return levels(made.detach())


def _perturbed(
    detector: nn.Module, reals: Images, fakes: Images, eps: float, steps: int
) -> tuple[Images, Images]:
    """Fakes that look real, and photographs with a change of the same size, so that size is no clue."""
    towards = pgd(detector, fakes, eps=eps, steps=steps)
    return pgd(_Contrary(detector), reals, eps=eps, steps=steps), towards


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
