"""A user's own detector of pictures as ONNX or TorchScript, with the input it was trained on."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import numpy
import torch
from torch import Tensor, nn
from torch.nn import functional

from assaymark.provenance.clip_vision import central
from assaymark.provenance.image_tensors import Images, LogOdds, normalised
from assaymark.provenance.weight_files import check_weights, read_torchscript
from assaymark.reports.errors import InputError, nearest

Answer = Literal["logit", "probability", "logits", "probabilities"]
Fit = Literal["crop", "stretch"]
_SMALLEST = 1e-7  # of a probability, before its logarithm


@dataclass(frozen=True, kw_only=True)
class NetworkInput:
    """How pictures become what the network was trained on, and what its output means.

    side: pixels of a square input, None: pictures as they are. fit: the middle of the picture, with black
    beyond its border, or the whole picture stretched. mean, std: of pixels in [0, 1]. answer: one
    number a picture (logit, probability of generated), or two (logits, probabilities); generated: which
    of the two.
    """

    side: int | None = None
    fit: Fit = "crop"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    answer: Answer = "logit"
    generated: int = 1


def network_input(said: object) -> NetworkInput:
    """The option `network`; raises InputError for names and values that are not known."""
    if not isinstance(said, Mapping):
        raise InputError(f"network is {said!r:.80}: expected a table such as side = 224")
    known = [item.name for item in fields(NetworkInput)]
    for name in said:
        if name not in known:
            raise InputError(f"network has no option {str(name)[:80]!r}{nearest(str(name), known)}")
    values: dict[str, Any] = dict(said)
    for name in ("mean", "std"):
        if name in values:
            values[name] = _three(name, values[name])
    found = NetworkInput(**values)
    if min(found.std) <= 0:
        raise InputError(f"std is {found.std}: expected three positive numbers")
    if found.side is not None and not (type(found.side) is int and 8 <= found.side <= 4096):
        raise InputError(f"side is {found.side!r:.80}: expected 8 to 4096 pixels")
    for name, allowed in (("fit", get_args(Fit)), ("answer", get_args(Answer))):
        if values.get(name, allowed[0]) not in allowed:
            raise InputError(f"{name} is {values[name]!r:.80}: expected {', '.join(allowed)}")
    if found.generated not in (0, 1):
        raise InputError(f"generated is {found.generated!r:.80}: expected 0 or 1")
    return found


class OwnNetwork(nn.Module):
    """Images in [0, 1] of any size to one logit each; positive: generated."""

    def __init__(self, network: Callable[[Tensor], Tensor], takes: NetworkInput) -> None:
        super().__init__()
        self.network = network
        self.takes = takes

    def forward(self, x: Images) -> LogOdds:
        side = self.takes.side
        if side is not None and self.takes.fit == "crop":
            x = central(x, side)
        elif side is not None and x.shape[-2:] != (side, side):
            x = functional.interpolate(x, (side, side), mode="bilinear", antialias=True)
        answers = self.network(normalised(x, (self.takes.mean, self.takes.std)))
        return log_odds(answers, len(x), self.takes)


def log_odds(answers: Tensor, images: int, takes: NetworkInput) -> LogOdds:
    """What a network answered as one logit an image; raises InputError for another number of answers."""
    one = takes.answer in ("logit", "probability")
    if answers.numel() != images * (1 if one else 2):
        raise InputError(
            f"the network answered {images} pictures with {tuple(answers.shape)}: expected "
            f"{1 if one else 2} each; set network.answer to what it gives"
        )
    if takes.answer == "logit":
        return answers.reshape(images)
    if takes.answer == "probability":
        return answers.reshape(images).clamp(_SMALLEST, 1 - _SMALLEST).logit()
    two = answers.reshape(images, 2)
    if takes.answer == "probabilities":
        two = two.clamp(_SMALLEST, 1).log()
    return two[:, takes.generated] - two[:, 1 - takes.generated]


def load_torchscript(path: Path, takes: NetworkInput) -> nn.Module:
    """x.ts or a TorchScript x.pt; raises InputError for operators that touch files."""
    return OwnNetwork(read_torchscript(path).eval(), takes).eval().requires_grad_(False)


def load_onnx(path: Path, takes: NetworkInput) -> nn.Module:
    """x.onnx with one input of float32 pictures, run by onnxruntime: it has no gradients.

    Raises InputError when onnxruntime is missing or the file is no such model, or names other files.
    """
    check_weights(path)
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise InputError("ONNX detectors need more: pip install assaymark[onnx]") from error
    data = path.read_bytes()
    try:
        model = onnx.load_from_string(data)
        outside = any(map(onnx.external_data_helper.uses_external_data, _tensors(model.graph)))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        if not outside:
            session = onnxruntime.InferenceSession(data, options, ["CPUExecutionProvider"])
    except Exception as error:  # protobuf's and onnxruntime's errors share no base
        raise InputError(
            f"{path.name} is not an ONNX model that runs here: {error!s:.120}"
        ) from error
    if outside:
        raise InputError(f"{path.name} keeps weights in other files: save it as one file")
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(float)":
        seen = ", ".join(f"{item.name[:40]} {item.type}" for item in inputs[:4])
        raise InputError(f"{path.name} takes {seen}: expected one input of float32 pictures")
    name = inputs[0].name

    def answer(x: Tensor) -> Tensor:
        try:
            found = session.run(None, {name: x.detach().cpu().numpy()})[0]
        except Exception as error:
            shape = "x".join(map(str, x.shape))
            raise InputError(
                f"{path.name} does not take pictures of {shape}: set network.side ({error!s:.120})"
            ) from error
        return torch.from_numpy(numpy.asarray(found, dtype=numpy.float32))

    return OwnNetwork(answer, takes).eval()


def _tensors(graph: Any) -> Iterator[Any]:
    """Every constant of a graph and of the graphs within it."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors
            for inner in (attribute.g, *attribute.graphs):
                if inner.ByteSize():
                    yield from _tensors(inner)


def _three(name: str, values: object) -> tuple[float, float, float]:
    try:
        red, green, blue = (float(value) for value in values)  # type: ignore[attr-defined]
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} is {values!r:.80}: expected three numbers") from error
    return red, green, blue
