"""The store: what is put in is found, by many at once, after crashes, and errors are said."""

import datetime as dt
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import make_url

from assaymark.provenance import binding_store, binding_tables
from assaymark.provenance.binding_store import BindingStore
from assaymark.provenance.fingerprint import distance
from assaymark.reports.errors import InputError

POSTGRES = os.environ.get("ASSAYMARK_TEST_POSTGRES", "")
ALG = "org.assaymark.lattice.1"


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path | str]:
    """An empty database; in PostgreSQL, a schema of its own that is dropped afterwards."""
    if request.param == "sqlite":
        yield tmp_path / "store.db"
        return
    if not POSTGRES:
        pytest.skip("ASSAYMARK_TEST_POSTGRES names no PostgreSQL database to test in")
    schema = f"assaymark_{uuid.uuid4().hex}"
    url = make_url(POSTGRES).set(drivername="postgresql+psycopg")
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    named = url.update_query_dict({"options": f"-csearch_path={schema}"})
    yield named.render_as_string(hide_password=False)
    with engine.begin() as connection:
        connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
    engine.dispose()


def codes(count: int, seed: int = 0) -> list[bytes]:
    return [
        row.tobytes()
        for row in numpy.random.default_rng(seed).integers(0, 256, (count, 32), numpy.uint8)
    ]


def flipped(code: bytes, bits: int) -> bytes:
    return (int.from_bytes(code) ^ (1 << bits) - 1).to_bytes(32)


def test_what_is_stored_is_found(place: Path | str) -> None:
    (code,) = codes(1)
    when = dt.datetime(2026, 1, 2, 3, 4, tzinfo=dt.UTC)
    with BindingStore(place, create=True) as store:
        digest = store.add(
            b"manifest", signer="Example Press", title="'); DROP TABLE manifests; --",
            watermarks=[(ALG, 5)], fingerprints=[code], stored=when,
        )  # fmt: skip
    with BindingStore(place) as store:
        (entry,) = store.by_watermark(ALG, 5)
        assert (entry.manifest, entry.sha256, entry.stored) == (b"manifest", digest, when)
        assert (entry.signer, entry.title) == ("Example Press", "'); DROP TABLE manifests; --")
        (near,) = store.by_fingerprint(flipped(code, 7))
        assert (near.entry, near.distance) == (entry, 7)
        assert store.by_fingerprint(flipped(code, 200)) == ()
        assert store.by_watermark(ALG, 6) == store.by_watermark("another", 5) == ()
        assert 0 <= store.new_payload(ALG, 32) < 2**32


def test_the_same_manifest_is_kept_once_and_gathers_what_leads_to_it(place: Path | str) -> None:
    first, second = codes(2)
    with BindingStore(place, create=True) as store:
        for code in (first, second, first):
            store.add(b"manifest", watermarks=[(ALG, 1), (ALG, 1)], fingerprints=[code, code])
        store.add(b"another", watermarks=[(ALG, 1)])
        size = store.size
        assert (size.manifests, size.watermarks, size.fingerprints) == (2, 2, 2)
        assert [entry.manifest for entry in store.by_watermark(ALG, 1)] == [b"another", b"manifest"]
        assert len(store.by_fingerprint(first)) == 1


def test_packed_and_loose_fingerprints_are_found_alike(
    place: Path | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binding_tables, "_BLOCK", 8)
    stored = codes(29)
    with BindingStore(place, create=True) as store:
        for number, code in enumerate(stored):
            store.add(b"%d" % number, fingerprints=[code])
        for number, code in enumerate(stored):
            assert [item.entry.manifest for item in store.by_fingerprint(flipped(code, 9))] == [
                b"%d" % number
            ]


@given(st.lists(st.integers(0, 90), min_size=1, max_size=40), st.integers(0, 2**32 - 1))
@settings(max_examples=15, derandomize=True)
def test_matches_are_those_of_comparing_with_every_one(flips: list[int], seed: int) -> None:
    (asked,) = codes(1, seed)
    with BindingStore("sqlite://", create=True) as store:
        for number, bits in enumerate(flips):
            store.add(b"%d" % number, fingerprints=[flipped(asked, bits)])
        found = {
            item.entry.manifest: item.distance for item in store.by_fingerprint(asked, at_most=99)
        }
        expected = {
            b"%d" % number: distance(asked, flipped(asked, bits))
            for number, bits in enumerate(flips)
            if bits <= store.farthest()
        }
        assert found == expected
        assert list(found.values()) == sorted(found.values())


def write_many(place: Path | str, worker: int, count: int) -> None:
    with BindingStore(place, create=True) as store:
        for number, code in enumerate(codes(count, worker)):
            store.add(b"%d %d" % (worker, number), watermarks=[(ALG, number)], fingerprints=[code])
            store.add(b"shared %d" % number)


def test_several_processes_write_at_once(place: Path | str) -> None:
    spawn = multiprocessing.get_context("fork")
    workers = [spawn.Process(target=write_many, args=(place, n, 12)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    with BindingStore(place) as store:
        assert (store.size.manifests, store.size.fingerprints) == (4 * 12 + 12, 48)
        assert len(store.by_watermark(ALG, 3)) == 4


KILLED = """
import sys
from assaymark.provenance.binding_store import BindingStore
with BindingStore(sys.argv[1], create=True) as store:
    number = 0
    while True:
        store.add(b"%d" % number, watermarks=[("w", number)], fingerprints=[number.to_bytes(32)])
        print(number, flush=True)
        number += 1
"""


def test_what_was_said_to_be_stored_outlives_a_kill(tmp_path: Path) -> None:
    place = tmp_path / "store.db"
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(place)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        said = [int(writer.stdout.readline()) for _ in range(20)]
        time.sleep(0.01)
        writer.send_signal(signal.SIGKILL)
    with BindingStore(place) as store:
        size = store.size
        assert size.manifests == size.watermarks == size.fingerprints  # each whole or not at all
        assert all(store.by_watermark("w", number) for number in said)
    with sqlite3.connect(place) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_a_missing_store_is_no_empty_store(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no store at"):
        BindingStore(tmp_path / "none.db")
    assert not (tmp_path / "none.db").exists()
    with pytest.raises(InputError, match="cannot be opened"):
        BindingStore(tmp_path / "no" / "folder" / "a.db", create=True)


def other_database(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE manifests (id INTEGER)")
    connection.close()


def newer_store(path: Path) -> None:
    BindingStore(path, create=True).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE assaymark_store SET version = 9")
    connection.close()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.write_bytes(b"no database" * 200), "is not a database"),
        (lambda path: path.touch(), "not a store of manifests"),
        (other_database, "not a store of manifests"),
        (newer_store, "a store of version 9, this program reads version 1"),
    ],
    ids=["text", "empty", "another", "newer"],
)
def test_what_is_no_store_is_said(make: object, words: str, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    make(path)  # type: ignore[operator]
    before = path.read_bytes()
    with pytest.raises(InputError, match=words):
        BindingStore(path)
    assert path.read_bytes() == before


def test_an_unreadable_url_and_a_missing_driver_are_said_without_the_password() -> None:
    with pytest.raises(InputError, match="the store's URL cannot be read"):
        BindingStore("postgresql://user:secret@host:port/db")
    with pytest.raises(InputError, match="its driver is missing") as refused:
        BindingStore("oracle://user:secret@host/db")
    assert "secret" not in str(refused.value)


def test_no_server_is_said_without_the_password() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(InputError, match="cannot use postgresql") as refused:
        BindingStore("postgresql://user:secret@127.0.0.1:9/db?connect_timeout=2")
    assert "secret" not in str(refused.value)


def test_a_locked_store_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binding_store, "_WAIT", 0.1)
    path = tmp_path / "store.db"
    with BindingStore(path, create=True) as store:
        store.add(b"before", watermarks=[(ALG, 1)])
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(InputError, match="is locked by another program"):
            store.add(b"manifest")
        assert store.by_watermark(ALG, 1)  # readers do not wait
        other.execute("ROLLBACK")
        other.close()
        store.add(b"manifest")


def test_a_full_store_is_said_and_keeps_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with BindingStore(path, create=True) as store:
        store.add(b"before", watermarks=[(ALG, 1)])

        def limit(connection: sqlite3.Connection, record: object) -> None:
            connection.execute("PRAGMA max_page_count = 40")

        event.listen(store._engine, "connect", limit)
        store._engine.dispose()
        with pytest.raises(InputError, match="the disk is full; nothing of this was stored"):
            store.add(os.urandom(400_000), watermarks=[(ALG, 2)])
        assert (store.size.manifests, store.size.watermarks) == (1, 1)


def test_a_read_only_store_can_be_read_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with BindingStore(path, create=True) as store:
        store.add(b"before", watermarks=[(ALG, 1)])
    with BindingStore(f"sqlite:///file:{path}?mode=ro&uri=true", create=True) as store:
        assert store.by_watermark(ALG, 1)
        with pytest.raises(InputError, match="is read-only"):
            store.add(b"manifest")


def test_a_changed_manifest_is_not_handed_out(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with BindingStore(path, create=True) as store:
        store.add(b"manifest", watermarks=[(ALG, 1)])
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE manifests SET data = ?", (b"forged",))
        connection.close()
        with pytest.raises(InputError, match="the store is damaged"):
            store.by_watermark(ALG, 1)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"manifest": b""}, "a manifest of 0 bytes"),
        ({"manifest": bytes(binding_tables.MAX_MANIFEST + 1)}, "expected 1 to"),
        ({"manifest": b"m", "watermarks": [(ALG, -1)]}, "watermark -1"),
        ({"manifest": b"m", "watermarks": [("", 1)]}, "a short name"),
        ({"manifest": b"m", "fingerprints": [b"short"]}, "a fingerprint of 5 bytes"),
    ],
    ids=["empty", "large", "negative", "nameless", "short"],
)
def test_what_cannot_be_stored_is_refused(values: dict[str, object], words: str) -> None:
    with BindingStore("sqlite://", create=True) as store:
        with pytest.raises(InputError, match=words):
            store.add(**values)  # type: ignore[arg-type]
        assert store.size.manifests == 0
