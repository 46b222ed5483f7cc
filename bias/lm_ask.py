"""Prompts put to a model, some of them several times."""

from collections.abc import Sequence

from assaymark.bias.lm_model import (
    Failed,
    LanguageModel,
    Progress,
    Prompt,
    Reply,
    Sampling,
    quiet,
)
from assaymark.reports.errors import InputError


def ask(
    model: LanguageModel,
    texts: Sequence[str],
    *,
    sampling: Sampling,
    samples: int = 1,
    system: str = "",
    progress: Progress = quiet,
) -> list[list[Reply | Failed]]:
    """The replies to each text, so many samples of each.

    Raises InputError for a model that does not write, for no samples, and for several at temperature 0,
    which would all be the same reply.
    """
    if model.generate is None:
        raise InputError(
            f"{model.name} cannot generate: this suite needs a model that writes, such as hf:FOLDER of a "
            "causal model, an endpoint, or package.module:generate"
        )
    if samples < 1:
        raise InputError(f"samples is {samples}: expected at least 1")
    if samples > 1 and sampling.temperature == 0:
        raise InputError(
            f"{samples} samples at temperature 0 are all alike: set a temperature, such as 1.0"
        )
    prompts = [
        Prompt(text, system=system, sample=place) for text in texts for place in range(samples)
    ]
    replies = model.generate(prompts, sampling, progress)
    if len(replies) != len(prompts):
        raise InputError(f"{model.name} gave {len(replies)} replies to {len(prompts)} prompts")
    return [replies[begin : begin + samples] for begin in range(0, len(replies), samples)]
