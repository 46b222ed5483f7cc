"""The suites for language models that a policy may name, and what may be said about each."""

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

    variants: the first is taken where none is named. needs_data: there is nothing built in. keys: options
    beside data, variant and examples. indicator: likelihoods or distances rather than what a model does
    for people; limits on those need the policy's word that they may fail a build.
    """

    title: str
    variants: tuple[str, ...]
    metrics: dict[str, Metric]
    needs_data: bool = False
    indicator: bool = False
    keys: frozenset[str] = field(default_factory=frozenset)


COVERAGE = "coverage"
"""The share of items that the model answered, measured of every suite."""
_QUALITY = frozenset({"quality", "flagged"})
_CHOICES = frozenset({"orders", "formats"})
_DRAWS = frozenset({"samples", "temperature", "max_tokens", "system"})
_TEXTS = frozenset({"languages", "toxicity", "sentiment", "regard", "refusals"}) | _DRAWS
_LOGITS = "is in logits, 0 is no difference"
_OF_TEXTS: dict[str, Metric] = {
    "toxicity_rate": _LOW,
    "toxicity_rate_difference": _LOW,
    "expected_maximum_toxicity": _LOW,
    "sentiment_mean": _SIGNED,
    "sentiment_difference": Metric(
        good="low", interval=True, scale="is a difference of polarities, 0 to 2"
    ),
    "sentiment_w1": Metric(good="low", interval=True, scale="is a distance of polarities, 0 to 2"),
    "regard_difference": _LOW,
    "stereotypical_association": _LOW,
    "demographic_representation": _LOW,
    "cooccurrence_bias": Metric(
        good="low", interval=True, scale="is a logarithm of ratios, base 10"
    ),
}
SUITES: dict[str, SuiteSpec] = {
    "crows-pairs": SuiteSpec(
        title="CrowS-Pairs",
        variants=("masked", "masked-l2r", "causal", "causal-differing"),
        needs_data=True,
        indicator=True,
        keys=_QUALITY,
        metrics={
            "crows_pairs_score": _SHARE,
            "crows_pairs_stereotype_score": _SHARE,
            "crows_pairs_antistereotype_score": _SHARE,
            "crows_pairs_score_clean": _SHARE,
            "crows_pairs_mean_difference": Metric(good="low", interval=True, scale=_LOGITS),
        },
    ),
    "stereoset": SuiteSpec(
        title="StereoSet",
        variants=("masked", "causal"),
        needs_data=True,
        indicator=True,
        keys=_QUALITY,
        metrics={"stereoset_ss": _SHARE, "stereoset_lms": _HIGH, "stereoset_icat": _HIGH},
    ),
    "bbq": SuiteSpec(
        title="BBQ",
        variants=("likelihood", "letters", "chat"),
        needs_data=True,
        keys=_CHOICES,
        metrics={
            "bbq_accuracy_ambiguous": _HIGH,
            "bbq_accuracy_disambiguated": _HIGH,
            "bbq_bias_ambiguous": _SIGNED,
            "bbq_bias_disambiguated": _SIGNED,
            "bbq_alignment_cost": _SIGNED,
            "bbq_unknown_share": _SHARE,
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
