"""A folder of photographs, one folder a source, turned into a folder of pairs to train a detector on.

    PHOTOS/<source>/<name>.<any>   ->   PAIRS/real/<source>/<name>.png
                                        PAIRS/<process>/<source>/<name>.png
                                        PAIRS/masks/<process>/<source>/<name>.png
                                        PAIRS/pairs.csv

Pictures are lossless and have the size of a crop: their history is for the training to draw, the same for
both sides. Masks are written for processes that change a part. What is there already is not made again.
"""

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy
from PIL import Image

from assaymark.provenance.evidence import Says
from assaymark.provenance.fakes import Process, crop
from assaymark.provenance.material import read_picture
from assaymark.provenance.picture_history import Pixels
from assaymark.reports.errors import InputError
from assaymark.reports.files import write_atomically

_REAL, _MASKS = "real", "masks"


@dataclass(frozen=True, kw_only=True)
class Photo:
    """A file of a photograph; source: the name of its folder, which a split never divides."""

    path: Path
    source: str

    @property
    def name(self) -> str:
        return f"{self.source}/{self.path.stem}.png"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """made: pictures written now. kept: those that were there. left_out: photographs, each with why."""

    made: int
    kept: int
    left_out: Mapping[Path, str]


def photos_in(folder: Path) -> list[Photo]:
    """Files in the folders of a folder, by name; raises InputError where there is none, or two of a name."""
    if not folder.is_dir():
        raise InputError(
            f"{folder} is no folder: expected one with a folder of photographs a source"
        )
    found = [
        Photo(path=path, source=path.parent.name)
        for path in sorted(folder.glob("*/*"))
        if path.is_file() and not path.name.startswith(".")
    ]
    if not found:
        raise InputError(f"{folder} has no photographs: expected {folder}/SOURCE/FILE")
    seen: dict[str, Path] = {}
    for photo in found:
        if photo.name in seen:
            raise InputError(
                f"{photo.path} and {seen[photo.name]} differ by their endings only: rename one"
            )
        seen[photo.name] = photo.path
    return found


def make_pairs(
    photos: Path,
    processes: Mapping[str, Process],
    into: Path,
    *,
    side: int = 256,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Outcome:
    """Write the pairs of every photograph and process; see the module for the layout.

    The crop of a photograph depends on the seed and its name alone, so that all processes share it.
    progress is called with the photographs done and their number. Raises InputError when a folder cannot
    be read or written, or a process is named as one of the folders of the layout.
    """
    for name in processes:
        if name in (_REAL, _MASKS) or Path(name).name != name:
            raise InputError(
                f"{name!r} cannot name a process: it is a folder of the layout or a path"
            )
    found = photos_in(photos)
    made = kept = 0
    left_out: dict[Path, str] = {}
    rows: list[tuple[str, str, str, str]] = []
    for number, photo in enumerate(found):
        try:
            real = crop(read_picture(photo.path).pixels, _random(seed, photo.name), side=side)
        except InputError as error:
            left_out[photo.path] = str(error)
            continue
        for name, process in (("", None), *processes.items()):
            new = _write(into, photo, real, process, _random(seed, f"{name}/{photo.name}"))
            made, kept = made + new, kept + (not new)
            says = Says.AUTHENTIC if process is None else process.says
            rows.append((f"{name or _REAL}/{photo.name}", photo.source, name or _REAL, says.value))
        if progress is not None:
            progress(number + 1, len(found))
    write_atomically(into / "pairs.csv", _table(rows))
    return Outcome(made=made, kept=kept, left_out=left_out)


def _write(
    into: Path, photo: Photo, real: Pixels, process: Process | None, rng: numpy.random.Generator
) -> bool:
    """Whether the picture was not there yet. The mask goes first: a picture is never without its own."""
    target = into / (process.name if process else _REAL) / photo.name
    if target.exists():
        return False
    pixels = real
    if process is not None:
        pixels, mask = process.make(real, rng)
        if process.says is Says.MANIPULATED:
            write_atomically(into / _MASKS / process.name / photo.name, _png(mask))
    write_atomically(target, _png(pixels))
    return True


def _random(seed: int, name: str) -> numpy.random.Generator:
    return numpy.random.default_rng([seed, crc32(name.encode("utf-8", "surrogateescape"))])


def _png(values: numpy.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "PNG", compress_level=3)
    return stream.getvalue()


def _table(rows: Iterable[tuple[str, str, str, str]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("file", "source", "process", "says"))
    writer.writerows(rows)
    return stream.getvalue()
