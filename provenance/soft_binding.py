"""The `c2pa.soft-binding` assertion: what a copy without credentials can be recognised by.

C2PA 2.2, section 18.10: `alg` from the C2PA soft binding algorithm list, and blocks of `scope` (empty:
the whole work) and `value`. The specification's value is a byte string; the engine writes JSON, so
it is written as Base64 text, which is also how the engine shows byte strings of others.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from assaymark.provenance import facts, fingerprint, watermark_lattice
from assaymark.provenance.fingerprint import distance, from_unit, to_unit
from assaymark.reports.errors import InputError

LABEL = "c2pa.soft-binding"
_MOST = 64  # bindings that are read from one manifest


@dataclass(frozen=True, kw_only=True)
class SoftBinding:
    """One value for a whole work, or for a part of it that `scope` names."""

    alg: str
    value: bytes
    scope: Mapping[str, Any]


def soft_binding(alg: str, value: bytes) -> dict[str, Any]:
    """The assertion for a manifest definition: `{"label": …, "data": …}`.

    Raises InputError for an empty value, which would match nothing.
    """
    if not value or not alg:
        raise InputError("a soft binding needs an algorithm and a value: one of them is empty")
    text = base64.b64encode(value).decode()
    return {"label": LABEL, "data": {"alg": alg, "blocks": [{"scope": {}, "value": text}]}}


def fingerprint_binding(code: bytes) -> dict[str, Any]:
    """The assertion for a fingerprint: one ISCC unit of 256 bits (ISCC IEP-0020)."""
    return soft_binding(fingerprint.ALGORITHM, to_unit(code))


def watermark_binding(payload: int, alg: str = watermark_lattice.ALGORITHM) -> dict[str, Any]:
    """The assertion for a watermark: its payload, 4 bytes, the most significant first."""
    return soft_binding(alg, payload.to_bytes(4))


def soft_bindings(manifest: Mapping[str, Any]) -> tuple[SoftBinding, ...]:
    """The soft bindings that a manifest names, of any algorithm; malformed ones are left out.

    manifest: one of a reader's report, such as `Verification.active`.
    """
    found = [
        SoftBinding(
            alg=str(data.get("alg") or ""), value=value, scope=facts.mapping(block.get("scope"))
        )
        for label, data in facts.assertions(manifest)
        if facts.base(label) == LABEL
        for block in facts.items(data.get("blocks"))
        if (value := _bytes(block.get("value"))) is not None
    ]
    return tuple(found[:_MOST])


def watermarks(bindings: tuple[SoftBinding, ...]) -> tuple[tuple[str, int], ...]:
    """Algorithm and payload of the watermarks among them."""
    return tuple(
        (item.alg, int.from_bytes(item.value))
        for item in bindings
        if item.alg != fingerprint.ALGORITHM and len(item.value) == 4 and not item.scope
    )


def fingerprints(bindings: tuple[SoftBinding, ...]) -> tuple[bytes, ...]:
    """The fingerprints of whole pictures among them."""
    codes = (
        from_unit(item.value)
        for item in bindings
        if item.alg == fingerprint.ALGORITHM and not item.scope
    )
    return tuple(code for code in codes if code is not None)


def agrees(
    bindings: tuple[SoftBinding, ...],
    *,
    mark: tuple[str, int] | None,
    code: bytes | None,
    farthest: int,
) -> bool | None:
    """Whether a file is what a manifest's soft bindings describe; None where nothing can be compared.

    mark: algorithm and payload of the file's watermark; code: its fingerprint; farthest: bits in which
    fingerprints of the same picture may differ. One agreement is enough: a crop loses its fingerprint
    and a flat picture its watermark.
    """
    compared = [
        payload == mark[1] for alg, payload in watermarks(bindings) if mark and alg == mark[0]
    ]
    if code is not None:
        compared += [distance(code, other) <= farthest for other in fingerprints(bindings)]
    return any(compared) if compared else None


def _bytes(value: Any) -> bytes | None:
    try:
        return base64.b64decode(value, validate=True) if isinstance(value, str) and value else None
    except (binascii.Error, ValueError):  # the text of another algorithm
        return str(value).encode("utf-8", "replace")
