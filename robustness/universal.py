"""One perturbation for every image: small enough to be overlooked, learned from training images."""

import math

from jaxtyping import Float
from torch import Tensor

from assaymark.robustness.balls import BALLS, exactly
from assaymark.robustness.losses import Loss
from assaymark.robustness.patches import batch_of
from assaymark.robustness.scene_types import Change, Learned, ascend, at_least, shortfall
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Images, Labels, Logits, Model

Perturbation = Float[Tensor, "1 channels height width"]
_TINY = 1e-12


def universal(
    model: Model,
    x: Images,
    y: Labels,
    *,
    targeted: bool = False,
    streams: Streams | None = None,
    norm: str = "linf",
    eps: float = 8 / 255,
    steps: int = 300,
    batch: int = 64,
) -> Learned:
    """A universal perturbation by projected gradient over batches (https://arxiv.org/abs/1811.11304, 3).

    norm: linf or l2. eps: its radius with pixels in [0, 1]. steps of `batch` images each, of length
    falling from eps / 5 to eps / 100. The control is a random point on the surface of the ball.
    """
    if norm not in ("linf", "l2"):
        raise ValueError(f"norm must be linf or l2, got {norm!r}")
    at_least("eps", eps, _TINY, 1 if norm == "linf" else math.inf)
    at_least("steps", steps, 1)
    at_least("batch", batch, 1)
    streams = streams or Streams.of(0, "universal", list(range(len(x))))
    delta = x.new_zeros(1, *x.shape[1:])
    for step in range(steps if len(x) else 0):
        rows = batch_of(x, streams, batch, step, "universal")
        part, goal = x[rows], y[rows]

        def loss(logits: Logits, some: slice, goal: Labels = goal) -> Loss:
            return shortfall(logits, goal[some], targeted=targeted)

        def render(delta: Tensor, part: Images = part) -> Images:
            return (part + delta).clamp(0, 1)

        _, _, gradient = ascend(model, render, delta, loss)
        length = eps / 5 * (1 / 20) ** (step / max(steps - 1, 1))
        ball = BALLS["linf"] if norm == "linf" else BALLS["l2"]
        delta = _within(delta - length * ball.steepest(gradient), eps, norm)
    one = Streams.of(0, "universal/control", [0])
    noise = one.normal(delta, "control")
    control = eps * BALLS["linf" if norm == "linf" else "l2"].steepest(noise)
    return Learned(
        pictures={"universal": (0.5 + delta[0] / (2 * float(delta.abs().max()) + _TINY))},
        attack=_Adding(delta),
        control=_Adding(control),
        measures={
            "L∞ of the perturbation": float(delta.abs().max()),
            "L2 of the perturbation": float(exactly(delta).norm()),
        },
    )


class _Adding:
    """The scene that adds one perturbation; it asks no model."""

    def __init__(self, delta: Perturbation) -> None:
        self.delta = delta

    def __call__(
        self,
        model: Model,
        x: Images,
        y: Labels,
        *,
        targeted: bool = False,
        streams: Streams | None = None,
    ) -> Change:
        delta = self.delta.to(x)
        return Change(
            names=(),
            parameters=x.new_zeros(len(x), 0),
            render=lambda part, _: (part + delta).clamp(0, 1),
        )


def _within(delta: Perturbation, eps: float, norm: str) -> Perturbation:
    if norm == "linf":
        return delta.clamp(-eps, eps)
    return delta * (eps / BALLS["l2"].distance(delta).clamp_min(_TINY)).clamp_max(1).view(
        1, 1, 1, 1
    )
