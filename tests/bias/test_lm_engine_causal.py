"""Log-likelihoods of causal models are those of one text at a time, whatever is asked along with it."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lm_engine_models as tiny
import pytest
import torch

from assaymark.bias import lm_local
from assaymark.bias.lm_causal import Causal, tried
from assaymark.bias.lm_model import Continuation, Failed, Scored, quiet

ITEM = "the nurse said that she was very good at her work . who was good ?"
REQUESTS = [
    Continuation(ITEM, " the nurse"),
    Continuation(ITEM, " the doctor"),
    Continuation(ITEM, " the"),
    Continuation(ITEM + "  ", "she"),
    Continuation(ITEM + "\n\nA:", " not"),
    Continuation("the nurse said", " that he was old ."),
    Continuation("", "the doctor said that he was good ."),
    Continuation("", "the doctor said that she was good ."),
    Continuation("", "the"),
    Continuation("   ", "the"),
    Continuation("", "<s>the man"),
    Continuation("a", "b"),
    Continuation("naïve café 日本 👩🏽‍⚕️", " é日👩"),
    Continuation(ITEM, " the nurse"),
]


def literally(network: Any, tokenizer: Any, request: Continuation) -> Scored:
    """lm-evaluation-harness 0.4.13, api/model.py (loglikelihood, _encode_pair), one text at a time."""
    context, text = request.context, request.text
    spaces = len(context) - len(context.rstrip())
    if spaces > 0:
        text, context = context[-spaces:] + text, context[:-spaces]
    if context == "":
        before, after = [tokenizer.bos_token_id], tokenizer.encode(text, add_special_tokens=False)
        if before[0] == after[0]:
            before, after = after[:1], after[1:]
    else:
        before = tokenizer.encode(context)
        after = tokenizer.encode(context + text)[len(before) :]
    with torch.no_grad():
        rows = network(torch.tensor([before + after])[:, :-1]).logits[0].log_softmax(-1)
    rows = rows[len(before) - 1 :]
    values = tuple(rows[place, token].item() for place, token in enumerate(after))
    return Scored(tuple(tokenizer.convert_ids_to_tokens(after)), values)


def model(name: str = "GPT2", **more: Any) -> Causal:
    loaded = lm_local.of_transformers(tiny.network(name), tiny.bytes_tokenizer(), **more)
    scorer: Causal = loaded.score.__self__  # type: ignore[union-attr]
    return scorer


def same(left: list[Scored | Failed], right: list[Scored | Failed]) -> bool:
    for one, other in zip(left, right, strict=True):
        if isinstance(one, Failed) or isinstance(other, Failed):
            if one != other:
                return False
        elif one.tokens != other.tokens or one.logprobs != pytest.approx(other.logprobs, abs=1e-5):
            return False
    return True


@pytest.mark.parametrize("name", tiny.CAUSAL)
def test_each_architecture_gives_what_it_gives_one_text_at_a_time(name: str) -> None:
    scorer = model(name)
    assert scorer.ways.packed == tiny.CAUSAL[name][1]
    assert scorer.ways.selected
    wanted = [literally(scorer.model, scorer.tokenizer, request) for request in REQUESTS]
    assert max(-value for one in wanted for value in one.logprobs) > 7  # far from uniform: 5.9
    assert same(scorer.score(REQUESTS), list(wanted))


def test_a_tokenizer_that_begins_texts_gives_the_same_as_the_literal_definition() -> None:
    network, tokenizer = tiny.network("Llama"), tiny.bytes_tokenizer(begins=True)
    scorer = Causal(network, tokenizer, model("Llama").batches)
    assert scorer.encode([REQUESTS[0]])[0].inputs[:2] != (0, 0)  # type: ignore[union-attr]
    wanted = [literally(network, tokenizer, request) for request in REQUESTS]
    assert same(scorer.score(REQUESTS), list(wanted))


@pytest.mark.parametrize("rows", [None, 1, 3])
def test_answers_depend_on_neither_batch_size_nor_order_nor_company(rows: int | None) -> None:
    wanted = model().score(REQUESTS)
    scorer = model(batch_size=rows)
    order = list(range(len(REQUESTS)))
    random.Random(1).shuffle(order)
    turned = scorer.score([REQUESTS[at] for at in order])
    assert same([turned[order.index(at)] for at in range(len(order))], wanted)
    assert same([scorer.score([request])[0] for request in REQUESTS], wanted)


def test_shared_beginnings_are_read_once() -> None:
    scorer = model()
    requests = [Continuation(ITEM, f" the {word}") for word in ("nurse", "doctor", "man", "friend")]
    encoded = [one.inputs for one in scorer.encode(requests)]  # type: ignore[union-attr]
    with counted(scorer.model) as read:
        scorer.score(requests)
    assert read[0] == len({one[:end] for one in encoded for end in range(1, len(one) + 1)})
    assert read[0] < sum(map(len, encoded)) / 3


def test_the_head_reads_only_the_places_whose_row_is_needed() -> None:
    scorer = model()
    rows: list[int] = []
    head = tiny.head(scorer.model)
    hook = head.register_forward_hook(lambda _, args, out: rows.append(out.shape[:-1].numel()))
    scorer.score(
        [Continuation(ITEM, " the"), Continuation(ITEM, " she"), Continuation(ITEM, " a man")]
    )
    hook.remove()
    targets = len(scorer.tokenizer.encode(" a man"))
    assert sum(rows) == targets  # the first of them also answers the other two


def test_texts_beyond_a_sliding_window_are_read_as_they_are() -> None:
    scorer = model("Mistral")
    assert scorer.narrow == 12
    long = [Continuation(ITEM, " the nurse"), Continuation(ITEM, " the doctor")]
    assert all(len(one.inputs) > 12 for one in scorer.encode(long))  # type: ignore[union-attr]
    assert same(scorer.score(long), [literally(scorer.model, scorer.tokenizer, r) for r in long])


def test_what_does_not_fit_is_not_cut_off() -> None:
    scorer = model()
    fits = "a " * 31 + "a"
    longer = scorer.encode([Continuation("", fits)])[0]
    while not isinstance(longer, Failed):
        fits += " a"
        longer = scorer.encode([Continuation("", fits)])[0]
    assert longer == Failed("too-long", "the text has 65 tokens, and the model reads at most 64")
    answers = scorer.score([Continuation("", fits), REQUESTS[0], Continuation("", fits[:-2])])
    assert answers[0] == longer
    literal = literally(scorer.model, scorer.tokenizer, Continuation("", fits[:-2]))
    assert len(literal.tokens) == 64
    assert same(answers[1:], [scorer.score([REQUESTS[0]])[0], literal])


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (Continuation("", ""), "no tokens after"),
        (Continuation("the nurse", ""), "no tokens after"),
        (Continuation("", "<s>"), "no tokens after"),
        (Continuation("the", " \ud800"), "not Unicode"),
        (Continuation("\ud800", " the"), "not Unicode"),
        (Continuation("", "\ud800"), "not Unicode"),
    ],
)
def test_what_has_no_tokens_is_no_number(request_: Continuation, reason: str) -> None:
    answer, other = model().score([request_, REQUESTS[0]])
    assert isinstance(answer, Failed)
    assert answer.kind == "not-tokenizable"
    assert reason in answer.reason
    assert isinstance(other, Scored)


def test_a_tokenizer_without_a_beginning_needs_a_context() -> None:
    tokenizer = tiny.fast(tiny.bytes_tokenizer().backend_tokenizer)
    tokenizer.bos_token = tokenizer.eos_token = None
    scorer = Causal(tiny.network("GPT2"), tokenizer, model().batches)
    lost, found = scorer.score([Continuation("", "the"), Continuation("the", " man")])
    assert isinstance(lost, Failed)
    assert "no beginning- or end-of-text token" in lost.reason
    assert isinstance(found, Scored)


def test_probabilities_that_are_no_numbers_are_failures() -> None:
    scorer = model()
    bad = scorer.tokenizer.encode(" nurse", add_special_tokens=False)[-1]
    hook = tiny.head(scorer.model).register_forward_hook(
        lambda _, args, out: out.index_fill(-1, torch.tensor([bad]), -torch.inf)
    )
    lost, found = scorer.score([Continuation("the", " nurse"), Continuation("the", " man")])
    hook.remove()
    assert isinstance(lost, Failed)
    assert lost.kind == "error"
    assert isinstance(found, Scored)


@contextmanager
def memory_for(network: Any, tokens: int) -> Iterator[list[int]]:
    """A network that runs out of memory where a batch has more tokens; the sizes that were tried."""
    seen: list[int] = []

    def refuse(_: Any, args: Any, words: dict[str, Any]) -> None:
        seen.append(words["input_ids"].numel())
        if seen[-1] > tokens:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    hook = network.register_forward_pre_hook(refuse, with_kwargs=True)
    yield seen
    hook.remove()


def different(count: int) -> list[Continuation]:
    """Texts that share nothing."""
    draw = random.Random(0)
    return [Continuation("", "".join(draw.choices("abcdefgh", k=20))) for _ in range(count)]


@pytest.mark.parametrize("rows", [None, 16])
@pytest.mark.parametrize("name", ["GPT2", "Bloom"])
def test_batches_are_halved_until_they_fit_and_that_is_remembered(
    name: str, rows: int | None
) -> None:
    requests = different(40)
    wanted = model(name).score(requests)
    scorer = model(name, batch_size=rows)
    scorer.batches.tokens = 4096
    room = 330 if name == "GPT2" else 100
    with memory_for(scorer.model, room) as seen:
        assert same(scorer.score(requests), wanted)
        failures = sum(size > room for size in seen)
        assert failures >= 1
        assert same(scorer.score(requests), wanted)
        assert sum(size > room for size in seen) == failures  # it does not try too much again


def test_a_text_too_large_for_memory_is_a_failure_and_the_others_are_answered() -> None:
    scorer = model("Bloom")
    requests = [Continuation(ITEM, " the"), Continuation("the", " man")]
    with memory_for(scorer.model, 10):
        lost, found = scorer.score(requests)
    assert isinstance(lost, Failed)
    assert lost.kind == "error"
    assert "memory" in lost.reason
    assert same([found], [literally(scorer.model, scorer.tokenizer, requests[1])])


def test_other_errors_are_not_hidden() -> None:
    scorer = model()
    hook = scorer.model.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        scorer.score(REQUESTS)
    hook.remove()


def test_a_mask_that_is_ignored_is_noticed() -> None:
    """A model that reads a trie as if it were one text must not be packed."""
    network = tiny.network("GPT2")

    def ignore(_: Any, args: Any, words: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        kept = words["attention_mask"].dim() == 2
        return args, words if kept else {**words, "attention_mask": None}

    hook = network.register_forward_pre_hook(ignore, with_kwargs=True)
    assert not tried(network).packed
    hook.remove()
    assert tried(network).packed


def test_half_precision_is_close_and_still_packed() -> None:
    import copy

    network = copy.deepcopy(tiny.network("Llama")).bfloat16()
    loaded = lm_local.of_transformers(network, tiny.bytes_tokenizer())
    assert loaded.facts["precision"] == "bfloat16 on cpu"
    assert "computed once" in loaded.facts["scoring"]
    assert loaded.score is not None
    exact = model("Llama").score(REQUESTS)
    for one, other in zip(loaded.score(REQUESTS, quiet), exact, strict=True):
        assert isinstance(one, Scored)
        assert isinstance(other, Scored)
        assert one.logprobs == pytest.approx(other.logprobs, abs=0.5)


def test_progress_counts_requests_up_to_all_of_them() -> None:
    seen: list[tuple[int, int]] = []
    scorer = model(batch_size=1)
    scorer.score([*REQUESTS, Continuation("", "")], lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1] == (len(REQUESTS) + 1,) * 2


def test_nothing_asked_is_nothing_answered() -> None:
    assert model().score([]) == []


@contextmanager
def counted(network: Any) -> Iterator[list[int]]:
    """How many tokens the network reads."""
    read = [0]

    def count(_: Any, args: tuple[torch.Tensor, ...]) -> None:
        read[0] += args[0].numel()

    hook = network.get_input_embeddings().register_forward_pre_hook(count)
    yield read
    hook.remove()
