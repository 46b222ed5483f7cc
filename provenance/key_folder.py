"""The folder that `assaymark keys new` makes: which pair is current, which were, which are revoked.

    root.pem root.key.pem intermediate.pem intermediate.key.pem    the authority
    chain.pem key.pem                                              the pair that signs
    tsa.pem tsa-chain.pem tsa.key.pem ocsp.pem ocsp.key.pem        time stamps, revocation
    archive/SERIAL.chain.pem archive/SERIAL.key.pem                pairs that signed before
    keys.json crl.pem                                              what happened to them

A new pair is staged beside the old one, `keys.json` is replaced in one step, and only then the
files change names: whenever a process is killed, `settled` finds a pair that fits together.
"""

import datetime as dt
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from assaymark.provenance.certificate_profile import issued_by
from assaymark.provenance.certificates import algorithm_of, serial_of
from assaymark.provenance.key_files import read_certificates, read_limited, write_new
from assaymark.reports.errors import InputError

INDEX = "keys.json"
ARCHIVE = "archive"
_SCHEMA = 1
_SERIAL = re.compile("[0-9A-F]{2,64}")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A signing certificate and its key. own: issued by this folder's intermediate.

    Times are UTC in ISO 8601; rotated is "" while the pair signs.
    """

    serial: str
    algorithm: str
    created: str
    rotated: str = ""
    own: bool = True


@dataclass(frozen=True, kw_only=True)
class Revocation:
    """A certificate that must not be trusted from `at` on (RFC 5280, section 5.3.1, for reason)."""

    serial: str
    reason: str
    at: str


@dataclass(frozen=True, kw_only=True)
class Index:
    """What `keys.json` holds. current: the serial of the pair that signs."""

    current: str
    pairs: tuple[Pair, ...]
    revoked: tuple[Revocation, ...] = ()
    crl_number: int = 0

    @property
    def pair_that_signs(self) -> Pair:
        return next(item for item in self.pairs if item.serial == self.current)

    def pair(self, serial: str) -> Pair | None:
        return next((item for item in self.pairs if item.serial == serial), None)

    def revocation(self, serial: str) -> Revocation | None:
        return next((item for item in self.revoked if item.serial == serial), None)


def index_text(index: Index) -> str:
    """The index as the JSON text of `keys.json`."""
    return json.dumps({"schema": _SCHEMA} | asdict(index), indent=2) + "\n"


def read_index(folder: Path) -> Index | None:
    """The index of a folder; None where there is none. Raises InputError for a broken one."""
    path = folder / INDEX
    if not path.exists():
        return None
    try:
        return _index(json.loads(read_limited(path, "index of keys")))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{path} is not an index of keys: {type(error).__name__}: {error}; restore it, or remove "
            "it to start a new one without what was revoked"
        ) from error


def _index(data: dict[str, Any]) -> Index:
    if data["schema"] != _SCHEMA:
        raise ValueError(f"schema is {data['schema']}, expected {_SCHEMA}")
    index = Index(
        current=str(data["current"]),
        pairs=tuple(Pair(**item) for item in data["pairs"]),
        revoked=tuple(Revocation(**item) for item in data["revoked"]),
        crl_number=int(data["crl_number"]),
    )
    if index.pair(index.current) is None:
        raise ValueError(f"current is {index.current}, which is none of its pairs")
    for serial in [item.serial for item in index.pairs] + [item.serial for item in index.revoked]:
        if not _SERIAL.fullmatch(serial):  # it becomes part of file names
            raise ValueError(f"{serial!r} is no serial number")
    for revoked in index.revoked:
        dt.datetime.fromisoformat(revoked.at)
    return index


def index_beside(path: Path) -> Index | None:
    """The index that knows a chain file, whether it signs now or is in the archive."""
    folder = path.parent
    return read_index(folder.parent if folder.name == ARCHIVE else folder)


def settled(path: Path) -> Path:
    """The file that a path in a key folder stands for, also after an interrupted rotation."""
    index = read_index(path.parent)
    staged = staged_name(path, index.current) if index else path
    return staged if staged.exists() else path


def staged_name(path: Path, serial: str) -> Path:
    """Where the file of the pair `serial` waits to become `path`."""
    return path.with_name(f".next-{serial}.{path.name}")


@contextmanager
def locked(folder: Path, *, exclusive: bool) -> Iterator[None]:
    """Keep writers of a key folder apart from each other and from readers; a dead one holds none."""
    try:
        import fcntl
    except ImportError:  # where the system has no such locks, a rotation at the same time may show
        yield
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise InputError(f"cannot open {folder}: {error.strerror or error}") from error
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


def open_folder(folder: Path) -> Index:
    """The index, after finishing or undoing what an interrupted rotation left; needs the lock.

    A folder from before there was an index gets one. Raises InputError when it is no key folder.
    """
    if not (folder / "chain.pem").exists():
        raise InputError(
            f"{folder} is not a folder of keys: expected what assaymark keys new makes"
        )
    index = read_index(folder)
    if index is None:
        index = _first_index(folder)
        save_index(folder, index)
    _finish(folder, index.current)
    return index


def save_index(folder: Path, index: Index) -> None:
    """Replace `keys.json` in one step; needs the lock. Raises InputError."""
    with writing(folder):
        place(folder / INDEX, index_text(index))


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """What the system says against writing, as an InputError."""
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot write in {folder}: {error.strerror or error}") from error


def _first_index(folder: Path) -> Index:
    leaf = read_certificates(folder / "chain.pem")[0]
    own = folder / "intermediate.pem"
    pair = Pair(
        serial=serial_of(leaf),
        algorithm=algorithm_of(leaf) or "",
        created=f"{leaf.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ}",
        own=own.exists() and issued_by(leaf, read_certificates(own)[0]),
    )
    return Index(current=pair.serial, pairs=(pair,))


def switch(folder: Path, index: Index, chain_pem: str, key_pem: str, pair: Pair) -> None:
    """Make a new pair the one that signs, and keep the old one in the archive; needs the lock.

    key_pem: encrypted. Raises InputError when the folder cannot be written; the old pair then signs.
    """
    now = stamp()
    pairs = tuple(
        Pair(**(asdict(item) | {"rotated": now})) if item.serial == index.current else item
        for item in index.pairs
    )
    after = Index(
        current=pair.serial,
        pairs=(*pairs, pair),
        revoked=index.revoked,
        crl_number=index.crl_number,
    )
    with writing(folder):
        (folder / ARCHIVE).mkdir(mode=0o700, exist_ok=True)
        for name in ("chain.pem", "key.pem"):
            kept = folder / ARCHIVE / f"{index.current}.{name}"
            place(kept, (folder / name).read_text(encoding="utf-8"), private=name == "key.pem")
        place(staged_name(folder / "chain.pem", pair.serial), chain_pem)
        place(staged_name(folder / "key.pem", pair.serial), key_pem, private=True)
        place(folder / INDEX, index_text(after))  # from here on the new pair signs
        _finish(folder, pair.serial)


def _finish(folder: Path, current: str) -> None:
    for path in sorted(folder.glob(".next-*.pem")) + sorted(folder.glob(".part-*")):
        _, _, name = path.name.removeprefix(".next-").partition(".")
        if path == staged_name(folder / name, current):
            os.replace(path, folder / name)
        else:
            path.unlink()


def place(path: Path, text: str, *, private: bool = False) -> None:
    """Replace a file in one step, private ones for their owner only; raises OSError."""
    part = path.with_name(f".part-{path.name}")
    part.unlink(missing_ok=True)
    write_new(part, text, private=private)
    os.replace(part, path)


def archived(folder: Path) -> tuple[Path, ...]:
    """The chains of the pairs that signed before, in the order of their serial numbers."""
    return tuple(sorted((folder / ARCHIVE).glob("[!.]*.chain.pem")))


def stamp() -> str:
    """Now, in UTC, as the index writes it."""
    return f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H:%M:%SZ}"
