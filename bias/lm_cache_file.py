"""One SQLite file of keys and values, which several processes read and write at once.

A row carries a digest of its key and value: one that does not verify is as good as none. A file that is
damaged or not ours is set aside, never used and never deleted. What goes wrong with the file costs time,
not answers: it is told, and the run goes on without it.
"""

import hashlib
import sqlite3
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from assaymark.reports.errors import InputError
from assaymark.reports.files import check_writable

A = TypeVar("A")
NAME = "lm-answers-1.sqlite"
_APPLICATION = 0x41534D4B  # "ASMK"
_TABLE = (
    "CREATE TABLE answers (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, value BLOB NOT NULL, "
    "digest BLOB NOT NULL, used INTEGER NOT NULL)"
)
_BUSY_SECONDS = 30.0
_KEYS_A_QUERY = 500
_ROWS_A_CHECK = 2000


class NotOurs(Exception):
    """The file holds something else."""


class Store:
    """The file. limit: bytes it may grow to before what was not used for longest goes; notes: what went
    wrong, in sentences."""

    def __init__(self, folder: Path, limit: int) -> None:
        if limit < 1 << 20:
            raise InputError(f"a cache needs at least {1 << 20} bytes, got {limit}")
        self.path, self.limit = folder / NAME, limit
        self.notes: list[str] = []
        check_writable(self.path)
        with self.session() as session:
            session.find(())

    @contextmanager
    def session(self) -> Generator["Session", None, None]:
        """The file, open; a session without one finds and keeps nothing."""
        connection = self._opened()
        session = Session(self, connection)
        try:
            yield session
        finally:
            session.close()

    def note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)

    def clear(self) -> None:
        """Forget all answers."""
        with self.session() as session:
            session.clear()

    def set_aside(self, why: str) -> None:
        """Rename the file and what SQLite keeps beside it; never raises."""
        target = self.path.with_name(f"{self.path.name}.{time.time_ns()}.unusable")
        with suppress(OSError):
            self.path.rename(target)
            self.note(f"the cache {self.path} was set aside as {target.name}: {why}")
        for ending in ("-wal", "-shm"):
            beside = self.path.with_name(self.path.name + ending)
            with suppress(OSError):
                beside.rename(target.with_name(target.name + ending))

    def _opened(self) -> sqlite3.Connection | None:
        for _ in range(2):
            try:
                return self._connected()
            except NotOurs as error:
                self.set_aside(str(error))
            except sqlite3.OperationalError as error:
                self.note(f"the cache {self.path} cannot be used: {error}")
                return None
            except sqlite3.DatabaseError as error:
                self.set_aside(str(error))
        return None

    def _connected(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA trusted_schema = OFF")
            _patiently(connection, "PRAGMA synchronous = NORMAL")
            with _transaction(connection, "DEFERRED"):  # both questions about the same moment
                ours = _ours(connection)
            if not ours:
                _begun(connection)
        except BaseException:
            connection.close()
            raise
        return connection


class Session:
    """An open file, of one thread at a time."""

    def __init__(self, store: Store, connection: sqlite3.Connection | None) -> None:
        self._store, self._connection = store, connection
        self._hour = int(time.time() // 3600)
        self._written = 0

    def find(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The values of those keys that are known; rows that do not verify are not."""
        return self._safely(lambda connection: self._found(connection, keys), {})

    def put(self, rows: Sequence[tuple[bytes, bytes]]) -> None:
        """Keep values, all of them or none."""
        self._safely(lambda connection: self._kept(connection, rows), None)

    def clear(self) -> None:
        """Forget all values."""
        self._safely(_emptied, None)

    def close(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _safely(self, work: Callable[[sqlite3.Connection], A], otherwise: A) -> A:
        """Errors of the file end its use, not the run."""
        if self._connection is None:
            return otherwise
        try:
            return work(self._connection)
        except sqlite3.OperationalError as error:
            self._store.note(f"the cache {self._store.path} is not used any further: {error}")
            self.close()
        except sqlite3.DatabaseError as error:
            self.close()
            self._store.set_aside(str(error))
        return otherwise

    def _found(self, connection: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        for start in range(0, len(keys), _KEYS_A_QUERY):
            part = keys[start : start + _KEYS_A_QUERY]
            marks = ",".join("?" * len(part))
            rows = connection.execute(
                f"SELECT key, value, digest, used FROM answers WHERE key IN ({marks})", part
            ).fetchall()
            good = {row[0]: row[1] for row in rows if _verified(*row[:3])}
            if len(good) < len(rows):
                self._store.note(f"damaged answers in {self._store.path} were asked again")
            stale = [(self._hour, row[0]) for row in rows if row[3] != self._hour]
            if stale:
                with _transaction(connection):
                    connection.executemany("UPDATE answers SET used = ? WHERE key = ?", stale)
            found.update(good)
        return found

    def _kept(self, connection: sqlite3.Connection, rows: Sequence[tuple[bytes, bytes]]) -> None:
        with _transaction(connection):
            connection.executemany(
                "INSERT OR REPLACE INTO answers (key, value, digest, used) VALUES (?, ?, ?, ?)",
                [(key, value, _digest(key, value), self._hour) for key, value in rows],
            )
        before, self._written = self._written, self._written + len(rows)
        if before == 0 or before // _ROWS_A_CHECK != self._written // _ROWS_A_CHECK:
            _shrink(connection, self._store.limit)


def _shrink(connection: sqlite3.Connection, limit: int) -> None:
    """What was not used for longest goes, a tenth at a time, until there is room again."""
    if _size(connection) <= limit:
        return
    with _transaction(connection):
        gone = 1
        while gone > 0 and _size(connection) > 0.9 * limit:
            gone = connection.execute(
                "DELETE FROM answers WHERE id IN (SELECT id FROM answers ORDER BY used, id LIMIT "
                "(SELECT 1 + count(*) / 10 FROM answers))"
            ).rowcount
    connection.executescript("PRAGMA incremental_vacuum")


def _emptied(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM answers")
    connection.executescript("PRAGMA incremental_vacuum")


def _size(connection: sqlite3.Connection) -> int:
    pages, free, each = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * each)


def _digest(key: bytes, value: bytes) -> bytes:
    return hashlib.sha256(key + value).digest()[:16]


def _verified(key: object, value: object, digest: object) -> bool:
    return isinstance(key, bytes) and isinstance(value, bytes) and _digest(key, value) == digest


@contextmanager
def _transaction(
    connection: sqlite3.Connection, kind: str = "IMMEDIATE"
) -> Generator[None, None, None]:
    connection.execute(f"BEGIN {kind}")
    try:
        yield
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _ours(connection: sqlite3.Connection) -> bool:
    """Is this our table? False of a new file. Raises NotOurs."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    tables = connection.execute(
        "SELECT sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'"
    ).fetchall()
    if (application, tables) == (0, []):
        return False
    if (application, tables) != (_APPLICATION, [(_TABLE,)]):
        raise NotOurs("it is another program's database")
    return True


def _begun(connection: sqlite3.Connection) -> None:
    """A new file becomes ours, unless another process has just made it so."""
    _patiently(connection, "PRAGMA auto_vacuum = INCREMENTAL")
    _patiently(connection, "PRAGMA journal_mode = WAL")
    with _transaction(connection):
        if not _ours(connection):
            connection.execute(f"PRAGMA application_id = {_APPLICATION}")
            connection.execute(_TABLE)


def _patiently(connection: sqlite3.Connection, statement: str) -> None:
    """SQLite does not wait for others when it changes the way a file is written."""
    until = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            with closing(connection.execute(statement)) as cursor:
                cursor.fetchall()
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.02)
