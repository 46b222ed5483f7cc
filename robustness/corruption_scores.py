"""What models answer to corrupted images, and the numbers that follow, with their uncertainty.

The same images are corrupted many times, so answers come in clusters: an image counts once, with the
share of its corrupted copies that are classified correctly.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from assaymark.reports.errors import InputError
from assaymark.reports.intervals import clustered
from assaymark.reports.model import Interval
from assaymark.robustness.corruptions import MAIN, corrupt
from assaymark.robustness.evaluate import frozen, rounds
from assaymark.robustness.models import Loaded
from assaymark.robustness.oracle import Oracle, logits_of
from assaymark.robustness.streams import Streams, seed_of
from assaymark.robustness.types import Images, Labels
from assaymark.robustness.workers import Array, in_order

_RESAMPLES = 2000


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Which of n images a model classifies correctly, clean and corrupted."""

    clean: Bool[Tensor, " n"]
    correct: Bool[Tensor, "n corruptions severities"]
    corruptions: tuple[str, ...]
    severities: tuple[int, ...]
    forward: int
    seconds: float

    @property
    def n(self) -> int:
        return len(self.clean)

    @property
    def corruption_text(self) -> str:
        count = len(self.corruptions)
        return f"{count} corruption" + ("" if count == 1 else "s")

    @property
    def severity_text(self) -> str:
        word = "severity" if len(self.severities) == 1 else "severities"
        return f"{word} {', '.join(map(str, self.severities))}"

    def shares(self, corruption: str | None = None) -> list[float]:
        """For each image the share of its copies classified correctly, of one corruption or all."""
        chosen = self.correct
        if corruption is not None:
            chosen = chosen[:, self.corruptions.index(corruption)]
        shares: list[float] = chosen.double().flatten(1).mean(1).tolist()
        return shares

    def accuracy(self, corruption: str | None = None) -> float | None:
        return sum(self.shares(corruption)) / self.n if self.n else None

    def interval(self, confidence: float, corruption: str | None = None) -> Interval | None:
        corruptions = 1 if corruption is not None else len(self.corruptions)
        return clustered(self.shares(corruption), corruptions * len(self.severities), confidence)

    def worst(self, confidence: float) -> tuple[str, float, Interval] | None:
        """The corruption of the lowest accuracy, that accuracy, and an interval of the least one.

        The interval holds for all corruptions at once (Bonferroni), since the worst is chosen by
        looking at them.
        """
        if not self.n:
            return None
        each = 1 - (1 - confidence) / len(self.corruptions)
        measured = {name: self.accuracy(name) or 0.0 for name in self.corruptions}
        name = min(measured, key=lambda key: measured[key])
        bounds = [self.interval(each, name) for name in self.corruptions]
        interval = Interval(
            low=min(bound.low for bound in bounds if bound),
            high=min(bound.high for bound in bounds if bound),
            confidence=confidence,
            method="Korn–Graubard, Bonferroni",
        )
        return name, measured[name], interval


def score(
    models: tuple[Loaded, ...],
    images: Images,
    labels: Labels,
    corruptions: tuple[str, ...],
    severities: tuple[int, ...],
    *,
    check: str,
    seed: int,
    indices: list[int],
    batch_size: int,
    device: torch.device | str,
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Scores, ...]:
    """The scores of each model on the same corrupted images, made once.

    indices: the images' numbers in the data set; they choose the random streams. workers: processes side
    by side on a CPU. Raises InputError for an answer that is NaN or infinite.
    """
    started = time.perf_counter()
    parts = rounds(images, batch_size)
    done: list[int] = []
    if torch.device(device).type != "cpu" or any(model.budget for model in models):
        workers = 1

    def ask(model: Loaded, x: Images, y: Labels) -> Tensor:
        with frozen(model.module):
            logits = logits_of(Oracle(model.module, batch_size=batch_size), x)
        if not torch.isfinite(logits).all():
            raise InputError(
                f"{model.name} answered NaN or infinity: expected finite logits; check its "
                "normalisation and precision"
            )
        return (logits.argmax(1) == y).cpu()

    def part(number: int) -> dict[str, Array]:
        rows = parts[number]
        x, y = images[rows].to(device), labels[rows].to(device)
        streams = Streams.of(seed, check, indices[rows])
        clean = torch.stack([ask(model, x, y) for model in models])
        correct = clean.new_zeros(*clean.shape, len(corruptions), len(severities))
        for i, name in enumerate(corruptions):
            for j, severity in enumerate(severities):
                moved = corrupt(x, name, severity, streams)
                correct[:, :, i, j] = torch.stack([ask(model, moved, y) for model in models])
        return {"clean": clean.numpy(), "correct": correct.numpy()}

    def finished(number: int) -> None:
        done.append(parts[number].stop - parts[number].start)
        progress(sum(done), len(images))

    found = in_order(part, len(parts), workers=workers, finished=finished)
    clean, correct = (
        torch.from_numpy(numpy.concatenate([arrays[name] for arrays in found], axis=1))
        for name in ("clean", "correct")
    )
    return tuple(
        Scores(
            clean=clean[place],
            correct=correct[place],
            corruptions=corruptions,
            severities=severities,
            forward=len(images) * (1 + len(corruptions) * len(severities)),
            seconds=time.perf_counter() - started,
        )
        for place in range(len(models))
    )


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """A ratio to a reference model: of each corruption, and their mean. None where undefined."""

    each: dict[str, float | None]
    mean: float | None
    interval: Interval | None
    undefined: tuple[str, ...] = ()


def corruption_error(
    own: Scores, reference: Scores, *, relative: bool, confidence: float, seed: int, check: str
) -> Ratio:
    """Errors as a ratio to those of the reference (Hendrycks and Dietterich 2019, section 4).

    CE = Σ err / Σ err_ref over the severities; relative: of what the errors exceed the clean one.
    The mean is over the main corruptions that were measured. Its interval is that of 2,000 bootstrap
    resamples of images, drawn for both models alike; None where a resample leaves a ratio undefined.
    """
    errors = [(~scores.correct).double().sum(2) for scores in (own, reference)]
    if relative:
        cleans = [(~scores.clean).double() for scores in (own, reference)]
        times = len(own.severities)
        errors = [
            error - times * clean[:, None] for error, clean in zip(errors, cleans, strict=True)
        ]
    each = _ratios(*(error.mean(0, keepdim=True) for error in errors))[0]
    named = dict(zip(own.corruptions, each.tolist(), strict=True))
    main = [i for i, name in enumerate(own.corruptions) if name in MAIN]
    undefined = tuple(own.corruptions[i] for i in main if not torch.isfinite(each[i]))
    known = bool(main) and not undefined and own.n > 0
    return Ratio(
        each={name: value if abs(value) < torch.inf else None for name, value in named.items()},
        mean=float(each[main].mean()) if known else None,
        interval=_bootstrap(errors, main, confidence, seed, check) if known else None,
        undefined=undefined,
    )


def _ratios(own: Tensor, reference: Tensor) -> Float[Tensor, "rows corruptions"]:
    """NaN where the reference makes no errors (or, in the relative case, no more than clean)."""
    return torch.where(reference > 0, own / reference, torch.nan)


def _bootstrap(
    errors: list[Tensor], main: list[int], confidence: float, seed: int, check: str
) -> Interval | None:
    n = len(errors[0])
    generator = torch.Generator().manual_seed(seed_of(f"{seed}/{check}/bootstrap"))
    means = []
    for _ in range(0, _RESAMPLES, 100):
        drawn = torch.randint(n, (100, n), generator=generator)
        weights = torch.zeros(100, n, dtype=torch.float64)
        weights.scatter_add_(1, drawn, torch.ones_like(weights))
        own, reference = (weights @ error[:, main] / n for error in errors)
        means.append(_ratios(own, reference).mean(1))
    resampled = torch.cat(means)
    if not torch.isfinite(resampled).all():
        return None
    tail = (1 - confidence) / 2
    low, high = torch.quantile(resampled, torch.tensor([tail, 1 - tail], dtype=torch.float64))
    return Interval(
        low=float(low), high=float(high), confidence=confidence, method="bootstrap over images"
    )
