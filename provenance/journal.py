"""What a run of signing has finished, so that the same command signs only what is left or new.

One line of JSON a file, flushed as it is done; a line torn by a crash is dropped, and its file is
looked at again. The journal only saves work: that a file is signed is shown by the file itself.
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from assaymark.provenance.plan import Task
from assaymark.reports.errors import InputError

_LIMIT = 512 << 20

Stamp = tuple[int, int]
"""Size and time of last change (ns): what tells a file from one written later."""


@dataclass(kw_only=True)
class Journal:
    """The files that a run with these settings has signed. None of it is kept without a path.

    settings: a digest of all that a signature depends on besides its file.
    """

    path: Path | None
    settings: str
    begun_before: bool = False
    _done: dict[str, tuple[str, Stamp, Stamp]] = field(default_factory=dict)
    _stream: TextIO | None = None

    def __post_init__(self) -> None:
        if self.path is None:
            return
        try:
            self._read(self.path)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = self.path.open("a", encoding="utf-8")
        except OSError as error:
            raise InputError(
                f"cannot keep the journal {self.path}: {error.strerror or error}; set XDG_STATE_HOME "
                "to a folder that can be written"
            ) from error

    def kept(self, task: Task) -> bool:
        """Whether the task is done: by these settings, and neither file was touched since."""
        return self._done.get(str(task.destination.absolute())) == (
            self.settings,
            stamp(task.source),
            stamp(manifest_of(task)),
        )

    def ours(self, task: Task) -> bool:
        """Whether the destination, whatever it was made from, is an untouched result of ours."""
        known = self._done.get(str(task.destination.absolute()))
        return known is not None and known[2] == stamp(manifest_of(task))

    def done(self, task: Task) -> None:
        """Note that a task is finished."""
        entry = (self.settings, stamp(task.source), stamp(manifest_of(task)))
        name = str(task.destination.absolute())
        self._done[name] = entry
        if self._stream is not None:
            self._stream.write(json.dumps([name, *entry]) + "\n")
            self._stream.flush()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *failure: object) -> None:
        if self._stream is not None:
            self._stream.close()

    def _read(self, path: Path) -> None:
        if not path.exists() or path.stat().st_size > _LIMIT:
            return
        self.begun_before = True
        with path.open(encoding="utf-8", errors="replace") as stream:
            for line in stream:
                try:
                    name, settings, source, signed = json.loads(line)
                    self._done[name] = (settings, tuple(source), tuple(signed))
                except (ValueError, TypeError):
                    continue  # torn by a crash
        if not _ends_with_a_line(path):
            with path.open("a", encoding="utf-8") as stream:
                stream.write("\n")


def _ends_with_a_line(path: Path) -> bool:
    with path.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - 1))
        return stream.read(1) in (b"", b"\n")


def manifest_of(task: Task) -> Path:
    """The file that a run writes: the signed copy, or the manifest beside a file that stays."""
    if task.source == task.destination:
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
        return (-1, -1)
    return (found.st_size, found.st_mtime_ns)
