"""The bytes of a file's manifest store, for the questions that the engine does not answer."""

import io
import json
import zlib
from pathlib import Path
from typing import BinaryIO

import c2pa

from assaymark.provenance import cose, jumbf
from assaymark.provenance.c2pa_context import shared_context
from assaymark.provenance.formats import HEAD, recognise
from assaymark.provenance.verification import Verification
from assaymark.reports.errors import InputError

MAX_STORE = 64 << 20  # bytes
_PIECE = 1 << 20


class _Bounded(io.BytesIO):
    """Refuses to grow beyond MAX_STORE."""

    def write(self, data: object, /) -> int:
        if self.tell() + len(data) > MAX_STORE:  # type: ignore[arg-type]
            raise OSError(f"the manifest store has more than {MAX_STORE} bytes")
        return super().write(data)  # type: ignore[arg-type]


def store_of(found: Verification) -> bytes:
    """The manifest store of an examined file.

    Raises InputError where there is none or it cannot be taken out.
    """
    if found.store is not None:
        return found.store
    if not found.label:
        raise InputError(f"{found.path} has no manifest that can be read: {found.explanation}")
    try:
        with found.path.open("rb") as stream:
            kind = recognise(found.path, stream.read(HEAD))
            stream.seek(0)
            if kind is None:
                raise InputError(f"{found.path} is of no kind that carries a manifest")
            with c2pa.Reader(kind.media_type, stream, context=shared_context()) as reader:
                return _store(reader)
    except (OSError, ValueError, c2pa.C2paError) as error:
        raise InputError(f"the manifest store of {found.path} cannot be read: {error}") from error


def _store(reader: c2pa.Reader) -> bytes:
    # asked for a manifest by its label, the library hands out the whole store
    label = json.loads(reader.json())["active_manifest"]
    output = _Bounded()
    reader.resource_to_stream(f"self#jumbf=/c2pa/{label}", output)
    return output.getvalue()


def signature_box(store: bytes, label: str) -> bytes:
    """The COSE_Sign1 of one manifest. Raises InputError where there is none."""
    found = jumbf.manifests(store).get(label, {}).get("c2pa.signature")
    if found is None:
        raise InputError(f'the manifest "{label}" has no signature box')
    return found


def chain_of(found: Verification) -> str:
    """The active signer's certificates as PEM, the leaf first. Raises InputError."""
    return cose.signer_chain(signature_box(store_of(found), found.label))


def png_manifest_is_damaged(path: Path) -> bool:
    """Whether the checksum of a PNG's manifest chunk is wrong (PNG, section 5.5).

    The signature covers all other chunks with their checksums, but never its own.
    """
    with path.open("rb") as stream:
        at = 8
        while True:
            stream.seek(at)
            header = stream.read(8)
            if len(header) < 8:
                return False
            size = int.from_bytes(header[:4], "big")
            if header[4:] == b"caBX":
                return _checksum(stream, size, header[4:]) != int.from_bytes(stream.read(4), "big")
            at += 12 + size


def _checksum(stream: BinaryIO, left: int, start: bytes) -> int:
    found = zlib.crc32(start)
    while left and (piece := stream.read(min(left, _PIECE))):
        found, left = zlib.crc32(piece, found), left - len(piece)
    return found
