"""Tabular models by name: one grammar, and no pickle.

package.module:predict (a function of a data frame) · package.module:estimator (an object or a factory
with predict) · x.onnx · x.skops · x.mitigated.json
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy
import pandas

from assaymark.bias.answers import Answers, Positive, TabularModel
from assaymark.bias.columns import value_of
from assaymark.bias.estimators import of_estimator, of_object
from assaymark.reports.errors import InputError
from assaymark.reports.named_code import resolve

_MITIGATED = ".mitigated.json"
_PICKLES = (".pkl", ".pickle", ".joblib", ".pt", ".pth", ".dill", ".cloudpickle", ".sav")


def load(spec: str, *, positive: Positive = 1, folder: Path = Path()) -> TabularModel:
    """The model a spec names; files are looked up in `folder`.

    positive: the class whose probability is the score. Raises InputError when it is missing, is a
    pickle, or is no model.
    """
    if re.fullmatch(r"[\w.]+:[\w.]+", spec):
        return of_object(resolve(spec, folder), spec, positive)
    path = folder / spec
    suffix = path.suffix.lower()
    if suffix in _PICKLES:
        raise InputError(
            f"{spec} is a pickle, which runs code when it is opened: save the model with skops.io.dump as "
            ".skops, export it to .onnx, or name package.module:factory, a function of yours that loads it"
        )
    opened = _mitigated if spec.endswith(_MITIGATED) else _FILES.get(suffix)
    if opened is None:
        raise InputError(
            f"{spec} is not a tabular model that is read here: expected package.module:name, .onnx, .skops "
            f"or {_MITIGATED}"
        )
    if not path.is_file():
        raise InputError(f"no model at {spec}: expected a file, or package.module:name")
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return replace(opened(path, spec, positive), sha256=digest)


def _onnx(path: Path, spec: str, positive: Positive) -> TabularModel:
    from assaymark.bias.onnx_tables import of_onnx

    return of_onnx(path, spec, positive)


def _skops(path: Path, spec: str, positive: Positive) -> TabularModel:
    from assaymark.bias.skops_files import read

    return of_estimator(read(path, spec), spec, positive)


def _mitigated(path: Path, spec: str, positive: Positive) -> TabularModel:
    said: Any = import_module("assaymark.bias.mitigated").load(path)
    if value_of(said.positive) != value_of(positive):
        raise InputError(
            f"{spec} decides whether a row is {said.positive!r}, not {positive!r}: set positive to that"
        )
    classes = (said.positive, f"not {said.positive}")

    def predict(rows: pandas.DataFrame) -> Answers:
        decision = numpy.where(said.predict(rows), *classes)
        return Answers(decision=decision, score=said.predict_proba(rows), classes=classes)

    return TabularModel(name=spec, predict=predict, features=tuple(said.columns))


_Open = Callable[[Path, str, Positive], TabularModel]
_FILES: dict[str, _Open] = {".onnx": _onnx, ".skops": _skops}
