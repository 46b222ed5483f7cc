"""How a what-if of mitigations is run, and how the one that is applied is written."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from assaymark.cli.bias_checks import roles_of
from assaymark.cli.opening import Context
from assaymark.reports.model import CheckResult
from assaymark.reports.policy_bias import MitigationCheck

if TYPE_CHECKING:
    from assaymark.bias.predictions import Answered
    from assaymark.bias.tables import Table


def mitigation(check: MitigationCheck, context: Context) -> CheckResult:
    """What mitigations would do, and the file of the one that is applied."""
    from assaymark.bias import predictions, tables
    from assaymark.bias.features import frame
    from assaymark.bias.mitigation_check import check_mitigations

    roles = roles_of(check)
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
