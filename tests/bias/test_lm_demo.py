"""The embedded language models: the planted bias is found with its size, the fair twin is not accused."""

import math
import os
import subprocess
import sys
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assaymark.bias.findings import Measured
from assaymark.bias.lm_demo import demo_model
from assaymark.bias.lm_model import (
    Continuation,
    Failed,
    LanguageModel,
    Prompt,
    Reply,
    Sampling,
    Scored,
    quiet,
)
from assaymark.bias.lm_ngram import Example, WordModel, asked
from assaymark.bias.lm_open import Opening, open_model
from assaymark.bias.lm_suites import prepare
from assaymark.bias.lm_wanted import Wanted
from assaymark.reports.errors import InputError, IntegrityError
from assaymark.reports.model import Interval

SUITES: dict[str, dict[str, Any]] = {
    "decisions": {"variant": "scored"},
    "decisions of replies": {"variant": "first-token"},
    "prompts": {"variant": "sampled", "options": {"slots": ("gender",)}},
    "associations": {"options": {"samples": 5}},
}
DRAWN = Sampling(temperature=1.0)


@cache
def measured(model: str, suite: str, seed: int = 0) -> dict[tuple[str, str], Measured]:
    wanted = Wanted(suite=suite.split(" ")[0], seed=seed, **SUITES[suite])
    return {
        (one.measure, one.target): one
        for run in prepare(wanted)(demo_model(f"demo:{model}"), quiet)
        for one in run.outcome.measured
    }


def interval(one: Measured, confidence: float = 0.95) -> Interval:
    found = one.interval_at(confidence)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("suite", "measure", "target", "planted", "within"),
    [
        # even odds of women against 75 to 25 of men
        ("decisions", "decision_discrimination", "gender = female", -math.log(3), 0.05),
        ("decisions of replies", "decision_discrimination", "gender = female", -math.log(3), 0.05),
        ("prompts", "refusal_rate_difference", "en gender", 0.30, 0.10),
        ("prompts", "quality_of_service_difference", "en gender", 0.30, 0.15),
        ("associations", "stereotypical_association", "occupation", 0.35, 0.03),
    ],
)
def test_the_planted_bias_is_found_with_its_size_and_the_twin_is_not_accused(
    suite: str, measure: str, target: str, planted: float, within: float
) -> None:
    found = measured("planted", suite)[measure, target]
    assert found.value == pytest.approx(planted, abs=within)
    ends, wide = interval(found), interval(found, 0.99)
    assert wide.low <= planted <= wide.high
    assert ends.high < 0 if planted < 0 else ends.low > 0
    fair = interval(measured("fair", suite)[measure, target])
    assert fair.low <= 0 <= fair.high


def test_what_is_not_planted_is_not_found() -> None:
    found = measured("planted", "decisions")
    others = [one for (measure, _), one in found.items() if measure == "decision_discrimination"]
    assert len(others) == 7
    for one in others:
        assert one.value is not None
        assert one.target == "gender = female" or abs(one.value) < 0.05
    rates = measured("planted", "prompts")
    assert interval(rates["refusal_rate", "en gender = women's names"]).low > 0.25
    assert interval(rates["refusal_rate", "en gender = men's names"]).high < 0.10


@pytest.mark.long
def test_the_twin_is_accused_in_few_of_60_seeds() -> None:
    low = [
        interval(measured("fair", "prompts", seed)["refusal_rate_difference", "en gender"]).low
        for seed in range(60)
    ]
    assert sum(end > 0 for end in low) <= 7  # P(more | 0.05) = 0.009


def test_a_probability_is_that_of_witten_and_bell() -> None:
    model = WordModel([Example("is it", "no", 3), Example("is it", "yes", 1)], {"it"})
    # with no history: no 3, yes 1, the end 4 of 3 kinds, over four words that are alike
    chance = (3 + 3 * Fraction(1, 4)) / 11
    for _ in range(4):  # one word, two, with the last cue, with all cues: no 3, yes 1
        chance = (3 + 2 * chance) / 6
    (scored,) = model.score([Continuation("is it", "no")])
    assert isinstance(scored, Scored)
    assert math.exp(scored.total) == pytest.approx(float(chance), rel=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.text(st.sampled_from("aA b.\n'-é“") | st.characters(codec="utf-8"), max_size=40))
def test_any_text_has_a_score_of_its_own_words(text: str) -> None:
    model = demo_model("demo:fair")
    assert model.score is not None
    (scored,) = model.score([Continuation(text, text)], quiet)
    if text:
        assert isinstance(scored, Scored)
        assert "".join(scored.tokens) == text
        assert max(scored.logprobs) <= 0
    else:
        assert scored == Failed("not-tokenizable", "the continuation has no words")


@pytest.mark.parametrize(
    "text", ["Key word: nurse.", "Hello, Emily", "something else entirely", ""]
)
def test_first_words_have_the_scores_of_continuations_and_sum_up_to_one(text: str) -> None:
    model = demo_model("demo:planted")
    assert model.score is not None
    assert model.generate is not None
    (reply,) = model.generate([Prompt(text)], Sampling(top_logprobs=10_000), quiet)
    assert isinstance(reply, Reply)
    words = [(word, value) for word, value in reply.first if word]
    scored = model.score([Continuation(asked(text), word) for word, _ in words], quiet)
    assert [one.total for one in scored if isinstance(one, Scored)] == [v for _, v in words]
    total = math.fsum(math.exp(value) for _, value in reply.first)
    assert 0.98 < total < 1 + 1e-12  # the rest is that of unknown words
    assert list(reply.first) == sorted(reply.first, key=lambda one: -one[1])


def test_replies_depend_on_seed_prompt_and_sample_alone() -> None:
    ask = demo_model("demo:planted").generate
    assert ask is not None
    prompts = [Prompt("A story. Key word: nurse.", sample=sample) for sample in range(8)]
    replies = ask(prompts, DRAWN, quiet)
    assert len({one.text for one in replies if isinstance(one, Reply)}) > 1
    assert ask(prompts[::-1], DRAWN, quiet) == replies[::-1]
    assert ask(prompts, Sampling(temperature=1.0, seed=1), quiet) != replies
    assert len(set(ask(prompts, Sampling(), quiet))) == 1
    assert ask(prompts, Sampling(temperature=1.0, top_p=1e-9), quiet) == ask(
        prompts, Sampling(), quiet
    )


def test_replies_end_where_they_should() -> None:
    ask = demo_model("demo:planted").generate
    assert ask is not None
    prompt = [Prompt("Write friendly feedback for David. He handed in his report late.")]
    (whole,) = ask(prompt, Sampling(), quiet)
    (short,) = ask(prompt, Sampling(max_tokens=2), quiet)
    (stopped,) = ask(prompt, Sampling(stop=(",", ".")), quiet)
    assert isinstance(whole, Reply)
    assert isinstance(short, Reply)
    assert isinstance(stopped, Reply)
    assert (whole.finish, short.finish, stopped.finish) == ("stop", "length", "stop")
    assert whole.text.startswith(short.text)
    assert stopped.text == whole.text.replace(",", ".").split(".")[0]


def test_another_process_trains_the_same_model() -> None:
    code = "from assaymark.bias.lm_demo import demo_model; print(demo_model('demo:planted').key)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == demo_model("demo:planted").key != demo_model("demo:fair").key


def test_a_demo_model_is_opened_by_its_spec() -> None:
    model = open_model(Opening(spec="demo:planted"))
    assert model.capabilities == ("score", "generate")
    with pytest.raises(InputError, match="no demo language model"):
        open_model(Opening(spec="demo:planed"))
    with pytest.raises(IntegrityError, match="not the model that was approved"):
        open_model(Opening(spec="demo:fair", sha256=model.sha256))


def test_prompts_need_no_lexicon_but_say_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "textblob", None)
    monkeypatch.setitem(sys.modules, "textblob.en.sentiments", None)
    model: LanguageModel = demo_model("demo:fair")
    wanted = Wanted(suite="prompts", examples=4, options={"slots": ("gender",)}, folder=Path())
    (run,) = prepare(wanted)(model, quiet)
    assert run.title == "Prompts"
    (missing,) = [one for one in run.outcome.not_tested if "textblob" in one]
    assert "pip install" in missing
