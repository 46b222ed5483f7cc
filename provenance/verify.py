"""What a file's Content Credentials are worth: one state per file, and the codes behind it.

The library calls any self-made certificate "Valid"; only a chain to a given trust anchor is
"trusted" here. Nothing a file names is fetched.
"""

import zlib
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import c2pa

from assaymark.provenance.c2pa_context import reason, shared_context
from assaymark.provenance.formats import HEAD, Format, recognise
from assaymark.provenance.job import Reading
from assaymark.provenance.routes import READS
from assaymark.provenance.trust import NOBODY, Trust
from assaymark.reports.errors import IntegrityError
from assaymark.reports.model import Node

_MAX_DEPTH = 12


class State(StrEnum):
    """Every file ends as one of these."""

    TRUSTED = "trusted"
    UNTRUSTED = "valid-but-untrusted"
    INVALID = "invalid"
    NO_MANIFEST = "no-manifest"
    UNSUPPORTED = "unsupported"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, kw_only=True)
class Verification:
    """The outcome for one file. codes: C2PA status codes, failures first (C2PA 2.2, section 15.2)."""

    path: Path
    state: State
    explanation: str
    failures: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    title: str = ""
    signer: str = ""
    generator: str = ""
    where: str = ""
    tree: Node | None = None


def examine(path: Path, trust: Trust = NOBODY) -> Verification:
    """The state of one file; never raises for what the file holds."""
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD)
        kind = recognise(path, head)
        if kind is None:
            what = "its first bytes are of no kind known here" if head else "the file is empty"
            return _without(path, State.UNSUPPORTED, f"{what}, so it can carry no credentials")
        found = _judge(path, READS[kind.route](path, kind, shared_context(trust)))
        return _undamaged(found, kind)
    except (OSError, MemoryError) as error:
        return _without(path, State.UNREADABLE, f"cannot read the file: {error}")
    except c2pa.C2paError.ManifestNotFound:
        return _without(path, State.NO_MANIFEST, "the file carries no Content Credentials")
    except c2pa.C2paError.NotSupported as error:
        return _without(path, State.UNSUPPORTED, reason(error))
    except (c2pa.C2paError, ValueError) as error:
        return _without(
            path,
            State.UNREADABLE,
            f"its Content Credentials cannot be read, so nothing vouches for it: {reason(error)}",
        )


def _undamaged(found: Verification, kind: Format) -> Verification:
    if kind.name != "PNG" or found.state is State.INVALID:
        return found
    if _png_checksums_hold(found.path.read_bytes()):
        return found
    return replace(
        found,
        state=State.UNREADABLE,
        explanation="a chunk of the PNG does not keep its checksum, so the file was damaged",
    )


def _png_checksums_hold(data: bytes) -> bool:
    """Whether every chunk's CRC is right (PNG, section 5.5); c2pa does not look at them."""
    at = 8
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        end = at + 12 + size
        if end > len(data):
            return False
        if zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            return False
        at = end
    return at == len(data)


def verify(path: Path, trust: Trust) -> Verification:
    """The verification of a file that is trusted; raises IntegrityError for any other state."""
    found = examine(path, trust)
    if found.state is not State.TRUSTED:
        raise IntegrityError(f"{path} is {found.state}: {found.explanation}")
    return found


def _without(path: Path, state: State, explanation: str) -> Verification:
    return Verification(path=path, state=state, explanation=explanation)


def _judge(path: Path, reading: Reading) -> Verification:
    document = reading.document
    results = document.get("validation_results", {})
    active = results.get("activeManifest", {})
    deltas = [delta.get("validationDeltas", {}) for delta in results.get("ingredientDeltas") or ()]
    failures = tuple(item["code"] for part in (active, *deltas) for item in part.get("failure", ()))
    codes = failures + tuple(
        item["code"]
        for kind in ("informational", "success")
        for part in (active, *deltas)
        for item in part.get(kind, ())
    )
    state = {"Trusted": State.TRUSTED, "Valid": State.UNTRUSTED}.get(
        document.get("validation_state", ""), State.INVALID
    )
    inherited = _broken_ingredients(document.get("manifests", {}))
    failures += tuple(f"ingredient:{code}" for code in inherited)
    codes = failures + codes[len(failures) - len(inherited) :]
    broken = [code for code in failures if not code.startswith("signingCredential.untrusted")]
    own = [code for code in broken if not code.startswith("ingredient:")]
    if state is State.TRUSTED and (own or len(failures) > len(broken)):
        state = State.INVALID if own else State.UNTRUSTED
    label = document.get("active_manifest", "")
    manifest = document.get("manifests", {}).get(label, {})
    signature = manifest.get("signature_info", {})
    return Verification(
        path=path,
        state=state,
        explanation=_explain(state, broken, signature)
        + (
            f"; but a work it was made from does not hold ({', '.join(inherited)})"
            if inherited and state is not State.INVALID
            else ""
        ),
        failures=failures,
        codes=codes,
        title=str(manifest.get("title") or ""),
        signer=_signer(signature),
        generator=_generator(manifest),
        where=reading.where,
        tree=_tree(document.get("manifests", {}), label),
    )


def _broken_ingredients(manifests: dict[str, Any]) -> list[str]:
    """The failure codes recorded for ingredients when they were taken up."""
    codes: dict[str, None] = {}
    for manifest in manifests.values():
        for ingredient in manifest.get("ingredients") or ():
            codes.update(dict.fromkeys(_ingredient_failures(ingredient)))
    return list(codes)


def _ingredient_failures(ingredient: dict[str, Any]) -> list[str]:
    results = ingredient.get("validation_results") or {}
    # validation_status is how manifests before C2PA 2.1 recorded it
    found = [
        *((results.get("activeManifest") or {}).get("failure") or ()),
        *(ingredient.get("validation_status") or ()),
    ]
    return [
        str(item["code"])
        for item in found
        if not str(item["code"]).startswith("signingCredential.untrusted")
    ]


def _explain(state: State, broken: list[str], signature: dict[str, Any]) -> str:
    who = _signer(signature) or "an unnamed signer"
    if state is State.TRUSTED:
        return f"signed by {who}, whose chain ends in a trust anchor; unchanged since"
    if state is State.UNTRUSTED:
        return f"unchanged since {who} signed it, but no trust anchor vouches for {who}"
    return f"does not hold: {', '.join(dict.fromkeys(broken)) or 'the manifest is not valid'}"


def _signer(signature: dict[str, Any]) -> str:
    return str(signature.get("issuer") or signature.get("common_name") or "")


def _generator(manifest: dict[str, Any]) -> str:
    for info in manifest.get("claim_generator_info") or ():
        return " ".join(str(info[key]) for key in ("name", "version") if info.get(key))
    return str(manifest.get("claim_generator") or "")


def _tree(manifests: dict[str, Any], label: str, depth: int = 0) -> Node | None:
    manifest = manifests.get(label)
    if manifest is None:
        return None
    children = []
    for assertion in manifest.get("assertions") or ():
        detail = ""
        if str(assertion.get("label", "")).startswith("c2pa.actions"):
            detail = ", ".join(
                " ".join(
                    str(action[key]).rsplit("/", 1)[-1]
                    for key in ("action", "digitalSourceType")
                    if action.get(key)
                )
                for action in assertion.get("data", {}).get("actions", ())
            )
        children.append(Node(label=str(assertion.get("label", "assertion")), detail=detail))
    for ingredient in manifest.get("ingredients") or ():
        below = ingredient.get("active_manifest")
        inner = _tree(manifests, below, depth + 1) if below and depth < _MAX_DEPTH else None
        children.append(
            Node(
                label=f"ingredient: {ingredient.get('title') or 'untitled'}",
                detail=", ".join(
                    filter(
                        None,
                        (
                            str(ingredient.get("relationship") or ""),
                            " ".join(
                                f"does not hold: {c}" for c in _ingredient_failures(ingredient)
                            ),
                        ),
                    )
                ),
                children=(inner,) if inner else (),
            )
        )
    signature = manifest.get("signature_info", {})
    detail = ", ".join(
        part
        for part in (
            f"signed by {_signer(signature)}" if _signer(signature) else "",
            str(signature.get("alg") or ""),
            f"at {signature['time']}" if signature.get("time") else "",
            _generator(manifest),
        )
        if part
    )
    return Node(label=str(manifest.get("title") or label), detail=detail, children=tuple(children))
