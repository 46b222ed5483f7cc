"""Pronouns in sentences: which gender they have, and how likely a whole sentence is with one or another."""

import math
from collections.abc import Sequence

from assaymark.bias.lm_model import Continuation, Failed, LanguageModel, Progress, quiet
from assaymark.reports.errors import InputError

GENDER = {
    "he": "male", "him": "male", "his": "male", "himself": "male",
    "she": "female", "her": "female", "hers": "female", "herself": "female",
    "they": "neutral", "them": "neutral", "their": "neutral", "theirs": "neutral", "themselves": "neutral",
}  # fmt: skip


def sentence_scores(
    model: LanguageModel, sentences: Sequence[str], progress: Progress = quiet
) -> list[float | Failed]:
    """The natural log probability of each sentence from the beginning of a text.

    Raises InputError where the model cannot score.
    """
    if model.score is None:
        raise InputError(
            f'{model.name} cannot be asked by "pronoun", which needs a model that can "score" '
            f"(it can: {', '.join(model.capabilities) or 'nothing'}): give a causal model"
        )
    told = model.score([Continuation("", sentence) for sentence in sentences], progress)
    return [
        one
        if isinstance(one, Failed)
        else one.total
        if one.logprobs and math.isfinite(one.total)
        else Failed("error", f"the log probability of the sentence is {one.total}")
        for one in told
    ]
