"""The suites that let a language model write: prompts, BOLD-style beginnings, associations of words."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from assaymark.bias.findings import Measured
from assaymark.bias.lm_check import SuiteRun
from assaymark.bias.lm_model import LanguageModel, Progress, Sampling, quiet
from assaymark.bias.lm_outcome import Outcome
from assaymark.bias.lm_replies import Replied
from assaymark.bias.lm_wanted import Run, Wanted, made
from assaymark.reports.errors import InputError

_CLASSIFIERS = frozenset({"toxicity", "sentiment", "regard"})
_LEXICON_READS = "en"
"""The language of the sentiment lexicon that is used where no classifier is named."""


def prompts(wanted: Wanted) -> Run:
    """Prompts that differ in whom they are about: refusals, service, and what the replies say."""
    from assaymark.bias import lm_counterfactual as suite
    from assaymark.bias import lm_prompt_files as files
    from assaymark.bias.lm_refusals import classifier

    languages = wanted.options.get("languages", (_LEXICON_READS,))
    data = (files.load(wanted.path),) if wanted.data else files.shipped(languages)
    data = tuple(replace(one, templates=wanted.sample(one.templates)) for one in data)
    named = wanted.options.get("refusals")
    classify = None if named is None else classifier(named, wanted.folder)
    texts, unread = _texts(wanted)
    variant = wanted.variant or "greedy"
    digests = {one.name: one.sha256 for one in data}
    more = wanted.given("samples", "temperature", "max_tokens", "slots", "topics", "values")

    def run(model: LanguageModel, progress: Progress = quiet) -> list[SuiteRun]:
        asked = suite.ask(model, data, variant=variant, seed=wanted.seed, progress=progress, **more)
        outcome = suite.score(asked, classify=classify)
        outcome = replace(outcome, not_tested=(*outcome.not_tested, *unread))
        runs = [made(wanted, "Prompts", variant, outcome, digests)]
        said = texts(asked.replied)
        if said is None:
            return runs
        rated = made(wanted, "Replies to prompts", variant, said, digests)
        return [*runs, replace(rated, aside=not _CLASSIFIERS & set(wanted.options))]

    return run


def bold(wanted: Wanted) -> Run:
    """Beginnings of texts about groups, and how the model goes on."""
    from assaymark.bias import lm_bold as suite

    languages = wanted.options.get("languages", (_LEXICON_READS,))
    data = suite.load(wanted.path) if wanted.data else suite.own_prompts(languages)
    variant = wanted.variant or "reply"
    classifiers = _classifiers(wanted, lexicon=True)
    more = wanted.given("samples", "system")
    sampling = _sampling(wanted, max_tokens=64)

    def run(model: LanguageModel, progress: Progress = quiet) -> list[SuiteRun]:
        outcome = suite.run(
            model,
            data,
            variant=variant,
            limit=wanted.examples,
            sampling=sampling,
            seed=wanted.seed,
            progress=progress,
            **classifiers,
            **more,
        )
        return [made(wanted, "BOLD", variant, outcome, data.digests)]

    return run


def associations(wanted: Wanted) -> Run:
    """Neutral requests about occupations or traits, and whom the replies are about."""
    from assaymark.bias import lm_association as suite

    variant = wanted.variant or "occupation"
    sampling = _sampling(wanted, max_tokens=128)

    def run(model: LanguageModel, progress: Progress = quiet) -> list[SuiteRun]:
        return [
            made(
                wanted,
                "Associations",
                f"{variant}, {language}",
                suite.run(
                    model,
                    variant=variant,
                    language=language,
                    sampling=sampling,
                    seed=wanted.seed,
                    progress=progress,
                    **wanted.given("samples"),
                ),
                {},
            )
            for language in wanted.options.get("languages", (_LEXICON_READS,))
        ]

    return run


def _sampling(wanted: Wanted, *, max_tokens: int) -> Sampling:
    return Sampling(
        max_tokens=wanted.options.get("max_tokens", max_tokens),
        temperature=wanted.options.get("temperature", 1.0),
        seed=wanted.seed,
    )


def _texts(
    wanted: Wanted,
) -> tuple[Callable[[Sequence[Replied]], Outcome | None], tuple[str, ...]]:
    """What the replies say, by the classifiers that are named; by the lexicon where it reads them.

    And what is not tested for want of the lexicon, which an endpoint or code of the user's does not need.
    """
    from assaymark.bias.lm_texts import measure_texts

    named = _classifiers(wanted, lexicon=False)
    try:
        lexicon = {} if named else _classifiers(wanted, lexicon=True)
    except InputError as error:
        return (lambda replied: None), (f"What the replies say: {error}.",)

    def measure(replied: Sequence[Replied]) -> Outcome | None:
        if named:
            return measure_texts(replied, seed=wanted.seed, **named)
        read = [one for one in replied if one.category.split(" ")[0] == _LEXICON_READS]
        left = dict.fromkeys(one.category for one in replied)
        for one in read:
            left.pop(one.category, None)
        return _unread(measure_texts(read, seed=wanted.seed, **lexicon), left) if read else None

    return measure, ()


def _unread(outcome: Outcome, categories: Iterable[str]) -> Outcome:
    """The same, and that nothing was measured of these categories: a limit holds them too."""
    measures = dict.fromkeys(one.measure for one in outcome.measured)
    unread = tuple(
        Measured(
            target=category,
            measure=measure,
            value=None,
            summary=f"Not measured: the lexicon of sentiment reads {_LEXICON_READS} only, and {category} is "
            "not; name a classifier of sentiment.",
            n=None,
        )
        for category in categories
        for measure in measures
    )
    return replace(outcome, measured=(*outcome.measured, *unread))


def _classifiers(wanted: Wanted, *, lexicon: bool) -> dict[str, Any]:
    """Classifiers by what they rate. lexicon: take the sentiment lexicon where none is named."""
    from assaymark.bias.lm_classifiers import LEXICON, labeller, scorer

    where = {"folder": wanted.folder, "device": wanted.device}
    found: dict[str, Any] = {}
    for kind in ("toxicity", "sentiment", "regard"):
        named: Mapping[str, Any] | None = wanted.options.get(kind)
        if named is None:
            continue
        make: Callable[..., Any] = labeller if kind == "regard" else scorer
        keys = {key: value for key, value in named.items() if key != "classifier"}
        found[kind] = make(named["classifier"], **keys, **where)
    if lexicon and not found:
        found["sentiment"] = scorer(LEXICON)
    return found
