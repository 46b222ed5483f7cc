"""`assaymark attack`: one robustness check from the command line."""

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
    command_line,
    debug,
)
from assaymark.cli.policy_text import Table, model_keys, policy_text
from assaymark.cli.terminal import say
from assaymark.reports.errors import InputError


def attack(
    model: ModelName = None,
    data: DataName = None,
    name: Annotated[
        list[str] | None,
        typer.Option(
            "--attack", "-a", help="fgsm, pgd, foolbox:CLASS, cleverhans:FUNCTION; repeatable."
        ),
    ] = None,
    norm: Annotated[str, typer.Option(help="linf or l2.")] = "linf",
    eps: Annotated[
        str, typer.Option(help='Radius with pixels in [0, 1], such as 0.03 or "8/255".')
    ] = "8/255",
    steps: Annotated[int | None, typer.Option(help="Steps of pgd.")] = None,
    restarts: Annotated[int | None, typer.Option(help="Random restarts of pgd.")] = None,
    target: Annotated[
        str | None, typer.Option(help="Targeted: next, least-likely or a class name.")
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
        typer.Option("--min", help="Exit 1 when robust accuracy is below, 3 when undecided."),
    ] = None,
    on: Annotated[
        str, typer.Option(help="Hold --min on the estimate or the lower bound.")
    ] = "lower",
    seed: SeedOfCommand = 0,
    output: Outputs = None,
    device: Device = "auto",
    exit_zero: ExitZero = False,
    show_list: Annotated[bool, typer.Option("--list", help="List every attack and stop.")] = False,
) -> None:
    """Attack an image classifier and report what still stands."""
    if show_list:
        return _list()
    if model is None or data is None:
        raise InputError("name a model and data: assaymark attack MODEL DATA (see --help)")
    options = {"steps": steps, "restarts": restarts}
    given = {key: value for key, value in options.items() if value is not None}
    if given and "pgd" not in (name or ["pgd"]):
        raise InputError(
            f"--{next(iter(given))} is an option of pgd, which is not among the attacks"
        )
    attacks: list[object] = [
        {"name": entry, **given} if entry == "pgd" and given else entry
        for entry in name or ["fgsm", "pgd"]
    ]
    check: Table = {
        "id": "attack",
        "kind": "robustness",
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
        "attack": attacks,
        "norm": norm,
        "eps": eps,
        "target": target,
        "gate": None
        if minimum is None
        else {"metric": "robust_accuracy", "min": minimum, "on": on, "severity": "critical"},
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


def _list() -> None:
    from assaymark.robustness.attacks import ATTACKS
    from assaymark.robustness.catalogue import cleverhans_names, foolbox_names

    for name, card in ATTACKS.items():
        say(f"{name:<12} {card.knowledge:<10} {' '.join(card.norms):<9} {card.paper}")
    for name in cleverhans_names():
        say(f"cleverhans:{name}")
    for name in foolbox_names():
        say(f"foolbox:{name}")
