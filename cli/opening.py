"""What a check names, opened: models, images, recognisers, and where a run may keep what it has."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assaymark.reports.errors import InputError, IntegrityError
from assaymark.reports.policy_protection import RecogniserEntry
from assaymark.reports.policy_robustness import (
    AttackSpec,
    DataCheck,
    ModelCheck,
    ModelKeys,
    RobustnessCheck,
    SurrogateSpec,
)
from assaymark.reports.policy_tournament import Entrant, TournamentCheck

if TYPE_CHECKING:
    from torch.nn import Module

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
    data = data_of(check, context)
    model = model_of(check.model, check.arch, check.model_sha256, check, data, context)
    return model, data


def data_of(check: DataCheck, context: Context) -> "ImageData":
    """The images that a check names."""
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


def model_of(
    spec: str,
    arch: str | None,
    sha256: str | None,
    check: ModelCheck,
    data: "ImageData",
    context: Context,
) -> "Loaded":
    """A model that a check names, opened as its keys say."""
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
        opened=_detector(spec, context.folder, answers.access),
        device=context.device,
    )


def _detector(spec: str, folder: Path, access: str | None = None) -> "Module | None":
    """The network of `detector:NAME`: a detector of deepfakes is an image classifier of two classes."""
    scheme, _, name = spec.partition(":")
    if scheme != "detector":
        return None
    from assaymark.provenance.detector_model import WITHOUT_GRADIENTS, detector_model

    kind, _, file = name.partition(":")
    if kind in WITHOUT_GRADIENTS and access in (None, "white-box"):
        raise InputError(
            f'{spec} gives no gradients: attack it from outside, access = "scores" or "labels"'
        )
    return detector_model(f"{kind}:{folder / file}" if file else kind)


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


def surrogate_of(
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
            opened=_detector(spec.model, context.folder),
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


def shards_of(context: Context) -> "Shards":
    """How many processes a run has, and where it keeps finished shards."""
    from assaymark.robustness.shards import Shards

    return Shards(workers=context.workers, keep=context.keep)


def entrant_of(
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
        opened=_detector(entry.model, context.folder, entry.access),
        device=context.device,
    )
    return replace(loaded, name=entry.called)


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
