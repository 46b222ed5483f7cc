"""Office, OpenDocument, EPUB and ZIP: packages whose entries c2pa wants unpacked before it signs them."""

import shutil
import tempfile
import zipfile
import zlib
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import IO

import c2pa

from assaymark.provenance.bound import MAX_STORE
from assaymark.provenance.formats import Format
from assaymark.provenance.job import Job, Reading
from assaymark.provenance.plain import read_plain
from assaymark.reports.errors import InputError

MAX_UNPACKED = 1 << 30  # bytes
MAX_RATIO = 200  # unpacked to packed; a bomb has 1,000 and more
MAX_ENTRIES = 65_535
_SMALL = 16 << 20  # below this a ratio is no danger
_ENCRYPTED, _CENTRAL_ENCRYPTED = 1, 1 << 13
_ZIP64 = b"\x01\0"
_CREDENTIAL = "META-INF/content_credential.c2pa"  # C2PA 2.4, A.6


_UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError)


def sign_package(job: Job) -> None:
    """Sign a package; one with packed entries is stored anew first, without the loss of a byte.

    Same entries, order, names, times, attributes and comments; only the packing changes, because c2pa
    hashes entries as they lie. Raises InputError for encrypted, damaged, ambiguous and exploding
    packages, c2pa.C2paError, OSError.
    """
    with tempfile.TemporaryFile(dir=job.target.parent) as room:
        stored = _restored(job.source, room)
        with (
            job.builder() as builder,
            job.source.open("rb") as source,
            job.target.open("w+b") as target,
        ):
            builder.sign(job.signer, job.format.media_type, room if stored else source, target)


def read_package(path: Path, kind: Format, context: c2pa.Context) -> Reading:
    """The library's reading of a package, with the manifest store that is an entry of it.

    Raises c2pa.C2paError, OSError, and ValueError where a second reader of packages disagrees.
    """
    reading = read_plain(path, kind, context)
    if reading.where != "embedded":
        return reading
    try:
        with zipfile.ZipFile(path) as package:
            check_begins(package)
            entry = package.getinfo(_CREDENTIAL)
            return replace(reading, store=package.read(entry) if _is_small(entry) else None)
    except (*_UNREADABLE, KeyError, RuntimeError) as error:
        raise ValueError(f"its package can be read in two ways: {error}") from error


def check_begins(package: zipfile.ZipFile) -> None:
    """Raise ValueError where bytes stand before the first entry: c2pa hashes none of them.

    A reader that begins at the front would see another package there.
    """
    start = min((entry.header_offset for entry in package.infolist()), default=0)
    if start:
        raise ValueError(f"its package can be read in two ways: {start} bytes stand before it")


def _is_small(entry: zipfile.ZipInfo) -> bool:
    return entry.file_size <= MAX_STORE


def _restored(path: Path, room: IO[bytes]) -> bool:
    """Store the package's entries in `room`; False where they are stored already."""
    try:
        with zipfile.ZipFile(path) as package:
            entries = package.infolist()
            _check(path, entries)
            if all(entry.compress_type == zipfile.ZIP_STORED for entry in entries):
                return False
            _store(package, entries, room)
    except _UNREADABLE as error:
        raise InputError(
            f"{path} cannot be unpacked ({error}): a damaged package is not signed"
        ) from error
    room.seek(0)
    return True


def _store(package: zipfile.ZipFile, entries: list[zipfile.ZipInfo], room: IO[bytes]) -> None:
    # OpenDocument 1.3 part 2, section 3.3 and EPUB OCF, section 4.3: the type comes first
    entries = sorted(entries, key=lambda entry: entry.filename != "mimetype")
    with zipfile.ZipFile(room, "w", zipfile.ZIP_STORED) as stored:
        stored.comment = package.comment
        for entry in entries:
            copy = _twin(entry)
            with package.open(entry) as source, stored.open(copy, "w") as target:
                shutil.copyfileobj(source, target)
            # an archive's directory says more than its entries do
            copy.external_attr, copy.internal_attr = entry.external_attr, entry.internal_attr
            copy.create_system, copy.create_version = entry.create_system, entry.create_version


def _twin(entry: zipfile.ZipInfo) -> zipfile.ZipInfo:
    twin = zipfile.ZipInfo(entry.filename, entry.date_time)
    twin.compress_type = zipfile.ZIP_STORED
    twin.comment, twin.extra = entry.comment, _without_zip64(entry.extra)
    twin.file_size = entry.file_size
    twin.external_attr = entry.external_attr
    return twin


def _without_zip64(extra: bytes) -> bytes:
    """The extra fields but the one on sizes, which are written anew (APPNOTE 4.5.3)."""
    kept, at = b"", 0
    while at + 4 <= len(extra):
        end = at + 4 + int.from_bytes(extra[at + 2 : at + 4], "little")
        if extra[at : at + 2] != _ZIP64:
            kept += extra[at:end]
        at = end
    return kept


def _check(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    """Raise InputError for a package that is better not unpacked."""
    packed, unpacked = path.stat().st_size, sum(entry.file_size for entry in entries)
    names = [entry.filename for entry in entries]
    if len(entries) > MAX_ENTRIES:
        raise InputError(f"{path} has {len(entries)} entries, at most {MAX_ENTRIES} are signed")
    if unpacked > MAX_UNPACKED or unpacked > max(_SMALL, MAX_RATIO * packed):
        raise InputError(
            f"{path} unpacks from {packed} to {unpacked} bytes: expected at most {MAX_UNPACKED}, and "
            f"{MAX_RATIO} times its size; sign what is in it, or use a manifest beside it (--sidecar)"
        )
    if any(entry.flag_bits & (_ENCRYPTED | _CENTRAL_ENCRYPTED) for entry in entries):
        raise InputError(
            f"{path} is encrypted: take the password off, or use a manifest beside it (--sidecar)"
        )
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise InputError(f'{path} has two entries "{twice}": one of them is not what is shown')
    strange = next((name for name in names if _leaves(name)), None)
    if strange is not None:
        raise InputError(f'{path} has an entry "{strange}" that points out of the package')


def _leaves(name: str) -> bool:
    return name.startswith("/") or "\\" in name or ".." in name.split("/") or name[1:2] == ":"
