"""Suites: attacks in an order that spends little on what falls early and more on what still stands.

`standard` asks for the same verdict as AutoAttack at a fraction of its passes. Short walks towards
every class show where a point is weakest; long walks go there (targets ordered by promise, as in
https://arxiv.org/abs/2203.05154); random search then starts from the best point that the gradient
found, so that a flat or false gradient does not end the search. Stages share their notes of a point
by the key of its random stream, so that a result depends on the point alone.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from jaxtyping import Int
from torch import Tensor

from assaymark.reports.errors import InputError
from assaymark.robustness.apgd import (
    Objective,
    apgd_ce,
    apgd_t,
    away_from,
    climb,
    plain_difference,
    random_start,
    towards_ce,
)
from assaymark.robustness.balls import per_image
from assaymark.robustness.fab import fab_t
from assaymark.robustness.fmn import fmn
from assaymark.robustness.losses import Loss, margin, other_classes
from assaymark.robustness.oracle import logits_of
from assaymark.robustness.sparse import jsma, sigma_zero
from assaymark.robustness.sparse_search import sparse_rs
from assaymark.robustness.square import square, square_from
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Attack, Images, Labels, Logits, Model, Norm

_NEVER = -torch.inf
_PAPERS = (
    "Croce and Hein 2020, arXiv 2003.01690",
    "Liu et al. 2022, arXiv 2203.05154",
    "Andriushchenko et al. 2020, arXiv 1912.00049",
)
_SPARSE_PAPERS = (
    "Cinà et al. 2025, arXiv 2402.01879",
    "Papernot et al. 2016, arXiv 1511.07528",
    "Pintor et al. 2021, arXiv 2102.12827",
    "Croce et al. 2022, arXiv 2006.12834",
)
_FIRST_WINDOW = 0.2
"""Share of the image that random search from a good point changes first."""
_SMALL_STEP = 0.5


@dataclass
class Notes:
    """What earlier stages found out about the points of one pool.

    best: the image nearest to fooling; height: its margin, in units of the spread of its logits;
    order: classes to steer to, and heights: how near each came.
    """

    keys: Int[Tensor, " pool"] = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    best: Tensor = field(default_factory=lambda: torch.empty(0))
    height: Tensor = field(default_factory=lambda: torch.empty(0))
    order: Tensor = field(default_factory=lambda: torch.empty(0))
    heights: Tensor = field(default_factory=lambda: torch.empty(0))

    def begin(self, streams: Streams, x: Images, order: Int[Tensor, "batch targets"]) -> None:
        self.keys = streams.keys.clone()
        self.best, self.order = x.clone(), order
        self.height = torch.full((len(x),), _NEVER, device=x.device)
        self.heights = torch.full(order.shape, _NEVER, device=x.device)

    def rows(self, streams: Streams) -> Int[Tensor, " batch"]:
        """Where the points of `streams` stand in these notes."""
        ordered, places = self.keys.sort()
        return places[torch.searchsorted(ordered, streams.keys)].to(self.best.device)

    def better(self, rows: Tensor, images: Images, heights: Tensor) -> None:
        higher = heights > self.height[rows]
        self.best[rows] = torch.where(per_image(higher), images, self.best[rows])
        self.height[rows] = torch.where(higher, heights, self.height[rows])


def scaled_margin(logits: Logits, y: Labels, *, targeted: bool) -> Loss:
    """How near an answer is to what the attacker wants, between -1 and 1 whatever the logits' scale."""
    spread = (logits.amax(1) - logits.amin(1)).clamp_min(1e-12)
    height = margin(logits, y) / spread
    return -height if targeted else height


def answered_instead(logits: Logits, goal: Labels, steer: Labels) -> Loss:
    """Targeted: how far the class wanted is above the best other one."""
    return -margin(logits, goal)


@dataclass
class _Pool:
    """The points of one stage: what it answers for each, and which of them still stand."""

    model: Model
    x: Images
    y: Labels
    eps: float
    norm: Norm
    targeted: bool
    streams: Streams
    notes: Notes
    rows: Int[Tensor, " batch"]
    answer: Images
    standing: Int[Tensor, " standing"]

    def walk(self, steer: Labels, objective: Objective, *, steps: int, tag: str) -> Tensor:
        """One walk of the standing points from a new start; how near each came."""
        at = self.standing
        x, y = self.x[at], self.y[at]
        start = random_start(
            x, eps=self.eps, norm=self.norm, streams=self.streams.select(at), tag=tag
        )
        end, fell, _ = climb(
            self.model, x, y, steer[at], start, objective, eps=self.eps, norm=self.norm,
            targeted=self.targeted, steps=steps, first_step=1.0 if self.norm == "l1" else 2.0,
        )  # fmt: skip
        heights = scaled_margin(logits_of(self.model, end), y, targeted=self.targeted)
        self.notes.better(self.rows[at], end, heights)
        self.answer[at] = self.notes.best[self.rows[at]]
        self.answer[at[fell]] = end[fell]
        self.standing = at[~fell]
        return heights


def short_walks(
    model: Model,
    x: Images,
    y: Labels,
    *,
    eps: float,
    norm: Norm,
    targeted: bool,
    streams: Streams,
    notes: Notes,
    steps: int,
    targets: int,
) -> Images:
    """A walk of `steps` steps towards each of `targets` classes, the most likely first."""
    order = other_classes(logits_of(model, x), y)[:, :targets]
    notes.begin(streams, x, order)
    pool = _Pool(
        model, x, y, eps, norm, targeted, streams, notes, notes.rows(streams), x.clone(),
        torch.arange(len(x), device=x.device),
    )  # fmt: skip
    for rank in range(order.shape[1]):
        objective = away_from
        if targeted:
            objective = towards_ce if rank % 2 else answered_instead
        at = pool.standing
        heights = pool.walk(order[:, rank], objective, steps=steps, tag=f"short/{rank}")
        notes.heights[pool.rows[at], rank] = heights
        if not len(pool.standing):
            break
    return pool.answer


def long_walks(
    model: Model,
    x: Images,
    y: Labels,
    *,
    eps: float,
    norm: Norm,
    targeted: bool,
    streams: Streams,
    notes: Notes,
    steps: int,
    walks: int,
) -> Images:
    """Walks from new starts towards the classes that came nearest in the short ones."""
    rows = notes.rows(streams)
    ranks = notes.heights[rows].argsort(dim=1, descending=True, stable=True)
    pool = _Pool(
        model, x, y, eps, norm, targeted, streams, notes, rows, notes.best[rows].clone(),
        torch.arange(len(x), device=x.device),
    )  # fmt: skip
    for walk in range(walks):
        rank = ranks[:, walk % ranks.shape[1], None]
        steer = notes.order[rows].gather(1, rank).squeeze(1)
        objective = answered_instead if targeted else plain_difference
        pool.walk(steer, objective, steps=steps, tag=f"long/{walk}")
        if not len(pool.standing):
            break
    return pool.answer


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Attacks in order, made anew for each check since their stages share notes."""

    build: Callable[[Norm], dict[str, Attack]]
    about: str
    queries: int
    """Of random search, where there is no gradient."""
    papers: tuple[str, ...] = _PAPERS
    sparse: Callable[[], dict[str, Attack]] | None = None
    """Its form in L0, where there is one."""

    def stages(self, norm: Norm, *, gradient: bool = True) -> dict[str, Attack]:
        """The attacks by name, in order."""
        if not gradient:
            search = {"sparse-rs": sparse_rs} if norm == "l0" else {"square": square}
            return {name: partial(run, queries=self.queries) for name, run in search.items()}
        if norm != "l0":
            return self.build(norm)
        if self.sparse is None:
            raise InputError(
                "autoattack has no l0 form: take quick, standard or exhaustive, or name attacks"
            )
        return self.sparse()

    def papers_in(self, norm: Norm) -> tuple[str, ...]:
        """What the attacks in this norm come from."""
        return _SPARSE_PAPERS if norm == "l0" else self.papers


def random_search(
    model: Model,
    x: Images,
    y: Labels,
    *,
    eps: float,
    norm: Norm,
    targeted: bool,
    streams: Streams,
    notes: Notes,
    queries: int,
) -> Images:
    """Square windows from the best point so far: a way on where the gradient has none."""
    rows = notes.rows(streams)
    end, _ = square_from(
        model, x, y, notes.best[rows], eps=eps, norm=norm, targeted=targeted, streams=streams,
        queries=queries, p_init=_FIRST_WINDOW, rescale_schedule=False, score="margin",
        tag="from-best",
    )  # fmt: skip
    heights = scaled_margin(logits_of(model, end), y, targeted=targeted)
    notes.better(rows, end, heights)
    return end


def polish(
    model: Model,
    x: Images,
    y: Labels,
    *,
    eps: float,
    norm: Norm,
    targeted: bool,
    streams: Streams,
    notes: Notes,
    steps: int,
) -> Images:
    """One more walk with small steps from where the random search ended."""
    rows = notes.rows(streams)
    start = notes.best[rows]
    steer = notes.order[rows].gather(1, notes.heights[rows].argmax(1, keepdim=True)).squeeze(1)

    def nearest(logits: Logits, goal: Labels, steer: Labels) -> Loss:
        return -margin(logits, goal) if targeted else margin(logits, goal)

    end, _, _ = climb(
        model, x, y, steer, start, nearest, eps=eps, norm=norm, targeted=targeted, steps=steps,
        first_step=_SMALL_STEP,
    )  # fmt: skip
    notes.better(rows, end, scaled_margin(logits_of(model, end), y, targeted=targeted))
    return end


def _gradient_suite(
    norm: Norm,
    *,
    short: tuple[int, int],
    long: tuple[int, int],
    queries: int,
    steps: int,
) -> dict[str, Attack]:
    """short: steps and targets; long: steps and walks; then queries, then steps again."""
    notes = Notes()
    stages: dict[str, Attack] = {
        "short walks": partial(short_walks, notes=notes, steps=short[0], targets=short[1]),
        "long walks": partial(long_walks, notes=notes, steps=long[0], walks=long[1]),
        "random search": partial(random_search, notes=notes, queries=queries),
        "last walk": partial(polish, notes=notes, steps=steps),
    }
    return stages


def _autoattack(norm: Norm) -> dict[str, Attack]:
    """APGD-CE, APGD-T, FAB-T and Square with the budgets of AutoAttack standard (2003.01690)."""
    restarts, targets = (5, 5) if norm == "l1" else (1, 9)
    return {
        "apgd-ce": partial(apgd_ce, restarts=restarts),
        "apgd-t": partial(apgd_t, targets=targets),
        "fab-t": partial(fab_t, targets=9, final=0),  # theirs ends without
        "square": partial(square, queries=5001),  # a start and 5,000 proposals
    }


def _sparse(*, steps: int, queries: int, pairs: bool = True) -> dict[str, Attack]:
    """L0: gradient steps on a smooth count, pairs of values by saliency, then random search.

    Each is the attack of that name, so that a suite never leaves a point that one of them fells.
    """
    stages: dict[str, Attack] = {"sigma-zero": partial(sigma_zero, steps=steps)}
    if pairs:
        stages["jsma"] = partial(jsma, targets=9, share=1.0)
    return stages | {"sparse-rs": partial(sparse_rs, queries=queries)}


def _exhaustive_sparse() -> dict[str, Attack]:
    wider = {"sigma-zero, wider": partial(sigma_zero, steps=1000, sigma=1e-2)}
    return wider | {"fmn": partial(fmn, steps=300)} | _sparse(steps=1000, queries=5000)


def _exhaustive(norm: Norm) -> dict[str, Attack]:
    longer = _gradient_suite(norm, short=(20, 9), long=(100, 9), queries=2000, steps=50)
    return longer | _autoattack(norm)


SUITES: dict[str, Suite] = {
    "quick": Suite(
        build=partial(_gradient_suite, short=(10, 4), long=(20, 1), queries=50, steps=10),
        about="a first answer in CI: at most 70 backward and 140 forward passes a point",
        queries=500,
        sparse=partial(_sparse, steps=100, queries=50, pairs=False),
    ),
    "standard": Suite(
        build=partial(_gradient_suite, short=(10, 9), long=(40, 4), queries=300, steps=20),
        about="the strength of AutoAttack at a seventh of its backward passes (10 classes)",
        queries=5000,
        sparse=partial(_sparse, steps=1000, queries=1000),
    ),
    "autoattack": Suite(
        build=_autoattack,
        about="the attacks and budgets of AutoAttack standard, for comparison",
        queries=5000,
        papers=_PAPERS[:1],
    ),
    "exhaustive": Suite(
        build=_exhaustive,
        about="standard with six times its steps, then all of autoattack",
        queries=20_000,
        sparse=_exhaustive_sparse,
    ),
}
