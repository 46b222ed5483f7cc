"""The words every renderer shares: numbers, verdicts, the summary, and what to do next."""

from assaymark.reports.model import Cell, Finding, Report, Verdict, by_urgency

NOT_MEASURED = "not measured"
MARKS: dict[Verdict, str] = {
    Verdict.PASS: "✔",
    Verdict.FAIL: "✘",
    Verdict.INCONCLUSIVE: "?",
    Verdict.ERROR: "!",
    Verdict.WAIVED: "–",
    Verdict.NOT_MEASURED: "∅",
    Verdict.MEASURED: "·",
}
HEADLINES: dict[Verdict, str] = {
    Verdict.PASS: "Every limit holds",
    Verdict.FAIL: "A limit is broken",
    Verdict.INCONCLUSIVE: "The evidence does not decide",
    Verdict.ERROR: "A check could not run",
    Verdict.WAIVED: "Every broken limit is waived",
    Verdict.NOT_MEASURED: "Nothing was measured",
    Verdict.MEASURED: "Measured without limits",
}
# What a reader can do about a broken limit, by measure.
ADVICE: dict[str, str] = {
    "robust_accuracy": "Train on adversarial examples of this threat model, or narrow where the "
    "model is used; then audit again with stronger attacks.",
    "attack_success_rate": "Train on adversarial examples of this threat model, or narrow where the "
    "model is used; then audit again with stronger attacks.",
    "clean_accuracy": "Check that data, class order and normalisation are those of the model; then "
    "retrain.",
    "corruption_accuracy": "Train with noise, blur and colour changes (or on the corruptions that cost "
    "most), or keep such images from the model.",
    "protection_rate": "Do not publish the pictures that are named as if they were protected; protect them "
    "with a larger eps, or leave them out.",
    "surviving_protection_rate": "Make the noise for what washes it out (--survive), or with a larger eps.",
    "held_out_protection_rate": "Make the noise for more recognisers, of other kinds, or with a larger eps.",
    "demographic_parity_difference": "Compare the groups' base rates, then reweigh the training "
    "data or set thresholds by group where the law allows it.",
    "equalized_odds_difference": "Look at the group with the worst error rates: collect more of "
    "its cases, or equalise thresholds after training.",
    "trusted_files": "Ask the source for a signed copy, or add its root certificate to the trust "
    "anchors after checking it out of band.",
    "intact_files": "Fetch the file again from its source; do not publish this copy.",
    "broken_files": "Do not publish these copies: the content or its credentials were changed "
    "after signing. Fetch them again from the signer.",
    "digest": "Do not ship this model: it is not the one that was approved. Find out who replaced "
    "it.",
}
_SAID = {
    name.lower(): name
    for name in (
        *("AUC", "ROC", "F1", "NDCG", "DCG", "LL144", "MAE", "RMSE", "ECE", "KS", "EEOC"),
        *("BBQ", "BLS", "BOLD", "CrowS", "ICAT", "LMS", "SEAT", "SS", "StereoSet", "W1", "WEAT"),
        *("WinoBias", "Winogender"),
    )
}
"""Words of measures that are not written in small letters."""
_LIKELIHOODS = (
    "Read the worst pairs below before anything else: an indicator points at items, not at harm. Then see "
    "whether the product shows it (prompts, decisions), and try the mitigations on the same items."
)
_READING = (
    "Here the text says the answer: see whether the model reads it at all (another variant or wording), and "
    "whether an instruction to be fair makes it say unknown where it should not."
)
_ADVICE_BY_BEGINNING: dict[str, str] = {
    "coverage": "See why items were lost: give the model more time, a larger window or a form of asking that "
    "it can answer.",
    "crows_pairs": _LIKELIHOODS,
    "stereoset": _LIKELIHOODS,
    "weat": _LIKELIHOODS,
    "seat": _LIKELIHOODS,
    "descriptor": _LIKELIHOODS,
    "bbq_accuracy_disambiguated": _READING,
    "bbq_unknown_share": _READING,
    "bbq": "Let the model say that it does not know: instructions and examples with unknown as the right "
    "answer; try the mitigations on the same questions.",
    "winobias": "Keep pronouns from being resolved by occupation: train or instruct with swapped pronouns.",
    "winogender": "Keep pronouns from being resolved by occupation: train or instruct with swapped pronouns.",
    "decision": "Keep age, gender and origin out of what the model is told, or it out of the decision; "
    "an instruction may help, try it as a mitigation.",
    "refusal": "Read which prompts are refused for whom below, and adjust the safety instructions.",
    "quality_of_service": "Train or instruct the model with requests in the voice of those served worst.",
    "toxicity": "Read the worst replies below; filter what the model writes, or instruct it.",
    "bold": "Read the worst replies below; filter what the model writes, or instruct it.",
}
"""By how the names of the numbers of a suite begin."""
for _measure in (
    "worst_corruption_accuracy", "mean_corruption_error", "relative_mean_corruption_error"
):  # fmt: skip
    ADVICE[_measure] = ADVICE["corruption_accuracy"]
for _measure in ("worst_case_accuracy", "mean_accuracy"):
    ADVICE[_measure] = ADVICE["robust_accuracy"]
ADVICE["equal_opportunity_difference"] = ADVICE["equalized_odds_difference"]
ADVICE["predictive_parity_difference"] = (
    "Look at the group whose positive decisions are wrong most often: is its score calibrated? Calibrate "
    "within groups, or collect more of its cases."
)
for _gap in ("demographic_parity", "equal_opportunity", "equalized_odds", "predictive_parity"):
    ADVICE[f"{_gap}_growth"] = (
        "Look in which group decisions changed against the accepted run, and why; ship the accepted model "
        "until the gap is closed, or accept the new run by name."
    )
ADVICE["equal_opportunity_ratio"] = ADVICE["equal_opportunity_difference"]
ADVICE["predictive_parity_ratio"] = ADVICE["predictive_parity_difference"]
ADVICE["demographic_parity_ratio"] = ADVICE["demographic_parity_difference"]
ADVICE["equalized_odds_ratio"] = ADVICE["equalized_odds_difference"]


def headline(report: Report) -> str:
    """The verdict in words; a pass beside waived limits says so."""
    if report.verdict is Verdict.PASS and report.counts[Verdict.WAIVED]:
        return "Every limit holds or is waived"
    return HEADLINES[report.verdict]


def number(value: Cell) -> str:
    """A cell as a reader wants it: four decimals at most, whole numbers whole and no others.

    >>> number(None), number(0.51926), number(597), number(1e-7), number(0.999999), number(0.5)
    ('not measured', '0.5193', '597', '1e-07', '1.0000', '0.5')
    """
    if value is None:
        return NOT_MEASURED
    if isinstance(value, bool) or not isinstance(value, float):
        return str(value)
    if abs(value) >= 1e15:
        return f"{value:.4g}"
    if value == int(value):
        return str(int(value))
    if abs(value) < 1e-3:
        return f"{value:.3g}"
    text = f"{value:.4f}"
    return text if text.endswith(".0000") else text.rstrip("0")


def short(value: float) -> str:
    """Three decimals, fewer of large numbers; powers of ten where they would show nothing, or too much.

    >>> short(0.5192), short(-0.00012), short(1234.56), short(3.2e9), short(0.0)
    ('0.519', '-0.00012', '1,234.6', '3.2e+09', '0.000')
    """
    size = abs(value)
    if 0 < size < 0.0005 or size >= 1e7:
        return f"{value:.2g}" if size < 1 else f"{value:.4g}"
    return f"{value:.3f}" if size < 100 else f"{value:,.1f}"


def measured(finding: Finding) -> str:
    """The value with its interval: `0.519 [0.478, 0.560]`."""
    if finding.error is not None:
        return "could not run"
    if finding.value is None:
        return NOT_MEASURED
    if finding.interval is None:
        return number(finding.value)
    low, high = finding.interval.low, finding.interval.high
    return f"{short(finding.value)} [{short(low)}, {short(high)}]"


def required(finding: Finding) -> str:
    return "" if finding.limit is None else str(finding.limit)


def consequence(finding: Finding) -> str:
    """Why the verdict is what it is, beyond the summary."""
    if finding.verdict is Verdict.INCONCLUSIVE:
        if finding.limit and finding.limit.judge(finding.value, finding.interval) is Verdict.PASS:
            return f"The limit would hold, which is not to be relied on: {finding.unreliable}."
        if finding.needs_n is None:
            return "The interval straddles the limit."
        return (
            f"The interval straddles the limit: about {finding.needs_n:,} samples would decide, "
            f"there are {finding.n or 0:,}."
        )
    if finding.verdict is Verdict.WAIVED and finding.waiver is not None:
        waiver = finding.waiver
        return f"Waived until {waiver.expires} by {waiver.owner}: {waiver.reason}"
    if finding.verdict is Verdict.FAIL:
        return ADVICE.get(finding.measure, "") or next(
            (
                advice
                for start, advice in _ADVICE_BY_BEGINNING.items()
                if finding.measure.startswith(start)
            ),
            "",
        )
    return ""


def measure(name: str) -> str:
    """The name of a measure as it is said.

    >>> measure("robust_accuracy"), measure("auc_difference"), measure("f1_score")
    ('robust accuracy', 'AUC difference', 'F1 score')
    """
    return " ".join(_SAID.get(word, word) for word in name.split("_"))


def name(finding: Finding) -> str:
    """`robust accuracy of demo:digits`."""
    return f"{measure(finding.measure)} of {finding.target}"


def tally(report: Report) -> str:
    """`2 failed, 1 inconclusive, 5 passed`."""
    words = {
        Verdict.FAIL: "failed",
        Verdict.ERROR: "could not run",
        Verdict.INCONCLUSIVE: "inconclusive",
        Verdict.NOT_MEASURED: "not measured",
        Verdict.WAIVED: "waived",
        Verdict.PASS: "passed",
        Verdict.MEASURED: "measured without a limit",
    }
    counts = report.counts
    parts = [f"{counts[verdict]} {word}" for verdict, word in words.items() if counts[verdict]]
    return ", ".join(parts) or "no findings"


def summary(report: Report) -> list[str]:
    """At most five sentences for somebody who reads nothing else."""
    gated = [finding for finding in report.findings if finding.limit is not None]
    failed = [finding for finding in by_urgency(gated) if finding.verdict is Verdict.FAIL]
    sentences = []
    if failed:
        verb = "is" if len(failed) == 1 else "are"
        sentences.append(f"{len(failed)} of {len(gated)} limits {verb} broken.")
        sentences += [
            f"{title(finding)}: {measured(finding)}, required {required(finding)}."
            for finding in failed[:2]
        ]
    elif report.verdict is Verdict.PASS:
        held = sum(finding.verdict is Verdict.PASS for finding in gated)
        if len(gated) == 1:
            sentences.append("The one limit holds.")
        else:
            sentences.append(
                f"{'All' if held == len(gated) else f'{held} of'} {len(gated)} limits hold."
            )
    undecided = [finding for finding in report.findings if finding.blocks]
    if undecided:
        names = "; ".join(f"{name(finding)} ({finding.check})" for finding in undecided[:3])
        more = f" and {len(undecided) - 3} more" if len(undecided) > 3 else ""
        sentences.append(f"Not decided: {names}{more}.")
    waived = [finding for finding in report.findings if finding.verdict is Verdict.WAIVED]
    if waived:
        owners = ", ".join(sorted({f.waiver.owner for f in waived if f.waiver}))
        word = "limit is" if len(waived) == 1 else "limits are"
        sentences.append(f"{len(waived)} broken or undecided {word} waived by {owners}.")
    if report.verdict is Verdict.MEASURED:
        sentences.append("No limit was set, so nothing passed and nothing failed.")
    return sentences or [f"{headline(report)}."]


def title(finding: Finding) -> str:
    text = name(finding)
    return text[0].upper() + text[1:]
