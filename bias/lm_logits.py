"""Logits of a transformers model at the places that are needed, and the log probabilities of tokens there.

The head that turns hidden states into a row of the vocabulary costs as much as many layers, so it reads only
the places whose row is asked for. A hook selects them in front of the head, which leaves all that a model
does to its logits afterwards (softcapping, scaling) as it is.
"""

from collections.abc import Mapping
from typing import Any

import numpy
import torch
from torch import Tensor, nn

Floats = numpy.ndarray[tuple[int], numpy.dtype[numpy.float64]]
TOLERANCE = 1e-4
_ROWS = 32
"""Rows of the vocabulary that are normalized at once: what fits into a cache."""


def logits_at(
    model: nn.Module, inputs: Mapping[str, Any], places: Tensor, *, select: bool
) -> Tensor:
    """One row of logits for each place, (places, vocabulary).

    places: which tokens, counted through the rows of the batch. select: compute the head only there.
    """
    head = _head(model) if select else None
    if head is None:
        logits: Tensor = model(**inputs).logits
        return logits.reshape(-1, logits.shape[-1])[places]

    def keep(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Any, ...]:
        return (args[0].reshape(-1, args[0].shape[-1])[places][None], *args[1:])

    hook = head.register_forward_pre_hook(keep)
    try:
        selected: Tensor = model(**inputs).logits
    finally:
        hook.remove()
    return selected.reshape(-1, selected.shape[-1])


def log_probs(logits: Tensor, rows: Tensor, targets: Tensor) -> Floats:
    """ln P(target) of each (row, target); the sum over the vocabulary is in float32."""
    normalizers = [part.float().logsumexp(-1) for part in logits.split(_ROWS)]
    chosen = logits[rows, targets].float() - torch.cat(normalizers)[rows]
    return chosen.double().cpu().numpy()


def can_select(model: nn.Module, inputs: Mapping[str, Any]) -> bool:
    """Whether selecting places in front of the head gives the logits that the model gives there."""
    ids = inputs["input_ids"]
    places = torch.arange(0, ids.numel(), 2, device=ids.device)
    if _head(model) is None:
        return False
    try:
        some = logits_at(model, inputs, places, select=True)
    except (RuntimeError, ValueError, TypeError, IndexError):
        return False
    every = logits_at(model, inputs, places, select=False)
    rounding = 4 * torch.finfo(every.dtype).eps * float(every.abs().max())
    return some.shape == every.shape and largest_difference(some, every) <= max(TOLERANCE, rounding)


def largest_difference(left: Tensor, right: Tensor) -> float:
    """Between the log probabilities of two tables of logits; infinite where one is no number."""
    apart = (left.float().log_softmax(-1) - right.float().log_softmax(-1)).abs().max()
    return float(apart.nan_to_num(nan=float("inf")))


def _head(model: nn.Module) -> nn.Module | None:
    found = getattr(model, "get_output_embeddings", lambda: None)()
    return found if isinstance(found, nn.Module) else None
