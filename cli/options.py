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
Workers = Annotated[
    int,
    typer.Option(
        min=1, max=256, help="Processes that work side by side on a CPU, one thread each."
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
        help="x.onnx, x.pt2, x.ts, x.safetensors with --arch, x.defended.json, package.module:factory, "
        "hf:FOLDER, timm:NAME, demo:digits, or a black box: http(s)://HOST/PATH, package.module:function "
        "with --access",
    ),
]
DataName = Annotated[
    str | None,
    typer.Argument(
        metavar="DATA",
        help="Image folder by class, .npz, .npy, .parquet, .csv, Hugging Face dataset folder, "
        "package.module:factory, demo:digits",
    ),
]
Arch = Annotated[str | None, typer.Option(help="package.module:factory that takes the weights.")]
Access = Annotated[
    str | None,
    typer.Option(help="What is seen of the model: white-box, scores or labels."),
]
Queries = Annotated[
    int | None, typer.Option(help="At most so many by one attack at one image of a black box.")
]
MaxQueries = Annotated[
    int | None, typer.Option(help="At most so many images asked of a black box in all.")
]
NumClasses = Annotated[int | None, typer.Option(help="Of a model that answers labels.")]
EndpointOf = Annotated[
    list[str] | None,
    typer.Option(
        "--endpoint",
        metavar="KEY=VALUE",
        help="How an address is asked: images=png, layout=channels-last, request=inputs, answer=scores, "
        "time_limit=60, retries=4, token_env=NAME, proxy=true; repeatable.",
    ),
]
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
LabelsFile = Annotated[
    str | None, typer.Option("--labels", help="Labels of an .npy file of images.")
]
ImageColumn = Annotated[str | None, typer.Option(help="Column of a table with the images.")]
LabelColumn = Annotated[str | None, typer.Option(help="Column of a table with the labels.")]
Split = Annotated[str | None, typer.Option(help="Of a dataset folder; default: test.")]
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
