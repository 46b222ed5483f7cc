"""A language model behind an address: a server of known probabilities, in all the ways it can fail."""

import http.server
import json
import math
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from email.utils import formatdate
from itertools import pairwise
from typing import Any

import lm_server
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_server import Server, log_prob, serving

from assaymark.bias import lm_http
from assaymark.bias.lm_budget import Amount, Budget, Ceiling, Pace
from assaymark.bias.lm_chat import read_chat
from assaymark.bias.lm_completions import read_scores
from assaymark.bias.lm_echo import continuation, spans
from assaymark.bias.lm_endpoint import endpoint
from assaymark.bias.lm_endpoint_options import EndpointOptions
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
from assaymark.bias.lm_patience import Unreadable, seconds
from assaymark.reports.errors import InputError

QUICK = EndpointOptions(pause=0.01, longest_pause=0.1, retries=3, concurrency=2, time_limit=5.0)
PAIRS = [
    Continuation("The nurse said", " she"),
    Continuation("The nurse said", " he was the doctor."),
    Continuation("The doctor said", " she left"),
    Continuation("Hello", "é – ok"),
    Continuation("Zoë", " left."),
]


def model(server: Server, **options: Any) -> LanguageModel:
    made = endpoint(server.url, model="bigram", options=replace(QUICK, **options))
    server.reset()
    return made


def totals(answers: list[Scored | Failed]) -> list[float | str]:
    return [a.total if isinstance(a, Scored) else a.kind for a in answers]


def score(model: LanguageModel, requests: list[Continuation]) -> list[float | str]:
    assert model.score is not None
    return totals(model.score(requests, quiet))


def failure(model: LanguageModel, request: Continuation = PAIRS[0]) -> Failed:
    assert model.score is not None
    (answer,) = model.score([request], quiet)
    assert isinstance(answer, Failed)
    return answer


def replies(
    model: LanguageModel, prompts: list[Prompt], sampling: Sampling | None = None
) -> list[Reply | Failed]:
    assert model.generate is not None
    return model.generate(prompts, sampling or Sampling(max_tokens=4), quiet)


TRUTH = [log_prob(pair.context, pair.text) for pair in PAIRS]


# Scores


@pytest.mark.parametrize("spelling", ["text", "byte-level", "sentencepiece"])
@pytest.mark.parametrize(
    "settings", [{}, {"offsets": False}, {"least": 1}, {"begins": True}], ids=str
)
def test_scores_are_the_sums_of_the_table(spelling: str, settings: dict[str, Any]) -> None:
    with serving(spelling=spelling, **settings) as server:
        asked = model(server, batch=2)
        assert asked.capabilities == ("score", "generate")
        assert not asked.chat
        assert score(asked, PAIRS) == pytest.approx(TRUTH, abs=1e-12)
        assert server.requests == 3
        assert {body["max_tokens"] for body in server.bodies} == {settings.get("least", 0)}


def test_the_tokens_of_a_continuation_spell_it() -> None:
    with serving() as server:
        asked = model(server)
        assert asked.score is not None
        (found,) = asked.score([PAIRS[1]], quiet)
    assert isinstance(found, Scored)
    assert found.tokens == (" he", " was", " the", " doctor", ".")
    assert len(found.logprobs) == 5


def test_a_token_across_the_boundary_is_the_first_of_the_continuation() -> None:
    with serving() as server:
        # "abc" is one token: of the text "ab" + "c left" the truth is log P(abc | " ") + log P(" left" | abc)
        ids = lm_server.encode("The abc left")
        expected = float(lm_server.TABLE[ids[1], ids[2]] + lm_server.TABLE[ids[2], ids[3]])
        assert score(model(server), [Continuation("The ab", "c left")]) == [pytest.approx(expected)]


def test_spaces_at_the_end_of_a_context_belong_to_the_continuation() -> None:
    """As in lm-eval (TemplateLM._encode_pair) and in local models."""
    with serving() as server:
        asked = model(server)
        expected = [log_prob("The nurse", " said"), log_prob("The nurse", "\n said")]
        found = score(
            asked, [Continuation("The nurse ", "said"), Continuation("The nurse\n", " said")]
        )
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("settings", "bos", "expected"),
    [
        ({}, "", "not-offered"),
        ({}, "<s>", log_prob("<s>", "The nurse")),
        ({"begins": True}, "", log_prob("<s>", "The nurse")),
    ],
    ids=["unknown", "named", "of the server"],
)
def test_a_text_without_context_needs_a_token_it_begins_with(
    settings: dict[str, Any], bos: str, expected: float | str
) -> None:
    with serving(**settings) as server:
        found = score(model(server, bos=bos), [Continuation("", "The nurse")])
    assert found == [expected if isinstance(expected, str) else pytest.approx(expected)]


def test_bos_is_not_put_before_a_context() -> None:
    with serving() as server:
        assert score(model(server, bos="<s>"), PAIRS) == pytest.approx(TRUTH)
        assert sorted(server.prompts) == sorted(pair.context + pair.text for pair in PAIRS)


@pytest.mark.parametrize(
    ("tokens", "offsets", "text", "expected"),
    [
        (["a", "b"], None, "ab", [(0, 1), (1, 2)]),
        (["<s>", "a", "b"], [0, 3, 4], "ab", [(-3, 0), (0, 1), (1, 2)]),
        (["<s>", "▁a", "b"], None, "ab", [(-4, -1), (-1, 1), (1, 2)]),
        (["", "a"], [0, 0], "a", [(0, 0), (0, 1)]),
        (["", "é"], [0, 0], "é", [(0, 0), (0, 2)]),
        (["\ufffd", "\ufffd", "b"], [0, 0, 1], "éb", None),
        (["a", "\ufffd", "\ufffd", "b"], [0, 1, 1, 2], "aéb", [(0, 1), (1, 1), (1, 3), (3, 4)]),
        (["a", "x"], [0, 1], "ab", None),
        (["a"], [0], "ab", None),
        (["a", "b"], [1, 0], "xy", None),
        (["Ġb", "c"], [0, 2], " bc", [(0, 2), (2, 3)]),
        ([], [], "a", None),
        (["c"], None, "ab", None),
    ],
    ids=str,
)
def test_tokens_are_placed_only_where_they_fit(
    tokens: list[str], offsets: list[int] | None, text: str, expected: list[tuple[int, int]] | None
) -> None:
    assert spans(tokens, offsets, text) == expected


@pytest.mark.parametrize(
    ("places", "boundary", "end", "expected"),
    [
        ([(0, 0), (0, 1)], 0, 1, range(1, 2)),
        ([(-3, 0), (0, 1), (1, 2)], 0, 2, range(1, 3)),
        ([(0, 2), (2, 2), (2, 4), (4, 5)], 2, 4, range(1, 3)),
        ([(0, 3), (3, 4)], 2, 4, range(0, 2)),
        ([(0, 2), (2, 3)], 2, 2, None),
    ],
    ids=["nothing before", "special before", "piece of a character", "across", "no text"],
)
def test_the_tokens_of_a_continuation(
    places: list[tuple[int, int]], boundary: int, end: int, expected: range | None
) -> None:
    assert continuation(places, boundary, end) == expected


@settings(max_examples=100)
@given(st.text(min_size=1, max_size=12), st.text(min_size=1, max_size=12), st.data())
def test_any_cut_of_a_text_into_tokens_is_found_again(
    context: str, text: str, data: st.DataObject
) -> None:
    whole = (context + text).encode()
    cuts = sorted(data.draw(st.sets(st.integers(0, len(whole)))) | {0, len(whole)})
    pieces = [whole[a:b] for a, b in pairwise(cuts)]
    tokens = ["".join(lm_server._BYTE_LEVEL[b] for b in piece) for piece in pieces]
    placed = spans(tokens, None, context + text)
    assert placed is not None
    chosen = continuation(placed, len(context.encode()), len(whole))
    assert chosen is not None
    # the smallest number of tokens at the end that holds all of the continuation
    tail = b"".join(pieces[chosen[0] :])
    assert len(tail) >= len(text.encode()) > len(tail) - len(pieces[chosen[0]])


# What a server offers


@pytest.mark.parametrize(
    ("offers", "api", "capabilities", "chat", "top"),
    [
        (("completions", "chat", "echo", "logprobs"), "auto", ("score", "generate"), False, "5"),
        (("completions", "chat", "echo", "logprobs"), "chat", ("generate",), True, "5"),
        (("completions", "chat", "logprobs"), "auto", ("generate",), True, "5"),
        (("completions", "chat"), "auto", ("generate",), True, "no"),
        (("completions", "logprobs"), "auto", ("generate",), False, "5"),
        (("completions", "echo"), "auto", ("generate",), False, "no"),
        (("chat",), "auto", ("generate",), True, "no"),
        (("completions", "chat"), "completions", ("generate",), False, "no"),
    ],
)
def test_what_is_offered_is_found_out(
    offers: tuple[str, ...], api: Any, capabilities: tuple[str, ...], chat: bool, top: str
) -> None:
    with serving(offers=offers) as server:
        asked = model(server, api=api)
        assert (asked.capabilities, asked.chat) == (capabilities, chat)
        assert asked.facts["top_logprobs"] == top
        assert int(asked.facts["requests"]) <= 5


def test_more_top_logprobs_than_a_server_tells() -> None:
    def strict(state: Server, handler: lm_server.Handler, body: dict[str, Any]) -> bool:
        greedy = body.get("logprobs", 0) > 5 or body.get("top_logprobs", 0) > 5
        if greedy:
            handler.reply(400, b"at most 5")
        return bool(greedy)

    with serving(script=strict) as server:
        for api, echo in (("auto", True), ("chat", False)):
            asked = model(server, api=api, top_logprobs=20)
            assert (asked.facts["top_logprobs"], asked.score is not None) == ("5", echo)


def test_a_model_that_only_thinks_is_a_chat_model() -> None:
    def silent(answer: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        return {**answer, "choices": [{"message": {"content": None}, "finish_reason": "length"}]}

    with serving(offers=("chat",), spoil=silent) as server:
        assert model(server).chat


def test_echo_that_tells_only_what_was_written_is_no_score() -> None:
    """llama.cpp #27174: the one log probability of the written token was read as that of the text."""

    def only_new(answer: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        for choice in answer["choices"]:
            if told := choice.get("logprobs"):
                for key in told:
                    told[key] = told[key][-1:]
        return answer

    with serving(offers=("completions", "echo", "logprobs"), spoil=only_new) as server:
        assert model(server).score is None


def test_prompt_tokens_without_values_are_no_score() -> None:
    def nulls(answer: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        for choice in answer["choices"]:
            if told := choice.get("logprobs"):
                told["token_logprobs"] = [None] * len(told["tokens"])
        return answer

    with serving(offers=("completions", "echo", "logprobs"), spoil=nulls) as server:
        assert model(server).score is None


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (lm_server.says(401, b"no key"), "status 401.*token_env"),
        (lm_server.says(404, b"nothing here"), "answers no request.*404.*ends in /v1"),
        (
            lm_server.says(302, Location="http://elsewhere.example/?token=s"),
            "elsewhere.example/ .*not followed",
        ),
        (lm_server.says(200, b"<html>hello"), "no JSON, but <html>hello"),
        (lm_server.hangs_up, "asked 4 times|asked 2 times"),
        (lm_server.says(503), "answers no request.*503"),
    ],
    ids=["401", "404", "redirect", "html", "hangs-up", "503"],
)
def test_a_server_that_answers_nothing_is_an_input_error(
    script: lm_server.Script, message: str
) -> None:
    with serving(script=script) as server, pytest.raises(InputError, match=message):
        model(server)


def test_another_models_answer_is_told() -> None:
    with serving(name="bigram-2026-08-01", fingerprint="fp_1") as server:
        asked = model(server)
        assert asked.facts["answers as"] == "bigram-2026-08-01"
        assert asked.facts["system_fingerprint"] == "fp_1"
        assert "warning" not in asked.facts
        server.name = "cheaper"
        score(asked, PAIRS)
        assert "answers as was bigram-2026-08-01, then cheaper" in asked.facts["warning"]
    with serving(name="cheaper") as server:
        assert model(server).facts["warning"] == "bigram was asked for, but cheaper answers"


def test_the_key_tells_models_apart_and_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LM_TOKEN", "s3cret-token")
    keys = []
    with serving() as server:
        for options in ({}, {"api": "chat"}, {"extra": {"seed": 2}}, {"bos": "<s>"}):
            keys.append(model(server, token_env="LM_TOKEN", **options))
        keys.append(
            endpoint(server.url + "?api-version=s3cret-token", model="bigram", options=QUICK)
        )
        server.fingerprint = "fp_2"
        keys.append(model(server))
        again = model(server, token_env="LM_TOKEN", concurrency=1)
        server.fingerprint = None
    assert len({made.key for made in keys}) == len(keys)
    assert again.key == keys[-1].key
    assert not any("s3cret" in repr(made) or "s3cret" in str(made.facts) for made in keys)


# Texts


def test_chat_is_asked_with_roles_and_tells_first_tokens() -> None:
    with serving() as server:
        asked = model(server, api="chat")
        sampling = Sampling(max_tokens=3, seed=4, stop=("\n",), top_logprobs=9)
        (reply,) = replies(asked, [Prompt("The nurse", system="Hello")], sampling)
        (body,) = server.bodies
    assert body["messages"] == [
        {"role": "system", "content": "Hello"},
        {"role": "user", "content": "The nurse"},
    ]
    assert (body["max_tokens"], body["seed"], body["stop"]) == (3, 4, ["\n"])
    assert body["top_logprobs"] == 5
    assert isinstance(reply, Reply)
    nurse = lm_server.TABLE[lm_server.encode("The nurse")[-1]]
    assert [p for _, p in reply.first] == pytest.approx(sorted(nurse, reverse=True)[:5])
    assert reply.finish in ("length", "stop")


def test_draws_have_streams_of_their_own_and_can_be_repeated() -> None:
    with serving() as server:
        asked = model(server, api="completions")
        prompts = [Prompt("The nurse said", sample=k) for k in range(6)]
        hot = Sampling(max_tokens=5, temperature=1.0, seed=3)
        drawn = replies(asked, prompts, hot)
        assert replies(asked, prompts, hot) == drawn
        assert len({reply.text for reply in drawn if isinstance(reply, Reply)}) > 3


@pytest.mark.parametrize(
    ("message", "finish", "expected"),
    [
        ({"content": ""}, "stop", Reply("", "stop")),
        ({"content": None}, "content_filter", Reply("", "filter")),
        ({"content": None, "refusal": "I cannot."}, "stop", Reply("I cannot.", "filter")),
        (
            {"content": [{"type": "text", "text": "a"}, {"text": "b"}]},
            "end_turn",
            Reply("ab", "stop"),
        ),
        ({"content": "a"}, "odd", Reply("a", "unknown")),
        ({"content": None, "tool_calls": [{}]}, "tool_calls", "no text but a call of a tool"),
        ({"content": None}, "length", "no text (finish_reason length)"),
        ({"content": 7}, "stop", "no text"),
        (None, "stop", "without a message"),
    ],
    ids=str,
)
def test_a_reply_is_kept_as_it_ended(message: Any, finish: str, expected: Reply | str) -> None:
    def other(answer: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        return {**answer, "choices": [{"index": 0, "message": message, "finish_reason": finish}]}

    with serving(offers=("chat",)) as server:
        asked = model(server)
        server.spoil = other
        (reply,) = replies(asked, [Prompt("Hello")])
    if isinstance(expected, Reply):
        assert reply == expected
    else:
        assert isinstance(reply, Failed)
        assert reply.kind == "unparsable"
        assert expected in reply.reason


def test_a_filtered_prompt_is_a_reply_and_a_long_one_is_too_long() -> None:
    with serving(offers=("chat",)) as server:
        asked = model(server)
        server.script = lm_server.says(400, b'{"error": {"code": "content_filter"}}')
        assert replies(asked, [Prompt("Hello")]) == [Reply("", "filter")]
        server.script = lm_server.says(400, b'{"error": {"code": "context_length_exceeded"}}')
        (long,) = replies(asked, [Prompt("Hello")])
    assert isinstance(long, Failed)
    assert long.kind == "too-long"


def test_a_key_of_the_body_can_be_renamed_or_taken_away() -> None:
    def modern(state: Server, handler: lm_server.Handler, body: dict[str, Any]) -> bool:
        if "max_tokens" in body or "temperature" in body:
            handler.reply(400, b"use max_completion_tokens, and no temperature")
        return "max_tokens" in body or "temperature" in body

    with serving(offers=("chat",), script=modern) as server:
        asked = model(server, extra={"user": "audit"}, leave_out=("temperature",))
        assert isinstance(replies(asked, [Prompt("Hello")])[0], Reply)
        assert server.bodies[0]["max_completion_tokens"] == 4
        assert server.bodies[0]["user"] == "audit"


# Failures


def _changed(**told: Any) -> lm_server.Spoil:
    """The log probabilities of each choice, changed."""

    def spoil(answer: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        for choice in answer["choices"]:
            choice["logprobs"] |= {
                key: change(choice["logprobs"][key]) for key, change in told.items()
            }
        return answer

    return spoil


GARBAGE: dict[str, tuple[lm_server.Spoil, str]] = {
    "not json": (lambda a, b: b"<html>busy</html>", "no JSON, but <html>busy"),
    "list": (lambda a, b: [a], "no object"),
    "deep": (lambda a, b: b"[" * 100_000, "no JSON"),
    "empty": (lambda a, b: b"", "no JSON, but nothing"),
    "error": (lambda a, b: {"error": "overloaded"}, "an error under status 200"),
    "no choices": (lambda a, b: {"id": 1}, "no list of choices"),
    "two choices": (lambda a, b: {**a, "choices": a["choices"] * 2}, "2 choices for 1 texts"),
    "no logprobs": (lambda a, b: {**a, "choices": [{"text": "x"}]}, "no logprobs"),
    "nan": (_changed(token_logprobs=lambda v: [*v[:-1], math.nan]), "nan as a log"),
    "infinite": (_changed(token_logprobs=lambda v: [*v[:-1], -math.inf]), "inf as a log"),
    "positive": (_changed(token_logprobs=lambda v: [*v[:-1], 1e-3]), "0.001 as a log"),
    "a text": (_changed(token_logprobs=lambda v: [*v[:-1], "-1"]), "-1 as a log"),
    "true": (_changed(token_logprobs=lambda v: [*v[:-1], False]), "False as a log"),
    "null": (_changed(token_logprobs=lambda v: [*v[:-1], None]), "None as a log"),
    "short": (_changed(token_logprobs=lambda v: v[:-1]), "not one log probability a token"),
    "other text": (_changed(tokens=lambda v: ["x", *v[1:]]), "do not spell the text"),
    "truncated": (_changed(tokens=lambda v: v[:-1], token_logprobs=lambda v: v[:-1]), "spell"),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_is_never_a_score(name: str) -> None:
    spoil, message = GARBAGE[name]
    with serving() as server:
        asked = model(server)
        server.spoil = spoil
        failed = failure(asked)
    assert failed.kind == "unparsable"
    assert message in failed.reason


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)


def _places(content: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(content, (dict, list)):
        for key in content if isinstance(content, dict) else range(len(content)):
            yield (*here, key)
            yield from _places(content[key], (*here, key))


@settings(max_examples=150)
@given(st.data())
def test_any_part_of_an_answer_can_be_anything(data: st.DataObject) -> None:
    """What is read is a failure, or a number that a probability can have; nothing crashes."""
    prompt = {"prompt": "The nurse said she", "logprobs": 2, "echo": True, "max_tokens": 1}
    chat = {"messages": [{"content": "The"}], "logprobs": True, "top_logprobs": 2, "max_tokens": 2}
    scored = data.draw(st.booleans())
    right = Server().completions(prompt) if scored else Server().chat(chat)
    content = json.loads(json.dumps(right))
    *way, last = data.draw(st.sampled_from(sorted(_places(content), key=str)))
    part = content
    for key in way:
        part = part[key]
    part[last] = data.draw(JSON)
    try:
        answers = read_scores(content, PAIRS[:1], "") if scored else [read_chat(content, 2)]
    except Unreadable:
        return
    for answer in answers:
        if isinstance(answer, Scored):
            assert all(math.isfinite(value) and value <= 0 for value in answer.logprobs)
            assert "".join(answer.tokens) == " she"
        elif isinstance(answer, Reply):
            assert all(math.isfinite(value) and value <= 0 for _, value in answer.first)


def test_rounding_above_zero_is_zero() -> None:
    with serving() as server:
        asked = model(server)
        server.spoil = _changed(token_logprobs=lambda v: [*v[:-1], 9e-7])
        assert score(asked, [PAIRS[0]]) == [0.0]


def test_choices_out_of_order_find_their_places() -> None:
    def shuffled(answer: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        return {**answer, "choices": answer["choices"][::-1]}

    with serving() as server:
        asked = model(server, batch=5)
        server.spoil = shuffled
        assert score(asked, PAIRS) == pytest.approx(TRUTH)
        assert server.requests == 1


def test_choices_under_a_wrong_index_are_no_ones_score() -> None:
    def swapped(answer: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        for choice in answer["choices"]:
            choice["index"] = len(answer["choices"]) - 1 - choice["index"]
        return answer

    with serving() as server:
        asked = model(server, batch=2)
        server.spoil = swapped
        assert score(asked, PAIRS[:2]) == ["unparsable"] * 2


@pytest.mark.parametrize(
    "spoil",
    [
        lambda a, b: {**a, "choices": a["choices"][:1]},
        lambda a, b: {**a, "choices": [c | {"index": 0} for c in a["choices"]]},
        lambda a, b: {**a, "choices": [{**c, "index": None} for c in a["choices"]]},
        lambda a, b: {**a, "choices": [c | {"index": c["index"] + 1} for c in a["choices"]]},
    ],
    ids=["too few", "one index", "no index", "from one"],
)
def test_a_batch_that_cannot_be_told_apart_is_asked_one_by_one(spoil: lm_server.Spoil) -> None:
    with serving() as server:
        asked = model(server, batch=5)
        server.spoil = spoil
        assert score(asked, PAIRS) == pytest.approx(TRUTH)


def test_one_bad_prompt_takes_no_others_with_it() -> None:
    with serving() as server:
        asked = model(server, batch=5)
        server.script = lm_server.only_for("Zo", lm_server.says(400, b"bad prompt"))
        assert score(asked, PAIRS) == [*map(pytest.approx, TRUTH[:4]), "error"]


@pytest.mark.parametrize(
    "script",
    [
        lm_server.says(429, b"slow down"),
        lm_server.says(500),
        lm_server.says(408),
        lm_server.says(529),
        lm_server.hangs_up,
        lm_server.cut_off,
        lm_server.sleeps,
        lm_server.drips,
        lm_server.drips_headers,
    ],
    ids=["429", "500", "408", "529", "hangs-up", "cut-off", "sleeps", "drips", "drips-headers"],
)
def test_what_may_pass_is_asked_again(script: lm_server.Script) -> None:
    with serving() as server:
        asked = model(server, time_limit=0.4, concurrency=1, retries=6)
        server.script = lm_server.recovers(script, 2)
        assert score(asked, [PAIRS[0]]) == pytest.approx(TRUTH[:1])
        assert server.requests >= 3


@pytest.mark.parametrize(
    ("status", "requests"), [(400, 1), (401, 1), (404, 1), (302, 1), (409, 4), (425, 4), (502, 4)]
)
def test_what_will_not_pass_is_not_asked_again(status: int, requests: int) -> None:
    with serving() as server:
        asked = model(server)
        server.script = lm_server.says(status, Location="http://127.0.0.1:1/")
        assert failure(asked).kind == "error"
        assert server.requests == requests


def test_an_endless_answer_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lm_http, "LARGEST_ANSWER", 4 << 20)
    with serving() as server:
        asked = model(server)
        server.script = lm_server.endless
        assert "more than 4 MiB" in failure(asked).reason
        assert server.requests == 1


@pytest.mark.parametrize("date", [False, True], ids=["seconds", "date"])
def test_retry_after_is_honoured_by_all_threads(date: bool) -> None:
    with serving() as server:
        asked = model(server, longest_pause=5.0, concurrency=2)
        # a date has whole seconds
        wanted = formatdate(time.time() + 1.9, usegmt=True) if date else "0.4"
        server.script = lm_server.recovers(lm_server.says(429, Retry_After=wanted), 1)
        assert score(asked, PAIRS * 30) == pytest.approx(TRUTH * 30)
        times = sorted(server.times)
    assert max(b - a for a, b in pairwise(times)) >= 0.3


def test_retry_after_is_capped() -> None:
    with serving() as server:
        asked = model(server, longest_pause=0.05)
        server.script = lm_server.recovers(lm_server.says(429, Retry_After="86400"), 2)
        begun = time.monotonic()
        assert score(asked, PAIRS[:1]) == pytest.approx(TRUTH[:1])
        assert time.monotonic() - begun < 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3", 3.0),
        ("0.5", 0.5),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("1e9", None),
        ("Thu, 01 Jan 1970 00:16:45 GMT", 5.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
    ],
)
def test_retry_after_is_read(text: str, expected: float | None) -> None:
    assert seconds(text, 1000.0) == expected


def test_a_server_that_is_away_is_given_up() -> None:
    with serving() as server:
        asked = model(server, retries=1, give_up_after=3, concurrency=2)
        server.script = lm_server.says(503, b"away")
        assert asked.score is not None
        answers = asked.score(PAIRS * 40, quiet)
        assert {a.kind for a in answers if isinstance(a, Failed)} == {"error"}
        assert len(answers) == 200
        assert server.requests <= 10
        last = answers[-1]
        assert isinstance(last, Failed)
        assert last.reason.startswith("not asked: 3 requests in a row had failed; the last: http")
        assert "status 503: away" in last.reason
        # the next run begins with one chance, and goes on once the server is back
        server.script = None
        assert score(asked, PAIRS) == pytest.approx(TRUTH)


def test_long_texts_in_a_row_are_no_reason_to_give_up() -> None:
    with serving() as server:
        asked = model(server, give_up_after=2)
        server.script = lm_server.only_for(
            "Zo", lm_server.says(400, b"maximum context length is 5")
        )
        found = score(asked, [PAIRS[4]] * 20 + PAIRS[:1])
    assert found == ["too-long"] * 20 + [pytest.approx(TRUTH[0])]


# Limits


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("counts", [True, False], ids=["counted", "uncounted"])
def test_a_cost_ceiling_is_never_passed_and_used_up(concurrency: int, counts: bool) -> None:
    limits = replace(
        QUICK, concurrency=concurrency, max_cost=1.5, price_input=1000.0, price_output=5000.0
    )
    prompts = [Prompt(f"The nurse said {n}") for n in range(60)]

    def bill(server: Server) -> float:
        return (server.read * 1000 + server.written * 5000) / 1e6

    with serving(offers=("chat",), counts=counts) as server:
        asked = endpoint(server.url, model="bigram", options=limits)
        answers = replies(asked, prompts)
        total = bill(server)
    kinds = {a.kind for a in answers if isinstance(a, Failed)}
    assert kinds == {"ceiling"}
    good = [a for a in answers if isinstance(a, Reply)]
    assert total <= 1.5
    assert len(good) >= 3
    if counts:
        assert asked.facts["cost"] == f"{total:.6g}"
        most = (64 + len("  The nurse said 99")) * 1e-3 + 4 * 5e-3  # what one more might cost
        assert total + most + 0.02 > 1.5
    failed = next(a for a in answers if isinstance(a, Failed))
    assert failed.reason == "not asked: the cost ceiling of 1.5 (max_cost) is reached"


def test_what_a_server_adds_to_a_text_is_learnt_before_the_ceiling_is_near() -> None:
    with serving(offers=("chat",), overhead=300) as server:
        asked = endpoint(server.url, model="bigram", options=replace(QUICK, max_tokens_total=3000))
        answers = replies(asked, [Prompt(f"The nurse said {n}") for n in range(20)])
        assert 2600 < server.read + server.written <= 3000
    assert [a.kind for a in answers if isinstance(a, Failed)].count("ceiling") > 10


def test_an_answer_that_cannot_be_read_may_have_cost_the_most() -> None:
    with serving() as server:
        asked = endpoint(server.url, model="bigram", options=replace(QUICK, max_tokens_total=400))
        server.reset()
        server.spoil = lambda answer, body: b"<html>"
        kinds = score(asked, PAIRS[:1] * 20)
        assert kinds.count("ceiling") > 10
        assert kinds.count("unparsable") == server.requests <= 5


def test_ceilings_of_requests_and_tokens() -> None:
    with serving() as server:
        asked = endpoint(
            server.url, model="bigram", options=replace(QUICK, max_requests=4, batch=2)
        )
        found = score(asked, PAIRS)
        assert server.requests == 4
        assert found == [*map(pytest.approx, TRUTH[:4]), "ceiling"]
    with serving() as server:
        asked = endpoint(server.url, model="bigram", options=replace(QUICK, max_tokens_total=400))
        found = score(asked, PAIRS * 20)
        assert found.count("ceiling") > 50
        assert 300 < server.read + server.written <= 400


def test_retries_count_towards_the_ceiling() -> None:
    with serving() as server:
        asked = endpoint(
            server.url, model="bigram", options=replace(QUICK, max_requests=5, retries=9)
        )
        before = server.requests
        server.script = lm_server.says(500)
        assert failure(asked).kind == "ceiling"
        assert server.requests == 5
        assert before == 2


@given(
    st.lists(st.tuples(st.integers(1, 30), st.floats(0, 2)), min_size=1, max_size=40),
    st.floats(1, 600),
)
def test_no_minute_sees_more_than_its_share(
    uses: list[tuple[int, float]], per_minute: float
) -> None:
    """In any window of w seconds at most w / 60 of the limit begins, but for one request."""
    pace, now, begun = Pace(per_minute), 0.0, []
    for amount, later in uses:
        now += later
        begun.append((now + pace.delay(amount, now), amount))
    for place, (start, _) in enumerate(begun):
        for end, (stop, _) in enumerate(begun[place:], place):
            inside = sum(amount for _, amount in begun[place:end])
            assert inside <= (stop - start) * per_minute / 60 + 1e-6


def test_requests_keep_their_pace() -> None:
    with serving() as server:
        asked = model(server, requests_per_minute=1200.0, concurrency=4)
        begun = time.monotonic()
        score(asked, PAIRS * 2)
        assert time.monotonic() - begun >= 9 * 0.05


def test_a_budget_waits_for_what_is_under_way_before_it_says_no() -> None:
    budget, stop = Budget(Ceiling(requests=None, tokens=100)), threading.Event()
    first = budget.put_aside(Amount(1, 80), stop)
    assert first is not None
    found: list[int | None] = []
    other = threading.Thread(target=lambda: found.append(budget.put_aside(Amount(1, 60), stop)))
    other.start()
    time.sleep(0.05)
    assert not found
    budget.settle(first, Amount(1, 10))
    other.join()
    assert found[0] is not None
    budget.settle(found[0], None)
    assert budget.spent == Amount(2, 70)
    assert budget.put_aside(Amount(1, 31), stop) is None
    assert budget.put_aside(Amount(1, 1), stop) is None  # and it stays so


# Manners


def test_a_connection_is_kept_and_closed() -> None:
    with serving() as server:
        asked = model(server, concurrency=2)
        score(asked, PAIRS * 10)
        assert server.requests == 50
        assert server.connections <= 2


def test_a_kept_connection_that_was_closed_is_no_failure() -> None:
    def closes(state: Server, handler: lm_server.Handler, body: dict[str, Any]) -> bool:
        handler.close_connection = True  # without saying so
        return False

    with serving() as server:
        asked = model(server, retries=0, concurrency=1)
        server.script = closes
        assert score(asked, PAIRS) == pytest.approx(TRUTH)


def test_progress_and_answers_as_they_come() -> None:
    with serving() as server:
        asked = model(server)
        seen: list[tuple[int, int]] = []
        assert asked.score is not None
        asked.score(PAIRS, lambda done, total: seen.append((done, total)))
        assert seen[-1] == (5, 5)
        answers: Any = asked.score
        with closing(answers.answers(PAIRS * 50)) as coming:
            next(coming)
        time.sleep(0.2)
        assert server.requests < 50  # nobody waits for the rest


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://host/v1", "no usable address"),
        ("http://user:pw@host/v1", "without user or password"),
        ("http:///v1", "no usable address"),
        ("http://host:99999/v1", "no address"),
        ("http://ho st/v1", "no usable address"),
        ("http://example.com/v1", "in the clear"),
    ],
)
def test_addresses_that_cannot_be_used(
    url: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LM_TOKEN", "s3cret")
    with pytest.raises(InputError, match=message) as raised:
        endpoint(url, model="m", options=replace(QUICK, token_env="LM_TOKEN"))
    assert "pw" not in str(raised.value)


@pytest.mark.parametrize("token", ["", "a\nb", "tök"])
def test_tokens_that_are_none(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LM_TOKEN", token)
    with pytest.raises(InputError, match="LM_TOKEN"):
        endpoint(
            "https://host.invalid/v1", model="m", options=EndpointOptions(token_env="LM_TOKEN")
        )


def test_the_token_is_sent_to_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LM_TOKEN", "s3cret")
    with serving() as server:
        asked = model(server, token_env="LM_TOKEN")
        score(asked, PAIRS[:1])
        assert server.headers[0]["Authorization"] == "Bearer s3cret"


def test_the_token_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LM_TOKEN", "s3cret")
    with serving() as server:
        asked = model(server, token_env="LM_TOKEN")
        server.script = lm_server.says(401, b"the key s3cret is wrong")
        failed = failure(asked)
    assert "the key [token] is wrong" in failed.reason
    assert "s3cret" not in repr((failed, asked, asked.facts))


def test_a_proxy_is_used_only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    class Proxy(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            seen.append(f"{self.path} {self.headers['Proxy-Authorization']}")
            self.send_error(400)

        def log_message(self, *_: object) -> None:
            return

    with serving() as server, http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02}).start()
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("http_proxy", f"http://u:p@127.0.0.1:{proxy.server_address[1]}")
        try:
            assert model(server).score is not None
            assert not seen
            with pytest.raises(InputError, match="status 400"):
                model(server, proxy=True)
            assert seen[0] == f"{server.url}/completions Basic dTpw"
        finally:
            proxy.shutdown()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"retries": -1}, "retries must be at least 0, got -1"),
        ({"concurrency": 0}, "concurrency must be at least 1"),
        ({"time_limit": 0.0}, "time_limit must be above 0"),
        ({"max_cost": 1.0}, "max_cost needs the prices"),
        ({"max_cost": math.nan, "price_input": 1.0, "price_output": 1.0}, "max_cost must be"),
        ({"extra": {"stream": True}}, "extra cannot hold stream"),
        ({"api": "legacy"}, 'got "legacy"'),
    ],
    ids=str,
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        EndpointOptions(**options)


def test_ctrl_c_ends_a_run_at_once() -> None:
    code = (
        "import sys; from assaymark.bias.lm_endpoint import *; from assaymark.bias.lm_model import *\n"
        "m = endpoint(sys.argv[1], model='bigram')\n"
        "print('begun', flush=True)\n"
        "m.score([Continuation('The', ' nurse')] * 100, quiet)\n"
    )

    def stuck(state: Server, handler: lm_server.Handler, body: dict[str, Any]) -> bool:
        if state.requests > 2:
            time.sleep(20)
        return False

    with serving(script=stuck) as server:
        process = subprocess.Popen(
            [sys.executable, "-c", code, server.url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        time.sleep(0.3)
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert time.monotonic() - begun < 5
    assert "KeyboardInterrupt" in said
