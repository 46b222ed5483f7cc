"""The arms race of a detector and its attackers: attack, harden, and measure on all generations so far.

Every round tunes a generator against the newest detector and perturbs fakes pixel by pixel, then trains
the detector on every generation. AUCs are of photographs from sources that neither side trained with; an
attack's cost is what its author sees on his own. Hardened weights are kept only where the AUC on clean
files does not fall.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import nn

from assaymark.provenance.deliveries import deliver
from assaymark.provenance.detect_data import Labelled
from assaymark.provenance.detection_intervals import Sample, resamples, sample
from assaymark.provenance.detection_scores import auc
from assaymark.provenance.material import open_material
from assaymark.provenance.race_attacks import (
    Photos,
    Reconstructor,
    fit,
    perturb_against,
    psnr,
    reconstructed,
    scores,
    told_apart,
    tune_against,
)
from assaymark.provenance.race_hardening import Hardening, harden
from assaymark.provenance.race_store import Round, Store, digest, first_or_stored
from assaymark.reports.errors import InputError
from assaymark.reports.model import Interval

SIDE = 96
_RESAVED = "jpeg75"
_FEWEST = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Photographs of (n, side, side, 3) to train with and to measure with, of different sources."""

    train: Photos
    test: Photos
    test_sources: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Clean:
    """Photographs and fakes that nobody attacked; clusters: the sources of both, in that order."""

    reals: Photos
    fakes: Photos
    clusters: tuple[str, ...]

    def scored_by(self, detector: nn.Module) -> Sample:
        labels = numpy.repeat([False, True], [len(self.reals), len(self.fakes)])
        found = numpy.concatenate([scores(detector, self.reals), scores(detector, self.fakes)])
        return sample(labels, found, self.clusters)


@dataclass(frozen=True, kw_only=True)
class Race:
    """What became of it, with the settings. start: the detector's AUC on the first generation."""

    start: float
    start_psnr: float
    rounds: tuple[Round, ...]
    settings: Mapping[str, Any]

    @property
    def weakest(self) -> float | None:
        """The last detector's smallest AUC over all generations; None before the first round."""
        return min(self.rounds[-1].generations) if self.rounds else None

    @property
    def last_cost(self) -> float | None:
        """What the last round cost the tuned generator, dB; None before the first round."""
        return self.rounds[-1].costs[0].decibels if self.rounds else None

    def plain(self) -> dict[str, Any]:
        """Values of JSON."""
        costs = [
            [asdict(cost) | {"decibels": cost.decibels, "won": cost.won} for cost in each.costs]
            for each in self.rounds
        ]
        fields = asdict(self) | {"weakest": self.weakest, "last_cost": self.last_cost}
        for each, own in zip(fields["rounds"], costs, strict=True):
            each["costs"] = own
        return fields


def split_photos(
    rows: Sequence[Labelled],
    *,
    side: int = SIDE,
    crops: int = 2,
    held_out: float = 0.3,
    seed: int = 0,
) -> Split:
    """Crops of the real files among `rows`; whole sources, at most `held_out` of them, are for measuring.

    Photographs at least twice as large as `side` are halved first, which takes away most of the trace of
    their JPEG. Files that cannot be decoded or are smaller are left out. Raises InputError where fewer
    than two sources or eight photographs a side remain.
    """
    rng = numpy.random.default_rng(seed)
    found: dict[str, list[Photos]] = {}
    for row in rows:
        if not row.fake:
            found.setdefault(row.cluster, []).extend(_crops(row.path, side, crops, rng))
    usable = sorted(
        (name for name in found if found[name]), key=lambda name: (len(found[name]), name)
    )
    whole, test = sum(len(found[name]) for name in usable), list[str]()
    for name in usable[:-1]:  # the smallest sources first, so that many are held out
        if not test or sum(len(found[other]) for other in [*test, name]) <= held_out * whole:
            test.append(name)
    train = [crop for name in usable if name not in test for crop in found[name]]
    measured = [crop for name in test for crop in found[name]]
    if min(len(train), len(measured)) < _FEWEST:
        raise InputError(
            f"{len(train)} crops to train with and {len(measured)} of other sources to measure with: a race "
            f"needs {_FEWEST} of each, of photographs of {side} pixels or more from 2 sources or more"
        )
    sources = tuple(name for name in test for _ in found[name])
    return Split(train=numpy.stack(train), test=numpy.stack(measured), test_sources=sources)


def clean_photos(rows: Sequence[Labelled], side: int = SIDE) -> Clean:
    """The middle of each real and fake file, at its own size: halving would take the fakes' traces away.

    Files that cannot be decoded or are smaller are left out. Raises InputError where fewer than eight
    photographs or eight fakes remain.
    """
    kept = [(row, _middle(row.path, side)) for row in rows]
    sides = {
        fake: [(row.cluster, crop) for row, crop in kept if crop is not None and row.fake is fake]
        for fake in (False, True)
    }
    if min(len(found) for found in sides.values()) < _FEWEST:
        raise InputError(
            f"{len(sides[False])} photographs and {len(sides[True])} fakes of {side} pixels or more are "
            f"among the clean files: a race needs {_FEWEST} of each, give other labelled files"
        )
    return Clean(
        reals=numpy.stack([crop for _, crop in sides[False]]),
        fakes=numpy.stack([crop for _, crop in sides[True]]),
        clusters=tuple(cluster for fake in (False, True) for cluster, _ in sides[fake]),
    )


def _pixels(path: Path) -> Photos | None:
    try:
        return open_material(path).picture.pixels
    except InputError:
        return None


def _middle(path: Path, side: int) -> Photos | None:
    pixels = _pixels(path)
    if pixels is None or min(pixels.shape[:2]) < side:
        return None
    top, left = ((length - side) // 2 for length in pixels.shape[:2])
    return pixels[top : top + side, left : left + side]


def _crops(path: Path, side: int, crops: int, rng: numpy.random.Generator) -> list[Photos]:
    pixels = _pixels(path)
    if pixels is None:
        return []
    if min(pixels.shape[:2]) >= 2 * side:
        pixels = deliver(pixels, "resize50-bicubic")
    room = [length - side for length in pixels.shape[:2]]
    if min(room) < 0:
        return []
    corners = [[int(rng.integers(free + 1)) for free in room] for _ in range(crops)]
    return [pixels[top : top + side, left : left + side] for top, left in corners]


def race(
    detector: nn.Module,
    photos: Split,
    *,
    rounds: int = 5,
    generator: nn.Module | None = None,
    fit_steps: int = 600,
    attack_steps: int = 120,
    hardening: Hardening = Hardening(),  # noqa: B008 - frozen
    clean: Clean | None = None,
    tolerance: float = 0.02,
    folder: Path | None = None,
    seed: int = 0,
    progress: Callable[[Round], None] = lambda each: None,
) -> tuple[nn.Module, Race]:
    """Attack and harden so many rounds; the last detector that was kept, and both sides' curves.

    detector: any network from RGB in [0, 1], of 64 pixels a side or more, to logits of "generated"; it is
    not changed. generator: an autoencoder of pictures that begins the race; where None a light one is
    trained on the photographs for fit_steps. clean: photographs and fakes, none of which the race trains
    with, on which the AUC may fall by `tolerance` at most; where None, the photographs to measure with and
    the first generation's fakes of them. folder: where each round is stored, and from where a race of the
    same settings goes on. Raises InputError for photographs that are too small or a folder of another race.
    """
    if photos.train.shape[1] < SIDE or rounds < 0:
        raise InputError(
            f"crops of {photos.train.shape[1]} pixels and {rounds} rounds: expected {SIDE} pixels or more, "
            "and a number of rounds"
        )
    measured = [clean.reals, clean.fakes] if clean is not None else []
    settings = {
        "attack_steps": attack_steps,
        "fit_steps": fit_steps,
        "hardening": asdict(hardening),
        "tolerance": tolerance,
        "seed": seed,
        "started_with": digest([detector, generator], [photos.train, photos.test, *measured]),
    }
    store = Store(folder, settings)
    done = list(store.rounds())
    like = copy.deepcopy(generator) if generator is not None else Reconstructor()
    first = first_or_stored(store, lambda: _first(generator, photos, fit_steps, seed), like)
    made = _Generations(photos, first)
    for each in done:
        made.add(store.recall(f"generator-{each.number}", copy.deepcopy(first)))
    current = detector.eval()
    if done:
        current = store.recall("detector", copy.deepcopy(detector))
    twice = (*photos.test_sources, *photos.test_sources)
    files = clean or Clean(reals=photos.test, fakes=made.test[0], clusters=twice)
    beginning = told_apart(detector, photos.test, made.test[0])
    for number in range(len(done) + 1, rounds + 1):
        rng = numpy.random.default_rng([seed, number])
        torch.manual_seed(seed + number)
        maker, tuned = tune_against(current, first, photos.train, steps=attack_steps, rng=rng)
        made.add(maker)
        pixels, changed = perturb_against(current, photos.test, made.test[0])
        hardened = harden(current, photos.train, made.train, hardening, rng, generator=first)
        fall, interval = _fall(current, hardened, files)
        kept = fall <= tolerance
        last = hardened if kept else current
        each = Round(
            number=number,
            costs=(tuned, changed),
            attacked=told_apart(current, photos.test, made.test[-1]),
            hardened=told_apart(hardened, photos.test, made.test[-1]),
            perturbed=told_apart(hardened, photos.test, pixels),
            generations=tuple(told_apart(last, photos.test, fakes) for fakes in made.test),
            resaved=tuple(_resaved(last, photos.test, fakes) for fakes in made.test),
            clean=_auc_of(files.scored_by(current)),
            clean_fall=fall,
            clean_fall_low=interval.low,
            clean_fall_high=interval.high,
            kept=kept,
        )
        current = last
        done.append(each)
        store.keep(f"generator-{number}", maker)
        store.keep("detector", current)
        store.add(done)
        progress(each)
    return current, Race(
        start=beginning,
        start_psnr=psnr(photos.test, made.test[0]),
        rounds=tuple(done),
        settings=settings,
    )


class _Generations:
    """The fakes of every generation of the photographs to train with and to measure with."""

    def __init__(self, photos: Split, first: nn.Module) -> None:
        self._photos = photos
        self.train: list[Photos] = []
        self.test: list[Photos] = []
        self.add(first)

    def add(self, maker: nn.Module) -> None:
        self.train.append(reconstructed(maker, self._photos.train))
        self.test.append(reconstructed(maker, self._photos.test))


def _fall(before: nn.Module, after: nn.Module, files: Clean) -> tuple[float, Interval]:
    """By how much the AUC fell; the interval draws the same files for both."""
    old, new = files.scored_by(before), files.scored_by(after)
    drawn = [
        (auc(old.labels[at], old.scores[at]) or 0) - (auc(new.labels[at], new.scores[at]) or 0)
        for at in resamples(old, replicates=300)
    ]
    low, high = (float(end) for end in numpy.quantile(drawn, [0.025, 0.975]))
    interval = Interval(low=low, high=high, confidence=0.95, method="paired bootstrap of sources")
    return _auc_of(old) - _auc_of(new), interval


def _auc_of(scored: Sample) -> float:
    found = auc(scored.labels, scored.scores)
    if found is None:
        raise InputError("clean files must be photographs and fakes: one of them is missing")
    return found


def _resaved(detector: nn.Module, reals: Photos, fakes: Photos) -> float:
    """The AUC after both were saved as JPEG."""
    sides = [numpy.stack([deliver(each, _RESAVED) for each in side]) for side in (reals, fakes)]
    return told_apart(detector, *sides)


def _first(generator: nn.Module | None, photos: Split, steps: int, seed: int) -> nn.Module:
    if generator is not None:
        return generator
    torch.manual_seed(seed)
    made = Reconstructor()
    fit(made, photos.train, steps=steps, rng=numpy.random.default_rng([seed, 0]))
    return made.eval()
