"""Models that may answer "rejected": detectors of adversarial inputs, and attacks that know of them.

An attacker wins with a wrong class that is not rejected. An attack that ignores the detector says
nothing about it (https://arxiv.org/abs/1705.07263), so here the attacked model has one class more,
"rejected", and is attacked towards every other class.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from assaymark.reports.errors import InputError, nearest
from assaymark.robustness.evaluate import Evaluation, evaluate
from assaymark.robustness.losses import other_classes
from assaymark.robustness.oracle import Oracle, Passes, logits_of
from assaymark.robustness.shard import AttackOutcome, Example, Search
from assaymark.robustness.shards import Shards
from assaymark.robustness.transforms import BitDepth, Median, fitting_options, straight_through
from assaymark.robustness.types import Attack, Images, Labels, Logits, Norm

Scores = Float[Tensor, " batch"]
_SCALE = 2.0
"""Of a score in [0, 2] beside logits. Larger ones drown the class in the attacker's gradient."""


class Detector(nn.Module):
    """Suspicion of each image, in [0, 2]; what is above a threshold is rejected."""

    def score(self, network: nn.Module, x: Images, logits: Logits) -> Scores:
        """What each detector is; this class has no score of its own."""
        raise NotImplementedError


class FeatureSqueezing(Detector):
    """How far the probabilities move when the image is simplified (arXiv 1704.01155, section 5).

    The largest L1 distance over two squeezers: `bits` a channel, and a median of size × size.
    """

    def __init__(self, bits: int = 4, size: int = 2) -> None:
        super().__init__()
        self.squeezers = nn.ModuleList([BitDepth(bits), Median(size)])

    def score(self, network: nn.Module, x: Images, logits: Logits) -> Scores:
        before = logits.softmax(1)
        moved = [
            (network(squeeze(x)).float().softmax(1) - before).abs().sum(1)
            for squeeze in self.squeezers
        ]
        return torch.stack(moved).amax(0)


class NoiseStability(Detector):
    """How far the probabilities move under normal noise of `sigma`, on average over `samples`.

    After https://arxiv.org/abs/1902.04818, section 3: adversarial examples sit near a boundary. The
    noise is the same at every call.
    """

    def __init__(self, sigma: float = 0.1, samples: int = 8) -> None:
        super().__init__()
        if not 0 < sigma <= 10 or not 1 <= samples <= 10_000:
            raise InputError(
                f"sigma is above 0 and at most 10, samples from 1 to 10000, got {sigma:g} and {samples}"
            )
        self.sigma = sigma
        self.samples = samples

    def score(self, network: nn.Module, x: Images, logits: Logits) -> Scores:
        before = logits.softmax(1)
        generator = torch.Generator(x.device).manual_seed(0)
        total = torch.zeros(len(x), device=x.device)
        for _ in range(self.samples):
            # one draw for all images: an answer does not depend on the batch
            noise = torch.randn(x[:1].shape[1:], device=x.device, generator=generator)
            moved = network(x + self.sigma * noise).float().softmax(1)
            total = total + (moved - before).abs().sum(1)
        return total / self.samples


DETECTORS: dict[str, tuple[type[Detector], str]] = {
    "squeezing": (FeatureSqueezing, "Xu et al. 2018, arXiv 1704.01155"),
    "noise-stability": (NoiseStability, "Roth et al. 2019, arXiv 1902.04818"),
}


def detector(name: str, options: Mapping[str, Any]) -> Detector:
    """The detector a name and its options stand for; raises InputError when they are wrong."""
    if name not in DETECTORS:
        raise InputError(f'unknown detector "{name}"{nearest(name, DETECTORS)}')
    kind = DETECTORS[name][0]
    try:
        return kind(**fitting_options(kind, options))
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


class Guarded(nn.Module):
    """A network that rejects what its detector suspects: one logit more, the last, for "rejected".

    It is the largest exactly when the score is above the threshold, and rises with the score, so
    that an attack can climb down from it.
    """

    def __init__(self, network: nn.Module, watcher: Detector, threshold: float) -> None:
        super().__init__()
        self.network = network
        self.detector = watcher
        self.threshold = threshold

    def score(self, x: Images) -> Scores:
        return self.detector.score(self.network, x, self.network(x).float())

    def forward(self, x: Images) -> Logits:
        logits = self.network(x).float()
        above = self.detector.score(self.network, x, logits) - self.threshold
        top = logits.amax(1)
        rejected = top + _SCALE * above
        # a small step may be lost beside a large logit
        least = torch.nextafter(top.detach(), torch.full_like(top, torch.inf))
        said = torch.where(above > 0, rejected.detach().maximum(least), rejected.detach())
        rejected = straight_through(said, rejected)
        return torch.cat([logits, rejected[:, None]], 1)


def threshold_for(scores: Scores, false_positive_rate: float) -> float:
    """The threshold that rejects a clean image with at most that chance, on average over draws.

    The ⌈(n + 1)(1 - rate)⌉-th smallest of n scores of clean images (split conformal prediction,
    https://arxiv.org/abs/1604.04173). Raises InputError when n is too small for the rate.
    """
    n = len(scores)
    rank = math.ceil((n + 1) * (1 - false_positive_rate))
    if not 0 < false_positive_rate < 1 or rank > n:
        raise InputError(
            f"a false-positive rate of {false_positive_rate:g} needs at least "
            f"{math.ceil(1 / max(false_positive_rate, 1e-9)) - 1} clean images, got {n}: give more, "
            "or choose a larger rate below 1"
        )
    return float(scores.sort().values[rank - 1])


def scores_of(model: Guarded, x: Images, batch_size: int = 250) -> Scores:
    """The scores of any number of images."""
    device = next(model.parameters()).device if any(True for _ in model.parameters()) else x.device
    with torch.no_grad():
        return torch.cat([model.score(part.to(device)).cpu() for part in x.split(batch_size)])


def rejecting(model: nn.Module, *given: Any, **more: Any) -> Evaluation:
    """`evaluate_guarded` in the place of `evaluate`, for who does not ask for the false positives."""
    return evaluate_guarded(model, *given, **more)[0]


def evaluate_guarded(
    model: nn.Module,
    images: Images,
    labels: Labels,
    attacks: Mapping[str, Attack],
    *,
    eps: float,
    norm: Norm,
    seed: int = 0,
    check: str = "",
    indices: list[int] | None = None,
    search: Search | None = None,
    device: torch.device | str = "cpu",
    keep: int = 6,
    most: int = 9,
    shards: Shards | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Evaluation, Bool[Tensor, " n"]]:
    """Attack a model whose last class is "rejected"; also says which clean images it rejects.

    Towards the `most` likeliest other classes in turn. A point falls when it is answered with a wrong
    class and not rejected; one that is rejected or wrong unattacked does not count as robust.
    """
    started = time.perf_counter()
    numbers = list(range(len(images))) if indices is None else indices
    size = (search or Search()).batch_size
    oracle = Oracle(model, batch_size=size)
    parts = [logits_of(oracle, part.to(device)).cpu() for part in images.split(size)]
    clean = torch.cat(parts)
    refused = clean.shape[1] - 1
    robust = clean.argmax(1) == labels
    correct = robust.clone()
    tallies: dict[str, AttackOutcome] = {}
    examples: list[Example] = []
    order = other_classes(clean[:, :refused], labels)
    passes = oracle.passes
    rounds = min(most, order.shape[1])
    for place in range(rounds):
        standing = robust.nonzero().flatten()
        if not len(standing):
            break
        result = evaluate(
            model,
            images[standing],
            labels[standing],
            attacks,
            eps=eps,
            norm=norm,
            seed=seed,
            check=f"{check}/{place}",
            targets=order[standing, place],
            indices=[numbers[i] for i in standing.tolist()],
            search=search,
            device=device,
            keep=keep - len(examples),
            shards=Shards(workers=(shards or Shards()).workers),  # another count each time
        )
        robust[standing] = result.robust
        examples += result.examples
        passes += result.passes
        for outcome in result.outcomes:
            before = tallies.get(outcome.name)
            tallies[outcome.name] = outcome if before is None else _together(before, outcome)
        progress((place + 1) * len(images), rounds * len(images))
    found = Evaluation(
        correct=correct,
        robust=robust,
        unknown=torch.zeros_like(robust),
        outcomes=tuple(tallies.values()),
        examples=tuple(examples),
        passes=passes,
        seconds=time.perf_counter() - started,
    )
    return found, clean.argmax(1) == refused


def _together(first: AttackOutcome, second: AttackOutcome) -> AttackOutcome:
    """One attack over two rounds; what was tried is counted once a point."""
    return replace(
        first,
        fooled=first.fooled + second.fooled,
        outside=max(first.outside, second.outside),
        unconfirmed=first.unconfirmed + second.unconfirmed,
        unmoved=max(first.unmoved, second.unmoved),
        seconds=first.seconds + second.seconds,
        passes=Passes() + first.passes + second.passes,
    )
