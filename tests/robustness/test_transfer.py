"""Transfer attacks against exact distances, the published formulas written out, and torch's own resizing."""

from functools import partial
from typing import Any

import linear
import numpy
import pytest
import torch
from scipy.stats import norm as gaussian
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate, pad

from assaymark.reports.errors import InputError
from assaymark.robustness.attacks import ATTACKS
from assaymark.robustness.balls import BALLS, within
from assaymark.robustness.losses import fooled, log_odds
from assaymark.robustness.oracle import Oracle
from assaymark.robustness.streams import Streams
from assaymark.robustness.transfer import (
    Ensemble,
    mi_fgsm,
    momentum_walk,
    ni_fgsm,
    shrink,
    smooth,
    transfer,
    vmi_fgsm,
)
from assaymark.robustness.types import Attack, Norm

NAMES = ["mi-fgsm", "ni-fgsm", "si-ni-fgsm", "di-fgsm", "ti-fgsm", "vmi-fgsm"]


def network(classes: int = 3, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(6 * 30, classes)
    ).eval()


def images(n: int = 12) -> Tensor:
    return torch.rand(n, 2, 5, 6, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("attack", [mi_fgsm, ni_fgsm, vmi_fgsm], ids=["mi", "ni", "vmi"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("targeted", [False, True])
def test_falls_just_beyond_the_exact_distance(attack: Attack, norm: Norm, targeted: bool) -> None:
    """With two classes every gradient points the same way, so the walk is the shortest one."""
    x, y = linear.points(40, 2)
    distance = linear.distances(x, y, norm, 2).amin(1)
    eps = float(distance.median())
    model = linear.model(2)
    goal = 1 - y if targeted else y
    moved = attack(model, x, goal, eps=eps, norm=norm, targeted=targeted, streams=None)
    fell = fooled(model(moved), goal, targeted=targeted)
    assert fell[distance * 1.05 < eps].all()
    assert not fell[distance * 0.95 > eps].any()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_never_falls_before_the_exact_distance(name: str, norm: Norm) -> None:
    x, y = linear.points(40)
    distance = linear.distances(x, y, norm).amin(1)
    eps = float(distance.median())
    model = linear.model()
    moved = ATTACKS[name].run(model, x, y, eps=eps, norm=norm, targeted=False, streams=None)
    assert within(x, moved, eps, BALLS[norm]).all()
    fell = fooled(model(moved), y, targeted=False)
    assert fell.any()
    assert not fell[distance * 0.95 > eps].any()


@pytest.mark.parametrize(("look_ahead", "scales"), [(False, 1), (True, 1), (True, 3)])
def test_the_walk_is_the_published_one(look_ahead: bool, scales: int) -> None:
    """Equation 6 of 1710.06081 and equations 6 to 8 of 1908.06281, written out with autograd."""
    model, x = network().double(), images().double()
    y = model(x).argmax(1)
    eps, step = 0.1, 0.02
    here, total = x.clone(), torch.zeros_like(x)
    for _ in range(4):
        at = (here + step * total if look_ahead else here).detach().requires_grad_()
        losses = []
        for i in range(scales):
            loss = cross_entropy(model(at / 2**i), y, reduction="none")
            # of one copy the cross-entropy itself; of several the odds, which weigh copies alike
            losses.append(loss if scales == 1 else loss.expm1().log())
        (gradient,) = torch.autograd.grad(torch.stack(losses).sum(), at)
        total = total + gradient / gradient.abs().mean((1, 2, 3), keepdim=True)
        here = (here + step * total.sign()).clamp(x - eps, x + eps).clamp(0, 1)
    moved = momentum_walk(
        model, x, y, eps=eps, steps=4, step_size=step, look_ahead=look_ahead, scales=scales,
        until_fooled=False,
    )  # fmt: skip
    assert (moved - here).abs().max() < 1e-6


def test_the_odds_point_where_the_cross_entropy_does_and_do_not_vanish() -> None:
    logits = torch.randn(20, 5, dtype=torch.float64, requires_grad=True)
    y = torch.arange(20) % 5
    odds = log_odds(logits.float(), y).double()
    loss = cross_entropy(logits, y, reduction="none")
    assert torch.allclose(torch.nn.functional.softplus(odds), loss, atol=1e-6)
    sure = torch.tensor([[200.0, 0.0, -1.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(log_odds(sure, torch.tensor([0])).sum(), sure)
    assert gradient.abs().sum() == pytest.approx(2)
    (lost,) = torch.autograd.grad(cross_entropy(sure, torch.tensor([0])), sure)
    assert lost.abs().sum() == 0


@pytest.mark.parametrize("size", [(8, 8), (5, 12), (2, 2)])
def test_shrinking_is_resizing_and_padding(size: tuple[int, int]) -> None:
    """The frame is read off a white image; inside it must stand what torch's own resize gives."""
    n = 40
    x = 0.1 + 0.9 * torch.rand(n, 3, *size, generator=torch.Generator().manual_seed(2))
    streams = Streams.of(0, "shrink", list(range(n)))
    white = shrink(torch.ones_like(x), 1.0, 0.5, streams, "a")[:, 0]
    shown = shrink(x, 1.0, 0.5, streams, "a")
    frames = set()
    for i in range(n):
        rows, columns = (white[i] > 0.5).any(1).nonzero(), (white[i] > 0.5).any(0).nonzero()
        top, left = int(rows[0]), int(columns[0])
        height, width = len(rows), len(columns)
        small = interpolate(x[i : i + 1], (height, width), mode="bilinear", align_corners=False)
        frame = (left, size[1] - left - width, top, size[0] - top - height)
        assert torch.allclose(shown[i], pad(small, frame)[0], atol=1e-5)
        assert height >= size[0] // 2
        assert width >= size[1] // 2
        frames.add(frame)
    assert len(frames) >= 5
    half = shrink(x, 0.5, 0.5, streams, "b")
    assert 5 <= sum(torch.equal(one, other) for one, other in zip(half, x, strict=True)) <= 35
    assert torch.equal(shrink(x, 0.0, 0.5, streams, "b"), x)


@pytest.mark.parametrize("width", [3, 7, 15])
def test_smoothing_is_a_gaussian(width: int) -> None:
    impulse = torch.zeros(1, 2, 31, 31)
    impulse[0, 0, 15, 15] = 1
    row = gaussian.pdf(numpy.linspace(-3, 3, width))
    kernel = torch.tensor(numpy.outer(row, row) / row.sum() ** 2).float()
    expected = torch.zeros_like(impulse)
    around = slice(15 - width // 2, 16 + width // 2)
    expected[0, 0, around, around] = kernel
    assert torch.allclose(smooth(impulse, width), expected, atol=1e-7)


@pytest.mark.parametrize(
    ("options", "forward", "backward"),
    [
        ({}, 10, 10),
        ({"steps": 3, "scales": 4}, 12, 12),
        ({"steps": 3, "neighbours": 5}, 3 * 6 - 5, 3 * 6 - 5),
        ({"steps": 3, "diversity": 0.5, "kernel": 3}, 3, 3),
    ],
)
def test_a_walk_costs_what_it_says(options: dict[str, Any], forward: int, backward: int) -> None:
    oracle = Oracle(network(), batch_size=5)
    x = images()
    y = oracle.model(x).argmax(1)
    walk = partial(momentum_walk, oracle, x, y, eps=0.2, **options)
    walk(until_fooled=False)
    assert (oracle.passes.forward, oracle.passes.backward) == (12 * forward, 12 * backward)
    oracle.passes.forward = oracle.passes.backward = 0
    walk()
    assert oracle.passes.backward < 12 * backward


@pytest.mark.parametrize("name", NAMES)
def test_neither_batch_nor_order_changes_an_answer(name: str) -> None:
    model, x = network().double(), images(18)
    y = model(x.double()).argmax(1)
    streams = Streams.of(0, "batch", list(range(18)))

    def ask(x: Tensor) -> Tensor:
        answer: Tensor = model(x.double())
        return answer

    run = partial(ATTACKS[name].run, eps=0.05, norm="l2", targeted=False)
    whole = run(Oracle(ask), x, y, streams=streams)
    for batch_size in (1, 17):
        some = run(Oracle(ask, batch_size=batch_size), x, y, streams=streams)
        assert (some - whole).abs().max() < 1e-6
    order = torch.randperm(18, generator=torch.Generator().manual_seed(9))[:7]
    mixed = run(Oracle(ask), x[order], y[order], streams=streams.select(order))
    assert (mixed - whole[order]).abs().max() < 1e-6


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_mean_of_linear_surrogates_is_attacked_at_its_exact_distance(norm: Norm) -> None:
    """Two linear models whose mean is the model with a known margin; neither is that model."""
    target = linear.model(2)
    surrogates = [linear.model(2), linear.model(2)]
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, weights in target.named_parameters():
            noise = torch.randn(weights.shape, generator=generator)
            dict(surrogates[0].named_parameters())[name].add_(noise)
            dict(surrogates[1].named_parameters())[name].sub_(noise)
    x, y = linear.points(40, 2)
    distance = linear.distances(x, y, norm, 2).amin(1)
    eps = float(distance.median())
    moved = transfer(surrogates)(target, x, y, eps=eps, norm=norm, targeted=False, streams=None)
    fell = fooled(target(moved), y, targeted=False)
    assert fell[distance * 1.05 < eps].all()
    assert not fell[distance * 0.95 > eps].any()


def test_the_attacked_model_is_not_asked_and_surrogates_are_left_as_they_were() -> None:
    oracle = Oracle(network(seed=1))
    surrogates = [network(seed=2).train(), network(seed=3)]
    x = images()
    y = oracle.model(x).argmax(1)
    moved = transfer(surrogates)(oracle, x, y, eps=0.3, norm="linf", targeted=False, streams=None)
    assert (oracle.passes.forward, oracle.passes.backward) == (0, 0)
    assert (fooled(oracle.model(moved), y, targeted=False)).any()
    assert [surrogate.training for surrogate in surrogates] == [True, False]
    for surrogate in surrogates:
        assert all(
            weights.grad is None and weights.requires_grad for weights in surrogate.parameters()
        )


def test_probabilities_are_averaged_too() -> None:
    models, x = [network(seed=1), network(seed=2)], images()
    shares = sum(model(x).softmax(1) for model in models) / 2
    assert torch.allclose(Ensemble(models, "probabilities")(x).softmax(1), shares, atol=1e-6)


def test_surrogates_must_be_there_and_agree_on_the_classes() -> None:
    with pytest.raises(ValueError, match="at least one surrogate"):
        transfer([])
    with pytest.raises(InputError, match="the surrogates answer 3, 4 classes"):
        Ensemble([network(3), network(4)])(images())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps"),
        ({"scales": 0}, "scales"),
        ({"kernel": 4}, "odd number"),
        ({"diversity": 1.5}, "diversity"),
        ({"neighbours": -1}, "neighbours"),
        ({"step_size": -1.0}, "step_size"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    x, y = linear.points(2)
    with pytest.raises(ValueError, match=message):
        momentum_walk(linear.model(), x, y, eps=0.1, **options)
