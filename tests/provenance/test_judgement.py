"""Whose word counts for what: anchors of each kind, time stamps, expiry, revocation, damage."""

import datetime as dt
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import c2pa
import pytest
from authorities import EMAIL, STAMPING, authority, pem
from media import media
from raw_signing import created, manifest, signed

from assaymark.provenance import tsa
from assaymark.provenance.c2pa_context import context, settings
from assaymark.provenance.formats import FORMATS, recognise
from assaymark.provenance.keys import Authority
from assaymark.provenance.problems import PROBLEMS, problem
from assaymark.provenance.routes import READS
from assaymark.provenance.trust import NOBODY, Trust
from assaymark.provenance.verify import State, examine, verify

ROOT = authority("a root", ca=True)
LEAF = authority("a signer", ROOT, purposes=EMAIL, critical=False)
STAMP_ROOT = authority("a root of stamps", ca=True)
STAMPER = authority("a stamper", STAMP_ROOT, purposes=STAMPING)
SIGNERS, STAMPS = pem(ROOT), pem(STAMP_ROOT)
JPEG = media("JPEG")


def put(folder: Path, data: bytes, name: str = "a.jpg") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def states(data: bytes, folder: Path) -> dict[str, State]:
    path = put(folder, data)
    return {name: examine(path, trust).state for name, trust in TRUSTS.items()}


TRUSTS = {
    "signers": Trust(signers=SIGNERS),
    "signers and stamps": Trust(signers=SIGNERS, time_stamps=STAMPS),
    "one list for both": Trust(signers=SIGNERS + STAMPS, time_stamps=SIGNERS + STAMPS),
    "stamps in the wrong list": Trust(signers=SIGNERS + STAMPS),
    "stamps as identities": Trust(signers=SIGNERS, identities=STAMPS),
    "signer as stamps": Trust(time_stamps=SIGNERS),
    "signer as identity": Trust(identities=SIGNERS),
    "signer in both wrong lists": Trust(signers=STAMPS, time_stamps=SIGNERS, identities=SIGNERS),
    "nobody": NOBODY,
}
HOLDS = {"signers", "signers and stamps", "one list for both", "stamps in the wrong list",
         "stamps as identities"}  # fmt: skip


@pytest.fixture(scope="module")
def stamping() -> Iterator[str]:
    with tsa.serving(STAMPER) as url:
        yield url


@pytest.fixture(scope="module")
def stamped(stamping: str) -> bytes:
    return signed(JPEG, LEAF, stamps=stamping)


@pytest.fixture(scope="module")
def expired(stamping: str) -> dict[str, bytes]:
    """Files whose certificate was valid when they were signed and is not any more."""
    end = dt.datetime.now(dt.UTC).replace(microsecond=0) + dt.timedelta(seconds=2)
    leaf = authority("a signer", ROOT, purposes=EMAIL, critical=False, end=end)
    made = {"bare": signed(JPEG, leaf), "stamped": signed(JPEG, leaf, stamps=stamping)}
    time.sleep(
        max(0.0, (end - dt.datetime.now(dt.UTC)).total_seconds() + 1.1)
    )  # whole seconds are compared
    return made


def test_the_library_alone_takes_an_anchor_of_any_kind_for_a_signer(tmp_path: Path) -> None:
    """The trap that the judgement closes; when the library closes it, this tells."""
    path = put(tmp_path, signed(JPEG, LEAF))
    with context(Trust(identities=SIGNERS)) as lax, c2pa.Reader(path, context=lax) as reader:
        assert json.loads(reader.json())["validation_state"] == "Trusted"


def test_a_signer_is_held_to_the_anchors_of_signers(tmp_path: Path, stamped: bytes) -> None:
    for data in (signed(JPEG, LEAF), stamped):
        assert states(data, tmp_path) == {
            name: State.TRUSTED if name in HOLDS else State.UNTRUSTED for name in TRUSTS
        }
    found = examine(put(tmp_path, stamped), TRUSTS["signer as stamps"])
    assert "signingCredential.untrusted" in found.failures
    assert "no trust anchor vouches for" in found.explanation


def test_a_time_stamp_is_held_to_the_anchors_of_time_stamps(tmp_path: Path, stamped: bytes) -> None:
    path = put(tmp_path, stamped)
    for name, trust in TRUSTS.items():
        found = examine(path, trust)
        good = name in ("signers and stamps", "one list for both")
        assert found.time_stamp == ("trusted" if good else "untrusted"), name
        assert (found.signed_at is not None) is good
        assert any("time of signing is not known" in note for note in found.notes) is not good
    signed_at = examine(path, TRUSTS["signers and stamps"]).signed_at
    assert signed_at is not None
    assert abs(signed_at - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=5)
    assert examine(put(tmp_path, signed(JPEG, LEAF)), TRUSTS["signers"]).time_stamp is None


def test_only_a_trusted_stamp_saves_an_expired_certificate(
    tmp_path: Path, expired: dict[str, bytes]
) -> None:
    assert set(states(expired["bare"], tmp_path).values()) == {State.INVALID}
    found = states(expired["stamped"], tmp_path)
    good = {"signers and stamps", "one list for both"}
    assert {name for name, state in found.items() if state is State.TRUSTED} == good
    # where the stamp is trusted and the signer is not, the file is unchanged but nobody's
    assert {found["signers"], found["stamps in the wrong list"], found["stamps as identities"]} == {
        State.INVALID
    }
    wrong = examine(put(tmp_path, expired["stamped"]), TRUSTS["stamps in the wrong list"])
    assert "signingCredential.expired" in wrong.failures
    assert any("does not save an expired certificate" in note for note in wrong.notes)


def test_a_leaf_that_is_its_own_anchor_is_trusted_by_name_and_says_so(tmp_path: Path) -> None:
    lonely = authority("on my own", purposes=EMAIL, critical=False)
    path = put(tmp_path, signed(JPEG, lonely))
    found = examine(path, Trust(signers=pem(lonely)))
    assert found.state is State.TRUSTED
    assert any("is itself an anchor" in note for note in found.notes)
    assert examine(path, Trust(signers=SIGNERS)).state is State.UNTRUSTED
    ours = examine(put(tmp_path, signed(JPEG, LEAF), "b.jpg"), Trust(signers=SIGNERS))
    assert not any("itself an anchor" in note for note in ours.notes)


def test_valid_is_not_trusted(tmp_path: Path) -> None:
    """The library's word for anybody's certificate is "Valid", and failures are not empty then."""
    path = put(tmp_path, signed(JPEG, LEAF))
    found = examine(path)
    assert found.document["validation_state"] == "Valid"
    assert (found.state, found.failures) == (State.UNTRUSTED, ("signingCredential.untrusted",))
    assert verify(path, Trust(signers=SIGNERS)).signer == "Example Authority"


def test_what_a_manifest_says_is_there_to_ask(tmp_path: Path) -> None:
    training = {"entries": {"cawg.ai_training": {"use": "notAllowed"}}}
    said = manifest(
        created(),
        assertions=[
            {"label": "cawg.training-mining", "data": training},
            {"label": "cawg.metadata",
             "data": {"@context": {"dc": "http://purl.org/dc/elements/1.1/"},
                      "dc:creator": ["A. Author"]}},
        ],
    )  # fmt: skip
    found = examine(put(tmp_path, signed(JPEG, LEAF, definition=said)), Trust(signers=SIGNERS))
    assert found.state is State.TRUSTED
    assert (found.title, found.algorithm, found.claim_version) == ("a work", "es256", 2)
    assert found.serial == str(LEAF.certificate.serial_number)
    assert found.source_types == ("trainedAlgorithmicMedia",)
    assert found.training == {"cawg.ai_training": "notAllowed"}
    assert found.authors == ("A. Author",)
    assert (found.where, found.ingredients, found.identity) == ("embedded", 0, None)
    assert found.revocation == "not asked"
    assert found.history == (found.label,)
    assert json.loads(json.dumps(found.facts(), allow_nan=False))["state"] == "trusted"


def test_nothing_is_fetched_and_the_address_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap 9: the library's own default asks the server that the file names."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.3)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/m.c2pa"
        path = put(tmp_path, signed(JPEG, LEAF, remote=url, embed=False))
        found = examine(path, Trust(signers=SIGNERS))
        assert (found.state, found.remote, found.where) == (State.UNREADABLE, url, "remote")
        assert found.codes == ("manifest.inaccessible",)
        with pytest.raises(TimeoutError):
            server.accept()


def test_settings_that_keep_the_network_out_are_known_to_the_library() -> None:
    """Trap 2: the library ignores keys that it does not know, so what matters is set and read back."""
    verify_settings = settings(Trust(signers=SIGNERS))["verify"]
    assert verify_settings["ocsp_fetch"] is False
    assert verify_settings["remote_manifest_fetch"] is False


STRUCTURED = ("JPEG", "PNG", "WebP", "TIFF", "GIF", "WAV", "MP4", "AVIF", "SVG", "PDF")


@pytest.mark.parametrize("name", STRUCTURED)
def test_a_signed_file_that_is_cut_is_never_one_without_credentials(
    tmp_path: Path, name: str
) -> None:
    """While its manifest's bytes are there; the library throws prose for most of these."""
    kind = next(kind for kind in FORMATS if kind.name == name)
    whole = signed(media(name), LEAF, media_type=kind.media_type)
    trust = Trust(signers=SIGNERS)
    path = put(tmp_path, whole, f"a{kind.endings[0]}")
    assert examine(path, trust).state is State.TRUSTED
    start, seen = _store_start(whole), set()
    for size in sorted(
        {len(whole) - 1, len(whole) - 50, *range(start, len(whole), len(whole) // 40)}
    ):
        path.write_bytes(whole[:size])
        found = examine(path, trust)
        assert found.explanation
        seen.add(found.state)
        assert found.state in (State.INVALID, State.UNREADABLE), (size, found)
        assert found.failures or found.state is State.UNREADABLE
    assert State.INVALID in seen


def _store_start(data: bytes) -> int:
    """Where enough of a manifest store has come to know it by."""
    mark = b"<c2pa:manifest" if b"<c2pa:manifest" in data else b"jumdc2pa"
    return data.index(mark) + len(mark) + 12


@pytest.mark.parametrize("row", PROBLEMS, ids=lambda row: f"{row.error}-{row.pattern[:12]}")
def test_every_problem_has_a_state_and_a_sentence(row: object) -> None:
    assert row.signed in (State.INVALID, State.UNREADABLE)  # type: ignore[attr-defined]
    assert row.unsigned is not State.TRUSTED  # type: ignore[attr-defined]
    assert row.sentence[0].islower()  # type: ignore[attr-defined]


def test_a_message_that_nobody_foresaw_is_no_good_news(tmp_path: Path) -> None:
    path = put(tmp_path, signed(JPEG, LEAF))
    kind = recognise(path, path.read_bytes()[:4096])
    assert kind is not None
    state, codes, text = problem(c2pa.C2paError("Strange: new words"), path, kind)
    assert (state, codes) == (State.INVALID, ("general.error",))
    assert "new words" in text
    state, codes, _ = problem(c2pa.C2paError("Strange"), put(tmp_path, JPEG, "b.jpg"), kind)
    assert (state, codes) == (State.UNREADABLE, ("general.error",))


def test_a_manifest_where_no_reader_looks_is_not_taken_for_none(tmp_path: Path) -> None:
    data = signed(media("PNG"), LEAF, media_type="image/png")
    hidden = data.replace(b"caBX", b"caBY")
    found = examine(put(tmp_path, hidden, "a.png"))
    assert found.state is State.UNREADABLE
    assert "not where its format keeps one" in found.explanation
    jpeg = signed(JPEG, LEAF)
    one_bit = jpeg.replace(b"jumdc2pa", b"jumdc2p`", 1)  # the store's type: the library sees none
    assert examine(put(tmp_path, one_bit)).state is State.UNREADABLE
    # a file that only holds a signed one says nothing of itself
    assert examine(put(tmp_path, media("PDF") + data, "a.pdf")).state is State.NO_MANIFEST


def test_a_reader_that_breaks_is_a_state_not_an_exception(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(tmp_path, signed(JPEG, LEAF))
    kind = recognise(path, path.read_bytes()[:4096])
    assert kind is not None

    for error in (KeyError("x"), RecursionError(), MemoryError(), OSError("gone"), ValueError("v")):

        def refuse(*_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setitem(READS, kind.route, refuse)
        found = examine(path)
        assert found.state in (State.INVALID, State.UNREADABLE)
        assert found.explanation


def test_ingredients_of_strangers_do_not_lend_trust(tmp_path: Path) -> None:
    """The active signer decides; a parent by somebody unknown is told."""
    stranger: Authority = authority("elsewhere", authority("other root", ca=True), purposes=EMAIL)
    parent = signed(JPEG, stranger)
    described = {"title": "theirs", "relationship": "parentOf"}
    opened = {"action": "c2pa.opened", "parameters": {"ingredientIds": ["p"]}}
    data = signed(
        JPEG,
        LEAF,
        definition=manifest(opened),
        ingredients=[({**described, "label": "p", "instance_id": "p"}, parent)],
    )
    found = examine(put(tmp_path, data), Trust(signers=SIGNERS))
    assert found.state is State.TRUSTED
    assert len(found.history) == 2
    both = examine(put(tmp_path, data), Trust(signers=pem(stranger)))
    assert both.state is State.UNTRUSTED
