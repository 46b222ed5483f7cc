"""`assaymark protect`: pictures with noise that recognisers cannot read through, and what it is worth."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assaymark.cli.options import (
    BatchSize,
    Classes,
    Device,
    ExitZero,
    ImageSize,
    InputRange,
    Mean,
    SeedOfCommand,
    Std,
    command_line,
    debug,
)
from assaymark.cli.policy_text import Table, numbers, policy_text, with_arch
from assaymark.cli.terminal import Progress, say, tell
from assaymark.reports.errors import InputError

if TYPE_CHECKING:
    from assaymark.robustness.types import Norm

_NAMED = 20


def protect(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH…", help="Pictures, folders of them with all below, .npz, demo:digits."
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="A recogniser that shall not recognise them, as for attack; repeatable.",
        ),
    ] = None,
    held_out: Annotated[
        list[str] | None,
        typer.Option(
            "--held-out-model",
            metavar="MODEL",
            help="A recogniser that the noise is not made for, only measured with; repeatable.",
        ),
    ] = None,
    norm: Annotated[str, typer.Option(help="linf or l2.")] = "linf",
    eps: Annotated[
        str, typer.Option(help='Radius with pixels in [0, 1], such as 0.03 or "8/255".')
    ] = "8/255",
    name: Annotated[
        list[str] | None,
        typer.Option(
            "--attack",
            "-a",
            help="What searches for the noise, in order; repeatable. Default: mi-fgsm, then standard.",
        ),
    ] = None,
    survive: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[:KEY=VALUE]",
            help="What the noise shall outlast, such as jpeg, resize or jpeg:quality=50; repeatable.",
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="known (names of class folders, or the data's own) or a .csv with the columns file and "
            "label; default: the recogniser's own answers."
        ),
    ] = None,
    form: Annotated[
        str, typer.Option("--format", help="png, or keep the format of each picture.")
    ] = "png",
    force: Annotated[
        bool, typer.Option("--force", help="Replace protected pictures that are there already.")
    ] = False,
    write_unprotected: Annotated[
        bool,
        typer.Option(
            "--write-unprotected", help="Also write the pictures that are still recognised."
        ),
    ] = False,
    arch: Annotated[
        list[str] | None,
        typer.Option(
            help="package.module:factory that takes the weights: one for all, or one for each --model and "
            "then each --held-out-model."
        ),
    ] = None,
    classes: Classes = None,
    mean: Mean = None,
    std: Std = None,
    input_range: InputRange = None,
    image_size: ImageSize = None,
    batch_size: BatchSize = 250,
    minimum: Annotated[
        float | None,
        typer.Option(
            "--min", help="Exit 1 when the protection rate is below; default: every picture."
        ),
    ] = None,
    on: Annotated[
        str, typer.Option(help="Hold --min on the estimate or the lower bound.")
    ] = "lower",
    seed: SeedOfCommand = 0,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "-o",
            "--output",
            metavar="DIR",
            help="The folder for the protected pictures; beside it reports, whose format is taken from the "
            "name (.html .json .sarif .junit.xml .md); repeatable.",
        ),
    ] = None,
    device: Device = "auto",
    exit_zero: ExitZero = False,
) -> None:
    """Write pictures that recognisers no longer recognise to a folder (-o DIR), and measure them."""
    if not paths or not model:
        raise InputError(
            "name pictures, a recogniser and a folder: assaymark protect PATH --model MODEL -o DIR "
            "(see --help)"
        )
    from assaymark.reports.policy_protection import COUNTERMEASURES

    folder, reports = _outputs(output or [])
    if batch_size < 1:
        raise InputError(f"--batch-size is a number of pictures from 1 on, got {batch_size}")
    if form not in ("png", "keep"):
        raise InputError(f'--format is png or keep, got "{form}"')
    shared: Table = {
        "normalize": {"mean": numbers(mean), "std": numbers(std)} if mean or std else None,
        "input_range": numbers(input_range),
        "image_size": numbers(image_size),
    }
    entries = [{**entry, **shared} for entry in with_arch([*model, *(held_out or [])], arch or [])]
    outlast = [_countermeasure(text) for text in survive or []]
    check: Table = {
        "id": "protect",
        "kind": "protection",
        "originals": list(paths),
        "protected": folder.as_posix(),
        "models": entries[: len(model)],
        "held_out_models": entries[len(model) :] or None,
        "labels": labels,
        "classes": classes.split(",") if classes else None,
        "countermeasures": [
            *(list[object](outlast)),
            *(one for one in COUNTERMEASURES if {"name": one} not in outlast),
        ],
        "gate": [_least(minimum, on)],
    }
    largest = _make(
        check, len(outlast), name, folder, reports, seed, device, norm=norm, eps=eps, form=form,
        force=force, unprotected=write_unprotected, batch_size=batch_size,
    )  # fmt: skip
    if largest is not None:
        check["gate"] = [_least(minimum, on), {"metric": "largest_change", "max": largest}]
    from assaymark.cli.finish import run_and_exit

    run_and_exit(
        policy_text(check, seed),
        name="command line",
        folder=Path(),
        command=command_line(),
        outputs=reports,
        device=device,
        exit_zero=exit_zero,
        debug=debug(),
    )


def _least(minimum: float | None, on: str) -> Table:
    """Every picture, where nothing is said: a bound can never say that of all."""
    limit: Table = {"min": 1.0} if minimum is None else {"min": minimum, "on": on}
    return {"metric": "protection_rate", **limit, "severity": "critical"}


def _outputs(outputs: list[Path]) -> tuple[Path, list[Path]]:
    from assaymark.cli.outputs import FORMATS

    reports = [path for path in outputs if path.name.lower().endswith(tuple(FORMATS))]
    folders = [path for path in outputs if path not in reports]
    if len(folders) != 1:
        raise InputError(
            f"-o names {len(folders)} folders for the protected pictures, expected one: -o DIR, and "
            f"beside it reports ending in {', '.join(FORMATS)}"
        )
    return folders[0], reports


def _countermeasure(text: str) -> Table:
    """NAME or NAME:KEY=VALUE,KEY=VALUE as a policy writes it.

    >>> _countermeasure("jpeg:quality=50")
    {'name': 'jpeg', 'quality': 50}
    """
    name, _, rest = text.partition(":")
    table: Table = {"name": name}
    for pair in filter(None, rest.split(",")):
        key, equals, value = pair.partition("=")
        if not equals or not key.isidentifier():
            raise InputError(
                f"--survive {text}: expected NAME or NAME:KEY=VALUE, such as jpeg:quality=50"
            )
        table[key] = (numbers(value) or [value])[0]
    return table


def _make(
    check: Table,
    outlast: int,
    names: list[str] | None,
    folder: Path,
    reports: list[Path],
    seed: int,
    device: str,
    *,
    norm: str,
    eps: str,
    form: str,
    force: bool,
    unprotected: bool,
    batch_size: int,
) -> str | None:
    """Write the protected pictures; the largest change they may show, where that is a limit."""
    from assaymark.cli.device import choose
    from assaymark.cli.opening import Context, countermeasures, recognisers
    from assaymark.cli.outputs import check_outputs
    from assaymark.reports.policy_file import parse
    from assaymark.reports.policy_protection import ProtectionCheck
    from assaymark.robustness import picture_files, protected_files
    from assaymark.robustness.protect import USUAL, grid_radius
    from assaymark.robustness.protection_check import agree, known_labels
    from assaymark.robustness.recognisers import check_apart

    (wanted,) = parse(policy_text(check, seed), "command line").check
    assert isinstance(wanted, ProtectionCheck)
    radius, ball = _ball(eps, norm)
    shape: picture_files.Form = "keep" if form == "keep" else "png"
    check_outputs(reports)
    pictures = picture_files.find(wanted.originals)
    protected_files.check_places(
        pictures, [Path(spec) for spec in wanted.originals], folder, shape, force=force
    )
    progress = Progress(1)
    context = Context(folder=Path(), seed=seed, device=choose(device), progress=progress)
    found = recognisers(wanted.models, pictures, wanted.classes, context)
    held_out = recognisers(wanted.held_out_models, pictures, wanted.classes, context)
    truth, classes = known_labels(pictures, wanted.labels, wanted.classes)
    agree([*found, *held_out], truth, classes)  # a mistake shows now
    check_apart(found, held_out)
    countermeasures(wanted.countermeasures)
    survive = countermeasures(wanted.countermeasures[:outlast])
    progress.start("noise")
    made = protected_files.make(
        pictures, found, [(one, {}) for one in names] if names else USUAL, labels=truth, eps=radius,
        norm=ball, survive=tuple(survive.values()), form=shape, seed=seed, batch_size=batch_size,
        device=context.device, progress=progress,
    )  # fmt: skip
    written, left = protected_files.write(made, pictures, folder, unprotected=unprotected)
    progress.finish(f"{len(made) - len(left)} of {len(made)} pictures are not recognised")
    say(f"wrote {len(written)} pictures to {folder}")
    _tell(pictures_left=left, unprotected=unprotected, lossy=[
        one for one in written if picture_files.is_lossy(one)
    ])  # fmt: skip
    if ball != "linf" or any(picture_files.is_lossy(one) for one in written):
        return None
    return f"{round(grid_radius(radius, ball, 1) * 255)}/255"


def _tell(*, pictures_left: list[str], unprotected: bool, lossy: list[str]) -> None:
    if lossy:
        tell(
            f"{len(lossy)} pictures were written as JPEG, such as {lossy[0]}: encoding takes them out of "
            "the ball and is part of what is measured; --format png loses nothing"
        )
    if pictures_left:
        more = len(pictures_left) - _NAMED
        tell(
            f"{len(pictures_left)} pictures are still recognised, as they are or after what they shall "
            "survive, and were "
            + ("written all the same: " if unprotected else "not written: ")
            + ", ".join(pictures_left[:_NAMED])
            + (f" and {more} more, which the report names" if more > 0 else "")
        )


def _ball(eps: str, norm: str) -> tuple[float, "Norm"]:
    from assaymark.reports.policy_types import number

    if norm not in ("linf", "l2"):
        raise InputError(f'--norm is linf or l2, got "{norm}"')
    try:
        return number(eps), "linf" if norm == "linf" else "l2"
    except ValueError as error:
        raise InputError(f"--eps: {error}") from error
