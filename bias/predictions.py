"""A table read as what is audited: decisions, classes, numbers or rankings, by sensitive columns."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy

from assaymark.bias import columns
from assaymark.bias.bands import Bands
from assaymark.bias.codes import Column, crossed
from assaymark.bias.columns import Values, shown, value_of
from assaymark.bias.rows import Classes, Flags, Numbers, Outcomes, Predictions, Rankings, Rows
from assaymark.bias.tables import Table, read
from assaymark.reports.errors import InputError

if TYPE_CHECKING:
    from assaymark.bias.tables import Source


@dataclass(frozen=True, kw_only=True)
class Roles:
    """Which column of a table says what.

    label: the true outcome, or the relevance of an item. prediction: the decision, or the predicted
    number. score: the number behind a decision, or what items are ranked by. weight: how many people a
    row stands for. query: what an item is ranked for. bands: where numbers in a sensitive column are
    cut. intersections: also the groups of all sensitive columns together.
    """

    label: str
    sensitive: tuple[str, ...]
    prediction: str | None = None
    score: str | None = None
    weight: str | None = None
    query: str | None = None
    bands: Mapping[str, Bands] = field(default_factory=dict)
    intersections: bool = False

    @property
    def named(self) -> list[str]:
        """Every column there must be."""
        single = (self.label, self.prediction, self.score, self.weight, self.query)
        return list(dict.fromkeys([*(one for one in single if one is not None), *self.sensitive]))


@dataclass(frozen=True, kw_only=True, eq=False)
class Answered:
    """What a model said when it was asked, in the place of a column. note: for the report."""

    decision: Flags
    score: Numbers | None
    note: str


def load(
    source: "Source",
    *,
    label: str,
    prediction: str | None,
    score: str | None,
    sensitive: tuple[str, ...],
    weight: str | None = None,
    bands: Mapping[str, Bands] | None = None,
    intersections: bool = False,
    positive: str | int | float | bool = 1,
    threshold: float = 0.5,
    folder: Path = Path(),
) -> Predictions:
    """Decisions between two classes: a file, an arrow table or a data frame, and its columns.

    `binary` with its columns as arguments.
    """
    roles = Roles(
        label=label,
        prediction=prediction,
        score=score,
        sensitive=sensitive,
        weight=weight,
        bands=bands or {},
        intersections=intersections,
    )
    table = read(source, folder=folder, columns=roles.named)
    return binary(table, roles, positive=positive, threshold=threshold)


def binary(
    table: Table,
    roles: Roles,
    *,
    positive: str | int | float | bool = 1,
    threshold: float = 0.5,
    answered: Answered | None = None,
) -> Predictions:
    """Decisions between two classes.

    answered: what a model said; without it, decisions are those of the prediction column, and without one
    score ≥ threshold is a positive decision. positive: the value that means the favourable or detected
    class, in label and prediction. A missing sensitive value is a group of its own. Raises InputError for
    missing columns, missing labels or predictions, no positives at all, labels of more than two kinds, or
    too many groups.
    """
    _distinct(roles)
    scores = None if roles.score is None else columns.numbers(table, roles.score)
    truth = columns.values(table, roles.label)
    wanted = value_of(positive)
    kinds = sorted(set(truth.kinds), key=str)
    if len(kinds) > 2:
        raise InputError(
            f'column "{roles.label}" of {table.name} has {len(kinds)} different labels: expected two; '
            'set task = "multiclass", or make a column that says whether the outcome is the positive one'
        )
    if wanted not in kinds:
        raise InputError(
            f'no row of {table.name} has the positive value {positive!r} in column "{roles.label}"; '
            f"seen: {shown(kinds)}. Set positive to one of them"
        )
    if answered is not None:
        decided, scores, note = answered.decision, answered.score, answered.note
    elif roles.prediction is not None:
        decided = _decisions(table, roles, kinds).equal(wanted)
        note = f'decisions from column "{roles.prediction}"'
    else:
        assert scores is not None
        decided = _above(scores, threshold, table, roles)
        note = f'decisions are "{roles.score}" ≥ {threshold:g}'
    rows = _rows(table, roles, note)
    return Predictions(**vars(rows), label=truth.equal(wanted), prediction=decided, score=scores)


def _decisions(table: Table, roles: Roles, kinds: list[float | str]) -> Values:
    """The column of decisions. Raises InputError for values that no label has."""
    assert roles.prediction is not None
    answers = columns.values(table, roles.prediction)
    foreign = sorted(set(answers.kinds) - set(kinds), key=str)
    # labels of one kind alone do not say what the other is called
    other = len(kinds) == 1 and len(foreign) == 1 and type(foreign[0]) is type(kinds[0])
    if foreign and not other:
        raise InputError(
            f'column "{roles.prediction}" of {table.name} has {shown(foreign)}, column '
            f'"{roles.label}" has {shown(kinds)}: expected the same values in both; for '
            "probabilities name the column as score"
        )
    return answers


def _above(scores: Numbers, threshold: float, table: Table, roles: Roles) -> Flags:
    """Which scores reach the threshold. Raises InputError where all do, or none."""
    if not scores.min() < threshold <= scores.max():
        raise InputError(
            f'the threshold {threshold:g} does not divide column "{roles.score}" of {table.name}, '
            f"which runs from {scores.min():g} to {scores.max():g}: everybody would get the same "
            "decision"
        )
    above: Flags = scores >= threshold
    return above


def multiclass(table: Table, roles: Roles) -> Classes:
    """Decisions between several classes. Raises InputError for a predicted class without a label."""
    _distinct(roles)
    assert roles.prediction is not None
    truth, answers = columns.values(table, roles.label), columns.values(table, roles.prediction)
    kinds = sorted(set(truth.kinds), key=lambda kind: (isinstance(kind, str), kind))
    if len(kinds) > columns.MANY_GROUPS:
        raise InputError(
            f'column "{roles.label}" of {table.name} has {len(kinds)} different labels: expected at '
            f'most {columns.MANY_GROUPS} classes; for numbers set task = "regression"'
        )
    foreign = sorted(set(answers.kinds) - set(kinds), key=str)
    if foreign:
        raise InputError(
            f'column "{roles.prediction}" of {table.name} has {shown(foreign)}, column '
            f'"{roles.label}" has {shown(kinds)}: expected the same classes in both'
        )
    rows = _rows(table, roles, f'classes from column "{roles.prediction}"')
    return Classes(
        **vars(rows),
        classes=tuple(shown([kind]).strip("'") for kind in kinds),
        label=_places(truth, kinds),
        prediction=_places(answers, kinds),
    )


def regression(table: Table, roles: Roles) -> Outcomes:
    """Numbers and what was predicted. Raises InputError where one is missing or no finite number."""
    _distinct(roles)
    assert roles.prediction is not None
    rows = _rows(table, roles, f'predicted numbers from column "{roles.prediction}"')
    return Outcomes(
        **vars(rows),
        label=columns.numbers(table, roles.label),
        prediction=columns.numbers(table, roles.prediction),
    )


def ranking(table: Table, roles: Roles) -> Rankings:
    """Items ranked within queries. Raises InputError for a negative relevance or a missing number."""
    assert roles.score is not None
    relevance = columns.numbers(table, roles.label)
    if relevance.min() < 0:
        raise InputError(
            f'relevance in column "{roles.label}" of {table.name} goes down to {relevance.min():g}: '
            "expected numbers of at least 0"
        )
    query = numpy.zeros(len(relevance), dtype=numpy.int32)
    if roles.query is not None:
        query = columns.values(table, roles.query).codes
    rows = _rows(table, roles, f'items are ranked by column "{roles.score}"')
    return Rankings(
        **vars(rows),
        query=query,
        relevance=relevance,
        score=columns.numbers(table, roles.score),
    )


def _distinct(roles: Roles) -> None:
    if roles.prediction == roles.label:
        raise InputError(f'label and prediction are both "{roles.label}": name two columns')
    for column, role in ((roles.label, "label"), (roles.prediction, "prediction")):
        if column in roles.sensitive:
            raise InputError(
                f'"{column}" is both the {role} and a sensitive column, whose groups would differ by '
                "definition: name two columns"
            )


def _places(
    found: Values, kinds: list[float | str]
) -> numpy.ndarray[tuple[int], numpy.dtype[numpy.int32]]:
    place_of = {kind: place for place, kind in enumerate(kinds)}
    order = numpy.array([place_of[kind] for kind in found.kinds], dtype=numpy.int32)
    return order[found.codes]


def _rows(table: Table, roles: Roles, note: str) -> Rows:
    groups = {
        name: columns.sensitive(table, name, roles.bands.get(name)) for name in roles.sensitive
    }
    both: Column | None = None
    if roles.intersections:
        both = crossed(list(groups.values()), most=columns.MANY_INTERSECTIONS, where=table.name)
        groups[both.name] = both
    weight: Numbers | None = None
    if roles.weight is not None:
        weight = columns.weights(table, roles.weight)
        note = f'{note}; rows weigh as column "{roles.weight}" says'
    return Rows(
        name=table.name,
        groups=groups,
        note=note,
        weight=weight,
        crossed=None if both is None else both.name,
    )
