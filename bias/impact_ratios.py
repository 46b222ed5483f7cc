"""The impact ratios of New York City's Local Law 144: a bias audit of a tool that selects or scores people.

Rules of the Department of Consumer and Worker Protection, 6 RCNY 5-300 to 5-304, in force since 5 July 2023.
The four-fifths rule is that of the Uniform Guidelines on Employee Selection Procedures, 29 CFR 1607.4(D).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy

from assaymark.bias.codes import MISSING, Column, crossed
from assaymark.bias.columns import MANY_INTERSECTIONS
from assaymark.bias.gaps import ratio_interval
from assaymark.bias.groups import Grouped, by_group, families
from assaymark.bias.rows import Flags, Numbers, Predictions
from assaymark.reports.errors import InputError, nearest
from assaymark.reports.model import Interval

MOST_EXCLUDED = 0.02
"""An auditor may leave out a category of less than 2 % of the data, and must say so (5-301(d))."""


@dataclass(frozen=True, kw_only=True)
class Category:
    """One row of a table. ratio: None where it is excluded, or where nobody is selected at all."""

    name: str
    applicants: int
    selected: int
    rate: float | None
    ratio: float | None
    excluded: bool


@dataclass(frozen=True, kw_only=True)
class ImpactTable:
    """The categories of sex, of race/ethnicity, or of both; unknown: people who are in none of them."""

    attribute: str
    categories: tuple[Category, ...]
    unknown: int
    counted: Grouped

    @property
    def smallest(self) -> Category | None:
        """The category with the smallest impact ratio."""
        rated = [category for category in self.categories if category.ratio is not None]
        return min(rated, key=lambda category: category.ratio or 0.0) if len(rated) > 1 else None

    @property
    def why(self) -> str:
        """Why there is no smallest ratio."""
        compared = [category for category in self.categories if not category.excluded]
        if len(compared) < 2:
            return f"{self.attribute} has {len(compared)} category to compare: two are needed"
        return f"nobody in any category of {self.attribute} is selected, so no ratio is defined"

    def interval(self, confidence: float) -> Interval | None:
        """Of the smallest ratio, for all pairs of categories at once."""
        if self.smallest is None:
            return None
        return ratio_interval(families(self.counted, "demographic_parity_ratio"), confidence)


def above_median(score: Numbers, weight: Numbers | None = None) -> Flags:
    """Who scores above the median of the full sample, those of unknown category included (5-301(c)(1)).

    A score equal to the median is not above it. weight: how many people each row stands for.

    >>> above_median(numpy.array([1.0, 2.0, 2.0, 3.0])).tolist()
    [False, False, False, True]
    """
    order = numpy.argsort(score, kind="stable")
    weights = numpy.ones(len(score)) if weight is None else weight[order]
    below = numpy.cumsum(weights)
    # sums of weights that reach the half but for rounding have reached it
    low, high = numpy.searchsorted(below, below[-1] / 2 * numpy.array([1 - 1e-12, 1 + 1e-12]))
    middle = (score[order[low]] + score[order[high]]) / 2
    above: Flags = score > middle
    return above


def impact_tables(
    data: Predictions,
    *,
    sex: str,
    race: str,
    scoring: bool = False,
    unknown: Sequence[str] = (),
    exclude_below: float = 0.0,
) -> tuple[ImpactTable, ImpactTable, ImpactTable]:
    """The tables by sex, by race/ethnicity, and by both.

    sex, race: names of sensitive columns. scoring: selected means a score above the sample's median.
    unknown: names that stand for an unknown category, besides missing values; a table leaves out the
    people whose category in it is unknown. exclude_below: the share of a table's people below which a
    category is shown but not compared, at most 0.02; the rule allows it and does not ask for it. Raises
    InputError for a column that is not there, and for scoring without scores.
    """
    for name in (sex, race):
        if name not in data.groups:
            raise InputError(f'"{name}" is no sensitive column{nearest(name, data.groups)}')
    if sex == race:
        raise InputError(f'sex and race are both "{sex}": expected two different columns')
    if not 0 <= exclude_below <= MOST_EXCLUDED:
        raise InputError(
            f"categories below a share of {exclude_below:g} cannot be excluded: the rule allows at most "
            f"{MOST_EXCLUDED} (6 RCNY 5-301(d))"
        )
    if scoring:
        if data.score is None:
            raise InputError(
                f"scoring rates need scores, and {data.name} names none: name its score column, or audit "
                "selection rates"
            )
        data = replace(data, prediction=above_median(data.score, data.weight))
    absent = {MISSING, *unknown}
    both = crossed([data.groups[sex], data.groups[race]], most=MANY_INTERSECTIONS, where=data.name)
    known = {name: _known(data.groups[name], absent) for name in (sex, race)}
    return (
        _table(data, data.groups[sex], known[sex], exclude_below),
        _table(data, data.groups[race], known[race], exclude_below),
        _table(data, both, known[sex] & known[race], exclude_below),
    )


def _known(column: Column, absent: set[str]) -> Flags:
    named: Flags = numpy.array([name not in absent for name in column.names], dtype=numpy.bool_)
    return named[column.codes]


def _table(data: Predictions, column: Column, known: Flags, exclude_below: float) -> ImpactTable:
    held = numpy.flatnonzero(numpy.bincount(column.codes[known], minlength=len(column.names)))
    place = numpy.zeros(len(column.names), dtype=numpy.int32)
    place[held] = numpy.arange(len(held), dtype=numpy.int32)
    people = Column(
        name=column.name,
        names=tuple(column.names[one] for one in held),
        codes=place[column.codes[known]],
    )
    rows = replace(
        data,
        groups={column.name: people},
        weight=None if data.weight is None else data.weight[known],
        label=data.label[known],
        prediction=data.prediction[known],
        score=None,
    )
    return _rated(rows, people, int((~known).sum()), exclude_below)


def _rated(rows: Predictions, people: Column, unknown: int, exclude_below: float) -> ImpactTable:
    grouped = by_group(rows, people.name)
    share = numpy.bincount(people.codes, weights=rows.weight, minlength=len(people.names))
    excluded = (share < exclude_below * share.sum()).tolist()
    selected = numpy.bincount(people.codes[rows.prediction], minlength=len(people.names)).tolist()
    rates = [group.rates["selection_rate"].value for group in grouped.groups]
    compared = [
        rate for rate, out in zip(rates, excluded, strict=True) if rate is not None and not out
    ]
    highest = max(compared, default=0.0)
    groups = tuple(
        replace(group, compared=not out and rate is not None)
        for group, out, rate in zip(grouped.groups, excluded, rates, strict=True)
    )
    categories = tuple(
        Category(
            name=group.name,
            applicants=group.n,
            selected=hits,
            rate=rate,
            ratio=None if out or rate is None or highest == 0 else rate / highest,
            excluded=out,
        )
        for group, hits, rate, out in zip(grouped.groups, selected, rates, excluded, strict=True)
    )
    return ImpactTable(
        attribute=people.name,
        categories=categories,
        unknown=unknown,
        counted=replace(grouped, groups=groups),
    )
