"""Each ONNX operator we translate, against onnxruntime."""

from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from assaymark.reports.errors import InputError
from assaymark.robustness.onnx_graph import OnnxModel
from assaymark.robustness.onnx_operators import OPERATORS

onnx = pytest.importorskip("onnx", reason="the extra `onnx` is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
helper, numpy_helper = pytest.importorskip("onnx.helper"), pytest.importorskip("onnx.numpy_helper")

RANDOM = numpy.random.default_rng(0)
X = RANDOM.uniform(0.1, 1, (2, 3, 6, 6)).astype(numpy.float32)


def real(*shape: int) -> Any:
    return RANDOM.uniform(-1, 1, shape).astype(numpy.float32)


def whole(*values: int) -> Any:
    return numpy.array(values, dtype=numpy.int64)


SAME = X.shape[1:]
CHANNEL = [real(3), real(3), real(3), numpy.abs(real(3)) + 0.1]
# operator -> cases of (further inputs, attributes)
CASES: dict[str, list[tuple[list[Any], dict[str, Any]]]] = {
    "Add": [([real(3, 1, 1)], {})],
    "AveragePool": [
        ([], {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ([], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
        ([], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    ],
    "BatchNormalization": [(CHANNEL, {"epsilon": 1e-3})],
    "Clip": [([numpy.float32(0.3), numpy.float32(0.6)], {}), ([numpy.float32(0.3)], {})],
    "Concat": [([X], {"axis": 1})],
    "Conv": [
        ([real(4, 3, 3, 3), real(4)], {}),
        ([real(4, 3, 3, 3)], {"pads": [1, 0, 2, 1], "strides": [2, 1], "dilations": [1, 2]}),
        ([real(6, 1, 2, 2)], {"group": 3}),
        ([real(4, 3, 3, 3)], {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
        ([real(4, 3, 4, 4)], {"auto_pad": "SAME_LOWER"}),
    ],
    "Div": [([numpy.abs(real(1)) + 0.5], {})],
    "Elu": [([], {"alpha": 0.7})],
    "Equal": [],
    "Expand": [([whole(2, 3, 6, 6)], {})],
    "Flatten": [([], {}), ([], {"axis": 2})],
    "Gather": [([whole(2, 0, -1)], {"axis": 1}), ([whole(1)], {"axis": 0})],
    "Gelu": [([], {}), ([], {"approximate": "tanh"})],
    "HardSigmoid": [([], {"alpha": 0.3, "beta": 0.4})],
    "LayerNormalization": [([real(6), real(6)], {}), ([real(6, 6)], {"axis": 2})],
    "LeakyRelu": [([], {"alpha": 0.2})],
    "LogSoftmax": [([], {"axis": 1})],
    "MatMul": [([real(6, 4)], {})],
    "Max": [([real(*SAME)], {})],
    "MaxPool": [
        ([], {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ([], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "dilations": [1, 1]}),
        ([], {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    ],
    "Min": [([real(*SAME)], {})],
    "Mul": [([real(1, 3, 1, 1)], {})],
    "PRelu": [([real(3, 1, 1)], {})],
    "Pad": [
        ([whole(0, 0, 1, 2, 0, 0, 3, 0), numpy.float32(0.5)], {}),
        ([whole(0, 0, 1, 2, 0, 0, 3, 0)], {"mode": "reflect"}),
        ([whole(0, 0, 1, 2, 0, 0, 3, 0)], {"mode": "edge"}),
    ],
    "Pow": [([numpy.float32(2.5)], {})],
    "InstanceNormalization": [([real(3), real(3)], {"epsilon": 1e-3})],
    "ReduceL2": [([whole(1)], {})],
    "ReduceMax": [([whole(2, 3)], {"keepdims": 0})],
    "ReduceMean": [([whole(2, 3)], {}), ([], {"keepdims": 0})],
    "ReduceMin": [([whole(1)], {})],
    "ReduceSum": [([whole(-1)], {"keepdims": 0}), ([], {})],
    "Reshape": [([whole(0, -1, 12)], {}), ([whole(-1)], {})],
    "Slice": [
        ([whole(1, 0), whole(5, 2**62), whole(2, 3), whole(2, 1)], {}),
        ([whole(-1), whole(-7), whole(3), whole(-1)], {}),
    ],
    "Softmax": [([], {"axis": 1}), ([], {})],
    "Split": [([whole(1, 2)], {"axis": 1}), ([], {"axis": 2, "num_outputs": 2})],
    "Squeeze": [],
    "Sub": [([real(6)], {})],
    "Sum": [([real(*SAME), real(*SAME)], {})],
    "Transpose": [([], {"perm": [0, 2, 3, 1]}), ([], {})],
    "Unsqueeze": [([whole(1, -1)], {})],
    "Cast": [([], {"to": 11})],
}
# covered by test_shape_arithmetic below
COMPOSED = {"Shape", "Constant", "ConstantOfShape", "Where", "Equal", "Squeeze", "Gemm", "Dropout"}
PLAIN = set(OPERATORS) - set(CASES) - COMPOSED
ALL = [(name, *case) for name in CASES for case in CASES[name]]
ALL += [(name, [], {}) for name in sorted(PLAIN)]


def save(path: Path, nodes: list[Any], constants: dict[str, Any], outputs: list[str]) -> Any:
    """Write the model; what onnxruntime makes of it."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, list(X.shape))],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(numpy.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    answers = session.run(None, {"x": X})
    for value, answer in zip(graph.output, answers, strict=True):
        dtype = helper.np_dtype_to_tensor_dtype(answer.dtype)
        value.CopyFrom(helper.make_tensor_value_info(value.name, dtype, list(answer.shape)))
    del model.graph.output[:]
    model.graph.output.extend(graph.output)
    onnx.save(model, path)
    return answers[0]


@pytest.mark.parametrize(
    ("name", "inputs", "attributes"),
    ALL,
    ids=[f"{name}-{i}" for i, (name, _, _) in enumerate(ALL)],
)
def test_an_operator_does_what_its_definition_says(
    name: str, inputs: list[Any], attributes: dict[str, Any], tmp_path: Path
) -> None:
    constants = {f"c{i}": value for i, value in enumerate(inputs)}
    outputs = ["y", "z"] if name == "Split" else ["y"]
    node = helper.make_node(name, ["x", *constants], outputs, **attributes)
    expected = save(tmp_path / "m.onnx", [node], constants, outputs)
    ours = OnnxModel(tmp_path / "m.onnx")(torch.from_numpy(X)).numpy()
    assert ours.shape == expected.shape
    assert numpy.allclose(ours, expected, rtol=1e-4, atol=1e-5)


def test_shape_arithmetic(tmp_path: Path) -> None:
    """What exporters write around a reshape: Shape, Gather, Constant, Concat, Where, Gemm …"""
    nodes = [
        helper.make_node("Dropout", ["x"], ["d"]),
        helper.make_node("Shape", ["d"], ["s"]),
        helper.make_node("Constant", [], ["zero"], value_ints=[0]),
        helper.make_node("Gather", ["s", "zero"], ["n"], axis=0),
        helper.make_node("Constant", [], ["rest"], value_ints=[108]),
        helper.make_node("Concat", ["n", "rest"], ["shape"], axis=0),
        helper.make_node(
            "ConstantOfShape",
            ["shape"],
            ["ones"],
            value=numpy_helper.from_array(numpy.ones(1, numpy.float32)),
        ),
        helper.make_node("Reshape", ["d", "shape"], ["flat"]),
        helper.make_node("Equal", ["ones", "ones"], ["same"]),
        helper.make_node("Where", ["same", "flat", "ones"], ["kept"]),
        helper.make_node("Gemm", ["kept", "w", "b"], ["g"], transB=1, alpha=0.5, beta=2.0),
        helper.make_node("Unsqueeze", ["g", "axis"], ["u"]),
        helper.make_node("Squeeze", ["u", "axis"], ["y"]),
    ]
    w, b = real(4, 108), real(4)
    save(tmp_path / "m.onnx", nodes, {"w": w, "b": b, "axis": whole(1)}, ["y"])
    model = OnnxModel(tmp_path / "m.onnx")
    ours = model(torch.from_numpy(X)).numpy()
    assert numpy.allclose(ours, 0.5 * X.reshape(2, -1) @ w.T + 2 * b, rtol=1e-4, atol=1e-5)
    assert model.verify(torch.from_numpy(X)) < 1e-5


def test_every_operator_has_a_case() -> None:
    assert set(OPERATORS) == {name for name, _, _ in ALL} | COMPOSED


def test_a_wrong_translation_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "m.onnx", [helper.make_node("Relu", ["x"], ["y"])], {}, ["y"])
    monkeypatch.setitem(OPERATORS, "Relu", lambda a, x: x * 1.01)
    with pytest.raises(InputError, match=r"differs from onnxruntime by 0\.01"):
        OnnxModel(tmp_path / "m.onnx").verify(torch.from_numpy(X))


def test_an_unknown_operator_is_named(tmp_path: Path) -> None:
    node = helper.make_node("DepthToSpace", ["x"], ["y"], blocksize=1)
    save(tmp_path / "m.onnx", [node], {}, ["y"])
    with pytest.raises(InputError, match=r"DepthToSpace; export it with torch\.export"):
        OnnxModel(tmp_path / "m.onnx")
