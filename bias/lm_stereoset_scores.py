"""How much a model likes each sentence of StereoSet: one function a variant."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from assaymark.bias.lm_crows_pairs_scores import UNTOLD, per_token
from assaymark.bias.lm_model import (
    Blank,
    Capability,
    Continuation,
    Failed,
    LanguageModel,
    Masked,
    Progress,
    Scored,
    quiet,
)
from assaymark.bias.lm_stereoset_data import Cluster, Form, Sentence
from assaymark.reports.errors import InputError

Scores = dict[str, float | Failed]
"""By sentence id; a larger one is what the model prefers."""
NO_FILLER = Failed("not-tokenizable", "the blank has no filler that the tokenizer knows")
NO_TOKENS = Failed("not-tokenizable", "the sentence has no tokens")
NOT_FINITE = Failed("error", "the model gave a log probability that is no finite number")


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A definition. means: one sentence for the report. forms: those that it can score."""

    needs: Capability
    forms: tuple[Form, ...]
    means: str
    source: str
    score: Callable[[LanguageModel, Sequence[Cluster], Progress], Scores]


def masked(model: LanguageModel, clusters: Sequence[Cluster], progress: Progress = quiet) -> Scores:
    """The mean probability of the tokens of the filler, from left to right, those before filled in.

    As IntrasentenceLoader of StereoSet's dataloader.py, but that a word after a space is given to tokenizers
    which tell (RoBERTa) as such. Where a context has several blanks all are masked, and the first counts.
    """
    if model.masked is None:
        raise InputError(f"{model.name} is no masked language model")
    known = model.masked
    asked = [
        (sentence, _fillings(known, cluster.context, sentence))
        for cluster in clusters
        for sentence in cluster.sentences.values()
    ]
    blanks = [blank for _, some in asked for blank in some]
    answers = iter(known.log_probs(blanks, progress) if blanks else [])
    return {sentence.id: _mean(list(islice(answers, len(some)))) for sentence, some in asked}


def _fillings(masked: Masked, context: str, sentence: Sentence) -> list[Blank]:
    """One request for each token of the filler, later ones of which are not there yet."""
    parts = context.split("BLANK")
    after_space = parts[0].endswith(" ")
    filler = masked.pieces(sentence.filler, after_space=after_space) if sentence.filler else ()
    ids = masked.encode(sentence.text)
    inner = [place for place, special in enumerate(masked.special(ids)) if not special]
    if not filler or not inner:
        return []
    first, *rest = (_part(masked, part) for part in parts)
    before = (*ids[: inner[0]], *first)
    found = []
    for place, target in enumerate(filler):
        known = filler[:place]
        middle = [one for part in rest for one in (*known, masked.mask, *part)]
        found.append(
            Blank(
                ids=(*before, *middle, *ids[inner[-1] + 1 :]),
                position=len(before) + place,
                target=target,
            )
        )
    return found


def _part(masked: Masked, text: str) -> tuple[int, ...]:
    """The ids of what stands beside a blank."""
    bare = text.strip(" ")
    return masked.pieces(bare, after_space=text.startswith(" ")) if bare else ()


def _mean(answers: list[float | Failed]) -> float | Failed:
    """The mean probability."""
    total = 0.0
    for answer in answers:
        if isinstance(answer, Failed):
            return answer
        # no logarithm of a probability of a word that a softmax gives; 1e-3 may be a rounding above 0
        if not math.isfinite(answer) or answer > 1e-3:
            return NOT_FINITE
        total += math.exp(answer)
    return total / len(answers) if answers else NO_FILLER


def causal(model: LanguageModel, clusters: Sequence[Cluster], progress: Progress = quiet) -> Scores:
    """2 ** mean(log2 P(token)) of the sentence, after its context where it has one.

    As evaluate_intrasentence of eval_generative_models.py; between sentences, the same of the sentence given
    the context, which the published zero-shot score does not do (see `causal_published`).
    """
    asked = {
        sentence.id: (
            Continuation("", sentence.text)
            if cluster.form == "intrasentence"
            else Continuation(_closed(cluster.context), f" {sentence.text}")
        )
        for cluster in clusters
        for sentence in cluster.sentences.values()
    }
    means = _means(model, list(asked.values()), progress)
    return {name: _power(mean) for name, mean in zip(asked, means, strict=True)}


def causal_published(
    model: LanguageModel, clusters: Sequence[Cluster], progress: Progress = quiet
) -> Scores:
    """As `causal` within sentences; between them the ratio that evaluate_intersentence computes.

    mean log2 P(sentence) / mean log2 P(context): of two negative numbers, the sentence alone, without its
    context. It is larger the *less* likely the sentence is, so a preference comes out reversed; use it only
    to reproduce numbers that were made with it.
    """
    within = [
        sentence
        for cluster in clusters
        if cluster.form == "intrasentence"
        for sentence in cluster.sentences.values()
    ]
    between = [cluster for cluster in clusters if cluster.form == "intersentence"]
    texts = [sentence.text for sentence in within]
    for cluster in between:
        texts.append(_closed(cluster.context))
        texts.extend(sentence.text for sentence in cluster.sentences.values())
    means = iter(_means(model, [Continuation("", text) for text in texts], progress))
    found = {sentence.id: _power(next(means)) for sentence in within}
    for cluster in between:
        context = next(means)
        for sentence in cluster.sentences.values():
            found[sentence.id] = _ratio(next(means), context)
    return found


def _power(mean: float | Failed) -> float | Failed:
    return mean if isinstance(mean, Failed) else math.exp(mean)


def _ratio(sentence: float | Failed, context: float | Failed) -> float | Failed:
    if isinstance(sentence, Failed):
        return sentence
    if isinstance(context, Failed):
        return context
    return sentence / context if context else NOT_FINITE


def _closed(context: str) -> str:
    """A context ends with a mark, as the official scripts have it."""
    return context if context.endswith((".", "!", "?")) else f"{context}."


def _means(
    model: LanguageModel, asked: Sequence[Continuation], progress: Progress
) -> list[float | Failed]:
    """Mean log probability of the tokens of each continuation."""
    if model.score is None:
        raise InputError(f"{model.name} does not tell how likely a text is")
    answers = model.score(asked, progress) if asked else []
    return [_log_mean(*both) for both in zip(asked, answers, strict=True)]


def _log_mean(asked: Continuation, answer: Scored | Failed) -> float | Failed:
    if isinstance(answer, Failed):
        return answer
    if not per_token(asked, answer):
        return UNTOLD
    if not answer.logprobs:
        return NO_TOKENS
    mean = answer.total / len(answer.logprobs)
    return mean if math.isfinite(mean) else NOT_FINITE


def predicted(scores: Mapping[str, float], clusters: Sequence[Cluster]) -> Scores:
    """Stored predictions; a sentence that has none is lost."""
    missing = Failed("not-offered", "the predictions have no score for the sentence")
    return {
        sentence.id: scores.get(sentence.id, missing)
        for cluster in clusters
        for sentence in cluster.sentences.values()
    }


VARIANTS: dict[str, Variant] = {
    "masked": Variant(
        needs="masked",
        forms=("intrasentence",),
        means="the mean probability of the tokens of the word in the blank, from left to right",
        source="Nadeem et al. 2021 (https://arxiv.org/abs/2004.09456), dataloader.py of "
        "moinnadeem/StereoSet; words after a space are encoded as such (McGill-NLP/bias-bench #5)",
        score=masked,
    ),
    "causal": Variant(
        needs="score",
        forms=("intrasentence", "intersentence"),
        means="two to the power of the mean log2 probability of the sentence's tokens, between sentences "
        "given the context",
        source="Nadeem et al. 2021 (https://arxiv.org/abs/2004.09456), eval_generative_models.py; the "
        "score between sentences is ours, the published ones come from trained next-sentence heads",
        score=causal,
    ),
    "causal-published": Variant(
        needs="score",
        forms=("intrasentence", "intersentence"),
        means="as causal; between sentences the published ratio of mean log probabilities, which is "
        "larger the less likely a sentence is",
        source="Nadeem et al. 2021 (https://arxiv.org/abs/2004.09456), eval_generative_models.py",
        score=causal_published,
    ),
}
