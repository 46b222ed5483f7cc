"""Mitigations by name: what each reads, does, and where it comes from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from assaymark.bias.adversarial import adversarial
from assaymark.bias.mitigation_fits import (
    Fitted,
    base_estimator,
    exponentiated_gradient,
    one_threshold_each,
    resampling,
    reweighing,
    threshold_optimizer,
)
from assaymark.bias.samples import Sample
from assaymark.reports.errors import InputError, nearest

CONSTRAINTS: Mapping[str, str] = {
    "demographic_parity": "demographic_parity_difference",
    "equalized_odds": "equalized_odds_difference",
    "equal_opportunity": "equal_opportunity_difference",
}
"""What the groups should have alike, and the gap that says how far they are from it."""


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
