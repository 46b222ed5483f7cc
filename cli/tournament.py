"""`assaymark tournament`: every attack against every defense, from the command line."""

from pathlib import Path
from typing import Annotated

import typer

from assaymark.cli.options import (
    BatchSize,
    Classes,
    DataName,
    DataRange,
    Device,
    Examples,
    ExitZero,
    ImageColumn,
    ImageSize,
    InputRange,
    LabelColumn,
    LabelsFile,
    Mean,
    Outputs,
    SeedOfCommand,
    Split,
    Std,
    command_line,
    debug,
)
from assaymark.cli.policy_text import Table, model_keys, policy_text, with_arch
from assaymark.reports.errors import InputError


def tournament(
    data: DataName = None,
    defense: Annotated[
        list[str] | None,
        typer.Option("--defense", "-d", help="A model, as of attack; repeatable."),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(
            "--attack",
            "-a",
            help="A suite or an attack of attack --list; repeatable. Default, where none is aimed: standard.",
        ),
    ] = None,
    targeted: Annotated[
        list[str] | None,
        typer.Option("--targeted-attack", help="The same, aimed at a class; repeatable."),
    ] = None,
    target: Annotated[
        str, typer.Option(help="Class of each image aimed at: random or least-likely.")
    ] = "random",
    norm: Annotated[str, typer.Option(help="linf, l2, l1 or l0.")] = "linf",
    eps: Annotated[
        str, typer.Option(help='Radius with pixels in [0, 1], such as 0.03 or "8/255".')
    ] = "8/255",
    protocol: Annotated[
        str,
        typer.Option(
            "--protocol",
            "--scoring",
            help="white-box: attacks see the defense. nips17: they see a surrogate, and all defenses "
            "get the same 8-bit images.",
        ),
    ] = "white-box",
    surrogate: Annotated[
        list[str] | None,
        typer.Option(help="Of nips17: a model that attacks are run on; repeatable."),
    ] = None,
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="Attack the mean of the surrogates.")
    ] = False,
    time_limit: Annotated[
        float | None,
        typer.Option(help="Seconds for 100 images of one game; nips17: 500."),
    ] = None,
    matrices: Annotated[
        str | None, typer.Option(help="A folder for the matrices and rankings as CSV.")
    ] = None,
    arch: Annotated[
        list[str] | None,
        typer.Option(
            help="package.module:factory that takes the weights: one for all, or one for each --defense and "
            "then each --surrogate."
        ),
    ] = None,
    classes: Classes = None,
    mean: Mean = None,
    std: Std = None,
    input_range: InputRange = None,
    data_range: DataRange = None,
    image_size: ImageSize = None,
    labels: LabelsFile = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    split: Split = None,
    examples: Examples = None,
    batch_size: BatchSize = 250,
    minimum: Annotated[
        float | None,
        typer.Option(
            "--min", help="Exit 1 when a defense's worst case is below, 3 when undecided."
        ),
    ] = None,
    on: Annotated[
        str, typer.Option(help="Hold --min on the estimate or the lower bound.")
    ] = "lower",
    seed: SeedOfCommand = 0,
    output: Outputs = None,
    device: Device = "auto",
    exit_zero: ExitZero = False,
) -> None:
    """Let every attack meet every defense, and rank both."""
    if data is None or not defense:
        raise InputError(
            "name data and defenses: assaymark tournament DATA --defense MODEL --defense MODEL (see --help)"
        )
    entrants = with_arch([*defense, *(surrogate or [])], arch or [])
    shared = model_keys(
        model=None,
        data=data,
        arch=None,
        classes=classes,
        mean=mean,
        std=std,
        input_range=input_range,
        data_range=data_range,
        image_size=image_size,
        examples=examples,
        batch_size=batch_size,
        labels=labels,
        image_column=image_column,
        label_column=label_column,
        split=split,
    )
    check: Table = {
        "id": "tournament",
        "kind": "tournament",
        **shared,
        "defenses": entrants[: len(defense)],
        "attack": list(name) if name else None if targeted else ["standard"],
        "targeted": list(targeted) if targeted else None,
        "target": target,
        "norm": norm,
        "eps": eps,
        "protocol": protocol,
        "surrogates": entrants[len(defense) :] or None,
        "ensemble": ensemble or None,
        "time_limit": time_limit,
        "matrices": matrices,
        "gate": None
        if minimum is None
        else {"metric": "worst_case_accuracy", "min": minimum, "on": on, "severity": "critical"},
    }
    from assaymark.cli.finish import run_and_exit

    run_and_exit(
        policy_text(check, seed),
        name="command line",
        folder=Path(),
        command=command_line(),
        outputs=output or [],
        device=device,
        exit_zero=exit_zero,
        needs_gate=False,
        debug=debug(),
    )
