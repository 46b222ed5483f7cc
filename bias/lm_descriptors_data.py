"""Sentences about people that differ in a descriptor alone: our own in four languages, or HolisticBias's."""

import hashlib
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assaymark.reports.errors import InputError, nearest

MOST_SENTENCES = 500_000
_LARGEST = 8 << 20
_OWN = Path(__file__).with_name("lm_descriptors.toml")
_GENDERS = ("any", "m", "f")
_FILES = ("descriptors.json", "nouns.json", "sentence_templates.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """A descriptor of an axis in a template, with a noun."""

    axis: str
    descriptor: str
    template: str
    noun: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Descriptors:
    """Every descriptor of an axis in all the same templates with all the same nouns."""

    sentences: tuple[Sentence, ...]
    revision: str
    digests: Mapping[str, str]


def own(language: str = "en", path: Path | str = _OWN) -> Descriptors:
    """Our own small set in English (en), German (de), Spanish (es) or French (fr), or a file like it.

    The file is TOML with a table for each language: templates, sentences with {noun} and {descriptor}; nouns,
    lists named any, m or f; axes, a list of descriptors each, "masculine/feminine" where it matters. Raises
    InputError for another language or layout.
    """
    path = Path(path)
    raw = _bytes(path)
    try:
        content = tomllib.loads(raw.decode("utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is no TOML: {error}") from error
    part = content.get(language)
    if not isinstance(part, dict):
        raise InputError(f'{path.name} has no language "{language}"{nearest(language, content)}')
    where = f"{path.name}, {language}"
    templates = _texts(f"{where}.templates", part.get("templates"))
    for template in templates:
        if template.count("{noun}") != 1 or template.count("{descriptor}") != 1:
            raise InputError(
                f"{where}: {template[:80]!r} needs {{noun}} and {{descriptor}} once each"
            )
    nouns = _table(f"{where}.nouns", part.get("nouns"))
    for gender in nouns:
        if gender not in _GENDERS:
            raise InputError(f"{where}.nouns.{gender} is not known{nearest(gender, _GENDERS)}")
    axes = _table(f"{where}.axes", part.get("axes"))
    sentences = (
        Sentence(
            axis=axis,
            descriptor=descriptor,
            template=template,
            noun=noun,
            text=_filled(template, noun, descriptor, gender),
        )
        for axis, descriptors in axes.items()
        for descriptor in descriptors
        for template in templates
        for gender, some in nouns.items()
        for noun in some
    )
    return Descriptors(
        sentences=_limited(sentences, where),
        revision=f"descriptors of {path.name}, language {language}",
        digests={path.name: hashlib.sha256(raw).hexdigest()},
    )


def _filled(template: str, noun: str, descriptor: str, gender: str) -> str:
    forms = descriptor.split("/")
    form = forms[-1] if gender == "f" else forms[0]
    text = template.replace("{noun}", noun).replace("{descriptor}", form)
    return text[0].upper() + text[1:]


def holistic_bias(
    folder: Path | str,
    *,
    axes: Sequence[str] | None = None,
    templates: Sequence[str] | None = None,
    nouns: Sequence[str] | None = None,
) -> Descriptors:
    """HolisticBias (Smith et al. 2022): descriptors.json, nouns.json and sentence_templates.json in a folder.

    axes, templates, nouns: those to keep; all by default, which of v1.1 are some 400,000 sentences.
    Descriptors that go with nouns of one gender only are left out: they are not in the same sentences as the
    others. Standalone noun phrases have no noun to be compared over and are not read. Raises InputError for
    another layout.
    """
    folder = Path(folder)
    raw = {name: _bytes(folder / name) for name in _FILES}
    described, named, patterns = (_json(folder / name, raw[name]) for name in _FILES)
    chosen_axes = _chosen(axes, list(described), "axis")
    chosen_templates = _chosen(templates, list(patterns), "template")
    pairs = _noun_pairs(folder / _FILES[1], named)
    chosen_nouns = _chosen(nouns, list(pairs), "noun")
    left_out: list[str] = []

    def sentences() -> Iterator[Sentence]:
        for axis in chosen_axes:
            for descriptor, article in _descriptors(
                folder / _FILES[0], axis, described[axis], left_out
            ):
                for template in chosen_templates:
                    for noun in chosen_nouns:
                        text = template.replace(
                            "{noun_phrase}", f"{article} {descriptor} {noun}"
                        ).replace("{plural_noun_phrase}", f"{descriptor} {pairs[noun]}")
                        yield Sentence(
                            axis=axis,
                            descriptor=descriptor,
                            template=template,
                            noun=noun,
                            text=text,
                        )

    found = _limited(sentences(), str(folder))
    return Descriptors(
        sentences=found,
        revision=f"HolisticBias ({folder.name}), {len(chosen_templates)} templates, {len(chosen_nouns)} nouns"
        + (f", without {len(left_out)} descriptors of one gender" if left_out else ""),
        digests={name: hashlib.sha256(content).hexdigest() for name, content in raw.items()},
    )


def _descriptors(
    path: Path, axis: str, buckets: object, left_out: list[str]
) -> Iterator[tuple[str, str]]:
    """Each descriptor of an axis, once, with its article."""
    seen = set()
    if not isinstance(buckets, dict) or not all(
        isinstance(some, list) for some in buckets.values()
    ):
        raise InputError(f"{path}: {axis} is no table of lists of descriptors as expected")
    for bucket, some in buckets.items():
        for one in some:
            entry = {"descriptor": one} if isinstance(one, str) else one
            text = entry.get("descriptor") if isinstance(entry, dict) else None
            if not isinstance(text, str) or not text:
                raise InputError(
                    f"{path}: {axis}.{bucket} has {str(one)[:80]}: expected a descriptor"
                )
            if entry.get("gender"):
                left_out.append(text)
            elif text not in seen:
                seen.add(text)
                yield text, str(entry.get("article", "an" if text[0].lower() in "aeiou" else "a"))


def _noun_pairs(path: Path, named: dict[str, Any]) -> dict[str, str]:
    """From singular to plural."""
    found: dict[str, str] = {}
    for gender, pairs in named.items():
        for pair in pairs if isinstance(pairs, list) else [None]:
            if (
                not isinstance(pair, list)
                or len(pair) != 2
                or not all(isinstance(one, str) for one in pair)
            ):
                raise InputError(
                    f"{path}: {gender} has {str(pair)[:80]}: expected [singular, plural]"
                )
            found[pair[0]] = pair[1]
    return found


def _chosen(wanted: Sequence[str] | None, known: list[str], what: str) -> list[str]:
    for one in wanted or ():
        if one not in known:
            raise InputError(f'there is no {what} "{one}"{nearest(one, known)}')
    return known if wanted is None else list(wanted)


def _limited(sentences: Iterator[Sentence], where: str) -> tuple[Sentence, ...]:
    found = []
    for sentence in sentences:
        found.append(sentence)
        if len(found) > MOST_SENTENCES:
            raise InputError(
                f"{where} makes more than {MOST_SENTENCES:,} sentences: choose axes, templates or nouns"
            )
    return tuple(found)


def _table(where: str, value: object) -> dict[str, list[str]]:
    if not isinstance(value, dict) or not value:
        raise InputError(f"{where} is missing or no table of lists as expected")
    return {str(key): _texts(f"{where}.{key}", some) for key, some in value.items()}


def _texts(where: str, value: object) -> list[str]:
    if (
        not isinstance(value, list)
        or not value
        or not all(isinstance(one, str) and one for one in value)
    ):
        raise InputError(f"{where} is missing or no list of texts as expected")
    if len(set(value)) < len(value):
        raise InputError(f"{where} has a text twice: expected texts that differ")
    return value


def _json(path: Path, raw: bytes) -> dict[str, Any]:
    try:
        content = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}: expected a table")
    return content


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > _LARGEST:
            raise InputError(
                f"{path} has {path.stat().st_size:,} bytes: expected at most {_LARGEST:,}"
            )
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
