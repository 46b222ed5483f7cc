"""The engine: run attacks over a data set, keep what really fools, count what it cost."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy
import torch
from jaxtyping import Bool
from torch import Tensor, nn

from assaymark.reports.errors import InputError
from assaymark.robustness.attacks import fooled
from assaymark.robustness.balls import BALLS, within
from assaymark.robustness.streams import Streams, seed_of
from assaymark.robustness.types import Attack, Images, Labels, Logits, Model, Norm


@dataclass
class Passes:
    """Forward and backward passes through a model, counted per example."""

    forward: int = 0
    backward: int = 0


class Counted(nn.Module):
    """A model that counts its passes and refuses to answer with NaN."""

    def __init__(self, model: Model, passes: Passes) -> None:
        super().__init__()
        self.model = model
        self.passes = passes

    def forward(self, x: Images) -> Logits:
        logits = self.model(x)
        self.passes.forward += len(x)
        if logits.requires_grad:
            logits.register_hook(self._count_backward)
        return logits

    def _count_backward(self, gradient: Tensor) -> None:
        self.passes.backward += len(gradient)


@dataclass(frozen=True, kw_only=True)
class AttackOutcome:
    """What one attack did to the points that stood before it."""

    name: str
    tried: int
    fooled: int
    outside: int
    """Answers outside the ball or the pixel range: not counted as fooled."""
    unmoved: int
    """Answers that are the image itself."""
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
    """n points: which the model got right, and which still stand after every attack."""

    correct: Bool[Tensor, " n"]
    robust: Bool[Tensor, " n"]
    outcomes: tuple[AttackOutcome, ...]
    examples: tuple[Example, ...]
    passes: Passes
    seconds: float

    @property
    def n(self) -> int:
        return len(self.correct)


@dataclass
class _Tally:
    tried: int = 0
    fooled: int = 0
    outside: int = 0
    unmoved: int = 0
    seconds: float = 0.0
    passes: Passes = field(default_factory=Passes)


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
    batch_size: int = 250,
    device: torch.device | str = "cpu",
    keep: int = 6,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Attack every point until it falls or the attacks run out.

    images: n×C×H×W in [0, 1]; labels: n class numbers. targets: with them the attack is targeted,
    and a point falls when the model answers its target. indices: the points' numbers in the data
    set, by default 0 to n - 1; they choose the random streams. keep: how many adversarial examples to
    keep, spread over the classes. Random numbers of our own attacks depend on (seed, check, example)
    only; those of other libraries also on the batch. Raises InputError for NaN logits or answers, a
    model without gradients, or an attack whose every answer breaks the rules.
    """
    started = time.perf_counter()
    passes = Passes()
    correct, robust = torch.zeros(len(images), dtype=torch.bool), torch.zeros(len(images)).bool()
    tallies = {name: _Tally() for name in attacks}
    examples: list[Example] = []
    numbers = list(range(len(images))) if indices is None else indices
    with frozen(model):
        for begin in range(0, len(images), batch_size):
            rows = slice(begin, min(begin + batch_size, len(images)))
            x, y = images[rows].to(device), labels[rows].to(device)
            with torch.no_grad():
                clean = _finite(Counted(model, passes)(x))
            right = clean.argmax(1) == y
            standing = right.clone()
            goal = y if targets is None else targets[rows].to(device)
            streams = Streams.of(seed, check, numbers[rows])
            for name, attack in attacks.items():
                if not standing.any():
                    break
                tally = tallies[name]
                moved, fell, outside, logits = _attack(
                    name, attack, model, x[standing], y[standing], goal[standing],
                    eps=eps, norm=norm, targeted=targets is not None,
                    streams=streams.select(standing), tally=tally,
                )  # fmt: skip
                tally.tried += len(moved)
                tally.fooled += int(fell.sum())
                tally.outside += outside
                places = standing.nonzero().flatten()[fell]
                for place, adversarial, answer in zip(
                    places.tolist(), moved[fell], logits[fell], strict=True
                ):
                    taken = sum(example.label == int(y[place]) for example in examples)
                    if len(examples) >= keep or taken > len(examples) // clean.shape[1]:
                        continue
                    examples.append(
                        _example(numbers[begin + place], name, x[place], adversarial, y[place],
                                 clean[place], answer)
                    )  # fmt: skip
                standing[places] = False
            correct[rows], robust[rows] = right.cpu(), standing.cpu()
            progress(rows.stop, len(images))
    for name, tally in tallies.items():
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
        passes.forward += tally.passes.forward
        passes.backward += tally.passes.backward
    return Evaluation(
        correct=correct,
        robust=robust,
        outcomes=tuple(AttackOutcome(name=name, **vars(tally)) for name, tally in tallies.items()),
        examples=tuple(examples),
        passes=passes,
        seconds=time.perf_counter() - started,
    )


def _attack(
    name: str,
    attack: Attack,
    model: nn.Module | Model,
    x: Images,
    y: Labels,
    goal: Labels,
    *,
    eps: float,
    norm: Norm,
    targeted: bool,
    streams: Streams,
    tally: _Tally,
) -> tuple[Images, Bool[Tensor, " batch"], int, Logits]:
    """The moved points, which of them fooled under a check from scratch, how many broke the rules."""
    counted = Counted(model, tally.passes).eval()
    began = time.perf_counter()
    _seed_libraries(streams)
    try:
        moved = attack(counted, x, goal, eps=eps, norm=norm, targeted=targeted, streams=streams)
    except RuntimeError as error:
        if "does not require grad" in str(error) or "not have been used" in str(error):
            raise InputError(
                "the model's output has no gradient with respect to its input: use an attack that "
                'needs only labels, such as "foolbox:HopSkipJumpAttack", or a differentiable export'
            ) from error
        raise
    except (TypeError, ValueError, ZeroDivisionError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{name} cannot run with these options: {first}") from error
    moved = moved.detach().to(x)
    if not torch.isfinite(moved).all():
        bad = int((~torch.isfinite(moved.flatten(1))).any(1).sum())
        raise InputError(
            f"{name} answered NaN or infinity for {bad} of {len(x)} images, so they were not attacked: "
            "leave it out, or look for NaN gradients of the model"
        )
    tally.unmoved += int((moved == x).flatten(1).all(1).sum())
    inside = within(x, moved, eps, BALLS[norm])
    moved = torch.where(inside.view(-1, *[1] * (x.dim() - 1)), moved, x)
    with torch.no_grad():
        logits = _finite(counted(moved))
    tally.seconds += time.perf_counter() - began
    fell = inside & fooled(logits, goal, targeted=targeted)
    return moved, fell, int((~inside).sum()), logits


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


def _seed_libraries(streams: Streams) -> None:
    """Attacks of other libraries draw from global generators: seed them by the batch's first key."""
    seed = seed_of(streams.keys[0]) % 2**32
    torch.manual_seed(seed)
    numpy.random.seed(seed)


def _finite(logits: Logits) -> Logits:
    if not torch.isfinite(logits).all():
        bad = int((~torch.isfinite(logits)).any(1).sum())
        raise InputError(
            f"the model answered NaN or infinity for {bad} of {len(logits)} images: expected finite "
            "logits; check its normalisation and precision"
        )
    return logits


def _example(
    index: int,
    attack: str,
    x: Tensor,
    adversarial: Tensor,
    y: Tensor,
    clean: Tensor,
    answer: Tensor,
) -> Example:
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
    generator = torch.Generator().manual_seed(seed_of(f"{seed}/{check}/subset"))
    order = torch.randperm(n, generator=generator)
    return sorted(order[:examples].tolist())
