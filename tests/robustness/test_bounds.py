"""Certificates against truths that are not our code: closed forms, dense samples, attacks."""

import itertools
from pathlib import Path

import linear
import networks
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from assaymark.reports.errors import InputError
from assaymark.robustness.balls import BALLS, project
from assaymark.robustness.bounds import BOUND_METHODS, BoundMethod, Region, certified, margins
from assaymark.robustness.evaluate import evaluate
from assaymark.robustness.gradient_steps import pgd
from assaymark.robustness.models import Prepared, Preprocessing, load
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Norm

NORMS: tuple[Norm, ...] = ("linf", "l2", "l1")


def exact_distance(x: Tensor, y: Tensor, norm: Norm, classes: int) -> Tensor:
    weights = linear.model(classes)[1].weight.double()  # type: ignore[index]
    logits = linear.model(classes).double()(x.double())
    gap = logits.gather(1, y[:, None]) - logits
    difference = weights[None] - weights[y][:, None]
    order = {"linf": 1, "l2": 2, "l1": torch.inf}[norm]
    length = torch.linalg.vector_norm(difference, ord=order, dim=2).clamp_min(1e-12)
    gap[torch.arange(len(y)), y] = torch.inf
    nearest: Tensor = (gap / length).amin(1).detach()
    return nearest


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("method", BOUND_METHODS)
def test_of_a_linear_model_the_certificate_is_exact(
    norm: Norm, classes: int, method: BoundMethod
) -> None:
    x, y = linear.points(classes=classes)
    distance = exact_distance(x, y, norm, classes)
    tried = 0
    for i in range(len(x)):
        if float(distance[i]) > 0.4 or float(distance[i]) < 0.002:
            continue  # the pixel range would bind; or the margin is below the room for rounding
        for factor, expected in ((0.99, True), (1.01, False)):
            answer = certified(
                linear.model(classes), x[i : i + 1], y[i : i + 1], factor * float(distance[i]), norm,
                method,
            )  # fmt: skip
            assert bool(answer) is expected
            tried += 1
    assert tried >= 10


@pytest.mark.parametrize("norm", NORMS)
@given(seed=st.integers(0, 10_000), eps=st.sampled_from([0.01, 0.3, 1.0, 2.0]))
@settings(max_examples=40, deadline=None)
def test_the_least_of_a_linear_function_is_exact_in_ball_and_range(
    norm: Norm, seed: int, eps: float
) -> None:
    from scipy.optimize import linprog, minimize

    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(1, 1, 1, 4, generator=generator).double()
    x[0, 0, 0, 0] = 0.0
    a = torch.randn(1, 1, 1, 1, 4, generator=generator).double()
    a[0, 0, 0, 0, 3] *= 0.0 if seed % 3 == 0 else 1.0
    ours = float(Region(x=x, eps=eps, norm=norm).least(a))
    weights, here = a.flatten().numpy(), x.flatten().numpy()
    box = [(max(-eps, -p), min(eps, 1 - p)) for p in here]
    if norm == "linf":
        best = linprog(weights, bounds=box).fun
    elif norm == "l1":
        # d = up - down
        sides = [(0, high) for _, high in box] + [(0, -low) for low, _ in box]
        rows = [[1.0] * 8]
        best = linprog([*weights, *-weights], A_ub=rows, b_ub=[eps], bounds=sides).fun
    else:
        inside = {"type": "ineq", "fun": lambda d: eps**2 - (d**2).sum()}
        start = [0.0] * 4
        best = minimize(
            lambda d: weights @ d, start, bounds=box, constraints=inside, method="SLSQP",
            options={"ftol": 1e-12, "maxiter": 500},
        ).fun  # fmt: skip
    truth = best + float((a[0] * x).sum())
    assert ours <= truth + 1e-7  # SLSQP steps over the sphere by so much
    assert ours >= truth - 1e-5


def sample_of_ball(x: Tensor, eps: float, norm: Norm, count: int) -> Tensor:
    """Random points of the ball and of its surface, and corners of the box or the cross."""
    streams = Streams.of(0, "ball", list(range(count)))
    many = x.expand(count, *x.shape[1:])
    ball = BALLS[norm]
    random = project(many, many + ball.random(many, eps, streams, "random"), eps, ball)
    far = project(many, many + 10 * ball.random(many, eps, streams, "far"), eps, ball)
    steepest = project(many, many + eps * ball.steepest(streams.normal(many, "steep")), eps, ball)
    return torch.cat([x, random, far, steepest])


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", networks.KINDS)
@given(seed=st.integers(0, 1000), share=st.sampled_from([0.05, 0.3, 1.0]))
@settings(max_examples=2, deadline=None, phases=[Phase.generate])
def test_no_point_of_the_ball_lies_below_the_bound(
    kind: str, norm: Norm, seed: int, share: float
) -> None:
    model = networks.network(kind, seed % 7)
    x = torch.rand(2, *networks.SHAPE, generator=torch.Generator().manual_seed(seed))
    eps = share * {"linf": 0.2, "l2": 1.0, "l1": 3.0}[norm]
    y = model(x).argmax(1)
    found = {
        method: margins(model, x, y, eps=eps, norm=norm, method=method) for method in BOUND_METHODS
    }
    for i in range(2):
        points = sample_of_ball(x[i : i + 1], eps, norm, 300)
        attacked = pgd(model, x[i : i + 1], y[i : i + 1], eps=eps, norm=norm, steps=8)
        logits = model.double()(torch.cat([points, attacked]).double())
        model.float()
        others = logits.clone()
        others[:, y[i]] = -torch.inf
        least = (logits[:, y[i]] - others.amax(1)).min()
        for method, bound in found.items():
            assert float(bound[i]) <= float(least) + 1e-7, method  # points are float32
    tolerance = 1e-9
    assert (found["crown-ibp"] >= found["ibp"] - tolerance).all()
    assert (found["crown"] >= found["ibp"] - tolerance).all()
    assert (found["alpha-crown"] >= found["crown"] - tolerance).all()


def test_of_one_hidden_layer_the_corners_are_enclosed_closely() -> None:
    """All 2^8 corners and the kinks between: CROWN is within the gap that its triangle leaves."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2)).eval()
    model.requires_grad_(False)
    x = torch.full((1, 2, 2, 2), 0.5)
    y = model(x).argmax(1)
    eps = 0.1
    corners = torch.tensor(list(itertools.product([-eps, eps], repeat=8))).view(-1, 2, 2, 2)
    logits = model(x + corners)
    sign = 1 if int(y) == 0 else -1
    least = float((sign * (logits[:, 0] - logits[:, 1])).min())
    bounds = {m: float(margins(model, x, y, eps=eps, method=m)) for m in BOUND_METHODS}
    assert bounds["ibp"] <= bounds["crown"] <= bounds["alpha-crown"] <= least + 1e-6
    assert bounds["alpha-crown"] >= least - 0.02


@pytest.mark.parametrize("method", BOUND_METHODS)
@pytest.mark.parametrize("norm", NORMS)
def test_a_larger_ball_never_has_a_larger_margin(method: BoundMethod, norm: Norm) -> None:
    model = networks.network("conv")
    x = torch.rand(3, *networks.SHAPE, generator=torch.Generator().manual_seed(0))
    y = model(x).argmax(1)
    radii = [0.0, 0.01, 0.03, 0.1, 0.3]
    found = [margins(model, x, y, eps=eps, norm=norm, method=method) for eps in radii]
    if method == "alpha-crown":
        assert (found[0] >= found[-1]).all()  # an optimiser promises no more
        return
    for smaller, larger in itertools.pairwise(found):
        assert (smaller >= larger - 1e-6).all()
    logits = model.double()(x.double())
    others = logits.scatter(1, y[:, None], -torch.inf).amax(1)
    exact = logits.gather(1, y[:, None]).squeeze(1) - others
    assert torch.allclose(found[0], exact, atol=1e-9)


@pytest.mark.parametrize("method", BOUND_METHODS)
def test_batches_do_not_change_a_bound_and_may_be_empty(method: BoundMethod) -> None:
    model = networks.network("residual")
    x = torch.rand(5, *networks.SHAPE, generator=torch.Generator().manual_seed(1))
    y = torch.tensor([0, 1, 2, 0, 1])
    whole = margins(model, x, y, eps=0.02, method=method)
    parts = margins(model, x, y, eps=0.02, method=method, batch_size=2)
    assert torch.allclose(whole, parts, atol=1e-9 if method != "alpha-crown" else 1e-6)
    assert margins(model, x[:0], y[:0], eps=0.02, method=method).shape == (0,)
    assert certified(model, x[:0], y[:0], 0.02, "linf", method).shape == (0,)


def test_what_is_answered_wrongly_is_not_certified() -> None:
    x, y = linear.points()
    wrong = (y + 1) % linear.CLASSES
    assert not certified(linear.model(), x, wrong, 1e-6, "linf", "crown").any()


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch's exporter warns of torch
@pytest.mark.parametrize("kind", networks.KINDS)
def test_a_network_read_from_a_file_has_the_same_bounds(kind: str, tmp_path: Path) -> None:
    """As a module, an exported program, TorchScript and ONNX, behind the same preprocessing."""
    network = networks.network(kind)
    x = torch.rand(4, *networks.SHAPE, generator=torch.Generator().manual_seed(0))
    steps = Preprocessing(input_range=(-1.0, 1.0), mean=(0.1, 0.2), std=(0.5, 0.6))
    plain = Prepared(network, steps).eval()
    y = plain(x).argmax(1)
    batch = torch.export.Dim("batch", min=1)
    exported = torch.export.export(network, (x,), dynamic_shapes=({0: batch},))
    torch.export.save(exported, tmp_path / "net.pt2")
    torch.onnx.export(
        network, (x,), tmp_path / "net.onnx", dynamo=True, dynamic_shapes=({0: batch},),
        external_data=False, verbose=False,
    )  # fmt: skip
    wanted = margins(plain, x, y, eps=0.02, method="crown")
    for name in ("net.pt2", "net.onnx"):
        loaded = load(name, x, folder=tmp_path, preprocessing=steps)
        found = margins(loaded.module, x, y, eps=0.02, method="crown")
        assert torch.allclose(found, wanted, atol=1e-4), name


class _Gelu(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.gelu(x.flatten(1))[:, :3]


class _Product(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x * x).flatten(1)[:, :3]


class _Quotient(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (1 / x).flatten(1)[:, :3]


class _Branch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)[:, :3]
        return flat if bool(x.mean() > 0.7) else -flat


class _Hidden(nn.Module):
    """A path that torch does not see."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(x.numpy() > 0.5).float().flatten(1)[:, :3] + x.flatten(1)[:, :3]


class _Mixing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x - x.mean(0, keepdim=True)).flatten(1)[:, :3]


class _Rounding(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x * 255).round().flatten(1)[:, :3]


class _Half(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.half().float().flatten(1)[:, :3]


class _Training(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.batch_norm(x, None, None, training=True).flatten(1)[:, :3]


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (_Gelu(), "aten.gelu.default"),
        (_Product(), "both depend on the image"),
        (_Quotient(), "aten.reciprocal.default"),
        (_Branch(), "path through the model depends on the image"),
        (_Hidden(), "differ from its answers"),
        (_Mixing(), "other images of the batch"),
        (_Rounding(), "aten.round.default"),
        (_Half(), "rounds to torch.float16"),
        (_Training(), "training mode"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_cannot_be_bounded_is_named(model: nn.Module, says: str) -> None:
    x = torch.rand(4, *networks.SHAPE, generator=torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match=says):
        margins(model, x, torch.zeros(4, dtype=torch.long), eps=0.01)


def test_l0_is_refused() -> None:
    x, y = linear.points()
    with pytest.raises(InputError, match="linf, l2 or l1"):
        margins(linear.model(), x, y, eps=1.0, norm="l0")


@pytest.mark.long
def test_a_provably_robust_network_is_certified_and_no_attack_beats_it(shared: Path) -> None:
    """Wong et al. certify 20 to 22 % of CIFAR-10 at 8/255 for such a network."""
    steps = Preprocessing(mean=networks.CIFAR_SMALL_MEAN, std=networks.CIFAR_SMALL_STD)
    model = Prepared(networks.cifar_small(shared), steps).eval()
    x, y = networks.cifar_test(shared, 100)
    before = torch.zeros(len(x), dtype=torch.bool)
    for pixels in (8, 4, 2):
        held = certified(model, x, y, pixels / 255, "linf", "crown")
        assert (held >= before).all()
        before = held
        intervals = certified(model, x, y, pixels / 255, "linf", "ibp")
        assert (held >= intervals).all()
        attacked = evaluate(model, x, y, {"pgd": pgd}, eps=pixels / 255, norm="linf")
        assert (attacked.robust >= held).all()
        assert float(held.float().mean()) <= float(attacked.correct.float().mean())
        if pixels == 8:
            assert 0.15 < float(held.float().mean()) < 0.25
            assert intervals.sum() < held.sum()


def test_a_hardened_digit_network_is_certified_below_the_attack(shared: Path) -> None:
    model = networks.digits_hard(shared, "digits_at")
    x, y = networks.digits_test()
    x, y = x[:8], y[:8]
    held = certified(model, x, y, 0.02, "linf", "crown")
    attacked = evaluate(model, x, y, {"pgd": pgd}, eps=0.02, norm="linf")
    assert int(held.sum()) > 0
    assert (attacked.robust >= held).all()
