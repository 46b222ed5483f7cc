"""Folder signatures against model-signing 1.1.1, the standard's own tool, both ways."""

import base64
import datetime as dt
import hashlib
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assaymark.provenance.dsse import decode
from assaymark.provenance.folder_manifest import Links, list_folder
from assaymark.provenance.folder_memory import memory_path
from assaymark.provenance.keys import Chain, new_chain
from assaymark.provenance.model_signature import (
    must_verify_folder,
    sign_folder,
    verify_folder,
)
from assaymark.provenance.verify import State
from assaymark.reports.errors import InputError, IntegrityError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small model with a name that sorts differently as text and as path, and an awkward one."""
    made = tmp_path / "model"
    files = {
        "weights.bin": bytes(range(256)) * 40,
        "a.txt": b"text",
        "a/b.txt": b"below",
        "line\nbreak.txt": b"awkward",
        "empty": b"",
        ".git/HEAD": b"ref: refs/heads/main",
    }
    for name, content in files.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_bytes(content)
    return made


@pytest.fixture(scope="session")
def chains() -> dict[str, Chain]:
    return {name: new_chain("Example Labs", algorithm=name) for name in ("es256", "es384", "es512")}


@pytest.fixture(scope="session")
def peer() -> object:
    pytest.importorskip("OpenSSL", reason="model-signing needs pyOpenSSL, which it does not name")
    return pytest.importorskip("model_signing", reason="the peer is a development tool")


def write_keys(chain: Chain, place: Path) -> dict[str, Path]:
    leaf, rest = chain.credentials.chain_pem.split("-----END CERTIFICATE-----\n", 1)
    texts = {
        "key": chain.credentials.key_pem,
        "leaf": leaf + "-----END CERTIFICATE-----\n",
        "between": rest,
        "root": chain.trust_anchor_pem,
        "public": public_pem(chain),
    }
    paths = {name: place / f"{name}.pem" for name in texts}
    for name, text in texts.items():
        paths[name].write_text(text)
    return paths


def public_pem(chain: Chain) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = chain.leaf.certificate.public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.mark.parametrize("algorithm", ["es256", "es384", "es512"])
@pytest.mark.parametrize("shard_size", [None, 1000])
@pytest.mark.parametrize("bare", [False, True], ids=["certificate", "key"])
def test_the_peer_accepts_our_signature(
    peer: object,
    chains: dict[str, Chain],
    folder: Path,
    tmp_path: Path,
    algorithm: str,
    shard_size: int | None,
    bare: bool,
) -> None:
    from model_signing import verifying

    chain, keys = chains[algorithm], write_keys(chains[algorithm], tmp_path)
    signature = tmp_path / "model.sig"
    sign_folder(folder, signature, chain.credentials, shard_size=shard_size, bare_key=bare)
    theirs = verifying.Config()
    if bare:
        theirs.use_elliptic_key_verifier(public_key=keys["public"])
    else:
        theirs.use_certificate_verifier(certificate_chain=[keys["root"]])
    theirs.verify(folder, signature)
    (folder / "a.txt").write_bytes(b"TEXT")
    with pytest.raises(ValueError, match="Hash mismatch"):
        theirs.verify(folder, signature)


@pytest.mark.parametrize("algorithm", ["es256", "es384", "es512"])
@pytest.mark.parametrize("shards", [False, True], ids=["files", "shards"])
@pytest.mark.parametrize("hashing", ["sha256", "blake2"])
def test_we_accept_the_peers_signature(
    peer: object,
    chains: dict[str, Chain],
    folder: Path,
    tmp_path: Path,
    algorithm: str,
    shards: bool,
    hashing: str,
) -> None:
    from model_signing import hashing as peer_hashing
    from model_signing import signing

    chain, keys = chains[algorithm], write_keys(chains[algorithm], tmp_path)
    how = peer_hashing.Config()
    if shards:
        how.use_shard_serialization(hashing_algorithm=hashing, shard_size=1000)
    else:
        how.use_file_serialization(hashing_algorithm=hashing)
    signature = tmp_path / "model.sig"
    signing.Config().use_certificate_signer(
        private_key=keys["key"],
        signing_certificate=keys["leaf"],
        certificate_chain=[keys["between"]],
    ).set_hashing_config(how).sign(folder, signature)
    found = verify_folder(folder, signature, chain.trust_anchor_pem)
    assert (found.state, found.changed, found.added) == (State.TRUSTED, (), ())
    assert found.uncovered == ((".git", "empty") if shards else (".git",))
    (folder / "a/b.txt").write_bytes(b"BELOW")
    assert verify_folder(folder, signature, chain.trust_anchor_pem).changed == ("a/b.txt",)


def test_the_peers_command_line_and_ours_agree_on_the_statement(
    peer: object, chain: Chain, folder: Path, tmp_path: Path
) -> None:
    keys = write_keys(chain, tmp_path)
    from model_signing import signing

    theirs, ours, anchor = tmp_path / "theirs.sig", tmp_path / "ours.sig", str(keys["root"])
    signing.Config().use_elliptic_key_signer(private_key=keys["key"]).sign(folder, theirs)
    sign_folder(folder, ours, chain.credentials)
    statements = [
        json.loads(base64.b64decode(json.loads(path.read_text())["dsseEnvelope"]["payload"]))
        for path in (theirs, ours)
    ]
    for statement in statements:
        statement["predicate"]["serialization"]["ignore_paths"].sort()
    assert statements[0] == statements[1]
    run = [sys.executable, "-W", "ignore", "-m", "model_signing"]
    accepted = subprocess.run(
        [
            *run,
            "verify",
            "certificate",
            folder,
            "--signature",
            ours,
            *("--certificate_chain", anchor),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert accepted.returncode == 0, accepted.stderr
    found = verify_folder(folder, theirs, public_key_pem=public_pem(chain))
    assert found.state is State.TRUSTED
    without = verify_folder(folder, theirs, chain.trust_anchor_pem)
    assert without.state is State.UNREADABLE
    assert "give the signer's public key" in without.explanation


def test_a_signature_in_the_folder_does_not_cover_itself(
    peer: object, chain: Chain, folder: Path, tmp_path: Path
) -> None:
    from model_signing import verifying

    signature = folder / "sub" / "model.sig"
    sign_folder(folder, signature, chain.credentials, memory=True)
    assert memory_path(signature).is_file()
    assert verify_folder(folder, signature, chain.trust_anchor_pem).state is State.TRUSTED
    root = write_keys(chain, tmp_path)["root"]
    verifying.Config().use_certificate_verifier(certificate_chain=[root]).verify(folder, signature)


def test_every_difference_is_told_by_name(chain: Chain, folder: Path, tmp_path: Path) -> None:
    signature = tmp_path / "model.sig"
    made = sign_folder(folder, signature, chain.credentials)
    assert (made.files, made.ignored) == (5, (".git",))
    assert made.size == sum(
        p.stat().st_size for p in folder.rglob("*") if ".git" not in str(p) and p.is_file()
    )
    (folder / "weights.bin").write_bytes(bytes(10240))
    (folder / "a.txt").unlink()
    (folder / "new\x1b[31m").write_bytes(b"")
    (folder / "empty").unlink()
    (folder / "empty").symlink_to("weights.bin")
    (folder / "b").symlink_to("a")
    found = verify_folder(folder, signature, chain.trust_anchor_pem)
    assert found.state is State.INVALID
    assert (found.changed, found.missing) == (("weights.bin",), ("a.txt",))
    assert set(found.added) == {"new\x1b[31m", "b"}
    assert [name for name, _ in found.unhashed] == ["empty"]
    assert found.explanation.isprintable()
    assert found.signer is not None
    assert (found.signer.name, found.signer.trusted) == ("Example Press", True)
    with pytest.raises(IntegrityError, match="1 changed"):
        must_verify_folder(folder, signature, chain.trust_anchor_pem)


def test_added_files_may_be_allowed(chain: Chain, folder: Path, tmp_path: Path) -> None:
    signature = tmp_path / "model.sig"
    sign_folder(folder, signature, chain.credentials)
    (folder / "README").write_text("later")
    (folder / "link").symlink_to("README")
    anchors = chain.trust_anchor_pem
    assert verify_folder(folder, signature, anchors).state is State.INVALID
    found = verify_folder(folder, signature, anchors, allow_added=True)
    assert (found.state, set(found.added)) == (State.TRUSTED, {"README", "link"})
    ignored = verify_folder(folder, signature, anchors, ignore=("README", "link"))
    assert (ignored.state, ignored.uncovered) == (State.TRUSTED, (".git", "README", "link"))


def test_only_a_trust_anchor_makes_a_signer_trusted(
    chain: Chain, stranger: Chain, folder: Path, tmp_path: Path
) -> None:
    signature = tmp_path / "model.sig"
    sign_folder(folder, signature, chain.credentials)
    for anchors in ("", stranger.trust_anchor_pem):
        assert verify_folder(folder, signature, anchors).state is State.UNTRUSTED
    assert verify_folder(folder, signature, public_key_pem=public_pem(chain)).state is State.TRUSTED
    other = verify_folder(folder, signature, public_key_pem=public_pem(stranger))
    assert other.state is State.UNTRUSTED
    later = dt.datetime.now(dt.UTC) + dt.timedelta(days=400)
    expired = verify_folder(folder, signature, chain.trust_anchor_pem, at=later)
    assert expired.state is State.UNTRUSTED
    assert "expired on" in expired.explanation
    kept = verify_folder(folder, signature, chain.trust_anchor_pem, at=later, accept_expired=True)
    assert kept.state is State.TRUSTED


@pytest.mark.parametrize("algorithm", ["ps256", "ps384", "ps512", "ed25519"])
def test_other_algorithms_are_refused_in_one_sentence(
    folder: Path, tmp_path: Path, algorithm: str, chain: Chain
) -> None:
    credentials = replace(chain.credentials, algorithm=algorithm)
    with pytest.raises(InputError, match=f"es256, es384, es512, not {algorithm}"):
        sign_folder(folder, tmp_path / "s", credentials)
    assert not (tmp_path / "s").exists()


def test_links_follow_the_rule(chain: Chain, folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "blob"
    outside.write_bytes(b"blob")
    (folder / "inside").symlink_to("a.txt")
    signature, anchors = tmp_path / "s", chain.trust_anchor_pem
    with pytest.raises(InputError, match="symbolic link"):
        sign_folder(folder, signature, chain.credentials)
    sign_folder(folder, signature, chain.credentials, links=Links.INSIDE)
    assert verify_folder(folder, signature, anchors).state is State.INVALID
    assert verify_folder(folder, signature, anchors, links=Links.INSIDE).state is State.TRUSTED
    (folder / "outside").symlink_to(outside)
    with pytest.raises(InputError, match="leads out of the folder"):
        sign_folder(folder, signature, chain.credentials, links=Links.INSIDE)
    sign_folder(folder, signature, chain.credentials, links=Links.FOLLOW)
    assert verify_folder(folder, signature, anchors, links=Links.FOLLOW).state is State.TRUSTED
    outside.write_bytes(b"BLOB")
    found = verify_folder(folder, signature, anchors, links=Links.FOLLOW)
    assert found.changed == ("outside",)
    (folder / "folder").symlink_to("a")
    with pytest.raises(InputError, match="link to a folder"):
        sign_folder(folder, signature, chain.credentials, links=Links.FOLLOW)


def test_what_cannot_be_signed_is_refused(chain: Chain, tmp_path: Path) -> None:
    empty = tmp_path / "nothing"
    empty.mkdir()
    with pytest.raises(InputError, match="no file to sign"):
        sign_folder(empty, tmp_path / "s", chain.credentials)
    with pytest.raises(InputError, match="expected a folder or a file"):
        sign_folder(tmp_path / "absent", tmp_path / "s", chain.credentials)
    os.mkfifo(empty / "pipe")
    with pytest.raises(InputError, match="neither a file nor a folder"):
        sign_folder(empty, tmp_path / "s", chain.credentials)
    (empty / "pipe").unlink()
    Path(os.fsdecode(os.fsencode(empty) + b"/\xff")).write_bytes(b"x")
    with pytest.raises(InputError, match=r"\\xff|\\udcff.*not Unicode"):
        sign_folder(empty, tmp_path / "s", chain.credentials)
    assert not (tmp_path / "s").exists()


def test_one_file_is_signed_as_the_standard_does(
    peer: object, chain: Chain, folder: Path, tmp_path: Path
) -> None:
    from model_signing import verifying

    signature, file = tmp_path / "s", folder / "weights.bin"
    sign_folder(file, signature, chain.credentials)
    root = write_keys(chain, tmp_path)["root"]
    verifying.Config().use_certificate_verifier(certificate_chain=[root]).verify(file, signature)
    assert verify_folder(file, signature, chain.trust_anchor_pem).state is State.TRUSTED
    file.write_bytes(b"other")
    assert verify_folder(file, signature, chain.trust_anchor_pem).changed == (".",)


def test_the_digest_of_the_folder_is_that_of_the_digests_in_order(
    chain: Chain, folder: Path, tmp_path: Path
) -> None:
    made = sign_folder(folder, tmp_path / "s", chain.credentials)
    names = ["a/b.txt", "a.txt", "empty", "line\nbreak.txt", "weights.bin"]
    joined = b"".join(hashlib.sha256((folder / name).read_bytes()).digest() for name in names)
    assert made.root == hashlib.sha256(joined).hexdigest()


def forged(statement: dict[str, object], chain: Chain, path: Path) -> Path:
    """A signature by a real key over any statement."""
    from assaymark.provenance.oms_bundle import make_bundle

    text = json.dumps(statement).replace('"infinite"', "1e999")
    path.write_bytes(make_bundle(text.encode(), chain.credentials))
    return path


def statement_over(*names: str, **serialization: object) -> dict[str, object]:
    digest = hashlib.sha256(b"x")
    root = hashlib.sha256(digest.digest() * len(names)).hexdigest()
    how = {"method": "files", "hash_type": "sha256", "allow_symlinks": False, **serialization}
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "m", "digest": {"sha256": root}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "serialization": how,
            "resources": [
                {"name": name, "algorithm": "sha256", "digest": digest.hexdigest()}
                for name in names
            ],
        },
    }


HOSTILE: dict[str, tuple[dict[str, object], str]] = {
    "parent": (statement_over("../secret"), "leads out"),
    "absolute": (statement_over("/etc/passwd"), "leads out"),
    "double slash": (statement_over("a//b"), "no plain path"),
    "nul": (statement_over("a\0b"), "no plain path"),
    "twice": (statement_over("a", "a"), "twice"),
    "empty": (statement_over(), "no file"),
    "digest": (statement_over("a", hash_type="md5"), "'md5'"),
    "mixed": (statement_over("a", hash_type="blake2b"), "mixes digests"),
    "method": (statement_over("a", method="pickle"), "method"),
    "shard": (statement_over("a", method="shards", shard_size=0), "0 bytes"),
    "infinite shard": (statement_over("a", method="shards", shard_size=1e308), "1e+308 bytes"),
    "endless shard": (statement_over("a", method="shards", shard_size="infinite"), "malformed"),
    "old": (statement_over("a") | {"predicateType": "https://model_signing/Digests/v0.1"}, "older"),
    "root": (
        statement_over("a") | {"subject": [{"name": "m", "digest": {"sha256": "00"}}]},
        "contradicts",
    ),
    "no subject": (statement_over("a") | {"subject": []}, "malformed"),
    "no predicate": (statement_over("a") | {"predicate": 3}, "malformed"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_signed_statement_is_still_not_believed(chain: Chain, tmp_path: Path, name: str) -> None:
    statement, told = HOSTILE[name]
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "a").write_bytes(b"x")
    signature = forged(statement, chain, tmp_path / "s")
    found = verify_folder(folder, signature, chain.trust_anchor_pem)
    assert found.state is State.UNREADABLE
    assert told in found.explanation


def test_ignoring_everything_vouches_for_nothing(chain: Chain, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "a").write_bytes(b"x")
    statement = statement_over("a", ignore_paths=["."])
    assert verify_folder(folder, forged(statement, chain, tmp_path / "s")).state is State.UNTRUSTED
    (folder / "evil").write_bytes(b"y")
    assert verify_folder(folder, tmp_path / "s").added == ("evil",)
    statement = statement_over("a", ignore_paths=["a", "evil"])
    found = verify_folder(folder, forged(statement, chain, tmp_path / "s"))
    assert (found.state, found.missing, found.uncovered) == (State.INVALID, ("a",), ("a", "evil"))


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"a":1,"a":2}', b"NaN"],
    ids=["empty", "list", "object", "bytes", "deep", "twice", "nan"],
)
def test_a_file_that_is_no_signature_is_unreadable(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s").write_bytes(content)
    assert verify_folder(tmp_path, tmp_path / "s").state is State.UNREADABLE
    assert verify_folder(tmp_path, tmp_path / "absent").state is State.UNREADABLE


@settings(max_examples=100)
@given(data=st.data())
def test_no_changed_byte_of_a_signature_is_trusted_and_none_raises(
    chain: Chain, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    place = tmp_path_factory.getbasetemp() / "mutated"
    folder = place / "m"
    signature = place / "s"
    if not place.exists():
        folder.mkdir(parents=True)
        (folder / "a").write_bytes(b"x")
        sign_folder(folder, signature, chain.credentials)
    content = bytearray(signature.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    changed = place / "changed"
    changed.write_bytes(content)
    found = verify_folder(folder, changed, chain.trust_anchor_pem)
    if found.state is State.TRUSTED:  # base64's other alphabet, or the key that nobody reads
        payloads = [
            decode(json.loads(path.read_bytes())["dsseEnvelope"]["payload"], "payload")
            for path in (signature, changed)
        ]
        assert payloads[0] == payloads[1]


def test_only_changed_files_are_hashed_again(chain: Chain, folder: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "one.sig", tmp_path / "two.sig"
    time.sleep(2.1)  # what was written within two seconds is never taken over
    sign_folder(folder, first, chain.credentials, memory=True)
    (folder / "a.txt").write_bytes(b"TEXT")
    made = sign_folder(folder, second, chain.credentials, previous=first)
    assert (made.reused, made.files) == (4, 5)
    assert verify_folder(folder, second, chain.trust_anchor_pem).state is State.TRUSTED
    kept = os.stat(folder / "weights.bin")
    (folder / "weights.bin").write_bytes(bytes(10240))
    os.utime(folder / "weights.bin", ns=(kept.st_atime_ns, kept.st_mtime_ns))
    made = sign_folder(folder, second, chain.credentials, previous=first)
    assert made.reused == 3  # the size and the time are as before: the change time is not
    assert verify_folder(folder, second, chain.trust_anchor_pem).state is State.TRUSTED


def test_remembered_digests_come_from_a_signature_of_the_same_key_only(
    chain: Chain, stranger: Chain, folder: Path, tmp_path: Path
) -> None:
    first = tmp_path / "one.sig"
    sign_folder(folder, first, stranger.credentials, memory=True)
    with pytest.raises(InputError, match="not signed with this key"):
        sign_folder(folder, tmp_path / "two.sig", chain.credentials, previous=first)
    sign_folder(folder, first, chain.credentials)
    # the memory is of the stranger's signature
    made = sign_folder(folder, tmp_path / "two.sig", chain.credentials, previous=first)
    assert made.reused == 0
    memory_path(first).write_bytes(b"[" * 100_000)
    made = sign_folder(folder, tmp_path / "two.sig", chain.credentials, previous=first)
    assert made.reused == 0


def test_a_file_that_changes_while_it_is_read_is_not_signed(folder: Path) -> None:
    from assaymark.provenance.folder_manifest import hash_files

    listing = list_folder(folder)
    (folder / "a.txt").write_bytes(b"changed")
    (folder / "weights.bin").unlink()
    told = {file.name: parts for file, parts in hash_files(listing.files) if isinstance(parts, str)}
    assert told.keys() == {"a.txt", "weights.bin"}
    assert "changed" in told["a.txt"]
