"""Tiny language models with random weights and real tokenizers."""

from collections import Counter
from collections.abc import Iterable

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


def whole_words(texts: Iterable[str], *, enclosed: bool = True) -> PreTrainedTokenizerFast:
    """A tokenizer of whole words. enclosed: in [CLS] and [SEP], as masked models have it."""
    words = sorted({word for text in texts for word in text.split()})
    numbers = {token: number for number, token in enumerate([*SPECIAL, *words])}
    made = tokenizers.Tokenizer(models.WordLevel(numbers, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if enclosed:
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
