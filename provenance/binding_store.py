"""A store of manifests that finds them again by watermark or by fingerprint.

One SQLite file by default, or any database of a SQLAlchemy URL (PostgreSQL through psycopg). Near
fingerprints are found by looking at every one: they lie packed in blocks, so a million of them are
32 MB read in sequence. That is exact, and unlike an index of hash bands no crafted set of pictures
can make it slow.
"""

import datetime as dt
import hashlib
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    create_engine,
    event,
    func,
    inspect,
    literal_column,
    select,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError

from assaymark.provenance.fingerprint import BITS, largest_distance
from assaymark.reports.errors import InputError

VERSION = 1
MAX_MANIFEST = 64 * 2**20  # bytes
_BLOCK = 4096  # fingerprints packed together
_CODE = BITS // 8
_WAIT = 30.0  # seconds for another writer to finish
_TRIES = 5
_WORDS = 200  # characters of a title or a signer

_tables = MetaData()
_about = Table("assaymark_store", _tables, Column("version", Integer, primary_key=True))
_id = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by INTEGER only
_manifests = Table(
    "manifests",
    _tables,
    Column("id", _id, primary_key=True),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("data", LargeBinary, nullable=False),
    Column("signer", String(_WORDS), nullable=False),
    Column("title", String(_WORDS), nullable=False),
    Column("stored", String(32), nullable=False),  # ISO 8601, UTC: the same text in every database
)
_watermarks = Table(
    "watermarks",
    _tables,
    Column("alg", String(100), primary_key=True),
    Column("payload", BigInteger, primary_key=True, autoincrement=False),
    Column("manifest", ForeignKey("manifests.id"), primary_key=True),
)
_fingerprints = Table(
    "fingerprints",
    _tables,
    Column("id", _id, primary_key=True),
    Column("manifest", ForeignKey("manifests.id"), nullable=False),
    Column("code", LargeBinary(_CODE), nullable=False),
    Column("packed", Integer, nullable=False),  # 1: also in a block
    UniqueConstraint("manifest", "code"),
)
_loose = _fingerprints.c.packed == literal_column("0")  # a parameter would hide the index
Index("loose_fingerprints", _fingerprints.c.id, sqlite_where=_loose, postgresql_where=_loose)
_blocks = Table(
    "fingerprint_blocks",
    _tables,
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


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much a store holds."""

    manifests: int
    watermarks: int
    fingerprints: int


class BindingStore:
    """An open store; use it in a `with`. Several processes may write at once.

    place: a SQLite file, or a SQLAlchemy URL such as postgresql://user@host/database.
    create: make the store where there is none; without it, a missing store is an error, as an empty
    one would look like a picture that nobody signed. Every method raises InputError for a database
    that is locked, read-only, full, damaged or not ours.
    """

    def __init__(self, place: Path | str, *, create: bool = False) -> None:
        url = _url(place)
        self.name = url.render_as_string(hide_password=True)
        if url.get_backend_name() == "sqlite":
            self.name = url.database or ""
            if not create and not Path(self.name).is_file():
                raise InputError(
                    f"there is no store at {self.name}: sign a file into one first, or name the "
                    "right one"
                )
        self._engine = _engine(url, self.name)
        try:
            self._open(create)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "BindingStore":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def _open(self, create: bool) -> None:
        with self._transaction() as connection:
            names = set(inspect(connection).get_table_names())
        if _about.name not in names:
            if names & set(_tables.tables) or not create:
                raise InputError(
                    f"{self.name} is a database, but not a store of manifests: name another place"
                )
            with self._transaction(writes=True) as connection:
                _create(connection)
        with self._transaction() as connection:
            version = connection.scalar(select(_about.c.version))
        if version != VERSION:
            raise InputError(
                f"{self.name} is a store of version {version}, this program reads version {VERSION}: "
                "use the program that made it, or a new store"
            )

    @contextmanager
    def _transaction(self, *, writes: bool = False) -> Iterator[Connection]:
        engine = self._engine.execution_options(writes=writes)
        try:
            with engine.begin() as connection:
                yield connection
        except IntegrityError:
            raise  # another writer was first: the caller tries again
        except DBAPIError as error:
            raise InputError(_explained(error, self.name)) from error

    def add(
        self,
        manifest: bytes,
        *,
        signer: str = "",
        title: str = "",
        watermarks: Iterable[tuple[str, int]] = (),
        fingerprints: Iterable[bytes] = (),
        stored: dt.datetime | None = None,
    ) -> str:
        """Keep a manifest and what leads to it; gives its SHA-256. All of it is kept, or nothing.

        watermarks: algorithm and payload, 0 to 2**63 - 1. Adding a manifest again adds what leads
        to it. stored: now, unless given.
        """
        marks, codes = tuple(watermarks), tuple(fingerprints)
        _check(manifest, marks, codes)
        digest = hashlib.sha256(manifest).hexdigest()
        row = {
            "sha256": digest,
            "data": manifest,
            "signer": signer[:_WORDS],
            "title": title[:_WORDS],
            "stored": (stored or dt.datetime.now(dt.UTC)).astimezone(dt.UTC).isoformat(),
        }

        def write() -> None:
            with self._transaction(writes=True) as connection:
                _add(connection, row, marks, codes)

        self._again(write)
        return digest

    def _again(self, write: Callable[[], None]) -> None:
        for _ in range(_TRIES):
            try:
                return write()
            except IntegrityError as error:
                last = error
        raise InputError(f"cannot write to {self.name}: other writers are always first") from last

    def new_payload(self, alg: str, bits: int = 48) -> int:
        """A random watermark payload that leads to no manifest yet."""
        while True:
            payload = secrets.randbits(bits)
            if not self.by_watermark(alg, payload):
                return payload

    def by_watermark(self, alg: str, payload: int) -> tuple[Entry, ...]:
        """The manifests that a watermark leads to, newest first."""
        query = (
            select(_manifests)
            .join(_watermarks, _watermarks.c.manifest == _manifests.c.id)
            .where(_watermarks.c.alg == alg, _watermarks.c.payload == payload)
            .order_by(_manifests.c.id.desc())
        )
        with self._transaction() as connection:
            return tuple(_entry(row) for row in connection.execute(query))

    def by_fingerprint(
        self, code: bytes, *, false_match: float = 1e-2, at_most: int = 10
    ) -> tuple[Near, ...]:
        """The manifests of pictures that look alike, nearest first.

        false_match: the probability, over all that is stored, that an unrelated picture matches;
        with it the more is stored, the nearer a match must be.
        """
        farthest = self.farthest(false_match)
        with self._transaction() as connection:
            found = _near(connection, code, farthest)
            best = sorted(found.items(), key=lambda item: (item[1], item[0]))
            return tuple(_resolved(connection, best, at_most))

    def farthest(self, false_match: float = 1e-2) -> int:
        """The distance up to which `by_fingerprint` takes two fingerprints for those of one picture."""
        with self._transaction() as connection:  # ids rise: their largest is quicker than a count
            size = connection.scalar(select(func.max(_fingerprints.c.id))) or 0
        return largest_distance(size, false_match)

    @property
    def size(self) -> Size:
        with self._transaction() as connection:
            return Size(
                **{
                    table.name: connection.scalar(select(func.count()).select_from(table)) or 0
                    for table in (_manifests, _watermarks, _fingerprints)
                }
            )


def _url(place: Path | str) -> URL:
    if isinstance(place, Path) or "://" not in place:
        return URL.create("sqlite", database=str(place))
    try:
        url = make_url(place)
    except (ArgumentError, ValueError) as error:
        raise InputError(
            "the store's URL cannot be read: expected postgresql://user:password@host/database, or "
            "the name of a file"
        ) from error
    return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url


def _engine(url: URL, name: str) -> Engine:
    try:
        if url.get_backend_name() != "sqlite":
            return create_engine(url, pool_pre_ping=True)
        engine = create_engine(url, connect_args={"timeout": _WAIT})
    except (ImportError, NoSuchModuleError) as error:
        raise InputError(
            f"cannot use {name}: its driver is missing ({error}); for PostgreSQL: pip install "
            '"assaymark[postgresql]"'
        ) from error
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: Any, record: object) -> None:
    # Python's sqlite3 would begin a transaction late, and only for some statements
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")  # what was said to be stored outlives a crash


def _begin(connection: Connection) -> None:
    if not connection.get_execution_options().get("writes"):
        connection.exec_driver_sql("BEGIN")
        return
    # readers and a writer side by side; cannot change within a transaction, and stays in the file
    connection.exec_driver_sql("PRAGMA journal_mode = WAL")
    # the lock is taken before anything is read, so two writers wait instead of failing
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _create(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":  # SQLite's writers already wait for each other
        connection.execute(select(func.pg_advisory_xact_lock(0x415353)))
    _tables.create_all(connection)
    if connection.scalar(select(_about.c.version)) is None:  # another process may have been first
        connection.execute(_about.insert().values(version=VERSION))


def _check(manifest: bytes, marks: tuple[tuple[str, int], ...], codes: tuple[bytes, ...]) -> None:
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


def _add(
    connection: Connection,
    row: dict[str, Any],
    marks: tuple[tuple[str, int], ...],
    codes: tuple[bytes, ...],
) -> None:
    same = select(_manifests.c.id).where(_manifests.c.sha256 == row["sha256"])
    manifest = connection.scalar(same)
    if manifest is None:
        connection.execute(_manifests.insert().values(row))
        manifest = connection.scalar(same)
    known = {
        tuple(mark)
        for mark in connection.execute(
            select(_watermarks.c.alg, _watermarks.c.payload).where(
                _watermarks.c.manifest == manifest
            )
        )
    }
    seen = set(
        connection.scalars(select(_fingerprints.c.code).where(_fingerprints.c.manifest == manifest))
    )
    for alg, payload in dict.fromkeys(marks):
        if (alg, payload) not in known:
            values = {"alg": alg, "payload": payload, "manifest": manifest}
            connection.execute(_watermarks.insert().values(values))
    for code in dict.fromkeys(codes):
        if code not in seen:
            values = {"manifest": manifest, "code": code, "packed": 0}
            connection.execute(_fingerprints.insert().values(values))
    _pack(connection)


def _pack(connection: Connection) -> None:
    """Move loose fingerprints into a block once there are enough."""
    if (connection.scalar(select(func.count(_fingerprints.c.id)).where(_loose)) or 0) < _BLOCK:
        return
    rows = connection.execute(
        select(_fingerprints.c.id, _fingerprints.c.code)
        .where(_loose)
        .order_by(_fingerprints.c.id)
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
    connection.execute(_blocks.insert().values(values))
    for at in range(0, _BLOCK, 500):  # databases limit the parameters of a statement
        chosen = _fingerprints.c.id.in_(ids[at : at + 500])
        connection.execute(_fingerprints.update().where(chosen).values(packed=1))


def _near(connection: Connection, code: bytes, farthest: int) -> dict[int, int]:
    """Fingerprint id -> distance, of all within `farthest`."""
    if len(code) != _CODE:
        raise InputError(f"a fingerprint of {len(code)} bytes: expected {_CODE}")
    # loose ones first: what is packed meanwhile is seen twice rather than never
    loose = connection.execute(select(_fingerprints.c.id, _fingerprints.c.code).where(_loose)).all()
    ids = numpy.array([row.id for row in loose], "<i8")
    found = _within(code, b"".join(bytes(row.code) for row in loose), ids, farthest)
    for block in connection.execute(select(_blocks.c.codes, _blocks.c.members)):
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


def _resolved(connection: Connection, best: list[tuple[int, int]], at_most: int) -> Iterator[Near]:
    """Each manifest once, with its nearest fingerprint."""
    seen: set[str] = set()
    for fingerprint, apart in best:
        row = connection.execute(
            select(_manifests)
            .join(_fingerprints, _fingerprints.c.manifest == _manifests.c.id)
            .where(_fingerprints.c.id == fingerprint)
        ).one()
        if row.sha256 not in seen:
            seen.add(row.sha256)
            yield Near(entry=_entry(row), distance=apart)
        if len(seen) == at_most:
            return


def _entry(row: Any) -> Entry:
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


_CAUSES = {  # what SQLite says -> what to do
    "database is locked": f"is locked by another program for more than {_WAIT:.0f} seconds: try again",
    "readonly database": "is read-only: choose a place that can be written",
    "database or disk is full": "cannot grow: the disk is full; nothing of this was stored",
    "file is not a database": "is not a database: name another file",
    "unable to open database file": "cannot be opened: check that its folder exists and is readable",
    "malformed": "is damaged: restore it from a backup",
}


def _explained(error: DBAPIError, name: str) -> str:
    text = " ".join(str(error.orig).split())
    cause = next((cause for sign, cause in _CAUSES.items() if sign in text), None)
    return f"{name} {cause}" if cause else f"cannot use {name}: {text[:300]}"
