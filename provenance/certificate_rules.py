"""The rules for one certificate of C2PA 2.2, section 14.5.1, and of RFC 5280, one function each.

A rule yields what is wrong as the rest of a sentence that starts with the certificate's name.
"""

import datetime as dt
from collections.abc import Callable, Iterator
from typing import TypeVar

from asn1crypto import x509 as asn1
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from assaymark.provenance.certificates import CLAIM_SIGNING, CURVES, DOCUMENT_SIGNING

PURPOSES = {
    CLAIM_SIGNING.dotted_string: "c2pa-kp-claimSigning",
    DOCUMENT_SIGNING.dotted_string: "documentSigning",
    ExtendedKeyUsageOID.EMAIL_PROTECTION.dotted_string: "emailProtection",
    ExtendedKeyUsageOID.TIME_STAMPING.dotted_string: "timeStamping",
    ExtendedKeyUsageOID.OCSP_SIGNING.dotted_string: "OCSPSigning",
    ExtendedKeyUsageOID.SERVER_AUTH.dotted_string: "serverAuth",
    ExtendedKeyUsageOID.CLIENT_AUTH.dotted_string: "clientAuth",
    ExtendedKeyUsageOID.CODE_SIGNING.dotted_string: "codeSigning",
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE.dotted_string: "anyExtendedKeyUsage",
}
_SIGNING = ("c2pa-kp-claimSigning", "documentSigning", "emailProtection")
_ALONE = ("timeStamping", "OCSPSigning")
_SIGNATURES = {
    "1.2.840.113549.1.1.11",  # sha256WithRSAEncryption
    "1.2.840.113549.1.1.12",
    "1.2.840.113549.1.1.13",
    "1.2.840.113549.1.1.10",  # RSASSA-PSS
    "1.2.840.10045.4.3.2",  # ecdsa-with-SHA256
    "1.2.840.10045.4.3.3",
    "1.2.840.10045.4.3.4",
    "1.3.101.112",  # Ed25519
}
_PSS = "1.2.840.113549.1.1.10"
_DIGESTS = ("sha256", "sha384", "sha512")
_ASK = "ask for c2pa-kp-claimSigning (1.3.6.1.4.1.62558.2.1)"
# those that c2pa-rs and RFC 5280 verifiers handle: another critical one must be refused
_HANDLED = {
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
    ExtensionOID.SUBJECT_KEY_IDENTIFIER,
    ExtensionOID.KEY_USAGE,
    ExtensionOID.EXTENDED_KEY_USAGE,
    ExtensionOID.BASIC_CONSTRAINTS,
    ExtensionOID.CERTIFICATE_POLICIES,
    ExtensionOID.POLICY_MAPPINGS,
    ExtensionOID.POLICY_CONSTRAINTS,
    ExtensionOID.INHIBIT_ANY_POLICY,
    ExtensionOID.NAME_CONSTRAINTS,
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    ExtensionOID.CRL_DISTRIBUTION_POINTS,
    ExtensionOID.AUTHORITY_INFORMATION_ACCESS,
}

_Kind = TypeVar("_Kind", bound=x509.ExtensionType)
Rule = Callable[[x509.Certificate], Iterator[str]]


def purposes_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """The extended key usages by name; an object identifier where we know none."""
    usage = extension_of(certificate, x509.ExtendedKeyUsage)
    return tuple(PURPOSES.get(item.dotted_string, item.dotted_string) for item in usage or ())


def applied(rule: Rule, certificate: x509.Certificate) -> tuple[str, ...]:
    """What a rule says of a certificate; one that it cannot read is a fault as well."""
    try:
        return tuple(rule(certificate))
    except (ValueError, x509.DuplicateExtension, UnsupportedAlgorithm) as error:
        return (f"cannot be read: {str(error)[:160]}",)


def validity(certificate: x509.Certificate, at: dt.datetime) -> Iterator[str]:
    """Whether a certificate is valid at an aware time."""
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not start <= at <= end:
        yield (
            f"is valid from {start:%Y-%m-%d} to {end:%Y-%m-%d}, today is {at:%Y-%m-%d}: "
            "make or request a new one"
        )


def _version(certificate: x509.Certificate) -> Iterator[str]:
    if certificate.version is not x509.Version.v3:
        yield f"is version {certificate.version.value + 1}: expected version 3, with extensions"


def _unique_ids(certificate: x509.Certificate) -> Iterator[str]:
    inner = _asn1(certificate)["tbs_certificate"]
    if inner["issuer_unique_id"].native or inner["subject_unique_id"].native:
        yield "has an issuerUniqueID or subjectUniqueID: C2PA allows neither"


def _signature(certificate: x509.Certificate) -> Iterator[str]:
    if certificate.signature_algorithm_oid.dotted_string not in _SIGNATURES:
        used = _asn1(certificate)["signature_algorithm"]["algorithm"].native
        yield (
            f"is signed with {used}: expected SHA-256, SHA-384 or SHA-512 with ECDSA or RSA, "
            "or Ed25519"
        )


def _pss_parameters(certificate: x509.Certificate) -> Iterator[str]:
    if certificate.signature_algorithm_oid.dotted_string != _PSS:
        return
    parameters = _asn1(certificate)["signature_algorithm"]["parameters"]
    digest = parameters["hash_algorithm"]["algorithm"].native  # absent means SHA-1
    mask = parameters["mask_gen_algorithm"]["parameters"]["algorithm"].native
    if digest not in _DIGESTS or mask != digest:
        yield (
            f"is signed with RSASSA-PSS over {digest} and MGF1 over {mask}: expected SHA-256, "
            "SHA-384 or SHA-512, the same for both"
        )


def _key(certificate: x509.Certificate) -> Iterator[str]:
    key = certificate.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        parameters = _asn1(certificate)["tbs_certificate"]["subject_public_key_info"]["algorithm"]
        if parameters["parameters"].name != "named":
            yield "spells its curve out: expected the name of P-256, P-384 or P-521"
        elif not isinstance(key.curve, tuple(CURVES.values())):
            yield f"has a key on the curve {key.curve.name}: expected P-256, P-384 or P-521"
    elif isinstance(key, rsa.RSAPublicKey):
        if key.key_size < 2048:
            yield f"has an RSA key of {key.key_size} bits: expected at least 2048"
    elif not isinstance(key, ed25519.Ed25519PublicKey):
        kind = type(key).__name__.removesuffix("PublicKey")
        yield f"has a key of the kind {kind}: expected EC, RSA or Ed25519"


def not_ca(certificate: x509.Certificate) -> Iterator[str]:
    """Whether a certificate is an end entity's."""
    limits = extension_of(certificate, x509.BasicConstraints)
    if limits and limits.ca:
        yield "is a CA: claims are signed with an end-entity certificate, which comes first"


def _not_self_signed(certificate: x509.Certificate) -> Iterator[str]:
    if certificate.subject == certificate.issuer:
        yield (
            "is self-signed: C2PA asks for an issuer (assaymark keys new makes one), although "
            "some verifiers accept it as its own trust anchor"
        )


def _key_usage(certificate: x509.Certificate) -> Iterator[str]:
    usage = extension_of(certificate, x509.KeyUsage)
    if usage is None:
        yield "has no keyUsage: expected digitalSignature"
        return
    if not usage.digital_signature:
        yield "may not sign: its keyUsage lacks digitalSignature"
    if usage.key_cert_sign:
        yield "has keyCertSign in its keyUsage: that is for CAs only"


def _purposes(certificate: x509.Certificate) -> Iterator[str]:
    names = purposes_of(certificate)
    if not names:
        yield f"has no extendedKeyUsage: {_ASK}"
    elif "anyExtendedKeyUsage" in names:
        yield f"is for any purpose (anyExtendedKeyUsage), which C2PA forbids: {_ASK}"
    elif alone := [name for name in names if name in _ALONE]:
        yield f"is for {' and '.join(alone)}, which excludes signing claims: {_ASK}"
    elif not set(names) & set(_SIGNING):
        yield f"is for {', '.join(names)} only, not for signing claims: {_ASK}"


def _authority_identifier(certificate: x509.Certificate) -> Iterator[str]:
    if extension_of(certificate, x509.AuthorityKeyIdentifier) is None:
        yield "has no authorityKeyIdentifier, which every certificate but a root needs"


def _critical(certificate: x509.Certificate) -> Iterator[str]:
    for item in certificate.extensions:
        if item.critical and item.oid not in _HANDLED:
            yield f"has a critical extension that verifiers do not know: {item.oid.dotted_string}"


def _organization(certificate: x509.Certificate) -> Iterator[str]:
    if not certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME):
        yield "names no Organization: verifiers show that as the signer"


def _is_ca(certificate: x509.Certificate) -> Iterator[str]:
    limits = extension_of(certificate, x509.BasicConstraints)
    usage = extension_of(certificate, x509.KeyUsage)
    if limits is None or not limits.ca:
        yield "is no CA (basicConstraints), so it cannot be an issuer"
    elif usage is None or not usage.key_cert_sign:
        yield "may not issue: its keyUsage lacks keyCertSign"


def _subject_identifier(certificate: x509.Certificate) -> Iterator[str]:
    if extension_of(certificate, x509.SubjectKeyIdentifier) is None:
        yield "has no subjectKeyIdentifier"


def _critical_key_usage(certificate: x509.Certificate) -> Iterator[str]:
    for item in certificate.extensions:
        if item.oid == ExtensionOID.KEY_USAGE and not item.critical:
            yield "has a keyUsage that is not critical: it should be"


def _critical_purposes(certificate: x509.Certificate) -> Iterator[str]:
    for item in certificate.extensions:
        if item.oid == ExtensionOID.EXTENDED_KEY_USAGE and item.critical:
            yield "has a critical extendedKeyUsage: verifiers that do not know its purpose refuse it"


def _purpose_advice(certificate: x509.Certificate) -> Iterator[str]:
    names = purposes_of(certificate)
    if not set(names) & set(_SIGNING):
        return  # refused anyway
    if "c2pa-kp-claimSigning" not in names:
        yield f"is not for c2pa-kp-claimSigning, which the C2PA Trust List goes by: {_ASK}"
    if "emailProtection" not in names:
        yield "is not for emailProtection: c2pa-rs 0.91 with its default settings calls it invalid"
    if other := [name for name in names if name not in _SIGNING]:
        yield f"is also for {', '.join(other)}: a signing certificate should be for nothing else"


_ANY: tuple[Rule, ...] = (_version, _unique_ids, _signature, _pss_parameters, _key)
LEAF_RULES: tuple[Rule, ...] = (
    *_ANY,
    not_ca,
    _not_self_signed,
    _key_usage,
    _purposes,
    _authority_identifier,
    _critical,
)
ISSUER_RULES: tuple[Rule, ...] = (
    *_ANY, _is_ca, _authority_identifier, _subject_identifier, _critical
)  # fmt: skip
ADVICE: tuple[Rule, ...] = (
    _organization, _subject_identifier, _critical_key_usage, _critical_purposes, _purpose_advice
)  # fmt: skip


def extension_of(certificate: x509.Certificate, kind: type[_Kind]) -> _Kind | None:
    """An extension by its class, None where the certificate has none."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _asn1(certificate: x509.Certificate) -> asn1.Certificate:
    return asn1.Certificate.load(certificate.public_bytes(Encoding.DER))
