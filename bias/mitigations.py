"""Mitigations by name: each finds, on some rows, a rule that treats the groups more alike.

All rules are plain data (`assaymark.bias.rules`), whatever library found them.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

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
from assaymark.reports.errors import InputError, nearest

Constraint = Literal["demographic_parity", "equalized_odds", "equal_opportunity"]
CONSTRAINTS: Mapping[str, str] = {
    "demographic_parity": "demographic_parity_difference",
    "equalized_odds": "equalized_odds_difference",
    "equal_opportunity": "equal_opportunity_difference",
}
"""What the groups should have alike, and the gap that says how far they are from it."""
_LABELS: Mapping[str, tuple[int, ...]] = {
    "demographic_parity": (),
    "equalized_odds": (0, 1),
    "equal_opportunity": (1,),
}
"""Labels that every group must have for the constraint to mean something."""
_KINDS = ("negatives", "positives")
_MOVED, _RARE = 0.05, 0.01
"""More decisions that still change, or fewer of the rarer decision, put an adversary's model in doubt."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A rule, or what decides about one. note: for the reader. doubt: why its numbers are in doubt."""

    rule: Thresholds | Linear
    note: str = ""
    doubt: str | None = None


@dataclass(frozen=True, kw_only=True)
class Mitigation:
    """fit: from rows and the constraint. needs: what it reads beside labels and groups.

    family: the name that stands for all of its settings. sensitive: whether each decision needs the
    group of the person decided about.
    """

    family: str
    fit: Callable[[Sample, str], Fitted]
    needs: Literal["score", "features"]
    sensitive: bool
    says: str
    source: str


def base_estimator(sample: Sample, constraint: str) -> Fitted:
    """Logistic regression on the features, without any mitigation."""
    return _regression(sample, sample.mass)


def reweighing(sample: Sample, constraint: str) -> Fitted:
    """Logistic regression on rows weighted so that label and group are independent."""
    _need(sample, (0, 1))
    return _regression(sample, sample.mass * reweighed(sample))


def reweighed(sample: Sample) -> Numbers:
    """P(group) P(label) / P(group, label) for each row.

    Kamiran and Calders 2012, Knowledge and Information Systems 33, section 4.3 (algorithm 3).
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
    _need(sample, (0, 1))
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

    _need(sample, (0, 1))  # its curves need both labels in each group, whatever the constraint
    names = {"equal_opportunity": "true_positive_rate_parity"}
    optimizer = ThresholdOptimizer(
        estimator=_Score(),
        constraints=names.get(constraint, constraint),
        prefit=True,
        predict_method="predict",
    )
    assert sample.score is not None
    with _quiet():
        optimizer.fit(
            sample.score[:, None],
            sample.label.astype(int),
            sensitive_features=sample.group.codes,
        )
    found = optimizer.interpolated_thresholder_.interpolation_dict
    rules = [_interpolated(name, found[code]) for code, name in enumerate(sample.group.names)]
    return Fitted(rule=_thresholds(sample, rules), note=_unweighted(sample))


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
    _need(sample, _LABELS[constraint])
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

    _need(sample, _LABELS[constraint])
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
    with _quiet() as doubts:
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
    return Fitted(rule=rule, note=_unweighted(sample), doubt="; ".join(doubts) or None)


def _line(predictor: Any, width: int) -> tuple[Sequence[float], float]:
    """Coefficients and intercept; of a predictor that says the same to everybody 0 and its answer."""
    if hasattr(predictor, "coef_"):
        return predictor.coef_[0].tolist(), float(predictor.intercept_[0])
    return [0.0] * width, 1.0 if int(predictor.constant) else -1.0


def adversarial(sample: Sample, constraint: str, *, alpha: float) -> Fitted:
    """fairlearn's AdversarialFairnessClassifier of a linear predictor (Zhang et al. 2018).

    It starts from `base_estimator` and takes 600 steps on all rows at once, with learning rate 0.1 /
    (1 + step / 100). alpha: 1 keeps much of the accuracy, 10 closes most of the gap; chosen on Adult
    and COMPAS by sex. As fairlearn also takes out of each step what would help the adversary, alpha
    says how fast the gap closes rather than how far. In doubt where more than 5 % of the decisions
    still changed in the last 100 steps, or fewer than 1 % are decided unlike the others.
    """
    from assaymark.bias.mitigation_adversary import debiased

    _need(sample, _LABELS[constraint])
    if constraint == "equal_opportunity":
        raise InputError(
            "fairlearn's adversary is for demographic_parity or equalized_odds, not equal_opportunity: "
            "choose equalized_odds, which is stricter"
        )
    start = base_estimator(sample, constraint).rule
    assert isinstance(start, Linear)
    assert sample.features is not None
    (first,) = start.members
    with _quiet():
        found = debiased(
            matrix(start.encoders, sample.features),
            sample.label,
            sample.group.codes,
            (numpy.array(first.coefficients), first.intercept),
            constraint=constraint,
            alpha=alpha,
        )
    rule = linear(start.encoders, [(1.0, found.coefficients.tolist(), found.intercept)])
    return Fitted(
        rule=rule, note=_unweighted(sample), doubt=_doubt(found.decision.mean(), found.moved)
    )


def _doubt(positive: float, moved: float) -> str | None:
    """Why a model that the adversary trained is in doubt. Raises InputError when it decides nothing."""
    rare = min(positive, 1 - positive)
    if rare == 0:
        raise InputError(
            "against the adversary only a model is left that decides the same for everybody where it was "
            "fitted, which treats nobody fairly: take a smaller alpha"
        )
    doubts = []
    if moved > _MOVED:
        doubts.append(
            f"the adversary did not settle: {moved:.0%} of the decisions changed in the last 100 of 600 steps"
        )
    if rare < _RARE:
        doubts.append(f"all but {rare:.1%} of the rows that it was fitted on are decided the same")
    return "; ".join(doubts) or None


def _regression(sample: Sample, weight: Numbers) -> Fitted:
    assert sample.features is not None
    if sample.label.all() or not sample.label.any():
        raise InputError("all rows that would be fitted on have the same label")
    encoders = encoders_of(sample.features)
    model = LogisticRegression(max_iter=1000)
    with _quiet() as doubts:
        model.fit(matrix(encoders, sample.features), sample.label, sample_weight=weight)
    coefficients, intercept = _line(model, 0)
    return Fitted(
        rule=linear(encoders, [(1.0, coefficients, intercept)]), doubt="; ".join(doubts) or None
    )


@contextmanager
def _quiet() -> Iterator[list[str]]:
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


def _need(sample: Sample, labels: Sequence[int]) -> None:
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


def _unweighted(sample: Sample) -> str:
    return "" if sample.weight is None else "fitted without the weights of rows, measured with them"


BASE_ESTIMATOR = Mitigation(
    family="base-estimator",
    fit=base_estimator,
    needs="features",
    sensitive=False,
    says="a logistic regression on the features, without any mitigation",
    source="",
)
_HARDT = "Hardt, Price and Srebro 2016, arXiv 1610.02413 (fairlearn.postprocessing)"
_AGARWAL = "Agarwal et al. 2018, arXiv 1803.02453 (fairlearn.reductions)"
_TOLERANCES = (0.02, 0.05, 0.1)
_ALPHAS = (1, 3, 10)
MITIGATIONS: Mapping[str, Mitigation] = {
    "threshold-optimizer": Mitigation(
        family="threshold-optimizer",
        fit=threshold_optimizer,
        needs="score",
        sensitive=True,
        says="thresholds on the score for each group, between which lots are drawn",
        source=_HARDT,
    ),
    **{
        f"group-thresholds-{tolerance:g}": Mitigation(
            family="group-thresholds",
            fit=partial(one_threshold_each, tolerance=tolerance),
            needs="score",
            sensitive=True,
            says=f"one threshold on the score for each group, a gap of at most {tolerance:g} where fitted",
            source="Hardt, Price and Srebro 2016, section 3.2 (without lots)",
        )
        for tolerance in _TOLERANCES
    },
    "reweighing": Mitigation(
        family="reweighing",
        fit=reweighing,
        needs="features",
        sensitive=False,
        says="a logistic regression on rows weighted so that label and group are independent, whatever "
        "the constraint",
        source="Kamiran and Calders 2012, Knowledge and Information Systems 33",
    ),
    "resampling": Mitigation(
        family="resampling",
        fit=resampling,
        needs="features",
        sensitive=False,
        says="a logistic regression on rows of which those near the border are there twice or left out, so "
        "that label and group are independent, whatever the constraint",
        source="Kamiran and Calders 2012, Knowledge and Information Systems 33",
    ),
    **{
        f"exponentiated-gradient-{tolerance:g}": Mitigation(
            family="exponentiated-gradient",
            fit=partial(exponentiated_gradient, tolerance=tolerance),
            needs="features",
            sensitive=False,
            says="logistic regressions of which a lot says which one decides, each group at most "
            f"{tolerance:g} from the mean where fitted",
            source=_AGARWAL,
        )
        for tolerance in _TOLERANCES
    },
    **{
        f"adversarial-{alpha}": Mitigation(
            family="adversarial",
            fit=partial(adversarial, alpha=float(alpha)),
            needs="features",
            sensitive=False,
            says="a linear model trained against an adversary who guesses the group from its answers, with "
            f"alpha {alpha}",
            source="Zhang, Lemoine and Mitchell 2018, arXiv 1801.07593 (fairlearn.adversarial)",
        )
        for alpha in _ALPHAS
    },
}


def chosen(methods: Sequence[str]) -> dict[str, Mitigation]:
    """The mitigations of these names; a family stands for all of its settings. Raises InputError."""
    found: dict[str, Mitigation] = {}
    families = sorted({mitigation.family for mitigation in MITIGATIONS.values()})
    for method in methods:
        mine = {name: m for name, m in MITIGATIONS.items() if method in (name, m.family)}
        if not mine:
            raise InputError(
                f'no mitigation "{method}"{nearest(method, [*families, *MITIGATIONS])}'
            )
        found |= mine
    return found
