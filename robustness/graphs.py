"""A network as a list of steps that bounds can be carried through, recorded while it runs.

The operations that torch executes are recorded, so that modules, exported programs, TorchScript and
ONNX graphs all become the same few. What does not depend on the image is a constant of its step.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_iter, tree_unflatten

from assaymark.reports.errors import InputError
from assaymark.robustness.evaluate import frozen
from assaymark.robustness.relaxations import (
    Affine,
    Clamp,
    LeakyReLU,
    MaxPool,
    SShape,
    Step,
)
from assaymark.robustness.streams import seed_of
from assaymark.robustness.types import Images, Logits, Model

_aten = torch.ops.aten
_TOLERANCE = 1e-4
_VAST = 1e30


@dataclass(frozen=True, kw_only=True, eq=False)
class Graph:
    """Steps in the order they run; value 0 is the image, value i what steps[i - 1] makes.

    It holds for batches of `batch` images in float64.
    """

    steps: tuple[Step, ...]
    shapes: tuple[torch.Size, ...]
    output: int

    @property
    def batch(self) -> int:
        return self.shapes[0][0]

    @property
    def classes(self) -> int:
        return self.shapes[self.output][1]

    def values(self, x: Images, last: int | None = None) -> list[Tensor]:
        """What each step makes of the images, up to value `last`; one empty where nothing needs it."""
        made = [x.double()]
        for step in self.steps[: self.output if last is None else last]:
            made.append(step.run(*(made[source] for source in step.sources)))
        return made


@dataclass(frozen=True)
class _Read:
    """Stands in a recorded call for a tensor that depends on the image."""

    number: int


@dataclass(frozen=True, kw_only=True)
class _Call:
    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    answer: int
    """Which of its outputs the value is."""
    shape: torch.Size


class _Recorder(TorchDispatchMode):
    """Writes down each operation that reads something which depends on the image."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.numbers = {id(x): 0}
        self.kept: list[Tensor] = [x]  # the id of a tensor that is gone may be given again
        self.calls: list[_Call] = []
        self.shapes = [x.shape]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        kwargs = kwargs or {}
        read = any(id(leaf) in self.numbers for leaf in tree_iter((args, kwargs)))
        if not read:
            return func(*args, **kwargs)
        leaves, shape = tree_flatten((args, kwargs))
        arguments, keywords = tree_unflatten([self._held(leaf) for leaf in leaves], shape)
        result = func(*args, **kwargs)
        outputs = result if isinstance(result, tuple | list) else (result,)
        for i, output in enumerate(outputs):
            tensor = isinstance(output, Tensor)
            self.calls.append(
                _Call(
                    name=func.overloadpacket.__name__,
                    function=func,
                    arguments=tuple(arguments),
                    keywords=keywords,
                    answer=i,
                    shape=output.shape if tensor else torch.Size(),
                )
            )
            if tensor:
                self.kept.append(output)
                self.numbers[id(output)] = len(self.calls)
        return result

    def _held(self, leaf: object) -> object:
        if not isinstance(leaf, Tensor):
            return leaf
        if id(leaf) in self.numbers:
            return _Read(self.numbers[id(leaf)])
        return leaf.detach().double() if leaf.is_floating_point() else leaf.detach()


def trace(model: nn.Module | Model, x: Images) -> Graph:
    """The steps a model takes for batches like x.

    Raises InputError where a step cannot be bounded, where the path through the model depends on the
    image, or where images of a batch change each other's answers.
    """
    x = x.detach().float().clone()
    with frozen(model), torch.no_grad(), _Recorder(x) as recorder:
        logits = model(x)
    if id(logits) not in recorder.numbers:
        raise InputError(
            "the model's answer does not depend on the image in a way that was recorded"
        )
    output = recorder.numbers[id(logits)]
    needed = _needed(recorder.calls, output)
    for number in range(1, len(recorder.calls) + 1):
        call = recorder.calls[number - 1]
        if call.name == "_local_scalar_dense":
            raise _not_covered(call, "the path through the model depends on the image")
    numbers = {0: 0} | {old: new for new, old in enumerate(needed, 1)}
    steps = tuple(_step(recorder.calls[old - 1], numbers, recorder) for old in needed)
    shapes = (x.shape, *(recorder.calls[old - 1].shape for old in needed))
    graph = Graph(steps=steps, shapes=shapes, output=len(steps))
    _check(graph, model, x, logits)
    return graph


def _reads(call: _Call) -> tuple[int, ...]:
    leaves = tree_iter((call.arguments, call.keywords))
    return tuple(leaf.number for leaf in leaves if isinstance(leaf, _Read))


def _needed(calls: list[_Call], output: int) -> list[int]:
    found, open_ = set(), [output]
    while open_:
        number = open_.pop()
        if number and number not in found:
            found.add(number)
            open_ += _reads(calls[number - 1])
    return sorted(found)


def _check(graph: Graph, model: nn.Module | Model, x: Images, logits: Logits) -> None:
    """The steps answer as the model does, for these images and others, and for each image alone."""
    generator = torch.Generator().manual_seed(seed_of("other images"))
    other = torch.rand(x.shape, generator=generator).to(x)
    with frozen(model), torch.no_grad():
        pairs = ((x, logits), (other, model(other)))
    for images, answer in pairs:
        scale = answer.abs().amax().clamp_min(1)
        far = (graph.values(images)[-1] - answer).abs().amax() / scale
        if not far <= _TOLERANCE:
            raise InputError(
                f"the recorded steps of the model differ from its answers by {float(far):.2g} "
                f"(relative, at most {_TOLERANCE:g} accepted): a path that depends on the image, or "
                "random numbers, cannot be certified; certify it with smoothing instead"
            )
    half = len(x) // 2
    if half:
        mixed = graph.values(torch.cat([x[:half], other[half:]]))[-1][:half]
        if not torch.allclose(mixed, graph.values(x)[-1][:half], rtol=1e-6, atol=1e-6):
            raise InputError(
                "the model's answer to an image depends on the other images of the batch, so no "
                "image can be certified: put it in eval mode, or certify with batch_size = 1"
            )


def _not_covered(call: _Call, reason: str) -> InputError:
    return InputError(
        f"the model uses {call.function}: {reason}, so no bound can be carried through it; covered are "
        "linear, convolution, pooling and batch-norm layers, sums, ReLU, LeakyReLU, clamp, tanh, "
        "sigmoid and max-pooling; certify it with smoothing instead"
    )


@dataclass(frozen=True)
class _Rule:
    """Where the constants of an affine operation stand: factors multiply, terms are added."""

    factors: tuple[int, ...] = ()
    terms: tuple[int, ...] = ()
    only: tuple[int, ...] = ()
    """Where the image may be read; empty for anywhere among factors and terms."""


# Weights of these are never negative, so that a radius goes through them as an image does.
_PLAIN = frozenset(
    """
    _adaptive_avg_pool2d _unsafe_view alias avg_pool2d cat clone constant_pad_nd
    contiguous detach expand flatten index_select lift_fresh mean narrow permute
    reflection_pad2d replication_pad2d reshape select slice split split_with_sizes
    squeeze sum t transpose unsqueeze upsample_nearest2d view
    """.split()  # noqa: SIM905
)
_AFFINE: dict[str, _Rule] = {
    "add": _Rule(terms=(0, 1)),
    "sub": _Rule(terms=(0, 1)),
    "rsub": _Rule(terms=(0, 1)),
    "neg": _Rule(only=(0,)),
    "mul": _Rule(factors=(0, 1)),
    "div": _Rule(factors=(0, 1), only=(0,)),
    "mm": _Rule(factors=(0, 1)),
    "bmm": _Rule(factors=(0, 1)),
    "addmm": _Rule(terms=(0,), factors=(1, 2)),
    "convolution": _Rule(factors=(0, 1), terms=(2,), only=(0,)),
    "_batch_norm": _Rule(factors=(0, 1), terms=(2, 3), only=(0,)),
}


def _batch_norm(
    x: Tensor, weight: Any, bias: Any, mean: Tensor, variance: Tensor, eps: float
) -> Tensor:
    wide = (1, -1, *(1 for _ in range(x.dim() - 2)))
    scale = (variance + eps).rsqrt().view(wide)
    y: Tensor = (x - mean.view(wide)) * scale
    y = y if weight is None else y * weight.view(wide)
    return y if bias is None else y + bias.view(wide)


def _identity(x: Tensor, *_: object) -> Tensor:
    return x


def _plainly(call: _Call) -> _Call:
    """The call without what depends on precision, memory or training."""
    name = call.name
    if name.endswith("_") and not name.endswith("__"):
        name = name[:-1]
        overload = call.function._overloadname  # type: ignore[attr-defined]
        call = _renamed(call, name, getattr(getattr(_aten, name), overload))
    arguments = call.arguments
    if name == "_convolution":
        return _renamed(call, "convolution", _aten.convolution.default, arguments[:9])
    if name in ("native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm"):
        if arguments[5]:
            raise _not_covered(call, "it takes its mean from the batch (training mode)")
        return _renamed(call, "_batch_norm", _batch_norm, (*arguments[:5], arguments[7]))
    if name == "_native_batch_norm_legit_no_training":
        return _renamed(call, "_batch_norm", _batch_norm, (*arguments[:5], arguments[6]))
    if name == "_to_copy":
        if call.keywords.get("dtype") not in (None, torch.float32, torch.float64):
            raise _not_covered(call, f"it rounds to {call.keywords['dtype']}")
        return _renamed(call, "clone", _identity, keywords={})
    if name in ("clone", "contiguous", "detach", "lift_fresh", "alias"):
        return _renamed(call, name, _identity, keywords={})
    if name == "constant_pad_nd" and len(arguments) > 2 and abs(arguments[2]) == torch.inf:
        # before max-pooling; times a weight of 0 infinity would be NaN
        value = math.copysign(_VAST, arguments[2])
        return _renamed(call, name, call.function, (*arguments[:2], value))
    if name in ("view", "_unsafe_view"):
        return _renamed(call, name, torch.reshape)
    return call


def _renamed(
    call: _Call,
    name: str,
    function: Callable[..., Any],
    arguments: tuple[Any, ...] | None = None,
    keywords: dict[str, Any] | None = None,
) -> _Call:
    return _Call(
        name=name,
        function=function,
        arguments=call.arguments if arguments is None else arguments,
        keywords=call.keywords if keywords is None else keywords,
        answer=call.answer,
        shape=call.shape,
    )


def _step(call: _Call, numbers: dict[int, int], recorder: _Recorder) -> Step:
    original, call = call, _plainly(call)
    sources = tuple(numbers[number] for number in _reads(call))
    shapes = tuple(_shape(recorder, number) for number in _reads(call))
    if call.name in _PLAIN:
        run = _runner(call)
        return Affine(call.name, sources, shapes, run, partial(_less_constant, run))
    if call.name in _AFFINE:
        return Affine(call.name, sources, shapes, _runner(call), _runner(_absolute(call, original)))
    if len(sources) == 1 and isinstance(call.arguments[0], _Read):
        activation = _activation(call, sources[0])
        if activation is not None:
            return activation
    raise _not_covered(original, "it is no operation with a known bound")


def _shape(recorder: _Recorder, number: int) -> torch.Size:
    return recorder.calls[number - 1].shape if number else recorder.kept[0].shape


def _activation(call: _Call, source: int) -> Step | None:
    arguments = call.arguments[1:]
    if call.name == "relu":
        return Clamp(source, 0.0, torch.inf)
    if call.name in ("hardtanh", "clamp", "clamp_min", "clamp_max"):
        low, high = {"hardtanh": (-1.0, 1.0)}.get(call.name, (-torch.inf, torch.inf))
        given = dict(zip(_CLAMP_ARGUMENTS[call.name], arguments, strict=False)) | call.keywords
        limits = [
            default if (value := given.get(key, given.get(f"{key}_val"))) is None else value
            for key, default in (("min", low), ("max", high))
        ]
        if any(isinstance(limit, Tensor | _Read) and not _one(limit) for limit in limits):
            return None
        return Clamp(source, float(limits[0]), float(limits[1]))
    if call.name == "leaky_relu":
        slope = float(arguments[0]) if arguments else 0.01
        return LeakyReLU(source, slope) if 0 <= slope <= 1 else None
    if call.name in ("tanh", "sigmoid"):
        return SShape(source, call.name)
    if call.name == "max_pool2d_with_indices" and call.answer == 0:
        kernel, stride, padding, dilation, ceil = [*arguments, *_POOLING[len(arguments) :]]
        return MaxPool(
            source, _pair(kernel), _pair(stride or kernel), _pair(padding), _pair(dilation), ceil
        )
    return None


_POOLING: list[Any] = [None, None, 0, 1, False]
"""Defaults of kernel, stride, padding, dilation and rounding up."""
_CLAMP_ARGUMENTS = {
    "hardtanh": ("min", "max"),
    "clamp": ("min", "max"),
    "clamp_min": ("min",),
    "clamp_max": ("max",),
}


def _one(limit: object) -> bool:
    return isinstance(limit, Tensor) and limit.numel() == 1


def _pair(value: Any) -> tuple[int, int]:
    sizes = [value] if isinstance(value, int) else list(value)
    return (sizes[0], sizes[-1])


def _runner(call: _Call) -> Callable[..., Tensor]:
    """The call as a function of the tensors that depend on the image."""
    leaves, shape = tree_flatten((call.arguments, call.keywords))

    def run(*values: Tensor) -> Tensor:
        following = iter(values)
        filled = [next(following) if isinstance(leaf, _Read) else leaf for leaf in leaves]
        arguments, keywords = tree_unflatten(filled, shape)
        result = call.function(*arguments, **keywords)
        answer: Tensor = result[call.answer] if isinstance(result, tuple | list) else result
        return answer

    return run


def _less_constant(run: Callable[..., Tensor], *values: Tensor) -> Tensor:
    return run(*values) - run(*(torch.zeros_like(value) for value in values))


def _absolute(call: _Call, original: _Call) -> _Call:
    """The call that a radius goes through: factors without their sign, nothing added."""
    rule = _AFFINE[call.name]
    places = [i for i, argument in enumerate(call.arguments) if isinstance(argument, _Read)]
    allowed = rule.only or (*rule.factors, *rule.terms)
    if not set(places) <= set(allowed) or len(set(places) & set(rule.factors)) > 1:
        raise _not_covered(original, "it combines things that both depend on the image")
    if call.keywords.get("rounding_mode") is not None:
        raise _not_covered(original, "it rounds")
    arguments = list(call.arguments)
    for i in range(len(arguments)):
        if isinstance(arguments[i], _Read) or arguments[i] is None:
            continue
        if i in rule.factors:
            arguments[i] = abs(arguments[i])
        elif i in rule.terms:
            arguments[i] = arguments[i] * 0
    keywords = {
        key: abs(value) if key in ("alpha", "beta") else value
        for key, value in call.keywords.items()
    }
    if call.name in ("sub", "rsub"):
        scale = keywords.pop("alpha", abs(arguments[2]) if len(arguments) > 2 else 1)
        shares = (1.0, float(scale)) if call.name == "sub" else (float(scale), 1.0)
        return _renamed(call, "add", partial(_sum, shares), tuple(arguments[:2]), {})
    if call.name == "neg":
        return _renamed(call, "neg", _identity)
    return _renamed(call, call.name, call.function, tuple(arguments), keywords)


def _sum(shares: tuple[float, float], a: Any, b: Any) -> Tensor:
    answer: Tensor = shares[0] * a + shares[1] * b
    return answer
