"""The provenance check: which of these files can show who made them, unchanged since."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from assaymark.provenance.check_findings import SHOWN, findings_of, name
from assaymark.provenance.checked import Checked, Demands, crashed, look
from assaymark.provenance.files import find_files, is_regular
from assaymark.provenance.pool import each
from assaymark.provenance.rules import RULES
from assaymark.reports.files import write_atomically
from assaymark.reports.model import CheckResult, Gate, Limit, Method

ALL_TRUSTED = Gate(metric="trusted_files", limit=Limit(minimum=1.0), severity="critical")
_DECIDED_BY = ("must_be_trusted", "must_be_intact")


def check_provenance(
    check: str,
    patterns: tuple[str, ...],
    demands: Demands,
    *,
    folder: Path = Path(),
    gates: tuple[Gate, ...] = (),
    tags: tuple[str, ...] = (),
    workers: int | None = None,
    records: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CheckResult:
    """The share of files that are trusted, that are not broken, and that keep the rules.

    Without a gate, and without a rule that says what must hold, every file must be trusted. A
    broken file is an integrity failure. workers: processes; None takes what the cores allow.
    records: a file for one line of JSON about every file.
    """
    files = find_files(patterns, folder)
    checked = []
    asked = {key: value for key, value in demands.rules.items() if value not in (False, "off")}
    demands = replace(demands, rules=asked, facts=records is not None)
    for item in each(partial(look, demands), files, workers=workers, crashed=crashed):
        checked.append(item)
        progress(len(checked), len(files))
    if records is not None:
        write_atomically(records, "".join(json.dumps(_record(item)) + "\n" for item in checked))
    if not gates and not any(key in demands.rules for key in _DECIDED_BY):
        gates = (ALL_TRUSTED,)
    return CheckResult(
        findings=findings_of(check, checked, gates, tuple(demands.rules), tags, root=folder),
        method=_method(check, checked, demands, patterns),
        digests={name(item.path, folder): _sha256(item.path) for item in checked[:SHOWN]},
    )


def _record(item: Checked) -> Mapping[str, Any]:
    """All that is known of a file; of one that ended its process only that."""
    path = str(item.path).encode("utf-8", "backslashreplace").decode()
    return item.facts or {"path": path, "state": item.state, "explanation": item.explanation}


def _method(
    check: str, checked: list[Checked], demands: Demands, patterns: tuple[str, ...]
) -> Method:
    rules = [RULES[key] for key in demands.rules]
    revocation = demands.rules.get("revocation", "off") != "off"
    asked = (
        "The network is used for one thing: OCSP responders that certificates name are asked."
        if demands.asking
        else "Nothing is fetched: neither remote manifests nor revocation (OCSP)."
    )
    return Method(
        check=check,
        title=f"Content Credentials of {len(checked)} files",
        steps=(
            f"Files: {', '.join(patterns)}.",
            f"Trusted are {_count(demands.trust.signers)} of signers, "
            f"{_count(demands.trust.time_stamps)} of time stamps and "
            f"{_count(demands.trust.identities)} of identities, each for its own purpose.",
            "Each file's manifest store is validated by c2pa (hashes, claim signature, certificate "
            "chain). Trusted means that the signer's chain ends in one of the trust anchors; a valid "
            "signature of anybody else is not enough.",
            asked,
            *(
                f"Rule {rule.name} ({_parameter(demands.rules[rule.key])}): {rule.help}."
                for rule in rules
            ),
        ),
        not_tested=(
            *(() if revocation else ("whether a certificate was revoked",)),
            "whether unsigned files were generated or altered",
            "whether what a manifest says about the work is true",
        ),
        sources=("C2PA 2.2, section 15 (validation)",),
    )


def _count(pem: str) -> str:
    anchors = pem.count("-----BEGIN CERTIFICATE")
    return f"{anchors or 'no'} anchor{'' if anchors == 1 else 's'}"


def _parameter(value: Any) -> str:
    if isinstance(value, str) and "-----BEGIN" in value:
        return _count(value)
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "yes" if value is True else str(value)


def _sha256(path: Path) -> str:
    if not is_regular(path):
        return "unreadable"
    try:
        if not path.is_file():
            return "unreadable"
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return "unreadable"
