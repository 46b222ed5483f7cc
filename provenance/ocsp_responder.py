"""An OCSP responder (RFC 6960), for tests and for networks without a way out."""

import datetime as dt
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from assaymark.provenance import loopback
from assaymark.provenance.chains import BROKEN, extension, issued_by, name_of, quiet
from assaymark.provenance.keys import Authority
from assaymark.provenance.ocsp import certificate_hashes
from assaymark.provenance.revocation import Standing, Status
from assaymark.reports.errors import InputError

_MAX_NONCE = 32  # bytes, RFC 9654 section 2.1
StatusOf = Callable[[int], Standing]


def respond(
    request_der: bytes,
    issuer: x509.Certificate,
    responder: Authority,
    status_of: StatusOf,
    *,
    now: dt.datetime | None = None,
    valid_for: dt.timedelta = dt.timedelta(days=1),
) -> bytes:
    """Answer an OCSP request with a response in DER, valid from `now` on.

    issuer: the CA whose certificates are asked about. responder: a certificate that the CA
    delegated to, or the CA itself; its own certificate goes along only when it is delegated.
    status_of: the standing of a serial number: good, revoked or unknown. A request that cannot be
    read, or is about another CA, gets an error response, never an exception.
    """
    try:
        with quiet():
            request = ocsp.load_der_ocsp_request(request_der)
            extensions = list(request.extensions)
            ours = _is_about(request, issuer)
    except (*BROKEN, NotImplementedError):
        return _error(ocsp.OCSPResponseStatus.MALFORMED_REQUEST)
    nonces = [item.value for item in extensions if isinstance(item.value, x509.OCSPNonce)]
    unknown = any(item.critical and item.value not in nonces for item in extensions)
    wrong = any(not 1 <= len(item.nonce) <= _MAX_NONCE for item in nonces)
    if unknown or wrong or request.serial_number < 0:
        return _error(ocsp.OCSPResponseStatus.MALFORMED_REQUEST)
    if not ours:
        return _error(ocsp.OCSPResponseStatus.UNAUTHORIZED)
    try:
        standing = status_of(request.serial_number)
        moment = (now or dt.datetime.now(dt.UTC)).replace(microsecond=0)
        builder = _builder(request, standing, moment, valid_for)
    except (OSError, ValueError, InputError):  # the list of certificates cannot be read
        return _error(ocsp.OCSPResponseStatus.INTERNAL_ERROR)
    builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, responder.certificate)
    if responder.certificate != issuer:
        builder = builder.certificates([responder.certificate])
    for nonce in nonces:
        builder = builder.add_extension(nonce, critical=False)
    digest = None if isinstance(responder.key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(responder.key, digest).public_bytes(serialization.Encoding.DER)


def check_responder(issuer: x509.Certificate, responder: Authority) -> None:
    """Raise InputError when no client would believe this responder (RFC 6960, section 4.2.2.2)."""
    name = name_of(responder.certificate)
    if responder.certificate.public_key() != responder.key.public_key():
        raise InputError(f"the private key is not that of {name}: expected the responder's own key")
    if responder.certificate == issuer:
        return
    if not issued_by(responder.certificate, issuer):
        raise InputError(
            f"{name} was not issued by {name_of(issuer)}: expected that CA itself, or a responder "
            "that it issued a certificate to"
        )
    purposes = extension(responder.certificate, x509.ExtendedKeyUsage)
    if purposes is None or ExtendedKeyUsageOID.OCSP_SIGNING not in list(purposes.value):
        raise InputError(
            f"{name} is no OCSP responder: expected the extended key usage OCSPSigning"
        )


def service(
    issuer: x509.Certificate, responder: Authority, status_of: StatusOf
) -> loopback.Service:
    """The responder as an HTTP service, POST and GET (appendix A); raises as `check_responder`."""
    check_responder(issuer, responder)
    return loopback.Service(
        answer=partial(respond, issuer=issuer, responder=responder, status_of=status_of),
        request_type="application/ocsp-request",
        reply_type="application/ocsp-response",
        get=True,
    )


def serving(
    issuer: x509.Certificate,
    responder: Authority,
    status_of: StatusOf,
    *,
    port: int = 0,
    log: loopback.Log = lambda line: None,
) -> AbstractContextManager[str]:
    """The responder on loopback while a block runs; gives its URL."""
    return loopback.serving(service(issuer, responder, status_of), port=port, log=log)


def serve_forever(
    issuer: x509.Certificate,
    responder: Authority,
    status_of: StatusOf,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    ready: Callable[[str], None] = lambda url: None,
    log: loopback.Log = lambda line: None,
) -> None:
    """Serve until interrupted. Raises InputError for an unfit responder or a busy port."""
    loopback.serve_forever(service(issuer, responder, status_of), host, port, ready=ready, log=log)


def _is_about(request: ocsp.OCSPRequest, issuer: x509.Certificate) -> bool:
    asked = (request.issuer_name_hash, request.issuer_key_hash)
    return asked == certificate_hashes(issuer, request.hash_algorithm)


def _builder(
    request: ocsp.OCSPRequest, standing: Standing, now: dt.datetime, valid_for: dt.timedelta
) -> ocsp.OCSPResponseBuilder:
    revoked = standing.status is Status.REVOKED
    status = {
        Status.GOOD: ocsp.OCSPCertStatus.GOOD,
        Status.REVOKED: ocsp.OCSPCertStatus.REVOKED,
    }.get(standing.status, ocsp.OCSPCertStatus.UNKNOWN)
    return ocsp.OCSPResponseBuilder().add_response_by_hash(
        issuer_name_hash=request.issuer_name_hash,
        issuer_key_hash=request.issuer_key_hash,
        serial_number=request.serial_number,
        algorithm=request.hash_algorithm,
        cert_status=status,
        this_update=now,
        next_update=now + valid_for,
        revocation_time=(standing.when or now) if revoked else None,
        revocation_reason=standing.reason if revoked else None,
    )


def _error(status: ocsp.OCSPResponseStatus) -> bytes:
    response = ocsp.OCSPResponseBuilder.build_unsuccessful(status)
    return response.public_bytes(serialization.Encoding.DER)
