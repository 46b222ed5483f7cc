"""The suites for language models by name: each reads its data, and then asks a model."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from assaymark.bias.lm_check import SuiteRun
from assaymark.bias.lm_model import LanguageModel, Progress, quiet
from assaymark.bias.lm_outcome import Outcome
from assaymark.bias.lm_suites_written import associations, bold, prompts
from assaymark.bias.lm_wanted import Run, Wanted, made


def prepare(wanted: Wanted) -> Run:
    """Reads what a suite needs, so that its mistakes are known before a model is loaded."""
    return SUITES[wanted.suite](wanted)


def _crows_pairs(wanted: Wanted) -> Run:
    from assaymark.bias import lm_crows_pairs as suite
    from assaymark.bias.lm_crows_pairs_data import load_crows_pairs

    data = load_crows_pairs(wanted.path)
    quality = _quality(wanted, [pair.id for pair in data.pairs])
    categories = data.categories
    data = replace(data, pairs=wanted.sample(data.pairs))

    def run(model: LanguageModel, progress: Progress = quiet) -> list[SuiteRun]:
        variant = wanted.variant or suite.default_variant(model)
        outcome = suite.run(
            model,
            data,
            variant=variant,
            seed=wanted.seed,
            progress=progress,
            quality=quality,
            **wanted.given("prefixes", "most_ties"),
        )
        digests = {data.name: data.sha256}
        return [made(wanted, "CrowS-Pairs", variant, outcome, digests, categories)]

    return run


def _stereoset(wanted: Wanted) -> Run:
    from assaymark.bias import lm_stereoset as suite
    from assaymark.bias.lm_stereoset_data import load_stereoset
    from assaymark.bias.lm_stereoset_report import selections

    data = load_stereoset(wanted.path)
    quality = _quality(wanted, [cluster.id for cluster in data.clusters])
    every = data.clusters
    data = replace(data, clusters=wanted.sample(data.clusters))

    def run(model: LanguageModel, progress: Progress = quiet) -> list[SuiteRun]:
        variant = wanted.variant or suite.default_variant(model)
        outcome = suite.run(
            model,
            data,
            variant=variant,
            seed=wanted.seed,
            progress=progress,
            quality=quality,
            **wanted.given("most_ties"),
        )
        categories = selections([one for one in every if one.form in suite.forms_of(variant)])
        digests = {data.name: data.sha256}
        return [made(wanted, "StereoSet", variant, outcome, digests, categories)]

    return run


def _quality(wanted: Wanted, ids: list[str]) -> Any:
    from assaymark.bias.lm_quality import load_quality

    named = wanted.options.get("quality")
    return None if named is None else load_quality(wanted.folder / named, ids)


def _bbq(wanted: Wanted) -> Run:
    from assaymark.bias.lm_bbq import load_bbq
    from assaymark.bias.lm_bbq_run import run_bbq

    data = load_bbq(wanted.path)
    categories = [item.category for item in data.items]
    data = replace(data, items=wanted.sample(data.items))
    return _questions(wanted, "BBQ", data, run_bbq, categories)


def _winobias(wanted: Wanted) -> Run:
    from assaymark.bias.lm_winobias import load_winobias
    from assaymark.bias.lm_winobias_run import run_winobias

    data = load_winobias(wanted.path)
    categories = [pair.part for pair in data.pairs]
    data = replace(data, pairs=wanted.sample(data.pairs))
    return _questions(wanted, "WinoBias", data, run_winobias, categories)


def _winogender(wanted: Wanted) -> Run:
    from assaymark.bias.lm_winogender import load_winogender
    from assaymark.bias.lm_winogender_run import run_winogender

    data = load_winogender(wanted.path)
    kept = set(wanted.sample(tuple(dict.fromkeys(one.schema for one in data.sentences))))
    data = replace(data, sentences=tuple(one for one in data.sentences if one.schema in kept))
    return _questions(wanted, "Winogender", data, run_winogender)


def _questions(
    wanted: Wanted,
    title: str,
    data: Any,
    ask: Callable[..., Outcome],
    categories: Iterable[str] = (),
) -> Run:
    """A suite of questions with options: likelihoods where the model tells them, else written replies."""
    more = wanted.given("orders")
    if wanted.options.get("formats") == "all":
        more["formats"] = "all"

    def run(model: LanguageModel, progress: Progress = quiet) -> list[SuiteRun]:
        variant = wanted.variant or ("likelihood" if model.score else "chat")
        outcome = ask(model, data, variant=variant, seed=wanted.seed, progress=progress, **more)
        return [made(wanted, title, variant, outcome, data.digests, categories)]

    return run


def _weat(wanted: Wanted) -> Run:
    from assaymark.bias import lm_weat as suite
    from assaymark.bias.lm_weat_data import load

    data = load(wanted.path)
    variant: Any = wanted.variant or "sent-bias"

    def run(model: LanguageModel, progress: Progress = quiet) -> list[SuiteRun]:
        outcome = suite.run(model, data, variant=variant, seed=wanted.seed, progress=progress)
        return [made(wanted, "WEAT", variant, outcome, data.digests)]

    return run


def _descriptors(wanted: Wanted) -> Run:
    from assaymark.bias import lm_descriptors as suite
    from assaymark.bias.lm_descriptors_data import holistic_bias, own

    sets = (
        {"": holistic_bias(wanted.path)}
        if wanted.data is not None
        else {language: own(language) for language in wanted.options.get("languages", ("en",))}
    )

    def run(model: LanguageModel, progress: Progress = quiet) -> list[SuiteRun]:
        return [
            made(
                wanted,
                "Descriptors",
                f"likelihood{language and f', {language}'}",
                suite.run(model, data, seed=wanted.seed, progress=progress),
                data.digests,
            )
            for language, data in sets.items()
        ]

    return run


def _decisions(wanted: Wanted) -> Run:
    from assaymark.bias import lm_decisions as suite
    from assaymark.bias.lm_decision_asking import variant_for
    from assaymark.bias.lm_decision_data import load_discrim_eval, own_decisions, subset

    sets = (
        {"": load_discrim_eval(wanted.path)}
        if wanted.data is not None
        else {lang: own_decisions(lang) for lang in wanted.options.get("languages", ("en",))}
    )
    if wanted.examples is not None:
        people = wanted.examples
        sets = {lang: subset(one, people, seed=wanted.seed) for lang, one in sets.items()}
    more = wanted.given("min_mass", "samples", "order")

    def run(model: LanguageModel, progress: Progress = quiet) -> list[SuiteRun]:
        variant = variant_for(model, wanted.variant)
        return [
            made(
                wanted,
                "Decisions",
                f"{variant}{language and f', {language}'}",
                suite.run(model, one, variant=variant, seed=wanted.seed, progress=progress, **more),
                {wanted.data or "decision questions": one.sha256},
            )
            for language, one in sets.items()
        ]

    return run


SUITES: dict[str, Callable[[Wanted], Run]] = {
    "crows-pairs": _crows_pairs,
    "stereoset": _stereoset,
    "bbq": _bbq,
    "winobias": _winobias,
    "winogender": _winogender,
    "weat": _weat,
    "descriptors": _descriptors,
    "decisions": _decisions,
    "prompts": prompts,
    "bold": bold,
    "associations": associations,
}
