"""`assaymark defend`: train a model anew or put a defense before it, and measure what it brought."""

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
from assaymark.cli.terminal import Progress, say, tell
from assaymark.reports.errors import InputError

_MODELS = (".safetensors", ".pt2", ".defended.json")
_DEMO_ARCH = "assaymark.robustness.demo:network"


def defend(
    model: ModelName = None,
    data: DataName = None,
    method: Annotated[
        str, typer.Option(help="pgd-at, trades, fast-at, free, jpeg, smoothing …; see --list.")
    ] = "fast-at",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="An option of the method; repeatable."),
    ] = None,
    test: Annotated[
        str | None, typer.Option(help="Data to measure on; default: a part of DATA, held out.")
    ] = None,
    held_out: Annotated[
        float,
        typer.Option(help="Share of DATA that is not learned from, to choose and to measure."),
    ] = 0.2,
    name: Annotated[
        list[str] | None,
        typer.Option(
            "--attack",
            "-a",
            help="What measures both models; repeatable. Default: pgd, of a random defense eot-pgd.",
        ),
    ] = None,
    norm: Annotated[str, typer.Option(help="linf or l2.")] = "linf",
    eps: Annotated[
        str, typer.Option(help='Radius with pixels in [0, 1], such as 0.03 or "8/255".')
    ] = "8/255",
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
    seed: SeedOfCommand = 0,
    output: Outputs = None,
    device: Device = "auto",
    workers: Workers = 1,
    exit_zero: ExitZero = False,
    show_list: Annotated[bool, typer.Option("--list", help="List every method and stop.")] = False,
) -> None:
    """Defend an image classifier, write it with -o, and report both models side by side."""
    if show_list:
        return _list()
    if model is None or data is None:
        raise InputError("name a model and data: assaymark defend MODEL DATA -o FILE (see --help)")
    files = [path for path in output or [] if path.name.endswith(_MODELS)]
    reports = [path for path in output or [] if path not in files]
    keys = model_keys(
        model=model, data=data, arch=arch, classes=classes, mean=mean, std=std,
        input_range=input_range, data_range=data_range, image_size=image_size, examples=examples,
        batch_size=batch_size,
    )  # fmt: skip
    check: Table = {
        "id": "defend",
        "kind": "defense",
        **keys,
        "attack": list(name or ["pgd"]),
        "norm": norm,
        "eps": eps,
        "gate": None
        if minimum is None
        else {"metric": "robust_accuracy", "min": minimum, "on": "lower", "severity": "critical"},
    }
    from assaymark.robustness.defend import answers_at_random

    if name is None and answers_at_random(method):
        check["attack"] = ["eot-pgd"]
    needs = _make(check, method, settings or [], files, reports, held_out, seed, device)
    if test is not None:
        check["data"] = test
    elif needs:
        check["held_out"] = held_out
    check["defended"] = str(files[0])
    if model.startswith("demo:") and files[0].suffix == ".safetensors":
        check["arch"] = _DEMO_ARCH
    for path in files:
        say(f"wrote {path}")
    from assaymark.cli.finish import run_and_exit

    run_and_exit(
        policy_text(check, seed),
        name="command line",
        folder=Path(),
        command=command_line(),
        outputs=reports,
        device=device,
        workers=workers,
        exit_zero=exit_zero,
        needs_gate=False,
        debug=debug(),
    )


def _make(
    check: Table,
    method: str,
    texts: list[str],
    files: list[Path],
    reports: list[Path],
    held_out: float,
    seed: int,
    device: str,
) -> bool:
    """Write the defended model; whether it learned from the data."""
    from assaymark.cli.device import choose
    from assaymark.cli.opening import Context, model_and_data, preprocessing
    from assaymark.cli.outputs import check_outputs
    from assaymark.reports.files import check_writable
    from assaymark.reports.policy_file import parse
    from assaymark.reports.policy_robustness import DefenseCheck
    from assaymark.robustness import defend
    from assaymark.robustness.recipes import Recipe
    from assaymark.robustness.training import Epoch
    from assaymark.robustness.training_losses import METHODS

    options = defend.settings(method, texts)
    if not files:
        raise InputError(
            f"name the file that the defended model is written to: -o x{_file(method)}"
        )
    for path in files:
        defend.check_file(method, path)
        check_writable(path)
    check_outputs(reports)
    # what the report is made with is checked before hours of training
    planned = policy_text({**check, "defended": check["model"]}, seed)
    policy = parse(planned, "command line", folder=Path(), needs_gate=False)
    (wanted,) = policy.check
    assert isinstance(wanted, DefenseCheck)
    progress = Progress(1)
    context = Context(folder=Path(), seed=seed, device=choose(device), progress=progress)
    with defend.seeded(seed):  # a factory may draw its first weights
        loaded, images = model_and_data(wanted, context)
    if method in METHODS:
        recipe = Recipe(method=method, eps=wanted.eps, norm=wanted.norm, seed=seed, **options)

        def each(epoch: Epoch) -> None:
            tell(
                f"epoch {epoch.number} of {recipe.rounds}: loss {epoch.loss:.3f}, clean "
                f"{epoch.clean:.3f}, robust {epoch.robust:.3f}"
            )

        progress.start(method)
        found = defend.train_and_write(
            loaded, images, recipe, files, held_out=held_out, device=context.device,
            progress=progress, each=each,
        )  # fmt: skip
        ended = ", ended early: it overfitted to its own attack" if found.collapsed else ""
        again = f", {found.resumed} of them kept from the interrupted training"
        progress.finish(
            f"{len(found.history)} epochs{again if found.resumed else ''}, best is {found.best}{ended}"
        )
    else:
        spec = wanted.model
        file = None if ":" in spec else Path(spec)
        defend.wrap_and_write(
            loaded, file, images, method, options, preprocessing(wanted), files,
            held_out=held_out, seed=seed, device=context.device,
        )  # fmt: skip
    return defend.learns(method)


def _file(method: str) -> str:
    from assaymark.robustness.training_losses import METHODS

    return ".safetensors" if method in METHODS else ".defended.json"


def _list() -> None:
    from assaymark.robustness.defend import options_of, papers

    for name, paper in papers().items():
        say(f"{name:<16} {paper}; {' '.join(options_of(name))}")
