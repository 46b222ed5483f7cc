"""What a model wrote to prompts that differ only in whom they are about or who asks."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from assaymark.bias.lm_model import (
    Failed,
    LanguageModel,
    Progress,
    Prompt,
    Reply,
    Sampling,
    quiet,
)
from assaymark.bias.lm_outcome import Parts, parts_of
from assaymark.bias.lm_prompts import Filled
from assaymark.reports.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Replied:
    """A prompt of a group, and the reply to it.

    id: of the prompt and the draw, unique. group: whom it is about. cluster: the template, on which groups
    are compared. category: the language and the slot, such as "en gender". prompt: as it was sent.
    """

    id: str
    group: str
    cluster: str
    category: str
    prompt: str
    reply: Reply | Failed


def replies(
    model: LanguageModel,
    prompts: Sequence[Filled],
    sampling: Sampling,
    progress: Progress = quiet,
    *,
    samples: int = 1,
) -> list[Replied]:
    """What the model writes to every prompt, its samples one after the other.

    An empty reply is Failed, "unparsable", unless a filter made it empty. Raises InputError for a model that
    writes no replies, samples below 1, or when not every request was answered or Failed.
    """
    if model.generate is None:
        raise InputError(f"{model.name} writes no replies: name a model that generates text")
    if samples < 1:
        raise InputError(f"samples must be at least 1, got {samples}")
    asked = [Prompt(one.text, sample=sample) for one in prompts for sample in range(samples)]
    said = model.generate(asked, sampling, progress)
    if len(said) != len(asked):
        raise InputError(
            f"{model.name} gave {len(said)} replies to {len(asked)} prompts: one each is expected"
        )
    return [
        Replied(
            id=f"{prompts[place // samples].id}/{place % samples}",
            group=prompts[place // samples].group,
            cluster=prompts[place // samples].template,
            category=prompts[place // samples].category,
            prompt=prompts[place // samples].text,
            reply=_read(reply),
        )
        for place, reply in enumerate(said)
    ]


def parts_of_replies(replied: Sequence[Replied], known: Sequence[bool]) -> Parts:
    """Answered replies of each group, and of each category those of the group that lost most."""
    return parts_of(
        (target, one.group, there)
        for one, there in zip(replied, known, strict=True)
        for target in (one.category, f"{one.category} = {one.group}")
    )


def _read(reply: Reply | Failed) -> Reply | Failed:
    if isinstance(reply, Failed) or reply.finish == "filter" or re.search(r"\w", reply.text):
        return reply
    return Failed("unparsable", "the reply has no letter or digit")
