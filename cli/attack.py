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
from assaymark.cli.policy_text import Table, model_keys, numbers, policy_text
from assaymark.cli.terminal import say
from assaymark.reports.errors import InputError


def attack(
    model: ModelName = None,
    data: DataName = None,
    name: Annotated[
        list[str] | None,
        typer.Option(
            "--attack",
            "-a",
            help="fgsm, pgd, rotation, patch, foolbox:CLASS, cleverhans:FUNCTION; repeatable.",
        ),
    ] = None,
    norm: Annotated[str | None, typer.Option(help="linf (the default) or l2.")] = None,
    eps: Annotated[
        str | None,
        typer.Option(help='Radius with pixels in [0, 1], such as 0.03 or "8/255", the default.'),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option", metavar="KEY=VALUE", help="An option of the one attack named; repeatable."
        ),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write learned patches here, as PNG."),
    ] = None,
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
    own = _options(option or [], name)
    attacks: list[object] = [
        {"name": entry, **given, **own} if entry == "pgd" and given else _spec(entry, own)
        for entry in name or ["fgsm", "pgd"]
    ]
    scene = _is_scene(name or [])
    if scene and (norm is not None or eps is not None):
        raise InputError(
            "scenes have limits of their own in place of --norm and --eps: give those with --option, "
            "such as --option max_rotation=10 (universal: --option eps=8/255)"
        )
    if save is not None and not scene:
        raise InputError("--save keeps what a patch has learned: name one, such as --attack patch")
    limits: Table = (
        {"save": None if save is None else str(save)}
        if scene
        else {"norm": norm or "linf", "eps": eps or "8/255"}
    )
    check: Table = {
        "id": "attack",
        "kind": "scene" if scene else "robustness",
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
        **limits,
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


def _options(pairs: list[str], name: list[str] | None) -> Table:
    """The options of the one attack named: numbers where they look like numbers, else text."""
    if pairs and len(name or []) != 1:
        raise InputError(
            "--option belongs to one attack: name one with --attack, or write a policy"
        )
    options: Table = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (equals and key.isidentifier() and value):
            raise InputError(
                f"--option is written KEY=VALUE, such as max_rotation=10, got {pair!r}"
            )
        truth: dict[str, object] = {"true": True, "false": False}
        options[key] = truth.get(
            value, (numbers(value) or [value])[0] if "," not in value else value
        )
    return options


def _spec(name: str, options: Table) -> object:
    return {"name": name, **options} if options else name


def _is_scene(names: list[str]) -> bool:
    """Whether the attacks named are scenes, which is another kind of check."""
    if not names:
        return False
    from assaymark.robustness.scenes import SCENES

    scenes = [name for name in names if name in SCENES]
    if scenes and len(scenes) < len(names):
        other = next(name for name in names if name not in SCENES)
        raise InputError(
            f"{scenes[0]} has limits of its own and {other} has a ball: run them one after the other, "
            "or write a policy with two checks"
        )
    return bool(scenes)


def _list() -> None:
    from assaymark.robustness.attacks import ATTACKS
    from assaymark.robustness.catalogue import cleverhans_names, foolbox_names
    from assaymark.robustness.scenes import SCENES

    for name, card in ATTACKS.items():
        say(f"{name:<12} {card.knowledge:<10} {' '.join(card.norms):<9} {card.paper}")
    for name, scene in SCENES.items():
        say(f"{name:<16} {scene.paper}; {', '.join(scene.limits) or 'no limits'}")
    for name in cleverhans_names():
        say(f"cleverhans:{name}")
    for name in foolbox_names():
        say(f"foolbox:{name}")
