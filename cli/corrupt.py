"""`assaymark corrupt`: one corruption check from the command line, or corrupted copies as files."""

from pathlib import Path
from typing import Annotated

import typer

from assaymark.cli.options import (
    Arch,
    BatchSize,
    Classes,
    DataName,
    DataRange,
    Device,
    Examples,
    ExitZero,
    ImageSize,
    InputRange,
    Mean,
    ModelName,
    Outputs,
    SeedOfCommand,
    Std,
    Workers,
    command_line,
    debug,
)
from assaymark.cli.policy_text import Table, model_keys, policy_text
from assaymark.cli.terminal import say
from assaymark.reports.errors import InputError


def corrupt(
    model: ModelName = None,
    data: DataName = None,
    corruption: Annotated[
        list[str] | None,
        typer.Option(
            "--corruption", "-c", help="A name of --list, main (15) or all (19); repeatable."
        ),
    ] = None,
    severity: Annotated[
        list[int] | None, typer.Option("--severity", "-s", help="1 to 5; repeatable.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="A model whose errors count as 1 (mean corruption error).")
    ] = None,
    reference_arch: Annotated[
        str | None, typer.Option(help="package.module:factory for the reference's weights.")
    ] = None,
    arch: Arch = None,
    classes: Classes = None,
    mean: Mean = None,
    std: Std = None,
    input_range: InputRange = None,
    data_range: DataRange = None,
    image_size: ImageSize = None,
    examples: Examples = None,
    batch_size: BatchSize = 250,
    minimum: Annotated[
        float | None,
        typer.Option("--min", help="Exit 1 when corruption accuracy is below, 3 when undecided."),
    ] = None,
    on: Annotated[
        str, typer.Option(help="Hold --min on the estimate or the lower bound.")
    ] = "lower",
    write: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Write corrupted copies of DATA there; MODEL may be left out."
        ),
    ] = None,
    form: Annotated[
        str, typer.Option("--format", help="Of --write: png (class folders) or npz.")
    ] = "png",
    seed: SeedOfCommand = 0,
    output: Outputs = None,
    device: Device = "auto",
    workers: Workers = 1,
    exit_zero: ExitZero = False,
    show_list: Annotated[
        bool, typer.Option("--list", help="List every corruption and stop.")
    ] = False,
) -> None:
    """Try an image classifier on noise, blur, weather and compression (ImageNet-C's corruptions)."""
    if show_list:
        return _list()
    if write is not None and data is None:
        model, data = None, model
    if data is None or (model is None and write is None):
        raise InputError(
            "name a model and data: assaymark corrupt MODEL DATA, or assaymark corrupt DATA --write DIR"
        )
    if write is not None:
        _write(
            data,
            write,
            form,
            corruptions=tuple(corruption or ["main"]),
            severities=tuple(severity or range(1, 6)),
            examples=examples,
            seed=seed,
            classes=classes,
            data_range=data_range,
            image_size=image_size,
        )
        if model is None:
            return None
    check: Table = {
        "id": "corrupt",
        "kind": "corruption",
        **model_keys(
            model=model,
            data=data,
            arch=arch,
            classes=classes,
            mean=mean,
            std=std,
            input_range=input_range,
            data_range=data_range,
            image_size=image_size,
            examples=examples,
            batch_size=batch_size,
        ),
        "corruptions": list(corruption) if corruption else None,
        "severities": list(severity) if severity else None,
        "reference": reference,
        "reference_arch": reference_arch,
        "gate": None
        if minimum is None
        else {"metric": "corruption_accuracy", "min": minimum, "on": on, "severity": "critical"},
    }
    from assaymark.cli.finish import run_and_exit

    run_and_exit(
        policy_text(check, seed),
        name="command line",
        folder=Path(),
        command=command_line(),
        outputs=output or [],
        device=device,
        workers=workers,
        exit_zero=exit_zero,
        needs_gate=False,
        debug=debug(),
    )
    return None


def _write(
    data: str,
    folder: Path,
    form: str,
    *,
    corruptions: tuple[str, ...],
    severities: tuple[int, ...],
    examples: int | None,
    seed: int,
    classes: str | None,
    data_range: str | None,
    image_size: str | None,
) -> None:
    """Copies of the data; the options are read as the policy reads them."""
    from assaymark.reports.policy_file import parse
    from assaymark.reports.policy_robustness import CorruptionCheck
    from assaymark.robustness import images
    from assaymark.robustness.corruption_files import write_corrupted

    if form not in ("png", "npz"):
        raise InputError(f'--format is png or npz, got "{form}"')
    keys = model_keys(
        model="demo:digits",  # not opened
        data=data,
        arch=None,
        classes=classes,
        mean=None,
        std=None,
        input_range=None,
        data_range=data_range,
        image_size=image_size,
        examples=examples,
        batch_size=250,
    )
    text = policy_text(
        {
            "id": "corrupt",
            "kind": "corruption",
            **keys,
            "corruptions": list(corruptions),
            "severities": list(severities),
        },
        seed,
    )
    (check,) = parse(text, "command line", folder=Path(), needs_gate=False).check
    assert isinstance(check, CorruptionCheck)
    loaded = images.load(
        data, classes=check.classes, data_range=check.data_range, image_size=check.image_size
    )
    count = write_corrupted(
        loaded,
        folder,
        corruptions=check.corruptions,
        severities=check.severities,
        form="npz" if form == "npz" else "png",
        examples=check.examples,
        seed=seed,
    )
    say(f"wrote {count} corrupted copies to {folder}")


def _list() -> None:
    from assaymark.robustness.corruptions import CORRUPTIONS

    for name, card in CORRUPTIONS.items():
        say(f"{name:<18} {card.family:<8} {'extra' if card.extra else 'main'}")
