"""`assaymark bias`: group metrics from the command line."""

from pathlib import Path
from typing import Annotated

import typer

from assaymark.cli.exit import EPILOG
from assaymark.cli.options import ExitZero, Outputs, command_line, debug
from assaymark.cli.policy_text import policy_text

app = typer.Typer(help="Whom a model treats worse.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Whom a model treats worse."""


@app.command("table", epilog=EPILOG)
def table(
    file: Annotated[
        str, typer.Argument(help=".csv, .tsv or .parquet with one row a person, or demo:diabetes")
    ],
    label: Annotated[str, typer.Option(help="Column with the true outcome.")],
    sensitive: Annotated[str, typer.Option(help="Sensitive columns, with commas.")],
    prediction: Annotated[str | None, typer.Option(help="Column with the decision.")] = None,
    score: Annotated[str | None, typer.Option(help="Column with the model's score.")] = None,
    threshold: Annotated[
        float, typer.Option(help="A score from here on is a positive decision.")
    ] = 0.5,
    positive: Annotated[str, typer.Option(help="The value that means positive.")] = "1",
    intersections: Annotated[
        bool, typer.Option("--intersections", help="Also groups of all sensitive columns together.")
    ] = False,
    min_group_size: Annotated[int, typer.Option(help="Smaller groups are not compared.")] = 1,
    max_demographic_parity: Annotated[
        float | None, typer.Option(help="Exit 1 when the difference is larger, 3 when undecided.")
    ] = None,
    max_equalized_odds: Annotated[
        float | None, typer.Option(help="Exit 1 when the difference is larger, 3 when undecided.")
    ] = None,
    on: Annotated[
        str, typer.Option(help="Hold the limits on the estimate or the upper bound.")
    ] = "upper",
    output: Outputs = None,
    exit_zero: ExitZero = False,
) -> None:
    """Rates by group of a table of predictions, and the gaps between the groups."""
    from assaymark.cli.finish import run_and_exit

    limits = {
        "demographic_parity_difference": max_demographic_parity,
        "equalized_odds_difference": max_equalized_odds,
    }
    gates = [
        {"metric": key, "max": value, "on": on}
        for key, value in limits.items()
        if value is not None
    ]
    run_and_exit(
        policy_text(
            {
                "id": "bias",
                "kind": "bias.table",
                "data": file,
                "label": label,
                "prediction": prediction,
                "score": score,
                "threshold": threshold,
                "sensitive": sensitive.split(","),
                "intersections": intersections or None,
                "positive": positive,
                "min_group_size": min_group_size,
                "gate": gates or None,
            }
        ),
        name="command line",
        folder=Path(),
        command=command_line(),
        outputs=output or [],
        exit_zero=exit_zero,
        needs_gate=False,
        debug=debug(),
    )
