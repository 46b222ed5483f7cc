"""What mitigations would do: each is fitted on one half of the rows and measured on the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy
import pandas

from assaymark.bias.samples import Sample, group_columns, halves, sample_of
from assaymark.bias.mitigations import (
    BASE_ESTIMATOR,
    CONSTRAINTS,
    Fitted,
    Mitigation,
    Place,
    chosen,
)
from assaymark.bias.rows import Numbers, Predictions
from assaymark.bias.tradeoffs import (
    MEASURES,
    Estimated,
    change_of_accuracy,
    pareto,
    tally,
)
from assaymark.reports.errors import AssaymarkError, InputError, nearest

AS_IS, BASE = "as it is", "base estimator"
_SCORE = "score"


@dataclass(frozen=True, kw_only=True, eq=False)
class Tried:
    """What one way of deciding does on the rows that are measured on.

    measures: keys of MEASURES, each None with a reason when it could not be measured. change: of
    accuracy against the decisions as they are. front: whether no other way is at least as accurate and as
    even. why: the reason when there are no decisions to measure. doubt: why good numbers would not be
    believed.
    """

    name: str
    measures: Mapping[str, Estimated]
    change: Estimated
    n: int
    front: bool = False
    why: str = ""
    note: str = ""
    doubt: str | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class WhatIf:
    """All ways on the same rows. left_out: groups that were too small."""

    attribute: str
    constraint: str
    tried: tuple[Tried, ...]
    methods: Mapping[str, Mitigation]
    fitted_on: int
    measured_on: int
    left_out: tuple[str, ...]
    sensitive_feature: bool

    @property
    def gap(self) -> str:
        """The measure that the constraint is about."""
        return CONSTRAINTS[self.constraint]


def what_if(
    data: Predictions,
    features: pandas.DataFrame | None,
    *,
    attribute: str,
    methods: Sequence[str],
    constraint: str = "demographic_parity",
    seed: int = 0,
    min_group_size: int = 1,
) -> WhatIf:
    """Fit each method on a random half of the rows, and measure all of them on the other half.

    features: columns to fit models on, as many rows as data; None: methods that need them are not
    measured. methods: names or families of MITIGATIONS. A method that cannot be fitted is there with the
    reason. Raises InputError for an unknown attribute, method or constraint, or features of other rows.
    """
    mitigations = chosen(methods)
    check_constraint(constraint)
    sample, left_out = sample_of(data, features, attribute=attribute, min_group_size=min_group_size)
    first, second = halves(sample, seed)
    fitting, measuring = sample.take(first), sample.take(second)
    place = Place(group_columns=group_columns(data, attribute), score_column=_SCORE)
    before = measuring.decision.astype(numpy.float64)
    tried = [_measured(AS_IS, measuring, before, before)]
    base = {} if features is None else {BASE: BASE_ESTIMATOR}
    for name, mitigation in (base | mitigations).items():
        try:
            fitted = fitted_by(mitigation, fitting, place, constraint)
            chance = fitted.rule.chances(measuring.table)
        except InputError as error:
            tried.append(_failed(name, measuring, str(error)))
        else:
            tried.append(_measured(name, measuring, chance, before, fitted))
    front = pareto([_point(each, CONSTRAINTS[constraint]) for each in tried])
    return WhatIf(
        attribute=attribute,
        constraint=constraint,
        tried=tuple(replace(each, front=on) for each, on in zip(tried, front, strict=True)),
        methods=mitigations,
        fitted_on=fitting.n,
        measured_on=measuring.n,
        left_out=left_out,
        sensitive_feature=features is not None
        and bool({*map(str, features.columns)} & {*place.group_columns}),
    )


def check_constraint(constraint: str) -> None:
    """Raises InputError for one that is not in CONSTRAINTS."""
    if constraint not in CONSTRAINTS:
        raise InputError(f'no constraint "{constraint}"{nearest(constraint, CONSTRAINTS)}')


def fitted_by(mitigation: Mitigation, sample: Sample, place: Place, constraint: str) -> Fitted:
    """Raises InputError, one sentence, when these rows cannot be fitted on."""
    if mitigation.needs == "score" and sample.score is None:
        raise InputError(
            "it needs a score, and the table has decisions only: name the score column"
        )
    if mitigation.needs == "features" and sample.features is None:
        raise InputError("it fits a model of its own and needs features: name the feature columns")
    try:
        return mitigation.fit(sample, place, constraint)
    except AssaymarkError:
        raise
    except (ValueError, ArithmeticError, LookupError, TypeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"it could not be fitted: {reason[:200]}") from error


def measures(sample: Sample, chance: Numbers) -> dict[str, Estimated]:
    """All of MEASURES. chance: of a positive decision, in [0, 1], for each row of the sample."""
    found = tally(sample, chance)
    return {name: measure(found) for name, measure in MEASURES.items()}


def _measured(
    name: str, sample: Sample, chance: Numbers, before: Numbers, fitted: Fitted | None = None
) -> Tried:
    return Tried(
        name=name,
        measures=measures(sample, chance),
        change=change_of_accuracy(sample, before, chance),
        n=sample.n,
        note=fitted.note if fitted else "",
        doubt=fitted.doubt if fitted else None,
    )


def _failed(name: str, sample: Sample, why: str) -> Tried:
    missing = Estimated(value=None, why=why)
    return Tried(
        name=name, measures=dict.fromkeys(MEASURES, missing), change=missing, n=sample.n, why=why
    )


def _point(tried: Tried, gap: str) -> tuple[float, float] | None:
    x, y = tried.measures[gap].value, tried.measures["accuracy"].value
    return None if x is None or y is None else (x, y)
