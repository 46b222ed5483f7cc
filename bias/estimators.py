"""Python objects as tabular models: scikit-learn's contract, or a function of a data frame."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy
import pandas

from assaymark.bias.answers import Answers, Positive, TabularModel, in_order, of_probabilities
from assaymark.reports.errors import InputError
from assaymark.reports.named_code import reason


def of_object(found: object, name: str, positive: Positive) -> TabularModel:
    """An estimator, a factory of one that is called with no argument, or a function of a frame.

    What can be called without an argument is a factory. Raises InputError for anything else.
    """
    if not inspect.isclass(found) and hasattr(found, "predict"):
        return of_estimator(found, name, positive)
    if not callable(found):
        raise InputError(
            f"{name} is a {type(found).__name__}: expected a function of a data frame, or an object "
            "with predict"
        )
    if not _is_factory(found, name):
        return of_function(found, name, positive)
    try:
        made = found()
    except (Exception, SystemExit) as error:
        raise InputError(f"{name} failed, {reason(error)}") from error
    if hasattr(made, "predict"):
        return of_estimator(made, name, positive)
    if callable(made) and not inspect.isclass(made):
        return of_function(made, name, positive)
    raise InputError(
        f"{name} made a {type(made).__name__}: expected an object with predict, or a function of a data "
        "frame"
    )


def _is_factory(found: Callable[..., object], name: str) -> bool:
    try:
        signature = inspect.signature(found)
    except ValueError:  # of a builtin nobody knows
        return inspect.isclass(found)
    try:
        signature.bind()
        return True
    except TypeError:
        pass
    try:
        signature.bind(None)
    except TypeError as error:
        raise InputError(
            f"{name} needs several arguments: expected a function of one data frame, or a factory that is "
            "called with none"
        ) from error
    if inspect.isclass(found):
        raise InputError(f"{name} is a class that needs arguments: name a factory that makes it")
    return False


def of_function(
    function: Callable[[pandas.DataFrame], Any], name: str, positive: Positive
) -> TabularModel:
    """A function from rows to decisions, or to probabilities.

    Numbers between 0 and 1 are probabilities of the positive class, a column for each class where there
    are several (named by a data frame, else 0, 1, …); anything else is decisions.
    """

    def predict(rows: pandas.DataFrame) -> Answers:
        return _read(function(rows), name, positive)

    return TabularModel(name=name, predict=predict)


def _read(raw: Any, name: str, positive: Positive) -> Answers:
    if isinstance(raw, Answers):
        return raw
    if isinstance(raw, pandas.Series | pandas.DataFrame) and not in_order(raw):
        raise InputError(
            f"{name} answers {len(raw)} rows under another index than those it was asked: expected one "
            "answer a row, in their order"
        )
    try:
        array = numpy.asarray(raw)
    except ValueError:  # rows of different lengths, which `ask` refuses
        return Answers(decision=raw)
    if array.ndim == 2 and array.shape[1] > 1:
        named = raw.columns if isinstance(raw, pandas.DataFrame) else range(array.shape[1])
        classes = tuple(named)
        return Answers(score=of_probabilities(array, classes, positive, name), classes=classes)
    if _fractions(array):
        return Answers(score=array)
    return Answers(decision=array)


def _fractions(array: numpy.ndarray[Any, Any]) -> bool:
    """Whether these are numbers of which some are not whole."""
    if array.dtype.kind != "f":
        return False
    known = array[numpy.isfinite(array)]
    return bool((known != numpy.round(known)).any())


def of_estimator(estimator: Any, name: str, positive: Positive) -> TabularModel:
    """An object with predict, and maybe predict_proba and classes_, as scikit-learn defines them.

    It is given the columns that it was trained on where it knows them (feature_names_in_). Raises
    InputError when it has no predict; when it is asked, for a `positive` that is none of its classes.
    """
    if not hasattr(estimator, "predict"):
        raise InputError(
            f"{name} holds a {type(estimator).__name__}: expected an object with predict"
        )
    known = getattr(estimator, "feature_names_in_", None)
    features = None if known is None else tuple(map(str, known))
    classes = getattr(estimator, "classes_", None)
    shares = None if classes is None else getattr(estimator, "predict_proba", None)

    def predict(rows: pandas.DataFrame) -> Answers:
        given = _given(estimator, features, rows, name)
        answers = _read(estimator.predict(given), name, positive)
        if classes is None:
            return answers
        listed = tuple(numpy.asarray(classes).tolist())
        score = None if shares is None else of_probabilities(shares(given), listed, positive, name)
        return Answers(decision=answers.decision, score=score, classes=listed)

    return TabularModel(name=name, predict=predict, features=features)


def _given(
    estimator: Any, features: tuple[str, ...] | None, rows: pandas.DataFrame, name: str
) -> Any:
    if features is None:
        # one that was trained on an array warns of names
        trained_on = getattr(estimator, "n_features_in_", None)
        if trained_on is not None and trained_on != rows.shape[1]:
            raise InputError(
                f"{name} was trained on {trained_on} columns, got {rows.shape[1]}: set features to the "
                "columns it was trained on, in their order"
            )
        return rows if trained_on is None else rows.to_numpy()
    lacking = [column for column in features if column not in rows.columns]
    if lacking:
        raise InputError(
            f"{name} was trained on columns that it is not given: {', '.join(lacking[:5])}; add them to "
            "the table and to features"
        )
    return rows[list(features)]
