"""What signing must never do: lose a file, wait for ever, forget a history, say what is not so."""

import hashlib
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import c2pa
import media
import numpy
import pytest
from PIL import Image
from test_batch import run, states

from assaymark.provenance import journal as journal_module
from assaymark.provenance import sign as signing
from assaymark.provenance import verify
from assaymark.provenance.batch import Outcome
from assaymark.provenance.binding_store import BindingStore
from assaymark.provenance.claims import NOTHING, Claims
from assaymark.provenance.in_place import journal_of
from assaymark.provenance.ingredients import digest_uri
from assaymark.provenance.journal import Journal
from assaymark.provenance.keys import Chain
from assaymark.provenance.manner import (
    PLAIN,
    Binding,
    Manner,
    shared_signer,
    shared_signing_context,
)
from assaymark.provenance.onepass import has_no_manifest
from assaymark.provenance.plan import Task, plan
from assaymark.provenance.sign import Signed, sign
from assaymark.provenance.stamping import NoTimeStamp, check_authority_answers
from assaymark.provenance.stores import store_of
from assaymark.provenance.verify import State, Verification, examine
from assaymark.reports.errors import InputError

ONE_OF_A_ROUTE = ["JPEG", "PNG", "WAV", "MP4", "GIF", "PDF", "DOCX", "text", "HTML", "Python"]


def test_a_manifest_that_lies_where_ours_goes_is_not_overwritten(
    tmp_path: Path, chain: Chain
) -> None:
    source = tmp_path / "weights.bin"
    source.write_bytes(b"\1\2\3")
    precious = tmp_path / "copy.bin.c2pa"
    precious.write_bytes(b"precious")
    with pytest.raises(InputError, match=r"copy\.bin\.c2pa exists already"):
        sign(source, tmp_path / "copy.bin", chain.credentials)
    assert precious.read_bytes() == b"precious"
    assert not (tmp_path / "copy.bin").exists()
    sign(source, tmp_path / "copy.bin", chain.credentials, overwrite=True)
    assert examine(tmp_path / "copy.bin").state is State.UNTRUSTED


def test_a_file_that_comes_meanwhile_is_not_overwritten(
    tmp_path: Path, chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, copy = media.write(tmp_path, "JPEG"), tmp_path / "copy.jpg"
    read = verify.examine_written

    def slowly(path: Path) -> Verification:
        copy.write_bytes(b"precious")
        return read(path)

    monkeypatch.setattr(signing, "examine_written", slowly)
    with pytest.raises(InputError, match=r"copy\.jpg exists already"):
        sign(source, copy, chain.credentials)
    assert copy.read_bytes() == b"precious"


def test_a_source_that_changes_meanwhile_is_told(
    tmp_path: Path, chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = media.write(tmp_path, "JPEG")
    read = verify.examine_written

    def slowly(path: Path) -> Verification:
        source.write_bytes(source.read_bytes() + b"\0")
        return read(path)

    monkeypatch.setattr(signing, "examine_written", slowly)
    with pytest.raises(InputError, match="changed while it was signed"):
        sign(source, tmp_path / "copy.jpg", chain.credentials)
    assert sorted(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755, 0o444])
def test_a_copy_is_not_more_open_than_its_source(tmp_path: Path, chain: Chain, mode: int) -> None:
    for name in ("JPEG", "file"):
        source = media.write(tmp_path, name)
        source.chmod(mode)
        done = sign(source, tmp_path / f"copy-{source.name}", chain.credentials)
        for path in (done.destination, done.manifest):
            assert path.stat().st_mode & 0o777 == mode & 0o755, path


@pytest.mark.parametrize("where", ["source", "parent", "ingredient"])
def test_a_pipe_is_refused_not_waited_for(tmp_path: Path, chain: Chain, where: str) -> None:
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    picture = media.write(tmp_path, "JPEG")
    said = {
        "source": {},
        "parent": {"parent": pipe},
        "ingredient": {"ingredients": (signing_ingredient(pipe),)},
    }[where]
    with pytest.raises(InputError, match="is no regular file"):
        sign(
            pipe if where == "source" else picture,
            tmp_path / "copy.jpg",
            chain.credentials,
            Claims(**said),  # type: ignore[arg-type]
        )


def signing_ingredient(path: Path) -> object:
    from assaymark.provenance.claims import Ingredient

    return Ingredient(path=path)


@pytest.mark.parametrize("name", ONE_OF_A_ROUTE)
def test_a_manifest_beside_any_file_and_its_history(
    tmp_path: Path, chain: Chain, name: str
) -> None:
    source = media.write(tmp_path, name)
    before = source.read_bytes()
    done = sign(source, source, chain.credentials, NOTHING, Manner(sidecar=True))
    assert done.manifest == tmp_path / f"{source.name}.c2pa"
    assert source.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == [source, done.manifest]
    found = examine(source)
    assert (found.state, found.where) == (State.UNTRUSTED, "sidecar")
    again = sign(source, tmp_path / f"again{source.suffix}", chain.credentials)
    assert len(examine(again.destination).history) == 2
    with source.open("ab") as stream:
        stream.write(b" ")
    assert examine(source).state is not State.UNTRUSTED


def test_a_manifest_beside_one_inside_would_not_count(tmp_path: Path, chain: Chain) -> None:
    signed = sign(media.write(tmp_path, "PNG"), tmp_path / "s.png", chain.credentials).destination
    with pytest.raises(InputError, match="counts before one beside it"):
        sign(signed, signed, chain.credentials, NOTHING, Manner(sidecar=True))


def test_a_text_is_normalised_only_where_that_is_asked_for(tmp_path: Path, chain: Chain) -> None:
    source, copy = tmp_path / "a.txt", tmp_path / "copy.txt"
    source.write_text("cafe\u0301\n")
    with pytest.raises(InputError, match="--normalize"):
        sign(source, copy, chain.credentials)
    sign(source, copy, chain.credentials, NOTHING, Manner(normalize=True))
    assert copy.read_text().startswith("caf\u00e9\n")
    assert source.read_text() == "cafe\u0301\n"
    assert examine(copy).state is State.UNTRUSTED


# in place


@pytest.mark.parametrize("name", ["WAV", "AVI", "WebP"])
def test_signed_in_place_with_its_history(tmp_path: Path, chain: Chain, name: str) -> None:
    path = media.write(tmp_path, name)
    for history in (1, 2):
        sign(path, path, chain.credentials, NOTHING, Manner(in_place=True))
        found = examine(path)
        assert (found.state, len(found.history)) == (State.UNTRUSTED, history)
        assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["JPEG", "MP4", "text", "file"])
def test_what_cannot_be_signed_in_place_is_told(tmp_path: Path, chain: Chain, name: str) -> None:
    path = media.write(tmp_path, name)
    before = path.read_bytes()
    with pytest.raises(InputError, match="expected WAV, AVI or WebP"):
        sign(path, path, chain.credentials, NOTHING, Manner(in_place=True))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@contextmanager
def limit(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


def test_a_disk_that_fills_up_while_signing_in_place(tmp_path: Path, chain: Chain) -> None:
    path = media.write(tmp_path, "WAV")
    before = path.read_bytes()
    for room in (1, 700, 2000):
        with limit(len(before) + room), pytest.raises(InputError, match="in place: File too large"):
            sign(path, path, chain.credentials, NOTHING, Manner(in_place=True))
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", [*ONE_OF_A_ROUTE, "file"])
def test_a_full_disk_stops_the_run_whatever_the_route(
    tmp_path: Path, chain: Chain, name: str
) -> None:
    source = media.write(tmp_path, name)
    manner = Manner(identity=chain.credentials) if name in ("JPEG", "PDF") else PLAIN
    work = partial(sign_with, chain, manner)
    with limit(300), Journal(path=None, settings="") as journal:
        found = run_tasks([source], tmp_path / "out", work, journal)
    assert [outcome.state for outcome in found] == ["failed"]
    assert found[0].stops, found[0].why
    assert not list((tmp_path / "out").iterdir())


def sign_with(chain: Chain, manner: Manner, task: Task, overwrite: bool) -> Signed:
    return sign(
        task.source, task.destination, chain.credentials, NOTHING, manner, overwrite=overwrite
    )


def run_tasks(
    paths: list[Path], out: Path, work: Callable[[Task, bool], Signed], journal: Journal
) -> list[Outcome]:
    from assaymark.provenance.batch import sign_all

    tasks = tuple(Task(source=path, destination=out / path.name) for path in paths)
    return list(sign_all(tasks, work, journal, workers=1))


IN_PLACE = """
import os, signal, sys
from functools import partial
from pathlib import Path
from assaymark.provenance import journal as journal_module
from assaymark.provenance import sign as signing
from assaymark.provenance.batch import sign_all
from assaymark.provenance.claims import Claims
from assaymark.provenance.ingredients import digest_uri
from assaymark.provenance.journal import Journal
from assaymark.provenance.keys import Credentials
from assaymark.provenance.manner import Manner
from assaymark.provenance.plan import plan_where_they_lie
from assaymark.provenance.stores import store_of
from assaymark.provenance.verify import State, examine

folder, keys, when, journal = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
text = keys.read_text().split("====")
credentials = Credentials(algorithm="es256", chain_pem=text[0], key_pem=text[1])
steps = 0
for name in ("pwrite", "unlink", "replace"):
    def dying(*arguments, real=getattr(os, name), **options):
        global steps
        steps += 1
        if steps == when: os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)
    setattr(os, name, dying)
def work(task, overwrite):
    return signing.sign(task.source, task.destination, credentials,
        Claims(source_type="generated"), Manner(in_place=True), overwrite=overwrite)
with Journal(path=journal, settings="s") as kept:
    found = sign_all(plan_where_they_lie([folder], inside=True).tasks, work, kept, workers=1,
        ours=lambda path: examine(path).state is State.UNTRUSTED)
    for outcome in found:
        print(outcome.state, outcome.task.source.name, outcome.why)
"""


def test_killed_in_place_and_run_again_every_file_is_signed_once(
    tmp_path: Path, chain: Chain
) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"{chain.credentials.chain_pem}===={chain.credentials.key_pem}")
    for when in (3, 6):
        folder = tmp_path / f"at-{when}"
        folder.mkdir()
        for name in "ab":
            media.write(folder, "WAV").rename(folder / f"{name}.wav")
        command = [sys.executable, "-c", IN_PLACE, str(folder), str(keys)]
        journal = str(tmp_path / f"journal-{when}")
        killed = subprocess.run([*command, str(when), journal], capture_output=True, timeout=60)
        assert killed.returncode == -signal.SIGKILL
        for expected in ("signed", "kept"):
            done = subprocess.run(
                [*command, "0", journal], capture_output=True, text=True, timeout=60, check=True
            )
            assert {line.split()[0] for line in done.stdout.splitlines()} <= {expected, "kept"}
        assert sorted(path.name for path in folder.iterdir()) == ["a.wav", "b.wav"]
        for path in folder.iterdir():
            found = examine(path)
            assert (found.state, len(found.history)) == (State.UNTRUSTED, 1)


def test_a_copy_of_a_torn_file_is_not_signed(tmp_path: Path, chain: Chain) -> None:
    path = media.write(tmp_path, "WAV")
    journal_of(path).write_text("{}")
    with pytest.raises(InputError, match="was being signed in place"):
        sign(path, tmp_path / "copy.wav", chain.credentials)


# runs


def test_a_lost_manifest_beside_a_copy_is_made_anew(tmp_path: Path, chain: Chain) -> None:
    folder, out, journal = tmp_path / "in", tmp_path / "out", tmp_path / "journal"
    folder.mkdir()
    media.write(folder, "file")
    go = partial(run, plan([folder], out), chain.credentials, journal)
    assert states(go()) == {"signed": 1}
    (manifest,) = out.glob("*.c2pa")
    assert states(go()) == {"kept": 1}
    manifest.unlink()
    assert states(go()) == {"signed": 1}
    assert manifest.exists()


def test_two_runs_into_one_folder_wait_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "_TRIES", 1)
    with (
        Journal(path=tmp_path / "journal", settings="s"),
        pytest.raises(InputError, match="another run signs into the same folder"),
    ):
        Journal(path=tmp_path / "journal", settings="s")
    with Journal(path=tmp_path / "journal", settings="s") as journal:
        assert journal.begun_before


PARENT = """
import os, sys, time
from pathlib import Path
from assaymark.provenance.pool import each
def work(number):
    Path(sys.argv[1], str(os.getpid())).touch()
    time.sleep(60)
list(each(work, range(64), workers=2, crashed=print))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG")
def test_workers_end_with_a_killed_run(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)])
    wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
    process.kill()
    process.wait()
    workers = [int(path.name) for path in tmp_path.iterdir()]
    wait_until(lambda: not any(map(runs, workers)))


def runs(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# time stamps


@contextmanager
def listening(reply: bytes | None) -> Iterator[tuple[str, list[int]]]:
    """A server that answers everybody the same, or nobody; how often it was asked."""
    asked: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        open_ones = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                asked.append(1)
                if reply is None:
                    open_ones.append(connection)
                    continue
                connection.recv(1 << 16)
                head = (
                    f"HTTP/1.1 200 OK\r\nContent-Length: {len(reply)}\r\nConnection: close\r\n\r\n"
                )
                connection.sendall(head.encode() + reply)
                connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/", asked
        for connection in open_ones:
            connection.close()


def test_an_authority_is_asked_before_the_first_file(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    from assaymark.provenance import stamping

    monkeypatch.setattr(stamping, "SECONDS", 0.2)
    with listening(None) as (url, _), pytest.raises(NoTimeStamp, match="timed out"):
        check_authority_answers(url)
    with listening(b"hello") as (url, _), pytest.raises(NoTimeStamp, match="no RFC 3161"):
        check_authority_answers(url)
    with pytest.raises(NoTimeStamp, match=r"http://127.0.0.1:9/ gave .* refused"):
        check_authority_answers("http://user:secret@127.0.0.1:9/")


def test_a_dead_authority_is_asked_once_not_for_every_file(tmp_path: Path, chain: Chain) -> None:
    sources = [media.write(tmp_path, name) for name in ("JPEG", "PNG", "GIF", "WAV")]
    with listening(b"hello") as (url, asked), Journal(path=None, settings="") as journal:
        work = partial(sign_with, chain, Manner(tsa_url=url))
        found = run_tasks(sources, tmp_path / "out", work, journal)
        assert len(asked) == 1
        with pytest.raises(NoTimeStamp):
            work(Task(source=sources[1], destination=tmp_path / "x.png"), False)
        assert len(asked) == 1
    assert [outcome.state for outcome in found] == ["failed", *["not begun"] * 3]
    assert "gave no time stamp" in found[0].why


# what may not be said together


def test_manners_that_contradict_each_other(chain: Chain) -> None:
    binding = Binding(store="x.db", key=b"1" * 16)
    for wrong in (
        {"sidecar": True, "in_place": True},
        {"sidecar": True, "binding": binding},
        {"in_place": True, "binding": binding},
        {"in_place": True, "identity": chain.credentials},
    ):
        with pytest.raises(InputError, match=r"choose|sign a copy"):
            Manner(**wrong)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WAV", "AVI", "WebP"])
@pytest.mark.parametrize("where", ["inside", "beside", "behind", "reference"])
def test_no_manifest_is_overlooked_for_speed(
    tmp_path: Path, chain: Chain, name: str, where: str
) -> None:
    source = media.write(tmp_path, name)
    kind = signing._kind(source)
    assert has_no_manifest(source, kind)
    copy = tmp_path / f"signed{source.suffix}"
    if where == "reference":
        with (
            c2pa.Builder(
                {"title": "x"}, shared_signing_context(chain.credentials, PLAIN, kind)
            ) as builder,
            source.open("rb") as stream,
            copy.open("w+b") as target,
        ):
            builder.set_remote_url("http://127.0.0.1:9/x.c2pa")
            builder.set_no_embed()
            builder.sign(shared_signer(chain.credentials, PLAIN), kind.media_type, stream, target)
    elif where == "beside":
        sign(source, source, chain.credentials, NOTHING, Manner(sidecar=True))
        copy = source
    else:
        sign(source, copy, chain.credentials)
        if where == "behind":
            store = examine(copy)
            copy.write_bytes(source.read_bytes() + store_of(store))
    quick: list[object] = []
    slow: list[object] = []
    for found, overlook in ((quick, False), (slow, True)):
        with pytest.MonkeyPatch.context() as patch:
            if overlook:
                patch.setattr(signing, "has_no_manifest", lambda path, kind: False)
            try:
                found.append(signing._history(copy, kind) is None)
            except InputError as error:
                found.append(str(error))
    assert quick == slow
    assert quick != [True]


def test_the_parent_of_a_marked_picture_is_the_unmarked_one(tmp_path: Path, chain: Chain) -> None:
    source = tmp_path / "photo.png"
    ramp = numpy.tile(numpy.arange(256, dtype=numpy.uint8), (256, 1))
    Image.fromarray(numpy.dstack([ramp, ramp.T, ramp // 2 + 60])).save(source)
    with BindingStore(tmp_path / "store.db", create=True):
        pass
    binding = Binding(store=tmp_path / "store.db", key=b"1" * 16)
    done = sign(source, tmp_path / "copy.png", chain.credentials, NOTHING, Manner(binding=binding))
    (parent,) = examine(done.destination).active["ingredients"]
    assert parent["title"] == "photo.png"
    assert parent["relationship"] == "parentOf"
    assert parent["instance_id"] == digest_uri(hashlib.sha256(source.read_bytes()).digest())
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "copy.png", "photo.png", "store.db",
    ]  # fmt: skip
