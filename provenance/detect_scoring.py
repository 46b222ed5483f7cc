"""Scores of labelled files as they are and as they were delivered, side by side and resumable.

A delivery is written without loss (PNG, WAV) and given to the detector as a file, so that every detector
is measured by the way it is used. What it cannot look at is an abstention with its reason, not a zero.
"""

import hashlib
import json
import math
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy
from PIL import Image

from assaymark.provenance.deliveries import DELIVERIES, deliver
from assaymark.provenance.detect_data import Labelled
from assaymark.provenance.evidence import Medium
from assaymark.provenance.material import open_material
from assaymark.provenance.pool import each
from assaymark.provenance.sound_deliveries import (
    SOUND_DELIVERIES,
    deliver_sound,
    read_wave,
    write_wave,
)
from assaymark.reports.errors import InputError, nearest
from assaymark.reports.files import check_writable, unicode

Score = Callable[[Path], float | None]
"""A detector: from a file to a number that is higher for fakes, or None where it abstains."""
AS_IT_IS = "as it is"
_FORMAT = "assaymark detector scores 1"
_TABLES: Mapping[Medium, Collection[str]] = {
    Medium.IMAGE: DELIVERIES,
    Medium.AUDIO: SOUND_DELIVERIES,
}


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A file's scores by delivery, AS_IT_IS among them; None where the detector abstained, for `why`."""

    labelled: Labelled
    sha256: str
    scores: Mapping[str, float | None]
    why: Mapping[str, str] = field(default_factory=dict)


def score_files(
    rows: Sequence[Labelled],
    detect: Score,
    *,
    deliveries: Sequence[str] = (),
    workers: int | None = 1,
    scores: Path | None = None,
    identity: str = "",
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> tuple[Scored, ...]:
    """Score every file, in their order; those that the file `scores` holds already are not asked again.

    detect: where workers is not 1 it must be picklable, such as a function of a module. deliveries: names
    of the tables of pictures and of sounds; a name of the other table is left out of a file. identity:
    what the scores depend on (detector, version, weights); scores of another are refused. progress: called
    with the files done and their number. Raises InputError for unknown names and unreadable scores.
    """
    unknown = [name for name in deliveries if name not in DELIVERIES | SOUND_DELIVERIES]
    if unknown:
        known = [*DELIVERIES, *SOUND_DELIVERIES]
        raise InputError(f'there is no delivery "{unknown[0]}"{nearest(unknown[0], known)}')
    known_scores = {} if scores is None else _recall(scores, identity)
    work = partial(_one, detect=detect, deliveries=tuple(deliveries), known=known_scores)
    found: list[Scored] = []
    with _Memory(scores, identity) as memory:
        for scored in each(work, list(rows), workers=workers, crashed=_crashed):
            if known_scores.get(_key(scored)) != scored:
                memory.add(scored)
            found.append(scored)
            progress(len(found), len(rows))
    return tuple(found)


_Known = dict[tuple[str, str], Scored]


def _one(row: Labelled, *, detect: Score, deliveries: tuple[str, ...], known: _Known) -> Scored:
    try:
        digest = hashlib.sha256(row.path.read_bytes()).hexdigest()
    except OSError as error:
        return _nothing(row, f"cannot be read: {error.strerror}")
    before = known.get((unicode(str(row.path)), digest))
    scores = {} if before is None else dict(before.scores)
    why = {} if before is None else dict(before.why)
    with tempfile.TemporaryDirectory(prefix="assaymark.") as folder:
        for name in _wanted(row.path, deliveries):
            if name in scores:
                continue
            try:
                scores[name] = _asked(row.path, name, digest, detect, Path(folder))
            except InputError as error:
                scores[name], why[name] = None, str(error)
    return Scored(labelled=row, sha256=digest, scores=scores, why=why)


def _wanted(path: Path, deliveries: Sequence[str]) -> list[str]:
    try:
        medium = open_material(path).medium
    except InputError:
        medium = None
    table = _TABLES.get(medium, ()) if medium else ()
    return [AS_IT_IS, *(name for name in deliveries if name in table)]


def _asked(path: Path, name: str, digest: str, detect: Score, folder: Path) -> float | None:
    if name == AS_IT_IS:
        return _finite(detect(path))
    seed = int.from_bytes(hashlib.sha256(f"{digest} {name}".encode()).digest()[:8], "big")
    return _finite(detect(_delivered(path, name, seed, folder)))


def _delivered(path: Path, name: str, seed: int, folder: Path) -> Path:
    if name in DELIVERIES:
        target = folder / "delivered.png"
        pixels = deliver(open_material(path).picture.pixels, name, seed)
        Image.fromarray(pixels).save(target, compress_level=1)
        return target
    target = folder / "delivered.wav"
    samples, rate = read_wave(path)
    write_wave(target, deliver_sound(samples, rate, name, numpy.random.default_rng(seed)), rate)
    return target


def _finite(score: float | None) -> float | None:
    if score is None:
        return None
    if not math.isfinite(score):
        raise InputError(f"the detector's score is {score}, which is no finite number")
    return float(score)


def _nothing(row: Labelled, why: str) -> Scored:
    return Scored(labelled=row, sha256="", scores={AS_IT_IS: None}, why={AS_IT_IS: why})


def _crashed(row: Labelled) -> Scored:
    return _nothing(row, "the process that looked at it died")


def _key(scored: Scored) -> tuple[str, str]:
    return unicode(str(scored.labelled.path)), scored.sha256


class _Memory:
    """The file of scores, one line a file, flushed after each; a later line of a file replaces earlier."""

    def __init__(self, path: Path | None, identity: str) -> None:
        self._path, self._identity = path, identity

    def __enter__(self) -> "_Memory":
        self._stream = None
        if self._path is not None:
            check_writable(self._path)
            _drop_half_a_line(self._path)
            self._stream = self._path.open("a", encoding="utf-8")
            if self._stream.tell() == 0:
                self._write({"format": _FORMAT, "identity": self._identity})
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.close()

    def add(self, scored: Scored) -> None:
        path, digest = _key(scored)
        row = scored.labelled
        fields = {"path": path, "sha256": digest, "label": "fake" if row.fake else "real"}
        of = {"cluster": unicode(row.cluster), "scores": scored.scores, "why": scored.why}
        self._write(fields | of)

    def _write(self, fields: Mapping[str, Any]) -> None:
        if self._stream is not None:
            self._stream.write(json.dumps(fields) + "\n")
            self._stream.flush()


def _drop_half_a_line(path: Path) -> None:
    """What was being written when the process ended."""
    if not path.exists():
        return
    data = path.read_bytes()
    if not data.endswith(b"\n"):
        with path.open("rb+") as stream:
            stream.truncate(data.rfind(b"\n") + 1)


def _recall(path: Path, identity: str) -> _Known:
    if not path.exists():
        return {}
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    whole = lines[:-1]  # the last is empty, or was being written when the process ended
    if not whole:
        return {}
    head = _fields(path, 1, whole[0])
    if head.get("format") != _FORMAT or head.get("identity") != identity:
        raise InputError(
            f"{path} holds scores of {str(head.get('identity'))[:80]!r}, not of {identity!r}: name another "
            "file, or delete it"
        )
    return dict(_scored(path, number, line) for number, line in enumerate(whole[1:], 2))


def _fields(path: Path, number: int, line: str) -> Mapping[str, Any]:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}:{number}: {error}") from error
    if not isinstance(fields, dict):
        raise InputError(f"{path}:{number}: expected an object")
    return fields


def _scored(path: Path, number: int, line: str) -> tuple[tuple[str, str], Scored]:
    fields = _fields(path, number, line)
    try:
        scores = {
            str(name): None if value is None else _finite(float(value))
            for name, value in fields["scores"].items()
        }
        row = Labelled(
            path=Path(fields["path"]),
            fake={"real": False, "fake": True}[fields["label"]],
            cluster=str(fields["cluster"]),
        )
        why = {str(name): str(text) for name, text in fields["why"].items()}
        key = (str(fields["path"]), str(fields["sha256"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}:{number}: this is no line of scores ({error})") from error
    return key, Scored(labelled=row, sha256=key[1], scores=scores, why=why)


def pairs(scored: Sequence[Scored], name: str = AS_IT_IS) -> Iterator[tuple[Labelled, float]]:
    """Files with the scores they got, without those the detector abstained on."""
    for file in scored:
        score = file.scores.get(name)
        if score is not None:
            yield file.labelled, score
