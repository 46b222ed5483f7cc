"""Templates filled in: prompts that differ only in the group, and can be compared."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from assaymark.bias.lm_prompt_files import Groups, PromptSet, Template, fill, forms_of
from assaymark.bias.lm_service import Answer
from assaymark.reports.errors import InputError, nearest

_PROMPTS = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """A prompt. value: its place among the values of its group; marks: the forms that were filled in.

    Prompts of one template and value are compared across groups.
    """

    id: str
    language: str
    slot: str
    topic: str
    template: str
    group: str
    value: int
    text: str
    answer: Answer | None
    marks: tuple[str, ...]

    @property
    def category(self) -> str:
        return f"{self.language} {self.slot}"


def expand(
    sets: Sequence[PromptSet],
    *,
    slots: Sequence[str] = (),
    topics: Sequence[str] = (),
    values: int | None = None,
) -> tuple[Filled, ...]:
    """Every template with every value of every group.

    slots, topics: only these; empty: all. values: only so many of the first of each group. Raises InputError
    for a slot or topic that no set has, ids that two sets share, or more than 200,000 prompts.
    """
    _known("slot", slots, [slot for one in sets for slot in _slots(one)])
    _known("topic", topics, [template.topic for one in sets for template in one.templates])
    if values is not None and values < 1:
        raise InputError(f"values must be at least 1, got {values}")
    found: dict[str, Filled] = {}
    for prompt in _all(sets, values):
        if (slots and prompt.slot not in slots) or (topics and prompt.topic not in topics):
            continue
        if prompt.id in found:
            raise InputError(
                f'two prompts are called "{prompt.id}": give the templates of one language ids that differ'
            )
        found[prompt.id] = prompt
        if len(found) > _PROMPTS:
            raise InputError(f"more than {_PROMPTS:,} prompts: name fewer slots or values")
    return tuple(found.values())


def _known(what: str, named: Sequence[str], known: Sequence[str]) -> None:
    for name in named:
        if name not in known:
            raise InputError(f'no {what} "{name}" in these prompts{nearest(name, known)}')


def _slots(prompts: PromptSet) -> tuple[str, ...]:
    spoken = [template.slot for template in prompts.templates if template.versions]
    return tuple(dict.fromkeys([*prompts.slots, *spoken]))


def _all(sets: Sequence[PromptSet], values: int | None) -> Iterator[Filled]:
    for one in sets:
        for template in one.templates:
            if template.versions is not None:
                for group, text in template.versions.items():
                    yield _prompt(one.language, template, template.slot, group, value=0, text=text)
                continue
            for slot, groups in one.slots.items():
                if template.forms <= forms_of(groups):
                    yield from _filled(one.language, template, slot, groups, values)


def _filled(
    language: str, template: Template, slot: str, groups: Groups, values: int | None
) -> Iterator[Filled]:
    for group, all_values in groups.items():
        for place, forms in enumerate(all_values[:values]):
            text = fill(template.text, forms)
            marks = forms.values()
            yield _prompt(language, template, slot, group, value=place, text=text, marks=marks)


def _prompt(
    language: str,
    template: Template,
    slot: str,
    group: str,
    *,
    value: int,
    text: str,
    marks: Iterable[str] = (),
) -> Filled:
    return Filled(
        id=f"{language}/{slot}/{template.id}/{group}/{value}",
        language=language,
        slot=slot,
        topic=template.topic,
        template=f"{language}/{template.id}",
        group=group,
        value=value,
        text=text,
        answer=template.answer,
        marks=tuple(sorted(set(marks), key=lambda mark: (-len(mark), mark))),
    )
