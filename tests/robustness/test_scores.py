"""Attacks by scores against the exact distances of a linear model, and their budgets to the query."""

from functools import partial
from typing import Any

import linear
import pytest
import torch
from torch import Tensor, nn

from assaymark.robustness.attacks import ATTACKS
from assaymark.robustness.balls import BALLS, within
from assaymark.robustness.catalogue import find
from assaymark.robustness.gradient_estimates import affordable, nes, spsa
from assaymark.robustness.losses import fooled
from assaymark.robustness.oracle import Oracle
from assaymark.robustness.simba import simba
from assaymark.robustness.sparse_search import sparse_rs
from assaymark.robustness.square import square
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Attack, Norm

# Name, norm, options, and how many times the exact distance suffices for certain.
CASES: list[tuple[str, Norm, dict[str, Any], float]] = [
    ("square", "linf", {"queries": 200}, 1.1),
    ("square", "l2", {"queries": 300}, 1.4),
    ("square", "l1", {"queries": 300}, 1.2),
    ("nes", "linf", {"queries": 300, "samples": 16}, 1.4),
    ("nes", "l2", {"queries": 300, "samples": 16}, 1.2),
    ("spsa", "linf", {"queries": 300, "samples": 16, "learning_rate": 0.05}, 1.1),
    ("spsa", "l2", {"queries": 300, "samples": 16, "learning_rate": 0.01}, 1.3),
    ("simba", "linf", {"queries": 100}, 1.1),
    ("simba", "l2", {"queries": 300}, 1.3),
    ("simba", "linf", {"queries": 300, "basis": "dct", "frequencies": 1.0}, 1.3),
    ("simba", "l2", {"queries": 300, "basis": "dct", "frequencies": 1.0}, 1.3),
]
IDS = [f"{name}-{norm}{'-dct' if 'basis' in options else ''}" for name, norm, options, _ in CASES]
ALL: list[tuple[str, Norm]] = [
    (name, norm)
    for name, card in ATTACKS.items()
    if name in ("square", "sparse-rs", "nes", "spsa", "simba")
    for norm in card.norms
]
QUERIES = 80
ENOUGH: dict[Norm, float] = {"linf": 0.1, "l2": 0.4, "l1": 1.5, "l0": 3.0}


def exact(x: Tensor, y: Tensor, norm: Norm, classes: int = linear.CLASSES) -> Tensor:
    """Distance to every other class; of L1, whose dual counts the largest weight, computed here."""
    if norm != "l1":
        return linear.distances(x, y, norm, classes)
    layer = linear.model(classes)[1]  # type: ignore[index]
    weights = layer.weight.detach()
    logits = layer(x.flatten(1)).detach()
    gap = logits.gather(1, y[:, None]) - logits
    steepest = (weights[None] - weights[y][:, None]).abs().amax(2)
    result: Tensor = gap / steepest.clamp_min(1e-12)
    result[torch.arange(len(y)), y] = torch.inf
    return result


def bumpy(x: Tensor) -> Tensor:
    """A model with folds; its answers are rounded, so that they do not depend on the batch at all."""
    generator = torch.Generator().manual_seed(4)
    first = 6 * torch.randn(x[0].numel(), 32, generator=generator, dtype=torch.float64)
    second = torch.randn(32, 5, generator=generator, dtype=torch.float64)
    return (torch.tanh((x.double() - 0.5).flatten(1) @ first) @ second).mul(1e5).round().float()


class Steadfast(nn.Module):
    """Answers class 0 whatever it sees, by a margin that wanders."""

    def forward(self, x: Tensor) -> Tensor:
        wander = torch.sin(50 * x.flatten(1)).mean(1)
        return torch.stack([10 + wander, torch.zeros_like(wander)], 1)


@pytest.mark.parametrize(("name", "norm", "options", "factor"), CASES, ids=IDS)
@pytest.mark.parametrize("classes", [2, 4])
def test_falls_beyond_the_exact_distance_and_never_before(
    name: str, norm: Norm, options: dict[str, Any], factor: float, classes: int
) -> None:
    x, y = linear.points(40, classes)
    distance = exact(x, y, norm, classes).amin(1)
    eps = float(distance.median())
    network = linear.model(classes)
    run = find(name, options, norm)
    moved = run(network, x, y, eps=eps, norm=norm, targeted=False, streams=None)
    fell = fooled(network(moved), y, targeted=False)
    assert within(x, moved, eps, BALLS[norm]).all()
    assert not fell[distance * 0.95 > eps].any()
    assert fell[distance * factor < eps].all()
    assert (distance * 0.95 > eps).sum() >= 15
    assert (distance * factor < eps).sum() >= 10


@pytest.mark.parametrize(("name", "norm", "options", "factor"), CASES, ids=IDS)
def test_a_target_is_reached_beyond_its_exact_distance(
    name: str, norm: Norm, options: dict[str, Any], factor: float
) -> None:
    x, y = linear.points(40)
    reach, target = exact(x, y, norm).min(1)
    eps = float(reach.median())
    network = linear.model()
    run = find(name, options, norm)
    moved = run(network, x, target, eps=eps, norm=norm, targeted=True, streams=None)
    hit = fooled(network(moved), target, targeted=True)
    assert not hit[reach * 0.95 > eps].any()
    # another class may lie on the way, so a little more than the distance
    assert hit[reach * (factor + 0.3) < eps].float().mean() > 0.9


def fewest_values(x: Tensor, y: Tensor) -> Tensor:
    """How many values must change, within [0, 1], for the linear model to answer another class."""
    layer = linear.model()[1]  # type: ignore[index]
    weights, flat = layer.weight.detach(), x.flatten(1)
    logits = layer(flat).detach()
    counts = []
    for other in range(linear.CLASSES):
        slope = weights[other] - weights[y]
        gain = torch.where(slope > 0, slope * (1 - flat), -slope * flat)
        best = gain.sort(1, descending=True).values.cumsum(1)
        gap = logits.gather(1, y[:, None]) - logits[:, other : other + 1]
        count = (best <= gap).sum(1) + 1
        counts.append(torch.where(y == other, 99, count))
    return torch.stack(counts).amin(0)


def test_sparse_rs_finds_the_fewest_values_and_never_fewer() -> None:
    generator = torch.Generator().manual_seed(5)
    # from undecided points to ones far inside their class
    towards = linear.model()[1].weight.detach().sign().repeat(15, 1)  # type: ignore[index]
    depth = 0.4 * torch.arange(60)[:, None] / 60
    x = (0.5 + depth * towards + 0.1 * torch.rand(60, 18, generator=generator)).view(
        60, *linear.SHAPE
    )
    network = linear.model()
    y = network(x).argmax(1)
    fewest = fewest_values(x, y)
    for count in (1, 2):
        moved = sparse_rs(network, x, y, eps=float(count), queries=400)
        fell = fooled(network(moved), y, targeted=False)
        assert ((moved != x).flatten(1).sum(1) <= count).all()
        assert torch.equal(fell, fewest <= count)
        assert fell.any()
        assert not fell.all()


def test_sparse_rs_counts_pixels_when_asked() -> None:
    x = torch.rand(9, 3, 5, 4, generator=torch.Generator().manual_seed(6))
    y = torch.zeros(9, dtype=torch.long)
    moved = sparse_rs(Steadfast(), x, y, eps=7.0, pixels=True, queries=20)
    assert ((moved != x).any(1).flatten(1).sum(1) == 2).all()
    assert ((moved == x) | (moved == 0) | (moved == 1)).all()
    with pytest.raises(ValueError, match="allow no pixel of 3 channels"):
        sparse_rs(Steadfast(), x, y, eps=2.0, pixels=True)


@pytest.mark.parametrize(
    ("attack", "norm", "expected"),
    [
        (partial(square, queries=37, restarts=2), "linf", 74),
        (partial(square, queries=23), "l2", 23),
        (partial(square, queries=23), "l1", 23),
        (partial(square, queries=1), "linf", 1),
        (partial(sparse_rs, queries=41, restarts=3), "l0", 123),
        (partial(sparse_rs, queries=41, pixels=True), "l0", 41),
        (partial(simba, queries=29), "l2", 29),
        (partial(simba, queries=29, basis="dct"), "linf", 29),
        (partial(nes, queries=60, samples=10), "linf", 60),
        (partial(spsa, queries=65, samples=4), "linf", 65),
        (partial(nes, queries=102, samples=50), "l2", 102),
        (partial(nes, queries=40, samples=50), "linf", 39),
        (partial(spsa, queries=3), "l2", 3),
    ],
)
def test_a_point_that_never_falls_costs_what_the_attack_says(
    attack: Attack, norm: Norm, expected: int
) -> None:
    oracle = Oracle(Steadfast(), batch_size=4)
    x, y = torch.rand(7, 3, 6, 5), torch.zeros(7, dtype=torch.long)
    moved = attack(oracle, x, y, eps=ENOUGH[norm], norm=norm, targeted=False, streams=None)
    assert (oracle.passes.forward, oracle.passes.backward) == (7 * expected, 0)
    assert within(x, moved, ENOUGH[norm], BALLS[norm]).all()


@pytest.mark.parametrize("samples", [2, 6, 50])
def test_the_affordable_passes_are_at_most_two_fewer(samples: int) -> None:
    for queries in range(3, 200):
        assert queries - 2 <= affordable(queries, samples) <= queries


@pytest.mark.parametrize(("name", "norm"), ALL)
def test_points_leave_as_they_fall(name: str, norm: Norm) -> None:
    """The whole run costs what its points cost alone, and those that fall cost less than the budget."""
    x = torch.rand(6, 1, 4, 5, generator=torch.Generator().manual_seed(7))
    y = bumpy(x).argmax(1)
    streams = Streams.of(0, "leave", list(range(6)))
    samples = 8 if name in ("nes", "spsa") else 0
    options = {"queries": QUERIES} | ({"samples": samples} if samples else {})
    run = partial(find(name, options, norm), eps=ENOUGH[norm], norm=norm, targeted=False)
    together = Oracle(bumpy)
    moved = run(together, x, y, streams=streams)
    alone = []
    for i in range(6):
        one = Oracle(bumpy)
        chosen = torch.tensor([i])
        single = run(one, x[i : i + 1], y[i : i + 1], streams=streams.select(chosen))
        assert torch.equal(single, moved[i : i + 1])
        alone.append(one.passes.forward)
    assert together.passes.forward == sum(alone)
    fell = fooled(bumpy(moved), y, targeted=False)
    assert fell.any()
    full = affordable(QUERIES, samples) if samples else QUERIES
    assert min(alone) < full
    assert all(cost == full for cost, down in zip(alone, fell.tolist(), strict=True) if not down)


@pytest.mark.parametrize(("name", "norm"), ALL)
def test_neither_batch_nor_order_changes_an_answer(name: str, norm: Norm) -> None:
    x = torch.rand(20, 2, 4, 4, generator=torch.Generator().manual_seed(8))
    y = bumpy(x).argmax(1)
    streams = Streams.of(0, "batch", list(range(20)))
    eps = ENOUGH[norm] / 2 if norm != "l0" else 2.0
    run = partial(find(name, {"queries": 63}, norm), eps=eps, norm=norm, targeted=False)
    whole = run(Oracle(bumpy), x, y, streams=streams)
    assert torch.equal(run(Oracle(bumpy, batch_size=1), x, y, streams=streams), whole)
    assert torch.equal(run(Oracle(bumpy, batch_size=17), x, y, streams=streams), whole)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(9))[:17]
    mixed = run(Oracle(bumpy), x[order], y[order], streams=streams.select(order))
    assert torch.equal(mixed, whole[order])
    lasting = x.contiguous(memory_format=torch.channels_last)
    assert torch.equal(run(Oracle(bumpy), lasting, y, streams=streams), whole)


@pytest.mark.parametrize(
    "shape", [(1, 2, 2), (3, 2, 2), (1, 3, 11), (3, 9, 2), (1, 1, 1), (4, 5, 5)]
)
@pytest.mark.parametrize(("name", "norm"), ALL)
def test_every_shape_of_image(name: str, norm: Norm, shape: tuple[int, int, int]) -> None:
    x = torch.rand(3, *shape, generator=torch.Generator().manual_seed(10))
    x[0], x[1] = 0, 1
    y = torch.zeros(3, dtype=torch.long)
    run = partial(find(name, {"queries": 15}, norm), norm=norm, targeted=False, streams=None)
    moved = run(Steadfast(), x, y, eps=ENOUGH[norm])
    assert moved.shape == x.shape
    assert within(x, moved, ENOUGH[norm], BALLS[norm]).all()
    assert not torch.equal(moved, x)
    assert torch.equal(run(Steadfast(), x, y, eps=0.0), x)


def test_square_reaches_the_last_row_and_column() -> None:
    """Only the corner pixel counts: a window of one pixel must come to lie on it."""

    def corner(x: Tensor) -> Tensor:
        return torch.stack([torch.ones(len(x)), x[:, 0, -1, -1]], 1)

    x, y = torch.full((16, 1, 4, 4), 0.5), torch.zeros(16, dtype=torch.long)
    moved = square(corner, x, y, eps=0.1, p_init=0.05, queries=200)
    assert torch.equal(moved[:, 0, -1, -1], torch.full((16,), 0.6))


def test_square_draws_places_and_signs_for_each_image() -> None:
    def brightness(x: Tensor) -> Tensor:
        return torch.stack([torch.ones(len(x)), x.flatten(1).mean(1)], 1)

    x, y = torch.full((16, 3, 8, 8), 0.5), torch.zeros(16, dtype=torch.long)
    moved = square(brightness, x, y, eps=0.1, queries=6)
    assert len(moved.flatten(1).unique(dim=0)) == 16


def test_square_wastes_no_query_on_a_window_that_is_set_already() -> None:
    """With one pixel of one channel, the second query must try the other sign."""

    def brightness(x: Tensor) -> Tensor:
        return torch.stack([torch.full((len(x),), 0.55), x[:, 0, 0, 0]], 1)

    x, y = torch.full((32, 1, 1, 1), 0.5), torch.zeros(32, dtype=torch.long)
    moved = square(brightness, x, y, eps=0.1, queries=2)
    assert torch.equal(moved, torch.full_like(x, 0.6))


@pytest.mark.parametrize(
    ("attack", "options", "message"),
    [
        (square, {"queries": 0}, "at least 1"),
        (square, {"p_init": 0.0}, r"p_init must lie in \(0, 1\]"),
        (square, {"norm": "l0"}, "use sparse-rs"),
        (sparse_rs, {"norm": "l2"}, "use square"),
        (sparse_rs, {"alpha_init": 2.0}, "alpha_init"),
        (nes, {"samples": 3}, "even number"),
        (nes, {"sigma": 0.0}, "above 0"),
        (spsa, {"queries": 2}, "at least 3"),
        (simba, {"frequencies": 0.0}, "frequencies"),
    ],
)
def test_options_that_make_no_sense(attack: Attack, options: dict[str, Any], message: str) -> None:
    x, y = linear.points(2)
    with pytest.raises(ValueError, match=message):
        attack(linear.model(), x, y, eps=1.0, **options)
