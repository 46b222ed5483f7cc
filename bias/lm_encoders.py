"""Sentence encoders: those of sentence-transformers, and the hidden states of any transformers model."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy
import torch
from torch import Tensor, nn

from assaymark.bias.lm_encoder_files import Found, find, read_json
from assaymark.bias.lm_model import LanguageModel, Progress, Vectors, quiet
from assaymark.reports.errors import InputError
from assaymark.reports.named_code import first_line

Pool = Literal["mean", "cls", "last"]
POOLING: dict[Pool, str] = {
    "mean": "mean of the last hidden states over all tokens (Meade et al. 2022)",
    "cls": "last hidden state of the first token (May et al. 2019, BERT)",
    "last": "last hidden state of the last token (May et al. 2019, GPT)",
}
_BATCH = 64
_GROUP = 16
"""Progress is told after so many batches."""
_WITHOUT_WINDOW = 1 << 20
Encode = Callable[[list[str], int], numpy.ndarray]


def encoder(
    spec: str,
    folder: Path | None = None,
    device: str = "cpu",
    *,
    pooling: Pool | None = None,
    batch_size: int = _BATCH,
) -> LanguageModel:
    """A model that embeds sentences: a folder, hf:NAME of the local cache, or hf://NAME@REVISION of the hub.

    A folder of sentence-transformers is run as it was saved, another one of transformers with the mean of
    the last hidden states. pooling: take the hidden states of the model in any case, and these of them. Texts
    longer than the model's window are not known: a part of a text is not the text. Raises InputError for a
    model that is not there, is not whole, or needs code or pickles.
    """
    found = find(spec, Path() if folder is None else folder)
    if found.modules and pooling is None:
        return _sentence_transformer(spec, found, device, batch_size)
    place = next((part for kind, part in found.modules if kind == "Transformer"), found.folder)
    network, tokenizer = _transformer(spec, place, device)
    how: Pool = pooling or "mean"
    return of_hidden_states(
        network,
        tokenizer,
        pooling=how,
        name=spec,
        key=f"{found.digest}:{how}",
        sha256=found.weights,
        batch_size=batch_size,
    )


def of_hidden_states(
    model: nn.Module,
    tokenizer: Any,
    *,
    pooling: Pool,
    name: str,
    key: str,
    sha256: str | None = None,
    batch_size: int = _BATCH,
) -> LanguageModel:
    """The hidden states of a masked or causal model of transformers that is in memory, on its device.

    pooling: see POOLING. key: what tells this model from others, to which the pooling is added.
    """
    network = getattr(model, "base_model", model).eval()
    window = _window(network, tokenizer)

    def encode(texts: list[str], batch: int) -> numpy.ndarray:
        ids = [
            list(tokenizer(text, truncation=False, verbose=False)["input_ids"]) for text in texts
        ]
        rows = [_pooled(network, part, pooling) for part in _slices(ids, batch)]
        return torch.cat(rows).numpy()

    def length(text: str) -> int:
        return len(tokenizer(text, truncation=False, verbose=False)["input_ids"])

    return LanguageModel(
        name=name,
        key=f"{key}:{pooling}",
        sha256=sha256,
        facts={"pooling": POOLING[pooling], "window": _said(window)},
        embed=_embed(encode, length, window, batch_size),
    )


def _sentence_transformer(spec: str, found: Found, device: str, batch_size: int) -> LanguageModel:
    place = next((part for kind, part in found.modules if kind == "Transformer"), None)
    if place is not None:
        _transformer(
            spec, place, "cpu"
        )  # sentence-transformers does not tell which tensors it lacks
    try:
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(
            str(found.folder),
            device=device,
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"use_safetensors": True},
        ).eval()
    except Exception as error:
        raise InputError(
            f"{spec} cannot be read by sentence-transformers (pip install 'assaymark[lm]'): "
            f"{first_line(error)}"
        ) from error
    tokenizer, window = model.tokenizer, int(model.max_seq_length or _WITHOUT_WINDOW)

    def encode(texts: list[str], batch: int) -> numpy.ndarray:
        return numpy.asarray(model.encode(texts, batch_size=batch, show_progress_bar=False))

    def length(text: str) -> int:
        return len(tokenizer(text, truncation=False, padding=False, verbose=False)["input_ids"])

    return LanguageModel(
        name=spec,
        key=found.digest,
        sha256=found.weights,
        facts={
            "encoder": ", ".join(_kind(kind, part, spec) for kind, part in found.modules),
            "window": _said(window),
            "prompt": str(model.prompts.get(model.default_prompt_name) or "none"),
        },
        embed=_embed(encode, length, window, batch_size),
    )


def _kind(kind: str, part: Path, spec: str) -> str:
    if kind != "Pooling":
        return kind
    config = read_json(part / "config.json", spec)
    modes = [
        str(config.get("pooling_mode", "")),
        *(key.removeprefix("pooling_mode_") for key, value in config.items() if value is True),
    ]
    return f"Pooling ({', '.join(mode for mode in modes if mode and mode != 'include_prompt')})"


def _transformer(spec: str, place: Path, device: str) -> tuple[nn.Module, Any]:
    """The network and its tokenizer. Raises InputError where tensors would be random."""
    try:
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        network, loaded = AutoModel.from_pretrained(
            str(place),
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(
            str(place), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:
        raise InputError(
            f"{spec} cannot be read by transformers (pip install 'assaymark[lm]'): {first_line(error)}"
        ) from error
    if getattr(network.config, "is_encoder_decoder", False):
        raise InputError(f"{spec} is an encoder with a decoder: expected a model of one of them")
    keys = [*loaded["missing_keys"], *(loaded.get("mismatched_keys") or [])]
    lacking = [
        key for key in keys if "pooler" not in str(key)
    ]  # hidden states do not pass the pooler
    if lacking:
        raise InputError(
            f"the weights of {spec} lack {len(lacking)} tensors of the architecture, such as {lacking[0]}: "
            "they would be random"
        )
    return network.float().to(device), tokenizer


def _window(network: nn.Module, tokenizer: Any) -> int:
    """How many tokens the model can see, as far as it or its tokenizer says."""
    config: Any = network.config
    said = (
        getattr(config, "max_position_embeddings", None),
        getattr(tokenizer, "model_max_length", None),
    )
    return int(min([_WITHOUT_WINDOW, *(one for one in said if one)]))


def _said(window: int) -> str:
    return "not limited" if window == _WITHOUT_WINDOW else f"{window} tokens"


def _embed(
    encode: Encode, length: Callable[[str], int], window: int, batch_size: int
) -> Callable[..., tuple[Vectors, tuple[bool, ...]]]:
    def embed(texts: Sequence[str], progress: Progress = quiet) -> tuple[Vectors, tuple[bool, ...]]:
        lengths = [length(text) for text in texts]
        fitting = [place for place in range(len(texts)) if 0 < lengths[place] <= window]
        fitting.sort(key=lambda place: -lengths[place])  # the longest first: memory fails early
        rows: list[numpy.ndarray] = []
        size, done = batch_size, 0
        while done < len(fitting):
            part = [texts[place] for place in fitting[done : done + size * _GROUP]]
            try:
                rows.append(encode(part, size))
            except torch.OutOfMemoryError:
                if size == 1:
                    raise
                size //= 2
                continue
            done += len(part)
            progress(done, len(texts))
        vectors = numpy.full((len(texts), rows[0].shape[1] if rows else 1), math.nan)
        if rows:
            vectors[fitting] = numpy.concatenate(rows)
        known = numpy.isfinite(vectors).all(axis=1)
        vectors[~known] = math.nan
        progress(len(texts), len(texts))
        return vectors, tuple(known.tolist())

    return embed


@torch.inference_mode()
def _pooled(network: nn.Module, ids: Sequence[Sequence[int]], pooling: Pool) -> Tensor:
    """One vector a text, (texts, width), on the CPU."""
    device = next(network.parameters()).device
    lengths = torch.tensor([len(row) for row in ids], device=device)
    longest = int(lengths.max())
    # what fills up a row is not seen, so that any id will do
    filled = torch.tensor([[*row, *[0] * (longest - len(row))] for row in ids], device=device)
    seen = torch.arange(longest, device=device) < lengths[:, None]
    states: Tensor = network(input_ids=filled, attention_mask=seen.long()).last_hidden_state
    if pooling == "cls":
        found = states[:, 0]
    elif pooling == "last":
        found = states[torch.arange(len(ids), device=device), lengths - 1]
    else:
        found = (states * seen[..., None]).sum(dim=1) / lengths[:, None]
    return found.float().cpu()


def _slices(ids: list[list[int]], size: int) -> Iterator[list[list[int]]]:
    return (ids[at : at + size] for at in range(0, len(ids), size))
