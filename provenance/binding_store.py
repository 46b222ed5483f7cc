"""A store of manifests that finds them again by watermark or by fingerprint.

One SQLite file by default, or any database of a SQLAlchemy URL (PostgreSQL through psycopg).
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

from sqlalchemy import Connection, Engine, create_engine, event, func, inspect, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError

from assaymark.provenance import binding_tables as tables
from assaymark.provenance.binding_tables import Entry, Near
from assaymark.provenance.fingerprint import largest_distance
from assaymark.reports.errors import InputError

_WAIT = 30.0  # seconds for another writer to finish
_TRIES = 5


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
        if tables.about.name not in names:
            if names & set(tables.metadata.tables) or not create:
                raise InputError(
                    f"{self.name} is a database, but not a store of manifests: name another place"
                )
            with self._transaction(writes=True) as connection:
                tables.create_all(connection)
        with self._transaction() as connection:
            version = connection.scalar(select(tables.about.c.version))
        if version != tables.VERSION:
            raise InputError(
                f"{self.name} is a store of version {version}, this program reads version {tables.VERSION}: "
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
        tables.check_values(manifest, marks, codes)
        digest = hashlib.sha256(manifest).hexdigest()
        row = {
            "sha256": digest,
            "data": manifest,
            "signer": signer[: tables.WORDS],
            "title": title[: tables.WORDS],
            "stored": (stored or dt.datetime.now(dt.UTC)).astimezone(dt.UTC).isoformat(),
        }

        def write() -> None:
            with self._transaction(writes=True) as connection:
                tables.add_all(connection, row, marks, codes)

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
            select(tables.manifests)
            .join(tables.watermarks, tables.watermarks.c.manifest == tables.manifests.c.id)
            .where(tables.watermarks.c.alg == alg, tables.watermarks.c.payload == payload)
            .order_by(tables.manifests.c.id.desc())
        )
        with self._transaction() as connection:
            return tuple(tables.entry_of(row) for row in connection.execute(query))

    def by_fingerprint(
        self, code: bytes, *, false_match: float = 1e-2, at_most: int = 10
    ) -> tuple[Near, ...]:
        """The manifests of pictures that look alike, nearest first.

        false_match: the probability, over all that is stored, that an unrelated picture matches;
        with it the more is stored, the nearer a match must be.
        """
        farthest = self.farthest(false_match)
        with self._transaction() as connection:
            found = tables.nearest_ids(connection, code, farthest)
            best = sorted(found.items(), key=lambda item: (item[1], item[0]))
            return tuple(tables.resolved(connection, best, at_most))

    def farthest(self, false_match: float = 1e-2) -> int:
        """The distance up to which `by_fingerprint` takes two fingerprints for those of one picture."""
        with self._transaction() as connection:  # ids rise: their largest is quicker than a count
            size = connection.scalar(select(func.max(tables.fingerprints.c.id))) or 0
        return largest_distance(size, false_match)

    @property
    def size(self) -> Size:
        with self._transaction() as connection:
            return Size(
                **{
                    table.name: connection.scalar(select(func.count()).select_from(table)) or 0
                    for table in (tables.manifests, tables.watermarks, tables.fingerprints)
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
