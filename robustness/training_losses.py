"""What adversarial training minimises: one generator of losses a method.

A method is given a batch and yields a loss; before it is asked for the next one, the trainer has
taken the gradient and a step. Inner attacks keep going after a point has fallen, unlike the attacks
that measure: training wants the worst point, not the first.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from assaymark.robustness.balls import Ball
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Images, Labels, Logits, Model

Scalar = Float[Tensor, ""]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A batch with all that a method may use.

    network answers in training mode, `steady` in evaluation mode. step in pixel units. carried: what
    one batch hands to the next.
    """

    network: Model
    steady: Model
    x: Images
    y: Labels
    streams: Streams
    ball: Ball
    eps: float
    steps: int
    step: float
    beta: float
    replays: int
    carried: dict[str, Tensor]


Method = Callable[[Batch], Iterator[Scalar]]


def standard(batch: Batch) -> Iterator[Scalar]:
    """Cross-entropy of the images as they are."""
    yield cross_entropy(batch.network(batch.x), batch.y)


def pgd_at(batch: Batch) -> Iterator[Scalar]:
    """Cross-entropy of PGD's images (https://arxiv.org/abs/1706.06083, section 2.1)."""
    moved = _climb(
        batch.network, batch, _random_start(batch), lambda logits: cross_entropy(logits, batch.y)
    )
    yield cross_entropy(batch.network(moved), batch.y)


def trades(batch: Batch) -> Iterator[Scalar]:
    """Cross-entropy of the image, and beta times how far the answer moves (arXiv 1901.08573, (5))."""
    with torch.no_grad():
        before = log_softmax(batch.steady(batch.x), 1)

    def shift(logits: Logits) -> Tensor:
        return _divergence(before, log_softmax(logits, 1))

    start = batch.x + 0.001 * batch.streams.normal(batch.x, "start")
    moved = _climb(batch.steady, batch, start, shift)
    logits = batch.network(batch.x)
    away = _divergence(log_softmax(logits, 1), log_softmax(batch.network(moved), 1))
    yield cross_entropy(logits, batch.y) + batch.beta * away


def fast_at(batch: Batch) -> Iterator[Scalar]:
    """One step of 1.25 eps from a random start (https://arxiv.org/abs/2001.03994, algorithm 3)."""
    moved = _climb(
        batch.network,
        batch,
        _random_start(batch),
        lambda logits: cross_entropy(logits, batch.y),
        steps=1,
        step=1.25 * batch.eps,
    )
    yield cross_entropy(batch.network(moved), batch.y)


def free(batch: Batch) -> Iterator[Scalar]:
    """Each gradient moves the weights and the images, `replays` times (arXiv 1904.12843, algorithm 1).

    The change is handed from batch to batch.
    """
    delta = batch.carried.get("delta", torch.zeros_like(batch.x))
    if len(delta) < len(batch.x):
        delta = torch.cat([delta, torch.zeros_like(batch.x[len(delta) :])])
    for _ in range(batch.replays):
        change = delta[: len(batch.x)].detach().requires_grad_()
        yield cross_entropy(batch.network((batch.x + change).clamp(0, 1)), batch.y)
        assert change.grad is not None  # the trainer's backward pass reaches it too
        up = change.detach() + batch.eps * batch.ball.steepest(change.grad)
        inside = batch.ball.project(batch.x, batch.x + up, batch.eps) - batch.x
        delta = torch.cat([inside, delta[len(batch.x) :]])
    batch.carried["delta"] = delta.detach()


@dataclass(frozen=True, kw_only=True)
class MethodCard:
    """A training method with what a reader of the list wants to know."""

    losses: Method
    paper: str


METHODS: dict[str, MethodCard] = {
    "standard": MethodCard(losses=standard, paper="cross-entropy"),
    "pgd-at": MethodCard(losses=pgd_at, paper="Madry et al. 2018, arXiv 1706.06083"),
    "trades": MethodCard(losses=trades, paper="Zhang et al. 2019, arXiv 1901.08573"),
    "fast-at": MethodCard(losses=fast_at, paper="Wong et al. 2020, arXiv 2001.03994"),
    "free": MethodCard(losses=free, paper="Shafahi et al. 2019, arXiv 1904.12843"),
}


def _random_start(batch: Batch) -> Images:
    noise = batch.ball.random(batch.x, batch.eps, batch.streams, "start")
    return batch.ball.project(batch.x, batch.x + noise, batch.eps)


def _climb(
    network: Model,
    batch: Batch,
    start: Images,
    loss: Callable[[Logits], Tensor],
    *,
    steps: int | None = None,
    step: float | None = None,
) -> Images:
    here = start
    for _ in range(batch.steps if steps is None else steps):
        part = here.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(network(part)), part)
        up = here + (batch.step if step is None else step) * batch.ball.steepest(gradient)
        here = batch.ball.project(batch.x, up, batch.eps)
    return here.detach()


def _divergence(
    before: Float[Tensor, "batch classes"], after: Float[Tensor, "batch classes"]
) -> Tensor:
    """Kullback–Leibler divergence of log-probabilities, on average over the batch."""
    return kl_div(after, before, reduction="batchmean", log_target=True)
