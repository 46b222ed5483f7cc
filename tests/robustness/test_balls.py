"""Laws of the balls."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from assaymark.robustness.balls import BALLS, project, within
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Norm

norms = st.sampled_from(["linf", "l2"])
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
    once = project(x, moved, eps, BALLS[norm])
    assert within(x, once, eps, BALLS[norm]).all()
    assert torch.allclose(project(x, once, eps, BALLS[norm]), once, atol=1e-6)
    last = moved.to(memory_format=torch.channels_last)
    assert torch.allclose(project(x, last, eps, BALLS[norm]), once, atol=1e-6)


@given(norms, seeds)
def test_inside_nothing_moves(norm: Norm, seed: int) -> None:
    x, moved = pair(seed, 0.001)
    moved = moved.clamp(0, 1)
    assert torch.equal(BALLS[norm].shrink(moved - x, 1.0), moved - x)


@given(norms, seeds, st.floats(0.01, 1))
def test_outside_lands_on_the_sphere(norm: Norm, seed: int, eps: float) -> None:
    _, far = pair(seed, 50.0)
    shrunk = BALLS[norm].shrink(far, eps)
    assert torch.allclose(BALLS[norm].distance(shrunk), torch.full((3,), eps), rtol=1e-5)


@given(norms, seeds, st.floats(0.01, 1))
def test_a_random_start_lies_in_the_ball(norm: Norm, seed: int, eps: float) -> None:
    x, _ = pair(seed, 0)
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
