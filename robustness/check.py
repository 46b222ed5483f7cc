"""The robustness check: attack a classifier over a data set and report what still stands."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from assaymark.reports.errors import InputError, nearest
from assaymark.reports.model import CheckResult, Gate
from assaymark.robustness import attack_findings, catalogue
from assaymark.robustness.answer_signs import examine_answers
from assaymark.robustness.detectors import rejecting
from assaymark.robustness.evaluate import evaluate, frozen, shuffled, subset
from assaymark.robustness.images import ImageData
from assaymark.robustness.masking import POINTS, View, examine
from assaymark.robustness.models import Loaded
from assaymark.robustness.oracle import Oracle, logits_of
from assaymark.robustness.save import save_adversarial
from assaymark.robustness.sequential import Looks
from assaymark.robustness.shard import Search
from assaymark.robustness.shards import Shards
from assaymark.robustness.streams import Streams
from assaymark.robustness.surrogates import KNOWN, gather
from assaymark.robustness.types import Images, Labels, Norm

NORM_NAMES: dict[Norm, str] = {"linf": "L∞", "l2": "L2", "l1": "L1", "l0": "L0"}


@dataclass(frozen=True, kw_only=True)
class Threat:
    """What the attacker may do: which attacks or suites, in which ball, towards which class."""

    attacks: tuple[tuple[str, Mapping[str, Any]], ...]
    norm: Norm
    eps: float
    target: str | None = None

    def __str__(self) -> str:
        towards = f", towards {self.target}" if self.target else ""
        return f"{NORM_NAMES[self.norm]} ≤ {self.eps:.4g}{towards}"


def check_robustness(
    check: str,
    model: Loaded,
    data: ImageData,
    threat: Threat,
    *,
    surrogates: tuple[Loaded, ...] = (),
    gates: tuple[Gate, ...] = (),
    tags: tuple[str, ...] = (),
    examples: int | None = None,
    sequential: bool = False,
    search: Search | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    keep: int = 6,
    save: Path | None = None,
    shards: Shards | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CheckResult:
    """Clean accuracy, robust accuracy and attack success rate, each with its interval.

    surrogates: networks on which attacks by gradients are made instead; the model itself is then asked
    to confirm, and by attacks that need its answers alone. examples: how many points to draw at random,
    by default all. sequential: take them in random order and stop once every gate is decided by an interval
    that is valid at any stop. keep: how many adversarial examples go into the evidence; save: a folder for
    all of them. shards: in how many processes, and where finished parts are kept; with surrogates in one.
    Raises InputError when model and data do not fit together.
    """
    search = search or Search()
    classes = class_names(model, data)
    for name, _ in threat.attacks:
        catalogue.can_see(name, model.access, threat.norm, model.name, surrogates=bool(surrogates))
    chosen = subset(len(data.images), examples, seed, check)
    if sequential:
        chosen = shuffled(len(data.images), seed, check)[:examples]
    targets = None
    if threat.target is not None:
        every = targets_of(model, data, threat.target, classes, search.batch_size, device)
        chosen = [i for i in chosen if int(every[i]) != int(data.labels[i])]
        if not chosen:
            raise InputError(
                f'every image already has the target class "{threat.target}": choose another target'
            )
        targets = every[chosen]
    looks = Looks(gates) if sequential and gates else None
    view, made_on = View(model=model.module), None
    first = _First.of(data, chosen, seed, check, device)
    with frozen(model.module):
        torch.manual_seed(seed)
        if model.access == "white-box" and not surrogates:
            some = first.cut(2 * POINTS)
            masking, view = examine(
                model.module, some.images, some.labels, batch_size=search.batch_size,
                streams=some.streams,
            )  # fmt: skip
        else:  # no gradient of the model itself is followed
            masking = examine_answers(
                model, first.images, batch_size=search.batch_size, streams=first.streams,
                total=len(chosen),
            )  # fmt: skip
    if surrogates:
        made_on = gather(
            surrogates, model, first.images, first.labels, search=search, streams=first.streams
        )
        masking += made_on.masking
    attacks = catalogue.build(
        threat.attacks,
        threat.norm,
        gradient=made_on.gradient if made_on else masking.gradient,
        carry=made_on.carry if made_on else None,
    )
    if model.rejects and (targets is not None or looks is not None or save is not None):
        raise InputError(
            f"{model.name} may reject: it is attacked towards every class, all images at once, so leave "
            "out target, sequential and save"
        )
    whole = partial(
        evaluate,
        targets=targets,
        view=view.model,
        budget=model.budget,
        collect=save is not None,
        decided=looks,
    )
    result = (rejecting if model.rejects else whole)(
        model.module,
        data.images[chosen],
        data.labels[chosen],
        attacks,
        eps=threat.eps,
        norm=threat.norm,
        seed=seed,
        check=check,
        indices=chosen,
        search=replace(search, samples=max(search.samples, view.samples)),
        device=device,
        keep=keep,
        # what attacks do to surrogates is counted in this process only
        shards=None if made_on else shards,
        progress=progress,
    )
    masking = masking.after(result, made_on.carried if made_on else ())
    if save is not None:
        save_adversarial(save, data, chosen[: result.n], result, classes)
    return CheckResult(
        findings=attack_findings.findings(
            check,
            model,
            threat,
            result,
            masking,
            gates,
            tags,
            classes,
            looks.intervals if looks else None,
            made_on,
        ),
        method=attack_findings.method(
            check,
            model,
            data,
            threat,
            result,
            masking,
            seed,
            drawn=len(chosen),
            sequential=looks is not None,
            made_on=made_on,
        ),
        digests={one.name: one.sha256 for one in (model, *surrogates) if one.sha256},
    )


@dataclass(frozen=True, kw_only=True)
class _First:
    """The first of the points that will be attacked, to look at before."""

    images: Images
    labels: Labels
    streams: Streams

    @classmethod
    def of(
        cls, data: ImageData, chosen: list[int], seed: int, check: str, device: torch.device | str
    ) -> "_First":
        some = chosen[:KNOWN]
        return cls(
            images=data.images[some].to(device),
            labels=data.labels[some].to(device),
            streams=Streams.of(seed, f"{check}/masking", some),
        )

    def cut(self, n: int) -> "_First":
        return _First(
            images=self.images[:n],
            labels=self.labels[:n],
            streams=Streams(self.streams.keys[:n]),
        )


def class_names(model: Loaded, data: ImageData) -> tuple[str, ...]:
    """The names of the model's classes; raises InputError where model and data do not agree."""
    if data.classes is not None and len(data.classes) != model.classes:
        raise InputError(
            f"{model.name} answers {model.classes} classes, {data.name} has {len(data.classes)}: name "
            "all of the model's classes in its output order with classes = […]"
        )
    if int(data.labels.max()) >= model.classes:
        raise InputError(
            f"{data.name} has the label {int(data.labels.max())}, but {model.name} answers only "
            f"{model.classes} classes (0 to {model.classes - 1})"
        )
    names = data.classes or tuple(f"class {i}" for i in range(model.classes))
    return (*names, "rejected") if model.rejects else names


def targets_of(
    model: Loaded,
    data: ImageData,
    target: str,
    classes: tuple[str, ...],
    batch_size: int,
    device: torch.device | str,
) -> Labels:
    """The class each point shall be taken to: a named one, the next, or the least likely one."""
    if target in classes:
        return torch.full_like(data.labels, classes.index(target))
    if target == "next":
        return (data.labels + 1) % len(classes)
    if target == "least-likely":
        oracle = Oracle(model.module, batch_size=batch_size)
        parts = [logits_of(oracle, x.to(device)).cpu() for x in data.images.split(batch_size)]
        logits = torch.cat(parts)
        logits[torch.arange(len(logits)), data.labels] = torch.inf
        return logits.argmin(1)
    known = ["next", "least-likely", *classes]
    raise InputError(f'unknown target "{target}"{nearest(target, known)}')
