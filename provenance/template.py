"""What is said about many works: a template with exceptions by file name, and an index by file.

A template is TOML or JSON. Its keys are the fields of Claims; [[file]] tables with match = "*.png"
change them for some files, later ones over earlier ones. An index (CSV or JSON lines, one row a
file) has the last word. In the template's texts {name}, {stem}, {date} and {sha256} stand for the
file's name, the name without its ending, the day of signing (UTC) and the digest of the unsigned
file; {{ and }} stand for braces. Nothing else is expanded, and no value is expanded twice.
"""

import datetime as dt
import hashlib
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from assaymark.provenance.claims import Claims, Ingredient, check_field, ingredient
from assaymark.reports.errors import InputError, nearest
from assaymark.reports.files import unicode
from assaymark.reports.positions import Path as KeyPath
from assaymark.reports.positions import positions

PLACEHOLDERS = ("name", "stem", "date", "sha256")
SIZE_LIMIT = 1 << 20  # bytes of a template
_HOLE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_KEYS = tuple(item.name for item in fields(Claims) if item.init)
TEXT_KEYS = tuple(item.name for item in fields(Claims) if item.type == (str | None))
_KIND_OF: Mapping[str, tuple[type, str]] = {
    **dict.fromkeys(TEXT_KEYS, (str, "text")),
    "parent": (str, "a file name"),
    "actions": (list, "a list of actions"),
    "training": (dict, 'a table of uses ({ai_training = "notAllowed"})'),
    "ingredients": (list, "a list of files"),
    "update": (bool, "true or false"),
    "old_readers": (bool, "true or false"),
    "assertions": (dict, "a table of assertions by label"),
    "thumbnail": (int, "a number of pixels"),
}
# What the command line calls otherwise.
_OPT_OUT = '{ai_training = "notAllowed", ai_generative_training = "notAllowed", data_mining = "notAllowed"}'
_AS_OPTION = {
    "generated": ': write source_type = "generated"',
    "edited_with_ai": ': write source_type = "edited-with-ai"',
    "captured": ': write source_type = "captured"',
    "no_training": f": write training = {_OPT_OUT}",
    "prompt_file": ": write prompt_sha256, which sha256sum prints for the file",
    "action": ': write actions = ["cropped"]',
    "ingredient": ': write ingredients = ["FILE"]',
}


@dataclass(frozen=True, kw_only=True)
class Template:
    """Statements for every file, exceptions in order, and the rows of an index by relative path.

    folder: what the paths of parents and ingredients are relative to.
    """

    name: str
    folder: Path
    common: Mapping[str, Any]
    files: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    index: Mapping[str, Mapping[str, str]] | None = None


def load_template(path: Path) -> Template:
    """A template from a .toml or .json file.

    Raises InputError, with the place in the file where it is known, for what is not TOML or JSON,
    keys that Claims does not have, and values outside their vocabulary.
    """
    text = read_limited(path, "template", SIZE_LIMIT)
    where = _Where(path, text)
    document = where.document()
    exceptions = document.pop("file", [])
    if not isinstance(exceptions, list) or not all(isinstance(item, dict) for item in exceptions):
        raise where.mistake(("file",), 'expected [[file]] tables, each with match = "*.png"')
    _check_table(document, (), where)
    found = []
    for number, table in enumerate(exceptions):
        pattern = table.pop("match", None)
        if not isinstance(pattern, str) or not pattern:
            raise where.mistake(("file", number), 'missing key "match", a pattern of file names')
        _check_table(table, ("file", number), where)
        found.append((pattern, table))
    return Template(name=str(path), folder=path.parent, common=document, files=tuple(found))


def with_index(template: Template, rows: Mapping[str, Mapping[str, str]]) -> Template:
    """The template with an index (`load_index`): from then on every file needs a row."""
    return replace(template, index=rows)


def claims_for(
    template: Template, file: Path, *, root: Path = Path(), today: dt.date | None = None
) -> Claims:
    """What is said about one file; patterns and index see its path relative to `root`.

    A pattern without a slash is matched with the name, one with a slash with the relative path,
    where * also crosses folders. Raises InputError for statements that contradict each other, and
    for a file that the index does not know.
    """
    relative = _relative(file, root)
    said = dict(template.common)
    for pattern, table in template.files:
        if _matches(pattern, relative):
            said |= table
    fill = _filler(file, today or dt.datetime.now(dt.UTC).date())
    try:
        row = _row(template, relative)
        filled = {key: _filled(key, value, fill, template.folder) for key, value in said.items()}
        return Claims(**filled | row)
    except InputError as error:
        raise InputError(f"{template.name}, for {relative}: {error}") from error


def works_named(template: Template) -> tuple[Path, ...]:
    """The parents and ingredients that a template names for every file alike."""
    found = []
    for table in (template.common, *(table for _, table in template.files)):
        items = [table.get("parent"), *table.get("ingredients", ())]
        texts = [item.get("path") if isinstance(item, Mapping) else item for item in items]
        found += [text for text in texts if text and "{" not in text]
    return tuple(template.folder / ingredient(text).path for text in found)


def unmatched(template: Template, files: Iterable[Path], *, root: Path = Path()) -> tuple[str, ...]:
    """Patterns and rows of the index that no file has: most often a misspelt name."""
    known = {_relative(file, root) for file in files}
    patterns = [
        f'match = "{pattern}" fits no file'
        for pattern, _ in template.files
        if not any(_matches(pattern, name) for name in known)
    ]
    rows = [
        f"the index has {name}, which is no file here"
        for name in template.index or ()
        if name not in known
    ]
    return (*patterns, *rows)


def _row(template: Template, relative: str) -> dict[str, str]:
    if template.index is None:
        return {}
    if relative not in template.index:
        raise InputError("the index has no row for it: add one, or leave the file out")
    return dict(template.index[relative])


def _relative(file: Path, root: Path) -> str:
    file, root = file.absolute(), root.absolute()
    inner = file.relative_to(root) if file.is_relative_to(root) else file
    return unicode(inner.as_posix())


def _matches(pattern: str, relative: str) -> bool:
    name = relative if "/" in pattern else relative.rsplit("/", 1)[-1]
    return fnmatchcase(name, pattern)


def _filler(file: Path, today: dt.date) -> Callable[[str], str]:
    """Puts the values of one file into a text; the digest is taken when it is first asked for."""
    values: dict[str, Callable[[], str]] = {
        "name": lambda: unicode(file.name),
        "stem": lambda: unicode(file.stem),
        "date": today.isoformat,
        "sha256": lambda: _digest(file),
    }

    def fill(text: str) -> str:
        return _HOLE.sub(lambda hole: values[hole[1]]() if hole[1] else hole[0][0], text)

    return fill


def _digest(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror or error}") from error


def _filled(key: str, value: Any, fill: Callable[[str], str], folder: Path) -> Any:
    if key == "parent":
        return folder / fill(value)
    if key == "ingredients":
        return tuple(_ingredient(item, fill, folder) for item in value)
    if key == "actions":
        return tuple(value)
    return _deep(value, fill)


def _ingredient(
    item: str | Mapping[str, str], fill: Callable[[str], str], folder: Path
) -> Ingredient:
    if isinstance(item, str):
        found = ingredient(fill(item))
    else:
        texts = {key: fill(text) for key, text in item.items()}
        found = Ingredient(**texts | {"path": Path(texts["path"])})  # type: ignore[arg-type]
    return replace(found, path=folder / found.path)


def _deep(value: Any, fill: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return fill(value)
    if isinstance(value, Mapping):
        return {key: _deep(inner, fill) for key, inner in value.items()}
    return [_deep(inner, fill) for inner in value] if isinstance(value, list) else value


def _check_table(table: Mapping[str, Any], path: KeyPath, where: "_Where") -> None:
    for key, value in table.items():
        if key not in _KEYS:
            hint = _AS_OPTION.get(key.replace("-", "_")) or nearest(key, _KEYS)
            raise where.mistake((*path, key), f'unknown key "{key}"{hint}')
        kind, wanted = _KIND_OF[key]
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise where.mistake((*path, key), f"{key} = {value!r:.60}: expected {wanted}")
        try:
            _check_value(key, value)
        except InputError as error:
            raise where.mistake((*path, key), str(error)) from error


def _check_value(key: str, value: Any) -> None:
    for text in _texts(value):
        for hole in _HOLE.finditer(text):
            _check_hole(hole)
    if key in ("actions", "training"):
        inner = value if key == "actions" else list(value.values())
        if not all(isinstance(item, str) for item in inner):
            raise InputError(f"{key}: expected texts")
    if key == "ingredients":
        for item in value:
            _check_ingredient(item)
    else:  # a placeholder stands for text, and no vocabulary has words with braces
        check_field(key, Path(value) if key == "parent" else value)


def _check_hole(hole: re.Match[str]) -> None:
    if hole[0] in ("{", "}"):
        raise InputError(f'a single "{hole[0]}": write "{hole[0] * 2}" for the brace itself')
    if hole[1] is not None and hole[1] not in PLACEHOLDERS:
        raise InputError(f'unknown placeholder "{hole[0]}"{nearest(hole[1], PLACEHOLDERS)}')


def _check_ingredient(item: object) -> None:
    keys = ("path", "relationship", "title")
    if isinstance(item, str):
        ingredient(item)
    elif isinstance(item, Mapping):
        wrong = next((key for key in item if key not in keys), None)
        if wrong is not None:
            raise InputError(f'unknown key "{wrong}"{nearest(wrong, keys)}')
        if "path" not in item or not all(isinstance(text, str) for text in item.values()):
            raise InputError('an ingredient needs path = "FILE" and texts only')
        Ingredient(**dict(item) | {"path": Path(item["path"])})
    else:
        raise InputError(f'{item!r:.60}: expected "FILE", "inputTo:FILE" or a table with a path')


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(inner)


def read_limited(path: Path, what: str, limit: int) -> str:
    """UTF-8 text of at most `limit` bytes; raises InputError, which calls the file `what`."""
    try:
        if path.stat().st_size > limit:
            raise InputError(f"the {what} {path} has more than {limit} bytes: split it")
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read the {what} {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"cannot read the {what} {path}: it is not UTF-8") from error


class _Where:
    """Reads a template's text, and says where in it a mistake stands."""

    def __init__(self, path: Path, text: str) -> None:
        self.path, self.text = path, text
        self.toml = path.suffix.lower() == ".toml"
        if not self.toml and path.suffix.lower() != ".json":
            raise InputError(f"{path} is no template: expected a name that ends in .toml or .json")

    def document(self) -> dict[str, Any]:
        try:
            if self.toml:
                return tomllib.loads(self.text)
            found = json.loads(
                self.text, object_pairs_hook=each_key_once, parse_constant=_no_constant
            )
        except (ValueError, RecursionError) as error:
            kind = "TOML" if self.toml else "JSON"
            raise InputError(f"{self.path} is not valid {kind}: {error}") from error
        if not isinstance(found, dict):
            raise InputError(f"{self.path} must hold one JSON object with the keys of a template")
        return found

    def mistake(self, path: KeyPath, message: str) -> InputError:
        line = _line(path, self.text) if self.toml else None
        return InputError(f"{self.path}{f':{line}' if line else ''}: {message}")


def _line(path: KeyPath, text: str) -> int | None:
    """The line of a key, of the first key below it, or of what is around it."""
    spans = positions(text.replace("\r\n", "\n"))
    for length in range(len(path), 0, -1):
        for known, (key, _) in spans.items():
            if known[:length] == path[:length]:
                return key[0]
    return None


def each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For json.loads: an object in which no key stands twice; raises ValueError."""
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [key for key, _ in pairs]
        raise ValueError(f'the key "{next(key for key in names if names.count(key) > 1)}" twice')
    return found


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is no JSON number")
