"""Counts of labels and decisions by group, from which every rate of a group is read.

One pass over the rows: each row is a number (group, label, decision), and numbers are counted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy

from assaymark.bias.codes import Codes, Column, blocks
from assaymark.bias.rows import Flags, Predictions

Cells = numpy.ndarray[tuple[int, int, int], numpy.dtype[numpy.int64]]
"""Rows by group, label and decision: cells[g, y, p]."""
Sums = numpy.ndarray[Any, numpy.dtype[numpy.float64]]
TN, FP, FN, TP = (0, 0), (0, 1), (1, 0), (1, 1)
"""Places in cells, as (label, decision)."""


@dataclass(frozen=True)
class Share:
    """A rate: the cells that hit, of the cells that count (both as places in `Cells`)."""

    hits: tuple[tuple[int, int], ...]
    of: tuple[tuple[int, int], ...]


_ALL = (TN, FP, FN, TP)
RATES: Mapping[str, Share] = {
    "selection_rate": Share((FP, TP), _ALL),
    "base_rate": Share((FN, TP), _ALL),
    "accuracy": Share((TN, TP), _ALL),
    "true_positive_rate": Share((TP,), (FN, TP)),
    "false_positive_rate": Share((FP,), (TN, FP)),
    "true_negative_rate": Share((TN,), (TN, FP)),
    "false_negative_rate": Share((FN,), (FN, TP)),
    "positive_predictive_value": Share((TP,), (FP, TP)),
    "negative_predictive_value": Share((TN,), (TN, FN)),
    "false_discovery_rate": Share((FP,), (FP, TP)),
    "false_omission_rate": Share((FN,), (TN, FN)),
}
"""Names and definitions as in Verma and Rubin 2018, Fairness definitions explained, table 1."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Tally:
    """Rows by group, label and decision: how many, their weights, and the squares of these."""

    rows: Cells
    sums: Sums
    squares: Sums


def count(group: Column, label: Flags, decision: Flags) -> Cells:
    """How many rows of each group have each label and decision."""
    size = 4 * len(group.names)
    rows = numpy.zeros(size, dtype=numpy.int64)
    for block in blocks(len(label)):
        rows += numpy.bincount(_places(group, label, decision, block), minlength=size)
    return rows.reshape(len(group.names), 2, 2)


def tally(group: Column, data: Predictions) -> Tally:
    """The rows of each group by label and decision, weighted where rows have weights."""
    rows = count(group, data.label, data.prediction)
    sums: Sums = rows.astype(numpy.float64)
    if data.weight is None:
        return Tally(rows=rows, sums=sums, squares=sums)
    weighed, squares = numpy.zeros(rows.size), numpy.zeros(rows.size)
    for block in blocks(data.n):
        places = _places(group, data.label, data.prediction, block)
        weight = data.weight[block]
        weighed += numpy.bincount(places, weights=weight, minlength=rows.size)
        squares += numpy.bincount(places, weights=weight**2, minlength=rows.size)
    return Tally(rows=rows, sums=weighed.reshape(rows.shape), squares=squares.reshape(rows.shape))


def _places(group: Column, label: Flags, decision: Flags, block: slice) -> Codes:
    codes: Codes = group.codes[block] * numpy.int32(4)
    codes += label[block].view(numpy.uint8) * numpy.uint8(2) + decision[block].view(numpy.uint8)
    return codes


def hits_and_n(cells: Any, rate: str | Share) -> tuple[Any, Any]:
    """Of a rate, by name or as a share, the hits and the cases of each group; any number of leading axes."""
    share = RATES[rate] if isinstance(rate, str) else rate
    hits = sum(cells[..., y, p] for y, p in share.hits)
    cases = sum(cells[..., y, p] for y, p in share.of)
    return numpy.asarray(hits), numpy.asarray(cases)


def effective(tally: Tally, rate: str | Share) -> tuple[Sums, Sums, Codes, Sums]:
    """Of a rate and each group: hits and cases as equally weighted rows would count, rows, and weight.

    Cases are (Σ weight)² / Σ weight² (Kish 1965, Survey Sampling, section 8.2), hits that many times the
    weighted rate; without weights both are plain counts. Where nothing weighs both are 0.
    """
    hits, cases = hits_and_n(tally.sums, rate)
    _, squares = hits_and_n(tally.squares, rate)
    _, rows = hits_and_n(tally.rows, rate)
    if tally.sums is tally.squares:
        return hits, cases, rows, cases
    safe = numpy.where(squares > 0, squares, 1)
    return numpy.minimum(hits, cases) * cases / safe, cases * cases / safe, rows, cases
