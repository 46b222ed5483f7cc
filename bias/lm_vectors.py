"""Static word vectors of GloVe, word2vec and fastText as a model that embeds single words.

A file is read in passes of constant memory: one takes its digest and checks its layout, each question then
keeps the vectors of the words it asks for. Nothing in a file is code.
"""

import gzip
import hashlib
import math
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy

from assaymark.bias.lm_model import LanguageModel, Progress, Vectors, quiet
from assaymark.reports.errors import InputError
from assaymark.reports.named_code import first_line

WIDEST = 10_000
LARGEST = 32 << 30
"""A file larger than this, unpacked, is refused (in bytes)."""
_LONGEST_LINE = 1 << 20
_LONGEST_WORD = 4096
_BLOCK = 1 << 20
_FASTTEXT = (793712314).to_bytes(4, "little")
_PLACEHOLDERS = {"UNK", "PAD", "EOS", "BOS"}
Row = tuple[bytes, Callable[[], numpy.ndarray]]
"""A word as it stands in the file, and its vector, read only where somebody wants it."""


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """What the first pass found."""

    words: int
    width: int
    cased: bool


def vectors(path: Path | str) -> LanguageModel:
    """The vectors of a file: .txt or .vec (GloVe, word2vec, fastText; with or without a header line), .bin
    (word2vec), each also as .gz, or .npz (arrays `words` and `vectors`).

    Its `embed` looks for each text as it is written; in a file without any upper-case word, for the text
    in lower case. Words that are not there have a row of NaN and are not known. Raises InputError for a file
    that is missing, cut off, too large or of another layout, and, when asked for, for a word that has two
    vectors or numbers that are not finite.
    """
    path = Path(path)
    rows = _reader(path)
    with _one_sentence(path):
        before = _state(path)
        digest = _digest(path)
        layout = _layout(path, rows(path))

    def embed(texts: Sequence[str], progress: Progress = quiet) -> tuple[Vectors, tuple[bool, ...]]:
        with _one_sentence(path):
            if _state(path) != before:
                raise InputError(f"{path} has changed since it was opened: start again")
            found = _found(path, rows(path), {_key(text, layout) for text in texts})
        matrix = numpy.full((len(texts), layout.width), math.nan)
        for place, text in enumerate(texts):
            if (vector := found.get(_key(text, layout))) is not None:
                matrix[place] = vector
        progress(len(texts), len(texts))
        return matrix, tuple(_key(text, layout) in found for text in texts)

    return LanguageModel(
        name=str(path),
        key=f"vectors:{digest}",
        sha256=digest,
        facts={
            "vectors": f"{layout.words:,} words of {layout.width} numbers",
            "case": "as written" if layout.cased else "texts in lower case (the file has no other)",
        },
        embed=embed,
    )


def _key(text: str, layout: _Layout) -> bytes:
    return (text if layout.cased else text.lower()).encode()


def _found(path: Path, rows: Iterable[Row], wanted: set[bytes]) -> dict[bytes, numpy.ndarray]:
    found: dict[bytes, numpy.ndarray] = {}
    for word, vector in rows:
        if word not in wanted:
            continue
        numbers = vector()
        name = word.decode(errors="replace")
        if not numpy.isfinite(numbers).all():
            raise InputError(
                f'{path}: the vector of "{name}" has numbers that are not finite: expected finite ones'
            )
        if word in found and not numpy.array_equal(found[word], numbers):
            raise InputError(
                f'{path} has two vectors of "{name}": expected one; remove one of them'
            )
        found[word] = numbers
    return found


def _layout(path: Path, rows: Iterable[Row]) -> _Layout:
    """Goes through the whole file once. The first vector tells how wide all are."""
    words, width, cased = 0, 0, False
    for word, vector in rows:
        if not words:
            width = len(vector())
        words += 1
        if not cased:
            text = word.decode(errors="ignore")
            cased = text != text.lower() and text[0] not in "<[" and text not in _PLACEHOLDERS
    if not words:
        raise InputError(f"{path} holds no vector: expected one word a line, with its numbers")
    return _Layout(words=words, width=width, cased=cased)


def _reader(path: Path) -> Callable[[Path], Iterator[Row]]:
    kind = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if kind == ".npz" and path.suffix == ".npz":
        return _npz
    if kind not in (".txt", ".vec", ".bin"):
        raise InputError(
            f"{path.name} is no file of word vectors: expected .txt, .vec, .bin (word2vec), each also "
            "with .gz, or .npz"
        )
    return _binary if kind == ".bin" else _text


def _text(path: Path) -> Iterator[Row]:
    """Lines of a word and its numbers. The last `width` fields are numbers; a word may hold spaces."""
    with _open(path) as file:
        first = file.readline(_LONGEST_LINE)
        fields = first.split()
        header = len(fields) == 2 and all(field.isdigit() for field in fields)
        count, width = (int(fields[0]), int(fields[1])) if header else (None, len(fields) - 1)
        _check_width(path, width)
        number, seen = (1, 0) if header else (0, 0)
        line = file.readline(_LONGEST_LINE) if header else first
        while line:
            number += 1
            if bare := line.strip(b" \t\r\n"):
                seen += 1
                yield _line(path, number, bare, width)
            line = file.readline(_LONGEST_LINE)
    if count is not None and count != seen:
        raise InputError(
            f"{path} says that it has {count:,} words, and has {seen:,}: it is cut off"
        )


def _line(path: Path, number: int, bare: bytes, width: int) -> Row:
    if bare.count(b" ") == width:
        word, _, numbers = bare.partition(b" ")
        return word, partial(_numbers, path, number, numbers, width)
    word, *fields = bare.rsplit(None, width)
    # what stands before the last numbers is a word with spaces, or the row is too wide
    if len(fields) != width or (len(word.split()) > 1 and all(map(_is_number, word.split()[1:]))):
        raise InputError(
            f"{path}, line {number}: expected a word and {width} numbers, got {len(bare.split()) - 1}"
        )
    return word, partial(_numbers, path, number, b" ".join(fields), width)


def _numbers(path: Path, number: int, fields: bytes, width: int) -> numpy.ndarray:
    try:
        found = numpy.array([float(field) for field in fields.split()])
    except ValueError as error:
        raise InputError(f"{path}, line {number}: {error}: expected {width} numbers") from error
    if len(found) != width:
        raise InputError(f"{path}, line {number}: expected {width} numbers, got {len(found)}")
    return found


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _binary(path: Path) -> Iterator[Row]:
    """word2vec: "count width\\n", then each word, a space, and its numbers as float32."""
    with _open(path) as file:
        fields = file.readline(_LONGEST_WORD).split()
        if fields and fields[0].startswith(_FASTTEXT):
            raise InputError(f"{path} is a binary model of fastText: use the .vec file beside it")
        if len(fields) != 2 or not all(field.isdigit() for field in fields):
            raise InputError(
                f'{path} is no word2vec file: expected "words width" in its first line'
            )
        count, width = int(fields[0]), int(fields[1])
        _check_width(path, width)
        block, at = b"", 0
        for place in range(count):
            end = block.find(b" ", at)
            if end < 0 or len(block) < end + 1 + 4 * width:
                block = block[at:] + file.read(_BLOCK)
                at, end = 0, block.find(b" ")
            if end < 0 or len(block) < end + 1 + 4 * width or end - at > _LONGEST_WORD:
                raise InputError(
                    f"{path} says that it has {count:,} words: word {place + 1} is cut off"
                )
            start = end + 1
            raw = block[start : start + 4 * width]
            yield block[at:end].lstrip(b"\n"), partial(_floats, raw)
            at = start + 4 * width
        if block[at:].strip() or file.read(1).strip():
            raise InputError(f"{path} says that it has {count:,} words, and has more")


def _floats(raw: bytes) -> numpy.ndarray:
    return numpy.frombuffer(raw, "<f4").astype(numpy.float64)


def _npz(path: Path) -> Iterator[Row]:
    _check_size(path)
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(part.file_size for part in archive.infolist())
    if unpacked > LARGEST:
        raise InputError(f"{path} unpacks to {unpacked:,} bytes: expected at most {LARGEST:,}")
    with numpy.load(path, allow_pickle=False) as arrays:
        if not {"words", "vectors"} <= set(arrays):
            raise InputError(
                f"{path} holds {', '.join(arrays) or 'nothing'}: expected words, vectors"
            )
        words, matrix = arrays["words"], arrays["vectors"]
    if words.ndim != 1 or words.dtype.kind != "U" or matrix.dtype.kind != "f" or matrix.ndim != 2:
        raise InputError(
            f"{path}: expected words as text of shape (n,) and vectors as floats of shape (n, width), got "
            f"{words.dtype} {words.shape} and {matrix.dtype} {matrix.shape}"
        )
    if len(words) != len(matrix):
        raise InputError(
            f"{path} has {len(words)} words and {len(matrix)} vectors: expected as many"
        )
    _check_width(path, matrix.shape[1])
    for word, vector in zip(words.tolist(), matrix, strict=True):
        yield word.encode(), partial(vector.astype, numpy.float64)


def _check_width(path: Path, width: int) -> None:
    if not 2 <= width <= WIDEST:
        raise InputError(
            f"{path}: a vector has {width} numbers by its first line: expected 2 to {WIDEST:,}"
        )


def _check_size(path: Path) -> None:
    if path.stat().st_size > LARGEST:
        raise InputError(f"{path} has {path.stat().st_size:,} bytes: expected at most {LARGEST:,}")


class _Limited:
    """Reads no more than LARGEST bytes, whatever a small file unpacks to."""

    def __init__(self, file: BinaryIO | gzip.GzipFile, path: Path) -> None:
        self.file, self.path, self.left = file, path, LARGEST

    def readline(self, most: int) -> bytes:
        line = self._counted(self.file.readline(most))
        if len(line) == most and not line.endswith(b"\n"):
            raise InputError(f"{self.path} has a line of more than {most:,} bytes: no word vectors")
        return line

    def read(self, most: int) -> bytes:
        return self._counted(self.file.read(most))

    def _counted(self, read: bytes) -> bytes:
        self.left -= len(read)
        if self.left < 0:
            raise InputError(f"{self.path} unpacks to more than {LARGEST:,} bytes: expected less")
        return read

    def __enter__(self) -> "_Limited":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


def _open(path: Path) -> _Limited:
    _check_size(path)
    packed = path.suffix == ".gz"
    return _Limited(gzip.GzipFile(path) if packed else path.open("rb"), path)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


@contextmanager
def _one_sentence(path: Path) -> Iterator[None]:
    """What the system and the libraries raise becomes one clear sentence."""
    try:
        yield
    except (OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile, MemoryError) as error:
        raise InputError(f"{path} cannot be read as word vectors: {first_line(error)}") from error
