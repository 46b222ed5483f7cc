"""What a run of signing has finished, so that the same command signs only what is left or new.

One line of JSON a file, flushed as it is done; a line torn by a crash is dropped, and its file is
looked at again. The journal only saves work: that a file is signed is shown by the file itself.
"""

import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

try:
    import fcntl
except ImportError:  # Windows: two runs at once are not told from one
    fcntl = None  # type: ignore[assignment]

from assaymark.provenance.plan import Task
from assaymark.reports.errors import InputError

_LIMIT = 512 << 20
_TRIES, _PAUSE = 20, 0.1  # seconds

_ABSENT = (-1, -1)
_BEGUN = (-2, -2)

Stamp = tuple[int, int]
"""Size and time of last change (ns): what tells a file from one written later."""
Entry = tuple[str, Stamp, Stamp, Stamp]
"""Settings, and the states of the source, of what was written, and of a manifest beside that."""


@dataclass(kw_only=True)
class Journal:
    """The files that a run with these settings has signed. None of it is kept without a path.

    settings: a digest of all that a signature depends on besides its file.
    """

    path: Path | None
    settings: str
    begun_before: bool = False
    _done: dict[str, Entry] = field(default_factory=dict)
    _begun: dict[str, tuple[str, Stamp]] = field(default_factory=dict)
    _stream: TextIO | None = None

    def __post_init__(self) -> None:
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.begun_before = self.path.exists()
            self._stream = self.path.open("a", encoding="utf-8")
            if not locked(self._stream.fileno()):
                self._stream.close()
                raise InputError(
                    f"another run signs into the same folder (journal {self.path}): wait until it ends"
                )
            self._read(self.path)
        except OSError as error:
            raise InputError(
                f"cannot keep the journal {self.path}: {error.strerror or error}; set XDG_STATE_HOME "
                "to a folder that can be written"
            ) from error

    def kept(self, task: Task) -> bool:
        """Whether the task is done: by these settings, and neither file was touched since."""
        known = self._done.get(str(task.destination.absolute()))
        if known is None or known[:3] != (
            self.settings,
            stamp(task.source),
            stamp(manifest_of(task)),
        ):
            return False
        return known[3] == _ABSENT or known[3] == stamp(beside(task.destination))

    def ours(self, task: Task) -> bool:
        """Whether the destination, whatever it was made from, is an untouched result of ours."""
        known = self._done.get(str(task.destination.absolute()))
        return known is not None and known[2] == stamp(manifest_of(task))

    def begin(self, task: Task) -> None:
        """Note that a file is about to be changed in place."""
        self._begun[str(task.source.absolute())] = begun = (self.settings, stamp(task.source))
        self._write([str(task.source.absolute()), *begun, _BEGUN, _ABSENT])

    def begun(self, task: Task) -> bool:
        """Whether a run with these settings began to change a file in place, which has changed."""
        known = self._begun.get(str(task.source.absolute()))
        return known is not None and known[0] == self.settings and known[1] != stamp(task.source)

    def done(self, task: Task, read: Stamp | None = None, manifest: Path | None = None) -> None:
        """Note that a task is finished.

        read: the state of the source that was signed; now, unless given. manifest: the file that
        carries it, where that is not the destination.
        """
        source = stamp(task.source) if read is None or task.inside else read
        aside = _ABSENT if manifest in (None, task.destination) else stamp(manifest)
        entry = (self.settings, source, stamp(manifest_of(task)), aside)
        name = str(task.destination.absolute())
        self._done[name] = entry
        self._write([name, *entry])

    def _write(self, line: list[object]) -> None:
        if self._stream is not None:
            self._stream.write(json.dumps(line) + "\n")
            self._stream.flush()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *failure: object) -> None:
        if self._stream is not None:
            if fcntl is not None:  # workers that are still ending share the lock
                with suppress(OSError):
                    fcntl.flock(self._stream.fileno(), fcntl.LOCK_UN)
            self._stream.close()

    def _read(self, path: Path) -> None:
        if path.stat().st_size > _LIMIT:
            return
        with path.open(encoding="utf-8", errors="replace") as stream:
            for line in stream:
                try:
                    name, settings, source, signed, aside = json.loads(line)
                    if tuple(signed) == _BEGUN:
                        self._begun[name] = (settings, tuple(source))
                    else:
                        self._done[name] = (settings, tuple(source), tuple(signed), tuple(aside))
                except (ValueError, TypeError):
                    continue  # torn by a crash
        if not _ends_with_a_line(path):
            with path.open("a", encoding="utf-8") as stream:
                stream.write("\n")


def locked(handle: int) -> bool:
    """Lock an open file until it is closed; False where another process holds it for seconds."""
    for _ in range(_TRIES):  # the workers of a run that was killed take a moment to end
        try:
            if fcntl is not None:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(_PAUSE)
        except OSError:  # a file system without locks
            return True
    return False


def _ends_with_a_line(path: Path) -> bool:
    with path.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - 1))
        return stream.read(1) in (b"", b"\n")


def manifest_of(task: Task) -> Path:
    """The file that a run writes: the signed copy, or the manifest beside a file that stays."""
    if task.source == task.destination and not task.inside:
        return beside(task.destination)
    return task.destination


def beside(path: Path) -> Path:
    """Where the manifest of a file that cannot carry one lies.

    >>> beside(Path("weights.gguf")).name
    'weights.gguf.c2pa'
    """
    return path.with_name(f"{path.name}.c2pa")


def stamp(path: Path) -> Stamp:
    """Size and time of a file; (-1, -1) where there is none."""
    try:
        found = path.stat()
    except OSError:
        return _ABSENT
    return (found.st_size, found.st_mtime_ns)
