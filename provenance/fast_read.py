"""Reading in constant memory: the library judges the manifest store, we hash a large file's content.

The library takes up to 512 MiB to hash one. For a large JPEG, PNG, RIFF or BMFF file it judges the
store beside a file of a few bytes, so that it finds every fault but those of the content; the hard
binding (C2PA 2.2, sections 18.5 and 18.6) is then ours to compare, in pieces. Wherever a manifest
names anything that this module does not know exactly, the library reads the file its own way.
"""

import base64
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import c2pa

from assaymark.provenance import bmff, native
from assaymark.provenance.formats import Format, Route
from assaymark.provenance.job import Reading
from assaymark.provenance.layout import At, Malformed, reader
from assaymark.provenance.onepass import BLOCK, LAYOUTS
from assaymark.provenance.plain import read_plain

LARGE = 1 << 24  # bytes; the library needs as much memory as a smaller file has
_ALGORITHMS = ("sha256", "sha384", "sha512")  # section 13.1
_MATCH = {"data": "data hash valid", "bmff": "BMFF hash valid"}
_MISMATCH = {"data": "Hashes do not match", "bmff": "BMFF file level hash mismatch"}
_ELSEWHERE = "data hash exclusion does not match the manifest location in the asset"
_UNTRUSTED = "signingCredential.untrusted"

Ranges = list[tuple[int, int]]


class Unknown(Exception):
    """Something that only the library knows how to judge."""


@dataclass(frozen=True, kw_only=True)
class Binding:
    """The hard binding of the active manifest. kind: "data" or "bmff"; url: of its assertion."""

    kind: str
    label: str
    url: str
    assertion: dict[str, Any]


def read_fast(path: Path, kind: Format, context: c2pa.Context) -> Reading:
    """The library's reading of a file, in at most 64 MiB where its manifest is of a known kind.

    Raises c2pa.C2paError as the library does, and OSError.
    """
    if not native.available():
        return read_plain(path, kind, context)
    with native.FdStream(path) as stream:
        size = os.fstat(stream.fd).st_size
        if size > LARGE:
            try:
                return _read_large(stream.fd, size, kind, context)
            except (Unknown, Malformed):
                pass
        document, embedded = native.read_stream(kind.media_type, stream, context)
    return Reading(document=document, where="embedded" if embedded else "remote")


def manifest_holds(store: bytes, kind: Format, context: c2pa.Context) -> Reading:
    """The reading of a store whose content hash was taken when it was signed: all but that is checked.

    Its validation_state is what it is for a file that keeps its hash. Raises c2pa.C2paError, and
    ValueError where only the whole file can tell.
    """
    try:
        document, binding = _judged(store, kind, context)
        return Reading(document=_concluded(document, binding, holds=True), store=store)
    except Unknown as error:
        raise ValueError(f"only the whole file can tell: {error}") from error


def _read_large(descriptor: int, size: int, kind: Format, context: c2pa.Context) -> Reading:
    at = reader(descriptor)
    if kind.route is Route.BMFF:
        found = list(bmff.boxes(at, 0, size))
        store = bmff.manifest_store(at, found)
        hashed = _hash_boxes
    elif kind.route in LAYOUTS:
        layout = LAYOUTS[kind.route](at, size)
        store = layout.manifest_store(at)
        hashed = _hash_data
        found = [(start, end) for start, end in layout.found]  # type: ignore[misc]
    else:
        raise Unknown("a format whose structure is the library's")
    if store is None:
        raise Unknown("a store that is not in one piece")
    document, binding = _judged(store, kind, context)
    raise NotImplementedError


def _judged(
    store: bytes, kind: Format, context: c2pa.Context
) -> tuple[dict[str, Any], Binding]:
    raise NotImplementedError
