"""The check of physical, geometric and semantic attacks, and what its report says."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from assaymark.reports.errors import InputError
from assaymark.reports.files import write_atomically
from assaymark.reports.intervals import clopper_pearson, sample_size_to_decide
from assaymark.reports.model import (
    Captioned,
    CheckResult,
    Cost,
    Estimate,
    Estimates,
    Evidence,
    Finding,
    Gate,
    Method,
    Pictures,
    Table,
)
from assaymark.robustness.check import class_names, targets_of
from assaymark.robustness.evaluate import subset
from assaymark.robustness.images import ImageData
from assaymark.robustness.models import Loaded
from assaymark.robustness.pictures import encode, trio
from assaymark.robustness.printing import png
from assaymark.robustness.scene_evaluate import (
    Points,
    SceneEvaluation,
    SceneOutcome,
    evaluate_scenes,
)
from assaymark.robustness.scenes import Bound, find
from assaymark.robustness.types import Labels


def check_scenes(
    check: str,
    model: Loaded,
    data: ImageData,
    attacks: tuple[tuple[str, Mapping[str, Any]], ...],
    *,
    target: str | None = None,
    training_examples: int | None = None,
    gates: tuple[Gate, ...] = (),
    tags: tuple[str, ...] = (),
    examples: int | None = None,
    batch_size: int = 250,
    seed: int = 0,
    device: torch.device | str = "cpu",
    folder: Path = Path(),
    save: Path | None = None,
    keep: int = 6,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CheckResult:
    """Clean accuracy, accuracy in every scene and success rate, each with its exact interval.

    attacks: names of SCENES with their options. Where one of them learns, the images are split at random:
    training_examples of them, by default half, are learned from, and every number is about the others.
    examples: how many images to draw at random, by default all. folder: what files in options are relative
    to. save: a folder for the learned patches as PNG. Raises InputError when model, data and options do
    not fit together.
    """
    classes = class_names(model, data)
    scenes: dict[str, Bound] = {}
    for name, options in attacks:
        label, count = name, 1
        while label in scenes:
            count += 1
            label = f"{name} #{count}"
        scenes[label] = find(name, options, folder)
    chosen = subset(len(data.images), examples, seed, check)
    goals: Labels | None = None
    if target is not None:
        goals = targets_of(model, data, target, classes, batch_size, device)
        chosen = [i for i in chosen if int(goals[i]) != int(data.labels[i])]
        if not chosen:
            raise InputError(
                f'every image already has the target class "{target}": choose another target'
            )
    learns = any(scene.learn is not None for scene in scenes.values())
    taught = _training(chosen, training_examples, seed, check) if learns else []
    held = sorted(set(chosen) - set(taught))
    if training_examples is not None and not learns:
        raise InputError(
            f"none of {', '.join(scenes)} learns from images: leave out training_examples"
        )
    result = evaluate_scenes(
        model.module,
        _points(data, held, goals),
        scenes,
        training=_points(data, taught, goals) if learns else None,
        seed=seed,
        check=check,
        batch_size=batch_size,
        device=device,
        keep=keep,
        progress=progress,
    )
    if save is not None:
        _save(save, check, result)
    said = _Words(scenes, target)
    return CheckResult(
        findings=tuple(
            finding
            for measure in ("robust_accuracy", "clean_accuracy", "attack_success_rate")
            for finding in _findings(check, model, said, result, measure, gates, tags, classes)
        ),
        method=_method(check, model, data, said, result, taught, seed),
        digests={model.name: model.sha256} if model.sha256 else {},
    )


class _Words:
    """How the scenes are called in sentences."""

    def __init__(self, scenes: Mapping[str, Bound], target: str | None) -> None:
        self.scenes, self.target = scenes, target
        self.towards = f", towards {target}" if target else ""

    def __str__(self) -> str:
        parts = [f"{name} ({s.limits})" if s.limits else name for name, s in self.scenes.items()]
        return "; ".join(parts) + self.towards


def _training(chosen: list[int], examples: int | None, seed: int, check: str) -> list[int]:
    count = len(chosen) // 2 if examples is None else examples
    if not 1 <= count < len(chosen):
        raise InputError(
            f"training_examples = {count} of {len(chosen)} images leaves none to learn from or none to "
            "measure on: use more images, or other numbers"
        )
    return [chosen[i] for i in subset(len(chosen), count, seed, f"{check}/training")]


def _points(data: ImageData, indices: list[int], goals: Labels | None) -> Points:
    return Points(
        images=data.images[indices],
        labels=data.labels[indices],
        indices=indices,
        goals=None if goals is None else goals[indices],
    )


def _save(folder: Path, check: str, result: SceneEvaluation) -> None:
    for outcome in result.outcomes:
        for picture in (outcome.learned.pictures if outcome.learned else {}).values():
            if picture.shape[0] not in (1, 2, 3, 4):
                raise InputError(
                    f"{outcome.name} has {picture.shape[0]} channels, which no PNG holds: leave out save"
                )
            name = f"{check}-{outcome.name.replace(' #', '-')}.png"
            write_atomically(folder / name, png(picture))


def _counts(result: SceneEvaluation, measure: str) -> tuple[int, int]:
    correct, robust = int(result.correct.sum()), int(result.robust.sum())
    return {
        "robust_accuracy": (robust, result.n),
        "clean_accuracy": (correct, result.n),
        "attack_success_rate": (correct - robust, correct),
    }[measure]


def _findings(
    check: str,
    model: Loaded,
    said: _Words,
    result: SceneEvaluation,
    measure: str,
    gates: tuple[Gate, ...],
    tags: tuple[str, ...],
    classes: tuple[str, ...],
) -> list[Finding]:
    hits, n = _counts(result, measure)
    value = hits / n if n else None
    mine: tuple[Gate | None, ...] = tuple(gate for gate in gates if gate.metric == measure)
    leads = measure == "robust_accuracy"
    findings: list[Finding] = []
    for gate in mine or (None,):
        confidence = gate.confidence if gate else 0.95
        limit = gate.limit if gate else None
        finding = Finding(
            check=check,
            target=model.name,
            measure=measure,
            summary=_summary(measure, hits, n, said),
            value=value,
            interval=clopper_pearson(hits, n, confidence),
            n=n,
            limit=limit,
            severity=gate.severity if gate else "low",
            evidence=_evidence(result, getattr(limit, "minimum", None), classes)
            if leads and not findings
            else (),
            references=tags,
            cost=Cost(
                seconds=result.seconds,
                forward=result.passes.forward,
                backward=result.passes.backward,
            )
            if leads
            else Cost(),
        )
        if finding.judged == "inconclusive" and value is not None and limit is not None:
            needs = sample_size_to_decide(value, limit, confidence, more_than=n)
            finding = replace(finding, needs_n=needs)
        findings.append(finding)
    return findings


def _summary(measure: str, hits: int, n: int, said: _Words) -> str:
    goal = f"are answered as {said.target}" if said.target else "fall"
    return {
        "robust_accuracy": f"{hits} of {n} images are classified correctly in every scene ({said}).",
        "clean_accuracy": f"{hits} of {n} images are classified correctly as they are.",
        "attack_success_rate": f"{hits} of the {n} images classified correctly {goal} in a scene "
        f"({said}).",
    }[measure]


def _evidence(
    result: SceneEvaluation, minimum: float | None, classes: tuple[str, ...]
) -> tuple[Evidence, ...]:
    standing = int(result.correct.sum())
    stages, rows = [("as they are", standing)], []
    for outcome in result.outcomes:
        standing -= outcome.fooled
        stages.append((f"after {outcome.name}", standing))
        rows.append(_row(outcome, standing / result.n))
    estimates = []
    for label, hits in stages:
        interval = clopper_pearson(hits, result.n)
        assert interval is not None
        estimates.append(
            Estimate(
                label=label, value=hits / result.n, low=interval.low, high=interval.high, n=result.n
            )
        )
    table = Table(
        title="Scenes",
        columns=(
            "scene",
            "points tried",
            "fooled",
            "fooled by the control",
            "accuracy left",
            "not confirmed",
            "forward passes",
            "backward passes",
            "seconds",
        ),
        rows=tuple(rows),
        note="Each scene is given the points that still stand. A point counts as fooled only after the "
        "image has been made again from the recorded numbers and asked alone. The control of a patch is a "
        "grey one at the same places, that of a universal perturbation is noise of the same size.",
    )
    chart = Estimates(
        title="Accuracy left after each scene", estimates=tuple(estimates), limit=minimum
    )
    trios = (trio(one.example, classes) for one in result.recorded)
    return (chart, table, *_learned(result.outcomes), *_numbers(result, classes), *trios)


def _row(outcome: SceneOutcome, left: float) -> tuple[str | float | int | None, ...]:
    return (
        outcome.name,
        outcome.tried,
        outcome.fooled,
        outcome.control,
        left,
        outcome.unconfirmed,
        outcome.passes.forward,
        outcome.passes.backward,
        round(outcome.seconds, 2),
    )


def _learned(outcomes: tuple[SceneOutcome, ...]) -> list[Evidence]:
    """The things that were learned, as pictures and in numbers."""
    pictures, rows = [], []
    for outcome in outcomes:
        if outcome.learned is None:
            continue
        for picture in outcome.learned.pictures.values():
            share = f"{outcome.fooled} of {outcome.tried} fooled"
            pictures.append(
                Captioned(caption=f"{outcome.name}: {share}", picture=encode(_on_grey(picture)))
            )
        rows += [(outcome.name, key, value) for key, value in outcome.learned.measures.items()]
    if not pictures:
        return []
    return [
        Pictures(title="What was learned", pictures=tuple(pictures)),
        Table(title="Numbers about it", columns=("scene", "measure", "value"), rows=tuple(rows)),
    ]


def _on_grey(
    picture: Float[Tensor, "channels height width"],
) -> Float[Tensor, "planes height width"]:
    """A picture with alpha on mid-grey, others as they are."""
    if picture.shape[0] not in (2, 4):
        return picture
    colour, alpha = picture[:-1], picture[-1:]
    return alpha * colour + (1 - alpha) * 0.5


def _numbers(result: SceneEvaluation, classes: tuple[str, ...]) -> list[Evidence]:
    """One table a scene: what was done to the examples that are shown."""
    tables: list[Evidence] = []
    for outcome in result.outcomes:
        mine = [one for one in result.recorded if one.example.attack == outcome.name]
        if not mine or not mine[0].numbers:
            continue
        tables.append(
            Table(
                title=f"What was done by {outcome.name}",
                columns=("example", "class", "answered as", *mine[0].numbers),
                rows=tuple(
                    (
                        one.example.index,
                        classes[one.example.label],
                        classes[one.example.fooled_prediction],
                        *(round(value, 4) for value in one.numbers.values()),
                    )
                    for one in mine
                ),
            )
        )
    return tables


def _method(
    check: str,
    model: Loaded,
    data: ImageData,
    said: _Words,
    result: SceneEvaluation,
    taught: list[int],
    seed: int,
) -> Method:
    untested = [
        f"changes beyond these limits ({said}), and their combinations: each scene is tried alone",
        "real cameras, prints and faces: the scenes are computed",
    ]
    unused = len(data.images) - result.n - len(taught)
    if unused:
        untested.append(
            f"{unused} of {len(data.images)} images of {data.name}, which were not used"
        )
    if data.skipped:
        untested.append(
            f"{len(data.skipped)} files of {data.name} that are no pictures by their name, such as "
            f"{data.skipped[0]}"
        )
    steps = [f"{result.n} images of {data.name}, drawn with seed {seed}; pixels in [0, 1]."]
    if taught:
        steps.append(
            f"{len(taught)} other images of {data.name}, drawn at random with seed {seed}, were learned "
            "from and are part of no number."
        )
    steps += [
        f"Scenes in this order: {said}. A point leaves when it falls.",
        *(
            f"{name}: {', '.join(f'{key} = {value}' for key, value in scene.written.items())}."
            for name, scene in said.scenes.items()
            if scene.written
        ),
        "Robust accuracy counts the images that are classified correctly and that no scene moved to "
        + ("the target class." if said.target else "another class."),
        "Intervals are exact two-sided Clopper–Pearson intervals.",
    ]
    if model.note:
        steps.append(model.note + ".")
    papers = [scene.card.paper for scene in said.scenes.values()]
    return Method(
        check=check,
        title=f"Physical, geometric and semantic robustness of {model.name}",
        steps=tuple(steps),
        not_tested=tuple(untested),
        sources=tuple(dict.fromkeys([*papers, "Clopper and Pearson 1934, Biometrika 26"])),
    )
