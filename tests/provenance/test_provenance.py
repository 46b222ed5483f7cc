"""Signing and verifying: what is trusted, what is caught, and what is never left behind."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
from PIL import Image

from assaymark.provenance.check import check_provenance
from assaymark.provenance.checked import Demands
from assaymark.provenance.claims import Claims
from assaymark.provenance.files import find_files
from assaymark.provenance.keys import (
    ALGORITHMS,
    Chain,
    Credentials,
    load_anchors,
    new_chain,
)
from assaymark.provenance.sign import sign
from assaymark.provenance.trust import Trust
from assaymark.provenance.verify import State, examine, verify
from assaymark.reports.errors import InputError, IntegrityError

PIXELS = numpy.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=numpy.uint8)


def picture(path: Path) -> Path:
    Image.fromarray(PIXELS).save(path)
    return path


@pytest.fixture(params=["jpg", "png"])
def signed(request: pytest.FixtureRequest, tmp_path: Path, chain: Chain) -> Path:
    suffix = request.param
    source = picture(tmp_path / f"source.{suffix}")
    sign(
        source,
        tmp_path / f"signed.{suffix}",
        chain.credentials,
        Claims(source_type="trainedAlgorithmicMedia"),
    )
    return tmp_path / f"signed.{suffix}"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_makes_a_chain_that_is_trusted(tmp_path: Path, algorithm: str) -> None:
    made = new_chain("Example Press", algorithm=algorithm)
    found = sign(picture(tmp_path / "a.png"), tmp_path / "b.png", made.credentials).found
    assert found is not None
    assert found.state is State.UNTRUSTED  # nobody is trusted until an anchor says so
    trusted = verify(tmp_path / "b.png", Trust(signers=made.trust_anchor_pem))
    assert trusted.signer == "Example Press"
    assert "signingCredential.trusted" in trusted.codes


def test_a_signed_file_is_trusted_by_its_anchor_only(
    signed: Path, chain: Chain, stranger: Chain
) -> None:
    assert examine(signed, Trust(signers=chain.trust_anchor_pem)).state is State.TRUSTED
    assert examine(signed, Trust(signers=stranger.trust_anchor_pem)).state is State.UNTRUSTED
    assert examine(signed).state is State.UNTRUSTED
    both = chain.trust_anchor_pem + stranger.trust_anchor_pem
    found = examine(signed, Trust(signers=both))
    assert found.state is State.TRUSTED
    assert found.generator.startswith("assaymark")
    assert found.tree is not None
    assert "trainedAlgorithmicMedia" in found.tree.children[0].detail
    with pytest.raises(IntegrityError, match="valid-but-untrusted"):
        verify(signed, Trust(signers=stranger.trust_anchor_pem))


def flip(position: float) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        at = int(len(data) * position)
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

    return change


def resave(data: bytes) -> bytes:
    import io

    stream = io.BytesIO()
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        clean = Image.fromarray(numpy.asarray(image))
        clean.save(stream, image.format)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("change", "states"),
    [
        (flip(0.97), {State.INVALID}),
        (flip(0.99), {State.INVALID}),
        (lambda data: data + b"0123456789", {State.INVALID}),
        (lambda data: data[:-50], {State.INVALID, State.UNREADABLE}),
        (lambda data: data[: len(data) // 2], {State.INVALID, State.UNREADABLE}),
        (lambda data: data[:4], {State.UNSUPPORTED, State.UNREADABLE, State.NO_MANIFEST}),
        (lambda data: b"", {State.UNSUPPORTED}),
        (resave, {State.NO_MANIFEST}),
        (lambda data: data.replace(b"c2pa.actions", b"c2pa.bctions"), {State.INVALID}),
        (lambda data: data.replace(b"Example Press", b"Example Pross"), {State.INVALID}),
        (lambda data: b"GIF89a" + data, {State.INVALID}),
    ],
    ids=["flip", "flip end", "append", "cut", "half", "head", "empty", "stripped", "assertion",
         "certificate", "other type"],
)  # fmt: skip
def test_no_tampered_file_is_trusted_and_none_raises(
    signed: Path, chain: Chain, change: Callable[[bytes], bytes], states: set[State]
) -> None:
    data = change(signed.read_bytes())
    assert data != signed.read_bytes()
    signed.write_bytes(data)
    found = examine(signed, Trust(signers=chain.trust_anchor_pem))
    assert found.state in states
    assert found.explanation


def test_credentials_moved_to_another_picture_do_not_hold(tmp_path: Path, chain: Chain) -> None:
    first = picture(tmp_path / "a.jpg")
    sign(first, tmp_path / "s.jpg", chain.credentials)
    data, bare = (tmp_path / "s.jpg").read_bytes(), first.read_bytes()
    extra = len(data) - len(bare)
    start = data.index(b"\xff\xeb")  # APP11 carries the manifest store
    other = tmp_path / "other.jpg"
    Image.fromarray(PIXELS[::-1]).save(other)
    plain = other.read_bytes()
    other.write_bytes(plain[:start] + data[start : start + extra] + plain[start:])
    assert examine(other, Trust(signers=chain.trust_anchor_pem)).state is State.INVALID


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_signing_leaves_the_source_alone(tmp_path: Path, chain: Chain, suffix: str) -> None:
    source = picture(tmp_path / f"a.{suffix}")
    before = source.read_bytes()
    sign(source, tmp_path / "out" / f"b.{suffix}", chain.credentials)
    assert source.read_bytes() == before
    original, signed = (
        numpy.asarray(Image.open(path)) for path in (source, tmp_path / "out" / f"b.{suffix}")
    )
    assert numpy.array_equal(original, signed)
    assert (tmp_path / "out" / f"b.{suffix}").stat().st_size < len(before) + 20_000  # no thumbnail


def test_signing_again_keeps_the_history(tmp_path: Path, chain: Chain, stranger: Chain) -> None:
    sign(
        picture(tmp_path / "a.png"),
        tmp_path / "b.png",
        chain.credentials,
        Claims(source_type="digitalCapture"),
    )
    sign(tmp_path / "b.png", tmp_path / "c.png", stranger.credentials)
    found = examine(tmp_path / "c.png", Trust(signers=stranger.trust_anchor_pem))
    assert found.state is State.TRUSTED
    assert found.tree is not None
    parent = next(node for node in found.tree.children if node.label.startswith("ingredient"))
    assert parent.label == "ingredient: b.png"
    assert "signed by Example Press" in parent.children[0].detail
    with pytest.raises(InputError, match="already carries Content Credentials"):
        sign(
            tmp_path / "b.png",
            tmp_path / "d.png",
            chain.credentials,
            Claims(source_type="trainedAlgorithmicMedia"),
        )
    assert not (tmp_path / "d.png").exists()


def test_a_changed_file_is_not_signed_into_a_good_one(signed: Path, chain: Chain) -> None:
    signed.write_bytes(flip(0.97)(signed.read_bytes()))
    target = signed.with_name(f"again{signed.suffix}")
    with pytest.raises(InputError, match=r"would vouch for a changed file|a damaged picture"):
        sign(signed, target, chain.credentials)
    assert not target.exists()


def test_a_png_that_was_damaged_is_not_trusted(tmp_path: Path, chain: Chain) -> None:
    """A flipped bit in a checksum of the manifest's own chunk, which no hash covers."""
    sign(picture(tmp_path / "a.png"), tmp_path / "b.png", chain.credentials)
    data = bytearray((tmp_path / "b.png").read_bytes())
    start = data.index(b"caBX") - 4
    data[start + 8 + int.from_bytes(data[start : start + 4], "big")] ^= 1
    (tmp_path / "b.png").write_bytes(data)
    found = examine(tmp_path / "b.png", Trust(signers=chain.trust_anchor_pem))
    assert found.state is State.UNREADABLE
    assert "checksum" in found.explanation


def test_a_damaged_picture_is_not_signed(tmp_path: Path, chain: Chain) -> None:
    source = picture(tmp_path / "a.jpg")
    source.write_bytes(source.read_bytes()[:1500])
    with pytest.raises(InputError, match="cannot be decoded"):
        sign(source, tmp_path / "b.jpg", chain.credentials)


def test_a_broken_ingredient_is_shown(shared: Path) -> None:
    root = shared / "data" / "c2pa" / "public-testfiles"
    (path,) = root.rglob("adobe-20220124-CIE-sig-CA.jpg")
    found = examine(path)
    assert any(code.startswith("ingredient:") for code in found.codes)
    assert "a work it was made from does not hold" in found.explanation
    assert "does not hold: claimSignature.mismatch" in repr(found.tree)


def test_a_folder_is_searched_whole(tmp_path: Path, chain: Chain) -> None:
    (tmp_path / "root.pem").write_text(chain.trust_anchor_pem)
    media, other = tmp_path / "media", tmp_path / "other"
    media.mkdir()
    other.mkdir()
    sign(picture(tmp_path / "a.png"), media / "a.png", chain.credentials)
    picture(other / "unsigned.png")
    (media / "link").symlink_to(other)
    (other / "loop").symlink_to(media)
    (media / "gone.png").symlink_to(tmp_path / "nowhere.png")
    found = [path.relative_to(media).as_posix() for path in find_files(("media",), tmp_path)]
    assert found == ["a.png", "gone.png", "link/unsigned.png"]
    result = check_provenance(
        "c", ("media",), Demands(trust=Trust(signers=chain.trust_anchor_pem)), folder=tmp_path
    )
    assert [(f.measure, f.verdict) for f in result.findings] == [
        ("unreadable_files", "error"),
        ("trusted_files", "fail"),
    ]
    assert "gone.png (unreadable)" in result.findings[1].summary
    sub = media / "sub"
    sub.mkdir()
    picture(sub / "deep.png")
    for pattern, expected in {
        "media/*": {"a.png", "gone.png", "unsigned.png", "deep.png"},
        "media/**/*.png": {"a.png", "gone.png", "unsigned.png", "deep.png"},
        "media/*.png": {"a.png", "gone.png"},
        "media/s*/d?ep.png": {"deep.png"},
        "media/**": {"a.png", "gone.png", "unsigned.png", "deep.png"},
    }.items():
        assert {path.name for path in find_files((pattern,), tmp_path)} == expected
    absolute = find_files((str(media / "*.png"),), tmp_path)
    assert [path.name for path in absolute] == ["a.png", "gone.png"]


@contextmanager
def somebody() -> Iterator[None]:
    """Root may enter every folder: be nobody for a while."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.parametrize("pattern", ["media", "media/**/*.png", "media/*"])
def test_a_folder_that_may_not_be_entered_is_an_error(pattern: str) -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "media" / "secret").mkdir(parents=True)
        (folder / "media" / "secret").chmod(0)
        with somebody(), pytest.raises(InputError, match="what cannot be read cannot be verified"):
            find_files((pattern,), folder)
        (folder / "media" / "secret").chmod(0o700)


def damaged(credentials: Credentials, stranger: Chain) -> Credentials:
    return replace(credentials, key_pem=stranger.credentials.key_pem)


def test_a_failed_signature_leaves_nothing(tmp_path: Path, chain: Chain, stranger: Chain) -> None:
    source = picture(tmp_path / "a.jpg")
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(source.read_bytes()[:20])
    text = tmp_path / "text.jpg"
    text.write_text("no picture")
    attempts = [
        (source, "out.jpg", damaged(chain.credentials, stranger)),
        (source, "out.png", chain.credentials),
        (broken, "out.jpg", chain.credentials),
        (text, "out.jpg", chain.credentials),
        (tmp_path / "missing.jpg", "out.jpg", chain.credentials),
        (source, "text.jpg", chain.credentials),
        (source, "a.jpg", chain.credentials),
    ]
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for path, name, credentials in attempts:
        with pytest.raises(InputError):
            sign(path, tmp_path / name, credentials)
        assert {item.name: item.read_bytes() for item in tmp_path.iterdir()} == before
    os.link(source, tmp_path / "same.jpg")
    with pytest.raises(InputError, match="is the source itself"):
        sign(source, tmp_path / "same.jpg", chain.credentials, overwrite=True)
    assert source.read_bytes() == before["a.jpg"]


def test_a_manifest_on_the_network_is_not_fetched(tmp_path: Path, chain: Chain) -> None:
    """A file that points to a loopback server; the server must not hear of it."""
    import io
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    import c2pa

    from assaymark.provenance.c2pa_context import context

    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        output = io.BytesIO()
        made = chain.credentials
        info = c2pa.C2paSignerInfo(
            made.algorithm.encode(), made.chain_pem.encode(), made.key_pem.encode(), None
        )
        with (
            context() as settings,
            c2pa.Signer.from_info(info) as signer,
            c2pa.Builder({"claim_generator_info": [{"name": "t"}]}, context=settings) as builder,
        ):
            builder.set_intent(c2pa.C2paBuilderIntent.EDIT)
            builder.set_no_embed()
            builder.set_remote_url(f"http://127.0.0.1:{server.server_port}/m.c2pa")
            source = picture(tmp_path / "a.jpg").read_bytes()
            builder.sign(signer, "image/jpeg", io.BytesIO(source), output)
        (tmp_path / "remote.jpg").write_bytes(output.getvalue())
        assert examine(tmp_path / "remote.jpg").state in (State.UNREADABLE, State.NO_MANIFEST)
        server.shutdown()
    assert asked == []


def test_the_check_counts_every_file_and_never_an_empty_set(tmp_path: Path, chain: Chain) -> None:
    (tmp_path / "root.pem").write_text(chain.trust_anchor_pem)
    media = tmp_path / "media"
    media.mkdir()
    for name in ("a.png", "b.png"):
        sign(picture(tmp_path / name), media / name, chain.credentials)
    result = check_provenance(
        "c", ("media/*.png",), Demands(trust=Trust(signers=chain.trust_anchor_pem)), folder=tmp_path
    )
    assert [(f.measure, f.value, f.verdict) for f in result.findings] == [
        ("trusted_files", 1.0, "pass")
    ]
    assert set(result.digests) == {"media/a.png", "media/b.png"}
    picture(media / "unsigned.png")
    data = (media / "b.png").read_bytes()
    (media / "b.png").write_bytes(flip(0.97)(data))
    result = check_provenance(
        "c", ("media",), Demands(trust=Trust(signers=chain.trust_anchor_pem)), folder=tmp_path
    )
    assert [(f.measure, f.integrity, f.verdict) for f in result.findings] == [
        ("broken_files", True, "fail"),
        ("trusted_files", False, "fail"),
    ]
    assert result.findings[1].value == pytest.approx(1 / 3)
    for pattern in ("nothing/*.png", "missing.png", "/abs/*.png"):
        with pytest.raises(InputError, match=r"no file matches|is not a file name"):
            find_files((pattern,), tmp_path)
    with pytest.raises(InputError, match="not a PEM certificate"):
        load_anchors([media / "a.png"])


PUBLIC = {
    "adobe-20220124-A.jpg": State.NO_MANIFEST,
    "adobe-20220124-C.jpg": State.TRUSTED,
    "adobe-20220124-CA.jpg": State.TRUSTED,
    "adobe-20220124-CACA.jpg": State.TRUSTED,
    "adobe-20220124-CAI.jpg": State.TRUSTED,
    "adobe-20220124-CICA.jpg": State.TRUSTED,
    "adobe-20220124-E-clm-CAICAI.jpg": State.INVALID,
    "adobe-20220124-E-dat-CA.jpg": State.INVALID,
    "adobe-20220124-E-sig-CA.jpg": State.INVALID,
    "adobe-20220124-E-uri-CA.jpg": State.INVALID,
    "adobe-20220124-E-uri-CIE-sig-CA.jpg": State.INVALID,
    "adobe-20220124-I.jpg": State.NO_MANIFEST,
    "adobe-20220124-XCA.jpg": State.INVALID,
    "adobe-20220124-XCI.jpg": State.INVALID,
    "nikon-20221019-building.jpeg": State.INVALID,
}


@pytest.mark.parametrize("name", PUBLIC)
def test_official_files_have_their_expected_state(shared: Path, name: str) -> None:
    """C2PA's public test files; their test root is not in the official list, so the good ones are
    valid but untrusted."""
    (path,) = (shared / "data" / "c2pa" / "public-testfiles").rglob(name)
    anchors = (shared / "data" / "c2pa" / "trust-list" / "C2PA-TRUST-LIST.pem").read_text()
    found = examine(path, Trust(signers=anchors))
    expected = PUBLIC[name]
    assert found.state in (
        {State.TRUSTED, State.UNTRUSTED} if expected is State.TRUSTED else {expected}
    )


def test_hostile_titles_come_back_as_text(shared: Path, tmp_path: Path, chain: Chain) -> None:
    from assaymark.cli.terminal import printable

    source = picture(tmp_path / "a.png")
    attacks = (shared / "data" / "c2pa" / "attacks").glob("*.attack")
    lines = [line for path in attacks for line in path.read_text("utf-8", "replace").splitlines()]
    lines = [line for line in lines if line.strip()][:25]
    assert lines
    for line in lines:
        found = sign(
            source, tmp_path / "b.png", chain.credentials, Claims(title=line), overwrite=True
        ).found
        assert found is not None
        assert found.title == line
        assert printable(found.title).isprintable()
