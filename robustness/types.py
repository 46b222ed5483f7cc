"""Shapes and contracts that every attack and model shares."""

from collections.abc import Callable
from typing import Literal, Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from assaymark.robustness.streams import Streams

Images = Float[Tensor, "batch channels height width"]
"""Pixels in [0, 1]."""
Labels = Int[Tensor, " batch"]
"""Class numbers from 0."""
Logits = Float[Tensor, "batch classes"]
Model = Callable[[Images], Logits]
Norm = Literal["linf", "l2", "l1", "l0"]
"""l0 counts channel values that differ, not pixels."""


@runtime_checkable  # tests check argument types
class Attack(Protocol):
    """Images in [0, 1] to images in [0, 1] within `eps` of them in `norm`.

    y: the true classes, or with `targeted` the classes the model shall answer. An attack draws
    random numbers only from `streams`, one stream an example, so that its result does not depend
    on the batch an example stands in. A point leaves the batch the moment it falls. An attack that
    looks for the nearest adversarial example also takes `eps = inf` and then returns the nearest.
    """

    def __call__(
        self,
        model: Model,
        x: Images,
        y: Labels,
        *,
        eps: float,
        norm: Norm,
        targeted: bool,
        streams: Streams | None,
    ) -> Images: ...
