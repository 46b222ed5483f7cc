"""Certificates that are wrong in exactly one way, made with `cryptography` and `openssl` alone."""

import datetime as dt
from collections.abc import Callable, Sequence
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = dt.datetime.now(dt.UTC)
CLAIMS = x509.ObjectIdentifier("1.3.6.1.4.1.62558.2.1")
USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def named(common: str, organization: str | None = "Example Press") -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common)]
    if organization:
        parts.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(parts)


def certificate(
    subject: x509.Name,
    key: Any,
    issuer: x509.Name,
    issuer_key: Any,
    *,
    ca: bool | None = False,
    path_length: int | None = None,
    usages: Sequence[str] | None = ("digital_signature",),
    usage_critical: bool = True,
    purposes: Sequence[x509.ObjectIdentifier] = (CLAIMS, ExtendedKeyUsageOID.EMAIL_PROTECTION),
    purposes_critical: bool = False,
    aki: bool = True,
    ski: bool = True,
    start: dt.timedelta = dt.timedelta(days=-1),
    end: dt.timedelta = dt.timedelta(days=30),
    extra: x509.ExtensionType | None = None,
    digest: Any = None,
    padding: Any = None,
) -> x509.Certificate:
    """A leaf that C2PA accepts, unless an argument says otherwise."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + start)
        .not_valid_after(NOW + end)
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, path_length), critical=True)
    if usages is not None:
        usage = x509.KeyUsage(**{name: name in usages for name in USAGES})
        builder = builder.add_extension(usage, critical=usage_critical)
    if purposes:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), purposes_critical)
    if aki:
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
        builder = builder.add_extension(identifier, critical=False)
    if ski:
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        builder = builder.add_extension(own, critical=False)
    if extra is not None:
        builder = builder.add_extension(extra, critical=True)
    options = {"rsa_padding": padding} if padding else {}
    hashed = None if digest is False else digest or hashes.SHA256()
    return builder.sign(issuer_key, hashed, **options)


class Line:
    """root → intermediate → leaf, each of which can be replaced by a wrong one."""

    def __init__(self, new: Callable[[], Any] = lambda: ec.generate_private_key(ec.SECP256R1())):
        self.root_key, self.issuer_key, self.leaf_key = new(), new(), new()
        self.root = self.authority(self.root_key, "root", self.root_key, "root")
        self.issuer = self.authority(self.issuer_key, "CA", self.root_key, "root", path_length=0)

    def authority(
        self, key: Any, name: str, issuer_key: Any, issuer: str, **options: Any
    ) -> x509.Certificate:
        settings: dict[str, Any] = {
            "ca": True,
            "usages": ("key_cert_sign", "crl_sign"),
            "purposes": (),
            "end": dt.timedelta(days=300),
        } | options
        return certificate(named(name), key, named(issuer), issuer_key, **settings)

    def leaf(self, **options: Any) -> x509.Certificate:
        name = options.pop("subject", named("signer"))
        key = options.pop("key", self.leaf_key)
        by = options.pop("issuer_key", self.issuer_key)
        return certificate(name, key, options.pop("issuer", named("CA")), by, **options)


def pem(*certificates: x509.Certificate) -> str:
    return "".join(item.public_bytes(Encoding.PEM).decode() for item in certificates)


def key_pem(key: Any) -> str:
    return str(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), encoding="ascii"
    )
