"""Association tests (WEAT, SEAT) from the files of sent-bias and WEFE, or word sets of the user's own."""

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from assaymark.bias.lm_weat_words import words_of
from assaymark.reports.errors import InputError, nearest

LARGEST = 8 << 20
_MOST_FILES = 500
_MOST_ITEMS = 20_000
_LONGEST = 2_000
_PARTS = {"x": "targ1", "y": "targ2", "a": "attr1", "b": "attr2"}
"""Our name of each set, and that of sent-bias."""
Suite = Literal["weat", "seat"]


@dataclass(frozen=True, kw_only=True)
class Items:
    """A set of words or sentences. words: which word each of them is about."""

    name: str
    texts: tuple[str, ...]
    words: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Association:
    """Is x closer to a, and y to b? (targets x and y, attributes a and b)"""

    name: str
    suite: Suite
    x: Items
    y: Items
    a: Items
    b: Items

    @property
    def sets(self) -> tuple[Items, Items, Items, Items]:
        return self.x, self.y, self.a, self.b


@dataclass(frozen=True, kw_only=True)
class Associations:
    """The tests of one or more files. digests: the sha256 of each file that was read."""

    tests: tuple[Association, ...]
    digests: Mapping[str, str]
    revision: str


WEFE = {
    "weat1": ("flowers", "insects", "pleasant_5", "unpleasant_5a"),
    "weat2": ("instruments", "weapons", "pleasant_5", "unpleasant_5a"),
    "weat3": (
        "european_american_names_5",
        "african_american_names_5",
        "pleasant_5",
        "unpleasant_5b",
    ),
    "weat4": (
        "european_american_names_7",
        "african_american_names_7",
        "pleasant_5",
        "unpleasant_5b",
    ),
    "weat5": (
        "european_american_names_7",
        "african_american_names_7",
        "pleasant_9",
        "unpleasant_9",
    ),
    "weat6": ("male_names", "female_names", "career", "family"),
    "weat7": ("math", "arts", "male_terms", "female_terms"),
    "weat8": ("science", "arts_2", "male_terms_2", "female_terms_2"),
    "weat9": ("mental_disease", "physical_disease", "temporary", "permanent"),
    "weat10": ("young_people_names", "old_people_names", "pleasant_9", "unpleasant_9"),
}
"""The ten tests of Caliskan et al. 2017, table 1, by the names of the sets in WEFE's WEAT.json."""


def load(path: Path | str) -> Associations:
    """The tests in a file, or in a folder of sent-bias's .jsonl files.

    Known are sent-bias's object {targ1, targ2, attr1, attr2: {category, examples}}, WEFE's WEAT.json, and
    own .json or .toml files: a table `tests` from a name to {x, y, a, b}, each a list of words or the name of
    a list in the table `sets`, and optionally `templates`, sentences with {} in the place of the word.
    Sets of sentences make a SEAT, sets of words a WEAT. Raises InputError for anything else, with the
    place of the mistake.
    """
    path = Path(path)
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    if not files:
        raise InputError(
            f"{path} holds no .jsonl file: expected the tests of sent-bias, or name a file"
        )
    if len(files) > _MOST_FILES:
        raise InputError(f"{path} holds {len(files)} files: expected at most {_MOST_FILES}")
    digests: dict[str, str] = {}
    tests: list[Association] = []
    forms = []
    for file in files:
        raw = _bytes(file)
        digests[file.name] = hashlib.sha256(raw).hexdigest()
        form, found = _tests(file, _parsed(file, raw))
        forms.append(form)
        tests += found
    names = [test.name for test in tests]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(f"{path} has two tests called {min(twice)}: expected names that differ")
    return Associations(
        tests=tuple(tests),
        digests=digests,
        revision=f"{', '.join(sorted(set(forms)))} ({path.name})",
    )


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > LARGEST:
            raise InputError(
                f"{path} has {path.stat().st_size:,} bytes: expected at most {LARGEST:,}"
            )
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


def _parsed(path: Path, raw: bytes) -> dict[str, Any]:
    try:
        text = raw.decode("utf-8")
        found = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (ValueError, RecursionError) as error:
        kind = "TOML" if path.suffix == ".toml" else "JSON"
        raise InputError(
            f"{path} is no {kind}: {error}; expected one object with sets of words"
        ) from error
    if not isinstance(found, dict):
        raise InputError(
            f"{path} holds a {type(found).__name__}: expected one object with sets of words"
        )
    return found


def _tests(path: Path, content: dict[str, Any]) -> tuple[str, list[Association]]:
    if "targ1" in content:
        return "sent-bias", [_sent_bias(path, content)]
    if "tests" in content:
        return "own word sets", _own(path, content)
    if "flowers" in content:
        wanted = sorted({name for sets in WEFE.values() for name in sets})
        sets = {name: _items(path, name, content.get(name)) for name in wanted}
        return "WEFE", [
            _association(path, name, dict(zip(_PARTS, map(sets.__getitem__, parts), strict=True)))
            for name, parts in WEFE.items()
        ]
    raise InputError(
        f"{path} has the keys {', '.join(map(str, list(content)[:5])) or 'of nothing'}: expected targ1, "
        "targ2, attr1, attr2 (sent-bias), the sets of WEFE's WEAT.json, or a table tests"
    )


def _sent_bias(path: Path, content: dict[str, Any]) -> Association:
    sets = {}
    for ours, theirs in _PARTS.items():
        part = content.get(theirs)
        if not isinstance(part, dict) or not isinstance(part.get("category"), str):
            raise InputError(
                f'{path}: {theirs} is not {{"category": …, "examples": […]}} as expected'
            )
        sets[ours] = _items(path, f"{theirs}.examples", part.get("examples"), name=part["category"])
    # SEAT-6 is WEAT-6 in sentences
    return _association(path, re.sub("^sent-weat", "seat", path.stem), sets)


def _own(path: Path, content: dict[str, Any]) -> list[Association]:
    _only(path, content, ("tests", "sets", "templates"))
    sets, tests = content.get("sets", {}), content["tests"]
    templates = content.get("templates", ["{}"])
    if not isinstance(sets, dict) or not isinstance(tests, dict) or not tests:
        raise InputError(
            f"{path}: tests and sets are tables from a name to words; expected a test or more"
        )
    if not isinstance(templates, list) or not all(
        isinstance(one, str) and one.count("{}") == 1 for one in templates
    ):
        raise InputError(f"{path}: templates are sentences with {{}} once in the place of the word")
    found = []
    for name, test in tests.items():
        if not isinstance(test, dict):
            raise InputError(
                f"{path}: tests.{name} is a {type(test).__name__}: expected x, y, a, b"
            )
        _only(path, test, tuple(_PARTS), f"tests.{name}.")
        parts = {
            part: _own_items(path, f"tests.{name}.{part}", test.get(part), sets) for part in _PARTS
        }
        filled = {part: _filled(one, templates) for part, one in parts.items()}
        found.append(_association(path, str(name), filled))
    return found


def _only(path: Path, table: dict[str, Any], known: Sequence[str], where: str = "") -> None:
    for key in table:
        if key not in known:
            raise InputError(f"{path}: {where}{key} is not known{nearest(str(key), known)}")


def _own_items(path: Path, where: str, value: object, sets: dict[str, Any]) -> Items:
    if isinstance(value, str):
        if value not in sets:
            raise InputError(f'{path}: {where} names the set "{value}"{nearest(value, sets)}')
        return _items(path, f"sets.{value}", sets[value], name=value)
    return _items(path, where, value)


def _filled(items: Items, templates: list[str]) -> Items:
    if templates == ["{}"]:
        return items
    pairs = [(one.replace("{}", text), text) for text in items.texts for one in templates]
    texts, words = zip(*pairs, strict=True)
    return Items(name=items.name, texts=texts, words=words)


def _items(path: Path, where: str, value: object, name: str | None = None) -> Items:
    """Raises InputError for what is no list of different, short, not empty texts."""
    if not isinstance(value, list) or not value or not all(isinstance(one, str) for one in value):
        raise InputError(
            f"{path}: {where} is missing or no list of texts: expected words or sentences"
        )
    if len(value) > _MOST_ITEMS:
        raise InputError(
            f"{path}: {where} has {len(value):,} texts: expected at most {_MOST_ITEMS:,}"
        )
    for text in value:
        if not text.strip() or len(text) > _LONGEST:
            raise InputError(
                f"{path}: {where} has a text of {len(text)} signs: expected 1 to {_LONGEST}"
            )
    if len(set(value)) < len(value):
        twice = next(text for text in value if value.count(text) > 1)
        raise InputError(f'{path}: {where} has "{twice[:80]}" twice: expected texts that differ')
    words = words_of(value) if _are_sentences(value) else tuple(value)
    return Items(name=name or where, texts=tuple(value), words=words)


def _are_sentences(texts: Sequence[str]) -> bool:
    return any(text.rstrip().endswith((".", "!", "?")) for text in texts)


def _association(path: Path, name: str, sets: dict[str, Items]) -> Association:
    for one, other in (("x", "y"), ("a", "b")):
        if both := set(sets[one].texts) & set(sets[other].texts):
            raise InputError(
                f'{path}: {name} has "{min(both)[:80]}" in {sets[one].name} and in {sets[other].name}: '
                "expected sets without a common text"
            )
    of_words = all(items.texts == items.words for items in sets.values())
    return Association(name=name, suite="weat" if of_words else "seat", **sets)
