"""The rows of a what-if, and their two halves: one to fit on, one to measure on."""

from dataclasses import dataclass
from typing import Any

import numpy
import pandas

from assaymark.bias.codes import Codes, Column
from assaymark.bias.encoders import column, numbers
from assaymark.bias.rows import Flags, Numbers, Predictions
from assaymark.reports.errors import InputError

_CROSSING = " × "
Places = numpy.ndarray[tuple[int], numpy.dtype[numpy.int64]]
"""Numbers of rows, from 0."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """Rows of one sensitive attribute.

    decision: what the model that is audited decided. score: its number behind it, None where the table
    has none. features: what another model may be fitted on, a row each; None where none were named.
    table: all that a rule may read: groups, score and features.
    """

    label: Flags
    decision: Flags
    group: Column
    score: Numbers | None
    weight: Numbers | None
    features: pandas.DataFrame | None
    table: pandas.DataFrame

    @property
    def n(self) -> int:
        return len(self.label)

    @property
    def mass(self) -> Numbers:
        """How much each row counts."""
        return numpy.ones(self.n) if self.weight is None else self.weight

    def take(self, places: Places) -> "Sample":
        """Some of the rows, in this order."""
        return Sample(
            label=self.label[places],
            decision=self.decision[places],
            group=Column(
                name=self.group.name, names=self.group.names, codes=self.group.codes[places]
            ),
            score=None if self.score is None else self.score[places],
            weight=None if self.weight is None else self.weight[places],
            features=None if self.features is None else self.features.iloc[places],
            table=self.table.iloc[places],
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
        table=_table(data, [features, keys], group_columns(data, attribute), score_column),
    )
    small = tuple(
        name for name, size, keep in zip(group.names, sizes, kept, strict=True) if size and not keep
    )
    return whole.take(numpy.flatnonzero(kept[group.codes])), small


def group_columns(data: Predictions, attribute: str) -> tuple[str, ...]:
    """The columns of the table that say the group: several of an intersection."""
    parts = tuple(attribute.split(_CROSSING))
    return parts if attribute == data.crossed and {*parts} <= {*data.groups} else (attribute,)


def _table(
    data: Predictions,
    frames: list[pandas.DataFrame | None],
    groups: tuple[str, ...],
    score_column: str,
) -> pandas.DataFrame:
    columns: dict[str, Any] = {}
    for frame in frames:
        if frame is not None:
            columns = {str(name): column(frame, name).array for name in frame.columns} | columns
    for name in groups:
        if name not in columns:
            group = data.groups[name]
            columns[name] = pandas.Categorical.from_codes(group.codes, pandas.Index(group.names))
    if data.score is not None:
        if score_column in columns and not numpy.array_equal(
            numbers(pandas.DataFrame({score_column: columns[score_column]}), score_column),
            data.score,
        ):
            raise InputError(
                f'a feature has the name of the score, "{score_column}", and other values: rename it'
            )
        columns[score_column] = data.score
    return pandas.DataFrame(columns)


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
