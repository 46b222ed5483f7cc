"""`assaymark certify`: one certificate check from the command line."""

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
from assaymark.reports.errors import InputError


def certify(
    model: ModelName = None,
    data: DataName = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method", "-m", help="ibp, crown-ibp, crown, alpha-crown or smoothing; repeatable."
        ),
    ] = None,
    norm: Annotated[
        str | None, typer.Option(help="linf, l2 or l1; default linf, and l2 for smoothing.")
    ] = None,
    eps: Annotated[
        str, typer.Option(help='Radius with pixels in [0, 1], such as 0.03 or "2/255".')
    ] = "2/255",
    sigma: Annotated[
        float | None, typer.Option(help="Standard deviation of the noise of smoothing.")
    ] = None,
    samples: Annotated[
        int | None, typer.Option(help="Votes an image of smoothing; default 1000.")
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(help="Chance that a certificate of smoothing is wrong; default 0.001."),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option("--attack", "-a", help="Held beside the certificate; repeatable."),
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
        typer.Option("--min", help="Exit 1 when certified accuracy is below, 3 when undecided."),
    ] = None,
    on: Annotated[
        str, typer.Option(help="Hold --min on the estimate or the lower bound.")
    ] = "lower",
    seed: SeedOfCommand = 0,
    output: Outputs = None,
    device: Device = "auto",
    workers: Workers = 1,
    exit_zero: ExitZero = False,
) -> None:
    """Prove how much of a data set no attack inside a ball can change."""
    if model is None or data is None:
        raise InputError("name a model and data: assaymark certify MODEL DATA (see --help)")
    methods: list[object] = list(method or ["crown"])
    check: Table = {
        "id": "certify",
        "kind": "certificate",
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
        "method": methods,
        "norm": norm or ("l2" if "smoothing" in methods else "linf"),
        "eps": eps,
        "sigma": sigma,
        "samples": samples,
        "alpha": alpha,
        "attack": list(name) if name else None,
        "gate": None
        if minimum is None
        else {"metric": "certified_accuracy", "min": minimum, "on": on, "severity": "critical"},
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
