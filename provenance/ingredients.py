"""Works that went into a work: their credentials kept and checked, or their digest recorded.

A file with credentials is taken up with its whole history and the outcome of its validation (C2PA
2.4, section 18.16.11). One without has no manifest to point to: its identifier is its SHA-256
digest as a URI (RFC 6920), which section 8.3 leaves to the claim generator.
"""

import base64
import hashlib
import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import c2pa

from assaymark.provenance.c2pa_context import reason, shared_context
from assaymark.provenance.formats import HEAD, Format, Route, recognise
from assaymark.provenance.routes import READS
from assaymark.provenance.sidecar import beside
from assaymark.provenance.verify import State, examine
from assaymark.reports.errors import InputError
from assaymark.reports.files import unicode

# The routes whose manifests the library finds in a stream by itself.
_IN_STREAM = {Route.JPEG, Route.PNG, Route.RIFF, Route.BMFF, Route.LIBRARY}
_ANY = "application/octet-stream"
_WITHOUT = (State.NO_MANIFEST, State.UNSUPPORTED)
_HOLDS = (State.TRUSTED, State.UNTRUSTED)


@dataclass(frozen=True, kw_only=True)
class Part:
    """One ingredient as the builder takes it. stream: a file whose credentials the library reads.

    store: its manifest store, where it was taken out of the file by our own reader.
    """

    entry: dict[str, Any]
    stream: Path | None = None
    store: bytes | None = None

    @property
    def label(self) -> str:
        return str(self.entry["label"])


def own_past(source: Path, kind: Format, *, history: bool, changed: bool = False) -> Part:
    """The source itself as the parent.

    history: it carries credentials that hold. changed: a watermark makes what is signed another file.
    """
    entry = _entry("parent", "parentOf", source, None, kind.media_type)
    if not history and changed:
        return Part(entry=entry | {"instance_id": digest_uri(_sha256(source))})
    if not history:  # the manifest binds the same bytes, so they are not hashed twice
        return Part(entry=entry)
    return _with_credentials(entry, source, kind)


def other_work(
    path: Path, label: str, relationship: str, *, title: str | None = None, broken: bool = False
) -> Part:
    """Another file as an ingredient.

    broken: credentials that do not hold are taken up as they are; the manifest then records the
    failed validation. Raises InputError for a file that cannot be read, and for credentials that
    do not hold or cannot be carried along.
    """
    kind = _kind(path)
    entry = _entry(label, relationship, path, title, kind.media_type if kind else _ANY)
    found = examine(path)
    if found.state in _WITHOUT:
        return Part(entry=entry | {"instance_id": digest_uri(_sha256(path))})
    if found.state is State.UNREADABLE or kind is None:
        raise InputError(f"{path} cannot be an ingredient: {found.explanation}")
    if found.state not in _HOLDS and not broken:
        raise InputError(
            f"{path} carries credentials that do not hold ({found.explanation}): a work made from "
            "it would inherit them; get it from its source again, or allow broken ingredients "
            "and the manifest will say so"
        )
    return _with_credentials(entry, path, kind)


def prompt_part(digest: bytes) -> Part:
    """The prompt of a generator, known by its digest only (section 18.16.8, tables 10 and 11)."""
    return Part(
        entry={
            "label": "prompt",
            "relationship": "inputTo",
            "format": "text/plain",
            "instance_id": digest_uri(digest),
            "data_types": [{"type": "c2pa.types.generator.prompt"}],
        }
    )


def digest_uri(digest: bytes) -> str:
    """The name of data by its SHA-256 digest (RFC 6920, section 3).

    >>> digest_uri(bytes(32))
    'ni:///sha-256;AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'
    """
    return f"ni:///sha-256;{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


def add_parts(builder: c2pa.Builder, parts: tuple[Part, ...]) -> None:
    """Hand over what stands in files; all other parts are in the definition already.

    Raises InputError for a file that the library cannot take up.
    """
    for part in parts:
        if part.stream is not None:
            _add_file(builder, part.entry, part.stream)
        elif part.store is not None:
            builder.add_resource(_resource(part.label), io.BytesIO(part.store))


def _add_file(builder: c2pa.Builder, entry: dict[str, Any], path: Path) -> None:
    try:
        with path.open("rb") as stream:
            builder.add_ingredient(entry, entry["format"], stream)
    except c2pa.C2paError as error:
        raise InputError(f"{path} cannot be an ingredient: {reason(error)}") from error
    except OSError as error:
        raise InputError(f"cannot read ingredient {path}: {error.strerror or error}") from error


def _entry(
    label: str, relationship: str, path: Path, title: str | None, media_type: str
) -> dict[str, Any]:
    return {
        "label": label,
        "relationship": relationship,
        "title": title or unicode(path.name),
        "format": media_type,
    }


def _with_credentials(entry: dict[str, Any], path: Path, kind: Format) -> Part:
    in_stream = kind.route in _IN_STREAM
    if in_stream and next(beside(path), None) is None:
        return Part(entry=entry, stream=path)
    reading = READS[kind.route](path, kind, shared_context())
    if in_stream and reading.where != "sidecar":
        return Part(entry=entry, stream=path)
    if reading.store is None:
        raise InputError(
            f"the credentials of {path} cannot be carried along: they were read without their "
            "manifest store"
        )
    active = reading.document["active_manifest"]
    reference = {"format": "application/c2pa", "identifier": _resource(entry["label"])}
    return Part(
        entry=entry
        | {
            "active_manifest": active,
            "manifest_data": reference,
            "validation_results": reading.document["validation_results"],
        },
        store=reading.store,
    )


def _resource(label: str) -> str:
    return f"{label}.c2pa"


def _kind(path: Path) -> Format | None:
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise InputError(f"{path} cannot be an ingredient: it is no regular file")
        with path.open("rb") as stream:
            return recognise(path, stream.read(HEAD))
    except OSError as error:
        raise InputError(f"cannot read ingredient {path}: {error.strerror or error}") from error


def _sha256(path: Path) -> bytes:
    try:
        now = path.stat()
        return _digest(path, now.st_ino, now.st_size, now.st_mtime_ns)
    except OSError as error:
        raise InputError(f"cannot read ingredient {path}: {error.strerror or error}") from error


@lru_cache(maxsize=64)
def _digest(path: Path, *state: int) -> bytes:
    """One model may be the input of a thousand works; it is read again when its state changes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()
