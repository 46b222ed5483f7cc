"""The manifest that says what Claims say: actions, assertions and ingredients for c2pa's builder.

C2PA 2.4, chapter 18; CAWG metadata 1.1; CAWG training and data mining 1.1.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import c2pa

from assaymark.provenance.assertion_labels import is_metadata
from assaymark.provenance.c2pa_context import shared_context
from assaymark.provenance.claim_thumbnail import thumbnail
from assaymark.provenance.claims import USES, Claims, full_action
from assaymark.provenance.formats import Format, Route
from assaymark.provenance.ingredients import Part, add_parts, other_work, own_past, prompt_part
from assaymark.reports.errors import InputError
from assaymark.reports.files import unicode

_THUMBNAIL = "thumbnail.jpg"
_UPDATABLE = (Route.JPEG, Route.PNG, Route.BMFF)
_NAMESPACES = {
    "dc": "http://purl.org/dc/elements/1.1/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "xmpRights": "http://ns.adobe.com/xap/1.0/rights/",
}


class Standing(StrEnum):
    """How a manifest stands to what was before (C2PA 2.4, section 18.15.2 and 11.2)."""

    CREATED = "created"  # c2pa.created; no parent
    EDITED = "edited"  # c2pa.opened, then what was done to the parent
    OPENED = "opened"  # c2pa.opened and nothing else: an existing file is signed as it is
    UPDATE = "update"  # an update manifest: only what is said changes


def standing(claims: Claims, source: Path, *, history: bool) -> Standing:
    """How these claims stand to a source that carries valid credentials (history) or none.

    | said of the work             | no credentials, no parent | parent given | history      |
    |------------------------------|---------------------------|--------------|--------------|
    | nothing                      | opened                    | edited       | opened       |
    | actions only                 | refused                   | edited       | edited       |
    | how it was made (generated)  | created                   | refused      | refused      |
    | how it was edited (with AI)  | created                   | edited       | edited       |
    | update                       | refused                   | refused      | update       |

    A work has one beginning: created over a parent is a contradiction (section 18.15.2). A second
    parent beside the history would lose it. Raises InputError for what is refused.
    """
    if claims.update and not history:
        raise InputError(
            f"{source} carries no credentials that could be updated: sign it without update"
        )
    if claims.update:
        return Standing.UPDATE
    if history and claims.parent:
        raise InputError(
            f"{source} carries a history of its own, beside which {claims.parent} cannot be the "
            "parent: leave the parent out, or name it as an ingredient"
        )
    earlier = history or claims.parent is not None
    if claims.source and not claims.source.edit and earlier:
        before = (
            f"was made from {claims.parent}"
            if claims.parent
            else "already carries Content Credentials"
        )
        raise InputError(
            f'{source} {before}, so it was not just made, as "{claims.source.name}" says: say '
            "edited-with-ai, or nothing; what a generator took as its input is an ingredient "
            "(inputTo:FILE) and keeps its history"
        )
    if claims.actions and not earlier and not claims.source:
        raise InputError(
            f"{', '.join(claims.actions)}: actions change an earlier work; name it as the parent, "
            "or say how the work was made"
        )
    if earlier and (claims.source or claims.actions or claims.parent):
        return Standing.EDITED
    return Standing.CREATED if claims.source else Standing.OPENED


def definition(
    claims: Claims,
    stands: Standing,
    *,
    name: str,
    parts: Sequence[Part] = (),
    soft_bindings: Sequence[Mapping[str, Any]] = (),
    watermarked: bool = False,
) -> dict[str, Any]:
    """The manifest definition for c2pa's builder; name: the title where the claims give none.

    soft_bindings: data of c2pa.soft-binding assertions (section 18.10). watermarked: one of them is
    an invisible watermark that was put into the work (c2pa.watermarked.bound).
    """
    done = actions(claims, stands, parts, watermarked=watermarked)
    made: dict[str, Any] = {
        "claim_generator_info": [{"name": "assaymark", "version": _version()}],
        "title": claims.title or unicode(name),
        "assertions": [*done, *assertions(claims, soft_bindings)],
    }
    if entries := [part.entry for part in parts if part.stream is None]:
        made["ingredients"] = entries
    return made


def new_builder(
    claims: Claims,
    source: Path,
    kind: Format,
    *,
    history: bool,
    soft_bindings: Sequence[Mapping[str, Any]] = (),
    watermarked: bool = False,
    broken_ingredients: bool = False,
    context: c2pa.Context | None = None,
    hard_binding: Mapping[str, Any] | None = None,
) -> c2pa.Builder:
    """A complete builder for signing `source`; the caller closes it.

    history: the source carries credentials that hold. broken_ingredients: take up ingredients whose
    credentials do not hold. hard_binding: a ready c2pa.hash.bmff.v3 assertion. Raises InputError for
    contradictions and bad ingredients, c2pa.C2paError for what the library refuses.
    """
    stands = standing(claims, source, history=history)
    if stands is Standing.UPDATE:
        _check_updatable(source, kind)
    parts = _parts(
        claims,
        stands,
        source,
        kind,
        history=history,
        broken=broken_ingredients,
        changed=watermarked,
    )
    picture = thumbnail(source, claims.thumbnail) if claims.thumbnail else None
    made = definition(
        claims,
        stands,
        name=source.name,
        parts=parts,
        soft_bindings=soft_bindings,
        watermarked=watermarked,
    )
    if hard_binding is not None:
        made["assertions"].append(_assertion("c2pa.hash.bmff.v3", hard_binding))
    if picture is not None:
        made["thumbnail"] = {"format": "image/jpeg", "identifier": _THUMBNAIL}
    builder = c2pa.Builder(made, context=context or shared_context())
    try:
        if stands is Standing.UPDATE:
            builder.set_intent(c2pa.C2paBuilderIntent.UPDATE)
        add_parts(builder, parts)
        if picture is not None:
            builder.add_resource(_THUMBNAIL, io.BytesIO(picture))
    except BaseException:
        builder.close()
        raise
    return builder


def _check_updatable(source: Path, kind: Format) -> None:
    # In WebP, TIFF and WAV the library's own reader finds the hash of the work broken after an
    # update, in SVG another engine does; only what two engines accept is written.
    if kind.route not in _UPDATABLE and kind.name != "GIF":
        raise InputError(
            f"{source} cannot be updated: an update of {kind.name} does not verify; sign it without "
            "update, its history is kept all the same"
        )


def _parts(
    claims: Claims,
    stands: Standing,
    source: Path,
    kind: Format,
    *,
    history: bool,
    broken: bool,
    changed: bool,
) -> tuple[Part, ...]:
    found = []
    if claims.parent is not None:
        found.append(other_work(claims.parent, "parent", "parentOf", broken=broken))
    elif stands is not Standing.CREATED:
        found.append(own_past(source, kind, history=history, changed=changed))
    if claims.prompt_digest is not None:
        found.append(prompt_part(claims.prompt_digest))
    for number, item in enumerate(claims.ingredients):
        label = f"ingredient{number}"
        found.append(
            other_work(item.path, label, item.relationship, title=item.title, broken=broken)
        )
    return tuple(found)


def actions(
    claims: Claims, stands: Standing, parts: Iterable[Part], *, watermarked: bool = False
) -> list[dict[str, Any]]:
    """The c2pa.actions.v2 assertion in a list; an update manifest has none of its own."""
    if stands is Standing.UPDATE and watermarked:
        raise InputError("a watermark changes the work: it cannot be part of an update")
    if stands is Standing.UPDATE:
        return []
    by_relationship: dict[str, list[str]] = {}
    for part in parts:
        by_relationship.setdefault(part.entry["relationship"], []).append(part.label)
    done = _done(claims, stands, by_relationship.get("inputTo", []))
    if opened := by_relationship.get("parentOf"):
        done.insert(0, _with("c2pa.opened", opened))
    if placed := by_relationship.get("componentOf"):
        done.append(_with("c2pa.placed", placed))
    if watermarked:
        done.append({"action": "c2pa.watermarked.bound"})
    data: dict[str, Any] = {"actions": done}
    if len(done) == 1 and stands is Standing.OPENED:
        data["allActionsIncluded"] = True  # section 18.15.3; of other works we were not told all
    return [{"label": "c2pa.actions.v2", "created": True, "data": data}]


def _done(claims: Claims, stands: Standing, inputs: list[str]) -> list[dict[str, Any]]:
    """What was done, the first action with how and by what, and from which input."""
    named = [full_action(action) for action in claims.actions]
    if stands is Standing.CREATED:
        named.insert(0, "c2pa.created")
    elif stands is Standing.EDITED and (claims.source or not named):
        named.insert(0, "c2pa.edited")
    done: list[dict[str, Any]] = [{"action": name} for name in named]
    if not done:
        return done
    done[0] = _with(named[0], inputs)
    if claims.source:
        done[0]["digitalSourceType"] = claims.source.uri
    if claims.generator:
        agent = {"name": claims.generator}
        if claims.generator_version:
            agent["version"] = claims.generator_version
        done[0]["softwareAgent"] = agent
    return done


def _with(action: str, labels: list[str]) -> dict[str, Any]:
    # the engine turns these into hashed references to the ingredients
    return {"action": action} | ({"parameters": {"ingredientIds": labels}} if labels else {})


def assertions(
    claims: Claims, soft_bindings: Sequence[Mapping[str, Any]] = ()
) -> list[dict[str, Any]]:
    """All assertions but the actions; each statement stands in one place."""
    made = {
        "cawg.metadata": metadata(claims),
        "cawg.training-mining": training(claims),
        "c2pa.training-mining": _old_training(claims),
        "c2pa.ai-disclosure": ai_disclosure(claims),
        **(claims.assertions or {}),
    }
    found = [_assertion(label, data) for label, data in made.items() if data]
    return found + [_assertion("c2pa.soft-binding", data) for data in soft_bindings]


def _assertion(label: str, data: Mapping[str, Any]) -> dict[str, Any]:
    kind = {"kind": "Json"} if is_metadata(label) else {}
    return {"label": label, "data": dict(data)} | kind


def metadata(claims: Claims) -> dict[str, Any]:
    """CAWG metadata 1.1: XMP properties as JSON-LD, in the plain arrays that readers expect."""
    properties: dict[str, Any] = {
        "dc:creator": claims.author and [claims.author],
        "dc:publisher": claims.organization and [claims.organization],
        "dc:rights": claims.copyright,
        "dc:description": claims.description,
        "xmpRights:UsageTerms": claims.usage_terms,
        # IPTC Photo Metadata 2025.1
        "Iptc4xmpExt:AIPromptInformation": claims.prompt,
        "Iptc4xmpExt:AIPromptWriterName": claims.prompt_writer,
    }
    said = {key: value for key, value in properties.items() if value}
    used = {key.partition(":")[0] for key in said}
    spaces = {prefix: uri for prefix, uri in _NAMESPACES.items() if prefix in used}
    return {"@context": spaces, **said} if said else {}


def training(claims: Claims) -> dict[str, Any]:
    """CAWG training and data mining 1.1."""
    entries = {}
    for use, word in claims.uses.items():
        entries[use] = {"use": word}
        if word == "constrained" and claims.training_terms:
            entries[use]["constraint_info"] = claims.training_terms
    return {"entries": entries} if entries else {}


def _old_training(claims: Claims) -> dict[str, Any]:
    """C2PA 1.4, section 19.23: the same entries under other names; C2PA 2.0 took them out."""
    if not claims.old_readers:
        return {}
    known = {use: entry for use, entry in training(claims)["entries"].items() if use in USES}
    return {"entries": {use.replace("cawg.", "c2pa."): entry for use, entry in known.items()}}


def ai_disclosure(claims: Claims) -> dict[str, Any]:
    """C2PA 2.4, section 18.28: which model, and how far a human looked after it."""
    if not (claims.model or claims.oversight):
        return {}
    said: dict[str, Any] = {"modelType": "c2pa.types.model"}
    if claims.generator:
        said["modelName"] = claims.generator
    if claims.model:
        said["modelIdentifier"] = claims.model
    if claims.oversight:
        said["contentProfile"] = {"humanOversightLevel": claims.oversight}
    return said


@cache
def _version() -> str:
    return version("assaymark")
