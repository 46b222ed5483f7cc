"""Search over the few numbers of a transformation: a list of candidates, random draws, gradients.

The numbers live in the box [-1, 1]^k, in units of their limits. Worst of a grid and worst of random
draws are those of https://arxiv.org/abs/1712.02779, section 3; the gradient search starts from the
best of them, where that paper's first-order method, which starts at random, gets stuck.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from assaymark.robustness.losses import Loss, fooled
from assaymark.robustness.oracle import Oracle, logits_of
from assaymark.robustness.scene_types import ascend, at_least, chosen, gain
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Images, Labels, Logits, Model

Box = Float[Tensor, "batch numbers"]
_FIRST_STEP, _LAST_STEP = 0.1, 0.005
"""Of the gradient search, in units of the limits."""


def search(
    model: Model,
    x: Images,
    y: Labels,
    render: Callable[[Images, Box], Images],
    candidates: Float[Tensor, "candidates numbers"],
    *,
    draws: int,
    steps: int,
    targeted: bool,
    streams: Streams | None,
    tag: str,
) -> Box:
    """For each image the first numbers that fool, else those that come nearest to it.

    candidates: tried in this order on every image, so put the mildest first; at least one. draws: random
    points of the box afterwards, each image its own. steps: of the gradient search at the end.
    """
    at_least("draws", draws, 0)
    at_least("steps", steps, 0)
    walk = _Walk(model, x, y, render, candidates.shape[1], targeted)
    candidates = candidates.to(x)
    at = 0
    while at < len(candidates) and len(walk.standing):
        # few images still stand: several candidates fit into one pass
        room = model.batch_size if isinstance(model, Oracle) else len(x)
        count = max(1, room // len(walk.standing))
        block = candidates[at : at + count]
        walk.offer(block[:, None].expand(-1, len(walk.standing), -1))
        at += count
    streams = streams or Streams.of(0, tag, list(range(len(x))))
    for draw in range(draws):
        if not len(walk.standing):
            break
        like = walk.best[walk.standing]
        noise = streams.select(walk.standing).uniform(like, f"{tag}/{draw}")
        walk.offer((2 * noise - 1)[None])
    _climb(walk, steps)
    return walk.best


class _Walk:
    """The best numbers so far of every image, and which images still stand."""

    def __init__(
        self,
        model: Model,
        x: Images,
        y: Labels,
        render: Callable[[Images, Box], Images],
        numbers: int,
        targeted: bool,
    ) -> None:
        self.model, self.x, self.y, self.render, self.targeted = model, x, y, render, targeted
        self.best = x.new_zeros(len(x), numbers)
        self.value = x.new_full((len(x),), -torch.inf)
        self.standing = torch.arange(len(x), device=x.device)

    def offer(self, boxes: Float[Tensor, "offers standing numbers"]) -> None:
        """Try several numbers for each standing image; the first that fools ends its search."""
        offers, n = boxes.shape[:2]
        rows = self.standing.repeat(offers)
        moved = self.render(self.x[rows], boxes.reshape(offers * n, -1))
        logits = logits_of(self.model, moved)
        fell = fooled(logits, self.y[rows], targeted=self.targeted).view(offers, n)
        value = gain(logits, self.y[rows], targeted=self.targeted).view(offers, n)
        # the first that fools, else the first of the highest gain: whatever the size of the block
        place = torch.where(fell.any(0), fell.to(value.dtype).argmax(0), value.argmax(0))
        self._take(
            boxes.gather(0, place[None, :, None].expand(1, n, boxes.shape[2]))[0],
            value.gather(0, place[None])[0],
            fell.any(0),
        )

    def _take(self, box: Box, value: Loss, fell: Tensor) -> None:
        better = fell | (value > self.value[self.standing])
        rows = self.standing[better]
        self.best[rows], self.value[rows] = box[better], value[better]
        self.standing = self.standing[~fell]


def _climb(walk: _Walk, steps: int) -> None:
    """Signed steps of falling length up the gain, from the best numbers so far."""
    here = walk.best[walk.standing]
    for i in range(steps):
        if not len(walk.standing):
            return
        goal, x = walk.y[walk.standing], walk.x[walk.standing]

        def loss(logits: Logits, rows: slice, goal: Labels = goal) -> Loss:
            return gain(logits, goal[rows], targeted=walk.targeted)

        def rendered(box: Tensor, x: Images = x) -> Images:
            return walk.render(x, box)

        _, _, gradient = ascend(walk.model, rendered, here, loss)
        length = _FIRST_STEP * (_LAST_STEP / _FIRST_STEP) ** (i / max(steps - 1, 1))
        here = (here + length * gradient.sign()).clamp(-1, 1)
        before = walk.standing
        walk.offer(here[None])
        here = here[_still(before, walk.standing)]


def _still(before: Int[Tensor, " n"], after: Int[Tensor, " m"]) -> Int[Tensor, " m"]:
    return chosen(torch.isin(before, after))
