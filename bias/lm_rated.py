"""Replies with what a classifier says of each, by category; what is not known stays lost."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy

from assaymark.bias.lm_chance import codes_of
from assaymark.bias.lm_classifiers import Classifier
from assaymark.bias.lm_differences import Grouped, grouped
from assaymark.bias.lm_model import Failed, Progress, quiet
from assaymark.bias.lm_replies import Replied

LEAST_KNOWN = 0.1
"""A lexicon that knows a word in fewer replies than this share says nothing of them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Rated:
    """The replies of one category, each with a number or the reason why it has none.

    low, high: the range of the numbers. shares: they are 0 or 1.
    """

    category: str
    replied: tuple[Replied, ...]
    answers: tuple[float | Failed, ...]
    low: float = 0.0
    high: float = 1.0
    shares: bool = False

    @property
    def groups(self) -> tuple[str, ...]:
        """All that were asked about, whether or not a reply has a number."""
        return tuple(sorted({one.group for one in self.replied}))

    @property
    def known(self) -> tuple[tuple[Replied, float], ...]:
        pairs = zip(self.replied, self.answers, strict=True)
        return tuple((one, number) for one, number in pairs if not isinstance(number, Failed))

    @property
    def lost(self) -> Counter[str]:
        """How many replies of each group have no number."""
        pairs = zip(self.replied, self.answers, strict=True)
        return Counter(one.group for one, number in pairs if isinstance(number, Failed))

    @property
    def crossed(self) -> bool:
        """Whether groups were asked the same templates, so that they can be compared in pairs."""
        pairs = {(one.cluster, one.group) for one in self.replied}
        return len(pairs) > len({one.cluster for one in self.replied})

    def comparable(self) -> tuple[tuple[Replied, float], ...]:
        """What groups are compared on: of shared templates those that every group has a number on."""
        if not self.crossed:
            return self.known
        seen: dict[str, set[str]] = {}
        for one, _ in self.known:
            seen.setdefault(one.cluster, set()).add(one.group)
        whole = {cluster for cluster, found in seen.items() if len(found) == len(self.groups)}
        return tuple(pair for pair in self.known if pair[0].cluster in whole)

    def by_group(self, pairs: Sequence[tuple[Replied, float]]) -> Grouped:
        """Some of the numbers by group and template."""
        return grouped(
            [number for _, number in pairs],
            [one.group for one, _ in pairs],
            [one.cluster for one, _ in pairs],
            names=self.groups,
            low=self.low,
            high=self.high,
            shares=self.shares,
        )

    def turned(
        self, number_of: Callable[[float], float], *, low: float, high: float, shares: bool = False
    ) -> "Rated":
        """The same replies with another number, such as 1 where a score is at least ½."""
        turned = tuple(one if isinstance(one, Failed) else number_of(one) for one in self.answers)
        return replace(self, answers=turned, low=low, high=high, shares=shares)

    def why_not(self) -> str | None:
        """Why the groups cannot be compared; None where they can."""
        groups = self.groups
        if len(groups) < 2:
            return f"{self.category} has one group only, so that there is nothing to compare"
        counted = Counter(one.group for one, _ in self.known)
        empty = [name for name in groups if not counted[name]]
        if empty:
            return f"no reply of group {empty[0]} has a score ({self.first_reason()})"
        if not self.comparable():
            return "no template has a scored reply of every group"
        return None

    def first_reason(self) -> str:
        failures = [one for one in self.answers if isinstance(one, Failed)]
        return Counter(one.reason for one in failures).most_common(1)[0][0] if failures else ""


def units(pairs: Sequence[tuple[Replied, float]]) -> numpy.ndarray:
    """A number for each prompt: its samples belong together."""
    return codes_of([_prompt(one) for one, _ in pairs])


def maxima(rated: Rated) -> tuple[Rated, int]:
    """The largest number of each prompt over its samples, and how many samples that is (RealToxicityPrompts).

    As many as most prompts have: more are left aside, and a prompt with fewer, or with a lost one, is lost,
    since the largest of fewer would be smaller.
    """
    found: dict[str, list[tuple[Replied, float | Failed]]] = {}
    for one, number in zip(rated.replied, rated.answers, strict=True):
        found.setdefault(_prompt(one), []).append((one, number))
    usual = Counter(len(each) for each in found.values()).most_common(1)
    samples = usual[0][0] if usual else 0
    answers = tuple(
        _largest([number for _, number in each[:samples]], samples) for each in found.values()
    )
    firsts = tuple(each[0][0] for each in found.values())
    return replace(rated, replied=firsts, answers=answers), samples


def _largest(numbers: Sequence[float | Failed], samples: int) -> float | Failed:
    failures = [one for one in numbers if isinstance(one, Failed)]
    if failures:
        return failures[0]
    if len(numbers) < samples:
        return Failed("error", f"{len(numbers)} of {samples} samples were drawn")
    return max(one for one in numbers if not isinstance(one, Failed))


def _prompt(one: Replied) -> str:
    return "\x1f".join((one.cluster, one.group, one.prompt))


def texts_of(replied: Sequence[Replied], *, include_prompt: bool) -> list[str | Failed]:
    """What is classified: the reply, after its prompt and a space where that is wanted."""
    found: list[str | Failed] = []
    for one in replied:
        if isinstance(one.reply, Failed):
            found.append(one.reply)
        elif not one.reply.text.strip("\0 \t\r\n"):
            found.append(Failed("unparsable", "the reply is empty"))
        else:
            written = one.reply.text
            apart = "" if written[0].isspace() else " "
            found.append(f"{one.prompt}{apart}{written}" if include_prompt else written)
    return found


def language_of(category: str, said: str | None) -> str | None:
    """What was said, or the code that a category such as "en gender" begins with."""
    word = category.partition(" ")[0]
    return said or (word if len(word) == 2 and word.isascii() and word.islower() else None)


def rate(
    replied: Sequence[Replied],
    texts: Sequence[str | Failed],
    classify: Callable[[Sequence[str], Progress], Sequence[float | Failed]],
    classifier: Classifier,
    *,
    language: str | None = None,
    progress: Progress = quiet,
) -> list[float | Failed]:
    """What a classifier says of each text.

    It says nothing of a category whose language it does not read, or in whose texts a lexicon knows hardly
    a word: that the numbers are then all alike is not that the groups are.
    """
    written: dict[str, list[str]] = {one.category: [] for one in replied}
    for one, text in zip(replied, texts, strict=True):
        if not isinstance(text, Failed):
            written[one.category].append(text)
    refused = {
        category: _refusal(classifier, category, mine, language)
        for category, mine in written.items()
    }
    before = [
        text if isinstance(text, Failed) else refused[one.category]
        for one, text in zip(replied, texts, strict=True)
    ]
    asked = [
        str(text)
        for text, failed in zip(texts, before, strict=True)
        if not isinstance(failed, Failed)
    ]
    answers = iter(classify(asked, progress))
    return [next(answers) if failed is None else failed for failed in before]


def by_category(
    replied: Sequence[Replied],
    answers: Sequence[float | Failed],
    *,
    low: float = 0.0,
    high: float = 1.0,
) -> list[Rated]:
    """Replies with their numbers, in order of the names of their categories."""
    mine: dict[str, list[tuple[Replied, float | Failed]]] = {}
    for one, number in zip(replied, answers, strict=True):
        mine.setdefault(one.category, []).append((one, number))
    return [
        Rated(
            category=category,
            replied=tuple(one for one, _ in pairs),
            answers=tuple(number for _, number in pairs),
            low=low,
            high=high,
        )
        for category, pairs in sorted(mine.items())
    ]


def _refusal(
    classifier: Classifier, category: str, written: Sequence[str], said: str | None
) -> Failed | None:
    """Why a classifier says nothing of a whole category."""
    language = language_of(category, said)
    if classifier.languages and language not in classifier.languages:
        is_in = "nobody said in which language" if language is None else f"it is in {language!r}"
        return Failed(
            "not-offered",
            f"{classifier.name} reads {', '.join(classifier.languages)} only, and {is_in}",
        )
    if classifier.knows is None or not written:
        return None
    share = float(numpy.mean([classifier.knows(text) for text in written]))
    if share >= LEAST_KNOWN:
        return None
    return Failed(
        "unparsable",
        f"{classifier.name} knows a word in {100 * share:.0f} % of the texts only, where "
        f"{100 * LEAST_KNOWN:.0f} % are needed",
    )
