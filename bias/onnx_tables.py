"""ONNX files as tabular models, run by onnxruntime on the CPU.

What converters of scikit-learn models make: one matrix of numbers, or an input for each column; labels,
and probabilities as a matrix or as dictionaries (ZipMap).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy
import pandas

from assaymark.bias.answers import Answers, Positive, TabularModel, check_present, of_probabilities
from assaymark.reports.errors import InputError
from assaymark.reports.named_code import reason

_INSTALL = "pip install 'assaymark[onnx]'"
_KINDS: dict[str, Any] = {
    "tensor(float)": numpy.float32,
    "tensor(double)": numpy.float64,
    "tensor(int64)": numpy.int64,
    "tensor(int32)": numpy.int32,
    "tensor(bool)": numpy.bool_,
    "tensor(string)": numpy.object_,
}
_PROBABILITIES = ("tensor(float)", "tensor(double)")
_Matrix = numpy.ndarray[Any, Any]


class _Outputs(NamedTuple):
    """Names of what is read: a decision a row, and probabilities."""

    label: str | None
    shares: str | None


def of_onnx(path: Path, name: str, positive: Positive) -> TabularModel:
    """A classifier of rows in an ONNX file.

    Its classes are those that the graph names, else 0, 1, …; scores that are no probabilities (of a
    LinearSVC, say) are left aside when there are labels. Raises InputError when onnx or onnxruntime is
    not installed, or for a file that is no such classifier.
    """
    graph, session = _open(path, name)
    inputs = session.get_inputs()
    outputs = _outputs(session, name)
    by_column = len(inputs) > 1
    for one in inputs:
        _check_input(one, name)

    def predict(rows: pandas.DataFrame) -> Answers:
        if by_column:
            fed = {one.name: _column(rows, one, name) for one in inputs}
        else:
            fed = {inputs[0].name: _matrix(rows, inputs[0], name)}
        wanted = [output for output in outputs if output is not None]
        found = dict(zip(wanted, session.run(wanted, fed), strict=True))
        label = None if outputs.label is None else found[outputs.label]
        shares = None if outputs.shares is None else found[outputs.shares]
        return _answers(label, shares, graph, positive, name)

    features = tuple(one.name for one in inputs) if by_column else None
    return TabularModel(name=name, predict=predict, features=features)


def _open(path: Path, name: str) -> tuple[Any, Any]:
    """The graph, with matrices of probabilities in the place of dictionaries, and a session that runs it."""
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise InputError(f"reading {name} needs onnx and onnxruntime: {_INSTALL}") from error
    try:
        # external data would read other files that the model names
        proto = onnx.load(str(path), load_external_data=False)
        if any(item.external_data for item in proto.graph.initializer):
            raise InputError(f"{name} keeps weights in other files: save it as one file")
        _without_dictionaries(onnx, proto.graph)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(
            proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{name} is not a valid ONNX model: {reason(error)}") from error
    return proto.graph, session


def _without_dictionaries(onnx: Any, graph: Any) -> None:
    """ZipMap makes a dictionary of each row, which is slow; its input is a matrix of the same numbers."""
    for node in graph.node:
        for output in graph.output:
            if node.op_type == "ZipMap" and output.name == node.output[0]:
                output.CopyFrom(
                    onnx.helper.make_tensor_value_info(node.input[0], onnx.TensorProto.FLOAT, None)
                )


def _outputs(session: Any, name: str) -> _Outputs:
    found = session.get_outputs()
    labels = [one.name for one in found if one.type in _KINDS and one.type not in _PROBABILITIES]
    shares = [one.name for one in found if one.type in _PROBABILITIES]
    if not labels and not shares:
        kinds = ", ".join(f"{one.name}: {one.type}" for one in found)
        raise InputError(f"{name} puts out {kinds}: expected labels or probabilities")
    shares.sort(key=lambda title: "prob" not in title.lower())
    return _Outputs(next(iter(labels), None), next(iter(shares), None))


def _width(given: Any) -> int | None:
    """How many columns an input has, None where it does not say."""
    size = given.shape[1] if len(given.shape) == 2 else 1
    return size if isinstance(size, int) else None


def _check_input(given: Any, name: str) -> None:
    shape = list(given.shape or [])
    if given.type not in _KINDS or not 1 <= len(shape) <= 2:
        raise InputError(
            f"{name} takes {given.name!r} as {given.type} of shape {shape}: expected numbers or texts, "
            "rows × columns"
        )
    if isinstance(shape[0], int):
        raise InputError(
            f"{name} takes {shape[0]} rows at a time: export it with a free first dimension (None)"
        )


def _column(rows: pandas.DataFrame, given: Any, name: str) -> _Matrix:
    if given.name not in rows.columns:
        raise InputError(
            f"{name} reads a column {given.name!r} that it is not given: add it to the table and to "
            f"features, or rename one (there are {', '.join(map(str, rows.columns[:8]))})"
        )
    values = _typed(rows[given.name], given.type, name)
    return values.reshape(-1, 1) if len(given.shape) == 2 else values


def _matrix(rows: pandas.DataFrame, given: Any, name: str) -> _Matrix:
    width = _width(given)
    if width is not None and width != rows.shape[1]:
        raise InputError(
            f"{name} takes {width} columns, got {rows.shape[1]} ({', '.join(map(str, rows.columns[:8]))}): "
            "set features to the columns it was trained on, in their order"
        )
    columns = [_typed(rows[column], given.type, name) for column in rows.columns]
    return numpy.stack(columns, axis=1)


def _typed(values: "pandas.Series[Any]", kind: str, name: str) -> _Matrix:
    """A column as the input wants it; a missing number is NaN, a missing text is empty."""
    if kind == "tensor(string)":
        texts = values.astype("object").where(values.notna(), "")
        return texts.astype(str).to_numpy(dtype=numpy.object_)
    if not (pandas.api.types.is_numeric_dtype(values) or pandas.api.types.is_bool_dtype(values)):
        raise InputError(
            f"{name} takes numbers, and column {str(values.name)!r} is no numbers ({values.dtype}): leave "
            "it out of features, or export the model together with its encoder"
        )
    numbers = values.to_numpy(dtype=numpy.float64, na_value=numpy.nan)
    wanted = numpy.dtype(_KINDS[kind])
    if (
        wanted.kind != "f"
        and not (numpy.isfinite(numbers) & (numbers == numpy.round(numbers))).all()
    ):
        raise InputError(
            f"{name} takes whole numbers as {str(values.name)!r}: the column has missing or other values"
        )
    return values.to_numpy(dtype=wanted) if values.notna().all() else numbers.astype(wanted)


def _answers(
    label: _Matrix | None, shares: _Matrix | None, graph: Any, positive: Positive, name: str
) -> Answers:
    table = None if shares is None else numpy.asarray(shares)
    if table is not None:  # a label beside NaN is that of no class
        check_present(numpy.isnan(table.reshape(len(table), -1)).any(axis=1), name)
    columns = table.shape[1] if table is not None and table.ndim == 2 else 1
    if table is None or columns == 1:
        # beside labels it is open which class a single number is of
        return Answers(decision=label, score=table if label is None else None)
    classes = _classes(graph, columns)
    if label is None:
        classes = classes or tuple(range(columns))
        return Answers(score=of_probabilities(table, classes, positive, name), classes=classes)
    if classes is None or not numpy.allclose(table.sum(axis=1), 1, atol=1e-3):
        return Answers(decision=label, classes=classes)
    score = of_probabilities(table, classes, positive, name)
    return Answers(decision=label, score=score, classes=classes)


def _classes(graph: Any, count: int) -> tuple[object, ...] | None:
    """The names of so many classes, from the nodes that choose among them; None if they do not agree."""
    from onnx import numpy_helper

    constants: dict[str, Callable[[], _Matrix]] = {
        item.name: lambda item=item: numpy_helper.to_array(item)  # type: ignore[misc]
        for item in graph.initializer
    }
    listed: set[tuple[object, ...]] = set()
    for node in graph.node:
        found = [
            [*one.ints, *one.strings]
            for one in node.attribute
            if one.name.startswith("classlabels_")
        ]
        if node.op_type == "ArrayFeatureExtractor" and node.input[0] in constants:
            found.append(constants[node.input[0]]().ravel().tolist())
        for names in found:
            texts = tuple(one.decode() if isinstance(one, bytes) else one for one in names)
            if len(texts) == count == len(set(texts)):
                listed.add(texts)
    return listed.pop() if len(listed) == 1 else None
