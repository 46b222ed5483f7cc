"""What is proven about each point of a data set, and the attack that holds the proof to account."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from assaymark.reports.errors import InternalContradiction
from assaymark.robustness.balls import BALLS
from assaymark.robustness.bounds import BoundMethod, certified
from assaymark.robustness.check import NORM_NAMES
from assaymark.robustness.evaluate import Evaluation, frozen, rounds
from assaymark.robustness.losses import Loss, cross_entropy
from assaymark.robustness.models import Loaded
from assaymark.robustness.oracle import Oracle, Passes, ascent, logits_of
from assaymark.robustness.shard import Search
from assaymark.robustness.smoothing import (
    ABSTAIN,
    Smoothing,
    accuracy_at,
    certify,
    predict,
    wrong_at_most,
)
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Images, Labels, Logits, Norm
from assaymark.robustness.workers import Array, in_order

_BATCH = 32
"""Images whose bounds are found together."""
_TOLERANCE = 1e-6
"""How far outside the ball an answer of an attack still counts: certificates reach beyond it."""
_COPIES = 16
"""Noisy images whose mean answer an attack on a smoothed classifier climbs."""
_DEEPER = 10
"""Steps into the other class, once there."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What shall be proven: by bounds of the model itself, or by smoothing it (then methods is empty).

    attacks: what the certificate is held beside; by default pgd, in L1 fgsm.
    """

    methods: tuple[BoundMethod, ...] = ()
    smoothing: Smoothing | None = None
    norm: Norm
    eps: float
    attacks: tuple[tuple[str, Mapping[str, Any]], ...] = ()

    def __str__(self) -> str:
        return f"{NORM_NAMES[self.norm]} ≤ {self.eps:.4g}"

    @property
    def tried(self) -> tuple[tuple[str, Mapping[str, Any]], ...]:
        return self.attacks or ((("fgsm" if self.norm == "l1" else "pgd"), {}),)


@dataclass(frozen=True, kw_only=True)
class Proof:
    """n points: which are answered rightly, which are certified at eps, and how far each is proven.

    reach: the largest radius tried within which the point is certified, 0 for none.
    """

    correct: Bool[Tensor, " n"]
    held: Bool[Tensor, " n"]
    reach: Float[Tensor, " n"]
    by_method: tuple[tuple[str, int, float], ...]
    """Method, points certified at eps, seconds."""
    passes: Passes = field(default_factory=Passes)


def sandwich(certified: Bool[Tensor, " n"], robust: Bool[Tensor, " n"]) -> None:
    """Raises InternalContradiction when a point is certified though an attack moved it.

    certified, robust: of the same points, for the same ball; robust is True where no attack succeeded.
    """
    both = certified.cpu() & ~robust.cpu()
    if both.any():
        places = both.nonzero().flatten().tolist()
        raise InternalContradiction(
            f"{len(places)} points are certified and yet fooled inside the ball (first: {places[0]}), so "
            "the certificate or the attack is wrong: please report it with the model and the policy"
        )


def prove(
    model: nn.Module,
    x: Images,
    y: Labels,
    claim: Claim,
    batch_size: int,
    streams: Streams,
    *,
    workers: int = 1,
    progress: Callable[[int], None] = lambda done: None,
) -> Proof:
    """What is proven about each point, in parts that may be proven side by side."""
    if x.device.type != "cpu":
        workers = 1
    parts = rounds(x, batch_size)
    done: list[int] = []

    def part(number: int) -> dict[str, Array]:
        rows = parts[number]
        told = partial(_further, progress if workers == 1 else _quiet, rows.start)
        own = (model, x[rows], y[rows], claim, batch_size)
        if claim.smoothing is None:
            return _arrays(_by_bounds(*own, told))
        return _arrays(_by_smoothing(*own, streams.select(torch.arange(len(x))[rows]), told))

    def finished(number: int) -> None:
        done.append(parts[number].stop - parts[number].start)
        progress(sum(done))

    names = claim.methods if claim.smoothing is None else ("smoothing",)
    return _proof(names, in_order(part, len(parts), workers=workers, finished=finished))


def _arrays(proof: Proof) -> dict[str, Array]:
    return {
        "correct": proof.correct.numpy(),
        "held": proof.held.numpy(),
        "reach": proof.reach.numpy(),
        "hits": numpy.array([hits for _, hits, _ in proof.by_method]),
        "seconds": numpy.array([seconds for _, _, seconds in proof.by_method]),
        "forward": numpy.array(proof.passes.forward),
    }


def _proof(names: Sequence[str], parts: list[dict[str, Array]]) -> Proof:
    def joined(name: str) -> Tensor:
        return torch.cat([torch.from_numpy(part[name]) for part in parts])

    return Proof(
        correct=joined("correct"),
        held=joined("held"),
        reach=joined("reach"),
        by_method=tuple(
            (
                name,
                sum(int(part["hits"][place]) for part in parts),
                sum(float(part["seconds"][place]) for part in parts),
            )
            for place, name in enumerate(names)
        ),
        passes=Passes(forward=sum(int(part["forward"]) for part in parts)),
    )


def _quiet(done: int) -> None:
    pass


def _further(progress: Callable[[int], None], before: int, done: int) -> None:
    progress(before + done)


def _by_bounds(
    model: nn.Module,
    x: Images,
    y: Labels,
    claim: Claim,
    batch_size: int,
    progress: Callable[[int], None],
) -> Proof:
    correct = logits_of(Oracle(model, batch_size=batch_size), x).argmax(1) == y
    held = torch.zeros_like(correct)
    by_method = []
    for method in claim.methods:
        began = time.perf_counter()
        mine = certified(
            model, x, y, claim.eps + _TOLERANCE, claim.norm, method,
            batch_size=min(batch_size, _BATCH), progress=progress,
        )  # fmt: skip
        by_method.append((method, int(mine.sum()), time.perf_counter() - began))
        held |= mine
    reach = _reach(model, x, y, claim, min(batch_size, _BATCH), held, correct)
    return Proof(
        correct=correct.cpu(),
        held=held.cpu(),
        reach=reach.cpu(),
        by_method=tuple(by_method),
        passes=Passes(forward=len(x)),
    )


def _reach(
    model: nn.Module,
    x: Images,
    y: Labels,
    claim: Claim,
    batch_size: int,
    held: Bool[Tensor, " n"],
    correct: Bool[Tensor, " n"],
) -> Float[Tensor, " n"]:
    """How many quarters of eps each point is certified for, found by halving with the last method."""
    quarters = torch.where(held, 4, 0)
    open_ = correct & ~held
    for quarter, among in ((2, open_), (3, open_), (1, open_)):
        places = (among & (quarters == (2 if quarter == 3 else 0))).nonzero().flatten()
        mine = certified(
            model, x[places], y[places], claim.eps * quarter / 4 + _TOLERANCE, claim.norm,
            claim.methods[-1], batch_size=batch_size,
        )  # fmt: skip
        quarters[places[mine]] = quarter
    return quarters.double() * claim.eps / 4


def _by_smoothing(
    model: nn.Module,
    x: Images,
    y: Labels,
    claim: Claim,
    batch_size: int,
    streams: Streams,
    progress: Callable[[int], None],
) -> Proof:
    assert claim.smoothing is not None
    began = time.perf_counter()
    oracle = Oracle(model, batch_size=batch_size)
    answers, radii = certify(oracle, x, claim.smoothing, streams, y=y, progress=progress)
    correct = accuracy_at(answers, radii, y, 0.0)
    held = accuracy_at(answers, radii, y, claim.eps)
    return Proof(
        correct=correct.cpu(),
        held=held.cpu(),
        reach=torch.where(correct, radii, torch.zeros_like(radii)).cpu(),
        by_method=(("smoothing", int(held.sum()), time.perf_counter() - began),),
        passes=oracle.passes,
    )


class _MeanAnswer(nn.Module):
    """The mean of the model's probabilities over noise that is the same for every image.

    What an attack climbs instead of votes, which have no gradient (https://arxiv.org/abs/1906.04584).
    """

    noise: Tensor

    def __init__(
        self, model: nn.Module, noise: Float[Tensor, "copies channels height width"]
    ) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("noise", noise)

    def forward(self, x: Images) -> Logits:
        noisy = (x[:, None] + self.noise).flatten(0, 1)
        shares: Tensor = self.model(noisy).softmax(1).view(len(x), len(self.noise), -1).mean(1)
        return shares.clamp_min(1e-12).log()


def attack_smoothed(
    run: Callable[..., Evaluation],
    model: Loaded,
    x: Images,
    y: Labels,
    proof: Proof,
    claim: Claim,
    batch_size: int,
    seed: int,
    streams: Streams,
) -> tuple[Evaluation, Bool[Tensor, " n"]]:
    """The attack on the mean answer, and which points the smoothed classifier still gets right.

    A point falls when the votes on the moved image are surely for another class. More certified points
    that fall than chance allows are a contradiction; those that chance allows are not counted.
    """
    plan = claim.smoothing
    assert plan is not None
    like = x[:1, None].expand(-1, _COPIES, *x.shape[1:])
    noise = plan.sigma * Streams.of(seed, "mean answer", [0]).normal(like, "noise")[0]
    mean_answer = _MeanAnswer(model.module, noise)
    batch_size = max(1, batch_size // _COPIES)
    attacked = run(mean_answer, x, y, collect=True, search=Search(batch_size=batch_size))
    assert attacked.adversarial is not None
    with frozen(model.module):
        oracle = Oracle(model.module, batch_size=batch_size)
        deeper = _deeper(mean_answer, x, y, attacked.adversarial.to(x), claim, batch_size)
        answers = predict(oracle, deeper, plan, streams, tag="attacked")
    fell = ((answers != y) & (answers != ABSTAIN)).cpu()
    allowed = wrong_at_most(2 * int(proof.held.sum()), plan.alpha, 1 - 1e-6)
    if int((proof.held & fell).sum()) > allowed:
        sandwich(proof.held, ~fell)
    return attacked, proof.correct & ~fell


def _deeper(
    model: nn.Module, x: Images, y: Labels, moved: Images, claim: Claim, batch_size: int
) -> Images:
    """On from where an attack stopped: it stops as soon as the answer turns, where votes are split."""
    ball, oracle = BALLS[claim.norm], Oracle(model, batch_size=batch_size)

    def loss(logits: Logits, rows: slice) -> Loss:
        return cross_entropy(logits, y[rows])

    for _ in range(_DEEPER):
        _, _, gradient = ascent(oracle, moved, loss)
        moved = ball.project(x, moved + claim.eps / 4 * ball.steepest(gradient), claim.eps)
    return moved
