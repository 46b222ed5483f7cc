"""Certificates and private keys from files of any common kind.

PEM (PKCS #8, SEC 1, PKCS #1; open or encrypted, with anything around the blocks), DER and
PKCS #12. The c2pa library takes open PKCS #8 only, so keys are converted in memory.
"""

import base64
import binascii
import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    load_der_private_key,
    load_pem_private_key,
    pkcs7,
    pkcs12,
)

from assaymark.provenance.certificates import leaf_key
from assaymark.reports.errors import InputError

_LIMIT = 1 << 20  # no chain or key is longer
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----[ \t]*\n(.*?)\n-----END \1-----", re.DOTALL)
_KEYS = (b"PRIVATE KEY", b"ENCRYPTED PRIVATE KEY", b"EC PRIVATE KEY", b"RSA PRIVATE KEY")
_CERTIFICATES = (b"CERTIFICATE", b"X509 CERTIFICATE")
GIVE_PASSPHRASE = "give its passphrase with --passphrase-file or in ASSAYMARK_PASSPHRASE"


def read_limited(path: Path, what: str) -> bytes:
    """The bytes of a small file; raises InputError when it cannot be read or is too long."""
    try:
        with path.open("rb") as stream:
            data = stream.read(_LIMIT + 1)
    except OSError as error:
        raise InputError(f"cannot read the {what} {path}: {error.strerror or error}") from error
    if len(data) > _LIMIT:
        raise InputError(f"{path} has more than {_LIMIT} bytes, too many for a {what}")
    return data


def read_certificates(
    path: Path, what: str = "certificate chain", passphrase: bytes | None = None
) -> tuple[x509.Certificate, ...]:
    """All certificates of a PEM, DER, PKCS #7 or PKCS #12 file, in its order.

    Raises InputError when there is none or one cannot be read.
    """
    data = read_limited(path, what)
    try:
        found = parse_certificates(data)
        if not found and data[:1] == b"\x30":
            found = _from_pkcs12(path, data, passphrase)[1]
    except ValueError as error:
        raise InputError(
            f"{path} is not a PEM certificate chain: {_short(error)}; expected the leaf first, "
            "then its issuers"
        ) from error
    if not found:
        raise InputError(
            f"{path} is not a PEM certificate chain: it holds no certificate; expected the leaf "
            "first, then its issuers"
        )
    return found


def parse_certificates(data: bytes) -> tuple[x509.Certificate, ...]:
    """Certificates in PEM, DER or PKCS #7; empty when there are none, ValueError for a broken one."""
    blocks = _blocks(data)
    if store := next((body for kind, body in blocks if kind == b"PKCS7"), None):
        return tuple(_from_pkcs7(_decode(store)))
    if blocks or data[:1] != b"\x30":
        return tuple(
            x509.load_der_x509_certificate(_decode(body))
            for kind, body in blocks
            if kind in _CERTIFICATES
        )
    for load in (_one, _from_pkcs7):
        try:
            return tuple(load(data))
        except (ValueError, UnsupportedAlgorithm):
            continue
    return ()


def _one(data: bytes) -> list[x509.Certificate]:
    return [x509.load_der_x509_certificate(data)]


def _from_pkcs7(data: bytes) -> list[x509.Certificate]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # OpenSSL does not sort them as DER asks
        return pkcs7.load_der_pkcs7_certificates(data)


def read_private_key(path: Path, passphrase: bytes | None) -> object:
    """The first private key of a PEM, DER or PKCS #12 file; a passphrase it needs not is ignored.

    Raises InputError when there is none, or the passphrase is missing or wrong.
    """
    data = read_limited(path, "private key")
    passphrase = passphrase or None
    for kind, body in _blocks(data):
        if kind in _KEYS:
            block = b"-----BEGIN %b-----\n%b\n-----END %b-----\n" % (kind, body, kind)
            return _open(path, block, b"ENCRYPTED" in block, passphrase, load_pem_private_key)
    if data[:1] == b"\x30" and not parse_certificates(data):
        if _is_pkcs12(data):
            key = _from_pkcs12(path, data, passphrase)[0]
            if key is not None:
                return key
        else:
            return _open(path, data, True, passphrase, load_der_private_key)
    raise InputError(f"{path} is not a PEM private key: expected -----BEGIN … PRIVATE KEY-----")


def needs_passphrase(path: Path) -> bool:
    """Whether a key file opens with a passphrase only; False when it cannot be read at all."""
    try:
        data = read_limited(path, "private key")
    except InputError:
        return False  # reading it properly says what is wrong
    blocks = [kind + body for kind, body in _blocks(data) if kind in _KEYS]
    if blocks or data[:1] != b"\x30":
        return bool(blocks) and b"ENCRYPTED" in blocks[0]
    try:
        if _is_pkcs12(data):
            pkcs12.load_pkcs12(data, None)
        else:
            load_der_private_key(data, None)
    except TypeError:
        return True
    except (ValueError, UnsupportedAlgorithm):
        return _is_pkcs12(data)
    return False


def _open(
    path: Path,
    data: bytes,
    encrypted: bool,
    passphrase: bytes | None,
    load: Callable[[bytes, bytes | None], object],
) -> object:
    try:
        return load(data, passphrase)
    except TypeError as error:
        if passphrase is None:
            raise InputError(f"{path} is encrypted: {GIVE_PASSPHRASE}") from error
        return load(data, None)  # a passphrase for an open key is not needed
    except UnsupportedAlgorithm as error:
        raise InputError(
            f"{path} is a private key of a kind that cannot be opened: {_short(error)}; convert it "
            f"with: openssl pkcs8 -topk8 -in {path.name}"
        ) from error
    except ValueError as error:
        raise InputError(
            f"the passphrase does not open {path}: check it and try again"
            if encrypted and passphrase is not None
            else f"{path} is not a PEM private key that can be read: {_short(error)}; expected "
            "-----BEGIN … PRIVATE KEY-----"
        ) from error


def _from_pkcs12(
    path: Path, data: bytes, passphrase: bytes | None
) -> tuple[object | None, tuple[x509.Certificate, ...]]:
    try:
        store = pkcs12.load_pkcs12(data, passphrase or None)
    except (ValueError, TypeError) as error:
        raise InputError(
            f"the passphrase does not open {path}: check it and try again"
            if passphrase
            else f"{path} is encrypted: {GIVE_PASSPHRASE}"
        ) from error
    except UnsupportedAlgorithm as error:
        raise InputError(
            f"{path} uses a cipher that is no longer supported: {_short(error)}; convert it with: "
            f"openssl pkcs12 -legacy -in {path.name} -out new.pem"
        ) from error
    first = [store.cert.certificate] if store.cert else []
    others = [item.certificate for item in store.additional_certs]
    return store.key, tuple(_leaf_first(first + others))


def _leaf_first(certificates: list[x509.Certificate]) -> list[x509.Certificate]:
    """PKCS #12 keeps no order beyond the key's own certificate: follow the issuers."""
    if not certificates:
        return []
    ordered, left = certificates[:1], certificates[1:]
    while step := next((item for item in left if item.subject == ordered[-1].issuer), None):
        ordered.append(step)
        left.remove(step)
    return ordered


def order_chain(certificates: tuple[x509.Certificate, ...], leaf: bytes) -> list[x509.Certificate]:
    """Certificates in any order as a chain from the one whose public key is `leaf`, without a root.

    Empty when none has that key. leaf: SubjectPublicKeyInfo in DER.
    """
    first = next((item for item in certificates if leaf_key(item) == leaf), None)
    if first is None:
        return []
    ordered = _leaf_first([first, *(item for item in certificates if item is not first)])
    return ordered[:1] + [item for item in ordered[1:] if item.subject != item.issuer]


def _is_pkcs12(data: bytes) -> bool:
    # PFX ::= SEQUENCE { version INTEGER (3), … }, RFC 7292 section 4
    head = data[:12]
    at = 2 + (head[1] & 0x7F if len(head) > 1 and head[1] & 0x80 else 0)
    return head[at : at + 3] == b"\x02\x01\x03"


def _blocks(data: bytes) -> list[tuple[bytes, bytes]]:
    return [(match[1], match[2]) for match in _BLOCK.finditer(_normal(data))]


def _normal(data: bytes) -> bytes:
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _decode(body: bytes) -> bytes:
    try:
        return base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error as error:
        raise ValueError(f"a certificate is not base64: {error}") from error


def _short(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]


def write_new(path: Path, text: str, *, private: bool = False) -> None:
    """Create a file that is on disk when this returns; private ones are for their owner only.

    Raises OSError, also when the file exists.
    """
    mode = 0o600 if private else 0o644
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
