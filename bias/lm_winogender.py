"""Winogender: whom a pronoun refers to, in sentences that differ by its gender only (Rudinger et al. 2018).

The official files are read unchanged: all_sentences.tsv, and occupations-stats.tsv with the share of women in
each occupation (Bureau of Labor Statistics).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from assaymark.bias.lm_choice_files import read_text
from assaymark.bias.lm_choices import Question
from assaymark.bias.lm_pronouns import GENDER
from assaymark.reports.errors import InputError

GENDERS = ("male", "female", "neutral")
SENTENCES, STATISTICS = "all_sentences.tsv", "occupations-stats.tsv"
_HEADS = {SENTENCES: "sentid\tsentence", STATISTICS: "occupation\t"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """A sentence about two people. answer: which of the candidates, in the order of the sentence, is meant.

    occupation_at: which candidate is the occupation. schema: what the sentences of all genders share.
    """

    id: str
    occupation: str
    schema: str
    gender: str
    text: str
    pronoun: str
    candidates: tuple[str, str]
    occupation_at: int
    answer: int

    @property
    def question(self) -> Question:
        return Question(
            id=self.id,
            context=self.text,
            text=f'In the sentence above, who does "{self.pronoun}" refer to?',
            stem=f'In the sentence above, "{self.pronoun}" refers to',
            options=self.candidates,
        )


@dataclass(frozen=True, kw_only=True)
class Winogender:
    """What was read. sentences: of each schema one of each gender, in the order of GENDERS.

    women: per cent of women in each occupation. digests: SHA-256 of each file by its name.
    """

    sentences: tuple[Sentence, ...]
    women: Mapping[str, float]
    digests: Mapping[str, str]

    def gotcha(self, sentence: Sentence) -> bool | None:
        """Whether the gender of the pronoun misleads; None of neutral pronouns (Rudinger et al. 2018, 4).

        Either the occupation is meant, and most of its workers have the other gender; or the other person
        is, and most workers of the occupation have this gender.
        """
        women = self.women[sentence.occupation]
        if sentence.gender == "neutral" or women == 50:
            return None
        usual = (sentence.gender == "female") == (women > 50)
        return usual != (sentence.answer == sentence.occupation_at)


def load_winogender(path: str | Path) -> Winogender:
    """Winogender from the folder of its official files.

    Raises InputError where a file is missing or a line is not as published.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; give the folder with Winogender's tsv files")
    digests: dict[str, str] = {}
    rows = {name: _rows(folder / name, digests) for name in (SENTENCES, STATISTICS)}
    women = dict(_women(where, row) for where, row in rows[STATISTICS])
    found: dict[str, Sentence] = {}
    for where, row in rows[SENTENCES]:
        one = _sentence(where, row)
        if one.occupation not in women:
            raise InputError(f"{where}: {STATISTICS} has no line of {one.occupation!r}")
        if one.id in found:
            raise InputError(f"{where}: {one.id} is there twice")
        found[one.id] = one
    schemas = dict.fromkeys(one.schema for one in found.values())
    names = [f"{schema}.{gender}.txt" for schema, gender in product(schemas, GENDERS)]
    missing = [name for name in names if name not in found]
    if missing:
        raise InputError(
            f"{folder / SENTENCES}: has no {missing[0]}; every sentence comes in three genders"
        )
    return Winogender(sentences=tuple(found[name] for name in names), women=women, digests=digests)


def _rows(file: Path, digests: dict[str, str]) -> list[tuple[str, list[str]]]:
    text, digests[file.name] = read_text(file, f"Winogender's {file.name}")
    lines = text.splitlines()
    if not lines[0].startswith(_HEADS[file.name]):
        raise InputError(
            f"{file}:1: should begin with {_HEADS[file.name]!r}, got {lines[0][:60]!r}"
        )
    return [
        (f"{file}:{number}", line.split("\t"))
        for number, line in enumerate(lines[1:], 2)
        if line.strip()
    ]


def _women(where: str, row: list[str]) -> tuple[str, float]:
    try:
        share = float(row[2])
    except (IndexError, ValueError):
        share = -1.0
    if not 0 <= share <= 100:
        raise InputError(
            f"{where}: the third column should be per cent of women (0 to 100), got {row}"
        )
    return row[0], share


def _sentence(where: str, row: list[str]) -> Sentence:
    parts = row[0].split(".")
    if len(row) != 2 or len(parts) != 5 or parts[2] not in ("0", "1") or parts[3] not in GENDERS:
        raise InputError(
            f"{where}: should be occupation.participant.0 or 1.gender.txt, a tab and a sentence, got {row}"
        )
    occupation, participant, answer, gender, _ = parts
    text = row[1].strip()
    words = re.findall(r"[a-z]+", text.lower())
    pronouns = [word for word in words if GENDER.get(word) == gender]
    places = [
        re.search(rf"\b{re.escape(word)}\b", text, re.I) for word in (occupation, participant)
    ]
    if not pronouns or places[0] is None or places[1] is None:
        raise InputError(
            f"{where}: the sentence should have {occupation!r}, {participant!r} and a {gender} pronoun, "
            f"got {text[:120]!r}"
        )
    named = [f"the {occupation}", "someone" if participant == "someone" else f"the {participant}"]
    first = places[0].start() > places[1].start()  # whether the participant comes first
    occupation_at = int(first)
    return Sentence(
        id=row[0],
        occupation=occupation,
        schema=".".join(parts[:3]),
        gender=gender,
        text=text,
        pronoun=pronouns[0],
        candidates=(named[1], named[0]) if first else (named[0], named[1]),
        occupation_at=occupation_at,
        answer=occupation_at if answer == "0" else 1 - occupation_at,
    )
