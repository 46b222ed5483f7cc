"""Attacks on a signed file: what a forger does to its content, its manifest and the two together."""

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import c2pa_text

# The description of a manifest store's box (C2PA 2.4, section 11.1.4.2), 12 bytes into the store
_STORE = b"jumdc2pa\0\x11\0\x10\x80\0\0\xaa\0\x38\x9b\x71"
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{400,}={0,2}")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A signed file. side: its manifest where that lies beside it; original: before it was signed."""

    main: bytes
    side: bytes | None
    original: bytes

    @property
    def holder(self) -> bytes:
        return self.main if self.side is None else self.side

    def held(self, data: bytes) -> "Case":
        return replace(self, main=data) if self.side is None else replace(self, side=data)


@dataclass(frozen=True, kw_only=True)
class Found:
    """Where a manifest store lies in a file, and how it is written there."""

    start: int
    end: int
    store: bytes
    write: Callable[[bytes], bytes]


def find_store(data: bytes) -> Found:
    """The store as it is, as base64, or as invisible characters."""
    at = data.find(_STORE)
    if at >= 12:
        start = at - 12
        size = int.from_bytes(data[start : start + 4], "big")
        return Found(start=start, end=start + size, store=data[start : start + size], write=bytes)
    for match in _BASE64.finditer(data):
        store = base64.b64decode(match[0])
        if _STORE in store[:40]:
            return Found(start=match.start(), end=match.end(), store=store, write=base64.b64encode)
    held = c2pa_text.find_wrapper_info(data.decode())
    assert held is not None
    store, start, length = held

    def wrapped(new: bytes) -> bytes:
        padded: str = c2pa_text.encode_wrapper_padded(new, length)
        return padded.encode()

    return Found(start=start, end=start + length, store=store, write=wrapped)


def _content(share: float) -> Callable[[Case, Case], Case]:
    """Flip a bit of the content, at this share of what is outside of the manifest."""

    def flip(case: Case, other: Case) -> Case:
        at = _outside(case, share)
        return replace(case, main=_flipped(case.main, at))

    return flip


def _outside(case: Case, share: float) -> int:
    if case.side is not None:
        return int(len(case.main) * share)
    found = find_store(case.main)
    # beside the store stand the container's own fields, which are told apart below
    start, end = max(found.start - 200, 0), min(found.end + 200, len(case.main))
    if end - start >= len(case.main):
        start, end = found.start, found.end
    at = int((len(case.main) - (end - start)) * share)
    return at if at < start else at + end - start


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _append(case: Case, other: Case) -> Case:
    return replace(case, main=case.main + b"0123456789")


def _cut(case: Case, other: Case) -> Case:
    return replace(case, main=case.main[:-10])


def _half(case: Case, other: Case) -> Case:
    return replace(case, main=case.main[: len(case.main) // 2])


def _insert(case: Case, other: Case) -> Case:
    at = _outside(case, 0.5)
    return replace(case, main=case.main[:at] + b"inserted" + case.main[at:])


def _swap(case: Case, other: Case) -> Case:
    """Two regions of the content change places."""
    first, second = _outside(case, 0.3), _outside(case, 0.9)
    a, b = case.main[first : first + 5], case.main[second : second + 5]
    if a == b:
        return _content(0.5)(case, other)
    data = bytearray(case.main)
    data[first : first + 5], data[second : second + 5] = b, a
    return replace(case, main=bytes(data))


def _in_store(change: Callable[[bytes], bytes]) -> Callable[[Case, Case], Case]:
    def attack(case: Case, other: Case) -> Case:
        found = find_store(case.holder)
        new = found.write(change(found.store))
        return case.held(case.holder[: found.start] + new + case.holder[found.end :])

    return attack


def _after(mark: bytes, more: int) -> Callable[[bytes], bytes]:
    def change(store: bytes) -> bytes:
        at = store.rindex(mark)
        return _flipped(store, at + len(mark) + more)

    return change


def _signature(store: bytes) -> bytes:
    """A bit of the ES256 signature, the last byte string of 64 bytes (RFC 9052, section 4.2)."""
    return _flipped(store, store.rindex(b"\x58\x40") + 20)


def _wider(store: bytes) -> bytes:
    """The length of the part that the hash leaves out; where nothing is left out, the hash."""
    at = store.find(b"flength\x19")
    return _flipped(store, at + 9) if at > 0 else _hash(store)


def _hash(store: bytes) -> bytes:
    marks = [
        store.rfind(mark) for mark in (b"c2pa.hash.data", b"c2pa.hash.bmff", b"c2pa.hash.coll")
    ]
    at = store.index(b"hashX ", max(mark for mark in marks if mark >= 0) - 400)
    return _flipped(store, at + 20)


def _box_length(store: bytes) -> bytes:
    return (int.from_bytes(store[:4], "big") + 1).to_bytes(4, "big") + store[4:]


def _strip(case: Case, other: Case) -> Case:
    return replace(case, main=case.original, side=None)


def _graft(case: Case, other: Case) -> Case:
    """The manifest of another file, just as long, in this one."""
    theirs = find_store(other.holder)
    return _in_store(lambda store: theirs.store)(case, other)


def _replay(case: Case, other: Case) -> Case:
    """Another file's content under this file's manifest."""
    if case.side is not None:
        return replace(case, main=other.main)
    mine, theirs = find_store(case.main), find_store(other.main)
    carried = case.main[mine.start : mine.end]
    return replace(case, main=other.main[: theirs.start] + carried + other.main[theirs.end :])


def _twice(case: Case, other: Case) -> Case:
    found = find_store(case.holder)
    carried = case.holder[found.start : found.end]
    return case.held(case.holder[: found.end] + carried + case.holder[found.end :])


ATTACKS: dict[str, Callable[[Case, Case], Case]] = {
    "content near its begin": _content(0.2),
    "content in the middle": _content(0.55),
    "content near its end": _content(0.97),
    "bytes appended": _append,
    "end cut": _cut,
    "half cut": _half,
    "bytes inserted": _insert,
    "regions swapped": _swap,
    "assertion": _in_store(_after(b"c2pa.actions.v2", 20)),
    "claim": _in_store(_after(b"claim_generator_info", 8)),
    "signature": _in_store(_signature),
    "certificate": _in_store(_after(b"Example Press", 120)),
    "exclusion widened": _in_store(_wider),
    "hash": _in_store(_hash),
    "length of the store": _in_store(_box_length),
    "stripped": _strip,
    "manifest of another file": _graft,
    "content of another file": _replay,
    "manifest twice": _twice,
}
