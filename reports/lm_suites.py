"""The suites for language models that a policy may name, and what may be said about each."""

import math
from dataclasses import dataclass, field

from assaymark.reports.policy_types import Metric

_SHARE = Metric(good="either", interval=True)
_HIGH, _LOW = Metric(good="high", interval=True), Metric(good="low", interval=True)
_SIGNED = Metric(
    good="either", interval=True, scale="lies between -1 and 1, 0 is no bias", zero=True
)
_EFFECT = Metric(
    good="either",
    interval=True,
    scale="is an effect size in standard deviations, 0 is no association",
    zero=True,
)


@dataclass(frozen=True, kw_only=True)
class SuiteSpec:
    """What a policy may say about a suite.

    variants: the first is taken where none is named and the model does not decide it. needs_data: there is
    nothing built in. keys: options beside data and variant. sampled: examples may ask for a random sample.
    indicator: likelihoods or distances rather than what a model does for people; limits on those need the
    policy's word that they may fail a build.
    """

    title: str
    variants: tuple[str, ...]
    metrics: dict[str, Metric]
    needs_data: bool = False
    indicator: bool = False
    sampled: bool = False
    keys: frozenset[str] = field(default_factory=frozenset)


COVERAGE = "coverage"
"""The share of items that the model answered, measured of every suite."""
_LOGITS = Metric(good="low", interval=True, scale="is in logits, 0 is no difference")
_SIGNED_LOGITS = Metric(
    good="either", interval=True, scale="is in logits, 0 is no difference", zero=True
)
_LOG = Metric(good="either", interval=True, scale="is a mean log probability, below 0")
_QUALITY = frozenset({"quality"})
_CHOICES = frozenset({"orders", "formats"})
_DRAWS = frozenset({"languages", "samples", "temperature", "max_tokens"})
_CLASSIFIERS = frozenset({"toxicity", "sentiment", "regard"})
_POLARITY = Metric(good="either", interval=True, scale="is a polarity", zero=True)
_POLARITIES = Metric(good="low", interval=True, scale="is a difference of polarities")
_REGARDS = Metric(good="low", interval=True, scale="is a difference, 0 to 2")
_OF_TEXTS: dict[str, Metric] = {
    "toxicity_rate": _LOW,
    "toxicity_rate_difference": _LOW,
    "expected_maximum_toxicity": _LOW,
    "expected_maximum_toxicity_difference": _LOW,
    "toxicity_probability": _LOW,
    "toxicity_probability_difference": _LOW,
    "sentiment_mean": _POLARITY,
    "sentiment_difference": _POLARITIES,
    "sentiment_positive_rate": _SHARE,
    "sentiment_positive_rate_difference": _LOW,
    "sentiment_w1": _POLARITIES,
    "regard_mean": _SIGNED,
    "regard_difference": _REGARDS,
    "regard_positive_rate": _SHARE,
    "regard_neutral_rate": _SHARE,
    "regard_negative_rate": _SHARE,
    "toxicity_classifier_mean": _LOW,
    "toxicity_classifier_difference": _LOW,
    "sentiment_classifier_mean": _POLARITY,
    "sentiment_classifier_difference": _POLARITIES,
}


def _sensitivity(suite: str) -> dict[str, Metric]:
    """How much answers to questions depend on the order of the options and on the prompt's wording."""
    return {f"{suite}_order_sensitivity": _LOW, f"{suite}_format_spread": Metric(good="low")}


SUITES: dict[str, SuiteSpec] = {
    "crows-pairs": SuiteSpec(
        title="CrowS-Pairs",
        sampled=True,
        variants=(
            "masked",
            "masked-l2r",
            "masked-differing",
            "causal",
            "causal-mean",
            "causal-differing",
        ),
        needs_data=True,
        indicator=True,
        keys=_QUALITY | {"prefixes", "most_ties"},
        metrics={
            "crows_pairs_score": _SHARE,
            "crows_pairs_stereotype_score": _SHARE,
            "crows_pairs_antistereotype_score": _SHARE,
            "crows_pairs_score_clean": _SHARE,
            "crows_pairs_prefix_range": Metric(good="low"),
            "crows_pairs_mean_difference": _LOGITS,
            "crows_pairs_log_probability_per_token": _LOG,
        },
    ),
    "stereoset": SuiteSpec(
        title="StereoSet",
        sampled=True,
        variants=("masked", "causal", "causal-published"),
        needs_data=True,
        indicator=True,
        keys=_QUALITY | {"most_ties"},
        metrics={
            "stereoset_ss": _SHARE,
            "stereoset_lms": _HIGH,
            "stereoset_icat": _HIGH,
            "stereoset_ss_clean": _SHARE,
            "stereoset_lms_clean": _HIGH,
            "stereoset_icat_clean": _HIGH,
        },
    ),
    "bbq": SuiteSpec(
        title="BBQ",
        sampled=True,
        variants=("likelihood", "likelihood-plain", "letters", "chat"),
        needs_data=True,
        keys=_CHOICES,
        metrics={
            "bbq_accuracy_ambiguous": _HIGH,
            "bbq_accuracy_disambiguated": _HIGH,
            "bbq_bias_ambiguous": _SIGNED,
            "bbq_bias_disambiguated": _SIGNED,
            "bbq_alignment_cost": _SIGNED,
            "bbq_unknown_share": _SHARE,
            **_sensitivity("bbq"),
        },
    ),
    "winobias": SuiteSpec(
        title="WinoBias",
        sampled=True,
        variants=("likelihood", "letters", "chat", "pronoun"),
        needs_data=True,
        keys=_CHOICES,
        metrics={
            "winobias_accuracy_pro": _HIGH,
            "winobias_accuracy_anti": _HIGH,
            "winobias_accuracy_difference": _SIGNED,
            "winobias_pronoun_stereotype_share": _SHARE,
            **_sensitivity("winobias"),
        },
    ),
    "winogender": SuiteSpec(
        title="Winogender",
        sampled=True,
        variants=("likelihood", "letters", "chat", "pronoun"),
        needs_data=True,
        keys=_CHOICES,
        metrics={
            "winogender_accuracy": _HIGH,
            "winogender_accuracy_difference": _LOW,
            "winogender_gotcha_difference": _SIGNED,
            "winogender_bls_correlation": _SIGNED,
            "winogender_pronoun_share": _SHARE,
            "winogender_pronoun_bls_correlation": _SIGNED,
            **_sensitivity("winogender"),
        },
    ),
    "weat": SuiteSpec(
        title="WEAT and SEAT",
        variants=("sent-bias", "wefe"),
        needs_data=True,
        indicator=True,
        metrics={
            "weat_effect_size": _EFFECT,
            "weat_p_value": Metric(good="high"),
            "weat_two_sided_p_value": Metric(good="high"),
            "seat_effect_size": _EFFECT,
            "seat_p_value": Metric(good="high"),
            "seat_two_sided_p_value": Metric(good="high"),
        },
    ),
    "descriptors": SuiteSpec(
        title="Descriptors",
        variants=("likelihood",),
        indicator=True,
        keys=frozenset({"languages"}),
        metrics={
            "descriptor_likelihood_bias": _LOW,
            "descriptor_likelihood_bias_uncorrected": _LOW,
            "descriptor_log_likelihood_gap": _LOGITS,
            "descriptor_pairs_apart": Metric(good="low"),
        },
    ),
    "decisions": SuiteSpec(
        title="Decisions",
        sampled=True,
        variants=("scored", "first-token", "sampled"),
        keys=frozenset({"languages", "min_mass", "samples", "order"}),
        metrics={
            "decision_discrimination": _SIGNED_LOGITS,
            "decision_discrimination_largest": _LOGITS,
            "decision_acceptance": _SHARE,
            "decision_order_sensitivity": _LOW,
        },
    ),
    "prompts": SuiteSpec(
        title="Prompts",
        sampled=True,
        variants=("greedy", "sampled"),
        keys=_DRAWS | _CLASSIFIERS | {"slots", "topics", "values", "refusals"},
        metrics={
            "refusal_rate": _SHARE,
            "refusal_rate_difference": _LOW,
            "quality_of_service_rate": _HIGH,
            "quality_of_service_difference": _LOW,
            "answer_length_difference": _LOW,
            "counterfactual_dissimilarity": _SHARE,
            "counterfactual_dissimilarity_excess": _SIGNED,
            **_OF_TEXTS,
        },
    ),
    "bold": SuiteSpec(
        title="BOLD",
        sampled=True,
        variants=("reply", "prompt and reply"),
        keys=_DRAWS | _CLASSIFIERS | {"system"},
        metrics={f"bold_{name}": metric for name, metric in _OF_TEXTS.items()},
    ),
    "associations": SuiteSpec(
        title="Associations",
        variants=("occupation", "adjective"),
        keys=_DRAWS,
        metrics={
            "stereotypical_association": _LOW,
            "demographic_representation": _LOW,
            "cooccurrence_bias": Metric(
                good="low", interval=True, scale="is a logarithm of ratios, base 10"
            ),
        },
    ),
}
METRICS: dict[str, Metric] = {
    COVERAGE: Metric(good="high", interval=True),
    **{name: metric for suite in SUITES.values() for name, metric in suite.metrics.items()},
}
INDICATORS: frozenset[str] = frozenset(
    name for suite in SUITES.values() if suite.indicator for name in suite.metrics
)
_RANGES: dict[Metric, tuple[float, float]] = {
    _SIGNED: (-1, 1),
    _REGARDS: (0, 2),
    _LOG: (-math.inf, 0),
}


def range_of(metric: str, polarity: tuple[float, float] = (-1, 1)) -> tuple[float, float] | None:
    """What a metric can be, where it is no share and yet has ends. polarity: what a sentiment can be.

    >>> range_of("bbq_bias_ambiguous"), range_of("weat_effect_size")
    ((-1, 1), None)
    """
    known = METRICS[metric]
    if known is _POLARITY:
        return polarity
    if known is _POLARITIES:
        return 0, polarity[1] - polarity[0]
    return _RANGES.get(known)
