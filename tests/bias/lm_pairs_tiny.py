"""Tiny language models with real tokenizers, and the smallest adapters that ask them one text at a time."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import tokenizers
import torch
from tokenizers import models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
)

from assaymark.bias.lm_model import (
    Blank,
    Continuation,
    Failed,
    LanguageModel,
    Progress,
    Scored,
    quiet,
)

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def wordpiece(texts: Iterable[str], words: int = 300) -> PreTrainedTokenizerFast:
    """A lower-casing WordPiece tokenizer: the commonest words whole, all others in single letters."""
    bare = pre_tokenizers.BertPreTokenizer()
    counts = Counter(word for text in texts for word, _ in bare.pre_tokenize_str(text.lower()))
    letters = sorted({letter for word in counts for letter in word})
    common = [word for word, _ in counts.most_common(words) if len(word) > 1]
    vocabulary = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters), *common]
    numbers = {token: number for number, token in enumerate(vocabulary)}
    made = tokenizers.Tokenizer(models.WordPiece(numbers, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = bare
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    made.decoder = tokenizers.decoders.WordPiece()
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        pad_token="[PAD]",
    )


def whole_words(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer of whole words; [CLS] begins every text."""
    words = sorted({word for text in texts for word in text.split()})
    numbers = {token: number for number, token in enumerate([*SPECIAL, *words])}
    made = tokenizers.Tokenizer(models.WordLevel(numbers, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        unk_token="[UNK]",
        bos_token="[CLS]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        pad_token="[PAD]",
    )


def tiny_bert(tokenizer: PreTrainedTokenizerFast, seed: int = 0) -> BertForMaskedLM:
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=160,
        initializer_range=0.4,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return BertForMaskedLM(config).eval()


def tiny_gpt2(tokenizer: PreTrainedTokenizerFast, seed: int = 0) -> GPT2LMHeadModel:
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=160,
        n_embd=32,
        n_layer=2,
        n_head=2,
        initializer_range=0.2,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    return GPT2LMHeadModel(config).eval()


class OneByOne:
    """lm_model.Masked with one forward pass a blank."""

    def __init__(self, model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.mask = int(tokenizer.mask_token_id)
        self.asked = 0

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text))

    def special(self, ids: Sequence[int]) -> tuple[bool, ...]:
        return tuple(one in (0, 2, 3, 4) for one in ids)

    def pieces(self, text: str, *, after_space: bool) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    def words(self, text: str) -> tuple[int | None, ...]:
        return tuple(self.tokenizer(text).word_ids())

    def log_probs(
        self, blanks: Sequence[Blank], progress: Progress = quiet
    ) -> list[float | Failed]:
        self.asked += len(blanks)
        found: list[float | Failed] = []
        for blank in blanks:
            with torch.inference_mode():
                logits = self.model(torch.tensor([blank.ids])).logits[0, blank.position]
            found.append(float(logits.log_softmax(-1)[blank.target]))
            progress(len(found), len(blanks))
        return found


def masked_model(model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast) -> LanguageModel:
    return LanguageModel(name="tiny", key="tiny", masked=OneByOne(model, tokenizer))


def causal_model(model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast) -> LanguageModel:
    """A causal model whose texts begin with [CLS]."""

    def score(asked: Sequence[Continuation], progress: Progress = quiet) -> list[Scored | Failed]:
        return [one(continuation) for continuation in asked]

    def one(asked: Continuation) -> Scored | Failed:
        def encode(text: str) -> list[int]:
            return list(tokenizer.encode(text, add_special_tokens=False))

        context = [int(tokenizer.cls_token_id), *encode(asked.context)]
        target = encode(asked.context + asked.text)[len(context) - 1 :]
        if not target:
            return Failed("not-tokenizable", "no tokens")
        with torch.inference_mode():
            logits: Any = model(torch.tensor([context + target])).logits[0].log_softmax(-1)
        found = [
            float(logits[len(context) - 1 + place, token]) for place, token in enumerate(target)
        ]
        return Scored(tuple(tokenizer.convert_ids_to_tokens(target)), tuple(found))

    return LanguageModel(name="tiny", key="tiny", score=score)
