"""`assaymark report`: show and convert stored reports."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assaymark.cli.options import Outputs
from assaymark.reports.errors import InputError

if TYPE_CHECKING:
    from assaymark.reports.model import Report

app = typer.Typer(help="Stored reports.", no_args_is_help=True, rich_markup_mode=None)

Stored = Annotated[Path, typer.Argument(help="A report.json that an audit wrote.")]


@app.command("show")
def show(report: Stored) -> None:
    """Print a stored report on one screen."""
    from assaymark.cli.show import show as show_report

    show_report(_load(report))


@app.command("convert")
def convert(report: Stored, output: Outputs = None) -> None:
    """Render a stored report in other formats."""
    from assaymark.cli.outputs import check_outputs, write_outputs
    from assaymark.cli.terminal import say

    if not output:
        raise InputError("name at least one output: -o report.html")
    check_outputs(output)
    write_outputs(_load(report), output)
    for path in output:
        say(f"wrote {path}")


@app.command("schema")
def schema() -> None:
    """Print the JSON Schema of a stored report."""
    import json

    from assaymark.reports.store import schema as report_schema

    print(json.dumps(report_schema(), indent=1))


def _load(path: Path) -> "Report":
    from assaymark.reports.store import from_json

    try:
        return from_json(path.read_text(encoding="utf-8"), path.name)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot read the report {path}: {error}; expected the JSON that an audit wrote with -o"
        ) from error
