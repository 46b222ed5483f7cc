"""A second engine that judges the same file by the same anchors (the extra "encypher").

Nothing is sent: its telemetry and its fetching are off for the process, and no preference is saved in
the user's home. Where the two disagree, both verdicts are told.
"""

import importlib.util
import mmap
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assaymark.provenance.formats import HEAD, recognise
from assaymark.provenance.trust import Trust
from assaymark.provenance.verification import State, Verification

INSTALL = "pip install 'assaymark[encypher]'"
# A saved preference is read where these are not set; with them no file is looked for or written.
_SILENT = {"ENCYPHER_C2PA_TELEMETRY": "off", "ENCYPHER_C2PA_ONLINE": "off"}
_environment = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A difference between the engines that is known. codes: one of them, of either engine."""

    ours: State
    theirs: State
    codes: tuple[str, ...]
    why: str


# Seen on C2PA's public test files, on c2pa-rs's fixtures and on files made here.
KNOWN: tuple[Difference, ...] = (
    Difference(
        ours=State.INVALID,
        theirs=State.UNTRUSTED,
        codes=("signingCredential.expired",),
        why="c2pa refuses a certificate that expired and has no trusted time stamp, the other "
        "engine calls it untrusted",
    ),
    Difference(
        ours=State.INVALID,
        theirs=State.UNTRUSTED,
        codes=("assertion.hashedURI.mismatch", "ingredient.manifest.mismatch"),
        why="c2pa validates the manifests of ingredients again, the other engine trusts what was "
        "recorded of them",
    ),
    Difference(
        ours=State.TRUSTED,
        theirs=State.INVALID,
        codes=("assertion.collectionHash.malformed",),
        why="c2pa writes the hash of ZIP packages in a form that the other engine does not accept",
    ),
    Difference(
        ours=State.UNTRUSTED,
        theirs=State.INVALID,
        codes=("assertion.collectionHash.malformed",),
        why="c2pa writes the hash of ZIP packages in a form that the other engine does not accept",
    ),
    Difference(
        ours=State.TRUSTED,
        theirs=State.INVALID,
        codes=("assertion.action.redacted", "assertion.notRedacted", "assertion.action.malformed"),
        why="the other engine checks redactions more closely than c2pa",
    ),
    Difference(
        ours=State.TRUSTED,
        theirs=State.UNTRUSTED,
        codes=("signingCredential.untrusted",),
        why="the other engine knows no anchor that is the signing certificate itself",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Opinion:
    """state: the second engine's; None where it was not asked or gave none, and why says so."""

    state: State | None
    why: str
    agrees: bool | None = None
    codes: tuple[str, ...] = ()
    known: str = ""
    version: str = ""

    def __post_init__(self) -> None:
        if (self.state is None) != (self.agrees is None):
            raise ValueError("an opinion agrees or not exactly when there is one")


def available() -> bool:
    return importlib.util.find_spec("encypher_c2pa") is not None


def second_opinion(found: Verification, trust: Trust) -> Opinion:
    """What the second engine says of a file that was examined; never raises for what a file holds."""
    if not available():
        return Opinion(state=None, why=f"not asked: {INSTALL}")
    try:
        report = _report(found, trust)
    except (OSError, ValueError, RuntimeError, TypeError, MemoryError) as error:
        return Opinion(state=None, why=f"not given: {' '.join(str(error).split())[:300]}")
    return _compare(found, report)


def _report(found: Verification, trust: Trust) -> Mapping[str, Any]:
    with found.path.open("rb") as stream:
        kind = recognise(found.path, stream.read(HEAD))
        if kind is None:
            raise ValueError("the file is of no kind known here")
        if os.fstat(stream.fileno()).st_size == 0:
            raise ValueError("the file is empty")
        store = found.store if found.where == "sidecar" else None
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _ask(data, kind.media_type, store, trust)


def _ask(data: Any, media_type: str, store: bytes | None, trust: Trust) -> Mapping[str, Any]:
    with _environment:
        before = {name: os.environ.get(name) for name in _SILENT}
        os.environ.update(_SILENT)
        try:
            import encypher_c2pa

            view = memoryview(data)
            try:
                report: Mapping[str, Any] = encypher_c2pa.verify(
                    view,
                    media_type,
                    manifest_store=store,
                    trust_pem=trust.signers or None,
                    tsa_trust_pem=trust.time_stamps or None,
                    cawg_trust_pem=trust.identities or None,
                    no_default_trust=True,
                    online=False,
                )
            finally:
                view.release()
            return report
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def _compare(found: Verification, report: Mapping[str, Any]) -> Opinion:
    state = _state(report)
    results = report.get("validation_results") or {}
    codes = tuple(dict.fromkeys(str(item.get("code", "")) for item in results.get("failure") or ()))
    agrees = state is found.state or {state, found.state} <= _NOT_GOOD
    known = "" if agrees else _known(found.state, state, (*codes, *found.failures))
    verdicts = f"c2pa: {found.state}; encypher-c2pa: {state}"
    failed = f" ({', '.join(codes)})" if codes and not agrees else ""
    return Opinion(
        state=state,
        agrees=agrees,
        codes=codes,
        known=known,
        why=verdicts + failed + (f"; {known}" if known else ""),
        version=_version(),
    )


# "Cannot be read" and "does not hold" are two ways of refusing the same file.
_NOT_GOOD = {State.INVALID, State.UNREADABLE}


def _state(report: Mapping[str, Any]) -> State:
    if not report.get("present"):
        return State.NO_MANIFEST
    return {"Trusted": State.TRUSTED, "Valid": State.UNTRUSTED}.get(
        str(report.get("validation_state")), State.INVALID
    )


def _known(ours: State, theirs: State, codes: tuple[str, ...]) -> str:
    either = {code.removeprefix("ingredient:") for code in codes}
    return next(
        (
            item.why
            for item in KNOWN
            if (item.ours, item.theirs) == (ours, theirs) and either & set(item.codes)
        ),
        "",
    )


def _version() -> str:
    from importlib.metadata import version

    return version("encypher-c2pa")


def verdicts(path: Path, opinion: Opinion) -> str:
    """One sentence for a report."""
    if opinion.agrees is None:
        return f"{path.name}: the second engine was {opinion.why}"
    return f"{path.name}: the engines {'agree' if opinion.agrees else 'disagree'}: {opinion.why}"
