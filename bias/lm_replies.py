"""What a model wrote to prompts that differ only in whom they are about or who asks."""

from collections.abc import Sequence
from dataclasses import dataclass

from assaymark.bias.lm_model import Failed, Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Replied:
    """A prompt of a group, and the reply to it.

    id: of the prompt, unique. group: whom it is about. cluster: the template, on which groups are compared.
    category: the language and the slot that was filled, such as "en gender". prompt: as it was sent.
    """

    id: str
    group: str
    cluster: str
    category: str
    prompt: str
    reply: Reply | Failed


def answered(replied: Sequence[Replied]) -> tuple[Replied, ...]:
    """Those that have a reply."""
    return tuple(one for one in replied if isinstance(one.reply, Reply))
