"""Adversarial debiasing as a mitigation: a linear rule, and when its numbers are in doubt."""

import numpy

from assaymark.bias.encoders import matrix
from assaymark.bias.mitigation_fits import (
    LABELS,
    Fitted,
    base_estimator,
    need,
    quiet,
    unweighted,
)
from assaymark.bias.rules import Linear, linear
from assaymark.bias.samples import Sample
from assaymark.reports.errors import InputError

_MOVED, _RARE = 0.05, 0.01
"""More decisions that still change, or fewer of the rarer decision, put an adversary's model in doubt."""


def adversarial(sample: Sample, constraint: str, *, alpha: float) -> Fitted:
    """fairlearn's AdversarialFairnessClassifier of a linear predictor (Zhang et al. 2018).

    It starts from `base_estimator` and takes 600 steps on all rows at once, with learning rate 0.1 /
    (1 + step / 100). alpha: 1 keeps much of the accuracy, 10 closes most of the gap; chosen on Adult
    and COMPAS by sex. As fairlearn also takes out of each step what would help the adversary, alpha
    says how fast the gap closes rather than how far. In doubt where more than 5 % of the decisions
    still changed in the last 100 steps, or fewer than 1 % are decided unlike the others.
    """
    from assaymark.bias.mitigation_adversary import debiased

    need(sample, LABELS[constraint])
    if constraint == "equal_opportunity":
        raise InputError(
            "fairlearn's adversary is for demographic_parity or equalized_odds, not equal_opportunity: "
            "choose equalized_odds, which is stricter"
        )
    start = base_estimator(sample, constraint).rule
    assert isinstance(start, Linear)
    assert sample.features is not None
    (first,) = start.members
    with quiet():
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
        rule=rule, note=unweighted(sample), doubt=_doubt(found.decision.mean(), found.moved)
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
