"""What a model answers about images, by name: the decisions that other audits count."""

from dataclasses import dataclass

import torch
from torch import Tensor

from assaymark.reports.errors import InputError
from assaymark.robustness.check import class_names
from assaymark.robustness.evaluate import frozen
from assaymark.robustness.images import ImageData
from assaymark.robustness.models import Loaded
from assaymark.robustness.oracle import Oracle, logits_of


@dataclass(frozen=True, kw_only=True)
class Answered:
    """Each image's true class and the class it is taken for, by name.

    scores: a probability for each class, images × classes, where the model shows its scores.
    """

    classes: tuple[str, ...]
    labels: tuple[str, ...]
    decisions: tuple[str, ...]
    scores: Tensor | None


def classify(
    model: Loaded, data: ImageData, *, batch_size: int = 250, device: str = "cpu"
) -> Answered:
    """Ask a model about every image once.

    An image that a detector rejects is decided "rejected". Raises InputError for an answer that is no
    number, since it is no decision, and for labels that the model does not know.
    """
    classes = class_names(model, data)
    oracle = Oracle(model.module, batch_size=batch_size)
    with frozen(model.module):
        parts = [logits_of(oracle, x.to(device)).cpu() for x in data.images.split(batch_size)]
    logits = torch.cat(parts)
    wrong = ~torch.isfinite(logits).all(1)
    if wrong.any():
        first = int(wrong.nonzero()[0])
        raise InputError(
            f"{model.name} answers {int(wrong.sum())} of {len(logits)} images with NaN or infinite "
            f"logits, the first is image {first + 1}: no decision follows from them"
        )
    return Answered(
        classes=classes,
        labels=tuple(classes[int(label)] for label in data.labels),
        decisions=tuple(classes[int(place)] for place in logits.argmax(1)),
        scores=logits.softmax(1) if model.access != "labels" else None,
    )
