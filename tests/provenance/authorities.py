"""Certificates of authorities, made to measure for tests."""

import datetime as dt
from collections.abc import Sequence
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from assaymark.provenance.certificates import Authority, Key

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
STAMPING = (ExtendedKeyUsageOID.TIME_STAMPING,)
OCSP_SIGNING = (ExtendedKeyUsageOID.OCSP_SIGNING,)
EMAIL = (ExtendedKeyUsageOID.EMAIL_PROTECTION,)


@cache
def rsa_key(number: int) -> rsa.RSAPrivateKey:
    """RSA keys are slow to make: few, and told apart by number."""
    return rsa.generate_private_key(65537, 2048)


def new_key(kind: str = "es256") -> Key:
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if kind.startswith("rsa"):
        return rsa_key(int(kind[3:] or 0))
    curves = {"es256": ec.SECP256R1(), "es384": ec.SECP384R1(), "es512": ec.SECP521R1()}
    return ec.generate_private_key(curves[kind])


def authority(
    name: str,
    issuer: Authority | None = None,
    *,
    kind: str = "es256",
    ca: bool = False,
    path_length: int | None = None,
    purposes: Sequence[x509.ObjectIdentifier] = (),
    critical: bool = True,
    responder: str = "",
    start: dt.datetime = NOW - dt.timedelta(days=1),
    end: dt.datetime = NOW + dt.timedelta(days=30),
    key: Key | None = None,
    sign_certificates: bool | None = None,
    extra: Sequence[tuple[x509.ExtensionType, bool]] = (),
    digest: hashes.HashAlgorithm | None = None,
    pss: bool = False,
) -> Authority:
    """A certificate by `issuer`, or a self-signed one."""
    key = key or new_key(kind)
    signing = issuer.key if issuer else key
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example Authority"),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )
    certifies = ca if sign_certificates is None else sign_certificates
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False
        )
        .add_extension(
            x509.KeyUsage(
                digital_signature=not ca,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=certifies,
                crl_sign=certifies,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    )
    if purposes:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=critical)
    if responder:
        access = x509.AccessDescription(
            AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(responder)
        )
        builder = builder.add_extension(x509.AuthorityInformationAccess([access]), critical=False)
    for extension, is_critical in extra:
        builder = builder.add_extension(extension, critical=is_critical)
    algorithm = (
        None if isinstance(signing, ed25519.Ed25519PrivateKey) else digest or hashes.SHA256()
    )
    options = (
        {"rsa_padding": padding.PSS(padding.MGF1(hashes.SHA256()), 32)}
        if pss and isinstance(signing, rsa.RSAPrivateKey)
        else {}
    )
    certificate = builder.sign(signing, algorithm, **options)  # type: ignore[arg-type]
    return Authority(certificate=certificate, key=key)


def pem(*authorities: Authority) -> str:
    return "".join(item.certificate.public_bytes(Encoding.PEM).decode() for item in authorities)


def key_pem(authority: Authority) -> str:
    return authority.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
