"""Models that only answer: an address, a function of arrays, or a network whose gradient is hidden.

What is answered, scores or labels, decides which attacks can be tried. Labels become logits of one
hot class, which decision-based attacks follow and score-based ones could not.
"""

import inspect
from collections.abc import Callable
from typing import Any, Literal

import numpy
import torch
from torch import Tensor, nn

from assaymark.reports.errors import InputError
from assaymark.reports.named_code import first_line
from assaymark.robustness.balls import exactly
from assaymark.robustness.budget import Budget
from assaymark.robustness.types import Images, Logits

Access = Literal["white-box", "scores", "labels"]
Ask = Callable[[Images], Tensor]
"""Images to scores (n, classes) or labels (n,)."""
_CERTAIN = 100.0
"""A hot class is this far above the others, so that its probability is 1 in float32."""


class BlackBox(nn.Module):
    """A model of which only answers are seen, counted and checked; it has no gradient.

    classes: how many there are, which labels alone do not say; of scores the first answer says it.
    Raises InputError for answers of a wrong shape, for NaN and for unknown labels.
    """

    def __init__(
        self, ask: Ask, name: str, access: Access, budget: Budget, classes: int | None = None
    ) -> None:
        super().__init__()
        self.ask, self.name, self.access, self.budget = ask, name, access, budget
        self.classes = classes
        self.probabilities: bool | None = None
        """Whether the first answer was one; then logits are their logarithms."""

    def forward(self, x: Images) -> Logits:
        if not len(x):
            return x.new_zeros(0, self.classes or 2)
        self.budget.spend(len(x))
        with torch.no_grad():
            answer = self.ask(x.detach()).detach().to(x.device)
        if answer.dim() not in (1, 2) or len(answer) != len(x):
            raise InputError(
                f"{self.name} answered {len(x)} images with an array of shape {tuple(answer.shape)}: "
                f"expected scores ({len(x)}, classes) or labels ({len(x)},)"
            )
        return self._labels(answer) if answer.dim() == 1 else self._scores(answer)

    def _scores(self, scores: Tensor) -> Logits:
        if scores.dtype == torch.bool or scores.is_complex():
            raise InputError(f"{self.name} answers scores of type {scores.dtype}: expected numbers")
        if not torch.isfinite(scores).all():
            bad = int((~torch.isfinite(scores)).any(1).sum())
            raise InputError(
                f"{self.name} answered NaN or infinity for {bad} of {len(scores)} images: expected "
                "finite scores"
            )
        if scores.shape[1] < 2:
            raise InputError(
                f"{self.name} answers {scores.shape[1]} score an image: expected one for each of at "
                "least 2 classes"
            )
        if scores.shape[1] != (self.classes or scores.shape[1]):
            raise InputError(
                f"{self.name} answers {scores.shape[1]} scores an image, {self.classes} classes were "
                "expected: each answer needs one score for each class (num_classes)"
            )
        self.classes = scores.shape[1]
        if self.access == "labels":
            return _hot(scores.argmax(1), self.classes)
        if self.probabilities is None:
            self.probabilities = _are_probabilities(scores)
        if not self.probabilities:
            return scores.float()
        if bool((scores < 0).any()):
            raise InputError(
                f"{self.name} answered probabilities first and negative scores now: expected one of "
                "the two"
            )
        # the logarithm keeps the order of classes and gives small probabilities room in float32
        room = exactly(scores).clamp_min(torch.finfo(torch.float32).tiny)
        return room.log().float().to(scores.device)

    def _labels(self, labels: Tensor) -> Logits:
        if self.access != "labels":
            raise InputError(
                f'{self.name} answers one label an image and no scores: set access = "labels"'
            )
        if labels.is_floating_point() and bool((labels == labels.round()).all()):
            labels = labels.long()
        if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
            raise InputError(
                f"{self.name} answers labels of type {labels.dtype}: expected whole class numbers"
            )
        if self.classes is None:
            raise InputError(
                f"{self.name} answers labels, which do not say how many classes there are: give "
                "num_classes, or classes with their names"
            )
        strange = labels[(labels < 0) | (labels >= self.classes)]
        if len(strange):
            raise InputError(
                f"{self.name} answered the label {int(strange[0])}: expected 0 to "
                f"{self.classes - 1}; give num_classes, or all names with classes"
            )
        return _hot(labels.long(), self.classes)


def _hot(labels: Tensor, classes: int) -> Logits:
    return _CERTAIN * nn.functional.one_hot(labels, classes).float()


def _are_probabilities(scores: Tensor) -> bool:
    values = exactly(scores)
    sums = (values.sum(1) - 1).abs() <= 1e-3
    return bool((values >= 0).all() and (values <= 1).all() and sums.all())


def is_address(spec: str) -> bool:
    """Whether a model is named by its address on a network."""
    return spec.startswith(("http://", "https://"))


def takes_images(function: Callable[..., object]) -> bool:
    """Whether a callable answers images, and is no factory that is called with nothing."""
    if isinstance(function, nn.Module):
        return False
    try:
        signature = inspect.signature(function)
        signature.bind(None)
    except (TypeError, ValueError):
        return False
    return not inspect.isclass(function)


def of_function(function: Callable[..., Any], spec: str) -> Ask:
    """A user's function of a numpy array (n, C, H, W) in [0, 1]."""

    def ask(x: Images) -> Tensor:
        try:
            answer = function(x.cpu().numpy().astype(numpy.float32))
        except (Exception, SystemExit) as error:
            raise InputError(
                f"{spec} failed, {type(error).__name__}: {first_line(error)}"
            ) from error
        return to_tensor(answer, spec)

    return ask


def to_tensor(answer: Any, name: str) -> Tensor:
    """Numbers that somebody else's code or server answered."""
    if isinstance(answer, Tensor):
        return answer
    try:
        array = numpy.asarray(answer)
        if array.dtype.kind not in "iufb":
            raise ValueError(f"it holds {array.dtype}")
        return torch.from_numpy(numpy.array(array))
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(
            f"{name} answered something that is no array of numbers: {first_line(error)}"
        ) from error
