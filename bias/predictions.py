"""Tables of predictions: CSV, Parquet, or the embedded diabetes study."""

from dataclasses import dataclass
from pathlib import Path

import numpy
import pandas

from assaymark.bias import demo
from assaymark.reports.errors import InputError, nearest

MISSING = "(missing)"
_MANY_GROUPS = 50


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """One row a person: what is true, what was predicted (both as positive or not), and the groups.

    score: the model's number behind the prediction, when the table has one.
    """

    name: str
    label: "numpy.ndarray[tuple[int], numpy.dtype[numpy.bool_]]"
    prediction: "numpy.ndarray[tuple[int], numpy.dtype[numpy.bool_]]"
    score: "numpy.ndarray[tuple[int], numpy.dtype[numpy.float64]] | None"
    groups: dict[str, "pandas.Series[str]"]
    note: str

    @property
    def n(self) -> int:
        return len(self.label)


def load(
    spec: str,
    *,
    label: str,
    prediction: str | None,
    score: str | None,
    sensitive: tuple[str, ...],
    positive: str | int | float | bool = 1,
    threshold: float = 0.5,
    folder: Path = Path(),
) -> Predictions:
    """Read a table and find the columns in it.

    prediction: a column of decisions; without it, `score` ≥ threshold is a positive decision.
    positive: the value that means the favourable or detected class, in label and prediction.
    A missing sensitive value is a group of its own. Raises InputError for missing columns, missing
    labels or predictions, no positives at all, labels of more than two kinds, or too many groups.
    """
    table = _read(spec, folder)
    for column in (label, prediction, score, *sensitive):
        if column is not None and column not in table.columns:
            advice = nearest(column, [str(name) for name in table.columns])
            raise InputError(f'{spec} has no column "{column}"{advice}')
    if not len(table):
        raise InputError(f"{spec} has no rows: expected at least one prediction")
    scores = None if score is None else _numbers(table[score], spec)
    truth = _positive(table[label], positive, spec)
    kinds = table[label].nunique()
    if kinds > 2:
        raise InputError(
            f'column "{label}" of {spec} has {kinds} different labels: expected two; make a column '
            "that says whether the outcome is the positive one"
        )
    if prediction is not None:
        decided = _positive(table[prediction], positive, spec)
        note = f'decisions from column "{prediction}"'
    else:
        assert scores is not None
        decided = scores >= threshold
        note = f'decisions are "{score}" ≥ {threshold:g}'
    if not truth.any() and not decided.any():
        seen = ", ".join(repr(value) for value in sorted(map(str, table[label].unique()))[:5])
        raise InputError(
            f"no row of {spec} has the positive value {positive!r}; seen in {label!r}: {seen}. "
            "Set positive to one of them"
        )
    return Predictions(
        name=spec,
        label=truth,
        prediction=decided,
        score=scores,
        groups={column: _groups(table[column], spec) for column in sensitive},
        note=note,
    )


def _read(spec: str, folder: Path) -> pandas.DataFrame:
    if spec.startswith("demo:"):
        if spec != "demo:diabetes":
            raise InputError(f'no demo table "{spec}"{nearest(spec, ["demo:diabetes"])}')
        return demo.diabetes()
    path = folder / spec
    if not path.is_file():
        raise InputError(f"no table at {spec}: expected a .csv or .parquet file")
    try:
        if path.suffix.lower() == ".parquet":
            return pandas.read_parquet(path)
        if path.suffix.lower() in (".csv", ".tsv", ".txt"):
            separator = "\t" if path.suffix.lower() == ".tsv" else ","
            return pandas.read_csv(path, sep=separator)
    except Exception as error:  # the readers raise what their parsers raise
        reason = str(error).strip().splitlines()
        raise InputError(
            f"cannot read {spec}: {reason[0] if reason else type(error).__name__}; expected a table "
            "with a header line"
        ) from error
    raise InputError(f"{spec} is not a table that is read here: expected .csv, .tsv or .parquet")


def _present(column: "pandas.Series[str]", spec: str) -> None:
    missing = column.isna()
    if missing.any():
        first = int(numpy.flatnonzero(missing.to_numpy())[0])
        raise InputError(
            f'column "{column.name}" of {spec} has {int(missing.sum())} missing values, the first in '
            f"data row {first + 1}: expected a value in each row; drop or fill them before the audit"
        )


def _numbers(
    column: "pandas.Series[str]", spec: str
) -> "numpy.ndarray[tuple[int], numpy.dtype[numpy.float64]]":
    _present(column, spec)
    try:
        numbers: numpy.ndarray[tuple[int], numpy.dtype[numpy.float64]] = numpy.asarray(
            column, dtype=numpy.float64
        )
    except (TypeError, ValueError) as error:
        raise InputError(f'column "{column.name}" of {spec} is not numbers: {error}') from error
    if not numpy.isfinite(numbers).all():
        raise InputError(f'column "{column.name}" of {spec} has infinite scores: expected numbers')
    return numbers


def _positive(
    column: "pandas.Series[str]", positive: str | int | float | bool, spec: str
) -> "numpy.ndarray[tuple[int], numpy.dtype[numpy.bool_]]":
    """Which rows have the positive value; 1, 1.0, true and "1" are the same in a CSV."""
    _present(column, spec)
    if isinstance(positive, bool):
        positive = int(positive)
    if pandas.api.types.is_bool_dtype(column):
        column = column.astype("int64")  # type: ignore[assignment]
    if pandas.api.types.is_numeric_dtype(column):
        try:
            return numpy.asarray(column.to_numpy() == float(positive), dtype=numpy.bool_)
        except ValueError:
            raise InputError(
                f'column "{column.name}" of {spec} is numbers, positive is {positive!r}: expected one '
                "of the numbers in it"
            ) from None
    return numpy.asarray(column.astype(str) == str(positive), dtype=numpy.bool_)


def _groups(column: "pandas.Series[str]", spec: str) -> "pandas.Series[str]":
    named = column.astype("object").where(column.notna(), MISSING).astype(str)
    if named.nunique() > _MANY_GROUPS:
        raise InputError(
            f'sensitive column "{column.name}" of {spec} has {named.nunique()} different values: '
            f"expected at most {_MANY_GROUPS} groups; add a column with bands, such as 18-29, 30-44"
        )
    return named
