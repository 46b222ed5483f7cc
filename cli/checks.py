"""How each kind of check is run: one table from the policy's class to a function.

The functions hand a policy's fields to a pillar, which takes plain arguments and knows no policy.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assaymark.reports.errors import InputError, IntegrityError
from assaymark.reports.model import CheckResult
from assaymark.reports.policy import BiasTableCheck, ProvenanceCheck
from assaymark.reports.policy_protection import ProtectionCheck, RecogniserEntry
from assaymark.reports.policy_robustness import (
    ALPHA,
    SAMPLES,
    AttackSpec,
    CertificateCheck,
    CorruptionCheck,
    DataCheck,
    DefenseCheck,
    ModelCheck,
    ModelKeys,
    RobustnessCheck,
    SceneCheck,
    SurrogateSpec,
)
from assaymark.reports.policy_tournament import Entrant, TournamentCheck

if TYPE_CHECKING:
    from assaymark.robustness.images import ImageData
    from assaymark.robustness.models import Answers, Loaded, Preprocessing
    from assaymark.robustness.picture_files import StoredPicture
    from assaymark.robustness.recognisers import Recogniser
    from assaymark.robustness.shards import Keep, Shards
    from assaymark.robustness.transforms import Transform


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
    data = _data(check, context)
    model = _model(check.model, check.arch, check.model_sha256, check, data, context)
    return model, data


def _data(check: DataCheck, context: Context) -> "ImageData":
    from assaymark.robustness import images
    from assaymark.robustness.tables import Columns

    return images.load(
        check.data,
        folder=context.folder,
        classes=check.classes,
        data_range=check.data_range,
        image_size=check.image_size,
        labels=check.labels,
        columns=Columns(image=check.image_column, label=check.label_column),
        split=check.split,
    )


def _model(
    spec: str,
    arch: str | None,
    sha256: str | None,
    check: ModelCheck,
    data: "ImageData",
    context: Context,
) -> "Loaded":
    from dataclasses import replace

    from assaymark.robustness import models

    # beside the model of the check, a description says itself how pixels are normalized
    described = spec != check.model and spec.endswith(".defended.json")
    answers = _answers(check, data.classes, int(data.labels.max()) + 1)
    if spec != check.model:  # a reference is asked as often as need be
        answers = replace(answers, access=None, queries=None, max_queries=None)
    return models.load(
        spec,
        data.images[:4],
        arch=arch,
        folder=context.folder,
        preprocessing=None if described else preprocessing(check),
        sha256=sha256,
        answers=answers,
        device=context.device,
    )


def _answers(entry: ModelKeys, names: tuple[str, ...] | None, labels: int | None) -> "Answers":
    """How a model that only answers is asked. labels: how many classes the labels need."""
    from assaymark.robustness.endpoint import Endpoint
    from assaymark.robustness.models import Answers

    return Answers(
        access=entry.access,
        endpoint=Endpoint(**entry.endpoint.model_dump()) if entry.endpoint else Endpoint(),
        classes=entry.num_classes or len(names or ()) or labels,
        names=names,
        queries=entry.queries,
        max_queries=entry.max_queries,
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


def preprocessing(said: ModelKeys | TournamentCheck | SurrogateSpec) -> "Preprocessing":
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


def _tournament(check: TournamentCheck, context: Context) -> CheckResult:
    from assaymark.robustness.tournament import Rules
    from assaymark.robustness.tournament_check import check_tournament

    data = _data(check, context)
    return check_tournament(
        check.id,
        [_entrant(entry, check, data, context) for entry in check.defenses],
        data,
        Rules(
            attacks=tuple((attack.name, attack.options) for attack in check.attack),
            targeted=tuple((attack.name, attack.options) for attack in check.targeted),
            target=check.target,
            norm=check.norm,
            eps=check.eps,
            protocol=check.protocol,
            ensemble=check.ensemble,
            time_limit=check.limit,
        ),
        surrogates=[_entrant(entry, check, data, context) for entry in check.surrogates],
        gates=check.gates,
        tags=check.tags,
        examples=check.examples,
        batch_size=check.batch_size,
        seed=context.seed,
        device=context.device,
        matrices=context.folder / check.matrices if check.matrices else None,
        progress=context.progress,
    )


def _entrant(
    entry: Entrant, check: TournamentCheck, data: "ImageData", context: Context
) -> "Loaded":
    """A defense or surrogate under its own name; what it does not say, the check says for all."""
    from dataclasses import replace

    from assaymark.robustness import models

    own = preprocessing(entry)
    described = entry.model.endswith(".defended.json")  # says itself how pixels are normalized
    if own == models.Preprocessing() and not described:
        own = preprocessing(check)
    loaded = models.load(
        entry.model,
        data.images[:4],
        arch=entry.arch,
        folder=context.folder,
        preprocessing=own,
        sha256=entry.model_sha256,
        answers=_answers(entry, data.classes, int(data.labels.max()) + 1),
        device=context.device,
    )
    return replace(loaded, name=entry.called)


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


def recognisers(
    entries: Sequence[RecogniserEntry],
    pictures: Sequence["StoredPicture"],
    classes: tuple[str, ...] | None,
    context: Context,
) -> list["Recogniser"]:
    """The recognisers that a protection check names, ready for these pictures."""
    from assaymark.robustness import recognisers as found

    shown = [picture.image for picture in pictures]
    return [
        found.load(
            found.RecogniserSpec(
                model=entry.model,
                arch=entry.arch,
                sha256=entry.model_sha256,
                preprocessing=preprocessing(entry),
                image_size=entry.image_size,
                answers=_answers(entry, classes, None),
            ),
            shown,
            folder=context.folder,
            device=context.device,
        )
        for entry in entries
    ]


def countermeasures(specs: Sequence[AttackSpec]) -> dict[str, "Transform"]:
    """What is done to protected pictures, by the names that the report shows."""
    from assaymark.robustness.countermeasures import countermeasure, described

    made = [(spec.name, countermeasure(spec.name, spec.options)) for spec in specs]
    return {described(name, transform): transform for name, transform in made}


def _protection(check: ProtectionCheck, context: Context) -> CheckResult:
    from assaymark.robustness import picture_files
    from assaymark.robustness.protection_check import check_protection

    pictures = picture_files.find(check.originals, context.folder)
    return check_protection(
        check.id,
        pictures,
        context.folder / check.protected,
        recognisers(check.models, pictures, check.classes, context),
        recognisers(check.held_out_models, pictures, check.classes, context),
        labels=check.labels,
        classes=check.classes,
        countermeasures=countermeasures(check.countermeasures),
        gates=check.gates,
        tags=check.tags,
        folder=context.folder,
        device=context.device,
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
        intersections=check.intersections,
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
    TournamentCheck: _tournament,
    CertificateCheck: _certificate,
    ProtectionCheck: _protection,
    BiasTableCheck: _bias_table,
    ProvenanceCheck: _provenance,
}
