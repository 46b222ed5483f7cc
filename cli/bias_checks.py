"""How the bias checks of a policy are run: columns and models are opened, and a pillar audits them."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from assaymark.cli.opening import Context
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

DECISION = "(decision)"
"""The column of a model's answers, beside those of the table."""


def bias_table(check: BiasTableCheck, context: Context) -> CheckResult:
    """A table of predictions, or a model that is asked about its rows."""
    from assaymark.bias import predictions, tables

    check_rates(check, context)
    roles = roles_of(check)
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
        result = audited(
            check, data, _wanted(check, table, data, model, features, context), context
        )
    if model is not None and model.sha256 is not None:
        result = replace(result, digests={**result.digests, model.name: model.sha256})
    return result


def roles_of(check: BiasTableCheck | MitigationCheck) -> "Roles":
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
        table = table.with_columns(**{DECISION: answers.decision})
        roles = replace(roles, prediction=DECISION)
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
        slices=slices_of(check.slices, table, check.bands),
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


def slices_of(search: SliceSearch | None, table: "Table", bands: Any) -> "SliceOptions | None":
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

    before = replace(roles_of(check), prediction=run.prediction, score=None, weight=None)
    other = table
    if run.data is not None:
        named = [*before.named, *([run.id] if run.id else [])]
        other = tables.read(run.data, folder=context.folder, columns=named)
    order = (
        None if run.id is None else align(table.column(run.id), other.column(run.id), column=run.id)
    )
    accepted = predictions.binary(other, before, positive=check.positive)
    return accepted_decisions(data, accepted, order=order)


def check_rates(check: BiasTableCheck | BiasImagesCheck, context: Context) -> None:
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


def audited(
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
