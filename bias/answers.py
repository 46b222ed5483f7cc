"""A tabular model that is asked about rows, and its answers, checked: one a row, none missing."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy
import pandas

from assaymark.bias.columns import shown, value_of
from assaymark.bias.rows import Flags, Numbers
from assaymark.reports.errors import InputError
from assaymark.reports.named_code import reason

Raw: TypeAlias = numpy.ndarray[tuple[int], Any]
"""Decisions as the model writes them."""
Positive: TypeAlias = str | int | float | bool
_ROUNDING = 1e-6
"""How far beyond 0 and 1 a probability may be; single precision is."""
_SUM = 1e-3
_NO_ANSWER = {"", "nan", "none", "<na>"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """What a model says of each row; at least one of decision and score.

    decision: raw values, such as 0 and 1 or ">50K". score: the probability of the positive class, in
    [0, 1]. classes: all that it can decide, None where it does not say.
    """

    decision: Raw | None = None
    score: Numbers | None = None
    classes: tuple[object, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class TabularModel:
    """A model of rows; ask it with `ask`, which checks what `predict` says.

    features: the columns that it reads, None for all that it is given. sha256: of its file.
    """

    name: str
    predict: Callable[[pandas.DataFrame], Answers]
    features: tuple[str, ...] | None = None
    sha256: str | None = None

    def reads(self, column: str) -> bool:
        return self.features is None or column in self.features


def ask(model: TabularModel, rows: pandas.DataFrame) -> Answers:
    """The answers of a model, one a row. The model is given a copy, whose rows count from 0.

    Raises InputError that names the model when it fails, answers another number of rows, leaves an
    answer out, gives a probability outside [0, 1], or changes which rows there are.
    """
    given = rows.reset_index(drop=True).copy()
    try:
        answers = model.predict(given)
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(
            f"{model.name} failed on {len(rows)} rows, {reason(error)}; check that features names the "
            "columns it was trained on"
        ) from error
    if not isinstance(answers, Answers) or (answers.decision is None and answers.score is None):
        raise InputError(f"{model.name} gave no answers: expected decisions or probabilities")
    if len(given) != len(rows) or not in_order(given):
        raise InputError(
            f"{model.name} drops or sorts the rows it is given in place, so that it is open which answer "
            "is whose: let it work on a copy"
        )
    return Answers(
        decision=None
        if answers.decision is None
        else _decided(answers.decision, len(rows), model.name),
        score=None if answers.score is None else _scores(answers.score, len(rows), model.name),
        classes=answers.classes,
    )


def in_order(table: "pandas.Series[Any] | pandas.DataFrame") -> bool:
    """Whether rows still count 0, 1, …, as those that a model is given do."""
    return table.index.equals(pandas.RangeIndex(len(table)))


def decisions(
    model: TabularModel, answers: Answers, positive: Positive, threshold: float | None = None
) -> Flags:
    """Which answers are positive: the model's own decisions, or score ≥ threshold where one is set.

    A model that gives scores only decides at 0.5. Raises InputError for a threshold without scores,
    and when `positive` is no answer of this model: nobody would seem to be selected.
    """
    if threshold is None and answers.decision is not None:
        codes, kinds = pandas.factorize(answers.decision)
        found = [value_of(kind) for kind in kinds]
        _check_known(model.name, found, answers.classes, positive)
        wanted = value_of(positive)
        return numpy.array([kind == wanted for kind in found], dtype=numpy.bool_)[codes]
    if answers.score is None:
        raise InputError(
            f"{model.name} gives decisions and no probabilities: leave the threshold out"
        )
    return answers.score >= (0.5 if threshold is None else threshold)


def _check_known(
    name: str, found: list[float | str], classes: tuple[object, ...] | None, positive: Positive
) -> None:
    known = set(found) if classes is None else {value_of(one) for one in classes}
    if known <= {0.0, 1.0}:  # a model that says 0 of these rows could say 1 of others
        known = {0.0, 1.0}
    if value_of(positive) not in known:
        listed = shown(sorted(known, key=str))
        raise InputError(
            f"{name} answers {listed}, never the positive value {positive!r}: set positive to one of them"
        )


def of_probabilities(
    table: numpy.ndarray[Any, Any], classes: tuple[object, ...], positive: Positive, name: str
) -> Numbers:
    """Of probabilities, rows × classes, those of the positive class.

    Raises InputError for another number of columns than classes, rows that do not add up to 1, or a
    positive value that is no class.
    """
    table = numpy.asarray(table, dtype=numpy.float64)
    if table.ndim != 2 or table.shape[1] != len(classes):
        raise InputError(
            f"{name} gives probabilities of shape {table.shape}: expected a column for each of its "
            f"{len(classes)} classes"
        )
    _check_known(name, [], classes, positive)
    check_present(numpy.isnan(table).any(axis=1), name)
    sums = table.sum(axis=1)
    if not (numpy.abs(sums - 1) <= _SUM).all():
        raise InputError(
            f"{name} gives probabilities that add up to {sums.min():g} to {sums.max():g} "
            "in a row: expected 1; leave scores out that are no probabilities"
        )
    place = [value_of(one) for one in classes].index(value_of(positive))
    return table[:, place]


def check_present(missing: Flags, name: str) -> None:
    """Raises InputError where an answer is missing."""
    if missing.any():
        raise InputError(
            f"{name} leaves {int(missing.sum())} of {len(missing)} answers out (NaN or empty), the first in "
            f"row {int(numpy.flatnonzero(missing)[0]) + 1}: expected one answer a row; a missing answer is "
            "no decision"
        )


def _decided(raw: Any, n: int, name: str) -> Raw:
    answers = _one_each(raw, n, name)
    codes, kinds = pandas.factorize(answers)
    none = numpy.array([str(kind).strip().lower() in _NO_ANSWER for kind in kinds], numpy.bool_)
    missing = (codes < 0) | numpy.append(none, True)[codes]
    check_present(missing, name)
    return answers


def _scores(raw: Any, n: int, name: str) -> Numbers:
    try:
        scores = _one_each(raw, n, name).astype(numpy.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} gives scores that are no numbers: {reason(error)}") from error
    check_present(numpy.isnan(scores), name)
    low, high = float(scores.min(initial=0)), float(scores.max(initial=0))
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise InputError(
            f"{name} gives scores from {scores.min():g} to {high:g}: expected decisions, or probabilities "
            "in [0, 1]; turn log-odds z into 1 / (1 + exp(-z))"
        )
    return scores.clip(0, 1)


def _one_each(raw: Any, n: int, name: str) -> Raw:
    try:
        answers = numpy.asarray(raw)
    except ValueError as error:
        raise InputError(
            f"{name} gives answers of different lengths: expected one answer a row"
        ) from error
    if answers.ndim == 2 and answers.shape[1] == 1:
        answers = answers[:, 0]
    if answers.shape != (n,):
        raise InputError(
            f"{name} answered {n} rows with shape {answers.shape}: expected one answer a row, got "
            f"{answers.shape[0] if answers.ndim else 'a single one'}"
        )
    return answers
