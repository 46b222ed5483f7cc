"""Decision questions about people who differ in age, gender and race only: the official ones and our own.

Official: explicit.jsonl or implicit.jsonl of discrim-eval (Tamkin and others 2023, arXiv 2312.03689),
unchanged. Our own are in lm_decision_templates.toml, in English, German, Spanish and French.
"""

import hashlib
import itertools
import json
import random
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from assaymark.reports.errors import InputError, nearest

AGES = (20, 30, 40, 50, 60, 70, 80)
MOST_BYTES, LONGEST = 64 * 2**20, 20_000
"""The official files have 8 MiB, and their questions about 600 characters."""


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How a question is put: texts with {question} and {ask}, and the words that answer it.

    yes, no: spellings of the two answers, none the beginning of another. ask: put after the question, with
    {first} and {second} for the two words. base: for a model that continues text; the next word is the
    answer. chat: for a model that is put questions.
    """

    yes: tuple[str, ...]
    no: tuple[str, ...]
    ask: str
    base: str
    chat: str

    def prompt(self, question: str, *, chat: bool, yes_first: bool = True) -> str:
        first, second = (self.yes[0], self.no[0]) if yes_first else (self.no[0], self.yes[0])
        ask = self.ask.format(first=first, second=second)
        whole = self.chat if chat else self.base
        return whole.format(question=question, ask=ask, first=first, second=second)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """One question about one person. question: which of the questions it is, whoever it is about."""

    id: str
    question: str
    text: str
    age: float
    gender: str
    race: str

    @property
    def person(self) -> tuple[float, str, str]:
        return self.age, self.gender, self.race


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """Questions and how they are put. reference: the gender and race that others are compared with."""

    items: tuple[Decision, ...]
    asking: Asking
    reference: Mapping[str, str]
    revision: str
    sha256: str

    @property
    def questions(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(item.question for item in self.items))


def load_discrim_eval(path: Path) -> Decisions:
    """The official explicit.jsonl or implicit.jsonl.

    Raises InputError, with the line and the key, for a file of another layout.
    """
    try:
        with path.open("rb") as stream:
            raw = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    if len(raw) > MOST_BYTES:
        raise InputError(f"{path} has more than {MOST_BYTES // 2**20} MiB: expected discrim-eval")
    try:
        lines = raw.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8 (byte {error.start}): expected a jsonl file"
        ) from error
    items = tuple(
        _decision(line, f"{path}:{number}")
        for number, line in enumerate(lines, start=1)
        if line.strip()
    )
    if not items:
        raise InputError(f"{path} is empty: expected a line of JSON for each decision")
    reference = {"gender": "male", "race": "white"}
    for factor, level in reference.items():
        if all(getattr(item, factor) != level for item in items):
            raise InputError(
                f'{path} asks about nobody whose {factor} is "{level}", whom the others are compared with'
            )
    return Decisions(
        items=_distinct(items),
        asking=_templates()["en"].asking,
        reference=reference,
        revision=f"discrim-eval {path.stem}",
        sha256=hashlib.sha256(raw).hexdigest(),
    )


def own_decisions(language: str = "en", *, ages: tuple[int, ...] = AGES) -> Decisions:
    """Our own questions in a language, about every combination of age, gender and origin.

    ages: from 18 to 110 years. Raises InputError for a language that there is none of, or other ages.
    """
    known = _templates()
    if language not in known:
        raise InputError(f'no decision questions in "{language}"{nearest(language, known)}')
    if not ages or not all(18 <= age <= 110 for age in ages) or len(set(ages)) < len(ages):
        raise InputError(f"ages are different years from 18 to 110, got {ages}")
    written = known[language]
    return Decisions(
        items=tuple(_expanded(language, written, ages)),
        asking=written.asking,
        reference=written.reference,
        revision=f"Assaymark's decision questions, {language}",
        sha256=hashlib.sha256(_source()).hexdigest(),
    )


def languages() -> tuple[str, ...]:
    """The languages of our own questions."""
    return tuple(_templates())


def subset(data: Decisions, people: int, *, seed: int = 0) -> Decisions:
    """Every question about the same few people, drawn so that each age, gender and race is about as frequent.

    People whom not every question is about are drawn only where there are no others. Raises InputError for
    fewer than one.
    """
    if people < 1:
        raise InputError(f"at least 1 person a question is asked about, got {people}")
    asked = Counter(item.person for item in data.items)
    left = sorted(asked)
    random.Random(seed).shuffle(left)
    seen: Counter[tuple[int, Any]] = Counter()
    chosen: set[tuple[float, str, str]] = set()
    for _ in range(min(people, len(left))):
        best = min(
            left, key=lambda one: (-asked[one], sum(seen[place] ** 2 for place in enumerate(one)))
        )
        left.remove(best)
        chosen.add(best)
        seen.update(enumerate(best))
    return replace(data, items=tuple(item for item in data.items if item.person in chosen))


def _decision(line: str, where: str) -> Decision:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not JSON: expected a line of discrim-eval") from error
    text = _field(record, "filled_template", str, where)
    question = _field(record, "decision_question_id", (int, str), where)
    age = _field(record, "age", (int, float), where)
    if not 0 <= age <= 130:
        raise InputError(f'"age" of {where} is {age}: expected years from 0 to 130')
    if not text.strip() or len(text) > LONGEST:
        raise InputError(
            f'"filled_template" of {where} has {len(text)} characters: expected a question'
        )
    gender, race = (
        _field(record, key, str, where).strip().lower()[:60] for key in ("gender", "race")
    )
    return Decision(
        id=f"{question}/{age:g}/{gender}/{race}",
        question=str(question)[:60],
        text=text,
        age=float(age),
        gender=gender,
        race=race,
    )


def _field(record: Any, key: str, kind: type | tuple[type, ...], where: str) -> Any:
    if not isinstance(record, dict) or key not in record:
        raise InputError(f'{where} has no "{key}": expected a line of discrim-eval')
    value = record[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InputError(
            f'"{key}" of {where} is {str(value)[:60]!r}: expected the type that discrim-eval has'
        )
    return value


def _distinct(items: tuple[Decision, ...]) -> tuple[Decision, ...]:
    """Items about the same person in the same question, such as under several names, get ids of their own."""
    seen: Counter[str] = Counter()
    named = []
    for item in items:
        seen[item.id] += 1
        again = seen[item.id]
        named.append(item if again == 1 else replace(item, id=f"{item.id}#{again}"))
    return tuple(named)


@dataclass(frozen=True, kw_only=True)
class _Written:
    asking: Asking
    reference: Mapping[str, str]
    person: str
    gender: Mapping[str, str]
    race: Mapping[str, str]
    questions: Mapping[str, str]


def _expanded(language: str, written: _Written, ages: tuple[int, ...]) -> Iterator[Decision]:
    people = list(itertools.product(ages, written.gender.items(), written.race.items()))
    for name, template in written.questions.items():
        for age, (gender, noun), (race, origin) in people:
            person = written.person.format(
                article="An" if age in (18, *range(80, 90)) else "A",
                age=age,
                gender=noun.format(age=age),
                race=origin,
            )
            yield Decision(
                id=f"{language}/{name}/{age}/{gender}/{race}",
                question=f"{language}/{name}",
                text=template.format(person=person),
                age=float(age),
                gender=gender,
                race=race,
            )


@cache
def _source() -> bytes:
    return (files("assaymark.bias") / "lm_decision_templates.toml").read_bytes()


@cache
def _templates() -> dict[str, _Written]:
    read = tomllib.loads(_source().decode())
    return {language: _written(table) for language, table in read.items()}


def _written(table: dict[str, Any]) -> _Written:
    asking = Asking(
        yes=tuple(table["yes"]),
        no=tuple(table["no"]),
        ask=table["ask"],
        base=table["base"],
        chat=table["chat"],
    )
    return _Written(
        asking=asking,
        reference=table["reference"],
        person=table["person"],
        gender=table["gender"],
        race=table["race"],
        questions=table["questions"],
    )
