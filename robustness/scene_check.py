"""The check of physical, geometric and semantic attacks, and what its report says."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from assaymark.reports.errors import InputError
from assaymark.reports.files import write_atomically
from assaymark.reports.model import (
    CheckResult,
    Gate,
)
from assaymark.robustness.check import class_names, targets_of
from assaymark.robustness.evaluate import subset
from assaymark.robustness.images import ImageData
from assaymark.robustness.models import Loaded
from assaymark.robustness.printing import png
from assaymark.robustness.scene_evaluate import (
    Points,
    SceneEvaluation,
    evaluate_scenes,
)
from assaymark.robustness.scene_findings import Words, findings, method
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
    said = Words(scenes, target)
    return CheckResult(
        findings=tuple(
            finding
            for measure in ("robust_accuracy", "clean_accuracy", "attack_success_rate")
            for finding in findings(check, model, said, result, measure, gates, tags, classes)
        ),
        method=method(check, model, data, said, result, taught, seed),
        digests={model.name: model.sha256} if model.sha256 else {},
    )


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
