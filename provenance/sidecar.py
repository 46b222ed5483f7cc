"""A manifest beside its file (C2PA 2.4, section 11.4): for what nothing embeds in, of any size."""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import c2pa

from assaymark.provenance import native
from assaymark.provenance.bound import (
    BOUND_OTHERWISE,
    MAX_STORE,
    Exclusions,
    check_whole,
    read_bound,
)
from assaymark.provenance.fast_read import LARGE
from assaymark.provenance.formats import EMBEDDED_IN_TEXT, MANIFEST, SIDECAR, Format, Route, named
from assaymark.provenance.job import Job, Reading, Reads
from assaymark.provenance.plain import read_plain
from assaymark.provenance.texts import MAX_TEXT, read_text
from assaymark.reports.errors import InputError

ENDING = ".c2pa"
# The identifier of a manifest store's box (C2PA 2.4, section 11.1.4.2)
_STORE = b"jumdc2pa\0\x11\0\x10\x80\0\0\xaa\0\x38\x9b\x71"
_CHUNK = 1 << 20
_ALWAYS_MARKED = ("JPEG", "PNG", "GIF", "WebP")  # none of these is without its first bytes


def sign_sidecar(job: Job) -> None:
    """Write the manifest of job.source into job.target, the .c2pa file itself.

    The caller puts a copy of the source beside it, under the name without .c2pa. The source is
    hashed in pieces, so memory does not grow with it. Raises InputError for a picture that is none,
    c2pa.C2paError, OSError.
    """
    told = named(job.source)
    if job.format is SIDECAR and told is not None and told.name in _ALWAYS_MARKED:
        raise InputError(
            f"{job.source} is called {job.source.suffix}, but does not begin as {told.media_type} "
            "does: a damaged file is not signed; mend it, or give it its right name"
        )
    with job.builder() as builder:
        if native.signs_data_hashes():
            native.data_hash_placeholder(
                builder, job.signer
            )  # the library signs nothing without it
            store = native.sign_data_hash(builder, job.signer, _digest(job.source, "sha256"))
        else:
            store = _plain(job, builder)
    job.target.write_bytes(store)


def _plain(job: Job, builder: c2pa.Builder) -> bytes:
    """The library's own way, which holds the file in memory."""
    builder.set_no_embed()
    with job.source.open("rb") as source, Path("/dev/null").open("w+b") as nowhere:
        store: bytes = builder.sign(job.signer, job.format.media_type, source, nowhere)
    return store


def _digest(path: Path, algorithm: str) -> bytes:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).digest()


def beside(path: Path) -> Iterator[Path]:
    """The manifest files of a file: NAME.c2pa, then NAME without its ending as c2patool has it."""
    for name in dict.fromkeys((f"{path.name}{ENDING}", f"{path.stem}{ENDING}")):
        # asked for every file, most often in vain
        if name != path.name and os.path.isfile(os.path.join(path.parent, name)):
            yield path.with_name(name)


def read_sidecar(path: Path, kind: Format, context: c2pa.Context) -> Reading:
    """The manifest of a file that we embed nothing in; what others embedded in it wins.

    Raises c2pa.C2paError (ManifestNotFound where there is none), OSError, ValueError.
    """
    return with_sidecar(_embedded)(path, kind, context)


def with_sidecar(read: Reads) -> Reads:
    """A reader that also looks beside the file, where nothing is in it."""

    def reads(path: Path, kind: Format, context: c2pa.Context) -> Reading:
        try:
            reading = read(path, kind, context)
        except (c2pa.C2paError.ManifestNotFound, c2pa.C2paError.NotSupported):
            store = next(beside(path), None)
            if store is None:
                raise
            return _read_beside(path, kind, store, context)
        return _compared(reading, path)

    return reads


def _read_beside(path: Path, kind: Format, manifest: Path, context: c2pa.Context) -> Reading:
    store = _load(manifest)
    reading = _judge_beside(path, kind, store, context)
    if reading.document.get("validation_state") == "Invalid" and _shared(path, manifest):
        raise c2pa.C2paError.ManifestNotFound(
            f"{manifest.name} is the manifest of another file of that name"
        )
    return reading


def _judge_beside(path: Path, kind: Format, store: bytes, context: c2pa.Context) -> Reading:
    known = kind.media_type in c2pa.Reader.get_supported_mime_types()
    large = path.stat().st_size > LARGE

    def digest(algorithm: str, excluded: Exclusions) -> bytes | None:
        return None if excluded else _digest(path, algorithm)

    if large or not known:
        # a kind that is parsed need not be one that is hashed whole
        told = SIDECAR.media_type if known else kind.media_type
        document = read_bound(told, store, digest, context)
        if not known or BOUND_OTHERWISE not in json.dumps(document["validation_results"]):
            return Reading(document=document, store=store, where="sidecar")
    # the library knows how such a file is bound, be it by boxes
    with (
        path.open("rb") as stream,
        c2pa.Reader(kind.media_type, stream, store, context) as reader,
    ):
        return Reading(document=json.loads(reader.json()), store=store, where="sidecar")


def _shared(path: Path, manifest: Path) -> bool:
    """Whether photo.c2pa could as well be of photo.png as of photo.jpg."""
    if manifest.name == f"{path.name}{ENDING}":
        return False
    others = (other for other in path.parent.iterdir() if other.stem == path.stem)
    return any(other != path and other.suffix != ENDING for other in others)


def _load(manifest: Path) -> bytes:
    size = manifest.stat().st_size
    if size > MAX_STORE:
        raise ValueError(f"{manifest.name} has {size} bytes, at most {MAX_STORE} are read")
    store = manifest.read_bytes()
    check_whole(store)
    return store


def _compared(reading: Reading, path: Path) -> Reading:
    """A note where another manifest lies beside a file that carries one."""
    manifest = next(beside(path), None)
    if manifest is None or manifest.name != f"{path.name}{ENDING}":
        return reading
    own = reading.document.get("active_manifest", "")
    try:
        if own and own.encode() in _load(manifest):
            return reading
        note = f"{manifest.name} holds another manifest; the one in the file counts"
    except (OSError, ValueError) as error:
        note = f"{manifest.name} cannot be read ({error}); the manifest in the file counts"
    return replace(reading, notes=(*reading.notes, note))


def _embedded(path: Path, kind: Format, context: c2pa.Context) -> Reading:
    """What others embedded in a kind of file that we do not write into."""
    if kind is MANIFEST:
        raise ValueError(
            f"it is a manifest that lies beside another file: verify {path.stem} instead"
        )
    if kind.media_type in c2pa.Reader.get_supported_mime_types():
        return read_plain(path, kind, context)
    if path.stat().st_size <= MAX_TEXT and (textual := _textual(path, kind)) is not None:
        return read_text(path, textual, context)
    damaged = kind is SIDECAR and named(path) is not None
    if (damaged or kind.name in ("Ogg", "font")) and _holds_store(path):
        raise c2pa.C2paError.NotSupported(
            "it carries Content Credentials, but in a kind of file that the engine does not read"
        )
    raise c2pa.C2paError.ManifestNotFound(f"no manifest in {path.name}")


def _textual(path: Path, kind: Format) -> Format | None:
    """The kind of text that others may have embedded a manifest in."""
    if kind.name in ("XML", "XHTML"):
        return replace(kind, route=Route.STRUCTURED, comment=("<!--", "-->"))
    if kind.name in ("JSON", "CSV"):
        return replace(kind, route=Route.TEXT)
    told = named(path) if kind is SIDECAR else None  # a text whose bytes are no UTF-8 any more
    return told if told is not None and told.route in EMBEDDED_IN_TEXT else None


def _holds_store(path: Path) -> bool:
    """Whether a manifest store is somewhere in a file."""
    rest = b""
    with path.open("rb") as stream:
        while piece := stream.read(_CHUNK):
            if _STORE in rest + piece:
                return True
            rest = piece[-len(_STORE) :]
    return False
