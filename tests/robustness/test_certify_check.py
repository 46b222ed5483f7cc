"""The certificate check: what it says of a model, and that it stops where two results disagree."""

from dataclasses import replace

import linear
import pytest
import torch
from torch import Tensor

from assaymark.reports.errors import InternalContradiction, PolicyError
from assaymark.reports.model import CheckResult, Gate, Limit, Table
from assaymark.reports.policy_file import parse
from assaymark.robustness import proofs
from assaymark.robustness.certify_check import check_certificate
from assaymark.robustness.images import ImageData
from assaymark.robustness.models import Loaded
from assaymark.robustness.proofs import Claim, sandwich
from assaymark.robustness.smoothing import Smoothing, certify
from assaymark.robustness.types import Norm


def subject(n: int = 24, classes: int = 4) -> tuple[Loaded, ImageData]:
    x, y = linear.points(n, classes)
    model = Loaded(name="linear", module=linear.model(classes), sha256=None, classes=classes)
    return model, ImageData(name="points", images=x, labels=y, classes=None)


def measured(result: CheckResult, measure: str) -> tuple[float | None, int | None]:
    (finding,) = [finding for finding in result.findings if finding.measure == measure]
    return finding.value, finding.n


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("method", ["ibp", "crown-ibp", "crown"])
def test_of_a_linear_model_certificate_and_attack_meet(norm: Norm, method: str) -> None:
    """With two classes both are exact: every point is either certified or fooled."""
    model, data = subject(24, 2)
    distance = linear.distances(data.images, data.labels, norm, 2).amin(1)
    eps = float(distance.sort().values[17:19].mean())
    result = check_certificate(
        "c",
        model,
        data,
        Claim(methods=(method,), norm=norm, eps=eps),  # type: ignore[arg-type]
    )
    assert measured(result, "certified_accuracy") == (float((distance > eps).double().mean()), 24)
    assert measured(result, "clean_accuracy") == (1.0, 24)
    chart, methods, radii = result.findings[0].evidence
    labels = [estimate.label for estimate in chart.estimates]  # type: ignore[union-attr]
    assert len(labels) == 3
    values = [estimate.value for estimate in chart.estimates]  # type: ignore[union-attr]
    assert values[1] == values[2]
    assert isinstance(methods, Table)
    assert isinstance(radii, Table)
    for radius, hits, _ in radii.rows:
        exact = int((distance > float(radius or 0)).sum())
        assert abs(exact - int(hits or 0)) <= 1  # the table rounds radii


@pytest.mark.long
def test_smoothing_certifies_less_than_the_exact_distance_and_widens_its_interval() -> None:
    model, data = subject(24, 2)
    distance = linear.distances(data.images, data.labels, "l2", 2).amin(1)
    eps = float(distance.median()) / 2
    plan = Smoothing(sigma=4 * eps, samples=2000, alpha=0.01)
    claim = Claim(smoothing=plan, norm="l2", eps=eps)
    result = check_certificate("c", model, data, claim, batch_size=64)
    value, _ = measured(result, "certified_accuracy")
    exact = float((distance > eps).double().mean())
    assert value is not None
    assert 0 < value <= exact + 2 / 24
    (finding,) = [f for f in result.findings if f.measure == "certified_accuracy"]
    assert finding.interval is not None
    assert "may be wrong" in finding.interval.method
    assert "0.01" in finding.summary
    again = check_certificate("c", model, data, claim, batch_size=7)
    assert measured(again, "certified_accuracy") == (value, 24)


def test_a_gate_on_a_bound_says_how_many_points_would_decide() -> None:
    model, data = subject(24, 2)
    gate = Gate(metric="certified_accuracy", limit=Limit(minimum=0.9, on="lower"))
    claim = Claim(methods=("crown",), norm="linf", eps=1e-4)
    result = check_certificate("c", model, data, claim, gates=(gate,))
    assert result.findings[0].verdict == "inconclusive"
    assert (result.findings[0].needs_n or 0) > 24


def test_certified_and_fooled_stops_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    certified, robust = torch.tensor([True, True, False]), torch.tensor([True, False, False])
    with pytest.raises(InternalContradiction, match="1 points are certified and yet fooled"):
        sandwich(certified, robust)
    sandwich(certified & robust, robust)
    sandwich(certified[:0], robust[:0])

    def too_good(model: object, x: Tensor, *_: object, **__: object) -> Tensor:
        return torch.ones(len(x), dtype=torch.bool)

    monkeypatch.setattr(proofs, "certified", too_good)
    with pytest.raises(InternalContradiction):
        check_certificate("c", *subject(), Claim(methods=("ibp",), norm="linf", eps=0.2))


def test_smoothing_that_certifies_too_much_stops_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A radius ten times too large is found out by the attack on the smoothed classifier."""

    def boastful(*arguments: object, **options: object) -> tuple[Tensor, Tensor]:
        answers, radii = certify(*arguments, **options)  # type: ignore[arg-type]
        return answers, 10 * radii

    monkeypatch.setattr(proofs, "certify", boastful)
    model, data = subject(24, 2)
    plan = Smoothing(sigma=0.05, samples=500)
    with pytest.raises(InternalContradiction):
        check_certificate("c", model, data, Claim(smoothing=plan, norm="l2", eps=0.12))


POLICY = """
[[check]]
id = "c"
kind = "certificate"
model = "demo:digits"
data = "demo:digits"
method = "crown"
norm = "linf"
eps = "2/255"
gate = { metric = "certified_accuracy", min = 0.2, on = "lower" }
"""


def test_a_policy_may_ask_for_a_certificate() -> None:
    (check,) = parse(POLICY).check
    assert check.kind == "certificate"
    both = POLICY.replace('"crown"', '["ibp", "crown"]')
    assert parse(both).check[0].method == ("ibp", "crown")  # type: ignore[union-attr]
    smooth = POLICY.replace('"crown"', '"smoothing"').replace('"linf"', '"l2"')
    assert parse(smooth + "sigma = 0.25\n").check[0].sigma == 0.25  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"crown"', '"crow"', "crown"),
        ('"linf"', '"l0"', "linf"),
        ('"crown"', '"smoothing"', "needs norm"),
        ('"crown"', '["crown", "smoothing"]', "a check of its own"),
        ('eps = "2/255"', 'eps = "2/255"\nsigma = 0.1', "sigma is a key of"),
        ('eps = "2/255"', "eps = 2", "8-bit units"),
        ("certified_accuracy", "robust_accuracy", "unknown metric"),
    ],
    ids=["method", "norm", "no sigma", "mixed", "idle sigma", "unit", "metric"],
)
def test_a_wrong_certificate_policy_is_refused(old: str, new: str, says: str) -> None:
    with pytest.raises(PolicyError, match=says):
        parse(POLICY.replace(old, new))


def test_a_radius_that_so_many_votes_cannot_certify_is_refused() -> None:
    text = POLICY.replace('"crown"', '"smoothing"').replace('"linf"', '"l2"')
    with pytest.raises(PolicyError, match="beyond 0\\.175"):
        parse(text.replace('"2/255"', "0.5") + "sigma = 0.25\nsamples = 25\nalpha = 0.001\n")


def test_the_claim_s_own_attack_depends_on_the_norm() -> None:
    claim = Claim(methods=("ibp",), norm="l1", eps=1.0)
    assert claim.tried == (("fgsm", {}),)
    assert replace(claim, norm="l2").tried == (("pgd", {}),)
