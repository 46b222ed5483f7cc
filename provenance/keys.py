"""Certificate chains and private keys for Content Credentials.

`new_chain` makes root → intermediate → leaf for one of C2PA's signature algorithms (C2PA 2.2,
section 13.2) with the extensions that its certificate profile asks for (section 14.5.1).
"""

import datetime as dt
import os
import shutil
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from assaymark.reports.errors import InputError, nearest

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

CLAIM_SIGNING = ObjectIdentifier("1.3.6.1.4.1.62558.2.1")
DOCUMENT_SIGNING = ObjectIdentifier("1.3.6.1.5.5.7.3.36")
_HASHES: dict[str, hashes.HashAlgorithm | None] = {
    "es256": hashes.SHA256(),
    "es384": hashes.SHA384(),
    "es512": hashes.SHA512(),
    "ps256": hashes.SHA256(),
    "ps384": hashes.SHA384(),
    "ps512": hashes.SHA512(),
    "ed25519": None,
}
ALGORITHMS = tuple(_HASHES)
_CURVES: dict[str, type[ec.EllipticCurve]] = {
    "es256": ec.SECP256R1,
    "es384": ec.SECP384R1,
    "es512": ec.SECP521R1,
}
_RSA_BITS = 3072
_PASSPHRASE_LIMIT = 1023  # OpenSSL's
_NAME_LIMIT = 64  # ub-organization-name and ub-common-name, RFC 5280 appendix A


@dataclass(frozen=True, kw_only=True)
class Authority:
    """A certificate and the key that belongs to it."""

    certificate: x509.Certificate
    key: Key


@dataclass(frozen=True, kw_only=True)
class Chain:
    """A trust anchor, an issuing intermediate and a signing leaf."""

    algorithm: str
    root: Authority
    intermediate: Authority
    leaf: Authority

    @property
    def credentials(self) -> "Credentials":
        return Credentials(
            algorithm=self.algorithm,
            chain_pem=_pem(self.leaf.certificate) + _pem(self.intermediate.certificate),
            key_pem=_private_pem(self.leaf.key, None),
        )

    @property
    def trust_anchor_pem(self) -> str:
        return _pem(self.root.certificate)


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """What a signer holds: the leaf's chain, and its private key as PKCS #8 PEM in memory."""

    algorithm: str
    chain_pem: str
    key_pem: str

    def __repr__(self) -> str:
        return f"Credentials(algorithm={self.algorithm!r}, key_pem=<private>)"


def new_chain(
    organization: str, *, algorithm: str = "es256", name: str | None = None, days: int = 365
) -> Chain:
    """Make three fresh keys and certificates; the leaf is valid for `days` from now.

    organization: the subject that a verifier shows as the signer; 1 to 64 characters.
    Raises InputError for an unknown algorithm or a name that a certificate cannot hold.
    """
    if algorithm not in _HASHES:
        raise InputError(f'unknown algorithm "{algorithm}"{nearest(algorithm, ALGORITHMS)}')
    name = name or f"{organization} content signing"[:_NAME_LIMIT]
    for what, text in (("organization", organization), ("name", name)):
        if not 1 <= len(text) <= _NAME_LIMIT or not text.isprintable():
            raise InputError(
                f"{what} has {len(text)} characters: a certificate holds 1 to {_NAME_LIMIT} "
                "printable ones"
            )
    if not 1 <= days <= 3650:
        raise InputError(f"a certificate is valid for 1 to 3650 days, got {days}")
    root = _authority(organization, f"{organization} root"[:_NAME_LIMIT], algorithm, days + 3650)
    intermediate = _authority(
        organization, f"{organization} CA"[:_NAME_LIMIT], algorithm, days + 1825, issuer=root
    )
    leaf = _authority(organization, name, algorithm, days, issuer=intermediate, leaf=True)
    return Chain(algorithm=algorithm, root=root, intermediate=intermediate, leaf=leaf)


def write_chain(chain: Chain, folder: Path, passphrase: bytes) -> dict[str, Path]:
    """Write the chain as PEM; private keys are encrypted and readable by their owner only.

    Raises InputError when the folder exists: keys are never overwritten.
    """
    if len(passphrase) > _PASSPHRASE_LIMIT:
        raise InputError(
            f"the passphrase has {len(passphrase)} bytes, expected at most {_PASSPHRASE_LIMIT}"
        )
    if not passphrase:
        raise InputError("an empty passphrase would leave the private keys open: give one")
    if folder.exists():
        raise InputError(f"{folder} exists already: keys are never overwritten, name a new folder")
    contents = {
        "root.pem": chain.trust_anchor_pem,
        "root.key.pem": _private_pem(chain.root.key, passphrase),
        "intermediate.pem": _pem(chain.intermediate.certificate),
        "intermediate.key.pem": _private_pem(chain.intermediate.key, passphrase),
        "chain.pem": chain.credentials.chain_pem,
        "key.pem": _private_pem(chain.leaf.key, passphrase),
    }
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror or error}") from error
    try:
        for file, text in contents.items():
            mode = 0o600 if file.endswith("key.pem") else 0o644
            handle = os.open(made / file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with os.fdopen(handle, "w") as stream:
                stream.write(text)
        os.rename(made, folder)
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return {file: folder / file for file in contents}


def load_credentials(chain: Path, key: Path, passphrase: bytes | None) -> Credentials:
    """Read a certificate chain and its private key, encrypted or not.

    Raises InputError when either is unreadable, the passphrase is missing or wrong, the key is not
    the leaf's, or the leaf is not valid today.
    """
    passphrase = passphrase or None
    chain_bytes, key_bytes = _read(chain, "certificate chain"), _read(key, "private key")
    try:
        certificates = x509.load_pem_x509_certificates(chain_bytes)
    except ValueError as error:
        raise InputError(
            f"{chain} is not a PEM certificate chain: expected the leaf first, then its issuers"
        ) from error
    try:
        private = load_pem_private_key(key_bytes, passphrase)
    except TypeError as error:
        if passphrase is None:
            raise InputError(
                f"{key} is encrypted: give its passphrase with --passphrase-file or in "
                "ASSAYMARK_PASSPHRASE"
            ) from error
        private = load_pem_private_key(
            key_bytes, None
        )  # a passphrase for an open key is not needed
    except (ValueError, UnsupportedAlgorithm) as error:
        wrong = b"ENCRYPTED" in key_bytes and passphrase is not None
        raise InputError(
            f"the passphrase does not open {key}: check it and try again"
            if wrong
            else f"{key} is not a PEM private key: expected -----BEGIN … PRIVATE KEY-----"
        ) from error
    if not certificates:
        raise InputError(f"{chain} holds no certificate: expected the leaf first, then its issuers")
    leaf = certificates[0]
    if _public(leaf.public_key()) != _public(private.public_key()):
        raise InputError(
            f"{key} is not the key of the first certificate in {chain}: expected the leaf's own key"
        )
    now = dt.datetime.now(dt.UTC)
    if not leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc:
        raise InputError(
            f"the certificate in {chain} is valid from {leaf.not_valid_before_utc:%Y-%m-%d} to "
            f"{leaf.not_valid_after_utc:%Y-%m-%d}, today is {now:%Y-%m-%d}: make or request a new one"
        )
    for issued, issuer in pairwise(certificates):
        try:
            issued.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature) as error:
            raise InputError(
                f"{chain} is not a chain: {_subject(issued)} was not issued by {_subject(issuer)}; "
                "expected the leaf first, then its issuers in order"
            ) from error
    return Credentials(
        algorithm=_algorithm(private, leaf, key),
        chain_pem="".join(map(_pem, certificates)),
        key_pem=_private_pem(private, None),  # type: ignore[arg-type]
    )


def load_anchors(paths: list[Path] | tuple[Path, ...]) -> str:
    """Trust anchors as one PEM text; raises InputError when one is not a certificate."""
    parts = []
    for path in paths:
        try:
            parts += [
                _pem(item) for item in x509.load_pem_x509_certificates(_read(path, "trust anchor"))
            ]
        except ValueError as error:
            raise InputError(f"{path} is not a PEM certificate: expected a trust anchor") from error
    return "".join(parts)


def _authority(
    organization: str,
    name: str,
    algorithm: str,
    days: int,
    *,
    issuer: Authority | None = None,
    leaf: bool = False,
) -> Authority:
    key = _new_key(algorithm)
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )
    signing_key = issuer.key if issuer else key
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=10))  # clocks differ
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(
            x509.BasicConstraints(ca=not leaf, path_length=0 if issuer and not leaf else None),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()),
            critical=False,
        )
        .add_extension(
            x509.KeyUsage(
                digital_signature=leaf,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=not leaf,
                crl_sign=not leaf,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    )
    if leaf:
        # emailProtection for verifiers from before C2PA had a purpose of its own
        purposes = [CLAIM_SIGNING, DOCUMENT_SIGNING, ExtendedKeyUsageOID.EMAIL_PROTECTION]
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    digest = _HASHES[algorithm]
    if isinstance(signing_key, rsa.RSAPrivateKey):
        assert digest is not None
        pss = padding.PSS(mgf=padding.MGF1(digest), salt_length=digest.digest_size)
        return Authority(certificate=builder.sign(signing_key, digest, rsa_padding=pss), key=key)  # type: ignore[arg-type]
    return Authority(certificate=builder.sign(signing_key, digest), key=key)  # type: ignore[arg-type]


def _new_key(algorithm: str) -> Key:
    if algorithm in _CURVES:
        return ec.generate_private_key(_CURVES[algorithm]())
    if algorithm == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(65537, _RSA_BITS)


def _algorithm(private: object, leaf: x509.Certificate, path: Path) -> str:
    if isinstance(private, ec.EllipticCurvePrivateKey):
        for algorithm, curve in _CURVES.items():
            if isinstance(private.curve, curve):
                return algorithm
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(private, rsa.RSAPrivateKey) and private.key_size >= 2048:
        size = leaf.signature_hash_algorithm.digest_size if leaf.signature_hash_algorithm else 32
        return {48: "ps384", 64: "ps512"}.get(size, "ps256")
    raise InputError(
        f"{path} is a key of a kind that C2PA does not allow: expected EC P-256/384/521, Ed25519 or "
        "RSA of at least 2048 bits"
    )


def _subject(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string() or "a certificate without a name"


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the {what} {path}: {error.strerror or error}") from error


def _public(key: object) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined,no-any-return]


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def _private_pem(key: Key, passphrase: bytes | None) -> str:
    how = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how).decode()
