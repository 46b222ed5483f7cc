"""What is read from a manifest's time stamp, against OpenSSL's stamps and public test files."""

import datetime as dt
import hashlib
import io
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import c2pa
import cbor2
import pytest
from asn1crypto import cms, core, tsp
from authorities import EMAIL, NOW, STAMPING, authority, key_pem, pem
from hypothesis import given, settings
from hypothesis import strategies as st
from manifest_stores import LEAF, MIDDLE, ROOT, c2pa_context, jpeg_store, sign_jpeg

from assaymark.provenance import cose, jumbf, tsa
from assaymark.provenance.chains import certificates, chain_ends_in
from assaymark.provenance.keys import Authority
from assaymark.provenance.timestamps import read_token, time_stamp, trusted_time_stamp
from assaymark.reports.errors import InputError

TSA_ROOT = authority("TSA root", ca=True)
TSA = authority("TSA", TSA_ROOT, purposes=STAMPING)
DATA = b"what was signed"


def query(data: bytes = DATA) -> bytes:
    digest = hashlib.sha256(data).digest()
    imprint = {"hash_algorithm": {"algorithm": "sha256"}, "hashed_message": digest}
    asked = tsp.TimeStampReq({"version": "v1", "message_imprint": imprint, "cert_req": True})
    return bytes(asked.dump())


def response(made: Authority = TSA, data: bytes = DATA, **options: Any) -> bytes:
    return tsa.stamp(query(data), made, chain=[TSA_ROOT.certificate], **options)


def token(made: Authority = TSA, data: bytes = DATA) -> bytes:
    return bytes(tsp.TimeStampResp.load(response(made, data))["time_stamp_token"].dump())


CONFIGURATION = """[tsa]
default_tsa = t
[t]
dir = .
serial = serial
signer_cert = tsa.pem
certs = root.pem
signer_key = key.pem
signer_digest = {digest}
default_policy = 1.2.3.4.1
digests = sha256, sha384, sha512
accuracy = secs:1, millisecs:500, microsecs:100
ess_cert_id_chain = {chain}
ess_cert_id_alg = {ess}
"""


@pytest.mark.parametrize("kind", ["es256", "es384", "rsa"])
@pytest.mark.parametrize(
    ("digest", "ess", "whole_chain"),
    [("sha256", "sha256", "no"), ("sha384", "sha1", "yes"), ("sha512", "sha512", "yes")],
)
def test_stamps_by_openssl_are_read(
    tmp_path: Path, kind: str, digest: str, ess: str, whole_chain: str
) -> None:
    made = authority("TSA", TSA_ROOT, kind=kind, purposes=STAMPING)
    for name, text in {
        "root.pem": pem(TSA_ROOT),
        "tsa.pem": pem(made),
        "key.pem": key_pem(made),
        "serial": "01\n",
        "cnf": CONFIGURATION.format(digest=digest, ess=ess, chain=whole_chain),
    }.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "q").write_bytes(query())
    for options in ([], ["-token_out"]):
        command = ["openssl", "ts", "-reply", "-config", "cnf", "-queryfile", "q", "-out", "r"]
        subprocess.run([*command, *options], cwd=tmp_path, check=True, capture_output=True)
        found = read_token((tmp_path / "r").read_bytes(), DATA)
        assert (found.imprint_holds, found.signature_holds) == (True, True)
        assert found.policy == "1.2.3.4.1"
        assert found.accuracy == dt.timedelta(seconds=1, microseconds=500_100)
        assert abs(found.time - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=5)
        assert trusted_time_stamp(found, pem(TSA_ROOT))
        other = read_token((tmp_path / "r").read_bytes(), b"something else")
        assert other.imprint_holds is False
        assert "over something else" in trusted_time_stamp(other, pem(TSA_ROOT)).reason


def rebuilt(der: bytes, change: Callable[[Any], None]) -> bytes:
    """A token with its signer info or content changed, coded anew."""
    content = cms.ContentInfo.load(der)
    change(content["content"])
    return bytes(content.dump(force=True))


def resigned(change: Callable[[dict[str, Any]], None]) -> bytes:
    """A token whose signed attributes were changed and then signed with the right key."""

    def apply(signed: Any) -> None:
        signer = signed["signer_infos"][0]
        attributes = {item["type"].native: item for item in signer["signed_attrs"]}
        change(attributes)
        signer["signed_attrs"] = cms.CMSAttributes(list(attributes.values()))
        # signed as a plain SET OF, which is what a fresh CMSAttributes is
        plain = cms.CMSAttributes(list(attributes.values())).dump()
        _, signature = tsa._sign(TSA.key, plain, tsa._digest(TSA.key))
        signer["signature"] = signature

    return rebuilt(token(), apply)


def attribute(name: str, value: Any) -> cms.CMSAttribute:
    return cms.CMSAttribute({"type": name, "values": [value]})


def test_an_attribute_signed_anew_still_holds() -> None:
    assert read_token(resigned(lambda attributes: None), DATA).signature_holds


STRANGER = authority("TSA", TSA_ROOT, purposes=STAMPING)
ATTRIBUTES: dict[str, Callable[[dict[str, Any]], None]] = {
    "no message digest": lambda found: found.pop("message_digest"),
    "no content type": lambda found: found.pop("content_type"),
    "no signing certificate": lambda found: found.pop("signing_certificate_v2"),
    "another digest": lambda found: found.update(
        message_digest=attribute("message_digest", b"\1" * 32)
    ),
    "another content type": lambda found: found.update(
        content_type=attribute("content_type", "data")
    ),
    "another certificate": lambda found: found.update(
        signing_certificate_v2=cms.CMSAttribute.load(tsa._signing_certificate(STRANGER.certificate))
    ),
}


@pytest.mark.parametrize("case", ATTRIBUTES)
def test_a_token_without_what_binds_it_does_not_hold(case: str) -> None:
    found = read_token(resigned(ATTRIBUTES[case]), DATA)
    assert not found.signature_holds
    assert "own signature does not hold" in trusted_time_stamp(found, pem(TSA_ROOT)).reason


def test_a_changed_time_breaks_the_signature() -> None:
    der = token()
    at = der.index(NOW.strftime("%Y%m").encode())
    changed = read_token(der[:at] + b"2001" + der[at + 4 :], DATA)
    assert changed.time.year == 2001
    assert not changed.signature_holds
    assert not trusted_time_stamp(changed, pem(TSA_ROOT))


def test_another_key_with_the_same_certificate_does_not_hold() -> None:
    thief = Authority(certificate=TSA.certificate, key=authority("thief").key)
    assert not read_token(token(thief), DATA).signature_holds


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: {"purposes": EMAIL}, "for time stamping alone"),
        (lambda: {"purposes": ()}, "for time stamping alone"),
        (lambda: {"purposes": STAMPING, "critical": False}, "for time stamping alone"),
        (lambda: {"purposes": (*STAMPING, *EMAIL)}, "for time stamping alone"),
        (lambda: {"purposes": STAMPING, "ca": True}, "is a CA"),
    ],
    ids=["e-mail", "none", "not critical", "two", "CA"],
)
def test_who_is_no_authority(make: Callable[[], dict[str, Any]], expected: str) -> None:
    made = authority("TSA", TSA_ROOT, **make())
    found = read_token(token(made), DATA)
    assert (found.imprint_holds, found.signature_holds) == (True, True)
    told = trusted_time_stamp(found, pem(TSA_ROOT))
    assert not told
    assert expected in told.reason


def test_the_authority_must_be_valid_at_the_time_it_gave() -> None:
    short = authority("TSA", TSA_ROOT, purposes=STAMPING, end=NOW + dt.timedelta(hours=1))
    found = read_token(response(short, now=NOW), DATA)
    assert trusted_time_stamp(found, pem(TSA_ROOT))
    old = TSA_ROOT.certificate.not_valid_before_utc - dt.timedelta(days=5)
    early = authority("TSA", TSA_ROOT, purposes=STAMPING, start=old)
    before = read_token(response(early, now=old + dt.timedelta(days=1)), DATA)
    assert before.signature_holds
    assert "is valid from" in trusted_time_stamp(before, pem(TSA_ROOT)).reason  # its root was not


def two_signers(signed: Any) -> None:
    signed["signer_infos"] = [signed["signer_infos"][0].copy() for _ in range(2)]


def no_certificates(signed: Any) -> None:
    del signed["certificates"]


OTHER_CONTENT = cms.ContentInfo({"content_type": "data", "content": core.OctetString(b"x")}).dump()
UNREADABLE: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "text": lambda: b"hello",
    "a refusal": lambda: tsa.stamp(b"", TSA),
    "a long one": lambda: b"\x30" * 300_000,
    "no certificates": lambda: rebuilt(token(), no_certificates),
    "two signers": lambda: rebuilt(token(), two_signers),
    "other content": lambda: OTHER_CONTENT,
    "trailing": lambda: token() + b"\0",
    "deep": lambda: b"\x30\x84\x00\x00\x40\x00" + b"\x30\x80" * 8192,
}  # fmt: skip


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_is_no_stamp_is_one_sentence(case: str) -> None:
    with pytest.raises(InputError, match="time stamp") as caught:
        read_token(UNREADABLE[case](), DATA)
    assert len(str(caught.value)) < 300


TOKEN = token()


@settings(max_examples=120)
@given(st.integers(0, len(TOKEN) - 1), st.integers(0, 255), st.binary(max_size=2))
def test_no_changed_token_holds_or_raises_anything_else(at: int, value: int, more: bytes) -> None:
    data = bytearray(TOKEN)
    data[at] = value
    data[at:at] = more
    try:
        found = read_token(bytes(data), DATA)
    except InputError:
        return
    first = read_token(TOKEN, DATA)
    if trusted_time_stamp(found, pem(TSA_ROOT)):
        # only what is not signed can have changed: it says the same
        assert (found.time, found.authority, found.serial_number) == (
            first.time,
            first.authority,
            first.serial_number,
        )


@pytest.fixture(scope="module")
def stamped() -> tuple[bytes, bytes]:
    """A JPEG that c2pa signed and stamped, and its COSE_Sign1."""
    with tsa.serving(TSA, [TSA_ROOT.certificate]) as url:
        file, store = sign_jpeg(LEAF, (MIDDLE,), url, pem(ROOT, TSA_ROOT))
    (boxes,) = jumbf.manifests(store).values()
    return file, boxes["c2pa.signature"]


def edited(cose_bytes: bytes, change: Callable[[dict[Any, Any]], None]) -> bytes:
    protected, unprotected, payload, signature = cbor2.loads(cose_bytes).value
    header = dict(unprotected)
    change(header)
    return cbor2.dumps(cbor2.CBORTag(18, [protected, header, payload, signature]))


def test_the_signer_is_held_to_its_own_anchors(stamped: tuple[bytes, bytes]) -> None:
    """c2pa calls a claim signer trusted whose root was given for time stamping alone."""
    file, signature = stamped
    lists = [{"trust_anchors": pem(ROOT), "trust_uri": "x", "trust_kind": "tsa"}]
    settings_ = {"version": 1, "trust": {"anchors": lists}, "verify": {"ocsp_fetch": False}}
    with (
        c2pa.Context.from_dict(settings_) as context,
        c2pa.Reader("image/jpeg", io.BytesIO(file), context=context) as reader,
    ):
        assert json.loads(reader.json())["validation_state"] == "Trusted"  # the trap
    chain = cose.signer_chain(signature)
    assert [item.subject for item in certificates(chain)] == [
        item.certificate.subject for item in (LEAF, MIDDLE)
    ]
    assert chain_ends_in(chain, pem(ROOT), NOW, EMAIL)
    assert not chain_ends_in(chain, pem(TSA_ROOT), NOW, EMAIL)
    assert not chain_ends_in(chain, pem(ROOT), NOW, STAMPING)


def test_a_stamp_of_another_claim_does_not_hold(stamped: tuple[bytes, bytes]) -> None:
    _, signature = stamped
    with tsa.serving(TSA, [TSA_ROOT.certificate]) as url:
        _, store = sign_jpeg(LEAF, (MIDDLE,), url, pem(ROOT, TSA_ROOT))
    (boxes,) = jumbf.manifests(store).values()
    other = cbor2.loads(boxes["c2pa.signature"]).value[1]["sigTst2"]
    found = time_stamp(edited(signature, lambda header: header.update(sigTst2=other)))
    assert found is not None
    assert (found.imprint_holds, found.signature_holds) == (False, True)


def test_no_stamp_is_none_and_two_are_refused(stamped: tuple[bytes, bytes]) -> None:
    _, signature = stamped
    assert time_stamp(edited(signature, lambda header: header.pop("sigTst2"))) is None

    def twice(header: dict[Any, Any]) -> None:
        header["sigTst2"] = {"tstTokens": list(header["sigTst2"]["tstTokens"]) * 2}

    with pytest.raises(InputError, match="holds 2 time stamps: expected one"):
        time_stamp(edited(signature, twice))


@pytest.mark.parametrize(
    "value", [[], {}, {"tstTokens": 1}, {"tstTokens": [{"val": "x"}]}, {"tstTokens": [b"x"]}]
)
def test_what_is_no_list_of_stamps(stamped: tuple[bytes, bytes], value: object) -> None:
    with pytest.raises(InputError, match="tstTokens"):
        time_stamp(edited(stamped[1], lambda header: header.update(sigTst2=value)))


def test_a_version_1_stamp_is_over_the_claim(stamped: tuple[bytes, bytes]) -> None:
    _, signature = stamped
    protected = cose.parse(signature).protected
    over = cbor2.dumps(["CounterSignature", protected, b"", b"the claim"])

    def old(header: dict[Any, Any]) -> None:
        header.pop("sigTst2")
        header["sigTst"] = {"tstTokens": [{"val": response(data=over)}]}

    changed = edited(signature, old)
    for claim, holds in ((b"the claim", True), (b"another", False), (None, None)):
        found = time_stamp(changed, claim)
        assert found is not None
        assert (found.version, found.imprint_holds) == (1, holds)
        assert bool(trusted_time_stamp(found, pem(TSA_ROOT))) is bool(holds)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "not CBOR"),
        (b"\x01", "array of four"),
        (cbor2.dumps([1, 2, 3]), "array of four"),
        (cbor2.dumps([b"", {}, None, 5]), "as bytes"),
        (cbor2.dumps([b"\x01", {}, None, b""]), "not a map"),
        (cbor2.dumps([b"", {}, None, b""]) + b"\0", "follow the CBOR item"),
        (b"\x81" * 5000, "nesting depth"),
        (b"\x5b" + b"\x7f" * 8, "not CBOR"),
        (b"\x84\x40\xa2\x01\x01\x01\x02\xf6\x40", "Duplicate"),
        (b"\x00" * 2_000_000, "at most"),
        (cbor2.dumps([b"", {33: [b"\1", 2]}, None, b""]), "list of byte strings"),
        (cbor2.dumps([b"", {33: b"no certificate"}, None, b""]), "cannot be read"),
        (cbor2.dumps([b"", {33: [b"\1"] * 17}, None, b""]), "cannot be read"),
        (cbor2.dumps([b"", {}, None, b""]), "holds no certificates"),
    ],
)
def test_what_is_no_claim_signature(data: bytes, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        cose.signer_chain(data)


def test_tags_are_not_computed() -> None:
    """A regular expression, a cyclic reference, a fraction: hostile input stays plain data."""
    for coded in (b"\xd8\x23\x61(", b"\xd8\x1c\x81\xd8\x1d\x00", b"\xd8\x1e\x82\x01\x00"):
        cose.decode(coded)
    assert cose.decode(b"\xd8\x23\x61(") == "("


@settings(max_examples=80)
@given(st.integers(0, 13_000), st.integers(0, 255), st.booleans())
def test_no_changed_signature_raises_anything_else(
    stamped: tuple[bytes, bytes], at: int, value: int, cut: bool
) -> None:
    data = bytearray(stamped[1])
    position = at % 3000  # what follows is padding
    data[position] = value
    try:
        found = time_stamp(bytes(data[:position] if cut else data))
        cose.signer_chain(bytes(data))
    except InputError:
        return
    assert found is None or found.version in (1, 2)


def test_public_test_files_say_what_is_expected_of_them(shared: Path) -> None:
    """c2pa's own result for each file is the truth; all stamps are by real authorities."""
    seen = {}
    for path in sorted((shared / "data/c2pa/public-testfiles").rglob("*.jp*g")):
        store = jpeg_store(path.read_bytes())
        if store is None:
            continue
        boxes = list(jumbf.manifests(store).values())[-1]
        found = time_stamp(boxes["c2pa.signature"], boxes.get("c2pa.claim"))
        with (
            c2pa_context() as context,
            c2pa.Reader("image/jpeg", io.BytesIO(path.read_bytes()), context=context) as reader,
        ):
            results = json.loads(reader.json())["validation_results"]["activeManifest"]
        codes = {item["code"] for part in results.values() for item in part}
        seen[path.stem] = found
        assert (found is not None and bool(found.imprint_holds)) == ("timeStamp.validated" in codes)
        assert (found is not None and found.imprint_holds is False) == (
            "timeStamp.mismatch" in codes
        )
        if found is not None:
            assert found.signature_holds
            authorities = "".join(found.chain_pem.partition("END CERTIFICATE-----\n")[2:])
            holds = path.stem != "adobe-20220124-E-sig-CA"
            assert bool(trusted_time_stamp(found, authorities)) is holds, path
    assert len(seen) >= 20
    mismatch = seen["adobe-20220124-E-sig-CA"]
    assert mismatch is not None
    assert mismatch.imprint_holds is False
    assert seen["nikon-20221019-building"] is None
