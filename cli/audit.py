"""`assaymark audit` and `assaymark init`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from assaymark.cli.options import Device, ExitZero, Outputs, Seed, Workers, command_line, debug
from assaymark.cli.terminal import say, tell
from assaymark.reports.errors import InputError


def audit(
    policy: Annotated[
        Path | None,
        typer.Argument(
            help="Policy file; default: the nearest assaymark.toml, or pyproject.toml with "
            "[tool.assaymark], from here upwards."
        ),
    ] = None,
    output: Outputs = None,
    device: Device = "auto",
    workers: Workers = 1,
    seed: Seed = None,
    exit_zero: ExitZero = False,
) -> None:
    """Run every check of a policy, write the reports, exit with the verdict."""
    from assaymark.cli.finish import run_and_exit
    from assaymark.reports.policy import policy_files
    from assaymark.reports.policy_file import read

    path = policy or policy_files(Path.cwd())
    if path is None:
        raise InputError(
            f"no assaymark.toml and no [tool.assaymark] in {Path.cwd()} or above: write one with "
            "`assaymark init`, or name it"
        )
    text = read(path)
    tell(f"policy: {os.path.relpath(path)}")
    run_and_exit(
        text,
        name=os.path.relpath(path),
        folder=path.parent,
        command=command_line(),
        outputs=output or [],
        device=device,
        workers=workers,
        seed=seed,
        exit_zero=exit_zero,
        debug=debug(),
    )


def init(
    path: Annotated[Path, typer.Argument(help="Where to write the policy.")] = Path(
        "assaymark.toml"
    ),
) -> None:
    """Write a commented policy that runs as it is, and its JSON Schema for editors."""
    import json
    from importlib.resources import files

    from assaymark.reports.files import write_atomically
    from assaymark.reports.policy import json_schema

    if path.exists():
        raise InputError(f"{path} exists already: name another file, or delete it first")
    text = (files("assaymark.cli") / "init.toml").read_text(encoding="utf-8")
    schema = path.with_name("assaymark.schema.json")
    content = json.dumps(json_schema(), indent=1) + "\n"
    if schema.exists() and schema.read_text(encoding="utf-8", errors="replace") != content:
        raise InputError(f"{schema} exists already and is another schema: move it away first")
    write_atomically(path, text)
    write_atomically(schema, content)
    say(f"wrote {path} and {schema.name}; run it with: assaymark audit {path} -o report.html")
