"""Signs that a model which only answers misleads attacks, as far as answers show them.

What is measured without a gradient: the same image asked twice, scores that leave no room, and changes
too small to matter that do not show at all (https://arxiv.org/abs/1902.06705, section 5).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from assaymark.robustness.masking import POINTS, Masking, Sign
from assaymark.robustness.models import Loaded
from assaymark.robustness.oracle import Oracle, logits_of
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Images, Logits

_LEAST = 4
"""Points below which nothing is measured."""
_SHARE = 0.05
"""Of the queries that answers to the images leave over, how much may go into signs."""
_SAME = 1e-3
_VALUES = 4
_STEP = 1 / 255
_MANY = 0.5
_SOME = 0.1
_TINY = torch.finfo(torch.float32).tiny
_LEAD = 80.0
"""In logarithms of probabilities: 1e-35, next to nothing in float32."""
_WHAT = "signs that attacks on answers are misled"


def affordable(model: Loaded, images: int) -> int:
    """How many points the query budget pays for, beside one answer to each of `images`."""
    if model.budget is None or model.budget.total is None:
        return min(POINTS, images)
    spare = _SHARE * (model.budget.left - images)
    points = min(POINTS, images, int(spare // queries_a_point(model)))
    return points if points >= min(_LEAST, images) else 0


def queries_a_point(model: Loaded) -> int:
    """Two of the image as it is, and of scores one beside it."""
    return 2 if model.access == "labels" else 3


def examine_answers(
    model: Loaded, images: Images, *, batch_size: int, streams: Streams, total: int
) -> Masking:
    """Signs on the first points that the budget pays for; what was not measured is said.

    images: candidates, on the model's device; total: how many images the attacks will be tried on.
    Each point costs `queries_a_point` queries.
    """
    points = min(affordable(model, total), len(images))
    if not points:
        return Masking(
            signs=(),
            untested=(
                "whether the model's answers mislead attacks: the queries allowed did not pay for it",
            ),
        )
    x, streams = images[:points], streams.select(torch.arange(points))
    oracle = Oracle(model.module, batch_size=batch_size)
    first, again = logits_of(oracle, x), logits_of(oracle, x)
    signs = [_changing(first, again)]
    untested = ["gradients of the model, which may be hidden: its answers do not show them"]
    if model.access == "labels":
        untested.append("whether the model rounds its scores or its images: only labels are seen")
    else:
        signs += [
            _saturated(first),
            _deaf(lambda moved: logits_of(oracle, moved), x, first, streams),
        ]
    return Masking(
        signs=tuple(signs), untested=tuple(untested), queries=oracle.passes.forward, what=_WHAT
    )


def _changing(first: Logits, again: Logits) -> Sign:
    spread = (first.amax(1) - first.amin(1)).clamp_min(1e-12)
    moved = int(((again - first).abs().amax(1) / spread > _SAME).sum())
    return Sign(
        name="answers change from query to query",
        found=moved > 0,
        measured=f"{moved} of {len(first)} images get another answer when they are asked about twice",
    )


def _saturated(first: Logits) -> Sign:
    """Probabilities whose runner-up is 0 do not say which way leads out."""
    exact = first.double()
    shaped = bool((exact >= 0).all()) and _ones(exact.sum(1))
    logs = exact.clamp_min(_TINY).log() if shaped else exact
    shaped |= _ones(exact.exp().sum(1))  # a black box's probabilities come as their logarithms
    top = logs.topk(2, 1).values
    flat = int((top[:, 0] - top[:, 1] > _LEAD).sum()) if shaped else 0
    return Sign(
        name="saturated scores",
        found=flat > _SOME * len(first),
        measured=f"answers {'are' if shaped else 'are no'} probabilities; in {flat} of {len(first)} every "
        "class but one has none that counts",
    )


def _ones(sums: Tensor) -> bool:
    return bool(((sums - 1).abs() < 1e-3).all())


def _deaf(ask: Callable[[Images], Logits], x: Images, first: Logits, streams: Streams) -> Sign:
    """A few values changed by one 8-bit step: who rounds pixels or scores answers as before."""
    moved = _nudged(x, streams)
    still = int((ask(moved) == first).all(1).sum())
    return Sign(
        name="small changes do not show",
        found=still > _MANY * len(x),
        measured=f"{still} of {len(x)} answers stay the same to the last digit when {_VALUES} values "
        "change by one 8-bit step",
    )


def _nudged(x: Images, streams: Streams) -> Tensor:
    flat = x.flatten(1)
    places = streams.uniform(flat, "answers/places").topk(min(_VALUES, flat.shape[1]), 1).indices
    old = flat.gather(1, places)
    step = torch.where(old > 0.5, -_STEP, _STEP)
    return flat.scatter(1, places, old + step).view_as(x)
