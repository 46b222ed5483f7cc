"""A linear classifier, whose distance to the nearest other class is known in closed form.

For logits W x + b the change of z_t - z_y along delta is (w_t - w_y) · delta, so class t is reached
at distance (z_y - z_t) / ||w_t - w_y||_q with q the dual norm: 1 for L-infinity, 2 for L2, infinity
for L1.
"""

import math

import numpy
import scipy.optimize
import torch
from torch import Tensor, nn

SHAPE = (2, 3, 3)
CLASSES = 4


def model(classes: int = CLASSES, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    size = int(torch.tensor(SHAPE).prod())
    linear = nn.Linear(size, classes)
    with torch.no_grad():
        linear.weight.copy_(torch.randn(classes, size, generator=generator))
        # undecided at mid-grey, so that margins are far smaller than the pixel range
        linear.bias.copy_(-linear.weight.sum(1) / 2)
    return nn.Sequential(nn.Flatten(), linear).eval()


def points(n: int = 24, classes: int = CLASSES, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Points well inside the pixel range, with the class the model gives them."""
    generator = torch.Generator().manual_seed(seed)
    x = 0.45 + 0.1 * torch.rand(n, *SHAPE, generator=generator)
    with torch.no_grad():
        return x, model(classes)(x).argmax(1)


def wide_points(n: int, classes: int = CLASSES, seed: int = 2) -> tuple[Tensor, Tensor]:
    """Points all over the pixel range, some values at its ends, far inside the class that they have.

    The nearest other class is several values away, and the range binds on the way to it.
    """
    generator = torch.Generator().manual_seed(seed)
    network = model(classes)
    weight = network[1].weight.detach()  # type: ignore[index]
    own = torch.arange(n) % classes
    apart = (weight[own] - weight.mean(0)).view(n, *SHAPE)
    x = (1.3 * torch.rand(n, *SHAPE, generator=generator) - 0.15 + 0.2 * apart.sign()).clamp(0, 1)
    with torch.no_grad():
        return x, network(x).argmax(1)


def distances(x: Tensor, y: Tensor, norm: str, classes: int = CLASSES) -> Tensor:
    """Exact distance of every point to every class; infinite to its own."""
    linear = model(classes)[1]  # type: ignore[index]
    logits = linear(x.flatten(1)).detach()
    weights = linear.weight.detach()
    gap = logits.gather(1, y[:, None]) - logits
    difference = weights[None] - weights[y][:, None]
    order = {"linf": 1.0, "l2": 2.0, "l1": torch.inf}[norm]  # of the dual norm
    length = torch.linalg.vector_norm(difference, order, dim=2)
    result: Tensor = gap / length.clamp_min(1e-12)
    result[torch.arange(len(y)), y] = torch.inf
    return result


def to_each_class(x: Tensor, y: Tensor, norm: str, classes: int) -> Tensor:
    """The least change inside the pixel range that reaches each class; infinite for a point's own.

    From solvers of linear, whole-number and (L2) quadratic programs; no closed form is used.
    """
    return torch.tensor(
        [
            [
                torch.inf if goal == own else _least(image.double(), goal, norm, classes)
                for goal in range(classes)
            ]
            for image, own in zip(x, y.tolist(), strict=True)
        ]
    )


def _least(x: Tensor, goal: int, norm: str, classes: int) -> float:
    linear = model(classes)[1].double()  # type: ignore[index]
    flat = x.flatten()
    logits, w = linear(flat).detach(), linear.weight.detach()
    rivals = [other for other in range(classes) if other != goal]
    return least_change(flat, w[goal] - w[rivals], logits[rivals] - logits[goal], norm)


def least_change(flat: Tensor, weights: Tensor, gains: Tensor, norm: str) -> float:
    """The least norm of a change d with weights · d ≥ gains and flat + d in [0, 1]."""
    rows, needed = weights.numpy(), gains.numpy()
    size, low, high = len(flat), -flat.numpy(), 1 - flat.numpy()
    if norm == "l2":
        found = scipy.optimize.minimize(
            lambda d: d @ d,
            numpy.zeros(size),
            jac=lambda d: 2 * d,
            bounds=list(zip(low, high, strict=True)),
            constraints={"type": "ineq", "fun": lambda d: rows @ d - needed, "jac": lambda d: rows},
            method="SLSQP",
            options={"ftol": 1e-12},
        )
        assert found.success
        return math.sqrt(found.fun)
    # variables: the change, and one bound (L-infinity), one size (L1) or one switch (L0) a value
    extra = 1 if norm == "linf" else size
    spread = numpy.ones((size, 1)) if norm == "linf" else numpy.eye(size)
    upper, lower = (high, -low) if norm == "l0" else (1.0, 1.0)
    above = numpy.hstack([numpy.eye(size), -spread * numpy.reshape(upper, (-1, 1))])
    below = numpy.hstack([-numpy.eye(size), -spread * numpy.reshape(lower, (-1, 1))])
    reach = numpy.hstack([rows, numpy.zeros((len(rows), extra))])
    solved = scipy.optimize.milp(
        numpy.concatenate([numpy.zeros(size), numpy.ones(extra)]),
        constraints=[
            scipy.optimize.LinearConstraint(above, ub=0),
            scipy.optimize.LinearConstraint(below, ub=0),
            scipy.optimize.LinearConstraint(reach, lb=needed),
        ],
        bounds=scipy.optimize.Bounds(
            numpy.concatenate([low, numpy.zeros(extra)]),
            numpy.concatenate([high, numpy.ones(extra)]),
        ),
        integrality=numpy.concatenate([numpy.zeros(size), numpy.full(extra, norm == "l0")]),
    )
    assert solved.success
    return float(solved.fun)
