"""Language models of transformers, from a folder, the local cache, the hub or memory."""

import hashlib
from typing import Any, Literal

import torch
from torch import nn

from assaymark.bias.lm_batches import Batches
from assaymark.bias.lm_causal import Causal, embeddings
from assaymark.bias.lm_masked import MaskedModel
from assaymark.bias.lm_model import LanguageModel
from assaymark.reports.errors import InputError

Task = Literal["causal", "masked"]


def of_transformers(
    model: nn.Module,
    tokenizer: Any,
    *,
    name: str = "model",
    task: Task | None = None,
    batch_size: int | None = None,
) -> LanguageModel:
    """A model and a tokenizer that are in memory, on the device of the model."""
    model.eval()
    batches = Batches(next(model.parameters()).device, len(embeddings(model)), batch_size)
    task = task or task_of([type(model).__name__], name)
    key = hashlib.sha256()
    for part, values in model.state_dict().items():
        key.update(part.encode())
        key.update(values.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    key.update(str(tokenizer.get_vocab()).encode())
    facts = {"kind": task}
    if task == "masked":
        masked = MaskedModel(model, tokenizer, batches)
        return LanguageModel(name=name, key=key.hexdigest(), facts=facts, masked=masked)
    causal = Causal(model, tokenizer, batches)
    return LanguageModel(name=name, key=key.hexdigest(), facts=facts, score=causal.score)


def task_of(architectures: list[str], name: str) -> Task:
    for architecture in architectures:
        if architecture.endswith(("ForCausalLM", "LMHeadModel")):
            return "causal"
        if architecture.endswith(("ForMaskedLM", "ForPreTraining")):
            return "masked"
    raise InputError(f"{name} is {architectures}: expected …ForCausalLM or …ForMaskedLM")
