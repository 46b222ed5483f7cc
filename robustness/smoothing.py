"""Randomized smoothing: a certified L2 radius for any model, by votes under Gaussian noise.

https://arxiv.org/abs/1902.02918, section 3.2. What is certified is the smoothed classifier, which
answers with the class the model gives most often to the noisy image, and not the model itself. Each
certificate is wrong with a chance of at most alpha. The noise has 2^24 levels and ends at 5.4 sigma.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from scipy.stats import binom, binomtest, norm
from torch import Tensor

from assaymark.reports.errors import InputError
from assaymark.reports.intervals import clopper_pearson
from assaymark.reports.model import Interval
from assaymark.robustness.oracle import Oracle, logits_of
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Images, Labels, Model

ABSTAIN = -1
_BLOCK = 64
"""Noisy copies of an image that one tag draws: fixed, so that batches do not change the noise."""
_BYTES = 1 << 26
"""Of the noisy images held at once."""

Answers = Int[Tensor, " batch"]
"""Class numbers, or ABSTAIN."""


@dataclass(frozen=True, kw_only=True)
class Smoothing:
    """How an image is smoothed and how often it is asked about.

    sigma: standard deviation of the noise in pixel units. first: votes that choose the class (n0 of
    the paper); samples: votes that are counted (n); alpha: chance that a certificate is wrong.
    """

    sigma: float
    samples: int = 1000
    first: int = 100
    alpha: float = 0.001

    def __post_init__(self) -> None:
        if not 0 < self.sigma < float("inf"):
            raise InputError(f"sigma must be a number above 0, in pixel units, got {self.sigma}")
        if self.samples < 1 or self.first < 1:
            raise InputError(
                f"smoothing needs at least one vote, got samples = {self.samples} and first = "
                f"{self.first}"
            )
        if not 0 < self.alpha < 0.5:
            raise InputError(f"alpha lies between 0 and 0.5, got {self.alpha}")

    @property
    def largest_radius(self) -> float:
        """What an image is certified for when all votes agree: more samples reach further."""
        return max(0.0, _radius(self, self.samples))


def votes(
    model: Model,
    x: Images,
    count: int,
    sigma: float,
    streams: Streams,
    tag: str,
) -> Int[Tensor, "batch classes"]:
    """How often the model answers each class under `count` draws of noise on each image."""
    oracle = model if isinstance(model, Oracle) else Oracle(model)
    if not len(x):
        return torch.zeros(0, 2, dtype=torch.long, device=x.device)
    found = []
    rows = max(1, _BYTES // (4 * _BLOCK * x[0].numel()))
    for begin in range(0, len(x), rows):
        part = slice(begin, begin + rows)
        places = torch.arange(len(x), device=x.device)[part]
        found.append(_votes(oracle, x[part], count, sigma, streams.select(places), tag))
    return torch.cat(found)


def _votes(
    oracle: Oracle, x: Images, count: int, sigma: float, streams: Streams, tag: str
) -> Int[Tensor, "batch classes"]:
    total: Tensor | None = None
    for block, begin in enumerate(range(0, count, _BLOCK)):
        copies = min(_BLOCK, count - begin)
        many = x[:, None].expand(-1, copies, *x.shape[1:])
        noisy = many + sigma * streams.normal(many, f"{tag}/{block}")
        logits = logits_of(oracle, noisy.flatten(0, 1))
        if not torch.isfinite(logits).all():
            raise InputError(
                "the model answered NaN or infinity under noise: expected finite logits; a smaller "
                "sigma stays nearer to the images it knows"
            )
        answers = logits.argmax(1).view(len(x), copies)
        if total is None:
            total = torch.zeros(len(x), logits.shape[1], dtype=torch.long, device=x.device)
        total.scatter_add_(1, answers, torch.ones_like(answers))
    assert total is not None
    return total


def predict(
    model: Model, x: Images, smoothing: Smoothing, streams: Streams, *, tag: str = "predict"
) -> Answers:
    """The class of the smoothed classifier, or ABSTAIN (https://arxiv.org/abs/1902.02918, PREDICT).

    An answer is not the smoothed classifier's own with a chance of at most alpha.
    """
    counts = votes(model, x, smoothing.samples, smoothing.sigma, streams, f"smoothing/{tag}")
    top = counts.topk(2, 1)
    sure = [
        binomtest(first, first + second, 0.5).pvalue <= smoothing.alpha
        for first, second in top.values.tolist()
    ]
    kept = torch.tensor(sure, dtype=torch.bool, device=x.device)
    return torch.where(kept, top.indices[:, 0], torch.full_like(top.indices[:, 0], ABSTAIN))


def certify(
    model: Model,
    x: Images,
    smoothing: Smoothing,
    streams: Streams,
    *,
    y: Labels | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[Answers, Float[Tensor, " batch"]]:
    """The class of each image and the L2 radius within which it cannot change.

    https://arxiv.org/abs/1902.02918, CERTIFY: votes choose a class, others are counted, and the exact
    lower bound of its share gives the radius sigma · Phi^-1(share). Where that is not above a half the
    answer is ABSTAIN with radius 0. y: with it, only what is answered with y is counted at all, the
    rest is ABSTAIN. The radius holds with a chance of at least 1 - alpha an image, of all images in
    [0, 1] and beyond. Raises InputError for NaN answers.
    """
    guess = votes(model, x, smoothing.first, smoothing.sigma, streams, "smoothing/first").argmax(1)
    answers = torch.full_like(guess, ABSTAIN)
    radii = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    worth = torch.ones_like(guess, dtype=torch.bool) if y is None else guess == y
    places = worth.nonzero().flatten()
    done = len(x) - len(places)
    progress(done)
    rows = max(1, _BYTES // (4 * _BLOCK * max(x[:1].numel(), 1)))
    for part in places.split(rows) if len(places) else ():
        counts = votes(
            model, x[part], smoothing.samples, smoothing.sigma, streams.select(part),
            "smoothing/count",
        )  # fmt: skip
        hits = counts.gather(1, guess[part, None]).squeeze(1)
        found = torch.tensor(
            [_radius(smoothing, hit) for hit in hits.tolist()], dtype=torch.float64
        )
        radii[part] = found.clamp_min(0).to(x.device)
        answers[part] = torch.where(radii[part] > 0, guess[part], answers[part])
        done += len(part)
        progress(done)
    return answers, radii


def _radius(smoothing: Smoothing, hits: int) -> float:
    # the lower end of a two-sided interval of 1 - 2 alpha is a one-sided bound of 1 - alpha
    interval = clopper_pearson(hits, smoothing.samples, 1 - 2 * smoothing.alpha)
    assert interval is not None
    return smoothing.sigma * float(norm.ppf(interval.low)) if interval.low > 0.5 else 0.0


def wrong_at_most(n: int, alpha: float, confidence: float) -> int:
    """How many of n certificates may be wrong: no more, with a chance of `confidence`.

    Each is wrong with a chance of at most alpha on its own noise, so their number lies below a
    binomial one.

    >>> wrong_at_most(1000, 0.001, 0.975)
    3
    """
    return int(binom.isf(1 - confidence, n, alpha)) if n else 0


def interval_of_certified(
    hits: int, n: int, alpha: float, confidence: float = 0.95
) -> Interval | None:
    """Interval of the accuracy certified by n certificates of which each may be wrong; None for n = 0.

    The lower end first takes away what may be wrong with half of its share of error, and spends the
    other half on the exact bound of what remains.

    >>> interval = interval_of_certified(500, 1000, 0.001)
    >>> round(interval.low, 3), round(interval.high, 3)
    (0.46, 0.531)
    """
    if n == 0:
        return None
    tail = (1 - confidence) / 4
    right = max(0, hits - wrong_at_most(n, alpha, 1 - tail))
    low, high = clopper_pearson(right, n, 1 - 2 * tail), clopper_pearson(hits, n, confidence)
    assert low is not None
    assert high is not None
    return Interval(
        low=low.low,
        high=high.high,
        confidence=confidence,
        method="Clopper–Pearson, less the certificates that may be wrong",
    )


def accuracy_at(
    answers: Answers, radii: Float[Tensor, " batch"], y: Labels, radius: float
) -> Bool[Tensor, " batch"]:
    """Whether each image is certified to be answered with y within `radius`.

    What is answered with ABSTAIN is not. At radius 0 it is what the smoothed classifier gets right.
    """
    return (answers == y) & (radii > 0) & (radii >= radius)
