"""The numbers of fairlearn, AIF360, aequitas and ProPublica for real people: Adult and COMPAS."""

import csv
import json
from functools import cache
from pathlib import Path
from typing import Any

import pandas
import pytest
from conftest import SHARED, RunCli
from fairlearn import metrics
from sklearn.metrics import accuracy_score, precision_score

from assaymark.bias import check, groups, predictions
from assaymark.bias.groups import GAPS, Grouped
from assaymark.bias.references import compare
from assaymark.bias.rows import Predictions
from assaymark.reports.model import Gate, Limit

REFERENCES = {"sex": "Male", "race": "White", "sex × race": "Male × White"}
ATTRIBUTES = list(REFERENCES)

PEERS: dict[str, dict[str, dict[str, dict[str, float]]]] = json.loads(
    Path(__file__).with_name("adult_of_peers.json").read_text(encoding="utf-8")
)
"""What AIF360 and aequitas say about Adult, and how they were asked."""


@cache
def adult() -> pandas.DataFrame:
    if not SHARED.is_dir():
        pytest.skip("no ../shared beside the checkout: real data sets are not shipped")
    path = SHARED / "data" / "bias" / "adult" / "adult.data"
    rows = pandas.read_csv(path, header=None, skipinitialspace=True, keep_default_na=False)
    return pandas.DataFrame(
        {
            "label": rows[14] == ">50K",
            "decision": rows[4] >= 13,
            "sex": rows[9],
            "race": rows[8],
            "sex × race": rows[9] + " × " + rows[8],
        }
    )


@cache
def data() -> Predictions:
    return predictions.load(
        adult(),
        label="label",
        prediction="decision",
        score=None,
        sensitive=("sex", "race"),
        intersections=True,
    )


@cache
def measured(attribute: str) -> Grouped:
    return groups.by_group(data(), attribute)


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_rates_are_those_of_aif360_and_aequitas(attribute: str) -> None:
    expected = PEERS["rates"][attribute]
    found = {group.name: group.rates for group in measured(attribute).groups}
    assert found.keys() == expected.keys()
    for name, rates in expected.items():
        values = {rate: found[name][rate].value for rate in rates}
        assert values == pytest.approx(rates, abs=1e-12)


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_rates_and_gaps_are_those_of_fairlearn(attribute: str) -> None:
    table = adult()
    frame = metrics.MetricFrame(
        metrics={
            "selection_rate": metrics.selection_rate,
            "true_positive_rate": metrics.true_positive_rate,
            "false_positive_rate": metrics.false_positive_rate,
            "positive_predictive_value": precision_score,
            "accuracy": accuracy_score,
        },
        y_true=table["label"],
        y_pred=table["decision"],
        sensitive_features=table[attribute],
    )
    found = measured(attribute)
    for group in found.groups:
        expected = frame.by_group.loc[group.name].to_dict()
        values = {rate: group.rates[rate].value for rate in expected}
        assert values == pytest.approx(expected, abs=1e-12)
    differences, ratios = frame.difference(), frame.ratio()
    for gap, rates in GAPS.items():
        theirs = ratios[[*rates]].min() if gap.endswith("ratio") else differences[[*rates]].max()
        assert found.gaps[gap] == pytest.approx(theirs, abs=1e-12), gap


def beside(attribute: str, rate: str) -> dict[str, tuple[float, float | None]]:
    """Each group's difference from the reference, and its ratio to it."""
    found = compare(measured(attribute), rate, REFERENCES[attribute])
    assert not isinstance(found, str)
    return {one.group: (one.difference, one.ratio) for one in found.others}


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_differences_from_the_reference_are_those_of_aif360(attribute: str) -> None:
    expected = PEERS["aif360"][attribute]
    selected, tpr, fpr = (
        beside(attribute, rate)
        for rate in ("selection_rate", "true_positive_rate", "false_positive_rate")
    )
    assert selected.keys() == expected.keys()
    for name, peer in expected.items():
        found = {
            "statistical_parity_difference": selected[name][0],
            "disparate_impact": selected[name][1],
            "equal_opportunity_difference": tpr[name][0],
            "average_odds_difference": (tpr[name][0] + fpr[name][0]) / 2,
        }
        assert found == pytest.approx(peer, abs=1e-12)


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_ratios_to_the_reference_are_those_of_aequitas(attribute: str) -> None:
    expected = PEERS["aequitas"][attribute]
    for rate in next(iter(expected.values())):
        found = {name: ratio for name, (_, ratio) in beside(attribute, rate).items()}
        theirs = {name: ratios[rate] for name, ratios in expected.items()}
        assert found == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_disparate_impact_is_the_smallest_of_aif360(attribute: str) -> None:
    result = check.check_bias_table("adult", data(), references=REFERENCES)
    (found,) = [
        one
        for one in result.findings
        if one.target == attribute and one.measure == "disparate_impact_ratio"
    ]
    theirs = min(peer["disparate_impact"] for peer in PEERS["aif360"][attribute].values())
    assert found.value == pytest.approx(theirs, abs=1e-12)


PROPUBLICA = {
    ("African-American", "false_positive_rate"): 44.85,
    ("Caucasian", "false_positive_rate"): 23.45,
    ("African-American", "false_negative_rate"): 27.99,
    ("Caucasian", "false_negative_rate"): 47.72,
}
"""Larson, Mattu, Kirchner and Angwin 2016, How we analyzed the COMPAS recidivism algorithm: percent."""
COMPAS = {"label": "two_year_recid", "score": "decile_score", "threshold": 5}


def test_compas_as_propublica_published_it(shared: Path) -> None:
    rows = predictions.load(
        "compas-scores-two-years.csv",
        **COMPAS,  # type: ignore[arg-type]
        prediction=None,
        sensitive=("race",),
        folder=shared / "data" / "bias" / "compas",
    )
    gates = tuple(
        Gate(metric=rate, limit=Limit(maximum=0.3))
        for rate in ("false_positive_rate", "false_negative_rate")
    )
    result = check.check_bias_table("compas", rows, gates=gates)
    _as_published({(one.target, one.measure): one.value for one in result.findings})
    verdicts = {(one.target, one.measure): one.verdict for one in result.findings}
    assert verdicts["race = African-American", "false_positive_rate"] == "fail"
    assert verdicts["race = Caucasian", "false_positive_rate"] == "pass"


def test_compas_from_the_shell(shared: Path, cli: RunCli, tmp_path: Path) -> None:
    file = shared / "data" / "bias" / "compas" / "compas-scores-two-years.csv"
    options = [f"--{name}={value}" for name, value in COMPAS.items()]
    limits = ["--max=false_positive_rate=0.3", "--max=false_negative_rate=0.5", "--on=estimate"]
    outputs = ["--rates=rates.csv", "-o", "report.json"]
    done = cli("bias", "table", str(file), *options, "--sensitive=race", *limits, *outputs)
    assert done.returncode == 1, done.stderr
    report: dict[str, Any] = json.loads((tmp_path / "report.json").read_text())["report"]
    _as_published({(one["target"], one["measure"]): one["value"] for one in report["findings"]})
    with (tmp_path / "rates.csv").open(encoding="utf-8", newline="") as stream:
        rates = list(csv.DictReader(stream))
    _as_published(
        {
            (f"race = {row['group']}", rate): float(row[rate])
            for row in rates
            for _, rate in PROPUBLICA
        }
    )


def _as_published(found: Any) -> None:
    for (group, rate), percent in PROPUBLICA.items():
        assert round(100 * found[f"race = {group}", rate], 2) == percent
