"""The log: every change is found, nothing is lost, and a proof stands by itself."""

import hashlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assaymark.provenance.checkpoint import (
    Checkpoint,
    note_key_id,
    read_checkpoint,
    sign_checkpoint,
    verifier_key,
    verify_checkpoint,
)
from assaymark.provenance.keys import ALGORITHMS, Chain, new_chain
from assaymark.provenance.log import (
    append,
    append_all,
    check,
    consistency_proof,
    inclusion_proof,
    origin_of,
    prove,
    root,
    verify_consistency,
    verify_inclusion,
    verify_proof,
    write_checkpoint,
)
from assaymark.provenance.log_file import LONGEST, LogEntry, encode_line, plain, read_lines
from assaymark.provenance.merkle import leaf_hash, tree_root
from assaymark.reports.errors import InputError, IntegrityError


def an_entry(number: int = 0, content: bytes | None = None) -> LogEntry:
    data = str(number).encode() if content is None else content
    return LogEntry(
        time="2026-11-21T10:00:00Z",
        name=f"images/{number}.png",
        sha256=hashlib.sha256(data).hexdigest(),
        manifest_sha256=None if number % 2 else "ab" * 32,
        signer="cd" * 32,
        format="image/png",
        source="trainedAlgorithmicMedia",
    )


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Ten entries."""
    path = tmp_path / "signed.log"
    assert append_all(path, [an_entry(number) for number in range(9)]) == range(9)
    assert append(path, an_entry(9)) == 9
    return path


def rewritten(lines: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def rechained(entries: list[LogEntry]) -> bytes:
    """A log as its owner would forge it: every line follows from the one before."""
    previous, lines = bytes(32), []
    for index, entry in enumerate(entries):
        lines.append(encode_line(index, previous, plain(entry)))
        previous = leaf_hash(lines[-1])
    return rewritten(lines)


def test_a_log_holds_and_its_root_is_that_of_its_lines(log: Path) -> None:
    found = check(log)
    assert (found.holds, found.size, found.torn, found.against) == (True, 10, 0, None)
    lines = log.read_bytes().splitlines()
    assert found.root == root(log) == tree_root([leaf_hash(line) for line in lines])
    assert root(log, 0) == hashlib.sha256(b"").digest()


def test_every_index_of_every_size_is_proved(log: Path) -> None:
    lines = list(read_lines(log))
    for size in range(1, 11):
        head = root(log, size)
        for index in range(size):
            path = inclusion_proof(log, index, size)
            verify_inclusion(lines[index], index, size, path, head)
            with pytest.raises(IntegrityError, match="the proof fails"):
                verify_inclusion(lines[index] + b" ", index, size, path, head)
        for old in range(size + 1):
            path = consistency_proof(log, old, size)
            verify_consistency(old, size, root(log, old), head, path)
            if old:  # of the empty log every log is a continuation
                with pytest.raises(IntegrityError, match="rewritten"):
                    verify_consistency(old, size, root(log, old), bytes(32), path)


Edit = Callable[[list[bytes]], list[bytes]]
EDITS: dict[str, Edit] = {
    "edited": lambda lines: [*lines[:4], lines[4].replace(b"png", b"gif"), *lines[5:]],
    "removed": lambda lines: lines[:4] + lines[5:],
    "first removed": lambda lines: lines[1:],
    "reordered": lambda lines: [*lines[:4], lines[5], lines[4], *lines[6:]],
    "put in": lambda lines: [*lines[:4], lines[3], *lines[4:]],
    "emptied line": lambda lines: [*lines[:4], b"", *lines[5:]],
    "key twice": lambda lines: [*lines[:4], lines[4][:-1] + b',"name":"x"}', *lines[5:]],
    "no entry": lambda lines: [*lines[:4], b"[1]", *lines[5:]],
}


@pytest.mark.parametrize("edit", EDITS)
def test_a_change_inside_is_found_without_a_checkpoint(log: Path, edit: str) -> None:
    log.write_bytes(rewritten(EDITS[edit](list(read_lines(log)))))
    found = check(log)
    assert not found.holds
    assert found.faults[0].index == (0 if edit == "first removed" else 5 if edit == "edited" else 4)


def test_what_a_forger_does_to_a_whole_log_is_found_with_a_checkpoint(log: Path) -> None:
    head = Checkpoint(origin=origin_of(log), size=10, root=root(log))
    entries = [an_entry(number) for number in range(10)]
    assert log.read_bytes() == rechained(entries)
    forged = {
        "cut off": rechained(entries[:9]),
        "emptied": b"",
        "last edited": rechained([*entries[:9], an_entry(99)]),
        "first edited": rechained([an_entry(99), *entries[1:]]),
        "one less, one more": rechained([*entries[1:], an_entry(10)]),
    }
    for name, content in forged.items():
        log.write_bytes(content)
        assert check(log).holds, name  # which is why a checkpoint is kept elsewhere
        assert not check(log, head).holds, name
    log.write_bytes(rechained([*entries, an_entry(10)]))
    assert check(log, head).holds


@settings(max_examples=100)
@given(data=st.data())
def test_any_changed_byte_is_found(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    place = tmp_path_factory.getbasetemp() / "edited-log"
    place.mkdir(exist_ok=True)
    log = place / "log"
    entries = [an_entry(number) for number in range(4)]
    content = bytearray(rechained(entries))
    log.write_bytes(content)
    head = Checkpoint(origin="o", size=4, root=root(log))
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    log.write_bytes(content)
    assert not check(log, head).holds


def test_a_line_that_was_cut_short_is_set_aside_at_every_byte(tmp_path: Path) -> None:
    entries = [an_entry(number) for number in range(3)]
    content = rechained(entries)
    ends = [index + 1 for index, byte in enumerate(content) if byte == 10]
    for cut in range(0, len(content), 29):
        log = tmp_path / f"{cut}" / "log"
        log.parent.mkdir()
        log.write_bytes(content[:cut])
        whole = max((end for end in ends if end <= cut), default=0)
        assert check(log).torn == cut - whole
        index = append(log, an_entry(5))
        assert index == ends.index(whole) + 1 if whole else index == 0
        found = check(log)
        assert (found.holds, found.size, found.torn) == (True, index + 1, 0)
        kept = [path.read_bytes() for path in found.set_aside]
        assert kept == ([content[whole:cut]] if cut > whole else [])


def test_a_damaged_end_is_not_built_upon(log: Path) -> None:
    whole = log.read_bytes()
    for damage in (b"\0" * 100 + b"\n", b"{}\n", bytes(3 * LONGEST)):
        log.write_bytes(whole + damage)
        with pytest.raises(IntegrityError, match="check the log before"):
            append(log, an_entry(10))
        assert log.read_bytes() == whole + damage


WRITER = """
import sys
from pathlib import Path
from assaymark.provenance.log import append, append_all
from assaymark.provenance.log_file import LogEntry
entry = LogEntry(time="2026-11-21T10:00:00Z", name=sys.argv[2], sha256="ab" * 32,
                 manifest_sha256=None, signer="cd" * 32, format="image/png")
print("ready", flush=True)
for _ in range(int(sys.argv[3])):
    append(Path(sys.argv[1]), entry)
    append_all(Path(sys.argv[1]), [entry] * 3)
"""


def writer(log: Path, name: str, rounds: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", WRITER, str(log), name, str(rounds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def test_several_processes_write_one_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    running = [writer(log, f"writer{number}", 15) for number in range(3)]
    for process in running:
        process.communicate(timeout=60)
    assert [process.returncode for process in running] == [0, 0, 0]
    found = check(log)
    assert (found.holds, found.size, found.torn) == (True, 180, 0)


def test_a_writer_that_is_killed_leaves_a_log_that_holds(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for round_ in range(3):
        process = writer(log, "killed", 1_000_000)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.05 * (round_ + 1))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        before = check(log)
        assert before.holds
        assert append(log, an_entry()) == before.size  # the lock died with its holder
    assert check(log).holds


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"sha256": "AB" * 32}, "64 hexadecimal"),
        ({"signer": ""}, "64 hexadecimal"),
        ({"manifest_sha256": "x"}, "64 hexadecimal"),
        ({"time": "2026-11-21 10:00"}, "expected UTC"),
        ({"name": "x" * LONGEST}, "expected under"),
    ],
    ids=["sha256", "signer", "manifest", "time", "name"],
)
def test_a_malformed_entry_is_refused(log: Path, change: dict[str, str], told: str) -> None:
    before = log.read_bytes()
    with pytest.raises(InputError, match=told):
        append_all(log, [an_entry(1), replace(an_entry(2), **change)])
    assert log.read_bytes() == before


def test_hostile_names_stay_on_their_line(log: Path) -> None:
    name = 'a\n{"index":11}\x1b[31m\udcff\u202e"'
    append(log, replace(an_entry(10), name=name))
    assert check(log).holds
    assert check(log).size == 11
    assert json.loads(list(read_lines(log))[-1])["name"] == name


def test_what_is_not_there_is_told(log: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has 10 entries, asked for 11"):
        root(log, 11)
    with pytest.raises(InputError, match="entry 10 is not among"):
        inclusion_proof(log, 10)
    with pytest.raises(InputError, match="to compare"):
        consistency_proof(log, 11)
    with pytest.raises(InputError, match="cannot read the log"):
        check(tmp_path / "absent")
    with pytest.raises(InputError, match="at least one"):
        append_all(log, [])
    (tmp_path / "empty").touch()
    with pytest.raises(InputError, match="no entry"):
        origin_of(tmp_path / "empty")


def test_the_example_of_the_signed_note_of_go() -> None:
    """golang.org/x/mod/sumdb/note, Example: a verifier key and a note by it."""
    import base64

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    typed = base64.b64decode("ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    key = Ed25519PublicKey.from_public_bytes(typed[1:])
    assert (typed[0], note_key_id("PeterNeumann", key).hex()) == (1, "c74f20a3")
    line = base64.b64decode(
        "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
    )
    assert line[:4].hex() == "c74f20a3"
    text = "If you think cryptography is the answer to your problem,\n"
    key.verify(line[4:], (text + "then you don't know what your problem is.\n").encode())


@pytest.fixture(scope="session")
def every_signer() -> dict[str, Chain]:
    return {
        name: new_chain("Example Press", algorithm=name) for name in ALGORITHMS if name[0] != "p"
    }


@pytest.mark.parametrize("algorithm", ["es256", "es384", "es512", "ed25519"])
def test_a_checkpoint_is_signed_and_verified(
    every_signer: dict[str, Chain], stranger: Chain, log: Path, tmp_path: Path, algorithm: str
) -> None:
    signer, out = every_signer[algorithm], tmp_path / "head"
    made = write_checkpoint(log, out, signer.credentials)
    note = out.read_text()
    found, who = verify_checkpoint(note, signer.credentials.chain_pem, signer.trust_anchor_pem)
    assert (found, found.size, found.root, who.trusted) == (made, 10, root(log), True)
    _, unknown = verify_checkpoint(note, signer.credentials.chain_pem)
    assert not unknown.trusted
    with pytest.raises(IntegrityError, match="not signed by Somebody Else"):
        verify_checkpoint(note, stranger.credentials.chain_pem)
    for changed in (note.replace("\n10\n", "\n9\n"), note.replace("=\n\n", "=\nmore\n\n")):
        with pytest.raises((IntegrityError, InputError)):
            verify_checkpoint(changed, signer.credentials.chain_pem)
    if algorithm == "ed25519":
        name, identifier, _ = verifier_key(made.origin, signer.credentials).split("+", 2)
        assert (name, identifier) == (
            made.origin,
            note_key_id(name, signer.leaf.certificate.public_key()).hex(),
        )


@pytest.mark.parametrize(
    "note",
    ["", "o\n1\n\n", "o\n01\nAA==\n\n— o AAAA\n", "o\n1\nAA==\n\n— o AAAA\n", "\n1\nx\n\n— o x\n"],
    ids=["empty", "no root", "leading zero", "short root", "no origin"],
)
def test_a_malformed_note_is_told(chain: Chain, note: str) -> None:
    with pytest.raises(InputError, match="malformed"):
        verify_checkpoint(note, chain.credentials.chain_pem)


def test_heads_that_contradict_each_other_are_never_signed(
    chain: Chain, log: Path, tmp_path: Path
) -> None:
    out = tmp_path / "head"
    write_checkpoint(log, out, chain.credentials)
    first = out.read_text()
    append(log, an_entry(10))
    write_checkpoint(log, out, chain.credentials)
    assert read_checkpoint(out.read_text())[0].size == 11
    second = out.read_text()
    log.write_bytes(rechained([an_entry(number) for number in range(10)]))
    with pytest.raises(IntegrityError, match="cut off"):
        write_checkpoint(log, out, chain.credentials)
    log.write_bytes(rechained([an_entry(number) for number in (99, *range(11))]))
    with pytest.raises(IntegrityError, match="another log"):
        write_checkpoint(log, out, chain.credentials)
    assert out.read_text() == second != first


def test_a_proof_stands_by_itself(chain: Chain, stranger: Chain, log: Path, tmp_path: Path) -> None:
    work, proof, head = tmp_path / "work.png", tmp_path / "proof.json", tmp_path / "head"
    work.write_bytes(b"a work")
    append(log, an_entry(10, b"a work"))
    append(log, an_entry(11))
    write_checkpoint(log, head, chain.credentials)
    append(log, an_entry(12))
    assert prove(log, work, proof, head.read_text()) == 10
    log.unlink()
    pems = {"chain_pem": chain.credentials.chain_pem, "trust_anchors_pem": chain.trust_anchor_pem}
    found = verify_proof(proof, work, **pems)
    assert (found.index, found.checkpoint.size, found.signer.trusted) == (10, 12, True)
    assert found.entry == an_entry(10, b"a work")
    assert verify_proof(proof, work, checkpoint=head.read_text(), **pems) == found
    with pytest.raises(IntegrityError, match="not signed by"):
        verify_proof(proof, work, chain_pem=stranger.credentials.chain_pem)
    good = json.loads(proof.read_text())
    for change in (
        {"index": 9},
        {"entry": good["entry"].replace("png", "gif")},
        {"path": good["path"][:-1]},
        {"path": [*good["path"], "00" * 32]},
        {"size": 11},
        {"checkpoint": None},
        {"checkpoint": sign_checkpoint(found.checkpoint, stranger.credentials)},
        {"path": "x"},
        {"index": "10"},
        {"index": True},
        {"entry": 3},
    ):
        proof.write_text(json.dumps(good | change))
        with pytest.raises((IntegrityError, InputError)):
            verify_proof(proof, work, **pems)
    proof.write_text(json.dumps(good))
    work.write_bytes(b"another work")
    with pytest.raises(IntegrityError, match="not the file of the entry"):
        verify_proof(proof, work, **pems)


def test_what_was_not_logged_has_no_proof(chain: Chain, log: Path, tmp_path: Path) -> None:
    work, head = tmp_path / "work", tmp_path / "head"
    work.write_bytes(b"never signed")
    with pytest.raises(InputError, match="no entry for"):
        prove(log, work, tmp_path / "proof")
    write_checkpoint(log, head, chain.credentials)
    append(log, an_entry(10, b"never signed"))
    with pytest.raises(InputError, match="logged after the checkpoint"):
        prove(log, work, tmp_path / "proof", head.read_text())
    assert not (tmp_path / "proof").exists()


def test_a_log_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot write the log"):
        append(tmp_path, an_entry())
