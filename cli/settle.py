"""What a policy says about findings once they are measured: the baseline and the waivers."""

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

from assaymark.reports.errors import InputError
from assaymark.reports.model import Finding, Limit, Report, Waiver
from assaymark.reports.policy import Policy
from assaymark.reports.policy_types import Check
from assaymark.reports.store import from_json

_SOON = timedelta(days=14)


def accepted_report(policy: Policy, folder: Path) -> Report | None:
    """The baseline report, None when the policy names none or it does not exist yet."""
    if policy.baseline is None:
        return None
    path = folder / policy.baseline
    if not path.exists():
        return None
    try:
        return from_json(path.read_text(encoding="utf-8"), policy.baseline)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the baseline {policy.baseline}: {error}") from error


def regressions(
    check: Check, findings: tuple[Finding, ...], accepted: Report | None
) -> list[Finding]:
    """How much worse each gated metric is than in the accepted report."""
    if check.baseline is None:
        return []
    before = {
        (finding.check, finding.target, finding.measure): finding.value
        for finding in (accepted.findings if accepted else ())
    }
    drops = []
    for finding in findings:
        if finding.limit is None or finding.measure in ("digest", "broken_files"):
            continue
        old = before.get((finding.check, finding.target, finding.measure))
        drop = None
        if finding.value is None:
            summary = "Not measured now, so it cannot be compared with the accepted report."
        elif old is None:
            summary = (
                "The accepted report has no such number: keep this run as the baseline, if it is "
                "acceptable, by writing it there with -o."
            )
        else:
            worse = old - finding.value if finding.limit.maximum is None else finding.value - old
            drop = round(worse, 12)
            summary = f"{finding.value:.4f} now, {old:.4f} in the accepted report."
        drops.append(
            Finding(
                check=check.id,
                target=finding.target,
                measure=f"{finding.measure}_drop",
                summary=summary,
                value=drop,
                n=finding.n,
                limit=Limit(maximum=check.baseline.max_drop),
                severity=finding.severity,
                references=finding.references,
            )
        )
    return drops


def waive(finding: Finding, policy: Policy, today: date) -> Finding:
    """The finding with the waiver that is in force for it."""
    entry = policy.waiver_for(finding.check, finding.measure, today)
    if entry is None or finding.integrity:
        return finding  # a broken signature or digest is a fact, not a risk to accept
    return replace(
        finding,
        waiver=Waiver(
            check=entry.check,
            metric=entry.metric,
            reason=entry.reason,
            owner=entry.owner,
            expires=entry.expires.isoformat(),
        ),
    )


def waiver_warnings(policy: Policy, today: date) -> list[str]:
    """Waivers that ended, or end within two weeks."""
    warnings = []
    for entry in policy.waiver:
        if entry.expires < today:
            warnings.append(
                f"the waiver of {entry.check} by {entry.owner} expired on {entry.expires} and no "
                "longer counts"
            )
        elif entry.expires - today <= _SOON:
            warnings.append(f"the waiver of {entry.check} by {entry.owner} ends on {entry.expires}")
    return warnings
