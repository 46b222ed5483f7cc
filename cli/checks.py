"""How each kind of check is run: one table from the policy's class to a function.

The functions hand a policy's fields to a pillar, which takes plain arguments and knows no policy.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assaymark.reports.errors import InputError, IntegrityError
from assaymark.reports.model import CheckResult
from assaymark.reports.policy import BiasTableCheck, ProvenanceCheck
from assaymark.reports.policy_robustness import (
    ALPHA,
    SAMPLES,
    CertificateCheck,
    CorruptionCheck,
    DefenseCheck,
    ModelCheck,
    RobustnessCheck,
    SceneCheck,
    SurrogateSpec,
)

if TYPE_CHECKING:
    from assaymark.robustness.images import ImageData
    from assaymark.robustness.models import Loaded, Preprocessing
    from assaymark.robustness.shards import Keep, Shards


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a check is run with, beside its own keys."""

    folder: Path
    seed: int
    device: str
    progress: Callable[[int, int], None]
    workers: int = 1
    keep: "Keep | None" = None
    """Where the finished parts of an attack are kept, where they may be."""


def model_and_data(check: ModelCheck, context: Context) -> tuple["Loaded", "ImageData"]:
    """The image classifier and the images that a check names."""
    from assaymark.robustness import images
    from assaymark.robustness.tables import Columns

    data = images.load(
        check.data,
        folder=context.folder,
        classes=check.classes,
        data_range=check.data_range,
        image_size=check.image_size,
        labels=check.labels,
        columns=Columns(image=check.image_column, label=check.label_column),
        split=check.split,
    )
    model = _model(check.model, check.arch, check.model_sha256, check, data, context)
    return model, data


def _model(
    spec: str,
    arch: str | None,
    sha256: str | None,
    check: ModelCheck,
    data: "ImageData",
    context: Context,
) -> "Loaded":
    from assaymark.robustness import models
    from assaymark.robustness.endpoint import Endpoint

    # beside the model of the check, a description says itself how pixels are normalized
    described = spec != check.model and spec.endswith(".defended.json")
    own = spec == check.model  # a reference is asked as often as need be
    return models.load(
        spec,
        data.images[:4],
        arch=arch,
        folder=context.folder,
        preprocessing=None if described else preprocessing(check),
        sha256=sha256,
        answers=models.Answers(
            access=check.access if own else None,
            endpoint=Endpoint(**check.endpoint.model_dump()) if check.endpoint else Endpoint(),
            classes=check.num_classes or len(data.classes or ()) or int(data.labels.max()) + 1,
            names=data.classes,
            queries=check.queries if own else None,
            max_queries=check.max_queries if own else None,
        ),
        device=context.device,
    )


def _surrogate(
    spec: SurrogateSpec, check: RobustnessCheck, data: "ImageData", context: Context
) -> "Loaded":
    """A network beside the model; what it does not say about pixels is as the check says."""
    from assaymark.robustness import models

    said = spec if spec.normalize or spec.input_range else check
    described = spec.model.endswith(".defended.json") and said is check
    try:
        return models.load(
            spec.model,
            data.images[:4],
            arch=spec.arch,
            folder=context.folder,
            preprocessing=None if described else preprocessing(said),
            sha256=spec.model_sha256,
            device=context.device,
        )
    except IntegrityError:
        raise
    except InputError as error:
        raise InputError(f"surrogate: {error}") from error


def preprocessing(said: ModelCheck | SurrogateSpec) -> "Preprocessing":
    """What a check says about the way from pixels to the model's input."""
    from assaymark.robustness.models import Preprocessing

    return Preprocessing(
        input_range=said.input_range,
        mean=said.normalize.mean if said.normalize else None,
        std=said.normalize.std if said.normalize else None,
    )


def _robustness(check: RobustnessCheck, context: Context) -> CheckResult:
    import torch

    from assaymark.robustness.check import Threat, check_robustness
    from assaymark.robustness.shard import Search

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
        sequential=check.sequential,
        surrogates=tuple(_surrogate(spec, check, data, context) for spec in check.surrogates),
        search=Search(
            batch_size=check.batch_size,
            precision=getattr(torch, check.precision),
            channels_last=True,
        ),
        seed=context.seed,
        device=context.device,
        save=context.folder / check.save if check.save else None,
        shards=_shards(context),
        progress=context.progress,
    )


def _shards(context: Context) -> "Shards":
    from assaymark.robustness.shards import Shards

    return Shards(workers=context.workers, keep=context.keep)


def _corruption(check: CorruptionCheck, context: Context) -> CheckResult:
    from assaymark.robustness.corruption_check import check_corruptions

    model, data = model_and_data(check, context)
    reference = None
    if check.reference is not None:
        reference = _model(check.reference, check.reference_arch, None, check, data, context)
    return check_corruptions(
        check.id,
        model,
        data,
        corruptions=check.corruptions,
        severities=check.severities,
        reference=reference,
        gates=check.gates,
        tags=check.tags,
        examples=check.examples,
        batch_size=check.batch_size,
        seed=context.seed,
        device=context.device,
        workers=context.workers,
        progress=context.progress,
    )


def _defense(check: DefenseCheck, context: Context) -> CheckResult:
    from dataclasses import replace

    from assaymark.robustness import checkpoints, recipes
    from assaymark.robustness.check import Threat
    from assaymark.robustness.defense_check import check_defense

    model, data = model_and_data(check, context)
    after = _model(check.defended, check.arch, check.defended_sha256, check, data, context)
    if check.held_out is not None:
        rows = recipes.parts(len(data.images), check.held_out, context.seed)[2]
        data = replace(
            data,
            name=f"{data.name} (held out)",
            images=data.images[rows],
            labels=data.labels[rows],
        )
    return check_defense(
        check.id,
        model,
        after,
        data,
        Threat(
            attacks=tuple((attack.name, attack.options) for attack in check.attack),
            norm=check.norm,
            eps=check.eps,
        ),
        gates=check.gates,
        tags=check.tags,
        record=checkpoints.record_of(context.folder / check.defended),
        examples=check.examples,
        batch_size=check.batch_size,
        seed=context.seed,
        device=context.device,
        workers=context.workers,
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


def _certificate(check: CertificateCheck, context: Context) -> CheckResult:
    from assaymark.robustness.certify_check import check_certificate
    from assaymark.robustness.proofs import Claim
    from assaymark.robustness.smoothing import Smoothing

    model, data = model_and_data(check, context)
    smoothing = None
    if check.sigma is not None:
        smoothing = Smoothing(
            sigma=check.sigma, samples=check.samples or SAMPLES, alpha=check.alpha or ALPHA
        )
    return check_certificate(
        check.id,
        model,
        data,
        Claim(
            methods=tuple(method for method in check.method if method != "smoothing"),
            smoothing=smoothing,
            norm=check.norm,
            eps=check.eps,
            attacks=tuple((attack.name, attack.options) for attack in check.attack),
        ),
        gates=check.gates,
        tags=check.tags,
        examples=check.examples,
        batch_size=check.batch_size,
        seed=context.seed,
        device=context.device,
        workers=context.workers,
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
    CorruptionCheck: _corruption,
    DefenseCheck: _defense,
    SceneCheck: _scene,
    CertificateCheck: _certificate,
    BiasTableCheck: _bias_table,
    ProvenanceCheck: _provenance,
}
