"""An ONNX classifier as a torch module with gradients, checked against a second engine before use.

The common converter needs torchvision, which is not installable beside every torch build; a wrong
translation here cannot pass unseen, because the outputs must agree with onnxruntime (or ONNX's own
reference evaluator) on the user's images.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from assaymark.reports.errors import InputError
from assaymark.robustness.onnx_operators import OPERATORS

_TOLERANCE = 1e-3


class OnnxModel(nn.Module):
    """The graph of an ONNX model with one image input; the first output is the logits."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        onnx = _import_onnx()
        try:
            # external data would read other files that the model names
            self.proto = onnx.load(str(path), load_external_data=False)
            outside = _external_files(self.proto)
            self.files = [path.parent / file for file in outside]
            if all(Path(file).name == file for file in outside):
                onnx.external_data_helper.load_external_data_for_model(self.proto, path.parent)
                outside = []
                onnx.checker.check_model(self.proto)
        except Exception as error:
            reason = str(error).strip().splitlines()
            raise InputError(
                f"{path.name} is not a valid ONNX model: {reason[0] if reason else error!r}"
            ) from error
        if outside:
            raise InputError(
                f"{path.name} keeps weights in {outside[0]!r}, expected a file beside it: save it as "
                "one, torch.onnx.export(…, external_data=False)"
            )
        graph = self.proto.graph
        constants = {item.name: item for item in graph.initializer}
        unknown = sorted({node.op_type for node in graph.node} - set(OPERATORS))
        if unknown:
            raise InputError(
                f"{path.name} uses ONNX operators that cannot be attacked with gradients yet: "
                f"{', '.join(unknown)}; export it with torch.export to .pt2 instead"
            )
        inputs = [item for item in graph.input if item.name not in constants]
        if len(inputs) != 1:
            raise InputError(f"{path.name} has {len(inputs)} inputs, expected one batch of images")
        kind = inputs[0].type.tensor_type
        if kind.elem_type != onnx.TensorProto.FLOAT:
            wanted = onnx.TensorProto.DataType.Name(kind.elem_type).lower()
            raise InputError(
                f"{path.name} takes {wanted} images, expected float32: move the conversion out of the "
                "model"
            )
        self.input_name = inputs[0].name
        self.output_name = graph.output[0].name
        first = kind.shape.dim[:1]
        self.fixed_batch = first[0].dim_value if first and first[0].dim_value > 0 else None
        for i, item in enumerate(graph.initializer):
            array = torch.from_numpy(onnx.numpy_helper.to_array(item).copy())
            self.register_buffer(f"w{i}", array)
        self.names = {item.name: f"w{i}" for i, item in enumerate(graph.initializer)}
        self.steps = [
            (
                OPERATORS[node.op_type],
                {a.name: _attribute(onnx, a) for a in node.attribute},
                tuple(node.input),
                tuple(node.output),
                node.op_type,
            )
            for node in graph.node
        ]

    def forward(self, x: Tensor) -> Tensor:
        values: dict[str, Any] = {name: getattr(self, key) for name, key in self.names.items()}
        values[self.input_name] = x
        values[""] = None
        for operator, attributes, inputs, outputs, _ in self.steps:
            result = operator(attributes, *(values[name] for name in inputs))
            for name, value in zip(
                outputs, result if isinstance(result, tuple) else (result,), strict=False
            ):
                values[name] = value
        logits = values[self.output_name]
        assert isinstance(logits, Tensor)
        return logits

    def verify(self, x: Tensor) -> float:
        """Largest difference to a second engine, relative to the largest logit; raises when wrong."""
        size = self.fixed_batch or len(x)
        sample = x[:1].expand(size, *x.shape[1:]) if len(x) < size else x[:size]
        array = sample.detach().cpu().numpy()
        with torch.no_grad():
            ours = self(sample).cpu().numpy()
        try:
            theirs = _second_engine(self.proto, self.input_name, array)
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(
                f"the second ONNX engine refuses images of shape {array.shape}: {reason}; check "
                "image_size and the channels"
            ) from error
        if ours.shape != theirs.shape:
            raise InputError(f"the ONNX graph gives shape {theirs.shape}, our reading {ours.shape}")
        scale = max(1.0, float(numpy.abs(theirs).max(initial=0)))
        difference = float(numpy.abs(ours - theirs).max(initial=0)) / scale
        if not difference <= _TOLERANCE:
            raise InputError(
                f"our reading of the ONNX graph differs from onnxruntime by {difference:.2g} "
                f"(relative, at most {_TOLERANCE:g} accepted): export the model to .pt2 instead"
            )
        return difference


def _external_files(proto: Any) -> list[str]:
    """The files that initializers name, which may be anywhere if the model is hostile."""
    return sorted(
        {
            entry.value
            for item in proto.graph.initializer
            for entry in item.external_data
            if entry.key == "location"
        }
    )


def _import_onnx() -> Any:
    try:
        import onnx
        import onnx.checker
        import onnx.external_data_helper
        import onnx.numpy_helper
    except ImportError as error:
        raise InputError("reading .onnx needs: pip install 'assaymark[onnx]'") from error
    return onnx


def _second_engine(proto: Any, name: str, array: NDArray[Any]) -> Any:
    try:
        import onnxruntime
    except ImportError:
        from onnx.reference import ReferenceEvaluator

        return ReferenceEvaluator(proto).run(None, {name: array})[0]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {name: array})[0]


def _attribute(onnx: Any, item: Any) -> Any:
    value = onnx.helper.get_attribute_value(item)
    if isinstance(value, bytes):
        return value.decode()
    if hasattr(value, "dims"):
        return torch.from_numpy(onnx.numpy_helper.to_array(value).copy())
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
