"""The marks of generators in what a file says about itself: the table, and finding its rows in a file.

The rows stand in generator_marks.toml with the source of each. Anybody can write or remove such a mark:
it is a statement, not a proof.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from assaymark.provenance.evidence import Says
from assaymark.provenance.mark_forms import FORMS, Read, Rule
from assaymark.provenance.statements import Written


@dataclass(frozen=True, kw_only=True)
class GeneratorMark:
    """One row of the table; see the head of generator_marks.toml."""

    generator: str
    says: Says
    places: tuple[str, ...]
    form: str
    rule: Rule
    beside: Mapping[str, re.Pattern[str]]
    source: str
    example: str
    example_beside: str

    def read(self, text: str) -> Read | None:
        """What the text tells, None where it is not this mark."""
        return FORMS[self.form](text, self.rule)

    def stands_beside(self, written: Written) -> bool:
        """Whether the other texts that the mark needs are there."""
        return all(
            any(pattern.fullmatch(text) for text in written.by_place.get(place, ()))
            for place, pattern in self.beside.items()
        )


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A mark that was found, where, and what it tells."""

    mark: GeneratorMark
    place: str
    read: Read


@dataclass(frozen=True, kw_only=True)
class _Table:
    marks: tuple[GeneratorMark, ...]
    editors: tuple[tuple[tuple[str, ...], re.Pattern[str]], ...]


@cache
def _table() -> _Table:
    text = files("assaymark.provenance").joinpath("generator_marks.toml").read_text("utf-8")
    document = tomllib.loads(text)
    groups = document["places"]
    return _Table(
        marks=tuple(_mark(row, groups) for row in document["mark"]),
        editors=tuple(
            (tuple(row["places"]), re.compile(row["pattern"])) for row in document["editor"]
        ),
    )


def generator_marks() -> tuple[GeneratorMark, ...]:
    """All rows, in the order in which they are tried."""
    return _table().marks


def _mark(row: dict[str, Any], groups: dict[str, list[str]]) -> GeneratorMark:
    pattern = row.get("pattern")
    return GeneratorMark(
        generator=row["generator"],
        says=Says(row["says"]),
        places=tuple(
            place
            for name in row["places"]
            for place in (groups[name[1:]] if name.startswith("@") else [name])
        ),
        form=row["form"],
        rule=Rule(
            fields=_patterns(row.get("fields", {})),
            pattern=re.compile(pattern) if pattern else None,
            prompt=row.get("prompt", ""),
            model=row.get("model", ""),
        ),
        beside=_patterns(row.get("beside", {})),
        source=row["source"],
        example=row["example"],
        example_beside=row.get("example_beside", ""),
    )


def _patterns(texts: dict[str, str]) -> dict[str, re.Pattern[str]]:
    return {name: re.compile(text) for name, text in texts.items()}


def marks_in(written: Written) -> tuple[Hit, ...]:
    """The marks of a file; each text is read by the first row that can."""
    return tuple(_hits(written))


def _hits(written: Written) -> Iterator[Hit]:
    taken: set[tuple[str, str]] = set()
    for mark in generator_marks():
        for place in mark.places:
            for text in written.by_place.get(place, ()):
                read = None if (place, text) in taken else mark.read(text)
                if read is not None and mark.stands_beside(written):
                    taken.add((place, text))
                    yield Hit(mark=mark, place=place, read=read)


def editors_in(written: Written) -> tuple[str, ...]:
    """The programs for editing that a file names, each once."""
    found: dict[str, None] = {}
    for places, pattern in _table().editors:
        for place in places:
            for text in written.by_place.get(place, ()):
                match = pattern.fullmatch(text)
                if match is not None:
                    found[match["name"]] = None
    return tuple(found)
