"""All that is measured of decisions between two classes: groups, scores, individuals, slices, growth."""

from dataclasses import replace

from assaymark.bias.audit_parts import PARTS
from assaymark.bias.check import check_bias_table
from assaymark.bias.findings import unanswered
from assaymark.bias.rows import Predictions
from assaymark.bias.wanted import Request, Wanted
from assaymark.reports.model import CheckResult, Gate


def audit(
    check: str,
    data: Predictions,
    wanted: Wanted | None = None,
    *,
    gates: tuple[Gate, ...] = (),
    tags: tuple[str, ...] = (),
    seed: int = 0,
) -> CheckResult:
    """Every gap and rate of `check_bias_table`, then what else is wanted.

    A gate on what is not wanted, or of an attribute that has no such number, is not measured. Raises
    InputError for options that do not fit the data.
    """
    wanted = wanted or Wanted()
    request = Request(check=check, data=data, wanted=wanted, gates=gates, tags=tags, seed=seed)
    result = check_bias_table(
        check,
        data,
        gates=gates,
        tags=tags,
        min_group_size=wanted.min_group_size,
        references=wanted.references,
        missing_apart=wanted.missing_apart,
    )
    parts = [found for part in PARTS if (found := part(request)) is not None]
    method = replace(
        result.method,
        steps=(*result.method.steps, *(step for part in parts for step in part.steps)),
        not_tested=(
            *result.method.not_tested,
            *(item for part in parts for item in part.not_tested),
        ),
        sources=tuple(
            dict.fromkeys(
                [*result.method.sources, *(item for part in parts for item in part.sources)]
            )
        ),
    )
    whole = [*result.findings, *(finding for part in parts for finding in part.findings)]
    whole += unanswered(check, whole, gates, tags)
    return replace(result, findings=tuple(whole), method=method)
