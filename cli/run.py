"""Run a policy: every check, one after the other, whatever happens to the others."""

import hashlib
import platform
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from assaymark.cli import interrupts, resume
from assaymark.cli.checks import RUNNERS
from assaymark.cli.device import choose
from assaymark.cli.exit import Interrupted
from assaymark.cli.opening import Context
from assaymark.cli.settle import accepted_report, regressions, waive, waiver_warnings
from assaymark.cli.terminal import Progress
from assaymark.cli.versions import versions
from assaymark.reports.errors import AssaymarkError, InputError, IntegrityError
from assaymark.reports.model import (
    CheckResult,
    Finding,
    Gate,
    Limit,
    Method,
    Report,
    Run,
)
from assaymark.reports.policy import Policy
from assaymark.reports.policy_lm import LmCheck
from assaymark.reports.policy_protection import ProtectionCheck
from assaymark.reports.policy_robustness import DataCheck
from assaymark.reports.policy_types import Check


@dataclass(frozen=True, kw_only=True)
class Job:
    """A policy with all that running it needs."""

    policy: Policy
    text: str
    name: str
    folder: Path
    command: str
    seed: int | None = None
    device: str = "auto"
    workers: int = 1
    debug: bool = False


def forget(job: Job) -> None:
    """The report is safe: what was kept for resuming is not needed any more."""
    resume.Store(resume.key(job, *_seed_and_device(job))).clear()


def _seed_and_device(job: Job) -> tuple[int, str]:
    needs_device = any(
        isinstance(check, DataCheck | ProtectionCheck | LmCheck) for check in job.policy.check
    )
    return (
        job.policy.seed if job.seed is None else job.seed,
        choose(job.device) if needs_device else "cpu",
    )


def run(job: Job) -> Report:
    """The report of a policy. A check that cannot run becomes a finding that says why.

    Raises InputError for what is wrong with the run as a whole, Interrupted on Ctrl-C.
    """
    started, clock = datetime.now(UTC), time.monotonic()
    seed, device = _seed_and_device(job)
    if job.workers > 1 and device != "cpu":
        raise InputError(
            f"--workers {job.workers} run on the CPU and the device is {device}: add --device cpu, or "
            "leave out --workers"
        )
    accepted = accepted_report(job.policy, job.folder)
    store = resume.Store(resume.key(job, seed, device))
    kept = resume.kept(store.load())
    results = dict(kept)
    resumed = tuple(kept)
    shards: dict[str, resume.ShardFolder] = {}
    progress = Progress(len(job.policy.check))
    try:
        for check in job.policy.check:
            progress.start(check.id)
            if check.id in results:
                progress.finish("kept from the interrupted run")
                continue
            shards[check.id] = store.shards(check.id)
            result = _guarded(
                check,
                Context(
                    folder=job.folder,
                    seed=seed,
                    device=device,
                    progress=progress,
                    workers=job.workers,
                    keep=shards[check.id] if resume.keeps_parts(check) else None,
                ),
                job.debug,
            )
            if interrupts.heard():  # and swallowed: what came of it says nothing
                raise KeyboardInterrupt
            results[check.id] = result
            if resume.resumable(check):
                kept[check.id] = result
                store.save(kept)
            progress.finish(_outcome(result))
    except KeyboardInterrupt:
        done = len(resume.kept(kept))
        some = done or any(folder.any for folder in shards.values())
        keeps = "what was measured is kept, and " if some else ""
        raise Interrupted(
            f"interrupted after {done} of {len(job.policy.check)} checks; {keeps}the same command goes "
            "on from there"
        ) from None
    ordered = [results[check.id] for check in job.policy.check]
    findings = []
    for check, result in zip(job.policy.check, ordered, strict=True):
        every = (*result.findings, *_unanswered(check, result.findings))
        findings += [*every, *regressions(check, every, accepted)]
    today = datetime.now(UTC).date()
    return Report(
        findings=tuple(waive(finding, job.policy, today) for finding in findings),
        methods=tuple(result.method for result in ordered if result.method.steps),
        warnings=(
            *(
                f"{check} was measured by an earlier, interrupted run of the same command"
                for check in resumed
            ),
            *(
                f"{folder.loaded} of the shards of {check} were measured by an earlier, interrupted run "
                "of the same command"
                for check, folder in shards.items()
                if folder.loaded
            ),
            *waiver_warnings(job.policy, today),
        ),
        run=Run(
            tool=f"assaymark {versions()['assaymark']}",
            command=job.command,
            policy_name=job.name,
            policy_sha256=hashlib.sha256(job.text.encode()).hexdigest(),
            policy_text=job.text,
            seed=seed,
            device=device,
            started=started.strftime("%Y-%m-%d %H:%M:%S UTC"),
            seconds=round(time.monotonic() - clock, 3),
            versions=versions(),
            digests={name: sha for result in ordered for name, sha in result.digests.items()},
            platform=f"{platform.system()} {platform.machine()}, Python "
            f"{platform.python_version()}",
        ),
    )


def _guarded(check: Check, context: Context, debug: bool) -> CheckResult:
    try:
        return RUNNERS[type(check)](check, context)
    except IntegrityError as error:
        broken = Finding(
            check=check.id,
            target=getattr(check, "model", check.id),
            measure="digest",
            summary=f"{error}.",
            value=0.0,
            limit=Limit(minimum=1.0),
            severity="critical",
            integrity=True,
            references=check.tags,
        )
        return CheckResult(findings=(broken,), method=_no_method(check))
    except AssaymarkError as error:
        message = str(error)
    except OSError as error:
        message = f"{error.filename or 'input or output'}: {error.strerror or error}"
    except (Exception, SystemExit) as error:  # a bug, or code that exits: the others still run
        if debug:
            raise
        first = str(error).strip().splitlines()
        message = (
            f"internal error, {type(error).__name__}: {first[0] if first else ''}; run again with "
            "--debug and report it"
        )
    if debug:
        import traceback

        traceback.print_exc()
    gates: tuple[Gate | None, ...] = check.gates or (None,)
    return CheckResult(
        findings=tuple(_error(check, gate, message) for gate in gates), method=_no_method(check)
    )


def _no_method(check: Check) -> Method:
    return Method(check=check.id, title="", steps=())


def _error(check: Check, gate: Gate | None, message: str) -> Finding:
    return Finding(
        check=check.id,
        target=str(getattr(check, "model", None) or getattr(check, "data", None) or check.id),
        measure=gate.metric if gate else "check",
        summary="The check could not run.",
        error=message,
        limit=gate.limit if gate else None,
        severity=gate.severity if gate else "high",
        references=check.tags,
    )


def _unanswered(check: Check, findings: tuple[Finding, ...]) -> list[Finding]:
    """A gate that no finding answers must not vanish: it is not measured."""
    if any(finding.error or finding.measure == "digest" for finding in findings):
        return []
    answered = {(finding.measure, finding.limit) for finding in findings}
    return [
        Finding(
            check=check.id,
            target=check.id,
            measure=gate.metric,
            summary="The check gave no number for this gate.",
            limit=gate.limit,
            severity=gate.severity,
        )
        for gate in check.gates
        if (gate.metric, gate.limit) not in answered
    ]


def _outcome(result: CheckResult) -> str:
    gated = [f for f in result.findings if f.limit is not None or f.error] or result.findings
    return ", ".join(dict.fromkeys(finding.judged.value for finding in gated))
