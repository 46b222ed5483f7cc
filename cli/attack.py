"""`assaymark attack`: one robustness check from the command line."""

from pathlib import Path
from typing import Annotated

import typer

from assaymark.cli.options import (
    Access,
    Arch,
    BatchSize,
    Classes,
    DataName,
    DataRange,
    Device,
    EndpointOf,
    Examples,
    ExitZero,
    ImageColumn,
    ImageSize,
    InputRange,
    LabelColumn,
    LabelsFile,
    MaxQueries,
    Mean,
    ModelName,
    NumClasses,
    Outputs,
    Queries,
    SeedOfCommand,
    Split,
    Std,
    Workers,
    command_line,
    debug,
)
from assaymark.cli.policy_text import Table, model_keys, numbers, policy_text
from assaymark.cli.terminal import say
from assaymark.reports.errors import InputError

CARRY_WELL = ("apgd-ce", "di-fgsm")
"""What is made on surrogates when no attack is named."""


def attack(
    model: ModelName = None,
    data: DataName = None,
    name: Annotated[
        list[str] | None,
        typer.Option(
            "--attack",
            "-a",
            help="A name of --list, such as pgd, apgd-t, foolbox:CLASS; repeatable.",
        ),
    ] = None,
    suite: Annotated[
        str | None, typer.Option(help="quick, standard, autoattack or exhaustive.")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(help="KEY=VALUE for the one attack named, such as steps=200; repeatable."),
    ] = None,
    norm: Annotated[str | None, typer.Option(help="linf (the default), l2, l1 or l0.")] = None,
    eps: Annotated[
        str | None,
        typer.Option(help='Radius with pixels in [0, 1], such as 0.03 or "8/255", the default.'),
    ] = None,
    surrogate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SPEC",
            help="A network on which attacks by gradients are made, to be carried over to MODEL; "
            "repeatable, several are attacked as one.",
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Targeted: next, least-likely or a class name.")
    ] = None,
    arch: Arch = None,
    access: Access = None,
    num_classes: NumClasses = None,
    queries: Queries = None,
    max_queries: MaxQueries = None,
    endpoint: EndpointOf = None,
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
        typer.Option("--min", help="Exit 1 when robust accuracy is below, 3 when undecided."),
    ] = None,
    fixed: Annotated[
        bool,
        typer.Option(
            "--fixed-n", help="With --min, attack all images even when the verdict is decided."
        ),
    ] = False,
    precision: Annotated[
        str, typer.Option(help="float32, or bfloat16 for a faster search.")
    ] = "float32",
    save: Annotated[
        str | None,
        typer.Option(help="A folder for adversarial examples (.npz and PNG) or patches."),
    ] = None,
    on: Annotated[
        str, typer.Option(help="Hold --min on the estimate or the lower bound.")
    ] = "lower",
    seed: SeedOfCommand = 0,
    output: Outputs = None,
    device: Device = "auto",
    workers: Workers = 1,
    exit_zero: ExitZero = False,
    show_list: Annotated[bool, typer.Option("--list", help="List every attack and stop.")] = False,
) -> None:
    """Attack an image classifier and report what still stands."""
    if show_list:
        return _list()
    if model is None or data is None:
        raise InputError("name a model and data: assaymark attack MODEL DATA (see --help)")
    scene = _is_scene(name or [])
    if scene and surrogate:
        raise InputError("--surrogate is for attacks in a ball: scenes ask the model itself")
    if scene and (norm is not None or eps is not None):
        raise InputError(
            "scenes have limits of their own in place of --norm and --eps: give those with --option, "
            "such as --option max_rotation=10 (universal: --option eps=8/255)"
        )
    limits: Table = {} if scene else {"norm": norm or "linf", "eps": eps or "8/255"}
    if not scene:
        stops = minimum is not None and on == "lower" and not fixed
        limits |= {"precision": precision, "sequential": True if stops else None}
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
            access=access,
            num_classes=num_classes,
            queries=queries,
            max_queries=max_queries,
            endpoint=endpoint,
            labels=labels,
            image_column=image_column,
            label_column=label_column,
            split=split,
        ),
        "attack": _attacks(name or _usual(model, access, suite, surrogate), suite, option),
        "surrogates": [*surrogate] if surrogate else None,
        "target": target,
        "save": save,
        **limits,
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
        workers=workers,
        exit_zero=exit_zero,
        needs_gate=False,
        debug=debug(),
    )


def _usual(
    model: str, access: str | None, suite: str | None, surrogates: list[str] | None
) -> list[str] | None:
    """The attacks on a black box when none is named: what can be seen of it decides."""
    if surrogates and not suite:
        return [*CARRY_WELL]
    address = model.startswith(("http://", "https://"))
    seen = access or ("scores" if address else "white-box")
    usual = {"scores": ["square"], "labels": ["foolbox:HopSkipJumpAttack"]}
    return None if suite else usual.get(seen)


def _attacks(names: list[str] | None, suite: str | None, options: list[str] | None) -> list[object]:
    """What the policy's `attack` says: a suite, or attacks, one of them with its options."""
    if suite and names:
        raise InputError("--suite and --attack exclude each other: a suite names its own attacks")
    if not options:
        return [*names] if names else [suite or "standard"]
    if names is None or len(names) != 1:
        raise InputError(
            f"--option {options[0]} belongs to one attack: name it with --attack, or use a policy file"
        )
    table: dict[str, object] = {"name": names[0]}
    for text in options:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise InputError(f"--option takes KEY=VALUE, got {text!r}")
        truth: dict[str, object] = {"true": True, "false": False}
        plain = value if "," in value else (numbers(value) or [value])[0]
        table[key] = truth.get(value, plain)
    return [table]


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
    from assaymark.robustness.borrowed import borrowed
    from assaymark.robustness.scenes import SCENES
    from assaymark.robustness.suites import SUITES

    say("Suites")
    for name, suite in SUITES.items():
        say(f"  {name:<13} {suite.about}")
    say("Attacks: knowledge, norms, paper")
    for name, card in ATTACKS.items():
        say(f"  {name:<13} {card.knowledge:<10} {' '.join(card.norms):<14} {card.paper}")
    say("Scenes, with limits of their own")
    for name, scene in SCENES.items():
        say(f"  {name:<15} {', '.join(scene.limits) or '-':<56} {scene.paper}")
    say("Attacks of the installed libraries")
    for entry in borrowed():
        norms = " ".join(entry.norms) or "-"
        say(f"  {entry.name:<53} {entry.knowledge:<10} {norms:<14} {entry.paper}")
