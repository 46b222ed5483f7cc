"""Log probabilities of masked models are those of one text at a time; words of three tokenizers."""

import random
from typing import Any

import lm_engine_models as tiny
import pytest
import torch

from assaymark.bias import lm_local
from assaymark.bias.lm_masked import MaskedModel
from assaymark.bias.lm_model import Blank, Failed
from assaymark.reports.errors import InputError

TEXTS = ("the nurse said that she was good .", "the nurse said that he was good .", "a man", "日本")
FULL_HEAD = {"MobileBert"}
"""Architectures whose head is no module that could be given some places only."""


def model(name: str = "Bert", rows: int | None = None) -> MaskedModel:
    network = tiny.network(name, masked=True)
    loaded = lm_local.of_transformers(network, tiny.roberta_tokenizer(), batch_size=rows)
    assert isinstance(loaded.masked, MaskedModel)
    return loaded.masked


def blanks(asked: MaskedModel) -> list[Blank]:
    """Each token of each text masked in turn; and some with two masks, of which both are wanted."""
    made = []
    for text in TEXTS:
        ids = asked.encode(text)
        for place in range(1, len(ids) - 1):
            made.append(Blank((*ids[:place], asked.mask, *ids[place + 1 :]), place, ids[place]))
        both = (*ids[:1], asked.mask, asked.mask, *ids[3:])
        made += [Blank(both, place, target) for place in (1, 2) for target in (ids[place], 9)]
    return [*made, made[0]]


def literally(network: Any, blank: Blank) -> float:
    with torch.no_grad():
        logits = network(torch.tensor([blank.ids])).logits[0, blank.position]
    return float(logits.log_softmax(-1)[blank.target])


@pytest.mark.parametrize("name", tiny.MASKED)
def test_each_architecture_gives_what_it_gives_one_text_at_a_time(name: str) -> None:
    asked = model(name)
    assert asked.selected == (name not in FULL_HEAD)
    wanted = [literally(asked.model, blank) for blank in blanks(asked)]
    assert asked.log_probs(blanks(asked)) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("rows", [None, 1, 2])
def test_answers_depend_on_neither_batch_size_nor_order_nor_company(rows: int | None) -> None:
    questions = blanks(model())
    wanted = [literally(model().model, blank) for blank in questions]
    order = random.Random(0).sample(range(len(questions)), len(questions))
    found = model(rows=rows).log_probs([questions[at] for at in order])
    assert found == pytest.approx([wanted[at] for at in order], abs=1e-5)


def test_blanks_with_the_same_ids_share_a_pass_and_the_head_reads_only_blanks() -> None:
    asked = model()
    read, rows = [], []
    hooks = [
        tiny.inputs(asked.model).register_forward_pre_hook(
            lambda _, args: read.append(args[0].numel())
        ),
        tiny.head(asked.model).register_forward_hook(
            lambda _, args, out: rows.append(out.shape[:-1].numel())
        ),
    ]
    ids = asked.encode(TEXTS[0])
    asked.log_probs([Blank(ids, place, target) for place in (2, 3) for target in range(20)])
    for hook in hooks:
        hook.remove()
    assert (sum(read), sum(rows)) == (len(ids), 2)


@pytest.mark.parametrize(("name", "window"), [("Bert", 64), ("Roberta", 62)])
def test_what_does_not_fit_is_not_cut_off(name: str, window: int) -> None:
    """RoBERTa's positions begin after the padding id, 1: two of 64 are never used."""
    asked = model(name)
    assert asked.window == window
    fits, longer = (Blank((5,) * count, 3, 7) for count in (window, window + 1))
    lost, found = asked.log_probs([longer, fits])
    assert isinstance(lost, Failed)
    assert lost.kind == "too-long"
    assert f"{window + 1} tokens" in lost.reason
    assert found == pytest.approx(literally(asked.model, fits), abs=1e-5)
    with pytest.raises((RuntimeError, IndexError)):
        literally(asked.model, longer)


def test_batches_are_halved_until_they_fit_and_what_never_fits_is_a_failure() -> None:
    asked = model()
    questions = blanks(asked)
    wanted = asked.log_probs(questions)
    seen = []

    def refuse(_: Any, args: Any, words: dict[str, Any]) -> None:
        seen.append(words["input_ids"].numel())
        if seen[-1] > room:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    hook = asked.model.register_forward_pre_hook(refuse, with_kwargs=True)
    longest, room = max(len(blank.ids) for blank in questions), 60
    assert asked.log_probs(questions) == pytest.approx(wanted, abs=1e-5)
    assert max(seen) > room
    room = longest - 1
    found = asked.log_probs(questions)
    hook.remove()
    for blank, answer, value in zip(questions, found, wanted, strict=True):
        if len(blank.ids) == longest:
            assert isinstance(answer, Failed)
            assert answer.kind == "error"
        else:
            assert answer == pytest.approx(value, abs=1e-5)


def test_probabilities_that_are_no_numbers_are_failures() -> None:
    asked = model()
    hook = tiny.head(asked.model).register_forward_hook(
        lambda _, args, out: out.index_fill(-1, torch.tensor([9]), -torch.inf)
    )
    lost, found = asked.log_probs([Blank((0, 5, 2), 1, 9), Blank((0, 5, 2), 1, 8)])
    hook.remove()
    assert isinstance(lost, Failed)
    assert isinstance(found, float)


def test_a_tokenizer_without_a_mask_is_refused() -> None:
    tokenizer = tiny.fast(tiny.bytes_tokenizer().backend_tokenizer)
    tokenizer.mask_token = None
    with pytest.raises(InputError, match="no mask token"):
        lm_local.of_transformers(tiny.network("Bert", masked=True), tokenizer)


# tokens; the network does not matter


def reader(family: str) -> MaskedModel:
    tokenizer = tiny.TOKENIZERS[family]()
    found = lm_local.of_transformers(tiny.network("Bert", masked=True), tokenizer).masked
    assert isinstance(found, MaskedModel)
    return found


@pytest.mark.parametrize("word", ["nurse", "doctor", "zebra", "don't", "é日"])
@pytest.mark.parametrize("family", tiny.TOKENIZERS)
def test_pieces_are_those_of_the_word_in_a_sentence(family: str, word: str) -> None:
    asked = reader(family)
    inside = asked.encode(f"the {word} was here")
    before, after = asked.encode("the")[1:-1], asked.encode(f"the {word}")[1:-1]
    assert asked.pieces(word, after_space=True) == after[len(before) :]
    assert inside[1 + len(before) :][: len(after) - len(before)] == after[len(before) :]
    assert asked.pieces(word, after_space=False) == asked.encode(word)[1:-1]
    differ = asked.pieces(word, after_space=True) != asked.pieces(word, after_space=False)
    assert differ == (family == "bytes")


@pytest.mark.parametrize("family", tiny.TOKENIZERS)
def test_words_are_numbered_and_special_tokens_have_none(family: str) -> None:
    asked = reader(family)
    ids, words = asked.encode("the zebra was"), asked.words("the zebra was")
    assert [number is None for number in words] == list(asked.special(ids))
    assert asked.special(ids)[0]
    assert asked.special(ids)[-1]
    assert set(words[1:-1]) == {0, 1, 2}
    zebra = tuple(token for token, word in zip(ids, words, strict=True) if word == 1)
    assert zebra == asked.pieces("zebra", after_space=True)


def test_an_unknown_word_is_no_special_token() -> None:
    asked = reader("words")
    ids = asked.encode("the 日 was")
    unknown = asked.tokenizer.unk_token_id
    assert unknown in ids
    assert not asked.special(ids)[ids.index(unknown)]
