"""Tables and plots of the scores of the groups of a sensitive attribute."""

import math
from collections.abc import Sequence

import numpy

from assaymark.bias.calibration import Curves
from assaymark.bias.codes import Column
from assaymark.bias.gaps import wilson_limits
from assaymark.bias.rows import Predictions
from assaymark.bias.score_measures import SPOKEN, GroupNumbers
from assaymark.bias.scores import QUANTILES, Distribution, distribution
from assaymark.reports.model import Cell, Evidence, Plot, Point, Series, Table

_LISTED, _DRAWN = 60, 12
"""Groups in a table and in a plot; of more, those with the most rows."""
_Z = 1.959963984540054


def score_evidence(
    data: Predictions, column: Column, numbers: GroupNumbers
) -> tuple[Evidence, ...]:
    """The numbers of every group; with scores also how these are spread, and the reliability curves."""
    shown = _largest(numbers, _LISTED)
    found: list[Evidence] = [_table(data, column, numbers, shown)]
    if numbers.tied is not None:
        drawn = _largest(numbers, _DRAWN)
        spread = distribution(numbers.tied)
        found.append(_spread_table(column, numbers, spread, shown))
        if numbers.curves is not None:
            found.append(_reliability(column, numbers, numbers.curves, drawn))
        found.append(_spread_plot(column, numbers, spread, drawn))
    return tuple(found)


def _largest(numbers: GroupNumbers, most: int) -> list[int]:
    """The places of the groups with the most rows, in their order."""
    return sorted(numpy.argsort(-numbers.rows, kind="stable")[:most].tolist())


def _left_out(numbers: GroupNumbers, shown: Sequence[int]) -> str:
    count = len(numbers.rows) - len(shown)
    return f" The {count} smallest groups are not shown." if count else ""


def _table(data: Predictions, column: Column, numbers: GroupNumbers, shown: Sequence[int]) -> Table:
    names = [name for name in SPOKEN if name in numbers.measures]
    columns = ["group", "n", "positives", *(SPOKEN[name] for name in names)]
    rows: list[tuple[Cell, ...]] = []
    for place in shown:
        row: list[Cell] = [column.names[place], int(numbers.rows[place])]
        row.append(int(numbers.positives[place]))
        row += [numbers.measures[name].value(place) for name in names]
        row += [_cell(float(numbers.plain[place]))] if numbers.plain is not None else []
        rows.append(tuple(row))
    calibrated = numbers.plain is not None
    note = f"{data.note[:1].upper()}{data.note[1:]}. What a group has no cases for is not measured."
    if calibrated:
        columns.append("calibration error, plain")
        note += (
            " The calibration error is that of ten bins of equally many rows, or fewer with ten rows each; "
            "chance makes the plain one larger, the more so the smaller a group."
        )
    missing = [
        f"{SPOKEN[name]} ({why})" for name, why in numbers.absent.items() if data.score is not None
    ]
    if missing:
        note += f" Not measured: {', '.join(missing)}."
    return Table(
        title=f"Scores and decisions by {column.name}",
        columns=tuple(columns),
        rows=tuple(rows),
        note=note + _left_out(numbers, shown),
    )


def _spread_table(
    column: Column, numbers: GroupNumbers, spread: Distribution, shown: Sequence[int]
) -> Table:
    heads = [f"{share:.0%} below or at" for share in QUANTILES]
    return Table(
        title=f"Spread of the scores by {column.name}",
        columns=("group", "n", "mean score", "standard deviation", *heads),
        rows=tuple(
            (
                column.names[place],
                int(numbers.rows[place]),
                _cell(float(spread.mean[place])),
                _cell(float(spread.deviation[place])),
                *(_cell(float(score)) for score in spread.quantiles[place]),
            )
            for place in shown
        ),
        note=_left_out(numbers, shown).strip(),
    )


def _reliability(
    column: Column, numbers: GroupNumbers, curves: Curves, drawn: Sequence[int]
) -> Plot:
    """The observed rate of positives in every bin of scores, with its score interval."""
    with numpy.errstate(invalid="ignore", divide="ignore"):
        low, _, high = wilson_limits(curves.rate * curves.cases, curves.cases, _Z)
    series = []
    for place in drawn:
        points = tuple(
            Point(
                x=float(curves.score[place, bar]),
                y=float(curves.rate[place, bar]),
                low=float(low[place, bar]),
                high=float(high[place, bar]),
                n=int(curves.rows[place, bar]),
            )
            for bar in numpy.flatnonzero(curves.cases[place] > 0)
        )
        series.append(Series(label=column.names[place], points=points))
    return Plot(
        title=f"Reliability by {column.name}",
        x_label="mean score",
        y_label="share of positives",
        series=tuple(series),
        diagonal=True,
        note="Bins of equally many rows of a group. Where a score is calibrated the points lie on the "
        f"diagonal; below it the score promises too much.{_left_out(numbers, drawn)}",
    )


def _spread_plot(
    column: Column, numbers: GroupNumbers, spread: Distribution, drawn: Sequence[int]
) -> Plot:
    middles = (spread.edges[:-1] + spread.edges[1:]) / 2
    series = [
        Series(
            label=column.names[place],
            points=tuple(
                Point(x=float(x), y=float(y))
                for x, y in zip(middles, spread.share[place], strict=True)
            ),
        )
        for place in drawn
        if numpy.isfinite(spread.share[place]).all()
    ]
    return Plot(
        title=f"Scores by {column.name}",
        x_label="score",
        y_label="share of the group",
        series=tuple(series),
        note=f"Shares of each group's rows in {len(middles)} bars of one width."
        f"{_left_out(numbers, drawn)}",
    )


def _cell(number: float) -> float | None:
    return number if math.isfinite(number) else None
