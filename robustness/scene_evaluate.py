"""Put images into scenes, keep what really fools, count what it cost.

The counterpart of evaluate.py for attacks that have limits of their own instead of a ball. A success
counts only when the image, made again from the recorded numbers, fools the model alone in float32.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from assaymark.reports.errors import InputError
from assaymark.robustness.evaluate import frozen, rounds
from assaymark.robustness.losses import fooled
from assaymark.robustness.oracle import Oracle, Passes, logits_of
from assaymark.robustness.scene_types import Change, Learned, SceneAttack, chosen
from assaymark.robustness.scenes import Bound
from assaymark.robustness.shard import Example, example_of, finite
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Images, Labels, Model

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Points:
    """Labelled images; goals: the classes the model shall answer, None when any other will do."""

    images: Images
    labels: Labels
    indices: list[int]
    goals: Labels | None = None


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """An adversarial example with the numbers it can be made from again."""

    example: Example
    numbers: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class SceneOutcome:
    """What one scene did to the points that stood before it."""

    name: str
    tried: int
    fooled: int
    unconfirmed: int
    """Answers that fooled in the batch, and not when made again and asked alone."""
    unmoved: int
    control: int | None
    """How many of the tried the control fools; None for a scene that learns nothing."""
    learned: Learned | None
    seconds: float
    passes: Passes


@dataclass(frozen=True, kw_only=True)
class SceneEvaluation:
    """n points: which the model got right, and which still stand in every scene."""

    correct: Bool[Tensor, " n"]
    robust: Bool[Tensor, " n"]
    outcomes: tuple[SceneOutcome, ...]
    recorded: tuple[Recorded, ...]
    passes: Passes
    seconds: float

    @property
    def n(self) -> int:
        return len(self.correct)


@dataclass
class _Tally:
    learned: Learned | None = None
    control: int | None = None
    tried: int = 0
    fooled: int = 0
    unconfirmed: int = 0
    unmoved: int = 0
    seconds: float = 0.0
    passes: Passes = field(default_factory=Passes)


def evaluate_scenes(
    model: nn.Module | Model,
    points: Points,
    scenes: Mapping[str, Bound],
    *,
    training: Points | None = None,
    seed: int = 0,
    check: str = "",
    batch_size: int = 250,
    device: torch.device | str = "cpu",
    keep: int = 6,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> SceneEvaluation:
    """Try every scene on every point until it falls or the scenes run out.

    training: what learned scenes learn from; no point of it is among `points`. keep: how many adversarial
    examples to keep, spread over the classes. Random numbers depend on (seed, check, example) only, but
    what is learned depends on all training images. Raises InputError for NaN logits, options that cannot
    be, a learned scene without training images, or a scene that moves nothing.
    """
    started = time.perf_counter()
    tallies = {name: _Tally() for name in scenes}
    recorded: list[Recorded] = []
    n = len(points.images)
    correct, robust = torch.zeros(n, dtype=torch.bool), torch.zeros(n, dtype=torch.bool)
    clean_oracle = Oracle(model, batch_size=batch_size)
    with frozen(model):
        attacks = {
            name: _prepared(name, scene, model, training, tallies[name], seed, check, batch_size,
                            device)
            for name, scene in scenes.items()
        }  # fmt: skip
        for rows in rounds(points.images, batch_size, grow=False):
            x, y = points.images[rows].to(device), points.labels[rows].to(device)
            goal = y if points.goals is None else points.goals[rows].to(device)
            clean = finite(logits_of(clean_oracle, x))
            right = clean.argmax(1) == y
            standing = right.clone()
            streams = Streams.of(seed, check, points.indices[rows])
            for name, attack in attacks.items():
                places = chosen(standing)
                if not len(places):
                    break
                try_it = _Try(
                    name=name, model=model, x=x[places], goal=goal[places],
                    targeted=points.goals is not None, streams=streams.select(places),
                    batch_size=batch_size, tally=tallies[name],
                )  # fmt: skip
                for place, moved, answer, numbers in _fallen(try_it, attack):
                    at = int(places[place])
                    standing[at] = False
                    label = int(y[at])
                    taken = sum(one.example.label == label for one in recorded)
                    if len(recorded) < keep and taken <= len(recorded) // clean.shape[1]:
                        example = example_of(
                            points.indices[rows.start + at], name, x[at], moved, y[at], clean[at],
                            answer,
                        )  # fmt: skip
                        recorded.append(Recorded(example=example, numbers=numbers))
            correct[rows], robust[rows] = right.cpu(), standing.cpu()
            progress(min(rows.stop, n), n)
    for name, tally in tallies.items():
        if tally.tried and tally.unmoved == tally.tried:
            raise InputError(
                f"{name} moved none of the {tally.tried} images, so it tested nothing: check its "
                "options, such as whether a patch is large enough to cover a pixel"
            )
    return SceneEvaluation(
        correct=correct,
        robust=robust,
        outcomes=tuple(SceneOutcome(name=name, **vars(tally)) for name, tally in tallies.items()),
        recorded=tuple(recorded),
        passes=sum((tally.passes for tally in tallies.values()), clean_oracle.passes),
        seconds=time.perf_counter() - started,
    )


def _prepared(
    name: str,
    scene: Bound,
    model: nn.Module | Model,
    training: Points | None,
    tally: _Tally,
    seed: int,
    check: str,
    batch_size: int,
    device: torch.device | str,
) -> SceneAttack:
    """The scene itself, or what it has learned."""
    if scene.run is not None:
        return scene.run
    assert scene.learn is not None
    if training is None or not len(training.images):
        raise InputError(f"{name} learns from images, and none are left to learn from: use more")
    began = time.perf_counter()
    learned: Learned = _guarded(
        name,
        lambda: scene.learn(  # type: ignore[misc]
            Oracle(model, batch_size=batch_size, passes=tally.passes),
            training.images.to(device),
            (training.labels if training.goals is None else training.goals).to(device),
            targeted=training.goals is not None,
            streams=Streams.of(seed, check, training.indices),
        ),
    )
    tally.seconds += time.perf_counter() - began
    tally.learned, tally.control = learned, 0
    return learned.attack


@dataclass(frozen=True, eq=False, kw_only=True)
class _Try:
    """One scene on the points of a round that still stand."""

    name: str
    model: nn.Module | Model
    x: Images
    goal: Labels
    targeted: bool
    streams: Streams
    batch_size: int
    tally: _Tally

    def change(self, attack: SceneAttack, passes: Passes) -> Change:
        oracle = Oracle(self.model, batch_size=self.batch_size, passes=passes)
        return _guarded(
            self.name,
            lambda: attack(oracle, self.x, self.goal, targeted=self.targeted, streams=self.streams),
        )

    def fooled(self, moved: Images, passes: Passes, batch_size: int) -> tuple[Tensor, Tensor]:
        oracle = Oracle(self.model, batch_size=batch_size, passes=passes)
        logits = finite(logits_of(oracle, moved))
        return fooled(logits, self.goal, targeted=self.targeted), logits


def _fallen(
    point: _Try, attack: SceneAttack
) -> list[tuple[int, Float[Tensor, "channels height width"], Tensor, dict[str, float]]]:
    """Place, image, logits and numbers of every point that falls, each made again and asked alone."""
    tally, began = point.tally, time.perf_counter()
    change = point.change(attack, tally.passes)
    moved = change.images(point.x)
    search, _ = point.fooled(moved, tally.passes, point.batch_size)
    alone = Oracle(point.model, batch_size=1, passes=tally.passes)
    fallen = []
    for place in chosen(search).tolist():
        row = slice(place, place + 1)
        again = change.images(point.x, row)
        answer = finite(logits_of(alone, again))
        if fooled(answer, point.goal[row], targeted=point.targeted):
            fallen.append((place, again[0], answer[0], change.numbers(place)))
    tally.seconds += time.perf_counter() - began
    tally.tried += len(point.x)
    tally.fooled += len(fallen)
    tally.unconfirmed += int(search.sum()) - len(fallen)
    tally.unmoved += int((moved == point.x).flatten(1).all(1).sum())
    if tally.learned is not None and tally.control is not None:
        other = point.change(tally.learned.control, tally.passes).images(point.x)
        hit, _ = point.fooled(other, tally.passes, point.batch_size)
        tally.control += int(hit.sum())
    return fallen


def _guarded(name: str, run: Callable[[], _T]) -> _T:
    try:
        return run()
    except (TypeError, ValueError, ZeroDivisionError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{name} cannot run with these options: {first}") from error
    except RuntimeError as error:
        if "does not require grad" in str(error) or "not have been used" in str(error):
            raise InputError(
                "the model's output has no gradient with respect to its input, which the scenes of "
                'this check need: use { name = "rotation", steps = 0 }, which asks for labels only'
            ) from error
        raise
