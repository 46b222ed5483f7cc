"""From what the engine reports to a state: whose word counts, and for what.

c2pa accepts an anchor of any kind for every purpose. Here a claim signer's chain ends in an anchor
of signers and a time stamp's in an anchor of time-stamping authorities (C2PA 2.2, section 14.4).
"""

import datetime as dt
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from cryptography import x509
from cryptography.x509.oid import ObjectIdentifier

from assaymark.provenance import chains, cose, facts, jumbf, timestamps
from assaymark.provenance.job import Reading
from assaymark.provenance.keys import CLAIM_SIGNING, DOCUMENT_SIGNING
from assaymark.provenance.stores import chain_of, store_of
from assaymark.provenance.trust import Trust
from assaymark.provenance.verification import State, Verification
from assaymark.reports.errors import InputError

# What c2pa calls the anchors that c2pa_context.settings() gives it.
_SIGNERS, _TIME_STAMPS = "system_anchors", "urn:assaymark:tsa"
_EMAIL = ObjectIdentifier("1.3.6.1.5.5.7.3.4")  # what signers used before C2PA had a purpose
PURPOSES = (CLAIM_SIGNING, DOCUMENT_SIGNING, _EMAIL)
_STATES = {"Trusted": State.TRUSTED, "Valid": State.UNTRUSTED}
_UNTRUSTED, _EXPIRED = "signingCredential.untrusted", "signingCredential.expired"


@dataclass(frozen=True, kw_only=True)
class _Verdict:
    state: State
    failures: tuple[str, ...]
    notes: tuple[str, ...] = ()


def judge(path: Path, reading: Reading, trust: Trust) -> Verification:
    """The verification of a file whose manifest could be read."""
    document = reading.document
    failures = facts.codes(facts.statuses(document, "failure"))
    inherited = _inherited(document)
    found = Verification(
        path=path,
        state=_STATES.get(str(document.get("validation_state")), State.INVALID),
        explanation="",
        where=reading.where,
        document=document,
        store=reading.store,
    )
    stamp = _time_stamp(found, trust)
    if stamp is not None:
        found = replace(found, time_stamp=stamp)
    actor = _identity(found, trust)
    if actor is not None:
        found = replace(found, identity=actor)
    verdict = _verdict(found, failures, trust)
    failures = verdict.failures + tuple(f"ingredient:{code}" for code in inherited)
    rest = (facts.codes(facts.statuses(document, kind)) for kind in ("informational", "success"))
    return replace(
        found,
        state=verdict.state,
        failures=failures,
        codes=failures + tuple(code for part in rest for code in part),
        notes=reading.notes + verdict.notes + _notes(found, trust),
        explanation=explain(verdict.state, failures, found, inherited),
    )


def _verdict(found: Verification, failures: tuple[str, ...], trust: Trust) -> _Verdict:
    state = found.state
    if state is State.UNTRUSTED and _only_the_actor_is_unknown(found, failures):
        state, failures = State.TRUSTED, ()
    own = [code for code in failures if not code.startswith(_UNTRUSTED)]
    if state is State.TRUSTED and own:
        return _Verdict(state=State.INVALID, failures=failures)
    if state is State.TRUSTED and failures:
        return _Verdict(state=State.UNTRUSTED, failures=failures)
    if state is State.TRUSTED and _leans_on_the_wrong_anchor(found):
        return _walked(found, failures, trust)
    return _Verdict(state=state, failures=failures)


def _identity(found: Verification, trust: Trust) -> str | None:
    """The state of the named actor (CAWG): trusted, untrusted or invalid; None without one."""
    state = facts.identity(found.document)
    if state != "trusted":
        return state
    if not trust.identities.strip():
        return "untrusted"
    try:
        box = jumbf.manifests(store_of(found))[found.label]["c2pa.assertions/cawg.identity"]
        chain = cose.signer_chain(cose.decode(box)["signature"])
        at = found.signed_at or dt.datetime.now(dt.UTC)
        return (
            "trusted"
            if chains.chain_ends_in(chain, trust.identities, at, PURPOSES)
            else "untrusted"
        )
    except (InputError, KeyError, TypeError):
        return "untrusted"


def _only_the_actor_is_unknown(found: Verification, failures: tuple[str, ...]) -> bool:
    """The library takes the signer's trust away where a named actor beside him is unknown."""
    held = facts.codes(facts.statuses(found.document, "success", deltas=False))
    return set(failures) == {facts.UNKNOWN_ACTOR} and "signingCredential.trusted" in held


def _leans_on_the_wrong_anchor(found: Verification) -> bool:
    results = facts.mapping(found.document.get("validation_results"))
    stamped = any(
        item.get("code") == "timeStamp.trusted"
        for item in facts.statuses(found.document, "success", deltas=False)
    )
    return results.get("trustListUri") != _SIGNERS or (stamped and found.time_stamp != "trusted")


def _walked(found: Verification, failures: tuple[str, ...], trust: Trust) -> _Verdict:
    """The library trusted by an anchor of another kind: hold the chain to the signers' anchors."""
    at = found.signed_at or dt.datetime.now(dt.UTC)
    try:
        chain = chain_of(found)
        leaf = chains.certificates(chain, "the chain", limit=chains.MAX_CHAIN)[0]
        ending = chains.chain_ends_in(chain, trust.signers, at, PURPOSES)
    except InputError as error:
        note = f"the signer's chain cannot be followed: {error}"
        return _Verdict(state=State.UNTRUSTED, failures=(_UNTRUSTED, *failures), notes=(note,))
    if ending:
        return _Verdict(state=State.TRUSTED, failures=failures)
    if not leaf.not_valid_before_utc <= at <= leaf.not_valid_after_utc:
        return _Verdict(
            state=State.INVALID,
            failures=(_UNTRUSTED, _EXPIRED, *failures),
            notes=("the time stamp is by no trusted authority, so it does not save an expired "
                   "certificate",),
        )  # fmt: skip
    return _Verdict(state=State.UNTRUSTED, failures=(_UNTRUSTED, *failures), notes=(ending.reason,))


def _time_stamp(found: Verification, trust: Trust) -> Literal["trusted", "untrusted"] | None:
    """Whether an authority that `trust` names for time stamps vouches for the time of signing."""
    if not facts.signature(found.document).get("time"):
        return None
    for item in facts.statuses(found.document, "success", deltas=False):
        if item.get("code") == "timeStamp.trusted":
            # the list is named last; what precedes it is text of the certificate
            named = str(item.get("explanation", "")).rpartition("trust list: ")[2]
            good = named == _TIME_STAMPS or _stamped(found, trust)
            return "trusted" if good else "untrusted"
    return "untrusted"


def _stamped(found: Verification, trust: Trust) -> bool:
    """The library names one list that fits, by chance: look at the stamp's own chain."""
    if not trust.time_stamps.strip():
        return False
    try:
        boxes = jumbf.manifests(store_of(found))[found.label]
        claim = boxes.get("c2pa.claim.v2") or boxes.get("c2pa.claim")
        stamp = timestamps.time_stamp(boxes["c2pa.signature"], claim)
        return stamp is not None and bool(timestamps.trusted_time_stamp(stamp, trust.time_stamps))
    except (InputError, KeyError):
        return False


def _inherited(document: facts.Document) -> tuple[str, ...]:
    manifests = facts.mapping(document.get("manifests")).values()
    return tuple(
        dict.fromkeys(
            code
            for manifest in manifests
            for ingredient in facts.items(facts.mapping(manifest).get("ingredients"))
            for code in facts.ingredient_failures(ingredient)
        )
    )


def _notes(found: Verification, trust: Trust) -> tuple[str, ...]:
    notes = []
    if found.serial in _leaf_anchors(trust.signers):
        notes.append(
            "the signing certificate is itself an anchor: it is trusted by name, no authority "
            "stands behind it"
        )
    if found.time_stamp == "untrusted":
        notes.append(
            "the time stamp is by no trusted authority, so the time of signing is not known"
        )
    if found.identity == "untrusted":
        notes.append(
            "no anchor of identities vouches for the actor who is named beside the signer: add one "
            "with --identity-anchor"
        )
    return tuple(notes)


@lru_cache(maxsize=8)
def _leaf_anchors(signers: str) -> frozenset[str]:
    """Serial numbers of anchors that are no CA."""
    if not signers.strip():
        return frozenset()
    try:
        return frozenset(
            str(item.serial_number)
            for item in chains.certificates(signers, "the trust anchors")
            if not _is_ca(item)
        )
    except InputError:
        return frozenset()


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        constraints = chains.extension(certificate, x509.BasicConstraints)
    except chains.BROKEN:
        return False
    return constraints is not None and constraints.value.ca


def explain(
    state: State, failures: tuple[str, ...], found: Verification, inherited: tuple[str, ...] = ()
) -> str:
    """One sentence for the person who made the file."""
    who = found.signer or "an unnamed signer"
    if state is State.INVALID:
        own = [code for code in failures if not code.startswith("ingredient:")]
        return _broken(own, who)
    text = (
        f"signed by {who}, whose chain ends in a trust anchor; unchanged since"
        if state is State.TRUSTED
        else f"unchanged since {who} signed it, but no trust anchor vouches for {who}"
    )
    if inherited:
        text += f"; but a work it was made from does not hold ({', '.join(inherited)})"
    return text


_SENTENCES: tuple[tuple[str, str], ...] = (
    ("claimSignature.", "the signature does not fit the manifest, which was changed after signing"),
    ("assertion.dataHash.mismatch", "its content was changed after signing"),
    ("assertion.bmffHash.mismatch", "its content was changed after signing"),
    ("assertion.boxesHash.mismatch", "its content was changed after signing"),
    ("assertion.collectionHash.mismatch", "one of its parts was changed, added or removed after signing"),
    ("assertion.hashedURI.mismatch", "a statement in its manifest was changed after signing"),
    ("signingCredential.ocsp.revoked", "the signing certificate was revoked"),
    (_EXPIRED, "the signing certificate has expired, and no trusted time stamp shows that it signed before"),
    ("signingCredential.invalid", "the signing certificate is not fit for signing claims"),
    ("claim.missing", "its manifest has no claim"),
    ("assertion.missing", "a statement that its manifest lists is not there"),
    ("ingredient.manifest", "the credentials of a work it was made from are missing or changed"),
)  # fmt: skip


def _broken(codes: list[str], who: str) -> str:
    names = ", ".join(dict.fromkeys(codes)) or "the manifest is not valid"
    text: Any = next(
        (text for start, text in _SENTENCES if any(code.startswith(start) for code in codes)), None
    )
    return f"{text} ({names}); {who} signed it" if text else f"does not hold: {names}"
