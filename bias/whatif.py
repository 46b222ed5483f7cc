"""What mitigations would do: each is fitted on one half of the rows and measured on the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy
import pandas

from assaymark.bias.mitigation_fits import Fitted
from assaymark.bias.mitigations import (
    BASE_ESTIMATOR,
    CONSTRAINTS,
    MITIGATIONS,
    Mitigation,
    chosen,
)
from assaymark.bias.rows import Numbers, Predictions
from assaymark.bias.samples import Sample, halves, sample_of
from assaymark.bias.tradeoffs import (
    MEASURES,
    Estimated,
    change_of_accuracy,
    pareto,
    tally,
)
from assaymark.reports.errors import AssaymarkError, InputError, nearest
from assaymark.reports.model import Interval

AS_IS, BASE = "decisions as they are", "base estimator"


@dataclass(frozen=True, kw_only=True, eq=False)
class Tried:
    """What one way of deciding does on the rows that are measured on.

    measures: keys of MEASURES, each None with a reason when it could not be measured. change: of
    accuracy against that of WhatIf.reference. front: whether no other way is at least as accurate and as
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
    """All ways on the same rows.

    reference: the way that accuracy is compared with. left_out: groups that were too small.
    """

    attribute: str
    constraint: str
    reference: str
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
    methods: Sequence[str] = (),
    constraint: str = "demographic_parity",
    decided: bool = True,
    seed: int = 0,
    min_group_size: int = 1,
) -> WhatIf:
    """Fit each method on a random half of the rows, and measure all of them on the other half.

    features: columns to fit models on, as many rows as data; None: methods that need them are not
    measured. methods: names or families of MITIGATIONS; empty: all that score and features allow. A
    method that cannot be fitted is there with the reason. decided: whether data.prediction are the decisions
    of a model; if not, the model that is fitted without mitigation takes their place. Raises InputError for
    an unknown attribute, method or constraint, features of other rows, or when there is nothing to try.
    """
    there = {"score": data.score is not None, "features": features is not None}
    mitigations = chosen(methods) or {
        name: each for name, each in MITIGATIONS.items() if there[each.needs]
    }
    if not mitigations or not (decided or there["features"]):
        raise InputError(
            "there is nothing to try: name a score (threshold-optimizer, group-thresholds) or features "
            "(reweighing, resampling, exponentiated-gradient, adversarial)"
        )
    check_constraint(constraint)
    sample, left_out = sample_of(data, features, attribute=attribute, min_group_size=min_group_size)
    first, second = halves(sample, seed)
    fitting, measuring = sample.take(first), sample.take(second)
    before = measuring.decision.astype(numpy.float64) if decided else None
    tried = [] if before is None else [_measured(AS_IS, measuring, before, before)]
    base = {} if features is None else {BASE: BASE_ESTIMATOR}
    for name, mitigation in (base | mitigations).items():
        try:
            fitted = fitted_by(mitigation, fitting, constraint)
            chance = fitted.rule.chances(measuring.table)
        except InputError as error:
            tried.append(_failed(name, measuring, str(error)))
        else:
            before = chance if name == BASE and not decided else before
            tried.append(_measured(name, measuring, chance, before, fitted))
    front = pareto([_point(each, CONSTRAINTS[constraint]) for each in tried])
    return WhatIf(
        attribute=attribute,
        constraint=constraint,
        reference=AS_IS if decided else BASE,
        tried=tuple(replace(each, front=on) for each, on in zip(tried, front, strict=True)),
        methods=mitigations,
        fitted_on=fitting.n,
        measured_on=measuring.n,
        left_out=left_out,
        sensitive_feature=features is not None
        and bool({*map(str, features.columns)} & {attribute, *sample.group_columns}),
    )


def check_constraint(constraint: str) -> None:
    """Raises InputError for one that is not in CONSTRAINTS."""
    if constraint not in CONSTRAINTS:
        raise InputError(f'no constraint "{constraint}"{nearest(constraint, CONSTRAINTS)}')


def fitted_by(mitigation: Mitigation, sample: Sample, constraint: str) -> Fitted:
    """Raises InputError, one sentence, when these rows cannot be fitted on."""
    if mitigation.needs == "score" and sample.score is None:
        raise InputError(
            "it needs a score, and the table has decisions only: name the score column"
        )
    if mitigation.needs == "features" and sample.features is None:
        raise InputError("it fits a model of its own and needs features: name the feature columns")
    try:
        return mitigation.fit(sample, constraint)
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
    name: str,
    sample: Sample,
    chance: Numbers,
    before: Numbers | None,
    fitted: Fitted | None = None,
) -> Tried:
    return Tried(
        name=name,
        measures=measures(sample, chance),
        change=_change(sample, before, chance),
        n=sample.n,
        note=fitted.note if fitted else "",
        doubt=fitted.doubt if fitted else None,
    )


def _change(sample: Sample, before: Numbers | None, after: Numbers) -> Estimated:
    if before is None:
        why = f"the {BASE} that it is compared with could not be fitted"
        return Estimated(value=None, why=why)
    if after is before:
        return Estimated(value=0.0, interval_at=_nothing)
    return change_of_accuracy(sample, before, after)


def _nothing(confidence: float) -> Interval:
    return Interval(low=0, high=0, confidence=confidence, method="the same decisions")


def _failed(name: str, sample: Sample, why: str) -> Tried:
    missing = Estimated(value=None, why=why)
    return Tried(
        name=name, measures=dict.fromkeys(MEASURES, missing), change=missing, n=sample.n, why=why
    )


def _point(tried: Tried, gap: str) -> tuple[float, float] | None:
    x, y = tried.measures[gap].value, tried.measures["accuracy"].value
    return None if x is None or y is None else (x, y)
