"""Instructions and self-debiasing on tiny random models, against literal slow implementations."""

import math
from collections.abc import Sequence
from typing import Any

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
)

from assaymark.bias.lm_debias import INSTRUCTIONS, after_start, instruction, prefixed
from assaymark.bias.lm_local import of_transformers
from assaymark.bias.lm_model import (
    Blank,
    Continuation,
    Failed,
    LanguageModel,
    Progress,
    Prompt,
    Reply,
    Sampling,
    Scored,
    quiet,
)
from assaymark.bias.lm_self_debias import DESCRIPTIONS, description, rescaled, self_debiased
from assaymark.reports.errors import InputError

WORDS = "the nurse said that he she was late and doctor text people because of their gender following : ."
TOLD = ["the following text : gender", "people because of their gender :"]
TEXTS = [
    Continuation("the nurse said that", " she was late"),
    Continuation("the doctor", " said that he was late and she was late ."),
    Continuation("", "the nurse and the doctor"),
    Continuation("he", " ."),
]


def tokenizer_of(*special: str) -> PreTrainedTokenizerFast:
    vocabulary = {word: at for at, word in enumerate((*special, *WORDS.split()))}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token=special[0]))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    if "[CLS]" in special:
        ends = [("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
        made.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=ends
        )
        return PreTrainedTokenizerFast(
            tokenizer_object=made,
            unk_token="[UNK]",
            cls_token="[CLS]",
            sep_token="[SEP]",
            mask_token="[MASK]",
            pad_token="[PAD]",
        )
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="[UNK]", eos_token="<|end|>")


@pytest.fixture(scope="module")
def causal() -> tuple[GPT2LMHeadModel, PreTrainedTokenizerFast, LanguageModel]:
    tokenizer = tokenizer_of("[UNK]", "<|end|>")
    torch.manual_seed(0)
    # large weights, so that probabilities are far from even and descriptions change them
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=40,
        n_embd=16,
        n_layer=2,
        n_head=2,
        initializer_range=0.6,
        bos_token_id=1,
        eos_token_id=1,
    )
    model = GPT2LMHeadModel(config).eval()
    return model, tokenizer, of_transformers(model, tokenizer, name="tiny")


@pytest.fixture(scope="module")
def masked() -> tuple[BertForMaskedLM, PreTrainedTokenizerFast, LanguageModel]:
    tokenizer = tokenizer_of("[UNK]", "[CLS]", "[SEP]", "[MASK]", "[PAD]")
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=40,
        initializer_range=0.6,
        pad_token_id=4,
    )
    model = BertForMaskedLM(config).eval()
    return model, tokenizer, of_transformers(model, tokenizer, name="tiny")


def literal(plain: Any, urged: Sequence[Any], decay: float, floor: float) -> list[float]:
    """The paper's formula, token by token, on probabilities."""
    kept = []
    for token, p in enumerate(plain):
        delta = p - max(one[token] for one in urged)
        kept.append(p * (1.0 if delta >= 0 else max(math.exp(decay * delta), floor)))
    return [one / sum(kept) for one in kept]


def at_end(model: Any, ids: Sequence[int], place: int = -1) -> Any:
    """The model's probabilities at a place of one text, in float64."""
    with torch.no_grad():
        return model(torch.tensor([list(ids)])).logits[0, place].double().softmax(-1).numpy()


def words(tokenizer: Any, text: str) -> list[int]:
    found: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return found


@pytest.mark.parametrize("told", [TOLD[:1], TOLD])
def test_scores_are_those_of_a_literal_implementation(causal: Any, told: list[str]) -> None:
    model, tokenizer, base = causal
    mitigated = self_debiased(base, model, tokenizer, descriptions=told, rows=2)
    assert mitigated.score is not None
    found = mitigated.score(TEXTS, quiet)
    plain = base.score(TEXTS, quiet)
    changed = 0.0
    for request, answer, before in zip(TEXTS, found, plain, strict=True):
        start = [] if request.context else [1]
        ids = words(tokenizer, request.context)
        expected = []
        for token in words(tokenizer, request.text):
            urged = [at_end(model, [*start, *words(tokenizer, text), *ids]) for text in told]
            expected.append(
                math.log(literal(at_end(model, [*start, *ids]), urged, 50, 0.01)[token])
            )
            ids.append(token)
        assert isinstance(answer, Scored)
        assert answer.logprobs == pytest.approx(expected, abs=1e-4)
        assert answer.tokens == before.tokens
        changed = max(changed, abs(answer.total - before.total))
    assert changed > 0.1


@pytest.mark.parametrize("told", [TOLD[:1], TOLD])
def test_blanks_are_those_of_a_literal_implementation(masked: Any, told: list[str]) -> None:
    model, tokenizer, base = masked
    mitigated = self_debiased(base, model, tokenizer, descriptions=told, rows=3)
    assert mitigated.masked is not None
    blanks = []
    for text in ("the nurse said that she was late", "he was late ."):
        ids = base.masked.encode(text)
        assert mitigated.masked.encode(text) == ids
        for place in range(1, len(ids) - 1):
            hidden = (*ids[:place], mitigated.masked.mask, *ids[place + 1 :])
            blanks.append(Blank(hidden, place, ids[place]))
    found = mitigated.masked.log_probs(blanks)
    expected = []
    for blank in blanks:
        urged = []
        for text in told:
            put = words(tokenizer, text)
            ids = [blank.ids[0], *put, *blank.ids[1:]]
            urged.append(at_end(model, ids, blank.position + len(put)))
        plain = at_end(model, blank.ids, blank.position)
        expected.append(math.log(literal(plain, urged, 50, 0.01)[blank.target]))
    assert found == pytest.approx(expected, abs=1e-4)
    before = numpy.array(base.masked.log_probs(blanks))
    assert abs(before - numpy.array(expected)).max() > 0.01


def test_the_likeliest_reply_is_that_of_a_literal_implementation(causal: Any) -> None:
    model, tokenizer, base = causal
    mitigated = self_debiased(base, model, tokenizer, descriptions=TOLD)
    assert mitigated.generate is not None
    prompts = [Prompt("the nurse said"), Prompt("he"), Prompt("people because of their")]
    sampling = Sampling(max_tokens=6, top_logprobs=3)
    replies = mitigated.generate(prompts, sampling, quiet)
    for prompt, reply in zip(prompts, replies, strict=True):
        ids = words(tokenizer, prompt.text)
        first: list[float] = []
        start = len(ids)
        for _ in range(6):
            urged = [at_end(model, [*words(tokenizer, text), *ids]) for text in TOLD]
            chances = literal(at_end(model, ids), urged, 50, 0.01)
            first = first or sorted(map(math.log, chances), reverse=True)[:3]
            ids.append(int(numpy.argmax(chances)))
            if ids[-1] == tokenizer.eos_token_id:
                break
        assert isinstance(reply, Reply)
        assert reply.text == tokenizer.decode(ids[start:], skip_special_tokens=True)
        assert [value for _, value in reply.first] == pytest.approx(first, abs=1e-4)


def test_draws_do_not_depend_on_the_batch_and_follow_the_rescaled_probabilities(
    causal: Any,
) -> None:
    model, tokenizer, base = causal
    prompts = [Prompt("the nurse said", sample=number) for number in range(400)]
    sampling = Sampling(max_tokens=1, temperature=1.0, seed=5)
    alone, together = (
        self_debiased(base, model, tokenizer, descriptions=TOLD, rows=rows).generate
        for rows in (1, 64)
    )
    assert alone is not None
    assert together is not None
    found = together(prompts, sampling, quiet)
    assert alone(prompts[:5], sampling, quiet) == found[:5]
    ids = words(tokenizer, "the nurse said")
    urged = [at_end(model, [*words(tokenizer, text), *ids]) for text in TOLD]
    chances = literal(at_end(model, ids), urged, 50, 0.01)
    texts = [one.text for one in found if isinstance(one, Reply)]
    likeliest = int(numpy.argmax(chances))
    share = texts.count(tokenizer.decode([likeliest])) / 400
    assert share == pytest.approx(chances[likeliest], abs=4 * (0.25 / 400) ** 0.5)


def test_replies_end_at_stop_strings_and_refuse_what_does_not_fit(causal: Any) -> None:
    model, tokenizer, base = causal
    generate = self_debiased(base, model, tokenizer, descriptions=TOLD).generate
    assert generate is not None
    whole = generate([Prompt("the nurse")], Sampling(max_tokens=8), quiet)[0]
    assert isinstance(whole, Reply)
    word = whole.text.split()[1]
    cut = generate([Prompt("the nurse")], Sampling(max_tokens=8, stop=(word,)), quiet)[0]
    assert isinstance(cut, Reply)
    assert (cut.text, cut.finish) == (whole.text[: whole.text.index(word)], "stop")
    long = generate([Prompt("he " * 30)], Sampling(max_tokens=8), quiet)[0]
    assert isinstance(long, Failed)
    assert long.kind == "too-long"


@pytest.mark.parametrize("off", [{"decay": 0.0}, {"floor": 1.0}])
def test_without_decay_nothing_changes(causal: Any, masked: Any, off: Any) -> None:
    model, tokenizer, base = causal
    same = self_debiased(base, model, tokenizer, descriptions=TOLD, **off)
    assert same.score is not None
    pairs = zip(same.score(TEXTS, quiet), base.score(TEXTS, quiet), strict=True)
    assert all(a.logprobs == pytest.approx(b.logprobs, abs=1e-5) for a, b in pairs)  # type: ignore[union-attr]
    model, tokenizer, base = masked
    same = self_debiased(base, model, tokenizer, descriptions=TOLD, **off)
    assert same.masked is not None
    blank = Blank((1, 5, 3, 7, 2), 2, 6)
    assert same.masked.log_probs([blank]) == pytest.approx(base.masked.log_probs([blank]), abs=1e-5)


def test_texts_that_do_not_fit_with_the_description_are_lost(causal: Any, masked: Any) -> None:
    model, tokenizer, base = causal
    score = self_debiased(base, model, tokenizer, descriptions=TOLD).score
    assert score is not None
    seen: list[tuple[int, int]] = []
    found = score([Continuation("he", " was" * 38), *TEXTS], lambda *done: seen.append(done))
    assert isinstance(found[0], Failed)
    assert found[0].kind == "too-long"
    assert all(isinstance(one, Scored) for one in found[1:])
    assert seen[-1] == (5, 5)
    model, tokenizer, base = masked
    filled = self_debiased(base, model, tokenizer, descriptions=TOLD).masked
    assert filled is not None
    long, short = filled.log_probs([Blank((1, *[7] * 37, 2), 3, 6), Blank((1, 3, 2), 1, 6)])
    assert isinstance(long, Failed)
    assert isinstance(short, float)


@given(
    st.integers(2, 12).flatmap(
        lambda n: st.lists(
            st.lists(st.floats(0.01, 1), min_size=n, max_size=n), min_size=2, max_size=4
        )
    ),
    st.floats(0, 80),
    st.floats(1e-3, 1),
)
@settings(max_examples=60, deadline=None)
def test_rescaling_is_the_formula_of_the_paper(
    rows: list[list[float]], decay: float, floor: float
) -> None:
    chances = [numpy.array(row) / sum(row) for row in rows]
    logs = [torch.tensor(row, dtype=torch.float64).log() for row in chances]
    found = rescaled(logs[0], logs[1:], decay, floor).exp().numpy()
    assert found == pytest.approx(literal(chances[0], chances[1:], decay, floor))
    assert found.sum() == pytest.approx(1)
    spared = chances[0] >= numpy.max(chances[1:], axis=0)
    assert (found[spared] >= chances[0][spared] - 1e-12).all()


def test_what_self_debiasing_needs(causal: Any) -> None:
    model, tokenizer, base = causal
    for bad in ([], [" "]):
        with pytest.raises(InputError, match="at least one description"):
            self_debiased(base, model, tokenizer, descriptions=bad)
    numbers: Any
    for numbers in ({"decay": -1.0}, {"decay": math.nan}, {"floor": 0.0}, {"floor": 2.0}):
        with pytest.raises(InputError, match="decay is at least 0"):
            self_debiased(base, model, tokenizer, descriptions=TOLD, **numbers)
    with pytest.raises(InputError, match='did you mean "gender"'):
        description("genders")
    assert description("gender").endswith("because of their gender:")
    assert len(DESCRIPTIONS) == 9


def test_mitigated_models_have_names_and_keys_of_their_own(causal: Any) -> None:
    model, tokenizer, base = causal
    made = [
        self_debiased(base, model, tokenizer, descriptions=TOLD),
        self_debiased(base, model, tokenizer, descriptions=TOLD[:1]),
        self_debiased(base, model, tokenizer, descriptions=TOLD, decay=10),
        prefixed(base, "he"),
        prefixed(base, "she"),
        base,
    ]
    assert len({one.key for one in made}) == len(made)
    assert len({one.name for one in made[2:]}) == 4
    assert all(one.embed is None for one in made)
    assert all(one.masked is None for one in made)
    assert made[3].facts["prefix"] == "he"


def test_a_prefix_stands_before_contexts_and_changes_nothing_else(causal: Any) -> None:
    _, _, base = causal
    score = prefixed(base, "  the following text :  ").score
    assert score is not None
    by_hand = [
        Continuation("the following text :\n\nthe nurse said that", " she was late"),
        Continuation(
            "the following text :\n\nthe doctor", " said that he was late and she was late ."
        ),
        Continuation("the following text :", " the nurse and the doctor"),
        Continuation("the following text :\n\nhe", " ."),
    ]
    found = score(TEXTS, quiet)
    assert found == base.score(by_hand, quiet)
    assert [one.tokens for one in found] == [one.tokens for one in base.score(TEXTS, quiet)]  # type: ignore[union-attr]


def test_a_prefix_of_a_masked_model_leaves_tokens_and_words_as_they_are(masked: Any) -> None:
    _, tokenizer, base = masked
    filled = prefixed(base, "the following text :").masked
    assert filled is not None
    text = "the nurse said"
    ids = filled.encode(text)
    assert ids == base.masked.encode(text)
    assert filled.special(ids) == base.masked.special(ids)
    assert filled.words(text) == base.masked.words(text)
    assert filled.pieces("nurse", after_space=True) == tuple(words(tokenizer, "nurse"))
    put = words(tokenizer, "the following text :")
    at_start = Blank((ids[0], filled.mask, *ids[2:]), 1, ids[1])  # a mask is no beginning
    by_hand = Blank((ids[0], *put, filled.mask, *ids[2:]), 1 + len(put), ids[1])
    assert after_start(base.masked, at_start, put) == by_hand
    assert filled.log_probs([at_start]) == base.masked.log_probs([by_hand])
    with pytest.raises(ValueError, match="special token"):
        after_start(base.masked, Blank(ids, 0, 1), put)


@pytest.mark.parametrize(
    ("chat", "given", "put"),
    [
        (False, Prompt("Q", sample=2), Prompt("Be fair.\n\nQ", sample=2)),
        (True, Prompt("Q", sample=2), Prompt("Q", system="Be fair.", sample=2)),
        (True, Prompt("Q", system="S"), Prompt("Q", system="Be fair.\n\nS")),
    ],
)
def test_a_prefix_of_prompts(chat: bool, given: Prompt, put: Prompt) -> None:
    seen: list[Prompt] = []

    def generate(
        prompts: Sequence[Prompt], sampling: Sampling, progress: Progress
    ) -> list[Reply | Failed]:
        seen.extend(prompts)
        return [Reply("yes")] * len(prompts)

    model = LanguageModel(name="m", key="k", generate=generate, chat=chat)
    mitigated = prefixed(model, "Be fair.", name="fair")
    assert mitigated.generate is not None
    assert mitigated.generate([given], Sampling(), quiet) == [Reply("yes")]
    assert seen == [put]
    assert (mitigated.name, mitigated.chat, mitigated.score) == ("fair", chat, None)


@pytest.mark.parametrize("kind", INSTRUCTIONS)
def test_instructions_are_written_in_four_languages(kind: str) -> None:
    texts = [instruction(kind, language) for language in ("en", "de", "es", "fr")]
    assert len(set(texts)) == 4
    assert all(text.endswith(".") for text in texts)


def test_unknown_instructions_and_empty_prefixes_are_refused(causal: Any) -> None:
    with pytest.raises(InputError, match='did you mean "illegal"'):
        instruction("ilegal")
    with pytest.raises(InputError, match='not written in "it"'):
        instruction("illegal", "it")
    for text in (" ", "x" * 4001):
        with pytest.raises(InputError, match="from 1 to 4,000 characters"):
            prefixed(causal[2], text)
