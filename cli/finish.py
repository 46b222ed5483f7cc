"""The end of every command that makes a report: run, write, show, exit code."""

from pathlib import Path

import typer

from assaymark.cli.exit import ExitCode, exit_code
from assaymark.cli.outputs import check_outputs, write_outputs
from assaymark.cli.show import show
from assaymark.cli.terminal import say, tell
from assaymark.reports.model import Report


def run_and_exit(
    text: str,
    *,
    name: str,
    folder: Path,
    command: str,
    outputs: list[Path],
    device: str = "auto",
    seed: int | None = None,
    exit_zero: bool = False,
    needs_gate: bool = True,
    debug: bool = False,
) -> None:
    """Parse a policy text, run it, write the outputs, show the result and exit with the verdict."""
    check_outputs(outputs)
    from assaymark.cli.run import Interrupted, Job, run
    from assaymark.reports.policy_file import parse

    policy = parse(text, name, folder=folder, needs_gate=needs_gate)
    job = Job(
        policy=policy,
        text=text,
        name=name,
        folder=folder,
        command=command,
        seed=seed,
        device=device,
        debug=debug,
    )
    try:
        report = run(job)
    except Interrupted as stop:
        kept = "what they measured is kept, and " if stop.done else ""
        tell(f"assaymark: {stop}; {kept}the same command goes on from there")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    finish(report, outputs, exit_zero=exit_zero)


def finish(report: Report, outputs: list[Path], *, exit_zero: bool = False) -> None:
    """Write, show, exit."""
    write_outputs(report, outputs)
    show(report)
    for path in outputs:
        say(f"wrote {path}")
    code = exit_code(report, exit_zero=exit_zero)
    if code:
        raise typer.Exit(int(code))
