"""A local time-stamping authority (RFC 3161), for tests and for networks without a way out.

What it says is worth what its clock and its key are worth; a stamp that strangers should believe
comes from an authority on their trust list.
"""

import datetime as dt
import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache, partial
from typing import Any

from asn1crypto import algos, cms, core, tsp
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from assaymark.provenance import loopback
from assaymark.provenance.chains import BAD_DER, BROKEN, DIGESTS, extension, name_of
from assaymark.provenance.keys import Authority
from assaymark.reports.errors import InputError

POLICY = "2.999.3161.1"  # below ITU-T X.660's arc for examples: no real authority's policy
_MAX_REQUEST = loopback.MAX_REQUEST
_MAX_NONCE_BITS = 512


class _Response(core.Sequence):  # type: ignore[misc]
    """TimeStampResp; asn1crypto's has no way to leave the token out, as a refusal must."""

    _fields = [  # noqa: RUF012 (asn1crypto's way)
        ("status", tsp.PKIStatusInfo),
        ("time_stamp_token", cms.ContentInfo, {"optional": True}),
    ]


class _Refused(Exception):
    """Why there is no stamp. failure: PKIFailureInfo (RFC 3161, section 2.4.2)."""

    def __init__(self, failure: str, text: str) -> None:
        self.failure, self.text = failure, text
        super().__init__(text)


def stamp(
    request_der: bytes,
    authority: Authority,
    *,
    chain: Sequence[x509.Certificate] = (),
    now: dt.datetime | None = None,
    accuracy_s: int = 1,
    policy: str = POLICY,
) -> bytes:
    """Answer a TimeStampReq with a TimeStampResp in DER.

    authority: a certificate and key that `check_authority` accepts. chain: the certificates above
    it, sent along when the request asks for certificates. now: with a time zone, by default this
    machine's clock. A bad request gets a refusal with its PKIFailureInfo, never an exception.
    """
    try:
        request = _request(request_der, policy)
        info = _info(request, now or dt.datetime.now(dt.UTC), authority, accuracy_s, policy)
        included = (authority.certificate, *chain) if request["cert_req"].native else ()
        response = _Response(
            {"status": {"status": "granted"}, "time_stamp_token": _token(info, authority, included)}
        )
    except _Refused as refused:
        response = _Response(
            {
                "status": {
                    "status": "rejection",
                    "status_string": [refused.text],
                    "fail_info": {refused.failure},
                }
            }
        )
    return bytes(response.dump())


def check_authority(authority: Authority) -> None:
    """Raise InputError when a certificate must not stamp (RFC 3161, section 2.3), or cannot today."""
    certificate, name = authority.certificate, name_of(authority.certificate)
    try:
        purposes, usage = (
            extension(certificate, x509.ExtendedKeyUsage),
            extension(certificate, x509.KeyUsage),
        )
    except BROKEN as error:
        raise InputError(f"the certificate of {name} cannot be read: {error}") from error
    if (
        purposes is None
        or not purposes.critical
        or list(purposes.value) != [ExtendedKeyUsageOID.TIME_STAMPING]
    ):
        raise InputError(
            f"{name} is no time-stamping authority: expected timeStamping as its only extended key "
            "usage, marked critical"
        )
    if usage is not None and not usage.value.digital_signature:
        raise InputError(f"{name} may not sign: its key usage lacks digitalSignature")
    if authority.certificate.public_key() != authority.key.public_key():
        raise InputError(f"the private key is not that of {name}: expected the authority's own key")
    now = dt.datetime.now(dt.UTC)
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise InputError(
            f"{name} is valid from {certificate.not_valid_before_utc:%Y-%m-%d} to "
            f"{certificate.not_valid_after_utc:%Y-%m-%d}, today is {now:%Y-%m-%d}: make a new one"
        )


def service(
    authority: Authority, chain: Sequence[x509.Certificate] = (), *, policy: str = POLICY
) -> loopback.Service:
    """The authority as an HTTP service (RFC 3161, section 3.4); raises as `check_authority`."""
    check_authority(authority)
    return loopback.Service(
        answer=partial(stamp, authority=authority, chain=tuple(chain), policy=policy),
        request_type="application/timestamp-query",
        reply_type="application/timestamp-reply",
    )


def serving(
    authority: Authority,
    chain: Sequence[x509.Certificate] = (),
    *,
    log: loopback.Log = lambda line: None,
) -> AbstractContextManager[str]:
    """The authority on a free loopback port while a block runs; gives its URL."""
    return loopback.serving(service(authority, chain), log=log)


def serve_forever(
    authority: Authority,
    chain: Sequence[x509.Certificate] = (),
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    ready: Callable[[str], None] = lambda url: None,
    log: loopback.Log = lambda line: None,
) -> None:
    """Serve until interrupted. Raises InputError for an unfit certificate or a busy port."""
    loopback.serve_forever(service(authority, chain), host, port, ready=ready, log=log)


def _request(der: bytes, policy: str) -> Any:
    """The request, every field of it read; raises _Refused."""
    if len(der) > _MAX_REQUEST:
        raise _Refused("bad_data_format", f"at most {_MAX_REQUEST} bytes are read")
    try:
        request = tsp.TimeStampReq.load(der, strict=True)
        version, asked = request["version"].native, request["req_policy"].native
        algorithm = request["message_imprint"]["hash_algorithm"]["algorithm"].native
        digest = request["message_imprint"]["hashed_message"].native
        nonce, extensions = request["nonce"].native, request["extensions"].native
        wants = request["req_policy"].dotted if asked is not None else policy
        certificates_wanted = request["cert_req"].native
    except BAD_DER as error:
        raise _Refused("bad_data_format", "this is not a TimeStampReq in DER") from error
    if version != "v1" or not isinstance(certificates_wanted, bool):
        raise _Refused("bad_request", "expected version 1")
    if algorithm not in DIGESTS:
        raise _Refused("bad_alg", "expected SHA-256, SHA-384 or SHA-512")
    if len(digest) != DIGESTS[algorithm]().digest_size:
        raise _Refused("bad_data_format", f"{algorithm} does not have {len(digest)} bytes")
    if nonce is not None and nonce.bit_length() > _MAX_NONCE_BITS:
        raise _Refused("bad_request", f"a nonce has at most {_MAX_NONCE_BITS} bits")
    if wants != policy:
        raise _Refused("unaccepted_policy", f"stamps are made under {policy} only")
    if extensions:
        raise _Refused("unaccepted_extensions", "no extensions are understood")
    return request


def _info(
    request: Any, now: dt.datetime, authority: Authority, accuracy_s: int, policy: str
) -> tsp.TSTInfo:
    certificate = authority.certificate
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise _Refused("time_not_available", "the authority's certificate is not valid now")
    algorithm = request["message_imprint"]["hash_algorithm"]["algorithm"].native
    fields: dict[str, Any] = {
        "version": "v1",
        "policy": policy,
        "message_imprint": {
            "hash_algorithm": {"algorithm": algorithm},
            "hashed_message": request["message_imprint"]["hashed_message"].native,
        },
        "serial_number": x509.random_serial_number(),
        "gen_time": now.astimezone(dt.UTC).replace(microsecond=0),
        "accuracy": {"seconds": accuracy_s},
    }
    if request["nonce"].native is not None:
        fields["nonce"] = request["nonce"].native
    return tsp.TSTInfo(fields)


def _token(
    info: tsp.TSTInfo, authority: Authority, included: Sequence[x509.Certificate]
) -> cms.ContentInfo:
    """A TimeStampToken: CMS SignedData over the info (RFC 5652, section 5)."""
    content, digest = info.dump(), _digest(authority.key)
    algorithm = algos.DigestAlgorithm({"algorithm": digest.name})
    attributes = cms.CMSAttributes(
        [
            _attribute("content_type", "tst_info"),
            _attribute("signing_time", _utc(info["gen_time"].native)),
            _attribute("message_digest", hashlib.new(digest.name, content).digest()),
            cms.CMSAttribute.load(_signing_certificate(authority.certificate)),
        ]
    )
    name, signature = _sign(authority.key, attributes.dump(), digest)
    signer = {
        "version": "v1",
        "sid": cms.SignerIdentifier(
            "issuer_and_serial_number",
            cms.IssuerAndSerialNumber.load(_identifier(authority.certificate)),
        ),
        "digest_algorithm": algorithm,
        "signed_attrs": attributes,
        "signature_algorithm": {"algorithm": name},
        "signature": signature,
    }
    signed: dict[str, Any] = {
        "version": "v3",
        "digest_algorithms": [algorithm],
        "encap_content_info": {
            "content_type": "tst_info",
            "content": core.ParsableOctetString(content),
        },
        "signer_infos": [signer],
    }
    if included:
        signed["certificates"] = [_asn1(item) for item in dict.fromkeys(included)]
    return cms.ContentInfo({"content_type": "signed_data", "content": cms.SignedData(signed)})


def _attribute(name: str, value: Any) -> cms.CMSAttribute:
    return cms.CMSAttribute({"type": name, "values": [value]})


# the same for every stamp of an authority, and slow to code
@lru_cache(maxsize=16)
def _signing_certificate(certificate: x509.Certificate) -> bytes:
    """ESSCertIDv2 (RFC 5816); SHA-256 is its default and then left out, as DER asks."""
    issuer = asn1_x509.GeneralName("directory_name", _asn1(certificate).issuer)
    entry = {
        "cert_hash": certificate.fingerprint(hashes.SHA256()),
        "issuer_serial": {"issuer": [issuer], "serial_number": certificate.serial_number},
    }
    value = tsp.SigningCertificateV2({"certs": [entry]})
    return bytes(_attribute("signing_certificate_v2", value).dump())


@lru_cache(maxsize=16)
def _identifier(certificate: x509.Certificate) -> bytes:
    fields = {"issuer": _asn1(certificate).issuer, "serial_number": certificate.serial_number}
    return bytes(cms.IssuerAndSerialNumber(fields).dump())


def _sign(key: Any, data: bytes, digest: hashes.HashAlgorithm) -> tuple[str, bytes]:
    """CMS's name of the algorithm, and the signature."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ed25519", key.sign(data)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return f"{digest.name}_ecdsa", key.sign(data, ec.ECDSA(digest))
    if isinstance(key, rsa.RSAPrivateKey):
        return f"{digest.name}_rsa", key.sign(data, padding.PKCS1v15(), digest)
    raise InputError(
        f"a key of kind {type(key).__name__} cannot stamp: expected EC, RSA or Ed25519"
    )


def _digest(key: Any) -> hashes.HashAlgorithm:
    """As strong as the key; SHA-512 is the only one with Ed25519 (RFC 8419, section 3)."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return hashes.SHA512()
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.key_size > 256:
        return hashes.SHA384() if key.curve.key_size <= 384 else hashes.SHA512()
    return hashes.SHA256()


def _utc(moment: dt.datetime) -> cms.Time:
    name, kind = (
        ("utc_time", core.UTCTime) if moment.year < 2050 else ("general_time", core.GeneralizedTime)
    )
    return cms.Time(name, kind(moment))


def _asn1(certificate: x509.Certificate) -> asn1_x509.Certificate:
    return asn1_x509.Certificate.load(certificate.public_bytes(Encoding.DER))
