"""Word and sentence embedding association tests: WEAT (Caliskan et al. 2017), SEAT (May et al. 2019).

s(w) = mean cos(w, A) − mean cos(w, B) of each target w; the effect size is the difference of the means of s
over X and Y, in standard deviations of s over both. Sentences about one word are not independent, so that the
word is what is exchanged, drawn and counted; the p-value as published, which exchanges sentences, is shown
beside.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy

from assaymark.bias.findings import Measured
from assaymark.bias.lm_clusters import REPLICATES, Sums, cluster_codes, cluster_sums
from assaymark.bias.lm_model import LanguageModel, Progress, quiet
from assaymark.bias.lm_outcome import Outcome
from assaymark.bias.lm_weat_data import Association, Associations, Items
from assaymark.bias.lm_weat_evidence import Associated, evidence
from assaymark.bias.lm_weat_permutation import BUDGET, DRAWS, permutation_test
from assaymark.bias.multiplicity import holm
from assaymark.bias.resample import bca_interval
from assaymark.bias.rows import Flags, Numbers
from assaymark.reports.errors import InputError
from assaymark.reports.model import Interval

Variant = Literal["sent-bias", "wefe"]
VARIANTS: dict[Variant, int] = {"sent-bias": 1, "wefe": 0}
"""Which standard deviation: of a sample (ddof 1, as in sent-bias), or of the words themselves (0, WEFE)."""
LARGEST_LOSS = 0.2
FEWEST_WORDS = 4
STEPS = (
    "Each text is one vector; its association is its mean cosine with attribute set A less that with B.",
    "Effect size: mean association of X less that of Y, in standard deviations over both.",
    "p-value: the share of all splits of the words into sets of the same sizes that are at least as extreme "
    "(ties included), counted one by one where that is feasible, else of random splits; sentences about one "
    "word count as their mean. Sets that lost words keep the sizes that are left. Adjusted over the tests of "
    "this run by Holm's method.",
    "Interval: BCa bootstrap over target words; the attribute words are taken as given.",
)
NOT_TESTED = (
    "Whether associations of vectors show in what a system does with them: effect sizes predict behaviour "
    "poorly (Goldfarb-Tarrant et al. 2021).",
    "Other words than those of the lists, which are U.S. English. Where eight words a side or fewer show a "
    "large effect, 95 % intervals cover it less often than they promise (in 92 %, of four words in 82 %).",
)
SOURCES = (
    "Caliskan, Bryson and Narayanan 2017, Science 356",
    "May et al. 2019, On measuring social biases in sentence encoders, NAACL",
)


def run(
    model: LanguageModel,
    data: Associations,
    *,
    variant: Variant = "sent-bias",
    seed: int = 0,
    progress: Progress = quiet,
    budget: int = BUDGET,
    draws: int = DRAWS,
    largest_loss: float = LARGEST_LOSS,
    fewest_words: int = FEWEST_WORDS,
) -> Outcome:
    """All tests on a model that can `embed`; the target of a number is the test's name, such as weat6.

    Of each test `weat_effect_size` (in [-2, 2] but for ddof; positive is the stereotype), `weat_p_value`
    (one-sided, as published) and `weat_two_sided_p_value`, or `seat_…` of sentences. budget, draws: as in
    `permutation_test`. A test is not measured where the model knows less than 1 − largest_loss of a set, or
    fewer than fewest_words of its words. Raises InputError for a model that does not embed.
    """
    if model.embed is None:
        raise InputError(
            f"{model.name} embeds no text: expected a file of word vectors or a sentence encoder"
        )
    texts = list(
        dict.fromkeys(text for test in data.tests for part in test.sets for text in part.texts)
    )
    vectors, known = model.embed(texts, progress)
    units, usable = _units(vectors, known)
    places = {text: place for place, text in enumerate(texts) if usable[place]}
    found = [
        _tested(
            _associated(test, units, places, VARIANTS[variant], largest_loss, fewest_words),
            budget,
            draws,
            seed,
        )
        for test in data.tests
    ]
    adjusted = holm([None if one.by_word is None else one.by_word.two_sided for one in found])
    lost = len(texts) - len(places)
    return Outcome(
        measured=tuple(
            number
            for one, p in zip(found, adjusted, strict=True)
            for number in _numbers(one, p, variant, seed)
        ),
        items=len(texts),
        answered=len(places),
        lost={"unknown word": lost} if lost else {},
        evidence=evidence(found, [effect_interval(one, 0.95, seed) for one in found], adjusted),
        revision=data.revision,
        steps=(*STEPS, f"Variant {variant}: standard deviation with ddof {VARIANTS[variant]}."),
        not_tested=NOT_TESTED,
        sources=SOURCES,
    )


def _units(vectors: numpy.ndarray, known: Sequence[bool]) -> tuple[numpy.ndarray, Flags]:
    """Vectors of length 1, and which texts have one: a zero vector has no direction."""
    largest = numpy.abs(vectors).max(axis=1, initial=0.0, keepdims=True)
    usable = numpy.asarray(known, bool) & numpy.isfinite(largest[:, 0]) & (largest[:, 0] > 0)
    scaled = vectors / numpy.where(usable[:, None], largest, 1.0)  # no square over- or underflows
    length = numpy.linalg.norm(scaled, axis=1, keepdims=True)
    return scaled / numpy.where(usable[:, None], length, 1.0), usable


def _associated(
    test: Association,
    units: numpy.ndarray,
    places: Mapping[str, int],
    ddof: int,
    largest_loss: float,
    fewest_words: int,
) -> Associated:
    kept = [[text in places for text in part.texts] for part in test.sets]
    rows = [
        units[numpy.array([places[text] for text in part.texts if text in places], dtype=int)]
        for part in test.sets
    ]
    why = _why_not(test.sets, kept, largest_loss, fewest_words)
    x, y, a, b = rows
    toward = numpy.zeros(units.shape[1]) if why else a.mean(axis=0) - b.mean(axis=0)
    words, texts = (
        tuple(
            tuple(value for value, keep in zip(values, flags, strict=True) if keep)
            for values, flags in zip(of, kept, strict=False)
        )
        for of in ((test.x.words, test.y.words), (test.x.texts, test.y.texts))
    )
    return Associated(
        test=test,
        x=x @ toward,
        y=y @ toward,
        words=(words[0], words[1]),
        texts=(texts[0], texts[1]),
        counts=" / ".join(f"{sum(one)} of {len(one)}" for one in kept),
        why=why,
        ddof=ddof,
    )


def _why_not(
    sets: Sequence[Items], kept: Sequence[Sequence[bool]], largest_loss: float, fewest_words: int
) -> str | None:
    for part, flags in zip(sets, kept, strict=True):
        words = {word for word, keep in zip(part.words, flags, strict=True) if keep}
        if sum(flags) < (1 - largest_loss) * len(flags) or len(words) < fewest_words:
            return (
                f"the model knows {sum(flags)} of the {len(flags)} texts of {part.name}, with {len(words)} "
                f"different words (needed are {1 - largest_loss:.0%} and {fewest_words})"
            )
    return None


def _tested(one: Associated, budget: int, draws: int, seed: int) -> Associated:
    if one.why is not None:
        return one
    effect = effect_size(one.x, one.y, ddof=one.ddof)
    if effect is None:
        return replace(one, why="all of its texts have the same association")
    tests = partial(permutation_test, budget=budget, draws=draws, seed=seed)
    by_word = tests(*(_means(s, words) for s, words in zip((one.x, one.y), one.words, strict=True)))
    single = one.test.suite == "weat"
    return replace(
        one,
        effect=effect,
        by_word=by_word,
        as_published=by_word if single else tests(one.x, one.y),
    )


def effect_size(x: Numbers, y: Numbers, *, ddof: int) -> float | None:
    """(mean x − mean y) / standard deviation of both together; None where all numbers are alike.

    >>> import numpy
    >>> round(effect_size(numpy.array([3.0, 1.0]), numpy.array([0.0, 0.0]), ddof=0), 6)
    1.632993
    """
    both = numpy.concatenate([x, y])
    spread = float(both.std(ddof=ddof))
    # 1e-12 of the largest is what rounding leaves of equal numbers
    if spread <= 1e-12 * float(numpy.abs(both).max()):
        return None
    return (float(x.mean()) - float(y.mean())) / spread


def _means(scores: Numbers, words: Sequence[str]) -> Numbers:
    """The mean of each word's texts."""
    codes = cluster_codes(words)
    means: Numbers = numpy.bincount(codes, weights=scores) / numpy.bincount(codes)
    return means


def effect_interval(one: Associated, confidence: float, seed: int) -> Interval | None:
    """BCa interval of the effect size, target words drawn with replacement; None where there is no effect.

    Draws without a word of x or of y have no effect size and are left out: the sets are given.
    """
    if one.effect is None:
        return None
    sums = _word_sums(one)
    words = len(sums)
    rng = numpy.random.default_rng(seed)
    counts = rng.multinomial(words, numpy.full(words, 1 / words), size=REPLICATES)
    drawn, left_out = (
        effects[numpy.isfinite(effects)]
        for effects in (
            _effect_of_sums(counts @ sums, one.ddof),
            _effect_of_sums(sums.sum(axis=0) - sums, one.ddof),
        )
    )
    apart = left_out.mean() - left_out if len(left_out) else left_out
    square = float((apart**2).sum())
    rise = float((apart**3).sum() / (6 * square**1.5)) if square > 0 else 0.0
    found = bca_interval(drawn, one.effect, rise, confidence)
    return None if found is None else replace(found, method="BCa bootstrap of words")


def _word_sums(one: Associated) -> Sums:
    """Of each word: how many texts of x, their sum, how many of y, their sum, the squares of both."""
    centre = float(numpy.concatenate([one.x, one.y]).mean())
    x, y = (
        cluster_sums([numpy.ones(len(s)), s - centre, (s - centre) ** 2], cluster_codes(words))
        for s, words in zip((one.x, one.y), one.words, strict=True)
    )
    return numpy.concatenate(
        [numpy.insert(x, [2, 2], 0.0, axis=1), numpy.insert(y, [0, 0], 0.0, axis=1)]
    )


def _effect_of_sums(sums: Sums, ddof: int) -> Numbers:
    n_x, x, n_y, y, squares = sums.T
    n = n_x + n_y
    with numpy.errstate(divide="ignore", invalid="ignore"):
        variance = (squares - (x + y) ** 2 / n) / (n - ddof)
        effect: Numbers = (x / n_x - y / n_y) / numpy.sqrt(numpy.maximum(variance, 0))
    return effect


def _numbers(one: Associated, adjusted: float | None, variant: str, seed: int) -> list[Measured]:
    suite, test = one.test.suite, one.test
    named = [f"{suite}_effect_size", f"{suite}_p_value", f"{suite}_two_sided_p_value"]
    if one.effect is None or one.by_word is None:
        reason = f"Not measured: {one.why}."
        return [
            Measured(target=test.name, measure=name, value=None, summary=reason, n=None)
            for name in named
        ]
    closer, other = (test.a.name, test.b.name) if one.effect > 0 else (test.b.name, test.a.name)
    effect = (
        f"{test.x.name} lie closer to {closer}, {test.y.name} to {other}: effect size {one.effect:.2f} "
        f"({variant}); known texts: {one.counts}."
    )
    p = one.by_word
    chance = (
        f"Of {p.method} of the words into two sets, a share of {p.greater:.2g} differs as much in the "
        f"direction of the stereotype, {p.two_sided:.2g} in either direction ({adjusted:.2g} adjusted for "
        "all tests)."
    )
    n = sum(len(set(words)) for words in one.words)
    return [
        Measured(
            target=test.name,
            measure=named[0],
            value=one.effect,
            summary=effect,
            n=n,
            interval_at=lambda confidence: effect_interval(one, confidence, seed),
        ),
        Measured(target=test.name, measure=named[1], value=p.greater, summary=chance, n=n),
        Measured(target=test.name, measure=named[2], value=p.two_sided, summary=chance, n=n),
    ]
