"""Networks behind defenses, and how an attacker who knows the defenses sees them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from assaymark.robustness.transforms import Transform, straight_through
from assaymark.robustness.types import Images, Logits

EXPECTATION = 16
"""Passes that are averaged where a model answers at random."""


class Defended(nn.Module):
    """A network behind transforms, the first of which sees the image first."""

    def __init__(self, network: nn.Module, transforms: Sequence[Transform]) -> None:
        super().__init__()
        self.transforms = nn.Sequential(*transforms)
        self.network = network

    def forward(self, x: Images) -> Logits:
        logits: Tensor = self.network(self.transforms(x))
        return logits


class Smoothed(nn.Module):
    """The vote of a network over `samples` images with normal noise (https://arxiv.org/abs/1902.02918).

    Logits are the logarithms of the shares of the vote, with one vote more that is spread as the mean
    probability, so that they are finite and say which class is next. Votes have no gradient: unless
    `masked`, that of the mean logits over the same noise stands in, which unlike the mean probability
    (https://arxiv.org/abs/1906.04584, section 2.2) is not flat where a draw is sure. sigma in pixel
    units; noise comes from torch's global generator, or with `seed` is the same at every
    call.
    """

    def __init__(
        self, network: nn.Module, sigma: float, samples: int = 32, *, seed: int | None = None
    ) -> None:
        super().__init__()
        if not 0 < sigma < float("inf") or samples < 1:
            raise ValueError(f"sigma > 0 and samples >= 1, got {sigma} and {samples}")
        self.network = network
        self.sigma = sigma
        self.samples = samples
        self.seed = seed
        self.masked = False

    def forward(self, x: Images) -> Logits:
        generator = None
        if self.seed is not None:
            generator = torch.Generator(x.device).manual_seed(self.seed)
        votes = mean = probability = torch.zeros((), device=x.device)
        for _ in range(self.samples):
            noise = torch.randn(x.shape, device=x.device, dtype=x.dtype, generator=generator)
            logits = self.network(x + self.sigma * noise).float()
            votes = votes + one_hot(logits.argmax(1), logits.shape[1])
            probability = probability + logits.detach().softmax(1) / self.samples
            mean = mean + logits / self.samples
        shares = ((votes + probability.clamp_min(1e-30)) / (self.samples + 1)).log()
        if self.masked or not mean.requires_grad:
            return shares
        return straight_through(shares, mean)


class Adaptive(nn.Module):
    """A model for an attacker who knows its defenses: real answers, gradients of the stand-ins.

    samples: the mean logits over so many passes are answered (expectation over transformation,
    https://arxiv.org/abs/1707.07397).
    """

    def __init__(self, model: nn.Module, samples: int) -> None:
        super().__init__()
        self.model = model
        self.samples = samples

    def forward(self, x: Images) -> Logits:
        with _unmasked(self.model):
            total: Tensor = self.model(x)
            for _ in range(self.samples - 1):
                total = total + self.model(x)
        return total / self.samples if self.samples > 1 else total


def is_random(model: nn.Module) -> bool:
    """Whether the same image may be answered differently: a random transform without a seed.

    The vote of `Smoothed` is an average already, and counts as not random.
    """
    parts = [part for part in model.modules() if isinstance(part, Transform)]
    return any(part.random and part.seed is None for part in parts)


def adaptive(model: nn.Module, samples: int | None = None) -> Adaptive:
    """The view of a model that an adaptive attacker takes (https://arxiv.org/abs/2002.08347).

    The forward pass is the real one, the backward pass goes through every transform's stand-in, and
    where the model is random the mean over `samples` passes is taken, by default 16. The model is
    shared, not copied.
    """
    if samples is None:
        samples = EXPECTATION if is_random(model) else 1
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    return Adaptive(model, samples)


def masked(model: nn.Module, *, to: bool = True) -> nn.Module:
    """The same model with its defenses' gradients as autograd makes them, for a naive attacker."""
    for part in _maskable(model):
        part.masked = to
    return model


@contextmanager
def _unmasked(model: nn.Module) -> Iterator[None]:
    before = [(part, part.masked) for part in _maskable(model)]
    for part, _ in before:
        part.masked = False
    try:
        yield
    finally:
        for part, was in before:
            part.masked = was


def _maskable(model: nn.Module) -> list[Transform | Smoothed]:
    return [part for part in model.modules() if isinstance(part, Transform | Smoothed)]
