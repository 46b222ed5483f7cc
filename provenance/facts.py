"""What a reader's report says about one file: pure look-ups in a document that may be hostile.

Assertion data can be any JSON, so nothing here assumes more than it checks, and nothing raises.
"""

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from assaymark.reports.model import Node

Document = Mapping[str, Any]
_MAX_DEPTH = 12
# what c2pa and Encypher's engine call an identity whose chain ends in an anchor of identities
_IDENTITY_HOLDS = {"cawg.x509.credential.trusted", "cawg.identity.trusted"}
UNKNOWN_ACTOR = "cawg.x509.credential.untrusted"
_TRAINING = ("cawg.training-mining", "c2pa.training-mining")
_REVOCATION = {
    "signingCredential.ocsp.revoked": "revoked",
    "signingCredential.ocsp.notRevoked": "not revoked",
    "signingCredential.ocsp.unknown": "unknown",
    "signingCredential.ocsp.inaccessible": "not answered",
}


def mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def items(value: Any) -> Iterator[Mapping[str, Any]]:
    """The mappings in a list; anything else is passed over."""
    return (item for item in (value if isinstance(value, list) else ()) if isinstance(item, dict))


def active(document: Document) -> Mapping[str, Any]:
    """The active manifest, or an empty one."""
    return manifest(document, str(document.get("active_manifest") or ""))


def manifest(document: Document, label: str) -> Mapping[str, Any]:
    return mapping(mapping(document.get("manifests")).get(label))


def statuses(document: Document, kind: str, *, deltas: bool = True) -> list[Mapping[str, Any]]:
    """The status entries of one kind (failure, informational, success), the active manifest's first."""
    results = mapping(document.get("validation_results"))
    found = list(items(mapping(results.get("activeManifest")).get(kind)))
    for delta in items(results.get("ingredientDeltas")) if deltas else ():
        found += items(mapping(delta.get("validationDeltas")).get(kind))
    return found


def codes(entries: list[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(str(item.get("code", "")) for item in entries)


def signature(document: Document) -> Mapping[str, Any]:
    return mapping(active(document).get("signature_info"))


def signer(info: Mapping[str, Any]) -> str:
    """The organization in the signing certificate's subject, else its common name."""
    return str(info.get("issuer") or info.get("common_name") or "")


def generator(of: Mapping[str, Any]) -> str:
    for info in items(of.get("claim_generator_info")):
        return " ".join(str(info[key]) for key in ("name", "version") if info.get(key))
    return str(of.get("claim_generator") or "")


def time_of(document: Document) -> dt.datetime | None:
    """The time that the signature's stamp states, trusted or not."""
    try:
        found = dt.datetime.fromisoformat(str(signature(document).get("time")))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def assertions(of: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Labels and data of a manifest's assertions; data that is no mapping is empty."""
    return [
        (str(item.get("label", "")), mapping(item.get("data")))
        for item in items(of.get("assertions"))
    ]


def base(label: str) -> str:
    """A label without the number of a repeated one or a version: c2pa.actions.v2__1 is c2pa.actions.

    >>> base("c2pa.actions.v2__1"), base("cawg.metadata")
    ('c2pa.actions', 'cawg.metadata')
    """
    head = label.split("__", 1)[0]
    name, _, last = head.rpartition(".")
    return name if last[:1] == "v" and last[1:].isdigit() else head


def actions(of: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [
        action
        for label, data in assertions(of)
        if base(label) == "c2pa.actions"
        for action in items(data.get("actions"))
    ]


def source_types(of: Mapping[str, Any]) -> tuple[str, ...]:
    """The last words of the digital source types of all actions, each once."""
    found = (str(action.get("digitalSourceType") or "") for action in actions(of))
    return tuple(dict.fromkeys(text.rsplit("/", 1)[-1] for text in found if text))


def training(of: Mapping[str, Any]) -> dict[str, str]:
    """Uses of the training and data mining assertion: {"cawg.ai_training": "notAllowed"}."""
    return {
        str(name): str(mapping(entry).get("use", ""))
        for label, data in assertions(of)
        if base(label) in _TRAINING
        for name, entry in mapping(data.get("entries")).items()
    }


def authors(of: Mapping[str, Any]) -> tuple[str, ...]:
    """Names from CreativeWork (author) and metadata assertions (dc:creator), each once."""
    found: list[Any] = []
    for label, data in assertions(of):
        if base(label) == "stds.schema-org.CreativeWork":
            found += _list(data.get("author"))
        elif base(label) in ("cawg.metadata", "c2pa.metadata"):
            found += _list(data.get("dc:creator")) + _list(data.get("creator"))
    names = (item.get("name") if isinstance(item, dict) else item for item in found)
    return tuple(dict.fromkeys(str(name) for name in names if isinstance(name, str) and name))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def identity(document: Document) -> str | None:
    """The state of the CAWG identity assertion: trusted, untrusted or invalid; None without one."""
    if not any(base(label) == "cawg.identity" for label, _ in assertions(active(document))):
        return None
    kinds = ("failure", "informational", "success")
    seen = {
        kind: {code for code in codes(statuses(document, kind, deltas=False)) if "cawg." in code}
        for kind in kinds
    }
    failed = {code for code in seen["failure"] if "untrusted" not in code}
    if failed:
        return "invalid"
    return "trusted" if _IDENTITY_HOLDS & seen["success"] else "untrusted"


def revocation(document: Document) -> str:
    """What the stapled OCSP reply says; "not asked" where there is none, as nothing is fetched."""
    kinds = ("failure", "informational", "success")
    seen = [code for kind in kinds for code in codes(statuses(document, kind, deltas=False))]
    return next((word for code, word in _REVOCATION.items() if code in seen), "not asked")


def ingredient_failures(ingredient: Mapping[str, Any]) -> tuple[str, ...]:
    """The failure codes recorded when an ingredient was taken up, trust aside."""
    results = mapping(ingredient.get("validation_results"))
    found = [
        *items(mapping(results.get("activeManifest")).get("failure")),
        *items(ingredient.get("validation_status")),  # how manifests before C2PA 2.1 recorded it
    ]
    return tuple(
        code
        for code in codes(found)
        if not code.startswith(("signingCredential.untrusted", UNKNOWN_ACTOR))
    )


def history(document: Document) -> tuple[str, ...]:
    """Labels of the manifests that the active one leads to, itself first, each once."""
    found: dict[str, None] = {}
    left = [str(document.get("active_manifest") or "")]
    while left:
        label = left.pop(0)
        if label and label not in found and manifest(document, label):
            found[label] = None
            left += [
                str(item.get("active_manifest") or "")
                for item in items(manifest(document, label).get("ingredients"))
            ]
    return tuple(found)


def tree(document: Document) -> Node | None:
    """The manifests as a tree, down to a depth that a reader still follows."""
    return _tree(document, str(document.get("active_manifest") or ""), 0)


def _tree(document: Document, label: str, depth: int) -> Node | None:
    of = manifest(document, label)
    if not of:
        return None
    children = [
        _assertion(str(a.get("label", "assertion")), a) for a in items(of.get("assertions"))
    ]
    children += [_ingredient(document, item, depth) for item in items(of.get("ingredients"))]
    info = mapping(of.get("signature_info"))
    parts = (
        f"signed by {signer(info)}" if signer(info) else "",
        str(info.get("alg") or ""),
        f"at {info['time']}" if info.get("time") else "",
        generator(of),
    )
    return Node(
        label=str(of.get("title") or label), detail=_joined(parts), children=tuple(children)
    )


def _assertion(label: str, assertion: Mapping[str, Any]) -> Node:
    if base(label) != "c2pa.actions":
        return Node(label=label)
    words = (
        " ".join(
            str(action[key]).rsplit("/", 1)[-1]
            for key in ("action", "digitalSourceType")
            if action.get(key)
        )
        for action in items(mapping(assertion.get("data")).get("actions"))
    )
    return Node(label=label, detail=_joined(words))


def _ingredient(document: Document, ingredient: Mapping[str, Any], depth: int) -> Node:
    below = str(ingredient.get("active_manifest") or "")
    inner = _tree(document, below, depth + 1) if below and depth < _MAX_DEPTH else None
    broken = " ".join(f"does not hold: {code}" for code in ingredient_failures(ingredient))
    return Node(
        label=f"ingredient: {ingredient.get('title') or 'untitled'}",
        detail=_joined((str(ingredient.get("relationship") or ""), broken)),
        children=(inner,) if inner else (),
    )


def _joined(parts: Any) -> str:
    join: Callable[[Any], str] = ", ".join
    return join(part for part in parts if part)
