"""What Content Credentials say of how a file came to be, once their signature was checked.

Only a signer whose chain ends in a given anchor makes a capture authentic: anybody can sign "digitalCapture"
with a certificate of their own. That something is generated is taken from an untrusted signer too, in
weaker words, as few would sign that against themselves.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from assaymark.provenance import facts
from assaymark.provenance.evidence import Evidence, Family, Says, abstains
from assaymark.provenance.material import Material
from assaymark.provenance.metadata_evidence import says_of, shown
from assaymark.provenance.source_types import SOURCE_TYPES
from assaymark.provenance.trust import NOBODY, Trust
from assaymark.provenance.verification import State, Verification
from assaymark.provenance.verify import examine
from assaymark.reports.errors import InputError

NAME = "credential"
_DEPTH = 12
_CREATED = "c2pa.created"
_CAPTURES = ("digitalCapture", "computationalCapture")
# Actions that leave what is seen or heard as it was captured (C2PA 2.4, table 8)
_HARMLESS = frozenset(
    f"c2pa.{name}"
    for name in (
        "created", "opened", "published", "converted", "transcoded", "repackaged", "resized",
        "resized.proportional", "cropped", "trimmed", "orientation", "adjustedColor",
        "color_adjustments", "edited.metadata", "watermarked", "watermarked.bound",
        "watermarked.unbound", "captured", "managed", "produced", "saved",
    )
)  # fmt: skip
# Failures that say: signed once, and other bytes now (C2PA 2.4, section 15.2.2)
_ALTERED = (
    "assertion.dataHash.mismatch",
    "assertion.boxesHash.mismatch",
    "assertion.bmffHash.mismatch",
    "assertion.collectionHash.mismatch",
    "assertion.hashedURI.mismatch",
    "assertion.missing",
    "claimSignature.mismatch",
)
_METADATA = ("cawg.metadata", "c2pa.metadata", "stds.iptc")


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a manifest says of its work, and the words for it."""

    says: Says
    words: str


def look_credential(material: Material) -> Sequence[Evidence]:
    """One piece of evidence from the credentials in a file or beside it.

    material.options["trust"]: a Trust, whose anchors make a signer trusted; nobody is without it.
    Raises InputError for an option of another type. Nothing is fetched.
    """
    trust = material.options.get("trust", NOBODY)
    if not isinstance(trust, Trust):
        raise InputError(f"the option trust is a {type(trust).__name__}: expected a Trust")
    return [credential_evidence(examine(material.path, trust))]


def credential_evidence(found: Verification) -> Evidence:
    """The same for a file that was examined."""
    if found.remote:
        return abstains(
            NAME,
            Family.CREDENTIAL,
            f"it names Content Credentials at {shown(found.remote)}, and nothing is fetched",
            state=found.state.value,
            remote=found.remote,
        )
    if found.state is State.NO_MANIFEST:
        return _evidence(found, Says.NOTHING, "it carries no Content Credentials")
    if found.state in (State.UNSUPPORTED, State.UNREADABLE):
        return abstains(
            NAME,
            Family.CREDENTIAL,
            found.explanation,
            state=found.state.value,
            codes=[*found.codes],
        )
    return _invalid(found) if found.state is State.INVALID else _valid(found)


def _invalid(found: Verification) -> Evidence:
    altered = [code for code in found.failures if code.startswith(_ALTERED)]
    if altered:
        text = (
            "it is not what was signed: altered since, or its credentials come from another file "
            f"({', '.join(dict.fromkeys(altered))})"
        )
        return _evidence(found, Says.MANIPULATED, text)
    return _evidence(
        found, Says.NOTHING, f"its Content Credentials do not hold: {found.explanation}"
    )


def _valid(found: Verification) -> Evidence:
    origin = origin_of(found.document, found.label)
    signer = shown(found.signer or "an unnamed signer")
    if found.state is State.TRUSTED:
        return _evidence(
            found, origin.says, f"{signer}, whom an anchor vouches for, says: {origin.words}"
        )
    text = f"{signer}, whom no anchor vouches for, says: {origin.words}"
    says = Says.NOTHING if origin.says is Says.AUTHENTIC else origin.says
    return _evidence(found, says, text, stated=origin.says.value)


def _evidence(found: Verification, says: Says, summary: str, **details: Any) -> Evidence:
    told = {
        "state": found.state.value,
        "trusted": found.state is State.TRUSTED,
        "signer": found.signer,
        "generator": found.generator,
        "source_types": list(found.source_types),
        "actions": list(found.actions),
        "codes": list(found.codes),
        "where": found.where,
    }
    kept = {key: value for key, value in told.items() if value or key in ("state", "trusted")}
    return Evidence(
        detector=NAME,
        family=Family.CREDENTIAL,
        says=says,
        summary=summary,
        details={**kept, **details},
    )


def origin_of(document: facts.Document, label: str, depth: int = 0) -> Origin:
    """What one manifest of a document says, with what it says of the works it was made from.

    The order is: generated, itself or as its parent; then edited with AI or with generated parts; then
    captured, where no later action changes what is seen; else nothing that decides.
    """
    of = facts.manifest(document, label)
    generator = facts.generator(of)
    by = f" ({shown(generator)})" if generator else ""
    stated = list(_stated(of))
    parts = list(_parts(document, of, depth)) if depth < _DEPTH else []
    for says in (Says.GENERATED, Says.MANIPULATED):
        for action, name in stated:
            if _meant(action, name) is says:
                return Origin(says=says, words=f"{SOURCE_TYPES[name].meaning} [{name}]{by}")
        for relation, origin in parts:
            if _passed_on(relation, origin.says) is says:
                words = f"made from a work of which its credentials say: {origin.words}"
                return Origin(says=says, words=words)
    return _captured(of, stated, parts, by)


def _captured(
    of: Mapping[str, Any],
    stated: list[tuple[str, str]],
    parts: list[tuple[str, Origin]],
    by: str,
) -> Origin:
    taken = [name for action, name in stated if action == _CREATED and name in _CAPTURES]
    parents = [origin for relation, origin in parts if relation == "parentOf"]
    original = taken or any(origin.says is Says.AUTHENTIC for origin in parents)
    actions = [str(action.get("action", "")) for action in facts.actions(of)]
    changes = [name for name in actions if name not in _HARMLESS]
    if original and (changes or any(relation == "componentOf" for relation, _ in parts)):
        done = ", ".join(dict.fromkeys(changes)) or "c2pa.placed"
        return Origin(says=Says.NOTHING, words=f"captured, and then changed by {shown(done)}{by}")
    if original:
        word = taken[0] if taken else "digitalCapture"
        return Origin(says=Says.AUTHENTIC, words=f"{SOURCE_TYPES[word].meaning} [{word}]{by}")
    names = ", ".join(dict.fromkeys(name for _, name in stated))
    words = f"its source is {names}{by}" if names else f"nothing of how it came to be{by}"
    return Origin(says=Says.NOTHING, words=words)


def _meant(action: str, name: str) -> Says:
    """A trained model named by an action on an earlier work is an edit, whatever the word says."""
    says = says_of(SOURCE_TYPES[name])
    if says is Says.GENERATED and action not in (_CREATED, ""):
        return Says.MANIPULATED
    return says


def _passed_on(relation: str, says: Says) -> Says:
    """What the origin of an ingredient makes of a work (C2PA 2.4, section 18.16.2)."""
    if relation == "parentOf":
        return says
    if relation == "componentOf" and says in (Says.GENERATED, Says.MANIPULATED):
        return Says.MANIPULATED
    return Says.NOTHING  # an input of a process says nothing of what came out


def _stated(of: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The known source types with the action that states them, empty for a metadata assertion."""
    for action in facts.actions(of):
        name = str(action.get("digitalSourceType") or "").rsplit("/", 1)[-1]
        if name in SOURCE_TYPES:
            yield str(action.get("action", "")), name
    for label, data in facts.assertions(of):
        if facts.base(label) in _METADATA:
            name = str(data.get("Iptc4xmpExt:DigitalSourceType") or "").rsplit("/", 1)[-1]
            if name in SOURCE_TYPES:
                yield "", name


def _parts(
    document: facts.Document, of: Mapping[str, Any], depth: int
) -> Iterator[tuple[str, Origin]]:
    for item in facts.items(of.get("ingredients")):
        label = str(item.get("active_manifest") or "")
        if label and not facts.ingredient_failures(item):
            yield str(item.get("relationship") or ""), origin_of(document, label, depth + 1)
