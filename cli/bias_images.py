"""`assaymark bias images`: groups of the people or things that an image classifier is shown."""

from pathlib import Path
from typing import Annotated

import typer

from assaymark.cli.bias_options import (
    Bands,
    Intersections,
    Maximum,
    MinGroupSize,
    Minimum,
    Missing,
    On,
    RatesFile,
    ReferenceGroup,
    Sensitive,
    SliceColumns,
    SliceLoss,
    Weight,
    bands_of,
    gates_of,
    listed,
    pairs,
)
from assaymark.cli.options import (
    Arch,
    BatchSize,
    Classes,
    DataRange,
    Device,
    Examples,
    ExitZero,
    ImageColumn,
    ImageSize,
    InputRange,
    LabelColumn,
    Mean,
    Outputs,
    SeedOfCommand,
    Std,
    command_line,
    debug,
)
from assaymark.cli.policy_text import Table, model_keys, policy_text
from assaymark.reports.errors import InputError


def images(
    model: Annotated[str, typer.Argument(help="An image classifier, as of assaymark attack.")],
    data: Annotated[
        str, typer.Argument(help=".csv or .parquet with images, labels and sensitive columns.")
    ],
    sensitive: Sensitive,
    metadata: Annotated[
        str | None,
        typer.Option(help="A table with a row for each image, where DATA is no table itself."),
    ] = None,
    positive: Annotated[
        str | None, typer.Option(help="The class that means positive; default: compare all.")
    ] = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    arch: Arch = None,
    classes: Classes = None,
    mean: Mean = None,
    std: Std = None,
    input_range: InputRange = None,
    data_range: DataRange = None,
    image_size: ImageSize = None,
    examples: Examples = None,
    batch_size: BatchSize = 250,
    weight: Weight = None,
    bands: Bands = None,
    intersections: Intersections = False,
    reference_group: ReferenceGroup = None,
    missing: Missing = "group",
    min_group_size: MinGroupSize = 1,
    slices: SliceColumns = None,
    slice_loss: SliceLoss = "error",
    maximum: Maximum = None,
    minimum: Minimum = None,
    on: On = None,
    rates: RatesFile = None,
    seed: SeedOfCommand = 0,
    output: Outputs = None,
    device: Device = "auto",
    exit_zero: ExitZero = False,
) -> None:
    """Rates by group of an image classifier, and the gaps between the groups."""
    if slice_loss != "error" and slices is None:
        raise InputError(f"--slice-loss {slice_loss} belongs to --slices, which names no column")
    check: Table = {
        "id": "images",
        "kind": "bias.images",
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
            image_column=image_column,
            label_column=label_column,
        ),
        "metadata": metadata,
        "sensitive": listed(",".join(sensitive)),
        "positive": positive,
        "weight": weight,
        "bands": bands_of(bands),
        "intersections": intersections or None,
        "reference_groups": pairs(reference_group, "--reference-group"),
        "missing": missing,
        "min_group_size": min_group_size,
        "slices": {"columns": listed(slices), "loss": slice_loss} if slices else None,
        "rates": rates,
        "gate": gates_of(maximum or [], minimum or [], on),
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
