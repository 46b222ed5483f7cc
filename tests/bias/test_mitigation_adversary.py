"""Adversarial debiasing and resampling: planted bias shrinks, the file is the fit, and how each can fail."""

import subprocess
import sys
import warnings
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy
import pandas
import pytest
import torch
from whatif_rows import adult, rows

from assaymark.bias import adversarial, mitigation_adversary, mitigation_fits
from assaymark.bias.encoders import matrix
from assaymark.bias.mitigated import load
from assaymark.bias.mitigation_adversary import debiased, with_ones
from assaymark.bias.mitigation_apply import apply
from assaymark.bias.mitigation_fits import resampled
from assaymark.bias.mitigations import MITIGATIONS
from assaymark.bias.rules import Linear
from assaymark.bias.samples import halves, sample_of
from assaymark.bias.whatif import BASE, fitted_by, what_if
from assaymark.reports.errors import InputError

ADVERSARIES = [name for name in MITIGATIONS if name.startswith("adversarial")]


@cache
def planted(n: int = 1600) -> Any:
    """Merit is spread alike; group b is labelled harder, and a proxy tells the groups apart."""
    rng = numpy.random.default_rng(3)
    merit, b = rng.normal(size=n), rng.random(n) < 0.4
    label = merit + rng.normal(size=n) > numpy.where(b, 1.2, -0.8)
    features = pandas.DataFrame({"merit": merit, "proxy": b + rng.normal(scale=0.4, size=n)})
    return rows(label, numpy.where(b, "b", "a"), score=merit), features


@pytest.mark.parametrize("constraint", ["demographic_parity", "equalized_odds"])
def test_a_planted_gap_shrinks(constraint: str) -> None:
    methods = ["adversarial-1", "adversarial-10", "resampling"]
    found = what_if(*planted(), attribute="group", methods=methods, constraint=constraint)
    gap = {each.name: each.measures[found.gap].value or 1.0 for each in found.tried}
    right = {each.name: each.measures["accuracy"].value or 0.0 for each in found.tried}
    assert gap[BASE] > 0.2
    assert gap["resampling"] < gap[BASE] - 0.1
    assert gap["adversarial-10"] < gap[BASE] / 2
    assert gap["adversarial-1"] < gap[BASE] - 0.1
    majority = max(planted()[0].label.mean(), 1 - planted()[0].label.mean())
    assert majority + 0.1 < right["adversarial-10"] < right[BASE]
    assert {each.doubt for each in found.tried} == {None}


def test_the_file_decides_as_fairlearns_object(tmp_path: Path, shared: Path) -> None:
    constraint = "equalized_odds"
    data, features = adult(shared, 2000)
    path = tmp_path / "x.mitigated.json"
    apply("adversarial-3", data, features, attribute="sex", path=path, constraint=constraint)
    ours, _ = sample_of(data, features, attribute="sex")
    fitting = ours.take(halves(ours, 0)[0])
    start = mitigation_fits.base_estimator(fitting, constraint).rule
    assert isinstance(start, Linear)
    first, x = start.members[0], matrix(start.encoders, features)
    found = debiased(
        matrix(start.encoders, fitting.features if fitting.features is not None else features),
        fitting.label,
        fitting.group.codes,
        (numpy.array(first.coefficients), first.intercept),
        constraint=constraint,
        alpha=3.0,
    )
    clear = abs(x @ found.coefficients + found.intercept) > 1e-5  # fairlearn adds in 32 bits
    assert clear.mean() > 0.999
    written = load(path)
    assert written.rule.kind == "linear"
    assert (written.predict(features) == found.classifier.predict(with_ones(x)))[clear].all()
    assert (
        written.predict(features).mean()
        != mitigation_fits.base_estimator(fitting, constraint).rule.chances(features).mean()
    )


def test_same_rows_same_model_and_nothing_global_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mitigation_adversary, "EPOCHS", 10)
    ours, _ = sample_of(*planted(), attribute="group")
    torch.manual_seed(7)
    numpy.random.seed(7)
    state, legacy = torch.get_rng_state(), str(numpy.random.get_state())
    threads = torch.get_num_threads()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one, other = (
            fitted_by(MITIGATIONS["adversarial-1"], ours, "equalized_odds") for _ in range(2)
        )
    assert one == other
    assert torch.equal(state, torch.get_rng_state())
    assert legacy == str(numpy.random.get_state())
    assert torch.get_num_threads() == threads


def test_three_groups_and_weights() -> None:
    data, features = planted()
    third = numpy.where(numpy.arange(data.n) % 5 == 0, "c", numpy.array(["a", "b"])[
        data.groups["group"].codes
    ])  # fmt: skip
    three = rows(data.label, third, weight=numpy.full(data.n, 2.0))
    found = what_if(three, features, attribute="group", methods=["adversarial-10", "resampling"])
    base, against, _ = found.tried[1:]
    assert (against.measures[found.gap].value or 1) < (base.measures[found.gap].value or 0) / 2
    assert "without the weights" in against.note


@pytest.mark.parametrize("method", ADVERSARIES)
def test_equal_opportunity_is_not_offered(method: str) -> None:
    found = what_if(*planted(), attribute="group", methods=[method], constraint="equal_opportunity")
    assert "not equal_opportunity" in found.tried[-1].why
    assert {one.value for one in found.tried[-1].measures.values()} == {None}
    assert not found.tried[-1].front


def test_a_decision_that_is_the_same_for_all_is_not_fair() -> None:
    """Of a 19 of 20 are positive, of b 8 of 20; the only feature is the group."""
    group = numpy.repeat(["a", "b"], [600, 200])
    features = pandas.DataFrame({"b": group == "b"}).astype(int)
    place = numpy.arange(800) % 20
    data = rows(place < numpy.where(group == "a", 19, 8), group)
    ours, _ = sample_of(data, features, attribute="group")
    base = mitigation_fits.base_estimator(ours, "demographic_parity").rule.chances(features)
    assert base.tolist() == (group == "a").tolist()
    with pytest.raises(InputError, match="the same for everybody"):
        adversarial.adversarial(ours, "demographic_parity", alpha=10.0)


@pytest.mark.parametrize(
    ("positive", "moved", "words"),
    [(0.5, 0.06, "did not settle: 6%"), (0.995, 0.0, "all but 0.5%"), (0.004, 0.0, "all but 0.4%")],
)
def test_doubts(positive: float, moved: float, words: str) -> None:
    assert words in (adversarial._doubt(positive, moved) or "")
    assert adversarial._doubt(0.5, 0.04) is None
    for constant in (0.0, 1.0):
        with pytest.raises(InputError, match="same for everybody"):
            adversarial._doubt(constant, 0.0)


@pytest.mark.parametrize("rate", [1e38, float("nan")])
def test_a_training_that_diverges_is_no_model(monkeypatch: pytest.MonkeyPatch, rate: float) -> None:
    monkeypatch.setattr(mitigation_adversary, "RATE", rate)
    found = what_if(*planted(), attribute="group", methods=["adversarial-1"])
    assert "did not stay finite" in found.tried[-1].why
    assert {one.value for one in found.tried[-1].measures.values()} == {None}


def test_one_group_or_label_is_not_fitted() -> None:
    data, features = planted()
    alike = replace(data, groups={"group": rows(data.label, ["a"] * data.n).groups["group"]})
    for method in ("resampling", "adversarial-1"):
        found = what_if(alike, features, attribute="group", methods=[method])
        assert "has 1 group" in found.tried[-1].why
        everyone = replace(data, label=numpy.ones(data.n, dtype=bool))
        found = what_if(everyone, features, attribute="group", methods=[method])
        assert found.tried[-1].why


def test_resampling_by_hand() -> None:
    """4 of 5 men and 2 of 5 women were hired: by the weights 3, 2, 3 and 2 rows are wanted."""
    ours, _ = sample_of(
        rows([1, 1, 1, 1, 0, 1, 1, 0, 0, 0], list("mmmmmfffff")), None, attribute="group"
    )
    score = numpy.array([0.9, 0.6, 0.8, 0.7, 0.4, 0.6, 0.7, 0.1, 0.3, 0.2])
    # the man hired with the lowest score goes, and the woman not hired with the highest
    assert resampled(ours, score).tolist() == [1, 0, 1, 1, 2, 2, 1, 1, 0, 1]


def test_only_a_fit_imports_torch() -> None:
    code = "import sys, assaymark.bias.mitigation_check; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
