"""Auto-PGD against closed forms and the numbers its paper states."""

from functools import partial

import linear
import pytest
import torch

from assaymark.robustness.apgd import apgd_t, checkpoints
from assaymark.robustness.attacks import ATTACKS
from assaymark.robustness.balls import BALLS, within
from assaymark.robustness.losses import fooled
from assaymark.robustness.oracle import Oracle
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Norm

FAMILY = ["apgd-ce", "apgd-dlr", "apgd-t"]


def test_checkpoints_are_those_of_the_paper() -> None:
    assert list(checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert sum(checkpoints(100).values()) == 99


CASES = [
    pytest.param(
        name,
        norm,
        classes,
        marks=[pytest.mark.long] if (name, classes) == ("apgd-t", 4) and norm != "linf" else [],
    )
    for name in FAMILY
    for norm in ("linf", "l2", "l1")
    for classes in (2, 4)
]
"""The slowest run with make long."""


@pytest.mark.parametrize(("name", "norm", "classes"), CASES)
def test_falls_just_beyond_the_margin_and_not_before(name: str, norm: Norm, classes: int) -> None:
    """The targeted form goes to every class, so it finds the nearest; a walk on one loss may not."""
    x, y = linear.points(classes=classes)
    network, margin = linear.model(classes), linear.distances(x, y, norm, classes).amin(1)
    tried = 0
    for i in range(0, len(x), 14):
        one = slice(i, i + 1)
        for factor, expected in ((1.05, True), (0.95, False)):
            eps = float(margin[i]) * factor
            if eps > 0.4:
                continue  # the pixel range would bind
            moved = ATTACKS[name].run(
                network, x[one], y[one], eps=eps, norm=norm, targeted=False, streams=None
            )
            assert within(x[one], moved, eps, BALLS[norm]).all()
            fell = bool(fooled(network(moved), y[one], targeted=False))
            assert fell is expected or (expected and classes > 2 and name != "apgd-t")
            tried += 1
    assert tried >= 3


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("name", ["apgd-ce", "apgd-dlr"])
def test_the_target_is_reached_at_its_exact_distance(name: str, norm: Norm) -> None:
    x, y = linear.points(classes=2)
    network, exact = linear.model(2), linear.distances(x, y, norm, 2).amin(1)
    for factor, expected in ((1.05, True), (0.95, False)):
        for i in range(0, len(x), 8):
            if float(exact[i]) > 0.38:
                continue
            one = slice(i, i + 1)
            moved = ATTACKS[name].run(
                network, x[one], 1 - y[one], eps=factor * float(exact[i]), norm=norm,
                targeted=True, streams=None,
            )  # fmt: skip
            assert bool((network(moved).argmax(1) == 1 - y[one]).item()) is expected


@pytest.mark.parametrize(
    ("name", "forward", "backward"),
    [("apgd-ce", 101, 100), ("apgd-dlr", 101, 100), ("apgd-t", 3 * 101 + 1, 300)],
)
def test_a_point_that_never_falls_costs_what_is_said(
    name: str, forward: int, backward: int
) -> None:
    x, y = linear.points(5)
    oracle = Oracle(linear.model(), batch_size=2)
    ATTACKS[name].run(oracle, x, y, eps=1e-4, norm="linf", targeted=False, streams=None)
    assert oracle.passes.forward == 5 * forward
    assert oracle.passes.backward == 5 * backward


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("batch_size", [1, 7])
def test_the_batch_size_changes_nothing(norm: Norm, batch_size: int) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(18, 40), torch.nn.Tanh(), torch.nn.Linear(40, 4)
    ).double()
    x = torch.rand(20, *linear.SHAPE).double()
    y = network(x).argmax(1)
    streams = Streams.of(0, "batches", list(range(20)))
    run = partial(apgd_t, eps={"linf": 0.05, "l2": 0.2, "l1": 0.8}[norm], norm=norm, steps=12)

    def cast(images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = network(images.double())
        return logits

    whole = run(Oracle(cast), x.float(), y, streams=streams)
    parts = run(Oracle(cast, batch_size=batch_size), x.float(), y, streams=streams)
    assert torch.allclose(whole, parts, atol=1e-6)
    alone = run(Oracle(cast), x[5:6].float(), y[5:6], streams=streams.select(torch.tensor([5])))
    assert torch.allclose(whole[5:6], alone, atol=1e-6)
