"""What a file says about itself: each text with the place that its container gives it.

Only the structure of a container is followed, within stated limits. Bytes behind the end of a picture,
inside its samples or in a chunk that does not belong there are no statement: whoever appends the words
of a generator to a photograph changes nothing here.
"""

import os
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from assaymark.provenance.formats import HEAD, recognise
from assaymark.provenance.layout import At, Malformed, reader
from assaymark.reports.errors import InputError

MAX_TEXT = 4 << 20  # bytes of one text, unpacked
MAX_ALL = 32 << 20  # bytes of all texts of a file
MAX_STATEMENTS = 2000
MAX_PARTS = 1 << 16  # chunks, segments, boxes or elements of a file


@dataclass(frozen=True, kw_only=True)
class Statement:
    """A text and its place, such as `png:parameters`, `exif:Software`, `xmp:photoshop:Credit`."""

    place: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Camera:
    """What EXIF says of a camera. maker_note: whose format its maker note has, as far as that is known.

    Nothing of this is proof of a photograph: every field can be copied from one.
    """

    make: str
    model: str
    exposure: bool
    maker_note: str
    thumbnail: bool
    position: bool


@dataclass(frozen=True, kw_only=True)
class Written:
    """Everything that was found in a file. troubles: sentences on what was damaged, refused or left out."""

    statements: tuple[Statement, ...] = ()
    troubles: tuple[str, ...] = ()
    camera: Camera | None = None

    @cached_property
    def by_place(self) -> Mapping[str, tuple[str, ...]]:
        """The texts of each place in the file's order, each once."""
        found: dict[str, dict[str, None]] = {}
        for one in self.statements:
            found.setdefault(one.place, {})[one.text] = None
        return {place: tuple(texts) for place, texts in found.items()}


@dataclass
class Collector:
    """Statements as they are read, up to the limits."""

    statements: list[Statement] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    camera: Camera | None = None
    room: int = MAX_ALL

    def add(self, place: str, text: str) -> None:
        """Keep a text; one that is empty says nothing."""
        text = text.strip("\0 \t\r\n")
        if not text:
            return
        if len(text) > self.room or len(self.statements) >= MAX_STATEMENTS:
            self.trouble("it holds more text than is read, and the rest was left out")
            return
        self.room -= len(text)
        self.statements.append(Statement(place=place, text=text))

    def trouble(self, sentence: str) -> None:
        if sentence not in self.troubles and len(self.troubles) < 50:
            self.troubles.append(sentence)

    def written(self) -> Written:
        return Written(
            statements=tuple(self.statements), troubles=tuple(self.troubles), camera=self.camera
        )


Reads = Callable[[At, int, Collector], None]


def read_statements(path: Path) -> Written | None:
    """What is written in a file; None for a kind of file that is not read here.

    Damage is a trouble of the result. Raises InputError where the file cannot be read at all.
    """
    from assaymark.provenance.statement_readers import READERS

    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    try:
        at, out = reader(descriptor), Collector()
        kind = recognise(path, at(0, HEAD))
        read = READERS.get(kind.name) if kind else None
        if read is None:
            return None
        guarded(read, at, os.fstat(descriptor).st_size, out, "the file")
        return out.written()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)


def guarded(read: Reads, at: At, size: int, out: Collector, what: str) -> None:
    """Read a part of a file; where its structure is broken, what was found before stands."""
    try:
        read(at, size, out)
    except Malformed as error:
        out.trouble(f"{what} is not as its format says: {error}")


def within(data: bytes) -> At:
    """Positioned reads of bytes in memory."""
    return lambda offset, size: data[offset : offset + size]


def whole(at: At, start: int, end: int, what: str) -> bytes:
    """The bytes of one part; raises Malformed for one that is larger than any text needs, or is cut."""
    if end - start > MAX_TEXT:
        raise Malformed(f"{what} has {end - start:,} bytes, and at most {MAX_TEXT:,} are read")
    data = at(start, end - start)
    if len(data) < end - start:
        raise Malformed(f"{what} ends with the file")
    return data


def text_of(data: bytes) -> str:
    """UTF-8 where it is, else Latin-1, which every byte is: what writers do whatever the format says."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def inflated(data: bytes, what: str, wbits: int = 15) -> bytes:
    """Unpack deflate; raises Malformed for what is damaged, or grows beyond MAX_TEXT."""
    unpack = zlib.decompressobj(wbits)
    try:
        text = unpack.decompress(data, MAX_TEXT + 1)
    except zlib.error as error:
        raise Malformed(f"{what} cannot be unpacked") from error
    if len(text) > MAX_TEXT:
        raise Malformed(f"{what} unpacks to more than {MAX_TEXT:,} bytes")
    if not unpack.eof:
        raise Malformed(f"{what} is cut off")
    return text


def behind(at: At, end: int, size: int, what: str, out: Collector) -> None:
    """Tell of bytes that follow the end of a file's structure."""
    if end < size:
        out.trouble(f"{size - end:,} bytes follow the end of {what}; they are no part of it")
