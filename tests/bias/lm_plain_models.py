"""Language models that are plain functions, for tests whose answer is known."""

from collections.abc import Callable, Sequence

from assaymark.bias.lm_model import (
    Continuation,
    Failed,
    LanguageModel,
    Progress,
    Prompt,
    Reply,
    Sampling,
    Scored,
)


def scoring(liked: Callable[[str, str], float | Failed]) -> LanguageModel:
    """liked: context and continuation to a log probability."""

    def score(requests: Sequence[Continuation], progress: Progress) -> list[Scored | Failed]:
        told = [liked(one.context, one.text) for one in requests]
        progress(len(requests), len(requests))
        return [one if isinstance(one, Failed) else Scored(("x",), (one,)) for one in told]

    return LanguageModel(name="plain", key="plain", score=score)


def replying(says: Callable[[str], str | Reply | Failed]) -> LanguageModel:
    """says: a prompt to a reply."""

    def generate(
        prompts: Sequence[Prompt], sampling: Sampling, progress: Progress
    ) -> list[Reply | Failed]:
        told = [says(one.text) for one in prompts]
        return [Reply(one) if isinstance(one, str) else one for one in told]

    return LanguageModel(name="chatty", key="chatty", generate=generate, chat=True)
