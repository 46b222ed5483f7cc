"""Protective noise: pictures moved inside a small ball until recognisers no longer recognise them.

The attack engine the other way round. Several recognisers, and several things that may be done to a
picture before they see it, are one model for the attack: it answers the picture's class for as long
as one of them does, and its gradient is that of their mean log-probabilities, weighted towards those
that still recognise it (the mean: https://arxiv.org/abs/1710.06081, section 3.2; over
transformations, https://arxiv.org/abs/1707.07397; the weights are ours).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from assaymark.reports.errors import InputError
from assaymark.robustness import catalogue
from assaymark.robustness.balls import BALLS
from assaymark.robustness.evaluate import frozen
from assaymark.robustness.losses import margin
from assaymark.robustness.oracle import Oracle, logits_of
from assaymark.robustness.shard import finite
from assaymark.robustness.streams import Streams
from assaymark.robustness.transforms import BitDepth, Transform
from assaymark.robustness.types import Attack, Images, Labels, Logits, Model, Norm

LEVELS = 255
"""Steps of 8 bits between black and white."""
_FUZZ = 1e-3
"""Of one step: what float32 may lose on the way to the edge of a ball."""
USUAL: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("mi-fgsm", {"steps": 20, "until_fooled": False}),
    ("standard", {}),
)
"""A walk that goes to the edge of the ball, for the sake of recognisers that are not asked; then, for
what is still recognised, a suite that looks towards each other class."""


@dataclass(frozen=True, eq=False)
class View:
    """One way a picture is seen: a recogniser, behind what was done to the picture before."""

    model: Model
    steps: tuple[Transform, ...] = ()

    def __call__(self, x: Images) -> Logits:
        for step in self.steps:
            x = step(x)
        return self.model(x)


class Joint(nn.Module):
    """All views of pictures of one class as one model.

    classes: of each view the class that the pictures have. alike: whether all views have the same
    classes; then the weighted mean of their log-probabilities is answered, else that of "the class" and
    "another one". The class itself is raised so far that it wins exactly while a view recognises it;
    that has no gradient.
    """

    def __init__(self, views: Sequence[View], classes: Sequence[int], *, alike: bool) -> None:
        super().__init__()
        self.views, self.classes, self.alike = tuple(views), tuple(classes), alike
        self.label = self.classes[0] if alike else 0
        """The class of the pictures among the answers of this model."""

    def forward(self, x: Images) -> Logits:
        answers = [
            (view(x).float(), own) for view, own in zip(self.views, self.classes, strict=True)
        ]
        leads = torch.stack([_lead(answer, own) for answer, own in answers]).detach()
        shares = [(answer.log_softmax(1), own) for answer, own in answers]
        each = torch.stack([s if self.alike else _odds(s, own) for s, own in shares])
        # an even mean would go on where most is won already, and leave the last view standing
        mean = (leads.softmax(0)[:, :, None] * each).sum(0)
        lift = leads.amax(0) - _lead(mean.detach(), self.label)
        own = torch.zeros_like(mean[0])
        own[self.label] = 1
        return mean + own * lift[:, None]


def _lead(logits: Logits, own: int) -> Float[Tensor, " batch"]:
    """How far one class is ahead of all others."""
    return -margin(logits, torch.full((len(logits),), own, device=logits.device))


def _odds(shares: Logits, own: int) -> Float[Tensor, "batch 2"]:
    """Log-probabilities of a class and of all others together."""
    others = torch.cat([shares[:, :own], shares[:, own + 1 :]], 1).logsumexp(1)
    return torch.stack([shares[:, own], others], 1)


def protect(
    images: Images,
    models: Sequence[Model],
    *,
    labels: Labels | None = None,
    eps: float = 8 / 255,
    norm: Norm = "linf",
    attacks: Mapping[str, Attack] | None = None,
    survive: Sequence[Transform] = (),
    written: Transform | None = None,
    keys: Sequence[int] | None = None,
    seed: int = 0,
    batch_size: int = 250,
) -> Images:
    """The pictures with noise that keeps the models from recognising them, on the grid of 8 bits.

    images: n×C×H×W on the grid of 8 bits. models: images of that size to logits; each of them shall
    no longer answer the label, or without labels what it answers to the picture itself. attacks: tried
    in this order on what is still recognised, by default `USUAL`. survive: what may be done to
    the picture without any model recognising it again. written: what writing a file does to it.
    keys: one number a picture, which chooses its random numbers. A picture that cannot be protected is
    returned as near to it as was found. Raises InputError for a radius below one step of 8 bits, for one
    in which every picture can become plain grey, and for images beside the grid.
    """
    if not models:
        raise InputError("there is no model to protect the pictures from: name at least one")
    radius = grid_radius(eps, norm, images[:1].numel())
    if len(images) and not torch.equal(on_grid(images), images):
        raise InputError(
            "the pictures are not on the grid of 8 bits: round them with on_grid first"
        )
    tried = catalogue.build(USUAL, norm) if attacks is None else attacks
    # the search sees what 8 bits leave of a picture, so that a fall is one of the file
    before = (BitDepth(8), *(() if written is None else (written,)))
    views = [
        View(model, (*before, *step)) for step in ((), *((s,) for s in survive)) for model in models
    ]
    numbers = list(range(len(images))) if keys is None else list(keys)
    streams = Streams.of(seed, "protect", numbers)
    best = images.clone()
    with ExitStack() as stack:
        for model in models:
            stack.enter_context(frozen(model))
        torch.manual_seed(seed)  # for models that answer at random
        clean = [finite(logits_of(Oracle(model, batch_size), images)) for model in models]
        own = torch.stack([a.argmax(1) if labels is None else labels for a in clean], 1)
        same = len({answer.shape[1] for answer in clean}) == 1
        for rows, classes in _groups(own, together=len(views) == 1):
            alike = same and len(set(classes)) == 1
            joint = Joint(views, classes * (1 + len(survive)), alike=alike)
            y = own[rows, 0] if alike else torch.zeros_like(rows)
            best[rows] = _conceal(
                Oracle(joint if len(views) > 1 else views[0], batch_size), images[rows], y, tried,
                radius, norm, streams.select(rows.cpu()),
            )  # fmt: skip
    return best


def _groups(own: Int[Tensor, "n models"], *, together: bool) -> Iterator[tuple[Tensor, list[int]]]:
    """Which pictures are searched at once, and their classes: one view alone knows any class by itself."""
    if together:
        if len(own):
            yield torch.arange(len(own), device=own.device), own[0].tolist()
        return
    for classes in torch.unique(own, dim=0):
        yield (own == classes).all(1).nonzero().flatten(), classes.tolist()


def _conceal(
    model: Oracle,
    x: Images,
    y: Labels,
    attacks: Mapping[str, Attack],
    eps: float,
    norm: Norm,
    streams: Streams,
) -> Images:
    """The pictures after all attacks; those that worked leave after the one that did."""
    best, least = x.clone(), -margin(finite(logits_of(model, x)), y)
    standing = torch.ones(len(x), dtype=torch.bool, device=x.device)
    for attack in attacks.values():
        places = standing.nonzero().flatten()
        if not len(places):
            break
        moved = attack(
            model, x[places], y[places], eps=eps, norm=norm, targeted=False,
            streams=streams.select(places.cpu()),
        )  # fmt: skip
        found = quantise(x[places], moved.detach().to(x), eps, norm)
        lead = -margin(finite(logits_of(model, found)), y[places])
        # what no view recognised before is moved as well, for the sake of other recognisers
        better = (lead < least[places]) | (lead < 0)
        best[places[better]], least[places[better]] = found[better], lead[better]
        standing[places] = least[places] >= 0
    return best


def grid_radius(eps: float, norm: Norm, size: int) -> float:
    """The radius as the grid of 8 bits has it; raises InputError where no or every picture lies in it."""
    least = 1 / LEVELS
    usual = '"8/255"' if norm == "linf" else f"{8 / 255 * math.sqrt(size):.2g}"
    if not eps * LEVELS >= 1 - _FUZZ:
        raise InputError(
            f"eps = {eps:g} is below one step of 8 bits ({least:.4f}): no picture but the original lies "
            f"in that ball; try eps = {usual}"
        )
    most = 0.5 if norm == "linf" else 0.5 * math.sqrt(size)
    if not eps < most:
        raise InputError(
            f"eps = {eps:g} reaches mid-grey from every colour (from {most:g} on), so that people could "
            f"not read the picture either; try eps = {usual}"
        )
    return math.floor(eps * LEVELS + _FUZZ) / LEVELS if norm == "linf" else eps


def on_grid(images: Float[Tensor, "*image"]) -> Float[Tensor, "*image"]:
    """The nearest values that 8 bits can hold, as float32."""
    return (images.clamp(0, 1) * LEVELS).round().float() / LEVELS


def quantise(x: Images, moved: Images, eps: float, norm: Norm) -> Images:
    """`moved` on the grid of 8 bits and inside the ball around x, which lies on the grid itself.

    In L∞ each value goes to the nearest step in the ball. In L2 each goes towards the original first,
    which cannot leave the ball; then those with the most left go up again while the ball has room.
    """
    origin = (x.double() * LEVELS).round()
    delta = (moved.double().clamp(0, 1) * LEVELS - origin).flatten(1)
    if norm == "linf":
        most = math.floor(eps * LEVELS + _FUZZ)
        steps = delta.round().clamp(-most, most)
    else:
        low = delta.abs().floor()
        rest = delta.abs() - low
        order = rest.argsort(dim=1, descending=True, stable=True)
        price = (2 * low + 1).gather(1, order)
        room = (eps * LEVELS) ** 2 - low.square().sum(1, keepdim=True)
        up = (price.cumsum(1) <= room) & (rest.gather(1, order) >= 0.5)
        steps = (low + torch.zeros_like(low).scatter(1, order, up.double())) * delta.sign()
    return ((origin + steps.view_as(x)).clamp(0, LEVELS) / LEVELS).to(x.dtype)


def inside(x: Images, moved: Images, eps: float, norm: Norm) -> Bool[Tensor, " batch"]:
    """Whether 8-bit pictures lie in the ball; distances are those of whole steps."""
    steps = ((moved - x).double() * LEVELS).round() / LEVELS
    return BALLS[norm].distance(steps) <= eps * (1 + 1e-9)
