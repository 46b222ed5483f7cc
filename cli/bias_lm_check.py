"""How the bias check of a language model is run: a model is opened, suites ask it, a pillar judges."""

from collections.abc import Callable, Mapping
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
    from assaymark.bias.lm_model import LanguageModel
    from assaymark.bias.lm_open import Opening
    from assaymark.bias.lm_wanted import Run, Wanted


def language_model(check: LmCheck, context: Context) -> CheckResult:
    """All suites on one model. A suite that this model cannot be asked becomes a finding that says why."""
    from assaymark.bias.lm_cache import cached
    from assaymark.bias.lm_check import check_language_model
    from assaymark.bias.lm_mitigated import compared, mitigated
    from assaymark.bias.lm_open import open_model
    from assaymark.bias.lm_suites import prepare

    suites = {name: prepare(_wanted(name, check, context)) for name in check.suites}
    opened = open_model(_opening(check, context))
    folder, revision = _cache(check, context), check.revision or ""
    parts = len(suites) * (1 + len(check.mitigations))
    failures: dict[str, str] = {}
    model = cached(opened, folder, revision=revision)
    runs = _ask(suites, model, _part(context.progress, 0, parts), failures)
    others: dict[str, list[SuiteRun]] = {}
    for number, name in enumerate(check.mitigations, start=1):
        told = cached(mitigated(opened, name), folder, revision=revision)
        progress = _part(context.progress, number * len(suites), parts)
        others[name] = _ask(suites, told, progress, failures, f" with {name}")
    runs += compared(runs, others)
    return check_language_model(
        check.id,
        model,
        runs,
        gates=check.gates,
        tags=check.tags,
        min_coverage=check.min_coverage,
        failures=failures,
    )


def _ask(
    suites: "Mapping[str, Run]",
    model: "LanguageModel",
    progress: Callable[[int], Callable[[int, int], None]],
    failures: dict[str, str],
    how: str = "",
) -> "list[SuiteRun]":
    """What the suites measure of a model; those that it cannot be asked are put down as failures."""
    runs: list[SuiteRun] = []
    for number, (name, run) in enumerate(suites.items()):
        try:
            runs += run(model, progress(number))
        except InputError as error:
            failures[f"{name}{how}"] = str(error)
    return runs


def _part(
    progress: Callable[[int, int], None], begun: int, parts: int
) -> Callable[[int], Callable[[int, int], None]]:
    """Of the number of a suite, its progress as a part of all."""

    def of(number: int) -> Callable[[int, int], None]:
        return lambda done, total: progress((begun + number) * total + done, parts * total)

    return of


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
        pooling=check.pooling,
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
