"""The rows of a what-if, and their two halves: one to fit on, one to measure on."""

from dataclasses import dataclass

import numpy
import pandas

from assaymark.bias.codes import Codes, Column
from assaymark.bias.rows import Flags, Numbers, Predictions
from assaymark.reports.errors import InputError

Places = numpy.ndarray[tuple[int], numpy.dtype[numpy.int64]]
"""Numbers of rows, from 0."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """Rows of one sensitive attribute.

    decision: what the model that is audited decided. score: its number behind it, None where the table
    has none. features: what another model may be fitted on, a row each; None where none were named.
    """

    label: Flags
    decision: Flags
    group: Column
    score: Numbers | None
    weight: Numbers | None
    features: pandas.DataFrame | None

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
        )


def sample_of(
    data: Predictions,
    features: pandas.DataFrame | None,
    *,
    attribute: str,
    min_group_size: int = 1,
) -> tuple[Sample, tuple[str, ...]]:
    """The rows of all groups that are large enough, and the names of the groups that were left out.

    features: as many rows as data, in the same order. Raises InputError for an unknown attribute,
    features of other rows, or when no group is large enough.
    """
    if attribute not in data.groups:
        raise InputError(
            f'no sensitive column "{attribute}" in {data.name}; it has {", ".join(data.groups)}'
        )
    if features is not None and len(features) != data.n:
        raise InputError(
            f"the features have {len(features)} rows, {data.name} has {data.n}: expected the same rows "
            "in the same order"
        )
    column = data.groups[attribute]
    sizes = numpy.bincount(column.codes, minlength=len(column.names))
    kept = (sizes >= min_group_size) & (sizes > 0)
    if not kept.any():
        raise InputError(f"no group of {attribute} has {min_group_size} rows: lower min_group_size")
    order: Codes = (numpy.cumsum(kept) - 1).astype(numpy.int32)
    names = tuple(name for name, keep in zip(column.names, kept, strict=True) if keep)
    whole = Sample(
        label=data.label,
        decision=data.prediction,
        group=Column(name=attribute, names=names, codes=order[column.codes]),
        score=data.score,
        weight=data.weight,
        features=features,
    )
    small = tuple(
        name
        for name, size, keep in zip(column.names, sizes, kept, strict=True)
        if size and not keep
    )
    return whole.take(numpy.flatnonzero(kept[column.codes])), small


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
