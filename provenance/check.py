"""The provenance check: which of these files can show who made them, unchanged since."""

import hashlib
import os
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from assaymark.provenance.keys import load_anchors
from assaymark.provenance.trust import Trust
from assaymark.provenance.verify import State, Verification, examine
from assaymark.reports.errors import InputError
from assaymark.reports.files import unicode
from assaymark.reports.model import (
    CheckResult,
    Evidence,
    Finding,
    Gate,
    Limit,
    Method,
    Table,
    Validation,
)

_SHOWN = 40
ALL_TRUSTED = Gate(metric="trusted_files", limit=Limit(minimum=1.0), severity="critical")


def find_files(patterns: tuple[str, ...], folder: Path = Path()) -> list[Path]:
    """The files that names and glob patterns stand for, each once, sorted; folders are searched.

    Raises InputError for a pattern that finds nothing: a missing file must not look like a good one.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        path = folder / pattern
        try:
            if os.path.lexists(path):
                matches = _below(path)
            else:
                parts = path.relative_to(path.anchor).parts if path.is_absolute() else path.parts
                start = Path(path.anchor) if path.is_absolute() else Path()
                found_paths = sorted(set(_expand(start, parts)))
                matches = [file for item in found_paths for file in _below(item)]
        except OSError as error:
            raise InputError(
                f'cannot search "{pattern}": {error}; what cannot be read cannot be verified'
            ) from error
        if not matches:
            raise InputError(
                f'no file matches "{pattern}": expected at least one; correct the name, or take it '
                "out"
            )
        found.update(dict.fromkeys(matches))
    return list(found)


def _expand(start: Path, parts: tuple[str, ...]) -> Iterator[Path]:
    """What a pattern stands for; unlike pathlib's glob it skips nothing that it cannot enter."""
    if not parts:
        yield start
        return
    head, rest = parts[0], parts[1:]
    if head == "**":
        yield from _expand(start, rest or ("*",))
        for folder in _walk(start)[1]:
            yield from _expand(folder, rest or ("*",))
    elif any(sign in head for sign in "*?["):
        for name in sorted(os.listdir(start)):
            if fnmatchcase(name, head) and (not rest or (start / name).is_dir()):
                yield from _expand(start / name, rest)
    elif os.path.lexists(start / head):
        yield from _expand(start / head, rest)


def _below(path: Path) -> list[Path]:
    """A file, or every file below a folder."""
    return _walk(path)[0] if path.is_dir() else [path]


def _walk(folder: Path) -> tuple[list[Path], list[Path]]:
    """Files and folders below, linked ones included; what cannot be entered is an error."""

    def refuse(error: OSError) -> None:
        raise error

    files, inner, seen = [], [], set()
    for root, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        seen.add(os.path.realpath(root))
        folders[:] = sorted(
            name for name in folders if os.path.realpath(Path(root, name)) not in seen
        )
        inner += [Path(root, name) for name in folders]
        files += [Path(root, name) for name in names]
    return sorted(files), inner


def check_provenance(
    check: str,
    patterns: tuple[str, ...],
    trust_anchors: tuple[str, ...] = (),
    *,
    folder: Path = Path(),
    gates: tuple[Gate, ...] = (),
    tags: tuple[str, ...] = (),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CheckResult:
    """The share of files that are trusted, and the share that are not broken.

    Without a gate, every file must be trusted. A broken file is an integrity failure.
    """
    trust = Trust(signers=load_anchors([folder / anchor for anchor in trust_anchors]))
    files = find_files(patterns, folder)
    checked = []
    for i, path in enumerate(files):
        checked.append(examine(path, trust))
        progress(i + 1, len(files))
    findings = findings_of(check, checked, gates or (ALL_TRUSTED,), tags, root=folder)
    return CheckResult(
        findings=findings,
        method=_method(check, checked, trust_anchors, patterns),
        digests={_name(item.path, folder): _sha256(item.path) for item in checked[:_SHOWN]},
    )


def findings_of(
    check: str,
    checked: list[Verification],
    gates: tuple[Gate, ...],
    tags: tuple[str, ...] = (),
    *,
    root: Path = Path(),
) -> tuple[Finding, ...]:
    """Findings over verified files: broken signatures first, then what the gates ask."""
    broken = [item for item in checked if item.state is State.INVALID]
    values = {
        "trusted_files": [item for item in checked if item.state is State.TRUSTED],
        # a file whose credentials cannot be read is not known to be intact
        "intact_files": [
            item for item in checked if item.state in (State.TRUSTED, State.UNTRUSTED)
        ],
    }
    words = {
        "trusted_files": "carry Content Credentials of a trusted signer and are unchanged since",
        "intact_files": "carry Content Credentials and are unchanged since they were signed",
    }
    evidence = _evidence(checked, root)
    findings = []
    unreadable = [item for item in checked if item.state is State.UNREADABLE]
    if broken:
        findings.append(
            Finding(
                check=check,
                target=_names(broken, root),
                measure="broken_files",
                summary=f"{len(broken)} of {len(checked)} files were changed after they were signed, "
                "or their signature does not hold.",
                value=len(broken),
                n=len(checked),
                limit=Limit(maximum=0),
                severity="critical",
                integrity=True,
                evidence=evidence,
                references=tags,
            )
        )
        evidence = ()
    if unreadable:
        findings.append(
            Finding(
                check=check,
                target=_names(unreadable, root),
                measure="unreadable_files",
                summary=f"{len(unreadable)} of {len(checked)} files cannot be verified.",
                error=f"{_name(unreadable[0].path, root)}: {unreadable[0].explanation}",
                n=len(checked),
                severity="critical",
                references=tags,
            )
        )
    for gate in gates:
        hits = values[gate.metric]
        rest = [item for item in checked if item not in hits]
        detail = (
            f" Not so: {'; '.join(f'{_name(item.path, root)} ({item.state})' for item in rest[:5])}"
            + (f" and {len(rest) - 5} more." if len(rest) > 5 else ".")
            if rest
            else f" Signed by {', '.join(dict.fromkeys(item.signer for item in hits[:5]))}."
        )
        findings.append(
            Finding(
                check=check,
                target=f"{len(checked)} files"
                if len(checked) != 1
                else _name(checked[0].path, root),
                measure=gate.metric,
                summary=f"{len(hits)} of {len(checked)} files {words[gate.metric]}.{detail}",
                value=len(hits) / len(checked),
                n=len(checked),
                limit=gate.limit,
                severity=gate.severity,
                evidence=evidence,
                references=tags,
            )
        )
        evidence = ()
    return tuple(findings)


def _evidence(checked: list[Verification], root: Path) -> tuple[Evidence, ...]:
    worst = [
        State.INVALID,
        State.UNREADABLE,
        State.UNTRUSTED,
        State.NO_MANIFEST,
        State.UNSUPPORTED,
        State.TRUSTED,
    ]
    ordered = sorted(checked, key=lambda item: worst.index(item.state))
    table = Table(
        title="Files",
        columns=("file", "state", "signer", "made with", "why"),
        rows=tuple(
            (
                _name(item.path, root),
                item.state.value,
                item.signer,
                item.generator,
                item.explanation,
            )
            for item in ordered[:_SHOWN]
        ),
        note=""
        if len(checked) <= _SHOWN
        else f"The {_SHOWN} worst of {len(checked)} files are shown.",
    )
    details = [
        Validation(
            title=_name(item.path, root),
            state=item.state.value,
            expected=State.TRUSTED.value,
            explanation=item.explanation,
            codes=item.codes,
            tree=item.tree,
        )
        for item in ordered[:_SHOWN]
        if item.codes or item.tree
    ]
    return (table, *details[:12])


def _method(
    check: str, checked: list[Verification], anchors: tuple[str, ...], patterns: tuple[str, ...]
) -> Method:
    return Method(
        check=check,
        title=f"Content Credentials of {len(checked)} files",
        steps=(
            f"Files: {', '.join(patterns)}; trust anchors: {', '.join(anchors) or 'none'}.",
            "Each file's manifest store is validated by c2pa (hashes, claim signature, certificate "
            "chain). Trusted means that the signer's chain ends in one of the trust anchors; a valid "
            "signature of anybody else is not enough.",
            "Nothing is fetched: remote manifests and revocation (OCSP) are not asked for.",
        ),
        not_tested=(
            "whether a certificate was revoked",
            "whether unsigned files were generated or altered",
            "whether what a manifest says about the work is true",
        ),
        sources=("C2PA 2.2, section 15 (validation)",),
    )


def _names(items: list[Verification], root: Path) -> str:
    more = f" and {len(items) - 3} more" if len(items) > 3 else ""
    return ", ".join(_name(item.path, root) for item in items[:3]) + more


def _name(path: Path, root: Path) -> str:
    return unicode(str(path.relative_to(root)) if path.is_relative_to(root) else str(path))


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return "unreadable"
