"""Prompts that differ only in whom they are about, who asks, or in which variety of a language.

A file of prompts has a language, slots (such as gender) with groups of values to fill in, and templates. A
value is a table of its forms, so that each language can agree in its own way; `shared` forms are the same for
all values of a slot, and may hold others. A template goes with every slot that has all of its {forms}; a
capital {Form} begins with a capital letter. A template with `versions` instead of a text has one wording for
each group of a slot, which is called "dialect" unless the template says otherwise.
"""

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from assaymark.bias.lm_service import Answer, answer_of
from assaymark.reports.errors import InputError, nearest

SHIPPED = ("en", "de", "es", "fr")
"""Languages that have a file of ours."""
DIALECT = "dialect"
_BYTES, _MISTAKES = 4_000_000, 20
Forms = Mapping[str, str]
Groups = Mapping[str, tuple[Forms, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A request with {forms}, or one wording for each group of a slot. answer: of a task that is checked."""

    id: str
    topic: str
    text: str = ""
    versions: Mapping[str, str] | None = None
    slot: str = DIALECT
    answer: Answer | None = None

    @property
    def forms(self) -> frozenset[str]:
        return frozenset(_plain_name(name) for name in _FORM.findall(self.text))


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptSet:
    """What a file of prompts holds. name: of the file; sha256: of its bytes."""

    name: str
    sha256: str
    language: str
    slots: Mapping[str, Groups]
    templates: tuple[Template, ...]


def shipped(languages: Sequence[str] = SHIPPED) -> tuple[PromptSet, ...]:
    """Our own prompts. Raises InputError for a language that has none."""
    found = []
    for language in languages:
        if language not in SHIPPED:
            raise InputError(f'no prompts in "{language}" are shipped{nearest(language, SHIPPED)}')
        name = f"lm_prompts_{language}.toml"
        data = files("assaymark.bias").joinpath(name).read_bytes()
        found.append(_read(data, name))
    return tuple(found)


def load(path: Path) -> PromptSet:
    """A file of prompts, TOML or JSON of the same layout.

    Raises InputError, one line for each mistake (at most 20).
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot read the prompts {path}: {error.strerror or error}") from error
    if len(data) > _BYTES:
        raise InputError(f"{path} has more than {_BYTES:,} bytes, too many for a file of prompts")
    return _read(data, str(path))


_FORM = re.compile(r"(?<!\{)\{(\w+)\}(?!\})")


def _plain_name(name: str) -> str:
    return name[:1].lower() + name[1:]


def fill(text: str, forms: Forms) -> str:
    """Forms in their places, once: what is filled in is never read as a form. {{ and }} are braces."""

    def form(found: re.Match[str]) -> str:
        if found[1] is None:
            return str(found[0][0])
        value = forms[_plain_name(found[1])]
        return value[:1].upper() + value[1:] if found[1][0].isupper() else value

    return re.sub(r"\{\{|\}\}|\{(\w+)\}", form, text)


def forms_of(groups: Groups) -> frozenset[str]:
    return frozenset(next(iter(groups.values()))[0])


def _read(data: bytes, name: str) -> PromptSet:
    reader = _Reader(name)
    found = reader.document(_parsed(data, name))
    if reader.mistakes:
        more = len(reader.mistakes) - _MISTAKES
        tail = [f"{name}: {more} more mistakes"] if more > 0 else []
        raise InputError("\n".join([*reader.mistakes[:_MISTAKES], *tail]))
    assert found is not None
    language, slots, templates = found
    return PromptSet(
        name=name,
        sha256=hashlib.sha256(data).hexdigest(),
        language=language,
        slots=slots,
        templates=templates,
    )


def _parsed(data: bytes, name: str) -> dict[str, Any]:
    is_json = name.lower().endswith(".json")
    try:
        text = data.decode("utf-8-sig")
        found = json.loads(text) if is_json else tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is not UTF-8 text (byte {error.start})") from error
    except (ValueError, RecursionError) as error:
        kind = "JSON" if is_json else "TOML"
        raise InputError(f"{name} is no {kind} that can be read: {error!s:.200}") from error
    if not isinstance(found, dict):
        raise InputError(
            f"{name}: a table with language, slots and templates is expected, got {found!s:.40}"
        )
    return found


class _Reader:
    """Reads a document of prompts, and keeps a sentence for each mistake."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.mistakes: list[str] = []

    def document(
        self, given: dict[str, Any]
    ) -> tuple[str, dict[str, Groups], tuple[Template, ...]] | None:
        self._keys("the file", given, ("language", "slots", "templates"), ("language", "templates"))
        language = self._text("language", given.get("language", ""))
        if "/" in language or " " in language:
            self._wrong(f'language is a short code such as "en", got "{language:.40}"')
        slots = {
            name: groups
            for name, slot in self._table("slots", given.get("slots", {})).items()
            if (groups := self._slot(name, slot))
        }
        templates = given.get("templates", [])
        if not isinstance(templates, list) or not templates:
            self._wrong(
                f"templates is a list of at least one template, got {templates!s:.40}: write [[templates]]"
            )
            templates = []
        read = [self._template(place, one) for place, one in enumerate(templates, 1)]
        kept = tuple(one for one in read if one is not None)
        for one in {one.id for one in kept if sum(two.id == one.id for two in kept) > 1}:
            self._wrong(f'two templates have the id "{one:.60}"')
        for template in kept if not self.mistakes else ():  # what is left out fits nothing
            self._fits(template, slots)
        return None if self.mistakes else (language, slots, kept)

    def _slot(self, name: str, given: object) -> Groups | None:
        where = f'slot "{name:.40}"'
        if "/" in name or " = " in name or not name.strip():
            self._wrong(f'{where}: a name without "/" and " = " is expected')
        slot = self._table(where, given)
        self._keys(where, slot, ("shared", "groups"), ("groups",))
        shared = self._forms(f"{where}, shared", slot.get("shared", {}))
        groups = {
            group: self._values(f'{where}, group "{group:.40}"', values, shared)
            for group, values in self._table(f"{where}, groups", slot.get("groups", {})).items()
        }
        if len(groups) < 2:
            self._wrong(f"{where}: at least two groups are compared, got {len(groups)}")
        if not all(groups.values()) or len(groups) < 2:
            return None
        named = [frozenset(forms) for values in groups.values() for forms in values]
        if len(set(named)) > 1:
            odd = sorted(frozenset.union(*named) - frozenset.intersection(*named))
            self._wrong(
                f"{where}: all values need the same forms, {', '.join(odd)!s:.60} is not in all"
            )
            return None
        return groups

    def _values(self, where: str, given: object, shared: Forms) -> tuple[Forms, ...]:
        if not isinstance(given, list) or not given:
            self._wrong(f"{where}: a list of at least one value is expected, got {given!s:.40}")
            return ()
        found = []
        for place, value in enumerate(given, 1):
            forms = self._forms(f"{where}, value {place}", value)
            if unknown := self._unknown(shared, forms):
                self._wrong(f"{where}, value {place}: no form {unknown} for what is shared")
                return ()
            found.append({**{k: fill(text, forms) for k, text in shared.items()}, **forms})
        return tuple(found)

    @staticmethod
    def _unknown(shared: Forms, forms: Forms) -> str:
        needed = {_plain_name(name) for text in shared.values() for name in _FORM.findall(text)}
        return ", ".join(f"{{{name}}}" for name in sorted(needed - forms.keys()))

    def _forms(self, where: str, given: object) -> dict[str, str]:
        found = {}
        for name, text in self._table(where, given).items():
            if not re.fullmatch(r"[a-z]\w*", name, re.ASCII):
                self._wrong(f'{where}: a form is called like "name", got "{name:.40}"')
            else:
                found[name] = self._text(f"{where}, {name}", text)
        return found

    def _template(self, place: int, given: object) -> Template | None:
        where = f"template {place}"
        table = self._table(where, given)
        if not table:
            return None
        where = f'{where} ("{table.get("id", "")!s:.40}")'
        before = len(self.mistakes)
        self._keys(
            where, table, ("id", "topic", "text", "versions", "slot", "answer"), ("id", "topic")
        )
        if ("text" in table) == ("versions" in table):
            self._wrong(f"{where}: either text or versions is expected")
        if "slot" in table and "versions" not in table:
            self._wrong(
                f"{where}: slot goes with versions; a text goes with all slots that have its forms"
            )
        texts = {
            key: self._text(f"{where}, {key}", table.get(key, default))
            for key, default in (("id", "?"), ("topic", "?"), ("text", "?"), ("slot", DIALECT))
        }
        versions = self._versions(where, table["versions"]) if "versions" in table else None
        answer = self._answer(where, table["answer"]) if "answer" in table else None
        if len(self.mistakes) > before:
            return None
        text = "" if versions else texts.pop("text")
        return Template(
            id=texts["id"],
            topic=texts["topic"],
            text=text,
            versions=versions,
            slot=texts["slot"],
            answer=answer,
        )

    def _versions(self, where: str, given: object) -> dict[str, str]:
        found = {
            group: self._text(f"{where}, version {group:.40}", text)
            for group, text in self._table(f"{where}, versions", given).items()
        }
        if len(found) < 2 or len(set(found.values())) < len(found):
            self._wrong(f"{where}: at least two versions are compared, each in its own words")
        return found

    def _answer(self, where: str, given: object) -> Answer | None:
        try:
            return answer_of(given)
        except InputError as error:
            self._wrong(f"{where}: {error}")
            return None

    def _fits(self, template: Template, slots: Mapping[str, Groups]) -> None:
        """A template has a slot, and reads differently for each group."""
        where = f'template "{template.id:.40}"'
        if template.versions is not None:
            if template.slot in slots:
                self._wrong(
                    f"{where}: the slot {template.slot:.40} of its versions has values, too"
                )
            return
        if not template.forms:
            self._wrong(f"{where}: no {{form}} in its text: every group would read the same")
            return
        fitting = {name: g for name, g in slots.items() if template.forms <= forms_of(g)}
        if not fitting:
            known = sorted(frozenset().union(*map(forms_of, slots.values())))
            odd = sorted(template.forms - set(known)) or sorted(template.forms)
            self._wrong(
                f"{where}: no slot has all of its forms {', '.join(odd)!s:.60}"
                f"{nearest(odd[0], known) if known else ''}"
            )
        for name, groups in fitting.items():
            texts = [{fill(template.text, forms) for forms in values} for values in groups.values()]
            if sum(map(len, texts)) > len(set().union(*texts)):
                self._wrong(f"{where}: it reads the same for two groups of the slot {name:.40}")

    def _table(self, where: str, given: object) -> dict[str, Any]:
        if isinstance(given, dict):
            return given
        self._wrong(f"{where}: a table is expected, got {given!s:.40}")
        return {}

    def _text(self, where: str, given: object) -> str:
        if isinstance(given, str) and given.strip():
            return given
        self._wrong(f"{where}: a text that is not empty is expected, got {given!r:.40}")
        return "?"

    def _keys(
        self, where: str, given: dict[str, Any], known: Sequence[str], needed: Sequence[str]
    ) -> None:
        for key in given:
            if key not in known:
                self._wrong(f'{where}: no key "{key:.40}"{nearest(key, known)}')
        for key in needed:
            if key not in given:
                self._wrong(f"{where}: the key {key} is missing")

    def _wrong(self, sentence: str) -> None:
        self.mistakes.append(f"{self.name}: {sentence}")
