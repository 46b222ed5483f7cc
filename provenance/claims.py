"""What a manifest says about a work: how it was made, by whom, from what, and what is allowed."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from assaymark.provenance.assertion_labels import (
    check_assertion,
    check_text,
    strange_characters,
)
from assaymark.provenance.source_types import SourceType, source_type
from assaymark.reports.errors import InputError, nearest

RELATIONSHIPS = ("componentOf", "inputTo")  # C2PA 2.4, table 10; a parent has a field of its own
# Actions on an earlier work (C2PA 2.4, table 8) that need no parameters, as c2pa.translated does; the
# engine adds created, opened and placed itself.
ACTIONS = (
    "c2pa.addedText",
    "c2pa.adjustedColor",
    "c2pa.changedSpeed",
    "c2pa.converted",
    "c2pa.cropped",
    "c2pa.deleted",
    "c2pa.drawing",
    "c2pa.dubbed",
    "c2pa.edited",
    "c2pa.edited.metadata",
    "c2pa.enhanced",
    "c2pa.filtered",
    "c2pa.mastered",
    "c2pa.mixed",
    "c2pa.orientation",
    "c2pa.published",
    "c2pa.remixed",
    "c2pa.repackaged",
    "c2pa.resized",
    "c2pa.resized.proportional",
    "c2pa.transcoded",
    "c2pa.trimmed",
    "c2pa.unknown",
    "c2pa.watermarked.unbound",
)
# CAWG training and data mining 1.1, section 3; keys of other owners follow the grammar of labels.
USES = ("cawg.ai_generative_training", "cawg.ai_inference", "cawg.ai_training", "cawg.data_mining")
PERMISSIONS = ("allowed", "constrained", "notAllowed")
# Training and mining are refused; inference is neither, and is refused by naming it.
OPT_OUT: Mapping[str, str] = {use: "notAllowed" for use in USES if use != "cawg.ai_inference"}
OVERSIGHT = ("fully_autonomous", "human_validated", "prompt_guided")  # C2PA 2.4, section 18.28
MAX_INGREDIENTS = 100
MAX_ASSERTIONS = 1 << 20  # bytes of JSON
MAX_THUMBNAIL = 1024  # pixels

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_USE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9][A-Za-z0-9_-]*)+")


@dataclass(frozen=True, kw_only=True)
class Ingredient:
    """A work that went into this one: a part of it, or the input of a process that made it."""

    path: Path
    relationship: str = "componentOf"
    title: str | None = None

    def __post_init__(self) -> None:
        if self.relationship not in RELATIONSHIPS:
            hint = (
                "; name the work that this one was made from as the parent"
                if self.relationship == "parentOf"
                else nearest(self.relationship, RELATIONSHIPS)
            )
            raise InputError(f'unknown relationship "{self.relationship}"{hint}')
        check_text("the title of an ingredient", self.title or "")
        _check_path(self.path)


@dataclass(frozen=True, kw_only=True)
class Claims:
    """What is said about one work; empty means that nothing is said, never a default claim.

    source_type: IPTC or C2PA digital source type: full URI, last word or shorthand ("generated").
    actions: what was done to the parent ("c2pa.cropped"), the prefix may be left out.
    author, organization, copyright, usage_terms, description: stored as they are (cawg.metadata).
    generator, generator_version: the software or device that made or edited the work.
    model: an identifier of the AI model (URI, PURL); oversight: of OVERSIGHT.
    prompt_sha256: hexadecimal digest of the UTF-8 prompt, so that the prompt itself stays private;
    prompt: the prompt itself, shown to everybody; prompt_writer: who wrote it.
    training: uses that are allowed or not ({"ai_training": "notAllowed"}, see USES, PERMISSIONS);
    training_terms: what "constrained" means; old_readers: say it a second time as C2PA 1.4 did, for
    readers from before CAWG, at 0.3 KB. parent: the work as it was before the edit.
    update: only what is said changes, not the work (C2PA update manifest).
    assertions: further ones by label, as JSON objects.
    thumbnail: longest edge in pixels of a small picture in the manifest, 0 (none) to 1024.

    Raises InputError for a word outside its vocabulary, text that is too long or not Unicode, and
    statements that contradict each other.
    """

    title: str | None = None
    source_type: str | None = None
    actions: tuple[str, ...] = ()
    author: str | None = None
    organization: str | None = None
    copyright: str | None = None
    usage_terms: str | None = None
    description: str | None = None
    generator: str | None = None
    generator_version: str | None = None
    model: str | None = None
    oversight: str | None = None
    prompt_sha256: str | None = None
    prompt: str | None = None
    prompt_writer: str | None = None
    training: Mapping[str, str] | None = None
    training_terms: str | None = None
    old_readers: bool = False
    parent: Path | None = None
    ingredients: tuple[Ingredient, ...] = ()
    update: bool = False
    assertions: Mapping[str, Any] | None = None
    thumbnail: int = 0
    source: SourceType | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for item in fields(self):
            if item.init and (value := getattr(self, item.name)) is not None:
                check_field(item.name, value)
        found = None if self.source_type is None else source_type(self.source_type)
        object.__setattr__(self, "source", found)  # looked up once, where it is checked
        _check_sense(self)
        _check_once(self)

    def texts(self) -> list[tuple[str, str]]:
        """The names and values of the fields that are text."""
        values = ((item.name, getattr(self, item.name)) for item in fields(self))
        return [(name, value) for name, value in values if isinstance(value, str)]

    @property
    def uses(self) -> dict[str, str]:
        """What is said about training and mining, by full keys."""
        return {full_use(use): word for use, word in (self.training or {}).items()}

    @property
    def prompt_digest(self) -> bytes | None:
        """SHA-256 of the prompt where it is known."""
        if self.prompt:
            return hashlib.sha256(self.prompt.encode()).digest()
        return None if self.prompt_sha256 is None else bytes.fromhex(self.prompt_sha256)


def ingredient(text: str) -> Ingredient:
    """An ingredient as the command line names it: FILE, or RELATIONSHIP:FILE.

    >>> ingredient("inputTo:photo.jpg").relationship
    'inputTo'
    """
    head, colon, rest = text.partition(":")
    if colon and rest and head in (*RELATIONSHIPS, "parentOf"):
        return Ingredient(path=Path(rest), relationship=head)
    return Ingredient(path=Path(text))


def full_use(use: str) -> str:
    """The key of a use; the prefix of the four known ones may be left out."""
    return f"cawg.{use}" if f"cawg.{use}" in USES else use


def full_action(action: str) -> str:
    """The name of an action; the prefix may be left out."""
    return f"c2pa.{action}" if f"c2pa.{action}" in ACTIONS else action


def strange_texts(claims: Claims) -> tuple[str, ...]:
    """One sentence for each text with characters that are not seen; such text is signed as it is."""
    return tuple(
        f"{what} holds characters that readers do not see or that reorder text: {signs}"
        for what, text in claims.texts()
        if (signs := strange_characters(text))
    )


def check_field(name: str, value: Any) -> None:
    """Raise InputError for a value that one field of Claims cannot have, whatever the others say."""
    if isinstance(value, str):
        check_text(name, value)
    if name in _CHECKS:
        _CHECKS[name](value)


def _check_path(path: Path) -> None:
    if "\0" in str(path):
        raise InputError(f"{str(path)!r} is no file name: it holds a NUL character")


def _check_actions(actions: Sequence[str]) -> None:
    for action in actions:
        if full_action(action) not in ACTIONS:
            raise InputError(f'unknown action "{action}"{nearest(full_action(action), ACTIONS)}')


def _check_oversight(word: str) -> None:
    if word not in OVERSIGHT:
        raise InputError(f'unknown human oversight "{word}"{nearest(word, OVERSIGHT)}')


def _check_training(training: Mapping[str, str]) -> None:
    for use, word in training.items():
        _check_use(full_use(use), word)
    if len(set(map(full_use, training))) != len(training):
        raise InputError("one use is named twice under training, with its prefix and without")


def _check_use(use: str, word: str) -> None:
    if (use.startswith("cawg.") and use not in USES) or not _USE.fullmatch(use):
        raise InputError(f'unknown use "{use}"{nearest(use, USES)}')
    if word not in PERMISSIONS:
        raise InputError(f'"{word}" is no permission for {use}{nearest(word, PERMISSIONS)}')


def _check_digest(digest: str) -> None:
    if not _SHA256.fullmatch(digest):
        raise InputError(
            f'"{digest[:80]}" is no SHA-256 digest: expected 64 hexadecimal digits '
            "(sha256sum prompt.txt)"
        )


def _check_thumbnail(pixels: int) -> None:
    if not 0 <= pixels <= MAX_THUMBNAIL:
        raise InputError(f"thumbnail of {pixels} pixels: expected 0 (none) to {MAX_THUMBNAIL}")


def _check_ingredients(found: Sequence[Ingredient]) -> None:
    if len(found) > MAX_INGREDIENTS:
        raise InputError(f"{len(found)} ingredients, expected at most {MAX_INGREDIENTS}")


def _check_assertions(assertions: Mapping[str, Any]) -> None:
    for label, value in assertions.items():
        check_assertion(label, value)
    if (size := len(json.dumps(assertions, default=dict))) > MAX_ASSERTIONS:
        raise InputError(
            f"the assertions have {size} bytes as JSON, expected at most {MAX_ASSERTIONS}: every "
            "copy of the work carries them"
        )


_CHECKS: Mapping[str, Callable[[Any], object]] = {
    "source_type": source_type,
    "actions": _check_actions,
    "parent": _check_path,
    "oversight": _check_oversight,
    "training": _check_training,
    "prompt_sha256": _check_digest,
    "thumbnail": _check_thumbnail,
    "ingredients": _check_ingredients,
    "assertions": _check_assertions,
}


def _check_sense(claims: Claims) -> None:
    """Statements that need another one, or that contradict each other."""
    if claims.generator_version and not claims.generator:
        raise InputError("a generator's version needs the generator's name: give both")
    if claims.generator and not (claims.source or claims.actions):
        raise InputError(
            f'the generator "{claims.generator[:80]}" made or edited the work: say how, with a '
            "digital source type (generated, edited-with-ai, captured) or actions"
        )
    of_models = ("model", "oversight", "prompt", "prompt_sha256", "prompt_writer")
    said = next((name for name in of_models if getattr(claims, name)), None)
    if said and not (claims.source and claims.source.trained):
        raise InputError(
            f"{said} is said of work that generative AI made: add the digital source type "
            "generated or edited-with-ai"
        )
    if claims.prompt is not None and claims.prompt_sha256 is not None:
        raise InputError(
            "prompt_sha256 is made from the prompt where that is shown: give one of them"
        )
    if claims.training_terms and "constrained" not in claims.uses.values():
        raise InputError('training_terms explain a use that is "constrained": name one')
    if claims.old_readers and not set(claims.uses) & set(USES):
        raise InputError("old_readers repeats what is said under training: name a use there")
    of_versions = ("source_type", "actions", "parent", "ingredients", "thumbnail")
    said = next((name for name in of_versions if getattr(claims, name)), None)
    if claims.update and said:
        raise InputError(
            f"an update changes only what is said about a work: {said} belongs to a new version of "
            "it (C2PA 2.4, section 11.2.3)"
        )


def _check_once(claims: Claims) -> None:
    names = ("author", "organization", "copyright", "usage_terms", "description", "prompt",
             "prompt_writer")  # fmt: skip
    both = next((name for name in names if getattr(claims, name)), None)
    if both and "cawg.metadata" in (claims.assertions or {}):
        raise InputError(
            f'"cawg.metadata" is written from {both} already: say it there, or in the assertion'
        )


NOTHING = Claims()
