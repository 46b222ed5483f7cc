"""Options that several commands share."""

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

Outputs = Annotated[
    list[Path] | None,
    typer.Option(
        "-o",
        "--output",
        metavar="FILE",
        help="Write the report; repeatable, the format is taken from the name "
        "(.html .json .sarif .junit.xml .md).",
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
ExitZero = Annotated[
    bool, typer.Option("--exit-zero", help="Exit 0 where a broken limit would exit 1.")
]
Seed = Annotated[
    int | None,
    typer.Option(min=0, max=2**32 - 1, help="Seed of all random numbers; default: the policy's."),
]


def debug() -> bool:
    return bool(os.environ.get("ASSAYMARK_DEBUG"))


def command_line() -> str:
    """What the user typed, so that it can be typed again."""
    from assaymark.reports.files import unicode

    return unicode(shlex.join(["assaymark", *sys.argv[1:]]))
