"""What of the file around a manifest store its hash leaves out."""

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from assaymark.provenance.formats import Format
from assaymark.provenance.free_range import FreeRange

_FRAMING = 32  # bytes that a format needs around a store: chunk names, sizes, checksums
# what C2PA 2.4, A.9 writes around a store in a comment
_DELIMITERS = re.compile(rb"-----(?:BEGIN|END) C2PA MANIFEST-----|data:application/c2pa;base64,")
_C2PA_UUID = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
_STORE_TYPE = b"c2pa\x00\x11\x00\x10\x80\x00\x00\xaa\x00\x38\x9b\x71"
_GIF = b"\x21\xff\x0bC2PA_GIF\x01\x00\x00"
_MAX_BOXES = 100_000
_MAX_BRANDS = 128  # bytes of an ftyp box; files of many brands have 64
Found = tuple[list[FreeRange], tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A part of the store, `size` bytes long, and where it stands in both."""

    store: int
    file: int
    size: int


def pieces_of(data: bytes, store: bytes) -> tuple[Piece, ...]:
    """Where a manifest store lies in a file; nothing where that is not known.

    store: as the engine hands it out, which may order manifests anew and mend names and sizes.
    """
    if data.startswith(b"\xff\xd8"):
        return _jpeg_pieces(data)
    if data.startswith(b"GIF8"):
        return _gif_pieces(data, len(store))
    at = data.find(store)
    if at >= 0:
        return (Piece(store=0, file=at, size=len(store)),)
    at = data.find(_STORE_TYPE) - 16  # after two box headers
    if at < 0:
        at = data.find(store[64:192]) - 64
    if at < 0:
        return ()
    size = int.from_bytes(data[at : at + 4], "big")
    fits = 24 < size <= len(data) - at
    return (Piece(store=0, file=at, size=size if fits else min(len(store), len(data) - at)),)


def encoded_in(data: bytes, store: bytes) -> tuple[Piece, ...]:
    """Where the store stands in base64, as in SVG, HTML and comments; sizes are those of the text."""
    text = base64.b64encode(store)
    at = data.find(text)
    return (Piece(store=0, file=at, size=len(text)),) if at >= 0 else ()


def differences(there: bytes, store: bytes, pieces: tuple[Piece, ...]) -> Iterator[FreeRange]:
    """Where the file's store is not what the engine took it for: names and sizes without a hash."""
    for piece in pieces:
        ours, theirs = (text[piece.store : piece.store + piece.size] for text in (there, store))
        wrong = [i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b]
        if wrong or len(ours) != len(theirs):
            last = piece.size if len(ours) != len(theirs) else wrong[-1] + 1
            yield _range(
                piece.file + (wrong[0] if wrong else len(theirs)),
                piece.file + last,
                "names or sizes of boxes that are not the standard's",
            )


def in_file(
    data: bytes,
    kind: Format | None,
    pieces: tuple[Piece, ...],
    binding: tuple[str, Mapping[str, Any]],
) -> Found:
    """Free bytes outside the store, and what could not be looked at."""
    label, hashed = binding
    if label.startswith("c2pa.hash.data"):
        return _excluded(data, pieces, hashed)
    if label.startswith("c2pa.hash.bmff"):
        return _boxes(data, pieces, hashed)
    if not label:
        return [], ("the manifest has no hash over its content",)
    return [], (f"what {label} leaves out is not looked at",)


def _excluded(data: bytes, pieces: tuple[Piece, ...], hashed: Mapping[str, Any]) -> Found:
    """Exclusions of a data hash (C2PA 2.4, 18.5) less the store itself."""
    listed = hashed.get("exclusions")
    if listed and not pieces:
        return [], ("where the manifest store lies in the file is not known",)
    ranges: list[FreeRange] = []
    for item in listed if isinstance(listed, list) else ():
        start, length = item.get("start"), item.get("length")
        if isinstance(start, int) and isinstance(length, int):
            ranges += _around(data, start, min(start + length, len(data)), pieces)
    return ranges, ()


def _around(data: bytes, start: int, end: int, pieces: tuple[Piece, ...]) -> Iterator[FreeRange]:
    at = start
    for piece in (*pieces, Piece(store=0, file=end, size=0)):
        until = min(max(piece.file, at), end)
        if until > at:
            yield from _framing(data, at, until, piece, pieces)
        at = max(at, min(piece.file + piece.size, end))


def _framing(
    data: bytes, start: int, end: int, piece: Piece, pieces: tuple[Piece, ...]
) -> Iterator[FreeRange]:
    beside = bool(piece.size) or any(start == item.file + item.size for item in pieces)
    if data.startswith(b"\xff\xd8"):
        yield from _jpeg_framing(data, start, end, piece, pieces)
    elif beside and len(_DELIMITERS.sub(b"", data[start:end])) <= _FRAMING:
        yield _range(start, end, "what the format puts around a manifest", known=True)
    else:
        zero = not any(data[start:end])
        yield _range(start, end, "excluded from the hash, but no part of the manifest", zero=zero)


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """APP11 segments with JUMBF in them: start and end (ISO 19566-5, annex D)."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] not in (0xDA, 0xD9):
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] == 0xEB:
            yield at, end
        at = end


def _jpeg_pieces(data: bytes) -> tuple[Piece, ...]:
    """The segments that a manifest store is split into, told by their running numbers."""
    found: list[Piece] = []
    done = 0
    for start, end in _jpeg_segments(data):
        number = int.from_bytes(data[start + 8 : start + 12], "big")
        begins = data[start + 28 : start + 44] == _STORE_TYPE
        if (found and number != len(found) + 1) or (not found and not begins):
            if found:
                break
            continue
        content = start + 20 if found else start + 12  # later segments repeat the box header
        found.append(Piece(store=done, file=content, size=max(0, end - content)))
        done += found[-1].size
    return tuple(found)


def _gif_pieces(data: bytes, size: int) -> tuple[Piece, ...]:
    """The sub-blocks of the application extension that holds a store (C2PA 2.4, A.3.5)."""
    at = data.find(_GIF) + len(_GIF)
    found: list[Piece] = []
    done = 0
    while len(_GIF) <= at < len(data) and data[at] and done < size:
        found.append(Piece(store=done, file=at + 1, size=min(data[at], size - done)))
        done += data[at]
        at += 1 + data[at]
    return tuple(found) if done == size and at <= len(data) else ()


def _jpeg_framing(
    data: bytes, start: int, end: int, piece: Piece, pieces: tuple[Piece, ...]
) -> Iterator[FreeRange]:
    """Marker, length, "JP", instance (any number), sequence number, and the box header again."""
    header = data[start:end]
    number = pieces.index(piece) + 1 if piece in pieces else 0
    first = pieces[0] if pieces else None
    repeated = b"" if number == 1 or first is None else data[first.file : first.file + 8]
    expected = b"JP" + data[start + 6 : start + 8] + number.to_bytes(4, "big") + repeated
    if number and header[4:] == expected and header[:2] == b"\xff\xeb":
        yield _range(start + 6, start + 8, "the instance number of a JPEG segment", known=True)
    else:
        yield _range(start, end, "excluded from the hash, but no part of the manifest")


def _boxes(data: bytes, pieces: tuple[Piece, ...], hashed: Mapping[str, Any]) -> Found:
    """Top-level boxes that a BMFF hash leaves out (C2PA 2.4, 18.6)."""
    listed = hashed.get("exclusions")
    paths = {str(item.get("xpath")): item for item in listed or () if isinstance(item, dict)}
    deep = sorted(path for path in paths if path.count("/") > 1)
    unknown = (f"the excluded boxes {', '.join(deep)} are not looked at",) if deep else ()
    ranges: list[FreeRange] = []
    for kind, start, content, end in _top_level(data):
        name = kind.decode("latin-1")
        if kind == b"uuid" and data[content : content + 16] == _C2PA_UUID:
            ranges += _c2pa_box(data, content + 16, end, pieces)
        elif f"/{name}" in paths and not paths[f"/{name}"].get("data"):
            known = kind == b"ftyp" and start == 0 and _are_brands(data[content:end])
            zero = not any(data[content:end])
            what = f"the box {name!r}, which the hash leaves out"
            if content < end:
                ranges.append(_range(content, end, what, known=known, zero=zero))
    return ranges, unknown


def _are_brands(content: bytes) -> bool:
    """A brand, its version, and brands that it is compatible with (ISO 14496-12, 4.3)."""
    brands = content[:4] + content[8:]
    return 8 <= len(content) <= _MAX_BRANDS and not len(content) % 4 and brands.isascii()


def _c2pa_box(data: bytes, start: int, end: int, pieces: tuple[Piece, ...]) -> Iterator[FreeRange]:
    """FullBox of version 0: purpose, offset of a Merkle box, store, padding (C2PA 2.4, A.5.1)."""
    purpose = data[start + 4 : start + 4 + 64].partition(b"\0")[0]
    at = start + 4 + len(purpose) + 1
    inside = [piece for piece in pieces if start <= piece.file < end]
    if any(data[start : start + 4]) or not inside:
        yield _range(start, at, "version and flags of a C2PA box")
    if not inside:
        known = purpose == b"merkle"  # hash lists, which the signed root covers
        yield _range(at, end, f"a C2PA box for {purpose!r} without a manifest", known=known)
        return
    merkle = data[at : inside[0].file]
    if purpose == b"manifest" and any(merkle) and not _points_at_merkle(data, merkle):
        yield _range(at, inside[0].file, "an offset in a C2PA box that leads to no Merkle box")
    last = inside[-1].file + inside[-1].size
    if last < end:
        yield _range(last, end, "padding of a C2PA box", zero=not any(data[last:end]))


def _points_at_merkle(data: bytes, offset: bytes) -> bool:
    at = int.from_bytes(offset, "big")
    return data[at + 4 : at + 8] == b"uuid" and b"merkle" in data[at : at + 64]


def _top_level(data: bytes) -> Iterator[tuple[bytes, int, int, int]]:
    """Type, start, start of the content and end of each box (ISO 14496-12, 4.2)."""
    at = count = 0
    while at + 8 <= len(data) and count < _MAX_BOXES:
        size, kind, content = (
            int.from_bytes(data[at : at + 4], "big"),
            data[at + 4 : at + 8],
            at + 8,
        )
        if size == 1:
            size, content = int.from_bytes(data[at + 8 : at + 16], "big"), at + 16
        end = at + size if size else len(data)
        if end < content or end > len(data):
            return
        yield kind, at, content, end
        at, count = end, count + 1


def _range(
    start: int, end: int, what: str, *, zero: bool = False, known: bool = False
) -> FreeRange:
    return FreeRange(start=start, end=end, what=what, zero=zero, known=known, place="file")
