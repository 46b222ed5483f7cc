"""Reads the COSE_Sign1 structure that signs a C2PA claim (RFC 9052, section 4.2; C2PA 2.2, 13.2).

Only what a second look at certificates, time stamps and revocation needs; the claim signature
itself is c2pa's to check.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cbor2

from assaymark.provenance.chains import pem_of
from assaymark.reports.errors import InputError

MAX_COSE = 1024 * 1024  # bytes
_MAX_DEPTH = 16
_SIGN1 = 18
_X5CHAIN = (33, "x5chain")  # RFC 9360, and the name it had before
# tags whose values cbor2 would compute (regular expressions, cyclic references, addresses)
_LEFT_ALONE = (
    *range(6),
    25,
    28,
    29,
    30,
    35,
    36,
    37,
    43,
    52,
    54,
    100,
    256,
    258,
    260,
    261,
    1004,
    43000,
)


@dataclass(frozen=True, kw_only=True)
class Signature:
    """What signs a claim. stamps: RFC 3161 structures from sigTst (v1) or sigTst2 (v2)."""

    protected: bytes
    signature: bytes
    certificates: tuple[bytes, ...]
    stamps: tuple[bytes, ...]
    stamp_version: int
    ocsp_replies: tuple[bytes, ...]


def parse(cose: bytes) -> Signature:
    """Raises InputError for what is not the COSE_Sign1 of a C2PA claim."""
    parts = decode(cose)
    if isinstance(parts, cbor2.CBORTag) and parts.tag == _SIGN1:
        parts = parts.value
    if not isinstance(parts, (list, tuple)) or len(parts) != 4:
        raise InputError(
            "the claim's signature is not a COSE_Sign1 array of four: it cannot be read"
        )
    protected, unprotected, _, signature = parts
    if not isinstance(protected, bytes) or not isinstance(signature, bytes):
        raise InputError("the claim's signature lacks its protected header or signature as bytes")
    inner = decode(protected) if protected else {}
    if not isinstance(inner, Mapping) or not isinstance(unprotected, Mapping):
        raise InputError("a header of the claim's signature is not a map: it cannot be read")
    version = 2 if "sigTst2" in unprotected else 1
    container = unprotected.get("sigTst2", unprotected.get("sigTst"))
    return Signature(
        protected=protected,
        signature=signature,
        certificates=_chain(inner, unprotected),
        stamps=_tokens(container),
        stamp_version=version,
        ocsp_replies=_ocsp(unprotected.get("rVals")),
    )


def signer_chain(cose: bytes) -> str:
    """The claim signer's certificates as PEM, the leaf first.

    Raises InputError when the signature cannot be read or names no certificate.
    """
    ders = parse(cose).certificates
    if not ders:
        raise InputError(
            "the claim's signature holds no certificates (x5chain): expected the signer's"
        )
    return pem_of(ders, "the claim's signature")


def decode(data: bytes) -> Any:
    """One CBOR item of plain values; raises InputError for anything else or too much."""
    if len(data) > MAX_COSE:
        raise InputError(
            f"the claim's signature has {len(data)} bytes: at most {MAX_COSE} are read"
        )
    stream = io.BytesIO(data)
    try:
        item = cbor2.CBORDecoder(
            stream,
            max_depth=_MAX_DEPTH,
            read_size=1,  # reads no further than the item, so that what follows it is seen
            allow_duplicate_keys=False,
            semantic_decoders=dict.fromkeys(_LEFT_ALONE, _plain),
        ).decode()
    except (cbor2.CBORDecodeError, ValueError, TypeError) as error:
        raise InputError(
            f"the claim's signature is not CBOR: {' '.join(str(error).split())[:200]}"
        ) from error
    if stream.tell() != len(data):
        raise InputError(f"{len(data) - stream.tell()} bytes follow the CBOR item: expected none")
    return item


def _plain(value: Any, immutable: bool) -> Any:
    return value


def _chain(protected: Mapping[Any, Any], unprotected: Mapping[Any, Any]) -> tuple[bytes, ...]:
    """x5chain: one certificate or a list of them; the protected header goes first."""
    for header in (protected, unprotected):
        for name in _X5CHAIN:
            if name in header:
                value = header[name]
                return _all_bytes([value] if isinstance(value, bytes) else value, "x5chain")
    return ()


def _tokens(container: Any) -> tuple[bytes, ...]:
    """tstContainer = { "tstTokens": [ { "val": bstr } ] } (C2PA 2.2, section 10.3.2.5)."""
    if container is None:
        return ()
    tokens = container.get("tstTokens") if isinstance(container, Mapping) else None
    if not isinstance(tokens, (list, tuple)):
        raise InputError("the time stamps of the claim's signature are no list of tstTokens")
    return _all_bytes(
        [item.get("val") if isinstance(item, Mapping) else None for item in tokens], "tstTokens"
    )


def _ocsp(values: Any) -> tuple[bytes, ...]:
    """rVals = { "ocspVals": [ bstr ] } (C2PA 2.2, section 10.3.2.6)."""
    if not isinstance(values, Mapping):
        return ()
    return _all_bytes(values.get("ocspVals", ()), "ocspVals")


def _all_bytes(values: Any, what: str) -> tuple[bytes, ...]:
    if not isinstance(values, (list, tuple)) or not all(isinstance(item, bytes) for item in values):
        raise InputError(f"{what} of the claim's signature is not a list of byte strings")
    return tuple(values)
