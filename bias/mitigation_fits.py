"""How each mitigation is fitted: from some rows, a rule that treats the groups more alike.

All rules are plain data (`assaymark.bias.rules`), whatever library found them.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from assaymark.bias.encoders import encoders_of, matrix
from assaymark.bias.group_thresholds import group_thresholds
from assaymark.bias.rows import Numbers
from assaymark.bias.rules import GroupRule, Linear, Step, Thresholds, linear
from assaymark.bias.samples import Sample
from assaymark.reports.errors import InputError

LABELS: Mapping[str, tuple[int, ...]] = {
    "demographic_parity": (),
    "equalized_odds": (0, 1),
    "equal_opportunity": (1,),
}
"""Labels that every group must have for the constraint to mean something."""
_KINDS = ("negatives", "positives")


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A rule, or what decides about one. note: for the reader. doubt: why its numbers are in doubt."""

    rule: Thresholds | Linear
    note: str = ""
    doubt: str | None = None


def base_estimator(sample: Sample, constraint: str) -> Fitted:
    """Logistic regression on the features, without any mitigation."""
    return _regression(sample, sample.mass)


def reweighing(sample: Sample, constraint: str) -> Fitted:
    """Logistic regression on rows weighted so that label and group are independent."""
    need(sample, (0, 1))
    return _regression(sample, sample.mass * reweighed(sample))


def reweighed(sample: Sample) -> Numbers:
    """P(group) P(label) / P(group, label) for each row.

    Kamiran and Calders 2012, Knowledge and Information Systems 33, algorithm 3.
    """
    size = len(sample.group.names)
    cell = sample.group.codes * numpy.int32(2) + sample.label
    mass = numpy.bincount(cell, weights=sample.mass, minlength=2 * size).reshape(size, 2)
    mass = mass / mass.sum()
    expected = mass.sum(axis=1, keepdims=True) * mass.sum(axis=0, keepdims=True)
    with numpy.errstate(invalid="ignore", divide="ignore"):
        return numpy.asarray((expected / mass).reshape(-1)[cell])


def resampling(sample: Sample, constraint: str) -> Fitted:
    """Logistic regression on rows some of which are there twice or not at all.

    Preferential sampling of Kamiran and Calders 2012, section 4.3, by the scores of `base_estimator`.
    """
    need(sample, (0, 1))
    ranker = base_estimator(sample, constraint)
    assert sample.features is not None
    times = resampled(sample, ranker.rule.probabilities(sample.features))
    return _regression(sample, sample.mass * times)


def resampled(sample: Sample, score: Numbers) -> Numbers:
    """How often each row is there, so that label and group are independent up to rounding.

    Of each group and label, the rows whose score is nearest to the other label are the first to be
    left out or to be there once more.
    """
    cell = sample.group.codes * numpy.int32(2) + sample.label
    sizes = numpy.bincount(cell)
    size = sizes[cell]
    wanted = numpy.rint(size * reweighed(sample)).astype(numpy.int64)
    order = numpy.lexsort((numpy.where(sample.label, score, -score), cell))
    starts = numpy.cumsum(sizes) - sizes
    place = numpy.empty(sample.n, dtype=numpy.int64)
    place[order] = numpy.arange(sample.n) - starts[cell[order]]
    fewer = place >= size - wanted
    more = wanted // size + (place < wanted % size)
    times: Numbers = numpy.where(wanted < size, fewer, more).astype(numpy.float64)
    return times


def threshold_optimizer(sample: Sample, constraint: str) -> Fitted:
    """fairlearn's ThresholdOptimizer on the score alone (Hardt, Price and Srebro 2016)."""
    from fairlearn.postprocessing import ThresholdOptimizer

    need(sample, (0, 1))  # its curves need both labels in each group, whatever the constraint
    names = {"equal_opportunity": "true_positive_rate_parity"}
    optimizer = ThresholdOptimizer(
        estimator=_Score(),
        constraints=names.get(constraint, constraint),
        prefit=True,
        predict_method="predict",
    )
    assert sample.score is not None
    with quiet():
        optimizer.fit(
            sample.score[:, None],
            sample.label.astype(int),
            sensitive_features=sample.group.codes,
        )
    found = optimizer.interpolated_thresholder_.interpolation_dict
    rules = [_interpolated(name, found[code]) for code, name in enumerate(sample.group.names)]
    return Fitted(rule=_thresholds(sample, rules), note=unweighted(sample))


def _interpolated(group: str, found: Any) -> GroupRule:
    """fairlearn's mixture of two thresholds and, for equalized odds, of a constant."""
    ignored = float(found.get("p_ignore", 0.0))
    always = ignored * float(found.get("prediction_constant", 0.0))
    steps = []
    for share, operation in ((found.p0, found.operation0), (found.p1, found.operation1)):
        adds = (1 - ignored) * float(share)
        if operation.operator != ">":
            raise InputError(f"fairlearn found a threshold that is not a minimum: {operation}")
        if operation.threshold == -numpy.inf:
            always += adds
        elif operation.threshold != numpy.inf and adds > 0:
            steps.append(Step(above=float(operation.threshold), adds=min(adds, 1.0)))
    return GroupRule(group=group, always=min(max(always, 0.0), 1.0), steps=tuple(steps))


class _Score(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """The score of a model that is not at hand, as an estimator."""

    def fit(self, x: Any, y: Any) -> "_Score":
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict(self, x: Any) -> Any:
        return numpy.asarray(x)[:, 0]


def one_threshold_each(sample: Sample, constraint: str, *, tolerance: float) -> Fitted:
    """The most accurate threshold of each group that keeps the gap within the tolerance."""
    need(sample, LABELS[constraint])
    assert sample.score is not None
    rates = {
        "demographic_parity": ("selection_rate",),
        "equalized_odds": ("true_positive_rate", "false_positive_rate"),
        "equal_opportunity": ("true_positive_rate",),
    }[constraint]
    found = group_thresholds(sample, rates, tolerance)
    rules = []
    for name, above in zip(sample.group.names, found, strict=True):
        steps = (Step(above=above, adds=1.0),) if numpy.isfinite(above) else ()
        rules.append(GroupRule(group=name, always=float(above == -numpy.inf), steps=steps))
    return Fitted(rule=_thresholds(sample, rules))


def exponentiated_gradient(sample: Sample, constraint: str, *, tolerance: float) -> Fitted:
    """fairlearn's ExponentiatedGradient over logistic regressions (Agarwal et al. 2018)."""
    from fairlearn import reductions

    need(sample, LABELS[constraint])
    moments = {
        "demographic_parity": reductions.DemographicParity,
        "equalized_odds": reductions.EqualizedOdds,
        "equal_opportunity": reductions.TruePositiveRateParity,
    }
    assert sample.features is not None
    encoders = encoders_of(sample.features)
    gradient = reductions.ExponentiatedGradient(
        LogisticRegression(max_iter=1000),
        moments[constraint](difference_bound=tolerance),
        eps=tolerance,
    )
    with quiet() as doubts:
        gradient.fit(
            matrix(encoders, sample.features),
            sample.label.astype(int),
            sensitive_features=sample.group.codes,
        )
    if gradient.best_gap_ > gradient.nu:
        doubts.append(
            f"the gradient did not converge in {gradient.max_iter} rounds: its duality gap is "
            f"{gradient.best_gap_:.2g}, and should be at most {gradient.nu:.2g}"
        )
    width = sum(encoder.width for encoder in encoders)
    members = [
        (float(gradient.weights_[place]), *_line(gradient.predictors_[place], width))
        for place in gradient.weights_.index
    ]
    rule = linear(encoders, members)
    return Fitted(rule=rule, note=unweighted(sample), doubt="; ".join(doubts) or None)


def _line(predictor: Any, width: int) -> tuple[Sequence[float], float]:
    """Coefficients and intercept; of a predictor that says the same to everybody 0 and its answer."""
    if hasattr(predictor, "coef_"):
        return predictor.coef_[0].tolist(), float(predictor.intercept_[0])
    return [0.0] * width, 1.0 if int(predictor.constant) else -1.0


def _regression(sample: Sample, weight: Numbers) -> Fitted:
    assert sample.features is not None
    if sample.label.all() or not sample.label.any():
        raise InputError("all rows that would be fitted on have the same label")
    encoders = encoders_of(sample.features)
    model = LogisticRegression(max_iter=1000)
    with quiet() as doubts:
        model.fit(matrix(encoders, sample.features), sample.label, sample_weight=weight)
    coefficients, intercept = _line(model, 0)
    return Fitted(
        rule=linear(encoders, [(1.0, coefficients, intercept)]), doubt="; ".join(doubts) or None
    )


@contextmanager
def quiet() -> Iterator[list[str]]:
    """Libraries' warnings about themselves are silent; that a fit did not converge is kept.

    One thread: the sums of many small fits are too short to be shared, and threads that wait for each
    other make them ten times slower on a busy machine.
    """
    doubts: list[str] = []
    with warnings.catch_warnings(record=True) as seen, threadpool_limits(1):
        warnings.simplefilter("always")
        yield doubts
    slow = sum(issubclass(each.category, ConvergenceWarning) for each in seen)
    if slow:
        doubts.append(f"{slow} logistic regressions did not converge in 1,000 steps")


def _thresholds(sample: Sample, rules: Sequence[GroupRule]) -> Thresholds:
    return Thresholds(
        group_columns=sample.group_columns, score_column=sample.score_column, groups=tuple(rules)
    )


def need(sample: Sample, labels: Sequence[int]) -> None:
    """At least two groups, each with rows of these labels. Raises InputError."""
    names = sample.group.names
    if len(names) < 2:
        raise InputError(f"{sample.group.name} has {len(names)} group: two are needed")
    cell = sample.group.codes * numpy.int32(2) + sample.label
    counts = numpy.bincount(cell, minlength=2 * len(names)).reshape(len(names), 2)
    for label in labels:
        if not counts[:, label].all():
            name = names[int(numpy.flatnonzero(counts[:, label] == 0)[0])]
            raise InputError(f"group {name!r} has no {_KINDS[label]} in the half that is fitted on")


def unweighted(sample: Sample) -> str:
    return "" if sample.weight is None else "fitted without the weights of rows, measured with them"
