"""Options that the bias commands share, and how they are read."""

from typing import Annotated

import typer

from assaymark.cli.policy_text import Table, numbers
from assaymark.reports.errors import InputError

Sensitive = Annotated[
    list[str], typer.Option(help="Sensitive columns, with commas; may be given again.")
]
Threshold = Annotated[
    float | None,
    typer.Option(help="A score from here on is a positive decision.", show_default="0.5"),
]
Positive = Annotated[str, typer.Option(help="The value that means positive.")]
Weight = Annotated[str | None, typer.Option(help="Column: how many people a row stands for.")]
Bands = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN=EDGES",
        help="Cut numbers into bands: age=30,45,60, or age=q4 for quarters; repeatable.",
    ),
]
Intersections = Annotated[
    bool, typer.Option("--intersections", help="Also groups of all sensitive columns together.")
]
ReferenceGroup = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN=GROUP",
        help="Compare with this group instead of the one that fares best; repeatable.",
    ),
]
Missing = Annotated[
    str,
    typer.Option(
        help="People without a sensitive value: a group of their own, or apart (not compared, and "
        "limits hold wherever they belong)."
    ),
]
MinGroupSize = Annotated[int, typer.Option(help="Smaller groups are not compared.")]
SliceColumns = Annotated[
    str | None, typer.Option(help="Columns in which the worst-served slices are looked for.")
]
SliceLoss = Annotated[
    str, typer.Option(help="What counts against a slice: error, false_negative or false_positive.")
]
Maximum = Annotated[
    list[str] | None,
    typer.Option(
        "--max",
        metavar="METRIC[@OF]=VALUE",
        help="Exit 1 when it is more, of all columns or categories or one; repeatable.",
    ),
]
Minimum = Annotated[
    list[str] | None,
    typer.Option(
        "--min",
        metavar="METRIC[@OF]=VALUE",
        help="Exit 1 when it is less, of all columns or categories or one; repeatable.",
    ),
]
On = Annotated[
    str | None,
    typer.Option(
        help="Hold limits on the estimate, or on the bound that is worse for the model (upper of a "
        "maximum, lower of a minimum); default: the bound, where there is an interval."
    ),
]
RatesFile = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Write the rates of all groups as .parquet, .arrow or .csv."),
]


def listed(text: str | None) -> list[str] | None:
    """Names with commas."""
    return None if text is None else [part.strip() for part in text.split(",")]


def pairs(given: list[str] | None, option: str) -> Table | None:
    """COLUMN=VALUE, as a table. Raises InputError for another form."""
    if not given:
        return None
    table: Table = {}
    for pair in given:
        name, value = _pair(pair, option)
        if name in table:
            raise InputError(f"{option} names {name} twice: give it once")
        table[name] = value
    return table


def _pair(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip() or not value:
        raise InputError(f"{option} {text}: expected NAME=VALUE")
    return name.strip(), value


def _gate(text: str, option: str) -> tuple[str, str]:
    """METRIC[@OF] and the limit, which has no "=" in it: a category such as gender = female may."""
    name, _, value = text.rpartition("=")
    if not name.strip() or not value:
        raise InputError(f"{option} {text}: expected NAME=VALUE")
    return name.strip(), value


def bands_of(given: list[str] | None) -> Table | None:
    """The bands of each column: edges, or how many.

    >>> bands_of(["age=30,45", "income=q4"])
    {'age': [30, 45], 'income': 4}
    """
    found = pairs(given, "--bands")
    if found is None:
        return None
    return {
        column: int(str(value)[1:])
        if str(value)[:1] == "q" and str(value)[1:].isdecimal()
        else numbers(str(value))
        for column, value in found.items()
    }


def gates_of(maximum: list[str], minimum: list[str], on: str | None) -> list[Table] | None:
    """Gates from METRIC=VALUE or METRIC@OF=VALUE; held on the worse bound where there is an interval."""
    from assaymark.reports.policy import METRICS

    if on not in (None, "estimate", "upper", "lower", "bound"):
        raise InputError(
            f"--on {on}: expected estimate, or the bound: upper of --max, lower of --min"
        )
    gates: list[Table] = []
    for key, side, given in (("max", "upper", maximum), ("min", "lower", minimum)):
        for metric, text in (_gate(each, f"--{key}") for each in given):
            found = numbers(text) or []
            value = found[0] if len(found) == 1 else text  # the policy says what it expects
            metric, at, attribute = metric.partition("@")
            known = [table[metric] for table in METRICS.values() if metric in table]
            bound = side if not known or known[0].interval else "estimate"
            gate: Table = {"metric": metric, key: value}
            gate["on"] = "estimate" if on == "estimate" else bound
            gates.append({**gate, "attribute": attribute} if at else gate)
    return gates or None
