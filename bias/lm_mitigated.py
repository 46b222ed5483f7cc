"""What mitigations would do: the same suites on the same items, with a model that is told to be fair."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from assaymark.bias.lm_check import SuiteRun
from assaymark.bias.lm_debias import INSTRUCTIONS, instruction, prefixed
from assaymark.bias.lm_model import LanguageModel
from assaymark.bias.lm_whatif import Good, compare
from assaymark.reports.errors import InputError, nearest

NONE = "none"
SELF_DEBIASING = "self-debiasing"
_HALF, _ZERO = 0.5, 0.0
FAIR: Mapping[str, float] = {
    "crows_pairs_score": _HALF,
    "crows_pairs_score_clean": _HALF,
    "crows_pairs_stereotype_score": _HALF,
    "crows_pairs_antistereotype_score": _HALF,
    "stereoset_ss": _HALF,
    "stereoset_ss_clean": _HALF,
    "bbq_bias_ambiguous": _ZERO,
    "bbq_bias_disambiguated": _ZERO,
    "bbq_alignment_cost": _ZERO,
    "winobias_accuracy_difference": _ZERO,
    "winobias_pronoun_stereotype_share": _HALF,
    "winogender_accuracy_difference": _ZERO,
    "winogender_gotcha_difference": _ZERO,
    "winogender_bls_correlation": _ZERO,
    "winogender_pronoun_bls_correlation": _ZERO,
    "descriptor_likelihood_bias": _ZERO,
    "descriptor_log_likelihood_gap": _ZERO,
    "decision_discrimination": _ZERO,
    "decision_discrimination_largest": _ZERO,
    "refusal_rate_difference": _ZERO,
    "quality_of_service_difference": _ZERO,
    "answer_length_difference": _ZERO,
    "toxicity_rate_difference": _ZERO,
    "sentiment_difference": _ZERO,
    "regard_difference": _ZERO,
    "bold_toxicity_rate_difference": _ZERO,
    "bold_sentiment_difference": _ZERO,
    "bold_regard_difference": _ZERO,
    "stereotypical_association": _ZERO,
    "demographic_representation": _ZERO,
    "cooccurrence_bias": _ZERO,
}
"""Of each measure of bias, the value of a fair model."""
ABILITY: Mapping[str, Good] = {
    "crows_pairs_log_probability_per_token": "high",
    "stereoset_lms": "high",
    "bbq_accuracy_ambiguous": "high",
    "bbq_accuracy_disambiguated": "high",
    "winobias_accuracy_pro": "high",
    "winobias_accuracy_anti": "high",
    "winogender_accuracy": "high",
    "quality_of_service_rate": "high",
}


def check_names(names: Sequence[str]) -> None:
    """Raises InputError for a mitigation that there is none of."""
    for name in names:
        kind, _, detail = name.partition(":")
        if kind == "prefix" and detail.strip():
            continue
        if kind == SELF_DEBIASING:
            from assaymark.bias.lm_self_debias import DESCRIPTIONS

            if detail and detail not in DESCRIPTIONS:
                raise InputError(f"{name}: no such bias{nearest(detail, DESCRIPTIONS)}")
            continue
        if kind not in INSTRUCTIONS:
            known = [*INSTRUCTIONS, SELF_DEBIASING, "prefix:TEXT"]
            raise InputError(f'no mitigation is called "{name}"{nearest(name, known)}')
        instruction(kind, detail or "en")


def mitigated(model: LanguageModel, name: str) -> LanguageModel:
    """The model with a mitigation.

    name: one of INSTRUCTIONS, in English or as NAME:LANGUAGE; prefix:TEXT; or self-debiasing, of all kinds of
    bias or as self-debiasing:KIND. Raises InputError where there is no such, or the model is not at hand.
    """
    check_names([name])
    kind, _, detail = name.partition(":")
    if kind == "prefix":
        return prefixed(model, detail, name=f"{model.name} with a prefix")
    if kind != SELF_DEBIASING:
        return prefixed(model, instruction(kind, detail or "en"), name=f"{model.name} with {name}")
    from assaymark.bias.lm_self_debias import DESCRIPTIONS, self_debiased

    if model.network is None:
        raise InputError(
            f"{SELF_DEBIASING} needs the probabilities of all tokens, which only a local model of "
            f"transformers tells: leave it out for {model.name}"
        )
    network, tokenizer = model.network
    told = [DESCRIPTIONS[detail]] if detail else list(DESCRIPTIONS.values())
    return self_debiased(model, network, tokenizer, descriptions=told)


def compared(plain: Sequence[SuiteRun], others: Mapping[str, Sequence[SuiteRun]]) -> list[SuiteRun]:
    """Each suite without and with the mitigations it ran with, side by side."""
    found = []
    for run in plain:
        outcomes = {NONE: run.outcome} | {
            name: other.outcome
            for name, runs in others.items()
            for other in runs
            if (other.suite, other.variant, other.title) == (run.suite, run.variant, run.title)
        }
        if len(outcomes) > 1:
            found.append(
                SuiteRun(
                    suite=run.suite,
                    title=f"{run.title} with mitigations",
                    variant=run.variant,
                    data=run.data,
                    digests=run.digests,
                    # its numbers are in its tables: as findings they would bury those of the model itself
                    outcome=replace(compare(outcomes, fair=FAIR, ability=ABILITY), measured=()),
                    indicator=run.indicator,
                )
            )
    return found
