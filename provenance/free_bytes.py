"""Bytes of a signed file that anybody could change without a validator's word: where to hide things.

No hash covers a COSE signature's unprotected header, the names and sizes of the boxes around claim and
signature, nor what an exclusion leaves out. Most of it has one legal value; what differs from it,
padding that is not zero, and boxes that nothing refers to are found here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from assaymark.provenance import cose, jumbf
from assaymark.provenance.formats import HEAD, recognise
from assaymark.provenance.free_file import Piece, differences, encoded_in, in_file, pieces_of
from assaymark.provenance.free_range import FreeRange
from assaymark.reports.errors import InputError

MAX_FILE = 1 << 30  # bytes that are searched for where the store lies
# Superboxes whose name no hash covers, and the names that they may have (C2PA 2.4, 11.1.4).
_NAMES = {
    "c2pa": ("c2pa",),
    "c2as": ("c2pa.assertions",),
    "c2cl": ("c2pa.claim", "c2pa.claim.v2"),
    "c2cs": ("c2pa.signature",),
    "c2vc": ("c2pa.credentials",),
    "c2db": ("c2pa.databoxes",),
}
# Entries of the unprotected header that are signed themselves, or must be zero. Certificates stood
# there before C2PA 2.
_SELF_PROVING = ("sigTst", "sigTst2", "rVals", "x5chain", "33")
_PADDING = ("pad", "pad2")
_PAYLOAD = ""
_TOGGLES = 0b11  # requestable, with a label


@dataclass(frozen=True, kw_only=True)
class FreeBytes:
    """ranges: in the order of the file. unknown: what could not be looked at, in words."""

    ranges: tuple[FreeRange, ...]
    unknown: tuple[str, ...] = ()

    @property
    def unexplained(self) -> tuple[FreeRange, ...]:
        """Those that hold something nobody can account for."""
        return tuple(item for item in self.ranges if not item.explained)


def free_bytes(
    store: bytes, label: str, path: Path | None = None, *, inside: bool = True
) -> FreeBytes:
    """The free bytes of a manifest store whose active manifest is `label`, and of the file around it.

    path: the file that it is about; where it carries the store (inside), positions count in the file
    if the store's own place is known. Never raises for what a store or file holds: what cannot be
    followed is a range, too.
    """
    data, kind = b"", None
    pieces: tuple[Piece, ...] = ()
    if path is not None:
        try:
            with path.open("rb") as stream:
                data = stream.read(MAX_FILE + 1)
        except OSError as error:
            return FreeBytes(ranges=(), unknown=(f"the file cannot be read: {error}",))
        if len(data) > MAX_FILE:
            large = f"the file has more than {MAX_FILE} bytes"
            return FreeBytes(ranges=tuple(_in_store(store, label)), unknown=(large,))
        kind, pieces = recognise(path, data[:HEAD]), pieces_of(data, store) if inside else ()
    there = b"".join(data[piece.file : piece.file + piece.size] for piece in pieces)
    if pieces and not _same(there, store):
        ranges = list(differences(there, store, pieces))
    else:
        ranges = [
            part for item in _in_store(there or store, label) for part in _moved(item, pieces)
        ]
    if path is None:
        return _sorted(ranges)
    around = pieces or (encoded_in(data, store) if inside else ())
    found, unknown = in_file(data, kind, around, _binding(store, label))
    return _sorted([*ranges, *found], unknown)


def _sorted(ranges: list[FreeRange], unknown: tuple[str, ...] = ()) -> FreeBytes:
    ordered = sorted(ranges, key=lambda item: (item.place, item.start))
    return FreeBytes(ranges=tuple(ordered), unknown=unknown)


def _same(there: bytes, store: bytes) -> bool:
    """Whether a file's store says what the engine read in it, in whatever order."""
    if there == store:
        return True
    try:
        return jumbf.manifests(there) == jumbf.manifests(store)
    except InputError:
        return False


def _moved(item: FreeRange, pieces: tuple[Piece, ...]) -> Iterator[FreeRange]:
    """A range of the store at its place in the file; as it is where that is not known."""
    if not pieces:
        yield item
    for piece in pieces:
        start, end = max(item.start, piece.store), min(item.end, piece.store + piece.size)
        if start < end:
            shift = piece.file - piece.store
            yield replace(item, start=start + shift, end=end + shift, place="file")


def _in_store(store: bytes, label: str) -> Iterator[FreeRange]:
    try:
        root = jumbf.parse(store)
    except InputError as error:
        yield FreeRange(start=0, end=len(store), what=f"not JUMBF to its end: {error}", zero=False)
        return
    for box in root.walk():
        if box.is_superbox and box.kind in _NAMES:
            yield from _description(store, box)
    reached = _reached(store, root, label)
    for manifest in jumbf.superboxes(root):
        if manifest.label not in reached:
            yield _range(
                manifest, store, f'the manifest "{manifest.label}", which nothing refers to'
            )
            continue
        yield from _description(store, manifest)
        yield from _in_manifest(store, manifest)
    yield from _strangers(store, root)


def _description(store: bytes, box: jumbf.Box) -> Iterator[FreeRange]:
    """What the description of a box outside all hashes holds besides its standard name."""
    described = box.children[0]
    toggles = store[described.content_start + 16]
    allowed = _NAMES.get(box.kind)
    if allowed is not None and box.label not in allowed:
        yield _range(described, store, f'a box named "{box.label}" for {" or ".join(allowed)}')
    if toggles != _TOGGLES:
        start = described.content_start + 17 + len(box.label.encode()) + 1
        if start < described.end or toggles & ~_TOGGLES:
            yield _between(store, start, described.end, "a salt or identifier that no hash covers")


def _in_manifest(store: bytes, manifest: jumbf.Box) -> Iterator[FreeRange]:
    claim = _claim(store, manifest)
    named = {url.rpartition("/")[2] for url in _urls(claim)}
    for box in jumbf.superboxes(manifest):
        if box.kind == "c2cs":
            yield from _signature(store, box)
        elif box.kind == "c2as":
            for assertion in jumbf.superboxes(box):
                if assertion.label not in named:
                    yield _range(
                        assertion, store, f'the assertion "{assertion.label}", not in the claim'
                    )
                else:
                    yield from _padding(store, assertion)
        elif box.kind not in _NAMES:
            yield _range(box, store, f"a box of kind {box.kind} that C2PA does not know")
        if box.kind in ("c2as", "c2db", "c2vc"):
            yield from _strangers(store, box)
        elif box.kind in ("c2cl", "c2cs"):
            yield from (
                _range(child, store, f"a second box in {box.label}") for child in box.children[2:]
            )
    yield from _strangers(store, manifest)


def _strangers(store: bytes, box: jumbf.Box) -> Iterator[FreeRange]:
    """Content boxes where only superboxes belong: free, skip and padding boxes."""
    for child in box.children[1:]:
        if not child.is_superbox:
            yield _range(child, store, f"a {child.kind} box between the parts of {box.label}")


def _padding(store: bytes, assertion: jumbf.Box) -> Iterator[FreeRange]:
    """Signed padding that is not zero: nobody can change it, but it hides what the signer put there."""
    content = [child for child in assertion.children[1:] if child.kind == "cbor"]
    for box in content if ".hash." in assertion.label else ():
        data = _map(store[box.content_start : box.end])
        for name in _PADDING:
            value = data.get(name)
            if isinstance(value, bytes) and any(value):
                at = store.find(value, box.content_start, box.end)
                yield _between(store, at, at + len(value), f"{name} of {assertion.label}")


def _signature(store: bytes, box: jumbf.Box) -> Iterator[FreeRange]:
    """The unprotected header of a COSE_Sign1 (RFC 9052, section 3: no signature covers it)."""
    content = box.children[1] if len(box.children) > 1 else box
    data = store[content.content_start : content.end]
    try:
        entries = tuple(_entries(data))
    except (InputError, IndexError, ValueError, TypeError) as error:
        yield _range(content, store, f"a signature whose headers cannot be followed: {error}")
        return
    if entries and entries[-1][0] == _PAYLOAD:
        *_, (_, start, _, end) = entries
        entries = entries[:-1]
        if data[start:end] != b"\xf6":
            yield FreeRange(
                start=content.content_start + start,
                end=content.content_start + end,
                what="COSE payload, which must be null",
                zero=False,
            )
    for name, start, value, end in entries:
        if name in _PADDING:
            what = f"COSE {name}"
            yield _between(data, value, end, what, content.content_start)
        else:
            yield FreeRange(
                start=content.content_start + start,
                end=content.content_start + end,
                what=f"COSE unprotected header {name}",
                zero=False,
                known=name in _SELF_PROVING,
            )


def _entries(data: bytes) -> Iterator[tuple[str, int, int, int]]:
    """Name, where the entry starts, where its value's content starts, and where it ends."""
    at = 1 if data[:1] == b"\xd2" else 0
    if data[at : at + 1] != b"\x84":
        raise InputError("it is no COSE_Sign1 array of four")
    at = cose_item(data, at + 1)[1]
    major, count, at = _head(data, at)
    if major != 5:
        raise InputError("its unprotected header is no map")
    for _ in range(count):
        name, value_at = cose_item(data, at)
        value, end = cose_item(data, value_at)
        content = end - len(value) if isinstance(value, bytes) else value_at
        yield str(name), at, content, end
        at = end
    yield _PAYLOAD, at, at, cose_item(data, at)[1]


def cose_item(data: bytes, at: int) -> tuple[Any, int]:
    """The CBOR item at a position, and where it ends. Raises InputError or ValueError."""
    end = _end(data, at, 0)
    return cose.decode(data[at:end]), end


def _end(data: bytes, at: int, depth: int) -> int:
    """Where an item ends (RFC 8949, section 3); indefinite lengths are not what C2PA writes."""
    if depth > 16:
        raise InputError("CBOR is nested deeper than 16")
    major, argument, at = _head(data, at)
    if major in (2, 3):
        at += argument
    elif major in (4, 5):
        for _ in range(argument * (major - 3)):
            at = _end(data, at, depth + 1)
    elif major == 6:
        at = _end(data, at, depth + 1)
    if at > len(data):
        raise InputError("CBOR ends early")
    return at


def _head(data: bytes, at: int) -> tuple[int, int, int]:
    first = data[at]
    major, short = first >> 5, first & 31
    if short < 24:
        return major, short, at + 1
    if short > 27:
        raise InputError("CBOR of indefinite length")
    size = 1 << (short - 24)
    return major, int.from_bytes(data[at + 1 : at + 1 + size], "big"), at + 1 + size


def _reached(store: bytes, root: jumbf.Box, label: str) -> set[str]:
    """Labels of the manifests that the active one leads to; references are signed text."""
    manifests = {box.label: box for box in jumbf.superboxes(root)}
    found, left = set[str](), [label]
    while left:
        name = left.pop()
        if name in manifests and name not in found:
            found.add(name)
            box = manifests[name]
            inside = store[box.start : box.end]
            left += [
                other
                for other in manifests
                if other not in found and f"/c2pa/{other}".encode() in inside
            ]
    return found


def _binding(store: bytes, label: str) -> tuple[str, Mapping[str, Any]]:
    """The active manifest's hash over its content: the assertion's label and data."""
    try:
        root = jumbf.parse(store)
    except InputError:
        return "", {}
    for manifest in jumbf.superboxes(root):
        for box in manifest.walk() if manifest.label == label else ():
            if box.is_superbox and box.label.startswith("c2pa.hash."):
                content = box.children[-1]
                return box.label, _map(store[content.content_start : content.end])
    return "", {}


def _claim(store: bytes, manifest: jumbf.Box) -> Mapping[str, Any]:
    for box in jumbf.superboxes(manifest):
        if box.kind == "c2cl" and len(box.children) > 1:
            content = box.children[1]
            return _map(store[content.content_start : content.end])
    return {}


def _urls(claim: Mapping[str, Any]) -> Iterator[str]:
    for name in ("assertions", "created_assertions", "gathered_assertions"):
        listed = claim.get(name)
        for item in listed if isinstance(listed, list) else ():
            if isinstance(item, dict):
                yield str(item.get("url", ""))


def _map(data: bytes) -> Mapping[str, Any]:
    try:
        found = cose.decode(data)
    except InputError:
        return {}
    return found if isinstance(found, dict) else {}


def _range(box: jumbf.Box, store: bytes, what: str) -> FreeRange:
    return FreeRange(start=box.start, end=box.end, what=what, zero=False)


def _between(data: bytes, start: int, end: int, what: str, shift: int = 0) -> FreeRange:
    zero = not any(data[start:end])
    return FreeRange(start=start + shift, end=end + shift, what=what, zero=zero)
