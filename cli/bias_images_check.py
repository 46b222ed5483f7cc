"""How the bias check of an image classifier is run: its answers become columns of the table of images."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from assaymark.cli.bias_checks import DECISION, audited, check_rates, slices_of
from assaymark.cli.opening import Context, model_and_data
from assaymark.reports.errors import InputError
from assaymark.reports.model import CheckResult
from assaymark.reports.policy_bias import BiasImagesCheck

if TYPE_CHECKING:
    from assaymark.bias.tables import Table
    from assaymark.robustness.images import ImageData
    from assaymark.robustness.models import Loaded

_LABEL, _SCORE = "(label)", "(score)"


def bias_images(check: BiasImagesCheck, context: Context) -> CheckResult:
    """An image classifier, by the columns of its table of images."""
    from assaymark.bias import predictions
    from assaymark.bias.multiclass_check import check_multiclass
    from assaymark.bias.wanted import Wanted
    from assaymark.robustness.classify import classify

    check_rates(check, context)
    model, data, table = _images(check, context)
    said = classify(model, data, batch_size=check.batch_size, device=context.device)
    positive = _class_of(check.positive, said.classes, model.name)
    answers: dict[str, Any] = {_LABEL: said.labels, DECISION: said.decisions}
    if positive is not None and said.scores is not None:
        answers[_SCORE] = said.scores[:, said.classes.index(positive)].double().numpy()
    table = table.with_columns(**answers)
    roles = predictions.Roles(
        label=_LABEL,
        prediction=DECISION,
        score=_SCORE if _SCORE in answers else None,
        sensitive=check.sensitive,
        weight=check.weight,
        bands=check.bands,
        intersections=check.intersections,
    )
    if positive is None:
        result = check_multiclass(
            check.id,
            predictions.multiclass(table, roles),
            gates=check.gates,
            tags=check.tags,
            min_group_size=check.min_group_size,
        )
    else:
        wanted = Wanted(
            min_group_size=check.min_group_size,
            references=check.reference_groups,
            missing_apart=check.missing == "apart",
            slices=slices_of(check.slices, table, check.bands),
        )
        rows = predictions.binary(_one_against_all(table, positive), roles, positive=positive)
        result = audited(check, rows, wanted, context)
    return result if model.sha256 is None else replace(result, digests={model.name: model.sha256})


def _images(check: BiasImagesCheck, context: Context) -> tuple["Loaded", "ImageData", "Table"]:
    """The classifier, the images, and the row that says who or what each one shows."""
    import numpy

    from assaymark.bias import tables

    model, data = model_and_data(check, context)
    slices = check.slices.columns if check.slices else ()
    named = dict.fromkeys([*check.sensitive, *slices, *([check.weight] if check.weight else [])])
    table = tables.read(check.metadata or check.data, folder=context.folder, columns=list(named))
    if len(table.arrow) != len(data.images):
        raise InputError(
            f"{table.name} has {len(table.arrow)} rows, {data.name} has {len(data.images)} images: "
            "expected a row for each image, in the same order"
        )
    if check.examples is not None and check.examples < len(data.images):
        random = numpy.random.default_rng(context.seed)
        rows = numpy.sort(random.permutation(len(data.images))[: check.examples])
        data = replace(data, images=data.images[rows], labels=data.labels[rows])
        table = tables.Table(name=table.name, arrow=table.arrow.take(rows))
    return model, data, table


def _class_of(positive: str | None, classes: tuple[str, ...], model: str) -> str | None:
    """The class that a policy calls positive, by its name or, without names, its number."""
    for name in (positive, f"class {positive}"):
        if name is None or name in classes:
            return name
    raise InputError(
        f'positive = "{positive}" is no class of {model}: its classes are {", ".join(classes)}'
    )


def _one_against_all(table: "Table", positive: str) -> "Table":
    """Classes as the positive one and the others."""
    other = f"not {positive}"
    columns = {
        name: [value if value == positive else other for value in table.column(name).to_pylist()]
        for name in (_LABEL, DECISION)
    }
    return table.with_columns(**columns)
