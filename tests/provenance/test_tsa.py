"""The local time-stamping authority, against OpenSSL, rfc3161-client and c2pa."""

import datetime as dt
import hashlib
import http.client
import io
import json
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path

import pytest
from asn1crypto import algos, tsp
from authorities import EMAIL, NOW, STAMPING, authority, pem
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import given, settings
from hypothesis import strategies as st
from manifest_stores import c2pa_context, sign_jpeg
from rfc3161_client import TimestampRequestBuilder, VerifierBuilder, decode_timestamp_response

from assaymark.provenance import jumbf, loopback, timestamps, tsa
from assaymark.provenance.keys import Authority
from assaymark.reports.errors import InputError

ROOT = authority("TSA root", ca=True)
TSA = authority("TSA", ROOT, purposes=STAMPING)
KINDS = ("es256", "es384", "es512", "rsa")


def openssl(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["openssl", *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )


def request(**fields: object) -> tsp.TimeStampReq:
    digest = fields.pop("digest", b"\1" * 32)
    algorithm = fields.pop("algorithm", "sha256")
    imprint = {"hash_algorithm": {"algorithm": algorithm}, "hashed_message": digest}
    return tsp.TimeStampReq({"version": "v1", "message_imprint": imprint, **fields})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])
def test_openssl_accepts_our_stamps(tmp_path: Path, kind: str, digest: str) -> None:
    made = authority("TSA", ROOT, kind=kind, purposes=STAMPING)
    (tmp_path / "data").write_bytes(b"what was signed")
    (tmp_path / "root.pem").write_text(pem(ROOT))
    (tmp_path / "tsa.pem").write_text(pem(made))
    for options, extra in ((["-cert"], []), ([], ["-untrusted", tmp_path / "tsa.pem"])):
        query, reply = tmp_path / "q.tsq", tmp_path / "r.tsr"
        asked = openssl(
            "ts", "-query", "-data", tmp_path / "data", f"-{digest}", "-out", query, *options
        )
        assert asked.returncode == 0, asked.stderr
        reply.write_bytes(tsa.stamp(query.read_bytes(), made, chain=[ROOT.certificate]))
        verify = ("ts", "-verify", "-in", reply, "-CAfile", tmp_path / "root.pem", *extra)
        good = openssl(*verify, "-queryfile", query)
        assert good.returncode == 0, good.stderr
        (tmp_path / "other").write_bytes(b"something else")
        assert openssl(*verify, "-data", tmp_path / "other").returncode != 0
        has_certificates = b"Example Authority" in reply.read_bytes().replace(b"TSA root", b"")
        assert has_certificates or not options


def test_an_ed25519_stamp_is_made_as_its_standard_says() -> None:
    """OpenSSL 3.0 checks no Ed25519 in CMS, so the signature is checked by hand (RFC 8419)."""
    made = authority("TSA", ROOT, kind="ed25519", purposes=STAMPING)
    response = tsp.TimeStampResp.load(tsa.stamp(request(cert_req=True).dump(), made))
    signer = response["time_stamp_token"]["content"]["signer_infos"][0]
    assert signer["signature_algorithm"]["algorithm"].native == "ed25519"
    assert signer["digest_algorithm"]["algorithm"].native == "sha512"
    key = made.certificate.public_key()
    assert isinstance(key, ed25519.Ed25519PublicKey)
    key.verify(signer["signature"].native, b"\x31" + signer["signed_attrs"].dump()[1:])


@pytest.mark.parametrize("kind", ["es256", "rsa"])
@pytest.mark.parametrize("nonce", [True, False])
def test_rfc3161_client_accepts_our_stamps(kind: str, nonce: bool) -> None:
    made = authority("TSA", ROOT, kind=kind, purposes=STAMPING)
    asked = TimestampRequestBuilder().data(b"data").nonce(nonce=nonce).build()
    response = decode_timestamp_response(
        tsa.stamp(asked.as_bytes(), made, chain=[ROOT.certificate])
    )
    builder = VerifierBuilder().add_root_certificate(ROOT.certificate)
    builder = builder.policy_id(x509.ObjectIdentifier(tsa.POLICY))
    if asked.nonce is not None:
        builder = builder.nonce(asked.nonce)
    assert builder.build().verify_message(response, b"data")
    assert response.tst_info.nonce == asked.nonce


@settings(max_examples=30)
@given(
    nonce=st.none() | st.integers(-(2**200), 2**200),
    certificates=st.booleans(),
    algorithm=st.sampled_from(["sha256", "sha384", "sha512"]),
    data=st.binary(max_size=40),
    late=st.integers(0, 20 * 86400),
)
def test_a_stamp_says_what_was_asked(
    nonce: int | None, certificates: bool, algorithm: str, data: bytes, late: int
) -> None:
    fields = {} if nonce is None else {"nonce": nonce}
    digest = hashlib.new(algorithm, data).digest()
    asked = request(algorithm=algorithm, digest=digest, cert_req=certificates, **fields).dump()
    moment = NOW + dt.timedelta(seconds=late, microseconds=999_999)
    reply = tsa.stamp(asked, TSA, now=moment, chain=[ROOT.certificate])
    if not certificates:
        signed = tsp.TimeStampResp.load(reply)["time_stamp_token"]["content"]
        assert not signed["certificates"].native
        with pytest.raises(InputError, match="0 of its 0 certificates"):
            timestamps.read_token(reply, data)
        return
    found = timestamps.read_token(reply, data)
    assert (found.imprint_holds, found.signature_holds) == (True, True)
    assert found.nonce == nonce
    assert found.policy == tsa.POLICY
    assert found.imprint_algorithm == algorithm
    assert found.accuracy == dt.timedelta(seconds=1)
    assert dt.timedelta(0) <= moment - found.time < dt.timedelta(seconds=1)


def test_serial_numbers_are_unique_and_positive() -> None:
    asked = request(cert_req=True).dump()
    found = {timestamps.read_token(tsa.stamp(asked, TSA), None).serial_number for _ in range(20)}
    assert len(found) == 20
    assert all(0 < number < 2**160 for number in found)


def refusal(reply: bytes) -> str:
    """PKIFailureInfo of a refusal; asn1crypto's own response type insists on a token."""
    status = tsp.PKIStatusInfo.load(tsp.TimeStampResp.load(reply).contents)
    assert status["status"].native == "rejection"
    assert status["status_string"].native
    (name,) = status["fail_info"].native
    return str(name)


BAD = {
    "nothing": (b"", "bad_data_format"),
    "no DER": (b"hello", "bad_data_format"),
    "truncated": (request().dump()[:-1], "bad_data_format"),
    "trailing": (request().dump() + b"\0", "bad_data_format"),
    "too long": (b"\x30" * 70_000, "bad_data_format"),
    "SHA-1": (request(algorithm="sha1", digest=b"\1" * 20).dump(), "bad_alg"),
    "MD5": (request(algorithm="md5", digest=b"\1" * 16).dump(), "bad_alg"),
    "short digest": (request(digest=b"\1" * 31).dump(), "bad_data_format"),
    "version 2": (request(version="v2").dump(), "bad_request"),
    "a long nonce": (request(nonce=1 << 600).dump(), "bad_request"),
    "other policy": (request(req_policy="1.2.3.4").dump(), "unaccepted_policy"),
    "extension": (
        request(extensions=[{"extn_id": "1.2.3.4", "critical": True, "extn_value": b"x"}]).dump(),
        "unaccepted_extensions",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_request_is_refused_with_its_failure(tmp_path: Path, case: str) -> None:
    asked, failure = BAD[case]
    reply = tsa.stamp(asked, TSA)
    assert refusal(reply) == failure
    (tmp_path / "r").write_bytes(reply)
    shown = openssl("ts", "-reply", "-in", tmp_path / "r", "-text")
    assert "Status: Rejected." in shown.stdout, shown.stderr
    with pytest.raises(InputError, match="time stamp cannot be read"):
        timestamps.read_token(reply, None)


def test_an_expired_authority_stamps_nothing() -> None:
    late = NOW + dt.timedelta(days=400)
    assert refusal(tsa.stamp(request().dump(), TSA, now=late)) == "time_not_available"


@settings(max_examples=50)
@given(st.integers(0, 66), st.integers(0, 255), st.binary(max_size=3))
def test_no_request_raises(at: int, value: int, more: bytes) -> None:
    asked = bytearray(request(nonce=2**63, cert_req=True, req_policy=tsa.POLICY).dump())
    asked[at % len(asked)] = value
    asked[at % len(asked) : at % len(asked)] = more
    reply = tsp.TimeStampResp.load(tsa.stamp(bytes(asked), TSA))
    assert tsp.PKIStatusInfo.load(reply.contents)["status"].native in ("granted", "rejection")


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (lambda: authority("a", ROOT), "no time-stamping authority"),
        (lambda: authority("b", ROOT, purposes=STAMPING, critical=False), "marked critical"),
        (lambda: authority("c", ROOT, purposes=(*STAMPING, *EMAIL)), "only extended key usage"),
        (lambda: authority("d", ROOT, purposes=STAMPING, ca=True), "may not sign"),
        (
            lambda: authority("e", ROOT, purposes=STAMPING, end=NOW - dt.timedelta(hours=1)),
            "make a new one",
        ),
        (
            lambda: Authority(certificate=TSA.certificate, key=ROOT.key),
            "expected the authority's own key",
        ),
    ],
    ids=["no purpose", "not critical", "more purposes", "CA", "expired", "other key"],
)
def test_who_may_not_stamp(made: Callable[[], Authority], expected: str) -> None:
    with pytest.raises(InputError, match=expected), tsa.serving(made()):
        pytest.fail("served")


def post(url: str, body: bytes, **headers: str) -> tuple[int, bytes]:
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    kind = {"Content-Type": "application/timestamp-query"}
    connection.request("POST", "/", body, kind | headers)
    response = connection.getresponse()
    try:
        return response.status, response.read()
    finally:
        connection.close()


def test_the_server_answers_and_keeps_its_limits() -> None:
    lines: list[str] = []
    with tsa.serving(TSA, [ROOT.certificate], log=lines.append) as url:
        status, body = post(url, request(cert_req=True).dump())
        assert status == 200
        assert timestamps.read_token(body, None).signature_holds
        assert post(url, b"nonsense")[0] == 200  # refused inside the protocol
        assert post(url, b"x", **{"Content-Type": "text/plain"})[0] == 415
        assert post(url, b"", **{"Content-Length": "99999999"})[0] == 413
        assert post(url, b"", **{"Content-Length": "-1"})[0] == 411
        many = [threading.Thread(target=post, args=(url, request().dump())) for _ in range(8)]
        for thread in many:
            thread.start()
        for thread in many:
            thread.join()
        port = urllib.parse.urlsplit(url).port or 0
        with pytest.raises(InputError, match="name another port"):
            loopback.serve_forever(tsa.service(TSA), port=port)
    assert len(lines) == 13
    with pytest.raises(OSError, match="refused"):
        post(url, b"")


def test_serve_forever_tells_its_url() -> None:
    told: list[str] = []

    def ready(url: str) -> None:
        told.append(url)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tsa.serve_forever(TSA, ready=ready)
    assert told[0].startswith("http://127.0.0.1:")


def c2pa_says(file: bytes, trusted: str) -> tuple[str, set[str]]:
    import c2pa

    with (
        c2pa_context(trusted) as context,
        c2pa.Reader("image/jpeg", io.BytesIO(file), context=context) as reader,
    ):
        found = json.loads(reader.json())
    active = found["validation_results"]["activeManifest"]
    return found["validation_state"], {item["code"] for part in active.values() for item in part}


@pytest.mark.parametrize("kind", [*KINDS, "ed25519"])
def test_c2pa_takes_and_trusts_our_stamp(kind: str) -> None:
    root = authority("Signing root", ca=True)
    leaf = authority("Signer", root, purposes=EMAIL)
    made = authority("TSA", ROOT, kind=kind, purposes=STAMPING)
    with tsa.serving(made, [ROOT.certificate]) as url:
        file, store = sign_jpeg(leaf, (root,), url, pem(root, ROOT))
    state, codes = c2pa_says(file, pem(root, ROOT))
    assert state == "Trusted"
    assert "timeStamp.trusted" not in c2pa_says(file, pem(root))[1]
    assert {"timeStamp.validated", "timeStamp.trusted"} <= codes
    (boxes,) = jumbf.manifests(store).values()
    found = timestamps.time_stamp(boxes["c2pa.signature"])
    assert found is not None
    assert (found.version, found.imprint_holds, found.signature_holds) == (2, True, True)
    assert timestamps.trusted_time_stamp(found, pem(ROOT))
    assert not timestamps.trusted_time_stamp(found, pem(root))


def test_a_stamped_file_outlives_its_signer() -> None:
    """The signer's certificate ends three seconds after it signed."""
    root = authority("Signing root", ca=True)
    end = dt.datetime.now(dt.UTC).replace(microsecond=0) + dt.timedelta(seconds=3)
    leaf = authority("Signer", root, purposes=EMAIL, end=end)
    trusted = pem(root, ROOT)
    with tsa.serving(TSA, [ROOT.certificate]) as url:
        stamped, _ = sign_jpeg(leaf, (root,), url, trusted)
        plain, _ = sign_jpeg(leaf, (root,), None, trusted)
    time.sleep(max(0.0, (end - dt.datetime.now(dt.UTC)).total_seconds()) + 1.1)
    assert c2pa_says(stamped, trusted)[0] == "Trusted"
    state, codes = c2pa_says(plain, trusted)
    assert state != "Trusted"
    assert "signingCredential.expired" in codes


def test_the_signing_certificate_attribute_is_by_sha256() -> None:
    """ESSCertIDv2 with its default algorithm left out (RFC 5816, section 2.2.1)."""
    response = tsp.TimeStampResp.load(tsa.stamp(request().dump(), TSA))
    signer = response["time_stamp_token"]["content"]["signer_infos"][0]
    found = {item["type"].native: item["values"][0] for item in signer["signed_attrs"]}
    entry = found["signing_certificate_v2"]["certs"][0]
    assert entry["cert_hash"].native == TSA.certificate.fingerprint(hashes.SHA256())
    assert algos.DigestAlgorithmId("sha256").dump() not in entry.dump()
    assert set(found) == {
        "content_type",
        "signing_time",
        "message_digest",
        "signing_certificate_v2",
    }
