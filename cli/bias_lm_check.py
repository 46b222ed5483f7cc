"""How the bias check of a language model is run: a model is opened, suites ask it, a pillar judges."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from assaymark.cli.opening import Context
from assaymark.cli.resume import state_folder
from assaymark.reports.errors import InputError
from assaymark.reports.model import CheckResult
from assaymark.reports.policy_lm import LmCheck, LmEndpointSpec

if TYPE_CHECKING:
    from assaymark.bias.lm_check import SuiteRun
    from assaymark.bias.lm_endpoint_options import EndpointOptions
    from assaymark.bias.lm_open import Opening
    from assaymark.bias.lm_wanted import Wanted


def language_model(check: LmCheck, context: Context) -> CheckResult:
    """All suites on one model. A suite that this model cannot be asked becomes a finding that says why."""
    from assaymark.bias.lm_cache import cached
    from assaymark.bias.lm_check import check_language_model
    from assaymark.bias.lm_open import open_model
    from assaymark.bias.lm_suites import prepare

    prepared = {name: prepare(_wanted(name, check, context)) for name in check.suites}
    opened = open_model(_opening(check, context))
    model = cached(opened, _cache(check, context), revision=check.revision or "")
    runs: list[SuiteRun] = []
    failures: dict[str, str] = {}
    for number, (name, run) in enumerate(prepared.items()):
        try:
            runs += run(model, _part(context.progress, number, len(prepared)))
        except InputError as error:
            failures[name] = str(error)
    return check_language_model(
        check.id,
        model,
        runs,
        gates=check.gates,
        tags=check.tags,
        min_coverage=check.min_coverage,
        failures=failures,
    )


def _part(
    progress: Callable[[int, int], None], number: int, count: int
) -> Callable[[int, int], None]:
    """A suite's progress as its part of all."""
    return lambda done, total: progress(number * total + done, count * total)


def _wanted(name: str, check: LmCheck, context: Context) -> "Wanted":
    from assaymark.bias.lm_wanted import Wanted

    entry = check.suites[name]
    return Wanted(
        suite=name,
        data=entry.data,
        folder=context.folder,
        variant=entry.variant,
        examples=entry.examples,
        seed=context.seed,
        device=context.device,
        options=entry.options,
    )


def _opening(check: LmCheck, context: Context) -> "Opening":
    from assaymark.bias.lm_open import Opening

    return Opening(
        spec=check.model,
        folder=context.folder,
        device=context.device,
        task=check.task,
        precision=check.precision,
        batch_size=check.batch_size,
        revision=check.revision,
        sha256=check.model_sha256,
        served=check.endpoint.model if check.endpoint else None,
        endpoint=_endpoint(check.endpoint) if check.endpoint else None,
        embeds="weat" in check.suites,
    )


def _endpoint(spec: LmEndpointSpec) -> "EndpointOptions":
    from assaymark.bias.lm_endpoint_options import EndpointOptions

    return EndpointOptions(**spec.model_dump(exclude={"model"}))


def _cache(check: LmCheck, context: Context) -> Path | None:
    """Where answers are kept: a folder of the policy's, or the user's own."""
    if check.cache is False:
        return None
    if isinstance(check.cache, str):
        return context.folder / check.cache
    return state_folder() / "assaymark" / "answers"
