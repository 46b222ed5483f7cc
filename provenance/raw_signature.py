"""Signatures over bytes with the seven algorithms of a signing chain, for what is not C2PA.

ECDSA is carried as ASN.1 DER here, as in sigstore, DSSE of in-toto and signed notes; a remote key
answers r and s side by side, as COSE does (RFC 9053, section 2.1).
"""

import hashlib

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from assaymark.provenance.keys import Credentials
from assaymark.reports.errors import InputError

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey

_HASHES: dict[str, hashes.HashAlgorithm] = {
    "256": hashes.SHA256(),
    "384": hashes.SHA384(),
    "512": hashes.SHA512(),
}
_CURVE_HASHES: dict[str, hashes.HashAlgorithm] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}


def sign_bytes(credentials: Credentials, data: bytes) -> bytes:
    """A signature over `data`: DER for ECDSA, PSS with a salt as long as the digest, raw Ed25519.

    Raises InputError when a remote key answers something that is not a signature of this key.
    """
    if credentials.remote is not None:
        return _asked(credentials.remote.sign(data), credentials, data)
    key = load_pem_private_key(credentials.key_pem.encode(), None)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(data, ec.ECDSA(_CURVE_HASHES[key.curve.name]))
    if isinstance(key, rsa.RSAPrivateKey):
        digest = _HASHES[credentials.algorithm[2:]]
        return key.sign(data, _pss(digest), digest)
    assert isinstance(key, ed25519.Ed25519PrivateKey)
    return key.sign(data)


def verifies(key: object, signature: bytes, data: bytes) -> bool:
    """Whether `signature` over `data` is the key's; False for a key of a kind that is not used here.

    RSA: PSS of any of the three digests, as the signature itself does not name one.
    """
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            digest = _CURVE_HASHES.get(key.curve.name)
            if digest is None:
                return False
            key.verify(signature, data, ec.ECDSA(digest))
        elif isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, data)
        elif isinstance(key, rsa.RSAPublicKey) and key.key_size >= 2048:
            return any(_holds_pss(key, signature, data, one) for one in _HASHES.values())
        else:
            return False
    except (InvalidSignature, ValueError, UnsupportedAlgorithm):
        return False
    return True


def leaf_certificate(credentials: Credentials) -> x509.Certificate:
    return x509.load_pem_x509_certificates(credentials.chain_pem.encode())[0]


def key_id(key: PublicKey) -> str:
    """SHA-256 of the SubjectPublicKeyInfo in DER, as hexadecimal digits."""
    return hashlib.sha256(spki(key)).hexdigest()


def spki(key: PublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def read_public_key(pem: bytes | str, name: str = "the public key") -> PublicKey:
    """A public key from PEM; raises InputError when it is not one of a kind used here."""
    try:
        key = load_pem_public_key(pem.encode() if isinstance(pem, str) else pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError(f"{name} is not PEM: expected -----BEGIN PUBLIC KEY-----") from error
    if not isinstance(key, PublicKey):
        raise InputError(f"{name} is a {type(key).__name__}: expected ECDSA, RSA or Ed25519")
    return key


def _asked(raw: bytes, credentials: Credentials, data: bytes) -> bytes:
    key = leaf_certificate(credentials).public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        half = (key.key_size + 7) // 8
        if len(raw) == 2 * half:
            raw = encode_dss_signature(
                int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big")
            )
    if not verifies(key, raw, data):
        raise InputError(
            f"the remote key answered {len(raw)} bytes that are no {credentials.algorithm} "
            "signature of the certificate's key: check that the token holds the key of this chain"
        )
    return raw


def _holds_pss(
    key: rsa.RSAPublicKey, signature: bytes, data: bytes, digest: hashes.HashAlgorithm
) -> bool:
    try:
        key.verify(signature, data, _pss(digest), digest)
    except InvalidSignature:
        return False
    return True


def _pss(digest: hashes.HashAlgorithm) -> padding.PSS:
    return padding.PSS(mgf=padding.MGF1(digest), salt_length=digest.digest_size)
