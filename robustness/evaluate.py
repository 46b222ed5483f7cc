"""The engine: run attacks over a data set, keep what really fools, count what it cost."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from assaymark.reports.errors import InputError
from assaymark.robustness.balls import BALLS, per_image, within
from assaymark.robustness.budget import Budget, attack_within
from assaymark.robustness.losses import fooled
from assaymark.robustness.oracle import Oracle, Passes, logits_of
from assaymark.robustness.streams import Streams, seed_of
from assaymark.robustness.types import Attack, Images, Labels, Logits, Model, Norm

_POOL_BYTES = 1 << 26
"""Images held at once: attacks keep some twenty copies of them."""
_FIRST_ROUND = 8


@dataclass(frozen=True, kw_only=True)
class Search:
    """How the model is asked while attacks search; what they find is confirmed in float32."""

    batch_size: int = 250
    precision: torch.dtype = torch.float32
    channels_last: bool = False
    samples: int = 1
    """Of a model that answers at random: how many answers make one, also when confirming."""


@dataclass(frozen=True, kw_only=True)
class AttackOutcome:
    """What one attack did to the points that stood before it."""

    name: str
    tried: int
    fooled: int
    outside: int
    """Answers outside the ball or the pixel range: not counted as fooled."""
    unconfirmed: int
    """Answers that fooled the search and not the model in float32, one image at a time."""
    unmoved: int
    """Answers that are the image itself."""
    unfinished: int
    """Points that still stand and were not attacked in full: the budget did not suffice."""
    seconds: float
    passes: Passes


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
class Evaluation:
    """n points: which the model got right, and which still stand after every attack.

    unknown: right and not fooled, but not attacked in full by every attack; they are not robust.
    adversarial: what fooled each point, the image itself where it stands; only when asked for.
    """

    correct: Bool[Tensor, " n"]
    robust: Bool[Tensor, " n"]
    unknown: Bool[Tensor, " n"]
    outcomes: tuple[AttackOutcome, ...]
    examples: tuple[Example, ...]
    passes: Passes
    seconds: float
    adversarial: Float[Tensor, "n channels height width"] | None = None

    @property
    def n(self) -> int:
        return len(self.correct)


@dataclass
class _Tally:
    tried: int = 0
    fooled: int = 0
    outside: int = 0
    unconfirmed: int = 0
    unmoved: int = 0
    unfinished: int = 0
    seconds: float = 0.0
    passes: Passes = field(default_factory=Passes)


@dataclass(frozen=True, kw_only=True)
class _Task:
    """What does not change from one attack to the next."""

    model: nn.Module | Model
    view: nn.Module | Model
    search: Search
    eps: float
    norm: Norm
    targeted: bool
    budget: Budget | None = None


def evaluate(
    model: nn.Module | Model,
    images: Images,
    labels: Labels,
    attacks: Mapping[str, Attack],
    *,
    eps: float,
    norm: Norm,
    seed: int = 0,
    check: str = "",
    targets: Labels | None = None,
    indices: list[int] | None = None,
    search: Search | None = None,
    budget: Budget | None = None,
    device: torch.device | str = "cpu",
    keep: int = 6,
    collect: bool = False,
    view: Model | None = None,
    decided: Callable[[Bool[Tensor, " n"], Bool[Tensor, " n"]], bool] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Attack every point until it falls or the attacks run out.

    images: n×C×H×W in [0, 1]; labels: n class numbers. targets: with them the attack is targeted,
    and a point falls when the model answers its target. indices: the points' numbers in the data
    set, by default 0 to n - 1; they choose the random streams. budget: what may be asked of a black box;
    points it does not pay for are unknown. keep: how many adversarial examples to keep, spread over the
    classes; view: the model as the attacks shall see it, where that is not as it answers; collect: keep
    the moved image of every point. decided: asked after
    each round about the points so far, which are correct and which robust; where it says yes, the
    rest is left out.
    Random numbers of our own attacks depend on (seed, check, example) only; those of other libraries
    also on the batch. A point counts as fooled only when the model itself, asked in float32 about that
    one image, is fooled by it inside the ball and the range. Raises InputError for NaN logits or
    answers, a model without gradients, or an attack whose every answer breaks the rules.
    """
    started = time.perf_counter()
    task = _Task(
        model=model,
        view=model if view is None else view,
        search=search or Search(),
        eps=eps,
        norm=norm,
        targeted=targets is not None,
        budget=budget if budget is not None and budget.limited else None,
    )
    clean_oracle = Oracle(model, batch_size=task.search.batch_size, samples=task.search.samples)
    correct, robust, unknown = torch.zeros(3, len(images), dtype=torch.bool)
    tallies = {name: _Tally() for name in attacks}
    examples: list[Example] = []
    numbers = list(range(len(images))) if indices is None else indices
    adversarial = images.clone() if collect else None
    done = 0
    if task.budget is not None:
        task.budget.pays_for(len(images))
    with frozen(model):
        for rows in rounds(images, task.search.batch_size, grow=decided is not None):
            x, y = images[rows].to(device), labels[rows].to(device)
            clean = finite(logits_of(clean_oracle, x))
            if task.budget is not None:
                task.budget.reserved = len(images) - min(rows.stop, len(images))
            right = clean.argmax(1) == y
            standing, unsure = right.clone(), torch.zeros_like(right)
            goal = y if targets is None else targets[rows].to(device)
            streams = Streams.of(seed, check, numbers[rows])
            torch.manual_seed(int(streams.keys[0]))  # for models that answer at random
            for name, attack in attacks.items():
                if not standing.any():
                    break
                places = standing.nonzero().flatten()
                moved, fell, full, answers = _attack(
                    name, attack, task, x[places], goal[places], streams.select(places),
                    tallies[name],
                )  # fmt: skip
                unsure[places[~full]] = True
                places = places[fell]
                for place, found, answer in zip(places.tolist(), moved[fell], answers, strict=True):
                    if adversarial is not None:
                        adversarial[rows.start + place] = found.cpu()
                    taken = sum(example.label == int(y[place]) for example in examples)
                    if len(examples) < keep and taken <= len(examples) // clean.shape[1]:
                        examples.append(
                            example_of(numbers[rows.start + place], name, x[place], found, y[place],
                                     clean[place], answer)
                        )  # fmt: skip
                standing[places] = False
            correct[rows], robust[rows] = right.cpu(), (standing & ~unsure).cpu()
            unknown[rows] = (standing & unsure).cpu()
            done = rows.stop
            progress(done, len(images))
            known = not unknown[:done].any()  # what the budget left open decides nothing
            if decided is not None and known and decided(correct[:done], robust[:done]):
                break
    for name, tally in tallies.items():
        _tested_something(name, tally, eps, norm)
    return Evaluation(
        correct=correct[:done],
        robust=robust[:done],
        unknown=unknown[:done],
        outcomes=tuple(AttackOutcome(name=name, **vars(tally)) for name, tally in tallies.items()),
        examples=tuple(examples),
        passes=sum((tally.passes for tally in tallies.values()), clean_oracle.passes),
        seconds=time.perf_counter() - started,
        adversarial=None if adversarial is None else adversarial[:done],
    )


def rounds(images: Images, batch_size: int, *, grow: bool) -> Iterator[slice]:
    """Which points are attacked together: as many as fit, or few at first where few may decide."""
    size = max(batch_size, _POOL_BYTES // max(images[:1].numel() * 4, 1))
    begin, take = 0, min(_FIRST_ROUND, size) if grow else size
    while begin < len(images):
        yield slice(begin, min(begin + take, len(images)))
        begin += take
        # few more each time than were seen: stopping late costs at most a sixteenth
        take = min(size, max(_FIRST_ROUND // 2, begin // 16)) if grow else size


def _attack(
    name: str,
    attack: Attack,
    task: _Task,
    x: Images,
    goal: Labels,
    streams: Streams,
    tally: _Tally,
) -> tuple[Images, Bool[Tensor, " batch"], Bool[Tensor, " batch"], Float[Tensor, "fallen classes"]]:
    """The moved points, which fooled under a check from scratch, which were attacked in full, answers.

    The answers are those to the points that fooled.
    """
    oracle = Oracle(task.view, **vars(task.search), passes=tally.passes)
    began = time.perf_counter()
    rules: dict[str, Any] = {"eps": task.eps, "norm": task.norm, "targeted": task.targeted}
    full = torch.ones(len(x), dtype=torch.bool, device=x.device)
    try:
        if task.budget is None:
            moved = attack(oracle, x, goal, streams=streams, **rules)
        else:
            moved, full = attack_within(
                task.budget, attack, oracle, x, goal, streams=streams, **rules
            )
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
    inside = within(x, moved, task.eps, BALLS[task.norm])
    moved = torch.where(per_image(inside), moved, x)
    # a point that no attack was paid for is not asked about either
    tried = full | (moved != x).flatten(1).any(1)
    search, fell = torch.zeros_like(full), torch.zeros_like(full)
    logits = finite(logits_of(oracle, moved[tried]))
    search[tried] = fooled(logits, goal[tried], targeted=task.targeted)
    search &= inside
    answers = []
    alone = Oracle(task.model, batch_size=1, samples=task.search.samples, passes=tally.passes)
    for place in search.nonzero().flatten().tolist():
        answer = finite(logits_of(alone, moved[place : place + 1]))
        if fooled(answer, goal[place : place + 1], targeted=task.targeted):
            fell[place] = True
            answers.append(answer)
    tally.seconds += time.perf_counter() - began
    full |= fell
    tally.tried += int(full.sum())
    tally.unfinished += int((~full).sum())
    tally.fooled += int(fell.sum())
    tally.outside += int((~inside & full).sum())
    tally.unconfirmed += int((search & ~fell).sum())
    tally.unmoved += int(((moved == x).flatten(1).all(1) & inside & full).sum())
    return moved, fell, full, torch.cat(answers) if answers else torch.empty(0, 1)


def _tested_something(name: str, tally: _Tally, eps: float, norm: Norm) -> None:
    if tally.tried and tally.outside == tally.tried:
        raise InputError(
            f"every answer of {name} lies outside the {norm} ball of {eps:g} or the pixel range, "
            "so it tested nothing: choose an attack of this norm"
        )
    if tally.tried and tally.unmoved == tally.tried:
        raise InputError(
            f"{name} moved none of the {tally.tried} images, so it tested nothing: check its "
            "options, and whether the model's gradient is 0 everywhere"
        )


@contextmanager
def frozen(model: nn.Module | Model) -> Iterator[None]:
    """Eval mode, no parameter gradients, no global random state touched; all put back after."""
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    modes = [module.training for module in modules]
    wanted = [p for module in modules for p in module.parameters(recurse=False) if p.requires_grad]
    numpy_state = numpy.random.get_state()
    with torch.random.fork_rng():
        for module in modules:
            module.training = False
        for parameter in wanted:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for module, mode in zip(modules, modes, strict=True):
                module.training = mode
            for parameter in wanted:
                parameter.requires_grad_(True)
            numpy.random.set_state(numpy_state)


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


def subset(n: int, examples: int | None, seed: int, check: str) -> list[int]:
    """Which of n points to use: all, or a seeded random sample without replacement, in order."""
    if examples is None or examples >= n:
        return list(range(n))
    return sorted(shuffled(n, seed, check)[:examples])


def shuffled(n: int, seed: int, check: str) -> list[int]:
    """The numbers 0 to n - 1 in a random order that depends on (seed, check) only."""
    generator = torch.Generator().manual_seed(seed_of(f"{seed}/{check}/subset"))
    order: list[int] = torch.randperm(n, generator=generator).tolist()
    return order
