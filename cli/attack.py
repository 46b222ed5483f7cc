"""`assaymark attack`: one robustness check from the command line."""

from pathlib import Path
from typing import Annotated

import typer

from assaymark.cli.options import Device, ExitZero, Outputs, command_line, debug
from assaymark.cli.policy_text import Table, policy_text
from assaymark.cli.terminal import say
from assaymark.reports.errors import InputError


def attack(
    model: Annotated[
        str | None,
        typer.Argument(
            help="x.onnx, x.pt2, x.ts, x.safetensors with --arch, package.module:factory, demo:digits"
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Argument(help="Image folder by class, .npz, package.module:factory, demo:digits"),
    ] = None,
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
    arch: Annotated[
        str | None, typer.Option(help="package.module:factory that takes the weights.")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="Class names in the model's order, with commas.")
    ] = None,
    mean: Annotated[str | None, typer.Option(help="Per channel, with commas.")] = None,
    std: Annotated[str | None, typer.Option(help="Per channel, with commas.")] = None,
    input_range: Annotated[
        str | None, typer.Option(help="What the model expects, such as -1,1; default 0,1.")
    ] = None,
    data_range: Annotated[
        str | None, typer.Option(help="What float arrays span, such as 0,255; default 0,1.")
    ] = None,
    image_size: Annotated[
        str | None, typer.Option(help="height,width to which image files are resized.")
    ] = None,
    examples: Annotated[int | None, typer.Option(help="A random sample instead of all.")] = None,
    batch_size: Annotated[int, typer.Option(help="Images in one pass.")] = 250,
    minimum: Annotated[
        float | None,
        typer.Option("--min", help="Exit 1 when robust accuracy is below, 3 when undecided."),
    ] = None,
    on: Annotated[
        str, typer.Option(help="Hold --min on the estimate or the lower bound.")
    ] = "lower",
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Seed of all random numbers.")
    ] = 0,
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
        "model": model,
        "data": data,
        "attack": attacks,
        "norm": norm,
        "eps": eps,
        "target": target,
        "arch": arch,
        "classes": classes.split(",") if classes else None,
        "normalize": {"mean": _numbers(mean), "std": _numbers(std)} if mean or std else None,
        "input_range": _numbers(input_range),
        "data_range": _numbers(data_range),
        "image_size": _numbers(image_size),
        "examples": examples,
        "batch_size": batch_size,
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


def _numbers(text: str | None) -> list[object] | None:
    """Numbers with commas; what is no number stays text, and the policy says so."""
    if text is None:
        return None
    parts: list[object] = []
    for part in text.split(","):
        try:
            parts.append(int(part))
        except ValueError:
            try:
                parts.append(float(part))
            except ValueError:
                parts.append(part)
    return parts


def _list() -> None:
    from assaymark.robustness.attacks import ATTACKS
    from assaymark.robustness.catalogue import cleverhans_names, foolbox_names

    for name, card in ATTACKS.items():
        say(f"{name:<12} {card.knowledge:<10} {' '.join(card.norms):<9} {card.paper}")
    for name in cleverhans_names():
        say(f"cleverhans:{name}")
    for name in foolbox_names():
        say(f"foolbox:{name}")
