"""Attacks made to carry over to another model: momentum, look-ahead, copies, diversity, smoothing.

One walk with hooks; every published method is a setting of it (`functools.partial`), and settings
can be combined.
"""

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from jaxtyping import Bool
from torch import Tensor
from torch.nn.functional import conv2d, grid_sample

from assaymark.reports.errors import InputError
from assaymark.robustness.balls import BALLS, per_image, project
from assaymark.robustness.evaluate import frozen
from assaymark.robustness.losses import Loss, fooled, log_odds
from assaymark.robustness.oracle import Oracle, Passes, ascent, leaves, logits_of
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Attack, Images, Labels, Logits, Model, Norm

_TINY = 1e-12
_SIGMAS = 3.0
"""Where a smoothing kernel ends, in standard deviations."""


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """What is done to a gradient on its way; the words are those of `momentum_walk`."""

    scales: int
    diversity: float
    resize: float
    kernel: int

    def __post_init__(self) -> None:
        if self.scales < 1:
            raise ValueError(f"scales must be at least 1, got {self.scales}")
        if not (0 <= self.diversity <= 1 and 0 < self.resize <= 1):
            raise ValueError(
                f"diversity must lie in [0, 1] and resize in (0, 1], got {self.diversity} and "
                f"{self.resize}"
            )
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(f"kernel must be an odd number of pixels, got {self.kernel}")


def momentum_walk(
    model: Model,
    x: Images,
    y: Labels,
    *,
    eps: float,
    norm: Norm = "linf",
    targeted: bool = False,
    streams: Streams | None = None,
    steps: int = 10,
    step_size: float | None = None,
    decay: float = 1.0,
    look_ahead: bool = False,
    scales: int = 1,
    diversity: float = 0.0,
    resize: float = 0.9,
    kernel: int = 1,
    neighbours: int = 0,
    reach: float = 1.5,
    until_fooled: bool = True,
) -> Images:
    """Steps along gradients that add up, so that they do not end in a corner of one model alone.

    The loss is the logarithm of the odds, which points where the cross-entropy does and does not vanish.

    decay: how much of the sum is kept (MI-FGSM, https://arxiv.org/abs/1710.06081, algorithm 1).
    look_ahead: the gradient is taken where the sum leads (NI-FGSM, https://arxiv.org/abs/1908.06281,
    equation 6). scales: over how many copies, each half as bright as the one before, the gradient is
    averaged (SI-NI-FGSM, the same, equation 8). diversity, resize: the chance that an image is shrunk,
    to no less than that share of its sides, and padded with 0 before it is asked about (DI-FGSM,
    https://arxiv.org/abs/1803.06978, section 3.2). kernel: the odd width in pixels of the Gaussian
    that smooths the gradient (TI-FGSM, https://arxiv.org/abs/1904.02884, equation 7); 15 suits images of
    299 pixels, small ones need less. neighbours, reach: the gradients at so many points within
    reach · eps in every value correct the next step (VMI-FGSM, https://arxiv.org/abs/2103.15571,
    algorithm 1). step_size in pixel units, by default eps / steps.

    A step costs scales · (1 + neighbours) passes forward and as many backward, the last one none for
    neighbours. A point leaves when it fools `model`, which costs a forward pass more a step where the
    gradient is not taken at the point itself; without `until_fooled`, and of a model of which no point
    leaves (`oracle.leaves`), it walks on and goes further.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    step = eps / steps if step_size is None else step_size
    if not 0 <= step < math.inf:
        raise ValueError(f"step_size must be a number of at least 0, got {step_size}")
    if neighbours < 0:
        raise ValueError(f"neighbours must be at least 0, got {neighbours}")
    hooks = Hooks(scales=scales, diversity=diversity, resize=resize, kernel=kernel)
    ball = BALLS[norm]
    streams = streams or Streams.of(0, "momentum", list(range(len(x))))
    until_fooled = until_fooled and leaves(model)
    end = x.clone()
    active = torch.arange(len(x), device=x.device)
    walk = _Walk(here=x, origin=x, y=y, total=torch.zeros_like(x), correction=torch.zeros_like(x))
    direct = not look_ahead and scales == 1 and diversity == 0
    for number in range(steps):
        if not direct and until_fooled and number:
            stay = ~fooled(logits_of(model, walk.here), walk.y, targeted=targeted)
            end[active[~stay]] = walk.here[~stay]
            active, walk, streams = active[stay], walk.select(stay), streams.select(stay)
        at = walk.here + step * decay * walk.total if look_ahead else walk.here
        climb = partial(_gradient, model, y=walk.y, targeted=targeted, hooks=hooks, streams=streams)
        logits, gradient = climb(at, tag=f"momentum/{number}")
        correction = torch.zeros_like(gradient)
        if neighbours and number < steps - 1:
            for neighbour in range(neighbours):
                tag = f"momentum/{number}/{neighbour}"
                away = (2 * streams.uniform(at, f"{tag}/away") - 1) * reach * eps
                correction += climb(at + away, tag=tag)[1] / neighbours
            correction -= gradient
        total = decay * walk.total + _evened(gradient + walk.correction, norm)
        here = project(walk.origin, walk.here + step * ball.steepest(total), eps, ball)
        if direct and until_fooled:
            # the logits came with the gradient: they are of the point before this step
            stay = ~fooled(logits, walk.y, targeted=targeted)
            end[active[~stay]] = walk.here[~stay]
        else:
            stay = torch.ones_like(active, dtype=torch.bool)
        walk = replace(walk, here=here, total=total, correction=correction).select(stay)
        active, streams = active[stay], streams.select(stay)
        if not len(active):
            return end
    end[active] = walk.here
    return end


@dataclass(frozen=True, kw_only=True)
class _Walk:
    """What is known of the points that still stand."""

    here: Images
    origin: Images
    y: Labels
    total: Images
    correction: Images

    def select(self, stay: Bool[Tensor, " batch"]) -> "_Walk":
        return self if bool(stay.all()) else _Walk(**{k: v[stay] for k, v in vars(self).items()})


def _evened(gradient: Images, norm: Norm) -> Images:
    """Gradients of one size, so that early and late ones count alike in a sum.

    In L∞ a value is 1 on average and in L2 the image is of length 1: a sum leads as far as a step.
    """
    size = gradient.flatten(1).abs().mean(1) if norm == "linf" else BALLS[norm].distance(gradient)
    return gradient / per_image(size.clamp_min(_TINY))


def _gradient(
    model: Model,
    at: Images,
    *,
    y: Labels,
    targeted: bool,
    hooks: Hooks,
    streams: Streams,
    tag: str,
) -> tuple[Logits, Images]:
    """Logits of what was asked first, and the gradient with respect to `at` after all hooks."""
    sign = -1 if targeted else 1
    first, total = None, torch.zeros_like(at)

    def loss(logits: Logits, rows: slice) -> Loss:
        return sign * log_odds(logits, y[rows])

    for copy in range(hooks.scales):
        with torch.enable_grad():
            leaf = at.detach().requires_grad_()
            shown = leaf if copy == 0 else leaf / 2**copy
            if hooks.diversity:
                shown = shrink(shown, hooks.diversity, hooks.resize, streams, f"{tag}/{copy}")
        logits, _, gradient = ascent(model, shown.detach(), loss)
        if shown is not leaf:
            (gradient,) = torch.autograd.grad(shown, leaf, gradient)
        first = logits if first is None else first
        total = total + gradient / hooks.scales
    assert first is not None
    return first, smooth(total, hooks.kernel)


def shrink(x: Images, chance: float, least: float, streams: Streams, tag: str) -> Images:
    """With some chance, the image made smaller and padded with 0; each its own size and place.

    least in (0, 1]: the smallest share of either side. Bilinear, and differentiable.
    """
    n, _, height, width = x.shape
    drawn = streams.uniform(x.new_empty(n, 4), tag)
    axes, inside = [], []
    for side, place in ((height, drawn[:, 1]), (width, drawn[:, 2])):
        smallest = max(math.floor(least * side), 1)
        size = side - (drawn[:, 0] * (side - smallest + 1)).floor()
        begin = (place * (side - size + 1)).floor()
        share = (torch.arange(side, device=x.device) - begin[:, None] + 0.5) / size[:, None]
        axes.append(2 * share - 1)
        inside.append((share > 0) & (share < 1))
    grid = torch.stack(
        [axes[1][:, None].expand(n, height, width), axes[0][:, :, None].expand(n, height, width)], 3
    )
    small = grid_sample(x, grid, padding_mode="border", align_corners=False)
    mask = (inside[0][:, :, None] & inside[1][:, None])[:, None]
    return torch.where(per_image(drawn[:, 3] < chance), small * mask, x)


def smooth(gradient: Images, width: int) -> Images:
    """Each channel blurred with a Gaussian that ends at three standard deviations."""
    if width == 1:
        return gradient
    channels = gradient.shape[1]
    row = torch.exp(-torch.linspace(-_SIGMAS, _SIGMAS, width).square() / 2)
    row = (row / row.sum()).to(gradient).expand(channels, 1, 1, width)
    across = conv2d(gradient, row, padding=(0, width // 2), groups=channels)
    return conv2d(across, row.transpose(2, 3), padding=(width // 2, 0), groups=channels)


mi_fgsm = momentum_walk
ni_fgsm = partial(momentum_walk, look_ahead=True)
si_ni_fgsm = partial(momentum_walk, look_ahead=True, scales=5)
di_fgsm = partial(momentum_walk, diversity=0.5)
ti_fgsm = partial(momentum_walk, decay=0.0, kernel=15)
vmi_fgsm = partial(momentum_walk, neighbours=20)


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Several models as one: the mean of their logits, or the logarithm of their mean probability.

    Raises InputError when they answer different numbers of classes.
    """

    members: Sequence[Model]
    average: Literal["logits", "probabilities"] = "logits"

    def __call__(self, x: Images) -> Logits:
        answers = [member(x).float() for member in self.members]
        classes = {answer.shape[1] for answer in answers}
        if len(classes) > 1:
            raise InputError(
                f"the surrogates answer {', '.join(map(str, sorted(classes)))} classes: expected the "
                "classes of the attacked model from each of them"
            )
        if self.average == "logits":
            return torch.stack(answers).mean(0)
        shares = torch.stack([answer.log_softmax(1) for answer in answers])
        return shares.logsumexp(0) - math.log(len(answers))


def transfer(
    surrogates: Sequence[Model],
    attack: Attack | None = None,
    *,
    average: Literal["logits", "probabilities"] = "logits",
    samples: int = 1,
    passes: Passes | None = None,
) -> Attack:
    """An attack that is made on surrogates and never asks the attacked model itself.

    surrogates: models with the same classes, on the device of the images. attack: what is run on them,
    by default `mi_fgsm` (https://arxiv.org/abs/1710.06081, section 3.2, for the mean of logits or of
    probabilities); walks go on after they fool the surrogates. samples: as of `Oracle`, for surrogates
    that answer at random. passes: where passes through surrogates are counted, which are none of the
    attacked model. Raises ValueError without a surrogate.
    """
    if not surrogates:
        raise ValueError("a transfer attack needs at least one surrogate model, got none")
    made = attack or mi_fgsm
    ensemble = Ensemble(tuple(surrogates), average)
    counted = passes or Passes()

    def run(
        model: Model,
        x: Images,
        y: Labels,
        *,
        eps: float,
        norm: Norm,
        targeted: bool = False,
        streams: Streams | None = None,
    ) -> Images:
        asked = model if isinstance(model, Oracle) else Oracle(model)
        asked = replace(
            asked, model=ensemble, samples=samples, random=False, carries=True, passes=counted
        )
        with ExitStack() as stack:
            for surrogate in surrogates:
                stack.enter_context(frozen(surrogate))
            return made(asked, x, y, eps=eps, norm=norm, targeted=targeted, streams=streams)

    return run
