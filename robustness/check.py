"""The robustness check: attack a classifier over a data set and report what still stands."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from assaymark.reports.errors import InputError, nearest
from assaymark.reports.intervals import clopper_pearson, sample_size_to_decide
from assaymark.reports.model import (
    CheckResult,
    Cost,
    Estimate,
    Estimates,
    Evidence,
    Finding,
    Gate,
    Method,
    Table,
)
from assaymark.robustness import catalogue
from assaymark.robustness.attacks import ATTACKS
from assaymark.robustness.evaluate import Evaluation, Search, evaluate, subset
from assaymark.robustness.images import ImageData
from assaymark.robustness.models import Loaded
from assaymark.robustness.pictures import trio
from assaymark.robustness.types import Attack, Labels, Norm

NORM_NAMES: dict[Norm, str] = {"linf": "L∞", "l2": "L2", "l1": "L1", "l0": "L0"}


@dataclass(frozen=True, kw_only=True)
class Threat:
    """What the attacker may do: which attacks, in which ball, towards which class."""

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
    gates: tuple[Gate, ...] = (),
    tags: tuple[str, ...] = (),
    examples: int | None = None,
    batch_size: int = 250,
    seed: int = 0,
    device: torch.device | str = "cpu",
    keep: int = 6,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CheckResult:
    """Clean accuracy, robust accuracy and attack success rate, each with its exact interval.

    examples: how many points to draw at random, by default all. keep: how many adversarial
    examples go into the evidence. Raises InputError when model and data do not fit together.
    """
    classes = classes_of(model, data)
    # Two entries may use one attack with different options: "pgd", "pgd #2".
    runs: dict[str, Attack] = {}
    for name, options in threat.attacks:
        label = name
        while label in runs:
            label = f"{name} #{len([key for key in runs if key.split(' #')[0] == name]) + 1}"
        runs[label] = catalogue.find(name, dict(options), threat.norm)
    chosen = subset(len(data.images), examples, seed, check)
    targets = None
    if threat.target is not None:
        every = targets_of(model, data, threat.target, classes, seed, check, batch_size, device)
        chosen = [i for i in chosen if int(every[i]) != int(data.labels[i])]
        if not chosen:
            raise InputError(
                f'every image already has the target class "{threat.target}": choose another target'
            )
        targets = every[chosen]
    result = evaluate(
        model.module,
        data.images[chosen],
        data.labels[chosen],
        runs,
        eps=threat.eps,
        norm=threat.norm,
        seed=seed,
        check=check,
        targets=targets,
        indices=chosen,
        search=Search(batch_size=batch_size),
        device=device,
        keep=keep,
        progress=progress,
    )
    findings = [
        finding
        for measure in ("robust_accuracy", "clean_accuracy", "attack_success_rate")
        for finding in _findings(check, model, threat, result, measure, gates, tags, classes)
    ]
    return CheckResult(
        findings=tuple(findings),
        method=_method(check, model, data, threat, result, len(chosen), seed),
        digests={model.name: model.sha256} if model.sha256 else {},
    )


def classes_of(model: Loaded, data: ImageData) -> tuple[str, ...]:
    """The names of the classes; raises InputError when model and data do not fit together."""
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
    return data.classes or tuple(f"class {i}" for i in range(model.classes))


def targets_of(
    model: Loaded,
    data: ImageData,
    target: str,
    classes: tuple[str, ...],
    seed: int,
    check: str,
    batch_size: int,
    device: torch.device | str,
) -> Labels:
    """The class each point shall be taken to: a named one, the next, or the least likely one."""
    if target in classes:
        return torch.full_like(data.labels, classes.index(target))
    if target == "next":
        return (data.labels + 1) % len(classes)
    if target == "least-likely":
        with torch.no_grad():
            parts = [model.module(x.to(device)).cpu() for x in data.images.split(batch_size)]
        logits = torch.cat(parts)
        logits[torch.arange(len(logits)), data.labels] = torch.inf
        return logits.argmin(1)
    known = ["next", "least-likely", *classes]
    raise InputError(f'unknown target "{target}"{nearest(target, known)}')


def _counts(result: Evaluation, measure: str) -> tuple[int, int]:
    correct, robust = int(result.correct.sum()), int(result.robust.sum())
    return {
        "robust_accuracy": (robust, result.n),
        "clean_accuracy": (correct, result.n),
        "attack_success_rate": (correct - robust, correct),
    }[measure]


def _findings(
    check: str,
    model: Loaded,
    threat: Threat,
    result: Evaluation,
    measure: str,
    gates: tuple[Gate, ...],
    tags: tuple[str, ...],
    classes: tuple[str, ...],
) -> list[Finding]:
    hits, n = _counts(result, measure)
    value = hits / n if n else None
    mine: tuple[Gate | None, ...] = tuple(gate for gate in gates if gate.metric == measure)
    if not mine and measure != "attack_success_rate":
        mine = (None,)
    findings: list[Finding] = []
    for gate in mine:
        confidence = gate.confidence if gate else 0.95
        limit = gate.limit if gate else None
        interval = clopper_pearson(hits, n, confidence)
        finding = Finding(
            check=check,
            target=model.name,
            measure=measure,
            summary=_summary(measure, hits, n, threat),
            value=value,
            interval=interval,
            n=n,
            limit=limit,
            severity=gate.severity if gate else "low",
            evidence=_evidence(result, threat, limit, classes)
            if measure == "robust_accuracy" and not findings
            else (),
            references=tags,
            cost=Cost(
                seconds=result.seconds,
                forward=result.passes.forward,
                backward=result.passes.backward,
            )
            if measure == "robust_accuracy"
            else Cost(),
        )
        if finding.judged == "inconclusive" and value is not None and limit is not None:
            needs = sample_size_to_decide(value, limit, confidence, more_than=n)
            finding = replace(finding, needs_n=needs)
        findings.append(finding)
    return findings


def _summary(measure: str, hits: int, n: int, threat: Threat) -> str:
    return {
        "robust_accuracy": f"{hits} of {n} images are classified correctly under every attack "
        f"({threat}).",
        "clean_accuracy": f"{hits} of {n} images are classified correctly without an attack.",
        "attack_success_rate": f"{hits} of the {n} images classified correctly fall to an attack "
        f"({threat}).",
    }[measure]


def _evidence(
    result: Evaluation, threat: Threat, limit: object, classes: tuple[str, ...]
) -> tuple[Evidence, ...]:
    standing = int(result.correct.sum())
    stages = [("no attack", standing)]
    rows = []
    for outcome in result.outcomes:
        standing -= outcome.fooled
        stages.append((f"after {outcome.name}", standing))
        rows.append(
            (
                outcome.name,
                outcome.tried,
                outcome.fooled,
                standing / result.n,
                outcome.outside,
                outcome.passes.forward,
                outcome.passes.backward,
                round(outcome.seconds, 2),
            )
        )
    estimates = []
    for label, hits in stages:
        interval = clopper_pearson(hits, result.n)
        assert interval is not None
        estimates.append(
            Estimate(
                label=label, value=hits / result.n, low=interval.low, high=interval.high, n=result.n
            )
        )
    minimum = getattr(limit, "minimum", None)
    chart = Estimates(
        title="Accuracy left after each attack", estimates=tuple(estimates), limit=minimum
    )
    table = Table(
        title="Attacks",
        columns=(
            "attack",
            "points tried",
            "fooled",
            "accuracy left",
            "answers outside the ball",
            "forward passes",
            "backward passes",
            "seconds",
        ),
        rows=tuple(rows),
        note="Each attack is given the points that still stand. A point counts as fooled only after "
        "the answer has been checked again: inside the ball, inside [0, 1], and misclassified.",
    )
    return (chart, table, *(trio(example, classes) for example in result.examples))


def _method(
    check: str,
    model: Loaded,
    data: ImageData,
    threat: Threat,
    result: Evaluation,
    n: int,
    seed: int,
) -> Method:
    described = []
    for name, options in threat.attacks:
        settings = ", ".join(f"{key} = {value}" for key, value in options.items())
        described.append(f"{name} ({settings})" if settings else name)
    untested = [
        f"perturbations outside {threat}, such as rotations, patches and common corruptions",
        "attacks that are not listed: robust accuracy is an upper bound, a stronger attack can only "
        "lower it",
    ]
    untested += [
        f"{outcome.outside} points to which {outcome.name} answered outside the ball"
        for outcome in result.outcomes
        if outcome.outside
    ]
    if data.skipped:
        untested.append(
            f"{len(data.skipped)} files of {data.name} that are no pictures by their name, such as "
            f"{data.skipped[0]}"
        )
    if n < len(data.images):
        untested.append(
            f"{len(data.images) - n} of {len(data.images)} images of {data.name}, which were not used"
        )
    if all(ATTACKS[name].knowledge == "white-box" for name, _ in threat.attacks if name in ATTACKS):
        untested.append("black-box attacks, which would reveal masked gradients")
    steps = [
        f"{n} images of {data.name}"
        + ("" if n == len(data.images) else f", drawn at random with seed {seed}")
        + f"; threat model {threat}, white-box, pixels in [0, 1].",
        f"Attacks in this order: {'; '.join(described)}. A point leaves when it falls.",
        "Robust accuracy counts the images that are classified correctly and that no attack moved to "
        + ("the target class." if threat.target else "another class."),
        "Intervals are exact two-sided Clopper–Pearson intervals.",
    ]
    if model.note:
        steps.append(model.note + ".")
    sources = [ATTACKS[name].paper for name, _ in threat.attacks if name in ATTACKS]
    return Method(
        check=check,
        title=f"Adversarial robustness of {model.name}",
        steps=tuple(steps),
        not_tested=tuple(untested),
        sources=tuple(dict.fromkeys([*sources, "Clopper and Pearson 1934, Biometrika 26"])),
    )
