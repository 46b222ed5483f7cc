"""The tables of a store of manifests, and what is asked of them within one transaction.

Near fingerprints are found by looking at every one: they lie packed in blocks, so a million of them are
32 MB read in sequence. That is exact, and unlike an index of hash bands no crafted set of pictures
can make it slow.
"""

import datetime as dt
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    func,
    literal_column,
    select,
)

from assaymark.provenance.fingerprint import BITS
from assaymark.reports.errors import InputError

VERSION = 1
MAX_MANIFEST = 64 * 2**20  # bytes
_BLOCK = 4096  # fingerprints packed together
_CODE = BITS // 8
WORDS = 200  # characters of a title or a signer

metadata = MetaData()
about = Table("assaymark_store", metadata, Column("version", Integer, primary_key=True))
_id = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by INTEGER only
manifests = Table(
    "manifests",
    metadata,
    Column("id", _id, primary_key=True),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("data", LargeBinary, nullable=False),
    Column("signer", String(WORDS), nullable=False),
    Column("title", String(WORDS), nullable=False),
    Column("stored", String(32), nullable=False),  # ISO 8601, UTC: the same text in every database
)
watermarks = Table(
    "watermarks",
    metadata,
    Column("alg", String(100), primary_key=True),
    Column("payload", BigInteger, primary_key=True, autoincrement=False),
    Column("manifest", ForeignKey("manifests.id"), primary_key=True),
)
fingerprints = Table(
    "fingerprints",
    metadata,
    Column("id", _id, primary_key=True),
    Column("manifest", ForeignKey("manifests.id"), nullable=False),
    Column("code", LargeBinary(_CODE), nullable=False),
    Column("packed", Integer, nullable=False),  # 1: also in a block
    UniqueConstraint("manifest", "code"),
)
_loose = fingerprints.c.packed == literal_column("0")  # a parameter would hide the index
Index("loose_fingerprints", fingerprints.c.id, sqlite_where=_loose, postgresql_where=_loose)
blocks = Table(
    "fingerprint_blocks",
    metadata,
    Column("id", _id, primary_key=True),
    Column("codes", LargeBinary, nullable=False),  # 32 bytes each
    Column("members", LargeBinary, nullable=False),  # ids of fingerprints, 8 bytes each
)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A stored manifest. signer and title: what its file said when it was stored; stored: UTC."""

    manifest: bytes
    sha256: str
    signer: str
    title: str
    stored: dt.datetime


@dataclass(frozen=True, kw_only=True)
class Near:
    """A manifest whose picture looked alike. distance: bits of 256 that differ."""

    entry: Entry
    distance: int


def create_all(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":  # SQLite's writers already wait for each other
        connection.execute(select(func.pg_advisory_xact_lock(0x415353)))
    metadata.create_all(connection)
    if connection.scalar(select(about.c.version)) is None:  # another process may have been first
        connection.execute(about.insert().values(version=VERSION))


def check_values(
    manifest: bytes, marks: tuple[tuple[str, int], ...], codes: tuple[bytes, ...]
) -> None:
    if not 0 < len(manifest) <= MAX_MANIFEST:
        raise InputError(
            f"a manifest of {len(manifest)} bytes: expected 1 to {MAX_MANIFEST} (64 MiB)"
        )
    for alg, payload in marks:
        if not 0 <= payload < 2**63 or not 0 < len(alg) <= 100:
            raise InputError(
                f"watermark {payload} of {alg[:100]!r}: expected 0 to 2**63 - 1 and a short name"
            )
    for code in codes:
        if len(code) != _CODE:
            raise InputError(f"a fingerprint of {len(code)} bytes: expected {_CODE}")


def add_all(
    connection: Connection,
    row: dict[str, Any],
    marks: tuple[tuple[str, int], ...],
    codes: tuple[bytes, ...],
) -> None:
    same = select(manifests.c.id).where(manifests.c.sha256 == row["sha256"])
    manifest = connection.scalar(same)
    if manifest is None:
        connection.execute(manifests.insert().values(row))
        manifest = connection.scalar(same)
    known = {
        tuple(mark)
        for mark in connection.execute(
            select(watermarks.c.alg, watermarks.c.payload).where(watermarks.c.manifest == manifest)
        )
    }
    seen = set(
        connection.scalars(select(fingerprints.c.code).where(fingerprints.c.manifest == manifest))
    )
    for alg, payload in dict.fromkeys(marks):
        if (alg, payload) not in known:
            values = {"alg": alg, "payload": payload, "manifest": manifest}
            connection.execute(watermarks.insert().values(values))
    for code in dict.fromkeys(codes):
        if code not in seen:
            values = {"manifest": manifest, "code": code, "packed": 0}
            connection.execute(fingerprints.insert().values(values))
    _pack(connection)


def _pack(connection: Connection) -> None:
    """Move loose fingerprints into a block once there are enough."""
    if (connection.scalar(select(func.count(fingerprints.c.id)).where(_loose)) or 0) < _BLOCK:
        return
    rows = connection.execute(
        select(fingerprints.c.id, fingerprints.c.code)
        .where(_loose)
        .order_by(fingerprints.c.id)
        .limit(_BLOCK)
        .with_for_update(skip_locked=True)  # another writer may be packing the same ones
    ).all()
    if len(rows) < _BLOCK:
        return
    ids = [row.id for row in rows]
    values = {
        "codes": b"".join(bytes(row.code) for row in rows),
        "members": numpy.array(ids, "<i8").tobytes(),
    }
    connection.execute(blocks.insert().values(values))
    for at in range(0, _BLOCK, 500):  # databases limit the parameters of a statement
        chosen = fingerprints.c.id.in_(ids[at : at + 500])
        connection.execute(fingerprints.update().where(chosen).values(packed=1))


def nearest_ids(connection: Connection, code: bytes, farthest: int) -> dict[int, int]:
    """Fingerprint id -> distance, of all within `farthest`."""
    if len(code) != _CODE:
        raise InputError(f"a fingerprint of {len(code)} bytes: expected {_CODE}")
    # loose ones first: what is packed meanwhile is seen twice rather than never
    loose = connection.execute(select(fingerprints.c.id, fingerprints.c.code).where(_loose)).all()
    ids = numpy.array([row.id for row in loose], "<i8")
    found = _within(code, b"".join(bytes(row.code) for row in loose), ids, farthest)
    for block in connection.execute(select(blocks.c.codes, blocks.c.members)):
        members = numpy.frombuffer(block.members, "<i8")
        found |= _within(code, bytes(block.codes), members, farthest)
    return found


def _within(
    code: bytes, codes: bytes, members: "numpy.ndarray[Any, Any]", farthest: int
) -> dict[int, int]:
    stored = numpy.frombuffer(codes, numpy.uint64).reshape(len(members), -1)
    words = numpy.bitwise_count(stored ^ numpy.frombuffer(code, numpy.uint64)).T
    apart = numpy.add(words[0], words[1], dtype=numpy.uint16)  # quicker than sum() over so few
    apart += words[2]
    apart += words[3]
    return {int(members[i]): int(apart[i]) for i in numpy.flatnonzero(apart <= farthest)}


def resolved(connection: Connection, best: list[tuple[int, int]], at_most: int) -> Iterator[Near]:
    """Each manifest once, with its nearest fingerprint."""
    seen: set[str] = set()
    for fingerprint, apart in best:
        row = connection.execute(
            select(manifests)
            .join(fingerprints, fingerprints.c.manifest == manifests.c.id)
            .where(fingerprints.c.id == fingerprint)
        ).one()
        if row.sha256 not in seen:
            seen.add(row.sha256)
            yield Near(entry=entry_of(row), distance=apart)
        if len(seen) == at_most:
            return


def entry_of(row: Any) -> Entry:
    manifest = bytes(row.data)
    if hashlib.sha256(manifest).hexdigest() != row.sha256:
        raise InputError(
            f"the stored manifest {row.sha256[:12]}… has changed: the store is damaged, restore it "
            "from a backup"
        )
    return Entry(
        manifest=manifest,
        sha256=row.sha256,
        signer=row.signer,
        title=row.title,
        stored=dt.datetime.fromisoformat(row.stored),
    )
