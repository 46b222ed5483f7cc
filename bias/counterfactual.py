"""The attribute flip test: a sensitive column is changed, all else kept, and the model asked again.

The share of rows whose decision changes is the causal discrimination score of Galhotra, Brun and Meliou
2017, Fairness testing (arXiv 1709.03221), on rows that exist; Garg et al. 2019 (arXiv 1809.10610) do the
same to words. It is not counterfactual fairness as Kusner et al. 2017 (arXiv 1703.06856) define it: what
the attribute would have caused in other columns stays as it is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy
import pandas

from assaymark.bias.answers import Answers, Positive, TabularModel, ask, decisions
from assaymark.bias.columns import MANY_GROUPS
from assaymark.bias.rows import Flags, Numbers
from assaymark.reports.errors import InputError

Places = numpy.ndarray[tuple[int], numpy.dtype[numpy.int64]]


@dataclass(frozen=True, kw_only=True)
class Changed:
    """Of rows with one value, how many answers changed.

    value: a share in [0, 1] by weight, None where nothing weighs. cases: how many equally weighted rows
    say as much (Kish).
    """

    n: int
    value: float | None
    cases: float

    @property
    def hits(self) -> float:
        return 0.0 if self.value is None else self.value * self.cases


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Rows with the value `old`, asked as if it were `new`.

    gained, lost: the shares whose decision became positive, and ceased to be. score: the mean change
    of the score, distance: that of its absolute value; None for a model without scores.
    """

    old: str
    new: str
    weight: float
    changed: Changed
    gained: float | None
    lost: float | None
    score: float | None
    distance: float | None


@dataclass(frozen=True, kw_only=True)
class Example:
    """A row (counted from 0) whose decision became positive, or ceased to be."""

    row: int
    old: str
    new: str
    gained: bool


@dataclass(frozen=True, kw_only=True)
class Flips:
    """What changing a column does to decisions.

    total: rows whose decision changes for at least one other value. missing: rows without a value,
    which were left out. score_change: mean of |change of the score| over rows and other values; None
    for a model without scores.
    """

    column: str
    total: Changed
    missing: int
    by_value: dict[str, Changed]
    pairs: tuple[Pair, ...]
    score_change: float | None
    examples: tuple[Example, ...]


def why_not(model: TabularModel, features: pandas.DataFrame, column: str) -> str | None:
    """Why a flip of this column says nothing, as a clause; None when it can be measured."""
    if column not in features.columns or not model.reads(column):
        return (
            f"{model.name} does not read the column {column}, so changing it changes nothing; that says "
            "nothing about other columns that stand for it"
        )
    values = features[column].nunique()
    if values < 2:
        return f"{column} has {values} different values, so there is none to change it to"
    if values > MANY_GROUPS:
        return (
            f"{column} has {values} different values and is flipped between at most {MANY_GROUPS}: name a "
            "column with bands that the model reads"
        )
    return None


def flips(
    model: TabularModel,
    features: pandas.DataFrame,
    column: str,
    *,
    positive: Positive,
    threshold: float | None = None,
    weight: Numbers | None = None,
    examples: int = 5,
) -> Flips:
    """Ask about every row with each other observed value in the column.

    positive, threshold: as in `decisions`. weight: one a row. Raises InputError for a column that cannot
    be flipped (`why_not`), and for a model that decides the same rows differently when it is asked
    twice: a change would not be due to the column.
    """
    reason = why_not(model, features, column)
    if reason is not None:
        raise InputError(f"the flip rate of {column} cannot be measured: {reason}")
    codes, values = pandas.factorize(features[column], sort=True)
    places = numpy.flatnonzero(codes >= 0)
    rows, old = features.iloc[places], codes[places]
    weighs = numpy.ones(len(rows)) if weight is None else weight[places]
    names = [_shown(value) for value in values]
    before = _with_classes(ask(model, rows))
    decided = decisions(model, before, positive, threshold)
    _check_steady(decided, decisions(model, ask(model, rows), positive, threshold), model)

    changed = numpy.zeros(len(rows), dtype=numpy.bool_)
    pairs: list[Pair] = []
    found: list[Example] = []
    for new, name in enumerate(names):
        others = numpy.flatnonzero(old != new)
        asked = _with(rows, column, others, int(numpy.argmax(old == new)))
        after = _as_before(before, ask(model, asked), model)
        flipped = decisions(model, after, positive, threshold) != decided[others]
        changed[others] |= flipped
        change = _change(before, others, after)
        for start, origin in enumerate(names):
            mine = old[others] == start
            if start != new:
                moved = None if change is None else change[mine]
                one = others[mine]
                pairs.append(_pair((origin, name), flipped[mine], decided[one], moved, weighs[one]))
        for one in others[flipped][: max(examples - len(found), 0)]:
            row, gained = int(places[one]), not decided[one]
            found.append(Example(row=row, old=names[old[one]], new=name, gained=gained))
    return Flips(
        column=column,
        total=_changed(changed, weighs),
        missing=len(features) - len(rows),
        by_value={
            name: _changed(changed[old == place], weighs[old == place])
            for place, name in enumerate(names)
        },
        pairs=tuple(sorted(pairs, key=lambda pair: names.index(pair.old))),
        score_change=_overall(pairs),
        examples=tuple(found),
    )


def _pair(
    names: tuple[str, str], flipped: Flags, decided: Flags, change: Numbers | None, weights: Numbers
) -> Pair:
    return Pair(
        old=names[0],
        new=names[1],
        weight=float(weights.sum()),
        changed=_changed(flipped, weights),
        gained=_mean(flipped & ~decided, weights),
        lost=_mean(flipped & decided, weights),
        score=None if change is None else _mean(change, weights),
        distance=None if change is None else _mean(numpy.abs(change), weights),
    )


def _overall(pairs: Sequence[Pair]) -> float | None:
    """The mean distance over rows and other values."""
    known = [(pair.distance, pair.weight) for pair in pairs if pair.distance is not None]
    total = math.fsum(weight for _, weight in known)
    return math.fsum(distance * weight for distance, weight in known) / total if total else None


def _with(rows: pandas.DataFrame, column: str, places: Places, source: int) -> pandas.DataFrame:
    """Rows with another value in the column: that of the row `source`, so that its type stays."""
    asked = rows.iloc[places].copy()
    value = rows[column].iloc[numpy.full(len(places), source)]
    asked[column] = value.set_axis(asked.index)
    return asked


def _with_classes(answers: Answers) -> Answers:
    """Answers that say which decisions there are, so that among fewer rows none needs to be positive."""
    if answers.classes is not None or answers.decision is None:
        return answers
    return replace(answers, classes=tuple(pandas.unique(answers.decision)))


def _as_before(before: Answers, after: Answers, model: TabularModel) -> Answers:
    """The answers about changed rows, read as those before: few probabilities may all be 0 or 1."""
    if before.decision is None and after.score is None and after.decision is not None:
        after = Answers(score=after.decision.astype(numpy.float64))
    if (before.decision is None) != (after.decision is None):
        raise InputError(
            f"{model.name} answers with decisions of some rows and with probabilities of others: return the "
            "same for all, or a column of probabilities for each class"
        )
    return replace(after, classes=before.classes)


def _check_steady(first: Flags, second: Flags, model: TabularModel) -> None:
    apart = int((first != second).sum())
    if apart:
        raise InputError(
            f"{model.name} decided {apart} of {len(first)} rows differently when it was asked twice: fix "
            "its random numbers, so that a changed decision is due to the changed column"
        )


def _change(before: Answers, places: Places, after: Answers) -> Numbers | None:
    if before.score is None or after.score is None:
        return None
    return after.score - before.score[places]


def _changed(flipped: Flags, weights: Numbers) -> Changed:
    squares = float(weights @ weights)
    cases = float(weights.sum()) ** 2 / squares if squares else 0.0
    return Changed(n=len(flipped), value=_mean(flipped, weights), cases=cases)


def _mean(values: Flags | Numbers, weights: Numbers) -> float | None:
    """The weighted mean; None where nothing weighs."""
    total = float(weights.sum())
    return min(float(values @ weights) / total, 1.0) if total else None


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
