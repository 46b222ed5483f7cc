"""Rows for the tests of mitigations: the diabetes study, COMPAS, Adult, and small ones by hand."""

from pathlib import Path
from typing import Any

import numpy
import pandas
import pyarrow
from sklearn.datasets import load_diabetes

from assaymark.bias import demo
from assaymark.bias.codes import Column, column_of
from assaymark.bias.rows import Predictions

ADULT = {
    0: "age",
    1: "workclass",
    4: "education_num",
    5: "marital",
    6: "occupation",
    8: "race",
    9: "sex",
    10: "gain",
    12: "hours",
    14: "income",
}
"""Some of its columns, by place."""


def column(name: str, values: Any) -> Column:
    return column_of(name, pyarrow.array([str(value) for value in values]), most=50)


def rows(
    label: Any, group: Any, *, score: Any = None, decision: Any = None, weight: Any = None
) -> Predictions:
    truth = numpy.array(label, dtype=bool)
    number = None if score is None else numpy.array(score, dtype=float)
    if decision is None:
        decision = truth if number is None else number >= 0.5
    return Predictions(
        name="rows",
        label=truth,
        prediction=numpy.array(decision, dtype=bool),
        score=number,
        groups={"group": column("group", group)},
        note="decisions by hand",
        weight=None if weight is None else numpy.array(weight, dtype=float),
    )


def diabetes() -> tuple[Predictions, pandas.DataFrame]:
    """The demo study by sex, and its measurements with the band of age as a text."""
    table = demo.diabetes()
    data = Predictions(
        name="diabetes",
        label=table["progressed"].to_numpy() == 1,
        prediction=table["predicted"].to_numpy() == 1,
        score=table["score"].to_numpy(),
        groups={name: column(name, table[name]) for name in ("sex", "age_band")},
        note="decisions of a classifier",
    )
    measured = load_diabetes(scaled=False, as_frame=True).data[["bmi", "bp", "s5"]]
    return data, measured.assign(age_band=table["age_band"])


def compas(shared: Path, n: int = 3000) -> tuple[Predictions, pandas.DataFrame]:
    """Two-year recidivism; a decile score of 5 or more is the decision (Larson et al. 2016)."""
    table = pandas.read_csv(
        shared / "data" / "bias" / "compas" / "compas-scores-two-years.csv", nrows=n
    )
    data = Predictions(
        name="compas",
        label=table["two_year_recid"].to_numpy() == 1,
        prediction=table["decile_score"].to_numpy() >= 5,
        score=table["decile_score"].to_numpy(dtype=float),
        groups={name: column(name, table[name]) for name in ("race", "sex")},
        note="decile score of 5 or more",
    )
    return data, table[["age", "priors_count", "c_charge_degree", "id"]]


def adult(shared: Path, n: int = 4000) -> tuple[Predictions, pandas.DataFrame]:
    """Income above 50,000; the score is the years of education."""
    table = pandas.read_csv(
        shared / "data" / "bias" / "adult" / "adult.data",
        header=None,
        usecols=list(ADULT),
        skipinitialspace=True,
        nrows=n,
    ).rename(columns=ADULT)
    score = table["education_num"].to_numpy(dtype=float)
    data = Predictions(
        name="adult",
        label=(table["income"] == ">50K").to_numpy(),
        prediction=score >= 13,
        score=score,
        groups={name: column(name, table[name]) for name in ("sex", "race")},
        note="13 years of education or more",
    )
    return data, table[["age", "workclass", "marital", "occupation", "hours", "gain"]]
