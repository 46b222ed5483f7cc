"""Our own watermark, and credentials found again by it or by a picture's looks, as evidence.

Both are leads: a watermark can be copied to another picture, a fingerprint can be met on purpose. What is
found again therefore never makes a picture authentic.
"""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import c2pa

from assaymark.provenance import facts
from assaymark.provenance.binding_store import BindingStore
from assaymark.provenance.c2pa_context import reason, shared_context
from assaymark.provenance.credential_evidence import Origin, origin_of
from assaymark.provenance.evidence import Evidence, Family, Says, abstains
from assaymark.provenance.material import Material, upright
from assaymark.provenance.metadata_evidence import shown
from assaymark.provenance.recover import Candidate, Recovery, recover
from assaymark.provenance.trust import NOBODY, Trust
from assaymark.provenance.verify import State, examine
from assaymark.provenance.watermark_lattice import LatticeWatermark
from assaymark.reports.errors import InputError

WATERMARK, BINDING = "watermark", "binding"


def look_watermark(material: Material) -> Sequence[Evidence]:
    """The mark of the user's key in a picture.

    material.options: "watermark_key", bytes; "watermark_says", what the holder of the key marks with it:
    "generated", "authentic" or "nothing", which is what it says unless told. Raises InputError for
    options of another type, a key that is too short, and a picture that cannot be decoded.
    """
    key = _key(material)
    if key is None:
        why = "no key of a watermark was given"
        return [abstains(WATERMARK, Family.WATERMARK, why)]
    says = _meaning(material)
    pixels = upright(material.picture)
    if min(pixels.shape[:2]) < 32:
        why = "a picture of less than 32 pixels on a side can carry no watermark"
        return [abstains(WATERMARK, Family.WATERMARK, why)]
    mark = LatticeWatermark().detect(pixels, key)
    if mark is None:
        text = "it carries no watermark of this key"
        return [_evidence(WATERMARK, Family.WATERMARK, Says.NOTHING, text)]
    text = f"it carries the watermark {mark.payload:08x} of this key (p = {mark.p_value:.0e})"
    return [
        Evidence(
            detector=WATERMARK,
            family=Family.WATERMARK,
            says=says,
            summary=text,
            score=mark.score,
            details={"payload": f"{mark.payload:08x}", "p_value": mark.p_value},
        )
    ]


def look_binding(material: Material) -> Sequence[Evidence]:
    """Credentials that a picture has lost, found in a store of manifests.

    material.options: "binding_store", a path, a URL of SQLAlchemy or an open BindingStore;
    "watermark_key" and "trust" as for the other detectors. Raises InputError for options of another type,
    a store that cannot be read, and what is no picture.
    """
    store = material.options.get("binding_store")
    if store is None:
        why = "no store of manifests was given"
        return [abstains(BINDING, Family.CREDENTIAL, why)]
    if examine(material.path).state in (State.TRUSTED, State.UNTRUSTED):
        text = "it carries its own Content Credentials, so none were looked for in the store"
        return [_evidence(BINDING, Family.CREDENTIAL, Says.NOTHING, text)]
    if isinstance(store, BindingStore):
        return _found(_recovered(material, store))
    if not isinstance(store, str | Path):
        raise InputError(
            f"the option binding_store is a {type(store).__name__}: expected a path or a URL"
        )
    with BindingStore(store) as opened:
        return _found(_recovered(material, opened))


def _recovered(material: Material, store: BindingStore) -> Recovery:
    trust = material.options.get("trust", NOBODY)
    if not isinstance(trust, Trust):
        raise InputError(f"the option trust is a {type(trust).__name__}: expected a Trust")
    return recover(material.path, store, key=_key(material), trust=trust)


def _found(recovery: Recovery) -> list[Evidence]:
    lead = next((one for one in recovery.candidates if one.signature_holds), None)
    if lead is None:
        text = f"no manifest of it is in the store ({'; '.join(recovery.searched)})"
        return [_evidence(BINDING, Family.CREDENTIAL, Says.NOTHING, text)]
    origin = _origin(lead)
    says = Says.NOTHING if origin.says is Says.AUTHENTIC else origin.says
    text = (
        f"its Content Credentials were removed; found again by {' and '.join(lead.found_by)}, "
        f"{shown(lead.signer or 'an unnamed signer')} says: {origin.words}"
    )
    details = {
        "stated": origin.says.value,
        "signer_trusted": lead.trusted,  # the signature was checked, that it is of this picture was not
        "agrees": lead.agrees,
        "found_by": list(lead.found_by),
        "manifest": lead.entry.sha256,
        "distance": lead.distance,
        "explanation": lead.explanation,
    }
    return [_evidence(BINDING, Family.CREDENTIAL, says, text, **details)]


def _origin(lead: Candidate) -> Origin:
    try:
        with c2pa.Reader(
            "application/c2pa", io.BytesIO(lead.entry.manifest), context=shared_context(NOBODY)
        ) as reader:
            document = facts.mapping(json.loads(reader.json()))
    except (c2pa.C2paError, ValueError) as error:
        return Origin(says=Says.NOTHING, words=f"nothing that can be read: {reason(error)}")
    return origin_of(document, str(document.get("active_manifest") or ""))


def _key(material: Material) -> bytes | None:
    key = material.options.get("watermark_key")
    if key is not None and not isinstance(key, bytes):
        raise InputError(
            f"the option watermark_key is a {type(key).__name__}: expected the bytes of the key"
        )
    return key


def _meaning(material: Material) -> Says:
    told = material.options.get("watermark_says", Says.NOTHING.value)
    allowed = [Says.GENERATED.value, Says.AUTHENTIC.value, Says.NOTHING.value]
    if told not in allowed:
        raise InputError(
            f"the option watermark_says is {told!r}: expected one of {', '.join(allowed)}"
        )
    return Says(str(told))


def _evidence(
    detector: str, family: Family, says: Says, summary: str, **details: object
) -> Evidence:
    return Evidence(detector=detector, family=family, says=says, summary=summary, details=details)
