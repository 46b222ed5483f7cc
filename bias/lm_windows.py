"""How much a transformers model reads at once, and how many tokens it knows."""

from typing import Any

from torch import Tensor, nn

NO_LIMIT = 1 << 20
_WINDOWS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_sequence_length")
_NARROW = (
    "sliding_window",
    "window_size",
    "attention_window",
    "attention_chunk_size",
    "local_attention",
)


def window_of(model: nn.Module, tokenizer: Any) -> int:
    """How many tokens a model reads at most, as its configuration or else its tokenizer says."""
    known = _numbers(model, _WINDOWS)
    said = known[0] if known else int(tokenizer.model_max_length)
    return min(said, _positions(model), NO_LIMIT)


def narrow_of(model: nn.Module) -> int:
    """The narrowest window of attention, however it is called."""
    return min(_numbers(model, _NARROW), default=NO_LIMIT)


def embeddings(model: nn.Module) -> Tensor:
    """The input embeddings, (vocabulary, width)."""
    found: Tensor = model.get_input_embeddings().weight  # type: ignore[operator]
    return found


def _numbers(model: nn.Module, names: tuple[str, ...]) -> list[int]:
    config: Any = model.config
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    said = [getattr(text, name, None) for name in names]
    return [value for value in said if isinstance(value, int) and value > 0]


def _positions(model: nn.Module) -> int:
    """How many positions there are where they begin after the padding id, as RoBERTa's do."""
    found = [
        module.num_embeddings - module.padding_idx - 1
        for name, module in model.named_modules()
        if name.endswith("position_embeddings")
        and isinstance(module, nn.Embedding)
        and module.padding_idx is not None
    ]
    return min(found, default=NO_LIMIT)
