"""Signing a file in itself: what was there can be had back, whenever the process dies."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import c2pa
import pytest
from fast_media import KINDS, Desk, desk, make

from assaymark.provenance import in_place, native, onepass
from assaymark.provenance.in_place import journal_of, sign_in_place, undo
from assaymark.provenance.keys import Chain
from assaymark.provenance.onepass import sign_one_pass
from assaymark.provenance.plain import sign_plain
from assaymark.reports.errors import InputError

# A step is any call that changes a disk; the process is killed right before and right after each.
DYING = """
import os, signal, sys
from pathlib import Path
from fast_media import KINDS, desk
from assaymark.provenance import in_place, onepass
from assaymark.provenance.keys import new_chain
from assaymark.provenance.room import sweep

path, at_desk = Path(sys.argv[1]), desk(new_chain("Example Press"))
source = path.read_bytes()
for when in range(1, 200):
    path.write_bytes(source)
    child = os.fork()
    if child == 0:
        steps = 0
        def dying(name):
            real = getattr(os, name)
            def call(*arguments, **options):
                global steps
                steps += 1
                if steps == when: os.kill(os.getpid(), signal.SIGKILL)
                result = real(*arguments, **options)
                steps += 1
                if steps == when: os.kill(os.getpid(), signal.SIGKILL)
                return result
            return call
        for name in ("pwrite", "ftruncate", "fsync", "unlink", "replace"):
            setattr(os, name, dying(name))
        made = desk(at_desk.chain)
        with made.signer() as signer:
            in_place.sign_in_place(path, KINDS["wav"], made.builder, signer, made.trusting)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        print("done", when, os.WEXITSTATUS(status))
        break
    changed, journal = path.read_bytes() != source, in_place.journal_of(path).exists()
    undone = in_place.undo(path)
    print("killed", changed, journal, undone, path.read_bytes() == source)
    sweep(path.parent)
"""


@pytest.fixture(scope="module")
def at_desk(chain: Chain) -> Desk:
    return desk(chain)


def sign(at_desk: Desk, path: Path) -> str:
    with at_desk.signer() as signer:
        found = sign_in_place(
            path, KINDS[path.suffix[1:]], at_desk.builder, signer, at_desk.trusting
        )
    return str(found.document["validation_state"])


@pytest.mark.parametrize("name", ["wav", "avi", "webp"])
def test_the_file_is_what_a_signed_copy_is(
    tmp_path: Path, at_desk: Desk, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onepass, "SMALL", 0)
    path = make(tmp_path, name)
    copy = tmp_path / f"copy.{name}"
    at_desk.sign(sign_one_pass, path, copy)
    before = path.read_bytes()
    assert sign(at_desk, path) == "Trusted"
    assert at_desk.accepted(path)
    assert path.read_bytes()[: len(before)] == copy.read_bytes()[: len(before)]
    assert sorted(tmp_path.iterdir()) == sorted([path, copy])
    assert not undo(path)


def test_a_manifest_that_is_there_is_replaced(tmp_path: Path, at_desk: Desk) -> None:
    path, signed = make(tmp_path, "wav"), tmp_path / "signed.wav"
    at_desk.sign(sign_plain, path, signed)
    assert sign(at_desk, signed) == "Trusted"
    assert sign(at_desk, signed) == "Trusted"
    assert at_desk.accepted(signed)
    assert signed.read_bytes().count(b"C2PA") == 1


def test_killed_at_any_step_it_can_be_undone(tmp_path: Path) -> None:
    path = make(tmp_path, "wav")
    done = subprocess.run(
        [sys.executable, "-c", DYING, str(path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
    )
    *killed, last = done.stdout.splitlines()
    assert last.split()[0] == "done"
    assert last.split()[2] == "0"
    assert len(killed) >= 16
    for line in killed:
        _, changed, journal, undone, restored = line.split()
        # once the journal is gone, the signed file stands
        assert restored == "True" or (changed, journal) == ("True", "False"), line
        assert journal == undone, line
    states = {tuple(line.split()[1:3]) for line in killed}
    assert {("False", "False"), ("False", "True"), ("True", "True")} <= states


def test_the_next_run_undoes_the_last_one(
    tmp_path: Path, at_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path, "wav")
    before = path.read_bytes()
    broken_off(path, at_desk, monkeypatch)
    assert path.read_bytes() != before
    assert sign(at_desk, path) == "Trusted"
    assert at_desk.accepted(path)
    assert path.read_bytes().count(b"C2PA") == 1
    assert not journal_of(path).exists()


def broken_off(path: Path, at_desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the file half signed, as a power cut does."""
    with monkeypatch.context() as patched:
        patched.setattr(in_place, "_restore", lambda descriptor, journal: None)
        patched.setattr(os, "ftruncate", lambda *arguments: (_ for _ in ()).throw(OSError("cut")))
        with pytest.raises(OSError, match="cut"):
            sign(at_desk, path)
    assert journal_of(path).exists()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda text: "", "cannot undo"),
        (lambda text: text[:-9], "cannot undo"),
        (lambda text: text.replace("5", "6", 1), "its digest does not hold"),
        (lambda text: json.dumps({"record": 1, "sha256": ""}), "cannot undo"),
        (lambda text: "[]", "cannot undo"),
    ],
    ids=["empty", "cut", "changed", "other types", "a list"],
)
def test_a_damaged_journal_changes_nothing(
    tmp_path: Path,
    at_desk: Desk,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[str], str],
    expected: str,
) -> None:
    path = make(tmp_path, "wav")
    broken_off(path, at_desk, monkeypatch)
    half = path.read_bytes()
    journal_of(path).write_text(change(journal_of(path).read_text()))
    for use in (undo, lambda path: sign(at_desk, path)):
        with pytest.raises(InputError, match=expected):
            use(path)
    assert path.read_bytes() == half
    assert journal_of(path).exists()


def test_an_error_leaves_the_file_as_it_was(
    tmp_path: Path, at_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path, "wav")
    before = path.read_bytes()
    for name in ("sign_data_hash", "data_hash_placeholder"):
        with monkeypatch.context() as patched:
            patched.setattr(native, name, fails)
            with pytest.raises(c2pa.C2paError, match="no key"):
                sign(at_desk, path)
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]


def fails(*arguments: object, **options: object) -> bytes:
    raise c2pa.C2paError("no key")


@pytest.mark.parametrize("name", ["jpg", "png", "mp4"])
def test_what_cannot_be_signed_in_place_is_refused(
    tmp_path: Path, at_desk: Desk, name: str
) -> None:
    path = make(tmp_path, name)
    before = path.read_bytes()
    with pytest.raises(InputError, match="sign a copy instead"):
        sign(at_desk, path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "change", [lambda data: data[:-3], lambda data: data + b"more"], ids=["cut", "more"]
)
def test_a_wrong_length_is_refused(
    tmp_path: Path, at_desk: Desk, change: Callable[[bytes], bytes]
) -> None:
    path = make(tmp_path, "wav")
    path.write_bytes(change(path.read_bytes()))
    before = path.read_bytes()
    with pytest.raises(InputError, match="its header says"):
        sign(at_desk, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_one_process_at_a_time_and_no_links(tmp_path: Path, at_desk: Desk) -> None:
    path = make(tmp_path, "wav")
    with (
        in_place._locked(path),
        pytest.raises(InputError, match="being signed by another process"),
    ):
        sign(at_desk, path)
    link = tmp_path / "link.wav"
    link.symlink_to(path)
    with pytest.raises(OSError, match="symbolic"):
        sign(at_desk, link)
