"""OpenSSF model signing 1.0 on paper: the sigstore bundle 0.3 and the in-toto statement inside.

What is read is hostile until its signature holds, and a claim even after that.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from assaymark.provenance.dsse import (
    IN_TOTO,
    STATEMENT,
    Envelope,
    decode,
    pae,
    read_envelope,
    read_json,
    strict_json,
)
from assaymark.provenance.folder_manifest import HASHES, flaw, root_digest
from assaymark.provenance.keys import Credentials
from assaymark.provenance.raw_signature import leaf_certificate, sign_bytes
from assaymark.provenance.signer_chain import MOST_CERTIFICATES
from assaymark.reports.errors import InputError

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PREDICATE = "https://model_signing/signature/v1.0"
CURVES = ("secp256r1", "secp384r1", "secp521r1")
ALGORITHMS = ("es256", "es384", "es512")
LARGEST = 256 << 20  # bytes of a signature that are read; a million files take about 200 MiB


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A signature as read. certificates: leaf first, none when it was made with a bare key.

    hint: SHA-256 of that bare public key in PEM.
    """

    envelope: Envelope
    certificates: tuple[x509.Certificate, ...]
    hint: str


@dataclass(frozen=True, kw_only=True)
class FolderClaims:
    """What a signer said about a folder. parts: of each file the names and digests, in order."""

    name: str
    root: str
    algorithm: str
    shard_size: int | None
    allows_links: bool
    ignore: tuple[str, ...]
    parts: Mapping[str, Sequence[tuple[str, bytes]]] = field(repr=False)


def make_statement(claims: FolderClaims) -> bytes:
    """The in-toto statement as JSON bytes; `claims.root` is computed here, not read."""
    size = claims.shard_size
    kind = claims.algorithm if size is None else f"{claims.algorithm}-sharded-{size}"
    listed = [part for parts in claims.parts.values() for part in parts]
    serialization: dict[str, Any] = {
        "method": "files" if size is None else "shards",
        "hash_type": claims.algorithm,
        "allow_symlinks": claims.allows_links,
        "ignore_paths": list(claims.ignore),
    }
    if size is not None:
        serialization["shard_size"] = size
    root = root_digest(digest for _, digest in listed)
    statement = {
        "_type": STATEMENT,
        "subject": [{"name": claims.name, "digest": {"sha256": root}}],
        "predicateType": PREDICATE,
        "predicate": {
            "serialization": serialization,
            "resources": [
                {"name": name, "algorithm": kind, "digest": digest.hex()} for name, digest in listed
            ],
        },
    }
    return json.dumps(statement, ensure_ascii=False, separators=(",", ":")).encode()


def make_bundle(statement: bytes, credentials: Credentials, *, bare_key: bool = False) -> bytes:
    """The signed bundle as JSON bytes.

    bare_key: name only the key, by a digest, instead of carrying the certificates.
    Raises InputError for an algorithm that the standard does not have.
    """
    check_algorithm(credentials)
    signature = sign_bytes(credentials, pae(IN_TOTO, statement))
    bundle = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {
            **(_key_material(credentials) if bare_key else _chain_material(credentials)),
            "tlogEntries": [],
        },
        "dsseEnvelope": {
            "payload": base64.b64encode(statement).decode(),
            "payloadType": IN_TOTO,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }
    return json.dumps(bundle, separators=(",", ":")).encode()


def check_algorithm(credentials: Credentials) -> None:
    """Raise InputError unless OMS 1.0 knows the credentials' algorithm."""
    if credentials.algorithm not in ALGORITHMS:
        raise InputError(
            f"OpenSSF model signing knows {', '.join(ALGORITHMS)}, not {credentials.algorithm}: "
            "sign the folder with an elliptic-curve key (P-256, P-384 or P-521)"
        )


def allowed(key: object) -> bool:
    """Whether a public key is of a kind that OMS 1.0 verifies with."""
    return isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in CURVES


def hint_of(key: Any) -> str:
    """How a bundle names a bare key: SHA-256 of its PEM."""
    return hashlib.sha256(
        key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    ).hexdigest()


def read_bundle(path: Path) -> Bundle:
    """A signature file; raises InputError when it is not a bundle of version 0.3 with one signature."""
    text, _ = read_json(path, LARGEST)
    if not isinstance(text, dict) or text.get("mediaType") != MEDIA_TYPE:
        found = text.get("mediaType") if isinstance(text, dict) else type(text).__name__
        raise InputError(f"it is no model signature: mediaType is {found!r}, expected {MEDIA_TYPE}")
    material = text.get("verificationMaterial")
    if not isinstance(material, dict):
        raise InputError("it carries no verificationMaterial, so nobody can be asked who signed")
    envelope = read_envelope(text.get("dsseEnvelope"))
    if len(envelope.signatures) != 1:
        raise InputError(f"it has {len(envelope.signatures)} signatures, expected one")
    key = material.get("publicKey")
    hint = key.get("hint") if isinstance(key, dict) else ""
    return Bundle(
        envelope=envelope,
        certificates=_certificates(material),
        hint=hint if isinstance(hint, str) else "",
    )


def read_claims(payload: bytes) -> FolderClaims:
    """The folder a signed statement speaks of; raises InputError when it speaks of none we know."""
    try:
        return _claims(strict_json(payload))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(f"its statement is malformed: {type(error).__name__} {error}") from error


def _claims(statement: dict[str, Any]) -> FolderClaims:
    kinds = (statement["_type"], statement["predicateType"])
    if kinds != (STATEMENT, PREDICATE):
        raise InputError(
            f"it states {kinds[1]!r} ({kinds[0]!r}), expected {PREDICATE!r}: "
            "an older or another kind of signature, sign the folder again"
        )
    (subject,) = statement["subject"]
    how = statement["predicate"]["serialization"]
    size = None if how["method"] == "files" else _shard_size(how)
    algorithm = how["hash_type"]
    if algorithm not in HASHES:
        raise InputError(f"its digests are {algorithm!r}, expected one of {', '.join(HASHES)}")
    kind = algorithm if size is None else f"{algorithm}-sharded-{size}"
    listed = [
        (_text(item["name"]), _digest(item, kind)) for item in statement["predicate"]["resources"]
    ]
    root = root_digest(digest for _, digest in listed)
    if root != subject["digest"]["sha256"]:
        raise InputError("it contradicts itself: the digests it lists do not give its own root")
    return FolderClaims(
        name=_text(subject["name"]),
        root=root,
        algorithm=algorithm,
        shard_size=size,
        allows_links=how["allow_symlinks"] is True,
        ignore=tuple(_text(name) for name in how.get("ignore_paths") or ()),
        parts=_by_file(listed, size),
    )


def _shard_size(how: dict[str, Any]) -> int:
    size = how.get("shard_size")
    if how["method"] != "shards" or not isinstance(size, int | float) or size != int(size):
        raise InputError(f"its method is {how['method']!r}, expected files, or shards with a size")
    if not 1 <= size <= 1 << 50:
        raise InputError(f"its shards have {size:g} bytes, expected 1 or more")
    return int(size)


def _by_file(
    listed: Iterable[tuple[str, bytes]], size: int | None
) -> dict[str, list[tuple[str, bytes]]]:
    files: dict[str, list[tuple[str, bytes]]] = {}
    seen = set()
    for name, digest in listed:
        file = name if size is None else name.rsplit(":", 2)[0]
        if name in seen:
            raise InputError(f"it lists {name!r} twice")
        if reason := flaw(file):
            raise InputError(f"it lists {name!r}, which {reason}")
        seen.add(name)
        files.setdefault(file, []).append((name, digest))
    if not files:
        raise InputError("it lists no file, so it vouches for nothing")
    return files


def _digest(item: dict[str, Any], kind: str) -> bytes:
    if item["algorithm"] != kind:
        raise InputError(f"it mixes digests: {item['algorithm']!r} among {kind!r}")
    return bytes.fromhex(item["digest"])


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _certificates(material: dict[str, Any]) -> tuple[x509.Certificate, ...]:
    chain = material.get("x509CertificateChain")
    entries = chain.get("certificates") if isinstance(chain, dict) else None
    if entries is None:
        entries = [material["certificate"]] if "certificate" in material else []
    if not isinstance(entries, list) or len(entries) > MOST_CERTIFICATES:
        raise InputError(f"it carries more than {MOST_CERTIFICATES} certificates")
    try:
        return tuple(
            x509.load_der_x509_certificate(decode(entry["rawBytes"], "certificate"))
            for entry in entries
        )
    except (KeyError, TypeError, ValueError, x509.InvalidVersion) as error:
        raise InputError(f"one of its certificates cannot be read: {error}") from error


def _chain_material(credentials: Credentials) -> dict[str, Any]:
    chain = x509.load_pem_x509_certificates(credentials.chain_pem.encode())
    encoded = [base64.b64encode(one.public_bytes(Encoding.DER)).decode() for one in chain]
    return {"x509CertificateChain": {"certificates": [{"rawBytes": one} for one in encoded]}}


def _key_material(credentials: Credentials) -> dict[str, Any]:
    return {"publicKey": {"hint": hint_of(leaf_certificate(credentials).public_key())}}
