"""SARIF 2.1.0 as GitHub code scanning reads it: every finding that is not good news.

A model has no source line, so a result points at its check in the policy. The fingerprint depends
on check, measure and target only, so that a finding keeps its identity when the policy moves.
"""

import hashlib
import json
import tomllib
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from assaymark.reports.model import Finding, Report, Severity, Verdict
from assaymark.reports.positions import positions
from assaymark.reports.wording import ADVICE, consequence, measured, required

_SCORE: dict[Severity, str] = {"critical": "9.5", "high": "8.0", "medium": "5.5", "low": "2.0"}
_LEVEL = {Verdict.FAIL: "error", Verdict.WAIVED: "error"}
_MAX_TAGS = 10


def render(report: Report) -> str:
    run = report.run
    shown = [
        finding
        for finding in report.findings
        if finding.verdict in (Verdict.FAIL, Verdict.WAIVED) or finding.blocks
    ]
    measures = sorted({finding.measure for finding in shown})
    lines = _lines(run.policy_text if run else "")
    driver: dict[str, Any] = {
        "name": "assaymark",
        "rules": [_rule(measure, shown) for measure in measures],
    }
    if run is not None:
        driver["semanticVersion"] = run.tool.rsplit(" ", 1)[-1]
    log = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": driver},
                "automationDetails": {"id": "assaymark/"},
                "invocations": [
                    {
                        "executionSuccessful": not any(f.blocks for f in report.findings),
                        "toolExecutionNotifications": [
                            {"level": "warning", "message": {"text": warning}}
                            for warning in report.warnings
                        ],
                    }
                ],
                "results": [
                    _result(
                        finding,
                        measures.index(finding.measure),
                        _uri(run.policy_name if run else "assaymark.toml"),
                        lines.get(finding.check, 1),
                    )
                    for finding in shown
                ],
            }
        ],
    }
    return json.dumps(log, indent=1, ensure_ascii=False) + "\n"


def _uri(policy: str) -> str:
    """A relative reference (RFC 3986); a policy above the working directory keeps its name only."""
    path = PurePath(policy)
    return quote(path.name if ".." in path.parts or path.is_absolute() else path.as_posix())


def _rule(measure: str, findings: list[Finding]) -> dict[str, Any]:
    mine = [finding for finding in findings if finding.measure == measure]
    worst = min((finding.severity for finding in mine), key=list(_SCORE).index)
    tags = ["security", *dict.fromkeys(tag for finding in mine for tag in finding.references)]
    title = measure.replace("_", " ")
    help_text = ADVICE.get(measure, "See the HTML report for the evidence and the method.")
    return {
        "id": measure,
        "name": title,
        "shortDescription": {"text": f"Limit on {title}"},
        "fullDescription": {"text": f"The policy sets a limit on {title}, which must hold."},
        "help": {"text": help_text, "markdown": help_text},
        "properties": {
            "tags": tags[:_MAX_TAGS],
            "precision": "high",
            "security-severity": _SCORE[worst],
        },
    }


def _result(finding: Finding, rule: int, policy: str, line: int) -> dict[str, Any]:
    text = finding.error or finding.summary
    message = f"{finding.verdict.value}: {measured(finding)}"
    if finding.limit is not None:
        message += f", required {required(finding)}"
    identity = f"{finding.check}\0{finding.measure}\0{finding.target}"
    result: dict[str, Any] = {
        "ruleId": finding.measure,
        "ruleIndex": rule,
        "level": _LEVEL.get(finding.verdict, "warning"),
        "message": {
            "text": " ".join(filter(None, (f"{message}.", text, consequence(finding)))),
        },
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": policy, "uriBaseId": "%SRCROOT%"},
                    "region": {"startLine": line, "startColumn": 1},
                }
            }
        ],
        "partialFingerprints": {
            "primaryLocationLineHash": hashlib.sha256(identity.encode()).hexdigest()[:32]
        },
        "properties": {
            "check": finding.check,
            "target": finding.target,
            "n": finding.n,
            "verdict": finding.verdict.value,
        },
    }
    if finding.verdict is Verdict.WAIVED and finding.waiver is not None:
        result["suppressions"] = [
            {
                "kind": "external",
                "status": "accepted",
                "justification": f"{finding.waiver.reason} ({finding.waiver.owner}, until "
                f"{finding.waiver.expires})",
            }
        ]
    return result


def _lines(policy_text: str) -> dict[str, int]:
    """The line of each check's id in the policy."""
    try:
        document = tomllib.loads(policy_text)
    except tomllib.TOMLDecodeError:
        return {}
    prefix: tuple[str | int, ...] = ()
    if "check" not in document:
        prefix, document = ("tool", "assaymark"), document.get("tool", {}).get("assaymark", {})
    spans = positions(policy_text)
    return {
        str(check.get("id")): spans[(*prefix, "check", i, "id")][0][0]
        for i, check in enumerate(document.get("check", ()))
        if (*prefix, "check", i, "id") in spans
    }
