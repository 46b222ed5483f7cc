"""PGD for models that answer at random: no point leaves because of one lucky answer."""

import math

from assaymark.robustness.balls import BALLS, project
from assaymark.robustness.losses import Loss, damped_cross_entropy
from assaymark.robustness.oracle import ascent
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Images, Labels, Logits, Model, Norm


def eot_pgd(
    model: Model,
    x: Images,
    y: Labels,
    *,
    eps: float,
    norm: Norm = "linf",
    targeted: bool = False,
    streams: Streams | None = None,
    steps: int = 40,
    step_size: float | None = None,
) -> Images:
    """PGD that takes all of its steps (https://arxiv.org/abs/1707.07397, section 2; 1802.00420, 4.2).

    Where answers are random, the first wrong one only says that the point is near the boundary: who
    stops there is asked again, and stands. The model averages its passes itself, as
    `defended.adaptive` and `Smoothed` do. steps ≥ 1; step_size in pixel units, by default
    2.5 · eps / steps.
    """
    step = 2.5 * eps / max(steps, 1) if step_size is None else step_size
    if steps < 1 or not 0 < step < math.inf:
        raise ValueError(f"steps and step_size must be above 0, got {steps} and {step_size}")
    if not len(x):
        return x.clone()
    ball = BALLS[norm]
    sign = -1 if targeted else 1
    streams = streams or Streams.of(0, "eot-pgd", list(range(len(x))))
    here = project(x, x + ball.random(x, eps, streams, "eot-pgd"), eps, ball)

    def loss(logits: Logits, rows: slice) -> Loss:
        return sign * damped_cross_entropy(logits, y[rows])

    for _ in range(steps):
        _, _, gradient = ascent(model, here, loss)
        here = project(x, here + step * ball.steepest(gradient), eps, ball)
    return here
