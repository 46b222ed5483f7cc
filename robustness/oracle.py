"""How attacks ask a model: in batches that fit, counted, with gradients of the images only."""

from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass, field
from types import FunctionType

import torch
from jaxtyping import Float
from torch import Tensor, nn

from assaymark.reports.errors import InputError
from assaymark.robustness.types import Images, Logits, Model

LossOf = Callable[[Logits, slice], Float[Tensor, " rows"]]
"""The loss of each of some rows of a batch, from their logits."""
LossesOf = Callable[[Logits, slice], Float[Tensor, "rows losses"]]
"""Several losses of each of some rows of a batch."""
_CPU_PART = 64
"""Images asked together on a CPU: the layers of more are memory that is fetched anew for each layer,
which costs a small network as much as its arithmetic (docs/benchmarks.md)."""


@dataclass
class Passes:
    """Forward and backward passes through a model, counted per example."""

    forward: int = 0
    backward: int = 0

    def __add__(self, other: "Passes") -> "Passes":
        return Passes(self.forward + other.forward, self.backward + other.backward)

    def __sub__(self, other: "Passes") -> "Passes":
        return Passes(self.forward - other.forward, self.backward - other.backward)


@dataclass(eq=False)
class Oracle:
    """A model that counts its passes and is asked at most `batch_size` images at a time.

    precision: bfloat16 runs the model under autocast; answers are float32 all the same.
    channels_last: the memory format in which convolutions are fastest. samples: of a model that
    answers at random, the mean over so many passes is taken (expectation over transformation,
    https://arxiv.org/abs/1707.07397). random: whether it answers at
    random, though asked once, as one that averages itself does. carries: whether what fools it is meant
    for another model.
    """

    model: Model
    batch_size: int = 250
    precision: torch.dtype = torch.float32
    channels_last: bool = False
    samples: int = 1
    random: bool = False
    carries: bool = False
    passes: Passes = field(default_factory=Passes)
    _prepared: Model | None = field(default=None, init=False, repr=False)

    def __call__(self, x: Images) -> Logits:
        if self._prepared is None:
            self._prepared = _prepared(self.model, self.precision, self.channels_last)
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        lower = self.precision != torch.float32
        context = torch.autocast(x.device.type, self.precision) if lower else nullcontext()
        total: Tensor | None = None
        with context:
            for _ in range(self.samples):
                answer = self._prepared(x).float()
                total = answer if total is None else total + answer
        assert total is not None
        self.passes.forward += len(x) * self.samples
        if total.requires_grad:
            total.register_hook(self._count_backward)
        return total / self.samples if self.samples > 1 else total

    def _count_backward(self, gradient: Tensor) -> None:
        self.passes.backward += len(gradient) * self.samples


def _prepared(model: Model, precision: torch.dtype, channels_last: bool) -> Model:
    """The model with the weights of its large layers cast once, where autocast would in each pass.

    The numbers are those of autocast. All other weights are the model's own.
    """
    layers = [m for m in _modules(model) if type(m) in (nn.Conv2d, nn.Linear)]
    if not layers or (precision == torch.float32 and not channels_last):
        return model
    assert isinstance(model, nn.Module)
    memo: dict[int, object] = {id(own): own for own in (*model.parameters(), *model.buffers())}
    for layer in layers:
        for weight in layer.parameters(recurse=False):
            cast = weight.detach().to(precision)
            if channels_last and cast.dim() == 4:
                cast = cast.contiguous(memory_format=torch.channels_last)
            memo[id(weight)] = nn.Parameter(cast, requires_grad=False)
    try:
        return deepcopy(model, memo)
    except Exception:  # what cannot be copied is asked as it is
        return model


def _modules(model: Model) -> list[nn.Module]:
    if not isinstance(model, nn.Module) or isinstance(model, torch.jit.ScriptModule):
        return []
    return list(model.modules())


def certain(model: Model) -> bool:
    """Whether one answer is enough: a model that answers at random is fooled by luck now and then."""
    return not isinstance(model, Oracle) or (model.samples == 1 and not model.random)


def leaves(model: Model) -> bool:
    """Whether a point leaves when it first fools: not by luck, nor on behalf of another model.

    Who fools one model in order to fool another goes on, to fool it by more.
    """
    return certain(model) and not (isinstance(model, Oracle) and model.carries)


def logits_of(model: Model, x: Images) -> Logits:
    """The logits of any number of images, without gradients."""

    def ask(rows: slice) -> tuple[Tensor]:
        with torch.no_grad():
            return (model(x[rows]),)

    (logits,) = _in_parts(model, x, ask)
    return logits


def ascent(
    model: Model, x: Images, loss: LossOf
) -> tuple[Logits, Float[Tensor, " batch"], Float[Tensor, "batch channels height width"]]:
    """Logits, losses, and the gradient of each image's loss with respect to that image.

    Gradients are taken of the images only, so the model's parameters get none. Raises InputError
    when the gradient of an image is NaN or infinite.
    """

    def ask(rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        with torch.enable_grad():
            part = x[rows].detach().requires_grad_()
            logits = model(part)
            losses = loss(logits, rows)
            gradient = _gradient(losses.sum(), part)
        return logits.detach(), losses.detach(), gradient

    logits, losses, gradient = _in_parts(model, x, ask)
    _refuse_nan(gradient)
    return logits, losses, gradient


def slopes(
    model: Model, x: Images, losses: LossesOf
) -> tuple[Logits, Float[Tensor, "batch losses"], Float[Tensor, "batch losses channels h w"]]:
    """As `ascent`, for several losses of each image: one forward pass, one backward pass a loss."""

    def ask(rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        with torch.enable_grad():
            part = x[rows].detach().requires_grad_()
            logits = model(part)
            values = losses(logits, rows)
            columns = values.sum(0)
            last = len(columns) - 1
            gradients = [
                _gradient(column, part, again=place < last) for place, column in enumerate(columns)
            ]
        return logits.detach(), values.detach(), torch.stack(gradients, 1)

    logits, values, gradients = _in_parts(model, x, ask)
    _refuse_nan(gradients)
    return logits, values, gradients


def _gradient(loss: Tensor, x: Images, *, again: bool = False) -> Images:
    """again: whether the graph is needed once more."""
    gradient: Tensor | None = None
    if loss.requires_grad:  # perhaps of the parameters only
        (gradient,) = torch.autograd.grad(loss, x, retain_graph=again, allow_unused=True)
    if gradient is None:
        raise InputError(
            "the model's answer does not depend on the image in a way that can be "
            "differentiated: attack it with scores or labels only (square, "
            '"foolbox:HopSkipJumpAttack")'
        )
    return gradient


def _refuse_nan(gradient: Tensor) -> None:
    finite = torch.isfinite(gradient.flatten(1).sum(1))
    if not finite.all():
        # a sum may overflow where its terms do not
        finite = torch.isfinite(gradient.flatten(1)).all(1)
    if not finite.all():
        raise InputError(
            f"the model's gradient is NaN or infinite for {int((~finite).sum())} of {len(gradient)} images, "
            "so they cannot be attacked: look for powers, roots or logarithms at 0, or attack with "
            'labels only ("foolbox:HopSkipJumpAttack")'
        )


def _in_parts(
    model: Model, x: Images, ask: Callable[[slice], tuple[Tensor, ...]]
) -> tuple[Tensor, ...]:
    """The answers to all rows of x, in parts that are halved where memory does not suffice."""
    while True:
        size = _part(model, x)
        try:
            parts = [ask(slice(i, min(i + size, len(x)))) for i in range(0, max(len(x), 1), size)]
            return tuple(
                column[0] if len(column) == 1 else torch.cat(column)
                for column in zip(*parts, strict=True)
            )
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not _out_of_memory(error) or not isinstance(model, Oracle) or size == 1:
                raise
            model.batch_size = size // 2


def _part(model: Model, x: Images) -> int:
    """How many rows of x are asked together."""
    size = max(len(x), 1)
    if not isinstance(model, Oracle):
        return size
    if x.device.type == "cpu" and not isinstance(model.model, FunctionType):
        size = min(size, _CPU_PART)  # a function may be a server, where each question has a price
    return min(size, model.batch_size)


def _out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)
