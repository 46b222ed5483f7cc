"""Suites: as strong as what they replace, at the cost that is written down."""

from functools import partial
from typing import Any

import linear
import pytest
import torch

from assaymark.reports.errors import InputError
from assaymark.robustness import demo, formats
from assaymark.robustness.apgd import apgd_ce, apgd_t
from assaymark.robustness.catalogue import build
from assaymark.robustness.evaluate import evaluate
from assaymark.robustness.shard import Search
from assaymark.robustness.suites import SUITES
from assaymark.robustness.types import Attack, Norm

GRADIENT = ["quick", "standard"]


def digits(name: str = "digits", n: int = 80) -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    model = demo.network()
    formats.fill(model, formats.safetensors(demo.weights(name)), name)
    x, y = demo.digits()
    return model.eval(), x[:n], y[:n]


@pytest.mark.parametrize(
    "norm",
    [
        "linf",
        pytest.param("l2", marks=pytest.mark.long),
        pytest.param("l1", marks=pytest.mark.long),
    ],
)
@pytest.mark.parametrize("name", GRADIENT)
def test_a_suite_finds_the_exact_margin_of_a_linear_model(name: str, norm: Norm) -> None:
    x, y = linear.points(40, classes=4)
    margin = linear.distances(x, y, norm, 4).amin(1)
    eps = float(margin.median())
    network = linear.model(4)
    result = evaluate(network, x, y, SUITES[name].build(norm), eps=eps, norm=norm)
    assert result.robust[margin > 1.02 * eps].all()
    assert not result.robust[margin < 0.98 * eps].any()


@pytest.mark.long
@pytest.mark.parametrize("weights", ["digits"])
def test_standard_leaves_no_more_than_the_attacks_of_autoattack_do(weights: str) -> None:
    model, x, y = digits(weights)
    theirs: dict[str, Attack] = {"apgd-ce": apgd_ce, "apgd-t": partial(apgd_t, steps=50)}
    run = partial(evaluate, model, x, y, eps=0.1, norm="linf")
    ours, reference = run(SUITES["standard"].build("linf")), run(theirs)
    assert int(ours.robust.sum()) <= int(reference.robust.sum())
    assert ours.passes.backward < reference.passes.backward


@pytest.mark.parametrize(
    ("name", "forward", "backward"),
    [("quick", 139, 70), ("standard", 605, 270)],
)
def test_a_point_that_never_falls_costs_what_is_said(
    name: str, forward: int, backward: int
) -> None:
    """Ten classes; with the clean pass and the four confirmations."""
    model, x, y = digits(n=6)
    right = model(x).argmax(1) == y
    x, y = x[right], y[right]
    result = evaluate(model, x, y, SUITES[name].build("linf"), eps=1e-6, norm="linf")
    assert result.robust.all()
    assert result.passes.forward == len(x) * forward
    assert result.passes.backward == len(x) * backward


@pytest.mark.long
def test_autoattack_has_the_budgets_of_its_paper() -> None:
    """1 + 101 + 909 + 1800 + 5001 forward and 100 + 900 + 900 backward passes.

    The order of the targets and the look at each attack's answer are paid for by the images, where
    FAB-T begins towards every class.
    """
    model, x, y = digits(n=3)
    x, y = x[model(x).argmax(1) == y], y[model(x).argmax(1) == y]
    result = evaluate(model, x, y, SUITES["autoattack"].build("linf"), eps=1e-6, norm="linf")
    assert (result.passes.forward, result.passes.backward) == (len(x) * 7812, len(x) * 1900)


@pytest.mark.parametrize("batch_size", [pytest.param(1, marks=pytest.mark.long), 17])
def test_neither_batches_nor_company_change_a_verdict(batch_size: int) -> None:
    model, x, y = digits(n=40)
    run = partial(
        evaluate, model, attacks=SUITES["quick"].build("linf"), eps=0.1, norm="linf", seed=3
    )
    whole = run(images=x, labels=y)
    parts = run(images=x, labels=y, search=Search(batch_size=batch_size))
    some = run(images=x[20:30], labels=y[20:30], indices=list(range(20, 30)))
    assert torch.equal(whole.robust, parts.robust)
    assert torch.equal(whole.robust[20:30], some.robust)


@pytest.mark.long
def test_a_target_is_reached() -> None:
    model, x, y = digits(n=30)
    run = partial(evaluate, model, x, y, eps=0.3, norm="linf", targets=(y + 1) % 10)
    hit = run(SUITES["standard"].build("linf"))
    assert hit.correct.sum() - hit.robust.sum() >= 5
    model, x, y = digits(n=30)
    moved = evaluate(
        model, x, y, SUITES["standard"].build("linf"), eps=0.3, norm="linf",
        targets=(y + 1) % 10, collect=True,
    )  # fmt: skip
    fell = moved.correct & ~moved.robust
    assert moved.adversarial is not None
    assert (model(moved.adversarial[fell]).argmax(1) == (y[fell] + 1) % 10).all()


@pytest.mark.parametrize("name", SUITES)
def test_suites_have_stages_and_no_options(name: str) -> None:
    stages = build([(name, {})], "linf")
    assert len(stages) >= 4
    with pytest.raises(InputError, match="has no option"):
        build([(name, {"steps": 3})], "linf")
    assert list(build([(name, {})], "l1", gradient=False)) == ["square"]
    assert list(build([(name, {})], "l0", gradient=False)) == ["sparse-rs"]


def test_autoattack_has_no_l0_form() -> None:
    with pytest.raises(InputError, match="autoattack has no l0 form: take quick, standard"):
        build([("autoattack", {})], "l0")


@pytest.mark.parametrize(
    "name",
    [
        "quick",
        pytest.param("standard", marks=pytest.mark.long),
        pytest.param("exhaustive", marks=pytest.mark.long),
    ],
)
def test_a_suite_in_l0_fells_what_can_fall_and_nothing_else(name: str) -> None:
    """The fewest values that must change are known from a solver."""
    x, y = linear.wide_points(6)
    fewest = linear.to_each_class(x, y, "l0", linear.CLASSES).amin(1)
    eps = float(fewest.median())
    stages = SUITES[name].stages("l0")
    result = evaluate(linear.model(), x, y, stages, eps=eps, norm="l0")
    assert 0 < int((fewest > eps).sum()) < 6
    assert result.robust[fewest > eps].all()
    # none misses a point by a value but quick, which makes a tenth of the steps
    spare = 1.0 if name == "quick" else 0.0
    assert not result.robust[fewest <= eps - spare].any()


@pytest.mark.parametrize("name", ["quick", pytest.param("standard", marks=pytest.mark.long)])
def test_a_suite_in_l0_leaves_no_point_that_one_of_its_attacks_fells(name: str) -> None:
    model, x, y = digits("digits-hardened", n=12)
    run = partial(evaluate, model, x, y, eps=2.0, norm="l0")
    stages = SUITES[name].stages("l0")
    together = run(stages)
    for label, attack in stages.items():
        assert not (together.robust & ~run({label: attack}).robust).any(), label
    assert together.robust.any()
    assert not together.robust.all()


def test_two_classes_are_enough() -> None:
    x, y = linear.points(20, classes=2)
    margin = linear.distances(x, y, "linf", 2).amin(1)
    eps = float(margin.median())
    result = evaluate(linear.model(2), x, y, SUITES["standard"].build("linf"), eps=eps, norm="linf")
    assert torch.equal(result.robust, margin > eps)


@pytest.mark.long
def test_bfloat16_searches_and_float32_decides() -> None:
    model, x, y = digits(n=60)
    run = partial(evaluate, model, x, y, eps=0.1, norm="linf")
    full = run(SUITES["quick"].build("linf"))
    half = run(SUITES["quick"].build("linf"), search=Search(precision=torch.bfloat16))
    assert abs(int(full.robust.sum()) - int(half.robust.sum())) <= 1
    saved: Any = run(
        SUITES["quick"].build("linf"), search=Search(precision=torch.bfloat16), collect=True
    )
    fell = saved.correct & ~saved.robust
    assert (model(saved.adversarial[fell]).argmax(1) != y[fell]).all()
