"""Tiny language models of many architectures with random weights, and tokenizers of three families."""

from collections.abc import Callable
from functools import cache
from typing import Any

import tokenizers
import torch
import transformers
from tokenizers import decoders, normalizers, pre_tokenizers, processors, trainers

TEXT = (
    "the nurse said that she was very good at her work .",
    "the doctor said that he was not good at his work .",
    "a man and a woman were here ; who was old and who was young ?",
    "don't ask the teacher , ask my friend instead !",
)
_WIDTH = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4)
_SMALL = dict(**_WIDTH, intermediate_size=64, max_position_embeddings=64, initializer_range=0.3)
_GPT = dict(n_embd=32, n_layer=2, n_head=4, n_positions=64, initializer_range=0.3)
_NEO = dict(hidden_size=32, num_layers=2, num_heads=4, max_position_embeddings=64, window_size=8)
_OPT = dict(**_WIDTH, ffn_dim=64, max_position_embeddings=64, word_embed_proj_dim=32, init_std=0.3)

CAUSAL: dict[str, tuple[dict[str, Any], bool]] = {
    "GPT2": (_GPT, True),
    "GPTNeoX": (_SMALL, True),
    "GPTJ": ({**_GPT, "rotary_dim": 8}, True),
    "Llama": (_SMALL, True),
    "Mistral": ({**_SMALL, "num_key_value_heads": 2, "sliding_window": 12}, True),
    "Qwen2": ({**_SMALL, "num_key_value_heads": 2}, True),
    "Gemma2": ({**_SMALL, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 12}, True),
    "OPT": (_OPT, True),
    "Bloom": (dict(hidden_size=32, n_layer=2, n_head=4, initializer_range=0.3), False),
    "GPTNeo": (
        {**_NEO, "attention_types": [[["global", "local"], 1]], "initializer_range": 0.3},
        False,
    ),
    "Falcon": ({**_WIDTH, "alibi": True, "initializer_range": 0.3}, False),
}
"""The configuration of each architecture, and whether it takes a 4-D mask of a trie."""

MASKED: dict[str, dict[str, Any]] = {
    "Bert": _SMALL,
    "Roberta": _SMALL,
    "DistilBert": dict(dim=32, n_layers=2, n_heads=4, hidden_dim=64, max_position_embeddings=64),
    "Albert": {**_SMALL, "embedding_size": 16},
    "Electra": {**_SMALL, "embedding_size": 16},
    "MPNet": _SMALL,
    "MobileBert": {
        **_WIDTH,
        "intermediate_size": 64,
        "embedding_size": 16,
        "intra_bottleneck_size": 16,
    },
    "ModernBert": {**_SMALL, "pad_token_id": 1},
    "DebertaV2": {**_SMALL, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
}

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
_NAMES = dict(zip(("bos", "pad", "eos", "unk", "mask"), SPECIAL, strict=True))


@cache
def network(name: str, *, masked: bool = False) -> Any:
    """A network for the vocabulary of bytes_tokenizer(); the same one at every call."""
    config, kind = (MASKED[name], "ForMaskedLM") if masked else (CAUSAL[name][0], "ForCausalLM")
    kind = "LMHeadModel" if name == "GPT2" else kind
    torch.manual_seed(0)
    ids = dict(bos_token_id=0, pad_token_id=1, eos_token_id=2)
    made = getattr(transformers, f"{name}Config")(
        vocab_size=len(bytes_tokenizer()), **{**ids, **config}
    )
    return getattr(transformers, f"{name}{kind}")(made).eval()


def inputs(model: Any) -> Any:
    """The module that reads the ids."""
    return model.get_input_embeddings()


def head(model: Any) -> Any:
    """The module that gives rows of the vocabulary."""
    return model.get_output_embeddings()


@cache
def bytes_tokenizer(*, begins: bool = False) -> Any:
    """Byte-level BPE as GPT-2's and RoBERTa's. begins: put <s> before a text, as Llama's."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=360, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(TEXT * 20, trainer)
    if begins:
        made.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 0)]
        )
    return fast(made)


@cache
def roberta_tokenizer() -> Any:
    made = tokenizers.Tokenizer.from_str(bytes_tokenizer().backend_tokenizer.to_str())
    made.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), add_prefix_space=False
    )
    return fast(made)


@cache
def words_tokenizer() -> Any:
    """WordPiece in lower case, as BERT's."""
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="<unk>"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.train_from_iterator(
        TEXT, trainers.WordPieceTrainer(vocab_size=90, special_tokens=SPECIAL, show_progress=False)
    )
    return fast(_framed(made))


@cache
def sentence_tokenizer() -> Any:
    """Unigram with ▁ for spaces, as SentencePiece's."""
    made = tokenizers.Tokenizer(tokenizers.models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=80, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
    )
    made.train_from_iterator(TEXT * 20, trainer)
    return fast(_framed(made))


def _framed(made: Any) -> Any:
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return made


def fast(made: Any, **more: Any) -> Any:
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made,
        **{f"{name}_token": token for name, token in _NAMES.items()},
        **more,
    )


TOKENIZERS: dict[str, Callable[[], Any]] = {
    "bytes": roberta_tokenizer,
    "words": words_tokenizer,
    "sentences": sentence_tokenizer,
}
