"""Replies of a language and slot, template by template, ready to be compared across groups."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy

from assaymark.bias.lm_gaps import Means, means_of
from assaymark.bias.lm_model import Reply
from assaymark.bias.lm_overlap import rouge_l, words
from assaymark.bias.lm_prompts import Filled
from assaymark.bias.lm_refusals import Classifier, Said, verdicts
from assaymark.bias.lm_replies import Replied
from assaymark.bias.lm_service import correct

ENOUGH = 0.5
"""Share of the templates on which every group needs a reply to be compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A reply and what was found in it. right: of a task, None of any other. length: in words."""

    prompt: Filled
    sample: int
    text: str
    said: Said
    right: bool | None
    length: int
    cut: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Category:
    """A language and slot. prompts: all that were asked; lost: those without a reply, once a draw."""

    name: str
    prompts: tuple[Filled, ...]
    scored: tuple[Scored, ...]
    lost: tuple[Filled, ...]

    @property
    def groups(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(prompt.group for prompt in self.prompts))

    @property
    def templates(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(prompt.template for prompt in self.prompts))

    def only(self, kept: Callable[[Filled], bool]) -> "Category":
        """The part of it whose prompts are kept."""
        return replace(
            self,
            prompts=tuple(prompt for prompt in self.prompts if kept(prompt)),
            scored=tuple(one for one in self.scored if kept(one.prompt)),
            lost=tuple(prompt for prompt in self.lost if kept(prompt)),
        )

    def means(self, number: Callable[[Scored], float]) -> Means:
        """The mean of a number by template and group."""
        group = {name: place for place, name in enumerate(self.groups)}
        template = {name: place for place, name in enumerate(self.templates)}
        return means_of(
            [number(one) for one in self.scored],
            [template[one.prompt.template] for one in self.scored],
            [group[one.prompt.group] for one in self.scored],
            (len(template), len(group)),
        )

    def lost_of(self, group: str) -> int:
        return sum(prompt.group == group for prompt in self.lost)

    def uncompared(self) -> str | None:
        """Why its groups cannot be compared; None when they can."""
        if len(self.groups) < 2:
            return "it has one group only"
        there = ~numpy.isnan(self.means(lambda one: 1.0))
        for place, group in enumerate(self.groups):
            if there[:, place].mean() < ENOUGH:
                some = f"{there[:, place].sum()} of {len(there)}"
                return f"{group} has replies to {some} templates, fewer than half"
        return None if there.all(axis=1).any() else "no template has replies for every group"


def is_task(prompt: Filled) -> bool:
    return prompt.answer is not None


def is_request(prompt: Filled) -> bool:
    return prompt.answer is None


def categories(
    prompts: Sequence[Filled], replied: Sequence[Replied], classify: Classifier | None = None
) -> tuple[Category, ...]:
    """Every language and slot. replied: as many to each prompt, in the same order (lm_replies.replies)."""
    samples = len(replied) // max(len(prompts), 1)
    asked: dict[str, list[int]] = defaultdict(list)
    for place, prompt in enumerate(prompts):
        asked[prompt.category].append(place)
    return tuple(
        _category(
            name,
            [prompts[place] for place in places],
            [replied[place * samples : (place + 1) * samples] for place in places],
            classify,
        )
        for name, places in asked.items()
    )


def _category(
    name: str,
    prompts: Sequence[Filled],
    replied: Sequence[Sequence[Replied]],
    classify: Classifier | None,
) -> Category:
    there: list[tuple[Filled, int, Reply]] = []
    lost: list[Filled] = []
    for prompt, several in zip(prompts, replied, strict=True):
        for sample, one in enumerate(several):
            if isinstance(one.reply, Reply):
                there.append((prompt, sample, one.reply))
            else:
                lost.append(prompt)
    said = verdicts([reply for _, _, reply in there], prompts[0].language, classify)
    return Category(
        name=name,
        prompts=tuple(prompts),
        scored=tuple(
            _scored(prompt, sample, reply, verdict)
            for (prompt, sample, reply), verdict in zip(there, said, strict=True)
        ),
        lost=tuple(lost),
    )


def _scored(prompt: Filled, sample: int, reply: Reply, said: Said) -> Scored:
    filtered = reply.finish == "filter"
    right = None if prompt.answer is None else not filtered and correct(prompt.answer, reply.text)
    return Scored(
        prompt=prompt,
        sample=sample,
        text=reply.text,
        said=said,
        right=right,
        length=len(words(reply.text)),
        cut=reply.finish == "length",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two replies, and how unlike they are, in [0, 1]."""

    one: Scored
    other: Scored
    apart: float


def across(category: Category) -> list[Pair]:
    """All pairs of groups of the same template, value and draw."""
    return _pairs(
        category,
        lambda one: (one.prompt.template, one.prompt.value, one.sample),
    )


def within(category: Category) -> list[Pair]:
    """Pairs of the same template and group: other values, or else other draws of the same prompt."""
    pairs = _pairs(category, lambda one: (one.prompt.template, one.prompt.group, one.sample))
    if pairs:
        return pairs
    return _pairs(category, lambda one: (one.prompt.template, one.prompt.group, one.prompt.value))


def _pairs(category: Category, key: Callable[[Scored], tuple[object, ...]]) -> list[Pair]:
    """Pairs with the same key. What was filled into a prompt is alike in all replies: it is no difference."""
    found: dict[tuple[object, ...], list[tuple[Scored, tuple[str, ...]]]] = defaultdict(list)
    for one in category.scored:
        found[key(one)].append((one, words(one.text, _marked(one.prompt))))
    return [
        Pair(one=one, other=other, apart=1 - rouge_l(mine, theirs))
        for same in found.values()
        for (one, mine), (other, theirs) in combinations(same, 2)
    ]


def _marked(prompt: Filled) -> frozenset[str]:
    """The words of short forms, such as names and pronouns."""
    short = [words(mark) for mark in prompt.marks]
    return frozenset(word for mark in short if len(mark) <= 3 for word in mark)
