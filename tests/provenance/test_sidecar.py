"""A manifest beside its file: found, weighed against the one inside, and never of another file."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import c2pa
import media
import pytest

from assaymark.provenance.bound import MAX_STORE
from assaymark.provenance.c2pa_context import context
from assaymark.provenance.formats import HEAD, recognise
from assaymark.provenance.job import Job
from assaymark.provenance.keys import Chain, write_chain
from assaymark.provenance.routes import READS
from assaymark.provenance.sidecar import sign_sidecar, with_sidecar
from assaymark.provenance.sign import sign
from assaymark.provenance.trust import Trust
from assaymark.provenance.verify import State, Verification, examine

NAMES = {
    "weights": ("model.safetensors", b"\x10\0\0\0\0\0\0\0{}" + os.urandom(0) + b"\1" * 999),
    "data": ("rows.parquet", b"PAR1" + b"\2" * 500 + b"PAR1"),
    "archive": ("arrays.npz", media.zipped({"a.npy": "x" * 500})),
    "no ending": ("LICENSE", b"Permission is granted.\n"),
    "two endings": ("a.tar.gz", b"\x1f\x8b\x08\0" + b"\3" * 100),
}


def put(folder: Path, chain: Chain, which: str = "weights") -> Path:
    name, data = NAMES[which]
    (folder / "in").mkdir(exist_ok=True)
    source = folder / "in" / name
    source.write_bytes(data)
    done = sign(source, folder / name, chain.credentials)
    assert done.manifest == folder / f"{name}.c2pa"
    assert (folder / name).read_bytes() == data
    return folder / name


def ours(path: Path, chain: Chain) -> Verification:
    return examine(path, Trust(signers=chain.trust_anchor_pem))


@pytest.mark.parametrize("which", NAMES)
def test_any_file_is_signed_beside_it(tmp_path: Path, chain: Chain, which: str) -> None:
    path = put(tmp_path, chain, which)
    found = ours(path, chain)
    assert (found.state, found.where) == (State.TRUSTED, "sidecar")
    # the library itself agrees, which hashes the file by its own means
    with (
        path.open("rb") as stream,
        c2pa.Reader(
            "application/octet-stream", stream, path.with_name(f"{path.name}.c2pa").read_bytes(),
            context(Trust(signers=chain.trust_anchor_pem)),
        ) as reader,
    ):  # fmt: skip
        assert json.loads(reader.json())["validation_state"] == "Trusted"
    path.write_bytes(path.read_bytes() + b"!")
    assert ours(path, chain).state is State.INVALID


@pytest.mark.parametrize(
    "name", ["JPEG", "PNG", "WAV", "MP4", "PDF", "ODT", "text", "HTML", "Python"]
)
def test_a_file_that_could_carry_it_may_have_it_beside(
    tmp_path: Path, chain: Chain, name: str
) -> None:
    """For who must not touch a byte of the file."""
    path = media.write(tmp_path, name)
    kind = recognise(path, path.read_bytes()[:HEAD])
    assert kind is not None
    made = chain.credentials
    info = c2pa.C2paSignerInfo(
        made.algorithm.encode(), made.chain_pem.encode(), made.key_pem.encode(), None
    )

    def builder(*, hard_binding: object = None) -> c2pa.Builder:
        new = c2pa.Builder({"claim_generator_info": [{"name": "t"}]}, context=context())
        new.set_intent(c2pa.C2paBuilderIntent.CREATE, c2pa.C2paDigitalSourceType.DIGITAL_CAPTURE)
        return new

    target = tmp_path / f"{path.name}.c2pa"
    with c2pa.Signer.from_info(info) as signer:
        sign_sidecar(Job(source=path, target=target, format=kind, builder=builder, signer=signer))
    reads = with_sidecar(READS[kind.route])
    trust = context(Trust(signers=chain.trust_anchor_pem))
    reading = reads(path, kind, trust)
    assert (reading.document["validation_state"], reading.where) == ("Trusted", "sidecar")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert reads(path, kind, trust).document["validation_state"] == "Invalid"


def test_without_the_functions_the_plain_way_gives_the_same(
    tmp_path: Path, chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    from assaymark.provenance import native

    monkeypatch.setattr(native, "signs_data_hashes", lambda: False)
    path = put(tmp_path, chain)
    assert ours(path, chain).state is State.TRUSTED


def test_the_names_of_a_manifest_beside_a_file(tmp_path: Path, chain: Chain) -> None:
    """NAME.c2pa as here, and the name without its ending as c2patool writes it."""
    path = put(tmp_path, chain)
    manifest = tmp_path / "model.safetensors.c2pa"
    other = manifest.rename(tmp_path / "model.c2pa")
    assert ours(path, chain).state is State.TRUSTED
    other.unlink()
    assert ours(path, chain).state is State.NO_MANIFEST


def test_a_manifest_of_one_of_two_files_of_a_name(tmp_path: Path, chain: Chain) -> None:
    """photo.c2pa of photo.jpg says nothing of photo.png."""
    path = put(tmp_path, chain)
    (tmp_path / "model.safetensors.c2pa").rename(tmp_path / "model.c2pa")
    other = path.with_suffix(".gguf")
    other.write_bytes(b"GGUF other")
    assert ours(other, chain).state is State.NO_MANIFEST
    assert ours(path, chain).state is State.TRUSTED
    path.write_bytes(b"changed")
    assert ours(path, chain).state is State.NO_MANIFEST  # whose it was cannot be told any more


def test_a_manifest_of_another_file_does_not_hold(tmp_path: Path, chain: Chain) -> None:
    path, other = put(tmp_path, chain), put(tmp_path, chain, "data")
    (tmp_path / f"{path.name}.c2pa").replace(tmp_path / f"{other.name}.c2pa")
    found = ours(other, chain)
    assert found.state is State.INVALID
    assert "assertion.dataHash.mismatch" in found.failures


@pytest.mark.parametrize(
    "name", ["JPEG", "PNG", "WAV", "MP4", "TIFF", "PDF", "NEF", "text", "Python", "DOCX"]
)
def test_a_manifest_that_another_tool_put_beside_a_file(
    tmp_path: Path, chain: Chain, name: str
) -> None:
    """As c2patool does with --sidecar, for kinds that could carry it."""

    path = media.write(tmp_path, name)
    kind = recognise(path, path.read_bytes()[:HEAD])
    assert kind is not None
    made = chain.credentials
    info = c2pa.C2paSignerInfo(
        made.algorithm.encode(), made.chain_pem.encode(), made.key_pem.encode(), None
    )
    media_type = {"NEF": "image/tiff", "DOCX": "application/octet-stream"}.get(
        name, kind.media_type
    )
    with (
        context() as settings,
        c2pa.Signer.from_info(info) as signer,
        c2pa.Builder({"claim_generator_info": [{"name": "t"}]}, context=settings) as builder,
        path.open("rb") as source,
        (tmp_path / "copy").open("w+b") as nowhere,
    ):
        builder.set_intent(c2pa.C2paBuilderIntent.EDIT)
        builder.set_no_embed()
        store = builder.sign(signer, media_type, source, nowhere)
    manifest = tmp_path / f"{path.name}.c2pa"
    manifest.write_bytes(store)
    (tmp_path / "copy").replace(path)  # a PDF is written anew even where nothing goes into it
    reads = with_sidecar(READS[kind.route])
    trust = context(Trust(signers=chain.trust_anchor_pem))
    reading = reads(path, kind, trust)
    assert (reading.document["validation_state"], reading.where) == ("Trusted", "sidecar")
    path.write_bytes(path.read_bytes()[:-40] + bytes(40))
    try:
        broken = reads(path, kind, trust).document
    except c2pa.C2paError:
        return
    assert broken["validation_state"] == "Invalid"


def test_the_manifest_inside_wins_and_a_different_one_is_noted(
    tmp_path: Path, chain: Chain, stranger: Chain
) -> None:

    source = media.write(tmp_path, "text")
    path = tmp_path / "b.txt"
    sign(source, path, chain.credentials)
    other = put(tmp_path, stranger)
    beside = tmp_path / "b.txt.c2pa"
    beside.write_bytes((tmp_path / f"{other.name}.c2pa").read_bytes())
    kind = recognise(path, path.read_bytes()[:HEAD])
    assert kind is not None
    reading = READS[kind.route](path, kind, context())
    assert reading.where == "embedded"
    assert reading.notes == ("b.txt.c2pa holds another manifest; the one in the file counts",)
    assert ours(path, chain).state is State.TRUSTED
    assert reading.store is not None
    beside.write_bytes(reading.store)
    assert READS[kind.route](path, kind, context()).notes == ()


def test_a_manifest_file_says_what_it_belongs_to(tmp_path: Path, chain: Chain) -> None:
    path = put(tmp_path, chain)
    found = ours(tmp_path / f"{path.name}.c2pa", chain)
    assert found.state is State.UNREADABLE
    assert f"verify {path.name} instead" in found.explanation


@pytest.mark.parametrize(
    ("data", "state", "expected"),
    [
        (b"", State.UNREADABLE, "has 0 bytes"),
        (b"\0\0\0\x0cjumb", State.UNREADABLE, "has 8 bytes, but says it has 12"),
        (b"\0\0\0\x0cjumbaaaa", State.UNREADABLE, ""),
    ],
)
def test_a_manifest_that_is_none(
    tmp_path: Path, chain: Chain, data: bytes, state: State, expected: str
) -> None:
    path = put(tmp_path, chain)
    (tmp_path / f"{path.name}.c2pa").write_bytes(data)
    found = ours(path, chain)
    assert found.state is state
    assert expected in found.explanation


def test_a_manifest_too_large_or_not_a_file_is_not_read(tmp_path: Path, chain: Chain) -> None:
    path = put(tmp_path, chain)
    manifest = tmp_path / f"{path.name}.c2pa"
    os.truncate(manifest, MAX_STORE + 1)
    found = ours(path, chain)
    assert found.state is State.UNREADABLE
    assert f"at most {MAX_STORE}" in found.explanation
    manifest.unlink()
    manifest.mkdir()
    assert ours(path, chain).state is State.NO_MANIFEST


def test_credentials_in_a_kind_that_is_not_read_are_not_denied(
    tmp_path: Path, chain: Chain
) -> None:
    """A font with a manifest, and a picture whose first byte was changed."""
    picture = media.write(tmp_path, "GIF")
    sign(picture, tmp_path / "b.gif", chain.credentials)
    data = (tmp_path / "b.gif").read_bytes()
    (tmp_path / "c.ttf").write_bytes(b"\0\1\0\0" + data)
    (tmp_path / "d.gif").write_bytes(b"x" + data[1:])
    (tmp_path / "e.tar").write_bytes(bytes(512) + data)  # what is packed does not speak for it
    states = {name: ours(tmp_path / name, chain).state for name in ("c.ttf", "d.gif", "e.tar")}
    assert states == {
        "c.ttf": State.UNSUPPORTED,
        "d.gif": State.UNSUPPORTED,
        "e.tar": State.NO_MANIFEST,
    }


MEASURE = """
import resource, sys
from pathlib import Path
from assaymark.provenance.keys import load_credentials
from assaymark.provenance.sign import sign
from assaymark.provenance.verify import examine
source, target, keys = map(Path, sys.argv[1:])
made = load_credentials(keys / "chain.pem", keys / "key.pem", b"x")
small = source.with_name("small.bin")
small.write_bytes(b"\\1" * 1000)
sign(small, target.with_name("s.bin"), made); examine(target.with_name("s.bin"))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
sign(source, target, made); print(examine(target).state)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_does_not_grow_with_the_file(tmp_path: Path, chain: Chain) -> None:
    """64 MB of weights (holes, so that the disk does not hold them) in less than 8 MB more."""
    write_chain(chain, tmp_path / "keys", b"x")
    source = tmp_path / "weights.gguf"
    source.write_bytes(b"GGUF")
    os.truncate(source, 64 << 20)
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", MEASURE, source, tmp_path / "out.gguf", tmp_path / "keys"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    state, grown = run.stdout.split()
    assert state == "valid-but-untrusted"
    assert int(grown) < 8 << 10  # KiB
    assert resource.getpagesize() > 0
