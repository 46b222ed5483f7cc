"""The same tiny model at hand and behind an address, in every suite: the same numbers, whoever asks it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import lm_engine_models as tiny
import pytest
import torch
from lm_server import Handler, Server, serving
from lm_small_files import written

from assaymark.bias.lm_bbq import load_bbq
from assaymark.bias.lm_cache import cached
from assaymark.bias.lm_check import SuiteRun
from assaymark.bias.lm_endpoint import endpoint
from assaymark.bias.lm_endpoint_options import EndpointOptions
from assaymark.bias.lm_local import of_transformers
from assaymark.bias.lm_model import Continuation, Failed, LanguageModel, Progress, Scored, quiet
from assaymark.bias.lm_stereoset_data import load_stereoset
from assaymark.bias.lm_stereoset_scores import masked as masked_fillers
from assaymark.bias.lm_suites import prepare
from assaymark.bias.lm_wanted import Wanted

TOLERANCE = 1e-4
ASKED = [
    ("crows-pairs", "causal"), ("crows-pairs", "causal-mean"), ("crows-pairs", "causal-differing"),
    ("stereoset", "causal"), ("stereoset", "causal-published"),
    ("bbq", "likelihood"), ("bbq", "likelihood-plain"), ("bbq", "letters"),
    ("winobias", "likelihood"), ("winobias", "letters"), ("winobias", "pronoun"),
    ("winogender", "letters"), ("winogender", "pronoun"), ("decisions", "scored"),
]  # fmt: skip
QUICK = [("crows-pairs", "causal-differing"), ("stereoset", "causal"), ("bbq", "letters")]
OPTIONS: dict[str, dict[str, Any]] = {"decisions": {"min_mass": 1e-12}, "bbq": {"formats": "all"}}
KINDS = {"without a beginning": False, "with a beginning": True}
WINDOW = 700


@cache
def local(begins: bool) -> LanguageModel:
    """A network that is long enough for all prompts. begins: its tokenizer puts <s> before a text."""
    torch.manual_seed(0)
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=len(tiny.bytes_tokenizer()),
        n_embd=16,
        n_layer=1,
        n_head=2,
        n_positions=WINDOW,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=2,
    )
    network = GPT2LMHeadModel(config)
    return of_transformers(network, tiny.bytes_tokenizer(begins=begins), task="causal")


@contextmanager
def served(begins: bool) -> Iterator[LanguageModel]:
    """The same network, asked by plain forward passes of single texts."""
    network: Any
    tokenizer: Any
    network, tokenizer = local(begins).network or (None, None)

    def script(state: Server, handler: Handler, body: dict[str, Any]) -> bool:
        if not handler.path.endswith("/v1/completions"):
            return False
        texts = body["prompt"] if isinstance(body["prompt"], list) else [body["prompt"]]
        choices = [
            {"index": place, "text": text, "finish_reason": "length", "logprobs": echoed(text)}
            for place, text in enumerate(texts)
        ]
        handler.reply(200, json.dumps({"model": "tiny", "choices": choices}).encode())
        return True

    def echoed(text: str) -> dict[str, Any]:
        read = tokenizer(text, return_offsets_mapping=True)
        ids = read["input_ids"]
        with torch.inference_mode():
            logits = network(torch.tensor([ids])).logits[0].log_softmax(-1)
        rest = [float(logits[place, token]) for place, token in enumerate(ids[1:])]
        tokens = [tokenizer.decode([token]) for token in ids]
        # bytes of a character spell nothing by themselves: then the offsets tell
        offsets = [start for start, _ in read["offset_mapping"]]
        return {"tokens": tokens, "token_logprobs": [None, *rest], "text_offset": offsets}

    with serving() as server:
        server.script = script
        options = EndpointOptions(
            api="completions", bos="" if begins else "<s>", batch=16, concurrency=2, retries=0
        )
        yield endpoint(server.url, model="tiny", options=options)


def noted(model: LanguageModel, requests: list[Continuation]) -> LanguageModel:
    assert model.score is not None
    inner = model.score

    def score(asked: list[Continuation], progress: Progress = quiet) -> list[Scored | Failed]:
        requests.extend(asked)
        return inner(asked, progress)

    return replace(model, score=score)  # type: ignore[arg-type]


def run(folder: Path, name: str, variant: str, model: LanguageModel) -> SuiteRun:
    asked = Wanted(
        suite=name,
        data=written(folder).get(name),
        variant=variant,
        examples={"decisions": 1}.get(name, 3),
        options=OPTIONS.get(name, {}),
    )
    (found,) = prepare(asked)(model, quiet)
    return found


def numbers(found: SuiteRun) -> dict[tuple[str, str], Any]:
    return {
        (one.measure, one.target): pytest.approx(one.value, abs=TOLERANCE)
        for one in found.outcome.measured
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "variant"),
    [pytest.param(*one, marks=[pytest.mark.long] * (one not in QUICK)) for one in ASKED],
    ids=[":".join(case) for case in ASKED],
)
def test_an_address_and_a_folder_give_the_same(
    name: str, variant: str, kind: str, tmp_path: Path
) -> None:
    """Each answer, and all that follows from them; once more from the cache, and in another order."""
    requests: list[Continuation] = []
    near = local(KINDS[kind])
    here = run(tmp_path, name, variant, noted(near, requests))
    assert here.outcome.answered == here.outcome.items
    with served(KINDS[kind]) as far:
        assert far.score is not None
        assert near.score is not None
        there = far.score(requests, quiet)
        again = near.score(requests[::-1], quiet)[::-1]
        for request, one, other, same in zip(
            requests, near.score(requests, quiet), there, again, strict=True
        ):
            assert isinstance(one, Scored), (request, one)
            assert isinstance(other, Scored), (request, other)
            assert isinstance(same, Scored)
            assert len(one.tokens) == len(other.tokens), request
            assert one.logprobs == pytest.approx(other.logprobs, abs=TOLERANCE)
            assert one.logprobs == pytest.approx(same.logprobs, abs=TOLERANCE)
        kept = cached(far, tmp_path / "cache")
        assert numbers(run(tmp_path, name, variant, far)) == numbers(here)
        assert numbers(run(tmp_path, name, variant, kept)) == numbers(here)
    # the server is gone: what is kept is all there is
    assert numbers(run(tmp_path, name, variant, kept)) == numbers(here)


def test_a_filler_after_a_space_is_a_token_with_its_space(tmp_path: Path) -> None:
    """RoBERTa's tokens: " good" in the middle, not "good" (McGill-NLP/bias-bench, issue 5)."""
    tokenizer = tiny.roberta_tokenizer()
    network = tiny.network("Roberta", masked=True)
    model = of_transformers(network, tokenizer, task="masked")
    context = "the nurse was BLANK at his work ."
    words = {"stereotype": "good", "anti-stereotype": "old", "unrelated": "young"}
    sentences = [
        {"id": kind, "sentence": context.replace("BLANK", word), "gold_label": kind}
        for kind, word in words.items()
    ]
    cluster = {"id": "c", "target": "t", "bias_type": "gender", "context": context}
    path = tmp_path / "dev.json"
    path.write_text(
        json.dumps(
            {"version": "1", "data": {"intrasentence": [cluster | {"sentences": sentences}]}}
        )
    )
    found = masked_fillers(model, load_stereoset(path).clusters)
    for kind, word in words.items():
        ids = tokenizer.encode(context.replace("BLANK", word))
        tokens = tokenizer.convert_ids_to_tokens(ids)
        start = len(tokenizer.encode("the nurse was")) - 1  # without </s>
        size = len(tokenizer.encode("the nurse was " + word)) - 1 - start
        assert tokens[start].startswith("Ġ")
        chances = []
        for place in range(start, start + size):
            hidden = [*ids[:place], tokenizer.mask_token_id, *ids[start + size :]]
            with torch.inference_mode():
                logits = network(torch.tensor([hidden])).logits[0, place].softmax(-1)
            chances.append(float(logits[ids[place]]))
        assert found[kind] == pytest.approx(sum(chances) / len(chances), rel=1e-4)


def test_a_chat_template_asks_the_same_questions(tmp_path: Path) -> None:
    """A model with a template is a chat model, whose replies are read; its scores are of plain text."""
    tokenizer = tiny.fast(tiny.bytes_tokenizer().backend_tokenizer)
    plain = local(False)
    assert plain.network is not None
    tokenizer.chat_template = (
        "{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] }}</s>{% endfor %}the nurse"
    )
    chatty = of_transformers(plain.network[0], tokenizer, task="causal")
    assert chatty.chat
    assert not plain.chat
    assert chatty.key != plain.key
    items = load_bbq(written(tmp_path)["bbq"]).items[:1]
    request = [Continuation(items[0].context, " The old cook")]
    assert chatty.score is not None
    assert plain.score is not None
    assert chatty.score(request, quiet) == plain.score(request, quiet)
    found = run(tmp_path, "decisions", "first-token", chatty).outcome
    assert found.answered + sum(found.lost.values()) == found.items
