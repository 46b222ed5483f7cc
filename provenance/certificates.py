"""Making certificates by the profile of C2PA 2.2, section 14.5.1, and by RFC 3161 and RFC 6960.

One table says what each kind of certificate may do; `issue` follows it.
"""

import datetime as dt
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import (
    AuthorityInformationAccessOID,
    ExtendedKeyUsageOID,
    NameOID,
    ObjectIdentifier,
)

from assaymark.reports.errors import InputError, nearest

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey

CLAIM_SIGNING = ObjectIdentifier("1.3.6.1.4.1.62558.2.1")
DOCUMENT_SIGNING = ObjectIdentifier("1.3.6.1.5.5.7.3.36")
# C2PA 2.2, section 13.2.1: the hash that goes with each signature algorithm
HASHES: dict[str, hashes.HashAlgorithm | None] = {
    "es256": hashes.SHA256(),
    "es384": hashes.SHA384(),
    "es512": hashes.SHA512(),
    "ps256": hashes.SHA256(),
    "ps384": hashes.SHA384(),
    "ps512": hashes.SHA512(),
    "ed25519": None,
}
ALGORITHMS = tuple(HASHES)
CURVES: dict[str, type[ec.EllipticCurve]] = {
    "es256": ec.SECP256R1,
    "es384": ec.SECP384R1,
    "es512": ec.SECP521R1,
}
_RSA_BITS = 3072
_NAME_LIMIT = 64  # ub-organization-name and ub-common-name, RFC 5280 appendix A
MAX_DAYS = 3650


@dataclass(frozen=True, kw_only=True)
class Role:
    """What a certificate is for: its purposes, and whether it may issue others."""

    purposes: tuple[ObjectIdentifier, ...] = ()
    purposes_critical: bool = False
    ca: bool = False
    path_length: int | None = None
    no_revocation_check: bool = False


ROLES = {
    "root": Role(ca=True),
    "intermediate": Role(ca=True, path_length=0),
    # emailProtection for verifiers from before C2PA had a purpose of its own
    "signing": Role(
        purposes=(CLAIM_SIGNING, DOCUMENT_SIGNING, ExtendedKeyUsageOID.EMAIL_PROTECTION)
    ),
    # RFC 3161, section 2.3: critical, and the only purpose
    "time stamping": Role(purposes=(ExtendedKeyUsageOID.TIME_STAMPING,), purposes_critical=True),
    # RFC 6960, section 4.2.2.2: nobody is asked whether the one who answers is revoked
    "OCSP": Role(purposes=(ExtendedKeyUsageOID.OCSP_SIGNING,), no_revocation_check=True),
}


@dataclass(frozen=True, kw_only=True)
class Authority:
    """A certificate and the key that belongs to it."""

    certificate: x509.Certificate
    key: Key


def issue(
    subject: x509.Name,
    key: PublicKey,
    role: str,
    *,
    issuer: x509.Certificate | None,
    issuer_key: Key,
    days: int,
    digest: hashes.HashAlgorithm | None,
    ocsp_url: str | None = None,
) -> x509.Certificate:
    """A certificate of a kind in ROLES; issuer None makes it self-signed.

    It ends with its issuer at the latest. digest: of the issuer's signature; None for Ed25519.
    """
    what = ROLES[role]
    now = dt.datetime.now(dt.UTC)
    start, end = now - dt.timedelta(minutes=10), now + dt.timedelta(days=days)  # clocks differ
    if issuer:
        end = min(end, issuer.not_valid_after_utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )
    for extension, critical in _extensions(what, key, issuer_key, ocsp_url):
        builder = builder.add_extension(extension, critical=critical)
    # RSA keys sign certificates by PKCS #1 v1.5, which more verifiers know than PSS
    return builder.sign(issuer_key, digest)  # type: ignore[arg-type]


def _extensions(
    role: Role, key: PublicKey, issuer_key: Key, ocsp_url: str | None
) -> list[tuple[x509.ExtensionType, bool]]:
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    found: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=role.ca, path_length=role.path_length), True),
        (x509.SubjectKeyIdentifier.from_public_key(key), False),
        (identifier, False),
        (_key_usage(role.ca), True),
    ]
    if role.purposes:
        found.append((x509.ExtendedKeyUsage(role.purposes), role.purposes_critical))
    if role.no_revocation_check:
        found.append((x509.OCSPNoCheck(), False))
    if ocsp_url:
        place = x509.UniformResourceIdentifier(ocsp_url)
        access = x509.AccessDescription(AuthorityInformationAccessOID.OCSP, place)
        found.append((x509.AuthorityInformationAccess([access]), False))
    return found


def _key_usage(ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def pss(digest: hashes.HashAlgorithm) -> padding.PSS:
    """RSASSA-PSS as COSE has it: MGF1 with the same hash, salt as long (RFC 8230, section 2)."""
    return padding.PSS(mgf=padding.MGF1(digest), salt_length=digest.digest_size)


def new_key(algorithm: str) -> Key:
    """A fresh private key for one of ALGORITHMS; RSA has 3,072 bits."""
    if algorithm in CURVES:
        return ec.generate_private_key(CURVES[algorithm]())
    if algorithm == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(65537, _RSA_BITS)


def subject_name(organization: str, name: str) -> x509.Name:
    """O and CN; raises InputError for text that a certificate cannot hold."""
    for what, text in (("organization", organization), ("name", name)):
        if not 1 <= len(text) <= _NAME_LIMIT or not text.isprintable():
            raise InputError(
                f"{what} has {len(text)} characters: a certificate holds 1 to {_NAME_LIMIT} "
                "printable ones"
            )
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def shortened(name: str) -> str:
    """A default name that fits into a certificate."""
    return name[:_NAME_LIMIT]


def check_algorithm(algorithm: str) -> None:
    """Raise InputError for what is not one of ALGORITHMS."""
    if algorithm not in HASHES:
        raise InputError(f'unknown algorithm "{algorithm}"{nearest(algorithm, ALGORITHMS)}')


def check_days(days: int) -> None:
    """Raise InputError for a validity that no certificate of ours has."""
    if not 1 <= days <= MAX_DAYS:
        raise InputError(f"a certificate is valid for 1 to {MAX_DAYS} days, got {days}")


def algorithm_of(leaf: x509.Certificate) -> str | None:
    """C2PA's name of the algorithm that a certificate's key signs with; None for one it lacks.

    RSA keys fit three: the hash of the certificate's own signature decides.
    """
    try:
        key = leaf.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None
    if isinstance(key, ec.EllipticCurvePublicKey):
        return next((name for name, curve in CURVES.items() if isinstance(key.curve, curve)), None)
    if isinstance(key, ed25519.Ed25519PublicKey):
        return "ed25519"
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= 2048:
        digest = leaf.signature_hash_algorithm
        return {48: "ps384", 64: "ps512"}.get(digest.digest_size if digest else 32, "ps256")
    return None


def pem(*certificates: x509.Certificate) -> str:
    """Certificates as PEM, one after the other."""
    return "".join(item.public_bytes(Encoding.PEM).decode() for item in certificates)


def private_pem(key: Key, passphrase: bytes | None) -> str:
    """A private key as PKCS #8 PEM, encrypted when there is a passphrase."""
    how = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how).decode()


def public_der(key: object) -> bytes:
    """A public key as SubjectPublicKeyInfo: equal bytes, equal keys."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined,no-any-return]


def leaf_key(certificate: x509.Certificate) -> bytes:
    """A certificate's public key as `public_der`; raises InputError for a kind we cannot read."""
    try:
        return public_der(certificate.public_key())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError(
            f"the key of {named(certificate.subject)} cannot be read: {str(error)[:160]}; expected EC "
            "P-256/384/521, Ed25519 or RSA"
        ) from error


def named(name: x509.Name) -> str:
    """A subject or issuer in RFC 4514's form, on one line and without control characters."""
    text = name.rfc4514_string() or "a certificate without a name"
    return "".join(sign if sign.isprintable() else f"\\x{ord(sign):02x}" for sign in text)


def serial_of(certificate: x509.Certificate) -> str:
    """The serial number as OpenSSL prints it: upper-case hexadecimal digits, two per byte."""
    digits = f"{certificate.serial_number:X}"
    return digits.rjust(len(digits) + len(digits) % 2, "0")
