"""Why a certificate is refused for signing claims, in words.

The rules of C2PA 2.2, section 14.5.1, and of RFC 5280, section 6, one function each. c2pa-rs says
"the certificate is invalid" for most of them.
"""

import datetime as dt
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TypeVar

from asn1crypto import x509 as asn1
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from assaymark.provenance.certificates import CLAIM_SIGNING, CURVES, DOCUMENT_SIGNING, named
from assaymark.provenance.key_files import parse_certificates

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
_LONGEST = 10  # certificates; those of public CAs have 2 to 4
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

Chain = tuple[x509.Certificate, ...]
_Kind = TypeVar("_Kind", bound=x509.ExtensionType)
Rule = Callable[[x509.Certificate], Iterator[str]]


def why_refused(
    chain_pem: str, *, anchors_pem: str = "", at: dt.datetime | None = None
) -> tuple[str, ...]:
    """The reasons why a chain is refused for signing claims; empty when there is none.

    anchors_pem: where the chain has to end, if that is known. at: an aware time; None is now.
    """
    try:
        chain = parse_certificates(chain_pem.encode())
        anchors = parse_certificates(anchors_pem.encode())
    except ValueError as error:
        return (f"the chain cannot be read: {(str(error).splitlines() or ['?'])[0][:160]}",)
    if not chain:
        return ("the chain holds no certificate: expected the leaf first, then its issuers",)
    return refused(chain, anchors=anchors, at=at)


def refused(chain: Chain, *, anchors: Chain = (), at: dt.datetime | None = None) -> tuple[str, ...]:
    """`why_refused` for certificates that are read already."""
    at = at or dt.datetime.now(dt.UTC)
    if len(chain) > _LONGEST:
        return (f"the chain has {len(chain)} certificates: expected at most {_LONGEST}",)
    if first := _misplaced_leaf(chain):
        return (
            f"the chain is out of order: it starts with the CA {named(chain[0].subject)}, expected "
            f"{named(first.subject)} first, then its issuers",
        )
    return tuple(
        [f"{_called(chain[0], 0)} {text}" for text in _leaf_faults(chain[0], at)]
        + [
            f"{_called(item, place)} {text}"
            for place, item in enumerate(chain[1:], start=1)
            for text in _issuer_faults(item, place, at)
        ]
        + list(_link_faults(chain, anchors))
    )


def warnings_about(chain: Chain) -> tuple[str, ...]:
    """What C2PA only advises against, and what only some verifiers refuse."""
    return tuple(
        f"{_called(chain[0], 0)} {text}" for rule in _ADVICE for text in _try(rule, chain[0])
    ) + tuple(_chain_advice(chain))


def purposes_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """The extended key usages by name; an object identifier where we know none."""
    usage = _extension(certificate, x509.ExtendedKeyUsage)
    return tuple(PURPOSES.get(item.dotted_string, item.dotted_string) for item in usage or ())


def _misplaced_leaf(chain: Chain) -> x509.Certificate | None:
    if not any(_try(_not_ca, chain[0])):
        return None
    return next((item for item in chain[1:] if not any(_try(_not_ca, item))), None)


def _leaf_faults(leaf: x509.Certificate, at: dt.datetime) -> Iterator[str]:
    yield from _validity(leaf, at)
    for rule in _LEAF_RULES:
        yield from _try(rule, leaf)


def _issuer_faults(issuer: x509.Certificate, place: int, at: dt.datetime) -> Iterator[str]:
    yield from _validity(issuer, at)
    if issuer.subject == issuer.issuer:
        return  # a root's own extensions are the business of who trusts it
    for rule in _ISSUER_RULES:
        yield from _try(rule, issuer)
    limits = _extension(issuer, x509.BasicConstraints)
    if limits and limits.path_length is not None and limits.path_length < place - 1:
        yield (
            f"allows {limits.path_length} issuers below it (pathLenConstraint), {place - 1} are there"
        )


def _try(rule: Rule, certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        return tuple(rule(certificate))
    except (ValueError, x509.DuplicateExtension, UnsupportedAlgorithm) as error:
        return (f"cannot be read: {str(error)[:160]}",)


def _validity(certificate: x509.Certificate, at: dt.datetime) -> Iterator[str]:
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


def _not_ca(certificate: x509.Certificate) -> Iterator[str]:
    limits = _extension(certificate, x509.BasicConstraints)
    if limits and limits.ca:
        yield "is a CA: claims are signed with an end-entity certificate, which comes first"


def _not_self_signed(certificate: x509.Certificate) -> Iterator[str]:
    if certificate.subject == certificate.issuer:
        yield (
            "is self-signed: C2PA asks for an issuer (assaymark keys new makes one), although "
            "some verifiers accept it as its own trust anchor"
        )


def _key_usage(certificate: x509.Certificate) -> Iterator[str]:
    usage = _extension(certificate, x509.KeyUsage)
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
    if _extension(certificate, x509.AuthorityKeyIdentifier) is None:
        yield "has no authorityKeyIdentifier, which every certificate but a root needs"


def _critical(certificate: x509.Certificate) -> Iterator[str]:
    for item in certificate.extensions:
        if item.critical and item.oid not in _HANDLED:
            yield f"has a critical extension that verifiers do not know: {item.oid.dotted_string}"


def _organization(certificate: x509.Certificate) -> Iterator[str]:
    if not certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME):
        yield "names no Organization: verifiers show that as the signer"


def _is_ca(certificate: x509.Certificate) -> Iterator[str]:
    limits = _extension(certificate, x509.BasicConstraints)
    usage = _extension(certificate, x509.KeyUsage)
    if limits is None or not limits.ca:
        yield "is no CA (basicConstraints), so it cannot be an issuer"
    elif usage is None or not usage.key_cert_sign:
        yield "may not issue: its keyUsage lacks keyCertSign"


def _subject_identifier(certificate: x509.Certificate) -> Iterator[str]:
    if _extension(certificate, x509.SubjectKeyIdentifier) is None:
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
_LEAF_RULES: tuple[Rule, ...] = (
    *_ANY,
    _not_ca,
    _not_self_signed,
    _key_usage,
    _purposes,
    _authority_identifier,
    _critical,
)
_ISSUER_RULES: tuple[Rule, ...] = (
    *_ANY, _is_ca, _authority_identifier, _subject_identifier, _critical
)  # fmt: skip
_ADVICE: tuple[Rule, ...] = (
    _organization, _subject_identifier, _critical_key_usage, _critical_purposes, _purpose_advice
)  # fmt: skip


def _link_faults(chain: Chain, anchors: Chain) -> Iterator[str]:
    for place, (issued, issuer) in enumerate(pairwise(chain)):
        if issued_by(issued, issuer):
            continue
        elsewhere = any(issued_by(issued, item) for item in chain if item is not issuer)
        reason = (
            "the chain is out of order"
            if elsewhere or issued.issuer != issuer.subject
            else "its signature is of another key"
        )
        yield (
            f"{_called(issued, place)} was not issued by {named(issuer.subject)} ({reason}): expected the "
            "leaf first, then its issuers in order"
        )
    last = chain[-1]
    if anchors and not any(last == item or issued_by(last, item) for item in anchors):
        yield (
            f"{_called(last, len(chain) - 1)} was issued by {named(last.issuer)}, which "
            "is neither in the chain nor a trust anchor: add the missing intermediate"
        )


def _chain_advice(chain: Chain) -> Iterator[str]:
    last = chain[-1]
    if len(chain) > 1 and last.subject == last.issuer:
        yield (
            f"the chain includes the root {named(last.subject)}: verifiers bring their own, it only makes "
            "files longer"
        )
    if len(chain) == 1 and last.subject != last.issuer:
        yield (
            f"the chain holds the signing certificate only: unless {named(last.issuer)} is "
            "itself a trust anchor, add the intermediate certificates"
        )


def issued_by(issued: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether names and signature of one certificate fit another's name and key."""
    try:
        issued.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _extension(certificate: x509.Certificate, kind: type[_Kind]) -> _Kind | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _asn1(certificate: x509.Certificate) -> asn1.Certificate:
    return asn1.Certificate.load(certificate.public_bytes(Encoding.DER))


def _called(certificate: x509.Certificate, place: int) -> str:
    return (
        f"{'the signing certificate' if place == 0 else 'the issuer'} {named(certificate.subject)}"
    )
