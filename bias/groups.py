"""Group metrics through fairlearn, with its undefined zeros taken out.

fairlearn scores a rate over no cases as 0, so a group without positives gets a true positive rate
of 0 and a perfect classifier the worst equalized-odds difference there is. Here such a rate is
None, and so is every comparison that would need it.
"""

from dataclasses import dataclass
from typing import Any

import numpy
from fairlearn.metrics import (
    MetricFrame,
    count,
    demographic_parity_difference,
    demographic_parity_ratio,
    equalized_odds_difference,
    equalized_odds_ratio,
    false_positive_rate,
    selection_rate,
    true_positive_rate,
)
from sklearn.metrics import accuracy_score

from assaymark.bias.predictions import Predictions

GROUP_METRICS = ("selection_rate", "true_positive_rate", "false_positive_rate", "accuracy")
GAPS = {
    "demographic_parity_difference": demographic_parity_difference,
    "demographic_parity_ratio": demographic_parity_ratio,
    "equalized_odds_difference": equalized_odds_difference,
    "equalized_odds_ratio": equalized_odds_ratio,
}
_NEEDS = {"demographic": ("selection_rate",), "equalized": GROUP_METRICS[1:3]}


@dataclass(frozen=True, kw_only=True)
class Rate:
    """hits of n; value None over no cases."""

    hits: int
    n: int

    @property
    def value(self) -> float | None:
        return self.hits / self.n if self.n else None


@dataclass(frozen=True, kw_only=True)
class Group:
    """The rates of one group. compared: large enough to take part in differences and ratios."""

    name: str
    n: int
    positives: int
    rates: dict[str, Rate]
    mean_score: float | None
    compared: bool


@dataclass(frozen=True, kw_only=True)
class Grouped:
    """All groups of one sensitive attribute, and the gaps between them.

    why: for each gap that is None, the reason.
    """

    attribute: str
    groups: tuple[Group, ...]
    gaps: dict[str, float | None]
    why: dict[str, str]


def by_group(data: Predictions, attribute: str, min_group_size: int = 1) -> Grouped:
    """Rates by group of a sensitive column, and the four gaps as fairlearn defines them.

    Demographic parity compares selection rates; equalized odds takes the larger difference (or the
    smaller ratio) of true and false positive rates. A gap is None when fewer than two groups can be
    compared, or when one of them has a rate that is not defined.
    """
    labels = data.groups[attribute]
    frame = MetricFrame(
        metrics={
            "n": count,
            "selection_rate": selection_rate,
            "true_positive_rate": true_positive_rate,
            "false_positive_rate": false_positive_rate,
            "accuracy": accuracy_score,
        },
        y_true=data.label.astype(int),
        y_pred=data.prediction.astype(int),
        sensitive_features=labels.rename(attribute),
    ).by_group
    groups = tuple(
        _group(data, labels.to_numpy() == name, str(name), frame.loc[name], min_group_size)
        for name in sorted(frame.index)
    )
    compared = [group for group in groups if group.compared]
    kept = numpy.isin(labels.to_numpy(), [group.name for group in compared])
    gaps: dict[str, float | None] = {}
    why: dict[str, str] = {}
    for gap, function in GAPS.items():
        reason = _undefined(attribute, gap, compared)
        if reason is None:
            value = float(
                function(
                    data.label[kept].astype(int),
                    data.prediction[kept].astype(int),
                    sensitive_features=labels[kept],
                )
            )
            if numpy.isfinite(value):
                gaps[gap] = value
                continue
            reason = "every compared rate is 0, so no ratio is defined"
        gaps[gap], why[gap] = None, reason
    return Grouped(attribute=attribute, groups=groups, gaps=gaps, why=why)


def _group(data: Predictions, rows: Any, name: str, row: Any, min_group_size: int) -> Group:
    n, positives = int(row["n"]), int(data.label[rows].sum())
    sizes = {
        "selection_rate": n,
        "true_positive_rate": positives,
        "false_positive_rate": n - positives,
        "accuracy": n,
    }
    return Group(
        name=name,
        n=n,
        positives=positives,
        rates={
            metric: Rate(hits=round(float(row[metric]) * size), n=size)
            for metric, size in sizes.items()
        },
        mean_score=None if data.score is None else float(data.score[rows].mean()),
        compared=n >= min_group_size,
    )


def _undefined(attribute: str, gap: str, groups: list[Group]) -> str | None:
    if len(groups) < 2:
        return f"{attribute} has {len(groups)} group that can be compared: two are needed"
    for metric in _NEEDS[gap.split("_")[0]]:
        for group in groups:
            if group.rates[metric].value is None:
                lacks = "positives" if metric == "true_positive_rate" else "negatives"
                return f"group {group.name!r} has no {lacks}, so its {metric} is not defined"
    return None
