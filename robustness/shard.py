"""One shard: a few points of a data set, attacked from the first attack to the last.

Nothing of it depends on the other points, so shards may run in any order, in any process, or today
and tomorrow.
"""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from assaymark.reports.errors import InputError
from assaymark.robustness.balls import BALLS, per_image, within
from assaymark.robustness.budget import Budget, attack_within
from assaymark.robustness.losses import fooled
from assaymark.robustness.oracle import Oracle, Passes, logits_of
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Attack, Images, Labels, Logits, Model, Norm


@dataclass(frozen=True, kw_only=True)
class Search:
    """How the model is asked while attacks search; what they find is confirmed in float32."""

    batch_size: int = 250
    precision: torch.dtype = torch.float32
    channels_last: bool = False
    samples: int = 1
    """Of a model that answers at random: how many answers make one, also when confirming."""
    random: bool = False
    """Whether it answers at random all the same: then a lucky answer is no fall for our own attacks."""


@dataclass(frozen=True, kw_only=True)
class AttackOutcome:
    """What one attack did to the points that stood before it."""

    name: str
    tried: int = 0
    fooled: int = 0
    outside: int = 0
    """Answers outside the ball or the pixel range: not counted as fooled."""
    unconfirmed: int = 0
    """Answers that fooled the search and not the model in float32, one image at a time."""
    unmoved: int = 0
    """Answers that are the image itself."""
    unfinished: int = 0
    """Points that still stand and were not attacked in full: the budget did not suffice."""
    seconds: float = 0.0
    passes: Passes = field(default_factory=Passes)

    def __add__(self, other: "AttackOutcome") -> "AttackOutcome":
        """The same attack on other points."""
        return AttackOutcome(
            name=self.name,
            tried=self.tried + other.tried,
            fooled=self.fooled + other.fooled,
            outside=self.outside + other.outside,
            unconfirmed=self.unconfirmed + other.unconfirmed,
            unmoved=self.unmoved + other.unmoved,
            unfinished=self.unfinished + other.unfinished,
            seconds=self.seconds + other.seconds,
            passes=self.passes + other.passes,
        )


@dataclass(frozen=True, kw_only=True)
class Example:
    """An adversarial example that was checked: inside the ball, inside the range, and it fools."""

    index: int
    attack: str
    original: Tensor
    adversarial: Tensor
    label: int
    prediction: int
    confidence: float
    fooled_prediction: int
    fooled_confidence: float


@dataclass(frozen=True, kw_only=True)
class Task:
    """What the shards of one evaluation share; the words are those of `evaluate`."""

    model: nn.Module | Model
    view: nn.Module | Model
    attacks: Mapping[str, Attack]
    search: Search
    eps: float
    norm: Norm
    targeted: bool
    budget: Budget | None = None
    device: torch.device | str = "cpu"
    keep: int = 6
    collect: bool = False


@dataclass(frozen=True, kw_only=True)
class Shard:
    """What became of n points; the words are those of `Evaluation`.

    examples: at most `keep` a class, in the order of the points. clean: what the images as they are cost.
    """

    correct: Bool[Tensor, " n"]
    robust: Bool[Tensor, " n"]
    unknown: Bool[Tensor, " n"]
    outcomes: tuple[AttackOutcome, ...]
    examples: tuple[Example, ...]
    clean: Passes
    adversarial: Float[Tensor, "n channels height width"] | None = None


@dataclass(frozen=True, eq=False)
class _Found:
    """What one attack did: the moved points, which fooled, which were attacked in full, answers to falls."""

    moved: Images
    fell: Bool[Tensor, " batch"]
    full: Bool[Tensor, " batch"]
    answers: Float[Tensor, "fallen classes"]


def attack_shard(
    task: Task,
    images: Images,
    labels: Labels,
    goals: Labels | None,
    indices: list[int],
    seed: int,
    check: str,
) -> Shard:
    """Attack some points with one attack after the other; what fell is not attacked again.

    goals: the classes the model shall answer, where the attack is targeted. Raises InputError as
    `evaluate` does.
    """
    x, y = images.to(task.device), labels.to(task.device)
    oracle = Oracle(task.model, batch_size=task.search.batch_size, samples=task.search.samples)
    clean = finite(logits_of(oracle, x))
    if task.budget is not None:
        task.budget.reserved -= len(x)
    right = clean.argmax(1) == y
    standing, unsure = right.clone(), torch.zeros_like(right)
    goal = y if goals is None else goals.to(task.device)
    streams = Streams.of(seed, check, indices)
    torch.manual_seed(int(streams.keys[0]))  # for models that answer at random
    outcomes: list[AttackOutcome] = []
    fallen: dict[int, Example] = {}
    adversarial = images.clone() if task.collect else None
    for name, attack in task.attacks.items():
        places = standing.nonzero().flatten()
        if not len(places):
            outcomes.append(AttackOutcome(name=name))
            continue
        found, outcome = _attack(
            name, attack, task, x[places], goal[places], streams.select(places)
        )
        outcomes.append(outcome)
        unsure[places[~found.full]] = True
        places = places[found.fell]
        moved = found.moved[found.fell]
        for place, image, answer in zip(places.tolist(), moved, found.answers, strict=True):
            if adversarial is not None:
                adversarial[place] = image.cpu()
            fallen[place] = example_of(
                indices[place], name, x[place], image, y[place], clean[place], answer
            )
        standing[places] = False
    return Shard(
        correct=right.cpu(),
        robust=(standing & ~unsure).cpu(),
        unknown=(standing & unsure).cpu(),
        outcomes=tuple(outcomes),
        examples=first_of_each([fallen[place] for place in sorted(fallen)], task.keep),
        clean=oracle.passes,
        adversarial=adversarial,
    )


def _attack(
    name: str, attack: Attack, task: Task, x: Images, goal: Labels, streams: Streams
) -> tuple[_Found, AttackOutcome]:
    began, passes = time.perf_counter(), Passes()
    oracle = Oracle(task.view, **vars(task.search), passes=passes)
    moved, full = run_attack(
        name, attack, oracle, x, goal, eps=task.eps, norm=task.norm, targeted=task.targeted,
        streams=streams, budget=task.budget,
    )  # fmt: skip
    inside = within(x, moved, task.eps, BALLS[task.norm])
    moved = torch.where(per_image(inside), moved, x)
    # a point that no attack was paid for is not asked about either
    tried = full | (moved != x).flatten(1).any(1)
    search, fell = torch.zeros_like(full), torch.zeros_like(full)
    logits = finite(logits_of(oracle, moved[tried]))
    search[tried] = fooled(logits, goal[tried], targeted=task.targeted)
    search &= inside
    answers = [torch.empty(0, logits.shape[1], device=x.device)]
    alone = Oracle(task.model, batch_size=1, samples=task.search.samples, passes=passes)
    for place in search.nonzero().flatten().tolist():
        answer = finite(logits_of(alone, moved[place : place + 1]))
        if fooled(answer, goal[place : place + 1], targeted=task.targeted):
            fell[place] = True
            answers.append(answer)
    full |= fell
    outcome = AttackOutcome(
        name=name,
        tried=int(full.sum()),
        fooled=int(fell.sum()),
        outside=int((~inside & full).sum()),
        unconfirmed=int((search & ~fell).sum()),
        unmoved=int(((moved == x).flatten(1).all(1) & inside & full).sum()),
        unfinished=int((~full).sum()),
        seconds=time.perf_counter() - began,
        passes=passes,
    )
    return _Found(moved, fell, full, torch.cat(answers)), outcome


def run_attack(
    name: str,
    attack: Attack,
    model: Oracle,
    x: Images,
    goal: Labels,
    *,
    eps: float,
    norm: Norm,
    targeted: bool,
    streams: Streams,
    budget: Budget | None = None,
) -> tuple[Images, Bool[Tensor, " batch"]]:
    """What an attack answers, as it is, and which points it attacked in full.

    Nothing of the answer is checked but that it is finite. Raises InputError, which names the attack,
    for options that do not fit, a model without gradients and answers that are NaN or infinite.
    """
    rules: dict[str, Any] = {"eps": eps, "norm": norm, "targeted": targeted}
    full = torch.ones(len(x), dtype=torch.bool, device=x.device)
    try:
        if budget is None:
            moved = attack(model, x, goal, streams=streams, **rules)
        else:
            moved, full = attack_within(budget, attack, model, x, goal, streams=streams, **rules)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{name} cannot run with these options: {first}") from error
    except RuntimeError as error:
        if "does not require grad" in str(error) or "not have been used" in str(error):
            raise InputError(
                "the model's output has no gradient with respect to its input: use an attack that "
                'needs only labels, such as "foolbox:HopSkipJumpAttack", or a differentiable export'
            ) from error
        raise
    moved = moved.detach().to(x)
    if not torch.isfinite(moved).all():
        bad = int((~torch.isfinite(moved.flatten(1))).any(1).sum())
        raise InputError(
            f"{name} answered NaN or infinity for {bad} of {len(x)} images, so they were not attacked: "
            "leave it out, or look for NaN gradients of the model"
        )
    return moved, full


def together(first: Shard, second: Shard, keep: int) -> Shard:
    """Two shards as one, the points of `first` before those of `second`."""
    pictures = [part.adversarial for part in (first, second) if part.adversarial is not None]
    return Shard(
        correct=torch.cat([first.correct, second.correct]),
        robust=torch.cat([first.robust, second.robust]),
        unknown=torch.cat([first.unknown, second.unknown]),
        outcomes=tuple(a + b for a, b in zip(first.outcomes, second.outcomes, strict=True)),
        examples=first_of_each([*first.examples, *second.examples], keep),
        clean=first.clean + second.clean,
        adversarial=torch.cat(pictures) if pictures else None,
    )


def first_of_each(examples: list[Example], most: int) -> tuple[Example, ...]:
    """The first `most` examples of each class, in the order they came in."""
    seen: Counter[int] = Counter()
    chosen = []
    for example in examples:
        seen[example.label] += 1
        if seen[example.label] <= most:
            chosen.append(example)
    return tuple(chosen)


def finite(logits: Logits) -> Logits:
    """The logits; raises InputError where one is NaN or infinite."""
    if not torch.isfinite(logits).all():
        bad = int((~torch.isfinite(logits)).any(1).sum())
        raise InputError(
            f"the model answered NaN or infinity for {bad} of {len(logits)} images: expected finite "
            "logits; check its normalisation and precision"
        )
    return logits


def example_of(
    index: int,
    attack: str,
    x: Tensor,
    adversarial: Tensor,
    y: Tensor,
    clean: Tensor,
    answer: Tensor,
) -> Example:
    """An example to show, from an image, what became of it, and the logits of both."""
    before, after = clean.softmax(0), answer.softmax(0)
    return Example(
        index=index,
        attack=attack,
        original=x.cpu(),
        adversarial=adversarial.cpu(),
        label=int(y),
        prediction=int(before.argmax()),
        confidence=float(before.max()),
        fooled_prediction=int(after.argmax()),
        fooled_confidence=float(after.max()),
    )
