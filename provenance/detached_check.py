"""Checks of what is signed beside itself: folders of weights or data, and attested reports."""

from pathlib import Path

from assaymark.provenance.attestation import Attestation, ReadReport, verify_attestation
from assaymark.provenance.folder_manifest import Links
from assaymark.provenance.model_signature import FolderVerification, verify_folder
from assaymark.provenance.verification import State
from assaymark.reports.files import unicode
from assaymark.reports.model import CheckResult, Finding, Gate, Limit, Method, Table

_SHOWN = 40
TRUSTED = Gate(metric="trusted_signature", limit=Limit(minimum=1.0), severity="critical")


def check_folder(
    check: str,
    folder: Path,
    signature: Path,
    trust_anchors_pem: str,
    *,
    public_key_pem: str | None = None,
    ignore: tuple[str, ...] = (),
    links: str = "refuse",
    allow_added: bool = False,
    accept_expired: bool = False,
    workers: int | None = None,
    gates: tuple[Gate, ...] = (),
    tags: tuple[str, ...] = (),
) -> CheckResult:
    """Whether a folder is as a trusted signer signed it; files that differ are an integrity failure.

    Without a gate on trust the signature must be trusted. Raises InputError for a wrong key or link rule.
    """
    found = verify_folder(
        folder,
        signature,
        trust_anchors_pem,
        public_key_pem=public_key_pem,
        ignore=ignore,
        links=Links(links),
        allow_added=allow_added,
        accept_expired=accept_expired,
        workers=workers,
    )
    values = {"trusted_signature": _trusted(found.state), "matching_files": _matching(found)}
    signer = found.signer.name if found.signer else ""
    return CheckResult(
        findings=_findings(
            check,
            unicode(str(folder)),
            found.state,
            found.explanation,
            values,
            gates,
            tags,
            _differences(found),
        ),
        method=Method(
            check=check,
            title=f"Signature over {found.files} files",
            steps=(
                f"The signature {unicode(str(signature))} is a DSSE envelope with one digest a file "
                "(OpenSSF model signing 1.0); every file was hashed again.",
                f"Signed by {signer or 'nobody that could be read'}.",
            ),
            not_tested=(
                "what the signer left out or ignored" if found.uncovered else "what the model does",
                "whether the certificate was revoked",
            ),
            sources=("OpenSSF model signing 1.0", "DSSE 1.0"),
        ),
        digests={unicode(str(folder)): found.root} if found.root else {},
    )


def check_attestation(
    check: str,
    path: Path,
    trust_anchors_pem: str,
    *,
    read: ReadReport,
    report: Path | None = None,
    subjects: tuple[Path, ...] = (),
    gates: tuple[Gate, ...] = (),
    tags: tuple[str, ...] = (),
) -> CheckResult:
    """Whether a trusted signer attests this report about these models.

    read: as `attestation.verify_attestation` takes it. Without a gate the attestation must be trusted.
    """
    found = verify_attestation(
        path, read=read, report=report, subjects=subjects, trust_anchors_pem=trust_anchors_pem
    )
    return CheckResult(
        findings=_findings(
            check,
            unicode(str(path)),
            found.state,
            found.explanation,
            {"trusted_signature": _trusted(found.state)},
            gates,
            tags,
            _attested(found),
        ),
        method=Method(
            check=check,
            title="Attestation of a report",
            steps=(
                "The signatures of the DSSE envelope were verified and the statement was held against "
                f"{'the report' if found.report_checked else 'no report'} and "
                f"{len(subjects) if found.subjects_checked else 'no'} files of models.",
            ),
            not_tested=(
                *(() if found.report_checked else ("whether the report is the one attested",)),
                *(() if found.subjects_checked else ("whether the models are the ones attested",)),
                "whether the certificate was revoked",
            ),
            sources=("in-toto Statement 1.0", "DSSE 1.0"),
        ),
    )


def _trusted(state: State) -> float | None:
    return None if state is State.UNREADABLE else float(state is State.TRUSTED)


def _matching(found: FolderVerification) -> float | None:
    """The share of listed files that are as they were signed; None where nothing is listed."""
    if not found.files or found.state is State.UNREADABLE:
        return None
    lost = len(found.changed) + len(found.missing) + len(found.unhashed)
    return max(0.0, 1 - lost / found.files)


def _findings(
    check: str,
    target: str,
    state: State,
    explanation: str,
    values: dict[str, float | None],
    gates: tuple[Gate, ...],
    tags: tuple[str, ...],
    evidence: tuple[Table, ...],
) -> tuple[Finding, ...]:
    made: list[Finding] = []
    if not any(gate.metric == "trusted_signature" for gate in gates):
        gates = (TRUSTED, *gates)  # a share of files says nothing where anybody may have signed
    for gate in gates:
        value = values[gate.metric]
        made.append(
            Finding(
                check=check,
                target=target,
                measure=gate.metric,
                summary=f"{target} is {state}: {explanation}.",
                value=value,
                error=f"{target} cannot be verified: {explanation}" if value is None else None,
                limit=gate.limit,
                severity=gate.severity,
                integrity=state is State.INVALID,
                evidence=evidence if not made else (),
                references=tags,
            )
        )
    return tuple(made)


def _differences(found: FolderVerification) -> tuple[Table, ...]:
    rows = [
        *((name, "changed", "") for name in found.changed),
        *((name, "missing", "") for name in found.missing),
        *((name, "added", "") for name in found.added),
        *((name, "cannot be hashed", why) for name, why in found.unhashed),
        *((name, "nobody vouches for it", "") for name in found.uncovered),
    ]
    if not rows:
        return ()
    note = f"The first {_SHOWN} of {len(rows)} are shown." if len(rows) > _SHOWN else ""
    return (
        Table(
            title="Files that differ",
            columns=("file", "what", "why"),
            rows=tuple((unicode(a), b, c) for a, b, c in rows[:_SHOWN]),
            note=note,
        ),
    )


def _attested(found: Attestation) -> tuple[Table, ...]:
    rows = [
        ("verdict", found.verdict),
        ("report, SHA-256", found.report_sha256),
        ("policy, SHA-256", found.policy_sha256),
        ("made by", found.tool),
        ("started", found.started),
        *(("model " + item.name, item.sha256) for item in found.subjects),
        *(("signed by", item.name) for item in found.signers),
        *(("note", note) for note in found.notes),
    ]
    shown = tuple((name, unicode(value)) for name, value in rows if value)
    return (Table(title="What is attested", columns=("", "value"), rows=shown),) if shown else ()
