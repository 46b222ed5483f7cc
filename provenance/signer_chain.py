"""Who signed: from the certificates a signature carries to a trust anchor (RFC 5280, section 6).

Nothing is fetched and revocation is not asked. C2PA files are judged by their own engine; this is
for signatures over folders, attestations and logs.
"""

import datetime as dt
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from assaymark.reports.errors import InputError

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)

MOST_CERTIFICATES = 16
_UNDERSTOOD = (
    x509.BasicConstraints,
    x509.KeyUsage,
    x509.ExtendedKeyUsage,
    x509.SubjectAlternativeName,
)


@dataclass(frozen=True, kw_only=True)
class Signer:
    """The holder of a certificate. fingerprint: SHA-256 of the certificate, hexadecimal.

    reason: why no trust anchor vouches for it; empty when one does.
    """

    name: str
    fingerprint: str
    reason: str = ""

    @property
    def trusted(self) -> bool:
        return not self.reason


def judge_signer(
    certificates: Sequence[x509.Certificate],
    trust_anchors_pem: str,
    *,
    at: dt.datetime | None = None,
) -> Signer:
    """The signer whose leaf stands first, and whether its chain ends in a trust anchor.

    at: when every certificate must be valid; now without it.
    """
    leaf = certificates[0]
    anchors = read_certificates(trust_anchors_pem) if trust_anchors_pem.strip() else []
    return Signer(
        name=name_of(leaf),
        fingerprint=fingerprint(leaf),
        reason=_refused(leaf, certificates[1:], anchors, at or dt.datetime.now(dt.UTC)),
    )


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the certificate in DER, as openssl x509 -fingerprint -sha256 without colons."""
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def name_of(certificate: x509.Certificate) -> str:
    """The organization, else the common name, else the whole subject."""
    try:
        for kind in (NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME):
            for attribute in certificate.subject.get_attributes_for_oid(kind):
                return str(attribute.value)
        return certificate.subject.rfc4514_string() or "a certificate without a name"
    except ValueError:
        return "a certificate whose name cannot be read"


def read_certificates(pem: str | bytes, name: str = "the trust anchors") -> list[x509.Certificate]:
    """Certificates in PEM, in order; raises InputError when there is none or one is malformed."""
    try:
        return x509.load_pem_x509_certificates(pem.encode() if isinstance(pem, str) else pem)
    except (ValueError, x509.InvalidVersion) as error:
        raise InputError(f"cannot read {name}: expected -----BEGIN CERTIFICATE-----") from error


def _refused(
    leaf: x509.Certificate,
    between: Sequence[x509.Certificate],
    anchors: Sequence[x509.Certificate],
    at: dt.datetime,
) -> str:
    try:
        return (
            _unfit_leaf(leaf) or _outside(leaf, at) or _no_path(leaf, list(between), anchors, at, 0)
        )
    except (
        ValueError,
        UnsupportedAlgorithm,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
    ) as error:
        return f"a certificate cannot be read: {error}"


def _unfit_leaf(leaf: x509.Certificate) -> str:
    basic = _extension(leaf, x509.BasicConstraints)
    if basic is not None and basic.ca:
        return f"{name_of(leaf)} is a certificate authority, which does not sign works"
    usage = _extension(leaf, x509.KeyUsage)
    purposes = _extension(leaf, x509.ExtendedKeyUsage)
    code = purposes is not None and ExtendedKeyUsageOID.CODE_SIGNING in purposes
    if not code and (usage is None or not usage.digital_signature):
        return f"the certificate of {name_of(leaf)} is not for signing: its key usage lacks digitalSignature"
    return ""


def _no_path(
    issued: x509.Certificate,
    between: list[x509.Certificate],
    anchors: Sequence[x509.Certificate],
    at: dt.datetime,
    depth: int,
) -> str:
    """Why no chain of `between` leads to an anchor; depth: how many authorities lie below."""
    if not anchors:
        return f"no trust anchor was given, so nobody vouches for {name_of(issued)}"
    reasons = []
    if issued in anchors:  # an anchor may be any certificate (RFC 5280, section 6.1.1 d)
        return _foreign_extension(issued)
    for anchor in anchors:
        if _issued_by(issued, anchor):
            reason = _unfit_issuer(anchor, depth) or _outside(anchor, at)
            if not (reason or (reason := _foreign_extension(issued))):
                return ""
            reasons.append(reason)
    for issuer in tuple(between):
        if issuer in between and _issued_by(issued, issuer):
            between.remove(issuer)  # each is tried once: a crowd of twins would take n! paths
            reason = (
                _foreign_extension(issued)
                or _unfit_issuer(issuer, depth)
                or _outside(issuer, at)
                or _no_path(issuer, between, anchors, at, depth + 1)
            )
            if not reason:
                return ""
            reasons.append(reason)
    return reasons[0] if reasons else f"no trust anchor vouches for {name_of(issued)}"


def _issued_by(issued: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        issued.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _unfit_issuer(issuer: x509.Certificate, depth: int) -> str:
    basic = _extension(issuer, x509.BasicConstraints)
    if basic is None or not basic.ca:
        return f"{name_of(issuer)} is not a certificate authority"
    if basic.path_length is not None and depth > basic.path_length:
        return f"{name_of(issuer)} may have {basic.path_length} authorities below it, not {depth}"
    usage = _extension(issuer, x509.KeyUsage)
    if usage is not None and not usage.key_cert_sign:
        return f"{name_of(issuer)} may not sign certificates"
    return _foreign_extension(issuer)


def _foreign_extension(certificate: x509.Certificate) -> str:
    """An extension that must be obeyed and is not known here (RFC 5280, section 4.2)."""
    for extension in certificate.extensions:
        if extension.critical and not isinstance(extension.value, _UNDERSTOOD):
            return (
                f"the certificate of {name_of(certificate)} has the critical extension "
                f"{extension.oid.dotted_string}, which is not understood here"
            )
    return ""


def _outside(certificate: x509.Certificate, at: dt.datetime) -> str:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if start <= at <= end:
        return ""
    word = "expired on" if at > end else "is valid only from"
    return f"the certificate of {name_of(certificate)} {word} {end if at > end else start:%Y-%m-%d}"


def _extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
