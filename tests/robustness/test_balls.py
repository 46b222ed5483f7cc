"""Laws of the balls."""

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from assaymark.robustness.balls import BALLS, project, within
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Norm

norms = st.sampled_from(list(BALLS))
seeds = st.integers(0, 10_000)


def pair(seed: int, spread: float) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(3, 2, 4, 4, generator=generator)
    return x, x + spread * torch.randn(3, 2, 4, 4, generator=generator)


@given(norms, seeds, st.floats(0.01, 3), st.floats(0, 2))
def test_projection_lands_inside_and_stays(
    norm: Norm, seed: int, eps: float, spread: float
) -> None:
    x, moved = pair(seed, spread)
    eps = radius_of(norm, eps / 3) if norm == "l0" else eps
    once = project(x, moved, eps, BALLS[norm])
    assert within(x, once, eps, BALLS[norm]).all()
    assert torch.allclose(project(x, once, eps, BALLS[norm]), once, atol=1e-6)
    last = moved.to(memory_format=torch.channels_last)
    assert torch.allclose(project(x, last, eps, BALLS[norm]), once, atol=1e-6)


def radius_of(norm: Norm, share: float) -> float:
    """A radius that a change in 32 values can have; L0 counts them."""
    return max(1.0, float(round(32 * share))) if norm == "l0" else share


@given(norms, seeds)
def test_inside_nothing_moves(norm: Norm, seed: int) -> None:
    x, moved = pair(seed, 0.001)
    moved = moved.clamp(0, 1)
    assert torch.allclose(project(x, moved, radius_of(norm, 1.0), BALLS[norm]), moved, atol=1e-7)


@given(norms, seeds, st.floats(0.01, 0.4))
def test_outside_lands_on_the_sphere(norm: Norm, seed: int, eps: float) -> None:
    """With all the room there is: the range does not bind."""
    x, far = torch.full((3, 2, 4, 4), 0.5), pair(seed, 50.0)[1]
    eps = radius_of(norm, eps)
    moved = project(x, far, eps, BALLS[norm])
    assert torch.allclose(BALLS[norm].distance(moved - x), torch.full((3,), eps), atol=1e-5)


@given(seeds, st.floats(0.05, 3))
def test_the_l1_projection_is_the_nearest_point_of_ball_and_range(seed: int, eps: float) -> None:
    """Against quadratic programming over the same set."""
    from scipy.optimize import minimize

    x, moved = pair(seed, 0.5)
    ours = project(x, moved, eps, BALLS["l1"])[:1].double().flatten()
    origin, goal = x[:1].double().flatten().numpy(), moved[:1].double().flatten().numpy()
    # the change is a difference of two non-negative parts
    size = len(origin)
    bounds = [(0, 1 - v) for v in origin] + [(0, v) for v in origin]
    exact = minimize(
        lambda parts: 0.5 * ((origin + parts[:size] - parts[size:] - goal) ** 2).sum(),
        [0.0] * (2 * size),
        jac=lambda parts: (lambda r: numpy.concatenate([r, -r]))(
            origin + parts[:size] - parts[size:] - goal
        ),
        bounds=bounds,
        constraints=[{"type": "ineq", "fun": lambda parts: eps - parts.sum(),
                      "jac": lambda parts: -numpy.ones(2 * size)}],
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-12},
    )  # fmt: skip
    theirs = origin + exact.x[:size] - exact.x[size:]
    assert ((ours.numpy() - goal) ** 2).sum() <= ((theirs - goal) ** 2).sum() + 1e-5


@given(norms, seeds, st.floats(0.01, 1))
def test_a_random_start_lies_in_the_ball(norm: Norm, seed: int, eps: float) -> None:
    x, _ = pair(seed, 0)
    eps = radius_of(norm, eps)
    delta = BALLS[norm].random(x, eps, Streams.of(seed, "t", [0, 1, 2]), "tag")
    assert (BALLS[norm].distance(delta) <= eps * (1 + 1e-5)).all()


def test_random_starts_fill_the_ball() -> None:
    """In d dimensions the median radius of a uniform point is 0.5^(1/d)."""
    x = torch.zeros(4000, 1, 1, 2)
    streams = Streams.of(0, "t", list(range(4000)))
    radius = BALLS["l2"].distance(BALLS["l2"].random(x, 1.0, streams, "tag"))
    assert float(radius.median()) == pytest.approx(0.5**0.5, abs=0.02)
    cube = BALLS["linf"].random(x, 1.0, streams, "tag").flatten()
    assert float(cube.mean()) == pytest.approx(0, abs=0.03)
    assert float(cube.var()) == pytest.approx(1 / 3, abs=0.03)


def test_within_sees_every_violation() -> None:
    x = torch.full((5, 1, 1, 2), 0.5)
    moved = x.clone()
    moved[0, 0, 0, 0] += 0.1001
    moved[1, 0, 0, 0] = float("nan")
    moved[2] = torch.tensor([0.5, 0.6])
    big = torch.full((1, 1, 1, 2), 1.0)
    assert within(x, moved, 0.1, BALLS["linf"]).tolist() == [False, False, True, True, True]
    assert within(big, big + 0.01, 0.1, BALLS["linf"]).tolist() == [False]
