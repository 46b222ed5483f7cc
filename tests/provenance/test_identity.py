"""A named actor signs beside the claim's signer: who is trusted, for what, and by both engines."""

import gc
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import c2pa
import pytest
from both_engines import assertion, by_c2pa, by_encypher, codes, open_signer, signed
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from PIL import Image

from assaymark.provenance.claims import OPT_OUT, Claims
from assaymark.provenance.identity import ROLES, identity_signer, said_by_actor
from assaymark.provenance.keys import Chain, new_chain
from assaymark.provenance.sign import sign
from assaymark.provenance.trust import Trust
from assaymark.provenance.verify import State, examine
from assaymark.reports.errors import InputError

CLAIMS = Claims(source_type="generated", author="Jane Example", training=OPT_OUT)


@pytest.fixture(scope="module")
def maker() -> Chain:
    return new_chain("Example Press", algorithm="ed25519")


@pytest.fixture(scope="module")
def actor() -> Chain:
    return new_chain("Jane Example")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.new("RGB", (32, 32), "red").save(tmp_path / "photo.jpg")
    return tmp_path / "photo.jpg"


@pytest.fixture
def joined(maker: Chain, actor: Chain) -> Iterator[c2pa.Signer]:
    with identity_signer(
        open_signer(maker.credentials),
        open_signer(actor.credentials),
        roles=("creator", "com.example.colourist"),
        referenced=said_by_actor(CLAIMS),
    ) as signer:
        yield signer


def test_an_identity_is_trusted_by_its_own_anchors_only(
    photo: Path, joined: c2pa.Signer, maker: Chain, actor: Chain, stranger: Chain
) -> None:
    data = signed(photo, CLAIMS, joined)
    trusted = by_c2pa(data, maker, actor.trust_anchor_pem)
    assert trusted["state"] == "Trusted"
    assert {
        "cawg.identity.well-formed",
        "cawg.x509.signature.validated",
        "cawg.x509.credential.trusted",
    } <= set(codes(trusted["results"], "success"))
    for anchors in ("", stranger.trust_anchor_pem):
        other = by_c2pa(data, maker, anchors)
        assert codes(other["results"], "failure") == ["cawg.x509.credential.untrusted"]


def test_whoever_knows_the_actor_trusts_him_and_the_others_still_trust_the_signer(
    tmp_path: Path, photo: Path, joined: c2pa.Signer, maker: Chain, actor: Chain, stranger: Chain
) -> None:
    (path := tmp_path / "signed.jpg").write_bytes(signed(photo, CLAIMS, joined))
    signers, know = maker.trust_anchor_pem, actor.trust_anchor_pem
    found = {
        name: examine(path, trust)
        for name, trust in {
            "known": Trust(signers=signers, identities=know),
            "nobody": Trust(signers=signers),
            "another": Trust(signers=signers, identities=stranger.trust_anchor_pem),
            "actor as signer": Trust(signers=know),
            "actor only": Trust(identities=know),
            "swapped": Trust(signers=know, identities=signers),
        }.items()
    }
    trusted, untrusted = State.TRUSTED, State.UNTRUSTED
    assert {name: (item.state, item.identity) for name, item in found.items()} == {
        "known": (trusted, "trusted"),
        "nobody": (trusted, "untrusted"),
        "another": (trusted, "untrusted"),
        "actor as signer": (untrusted, "untrusted"),
        "actor only": (untrusted, "trusted"),
        "swapped": (untrusted, "untrusted"),
    }
    assert found["known"].notes == ()
    assert "--identity-anchor" in found["nobody"].notes[0]
    assert "whose chain ends in a trust anchor" in found["nobody"].explanation


def test_an_unknown_actor_of_an_ingredient_breaks_nothing(
    tmp_path: Path, photo: Path, joined: c2pa.Signer, maker: Chain
) -> None:
    (parent := tmp_path / "signed.jpg").write_bytes(signed(photo, CLAIMS, joined))
    target = tmp_path / "edited.jpg"
    sign(photo, target, maker.credentials, Claims(source_type="edited-with-ai", parent=parent))
    found = examine(target, Trust(signers=maker.trust_anchor_pem))
    assert (found.state, found.failures, found.identity) == (State.TRUSTED, (), None)


def test_the_second_engine_trusts_the_identity(
    photo: Path, joined: c2pa.Signer, maker: Chain, actor: Chain, stranger: Chain
) -> None:
    data = signed(photo, CLAIMS, joined)
    found = by_encypher(data, maker, actor.trust_anchor_pem)
    assert found["state"] == "Trusted"
    assert "cawg.identity.trusted" in codes(found["results"], "success")
    other = by_encypher(data, maker, stranger.trust_anchor_pem)
    assert "cawg.identity.trusted" not in codes(other["results"], "success")


def test_the_actor_answers_for_what_people_said(
    photo: Path, joined: c2pa.Signer, maker: Chain, actor: Chain
) -> None:
    assert said_by_actor(CLAIMS) == ("cawg.metadata", "cawg.training-mining")
    report = by_c2pa(signed(photo, CLAIMS, joined), maker, actor.trust_anchor_pem)
    payload = assertion(report, "cawg.identity")["signer_payload"]
    assert payload["sig_type"] == "cawg.x509.cose"
    assert payload["role"] == ["cawg.creator", "com.example.colourist"]
    names = {item["url"].rsplit("/")[-1] for item in payload["referenced_assertions"]}
    assert names == {"c2pa.hash.data", "cawg.metadata", "cawg.training-mining"}
    hashed = {item["url"]: item["hash"] for item in report["claim"]["gathered_assertions"]}
    for item in payload["referenced_assertions"]:
        assert item["hash"] == hashed.get(item["url"], item["hash"])


def test_a_changed_statement_breaks_the_file(
    photo: Path, joined: c2pa.Signer, maker: Chain, actor: Chain
) -> None:
    data = signed(photo, CLAIMS, joined).replace(b'Jane Example"]', b'Joan Example"]')
    report = by_c2pa(data, maker, actor.trust_anchor_pem)
    assert report["state"] == "Invalid"
    assert "assertion.hashedURI.mismatch" in codes(report["results"], "failure")


def test_one_signer_signs_many_files_from_a_key_elsewhere(
    photo: Path, maker: Chain, actor: Chain
) -> None:
    """Both keys behind functions, as in a token or a key service."""
    asked = []

    def behind(key: Any) -> Callable[[bytes], bytes]:
        def sign(data: bytes) -> bytes:
            asked.append(len(data))
            return bytes(
                key.sign(data, ec.ECDSA(hashes.SHA256()))
                if isinstance(key, ec.EllipticCurvePrivateKey)
                else key.sign(data)
            )

        return sign

    def remote(chain: Chain, algorithm: c2pa.C2paSigningAlg) -> c2pa.Signer:
        return c2pa.Signer.from_callback(
            behind(chain.leaf.key), algorithm, chain.credentials.chain_pem
        )

    with identity_signer(
        remote(maker, c2pa.C2paSigningAlg.ED25519), remote(actor, c2pa.C2paSigningAlg.ES256)
    ) as signer:
        gc.collect()  # the functions must outlive the signers that were taken over
        for _ in range(2):
            report = by_c2pa(signed(photo, CLAIMS, signer), maker, actor.trust_anchor_pem)
            assert report["state"] == "Trusted"
    assert len(asked) >= 4


def test_roles_are_known_words_or_labels(maker: Chain, actor: Chain) -> None:
    assert len(ROLES) == 7
    for role in ("creater", "cawg.artist", "c2pa.x", "painter", "a b.c", ""):
        with pytest.raises(InputError, match=r"unknown role|no assertion label"):
            identity_signer(
                open_signer(maker.credentials), open_signer(actor.credentials), roles=(role,)
            )


def test_signers_are_taken_over_once(maker: Chain, actor: Chain, photo: Path) -> None:
    claim = open_signer(maker.credentials)
    with identity_signer(claim, open_signer(actor.credentials)):
        with pytest.raises(InputError, match="cannot sign an identity"):
            identity_signer(claim, open_signer(actor.credentials))
        with pytest.raises(c2pa.C2paError):
            signed(photo, CLAIMS, claim)


def test_the_librarys_own_setting_leaves_the_identity_out(
    photo: Path, maker: Chain, actor: Chain
) -> None:
    """The trap that this module is there for."""
    made = actor.credentials
    local = {"alg": made.algorithm, "sign_cert": made.chain_pem, "private_key": made.key_pem}
    target = io.BytesIO()
    with (
        open_signer(maker.credentials) as signer,
        c2pa.Context.from_dict({"version": 1, "cawg_x509_signer": {"local": local}}) as settings,
        c2pa.Builder({"title": "t"}, context=settings) as builder,
        photo.open("rb") as stream,
    ):
        builder.set_intent(
            c2pa.C2paBuilderIntent.CREATE, c2pa.C2paDigitalSourceType.DIGITAL_CAPTURE
        )
        builder.sign(signer, "image/jpeg", stream, target)
    report = by_c2pa(target.getvalue(), maker)
    assert report["state"] == "Trusted"
    assert "cawg.identity" not in report["boxes"]
