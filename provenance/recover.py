"""Finding the manifest of a picture that has lost it, and keeping one to be found.

A hit is a lead and never proof. The recovered manifest's signature is checked, but its hash was made over
other bytes, so nothing says that the signer signed this picture; a watermark can be copied and
a fingerprint can be met on purpose. A person has to look at both.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import c2pa

from assaymark.provenance import facts
from assaymark.provenance.binding_store import BindingStore
from assaymark.provenance.binding_tables import Entry
from assaymark.provenance.c2pa_context import reason, shared_context
from assaymark.provenance.fingerprint import distance, fingerprint
from assaymark.provenance.marked_files import read_pixels
from assaymark.provenance.soft_binding import SoftBinding, agrees, fingerprints, soft_bindings
from assaymark.provenance.stores import store_of
from assaymark.provenance.trust import NOBODY, Trust
from assaymark.provenance.verification import State
from assaymark.provenance.verify import examine
from assaymark.provenance.watermark import Mark, Pixels, Watermark
from assaymark.provenance.watermark_lattice import LatticeWatermark
from assaymark.reports.errors import InputError, IntegrityError

_OTHER_BYTES = (
    "assertion.dataHash.mismatch",
    "assertion.boxesHash.mismatch",
    "assertion.bmffHash.mismatch",
)
"""What must fail when a manifest is validated without its file (C2PA 2.2, section 15.12)."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A manifest that may be that of the picture.

    found_by: "watermark", "fingerprint" or both. p_value: of the watermark, None where it did not find
    this. distance: bits of 256 in which the fingerprints differ, None where one is missing.
    signature_holds: the manifest is intact and signed by `signer`; trusted: whose chain also ends in an
    anchor. agrees: the picture is as the manifest's own soft bindings describe it, None where nothing can
    be compared.
    explanation: one sentence that says what this is worth.
    """

    entry: Entry
    found_by: tuple[str, ...]
    p_value: float | None = None
    distance: int | None = None
    signer: str = ""
    signature_holds: bool = False
    trusted: bool = False
    agrees: bool | None = None
    explanation: str = ""


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """What a store knows of a picture; no candidates is a proper answer.

    searched: what was looked for, and with what outcome; a search that could not be made is said.
    """

    path: Path
    candidates: tuple[Candidate, ...]
    searched: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Remembered:
    """What was stored of a signed file, and what will lead to it."""

    sha256: str
    watermarks: tuple[tuple[str, int], ...]
    fingerprint: bytes | None


def remember(
    path: Path, store: BindingStore, *, key: bytes | None = None, watermark: Watermark | None = None
) -> Remembered:
    """Store a signed picture's manifest under its watermark and its fingerprint.

    key: of the watermark; without it only the fingerprint leads to the manifest. Raises IntegrityError
    for a file whose credentials do not hold, and InputError for one without credentials, that is no
    picture, or that nothing could find again.
    """
    found = examine(path)
    if found.state is State.INVALID:
        raise IntegrityError(f"{path} {found.explanation}: its manifest is not stored")
    if found.state not in (State.TRUSTED, State.UNTRUSTED):
        raise InputError(f"{path} is {found.state}: {found.explanation}; sign it first")
    pixels = read_pixels(path)
    code, mark = fingerprint(pixels), _detected(pixels, key, watermark)
    marks = ((_method(watermark).algorithm, mark.payload),) if mark else ()
    if code is None and not marks:
        raise InputError(
            f"{path} is too flat for a fingerprint and has no watermark"
            f"{' of this key' if key else ''}: nothing could lead back to its manifest; mark it first"
        )
    codes = (code,) if code else ()
    digest = store.add(
        store_of(found),
        signer=found.signer,
        title=found.title,
        watermarks=marks,
        fingerprints=codes,
    )
    return Remembered(sha256=digest, watermarks=marks, fingerprint=code)


def recover(
    path: Path,
    store: BindingStore,
    *,
    key: bytes | None = None,
    watermark: Watermark | None = None,
    trust: Trust = NOBODY,
    false_match: float = 1e-2,
    at_most: int = 10,
) -> Recovery:
    """The manifests that may belong to a picture, the best lead first.

    key: of the watermark; without it only the fingerprint is looked up. false_match: the probability that
    the fingerprint of an unrelated picture matches anything in this store. Raises InputError for
    what is no picture or no store.
    """
    pixels = read_pixels(path)
    mark, code = _detected(pixels, key, watermark), fingerprint(pixels)
    alg = _method(watermark).algorithm
    leads: dict[str, Candidate] = {}
    for entry in store.by_watermark(alg, mark.payload) if mark else ():
        found = Candidate(
            entry=entry, found_by=("watermark",), p_value=mark.p_value if mark else None
        )
        leads[entry.sha256] = found
    near = store.by_fingerprint(code, false_match=false_match, at_most=at_most) if code else ()
    for item in near:
        lead = leads.get(item.entry.sha256, Candidate(entry=item.entry, found_by=()))
        leads[item.entry.sha256] = replace(
            lead, found_by=(*lead.found_by, "fingerprint"), distance=item.distance
        )
    farthest = store.farthest(false_match)
    file_mark = (alg, mark.payload) if mark else None
    judged = [_judged(lead, trust, file_mark, code, farthest) for lead in leads.values()]
    return Recovery(
        path=path,
        candidates=tuple(sorted(judged, key=_rank)[:at_most]),
        searched=(
            _watermark_search(mark, key, leads),
            _fingerprint_search(code, len(near), farthest),
        ),
    )


def _method(watermark: Watermark | None) -> Watermark:
    return watermark or LatticeWatermark()


def _detected(pixels: Pixels, key: bytes | None, watermark: Watermark | None) -> Mark | None:
    return _method(watermark).detect(pixels, key) if key is not None else None


def _rank(lead: Candidate) -> tuple[Any, ...]:
    distance = 256 if lead.distance is None else lead.distance
    return (not lead.signature_holds, lead.p_value is None, not lead.agrees, distance)


def _judged(
    lead: Candidate,
    trust: Trust,
    mark: tuple[str, int] | None,
    code: bytes | None,
    farthest: int,
) -> Candidate:
    """With what the stored manifest is worth by itself."""
    try:
        document = _document(lead.entry.manifest, trust)
    except (c2pa.C2paError, ValueError) as error:
        text = f"the stored manifest cannot be read: {reason(error)}"
        return replace(lead, explanation=text)
    failures = [
        code
        for code in facts.codes(facts.statuses(document, "failure"))
        if code not in _OTHER_BYTES and not code.startswith("signingCredential.untrusted")
    ]
    passed = facts.codes(facts.statuses(document, "success", deltas=False))
    holds = not failures and "claimSignature.validated" in passed
    bindings = soft_bindings(facts.active(document))
    judged = replace(
        lead,
        signer=facts.signer(facts.signature(document)),
        signature_holds=holds,
        trusted=holds and "signingCredential.trusted" in passed,
        agrees=agrees(bindings, mark=mark, code=code, farthest=farthest),
        distance=_distance(lead, bindings, code),
    )
    return replace(judged, explanation=_explain(judged, failures, farthest))


def _distance(lead: Candidate, bindings: tuple[SoftBinding, ...], code: bytes | None) -> int | None:
    """Of the picture to the one that was signed, also where it is too far to be found by."""
    if lead.distance is not None or code is None:
        return lead.distance
    return min((distance(code, other) for other in fingerprints(bindings)), default=None)


def _document(manifest: bytes, trust: Trust) -> Mapping[str, Any]:
    signers = Trust(signers=trust.signers)  # c2pa takes an anchor of any kind for a signer
    with c2pa.Reader(
        "application/c2pa", io.BytesIO(manifest), context=shared_context(signers)
    ) as reader:
        return facts.mapping(json.loads(reader.json()))


def _explain(lead: Candidate, failures: list[str], farthest: int) -> str:
    if not lead.signature_holds:
        broken = ", ".join(dict.fromkeys(failures)) or "no signature was validated"
        return f"not to be believed: the stored manifest does not hold ({broken})"
    who = lead.signer or "an unnamed signer"
    trusted = "whose chain ends in a trust anchor" if lead.trusted else "whom no anchor vouches for"
    own = {
        True: "and its own soft bindings describe this picture",
        False: "but its own soft bindings describe another picture",
        None: "and it names no soft binding to compare with",
    }[lead.agrees]
    unlike = (
        f"; it looks unlike what was signed ({lead.distance} of 256 bits differ): cropped or turned, or "
        "the watermark of that picture was copied onto another"
        if lead.distance is not None and lead.distance > farthest
        else ""
    )
    return (
        f"a lead, not proof: signed by {who}, {trusted}, {own}{unlike}; that these pixels were signed is "
        "not shown"
    )


def _watermark_search(mark: Mark | None, key: bytes | None, leads: dict[str, Candidate]) -> str:
    if key is None:
        return "watermark: not looked for, as no key was given"
    if mark is None:
        return "watermark: none of this key"
    known = sum(1 for lead in leads.values() if "watermark" in lead.found_by)
    return f"watermark: {mark.payload:08x} (p = {mark.p_value:.0e}), of {known} stored manifests"


def _fingerprint_search(code: bytes | None, found: int, farthest: int) -> str:
    if code is None:
        return "fingerprint: none, as the picture is too flat to be told by its looks"
    return f"fingerprint: {found} stored within {farthest} of 256 bits"
