"""Replies of local models: what is drawn, and that it depends on nothing else."""

import copy
import math
from collections import defaultdict
from typing import Any

import lm_engine_models as tiny
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from assaymark.bias import lm_local
from assaymark.bias.lm_generate import Writer, drawn
from assaymark.bias.lm_model import Failed, Prompt, Reply, Sampling

PROMPTS = [
    Prompt("the nurse said"),
    Prompt("the doctor said that he was not"),
    Prompt("a"),
    Prompt("who was good ?", "a man and a woman were here ;"),
]


def writer(name: str = "GPT2", rows: int | None = None, tokenizer: Any = None) -> Writer:
    tokenizer = tokenizer or tiny.bytes_tokenizer()
    loaded = lm_local.of_transformers(tiny.network(name), tokenizer, batch_size=rows)
    made: Writer = loaded.generate.__self__  # type: ignore[union-attr]
    return made


def greedily(asked: Writer, text: str, count: int) -> tuple[str, str]:
    """The likeliest token again and again, without batches and without a cache."""
    ids = asked.tokenizer.encode(text)
    start = len(ids)
    for _ in range(count):
        with torch.no_grad():
            token = int(asked.model(torch.tensor([ids])).logits[0, -1].argmax())
        if token == asked.tokenizer.eos_token_id:
            return asked.tokenizer.decode(ids[start:]), "stop"
        ids.append(token)
    return asked.tokenizer.decode(ids[start:], skip_special_tokens=True), "length"


@pytest.mark.parametrize("name", ["GPT2", "Llama", "Mistral", "OPT", "Bloom"])
def test_at_temperature_0_the_likeliest_token_is_written(name: str) -> None:
    asked = writer(name)
    replies = asked.generate(PROMPTS[:3], Sampling(max_tokens=12))
    wanted = [greedily(asked, prompt.text, 12) for prompt in PROMPTS[:3]]
    assert [(reply.text, reply.finish) for reply in whole(replies)] == wanted


def whole(replies: list[Reply | Failed]) -> list[Reply]:
    assert all(isinstance(reply, Reply) for reply in replies)
    return [reply for reply in replies if isinstance(reply, Reply)]


def test_draws_depend_on_seed_prompt_and_sample_alone() -> None:
    asked = [Prompt(one.text, one.system, draw) for one in PROMPTS for draw in range(4)]
    sampling = Sampling(max_tokens=10, temperature=1.0, seed=3)
    wanted = whole(writer().generate(asked, sampling))
    assert len({reply.text for reply in wanted}) == len(asked)
    assert whole(writer(rows=3).generate(asked[::-1], sampling))[::-1] == wanted
    assert [whole(writer().generate([one], sampling))[0] for one in asked] == wanted
    other = whole(writer().generate(asked, Sampling(max_tokens=10, temperature=1.0, seed=4)))
    assert not any(one.text == two.text for one, two in zip(wanted, other, strict=True))


def test_at_temperature_0_samples_of_a_prompt_are_one() -> None:
    replies = writer().generate([Prompt("the", sample=draw) for draw in range(5)], Sampling())
    assert len(set(replies)) == 1


def test_the_first_token_is_drawn_with_the_probability_the_model_gives_it() -> None:
    asked = writer()
    draws = 2000
    prompts = [Prompt("the nurse said", sample=draw) for draw in range(draws)]
    sampling = Sampling(max_tokens=1, temperature=1.0, top_logprobs=3)
    replies = whole(asked.generate(prompts, sampling))
    with torch.no_grad():
        logits = asked.model(torch.tensor([asked.tokenizer.encode("the nurse said")])).logits[0, -1]
    likely = logits.softmax(-1).topk(3)
    for token, value, first in zip(likely.indices, likely.values, replies[0].first, strict=True):
        assert first[0] == asked.tokenizer.decode([int(token)])
        assert first[1] == pytest.approx(math.log(float(value)), abs=1e-5)
    written: dict[str, float] = defaultdict(
        float
    )  # some tokens are written alike, as half characters
    for token, value in enumerate(logits.softmax(-1).tolist()):
        written[asked.tokenizer.decode([token], skip_special_tokens=True)] += value
    for text in sorted(written, key=written.__getitem__)[-8:]:
        hits = sum(reply.text == text for reply in replies)
        deviation = math.sqrt(draws * written[text] * (1 - written[text]))
        assert abs(hits - draws * written[text]) < 4 * deviation


@given(
    some.lists(some.integers(-40, 40), min_size=2, max_size=8, unique=True),
    some.floats(0.3, 2),
    some.sampled_from([0.0, 0.3, 0.7, 0.95, 1.0]),
)
def test_the_nucleus_is_sampled_in_proportion(
    tenths: list[int], temperature: float, top_p: float
) -> None:
    scores, steps = [tenth / 10 for tenth in tenths], 4000
    uniform = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
    logits = torch.tensor([scores], dtype=torch.float64).expand(steps, -1)
    shares = (
        torch.bincount(drawn(logits, uniform, temperature, top_p), minlength=len(scores)) / steps
    )
    weights = [math.exp(score / temperature) for score in scores]
    total, kept = sum(weights), dict[int, float]()
    for place in sorted(range(len(scores)), key=lambda at: -scores[at]):
        if kept and sum(kept.values()) / total >= top_p - 1e-12:
            break
        kept[place] = weights[place]
    for place, share in enumerate(shares.tolist()):
        assert share == pytest.approx(kept.get(place, 0) / sum(kept.values()), abs=2 / steps)


def test_a_stop_string_ends_the_reply_and_is_not_part_of_it() -> None:
    asked = writer("Llama")
    replies = whole(asked.generate(PROMPTS, Sampling(max_tokens=20)))
    at = next(place for place, reply in enumerate(replies) if reply.finish == "length")
    free = replies[at]
    middle = free.text[len(free.text) // 2 :][:3]
    stopped = whole(asked.generate(PROMPTS, Sampling(max_tokens=20, stop=("§§", middle))))
    assert stopped[at] == Reply(free.text[: free.text.index(middle)], "stop")
    for one, before in zip(stopped, replies, strict=True):
        assert one.text == before.text.partition(middle)[0]


def test_the_end_of_text_ends_the_reply() -> None:
    asked = writer()
    hook = asked.model.get_output_embeddings().register_forward_hook(
        lambda _, args, out: out.index_fill(-1, torch.tensor([2]), 1e4)
    )
    reply = whole(asked.generate([PROMPTS[0]], Sampling(max_tokens=5)))[0]
    hook.remove()
    assert reply == Reply("", "stop")


def test_a_prompt_that_leaves_no_room_is_a_failure_and_the_others_are_answered() -> None:
    lost, found = writer().generate([Prompt("a " * 40), PROMPTS[0]], Sampling(max_tokens=30))
    assert isinstance(lost, Failed)
    assert lost.kind == "too-long"
    assert "reply up to 30" in lost.reason
    assert isinstance(found, Reply)


@pytest.mark.parametrize(
    ("prompt", "kind"), [(Prompt(""), "not-tokenizable"), (Prompt("\ud800"), "error")]
)
def test_a_prompt_that_cannot_be_put_is_a_failure(prompt: Prompt, kind: str) -> None:
    lost, found = writer().generate([prompt, PROMPTS[0]], Sampling(max_tokens=2))
    assert isinstance(lost, Failed)
    assert lost.kind == kind
    assert isinstance(found, Reply)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_probabilities_that_are_no_numbers_are_failures(temperature: float) -> None:
    asked = writer()
    sampling = Sampling(max_tokens=4, temperature=temperature)
    wanted = asked.generate([PROMPTS[1]], sampling)

    def spoil(_: Any, args: Any, out: torch.Tensor) -> torch.Tensor:
        return torch.cat([out[:1] * torch.nan, out[1:]]) if len(out) > 1 else out

    hook = asked.model.get_output_embeddings().register_forward_hook(spoil)
    answers = asked.generate([PROMPTS[1], PROMPTS[0]], sampling)  # the longest is first in a batch
    hook.remove()
    assert answers[0] == Failed("error", "the model's probabilities are not numbers")
    assert answers[1] == asked.generate([PROMPTS[0]], sampling)[0]
    assert isinstance(wanted[0], Reply)


def test_memory_that_runs_out_makes_batches_smaller() -> None:
    asked = writer()
    prompts = [Prompt("the", sample=draw) for draw in range(9)]
    sampling = Sampling(max_tokens=3, temperature=1.0)
    wanted = asked.generate(prompts, sampling)

    def refuse(_: Any, args: Any, words: dict[str, Any]) -> None:
        if len(words["input_ids"]) > room:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    hook = asked.model.register_forward_pre_hook(refuse, with_kwargs=True)
    room = 2
    assert asked.generate(prompts, sampling) == wanted
    room = 0
    lost = asked.generate(prompts[:1], sampling)[0]
    hook.remove()
    assert isinstance(lost, Failed)
    assert lost.kind == "error"


TEMPLATE = (
    "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}" + TEMPLATE
)


@pytest.mark.parametrize(
    ("template", "written"),
    [
        (TEMPLATE, "[system] be kind\n[user] who ?\n[assistant]"),
        (NO_SYSTEM, "[user] be kind\n\nwho ?\n[assistant]"),
        (None, "be kind\n\nwho ?"),
    ],
)
def test_a_chat_template_is_used_where_there_is_one(template: str | None, written: str) -> None:
    tokenizer = copy.deepcopy(tiny.bytes_tokenizer())
    tokenizer.chat_template = template
    loaded = lm_local.of_transformers(tiny.network("GPT2"), tokenizer)
    assert loaded.chat == (template is not None)
    assert loaded.generate is not None
    sampling = Sampling(max_tokens=5)
    plain = writer().generate([Prompt(written)], sampling)
    assert loaded.generate([Prompt("who ?", "be kind")], sampling, lambda *_: None) == plain


def test_a_template_that_fails_is_a_failure() -> None:
    tokenizer = copy.deepcopy(tiny.bytes_tokenizer())
    tokenizer.chat_template = "{{ raise_exception('never') }}"
    lost = writer(tokenizer=tokenizer).generate([Prompt("a")], Sampling(max_tokens=2))[0]
    assert isinstance(lost, Failed)
    assert "never" in lost.reason


def test_the_models_own_defaults_for_writing_are_not_used() -> None:
    network = copy.deepcopy(tiny.network("GPT2"))
    network.generation_config.repetition_penalty = 5.0
    network.generation_config.suppress_tokens = list(range(100, 300))
    loaded = lm_local.of_transformers(network, tiny.bytes_tokenizer())
    assert loaded.generate is not None
    sampling = Sampling(max_tokens=8)
    wanted = writer().generate(PROMPTS, sampling)
    assert loaded.generate(PROMPTS, sampling, lambda *_: None) == wanted
