"""Keys that never leave their token or service: PKCS #11, and a function of the user's own.

A signature is checked against the leaf's public key before anything is done with it, so a wrong
key, a wrong hash or a wrong encoding is found at the first file and not by a verifier.
"""

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.serialization import load_der_public_key

from assaymark.provenance.certificates import HASHES, pss
from assaymark.reports.errors import AssaymarkError, InputError
from assaymark.reports.named_code import reason, resolve

_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


class RemoteKey(Protocol):
    """A key that signs elsewhere. It is sent to worker processes, so it can be pickled."""

    def sign(self, data: bytes) -> bytes:
        """The signature as COSE wants it: r‖s for ECDSA, PSS with a salt of the digest's size
        for RSA, raw for Ed25519. Raises InputError when the token does not sign."""
        ...


@dataclass(frozen=True, kw_only=True)
class FunctionKey:
    """`package.module:function`, called as function(data, algorithm) for each signature.

    public_key: the leaf's, as SubjectPublicKeyInfo in DER. folder: where modules can be, too.
    """

    target: str
    algorithm: str
    public_key: bytes = field(repr=False)
    folder: Path = Path()

    def sign(self, data: bytes) -> bytes:
        function = resolve(self.target, self.folder)
        if not callable(function):
            raise InputError(f"{self.target} is not a function: expected sign(data, algorithm)")
        try:
            signature = function(data, self.algorithm)
        except AssaymarkError:
            raise
        except Exception as error:  # code of the user's own raises what it likes
            raise InputError(f"{self.target} did not sign: {reason(error)}") from error
        return checked(signature, data, self.algorithm, self.public_key, self.target)


def is_function(text: str) -> bool:
    """Whether `--key` names a function rather than a file."""
    return _FUNCTION.fullmatch(text) is not None and not Path(text).exists()


def checked(
    signature: object, data: bytes, algorithm: str, public_key: bytes, signer: str
) -> bytes:
    """The signature in COSE's form, once it is known to hold; ECDSA comes in as DER or as r‖s.

    Raises InputError that says what was received and what was expected.
    """
    if not isinstance(signature, bytes | bytearray):
        raise InputError(
            f"{signer} returned {type(signature).__name__} instead of bytes: expected the signature"
        )
    key = load_der_public_key(public_key)
    for candidate in _forms(bytes(signature), key):
        if _holds(candidate, data, algorithm, key):
            return candidate
    raise InputError(
        f"{signer} returned {len(signature)} bytes that are no {algorithm} signature by the key of "
        f"the signing certificate: expected {_expected(algorithm, key)}; check that key and "
        "certificate belong together"
    )


def _forms(signature: bytes, key: object) -> list[bytes]:
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return [signature]
    size = (key.key_size + 7) // 8
    forms = [signature] if len(signature) == 2 * size else []
    try:
        r, s = decode_dss_signature(signature)
        forms.append(r.to_bytes(size, "big") + s.to_bytes(size, "big"))
    except (ValueError, OverflowError):
        pass
    return forms


def _holds(signature: bytes, data: bytes, algorithm: str, key: object) -> bool:
    digest = HASHES[algorithm]
    try:
        if isinstance(key, ec.EllipticCurvePublicKey) and digest:
            half = len(signature) // 2
            r, s = (int.from_bytes(part, "big") for part in (signature[:half], signature[half:]))
            key.verify(encode_dss_signature(r, s), data, ec.ECDSA(digest))
        elif isinstance(key, rsa.RSAPublicKey) and digest:
            key.verify(signature, data, pss(digest), digest)
        elif isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, data)
        else:
            return False
    except InvalidSignature:
        return False
    return True


def _expected(algorithm: str, key: object) -> str:
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"{2 * ((key.key_size + 7) // 8)} bytes r‖s, or DER"
    if isinstance(key, rsa.RSAPublicKey):
        return f"{key.key_size // 8} bytes of RSASSA-PSS with a salt as long as the hash"
    return "64 bytes over the data itself"


def digest_of(data: bytes, algorithm: str) -> bytes:
    """The hash that goes with an algorithm, for tokens that sign digests."""
    digest = HASHES[algorithm]
    return hashlib.new(digest.name, data).digest() if digest else data
