"""The rows of an accepted run, brought into the order of the rows that are audited now.

A comparison row by row is only as good as the match: nothing is dropped, guessed or matched twice.
"""

from typing import Any

import numpy
import pyarrow
import pyarrow.compute

from assaymark.bias.codes import Column
from assaymark.bias.rows import Flags, Predictions
from assaymark.reports.errors import InputError

Order = numpy.ndarray[tuple[int], numpy.dtype[numpy.int64]]


def align(now: Any, accepted: Any, *, column: str = "id") -> Order:
    """Where each row of now stands among the accepted ones: `accepted[order]` is in the order of now.

    now, accepted: the ids of the rows, as arrow arrays or anything arrow makes an array of; compared as
    the text they are, so 1 and "1" are one id and "01" is another. Raises InputError for ids that are
    missing, not unique, or in one of the runs only.
    """
    ours, theirs = _ids(now), _ids(accepted)
    for ids, run in ((ours, "this run"), (theirs, "the accepted run")):
        _unique(ids, column, run)
    places = pyarrow.compute.index_in(ours, value_set=theirs)
    _all_found(ours, places, column, "this run", "the accepted run")
    _all_found(
        theirs,
        pyarrow.compute.index_in(theirs, value_set=ours),
        column,
        "the accepted run",
        "this run",
    )
    order: Order = numpy.array(places.to_numpy(zero_copy_only=False), dtype=numpy.int64)
    return order


def accepted_decisions(
    now: Predictions, accepted: Predictions, *, order: Order | None = None
) -> Flags:
    """The decisions of the accepted run on the rows of now.

    order: from `align`; None where both tables have the same rows in the same order. Either way labels
    and the groups of now must be those of the accepted run, row by row: a case whose outcome or group
    differs is not the same case. Raises InputError with the first row that differs, counted from 1.
    """
    if accepted.n != now.n:
        raise InputError(
            f"{now.name} has {now.n} rows and {accepted.name}, the accepted run, {accepted.n}: expected "
            "the same rows in both; name the column of ids, if they are only in another order"
        )
    places = numpy.arange(now.n) if order is None else order
    advice = (
        "expected the same rows in the same order; name the column of ids to bring them in order"
        if order is None
        else "expected the same outcome and groups for the same id; compare runs on the same data"
    )
    _same(now.label, accepted.label[places], "label", accepted.name, advice)
    for name, column in now.groups.items():
        if name not in accepted.groups:
            raise InputError(
                f'{accepted.name}, the accepted run, has no groups by "{name}": expected the sensitive '
                "columns of this run"
            )
        codes = _codes_in(accepted.groups[name], column)[places]
        _same(column.codes, codes, name, accepted.name, advice)
    return accepted.prediction[places]


def _ids(values: Any) -> Any:
    array = (
        values
        if isinstance(values, (pyarrow.Array, pyarrow.ChunkedArray))
        else pyarrow.array(values)
    )
    if isinstance(array, pyarrow.Array):
        array = pyarrow.chunked_array([array])
    if pyarrow.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    return array.cast(pyarrow.large_string()).combine_chunks()


def _unique(ids: Any, column: str, run: str) -> None:
    missing = pyarrow.compute.or_kleene(
        pyarrow.compute.is_null(ids),
        pyarrow.compute.equal(pyarrow.compute.utf8_trim_whitespace(ids), ""),
    )
    missing = pyarrow.compute.fill_null(missing, True)
    found = pyarrow.compute.sum(missing).as_py() or 0
    if found:
        first = pyarrow.compute.index(missing, True).as_py()
        raise InputError(
            f'id column "{column}" of {run} has {found} missing values, the first in data row {first + 1}: '
            "expected an id in each row"
        )
    counts = pyarrow.compute.value_counts(ids)
    again = pyarrow.compute.greater(counts.field("counts"), 1)
    repeated = pyarrow.compute.sum(again).as_py() or 0
    if repeated:
        example = counts.field("values").filter(again)[0].as_py()
        raise InputError(
            f'id column "{column}" of {run} has {repeated} ids in more than one row, such as '
            f"{example[:80]!r}: expected each id once"
        )


def _all_found(ids: Any, places: Any, column: str, run: str, other: str) -> None:
    if not places.null_count:
        return
    lost = ids.filter(pyarrow.compute.is_null(places))
    raise InputError(
        f'{len(lost)} ids in column "{column}" of {run} are not in {other}, the first is '
        f"{lost[0].as_py()[:80]!r}: expected the same rows in both runs"
    )


def _codes_in(column: Column, reference: Column) -> numpy.ndarray:
    """The codes of a column in the names of another, −1 for a name that is not among them."""
    place_of = {name: place for place, name in enumerate(reference.names)}
    places = numpy.array([place_of.get(name, -1) for name in column.names], dtype=numpy.int64)
    return places[column.codes]


def _same(
    ours: numpy.ndarray, theirs: numpy.ndarray, what: str, accepted: str, advice: str
) -> None:
    different = numpy.flatnonzero(ours != theirs)
    if len(different):
        raise InputError(
            f'rows differ at data row {different[0] + 1}: {len(different)} rows have another "{what}" in '
            f"{accepted}, the accepted run; {advice}"
        )
