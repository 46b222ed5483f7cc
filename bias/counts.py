"""Counts of labels and decisions by group, from which every rate of a group is read.

One pass over the rows: each row is a number (group, label, decision), and numbers are counted.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy

from assaymark.bias.codes import Codes, Column
from assaymark.bias.rows import Flags

Cells = numpy.ndarray[tuple[int, int, int], numpy.dtype[numpy.int64]]
"""Rows by group, label and decision: cells[g, y, p]."""
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


def count(group: Column, label: Flags, decision: Flags) -> Cells:
    """How many rows of each group have each label and decision."""
    codes: Codes = group.codes * numpy.int32(4)
    codes += label.view(numpy.uint8) * numpy.uint8(2) + decision.view(numpy.uint8)
    size = len(group.names)
    return numpy.bincount(codes, minlength=4 * size).reshape(size, 2, 2)


def hits_and_n(cells: Cells, rate: str) -> tuple[Codes, Codes]:
    """Of a rate, the hits and the cases of each group; any number of leading axes."""
    share = RATES[rate]
    hits = sum(cells[..., y, p] for y, p in share.hits)
    cases = sum(cells[..., y, p] for y, p in share.of)
    return numpy.asarray(hits), numpy.asarray(cases)
