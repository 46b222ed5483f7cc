"""The numbers that a gate of a bias check may name, by task."""

from assaymark.reports.policy_types import Metric

_GAP, _RATIO = Metric(good="low", interval=True), Metric(good="high", interval=True)
_GROWTH = Metric(good="low", interval=True)
_IN_UNITS = "is in the unit of the outcome"
_RATES: dict[str, Metric] = {
    "accuracy": Metric(good="high", interval=True),
    "selection_rate": Metric(good="either", interval=True),
    "base_rate": Metric(good="either", interval=True),
    "true_positive_rate": Metric(good="high", interval=True),
    "false_positive_rate": Metric(good="low", interval=True),
    "true_negative_rate": Metric(good="high", interval=True),
    "false_negative_rate": Metric(good="low", interval=True),
    "positive_predictive_value": Metric(good="high", interval=True),
    "negative_predictive_value": Metric(good="high", interval=True),
    "false_discovery_rate": Metric(good="low", interval=True),
    "false_omission_rate": Metric(good="low", interval=True),
    "balanced_accuracy": Metric(good="high", interval=True),
    "f1_score": Metric(good="high", interval=True),
    "matthews_correlation": Metric(
        good="high", interval=True, scale="is a correlation, 0 for decisions at random"
    ),
}
_GAPS: dict[str, Metric] = {
    "demographic_parity_difference": _GAP,
    "demographic_parity_ratio": _RATIO,
    "equalized_odds_difference": _GAP,
    "equalized_odds_ratio": _RATIO,
    "equal_opportunity_difference": _GAP,
    "equal_opportunity_ratio": _RATIO,
    "predictive_parity_difference": _GAP,
    "predictive_parity_ratio": _RATIO,
}
_SCORES: dict[str, Metric] = {
    "auc": Metric(good="high", interval=True),
    "brier_score": Metric(good="low", interval=True),
    "expected_calibration_error": Metric(good="low", interval=True),
    "auc_difference": _GAP,
    "brier_score_difference": _GAP,
    "expected_calibration_error_difference": _GAP,
}
_ENTROPY = Metric(
    good="low", interval=True, scale="is an entropy of benefits, 0 when all are equal"
)
BINARY: dict[str, Metric] = {
    **_GAPS,
    "disparate_impact_ratio": _RATIO,
    **_RATES,
    "balanced_accuracy_difference": _GAP,
    "f1_score_difference": _GAP,
    **_SCORES,
    "generalized_entropy_index": _ENTROPY,
    "theil_index": _ENTROPY,
    "consistency": Metric(good="high", interval=True),
    "counterfactual_flip_rate": Metric(good="low", interval=True),
    "impact_ratio": _RATIO,
    "confirmed_slices": Metric(good="low", scale="counts slices", zero=True),
    "worst_slice_difference": _GAP,
    "demographic_parity_growth": _GROWTH,
    "equalized_odds_growth": _GROWTH,
    "equal_opportunity_growth": _GROWTH,
    "predictive_parity_growth": _GROWTH,
}
MULTICLASS: dict[str, Metric] = {
    "accuracy": _RATES["accuracy"],
    "accuracy_difference": _GAP,
    **{name: metric for name, metric in _GAPS.items() if name.endswith("difference")},
}
REGRESSION: dict[str, Metric] = {
    "mean_residual": Metric(good="either", interval=True, scale=_IN_UNITS, zero=True),
    "mean_absolute_error": Metric(good="low", interval=True, scale=_IN_UNITS),
    "root_mean_squared_error": Metric(good="low", interval=True, scale=_IN_UNITS),
    "mean_prediction": Metric(good="either", interval=True, scale=_IN_UNITS, zero=True),
    "mean_prediction_difference": Metric(good="low", interval=True, scale=_IN_UNITS),
    "mean_residual_difference": Metric(good="low", interval=True, scale=_IN_UNITS),
    "mean_absolute_error_difference": Metric(good="low", interval=True, scale=_IN_UNITS),
    "mean_absolute_error_ratio": _RATIO,
}
RANKING: dict[str, Metric] = {
    "exposure_ratio": _RATIO,
    "exposure_per_relevance_ratio": _RATIO,
    "exposure_difference": Metric(
        good="low", interval=True, scale="counts shares of a random order's exposure"
    ),
    "ndcg_difference": _GAP,
}
TASKS: dict[str, dict[str, Metric]] = {
    "binary": BINARY,
    "multiclass": MULTICLASS,
    "regression": REGRESSION,
    "ranking": RANKING,
}
MITIGATION: dict[str, Metric] = {
    "accuracy": _RATES["accuracy"],
    "balanced_accuracy": _RATES["balanced_accuracy"],
    "demographic_parity_difference": _GAP,
    "equalized_odds_difference": _GAP,
    "equal_opportunity_difference": _GAP,
}
NEEDS: dict[str, tuple[str, ...]] = {
    "score": tuple(_SCORES),
    "neighbors": ("consistency",),
    "counterfactual": ("counterfactual_flip_rate",),
    "impact_ratios": ("impact_ratio",),
    "slices": ("confirmed_slices", "worst_slice_difference"),
    "accepted": tuple(name for name in BINARY if name.endswith("_growth")),
}
"""Metrics that are measured only where a key says how."""
WHOLE = (
    "generalized_entropy_index",
    "theil_index",
    "consistency",
    "confirmed_slices",
    "worst_slice_difference",
)
