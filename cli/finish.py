"""The end of every command that makes a report: run, write, show, exit code."""

from pathlib import Path

import typer

from assaymark.cli.exit import exit_code
from assaymark.cli.outputs import check_outputs, write_outputs
from assaymark.cli.show import show
from assaymark.cli.terminal import say, tell
from assaymark.reports.model import Report, Verdict


def run_and_exit(
    text: str,
    *,
    name: str,
    folder: Path,
    command: str,
    outputs: list[Path],
    device: str = "auto",
    workers: int = 1,
    seed: int | None = None,
    exit_zero: bool = False,
    needs_gate: bool = True,
    debug: bool = False,
) -> None:
    """Parse a policy text, run it, write the outputs, show the result and exit with the verdict."""
    from assaymark.cli import attack_names
    from assaymark.cli.run import Job, forget, run
    from assaymark.reports.policy_file import parse

    policy = parse(text, name, folder=folder, needs_gate=needs_gate, more=attack_names.mistakes)
    check_outputs(outputs)
    job = Job(
        policy=policy,
        text=text,
        name=name,
        folder=folder,
        command=command,
        seed=seed,
        device=device,
        workers=workers,
        debug=debug,
    )
    report = run(job)
    show(report)
    baseline = folder / policy.baseline if policy.baseline else None
    written = [path for path in outputs if not _spoils(path, baseline, report)]
    write_outputs(report, written)
    for path in outputs:
        if path in written:
            say(f"wrote {path}")
        else:
            tell(
                f"{path} is the accepted report and this run did not pass, so it was not replaced: "
                "to accept this run all the same, move the old one away first"
            )
    forget(job)
    code = exit_code(report, exit_zero=exit_zero)
    if code:
        raise typer.Exit(int(code))


def _spoils(path: Path, baseline: Path | None, report: Report) -> bool:
    """Whether writing `path` would replace the accepted report by a run that did not pass."""
    if baseline is None or not baseline.exists() or report.verdict is Verdict.PASS:
        return False
    return path.resolve() == baseline.resolve()
