"""Reading in constant memory: the library judges the manifest store, we hash a large file's content.

The library takes up to 512 MiB to hash a file. For a large JPEG, PNG, RIFF, BMFF, MP3,
FLAC or JPEG XL file it judges the store beside a file of a few bytes, so that it finds every fault but
those of the content; the hard binding (C2PA 2.2, sections 18.5 and 18.6) is then ours to compare, in
pieces. Wherever a manifest names anything that is not known exactly here, the library reads the file
its own way.
"""

import base64
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import c2pa

from assaymark.provenance import bmff, native
from assaymark.provenance.formats import Format, Route
from assaymark.provenance.job import Reading
from assaymark.provenance.layout import At, reader
from assaymark.provenance.onepass import LAYOUTS
from assaymark.provenance.plain import read_plain
from assaymark.provenance.read_layouts import READ_LAYOUTS
from assaymark.provenance.sink import BLOCK

LARGE = 1 << 24  # bytes; the library needs as much memory as a smaller file has
_STRUCTURE = 1 << 24  # bytes of a film's boxes without its samples that are judged by the library
_BESIDE = b"\0"  # a file whose content no manifest fits
_FTYP = b"\0\0\0\x10ftypisom\0\0\0\0"
_ALGORITHMS = ("sha256", "sha384", "sha512")  # section 13.1
_PICTURES = ("image/avif", "image/heic", "image/heif")  # of boxes as films are
_UNTRUSTED = "signingCredential.untrusted"
_ELSEWHERE = "data hash exclusion does not match the manifest location in the asset"

Ranges = list[tuple[int, int]]


class Unknown(Exception):
    """Something that only the library knows how to judge."""


@dataclass(frozen=True, kw_only=True)
class Binding:
    """How one kind of hard binding is named."""

    code: str
    match: str
    mismatch: str


_DATA = Binding(
    code="assertion.dataHash",
    match="data hash valid",
    mismatch="Hashes do not match",
)
_BOXES = Binding(
    code="assertion.bmffHash",
    match="BMFF hash valid",
    mismatch="BMFF file level hash mismatch",
)


def read_fast(path: Path, kind: Format, context: c2pa.Context) -> Reading:
    """The library's reading of a file, in at most 64 MiB where its manifest is of a known kind.

    Raises c2pa.C2paError as the library does, and OSError.
    """
    _check_boxes(path)
    if not native.available():
        return read_plain(path, kind, context)
    with native.FdStream(path) as stream:
        size = os.fstat(stream.fd).st_size
        if size > LARGE:
            try:
                return _read_large(stream.fd, size, kind, context)
            except (Unknown, c2pa.C2paError, LookupError, TypeError, ValueError):
                pass  # its own words for what is wrong
        document, embedded = native.read_stream(kind.media_type, stream, context)
    return Reading(document=document, where="embedded" if embedded else "remote")


def _check_boxes(path: Path) -> None:
    """Raises OSError for a BMFF file, be it a film or a picture, of too many boxes."""
    with path.open("rb") as stream:
        at, size = reader(stream.fileno()), os.fstat(stream.fileno()).st_size
        if at(4, 4) == b"ftyp":
            bmff.check_count(at, size)


def read_written(path: Path, kind: Format, context: c2pa.Context) -> Reading:
    """The reading of a file that was just written, whose content was hashed on the way.

    A large file is not read a second time: everything but its content is judged. Raises as
    `read_fast` does.
    """
    if native.available() and path.stat().st_size > LARGE:
        with native.FdStream(path) as stream:
            try:
                size = os.fstat(stream.fd).st_size
                return _read_large(stream.fd, size, kind, context, hashed=False)
            except (Unknown, c2pa.C2paError, LookupError, TypeError, ValueError):
                pass
    return read_fast(path, kind, context)


def manifest_holds(store: bytes, kind: Format, context: c2pa.Context) -> Reading:
    """The reading of a store all but whose content hash is checked, as if that held.

    For a file whose hash was just taken as it was written. Raises c2pa.C2paError, and ValueError
    where only the whole file can tell.
    """
    binding, beside = (_BOXES, _FTYP) if _of_boxes(kind) else (_DATA, _BESIDE)
    try:
        judged = _Judged(store, kind, context, binding, beside)
        return Reading(document=judged.concluded(holds=True), store=store)
    except (Unknown, LookupError, TypeError) as error:
        raise ValueError(f"only the whole file can tell: {error}") from error


def _read_large(
    descriptor: int, size: int, kind: Format, context: c2pa.Context, *, hashed: bool = True
) -> Reading:
    at = reader(descriptor)
    if _of_boxes(kind):
        found = list(bmff.boxes(at, 0, size))
        if not found or found[0].kind != b"ftyp":
            raise Unknown("a file of boxes that does not begin with ftyp")
        store, beside = _known(bmff.manifest_store(at, found)), _skeleton(at, found)
        judged = _Judged(store, kind, context, _BOXES, beside)
        ranges, marks = _box_ranges(at, found, judged.assertion)
    elif find := LAYOUTS.get(kind.route) or READ_LAYOUTS.get(kind.media_type):
        layout = find(at, size)
        judged = _Judged(_known(layout.manifest_store(at)), kind, context, _DATA, _BESIDE)
        ranges, marks = _data_ranges(layout.found, size, judged.assertion), False
    else:
        raise Unknown("a format whose structure is the library's")
    holds = not hashed or judged.digest == _digest(
        descriptor, ranges, judged.assertion["alg"], marks
    )
    return Reading(document=judged.concluded(holds=holds), store=judged.store)


def _of_boxes(kind: Format) -> bool:
    return kind.route is Route.BMFF or kind.media_type in _PICTURES


def _known(store: bytes | None) -> bytes:
    if store is None:
        raise Unknown("a store that is not in one piece")
    return store


def _skeleton(at: At, found: list[bmff.Box]) -> bytes:
    """A film without its samples, so that the library sees whether the structure holds."""
    kept = [box for box in found if box.kind not in (b"mdat", b"free", b"skip", b"uuid")]
    if sum(box.end - box.start for box in kept) > _STRUCTURE:
        raise Unknown("a structure of this size")
    return b"".join(at(box.start, box.end - box.start) for box in kept)


class _Judged:
    """What the library says of a store beside a file that it does not fit."""

    def __init__(
        self, store: bytes, kind: Format, context: c2pa.Context, binding: Binding, beside: bytes
    ) -> None:
        self.store, self.binding = store, binding
        with native.FdStream(os.memfd_create("beside")) as stream:
            os.write(stream.fd, beside)
            os.lseek(stream.fd, 0, os.SEEK_SET)
            self.document, detailed = native.read_store(kind.media_type, store, stream, context)
        assertions = detailed["manifests"][detailed["active_manifest"]]["assertion_store"]
        self.label, self.assertion = _hard_binding(assertions, binding)
        self.digest = base64.b64decode(self.assertion["hash"], validate=True)

    def concluded(self, *, holds: bool) -> dict[str, Any]:
        """The report with our comparison of the content in the place of the library's.

        Raises Unknown unless the content is all that can have been wrong, and the state is plain.
        """
        document, results = self.document, self.document["validation_results"]
        active = results["activeManifest"]
        others = self._others(active.get("failure") or [])
        deltas = [item["validationDeltas"] for item in results.get("ingredientDeltas") or ()]
        if any(delta.get("failure") for delta in deltas):
            raise Unknown("an ingredient that does not hold")
        codes = {item["code"] for item in active.get("success") or ()}
        trusted = "signingCredential.trusted" in codes
        if "claimSignature.validated" not in codes or bool(others) is trusted:
            raise Unknown("a signature that is neither trusted nor untrusted")
        outcome = self._outcome(holds)
        active["failure"] = others if holds else [*others, outcome]
        if holds:
            active["success"].append(outcome)
        document["validation_status"] = active["failure"]
        if not active["failure"]:
            del document["validation_status"]
        document["validation_state"] = "Invalid" if not holds else "Valid" if others else "Trusted"
        return document

    def _others(self, failures: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The failures but for the content's, which must be there as it is always."""
        ours = [item for item in failures if item["code"] == f"{self.binding.code}.mismatch"]
        others = [item for item in failures if item not in ours]
        elsewhere = [item["explanation"] == _ELSEWHERE for item in ours]
        expected = [True, False] if self.binding is _DATA else [False]
        if elsewhere != expected or any(item["url"] != ours[0]["url"] for item in ours):
            raise Unknown("a mismatch for another reason")
        if self.binding is _BOXES and _BOXES.mismatch not in ours[0]["explanation"]:
            raise Unknown("a mismatch for another reason")
        if not ours[0]["url"].endswith(f"/c2pa.assertions/{self.label}"):
            raise Unknown("a mismatch of another assertion")
        if any(item["code"] != _UNTRUSTED for item in others):
            raise Unknown("another failure")
        self.url = ours[0]["url"]
        return others

    def _outcome(self, holds: bool) -> dict[str, str]:
        name = self.assertion.get("name", "")
        why = f"asset hash error, name: {name}, error: hash verification( {self.binding.mismatch} )"
        return {
            "code": f"{self.binding.code}.{'match' if holds else 'mismatch'}",
            "url": self.url,
            "explanation": self.binding.match if holds else why,
        }


def _hard_binding(assertions: dict[str, Any], binding: Binding) -> tuple[str, dict[str, Any]]:
    """The only hard binding, where it is of the kind that is expected and names a known hash."""
    hard = [label for label in assertions if label.startswith("c2pa.hash.")]
    expected = (
        ("c2pa.hash.data",) if binding is _DATA else ("c2pa.hash.bmff.v2", "c2pa.hash.bmff.v3")
    )
    if len(hard) != 1 or hard[0] not in expected:
        raise Unknown(f"hard bindings {', '.join(hard) or 'none'}")
    assertion = assertions[hard[0]]
    if not set(assertion) <= {"exclusions", "alg", "hash", "name", "pad", "pad2"}:
        raise Unknown("fields that are not known here")
    if assertion.get("alg") not in _ALGORITHMS or not isinstance(assertion.get("hash"), str):
        raise Unknown("a hash that is not known here")
    return hard[0], assertion


def _data_ranges(
    found: tuple[tuple[int, int], ...], size: int, assertion: dict[str, Any]
) -> Ranges:
    """Section 18.5: all but the manifest; more exclusions, or others, are for the library."""
    start, end = found[0][0], found[-1][1]
    if assertion.get("exclusions") != [{"start": start, "length": end - start}]:
        raise Unknown("exclusions other than the manifest")
    return [(0, start), (end, size)]


def _box_ranges(at: At, found: list[bmff.Box], assertion: dict[str, Any]) -> tuple[Ranges, bool]:
    """Section 18.6: every top-level box that no exclusion names, each with its offset before it."""
    left_out = [_exclusion(item) for item in assertion.get("exclusions") or ()]
    ranges = [
        (box.start, box.end)
        for box in found
        if not any(
            box.kind == kind and at(box.start + offset, len(value)) == value
            for kind, offset, value in left_out
        )
    ]
    return ranges, True


def _exclusion(item: dict[str, Any]) -> tuple[bytes, int, bytes]:
    path, data = item.get("xpath", ""), item.get("data")
    if not set(item) <= {"xpath", "data"} or len(path) != 5 or path.count("/") != 1:
        raise Unknown("an exclusion that is not a whole top-level box")
    if data is None:
        return path[1:].encode("latin-1"), 0, b""
    if len(data) != 1 or set(data[0]) != {"offset", "value"}:
        raise Unknown("an exclusion by more than one value")
    return path[1:].encode("latin-1"), data[0]["offset"], base64.b64decode(data[0]["value"])


def _digest(descriptor: int, ranges: Ranges, algorithm: str, marks: bool) -> bytes:
    """marks: the offset of each range is hashed before it, as 8 bytes, big-endian."""
    digest, buffer = hashlib.new(algorithm), memoryview(bytearray(BLOCK))
    for start, end in ranges:
        if marks:
            digest.update(start.to_bytes(8))
        while start < end:
            count = os.preadv(descriptor, [buffer[: end - start]], start)
            if not count:
                raise OSError("the file became shorter while it was read")
            digest.update(buffer[:count])
            start += count
    return digest.digest()
