"""How the bias checks of a policy are run: columns and models are opened, and a pillar audits them."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from assaymark.cli.opening import Context, model_and_data
from assaymark.reports.errors import InputError, IntegrityError
from assaymark.reports.model import CheckResult
from assaymark.reports.policy_bias import (
    BiasImagesCheck,
    BiasTableCheck,
    MitigationCheck,
    SliceSearch,
)

if TYPE_CHECKING:
    from assaymark.bias.answers import Answers, TabularModel
    from assaymark.bias.predictions import Answered, Roles
    from assaymark.bias.rows import Flags, Predictions
    from assaymark.bias.tables import Table
    from assaymark.bias.wanted import FlipOptions, SliceOptions, Wanted
    from assaymark.robustness.images import ImageData
    from assaymark.robustness.models import Loaded

_LABEL, _DECISION, _SCORE = "(label)", "(decision)", "(score)"


def bias_table(check: BiasTableCheck, context: Context) -> CheckResult:
    """A table of predictions, or a model that is asked about its rows."""
    from assaymark.bias import predictions, tables

    _check_rates(check, context)
    roles = _roles(check)
    table = tables.read(check.data, folder=context.folder, columns=_columns(check, roles))
    model = _model(check, context)
    if check.task != "binary":
        result = _other_task(check, table, roles, model)
    else:
        features = _features(check, table, model)
        answers = None if model is None else _answers(model, features)
        data = predictions.binary(
            table,
            roles,
            positive=check.positive,
            threshold=check.threshold,
            answered=None if answers is None else _answered(check, model, answers),
        )
        result = _audit(check, data, _wanted(check, table, data, model, features, context), context)
    if model is not None and model.sha256 is not None:
        result = replace(result, digests={**result.digests, model.name: model.sha256})
    return result


def bias_images(check: BiasImagesCheck, context: Context) -> CheckResult:
    """An image classifier, by the columns of its table of images."""
    from assaymark.bias import predictions
    from assaymark.bias.multiclass_check import check_multiclass
    from assaymark.bias.wanted import Wanted
    from assaymark.robustness.classify import classify

    _check_rates(check, context)
    model, data, table = _images(check, context)
    said = classify(model, data, batch_size=check.batch_size, device=context.device)
    positive = _class_of(check.positive, said.classes, model.name)
    answers: dict[str, Any] = {_LABEL: said.labels, _DECISION: said.decisions}
    if positive is not None and said.scores is not None:
        answers[_SCORE] = said.scores[:, said.classes.index(positive)].double().numpy()
    table = table.with_columns(**answers)
    roles = predictions.Roles(
        label=_LABEL,
        prediction=_DECISION,
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
            slices=_slices(check.slices, table, check.bands),
        )
        rows = predictions.binary(_one_against_all(table, positive), roles, positive=positive)
        result = _audit(check, rows, wanted, context)
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
        for name in (_LABEL, _DECISION)
    }
    return table.with_columns(**columns)


def mitigation(check: MitigationCheck, context: Context) -> CheckResult:
    """What mitigations would do, and the file of the one that is applied."""
    from assaymark.bias import predictions, tables
    from assaymark.bias.features import frame
    from assaymark.bias.mitigation_check import check_mitigations

    roles = _roles(check)
    named = list(dict.fromkeys([*roles.named, *check.features, *check.keys]))
    table = tables.read(check.data, folder=context.folder, columns=named)
    features = frame(table, check.features) if check.features else None
    decided = check.prediction is not None or check.score is not None
    data = predictions.binary(
        table,
        roles,
        positive=check.positive,
        threshold=check.threshold,
        answered=None if decided else _undecided(table, check),
    )
    keys: dict[str, Any] = {
        "attribute": check.sensitive[0],
        "constraint": check.constraint,
        "seed": context.seed,
        "min_group_size": check.min_group_size,
    }
    result = check_mitigations(
        check.id,
        data,
        features,
        methods=check.methods,
        decided=decided,
        tags=check.tags,
        **keys,
    )
    if check.apply is None:
        return result
    from assaymark.bias.mitigation_apply import apply, findings_of

    applied = apply(
        check.methods[0],
        data,
        features,
        path=context.folder / check.apply,
        score_column=check.score or "score",
        positive=str(check.positive),
        keys=frame(table, check.keys) if check.keys else None,
        **keys,
    )
    return replace(
        result,
        findings=(*findings_of(check.id, applied, check.gates, check.tags), *result.findings),
        digests={**result.digests, check.apply: applied.sha256},
    )


def _undecided(table: "Table", check: MitigationCheck) -> "Answered":
    """Of a table without decisions: the labels in their place, which no number is taken from."""
    from assaymark.bias import columns
    from assaymark.bias.predictions import Answered

    truth = columns.values(table, check.label).equal(columns.value_of(check.positive))
    return Answered(decision=truth, score=None, note="no decisions of a model")


def _roles(check: BiasTableCheck | MitigationCheck) -> "Roles":
    from assaymark.bias.predictions import Roles

    return Roles(
        label=check.label,
        sensitive=check.sensitive,
        prediction=check.prediction,
        score=check.score,
        weight=check.weight,
        query=getattr(check, "query", None),
        bands=check.bands,
        intersections=getattr(check, "intersections", False),
    )


def _columns(check: BiasTableCheck, roles: "Roles") -> list[str]:
    """The columns to read; none named is all of them."""
    if check.model is not None and not check.features:
        return []
    more = list(check.features) + list(check.slices.columns if check.slices else ())
    if check.accepted is not None:
        more += [check.accepted.prediction] if check.accepted.data is None else []
        more += [check.accepted.id] if check.accepted.id else []
    return list(dict.fromkeys([*roles.named, *more]))


def _model(check: BiasTableCheck, context: Context) -> "TabularModel | None":
    if check.model is None:
        return None
    from assaymark.bias import models

    model = models.load(check.model, positive=check.positive, folder=context.folder)
    if check.model_sha256 is not None and model.sha256 != check.model_sha256:
        raise IntegrityError(
            f"{check.model} has the SHA-256 {model.sha256 or '(none: it is code)'}, and the policy "
            f"approved {check.model_sha256}: it is not the model that was approved"
        )
    return model


def _features(check: BiasTableCheck, table: "Table", model: "TabularModel | None") -> Any:
    """What the model is given and neighbours are found by; None where nobody needs it."""
    if model is None and check.neighbors is None:
        return None
    from assaymark.bias.features import frame

    named = [check.label, check.prediction, check.score, check.weight, check.query]
    if check.accepted is not None:
        named += [check.accepted.prediction, check.accepted.id]
    return frame(
        table, check.features or None, leave_out=[name for name in named if name is not None]
    )


def _answers(model: "TabularModel", features: Any) -> "Answers":
    from assaymark.bias.answers import ask

    return ask(model, features)


def _answered(
    check: BiasTableCheck, model: "TabularModel | None", answers: "Answers"
) -> "Answered":
    from assaymark.bias.answers import decisions
    from assaymark.bias.predictions import Answered

    assert model is not None
    threshold = check.threshold if "threshold" in check.model_fields_set else None
    return Answered(
        decision=decisions(model, answers, check.positive, threshold),
        score=answers.score,
        note=f"decisions of {model.name}, asked about each row",
    )


def _other_task(
    check: BiasTableCheck, table: "Table", roles: "Roles", model: "TabularModel | None"
) -> CheckResult:
    """Several classes, numbers or rankings."""
    from assaymark.bias import predictions
    from assaymark.bias.multiclass_check import check_multiclass
    from assaymark.bias.ranking_check import check_ranking
    from assaymark.bias.regression_check import check_regression

    if model is not None:
        answers = _answers(model, _features(check, table, model))
        if answers.decision is None:
            raise InputError(f"{model.name} gives probabilities only: expected one answer a row")
        table = table.with_columns(**{_DECISION: answers.decision})
        roles = replace(roles, prediction=_DECISION)
    keys: dict[str, Any] = {
        "gates": check.gates,
        "tags": check.tags,
        "min_group_size": check.min_group_size,
    }
    if check.task == "multiclass":
        return check_multiclass(check.id, predictions.multiclass(table, roles), **keys)
    if check.task == "regression":
        return check_regression(check.id, predictions.regression(table, roles), **keys)
    return check_ranking(check.id, predictions.ranking(table, roles), k=check.cutoff, **keys)


def _wanted(
    check: BiasTableCheck,
    table: "Table",
    data: "Predictions",
    model: "TabularModel | None",
    features: Any,
    context: Context,
) -> "Wanted":
    from assaymark.bias.wanted import ImpactOptions, Wanted

    ratios = check.impact_ratios
    return Wanted(
        min_group_size=check.min_group_size,
        references=check.reference_groups,
        missing_apart=check.missing == "apart",
        features=features,
        neighbors=check.neighbors,
        flips=_flips(check, model),
        slices=_slices(check.slices, table, check.bands),
        impact=None if ratios is None else ImpactOptions(**ratios.model_dump()),
        accepted=_accepted(check, table, data, context),
    )


def _flips(check: BiasTableCheck, model: "TabularModel | None") -> "FlipOptions | None":
    if model is None or not check.counterfactual:
        return None
    from assaymark.bias.wanted import FlipOptions

    return FlipOptions(
        model=model,
        columns=check.counterfactual,
        positive=check.positive,
        threshold=check.threshold if "threshold" in check.model_fields_set else None,
    )


def _slices(search: SliceSearch | None, table: "Table", bands: Any) -> "SliceOptions | None":
    if search is None:
        return None
    from assaymark.bias.slice_columns import slice_columns
    from assaymark.bias.wanted import SliceOptions

    return SliceOptions(
        columns=slice_columns(table, search.columns, bands),
        loss=search.loss,
        depth=search.depth,
        min_size=search.min_size,
    )


def _accepted(
    check: BiasTableCheck, table: "Table", data: "Predictions", context: Context
) -> "Flags | None":
    """The decisions of the accepted run, one for each row of the data."""
    run = check.accepted
    if run is None:
        return None
    from assaymark.bias import predictions, tables
    from assaymark.bias.accepted import accepted_decisions, align

    before = replace(_roles(check), prediction=run.prediction, score=None, weight=None)
    other = table
    if run.data is not None:
        named = [*before.named, *([run.id] if run.id else [])]
        other = tables.read(run.data, folder=context.folder, columns=named)
    order = (
        None if run.id is None else align(table.column(run.id), other.column(run.id), column=run.id)
    )
    accepted = predictions.binary(other, before, positive=check.positive)
    return accepted_decisions(data, accepted, order=order)


def _check_rates(check: BiasTableCheck | BiasImagesCheck, context: Context) -> None:
    """Raise InputError, before anything is measured, where rates cannot go, or would replace what is read."""
    if check.rates is None:
        return
    from assaymark.bias.frames import check_format
    from assaymark.reports.files import check_writable

    path = context.folder / check.rates
    check_format(path)
    accepted = getattr(check, "accepted", None)
    read = [check.data, check.model, getattr(check, "metadata", None)]
    read += [accepted.data] if accepted else []
    for name in read:
        if name is not None and (context.folder / name).resolve() == path.resolve():
            raise InputError(
                f"rates would be written over {name}, which this check reads: name another file"
            )
    check_writable(path)


def _audit(
    check: BiasTableCheck | BiasImagesCheck,
    data: "Predictions",
    wanted: "Wanted",
    context: Context,
) -> CheckResult:
    from assaymark.bias.audit import audit

    result = audit(check.id, data, wanted, gates=check.gates, tags=check.tags, seed=context.seed)
    if check.rates is not None:
        from assaymark.bias.frames import rates_table, write_rates
        from assaymark.bias.groups import by_group

        apart = wanted.missing_apart
        grouped = [
            by_group(data, name, wanted.min_group_size, missing_apart=apart) for name in data.groups
        ]
        write_rates(rates_table(grouped), context.folder / check.rates)
    return result
