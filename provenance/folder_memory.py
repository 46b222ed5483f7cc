"""What a folder looked like when it was signed, so that only changed files are hashed again.

A speed-up with a risk that the user accepts by asking for it: a file counts as unchanged when its
size, times, inode and device are. Whoever can set the clock or write to the disk below the file
system can change content without changing these. The digests themselves are never taken from here
but from the earlier signature, which must hold and be made with the same key.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from assaymark.provenance.dsse import strict_json
from assaymark.provenance.folder_manifest import File
from assaymark.reports.errors import InputError
from assaymark.reports.files import write_atomically

Identity = tuple[int, int, int, int, int]

_KIND = "assaymark-folder-memory-1"
_LARGEST = 256 << 20
_TICK_NS = 2_000_000_000  # the coarsest clock of a file system (FAT) stands still for two seconds


def memory_path(signature: Path) -> Path:
    """Where the memory of a signature lies: beside it."""
    return signature.with_name(signature.name + ".memory")


def remember(signature: Path, digest: str, files: Iterable[File], started_ns: int) -> None:
    """Write what the files looked like. digest: SHA-256 of the signature file.

    A file written within two seconds of the start is left out: it could change once more within
    the same tick of its clock and look the same.
    """
    seen = {
        file.name: file.identity
        for file in files
        if max(file.mtime_ns, file.ctime_ns) + _TICK_NS < started_ns
    }
    text = json.dumps({"kind": _KIND, "signature": digest, "files": seen}, ensure_ascii=False)
    write_atomically(memory_path(signature), text)


def recall(signature: Path, digest: str) -> Mapping[str, Identity]:
    """What was remembered with a signature file of that SHA-256; nothing when it is of another."""
    try:
        with memory_path(signature).open("rb") as stream:
            data = stream.read(_LARGEST + 1)
        found = strict_json(data) if len(data) <= _LARGEST else None
    except (OSError, InputError):
        return {}
    if not isinstance(found, dict) or (found.get("kind"), found.get("signature")) != (
        _KIND,
        digest,
    ):
        return {}
    files: Any = found.get("files")
    if not isinstance(files, dict):
        return {}
    return {
        name: tuple(seen)
        for name, seen in files.items()
        if isinstance(seen, list) and len(seen) == 5 and all(type(n) is int for n in seen)
    }
