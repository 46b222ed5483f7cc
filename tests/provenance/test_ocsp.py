"""Revocation: our responder against OpenSSL and c2pa, our client against OpenSSL's replies."""

import base64
import datetime as dt
import http.client
import io
import json
import socket
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import c2pa
import pytest
from authorities import EMAIL, NOW, OCSP_SIGNING, STAMPING, authority, key_pem, pem
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.x509 import ocsp as x509_ocsp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from manifest_stores import c2pa_context, sign_jpeg

from assaymark.provenance import ocsp_responder
from assaymark.provenance.keys import Authority
from assaymark.provenance.loopback import Service, serving
from assaymark.provenance.ocsp import Responders, read_reply, request_for, revocation
from assaymark.provenance.revocation import Revocation, Standing, Status, from_crl
from assaymark.reports.errors import InputError

HOUR = dt.timedelta(hours=1)
ROOT = authority("root", ca=True)
CA = authority("CA", ROOT, ca=True, path_length=0)
DELEGATE = authority("responder", CA, purposes=OCSP_SIGNING, critical=False)
LEAF = authority("leaf", CA, purposes=EMAIL)
GOOD = Standing(status=Status.GOOD)
REVOKED = Standing(status=Status.REVOKED, when=NOW - HOUR, reason=x509.ReasonFlags.key_compromise)
UNKNOWN = Standing(status=Status.UNKNOWN)
STANDINGS = {"good": GOOD, "revoked": REVOKED, "unknown": UNKNOWN}


def reply(
    standing: Standing = GOOD,
    responder: Authority = DELEGATE,
    *,
    nonce: bytes | None = None,
    leaf: Authority = LEAF,
    issuer: Authority = CA,
    **options: Any,
) -> bytes:
    asked = request_for(leaf.certificate, issuer.certificate, nonce)
    return ocsp_responder.respond(
        asked, issuer.certificate, responder, lambda serial: standing, **options
    )


def judged(der: bytes, leaf: Authority = LEAF, issuer: Authority = CA, **options: Any) -> Standing:
    return read_reply(der, leaf.certificate, issuer.certificate, **options)


def openssl(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = ["openssl", *map(str, arguments)]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in {
        "root.pem": pem(ROOT),
        "ca.pem": pem(CA),
        "ca.key": key_pem(CA),
        "leaf.pem": pem(LEAF),
        "delegate.pem": pem(DELEGATE),
        "delegate.key": key_pem(DELEGATE),
    }.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize("kind", ["es256", "es384", "rsa2", "ed25519"])
@pytest.mark.parametrize("direct", [False, True], ids=["delegated", "by the CA"])
@pytest.mark.parametrize("status", STANDINGS)
def test_openssl_believes_our_replies(folder: Path, kind: str, direct: bool, status: str) -> None:
    issuer = authority("CA", ROOT, ca=True, kind=kind)
    leaf = authority("leaf", issuer, purposes=EMAIL)
    made = issuer if direct else authority("r", issuer, kind=kind, purposes=OCSP_SIGNING)
    (folder / "ca.pem").write_text(pem(issuer))
    (folder / "leaf.pem").write_text(pem(leaf))
    digest = "-sha1" if kind == "rsa2" else "-sha256"
    asked = openssl(
        folder, "ocsp", digest, "-issuer", "ca.pem", "-cert", "leaf.pem", "-reqout", "q"
    )
    assert asked.returncode == 0, asked.stderr
    (folder / "r").write_bytes(
        ocsp_responder.respond(
            (folder / "q").read_bytes(), issuer.certificate, made, lambda _: STANDINGS[status]
        )
    )
    found = openssl(
        folder, "ocsp", digest, "-issuer", "ca.pem", "-cert", "leaf.pem", "-reqin", "q",
        "-respin", "r", "-CAfile", "root.pem", "-verify_other", "ca.pem", "-no_nonce",
    )  # fmt: skip
    assert "Response verify OK" in found.stderr, found.stderr
    assert f"leaf.pem: {status}" in found.stdout
    assert ("Reason: keyCompromise" in found.stdout) == (status == "revoked")
    assert "WARNING" not in found.stderr  # the nonce came back


INDEX = {
    "good": "V\t{end}\t\t{serial}\tunknown\t/CN=leaf\n",
    "revoked": "R\t{end}\t{when},keyCompromise\t{serial}\tunknown\t/CN=leaf\n",
    "unknown": "",
}


@pytest.mark.parametrize("direct", [False, True], ids=["delegated", "by the CA"])
@pytest.mark.parametrize("nonce", [True, False], ids=["nonce", "no nonce"])
@pytest.mark.parametrize("status", STANDINGS)
def test_we_believe_the_replies_of_openssl(
    folder: Path, direct: bool, nonce: bool, status: str
) -> None:
    sent = b"0123456789abcdef" if nonce else None
    (folder / "q").write_bytes(request_for(LEAF.certificate, CA.certificate, sent))
    entry = INDEX[status].format(
        end=f"{NOW + HOUR:%y%m%d%H%M%SZ}",
        when=f"{NOW - HOUR:%y%m%d%H%M%SZ}",
        serial=f"{LEAF.certificate.serial_number:X}".zfill(40),
    )
    (folder / "index.txt").write_text(entry)
    signer = "ca" if direct else "delegate"
    made = openssl(
        folder, "ocsp", "-index", "index.txt", "-CA", "ca.pem", "-rsigner", f"{signer}.pem",
        "-rkey", f"{signer}.key", "-reqin", "q", "-respout", "r", "-nmin", "5",
        *(["-resp_no_certs"] if direct else []),
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    der = (folder / "r").read_bytes()
    found = judged(der, nonce=sent)
    assert found.status.value == status, found.explanation
    if status == "revoked":
        assert found.when == NOW - HOUR
        assert found.reason is x509.ReasonFlags.key_compromise
    assert judged(der, leaf=authority("other", CA)).status is Status.UNKNOWN
    if nonce:
        assert "nonce is not ours" in judged(der, nonce=b"another nonce 16").explanation


def test_a_reply_signed_with_pss_is_believed(folder: Path) -> None:
    made = authority("CA", ROOT, ca=True, kind="rsa3")
    leaf = authority("leaf", made, purposes=EMAIL)
    (folder / "ca.pem").write_text(pem(made))
    (folder / "ca.key").write_text(key_pem(made))
    (folder / "q").write_bytes(request_for(leaf.certificate, made.certificate))
    serial = f"{leaf.certificate.serial_number:X}".zfill(40)
    (folder / "index.txt").write_text(INDEX["good"].format(end="300101000000Z", serial=serial))
    told = openssl(
        folder, "ocsp", "-index", "index.txt", "-CA", "ca.pem", "-rsigner", "ca.pem", "-rkey",
        "ca.key", "-reqin", "q", "-respout", "r", "-rsigopt", "rsa_padding_mode:pss",
        "-rmd", "sha256",
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert judged((folder / "r").read_bytes(), leaf, made).status is Status.GOOD


def broken_signature(der: bytes) -> bytes:
    signature = x509_ocsp.load_der_ocsp_response(der).signature
    return der.replace(signature, signature[:-1] + bytes([signature[-1] ^ 1]))


NOT_BELIEVED: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "cannot be read"),
    "text": (lambda: b"<html>hello</html>", "cannot be read"),
    "too long": (lambda: b"\x30" * 70_000, "at most 65536"),
    "try later": (
        lambda: x509_ocsp.OCSPResponseBuilder.build_unsuccessful(
            x509_ocsp.OCSPResponseStatus.TRY_LATER
        ).public_bytes(serialization.Encoding.DER),
        "answered try_later",
    ),
    "no purpose": (lambda: reply(responder=authority("r", CA)), "no OCSPSigning"),
    "another purpose": (lambda: reply(responder=authority("r", CA, purposes=STAMPING)), "no OCSPSigning"),
    "any purpose": (
        lambda: reply(
            responder=authority("r", CA, purposes=[x509.ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])  # type: ignore[attr-defined]
        ),
        "no OCSPSigning",
    ),
    "the leaf itself": (lambda: reply(responder=LEAF), "no OCSPSigning"),
    "another CA's responder": (
        lambda: reply(responder=authority("r", ROOT, purposes=OCSP_SIGNING)),
        "the CA did not issue",
    ),
    "an impostor's responder": (
        lambda: reply(responder=authority("r", authority("CA", ca=True), purposes=OCSP_SIGNING)),
        "the CA did not issue",
    ),
    "an expired responder": (
        lambda: reply(responder=authority("r", CA, purposes=OCSP_SIGNING, end=NOW - HOUR)),
        "is not valid now",
    ),
    "another signature": (
        lambda: broken_signature(reply()),
        "signature of the reply does not hold",
    ),
    "past": (lambda: reply(now=NOW - 48 * HOUR), "not now"),
    "future": (lambda: reply(now=NOW + 2 * HOUR), "not now"),
    "another serial": (lambda: reply(leaf=DELEGATE), "about another certificate"),
    "another nonce": (lambda: reply(nonce=b"\2" * 16), "nonce is not ours"),
}  # fmt: skip


@pytest.mark.parametrize("case", NOT_BELIEVED)
def test_a_reply_that_is_not_believed_is_unknown(case: str) -> None:
    make, expected = NOT_BELIEVED[case]
    found = judged(make(), nonce=b"\1" * 16)
    assert found.status is Status.UNKNOWN
    assert expected in found.explanation


def test_the_same_key_under_another_name_is_another_issuer() -> None:
    twin = authority("CA of another name", ROOT, ca=True, key=CA.key)
    assert judged(reply(), issuer=twin).status is Status.UNKNOWN


REPLY = reply(REVOKED)


@settings(max_examples=100)
@given(st.integers(0, len(REPLY) - 1), st.integers(0, 255), st.binary(max_size=2))
def test_no_changed_reply_raises_or_says_good(at: int, value: int, more: bytes) -> None:
    data = bytearray(REPLY)
    data[at] = value
    data[at:at] = more
    assert judged(bytes(data)).status in (Status.REVOKED, Status.UNKNOWN)


REQUEST = request_for(LEAF.certificate, CA.certificate, b"\1" * 32)


@settings(max_examples=100)
@given(st.integers(0, len(REQUEST) - 1), st.integers(0, 255), st.binary(max_size=2))
def test_no_request_raises(at: int, value: int, more: bytes) -> None:
    data = bytearray(REQUEST)
    data[at] = value
    data[at:at] = more
    der = ocsp_responder.respond(bytes(data), CA.certificate, DELEGATE, lambda serial: GOOD)
    x509_ocsp.load_der_ocsp_response(der)


@pytest.mark.parametrize(
    ("request_der", "status"),
    [
        (b"", "MALFORMED_REQUEST"),
        (b"hello", "MALFORMED_REQUEST"),
        (request_for(LEAF.certificate, CA.certificate, b"\1" * 33), "MALFORMED_REQUEST"),
        (request_for(CA.certificate, ROOT.certificate), "UNAUTHORIZED"),
    ],
    ids=["empty", "text", "long nonce", "another CA"],
)
def test_what_a_responder_does_not_answer(request_der: bytes, status: str) -> None:
    der = ocsp_responder.respond(request_der, CA.certificate, DELEGATE, lambda serial: GOOD)
    assert x509_ocsp.load_der_ocsp_response(der).response_status.name == status


def test_a_list_that_cannot_be_read_is_an_internal_error() -> None:
    def status_of(serial: int) -> Standing:
        raise InputError("the list is broken")

    der = ocsp_responder.respond(REQUEST, CA.certificate, DELEGATE, status_of)
    assert x509_ocsp.load_der_ocsp_response(der).response_status.name == "INTERNAL_ERROR"
    assert judged(der).status is Status.UNKNOWN


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (authority("r", CA), "expected the extended key usage OCSPSigning"),
        (authority("r", ROOT, purposes=OCSP_SIGNING), "was not issued by"),
        (Authority(certificate=DELEGATE.certificate, key=LEAF.key), "responder's own key"),
    ],
    ids=["no purpose", "another CA", "another key"],
)
def test_who_does_not_serve(made: Authority, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        ocsp_responder.service(CA.certificate, made, lambda serial: GOOD)


class Book:
    """Whom a responder is asked about, and what it says."""

    def __init__(self, standing: Standing = GOOD) -> None:
        self.standing, self.asked = standing, []  # type: tuple[Standing, list[int]]

    def __call__(self, serial: int) -> Standing:
        self.asked.append(serial)
        return self.standing


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.mark.parametrize("direct", [False, True], ids=["delegated", "by the CA"])
@pytest.mark.parametrize("status", STANDINGS)
def test_a_whole_chain_is_asked_about_once(direct: bool, status: str) -> None:
    leaf_port, ca_port = free_port(), free_port()
    ca = authority("CA", ROOT, ca=True, responder=f"http://127.0.0.1:{ca_port}/")
    leaf = authority("leaf", ca, purposes=EMAIL, responder=f"http://127.0.0.1:{leaf_port}/x/y")
    made = ca if direct else authority("r", ca, purposes=OCSP_SIGNING)
    book, root_book = Book(STANDINGS[status]), Book()
    run = Responders(private_hosts=["127.0.0.1"])
    with (
        ocsp_responder.serving(ca.certificate, made, book, port=leaf_port),
        ocsp_responder.serving(ROOT.certificate, ROOT, root_book, port=ca_port),
    ):
        found = [revocation(pem(leaf, ca), run, issuers_pem=pem(ROOT)) for _ in range(3)]
        assert found[0] == found[1] == found[2]
    assert book.asked == [leaf.certificate.serial_number]
    assert root_book.asked == [ca.certificate.serial_number]
    assert [item.status.value for item in found[0].certificates] == [status, "good"]
    assert found[0].status.value == status
    assert found[0].leaf.source == f"http://127.0.0.1:{leaf_port}/x/y"
    if status == "revoked":
        assert (found[0].leaf.when, found[0].leaf.reason) == (REVOKED.when, REVOKED.reason)


def test_threads_share_one_question() -> None:
    port, book = free_port(), Book()
    leaf = authority("leaf", CA, responder=f"http://127.0.0.1:{port}/")
    run, found = Responders(private_hosts=[f"127.0.0.1:{port}"]), []
    with ocsp_responder.serving(CA.certificate, DELEGATE, book, port=port):
        threads = [
            threading.Thread(target=lambda: found.append(revocation(pem(leaf, CA), run)))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [item.leaf.status for item in found] == [Status.GOOD] * 8
    assert len(book.asked) == 1


def test_nobody_is_asked_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        pytest.fail("the network was used")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    leaf = authority("leaf", CA, responder="http://ocsp.example.org/")
    found = revocation(pem(leaf, CA), issuers_pem=pem(ROOT))
    assert [item.status for item in found.certificates] == [Status.NOT_ASKED, Status.NO_RESPONDER]
    assert found.status is Status.NO_RESPONDER
    alone = revocation(pem(leaf))
    assert alone.status is Status.UNKNOWN
    assert "issuer's certificate is not at hand" in alone.leaf.explanation
    assert len(revocation(pem(leaf, CA, ROOT)).certificates) == 2


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/", "http://localhost/", "http://0.0.0.0/", "http://[::1]/",
        "http://[::ffff:127.0.0.1]/", "http://2130706433/", "http://127.1/", "http://10.0.0.1/",
        "http://169.254.169.254/latest/meta-data", "http://192.168.1.1/", "http://[fe80::1]/",
        "http://[fd00::1]/", "http://[64:ff9b::7f00:1]/", "http://[2002:7f00:1::]/",
        "http://224.0.0.1/", "http://255.255.255.255/", "http://100.64.0.1/",
        "https://ocsp.example.org/", "ftp://ocsp.example.org/", "file:///etc/passwd", "ldap://x/",
        "http://user@127.0.0.1/", "http://ocsp.example.org:22/", "http:///", "http://", "x",
        "http://[::1/", "http://a:b/", "http://a\r\nX: y/", "http://a b/", "http://a/" + "x" * 3000,
    ],
)  # fmt: skip
def test_what_is_never_asked(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses in an untrusted certificate must not lead into the network it is checked in."""
    reached = []
    monkeypatch.setattr(socket.socket, "connect", lambda *a: reached.append(a))
    leaf = authority("leaf", CA, responder=url)
    found = revocation(pem(leaf, CA), Responders(timeout_s=5)).leaf
    assert found.status is Status.UNREACHABLE
    assert reached == []


def test_a_name_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second answer of a hostile name server is never used (DNS rebinding)."""
    answers = iter(["93.184.216.34", "127.0.0.1"])
    connected: list[Any] = []

    def look_up(host: str, port: int, *rest: object, **options: object) -> list[Any]:
        address = next(answers) if host == "ocsp.example.org" else host
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    def connect(self: socket.socket, address: Any) -> None:
        connected.append(address)
        raise OSError("no network here")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(socket.socket, "connect", connect)
    leaf = authority("leaf", CA, responder="http://ocsp.example.org/")
    found = revocation(pem(leaf, CA), Responders()).leaf
    assert found.status is Status.UNREACHABLE
    assert connected == [("93.184.216.34", 80)]


@contextmanager
def raw_server(behave: Callable[[socket.socket], None]) -> Iterator[tuple[str, list[int]]]:
    """A server that says whatever it likes; the list counts its visitors."""
    visitors: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                visitors.append(1)
                threading.Thread(target=talk, args=(connection,), daemon=True).start()

        def talk(connection: socket.socket) -> None:
            with connection:
                try:
                    connection.recv(65536)
                    behave(connection)
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(65536):  # else what is unread resets the connection
                        pass
                except OSError:
                    return

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/", visitors


def drip(head: bytes, drop: bytes) -> Callable[[socket.socket], None]:
    def behave(connection: socket.socket) -> None:
        connection.sendall(head)
        for _ in range(200):
            time.sleep(0.05)
            connection.sendall(drop)

    return behave


def say(data: bytes) -> Callable[[socket.socket], None]:
    return lambda connection: connection.sendall(data)


OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/ocsp-response\r\n"
BEHAVIOURS: dict[str, tuple[Callable[[socket.socket], None], str, bool]] = {
    "silence": (drip(b"", b""), "no reply within", True),
    "slow headers": (drip(b"HTTP/1.1 200 OK\r\nX: ", b"y"), "no reply within", True),
    "slow body": (drip(OK + b"Content-Length: 60000\r\n\r\n", b"y"), "no reply within", True),
    "hangs up": (say(b""), "", True),
    "no HTTP": (say(b"220 mail.example.org ESMTP\r\n"), "", True),
    "redirect": (
        say(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"),
        "HTTP status 302, expected 200 (redirects are not followed)",
        False,
    ),
    "not found": (say(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"), "HTTP status 404", False),
    "too long": (say(OK + b"\r\n" + b"x" * 200_000), "longer than 65536 bytes", False),
    "ends early": (say(OK + b"Content-Length: 100\r\n\r\nx"), "ended 99 bytes early", False),
}


@pytest.mark.parametrize("case", BEHAVIOURS)
def test_a_responder_that_misbehaves_costs_its_time_once(case: str) -> None:
    behave, expected, dead = BEHAVIOURS[case]
    with raw_server(behave) as (url, visitors):
        run = Responders(timeout_s=0.5 if dead else 10, private_hosts=["127.0.0.1"])
        leaves = [authority("leaf", CA, responder=url) for _ in range(4)]
        found = [revocation(pem(leaf, CA), run).leaf for leaf in leaves for _ in range(2)]
    assert {item.status for item in found} == {Status.UNREACHABLE}
    assert all(expected in item.explanation for item in found), found[0].explanation
    # one that answers nonsense to one question may still answer others
    assert len(visitors) == (1 if dead else 4)


def test_garbage_from_a_responder_is_unknown() -> None:
    with raw_server(say(OK + b"Content-Length: 5\r\n\r\nhello")) as (url, _):
        leaf = authority("leaf", CA, responder=url)
        found = revocation(pem(leaf, CA), Responders(private_hosts=["127.0.0.1"])).leaf
    assert found.status is Status.UNKNOWN
    assert "cannot be read" in found.explanation


def test_a_dead_responder_costs_two_seconds_once() -> None:
    """c2pa waits 30 seconds, for each file."""
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts, and never answers
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        leaf = authority("leaf", CA, responder=url)
        run = Responders(private_hosts=["127.0.0.1"])
        start = time.perf_counter()
        for _ in range(50):
            assert revocation(pem(leaf, CA), run).leaf.status is Status.UNREACHABLE
        assert 1.9 < time.perf_counter() - start < 4


@pytest.mark.parametrize("seconds", [0, -1, 61, float("nan")])
def test_a_time_limit_is_a_limit(seconds: float) -> None:
    with pytest.raises(InputError, match="more than 0 and at most 60"):
        Responders(timeout_s=seconds)


def test_the_responder_answers_get_like_post() -> None:
    with ocsp_responder.serving(CA.certificate, DELEGATE, lambda serial: REVOKED) as url:
        parts = urllib.parse.urlsplit(url)
        for coded in (
            base64.b64encode(REQUEST).decode(),
            urllib.parse.quote(base64.b64encode(REQUEST).decode(), safe=""),
        ):
            connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=10)
            connection.request("GET", f"/{coded}")
            answer = connection.getresponse()
            assert answer.status == 200
            assert judged(answer.read()).status is Status.REVOKED
            connection.close()
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=10)
        connection.request("GET", "/!!")
        assert connection.getresponse().status == 400
        connection.close()


def test_a_question_may_end_in_a_slash() -> None:
    """One in 64 does, since base64 has it as a sign."""
    with ocsp_responder.serving(CA.certificate, DELEGATE, lambda serial: REVOKED) as url:
        parts = urllib.parse.urlsplit(url)
        questions = (with_nonce(b"\xff" * size) for size in range(1, 8))
        body = next(der for der in questions if base64.b64encode(der).endswith(b"/"))
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=10)
        connection.request("GET", f"/{base64.b64encode(body).decode()}")
        assert connection.getresponse().status == 200
        connection.close()


def with_nonce(nonce: bytes) -> bytes:
    builder = x509_ocsp.OCSPRequestBuilder().add_certificate_by_hash(
        bytes(20), bytes(20), 1, hashes.SHA1()
    )
    asked = builder.add_extension(x509.OCSPNonce(nonce), critical=False).build()
    return asked.public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize("direct", [False, True], ids=["delegated", "by the CA"])
def test_a_revoked_signer_is_revoked_whoever_signs_the_reply(direct: bool) -> None:
    """c2pa finds no fault in a revoked signer when the CA itself signs the reply."""
    port, book = free_port(), Book(REVOKED)
    leaf = authority("Signer", CA, purposes=EMAIL, responder=f"http://127.0.0.1:{port}/")
    file, _ = sign_jpeg(leaf, (CA,), trusted=pem(ROOT))
    made = CA if direct else DELEGATE
    with ocsp_responder.serving(CA.certificate, made, book, port=port):
        with (
            c2pa_context(pem(ROOT), ocsp_fetch=True) as context,
            c2pa.Reader("image/jpeg", io.BytesIO(file), context=context) as reader,
        ):
            told = json.loads(reader.json())
        ours = revocation(
            pem(leaf, CA), Responders(private_hosts=["127.0.0.1"]), issuers_pem=pem(ROOT)
        )
    assert book.asked == [leaf.certificate.serial_number] * 2
    assert ours.status is ours.leaf.status is Status.REVOKED
    codes = json.dumps(told["validation_results"])
    assert ("signingCredential.ocsp.revoked" in codes) is not direct  # the trap


def test_replies_sent_along_need_no_network() -> None:
    leaf = authority("leaf", CA, responder="http://ocsp.example.org/")
    for standing in (GOOD, REVOKED):
        der = reply(standing, leaf=leaf)
        found = revocation(pem(leaf, CA), stapled=[b"garbage", reply(), der]).leaf
        assert found.status is standing.status
        assert found.source == "sent along by the signer"
    late = dt.datetime.now(dt.UTC) + dt.timedelta(days=3)
    assert revocation(pem(leaf, CA), stapled=[der], now=late).leaf.status is Status.NOT_ASKED


# certificate revocation lists


def crl(
    issuer: Authority = CA,
    serials: tuple[int, ...] = (),
    *,
    start: dt.datetime = NOW - HOUR,
    end: dt.datetime = NOW + HOUR,
    extra: tuple[tuple[x509.ExtensionType, bool], ...] = (),
    pss: bool = False,
    reason: x509.ReasonFlags | None = x509.ReasonFlags.key_compromise,
) -> x509.CertificateRevocationList:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(start)
        .next_update(end)
    )
    for serial in serials:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW - HOUR)
        if reason is not None:
            entry = entry.add_extension(x509.CRLReason(reason), critical=False)
        builder = builder.add_revoked_certificate(entry.build())
    for value, critical in extra:
        builder = builder.add_extension(value, critical=critical)
    options = {"rsa_padding": padding.PSS(padding.MGF1(hashes.SHA256()), 32)} if pss else {}
    return builder.sign(issuer.key, hashes.SHA256(), **options)  # type: ignore[arg-type]


def listed(tmp_path: Path, *lists: x509.CertificateRevocationList, chain: str = "") -> Revocation:
    path = tmp_path / "list.crl"
    path.write_bytes(b"".join(item.public_bytes(serialization.Encoding.PEM) for item in lists))
    return from_crl(path, chain or pem(LEAF, CA), issuers_pem=pem(ROOT))


def part(indirect: bool) -> tuple[tuple[x509.ExtensionType, bool], ...]:
    point = x509.IssuingDistributionPoint(
        None, None, only_contains_user_certs=not indirect, only_contains_ca_certs=False,
        only_some_reasons=None, indirect_crl=indirect, only_contains_attribute_certs=False,
    )  # fmt: skip
    return ((point, True),)


SERIAL = LEAF.certificate.serial_number
LISTS: dict[str, tuple[list[x509.CertificateRevocationList], str, str]] = {
    "not listed": ([crl()], "good", "not listed"),
    "listed": ([crl(serials=(1, SERIAL))], "revoked", "names it"),
    "listed without a reason": ([crl(serials=(SERIAL,), reason=None)], "revoked", "names it"),
    "listed in an old list": (
        [crl(serials=(SERIAL,), start=NOW - 9 * HOUR, end=NOW - 8 * HOUR)], "revoked", "names it",
    ),
    "an old list": ([crl(start=NOW - 9 * HOUR, end=NOW - 8 * HOUR)], "unknown", "out of date"),
    "a future list": ([crl(start=NOW + HOUR, end=NOW + 2 * HOUR)], "unknown", "from the future"),
    "another issuer's": ([crl(ROOT)], "unknown", "no revocation list of its issuer"),
    "of the same name": ([crl(authority("CA", ca=True))], "unknown", "not signed by"),
    "taken off": (
        [crl(serials=(SERIAL,), reason=x509.ReasonFlags.remove_from_crl)], "unknown", "taken off",
    ),
    "part": ([crl(extra=part(False))], "unknown", "only a part"),
    "listed in a part": ([crl(serials=(SERIAL,), extra=part(False))], "revoked", "names it"),
    "indirect": ([crl(serials=(SERIAL,), extra=part(True))], "unknown", "not understood"),
    "a delta": ([crl(extra=((x509.DeltaCRLIndicator(1), True),))], "unknown", "not understood"),
    "good and revoked": ([crl(), crl(serials=(SERIAL,))], "revoked", "names it"),
    "old and new": (
        [crl(start=NOW - 9 * HOUR, end=NOW - 8 * HOUR), crl()], "good", "not listed",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LISTS)
def test_only_a_whole_fresh_list_of_the_issuer_says_good(tmp_path: Path, case: str) -> None:
    lists, status, explanation = LISTS[case]
    found = listed(tmp_path, *lists)
    assert found.leaf.status.value == status
    assert explanation in found.leaf.explanation
    assert found.leaf.source == str(tmp_path / "list.crl")
    if status == "revoked":
        assert found.leaf.when == NOW - HOUR
    assert found.status is not Status.GOOD  # nothing is known about the intermediate


def test_lists_of_a_whole_chain_agree_with_openssl(tmp_path: Path) -> None:
    (tmp_path / "trust.pem").write_text(pem(ROOT))
    (tmp_path / "chain.pem").write_text(pem(CA))
    (tmp_path / "leaf.pem").write_text(pem(LEAF))
    for serials, root_serials in (((), ()), ((SERIAL,), ()), ((), (CA.certificate.serial_number,))):
        found = listed(tmp_path, crl(serials=serials), crl(ROOT, serials=root_serials))
        judged_ = openssl(
            tmp_path, "verify", "-crl_check_all", "-CRLfile", "list.crl", "-CAfile", "trust.pem",
            "-untrusted", "chain.pem", "leaf.pem",
        )  # fmt: skip
        assert (judged_.returncode == 0) is (found.status is Status.GOOD)
        assert ("certificate revoked" in judged_.stderr) is (found.status is Status.REVOKED)


def test_a_list_signed_with_pss_is_read(tmp_path: Path) -> None:
    issuer = authority("RSA", ROOT, ca=True, kind="rsa4")
    leaf = authority("leaf", issuer)
    chain = pem(leaf, issuer)
    for pss in (True, False):
        assert listed(tmp_path, crl(issuer, pss=pss), chain=chain).leaf.status is Status.GOOD


def test_a_list_as_der_and_what_is_no_list(tmp_path: Path) -> None:
    path = tmp_path / "list.crl"
    path.write_bytes(crl(serials=(SERIAL,)).public_bytes(serialization.Encoding.DER))
    assert from_crl(path, pem(LEAF, CA)).leaf.status is Status.REVOKED
    for data in (b"", b"hello", pem(CA).encode(), b"-----BEGIN X509 CRL-----\nAAAA\n"):
        path.write_bytes(data)
        with pytest.raises(InputError, match="is not a certificate revocation list"):
            from_crl(path, pem(LEAF, CA))
    with pytest.raises(InputError, match="cannot read the revocation list"):
        from_crl(tmp_path / "missing", pem(LEAF, CA))


LIST = crl(serials=(SERIAL,)).public_bytes(serialization.Encoding.DER)


@pytest.fixture(scope="module")
def changing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("changing") / "list.crl"


# a busy machine is no failure
@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, len(LIST) - 1), st.integers(0, 255))
def test_no_changed_list_raises_anything_else_or_says_good(
    changing: Path, at: int, value: int
) -> None:
    data, path = bytearray(LIST), changing
    data[at] = value
    path.write_bytes(bytes(data))
    try:
        found = from_crl(path, pem(LEAF, CA))
    except InputError:
        return
    assert found.leaf.status in (Status.REVOKED, Status.UNKNOWN)


def test_an_error_inside_a_service_is_an_answer() -> None:
    def fail(body: bytes) -> bytes:
        raise RuntimeError("broken")

    lines: list[str] = []
    broken = Service(answer=fail, request_type="text/x", reply_type="text/x", get=True)
    with serving(broken, log=lines.append) as url:
        parts = urllib.parse.urlsplit(url)
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=10)
        connection.request("GET", "/AAAA")
        assert connection.getresponse().status == 500
        connection.close()
    assert "RuntimeError" in lines[0]
