"""The rows of a what-if, and their two halves: one to fit on, one to measure on."""

from dataclasses import dataclass
from typing import Any

import numpy
import pandas

from assaymark.bias.codes import SEPARATOR, Codes, Column
from assaymark.bias.encoders import column, numbers, places
from assaymark.bias.rows import Flags, Numbers, Predictions
from assaymark.reports.errors import InputError

Places = numpy.ndarray[tuple[int], numpy.dtype[numpy.int64]]
"""Numbers of rows, from 0."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """Rows of one sensitive attribute.

    decision: what the model that is audited decided. score: its number behind it, None where the table
    has none. features: what another model may be fitted on, a row each; None where none were named.
    table: all that a rule may read; group_columns and score_column say where it reads groups and score.
    """

    label: Flags
    decision: Flags
    group: Column
    score: Numbers | None
    weight: Numbers | None
    features: pandas.DataFrame | None
    table: pandas.DataFrame
    group_columns: tuple[str, ...]
    score_column: str

    @property
    def n(self) -> int:
        return len(self.label)

    @property
    def mass(self) -> Numbers:
        """How much each row counts."""
        return numpy.ones(self.n) if self.weight is None else self.weight

    def take(self, these: Places) -> "Sample":
        """Some of the rows, in this order."""
        return Sample(
            label=self.label[these],
            decision=self.decision[these],
            group=Column(
                name=self.group.name, names=self.group.names, codes=self.group.codes[these]
            ),
            score=None if self.score is None else self.score[these],
            weight=None if self.weight is None else self.weight[these],
            features=None if self.features is None else self.features.iloc[these],
            table=self.table.iloc[these],
            group_columns=self.group_columns,
            score_column=self.score_column,
        )


def sample_of(
    data: Predictions,
    features: pandas.DataFrame | None,
    *,
    attribute: str,
    score_column: str = "score",
    min_group_size: int = 1,
    keys: pandas.DataFrame | None = None,
) -> tuple[Sample, tuple[str, ...]]:
    """The rows of all groups that are large enough, and the names of the groups that were left out.

    features: as many rows as data, in the same order. score_column: what the score is called in the
    table. keys: more columns of the table. Raises InputError for an unknown attribute, features of other
    rows, a feature that has the name of the score, or when no group is large enough.
    """
    if attribute not in data.groups:
        raise InputError(
            f'no sensitive column "{attribute}" in {data.name}; it has {", ".join(data.groups)}'
        )
    for frame in (features, keys):
        if frame is not None and len(frame) != data.n:
            raise InputError(
                f"the features or keys have {len(frame)} rows, {data.name} has {data.n}: expected the same "
                "rows in the same order"
            )
    table: dict[str, Any] = {}
    for frame in (keys, features):
        if frame is not None:
            table |= {str(name): column(frame, name).array for name in frame.columns}
    groups = _groups(data, attribute, table)
    table |= groups | _score(data, score_column, table)
    group = data.groups[attribute]
    sizes = numpy.bincount(group.codes, minlength=len(group.names))
    kept = (sizes >= min_group_size) & (sizes > 0)
    if not kept.any():
        raise InputError(f"no group of {attribute} has {min_group_size} rows: lower min_group_size")
    order: Codes = (numpy.cumsum(kept) - 1).astype(numpy.int32)
    names = tuple(name for name, keep in zip(group.names, kept, strict=True) if keep)
    whole = Sample(
        label=data.label,
        decision=data.prediction,
        group=Column(name=attribute, names=names, codes=order[group.codes]),
        score=data.score,
        weight=data.weight,
        features=features,
        table=pandas.DataFrame(table),
        group_columns=tuple(groups),
        score_column=score_column,
    )
    small = tuple(
        name for name, size, keep in zip(group.names, sizes, kept, strict=True) if size and not keep
    )
    return whole.take(numpy.flatnonzero(kept[group.codes])), small


def _groups(data: Predictions, attribute: str, table: dict[str, Any]) -> dict[str, Any]:
    """The columns that say the group: one, or those that an intersection crosses.

    A column of the table that has the name and other values, such as ages where groups are bands of
    age, stays as it is: the group then stands in a column "age (group)".
    """
    parts = attribute.split(SEPARATOR)
    crossed = attribute == data.crossed and {*parts} <= {*data.groups}
    names = parts if crossed else [attribute]
    if any(name in table and _differ(table[name], data.groups[name]) for name in names):
        return {f"{attribute} (group)": _texts(data.groups[attribute])}
    return {name: _texts(data.groups[name]) for name in names}


def _differ(values: Any, group: Column) -> bool:
    return bool((places(pandas.Series(values), group.names) != group.codes).any())


def _texts(group: Column) -> Any:
    return pandas.Categorical.from_codes(group.codes, pandas.Index(group.names))


def _score(data: Predictions, score_column: str, table: dict[str, Any]) -> dict[str, Any]:
    if data.score is None:
        return {}
    if score_column in table:
        other = numbers(pandas.DataFrame({score_column: table[score_column]}), score_column)
        if not numpy.array_equal(other, data.score):
            raise InputError(
                f'a feature has the name of the score, "{score_column}", and other values: rename it'
            )
    return {score_column: data.score}


def halves(sample: Sample, seed: int) -> tuple[Places, Places]:
    """The rows to fit on and the rows to measure on, in the order of the table.

    Drawn at random within each group and label, so that both halves have as many of each (of an odd
    number, the first half has one more).
    """
    stratum = sample.group.codes * numpy.int32(2) + sample.label
    shuffled = numpy.random.default_rng(seed).permutation(sample.n)
    order = shuffled[numpy.argsort(stratum[shuffled], kind="stable")]
    sizes = numpy.bincount(stratum, minlength=2 * len(sample.group.names))
    starts = numpy.repeat(numpy.cumsum(sizes) - sizes, sizes)
    even = (numpy.arange(sample.n) - starts) % 2 == 0
    return numpy.sort(order[even]), numpy.sort(order[~even])
