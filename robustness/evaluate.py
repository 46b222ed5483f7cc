"""The engine: run attacks over a data set, keep what really fools, count what it cost."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace

import numpy
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from assaymark.reports.errors import InputError
from assaymark.robustness.budget import Budget
from assaymark.robustness.oracle import Passes
from assaymark.robustness.shard import (
    AttackOutcome,
    Example,
    Search,
    Shard,
    Task,
    attack_shard,
    together,
)
from assaymark.robustness.shards import Shards
from assaymark.robustness.streams import seed_of
from assaymark.robustness.types import Attack, Images, Labels, Model, Norm

_POOL_BYTES = 1 << 26
"""Images held at once: attacks keep some twenty copies of them."""
_PARTS, _LEAST, _MOST = 8, 32, 250
"""On a CPU a data set is cut into so many shards, of at least and at most so many points."""
_FIRST_ROUND = 8


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
    shards: Shards | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Attack every point until it falls or the attacks run out.

    images: n×C×H×W in [0, 1]; labels: n class numbers. targets: with them the attack is targeted,
    and a point falls when the model answers its target. indices: the points' numbers in the data
    set, by default 0 to n - 1; they choose the random streams. budget: what may be asked of a black box;
    points it does not pay for are unknown. keep: how many adversarial examples to keep, spread over the
    classes; view: the model as the attacks shall see it, where that is not as it answers; collect: keep
    the moved image of every point. decided: asked after each shard about the points so far, which are
    correct and which robust; where it says yes, the rest is left out. shards: in how many processes,
    and where finished ones are kept; a GPU and a black box have one process and keep none.
    Random numbers of our own attacks depend on (seed, check, example) only; those of other libraries
    also on the batch. A point counts as fooled only when the model itself, asked in float32 about that
    one image, is fooled by it inside the ball and the range. Raises InputError for NaN logits or
    answers, a model without gradients, or an attack whose every answer breaks the rules.
    """
    started = time.perf_counter()
    task = Task(
        model=model,
        view=model if view is None else view,
        attacks=attacks,
        search=search or Search(),
        eps=eps,
        norm=norm,
        targeted=targets is not None,
        budget=budget if budget is not None and budget.limited else None,
        device=device,
        keep=keep,
        collect=collect,
    )
    numbers = list(range(len(images))) if indices is None else indices
    parts = rounds(images, task.search.batch_size, grow=decided is not None, device=device)
    sizes = [rows.stop - rows.start for rows in parts]

    def attack_part(number: int) -> Shard:
        rows = parts[number]
        goals = None if targets is None else targets[rows]
        return attack_shard(task, images[rows], labels[rows], goals, numbers[rows], seed, check)

    shards = shards or Shards()
    if torch.device(device).type != "cpu":
        shards = replace(shards, workers=1)
    if budget is not None:  # one count that all shards draw on, in their order
        shards = Shards()
        budget.pays_for(len(images))
    whole: Shard | None = None
    with frozen(model), closing(shards.in_order(attack_part, sizes)) as found:
        for part in found:
            whole = part if whole is None else together(whole, part, keep)
            progress(len(whole.correct), len(images))
            known = not whole.unknown.any()  # what the budget left open decides nothing
            if decided is not None and known and decided(whole.correct, whole.robust):
                break
    if whole is None:
        raise InputError("there is no image to attack: choose data with at least one")
    for outcome in whole.outcomes:
        tested_something(outcome, eps, norm)
    return Evaluation(
        correct=whole.correct,
        robust=whole.robust,
        unknown=whole.unknown,
        outcomes=whole.outcomes,
        examples=_to_show(whole.examples, keep),
        passes=sum((outcome.passes for outcome in whole.outcomes), whole.clean),
        seconds=time.perf_counter() - started,
        adversarial=whole.adversarial,
    )


def rounds(
    images: Images, batch_size: int, *, grow: bool = False, device: torch.device | str = "cpu"
) -> list[slice]:
    """Which points make a shard: few where few may decide, many where a GPU wants them."""
    fit = max(1, _POOL_BYTES // max(images[:1].numel() * 4, 1))
    size = max(batch_size, fit)
    if torch.device(device).type == "cpu":
        size = min(fit, max(_LEAST, min(-(-len(images) // _PARTS), _MOST)))
    begin, take = 0, min(_FIRST_ROUND, size) if grow else size
    parts = []
    while begin < len(images):
        parts.append(slice(begin, min(begin + take, len(images))))
        begin += take
        # few more each time than were seen: stopping late costs at most a sixteenth
        take = min(size, max(_FIRST_ROUND // 2, begin // 16)) if grow else size
    return parts


def _to_show(examples: tuple[Example, ...], keep: int) -> tuple[Example, ...]:
    """At most `keep` examples, spread over the classes: the first of each, then the second of each."""
    seen: Counter[int] = Counter()
    ranks = []
    for example in examples:
        ranks.append(seen[example.label])
        seen[example.label] += 1
    order = sorted(range(len(examples)), key=ranks.__getitem__)
    return tuple(examples[place] for place in order[:keep])


def tested_something(outcome: AttackOutcome, eps: float, norm: Norm) -> None:
    """Raises InputError where an attack has tried points and tested none of them."""
    if outcome.tried and outcome.outside == outcome.tried:
        raise InputError(
            f"every answer of {outcome.name} lies outside the {norm} ball of {eps:g} or the pixel "
            "range, so it tested nothing: choose an attack of this norm"
        )
    if outcome.tried and outcome.unmoved == outcome.tried:
        raise InputError(
            f"{outcome.name} moved none of the {outcome.tried} images, so it tested nothing: check "
            "its options, and whether the model's gradient is 0 everywhere"
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
