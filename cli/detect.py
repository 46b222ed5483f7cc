"""`assaymark detect`: is this file generated, or was it changed?"""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from assaymark.cli import detect_measure
from assaymark.cli.options import ExitZero, Outputs, command_line, debug
from assaymark.cli.policy_text import policy_text
from assaymark.cli.terminal import say, tell
from assaymark.cli.verify import Anchors
from assaymark.reports.errors import InputError


class _PathsFirst(TyperGroup):
    """`detect photo.jpg` is `detect files photo.jpg`; a folder called train is ./train."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = (*self.commands, "-h", "--help")
        if args and args[0] not in known:
            args = ["files", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_PathsFirst,
    help="Say which files are generated or manipulated: assaymark detect PATH...",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def _group() -> None:
    """Say which files are generated or manipulated: assaymark detect PATH..."""


@app.command("files")
def files(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="Files, folders or patterns.")
    ],
    forbid: Annotated[
        list[str] | None,
        typer.Option(
            metavar="VERDICT",
            help="generated, generated-unmarked, manipulated or cannot-tell; repeatable.",
        ),
    ] = None,
    max_probability: Annotated[
        float | None, typer.Option(help='The highest probability of "generated" of any file.')
    ] = None,
    prior: Annotated[
        float, typer.Option(help="Probability that such a file is generated, before a look.")
    ] = 0.5,
    detector: Annotated[
        list[str] | None, typer.Option(help="Only this one; repeatable, see detect list.")
    ] = None,
    skip: Annotated[list[str] | None, typer.Option(help="Not this one; repeatable.")] = None,
    trust_anchor: Anchors = None,
    watermark_key: Annotated[
        str | None, typer.Option(metavar="FILE", help="Secret of the watermark.")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|URL", help="Manifests in which stripped credentials are sought."
        ),
    ] = None,
    references: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Pictures of one camera (PRNU).")
    ] = None,
    checkpoint: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE[,CALIBRATION]", help="A published detector's weights; repeatable."
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Image detectors that detect train wrote."),
    ] = None,
    records: Annotated[
        str | None, typer.Option(metavar="FILE", help="One line of JSON for every file.")
    ] = None,
    workers: Annotated[
        int, typer.Option(min=0, max=256, help="Processes; 0: as the cores allow.")
    ] = 0,
    output: Outputs = None,
    exit_zero: ExitZero = False,
) -> None:
    """Say of each file: generated, manipulated, no sign found, or cannot tell."""
    from assaymark.cli.finish import run_and_exit
    from assaymark.provenance.files import find_files

    find_files(tuple(paths))
    check: dict[str, Any] = {
        "id": "detect",
        "kind": "provenance.detection",
        "files": list(paths),
        "forbid": list(forbid or ()),
        "max_probability": max_probability,
        "prior": prior,
        "detectors": list(detector or ()),
        "skip": list(skip or ()),
        "trust_anchors": list(trust_anchor or ()),
        "watermark_key": watermark_key,
        "binding_store": store,
        "references": references,
        "weights": weights,
        "checkpoints": [_checkpoint(text) for text in checkpoint or ()],
        "records": records,
    }
    run_and_exit(
        policy_text({key: value for key, value in check.items() if value not in (None, [])}),
        name="command line",
        folder=Path(),
        command=command_line(),
        outputs=output or [],
        workers=workers or 1,
        exit_zero=exit_zero,
        needs_gate=False,
        debug=debug(),
    )


def _checkpoint(text: str) -> dict[str, str]:
    name, equals, rest = text.partition("=")
    file, _, calibration = rest.partition(",")
    if not equals or not name or not file:
        raise InputError(
            f"--checkpoint {text}: expected NAME=FILE, such as npr=NPR.pth; assaymark detect list "
            "shows the names"
        )
    entry = {"detector": name, "file": file}
    return {**entry, "calibration": calibration} if calibration else entry


app.command("evaluate")(detect_measure.evaluate)
app.command("train")(detect_measure.train)
app.command("race")(detect_measure.race)


@app.command("list")
def list_detectors() -> None:
    """Show the detectors, and what each looks at."""
    from assaymark.provenance.detectors import DETECTORS

    for detector in DETECTORS.values():
        say(f"{detector.name} ({', '.join(detector.media)}; {detector.family}): {detector.about}")
    tell("what each was measured on is in docs/detection.md and in every report")
