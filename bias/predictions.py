"""Tables of predictions: CSV, Parquet, or the embedded diabetes study."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy
import pyarrow
import pyarrow.compute
import pyarrow.csv

from assaymark.bias.codes import Codes, coded, column_of, crossed, plain
from assaymark.bias.rows import Flags, Numbers, Predictions
from assaymark.reports.errors import InputError, nearest

_MANY_GROUPS = 50
_MANY_INTERSECTIONS = 500
_NO_VALUE = {"", "-", "?", ".", "na", "n/a", "nan", "null", "none", "#n/a"}
"""What stands for a missing label, prediction or score; as a group name each is a name."""


def load(
    spec: str,
    *,
    label: str,
    prediction: str | None,
    score: str | None,
    sensitive: tuple[str, ...],
    positive: str | int | float | bool = 1,
    threshold: float = 0.5,
    intersections: bool = False,
    folder: Path = Path(),
) -> Predictions:
    """Read a table and find the columns in it.

    prediction: a column of decisions; without it, `score` ≥ threshold is a positive decision.
    positive: the value that means the favourable or detected class, in label and prediction.
    A missing sensitive value is a group of its own. intersections: also the groups of all sensitive
    columns together. Raises InputError for missing columns, missing
    labels or predictions, no positives at all, labels of more than two kinds, or too many groups.
    """
    wanted_columns = {name for name in (label, prediction, score, *sensitive) if name is not None}
    table, names = _read(spec, folder, wanted_columns)
    for column in (label, prediction, score, *sensitive):
        if column is not None and column not in names:
            advice = nearest(column, names)
            raise InputError(f'{spec} has no column "{column}"{advice}')
    if not len(table):
        raise InputError(f"{spec} has no rows: expected at least one prediction")
    if prediction == label:
        raise InputError(f'label and prediction are both "{label}": name two columns')
    scores = None if score is None else _numbers(table, score, spec)
    truth = _values(table, label, spec)
    wanted = _value(positive)
    kinds = sorted(set(truth.kinds), key=str)
    if len(kinds) > 2:
        raise InputError(
            f'column "{label}" of {spec} has {len(kinds)} different labels: expected two; make a '
            "column that says whether the outcome is the positive one"
        )
    if wanted not in kinds:
        raise InputError(
            f'no row of {spec} has the positive value {positive!r} in column "{label}"; seen: '
            f"{_shown(kinds)}. Set positive to one of them"
        )
    if prediction is not None:
        answers = _values(table, prediction, spec)
        foreign = sorted(set(answers.kinds) - set(kinds), key=str)
        if foreign:
            raise InputError(
                f'column "{prediction}" of {spec} has {_shown(foreign)}, column "{label}" has '
                f"{_shown(kinds)}: expected the same values in both; for probabilities name the "
                "column as score"
            )
        decided = answers.equal(wanted)
        note = f'decisions from column "{prediction}"'
    else:
        assert scores is not None
        if not scores.min() < threshold <= scores.max():
            raise InputError(
                f'the threshold {threshold:g} does not divide column "{score}" of {spec}, which runs '
                f"from {scores.min():g} to {scores.max():g}: everybody would get the same decision"
            )
        decided = scores >= threshold
        note = f'decisions are "{score}" ≥ {threshold:g}'
    groups = {
        name: column_of(name, table.column(name), most=_MANY_GROUPS, where=spec)
        for name in sensitive
    }
    both = None
    if intersections:
        both = crossed(list(groups.values()), most=_MANY_INTERSECTIONS, where=spec)
        groups[both.name] = both
    return Predictions(
        name=spec,
        label=truth.equal(wanted),
        prediction=decided,
        score=scores,
        groups=groups,
        note=note,
        crossed=None if both is None else both.name,
    )


def _read(spec: str, folder: Path, columns: set[str]) -> tuple[pyarrow.Table, tuple[str, ...]]:
    """The named columns of a table, and the names of all of them."""
    if spec.startswith("demo:"):
        if spec != "demo:diabetes":
            raise InputError(f'no demo table "{spec}"{nearest(spec, ["demo:diabetes"])}')
        from assaymark.bias import demo

        table = pyarrow.Table.from_pandas(demo.diabetes(), preserve_index=False)
        return table, tuple(table.column_names)
    path = folder / spec
    if not path.is_file():
        raise InputError(f"no table at {spec}: expected a .csv or .parquet file")
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".tsv", ".txt", ".parquet"):
        raise InputError(
            f"{spec} is not a table that is read here: expected .csv, .tsv or .parquet"
        )
    try:
        if suffix == ".parquet":
            from pyarrow import parquet  # slow to import, and most tables are CSV

            table = parquet.read_table(path)
        else:
            table = _csv(path, "\t" if suffix == ".tsv" else ",")
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).strip().splitlines()
        raise InputError(
            f"cannot read {spec}: {reason[0] if reason else type(error).__name__}; expected a table "
            "with a header line and as many fields in each row"
        ) from error
    names = tuple(table.column_names)
    places = {name: [i for i, other in enumerate(names) if other == name] for name in columns}
    for name, found in places.items():
        if any(not table.column(i).equals(table.column(found[0])) for i in found):
            raise InputError(
                f'{spec} has {len(found)} different columns called "{name}": rename one, so that it '
                "is clear which is meant"
            )
    return table.select([found[0] for found in places.values() if found]), names


def _csv(path: Path, separator: str) -> pyarrow.Table:
    """Every field as the text it is: 01 and 1 are two groups, NA is one; an empty field is missing."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        header = next(csv.reader(stream, delimiter=separator), [])
    return pyarrow.csv.read_csv(
        path,
        parse_options=pyarrow.csv.ParseOptions(delimiter=separator, newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(header, pyarrow.string()),
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
        ),
    )


@dataclass(frozen=True, eq=False)
class _Values:
    """A column without gaps: the values it holds, and which of them each row has."""

    kinds: list[float | str]
    codes: Codes

    def equal(self, wanted: float | str) -> Flags:
        return numpy.array([kind == wanted for kind in self.kinds], dtype=numpy.bool_)[self.codes]


def _values(table: pyarrow.Table, column: str, spec: str) -> _Values:
    found, codes = coded(table.column(column))
    texts = ["" if value is None else str(value).strip() for value in found]
    missing = numpy.array([text.lower() in _NO_VALUE for text in texts], dtype=numpy.bool_)
    _present(missing[codes], column, spec)
    return _Values([_value(text) for text in texts], codes)


def _present(missing: Flags, column: str, spec: str) -> None:
    if missing.any():
        first = int(numpy.flatnonzero(missing)[0])
        raise InputError(
            f'column "{column}" of {spec} has {int(missing.sum())} missing values, the first in '
            f"data row {first + 1}: expected a value in each row; drop or fill them before the audit"
        )


def _numbers(table: pyarrow.Table, column: str, spec: str) -> Numbers:
    array = table.column(column)
    if pyarrow.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    if pyarrow.types.is_string(array.type) or pyarrow.types.is_large_string(array.type):
        array = pyarrow.compute.utf8_trim_whitespace(array)
        lower = pyarrow.compute.utf8_lower(array)
        known = pyarrow.array(sorted(_NO_VALUE))
        missing = pyarrow.compute.is_in(lower, value_set=known)
        _present(_flags(pyarrow.compute.or_kleene(missing, array.is_null())), column, spec)
    try:
        filled = array.cast(pyarrow.float64()).combine_chunks().fill_null(numpy.nan)
        numbers: Numbers = plain(filled, numpy.float64)
    except (pyarrow.ArrowException, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f'column "{column}" of {spec} is not numbers: {reason}') from error
    _present(numpy.isnan(numbers), column, spec)
    if not numpy.isfinite(numbers).all():
        raise InputError(f'column "{column}" of {spec} has infinite scores: expected numbers')
    return numbers


def _flags(array: pyarrow.ChunkedArray) -> Flags:
    return plain(array.combine_chunks().fill_null(True), numpy.uint8).astype(numpy.bool_)


def _value(item: object) -> float | str:
    """1, 1.0, true and "1" are one value, however the table writes it."""
    text = str(item).strip()
    if text.lower() in ("true", "false"):
        return float(text.lower() == "true")
    try:
        return float(text)
    except ValueError:
        return text


def _shown(values: list[float | str]) -> str:
    texts = [f"{value:g}" if isinstance(value, float) else repr(value) for value in values[:4]]
    return ", ".join(texts) + (f" and {len(values) - 4} more" if len(values) > 4 else "")
