"""Real scikit-learn models opened in every form, and every way a model can answer wrongly."""

import pickle
import sys
import types
from functools import cache
from pathlib import Path
from typing import Any

import numpy
import onnx
import pandas
import pytest
from onnx import TensorProto, helper
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from assaymark.bias import models
from assaymark.bias.answers import Answers, TabularModel, ask, decisions
from assaymark.bias.estimators import of_estimator, of_function, of_object
from assaymark.reports.errors import InputError

NUMBERS = ["age", "bmi", "bp"]


@cache
def patients() -> tuple[pandas.DataFrame, Any]:
    """442 real patients (scikit-learn's diabetes study), and who got worse."""
    bunch = load_diabetes(scaled=False, as_frame=True)
    features = bunch.data[NUMBERS].astype("float32")
    features["sex"] = bunch.data["sex"].map({1.0: "one", 2.0: "two"})
    return features, numpy.where(bunch.target > 140, "worse", "better")


@cache
def pipeline() -> Any:
    features, label = patients()
    encode = make_column_transformer((StandardScaler(), NUMBERS), (OneHotEncoder(), ["sex"]))
    return make_pipeline(encode, LogisticRegression()).fit(features, label)


def check_answers(model: TabularModel) -> Answers:
    """It says what the pipeline says, in Python."""
    features, _ = patients()
    answers = ask(model, features)
    assert answers.score == pytest.approx(pipeline().predict_proba(features)[:, 1], abs=1e-5)
    decided = decisions(model, answers, "worse")
    assert decided.tolist() == (pipeline().predict(features) == "worse").tolist()
    return answers


@pytest.fixture
def module(tmp_path: Path) -> Any:
    """Writes a module beside the policy, and forgets it afterwards."""
    written = []

    def write(source: str) -> Path:
        (tmp_path / "users_code.py").write_text(source, encoding="utf-8")
        written.append("users_code")
        return tmp_path

    yield write
    for name in written:
        sys.modules.pop(name, None)


def test_an_estimator_answers_for_its_positive_class() -> None:
    answers = check_answers(of_object(pipeline(), "m", "worse"))
    assert answers.classes == ("better", "worse")
    other = of_object(pipeline(), "m", "better")
    assert ask(other, patients()[0]).score == pytest.approx(1 - numpy.asarray(answers.score))


SOURCES = {
    "function": "def model(rows):\n    return (rows['bmi'] > 26).map({True: 'worse', False: 'better'})\n",
    "object": "class M:\n    def predict(self, rows):\n        return ['worse' if b > 26 else 'better'"
    " for b in rows['bmi']]\nmodel = M()\n",
    "class": "class model:\n    def predict(self, rows):\n        return ['worse' if b > 26 else 'better'"
    " for b in rows['bmi']]\n",
    "factory": "import numpy\nclass M:\n    classes_ = numpy.array(['better', 'worse'])\n"
    "    def predict(self, rows):\n        return self.classes_[(rows['bmi'] > 26).astype(int)]\n"
    "def model():\n    return M()\n",
    "factory of a function": "def model():\n    return lambda rows: ['worse' if b > 26 else 'better'"
    " for b in rows['bmi']]\n",
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_code_beside_the_policy(module: Any, source: str) -> None:
    model = models.load("users_code:model", positive="worse", folder=module(source))
    features, _ = patients()
    found = decisions(model, ask(model, features), "worse")
    assert found.tolist() == (features["bmi"] > 26).tolist()
    assert model.name == "users_code:model"


WRONG_CODE = {
    "missing": ("def other(rows): ...", "has no model; known are other"),
    "broken": ("1 / 0", "importing users_code of users_code:model failed, ZeroDivisionError"),
    "exit": ("raise SystemExit(3)", "failed, SystemExit: 3"),
    "import": ("import no_such_package_anywhere", "cannot import users_code"),
    "number": ("model = 3", "is a int: expected a function"),
    "two arguments": ("def model(rows, labels): ...", "needs several arguments"),
    "class with argument": ("class model:\n    def __init__(self, x): ...", "name a factory"),
    "factory of nothing": ("def model(): ...", "made a NoneType"),
    "failing factory": ("def model(): raise ValueError('no weights')", "ValueError: no weights"),
}


@pytest.mark.parametrize(("source", "said"), WRONG_CODE.values(), ids=WRONG_CODE)
def test_code_that_is_no_model(module: Any, source: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        models.load("users_code:model", folder=module(source))


@pytest.mark.parametrize("suffix", [".pkl", ".pickle", ".joblib", ".pt", ".PKL"])
def test_no_pickle_is_opened(tmp_path: Path, suffix: str) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "exploded",))

    (tmp_path / f"m{suffix}").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(InputError, match=r"is a pickle.*skops.*\.onnx.*package\.module:factory"):
        models.load(f"m{suffix}", folder=tmp_path)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("m.h5", "not a tabular model that is read here"),
        ("m.json", "not a tabular model that is read here"),
        ("m.onnx", "no model at m.onnx"),
        ("m.skops", "no model at m.skops"),
        ("m.mitigated.json", "no model at m.mitigated.json"),
    ],
)
def test_no_such_model(tmp_path: Path, spec: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        models.load(spec, folder=tmp_path)


# What a model says, and what is said of it. n = 3 rows.
NAN = float("nan")
HOSTILE: dict[str, tuple[Any, str]] = {
    "too few": ([1, 0], "expected one answer a row, got 2"),
    "too many": (numpy.zeros(4), "expected one answer a row, got 4"),
    "one for all": (1, "expected one answer a row, got a single one"),
    "nothing": (None, "expected one answer a row, got a single one"),
    "ragged": ([[1], [0, 1], [1]], "answers of different lengths"),
    "NaN decision": ([1.0, NAN, 0.0], r"leaves 1 of 3 answers out .* row 2"),
    "NaN score": ([0.2, 0.4, NAN], r"leaves 1 of 3 answers out .* row 3"),
    "None": (["yes", None, "no"], "leaves 1 of 3 answers out"),
    "NA": (pandas.Series([True, pandas.NA, False], dtype="boolean"), "leaves 1 of 3 answers out"),
    "empty text": (["yes", "", " "], "leaves 2 of 3 answers out"),
    "nan as text": (numpy.array(["yes", NAN, "no"]), "leaves 1 of 3 answers out"),
    "log-odds": ([-2.5, 0.1, 3.0], "scores from -2.5 to 3: expected decisions, or probabilities"),
    "infinite": ([0.5, float("inf"), 0.1], "scores from 0.1 to inf"),
    "another order": (pandas.Series([1, 0, 1], index=[2, 1, 0]), "in their order"),
    "no shares": (numpy.array([[0.5, 0.9]] * 3), r"add up to 1\.4 to 1\.4 in a row"),
    "NaN shares": (numpy.array([[0.5, NAN]] * 3), "leaves 3 of 3 answers out"),
    "flat classes": (numpy.full((3, 2, 2), 0.5), "shape"),
    "never positive": (["yes", "no", "no"], "never the positive value 1: set positive"),
    "other classes": (
        pandas.DataFrame({"a": [0.5] * 3, "b": [0.5] * 3}),
        "answers 'a', 'b', never",
    ),
}


@pytest.mark.parametrize(("raw", "said"), HOSTILE.values(), ids=HOSTILE)
def test_a_wrong_answer_is_an_error_that_names_the_model(raw: Any, said: str) -> None:
    model = of_function(lambda rows: raw, "mine:model", 1)
    with pytest.raises(InputError, match=said) as error:
        decisions(model, ask(model, pandas.DataFrame({"x": [1, 2, 3]})), 1)
    assert "mine:model" in str(error.value)


@pytest.mark.parametrize("error", [ValueError("no column y"), SystemExit(0), RecursionError()])
def test_a_model_that_raises_is_named(error: BaseException) -> None:
    def predict(rows: pandas.DataFrame) -> Any:
        raise error

    model = of_function(predict, "mine:model", 1)
    with pytest.raises(InputError, match=f"mine:model failed on 1 rows, {type(error).__name__}"):
        ask(model, pandas.DataFrame({"x": [1]}))


def test_no_answers_at_all_is_no_answer() -> None:
    model = TabularModel(name="m", predict=lambda rows: Answers())
    with pytest.raises(InputError, match="m gave no answers"):
        ask(model, pandas.DataFrame({"x": [1]}))


ROWS = pandas.DataFrame({"x": [0, 1, 2]})
READ: dict[str, tuple[Any, list[bool]]] = {
    "booleans": ([True, False, True], [True, False, True]),
    "whole floats": ([1.0, 0.0, 1.0], [True, False, True]),
    "texts of numbers": (["1", "0", "1"], [True, False, True]),
    "a column": (numpy.array([[1], [0], [1]]), [True, False, True]),
    "nobody": ([0, 0, 0], [False, False, False]),
    "probabilities": ([0.5, 0.4999, 1.0], [True, False, True]),
    "two columns": (numpy.array([[0.5, 0.5], [0.9, 0.1], [0, 1]]), [True, False, True]),
    "named columns": (
        pandas.DataFrame({"1": [0.5, 0.1, 1.0], "0": [0.5, 0.9, 0.0]}),
        [True, False, True],
    ),
    "single precision": (numpy.array([1 + 1e-7, 0.3, 0.6], numpy.float32), [True, False, True]),
}


@pytest.mark.parametrize(("raw", "expected"), READ.values(), ids=READ)
def test_decisions_and_probabilities_are_told_apart(raw: Any, expected: list[bool]) -> None:
    model = of_function(lambda rows: raw, "m", 1)
    assert decisions(model, ask(model, ROWS), 1).tolist() == expected


def test_a_threshold_is_held_against_scores_only() -> None:
    scores = of_function(lambda rows: [0.2, 0.6, 0.9], "m", 1)
    assert decisions(scores, ask(scores, ROWS), 1, 0.7).tolist() == [False, False, True]
    decided = of_function(lambda rows: [0, 1, 1], "m", 1)
    with pytest.raises(InputError, match="leave the threshold out"):
        decisions(decided, ask(decided, ROWS), 1, 0.7)


def test_a_model_that_writes_into_its_rows_changes_nothing() -> None:
    def predict(rows: pandas.DataFrame) -> Any:
        rows["x"] = 7
        return rows["x"] > 3

    model = of_function(predict, "m", 1)
    rows = ROWS.copy()
    ask(model, rows)
    pandas.testing.assert_frame_equal(rows, ROWS)


@pytest.mark.filterwarnings("ignore:The inplace keyword")
@pytest.mark.parametrize("how", ["sort_values", "dropna"])
def test_a_model_that_moves_its_rows_is_refused(how: str) -> None:
    def predict(rows: pandas.DataFrame) -> Any:
        getattr(rows, how)(**({"by": "x"} if how == "sort_values" else {}), inplace=True)
        return [0, 1, 1]

    rows = pandas.DataFrame({"x": [2.0, None, 1.0]})
    with pytest.raises(InputError, match="m drops or sorts the rows it is given"):
        ask(of_function(predict, "m", 1), rows)


def test_an_estimator_is_given_the_columns_it_knows() -> None:
    features, _ = patients()
    wide = features.assign(ward="a")[["ward", "sex", "bp", "bmi", "age"]]
    model = of_estimator(pipeline(), "m", "worse")
    assert model.features == (*NUMBERS, "sex")
    assert ask(model, wide).score == pytest.approx(ask(model, features).score)
    with pytest.raises(InputError, match="it is not given: bmi"):
        ask(model, features.drop(columns="bmi"))
    with pytest.raises(InputError, match=r"answers 'better', 'worse', never the positive value 1"):
        ask(of_estimator(pipeline(), "m", 1), features)


def test_an_estimator_of_arrays_has_as_many_columns() -> None:
    features, label = patients()
    fitted = DecisionTreeClassifier(max_depth=2).fit(features[NUMBERS].to_numpy(), label)
    model = of_estimator(fitted, "m", "worse")
    assert ask(model, features[NUMBERS]).classes == ("better", "worse")
    with pytest.raises(InputError, match="was trained on 3 columns, got 4"):
        ask(model, features)


def test_an_estimator_without_probabilities_decides() -> None:
    features, label = patients()
    fitted = LinearSVC().fit(features[NUMBERS], label)
    answers = ask(of_estimator(fitted, "m", "worse"), features)
    assert answers.score is None
    assert answers.decision is not None


# ONNX


def linear_graph(
    tmp_path: Path, *, labels: list[Any], zipmap: bool, kind: int = TensorProto.FLOAT
) -> Path:
    """What a converter makes of a logistic regression of two columns: p = σ(x₀ − x₁)."""
    texts = isinstance(labels[0], str)
    named: dict[str, Any] = {("classlabels_strings" if texts else "classlabels_ints"): labels}
    nodes = [
        helper.make_node("Cast", ["X"], ["x"], to=TensorProto.FLOAT),
        helper.make_node(
            "LinearClassifier",
            ["x"],
            ["label", "shares"],
            domain="ai.onnx.ml",
            coefficients=[-1.0, 1.0, 1.0, -1.0],
            intercepts=[0.0, 0.0],
            multi_class=0,
            post_transform="LOGISTIC",
            **named,
        ),
    ]
    shares = helper.make_tensor_value_info("shares", TensorProto.FLOAT, [None, 2])
    if zipmap:
        key = "classlabels_strings" if texts else "classlabels_int64s"
        nodes.append(
            helper.make_node("ZipMap", ["shares"], ["maps"], domain="ai.onnx.ml", **{key: labels})
        )
        value = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
        of_row = helper.make_map_type_proto(
            TensorProto.STRING if texts else TensorProto.INT64, value
        )
        shares = helper.make_value_info("maps", helper.make_sequence_type_proto(of_row))
    label_kind = TensorProto.STRING if texts else TensorProto.INT64
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("X", kind, [None, 2])],
        [helper.make_tensor_value_info("label", label_kind, [None]), shares],
    )
    return saved(tmp_path, graph)


def saved(folder: Path, graph: Any) -> Path:
    versions = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save(helper.make_model(graph, opset_imports=versions, ir_version=8), folder / "m.onnx")
    return folder


@pytest.mark.parametrize("zipmap", [True, False])
@pytest.mark.parametrize("labels", [[0, 1], ["no", "yes"]])
@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64])
def test_an_onnx_classifier_of_one_matrix(
    tmp_path: Path, labels: list[Any], zipmap: bool, kind: int
) -> None:
    folder = linear_graph(tmp_path, labels=labels, zipmap=zipmap, kind=kind)
    rows = pandas.DataFrame({"a": [3, 0, 1], "b": [1, 2, 1]})
    for positive, sign in ((labels[1], 1), (labels[0], -1)):
        model = models.load("m.onnx", positive=positive, folder=folder)
        answers = ask(model, rows)
        closed = 1 / (1 + numpy.exp(-sign * (rows["a"] - rows["b"])))
        assert answers.score == pytest.approx(closed.to_numpy(), abs=1e-6)
        assert answers.classes == tuple(labels)
        assert decisions(model, answers, positive)[:2].tolist() == [sign > 0, sign < 0]
    assert model.sha256 is not None
    with pytest.raises(InputError, match=r"m\.onnx answers .* never the positive value 'other'"):
        ask(models.load("m.onnx", positive="other", folder=folder), rows)


def test_an_onnx_input_for_each_column(tmp_path: Path) -> None:
    """Positive where the sex is "m" and the whole number above 40."""
    texts = helper.make_node(
        "LabelEncoder",
        ["sex"],
        ["male"],
        domain="ai.onnx.ml",
        keys_strings=["m"],
        values_int64s=[1],
        default_int64=0,
    )
    forty = helper.make_tensor("forty", TensorProto.INT64, [1], [40])
    nodes = [
        texts,
        helper.make_node("Greater", ["hours-per-week", "forty"], ["long"]),
        helper.make_node("Cast", ["male"], ["is_male"], to=TensorProto.BOOL),
        helper.make_node("And", ["long", "is_male"], ["label"]),
    ]
    inputs = [
        helper.make_tensor_value_info("hours-per-week", TensorProto.INT64, [None, 1]),
        helper.make_tensor_value_info("sex", TensorProto.STRING, [None, 1]),
    ]
    output = helper.make_tensor_value_info("label", TensorProto.BOOL, [None, 1])
    folder = saved(tmp_path, helper.make_graph(nodes, "g", inputs, [output], [forty]))
    model = models.load("m.onnx", folder=folder)
    rows = pandas.DataFrame(
        {"sex": ["m", "f", None, "m"], "name": list("abcd"), "hours-per-week": [50, 50, 50, 10]}
    )
    assert model.features == ("hours-per-week", "sex")
    assert decisions(model, ask(model, rows), 1).tolist() == [True, False, False, False]
    with pytest.raises(InputError, match="reads a column 'sex' that it is not given"):
        ask(model, rows.drop(columns="sex"))
    for hours in (pandas.Series([50, 50, 50, None]), pandas.Series([50, 50, 50, 1.5])):
        with pytest.raises(InputError, match="takes whole numbers as 'hours-per-week'"):
            ask(model, rows.assign(**{"hours-per-week": hours}))
    with pytest.raises(InputError, match="'hours-per-week' is no numbers"):
        ask(model, rows.assign(**{"hours-per-week": list("abcd")}))


def test_an_onnx_model_of_other_columns(tmp_path: Path) -> None:
    folder = linear_graph(tmp_path, labels=[0, 1], zipmap=False)
    model = models.load("m.onnx", folder=folder)
    with pytest.raises(InputError, match=r"takes 2 columns, got 3 \(a, b, c\)"):
        ask(model, pandas.DataFrame({"a": [1], "b": [2], "c": [3]}))
    with pytest.raises(InputError, match="column 'b' is no numbers"):
        ask(model, pandas.DataFrame({"a": [1.0], "b": ["x"]}))


def test_a_missing_number_reaches_the_onnx_model_and_is_no_answer(tmp_path: Path) -> None:
    model = models.load("m.onnx", folder=linear_graph(tmp_path, labels=[0, 1], zipmap=False))
    with pytest.raises(InputError, match=r"m\.onnx leaves 1 of 2 answers out .* row 2"):
        ask(model, pandas.DataFrame({"a": [1.0, None], "b": [2.0, 0.0]}))


@pytest.mark.parametrize(
    ("shape", "said"),
    [([1, 2], "takes 1 rows at a time"), ([None, 3, 8, 8], "expected numbers or texts, rows")],
)
def test_an_onnx_model_of_something_else(tmp_path: Path, shape: list[Any], said: str) -> None:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["X"], ["Y"])],
        "g",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, shape)],
    )
    with pytest.raises(InputError, match=said):
        models.load("m.onnx", folder=saved(tmp_path, graph))


def test_a_file_that_is_no_onnx(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"not a model")
    with pytest.raises(InputError, match=r"m\.onnx is not a valid ONNX model"):
        models.load("m.onnx", folder=tmp_path)


def test_weights_in_other_files_are_not_read(tmp_path: Path) -> None:
    weights = helper.make_tensor("w", TensorProto.FLOAT, [2], b"\0" * 8, raw=True)
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="../../secret")
    shape = [None, 2]
    graph = helper.make_graph(
        [helper.make_node("Add", ["X", "w"], ["Y"])],
        "g",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, shape)],
        [weights],
    )
    with pytest.raises(InputError, match="keeps weights in other files"):
        models.load("m.onnx", folder=saved(tmp_path, graph))


@pytest.mark.parametrize("zipmap", [True, False])
def test_a_converted_pipeline_says_the_same(tmp_path: Path, zipmap: bool) -> None:
    skl2onnx = pytest.importorskip("skl2onnx")
    features, _ = patients()
    proto = skl2onnx.to_onnx(pipeline(), features[:1], options={"zipmap": zipmap})
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    check_answers(models.load("m.onnx", positive="worse", folder=tmp_path))


@pytest.mark.parametrize("kind", ["bayes", "network", "forest", "neighbours", "margin"])
def test_classes_are_those_of_the_converted_model(tmp_path: Path, kind: str) -> None:
    skl2onnx = pytest.importorskip("skl2onnx")
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.naive_bayes import GaussianNB
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier

    features, label = patients()
    fitted = {
        "bayes": GaussianNB(),
        "network": MLPClassifier((4,), max_iter=400, solver="lbfgs", random_state=0),
        "forest": RandomForestClassifier(5, random_state=0),
        "neighbours": KNeighborsClassifier(3),
        "margin": LinearSVC(),
    }[kind].fit(features[NUMBERS].to_numpy(), label)
    options = None if kind == "margin" else {"zipmap": False}
    proto = skl2onnx.to_onnx(fitted, features[NUMBERS].to_numpy()[:1], options=options)
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    model = models.load("m.onnx", positive="worse", folder=tmp_path)
    answers = ask(model, features[NUMBERS])
    agree = decisions(model, answers, "worse") == (
        fitted.predict(features[NUMBERS].to_numpy()) == "worse"
    )
    assert agree.mean() > 0.99
    if kind == "margin":  # its scores are no probabilities
        assert answers.score is None
    else:
        shares = fitted.predict_proba(features[NUMBERS].to_numpy())[:, 1]
        assert numpy.median(numpy.abs(answers.score - shares)) < 1e-3


# skops


def test_a_skops_file_says_the_same(tmp_path: Path) -> None:
    io = pytest.importorskip("skops.io")
    io.dump(pipeline(), tmp_path / "m.skops")
    check_answers(models.load("m.skops", positive="worse", folder=tmp_path))


def test_types_that_skops_does_not_trust_are_named(tmp_path: Path) -> None:
    io = pytest.importorskip("skops.io")
    features, label = patients()
    tree = DecisionTreeClassifier(max_depth=2).fit(features[NUMBERS], label)
    io.dump(tree, tmp_path / "m.skops")
    with pytest.raises(
        InputError, match=r"types that skops cannot check: sklearn\.tree\._tree\.Tree"
    ):
        models.load("m.skops", positive="worse", folder=tmp_path)


def test_a_file_that_is_no_skops(tmp_path: Path) -> None:
    io = pytest.importorskip("skops.io")
    (tmp_path / "m.skops").write_bytes(pickle.dumps(pipeline()))
    with pytest.raises(InputError, match=r"m\.skops is not a skops file"):
        models.load("m.skops", folder=tmp_path)
    io.dump([1, 2], tmp_path / "list.skops")
    with pytest.raises(
        InputError, match=r"list\.skops holds a list: expected an object with predict"
    ):
        models.load("list.skops", folder=tmp_path)


@pytest.mark.parametrize(
    ("library", "file", "said"),
    [
        ("onnxruntime", "m.onnx", r"needs onnx and onnxruntime: pip install 'assaymark\[onnx\]'"),
        ("skops", "m.skops", r"needs skops: pip install 'assaymark\[skops\]'"),
    ],
)
def test_a_library_that_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, file: str, said: str
) -> None:
    (tmp_path / file).write_bytes(b"")
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InputError, match=said):
        models.load(file, folder=tmp_path)


def test_an_old_skops_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = types.ModuleType("skops")
    old.__version__ = "0.11.0"  # type: ignore[attr-defined]
    old.io = types.ModuleType("skops.io")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "skops", old)
    (tmp_path / "m.skops").write_bytes(b"")
    with pytest.raises(InputError, match=r"skops 0\.11\.0 is too old"):
        models.load("m.skops", folder=tmp_path)


def test_a_mitigated_model_says_what_its_positive_decision_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The contract of `assaymark.bias.mitigated`: flags, chances, columns, and what positive means."""

    class Described:
        positive, columns = ">50K", ("x",)

        def predict(self, rows: pandas.DataFrame) -> Any:
            return (rows["x"] > 1).to_numpy()

        def predict_proba(self, rows: pandas.DataFrame) -> Any:
            return rows["x"].to_numpy() / 2

    known = types.ModuleType("assaymark.bias.mitigated")
    known.load = lambda path: Described()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, known.__name__, known)
    (tmp_path / "m.mitigated.json").write_text("{}", encoding="utf-8")
    model = models.load("m.mitigated.json", positive=">50K", folder=tmp_path)
    answers = ask(model, ROWS)
    assert decisions(model, answers, ">50K").tolist() == [False, False, True]
    assert not decisions(model, ask(model, ROWS[:1]), ">50K").any()
    assert model.features == ("x",)
    assert answers.score == pytest.approx(numpy.array([0, 0.5, 1]))
    with pytest.raises(InputError, match="decides whether a row is '>50K', not 1"):
        models.load("m.mitigated.json", folder=tmp_path)
