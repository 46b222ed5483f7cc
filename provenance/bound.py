"""A manifest store judged by the library, its hard binding by us: for what the library cannot hash.

The library calls the data hash of a text wrong, for it knows no place of a manifest there, and reads a
large file whole. Everything else it checks well, so only its word on the data hash is replaced.
"""

import base64
import hashlib
import hmac
import io
import json
from collections.abc import Callable
from typing import Any

import c2pa

BOUND_OTHERWISE = "expected one data hash"
MAX_STORE = 64 << 20  # bytes of a manifest store that are read
Exclusions = tuple[tuple[int, int], ...]
# What the bound bytes hash to, by algorithm and excluded ranges; None where the ranges are not allowed.
Digest = Callable[[str, Exclusions], bytes | None]
_ALGORITHMS = ("sha256", "sha384", "sha512")
_CODE = "assertion.dataHash."


def read_bound(
    media_type: str, store: bytes, digest: Digest, context: c2pa.Context
) -> dict[str, Any]:
    """The library's report on a store, with our own data hash (C2PA 2.4, section 15.12.1).

    A store whose active manifest is not bound by exactly one data hash never holds. Raises
    c2pa.C2paError, and ValueError for a store that is not whole.
    """
    check_whole(store)
    # the library wants something to hash; its answer on these bytes is dropped whatever it is
    with (
        io.BytesIO(b"\0") as nothing,
        c2pa.Reader(media_type, nothing, store, context) as reader,
    ):
        document, detail = json.loads(reader.json()), json.loads(reader.detailed_json())
    url, problem = _check(document, detail, digest)
    return _replaced(document, url, problem)


def check_whole(store: bytes) -> None:
    """Raise ValueError where a store is longer or shorter than it says: nothing may hide behind it."""
    said = int.from_bytes(store[:4], "big")
    if said != len(store) or not store:
        raise ValueError(f"its manifest store has {len(store)} bytes, but says it has {said}")


def _check(document: dict[str, Any], detail: dict[str, Any], digest: Digest) -> tuple[str, str]:
    """Address of the data hash, and what is wrong with it; nothing is for one that holds."""
    label = document.get("active_manifest") or ""
    manifest = detail.get("manifests", {}).get(label, {})
    claim = manifest.get("claim", {})
    declared = [
        str(item.get("url", "")).rsplit("/", 1)[-1]
        for part in ("created_assertions", "gathered_assertions", "assertions")
        for item in claim.get(part) or ()
    ]
    bindings = [name for name in declared if name.startswith("c2pa.hash.")]
    url = f"self#jumbf=/c2pa/{label}/c2pa.assertions/c2pa.hash.data"
    if bindings != ["c2pa.hash.data"]:
        return url, f"bound by {', '.join(bindings) or 'nothing'}, {BOUND_OTHERWISE}"
    matched = _results(document).get("success", ())
    if not any(m["code"] == "assertion.hashedURI.match" and m["url"] == url for m in matched):
        return url, "the claim does not vouch for the data hash"
    return url, _compare(manifest["assertion_store"]["c2pa.hash.data"], claim, digest)


def _compare(binding: dict[str, Any], claim: dict[str, Any], digest: Digest) -> str:
    algorithm = str(binding.get("alg") or claim.get("alg") or "sha256")
    if algorithm not in _ALGORITHMS:
        return f"hashed with {algorithm}, expected one of {', '.join(_ALGORITHMS)}"
    excluded = tuple(
        (int(item["start"]), int(item["length"])) for item in binding.get("exclusions") or ()
    )
    found = digest(algorithm, excluded)
    if found is None:
        return "the hash leaves out other bytes than those of the manifest"
    expected = base64.b64decode(binding.get("hash") or "")
    return "" if hmac.compare_digest(found, expected) else "the content is not what was signed"


def digest_of(algorithm: str, *parts: bytes) -> bytes:
    """The hash of parts that follow one another."""
    hashed = hashlib.new(algorithm)
    for part in parts:
        hashed.update(part)
    return hashed.digest()


def failed(code: str, explanation: str) -> dict[str, Any]:
    """A report on a manifest that could not even be taken out."""
    failure = [{"code": code, "explanation": explanation}]
    return {
        "validation_state": "Invalid",
        "validation_results": {"activeManifest": {"failure": failure}},
    }


def _results(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document.setdefault("validation_results", {}).setdefault(
        "activeManifest", {}
    )
    return found


def _replaced(document: dict[str, Any], url: str, problem: str) -> dict[str, Any]:
    results = _results(document)
    for part in ("failure", "success", "informational"):
        results[part] = [item for item in results.get(part) or () if not _about(item, url)]
    word, part = ("mismatch", "failure") if problem else ("match", "success")
    entry = {"code": _CODE + word, "url": url, "explanation": problem or "data hash valid"}
    results[part].append(entry)
    document["validation_status"] = results["failure"]
    document["validation_state"] = _state(document)
    return document


def _about(item: dict[str, Any], url: str) -> bool:
    return str(item.get("code", "")).startswith(_CODE) and item.get("url") == url


def _state(document: dict[str, Any]) -> str:
    """As the library puts it: only an unknown signer leaves a manifest valid."""
    results = _results(document)
    deltas = document["validation_results"].get("ingredientDeltas") or ()
    failures = [
        str(item["code"])
        for part in (results, *(delta.get("validationDeltas", {}) for delta in deltas))
        for item in part.get("failure") or ()
    ]
    if any(code != "signingCredential.untrusted" for code in failures):
        return "Invalid"
    trusted = any(item["code"] == "signingCredential.trusted" for item in results["success"])
    return "Trusted" if trusted and not failures else "Valid"
