"""Where a manifest store lies in a JPEG, PNG or RIFF file, and where one has to go.

Read in small pieces, never the whole file. Whatever is not exactly as its format says is Malformed,
and then the library decides.
"""

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass

STORE_LIMIT = 1 << 26  # bytes of a manifest store that we take into memory
C2PA = bytes.fromhex("6332706100110010800000aa00389b71")  # JUMBF type of a manifest store
_CHUNKS = 1 << 20  # more chunks or segments than any real file has

At = Callable[[int, int], bytes]  # bytes from an offset, as many as there are


class Malformed(ValueError):
    """The structure is not what the format says, or is one that we do not rewrite."""


class Damaged(Malformed):
    """A structure of which the library would leave content out without a word."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """size: of the file in bytes. insert_at: where a manifest's container goes.

    found: the byte ranges [start, end) of the containers of a manifest store that is there.
    store: where its own bytes lie in them.
    """

    size: int
    insert_at: int
    found: tuple[tuple[int, int], ...] = ()
    store: tuple[tuple[int, int], ...] = ()

    def manifest_store(self, at: At) -> bytes | None:
        """The store's bytes where there is one, in one piece of the file; else None."""
        if not self.found or any(
            end != start for (_, end), (start, _) in zip(self.found, self.found[1:], strict=False)
        ):
            return None
        if sum(end - start for start, end in self.store) > STORE_LIMIT:
            return None
        return b"".join(at(start, end - start) for start, end in self.store)


def reader(descriptor: int) -> At:
    """Positioned reads of an open file."""
    return lambda offset, size: os.pread(descriptor, size, offset)


def jpeg(at: At, size: int) -> Layout:
    """C2PA 2.2, A.3.1: APP11 segments of JPEG XT (ISO/IEC 18477-3), of one instance number."""
    if at(0, 2) != b"\xff\xd8":
        raise Malformed("a JPEG begins with FF D8")
    offset, insert_at = 2, 2
    found: list[tuple[int, int]] = []
    store: list[tuple[int, int]] = []
    instance = b""
    for _ in range(_CHUNKS):
        head = at(offset, 40)
        if len(head) < 4 or head[0] != 0xFF:
            raise Malformed("a JPEG's segment begins with FF")
        if head[1] in (0xDA, 0xD9):  # the scan, or an end without one
            return Layout(size=size, insert_at=insert_at, found=tuple(found), store=tuple(store))
        end = offset + 2 + int.from_bytes(head[2:4])
        if head[1] < 0xC0 or 0xD0 <= head[1] <= 0xD8 or end < offset + 4 or end > size:
            raise Malformed("a JPEG's segment ends in the file")
        if offset == 2 and head[1] == 0xE0:
            insert_at = end  # JFIF comes first
        if head[1] == 0xEB and head[4:6] == b"JP":
            first = head[16:20] == b"jumb" and head[28:44].startswith(C2PA[:12])
            if first and found:
                raise Malformed("two manifest stores")
            if first:
                instance = head[6:8]
            if first or (found and head[6:8] == instance):
                found.append((offset, end))
                # every further segment repeats the box's length and type
                store.append((offset + (12 if first else 20), end))
        offset = end
    raise Malformed("too many segments")


def png(at: At, size: int) -> Layout:
    """C2PA 2.2, A.3.2: a caBX chunk, before the image data."""
    if at(0, 8) != b"\x89PNG\r\n\x1a\n" or at(8, 8) != b"\0\0\0\x0dIHDR":
        raise Malformed("a PNG begins with its signature and IHDR")
    found: list[tuple[int, int]] = []
    offset = 8
    for _ in range(_CHUNKS):
        head = at(offset, 8)
        if len(head) < 8:
            raise Malformed("a PNG ends with IEND")
        length, name = struct.unpack(">I4s", head)
        end = offset + 12 + length
        if end > size:
            raise Malformed("a PNG's chunk ends in the file")
        if name == b"caBX":
            found.append((offset, end))
        if name == b"IEND":
            break
        offset = end
    else:
        raise Malformed("too many chunks")
    if len(found) > 1:
        raise Malformed("two manifest stores")
    store = tuple((start + 8, end - 4) for start, end in found)
    return Layout(size=size, insert_at=33, found=tuple(found), store=store)


def riff(at: At, size: int) -> Layout:
    """C2PA 2.2, A.3.6: a C2PA chunk, the last one of the RIFF chunk, which is the whole file."""
    head = at(0, 12)
    if len(head) < 12 or head[:4] != b"RIFF":
        raise Malformed("a RIFF file begins with RIFF")
    says = int.from_bytes(head[4:8], "little") + 8
    if says < size and at(says, 12)[8:] == b"AVIX":
        raise Malformed("a film in more than one RIFF chunk")
    if says != size:
        raise Damaged(f"its header says {says} bytes, and it has {size}")
    found: list[tuple[int, int]] = []
    store: list[tuple[int, int]] = []
    offset = 12
    for _ in range(_CHUNKS):
        if offset == size:
            break
        name, length = _chunk(at(offset, 8))
        end = offset + 8 + length
        if end > size:
            raise Damaged(f"the chunk {name!r} ends {end - size} bytes behind the file")
        if name == b"C2PA":
            found.append((offset, end))
            store.append((offset + 8, end))
        offset = end + (length & 1)
        if offset > size:
            raise Damaged("its last chunk, of odd length, is not padded")
    else:
        raise Malformed("too many chunks")
    if len(found) > 1 or (found and found[0][1] + (found[0][1] & 1) != size):
        raise Malformed("a C2PA chunk is the last and only one")
    return Layout(size=size, insert_at=size, found=tuple(found), store=tuple(store))


def _chunk(head: bytes) -> tuple[bytes, int]:
    if len(head) < 8:
        raise Malformed("a RIFF chunk has a name and a length")
    return head[:4], int.from_bytes(head[4:], "little")
