"""Attacks made on networks at hand and carried over to a model that only answers, or is not opened.

The attacked model is asked to confirm what was found, and nothing else (Papernot et al. 2016,
https://arxiv.org/abs/1605.07277; ensembles: Liu et al. 2017, https://arxiv.org/abs/1611.02770).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from assaymark.reports.errors import InputError
from assaymark.reports.intervals import clopper_pearson
from assaymark.robustness.losses import fooled
from assaymark.robustness.masking import POINTS, Masking, Sign, View, examine
from assaymark.robustness.models import Loaded
from assaymark.robustness.oracle import Oracle, Passes, logits_of
from assaymark.robustness.shard import Search
from assaymark.robustness.streams import Streams
from assaymark.robustness.transfer import Ensemble, transfer
from assaymark.robustness.types import Attack, Images, Labels, Model, Norm

KNOWN = 256
"""On how many images it is measured whether surrogates know the task."""


@dataclass
class Carried:
    """What one attack did to the surrogates: points attacked, how many fooled them, passes."""

    tried: int = 0
    fooled: int = 0
    passes: Passes = field(default_factory=Passes)


@dataclass(frozen=True, kw_only=True)
class Surrogates:
    """Networks that attacks are made on together, by the mean of their logits.

    right: how many of n images each member classifies correctly. view: the ensemble as attacks see it.
    masking: signs that the ensemble misleads attacks; gradient: whether it has one. carried: by
    attack, what it did to them.
    """

    members: tuple[Loaded, ...]
    right: tuple[int, ...]
    n: int
    view: View
    masking: Masking
    gradient: bool
    carried: dict[str, Carried] = field(default_factory=dict)

    def carry(self, name: str, attack: Attack) -> Attack:
        """The attack made on the ensemble; what it did is kept in `carried` under this name."""
        done = self.carried.setdefault(name, Carried())
        made = transfer([self.view.model], attack, samples=self.view.samples, passes=done.passes)

        def run(
            model: Model,
            x: Images,
            y: Labels,
            *,
            eps: float,
            norm: Norm,
            targeted: bool,
            streams: Streams | None,
            queries: int = 0,
        ) -> Images:
            """queries: how many are made to the attacked model: none, whatever is allowed."""
            moved = made(model, x, y, eps=eps, norm=norm, targeted=targeted, streams=streams)
            size = model.batch_size if isinstance(model, Oracle) else max(len(x), 1)
            oracle = Oracle(self.view.model, batch_size=size, passes=done.passes)
            done.tried += len(x)
            done.fooled += int(fooled(logits_of(oracle, moved), y, targeted=targeted).sum())
            return moved

        return run


def gather(
    members: Sequence[Loaded],
    model: Loaded,
    images: Images,
    labels: Labels,
    *,
    search: Search,
    streams: Streams,
) -> Surrogates:
    """The members as one, after a look at whether they know the task and mislead attacks.

    images, labels: some of those that will be attacked, on the members' device. Raises InputError when a
    member has other classes than the attacked model, cannot be followed by its gradient, or when the
    model may reject.
    """
    for member in members:
        _fits(member, model)
    ensemble = Ensemble(tuple(member.module for member in members))
    known = slice(0, KNOWN)
    right = []
    for member in members:
        logits = logits_of(Oracle(member.module, batch_size=search.batch_size), images[known])
        right.append(int((logits.argmax(1) == labels[known]).sum()))
    some = slice(0, 2 * POINTS)
    with torch.random.fork_rng():
        torch.manual_seed(int(streams.keys[0]) if len(streams) else 0)
        masking, view = examine(
            ensemble, images[some], labels[some], batch_size=search.batch_size,
            streams=streams.select(torch.arange(len(images[some]))),
        )  # fmt: skip
    n = len(images[known])
    signs = [replace(sign, name=f"surrogates: {sign.name}") for sign in masking.signs]
    gradient = masking.gradient
    masking = replace(
        masking,
        signs=(_ignorant(members, right, n, model.classes), *signs),
        repairs=tuple(f"of the surrogates, {repair}" for repair in masking.repairs),
    )
    return Surrogates(
        members=tuple(members),
        right=tuple(right),
        n=n,
        view=view,
        masking=masking,
        gradient=gradient,
    )


def _fits(member: Loaded, model: Loaded) -> None:
    if model.rejects or member.rejects:
        raise InputError(
            f"{(model if model.rejects else member).name} may reject, and is attacked with its own "
            "gradients: leave out surrogates"
        )
    if member.access != "white-box":
        raise InputError(
            f"the surrogate {member.name} only answers {member.access}: expected a network, whose "
            "gradient attacks can follow"
        )
    if member.classes != model.classes:
        raise InputError(
            f"the surrogate {member.name} answers {member.classes} classes and {model.name} "
            f"{model.classes}: expected a surrogate with the same classes in the same order"
        )


def _ignorant(members: Sequence[Loaded], right: list[int], n: int, classes: int) -> Sign:
    """Who attacks a network that does not know the task finds nothing, whatever it is carried to."""
    guessing = []
    for member, hits in zip(members, right, strict=True):
        interval = clopper_pearson(hits, n)
        if interval is None or interval.low <= 1 / classes:
            guessing.append(member.name)
    said = "; ".join(
        f"{member.name} {hits} of {n}" for member, hits in zip(members, right, strict=True)
    )
    return Sign(
        name="surrogates that may be guessing",
        found=bool(guessing),
        measured=f"classified correctly without an attack: {said}",
    )
