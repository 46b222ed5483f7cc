"""An in-toto attestation that binds a report of ours to the model it is about, signed with DSSE.

Statement v1 (https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md): the subjects
are the models, the predicate says which report, policy and tool, and what every limit came to. The
predicate's type is a name; nothing is fetched from there.
"""

import datetime as dt
import hashlib
import json
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm

from assaymark.provenance.dsse import (
    IN_TOTO,
    STATEMENT,
    Envelope,
    EnvelopeSignature,
    read_envelope,
    read_json,
    sign_envelope,
    strict_json,
)
from assaymark.provenance.keys import Credentials
from assaymark.provenance.model_signature import shown
from assaymark.provenance.signer_chain import Signer, judge_signer
from assaymark.provenance.verify import State
from assaymark.reports.errors import InputError, IntegrityError
from assaymark.reports.files import write_atomically
from assaymark.reports.model import Finding, Report, Run

ReadReport = Callable[[str, str], Report]

PREDICATE = "https://assaymark.dev/attestation/report/v1"
_LARGEST_REPORT = 256 << 20
_LARGEST_ATTESTATION = 32 << 20
_MODEL_KEYS = ("model", "models", "endpoint", "defenses")  # of a policy


@dataclass(frozen=True, kw_only=True)
class Subject:
    """An artifact by its digest. sha256: as the report records it; of a model of several files the
    SHA-256 of theirs, one after the other."""

    name: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Attestation:
    """What an attestation is worth. subjects, verdict, policy_sha256, tool, report_sha256: as signed.

    signers: whose signatures hold. notes: what was found wrong or could not be checked, one
    sentence each. report_checked, subjects_checked: whether a report or models were held against it;
    without, the signature alone was judged.
    """

    path: Path
    state: State
    explanation: str
    signers: tuple[Signer, ...] = ()
    subjects: tuple[Subject, ...] = ()
    verdict: str = ""
    policy_sha256: str = ""
    tool: str = ""
    started: str = ""
    report_sha256: str = ""
    report_checked: bool = False
    subjects_checked: bool = False
    notes: tuple[str, ...] = ()


def attest(
    report: Path,
    credentials: Credentials,
    out: Path,
    *,
    read: ReadReport,
    models: Sequence[str] = (),
) -> dict[str, Any]:
    """Sign a statement that binds a stored report to its models; returns the statement.

    read: how a stored report is read from its text and name (`reports.store.from_json`), so that
    this module needs no renderer. models: which of the digests in the report are models; by
    default those that a policy's `model` names or that a finding is about. Other digests (data,
    word lists) are recorded as materials.

    Raises InputError when the report is unreadable or changed, records no digest of a model, or
    `out` cannot be written.
    """
    stored, data = _read_report(report, read)
    if stored.run is None:
        raise InputError(f"{report} does not say how it was made, so it cannot be attested")
    subjects = _models(stored, stored.run, models, report)
    statement = {
        "_type": STATEMENT,
        "subject": [{"name": one.name, "digest": {"sha256": one.sha256}} for one in subjects],
        "predicateType": PREDICATE,
        "predicate": _predicate(stored, stored.run, subjects, report.name, data),
    }
    payload = json.dumps(statement, ensure_ascii=False, separators=(",", ":")).encode()
    envelope = sign_envelope(payload, IN_TOTO, credentials)
    write_atomically(out, json.dumps(envelope, indent=1) + "\n")
    return statement


def verify_attestation(
    path: Path,
    *,
    read: ReadReport,
    report: Path | None = None,
    subjects: Sequence[Path] = (),
    trust_anchors_pem: str = "",
    at: dt.datetime | None = None,
) -> Attestation:
    """The state of an attestation; never raises for what the files hold.

    read: as for `attest`. report: the JSON it should be about. subjects: files of models; each must
    have an attested digest, or all together in this order, for a model of several files. trust_anchors_pem:
    certificates that a signer's chain may end in. at: when certificates must be valid; now without.

    Of several signatures one by a trusted signer is enough (DSSE 1.0, protocol.md, t = 1); those
    that do not hold are told in the notes.
    """
    blank = Attestation(path=path, state=State.UNREADABLE, explanation="")
    try:
        envelope = read_envelope(read_json(path, _LARGEST_ATTESTATION)[0])
    except InputError as error:
        return replace(blank, explanation=f"cannot read the attestation: {error}")
    signers, notes = _signers(envelope, trust_anchors_pem, at)
    if not signers:
        told = f"no signature holds: {'; '.join(notes)}"
        return replace(blank, state=State.INVALID, explanation=told, notes=notes)
    try:
        signed = _read_statement(envelope, blank)
    except InputError as error:
        return replace(blank, explanation=str(error), signers=signers, notes=notes)
    wrong = [
        *(() if report is None else _report_faults(report, read, signed, envelope.payload)),
        *(_subject_faults(subjects, signed) if subjects else ()),
    ]
    return _concluded(
        replace(
            signed,
            signers=signers,
            report_checked=report is not None,
            subjects_checked=bool(subjects),
        ),
        tuple(wrong),
        notes,
    )


def must_verify_attestation(
    path: Path,
    *,
    read: ReadReport,
    report: Path,
    subjects: Sequence[Path],
    trust_anchors_pem: str,
) -> Attestation:
    """A trusted attestation of exactly this report and these models; raises IntegrityError otherwise."""
    if not subjects:
        raise InputError("no model was given to hold the attestation against: name its file")
    found = verify_attestation(
        path, read=read, report=report, subjects=subjects, trust_anchors_pem=trust_anchors_pem
    )
    if found.state is not State.TRUSTED:
        raise IntegrityError(f"{path} is {found.state}: {found.explanation}")
    return found


def _read_report(path: Path, read: ReadReport) -> tuple[Report, bytes]:
    try:
        _, data = read_json(path, _LARGEST_REPORT)
    except InputError as error:
        raise InputError(f"cannot read the report {path}: {error}") from error
    return read(data.decode(), str(path)), data


def _models(report: Report, run: Run, wanted: Sequence[str], path: Path) -> list[Subject]:
    for name in wanted:
        if name not in run.digests:
            known = ", ".join(run.digests) or "none"
            raise InputError(f"{path} records no digest of {name}; those it records are: {known}")
    names = wanted or sorted(
        {finding.target for finding in report.findings} | set(_named_models(run.policy_text))
    )
    found = [Subject(name=name, sha256=run.digests[name]) for name in names if name in run.digests]
    if not found:
        others = f" (only of {', '.join(run.digests)})" if run.digests else ""
        raise InputError(
            f"{path} records no digest of a model{others}, so there is nothing to bind it to: "
            "audit a model file, or say which digest is the model's"
        )
    return found


def _named_models(policy: str) -> Iterator[str]:
    """The models a policy names, at any depth; none when it is no TOML."""
    try:
        waiting: list[Any] = [tomllib.loads(policy)]
    except (tomllib.TOMLDecodeError, RecursionError):
        return
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            for key, below in value.items():
                if key in _MODEL_KEYS:
                    named = below if isinstance(below, list) else [below]
                    yield from (name for name in named if isinstance(name, str))
                waiting.append(below)
        elif isinstance(value, list):
            waiting.extend(value)


def _predicate(
    report: Report, run: Run, subjects: Sequence[Subject], name: str, data: bytes
) -> dict[str, Any]:
    models = {subject.name for subject in subjects}
    return {
        "report": {"name": name, "digest": {"sha256": hashlib.sha256(data).hexdigest()}},
        "verdict": report.verdict.value,
        "counts": {verdict.value: count for verdict, count in sorted(report.counts.items())},
        "policy": {"name": run.policy_name, "digest": {"sha256": run.policy_sha256}},
        "tool": {"name": run.tool, "versions": dict(run.versions)},
        "started": run.started,
        "seed": run.seed,
        "gates": [_gate(finding) for finding in report.findings if finding.limit is not None],
        "materials": [
            {"name": other, "digest": {"sha256": sha256}}
            for other, sha256 in run.digests.items()
            if other not in models
        ],
    }


def _gate(finding: Finding) -> dict[str, Any]:
    interval = finding.interval
    return {
        "check": finding.check,
        "target": finding.target,
        "measure": finding.measure,
        "limit": str(finding.limit),
        "value": finding.value,
        "interval": None if interval is None else [interval.low, interval.high],
        "confidence": None if interval is None else interval.confidence,
        "n": finding.n,
        "verdict": finding.verdict.value,
    }


def _signers(
    envelope: Envelope, trust_anchors_pem: str, at: dt.datetime | None
) -> tuple[tuple[Signer, ...], tuple[str, ...]]:
    """The signers whose signatures hold, trusted ones first, and what is wrong with the others."""
    signers: dict[str, Signer] = {}
    notes = []
    for number, one in enumerate(envelope.signatures, start=1):
        reason = _broken(envelope, one)
        if reason:
            notes.append(f"signature {number} {reason}")
            continue
        signer = judge_signer(one.certificates, trust_anchors_pem, at=at)
        signers[signer.fingerprint] = signer
        if not signer.trusted:
            notes.append(f"signature {number} holds, but {shown(signer.reason)}")
    ordered = sorted(signers.values(), key=lambda signer: not signer.trusted)
    return tuple(ordered), tuple(notes)


def _broken(envelope: Envelope, one: EnvelopeSignature) -> str:
    if not one.certificates:
        return "carries no certificate, so nobody can be asked who made it"
    try:
        key = one.certificates[0].public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        return f"has a certificate that cannot be read ({error})"
    return "" if envelope.holds(key, one.signature) else "does not hold for what is stated"


def _read_statement(envelope: Envelope, blank: Attestation) -> Attestation:
    if envelope.payload_type != IN_TOTO:
        raise InputError(
            f"it is signed, but states {envelope.payload_type!r}: expected payloadType {IN_TOTO!r}"
        )
    statement = strict_json(envelope.payload)
    try:
        if (statement["_type"], statement["predicateType"]) != (STATEMENT, PREDICATE):
            raise InputError(
                f"it is signed, but is about {statement['predicateType']!r}: expected {PREDICATE!r}"
            )
        said = statement["predicate"]
        return replace(
            blank,
            subjects=tuple(
                Subject(name=_text(one["name"]), sha256=_text(one["digest"]["sha256"]))
                for one in statement["subject"]
            ),
            verdict=_text(said["verdict"]),
            policy_sha256=_text(said["policy"]["digest"]["sha256"]),
            tool=_text(said["tool"]["name"]),
            started=_text(said["started"]),
            report_sha256=_text(said["report"]["digest"]["sha256"]),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"it is signed, but malformed: {type(error).__name__} {error}; expected {PREDICATE}"
        ) from error


def _report_faults(
    path: Path, read: ReadReport, signed: Attestation, payload: bytes
) -> Iterator[str]:
    try:
        data = path.read_bytes()
    except OSError as error:
        yield f"cannot read the report {path}: {error.strerror or error}"
        return
    digest = hashlib.sha256(data).hexdigest()
    if digest != signed.report_sha256:
        yield (
            f"the report {shown(path.name)} has SHA-256 {digest[:16]}…, attested was "
            f"{signed.report_sha256[:16]}…: it is another report, or was changed"
        )
        return
    try:
        stored, _ = _read_report(path, read)
    except InputError as error:
        yield f"the attested report does not hold by itself: {error}"
        return
    yield from _contradictions(stored, strict_json(payload))


def _contradictions(report: Report, statement: Mapping[str, Any]) -> Iterator[str]:
    """Where a signer says other things than the report that was signed for."""
    subjects = [
        Subject(name=one["name"], sha256=one["digest"]["sha256"]) for one in statement["subject"]
    ]
    if report.run is None:
        yield "the attested report does not say how it was made"
        return
    said, name = statement["predicate"], statement["predicate"]["report"].get("name", "")
    mine = _predicate(report, report.run, subjects, name, b"")
    for key in mine:
        if key != "report" and said.get(key) != mine[key]:
            yield f"the attestation's {key} is not the report's: they contradict each other"
    for one in subjects:
        if report.run.digests.get(one.name) != one.sha256:
            yield f"the report does not record the attested digest of {shown(one.name)}"


def _subject_faults(paths: Sequence[Path], signed: Attestation) -> Iterator[str]:
    known = {subject.sha256 for subject in signed.subjects}
    digests: dict[Path, bytes] = {}
    for path in paths:
        try:
            with path.open("rb") as stream:
                digests[path] = hashlib.file_digest(stream, "sha256").digest()
        except OSError as error:
            yield f"cannot read the model {path}: {error.strerror or error}"
    if len(digests) == len(paths) > 1:
        together = hashlib.sha256(b"".join(digests[path] for path in paths)).hexdigest()
        if together in known:
            return
    for path, digest in digests.items():
        if digest.hex() not in known:
            named = ", ".join(shown(subject.name) for subject in signed.subjects)
            yield (
                f"{shown(path.name)} has SHA-256 {digest.hex()[:16]}…, which is not attested "
                f"(attested: {named}): it is not the model of the report"
            )


def _concluded(found: Attestation, wrong: tuple[str, ...], notes: tuple[str, ...]) -> Attestation:
    signer = found.signers[0]
    who = shown(signer.name)
    if not found.subjects:
        wrong = (*wrong, "it names no subject, so it is about nothing")
    if wrong:
        state, said = State.INVALID, f"signed by {who}, but {'; '.join(wrong)}"
    elif signer.trusted:
        state, said = State.TRUSTED, f"{who} attests the verdict {shown(found.verdict)}"
    else:
        state, said = State.UNTRUSTED, f"signed, but {shown(signer.reason)}"
    left = [
        text
        for text, checked in (
            ("no report was held against it", found.report_checked),
            ("no model was held against it", found.subjects_checked),
        )
        if not checked
    ]
    return replace(found, state=state, explanation=said, notes=(*wrong, *notes, *left))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value
