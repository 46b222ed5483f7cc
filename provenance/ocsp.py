"""Asks whether certificates were revoked (OCSP, RFC 6960), within bounds.

Nobody is asked unless the caller brings `Responders`: the address of a responder stands in an
untrusted certificate. Then plain HTTP only (replies are signed), no redirects, no proxies, no
private addresses unless they are named, a time limit for the whole exchange, and each responder
that does not answer costs that time once. Replies signed by the CA itself count like those of a
delegated responder; c2pa passes over them and calls a revoked signer trusted.
"""

import datetime as dt
import http.client
import ipaddress
import os
import socket
import threading
import urllib.parse
from collections.abc import Collection, Sequence
from contextlib import suppress

from asn1crypto import ocsp as asn1_ocsp
from asn1crypto.keys import PublicKeyInfo
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.x509 import ocsp
from cryptography.x509.oid import (
    AuthorityInformationAccessOID,
    ExtendedKeyUsageOID,
    SignatureAlgorithmOID,
)

from assaymark.provenance.chains import (
    BAD_DER,
    BROKEN,
    extension,
    issued_by,
    name_of,
    pss_parameters,
    quiet,
    signature_holds,
)
from assaymark.provenance.revocation import (
    CLOCK_SKEW,
    Revocation,
    Standing,
    Status,
    judge_chain,
)
from assaymark.reports.errors import InputError

MAX_REPLY = 64 * 1024  # bytes
_MAX_URL = 2048
_MAX_URLS = 3  # of one certificate
_WITHOUT_NEXT_UPDATE = dt.timedelta(days=1)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_BAD_REPLY = (*BROKEN, NotImplementedError, x509.ExtensionNotFound)


class _Unreachable(Exception):
    """Why there is no reply to this question."""


class _Dead(_Unreachable):
    """Why there will be none to others either."""


class Responders:
    """What was asked in one run, of whom, and who does not answer; may be shared by threads.

    timeout_s: seconds for one exchange, from the name's resolution to the last byte. private_hosts:
    "host" or "host:port" that may be asked although the address is private, or the port not 80.
    Raises InputError for a time limit outside 0 to 60 seconds.
    """

    def __init__(self, *, timeout_s: float = 2.0, private_hosts: Collection[str] = ()) -> None:
        if not 0 < timeout_s <= 60:
            raise InputError(
                f"a responder is given more than 0 and at most 60 seconds, got {timeout_s:g}"
            )
        self._timeout_s, self._private = timeout_s, frozenset(map(str.lower, private_hosts))
        self._dead: dict[str, str] = {}
        self._known: dict[tuple[str, bytes, int], Standing] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    def ask(self, url: str, certificate: x509.Certificate, issuer: x509.Certificate) -> Standing:
        """What the responder at `url` says of a certificate; asked once for each."""
        key = (url, issuer.fingerprint(hashes.SHA256()), certificate.serial_number)
        try:
            host, port, target = _address(url, self._private)
        except _Unreachable as error:
            return Standing(status=Status.UNREACHABLE, explanation=str(error))
        place = f"{host}:{port}"
        with self._guard:
            lock = self._locks.setdefault(place, threading.Lock())
        with lock:  # threads with the same question wait for one answer
            if key not in self._known:
                self._known[key] = self._exchange(place, host, port, target, certificate, issuer)
            return self._known[key]

    def _exchange(
        self,
        place: str,
        host: str,
        port: int,
        target: str,
        certificate: x509.Certificate,
        issuer: x509.Certificate,
    ) -> Standing:
        if place in self._dead:
            return Standing(status=Status.UNREACHABLE, explanation=self._dead[place])
        nonce = os.urandom(32)
        private = bool({host, place} & self._private)
        try:
            reply = _post(
                host,
                port,
                target,
                request_for(certificate, issuer, nonce),
                private,
                self._timeout_s,
            )
        except _Unreachable as error:
            why = f"the responder {place} does not answer: {error}"
            if isinstance(error, _Dead):
                self._dead[place] = why
            return Standing(status=Status.UNREACHABLE, explanation=why)
        return read_reply(reply, certificate, issuer, nonce=nonce)


def revocation(
    chain_pem: str,
    responders: Responders | None = None,
    *,
    issuers_pem: str = "",
    stapled: Sequence[bytes] = (),
    now: dt.datetime | None = None,
) -> Revocation:
    """What OCSP says of a chain's leaf and intermediates.

    responders: None asks nobody, which is the default; one object for a whole run. issuers_pem:
    trust anchors, needed for the certificate that an anchor issued. stapled: replies that the
    signer sent along (the COSE header rVals), judged at `now` and believed before anyone is asked.
    Raises InputError when the chain is not PEM certificates; never for what a responder does.
    """

    def judge(certificate: x509.Certificate, issuer: x509.Certificate) -> tuple[Standing, str]:
        for reply in stapled:
            standing = read_reply(reply, certificate, issuer, now=now)
            if standing.status in (Status.GOOD, Status.REVOKED):
                return standing, "sent along by the signer"
        return _ask(certificate, issuer, responders)

    return judge_chain(chain_pem, issuers_pem, judge)


def request_for(
    certificate: x509.Certificate, issuer: x509.Certificate, nonce: bytes | None = None
) -> bytes:
    """An OCSP request in DER about one certificate."""
    # SHA-1 names the certificate and protects nothing; many responders know no other
    builder = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, hashes.SHA1())
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(serialization.Encoding.DER)


def read_reply(
    der: bytes,
    certificate: x509.Certificate,
    issuer: x509.Certificate,
    *,
    nonce: bytes | None = None,
    now: dt.datetime | None = None,
) -> Standing:
    """What an OCSP response says of a certificate, when it may be believed; else "unknown".

    Checked (RFC 6960, section 3.2): that it is about this certificate, who signed it and whether
    the CA let them, the signature, its dates, and the nonce when it carries one. Never raises.
    """
    if len(der) > MAX_REPLY:
        return _unknown(f"the reply has {len(der)} bytes: at most {MAX_REPLY} are read")
    try:
        with quiet():
            return _read(der, certificate, issuer, nonce, now or dt.datetime.now(dt.UTC))
    except _BAD_REPLY as error:
        return _unknown(f"the reply cannot be read: {' '.join(str(error).split())[:200]}")


def responders_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """The OCSP addresses that a certificate names; hostile, like all it says."""
    try:
        access = extension(certificate, x509.AuthorityInformationAccess)
    except BROKEN:
        return ()
    return tuple(
        item.access_location.value
        for item in (access.value if access else ())
        if item.access_method == AuthorityInformationAccessOID.OCSP
        and isinstance(item.access_location, x509.UniformResourceIdentifier)
    )


def certificate_hashes(
    issuer: x509.Certificate, algorithm: hashes.HashAlgorithm
) -> tuple[bytes, bytes]:
    """issuerNameHash and issuerKeyHash of a CertID (RFC 6960, section 4.1.1)."""
    name, key = hashes.Hash(algorithm), hashes.Hash(algorithm)
    name.update(issuer.subject.public_bytes())
    key.update(public_key_bits(issuer))
    return name.finalize(), key.finalize()


def public_key_bits(certificate: x509.Certificate) -> bytes:
    """The subjectPublicKey without its algorithm, as CertID and ResponderID hash it."""
    key = certificate.public_key()
    der = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    contents: bytes = PublicKeyInfo.load(der)["public_key"].contents
    return contents[1:]  # after the number of unused bits


def _ask(
    certificate: x509.Certificate, issuer: x509.Certificate, responders: Responders | None
) -> tuple[Standing, str]:
    urls = responders_of(certificate)
    if not urls:
        why = "it names no responder (authority information access)"
        return Standing(status=Status.NO_RESPONDER, explanation=why), ""
    if responders is None:
        return Standing(status=Status.NOT_ASKED, explanation="its responder was not asked"), ""
    for url in urls[:_MAX_URLS]:
        standing = responders.ask(url, certificate, issuer)
        if standing.status is not Status.UNREACHABLE:
            break
    return standing, url


def _unknown(explanation: str) -> Standing:
    return Standing(status=Status.UNKNOWN, explanation=explanation)


def _read(
    der: bytes,
    certificate: x509.Certificate,
    issuer: x509.Certificate,
    nonce: bytes | None,
    now: dt.datetime,
) -> Standing:
    response = ocsp.load_der_ocsp_response(der)
    if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        return _unknown(f"the responder answered {response.response_status.name.lower()}")
    why = _unsigned(response, issuer, now) or _other_nonce(response, nonce)
    if why:
        return _unknown(why)
    for single in response.responses:
        if single.serial_number == certificate.serial_number and (
            (single.issuer_name_hash, single.issuer_key_hash)
            == certificate_hashes(issuer, single.hash_algorithm)
        ):
            return _standing(single, now)
    return _unknown("the reply is about another certificate")


def _standing(single: ocsp.OCSPSingleResponse, now: dt.datetime) -> Standing:
    start = single.this_update_utc
    end = single.next_update_utc or start + _WITHOUT_NEXT_UPDATE
    if not start - CLOCK_SKEW <= now <= end + CLOCK_SKEW:
        return _unknown(
            f"the reply is valid from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC, not now"
        )
    if single.certificate_status is ocsp.OCSPCertStatus.REVOKED:
        return Standing(
            status=Status.REVOKED,
            when=single.revocation_time_utc,
            reason=single.revocation_reason,
            explanation="the responder says that it was revoked",
        )
    if single.certificate_status is ocsp.OCSPCertStatus.GOOD:
        return Standing(
            status=Status.GOOD, explanation=f"the responder knew it as good on {start:%Y-%m-%d}"
        )
    return _unknown("the responder does not know it")


def _other_nonce(response: ocsp.OCSPResponse, nonce: bytes | None) -> str:
    """A nonce may be left out (replies made in advance), but not be another one."""
    for item in response.extensions:
        if isinstance(item.value, x509.OCSPNonce):
            if nonce is not None and item.value.nonce != nonce:
                return "the reply answers another request: its nonce is not ours"
        elif item.critical:
            return f"the reply has an extension that is not understood: {item.oid.dotted_string}"
    return ""


def _unsigned(response: ocsp.OCSPResponse, issuer: x509.Certificate, now: dt.datetime) -> str:
    """Why the signature of a reply counts for nothing (RFC 6960, section 4.2.2.2), or nothing."""
    signer = next(
        (item for item in (issuer, *response.certificates) if _is_responder(response, item)), None
    )
    if signer is None:
        return "the reply does not say who signed it"
    if signer.public_bytes(serialization.Encoding.DER) != issuer.public_bytes(
        serialization.Encoding.DER
    ):
        why = _not_delegated(signer, issuer, now)
        if why:
            return f"the reply is signed by {name_of(signer)}, which {why}"
    if response.signature_algorithm_oid == SignatureAlgorithmOID.RSASSA_PSS:
        digest, pss = _pss(response)
    else:
        digest, pss = response.signature_hash_algorithm, None
    if not signature_holds(
        signer, response.signature, response.tbs_response_bytes, digest, pss=pss
    ):
        return "the signature of the reply does not hold"
    return ""


def _pss(response: ocsp.OCSPResponse) -> tuple[hashes.HashAlgorithm | None, padding.PSS | None]:
    """The parameters of RSASSA-PSS, which cryptography does not give for a reply."""
    try:
        parsed = asn1_ocsp.OCSPResponse.load(response.public_bytes(serialization.Encoding.DER))
        basic = parsed["response_bytes"]["response"].parsed
        return pss_parameters(basic["signature_algorithm"]["parameters"])
    except BAD_DER as error:
        raise ValueError("its signature algorithm is malformed") from error


def _is_responder(response: ocsp.OCSPResponse, certificate: x509.Certificate) -> bool:
    if response.responder_name is not None:
        return response.responder_name == certificate.subject
    digest = hashes.Hash(hashes.SHA1())  # fixed by RFC 6960, section 4.2.2.3
    digest.update(public_key_bits(certificate))
    return response.responder_key_hash == digest.finalize()


def _not_delegated(signer: x509.Certificate, issuer: x509.Certificate, now: dt.datetime) -> str:
    purposes, usage = extension(signer, x509.ExtendedKeyUsage), extension(signer, x509.KeyUsage)
    if not issued_by(signer, issuer):
        return "the CA did not issue"
    if purposes is None or ExtendedKeyUsageOID.OCSP_SIGNING not in list(purposes.value):
        return "the CA did not delegate to (no OCSPSigning)"
    if usage is not None and not usage.value.digital_signature:
        return "may not sign"
    if not signer.not_valid_before_utc <= now <= signer.not_valid_after_utc:
        return "is not valid now"
    return ""


def _address(url: str, private: Collection[str]) -> tuple[str, int, str]:
    """Host, port and what to ask for; raises _Unreachable for what is never asked."""
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port or 80
    except ValueError as error:
        raise _Unreachable("its responder's address is not a URL") from error
    plain = url.isascii() and url.isprintable() and " " not in url and len(url) <= _MAX_URL
    if not plain or parts.scheme != "http" or not host or "@" in parts.netloc:
        raise _Unreachable(
            f"its responder's address is not asked: {url[:80]!r}, expected http://host/…"
        )
    if port != 80 and f"{host}:{port}" not in private and host not in private:
        raise _Unreachable(
            f"its responder's port {port} is not asked: expected 80, or allow the host"
        )
    return host, port, urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))


def _post(host: str, port: int, target: str, body: bytes, private: bool, timeout_s: float) -> bytes:
    """One POST in a thread of its own: the time limit holds whatever the other side does."""
    results: list[bytes | Exception] = []
    opened: list[http.client.HTTPConnection] = []

    def work() -> None:
        try:
            results.append(_exchange(host, port, target, body, private, timeout_s, opened))
        except (OSError, http.client.HTTPException, ValueError, _Unreachable) as error:
            results.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(timeout_s)
    if not results:
        for connection in opened:
            with suppress(OSError, AttributeError):
                connection.sock.shutdown(socket.SHUT_RDWR)
        raise _Dead(f"no reply within {timeout_s:g} s")
    result = results[0]
    if isinstance(result, _Unreachable):
        raise result
    if isinstance(result, TimeoutError):  # the socket's own clock may be first
        raise _Dead(f"no reply within {timeout_s:g} s") from result
    if isinstance(result, Exception):
        raise _Dead(str(result) or type(result).__name__) from result
    return result


def _exchange(
    host: str,
    port: int,
    target: str,
    body: bytes,
    private: bool,
    timeout_s: float,
    opened: list[http.client.HTTPConnection],
) -> bytes:
    # connected by number: a second look-up could name another machine
    connection = http.client.HTTPConnection(_resolve(host, port, private), port, timeout=timeout_s)
    opened.append(connection)
    try:
        name = f"[{host}]" if ":" in host else host
        connection.putrequest("POST", target, skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", name if port == 80 else f"{name}:{port}")
        connection.putheader("Content-Type", "application/ocsp-request")
        connection.putheader("Accept", "application/ocsp-response")
        connection.putheader("Content-Length", str(len(body)))
        connection.putheader("Connection", "close")
        connection.endheaders(body)
        with connection.getresponse() as reply:  # it holds the socket when it is given up early
            return _body(reply)
    finally:
        connection.close()


def _body(reply: http.client.HTTPResponse) -> bytes:
    if reply.status != 200:
        raise _Unreachable(f"HTTP status {reply.status}, expected 200 (redirects are not followed)")
    data = reply.read(MAX_REPLY + 1)
    if len(data) > MAX_REPLY:
        raise _Unreachable(f"its reply is longer than {MAX_REPLY} bytes")
    if reply.length:
        raise _Unreachable(f"its reply ended {reply.length} bytes early")
    return data


def _resolve(host: str, port: int, private: bool) -> str:
    """The first address of a host; every address must be public, or the host be allowed."""
    found = [str(item[4][0]) for item in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    for address in found:
        if not private and not _is_public(address):
            raise _Unreachable(f"its address {address} is private: allow the host to ask it")
    return found[0]


def _is_public(address: str) -> bool:
    """Whether an address is on the internet, and does not lead elsewhere by translation."""
    number = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(number, ipaddress.IPv6Address) and (
        number.ipv4_mapped or number.sixtofour or number.teredo or number in _NAT64
    ):
        return False
    return number.is_global and not number.is_multicast and not number.is_reserved
