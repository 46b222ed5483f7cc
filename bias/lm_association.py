"""With whom a model's texts associate occupations and traits: stereotypical association, and COBS.

Of each word how often it stands in texts with words of each group; what a fair model would seem to do, since
few counts are never even; and the words that are furthest from even. Prompts of our own name a word and
nobody's gender, so that whom the text is about is the model's choice.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy

from assaymark.bias.findings import Measured
from assaymark.bias.lm_ask import ask
from assaymark.bias.lm_chance import DRAWS, Distance
from assaymark.bias.lm_cooccurrence import (
    BETA,
    Company,
    association,
    cobs,
    company,
    representation,
    word_scores,
)
from assaymark.bias.lm_model import Failed, LanguageModel, Progress, Sampling, quiet
from assaymark.bias.lm_outcome import Outcome, commonest, reasons
from assaymark.bias.lm_rated import language_of, texts_of
from assaymark.bias.lm_replies import Replied
from assaymark.bias.lm_text_evidence import clip
from assaymark.bias.lm_words import LANGUAGES, Words, own_words, prompts, tokens
from assaymark.bias.multiplicity import benjamini_hochberg
from assaymark.reports.errors import InputError
from assaymark.reports.model import Cell, Estimate, Estimates, Evidence, Table

SHOWN = 20
ASSOCIATION, REPRESENTATION, COBS = (
    "stereotypical_association",
    "demographic_representation",
    "cooccurrence_bias",
)
SOURCES = (
    "Liang et al. 2023, Holistic Evaluation of Language Models, https://arxiv.org/abs/2211.09110",
    "Bordia and Bowman 2019, https://arxiv.org/abs/1904.03035",
    "Bouchard 2024 (LangFair), https://arxiv.org/abs/2407.10853",
)


def run(
    model: LanguageModel,
    data: Sequence[str] | None = None,
    *,
    variant: str = "occupation",
    language: str = "en",
    lists: Words | None = None,
    samples: int = 1,
    sampling: Sampling | None = None,
    beta: float = BETA,
    seed: int = 0,
    draws: int = DRAWS,
    progress: Progress = quiet,
) -> Outcome:
    """Writes about every target word, and whom it writes about. Needs a model that generates.

    data: templates with {word}, at least one (our own by default, for chat models or others). variant: the
    targets that are shipped, "occupation" or "adjective", where no lists are given. sampling: 128 tokens at
    temperature 1 by default. Raises InputError for what cannot be asked.
    """
    counted = lists or own_words(language, variant)
    templates = tuple(data) if data is not None else prompts(language, chat=model.chat)
    if not templates or any("{word}" not in one for one in templates):
        raise InputError(
            "a template has {word} in it, where the word belongs; expected at least one"
        )
    chosen = sampling or Sampling(max_tokens=128, temperature=1.0, seed=seed)
    texts = [one.replace("{word}", word) for word in counted.targets for one in templates]
    given = ask(model, texts, sampling=chosen, samples=samples, progress=progress)
    replied = [
        Replied(id=text, group="", cluster=text, category=variant, prompt=text, reply=reply)
        for text, replies in zip(texts, given, strict=True)
        for reply in replies
    ]
    found = measure_association(replied, lists=counted, beta=beta, seed=seed, draws=draws)
    asked = (
        f"{len(texts):,} prompts, {samples} sample(s) of each at temperature {chosen.temperature:g}, up to "
        f"{chosen.max_tokens} tokens; prompts name the word and nobody's gender."
    )
    return replace(
        found,
        steps=(asked, *found.steps),
        revision="templates of the user's"
        if data is not None
        else f"our templates in {language!r}",
    )


def measure_association(
    replied: Sequence[Replied],
    *,
    lists: Words | None = None,
    variant: str = "occupation",
    language: str | None = None,
    beta: float = BETA,
    prefix: str = "",
    seed: int = 0,
    draws: int = DRAWS,
) -> Outcome:
    """Whom replies associate words with, by category.

    lists: of the user's; without, those of gender that are shipped in the language of the category. Only
    replies are read, never prompts. Raises InputError without replies, or for a beta outside (0, 1).
    """
    if not replied:
        raise InputError("no replies to count words in: expected at least one prompt")
    if not 0 < beta < 1:
        raise InputError(f"beta is {beta:g}: expected a number between 0 and 1, such as {BETA}")
    texts = texts_of(replied, include_prompt=False)
    measured: list[Measured] = []
    evidence: list[Evidence] = []
    answers: list[str | Failed] = list(texts)
    for category in sorted({one.category for one in replied}):
        mine = [place for place, one in enumerate(replied) if one.category == category]
        chosen = lists or _lists_of(category, language, variant)
        if isinstance(chosen, Failed):
            measured += [_unmeasured(category, name, chosen.reason) for name in _NAMES]
            for place in mine:
                answers[place] = chosen
            continue
        pairs = [(texts[place], replied[place].cluster) for place in mine]
        written = [(text, cluster) for text, cluster in pairs if isinstance(text, str)]
        numbers, tables = _category(category, written, chosen, beta, seed, draws)
        measured += numbers
        evidence += tables
    lost = [one for one in answers if isinstance(one, Failed)]
    return Outcome(
        measured=tuple(replace(one, measure=prefix + one.measure) for one in measured),
        items=len(replied),
        answered=len(replied) - len(lost),
        lost=reasons(lost),
        said=commonest(lost),
        evidence=tuple(evidence),
        steps=(
            "Words are counted in replies without their prompts: of a target how often it stands in a text "
            "with words of each group, over the length of the group's list.",
            "Stereotypical association: the total variation of these counts from even ones, its mean over "
            "the targets that were seen. Demographic representation: the same of the groups' words.",
            f"COBS: |log10| of the ratio of a target's nearness ({beta:g} to the power of the distance) to "
            "words of two groups, each over that of all words.",
            "Chance: groups change places in all replies to a prompt at once; for COBS prompts change places "
            "in whom they are about.",
        ),
        not_tested=(
            "Words outside the lists; who is meant by a word; gender beyond the two lists, unless lists of "
            "yours name it.",
            "Whether an uneven count is a stereotype or a fact of the world.",
        ),
        sources=SOURCES,
    )


_NAMES = (ASSOCIATION, REPRESENTATION, COBS)


def _lists_of(category: str, said: str | None, variant: str) -> Words | Failed:
    language = language_of(category, said)
    if language in LANGUAGES:
        return own_words(language, variant)
    is_in = "nobody said in which language it is" if language is None else f"it is in {language!r}"
    return Failed(
        "not-offered", f"words are shipped in {', '.join(LANGUAGES)} only, and {is_in}: give lists"
    )


def _category(
    category: str,
    written: Sequence[tuple[str, str]],
    lists: Words,
    beta: float,
    seed: int,
    draws: int,
) -> tuple[list[Measured], list[Evidence]]:
    if not written:
        return [_unmeasured(category, name, "no reply holds a text") for name in _NAMES], []
    texts, clusters = zip(*written, strict=True)
    found = company(texts, clusters, lists, beta=beta)
    associated = association(found, seed=seed, draws=draws)
    named = representation(found, seed=seed, draws=draws)
    near = cobs(found, seed=seed, draws=draws)
    groups = " and ".join(lists.groups) if len(lists.groups) == 2 else f"{len(lists.groups)} groups"
    about = partial(_measured, category, found, len(written))
    seen = len(found.words)
    measured = [
        about(
            ASSOCIATION,
            associated and associated[0],
            f"no target word stands in a reply with a word of a group ({seen} of {len(lists.targets)} "
            "target words were seen)",
            f"In what they stand with, {seen} target words are {{value}} away from equal company of {groups}",
        ),
        about(
            REPRESENTATION,
            named,
            "no reply holds a word of any group",
            f"How often {groups} are named is {{value}} away from equally often",
        ),
        about(
            COBS,
            near,
            "COBS compares two groups"
            if len(lists.groups) != 2
            else "no target word stands near words of both groups",
            f"Target words are {{value}} (|log10| of the ratio) nearer to one of {groups}",
        ),
    ]
    if associated is None:
        return measured, []
    return measured, [
        _words(category, found, lists, associated[1], texts),
        _chart(category, measured[:2]),
    ]


def _measured(
    category: str,
    found: Company,
    n: int,
    name: str,
    distance: Distance | None,
    why: str,
    says: str,
) -> Measured:
    if distance is None:
        return _unmeasured(category, name, why)
    chance = "nothing certain" if distance.chance is None else f"{distance.chance:.3f}"
    several = len(found.together) > 1
    return Measured(
        target=category,
        measure=name,
        value=distance.value,
        summary=f"{says.format(value=f'{distance.value:.3f}')}; chance alone would give {chance} "
        f"(p = {distance.p:.3g}, {n} replies in {len(found.together)} clusters).",
        n=n,
        interval_at=lambda confidence: distance.interval(confidence) if several else None,
    )


def _unmeasured(category: str, name: str, why: str) -> Measured:
    return Measured(
        target=category, measure=name, value=None, summary=f"Not measured: {why}.", n=None
    )


def _words(
    category: str, found: Company, lists: Words, p: numpy.ndarray, texts: Sequence[str]
) -> Table:
    """The words whose company is least likely even, each with a text that it stands in."""
    scores, counts = word_scores(found), found.together.sum(axis=0)
    known = [place for place in range(len(found.words)) if not numpy.isnan(p[place])]
    adjusted = dict(
        zip(known, benjamini_hochberg([float(p[place]) for place in known]), strict=True)
    )
    order = sorted(known, key=lambda place: (p[place], -scores[place], found.words[place]))[:SHOWN]
    examples = _examples([found.words[place] for place in order], lists, texts)
    rows: list[tuple[Cell, ...]] = [
        (
            found.words[place],
            *(int(count) for count in counts[place]),
            float(scores[place]),
            float(p[place]),
            adjusted[place],
            examples.get(found.words[place]),
        )
        for place in order
    ]
    return Table(
        title=f"Words in uneven company: {category}",
        columns=(
            "word",
            *(f"with {name}" for name in lists.groups),
            "total variation",
            "p",
            "p, Benjamini–Hochberg",
            "an example",
        ),
        rows=tuple(rows),
        note="Counts of pairs in the same reply. p: how often chance is as uneven, were the groups to change "
        "places in the replies to each prompt.",
    )


def _examples(wanted: Sequence[str], lists: Words, texts: Sequence[str]) -> dict[str, str]:
    """For each word the first text that it stands in with a word of a group."""
    named = {word for each in lists.groups.values() for word in each}
    left, found = set(wanted), dict[str, str]()
    for text in texts:
        if not left:
            break
        held = set(tokens(text))
        if held & named:
            for word in sorted(held & left):
                found[word] = clip(text)
            left -= held
    return found


def _chart(category: str, measured: Sequence[Measured]) -> Estimates:
    estimates = []
    for one in measured:
        interval = None if one.value is None else one.interval_at(0.95)
        estimates.append(
            Estimate(
                label=one.measure.replace("_", " "),
                value=one.value,
                low=None if interval is None else interval.low,
                high=None if interval is None else interval.high,
                n=one.n,
            )
        )
    return Estimates(title=f"Distance from even: {category}", estimates=tuple(estimates))
