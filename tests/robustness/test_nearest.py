"""Attacks that look for the nearest adversarial example, against solvers and against a peer."""

import math
from functools import cache
from pathlib import Path
from typing import Any

import linear
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from assaymark.robustness.attacks import ATTACKS
from assaymark.robustness.balls import BALLS, within
from assaymark.robustness.catalogue import find
from assaymark.robustness.hyperplanes import to_hyperplane
from assaymark.robustness.losses import fooled
from assaymark.robustness.oracle import Oracle
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Norm

# What shortens the test, or suits distances as large as here.
OPTIONS: dict[str, dict[str, Any]] = {
    "carlini-wagner": {"steps": 150, "rounds": 7, "learning_rate": 0.05, "first_weight": 0.1},
    "ead": {"steps": 200, "beta": 0.1, "first_weight": 0.1},
    "sigma-zero": {"steps": 150},
    "jsma": {"share": 1.0},
}
NEAREST = [
    (name, norm)
    for name, card in ATTACKS.items()
    if card.goal == "nearest"
    for norm in card.norms
    if name in (
        "fab", "fab-t", "deepfool", "ddn", "fmn", "carlini-wagner", "ead", "sigma-zero", "jsma"
    )
]  # fmt: skip
WITH_RADIUS = [
    pytest.param(name, norm, marks=pytest.mark.long if name in ("carlini-wagner", "ead") else ())
    for name, norm in NEAREST
]
"""The two that take many steps run with make long."""
SEARCH_ALL_CLASSES = ("fab", "fab-t", "deepfool")


def run(name: str, norm: Norm, network: Any, x: Tensor, goal: Tensor, **more: Any) -> Tensor:
    arguments = {"eps": math.inf, "targeted": False, "streams": None} | OPTIONS.get(name, {}) | more
    return ATTACKS[name].run(network, x, goal, norm=norm, **arguments)


@cache
def truth(norm: Norm, classes: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Points, their classes, the exact distance to every class, and the nearest class."""
    x, y = linear.wide_points(8, classes)
    each = linear.to_each_class(x, y, norm, classes)
    return x, y, each, each.argmin(1)


def near_enough(distance: Tensor, exact: Tensor, norm: Norm) -> bool:
    allowed = torch.maximum(exact + 1, 1.05 * exact) if norm == "l0" else 1.05 * exact
    # the solvers and float32 are exact to a thousandth
    return bool((distance >= exact * 0.999).all() and (distance <= allowed).all())


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize(("name", "norm"), NEAREST)
def test_untargeted_finds_the_exact_distance(name: str, norm: Norm, classes: int) -> None:
    """Those that climb towards the likeliest class are held to the class in which they end."""
    x, y, each, _ = truth(norm, classes)
    network = linear.model(classes)
    moved = run(name, norm, network, x, y)
    end = network(moved).argmax(1)
    assert (end != y).all()
    assert within(x, moved, math.inf, BALLS[norm], 0.0).all()
    reached = each.gather(1, end[:, None]).squeeze(1)
    exact = each.amin(1) if name in SEARCH_ALL_CLASSES else reached
    assert near_enough(BALLS[norm].distance((moved - x).double()), exact, norm)


@pytest.mark.parametrize("classes", [2, pytest.param(4, marks=pytest.mark.long)])
@pytest.mark.parametrize(
    ("name", "norm"), [(name, norm) for name, norm in NEAREST if ATTACKS[name].targeted]
)
def test_targeted_finds_the_exact_distance(name: str, norm: Norm, classes: int) -> None:
    x, _, each, target = truth(norm, classes)
    network = linear.model(classes)
    moved = run(name, norm, network, x, target, targeted=True)
    assert (network(moved).argmax(1) == target).all()
    assert within(x, moved, math.inf, BALLS[norm], 0.0).all()
    assert near_enough(BALLS[norm].distance((moved - x).double()), each.amin(1), norm)


@pytest.mark.parametrize(("name", "norm"), WITH_RADIUS)
def test_a_radius_is_met_just_beyond_the_distance_and_not_before(name: str, norm: Norm) -> None:
    x, y, each, _ = truth(norm, 2)
    network = linear.model(2)
    for i in (0, 3):
        one, exact = slice(i, i + 1), float(each[i].min())
        near, far = (exact - 1, exact + 1) if norm == "l0" else (0.95 * exact, 1.05 * exact)
        for eps, expected in ((far, True), (near, False)):
            moved = run(name, norm, network, x[one], y[one], eps=eps)
            assert within(x[one], moved, eps, BALLS[norm]).all()
            assert bool(fooled(network(moved), y[one], targeted=False)) is expected


class Bent(nn.Module):
    """One class against another along a cubic of the mean: the boundary lies at a mean of 0.6."""

    def forward(self, x: Tensor) -> Tensor:
        lead = (x.flatten(1).mean(1) - 0.6) * 4
        lead = lead + lead**3
        return torch.stack([-lead, lead], 1)


@pytest.mark.parametrize("name", ["fab", "fab-t"])
@pytest.mark.parametrize(("norm", "exact"), [("linf", 0.3), ("l2", 0.3 * 18**0.5)])
def test_fab_draws_back_to_the_boundary(name: str, norm: Norm, exact: float) -> None:
    """After eight steps with a great overshoot; each step back costs a forward pass."""
    x, y = torch.full((5, 2, 3, 3), 0.3), torch.zeros(5, dtype=torch.long)
    lengths, spent = [], []
    for final in (0, 1, 3, 6):
        oracle = Oracle(Bent())
        moved = run(name, norm, oracle, x, y, steps=8, eta=1.2, final=final)
        lengths.append(float(BALLS[norm].distance(moved - x).amax()))
        spent.append(oracle.passes.forward)
        assert (Bent()(moved).argmax(1) == 1).all()
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] > 1.02 * exact
    assert exact * 0.9999 <= lengths[3] < 1.005 * exact
    assert [passes - spent[0] for passes in spent] == [0, 5 * 2, 5 * 4, 5 * 7]


@pytest.mark.parametrize(("name", "norm"), WITH_RADIUS)
def test_a_radius_saves_passes_and_a_fooled_point_costs_one(name: str, norm: Norm) -> None:
    x, y, each, _ = truth(norm, 4)
    spent = []
    for eps in (math.inf, 3 * float(each.amin(1).max())):
        oracle = Oracle(linear.model())
        run(name, norm, oracle, x, y, eps=eps)
        spent.append(oracle.passes.forward)
    if name not in ("deepfool", "jsma"):  # these end where they first fool
        assert spent[1] < spent[0]
    oracle = Oracle(linear.model())
    wrong = (y + 1) % 4
    assert torch.equal(run(name, norm, oracle, x, wrong), x)
    assert oracle.passes.forward == len(x)


@pytest.mark.parametrize(("name", "norm"), NEAREST)
def test_batch_size_and_company_change_nothing(name: str, norm: Norm) -> None:
    x, y = linear.wide_points(18)
    network = linear.model().double()  # sums of other orders differ less than what is asked for
    x = x.double()
    streams = Streams.of(0, "batches", list(range(18)))
    options = {"jsma": {}, "fab": {"restarts": 2, "steps": 5}}.get(name, {"steps": 20})
    whole = [
        run(name, norm, Oracle(network, batch_size=size), x, y, streams=streams, **options)
        for size in (1, 17)
    ]
    assert torch.allclose(whole[0], whole[1], atol=1e-6)
    part = torch.tensor([4, 11])
    some = run(name, norm, network, x[part], y[part], streams=streams.select(part), **options)
    assert torch.allclose(some, whole[0][part], atol=1e-6)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_point_out_of_reach_is_seen_to_be_tried() -> None:
    x, y = linear.wide_points(4)
    moved = run("fmn", "l2", linear.model(), x, y, eps=1e-3)
    assert (BALLS["l2"].distance(moved - x) > 0.9e-3).all()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("fab", {"steps": 0}),
        ("fab", {"restarts": 0}),
        ("fab-t", {"targets": 0}),
        ("fab-t", {"beta": 1.0}),
        ("deepfool", {"classes": 0}),
        ("ddn", {"gamma": 1.0}),
        ("fmn", {"step_size": 0.0}),
        ("carlini-wagner", {"kappa": -1.0}),
        ("ead", {"rounds": 0}),
        ("sigma-zero", {"sigma": 0.0}),
        ("jsma", {"share": 0.0}),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_settings_outside_their_range_are_refused(name: str, options: dict[str, Any]) -> None:
    x, y = linear.points(2)
    with pytest.raises(ValueError, match="must be"):
        run(name, ATTACKS[name].norms[0], linear.model(), x, y, **options)


def test_deepfool_says_that_it_cannot_be_aimed() -> None:
    x, y = linear.points(2)
    with pytest.raises(ValueError, match="use fab-t, ddn or fmn"):
        run("deepfool", "l2", linear.model(), x, y, targeted=True)


@pytest.mark.long
def test_kappa_asks_for_a_lead() -> None:
    x, y = linear.wide_points(6)
    network = linear.model()
    moved = run("carlini-wagner", "l2", network, x, y, kappa=0.5)
    top = network(moved).topk(2, 1).values
    assert (top[:, 0] - top[:, 1] >= 0.499).all()


@given(st.integers(0, 10_000), st.sampled_from(["linf", "l2", "l1"]), st.floats(-1.2, 1.2))
def test_projection_on_a_hyperplane_agrees_with_solvers(
    seed: int, norm: Norm, share: float
) -> None:
    """share: of the most that the pixel range allows; beyond it, every value is at its end."""
    generator = torch.Generator().manual_seed(seed)
    x = (1.4 * torch.rand(1, 1, 3, 4, generator=generator) - 0.2).clamp(0, 1)
    w = torch.randn(1, 1, 3, 4, generator=generator)
    w[torch.rand(1, 1, 3, 4, generator=generator) < 0.2] = 0
    toward = w if share > 0 else -w
    most = float((toward.clamp_min(0) * (1 - x) + (-toward).clamp_min(0) * x).sum())
    gain = share * most
    change = to_hyperplane(x, w, torch.tensor([gain]), norm)
    assert within(x, x + change, math.inf, BALLS[norm], 1e-6).all()
    assert (change[w == 0] == 0).all()
    reached = float((w * change).sum())
    assert reached == pytest.approx(math.copysign(min(abs(gain), most), gain), abs=1e-5)
    if abs(share) < 0.99:
        flat, weights = x.flatten().double(), toward.flatten()[None].double()
        exact = linear.least_change(flat, weights, torch.tensor([abs(gain)]).double(), norm)
        assert float(BALLS[norm].distance(change)) == pytest.approx(exact, rel=1e-3, abs=1e-4)


def test_a_flat_model_moves_nothing_on_a_hyperplane() -> None:
    x, w = torch.rand(2, 1, 2, 2), torch.zeros(2, 1, 2, 2)
    for norm in ("linf", "l2", "l1"):
        assert (to_hyperplane(x, w, torch.ones(2), norm) == 0).all()


def digits(shared: Path) -> tuple[nn.Module, Tensor, Tensor]:
    """A network trained on digits, and scans that it classifies correctly."""
    from safetensors.torch import load_file
    from sklearn.datasets import load_digits

    network = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.Flatten(),
        nn.Linear(64 * 16, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip
    network.load_state_dict(load_file(shared / "models" / "digits_std.safetensors"))
    scans = load_digits()
    x = torch.tensor(scans.images[::17] / 16, dtype=torch.float32)[:, None]
    y = torch.tensor(scans.target[::17])
    right = network(x).argmax(1) == y
    return network.eval(), x[right], y[right]


@pytest.mark.parametrize(
    ("name", "norm", "peer", "options"),
    [
        ("deepfool", "l2", "L2DeepFoolAttack", {"steps": 50}),
        ("deepfool", "linf", "LinfDeepFoolAttack", {"steps": 50}),
        ("ddn", "l2", "DDNAttack", {"steps": 50}),
        ("fmn", "l0", "L0FMNAttack", {"steps": 50}),
        ("fmn", "l1", "L1FMNAttack", {"steps": 50}),
        ("fmn", "l2", "L2FMNAttack", {"steps": 50}),
        ("fmn", "linf", "LInfFMNAttack", {"steps": 50}),
        ("fab-t", "l2", "DDNAttack", {"steps": 20, "targets": 3}),
    ],
)
def test_no_farther_than_a_peer_on_a_trained_network(
    shared: Path, name: str, norm: Norm, peer: str, options: dict[str, Any]
) -> None:
    network, x, y = digits(shared)
    medians = []
    peers = {"steps": options["steps"]}
    for attack in (find(name, options, norm), find(f"foolbox:{peer}", peers, norm)):
        moved = attack(network, x, y, eps=math.inf, norm=norm, targeted=False, streams=None)
        assert within(x, moved, math.inf, BALLS[norm]).all()
        distance = BALLS[norm].distance((moved - x).double())
        distance[~fooled(network(moved), y, targeted=False)] = torch.inf
        medians.append(float(distance.median()))
    assert medians[0] <= 1.02 * medians[1] < math.inf
