"""The ONNX operators that a feed-forward image classifier needs, as differentiable torch functions.

Each by its definition (https://onnx.ai/onnx/operators/): attributes first, then the inputs.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy
import torch
from torch import Tensor
from torch.nn import functional as F

from assaymark.reports.errors import InputError

Attributes = dict[str, Any]
Operator = Callable[..., Any]


def _ints(value: Any) -> list[int]:
    return [int(item) for item in (value.tolist() if isinstance(value, Tensor) else value)]


def _pads(a: Attributes, x: Tensor, kernel: Sequence[int]) -> list[int]:
    """ONNX pads [begin…, end…] as F.pad wants them: last axis first."""
    n = len(kernel)
    pads = list(a.get("pads", [0] * 2 * n))
    auto = a.get("auto_pad", "NOTSET")
    if auto.startswith("SAME"):
        strides, dilations = a.get("strides", [1] * n), a.get("dilations", [1] * n)
        for i in range(n):
            size = x.shape[2 + i]
            reach = (kernel[i] - 1) * dilations[i] + 1
            total = max((-(-size // strides[i]) - 1) * strides[i] + reach - size, 0)
            small, large = total // 2, total - total // 2
            pads[i], pads[n + i] = (small, large) if auto == "SAME_UPPER" else (large, small)
    return [side for i in reversed(range(n)) for side in (pads[i], pads[n + i])]


def _conv(a: Attributes, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    n = w.dim() - 2
    convolve = (F.conv1d, F.conv2d, F.conv3d)[n - 1]
    x = F.pad(x, _pads(a, x, w.shape[2:]))
    return convolve(
        x, w, b, a.get("strides", [1] * n), 0, a.get("dilations", [1] * n), a.get("group", 1)
    )


def _pool(kind: str) -> Operator:
    def run(a: Attributes, x: Tensor) -> Tensor:
        kernel = a["kernel_shape"]
        n = len(kernel)
        strides, dilations = a.get("strides", [1] * n), a.get("dilations", [1] * n)
        pads, ceil = _pads(a, x, kernel), bool(a.get("ceil_mode", 0))
        if kind == "max":
            x = F.pad(x, pads, value=float("-inf"))
            function = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[n - 1]
            return function(x, kernel, strides, 0, dilations, ceil)
        if any(size != 1 for size in dilations):
            raise InputError("AveragePool with dilations cannot be translated")
        average = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[n - 1]
        result: Tensor = average(F.pad(x, pads), kernel, strides, 0, ceil)
        if any(pads) and not a.get("count_include_pad", 0):
            ones = F.pad(torch.ones_like(x[:1, :1]), pads)
            result = result / average(ones, kernel, strides, 0, ceil)
        return result

    return run


def _gemm(a: Attributes, x: Tensor, w: Tensor, c: Tensor | None = None) -> Tensor:
    x = x.T if a.get("transA", 0) else x
    w = w.T if a.get("transB", 0) else w
    y: Tensor = a.get("alpha", 1.0) * (x @ w)
    if c is not None:
        y = y + a.get("beta", 1.0) * c
    return y


def _batch_norm(
    a: Attributes, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor
) -> Tensor:
    return F.batch_norm(x, mean, var, scale, bias, False, 0.0, a.get("epsilon", 1e-5))


def _instance_norm(a: Attributes, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return F.instance_norm(x, weight=scale, bias=bias, eps=a.get("epsilon", 1e-5))


def _layer_norm(a: Attributes, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    axis = a.get("axis", -1) % x.dim()
    return F.layer_norm(x, x.shape[axis:], scale, bias, a.get("epsilon", 1e-5))


def _reshape(a: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    sizes = _ints(shape)
    if not a.get("allowzero", 0):
        sizes = [x.shape[i] if size == 0 else size for i, size in enumerate(sizes)]
    return x.reshape(sizes)


def _flatten(a: Attributes, x: Tensor) -> Tensor:
    axis = a.get("axis", 1)
    return x.flatten(axis) if axis == 1 else x.reshape(int(numpy.prod(x.shape[:axis])), -1)


def _axes(a: Attributes, axes: Any) -> list[int] | None:
    return _ints(axes) if axes is not None else a.get("axes")


def _reduce(kind: str) -> Operator:
    def run(a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
        over = _axes(a, axes)
        if over is None or not len(over):
            if a.get("noop_with_empty_axes", 0):
                return x
            over = list(range(x.dim()))
        keep = bool(a.get("keepdims", 1))
        if kind == "mean":
            return x.mean(over, keep)
        if kind == "sum":
            return x.sum(over, keep)
        if kind == "l2":
            return x.square().sum(over, keep).sqrt()
        return x.amax(over, keep) if kind == "max" else x.amin(over, keep)

    return run


def _squeeze(a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    over = _axes(a, axes)
    return x.squeeze() if over is None else x.squeeze(tuple(over))


def _unsqueeze(a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    over = _axes(a, axes) or []
    for axis in sorted(axis % (x.dim() + len(over)) for axis in over):
        x = x.unsqueeze(axis)
    return x


def _slice(
    a: Attributes,
    x: Tensor,
    starts: Any = None,
    ends: Any = None,
    axes: Any = None,
    steps: Any = None,
) -> Tensor:
    begin = _ints(starts if starts is not None else a["starts"])
    stop = _ints(ends if ends is not None else a["ends"])
    over = _axes(a, axes) or list(range(len(begin)))
    stride = _ints(steps) if steps is not None else [1] * len(begin)
    for axis, low, high, step in zip(over, begin, stop, stride, strict=True):
        rows = range(x.shape[axis])[slice(low, high if abs(high) < 2**31 else None, step)]
        x = x.index_select(axis, torch.tensor(list(rows), device=x.device, dtype=torch.long))
    return x


def _gather(a: Attributes, x: Tensor, indices: Tensor) -> Tensor:
    axis = a.get("axis", 0) % x.dim()
    indices = torch.where(indices < 0, indices + x.shape[axis], indices)
    flat = x.index_select(axis, indices.reshape(-1).to(x.device))
    return flat.reshape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


def _split(a: Attributes, x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
    axis = a.get("axis", 0)
    given = _ints(sizes) if sizes is not None else a.get("split")
    if given is None:
        if "num_outputs" not in a:
            raise InputError("an ONNX Split without sizes cannot be translated: export to .pt2")
        given = [len(part) for part in torch.arange(x.shape[axis]).chunk(a["num_outputs"])]
    parts: tuple[Tensor, ...] = x.split(given, axis)
    return parts


def _pad(
    a: Attributes, x: Tensor, pads: Any = None, value: Tensor | None = None, axes: Any = None
) -> Tensor:
    sizes = _ints(pads if pads is not None else a["pads"])
    over = _ints(axes) if axes is not None else list(range(x.dim()))
    n = len(over)
    before, after = [0] * x.dim(), [0] * x.dim()
    for i, axis in enumerate(over):
        before[axis], after[axis] = sizes[i], sizes[n + i]
    flat = [side for i in reversed(range(x.dim())) for side in (before[i], after[i])]
    mode = a.get("mode", "constant")
    if mode == "constant":
        return F.pad(x, flat, value=0.0 if value is None else float(value))
    while flat and flat[-2:] == [0, 0]:
        flat = flat[:-2]
    modes = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    return F.pad(x, flat, mode=modes[mode])


def _cast(a: Attributes, x: Tensor) -> Tensor:
    import onnx

    dtype = onnx.helper.tensor_dtype_to_np_dtype(a["to"])
    return x.to(torch.from_numpy(numpy.empty(0, dtype=dtype)).dtype)


def _clip(a: Attributes, x: Tensor, low: Any = None, high: Any = None) -> Tensor:
    low = a.get("min") if low is None else low
    high = a.get("max") if high is None else high
    return x if low is None and high is None else x.clamp(low, high)


def _constant(a: Attributes) -> Tensor:
    for name in ("value", "value_float", "value_int", "value_floats", "value_ints"):
        if name in a:
            return a[name] if isinstance(a[name], Tensor) else torch.tensor(a[name])
    raise InputError("an ONNX Constant without a number cannot be translated")


def _constant_of_shape(a: Attributes, shape: Tensor) -> Tensor:
    value: Tensor = a.get("value", torch.zeros(1))
    return value.reshape(1).expand(_ints(shape)).clone()


def _softmax(function: Callable[..., Tensor]) -> Operator:
    return lambda a, x: function(x, a.get("axis", -1))


def _divide(a: Attributes, x: Tensor, y: Tensor) -> Tensor:
    whole = not (x.is_floating_point() or y.is_floating_point())
    return torch.div(x, y, rounding_mode="trunc") if whole else x / y


def _same(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return x.to(y.device) if x.device != y.device and x.dim() == 0 else x, y.to(x.device)


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    return lambda a, x, y: function(*_same(x, y))


OPERATORS: dict[str, Operator] = {
    "Abs": lambda a, x: x.abs(),
    "Add": _binary(torch.add),
    "AveragePool": _pool("average"),
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": lambda a, *parts: torch.cat(parts, a["axis"]),
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Conv": _conv,
    "Div": _divide,
    "Dropout": lambda a, x, *_: x,
    "Elu": lambda a, x: F.elu(x, a.get("alpha", 1.0)),
    "Equal": _binary(torch.eq),
    "Erf": lambda a, x: torch.erf(x),
    "Exp": lambda a, x: x.exp(),
    "Expand": lambda a, x, shape: x * torch.ones(_ints(shape), dtype=x.dtype, device=x.device),
    "Flatten": _flatten,
    "Gather": _gather,
    "Gelu": lambda a, x: F.gelu(x, approximate=a.get("approximate", "none")),
    "Gemm": _gemm,
    "GlobalAveragePool": lambda a, x: x.mean(tuple(range(2, x.dim())), True),
    "GlobalMaxPool": lambda a, x: x.amax(tuple(range(2, x.dim())), True),
    "HardSigmoid": lambda a, x: (a.get("alpha", 0.2) * x + a.get("beta", 0.5)).clamp(0, 1),
    "HardSwish": lambda a, x: F.hardswish(x),
    "Identity": lambda a, x: x,
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "LeakyRelu": lambda a, x: F.leaky_relu(x, a.get("alpha", 0.01)),
    "Log": lambda a, x: x.log(),
    "LogSoftmax": _softmax(F.log_softmax),
    "MatMul": lambda a, x, y: x @ y,
    "Max": lambda a, *parts: reduce(torch.maximum, parts),
    "MaxPool": _pool("max"),
    "Min": lambda a, *parts: reduce(torch.minimum, parts),
    "Mul": _binary(torch.mul),
    "Neg": lambda a, x: -x,
    "PRelu": lambda a, x, slope: torch.where(x < 0, slope * x, x),
    "Pad": _pad,
    "Pow": _binary(torch.pow),
    "Reciprocal": lambda a, x: 1 / x,
    "ReduceL2": _reduce("l2"),
    "ReduceMax": _reduce("max"),
    "ReduceMean": _reduce("mean"),
    "ReduceMin": _reduce("min"),
    "ReduceSum": _reduce("sum"),
    "Relu": lambda a, x: x.relu(),
    "Reshape": _reshape,
    "Selu": lambda a, x: F.selu(x),
    "Shape": lambda a, x: torch.tensor(x.shape[a.get("start", 0) : a.get("end")]),
    "Sigmoid": lambda a, x: x.sigmoid(),
    "Slice": _slice,
    "Softmax": _softmax(F.softmax),
    "Softplus": lambda a, x: F.softplus(x),
    "Split": _split,
    "Sqrt": lambda a, x: x.sqrt(),
    "Squeeze": _squeeze,
    "Sub": _binary(torch.sub),
    "Sum": lambda a, *parts: sum(parts),
    "Tanh": lambda a, x: x.tanh(),
    "Transpose": lambda a, x: x.permute(a.get("perm") or list(reversed(range(x.dim())))),
    "Unsqueeze": _unsqueeze,
    "Where": lambda a, condition, x, y: torch.where(condition, x, y),
}
