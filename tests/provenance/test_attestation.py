"""Attestations: DSSE's published vector, securesystemslib as second reader, and every way to lie."""

import base64
import datetime as dt
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from assaymark.provenance import attestation
from assaymark.provenance.attestation import PREDICATE
from assaymark.provenance.dsse import IN_TOTO, pae, read_envelope, sign_envelope
from assaymark.provenance.keys import ALGORITHMS, Chain, new_chain
from assaymark.provenance.raw_signature import sign_bytes, verifies
from assaymark.provenance.verify import State
from assaymark.reports import store
from assaymark.reports.errors import InputError, IntegrityError
from assaymark.reports.model import Finding, Interval, Limit, Report, Run

MODEL = b"weights of a model"
attest = partial(attestation.attest, read=store.from_json)
verify_attestation = partial(attestation.verify_attestation, read=store.from_json)
must_verify_attestation = partial(attestation.must_verify_attestation, read=store.from_json)


@pytest.fixture(scope="session")
def every_chain() -> dict[str, Chain]:
    """One chain a kind of key; RSA keys are slow to make and serve three algorithms."""
    kinds = [name for name in ALGORITHMS if name not in ("ps384", "ps512")]
    made = {name: new_chain("Example Labs", algorithm=name) for name in kinds}
    return made | {name: replace(made["ps256"], algorithm=name) for name in ("ps384", "ps512")}


def a_report(**digests: str) -> Report:
    interval = Interval(low=0.6, high=0.8, confidence=0.95, method="Clopper–Pearson")
    return Report(
        findings=(
            Finding(
                check="robustness",
                target="model.onnx",
                measure="robust_accuracy",
                summary="…",
                value=0.7,
                interval=interval,
                n=100,
                limit=Limit(minimum=0.5, on="lower"),
            ),
            Finding(
                check="robustness", target="model.onnx", measure="accuracy", summary="…", value=0.9
            ),
        ),
        run=Run(
            tool="assaymark 0.1.0",
            command="assaymark audit",
            policy_name="policy.toml",
            policy_sha256=hashlib.sha256(b"policy").hexdigest(),
            policy_text='[[check]]\nmodel = "other.onnx"\n',
            seed=0,
            device="cpu",
            started="2026-11-21 10:00:00 UTC",
            seconds=1.0,
            digests=digests,
        ),
    )


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, Path]:
    """A stored report and the model it is about."""
    model, path = tmp_path / "model.onnx", tmp_path / "report.json"
    model.write_bytes(MODEL)
    digests = {"model.onnx": hashlib.sha256(MODEL).hexdigest(), "data.csv": "0" * 64}
    path.write_text(store.to_json(a_report(**digests)))
    return path, model


def test_the_vector_of_the_dsse_specification() -> None:
    x = 46950820868899156662930047687818585632848591499744589407958293238635476079160
    y = 5640078356564379163099075877009565129882514886557779369047442380624545832820
    key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    document = {
        "payload": "aGVsbG8gd29ybGQ=",
        "payloadType": "http://example.com/HelloWorld",
        "signatures": [
            {
                "sig": "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTV"
                "eCUjW2JIZA=="
            }
        ],
    }
    envelope = read_envelope(document)
    assert pae(envelope.payload_type, envelope.payload) == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    raw = envelope.signatures[0].signature
    der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    assert envelope.holds(key, der)
    assert not replace(envelope, payload_type="http://example.com/Other").holds(key, der)
    assert pae("exämple", b"").startswith(b"DSSEv1 8 ")  # bytes are counted, not characters


def test_the_first_vector_of_rfc_8032() -> None:
    key = ed25519.Ed25519PublicKey.from_public_bytes(
        bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    )
    signature = bytes.fromhex(
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bac"
        "c61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    )
    assert verifies(key, signature, b"")
    assert not verifies(key, signature, b"x")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_attests_and_is_verified(
    every_chain: dict[str, Chain], made: tuple[Path, Path], tmp_path: Path, algorithm: str
) -> None:
    chain, (report, model), out = every_chain[algorithm], made, tmp_path / "a.json"
    attest(report, chain.credentials, out)
    found = must_verify_attestation(
        out, report=report, subjects=(model,), trust_anchors_pem=chain.trust_anchor_pem
    )
    assert (found.state, found.verdict) == (State.TRUSTED, "pass")
    assert (found.report_checked, found.subjects_checked, found.notes) == (True, True, ())
    assert [one.name for one in found.subjects] == ["model.onnx"]


@dataclass(frozen=True)
class Token:
    """A key elsewhere: r and s side by side for ECDSA, as a token answers."""

    key: Any

    def sign(self, data: bytes) -> bytes:
        if not isinstance(self.key, ec.EllipticCurvePrivateKey):
            return bytes(self.key.sign(data))
        digest = {256: hashes.SHA256(), 521: hashes.SHA512()}[self.key.key_size]
        half = (self.key.key_size + 7) // 8
        r, s = decode_dss_signature(self.key.sign(data, ec.ECDSA(digest)))
        return r.to_bytes(half, "big") + s.to_bytes(half, "big")


@pytest.mark.parametrize("algorithm", ["es256", "es512", "ed25519"])
def test_a_remote_key_signs(every_chain: dict[str, Chain], algorithm: str) -> None:
    chain, other = every_chain[algorithm], new_chain("Other", algorithm=algorithm)
    public = chain.leaf.certificate.public_key()
    for authority, is_ours in ((chain.leaf, True), (other.leaf, False)):
        remote = replace(chain.credentials, key_pem="", remote=Token(authority.key))
        if is_ours:
            assert verifies(public, sign_bytes(remote, b"data"), b"data")
        else:
            with pytest.raises(InputError, match="holds the key of this chain"):
                sign_bytes(remote, b"data")


@pytest.mark.parametrize("algorithm", ["es256", "ed25519", "ps256"])
def test_securesystemslib_reads_and_verifies_it(
    every_chain: dict[str, Chain], made: tuple[Path, Path], tmp_path: Path, algorithm: str
) -> None:
    dsse = pytest.importorskip("securesystemslib.dsse", reason="comes with model-signing")
    signer = pytest.importorskip("securesystemslib.signer")
    chain, out = every_chain[algorithm], tmp_path / "a.json"
    attest(made[0], chain.credentials, out)
    document = json.loads(out.read_text())
    public: Any = chain.leaf.certificate.public_key()
    key = signer.SSlibKey.from_crypto(public, keyid=document["signatures"][0]["keyid"])
    envelope = dsse.Envelope.from_dict(document)
    if algorithm == "ps256":
        key.scheme = "rsassa-pss-sha256"
    assert envelope.verify([key], 1)
    statement = pytest.importorskip("in_toto_attestation.v1.statement")
    json_format = pytest.importorskip("google.protobuf.json_format")
    message = json_format.Parse(envelope.payload, statement.Statement([], "", {}).pb)
    statement.Statement.copy_from_pb(message).validate()
    assert message.predicate_type == PREDICATE


def test_the_statement_says_what_the_report_says(
    chain: Chain, made: tuple[Path, Path], tmp_path: Path
) -> None:
    statement = attest(made[0], chain.credentials, tmp_path / "a.json")
    said = statement["predicate"]
    assert said["report"]["digest"]["sha256"] == hashlib.sha256(made[0].read_bytes()).hexdigest()
    assert said["policy"]["digest"]["sha256"] == hashlib.sha256(b"policy").hexdigest()
    assert [one["name"] for one in said["materials"]] == ["data.csv"]
    (gate,) = said["gates"]
    assert (gate["limit"], gate["interval"], gate["verdict"]) == (
        "≥ 0.5 (lower bound)",
        [0.6, 0.8],
        "pass",
    )


def test_models_are_named_by_findings_by_the_policy_or_by_hand(
    chain: Chain, tmp_path: Path
) -> None:
    report, out = tmp_path / "report.json", tmp_path / "a.json"

    def subjects(*models: str, **digests: str) -> list[str]:
        report.write_text(store.to_json(a_report(**digests)))
        statement = attest(report, chain.credentials, out, models=models)
        return [one["name"] for one in statement["subject"]]

    every = {"model.onnx": "1" * 64, "other.onnx": "2" * 64, "words.txt": "3" * 64}
    assert subjects(**every) == ["model.onnx", "other.onnx"]
    assert subjects("words.txt", **every) == ["words.txt"]
    out.unlink()
    with pytest.raises(InputError, match=r"no digest of a model \(only of words.txt\)"):
        subjects(**{"words.txt": "3" * 64})
    with pytest.raises(InputError, match="no digest of a model, so"):
        subjects()
    with pytest.raises(InputError, match="no digest of nothing"):
        subjects("nothing", **every)
    assert not out.exists()


def test_another_model_or_a_changed_report_is_told(
    chain: Chain, made: tuple[Path, Path], tmp_path: Path
) -> None:
    (report, model), out, anchors = made, tmp_path / "a.json", chain.trust_anchor_pem
    attest(report, chain.credentials, out)
    other = tmp_path / "other.onnx"
    other.write_bytes(b"something else")
    found = verify_attestation(out, subjects=(other,), trust_anchors_pem=anchors)
    assert found.state is State.INVALID
    assert "not the model of the report" in found.explanation
    with pytest.raises(IntegrityError, match="not attested"):
        must_verify_attestation(out, report=report, subjects=(other,), trust_anchors_pem=anchors)
    with pytest.raises(InputError, match="no model was given"):
        must_verify_attestation(out, report=report, subjects=(), trust_anchors_pem=anchors)
    # one more file than was audited is not excused by the one that was
    both = verify_attestation(out, subjects=(model, other), trust_anchors_pem=anchors)
    assert both.state is State.INVALID
    report.write_text(report.read_text() + " ")
    found = verify_attestation(out, report=report, trust_anchors_pem=anchors)
    assert (found.state, found.report_checked) == (State.INVALID, True)
    assert "was changed" in found.explanation
    absent = verify_attestation(out, report=tmp_path / "absent", trust_anchors_pem=anchors)
    assert absent.state is State.INVALID


def test_what_was_not_held_against_it_is_said(
    chain: Chain, made: tuple[Path, Path], tmp_path: Path
) -> None:
    attest(made[0], chain.credentials, tmp_path / "a.json")
    found = verify_attestation(tmp_path / "a.json", trust_anchors_pem=chain.trust_anchor_pem)
    assert found.state is State.TRUSTED
    assert found.notes == ("no report was held against it", "no model was held against it")


def test_a_model_of_several_files_is_held_against_their_joint_digest(
    chain: Chain, tmp_path: Path
) -> None:
    parts = [tmp_path / name for name in ("m.onnx", "m.onnx.data")]
    for part in parts:
        part.write_bytes(part.name.encode())
    joint = hashlib.sha256(
        b"".join(hashlib.sha256(part.read_bytes()).digest() for part in parts)
    ).hexdigest()
    report, out = tmp_path / "report.json", tmp_path / "a.json"
    report.write_text(store.to_json(a_report(**{"model.onnx": joint})))
    attest(report, chain.credentials, out)
    anchors = chain.trust_anchor_pem
    assert verify_attestation(out, subjects=parts, trust_anchors_pem=anchors).state is State.TRUSTED
    swapped = verify_attestation(out, subjects=parts[::-1], trust_anchors_pem=anchors)
    assert swapped.state is State.INVALID


Lie = Callable[[dict[str, Any]], None]


def _flip(statement: dict[str, Any]) -> None:
    statement["predicate"]["verdict"] = "fail"


def _drop_gates(statement: dict[str, Any]) -> None:
    statement["predicate"]["gates"] = []


def _other_subject(statement: dict[str, Any]) -> None:
    statement["subject"][0]["digest"]["sha256"] = "f" * 64


def _no_subject(statement: dict[str, Any]) -> None:
    statement["subject"] = []


@pytest.mark.parametrize("lie", [_flip, _drop_gates, _other_subject, _no_subject])
def test_a_signer_who_says_other_things_than_the_report_is_caught(
    chain: Chain, made: tuple[Path, Path], tmp_path: Path, lie: Lie
) -> None:
    statement = attest(made[0], chain.credentials, tmp_path / "a.json")
    lie(statement)
    payload = json.dumps(statement).encode()
    (tmp_path / "lie").write_text(json.dumps(sign_envelope(payload, IN_TOTO, chain.credentials)))
    found = verify_attestation(
        tmp_path / "lie", report=made[0], trust_anchors_pem=chain.trust_anchor_pem
    )
    assert found.state is State.INVALID


def test_one_trusted_signature_of_several_is_enough_and_the_others_are_told(
    chain: Chain, stranger: Chain, made: tuple[Path, Path], tmp_path: Path
) -> None:
    out, anchors = tmp_path / "a.json", chain.trust_anchor_pem
    attest(made[0], chain.credentials, out)
    document = json.loads(out.read_text())
    payload = base64.b64decode(document["payload"])
    (theirs,) = sign_envelope(payload, IN_TOTO, stranger.credentials)["signatures"]
    (broken,) = sign_envelope(b"other", IN_TOTO, stranger.credentials)["signatures"]
    bare = {"sig": theirs["sig"], "keyid": theirs["keyid"]}
    document["signatures"] = [theirs, broken, bare, *document["signatures"]]
    out.write_text(json.dumps(document))
    found = verify_attestation(out, trust_anchors_pem=anchors)
    assert found.state is State.TRUSTED
    assert [signer.name for signer in found.signers] == ["Example Press", "Somebody Else"]
    assert [note.partition(" but")[0] for note in found.notes[:3]] == [
        "signature 1 holds,",
        "signature 2 does not hold for what is stated",
        "signature 3 carries no certificate, so nobody can be asked who made it",
    ]
    document["signatures"] = [broken, bare]
    out.write_text(json.dumps(document))
    assert verify_attestation(out, trust_anchors_pem=anchors).state is State.INVALID
    document["signatures"] = [theirs]
    out.write_text(json.dumps(document))
    assert verify_attestation(out, trust_anchors_pem=anchors).state is State.UNTRUSTED


def test_an_expired_certificate_is_told(
    chain: Chain, made: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "a.json"
    attest(made[0], chain.credentials, out)
    later = dt.datetime.now(dt.UTC) + dt.timedelta(days=400)
    found = verify_attestation(out, trust_anchors_pem=chain.trust_anchor_pem, at=later)
    assert found.state is State.UNTRUSTED
    assert "expired on" in found.explanation


def test_other_payloads_and_ambiguous_json_are_told(chain: Chain, tmp_path: Path) -> None:
    out = tmp_path / "a.json"
    cases = {
        "payloadType": sign_envelope(b"{}", "application/json", chain.credentials),
        "stands twice": sign_envelope(b'{"a":1,"a":2}', IN_TOTO, chain.credentials),
        "malformed": sign_envelope(b"[]", IN_TOTO, chain.credentials),
        "is about": sign_envelope(
            b'{"_type":"https://in-toto.io/Statement/v1","predicateType":"x"}',
            IN_TOTO,
            chain.credentials,
        ),
    }
    for told, document in cases.items():
        out.write_text(json.dumps(document))
        found = verify_attestation(out, trust_anchors_pem=chain.trust_anchor_pem)
        assert found.state is State.UNREADABLE
        assert told in found.explanation
    text = json.dumps(cases["malformed"])
    out.write_text(text[:-1] + ', "payload": ""}')
    found = verify_attestation(out, trust_anchors_pem=chain.trust_anchor_pem)
    assert (found.state, "twice" in found.explanation) == (State.UNREADABLE, True)


@settings(max_examples=100)
@given(data=st.data())
def test_no_changed_byte_changes_what_is_trusted_and_none_raises(
    chain: Chain, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    place = tmp_path_factory.getbasetemp() / "mutated-attestation"
    if not place.exists():
        place.mkdir()
        (place / "r").write_text(store.to_json(a_report(**{"model.onnx": "1" * 64})))
        attest(place / "r", chain.credentials, place / "a")
    anchors = chain.trust_anchor_pem
    content = bytearray((place / "a").read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    (place / "changed").write_bytes(content)
    found = verify_attestation(place / "changed", report=place / "r", trust_anchors_pem=anchors)
    if found.state is State.TRUSTED:
        whole = verify_attestation(place / "a", report=place / "r", trust_anchors_pem=anchors)
        assert replace(found, path=whole.path) == whole
