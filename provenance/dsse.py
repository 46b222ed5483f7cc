"""Dead Simple Signing Envelope 1.0 (https://github.com/secure-systems-lab/dsse), and strict JSON.

An envelope's signature covers the payload's type and bytes. A certificate travels beside each
signature as in-toto Witness writes it; readers that do not know the field ignore it.
"""

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from assaymark.provenance.keys import Credentials
from assaymark.provenance.raw_signature import key_id, leaf_certificate, sign_bytes, verifies
from assaymark.provenance.signer_chain import MOST_CERTIFICATES, read_certificates
from assaymark.reports.errors import InputError

IN_TOTO = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
_MOST_SIGNATURES = 64


@dataclass(frozen=True, kw_only=True)
class EnvelopeSignature:
    """One signature. certificates: leaf first; empty where none came along."""

    signature: bytes
    certificates: tuple[x509.Certificate, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Envelope:
    payload: bytes
    payload_type: str
    signatures: tuple[EnvelopeSignature, ...]

    def holds(self, key: object, signature: bytes) -> bool:
        """Whether `signature` over this payload and its type is the key's."""
        return verifies(key, signature, pae(self.payload_type, self.payload))


def pae(payload_type: str, payload: bytes) -> bytes:
    """Pre-authentication encoding (DSSE 1.0, protocol.md); lengths count bytes.

    >>> pae("http://example.com/HelloWorld", b"hello world")
    b'DSSEv1 29 http://example.com/HelloWorld 11 hello world'
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign_envelope(payload: bytes, payload_type: str, credentials: Credentials) -> dict[str, Any]:
    """The JSON envelope (DSSE 1.0, envelope.md) with one signature and its certificates."""
    chain = x509.load_pem_x509_certificates(credentials.chain_pem.encode())
    pems = [base64.b64encode(one.public_bytes(Encoding.PEM)).decode() for one in chain]
    signature = sign_bytes(credentials, pae(payload_type, payload))
    return {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": payload_type,
        "signatures": [
            {
                "keyid": key_id(leaf_certificate(credentials).public_key()),  # type: ignore[arg-type]
                "sig": base64.b64encode(signature).decode(),
                "certificate": pems[0],
                "intermediates": pems[1:],
            }
        ],
    }


def read_envelope(document: object) -> Envelope:
    """An envelope from its JSON; raises InputError for anything else, base64 included."""
    if not isinstance(document, dict) or not isinstance(document.get("signatures"), list):
        raise InputError("it is no DSSE envelope: expected payload, payloadType and signatures")
    kind = document.get("payloadType")
    if not isinstance(kind, str):
        raise InputError("its payloadType is not text")
    entries = document["signatures"]
    if not 1 <= len(entries) <= _MOST_SIGNATURES:
        raise InputError(f"it has {len(entries)} signatures, expected 1 to {_MOST_SIGNATURES}")
    return Envelope(
        payload=decode(document.get("payload"), "payload"),
        payload_type=kind,
        signatures=tuple(map(_signature, entries)),
    )


def decode(text: object, name: str) -> bytes:
    """Base64 of either alphabet, as DSSE asks of readers; raises InputError for anything else."""
    try:
        if not isinstance(text, str):
            raise ValueError("no text")
        return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except (ValueError, binascii.Error) as error:
        raise InputError(f"its {name} is not base64") from error


def read_json(path: Path, limit: int) -> tuple[Any, bytes]:
    """A JSON file and its bytes; raises InputError when it is unreadable, too large or ambiguous."""
    try:
        with path.open("rb") as stream:
            data = stream.read(limit + 1)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    if len(data) > limit:
        raise InputError(f"{path} is larger than {limit >> 20} MiB, so it is not read")
    return strict_json(data), data


def strict_json(data: bytes) -> Any:
    """JSON in UTF-8 without a key twice, NaN or Infinity; raises InputError otherwise.

    Readers differ on which of two equal keys counts, so what was signed would not be one thing.
    """
    try:
        return json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_constant)
    except (ValueError, RecursionError) as error:
        raise InputError(f"it is not JSON: {error}") from error


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {json.dumps(twice)} stands twice in one object")
    return made


def _constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON number")


def _signature(entry: object) -> EnvelopeSignature:
    if not isinstance(entry, dict):
        raise InputError("one of its signatures is not an object")
    between = entry.get("intermediates") or []
    if not isinstance(between, list) or len(between) >= MOST_CERTIFICATES:
        raise InputError(f"it has more than {MOST_CERTIFICATES} certificates for one signature")
    pems = [decode(one, "certificate") for one in (entry.get("certificate"), *between) if one]
    return EnvelopeSignature(
        signature=decode(entry.get("sig"), "signature"),
        certificates=tuple(
            one for pem in pems for one in read_certificates(pem, "its certificates")
        ),
    )
