"""Whether a chain of certificates ends in one of the given trust anchors (RFC 5280, section 6.1).

c2pa does not keep the anchors of claim signers and of time-stamping authorities apart; with this
walk each kind of signer is held to its own anchors, its own purpose and the time it signed at.
"""

import datetime as dt
import re
import warnings
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from assaymark.reports.errors import InputError

MAX_CHAIN = 16  # certificates that a signer may send along
_MAX_CERTIFICATE = 64 * 1024
_MIN_RSA_BITS = 2048
DIGESTS: dict[str, type[hashes.HashAlgorithm]] = {
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}
_UNDERSTOOD = {
    x509.BasicConstraints.oid,
    x509.KeyUsage.oid,
    x509.ExtendedKeyUsage.oid,
    x509.SubjectAlternativeName.oid,
    x509.CertificatePolicies.oid,
}
# what cryptography raises for a certificate that breaks the rules
BROKEN = (
    ValueError,
    TypeError,
    OverflowError,
    UnsupportedAlgorithm,
    InvalidSignature,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    x509.InvalidVersion,
)
# what asn1crypto raises for DER that breaks them
BAD_DER = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    RecursionError,
)
_PEM_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----")
E_ = TypeVar("E_", bound=x509.ExtensionType)


@dataclass(frozen=True, kw_only=True)
class Ending:
    """Whether a chain ends in an anchor; reason: one sentence, for either answer."""

    anchored: bool
    reason: str

    def __bool__(self) -> bool:
        return self.anchored


def chain_ends_in(
    chain_pem: str, anchors_pem: str, at: dt.datetime, purposes: Collection[ObjectIdentifier]
) -> Ending:
    """Whether the first certificate of a chain leads to an anchor, for one of `purposes`, at `at`.

    chain_pem: the leaf first, then certificates that may lie between, in any order. at: the moment
    that every certificate must be valid at, with a time zone. An anchor must itself be a CA: a leaf
    does not vouch for itself. Policies, name constraints and revocation are not looked at; a
    critical extension that is not understood ends the path. Raises InputError when either text is
    not PEM certificates, or `at` has no time zone.
    """
    if at.tzinfo is None:
        raise InputError(f"the time {at} has no time zone: expected one, for example UTC")
    leaf, *others = certificates(chain_pem, "the chain", limit=MAX_CHAIN)
    anchors = certificates(anchors_pem, "the trust anchors") if anchors_pem.strip() else []
    with quiet():
        return _walk(leaf, others, anchors, at, purposes)


def certificates(
    pem: str, what: str = "the text", *, limit: int | None = None
) -> list[x509.Certificate]:
    """The certificates in a PEM text, at least one.

    Raises InputError when there is none, one cannot be read, or there are more than `limit`.
    """
    blocks = _PEM_BLOCK.findall(pem.encode("utf-8", "replace"))
    if not blocks or len(blocks) != pem.count("-----BEGIN"):
        raise InputError(
            f"{what} holds {len(blocks)} PEM certificates in {pem.count('-----BEGIN')} PEM blocks: "
            "expected one or more certificates, and no other kind of PEM"
        )
    if limit is not None and len(blocks) > limit:
        raise InputError(f"{what} holds {len(blocks)} certificates: at most {limit} are read")
    return [_load(x509.load_pem_x509_certificate, block, what) for block in blocks]


def pem_of(ders: Iterable[bytes], what: str) -> str:
    """DER certificates as one PEM text; raises InputError when one is not a certificate."""
    found: list[x509.Certificate] = []
    for der in ders:
        if len(found) == MAX_CHAIN:
            raise InputError(f"{what} holds more than {MAX_CHAIN} certificates")
        if len(der) > _MAX_CERTIFICATE:
            raise InputError(
                f"{what} holds a certificate of {len(der)} bytes: at most 64 KiB are read"
            )
        found.append(_load(x509.load_der_x509_certificate, der, what))
    return "".join(item.public_bytes(Encoding.PEM).decode() for item in found)


def name_of(certificate: x509.Certificate) -> str:
    """The subject as RFC 4514 text; hostile, like anything a certificate says."""
    with quiet():
        try:
            return certificate.subject.rfc4514_string() or "a certificate without a name"
        except BROKEN:
            return "a certificate whose name cannot be read"


def extension(certificate: x509.Certificate, kind: type[E_]) -> x509.Extension[E_] | None:
    """One extension, or None; raises one of BROKEN for extensions that break the rules."""
    try:
        return certificate.extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None


def issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether names match and the issuer's key made the signature, with an algorithm of today."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except BROKEN:
        return False
    return _weakness(certificate) == "" and _weak_key(issuer) == ""


def signature_holds(
    certificate: x509.Certificate,
    signature: bytes,
    signed: bytes,
    digest: hashes.HashAlgorithm | None,
    *,
    pss: padding.PSS | None = None,
) -> bool:
    """Whether the certificate's key made this signature. pss: RSASSA-PSS, else RSA is PKCS #1 v1.5."""
    try:
        key = certificate.public_key()
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, signed)
        elif digest is None or digest.name not in DIGESTS:
            return False
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, signed, ec.ECDSA(digest))
        elif isinstance(key, rsa.RSAPublicKey) and key.key_size >= _MIN_RSA_BITS:
            key.verify(signature, signed, pss or padding.PKCS1v15(), digest)
        else:
            return False
    except BROKEN:
        return False
    return True


def pss_parameters(
    parameters: Any,
) -> tuple[hashes.HashAlgorithm | None, padding.PSS | None]:
    """Digest and padding of RSASSA-PSS parameters as asn1crypto reads them; None for weak ones."""
    digest = DIGESTS.get(parameters["hash_algorithm"]["algorithm"].native)
    mask = DIGESTS.get(parameters["mask_gen_algorithm"]["parameters"]["algorithm"].native)
    if digest is None or mask is None:
        return None, None
    salt = parameters["salt_length"].native
    return digest(), padding.PSS(mgf=padding.MGF1(mask()), salt_length=salt)


class quiet(warnings.catch_warnings):
    """No words on the terminal about what a hostile certificate holds."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("ignore")


def _load(load: Callable[[bytes], x509.Certificate], data: bytes, what: str) -> x509.Certificate:
    with quiet():
        try:
            found = load(data)
            # parsed on first use: what cannot be read is found here
            _ = found.subject, found.issuer, found.not_valid_before_utc, found.not_valid_after_utc
            return found
        except BROKEN as error:
            raise InputError(f"{what} holds a certificate that cannot be read: {error}") from error


def _walk(
    leaf: x509.Certificate,
    others: list[x509.Certificate],
    anchors: list[x509.Certificate],
    at: dt.datetime,
    purposes: Collection[ObjectIdentifier],
) -> Ending:
    """Breadth first, each certificate once: the shortest path to it is the best for path lengths."""
    why = _unfit_leaf(leaf, at, purposes)
    if why:
        return Ending(anchored=False, reason=f"{name_of(leaf)} {why}")
    reached = [(leaf, 0)]  # with the number of CA certificates below an issuer of it
    left, refused = list(others), []
    for certificate, below in reached:
        depth = below + (certificate is not leaf and certificate.issuer != certificate.subject)
        for anchor in anchors:
            if issued_by(certificate, anchor):
                why = _unfit_issuer(anchor, at, depth)
                if not why:
                    return Ending(
                        anchored=True, reason=f"the chain ends in the anchor {name_of(anchor)}"
                    )
                refused.append(f"the anchor {name_of(anchor)} {why}")
        for other in list(left):
            if issued_by(certificate, other):
                why = _unfit_issuer(other, at, depth, purposes)
                if why:
                    refused.append(f"{name_of(other)} {why}")
                else:
                    reached.append((other, depth))
                    left.remove(other)
    last = reached[-1][0]
    end = f"the chain ends in {name_of(last)}, which none of {len(anchors)} anchors issued"
    return Ending(anchored=False, reason="; ".join(dict.fromkeys(refused)) or end)


def _unfit_leaf(
    leaf: x509.Certificate, at: dt.datetime, purposes: Collection[ObjectIdentifier]
) -> str:
    """Why a leaf must not sign (C2PA 2.2, section 14.5.1), or nothing."""
    try:
        why = _outside(leaf, at) or _not_understood(leaf) or _weak_key(leaf)
        constraints, usage = extension(leaf, x509.BasicConstraints), extension(leaf, x509.KeyUsage)
        extended = extension(leaf, x509.ExtendedKeyUsage)
    except BROKEN as error:
        return f"cannot be read: {error}"
    if why:
        return why
    if constraints is not None and constraints.value.ca:
        return "is a CA: a signer must not be one"
    if usage is None or not (usage.value.digital_signature or usage.value.content_commitment):
        return "may not sign: its key usage lacks digitalSignature"
    if extended is None or not set(purposes) & set(extended.value):
        return f"is not for this purpose: expected one of {_dotted(purposes)} as extended key usage"
    return ""


def _unfit_issuer(
    certificate: x509.Certificate,
    at: dt.datetime,
    below: int,
    purposes: Collection[ObjectIdentifier] | None = None,
) -> str:
    """Why a certificate must not issue another (RFC 5280, section 6.1.4), or nothing."""
    try:
        why = _outside(certificate, at) or _not_understood(certificate)
        constraints = extension(certificate, x509.BasicConstraints)
        usage = extension(certificate, x509.KeyUsage)
        extended = extension(certificate, x509.ExtendedKeyUsage)
    except BROKEN as error:
        return f"cannot be read: {error}"
    if why:
        return why
    if constraints is None or not constraints.value.ca:
        return "is not a CA: its basic constraints do not say so"
    limit = constraints.value.path_length
    if limit is not None and below > limit:
        return f"allows {limit} CA certificates below it, there are {below}"
    if usage is not None and not usage.value.key_cert_sign:
        return "may not issue certificates: its key usage lacks keyCertSign"
    if purposes is not None and extended is not None:
        allowed = set(extended.value)
        if ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE not in allowed and not (
            allowed & set(purposes)
        ):
            return f"may not issue for this purpose: expected one of {_dotted(purposes)}"
    return ""


def _outside(certificate: x509.Certificate, at: dt.datetime) -> str:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if start <= at <= end:
        return ""
    moment = at.astimezone(dt.UTC)
    return f"is valid from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}, not at {moment:%Y-%m-%d %H:%M} UTC"


def _not_understood(certificate: x509.Certificate) -> str:
    for item in certificate.extensions:
        if item.critical and item.oid not in _UNDERSTOOD:
            return f"has a critical extension that is not understood: {item.oid.dotted_string}"
    return ""


def _weakness(certificate: x509.Certificate) -> str:
    try:
        digest = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return "is signed with an algorithm that is not understood"
    if digest is not None and digest.name not in DIGESTS:
        return f"is signed with {digest.name}: expected SHA-256, SHA-384 or SHA-512"
    return ""


def _weak_key(certificate: x509.Certificate) -> str:
    try:
        key = certificate.public_key()
    except BROKEN as error:
        return f"has a key that cannot be read: {error}"
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _MIN_RSA_BITS:
        return f"has an RSA key of {key.key_size} bits: expected at least {_MIN_RSA_BITS}"
    if isinstance(key, ec.EllipticCurvePublicKey) and key.key_size < 256:
        return f"has an EC key of {key.key_size} bits: expected at least 256"
    return ""


def _dotted(purposes: Collection[ObjectIdentifier]) -> str:
    return ", ".join(sorted(item.dotted_string for item in purposes)) or "none"
