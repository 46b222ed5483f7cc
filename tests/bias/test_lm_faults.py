"""Faults put into a model: what was lost, tied or no number is never inside a limit."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from lm_small_files import written
from lm_whole_models import chance, spoiled, whole

from assaymark.bias.lm_check import check_language_model
from assaymark.bias.lm_decision_data import own_decisions
from assaymark.bias.lm_descriptors_data import own
from assaymark.bias.lm_model import LanguageModel, quiet
from assaymark.bias.lm_prompt_files import shipped
from assaymark.bias.lm_prompts import expand
from assaymark.bias.lm_suites import prepare
from assaymark.bias.lm_wanted import Wanted
from assaymark.reports.lm_suites import COVERAGE, SUITES
from assaymark.reports.model import Finding, Gate, Limit, Verdict

NEVER = (Verdict.PASS, Verdict.FAIL)
Texts = Callable[[str], bool]
CASES = [(name, variant) for name, spec in SUITES.items() for variant in spec.variants]
IDS = [":".join(case) for case in CASES]


def wanted(folder: Path, name: str, variant: str | None = None, **options: object) -> Wanted:
    small = {"decisions": 30, "prompts": 8, "bold": None}.get(name)
    own_options = {"slots": ("gender",)} if name == "prompts" else {}
    return Wanted(
        suite=name,
        data=written(folder).get(name),
        variant=variant,
        examples=small,
        options=own_options | options,
    )


def gates(name: str, on: bool = False) -> list[Gate]:
    """Limits that every number keeps: only one that was not measured does not pass."""
    found = []
    for metric, spec in SUITES[name].metrics.items():
        low = Limit(minimum=-1e9, on="lower" if on else "estimate")
        high = Limit(maximum=1e9, on="upper" if on else "estimate")
        found.append(Gate(metric=metric, limit=low if spec.good == "high" else high))
    return found


def gated(asked: Wanted, model: LanguageModel) -> list[Finding]:
    runs = prepare(asked)(model, quiet)
    found = check_language_model("lm", model, runs, gates=gates(asked.suite)).findings
    return [one for one in found if one.limit is not None]


def few(about: Texts, texts: list[str], most: int) -> Texts:
    """Some of the texts that are about something: too few to show in the coverage of all."""
    mine = sorted({text for text in texts if about(text)}, key=chance)
    assert mine
    gone = set(mine[:most])
    return lambda text: text in gone


def asked_of(asked: Wanted) -> tuple[list[str], int]:
    """Every text that a model is asked, and how many items that is."""
    texts: list[str] = []

    def noted(text: str) -> bool:
        texts.append(text)
        return False

    (run, *_) = prepare(asked)(spoiled(noted), quiet)
    return texts, run.outcome.items


def _has(*words: str) -> Texts:
    return lambda text: any(word in text for word in words)


def _among(texts: Callable[[], set[str]]) -> Texts:
    """Texts that are known when the first one is asked about."""
    known = cache(texts)
    return lambda text: text in known()


def _of_women() -> set[str]:
    prompts = expand(shipped(("en",)), slots=("gender",))
    return {one.text for one in prompts if one.group == "women's names"}


def _of_ability() -> set[str]:
    return {one.text for one in own().sentences if one.axis == "ability"}


def _of_her(text: str) -> bool:
    return "house" in text and "because she" in text


VICTIMS: dict[str, tuple[str, str, Texts, tuple[str, ...]]] = {
    # suite, variant, whose texts are lost, and the targets that can then not be known
    "a category of masked pairs": ("crows-pairs", "masked", _has("zebra"), ("age",)),
    "a category of pairs": ("crows-pairs", "causal", _has("zebra"), ("age",)),
    "a domain": ("stereoset", "masked", _has("zebra"), ("intrasentence race",)),
    "a domain of sentences": ("stereoset", "causal", _has("zebra"), ("intrasentence race",)),
    "a category of questions": ("bbq", "likelihood", _has("zebra"), ("Religion",)),
    "a category of chats": ("bbq", "chat", _has("zebra"), ("Religion",)),
    "one option of a category": (
        "bbq", "likelihood-plain", lambda text: "zebra" in text and text.endswith(" Unknown"),
        ("Religion",),
    ),
    "one letter of a category": (
        "bbq", "letters", lambda text: "zebra" in text and text.endswith(" B"), ("Religion",),
    ),
    "a part": ("winobias", "likelihood", _has("zebra"), ("type2",)),
    "one side of a part": ("winobias", "pronoun", _of_her, ("type1",)),
    "one side of questions": (
        "winobias", "letters", _of_her, ("type1",),
    ),
    "a gender": ("winogender", "likelihood", _has("that she"), ("female", "all")),
    "an axis": (
        "descriptors", "likelihood", _among(_of_ability), ("ability",),
    ),
    "a gender of deciders": (
        "decisions", "scored", _has("non-binary person"), ("gender = non-binary", "all"),
    ),
    "a race": ("decisions", "first-token", _has("Black "), ("race = black", "all")),
    "the race that others are compared with": (
        "decisions", "sampled", _has("white man", "white woman"), ("race = black", "race = asian", "all"),
    ),
    "a group of prompts": (
        "prompts", "greedy", _among(_of_women), ("en gender", "en gender = women's names"),
    ),
    "a group of beginnings": ("bold", "reply", _has("omen", "Women"), ("en gender", "en gender = women")),
}  # fmt: skip
NOT_OF_LOST = {
    "decision_acceptance",
    "decision_order_sensitivity",
    "winogender_pronoun_share",
    "bold_sentiment_classifier_difference",
    "bold_sentiment_classifier_mean",
    "sentiment_classifier_difference",
    "sentiment_classifier_mean",
}
"""Means over everybody, and what is measured without the model."""


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_few_losses_that_all_hit_one_group_leave_it_unmeasured(
    victim: str, tmp_path: Path
) -> None:
    name, variant, about, targets = VICTIMS[victim]
    asked = wanted(tmp_path, name, variant)
    texts, items = asked_of(asked)
    lost = few(about, texts, max(1, int(0.045 * items)))
    runs = prepare(asked)(spoiled(lost), quiet)
    outcome = runs[0].outcome
    assert 0.95 <= outcome.answered / outcome.items < 1, "the coverage of all would not tell"
    found = check_language_model("lm", whole(), runs, gates=gates(name)).findings
    held = [one for one in found if one.limit is not None and one.measure not in NOT_OF_LOST]
    for target in targets:
        mine = [one for one in held if one.target.endswith(f": {target}")]
        assert mine
        assert {one.verdict for one in mine} == {Verdict.NOT_MEASURED}, target
    assert any(one.verdict is Verdict.PASS for one in found), "the others are measured"


def test_lost_ambiguous_contexts_take_their_numbers_and_no_others(tmp_path: Path) -> None:
    asked = wanted(tmp_path, "bbq", "chat")
    found = gated(
        asked, spoiled(lambda text: "Perhaps" in text and "(2" in text and "(2)" not in text)
    )
    verdicts = {one.measure: one.verdict for one in found if one.target.endswith(": Age")}
    assert verdicts["bbq_bias_ambiguous"] is Verdict.NOT_MEASURED
    assert verdicts["bbq_accuracy_ambiguous"] is Verdict.NOT_MEASURED
    # 1 in 20 of all is lost, so that the whole suite is not
    assert verdicts["bbq_bias_disambiguated"] is Verdict.PASS


NUMBERS: dict[str, Callable[[float], float]] = {
    "not a number": lambda value: math.nan,
    "minus infinity": lambda value: -math.inf,
}


WRITTEN = {"prompts", "bold", "associations", "weat"}
TOLD = [case for case in CASES if case[0] not in WRITTEN and case[1] not in ("chat", "sampled")]
"""Those that ask for probabilities."""


@pytest.mark.parametrize("fault", NUMBERS)
@pytest.mark.parametrize(("name", "variant"), TOLD, ids=[":".join(case) for case in TOLD])
def test_what_is_no_number_is_no_answer(
    name: str, variant: str, fault: str, tmp_path: Path
) -> None:
    found = gated(wanted(tmp_path, name, variant), spoiled(number=NUMBERS[fault]))
    assert {one.verdict for one in found} == {Verdict.NOT_MEASURED}


TIED = [
    ("crows-pairs", "masked"), ("crows-pairs", "causal-mean"), ("stereoset", "causal"),
    ("stereoset", "masked"), ("bbq", "letters"), ("winobias", "likelihood"),
    ("winobias", "letters"), ("winobias", "pronoun"), ("winogender", "letters"),
    ("winogender", "pronoun"), ("descriptors", "likelihood"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "variant"), TIED, ids=[":".join(case) for case in TIED])
def test_a_model_that_prefers_nothing_is_not_fair(name: str, variant: str, tmp_path: Path) -> None:
    """Every token is as likely as any other; texts are of the same length where they are compared."""
    found = gated(wanted(tmp_path, name, variant), spoiled(number=lambda value: -1.0))
    about_bias = [
        one
        for one in found
        if one.measure
        not in ("stereoset_lms", "stereoset_lms_clean", "crows_pairs_log_probability_per_token",
                "crows_pairs_mean_difference")
    ]  # fmt: skip
    tied = [one for one in about_bias if one.value is not None]
    assert not tied, tied[0].summary


def test_a_tenth_of_ties_among_few_pairs_of_a_direction_is_no_sub_score(tmp_path: Path) -> None:
    """19 of 20 pairs that violate a stereotype are ties: the other one is no score of all."""
    path = tmp_path / "pairs.csv"
    rows = [",sent_more,sent_less,stereo_antistereo,bias_type,anon_writer"]
    for number in range(500):
        anti = number < 20
        less = "men" if not anti or number == 0 else "women"
        rows.append(
            f"{number},The women {number} cook.,The {less} {number} cook.,"
            f"{'antistereo' if anti else 'stereo'},gender,w{number % 50}"
        )
    path.write_text("\n".join(rows))
    asked = Wanted(suite="crows-pairs", data=str(path), variant="causal")
    found = {one.measure: one for one in gated(asked, whole()) if one.target.endswith(": all")}
    assert found["crows_pairs_score"].value is not None
    assert found["crows_pairs_stereotype_score"].value is not None
    assert found["crows_pairs_antistereotype_score"].verdict is Verdict.NOT_MEASURED


def test_a_category_that_the_sample_leaves_out_is_not_inside_a_limit(tmp_path: Path) -> None:
    asked = replace(wanted(tmp_path, "crows-pairs", "causal"), examples=10)
    (run,) = prepare(asked)(whole(), quiet)
    assert run.outcome.absent == ("age",)
    limit = Limit(maximum=1e9)
    for attribute, verdicts in ((None, {"age": Verdict.NOT_MEASURED}), ("gender", {})):
        gate = Gate(metric="crows_pairs_score", limit=limit, attribute=attribute)
        found = check_language_model("lm", whole(), [run], gates=[gate]).findings
        held = {one.target.rpartition(": ")[2]: one.verdict for one in found if one.limit}
        assert held["gender"] is Verdict.PASS
        assert verdicts.items() <= held.items()
        assert ("age" in held) == (attribute is None)


@pytest.mark.parametrize(
    "attribute", ["age", "a = b", "intersections", "CrowS-Pairs (causal): gender", "×"]
)
def test_a_gate_on_what_is_not_there_is_not_measured_beside_one_that_holds(
    attribute: str, tmp_path: Path
) -> None:
    (run,) = prepare(replace(wanted(tmp_path, "crows-pairs", "causal"), examples=10))(
        whole(), quiet
    )
    limit = Limit(maximum=1e9)
    both = [
        Gate(metric="crows_pairs_score", limit=limit, attribute=one)
        for one in ("gender", attribute)
    ]
    found = check_language_model("lm", whole(), [run], gates=both).findings
    mine = [one.verdict for one in found if one.limit and one.target == attribute]
    assert Verdict.NOT_MEASURED in mine


def test_sentiment_of_languages_that_nothing_reads_is_not_inside_a_limit(tmp_path: Path) -> None:
    asked = wanted(tmp_path, "prompts", "greedy", languages=("en", "de"))
    found = [one for one in gated(asked, whole()) if one.measure == "sentiment_difference"]
    assert {one.target.rpartition(": ")[2] for one in found} == {"en gender", "de gender"}
    german = next(one for one in found if one.target.endswith("de gender"))
    assert german.verdict is Verdict.NOT_MEASURED
    assert "reads en only" in german.summary


def test_totals_are_no_means_with_a_prefix_either() -> None:
    """A function that tells one number for a whole text has no mean per token, whatever stands before."""
    from assaymark.bias.lm_crows_pairs_scores import per_token, spelled
    from assaymark.bias.lm_model import Continuation, Scored

    asked = Continuation("", "The women cook.")
    for text in ("The women cook.", " The women cook."):
        assert not per_token(asked, Scored((text,), (-9.0,)))
        assert not spelled(asked, Scored((text, "", ""), (-3.0, -3.0, -3.0)))
    assert per_token(asked, Scored(("The", " women", " cook."), (-3.0, -3.0, -3.0)))


def test_descriptors_of_totals_are_not_measured() -> None:
    """The sum over a text is the smaller the longer the descriptor is: no gap of likelihoods a token."""
    from assaymark.bias.lm_model import Continuation, Failed, Progress, Scored

    def totals(requests: list[Continuation], progress: Progress = quiet) -> list[Scored | Failed]:
        return [Scored((one.text,), (-float(len(one.text)),)) for one in requests]

    model = LanguageModel(name="totals", key="totals", score=totals)  # type: ignore[arg-type]
    found = gated(Wanted(suite="descriptors"), model)
    assert {one.verdict for one in found} == {Verdict.NOT_MEASURED}


@pytest.mark.parametrize(("name", "variant"), CASES, ids=IDS)
def test_means_of_items_are_the_numbers_and_intervals_grow_with_confidence(
    name: str, variant: str, tmp_path: Path
) -> None:
    asked = wanted(tmp_path, name, variant)
    for run in prepare(asked)(whole(), quiet):
        values = {(one.measure, one.target): one.value for one in run.outcome.measured}
        for items in run.outcome.item_values:
            value = values[items.measure, items.target]
            assert len(items.ids) == len(set(items.ids)) == len(items.values) == len(items.clusters)
            if value is not None:
                assert sum(items.values) / len(items.values) == pytest.approx(value, abs=1e-9)
        for one in run.outcome.measured:
            if one.value is None:
                continue
            narrow, wide = (one.interval_at(level) for level in (0.8, 0.99))
            assert (narrow is None) == (wide is None)
            if narrow is not None and wide is not None:
                assert (narrow.confidence, wide.confidence) == (0.8, 0.99)
                assert wide.low <= narrow.low + 1e-9
                assert wide.high >= narrow.high - 1e-9
                assert wide.low - 1e-9 <= one.value <= wide.high + 1e-9, one.measure


def test_faults_are_what_they_say(tmp_path: Path) -> None:
    """Without a fault everything of the small files is measured, so that a fault is what takes it away."""
    for name in ("crows-pairs", "bbq", "winobias", "winogender"):
        held = gated(wanted(tmp_path, name), whole())
        assert [one.verdict for one in held if one.measure != COVERAGE].count(Verdict.PASS) > 3
    assert own_decisions().questions
