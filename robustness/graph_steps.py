"""Operations of torch as steps that bounds can be carried through, and what is known of each."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from assaymark.reports.errors import InputError
from assaymark.robustness.graph_calls import Call, Read, reads
from assaymark.robustness.relaxations import (
    Affine,
    Clamp,
    LeakyReLU,
    MaxPool,
    SShape,
    Step,
)

_aten = torch.ops.aten
_VAST = 1e30


def not_covered(call: Call, reason: str) -> InputError:
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


def _plainly(call: Call) -> Call:
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
            raise not_covered(call, "it takes its mean from the batch (training mode)")
        return _renamed(call, "_batch_norm", _batch_norm, (*arguments[:5], arguments[7]))
    if name == "_native_batch_norm_legit_no_training":
        return _renamed(call, "_batch_norm", _batch_norm, (*arguments[:5], arguments[6]))
    if name == "_to_copy":
        if call.keywords.get("dtype") not in (None, torch.float32, torch.float64):
            raise not_covered(call, f"it rounds to {call.keywords['dtype']}")
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
    call: Call,
    name: str,
    function: Callable[..., Any],
    arguments: tuple[Any, ...] | None = None,
    keywords: dict[str, Any] | None = None,
) -> Call:
    return Call(
        name=name,
        function=function,
        arguments=call.arguments if arguments is None else arguments,
        keywords=call.keywords if keywords is None else keywords,
        answer=call.answer,
        shape=call.shape,
    )


def step_of(call: Call, numbers: Mapping[int, int], shape_of: Callable[[int], torch.Size]) -> Step:
    """The step that bounds can be carried through; raises InputError where none is known.

    numbers: of recorded values, as steps count them.
    """
    original, call = call, _plainly(call)
    sources = tuple(numbers[number] for number in reads(call))
    shapes = tuple(shape_of(number) for number in reads(call))
    if call.name in _PLAIN:
        run = _runner(call)
        return Affine(call.name, sources, shapes, run, partial(_less_constant, run))
    if call.name in _AFFINE:
        return Affine(call.name, sources, shapes, _runner(call), _runner(_absolute(call, original)))
    if len(sources) == 1 and isinstance(call.arguments[0], Read):
        activation = _activation(call, sources[0])
        if activation is not None:
            return activation
    raise not_covered(original, "it is no operation with a known bound")


def _activation(call: Call, source: int) -> Step | None:
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
        if any(isinstance(limit, Tensor | Read) and not _one(limit) for limit in limits):
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


def _runner(call: Call) -> Callable[..., Tensor]:
    """The call as a function of the tensors that depend on the image."""
    leaves, shape = tree_flatten((call.arguments, call.keywords))

    def run(*values: Tensor) -> Tensor:
        following = iter(values)
        filled = [next(following) if isinstance(leaf, Read) else leaf for leaf in leaves]
        arguments, keywords = tree_unflatten(filled, shape)
        result = call.function(*arguments, **keywords)
        answer: Tensor = result[call.answer] if isinstance(result, tuple | list) else result
        return answer

    return run


def _less_constant(run: Callable[..., Tensor], *values: Tensor) -> Tensor:
    return run(*values) - run(*(torch.zeros_like(value) for value in values))


def _absolute(call: Call, original: Call) -> Call:
    """The call that a radius goes through: factors without their sign, nothing added."""
    rule = _AFFINE[call.name]
    places = [i for i, argument in enumerate(call.arguments) if isinstance(argument, Read)]
    allowed = rule.only or (*rule.factors, *rule.terms)
    if not set(places) <= set(allowed) or len(set(places) & set(rule.factors)) > 1:
        raise not_covered(original, "it combines things that both depend on the image")
    if call.keywords.get("rounding_mode") is not None:
        raise not_covered(original, "it rounds")
    arguments = list(call.arguments)
    for i in range(len(arguments)):
        if isinstance(arguments[i], Read) or arguments[i] is None:
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
