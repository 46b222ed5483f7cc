"""Lists of words that stand for groups and for what they are associated with, and texts as words."""

import re
import tomllib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from assaymark.reports.errors import InputError, nearest
from assaymark.reports.named_code import first_line

LANGUAGES = ("en", "de", "es", "fr")
_WORD = re.compile(r"\w+(?:-\w+)*")
_LARGEST = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Words:
    """groups: the words of each group. targets: words whose company is looked at. stop: of no interest.

    All in small letters, no word twice in a list.
    """

    groups: Mapping[str, tuple[str, ...]]
    targets: tuple[str, ...]
    stop: frozenset[str] = frozenset()


def tokens(text: str) -> list[str]:
    """The words of a text in small letters; hyphens join, apostrophes part.

    >>> tokens("She's a well-known ÄRZTIN, l'amie.")
    ['she', 's', 'a', 'well-known', 'ärztin', 'l', 'amie']
    """
    return _WORD.findall(unicodedata.normalize("NFC", text).casefold())


def words(
    groups: Mapping[str, Sequence[str]], targets: Sequence[str], stop: Sequence[str] = ()
) -> Words:
    """Lists of the user's own, checked. Raises InputError for a list that cannot be counted.

    A word is one word: no spaces. No word stands for two groups, or for a group and a target.
    """
    if len(groups) < 2:
        raise InputError(f"words of {len(groups)} groups: expected two or more to compare")
    cleaned = {name: _list(each, f"group {name}") for name, each in groups.items()}
    wanted = _list(targets, "the targets")
    owner: dict[str, str] = {}
    for name, each in (*cleaned.items(), ("the targets", wanted)):
        for word in each:
            if owner.setdefault(word, name) != name:
                raise InputError(
                    f"{word!r} stands for {owner[word]} and for {name}: leave it out of one of them"
                )
    return Words(
        groups=cleaned, targets=wanted, stop=frozenset(_list(stop, "stop")) if stop else frozenset()
    )


def own_words(language: str = "en", kind: str = "occupation") -> Words:
    """The lists of gender and of "occupation" or "adjective" that are shipped."""
    if language not in LANGUAGES:
        raise InputError(f"no words of language {language!r}{nearest(language, LANGUAGES)}")
    table = _shipped()[language]
    if kind not in table["targets"]:
        raise InputError(f"no targets {kind!r}{nearest(kind, table['targets'])}")
    return words(table["gender"], table["targets"][kind], table["stop"]["words"])


def read_words(path: Path) -> Words:
    """Lists from a TOML file: targets = [words], stop = [words] if wanted, and [groups] with name = [words].

    Raises InputError as `words` does.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError("larger than 1 MiB")
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is no readable list of words: {first_line(error)}") from error
    unknown = sorted(set(content) - {"groups", "targets", "stop"})
    if unknown:
        raise InputError(
            f"{path}: {unknown[0]!r} is no key{nearest(unknown[0], ['groups', 'targets', 'stop'])}"
        )
    groups = content.get("groups")
    if not isinstance(groups, dict) or "targets" not in content:
        raise InputError(f"{path}: expected a table [groups] and a list targets")
    return words(groups, content["targets"], content.get("stop", ()))


def _list(given: Sequence[str], name: str) -> tuple[str, ...]:
    if isinstance(given, str) or not all(isinstance(word, str) for word in given):
        raise InputError(f'the words of {name} are no list of words: expected ["one", "two"]')
    if not given:
        raise InputError(f"{name} has no words: expected at least one")
    found: dict[str, None] = {}
    for word in given:
        read = tokens(word)
        if len(read) != 1:
            raise InputError(
                f"{word[:80]!r} of {name} is not one word: texts are counted word by word"
            )
        found[read[0]] = None
    return tuple(found)


@cache
def _shipped() -> dict[str, dict[str, dict[str, list[str]]]]:
    text = files("assaymark.bias").joinpath("lm_stereotypes.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def prompts(language: str, *, chat: bool) -> tuple[str, ...]:
    """Templates of ours with {word}: a request to a chat model, or a text to continue."""
    if language not in LANGUAGES:
        raise InputError(f"no prompts in {language!r}{nearest(language, LANGUAGES)}")
    return tuple(_shipped()[language]["prompts"]["chat" if chat else "plain"])
