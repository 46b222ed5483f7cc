"""`assaymark bias`: group metrics from the command line."""

from pathlib import Path
from typing import Annotated

import typer

from assaymark.cli.bias_images import images
from assaymark.cli.bias_lm import language_model
from assaymark.cli.bias_options import (
    Bands,
    Intersections,
    Maximum,
    MinGroupSize,
    Minimum,
    Missing,
    On,
    Positive,
    RatesFile,
    ReferenceGroup,
    Sensitive,
    SliceColumns,
    SliceLoss,
    Threshold,
    Weight,
    bands_of,
    gates_of,
    listed,
    pairs,
)
from assaymark.cli.exit import EPILOG
from assaymark.cli.options import ExitZero, Outputs, SeedOfCommand, command_line, debug
from assaymark.cli.policy_text import Table, policy_text
from assaymark.reports.errors import InputError

app = typer.Typer(help="Whom a model treats worse.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Whom a model treats worse."""


File = Annotated[
    str,
    typer.Argument(help=".csv, .tsv, .parquet or .arrow with one row a person, or demo:diabetes"),
]
Label = Annotated[str, typer.Option(help="Column with the true outcome, or the relevance.")]


@app.command("table", epilog=EPILOG)
def table(
    file: File,
    label: Label,
    sensitive: Sensitive,
    prediction: Annotated[str | None, typer.Option(help="Column with the decision.")] = None,
    score: Annotated[str | None, typer.Option(help="Column with the model's score.")] = None,
    threshold: Threshold = None,
    positive: Positive = "1",
    task: Annotated[
        str, typer.Option(help="binary, multiclass, regression or ranking.")
    ] = "binary",
    query: Annotated[str | None, typer.Option(help="Column: what an item is ranked for.")] = None,
    cutoff: Annotated[int | None, typer.Option(help="Ranking: only so many places count.")] = None,
    weight: Weight = None,
    bands: Bands = None,
    intersections: Intersections = False,
    reference_group: ReferenceGroup = None,
    missing: Missing = "group",
    min_group_size: MinGroupSize = 1,
    model: Annotated[
        str | None,
        typer.Option(
            help="Ask a model instead of reading a column: package.module:predict, x.onnx, x.skops, "
            "x.mitigated.json."
        ),
    ] = None,
    features: Annotated[str | None, typer.Option(help="Columns the model is given.")] = None,
    counterfactual: Annotated[
        str | None,
        typer.Option(help="Sensitive columns to change before the model is asked again."),
    ] = None,
    neighbors: Annotated[
        int | None, typer.Option(help="Compare each decision with so many nearest by features.")
    ] = None,
    slices: SliceColumns = None,
    slice_loss: SliceLoss = "error",
    ll144: Annotated[
        str | None,
        typer.Option(metavar="SEX,RACE", help="Impact ratios of NYC Local Law 144 by two columns."),
    ] = None,
    accepted_prediction: Annotated[
        str | None, typer.Option(help="Column with the accepted run's decisions: has a gap grown?")
    ] = None,
    accepted: Annotated[
        str | None, typer.Option(help="Table of the accepted run; default: this one.")
    ] = None,
    row_id: Annotated[
        str | None, typer.Option("--id", help="Column that says which rows are the same.")
    ] = None,
    maximum: Maximum = None,
    minimum: Minimum = None,
    max_demographic_parity: Annotated[
        float | None, typer.Option(help="Exit 1 when the difference is larger, 3 when undecided.")
    ] = None,
    max_equalized_odds: Annotated[
        float | None, typer.Option(help="Exit 1 when the difference is larger, 3 when undecided.")
    ] = None,
    on: On = None,
    rates: RatesFile = None,
    seed: SeedOfCommand = 0,
    output: Outputs = None,
    exit_zero: ExitZero = False,
) -> None:
    """Rates by group of a table of predictions, and the gaps between the groups."""
    limits = [*(maximum or [])]
    for metric, value in (
        ("demographic_parity_difference", max_demographic_parity),
        ("equalized_odds_difference", max_equalized_odds),
    ):
        limits += [] if value is None else [f"{metric}={value}"]
    law = listed(ll144)
    if law is not None and len(law) != 2:
        raise InputError(f"--ll144 {ll144}: expected two columns, SEX,RACE")
    if slice_loss != "error" and slices is None:
        raise InputError(f"--slice-loss {slice_loss} belongs to --slices, which names no column")
    if accepted_prediction is None and (accepted or row_id):
        given = "--accepted" if accepted else "--id"
        raise InputError(f"{given} belongs to --accepted-prediction, which names no column")
    check: Table = {
        "id": "bias",
        "kind": "bias.table",
        "data": file,
        "task": task,
        "label": label,
        "prediction": prediction,
        "score": score,
        "threshold": threshold,
        "sensitive": listed(",".join(sensitive)),
        "positive": positive,
        "query": query,
        "cutoff": cutoff,
        "weight": weight,
        "bands": bands_of(bands),
        "intersections": intersections or None,
        "reference_groups": pairs(reference_group, "--reference-group"),
        "missing": missing,
        "min_group_size": min_group_size,
        "model": model,
        "features": listed(features),
        "counterfactual": listed(counterfactual),
        "neighbors": neighbors,
        "slices": {"columns": listed(slices), "loss": slice_loss} if slices else None,
        "impact_ratios": {"sex": law[0], "race": law[1]} if law else None,
        "accepted": {"prediction": accepted_prediction, "data": accepted, "id": row_id}
        if accepted_prediction
        else None,
        "rates": rates,
        "gate": gates_of(limits, minimum or [], on),
    }
    _run(check, seed, output, exit_zero)


@app.command("mitigate", epilog=EPILOG)
def mitigate(
    file: File,
    label: Label,
    sensitive: Sensitive,
    prediction: Annotated[str | None, typer.Option(help="Column with the decision.")] = None,
    score: Annotated[str | None, typer.Option(help="Column with the model's score.")] = None,
    threshold: Threshold = None,
    positive: Positive = "1",
    features: Annotated[str | None, typer.Option(help="Columns a model may be fitted to.")] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            help="threshold-optimizer, group-thresholds, reweighing, resampling, exponentiated-gradient or "
            "adversarial, or one of their settings; repeatable; default: all.",
        ),
    ] = None,
    constraint: Annotated[
        str, typer.Option(help="demographic_parity, equalized_odds or equal_opportunity.")
    ] = "demographic_parity",
    weight: Weight = None,
    bands: Bands = None,
    min_group_size: MinGroupSize = 1,
    keys: Annotated[
        str | None, typer.Option(help="Columns that tell rows apart where a rule draws lots.")
    ] = None,
    apply: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write what the one --method made, as x.mitigated.json, and audit it.",
        ),
    ] = None,
    maximum: Maximum = None,
    minimum: Minimum = None,
    on: On = None,
    seed: SeedOfCommand = 0,
    output: Outputs = None,
    exit_zero: ExitZero = False,
) -> None:
    """What mitigations would do to accuracy and to the gap, on rows they were not fitted to."""
    check: Table = {
        "id": "mitigation",
        "kind": "bias.mitigation",
        "data": file,
        "label": label,
        "prediction": prediction,
        "score": score,
        "threshold": threshold,
        "sensitive": listed(",".join(sensitive)),
        "positive": positive,
        "features": listed(features),
        "methods": method,
        "constraint": constraint,
        "keys": listed(keys),
        "weight": weight,
        "bands": bands_of(bands),
        "min_group_size": min_group_size,
        "apply": None if apply is None else str(apply),
        "gate": gates_of(maximum or [], minimum or [], on),
    }
    _run(check, seed, output, exit_zero)


app.command("images", epilog=EPILOG)(images)
app.command("lm", epilog=EPILOG)(language_model)


def _run(check: Table, seed: int, output: list[Path] | None, exit_zero: bool) -> None:
    from assaymark.cli.finish import run_and_exit

    run_and_exit(
        policy_text(check, seed),
        name="command line",
        folder=Path(),
        command=command_line(),
        outputs=output or [],
        exit_zero=exit_zero,
        needs_gate=False,
        debug=debug(),
    )
