"""What a scene check reports: findings, what was learned and done, and how it measured."""

from collections.abc import Mapping
from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from assaymark.reports.intervals import clopper_pearson, sample_size_to_decide
from assaymark.reports.model import (
    Captioned,
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
from assaymark.robustness.images import ImageData
from assaymark.robustness.models import Loaded
from assaymark.robustness.pictures import encode, trio
from assaymark.robustness.scene_evaluate import (
    SceneEvaluation,
    SceneOutcome,
)
from assaymark.robustness.scenes import Bound


class Words:
    """How the scenes are called in sentences."""

    def __init__(self, scenes: Mapping[str, Bound], target: str | None) -> None:
        self.scenes, self.target = scenes, target
        self.towards = f", towards {target}" if target else ""

    def __str__(self) -> str:
        parts = [f"{name} ({s.limits})" if s.limits else name for name, s in self.scenes.items()]
        return "; ".join(parts) + self.towards


def _counts(result: SceneEvaluation, measure: str) -> tuple[int, int]:
    correct, robust = int(result.correct.sum()), int(result.robust.sum())
    return {
        "robust_accuracy": (robust, result.n),
        "clean_accuracy": (correct, result.n),
        "attack_success_rate": (correct - robust, correct),
    }[measure]


def findings(
    check: str,
    model: Loaded,
    said: Words,
    result: SceneEvaluation,
    measure: str,
    gates: tuple[Gate, ...],
    tags: tuple[str, ...],
    classes: tuple[str, ...],
) -> list[Finding]:
    """One finding a gate of the measure, or one without a limit."""
    hits, n = _counts(result, measure)
    value = hits / n if n else None
    mine: tuple[Gate | None, ...] = tuple(gate for gate in gates if gate.metric == measure)
    leads = measure == "robust_accuracy"
    found: list[Finding] = []
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
            if leads and not found
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
        found.append(finding)
    return found


def _summary(measure: str, hits: int, n: int, said: Words) -> str:
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


def method(
    check: str,
    model: Loaded,
    data: ImageData,
    said: Words,
    result: SceneEvaluation,
    taught: list[int],
    seed: int,
) -> Method:
    """How it was measured, and what was not tested."""
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
