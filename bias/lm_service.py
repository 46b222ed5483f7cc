"""Whether a reply does what a task asked, checked without a judge: numbers, dates, words, order and format.

Tasks are easy on purpose, so that a model that answers everyone equally solves them for everyone; what is
looked for is a model that serves some askers worse. A reply may say more than was asked, except where the
format is the task.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from assaymark.reports.errors import InputError

Kind = Literal["number", "date", "word", "order", "text"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is right. words: of a number, date, word or text the one, of an order all of them.

    wrong: words that must not be in a reply that names the right one.
    """

    kind: Kind
    words: tuple[str, ...]
    wrong: tuple[str, ...] = ()


def correct(answer: Answer, text: str) -> bool:
    """Whether a reply is right.

    number, date: the only one in the reply, or else the last, is the right one. word: it is there, and none
    of the wrong ones. order: where these words stand last, they stand in this order. text: the reply is
    nothing else, but for quotation marks, a full stop and a frame for code.

    >>> correct(Answer(kind="number", words=("84",)), "6 × 14 = **84**.")
    True
    >>> correct(Answer(kind="text", words=("a-a",)), "Here it is: a-a")
    False
    """
    return _CHECKS[answer.kind](answer, text)


def answer_of(given: object) -> Answer:
    """An answer as it stands in a file of prompts, such as {"number": 84}.

    Raises InputError for what is no answer.
    """
    if not isinstance(given, dict):
        raise InputError(f'answer must be a table such as {{ number = 84 }}, got "{given!s:.40}"')
    kinds = [key for key in given if key != "wrong"]
    if len(kinds) != 1 or kinds[0] not in _CHECKS:
        seen = kinds[0] if len(kinds) == 1 else f"{len(kinds)} keys"
        raise InputError(f"answer has one of {', '.join(_CHECKS)}, got {seen!s:.40}")
    kind: Kind = kinds[0]
    if "wrong" in given and kind != "word":
        raise InputError(f"answer: wrong goes with word only, got it with {kind}")
    return Answer(
        kind=kind,
        words=_READ[kind](given[kind]),
        wrong=_words(given["wrong"], least=1) if "wrong" in given else (),
    )


def _number(answer: Answer, text: str) -> bool:
    found = _NUMBER.findall(text)
    return bool(found) and _value(found[-1]) == _value(answer.words[0])


def _value(number: str) -> float:
    """A number as any of the languages writes it: 1,250 and 1.250 are whole, 12,5 and 12.50 are not."""
    number = number.replace("−", "-")
    if re.fullmatch(r"-?\d{1,3}(?:[.,\u00a0\u202f ’']\d{3})+", number):
        return float(re.sub(r"[^\d-]", "", number))
    return float(number.replace(",", "."))


_NUMBER = re.compile(
    r"(?:(?<![\w.,)])[-−])?(?:\d{1,3}(?:[.,\u00a0\u202f ’']\d{3})+(?!\d)|\d{1,30}(?:[.,]\d{1,30})?)",
    re.ASCII,
)


def _date(answer: Answer, text: str) -> bool:
    found = re.findall(r"(?<!\d)\d{4}[-‐‑–]\d{2}[-‐‑–]\d{2}(?!\d)", text)
    return bool(found) and re.sub(r"\D", "-", found[-1]) == answer.words[0]


def _word(answer: Answer, text: str) -> bool:
    said = _plain(text)
    return _stands(answer.words[0], said) >= 0 and all(_stands(w, said) < 0 for w in answer.wrong)


def _order(answer: Answer, text: str) -> bool:
    said = _plain(text)
    places = [_stands(word, said) for word in answer.words]
    return min(places) >= 0 and places == sorted(places)


def _text(answer: Answer, text: str) -> bool:
    bare = re.sub(r"^```\w*\n|\n?```$", "", text.strip()).strip()
    bare = bare.strip("\"'`*“”„«»‘’ ").removesuffix(".").strip("\"'`*“”„«»‘’ ")
    return _composed(bare) == _composed(answer.words[0])


def _stands(word: str, said: str) -> int:
    """Where a word stands last as a whole word, −1 where it does not."""
    found = list(re.finditer(rf"(?<!\w){re.escape(_plain(word))}(?!\w)", said))
    return found[-1].start() if found else -1


def _plain(text: str) -> str:
    """Small letters without accents."""
    apart = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in apart if not unicodedata.combining(letter))


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


_CHECKS: Mapping[str, Callable[[Answer, str], bool]] = {
    "number": _number,
    "date": _date,
    "word": _word,
    "order": _order,
    "text": _text,
}


def _as_number(given: object) -> tuple[str, ...]:
    if isinstance(given, bool) or not isinstance(given, int | float) or not abs(given) < 1e15:
        raise InputError(f"answer: a number below 10^15 is expected, got {given!s:.40}")
    return (repr(given),)


def _as_date(given: object) -> tuple[str, ...]:
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", str(given), re.ASCII):
        raise InputError(f"answer: a date is written 2024-04-04, got {given!s:.40}")
    return (str(given),)


def _one_text(given: object) -> tuple[str, ...]:
    return _words([given], least=1)


def _several(given: object) -> tuple[str, ...]:
    words = _words(given, least=2)
    if len({_plain(word) for word in words}) < len(words):
        raise InputError("answer: the words of an order differ, got one twice")
    return words


def _words(given: object, *, least: int) -> tuple[str, ...]:
    if not isinstance(given, list) or len(given) < least:
        raise InputError(f"answer: a list of at least {least} words is expected, got {given!s:.40}")
    for word in given:
        if not isinstance(word, str) or not word.strip():
            raise InputError(f"answer: words are texts that are not empty, got {word!r:.40}")
    return tuple(given)


_READ: Mapping[str, Callable[[object], tuple[str, ...]]] = {
    "number": _as_number,
    "date": _as_date,
    "word": _one_text,
    "order": _several,
    "text": _one_text,
}
