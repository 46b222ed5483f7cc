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

ModelName = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        help="x.onnx, x.pt2, x.ts, x.safetensors with --arch, x.defended.json, "
        "package.module:factory, demo:digits",
    ),
]
DataName = Annotated[
    str | None,
    typer.Argument(
        metavar="DATA",
        help="Image folder by class, .npz, package.module:factory, demo:digits",
    ),
]
Arch = Annotated[str | None, typer.Option(help="package.module:factory that takes the weights.")]
Classes = Annotated[str | None, typer.Option(help="Class names in the model's order, with commas.")]
Mean = Annotated[str | None, typer.Option(help="Per channel, with commas.")]
Std = Annotated[str | None, typer.Option(help="Per channel, with commas.")]
InputRange = Annotated[
    str | None, typer.Option(help="What the model expects, such as -1,1; default 0,1.")
]
DataRange = Annotated[
    str | None, typer.Option(help="What float arrays span, such as 0,255; default 0,1.")
]
ImageSize = Annotated[
    str | None, typer.Option(help="height,width to which image files are resized.")
]
Examples = Annotated[int | None, typer.Option(help="A random sample instead of all.")]
BatchSize = Annotated[int, typer.Option(help="Images in one pass.")]
SeedOfCommand = Annotated[
    int, typer.Option("--seed", min=0, max=2**32 - 1, help="Seed of all random numbers.")
]


def debug() -> bool:
    return bool(os.environ.get("ASSAYMARK_DEBUG"))


def command_line() -> str:
    """What the user typed, so that it can be typed again."""
    from assaymark.reports.files import unicode

    return unicode(shlex.join(["assaymark", *sys.argv[1:]]))
