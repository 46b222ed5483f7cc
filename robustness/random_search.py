"""Random search by scores: propose a change of a few values, keep it where the loss grows.

One loop for every attack that works so. A proposal names the values it touches, so that a query
costs one forward pass and work on those values alone.
"""

from collections.abc import Callable, Sequence
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from assaymark.robustness.losses import Loss, cross_entropy, fooled, margin
from assaymark.robustness.oracle import leaves, logits_of
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Images, Labels, Logits, Model

Flat = Float[Tensor, "batch values"]
"""Images, one row each."""
Patch = tuple[Int[Tensor, "batch touched"], Float[Tensor, "batch touched"]]
"""Places in the rows of flat images, none twice in a row, and the values to put there."""
Score = Literal["margin", "cross-entropy"]
_BLOCK = 64
"""Queries whose random numbers are drawn together, where they take no more memory than an image."""


def score_of(logits: Logits, y: Labels, targeted: bool, score: Score | None) -> Loss:
    """What is climbed; by default the margin, and the cross-entropy of the target when targeted."""
    score = score or ("cross-entropy" if targeted else "margin")
    value = margin(logits, y) if score == "margin" else cross_entropy(logits, y)
    return -value if targeted else value


class Draws:
    """Uniform numbers in [0, 1) for one query after the other, drawn many queries at a time.

    What a query sees depends on the example, the tag, and the counts asked for so far, which must
    not depend on the batch.
    """

    def __init__(self, streams: Streams, like: Images, tag: str) -> None:
        self._streams, self._tag, self._device = streams, tag, like.device
        self._room = max(like.shape[1:].numel(), 1)
        self._begin = self._end = 0
        self._block = torch.empty(0, len(like), 0)

    def take(self, query: int, count: int) -> Float[Tensor, "batch count"]:
        """`count` numbers an example."""
        if not self._begin <= query < self._end or self._block.shape[2] != count:
            size = max(1, min(_BLOCK, self._room // count))
            like = torch.empty(len(self._streams), size, count, device=self._device)
            drawn = self._streams.uniform(like, f"{self._tag}/{query}")
            self._block = drawn.transpose(0, 1).contiguous()
            self._begin, self._end = query, query + size
        return self._block[query - self._begin]

    def select(self, stay: Bool[Tensor, " batch"]) -> None:
        """Forget the examples that have left."""
        self._streams, self._block = self._streams.select(stay), self._block[:, stay]


@runtime_checkable  # tests check argument types
class Moves(Protocol):
    """What a random search proposes; it remembers what it needs between queries."""

    def propose(self, here: Flat, query: int) -> Sequence[Patch]:
        """Changes to try, written one after the other; `here` itself is left alone."""
        ...

    def judge(self, better: Bool[Tensor, " batch"]) -> None:
        """Told of which images the last proposal was kept."""
        ...

    def select(self, stay: Bool[Tensor, " batch"]) -> None:
        """Told which images stay; the others have fallen."""
        ...


def search(
    model: Model,
    start: Images,
    y: Labels,
    moves: Moves,
    *,
    queries: int,
    targeted: bool,
    score: Score | None = None,
) -> tuple[Images, Bool[Tensor, " batch"]]:
    """Where each search ends, and whether it fools there; the start is the first query.

    A point that never falls costs exactly `queries` forward passes. score: what is climbed, by
    default the margin, and the cross-entropy of the target when targeted.
    """
    shape = start.shape[1:]
    end, fell = start.clone(), torch.zeros(len(start), dtype=torch.bool, device=start.device)
    if not len(start):
        return end, fell
    active = torch.arange(len(start), device=start.device)
    here = start.flatten(1).clone(memory_format=torch.contiguous_format)
    best = torch.full((len(start),), -torch.inf, device=start.device)
    for query in range(queries):
        patches = moves.propose(here, query) if query else ()
        before = []
        for places, values in patches:
            before.append(here.gather(1, places))
            here.scatter_(1, places, values)
        logits = logits_of(model, here.view(-1, *shape))
        reached = score_of(logits, y, targeted, score)
        down = fooled(logits, y, targeted=targeted) & leaves(model)
        better = (reached > best) | down
        for (places, values), old in zip(reversed(patches), reversed(before), strict=True):
            # patches may overlap: of several, what is kept is read and not written again
            kept = values if len(patches) == 1 else here.gather(1, places)
            here.scatter_(1, places, torch.where(better[:, None], kept, old))
        best = torch.where(better, reached, best)
        if query:
            moves.judge(better)
        if down.any():
            end[active[down]], fell[active[down]] = here[down].view(-1, *shape), True
            stay = ~down
            active, here, best, y = active[stay], here[stay], best[stay], y[stay]
            moves.select(stay)
            if not len(active):
                break
    end[active] = here.view(-1, *shape)
    return end, fell


def restarted(
    run: Callable[[Images, Labels, Streams, int], tuple[Images, Bool[Tensor, " batch"]]],
    x: Images,
    y: Labels,
    streams: Streams,
    restarts: int,
) -> Images:
    """The answers of `run`, which is given the points that still stand and the number of the start."""
    best = x.clone()
    standing = torch.ones(len(x), dtype=torch.bool, device=x.device)
    for restart in range(restarts):
        end, fell = run(x[standing], y[standing], streams.select(standing), restart)
        best[standing] = end
        standing[standing.clone()] = ~fell
        if not standing.any():
            break
    return best


def stage(query: int, queries: int, thresholds: Sequence[int], *, rescale: bool) -> int:
    """How many thresholds of a schedule a query has passed; they are given for 10,000 queries."""
    seen = query * 10_000 // queries if rescale else query
    return sum(seen > threshold for threshold in thresholds)


def check_budget(queries: int, restarts: int) -> None:
    """Raises ValueError for a search that would do nothing."""
    if queries < 1 or restarts < 1:
        raise ValueError(f"queries and restarts must be at least 1, got {queries} and {restarts}")
