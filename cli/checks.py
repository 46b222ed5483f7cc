"""How each kind of check is run: one table from the policy's class to a function.

The functions hand a policy's fields to a pillar, which takes plain arguments and knows no policy.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assaymark.reports.model import CheckResult
from assaymark.reports.policy import BiasTableCheck, ProvenanceCheck
from assaymark.reports.policy_robustness import ModelCheck, RobustnessCheck, SceneCheck

if TYPE_CHECKING:
    from assaymark.robustness.images import ImageData
    from assaymark.robustness.models import Loaded


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a check is run with, beside its own keys."""

    folder: Path
    seed: int
    device: str
    progress: Callable[[int, int], None]


def model_and_data(check: ModelCheck, context: Context) -> tuple["Loaded", "ImageData"]:
    """The image classifier and the images that a check names."""
    from assaymark.robustness import images, models

    data = images.load(
        check.data,
        folder=context.folder,
        classes=check.classes,
        data_range=check.data_range,
        image_size=check.image_size,
    )
    steps = models.Preprocessing(
        input_range=check.input_range,
        mean=check.normalize.mean if check.normalize else None,
        std=check.normalize.std if check.normalize else None,
    )
    model = models.load(
        check.model,
        data.images[:4],
        arch=check.arch,
        folder=context.folder,
        preprocessing=steps,
        sha256=check.model_sha256,
        device=context.device,
    )
    return model, data


def _robustness(check: RobustnessCheck, context: Context) -> CheckResult:
    from assaymark.robustness.check import Threat, check_robustness

    model, data = model_and_data(check, context)
    return check_robustness(
        check.id,
        model,
        data,
        Threat(
            attacks=tuple((attack.name, attack.options) for attack in check.attack),
            norm=check.norm,
            eps=check.eps,
            target=check.target,
        ),
        gates=check.gates,
        tags=check.tags,
        examples=check.examples,
        batch_size=check.batch_size,
        seed=context.seed,
        device=context.device,
        progress=context.progress,
    )


def _scene(check: SceneCheck, context: Context) -> CheckResult:
    from assaymark.robustness.scene_check import check_scenes

    model, data = model_and_data(check, context)
    return check_scenes(
        check.id,
        model,
        data,
        tuple((attack.name, attack.options) for attack in check.attack),
        target=check.target,
        training_examples=check.training_examples,
        gates=check.gates,
        tags=check.tags,
        examples=check.examples,
        batch_size=check.batch_size,
        seed=context.seed,
        device=context.device,
        folder=context.folder,
        save=None if check.save is None else context.folder / check.save,
        progress=context.progress,
    )


def _bias_table(check: BiasTableCheck, context: Context) -> CheckResult:
    from assaymark.bias import predictions
    from assaymark.bias.check import check_bias_table

    data = predictions.load(
        check.data,
        label=check.label,
        prediction=check.prediction,
        score=check.score,
        sensitive=check.sensitive,
        positive=check.positive,
        threshold=check.threshold,
        folder=context.folder,
    )
    return check_bias_table(
        check.id,
        data,
        gates=check.gates,
        tags=check.tags,
        min_group_size=check.min_group_size,
    )


def _provenance(check: ProvenanceCheck, context: Context) -> CheckResult:
    from assaymark.provenance.check import check_provenance

    return check_provenance(
        check.id,
        check.files,
        check.trust_anchors,
        folder=context.folder,
        gates=check.gates,
        tags=check.tags,
        progress=context.progress,
    )


# A policy is matched with its function by class; each function takes its own class.
RUNNERS: dict[type, Callable[[Any, Context], CheckResult]] = {
    RobustnessCheck: _robustness,
    SceneCheck: _scene,
    BiasTableCheck: _bias_table,
    ProvenanceCheck: _provenance,
}
