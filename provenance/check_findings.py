"""What a check of provenance found, as findings: broken signatures first, then gates, then rules."""

from dataclasses import replace
from functools import partial
from pathlib import Path

from assaymark.provenance.checked import Checked
from assaymark.provenance.rules import RULES, Broken
from assaymark.provenance.verification import State
from assaymark.reports.files import unicode
from assaymark.reports.model import Evidence, Finding, Gate, Limit, Table, Validation

SHOWN = 40


def findings_of(
    check: str,
    checked: list[Checked],
    gates: tuple[Gate, ...],
    rules: tuple[str, ...] = (),
    tags: tuple[str, ...] = (),
    *,
    root: Path = Path(),
) -> tuple[Finding, ...]:
    """Findings over verified files: broken signatures first, then what gates and rules ask."""
    broken = [item for item in checked if item.state is State.INVALID]
    values = {
        "trusted_files": [item for item in checked if item.state is State.TRUSTED],
        # a file whose credentials cannot be read is not known to be intact
        "intact_files": [
            item for item in checked if item.state in (State.TRUSTED, State.UNTRUSTED)
        ],
        "compliant_files": [item for item in checked if not item.broken],
    }
    words = {
        "trusted_files": "carry Content Credentials of a trusted signer and are unchanged since",
        "intact_files": "carry Content Credentials and are unchanged since they were signed",
        "compliant_files": "keep every rule",
    }
    evidence = _evidence(checked, root)
    findings = []
    unreadable = [item for item in checked if item.state is State.UNREADABLE]
    if broken:
        findings.append(
            Finding(
                check=check,
                target=names(broken, root),
                measure="broken_files",
                summary=f"{len(broken)} of {len(checked)} files were changed after they were signed, "
                f"or their signature does not hold: {_first(broken, root)}",
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
                target=names(unreadable, root),
                measure="unreadable_files",
                summary=f"{len(unreadable)} of {len(checked)} files cannot be verified.",
                error=f"{name(unreadable[0].path, root)}: {unreadable[0].explanation}",
                n=len(checked),
                severity="critical",
                references=tags,
            )
        )
    for gate in gates:
        hits = values[gate.metric]
        held = set(map(id, hits))  # comparing files with each other takes minutes for 10,000
        rest = [item for item in checked if id(item) not in held]
        detail = (
            f" Not so: {'; '.join(f'{name(item.path, root)} ({item.state})' for item in rest[:5])}"
            + (f" and {len(rest) - 5} more." if len(rest) > 5 else ".")
            if rest
            else f" Signed by {', '.join(dict.fromkeys(item.signer for item in hits[:5]))}."
        )
        findings.append(
            Finding(
                check=check,
                target=f"{len(checked)} files"
                if len(checked) != 1
                else name(checked[0].path, root),
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
    for key in rules:
        findings += _of_rule(check, key, checked, tags, root)
    if findings and evidence:  # rules only: the files are still shown
        findings[0] = replace(findings[0], evidence=(*evidence, *findings[0].evidence))
    return tuple(findings)


def _first(broken: list[Checked], root: Path) -> str:
    more = f"; and {len(broken) - 5} more" if len(broken) > 5 else ""
    shown = (f"{name(item.path, root)} ({item.explanation})" for item in broken[:5])
    return f"{'; '.join(shown)}{more}."


def _of_rule(
    check: str, key: str, checked: list[Checked], tags: tuple[str, ...], root: Path
) -> list[Finding]:
    """How many files break a rule; where it cannot be decided of one, that is an error."""
    rule = RULES[key]
    said = [(item, one) for item in checked for one in item.broken if one.rule == rule.name]
    broken = [pair for pair in said if not pair[1].undecided]
    undecided = [pair for pair in said if pair[1].undecided]
    finding = partial(Finding, check=check, n=len(checked), severity="high", references=tags)
    findings = []
    if undecided:
        item, one = undecided[0]
        findings.append(
            finding(
                target=names([item for item, _ in undecided], root),
                measure=f"undecided_{key}",
                summary=f"{rule.name} cannot be decided of {len(undecided)} of {len(checked)} files.",
                error=f"{name(item.path, root)}: {one}",
            )
        )
    if broken or not undecided:
        detail = f" {name(broken[0][0].path, root)}: {_sentence(broken[0][1])}" if broken else ""
        findings.append(
            finding(
                target=names([item for item, _ in broken], root) or f"{len(checked)} files",
                measure=key,
                summary=f"{len(broken)} of {len(checked)} files break the rule {rule.name}: "
                f"{rule.help}.{detail}",
                value=len(broken),
                limit=Limit(maximum=0),
                evidence=(_breaches(rule.name, said, root),) if said else (),
            )
        )
    return findings


def _sentence(one: Broken) -> str:
    return f"{one.why}; expected {one.expected}, saw {one.seen}: {one.next_step}."


def _breaches(rule: str, said: list[tuple[Checked, Broken]], root: Path) -> Table:
    return Table(
        title=f"Rule {rule}",
        columns=("file", "verdict", "why", "expected", "saw", "next step"),
        rows=tuple(
            (
                name(item.path, root),
                "not decided" if one.undecided else "broken",
                one.why,
                one.expected,
                one.seen,
                one.next_step,
            )
            for item, one in said[:SHOWN]
        ),
        note=f"The first {SHOWN} of {len(said)} files are shown." if len(said) > SHOWN else "",
    )


def _evidence(checked: list[Checked], root: Path) -> tuple[Evidence, ...]:
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
                name(item.path, root),
                item.state.value,
                item.signer,
                item.generator,
                "; ".join((item.explanation, *item.notes)),
            )
            for item in ordered[:SHOWN]
        ),
        note=""
        if len(checked) <= SHOWN
        else f"The {SHOWN} worst of {len(checked)} files are shown.",
    )
    details = [
        Validation(
            title=name(item.path, root),
            state=item.state.value,
            expected=State.TRUSTED.value,
            explanation=item.explanation,
            codes=item.codes,
            tree=item.tree,
        )
        for item in ordered[:SHOWN]
        if item.codes or item.tree
    ]
    return (table, *details[:12])


def names(items: list[Checked], root: Path) -> str:
    more = f" and {len(items) - 3} more" if len(items) > 3 else ""
    return ", ".join(name(item.path, root) for item in items[:3]) + more


def name(path: Path, root: Path) -> str:
    return unicode(str(path.relative_to(root)) if path.is_relative_to(root) else str(path))
