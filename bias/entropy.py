"""Inequality of what people get from decisions: generalized entropy indices, in groups and between them.

Speicher et al. 2018, A unified approach to quantifying algorithmic unfairness, arXiv 1807.00787: everybody
has a benefit, decision − label + 1, which is 0 for a positive case decided negatively, 2 for a negative
one decided positively, and 1 where the decision is right. A positive decision is taken as the good one.
"""

import math
from dataclasses import dataclass

import numpy
from scipy.special import ndtri, xlogy

from assaymark.bias.codes import Column
from assaymark.bias.counts import FN, FP, TN, TP, Tally, tally
from assaymark.bias.rows import Numbers, Predictions
from assaymark.reports.model import Interval

_BENEFITS = numpy.array([0.0, 1.0, 2.0])
_RAYS = 360
_HALVINGS = 40


@dataclass(frozen=True, kw_only=True)
class Benefits:
    """How many people have the benefits 0, 1 and 2, by weight.

    cases: how many equally weighted rows say as much (Kish 1965).
    """

    name: str
    n: int
    weights: tuple[float, float, float]
    cases: float

    @property
    def mean(self) -> float | None:
        total = math.fsum(self.weights)
        return (self.weights[1] + 2 * self.weights[2]) / total if total else None


@dataclass(frozen=True, kw_only=True)
class Parts:
    """An index as a sum: between groups, as if all in a group had its mean benefit; and within them."""

    between: float
    within: float


def benefits(data: Predictions) -> Benefits:
    """The benefits of all rows."""
    everybody = Column(name="", names=("all",), codes=numpy.zeros(data.n, dtype=numpy.int32))
    return _counted(everybody, tally(everybody, data))[0]


def benefits_by_group(data: Predictions, attribute: str) -> list[Benefits]:
    """The benefits of each group of a sensitive column."""
    column = data.groups[attribute]
    return _counted(column, tally(column, data))


def _counted(column: Column, counted: Tally) -> list[Benefits]:
    by_benefit = numpy.stack(
        [
            counted.sums[:, *FN],
            counted.sums[:, *TN] + counted.sums[:, *TP],
            counted.sums[:, *FP],
        ],
        axis=1,
    )
    totals, squares = by_benefit.sum(axis=1), counted.squares.sum(axis=(1, 2))
    rows = counted.rows.sum(axis=(1, 2))
    return [
        Benefits(
            name=name,
            n=int(rows[place]),
            weights=(float(weights[0]), float(weights[1]), float(weights[2])),
            cases=float(totals[place] ** 2 / squares[place]) if squares[place] else 0.0,
        )
        for place, (name, weights) in enumerate(zip(column.names, by_benefit, strict=True))
    ]


def index(found: Benefits, alpha: float = 2) -> float | None:
    """The generalized entropy index, at least 0; 0 where all benefits are equal, None where all are 0.

    alpha above 0 says how much large benefits count (equation 2 of Speicher et al.); 1 is Theil's index.

    >>> round(index(Benefits(name="", n=4, weights=(1, 2, 1), cases=4)), 3)
    0.25
    """
    shares = numpy.array(found.weights)
    if not found.mean:
        return None
    return float(_index(shares / shares.sum(), _BENEFITS, alpha))


def parts(groups: list[Benefits], alpha: float = 2) -> Parts | None:
    """What of the index over all groups together lies between and within them; None where it is None."""
    weights = numpy.array([group.weights for group in groups])
    total = weights.sum()
    if not total or not (weights @ _BENEFITS).any():
        return None
    held = weights.sum(axis=1) > 0
    sizes = weights[held].sum(axis=1)
    between = float(_index(sizes / total, weights[held] @ _BENEFITS / sizes, alpha))
    whole = float(_index(weights.sum(axis=0) / total, _BENEFITS, alpha))
    return Parts(between=between, within=max(whole - between, 0.0))


def _index(shares: numpy.ndarray, values: numpy.ndarray, alpha: float) -> Numbers:
    """The index of values that shares of all people have, along the last axis."""
    if alpha <= 0:
        raise ValueError(f"alpha is above 0, got {alpha}")
    ratio = values / (shares @ values)[..., None]
    inside = xlogy(ratio, ratio) if alpha == 1 else (ratio**alpha - 1) / (alpha * (alpha - 1))
    found: Numbers = (shares * inside).sum(axis=-1).clip(0)
    return found


def interval(found: Benefits, alpha: float, confidence: float) -> Interval | None:
    """The profile likelihood interval of `index`; None where that is None.

    All indices whose shares of benefits have a likelihood ratio that is not refused (Venzon and
    Moolgavkar 1988, Applied Statistics 37), so that no errors among few rows are no proof of none. The
    index has no extremum inside that region of shares, so its border is walked.
    """
    value = index(found, alpha)
    if value is None:
        return None
    shares = numpy.array(found.weights) / math.fsum(found.weights)
    border = _border(shares, found.cases, float(ndtri((1 + confidence) / 2)) ** 2)
    values = numpy.append(_index(border, _BENEFITS, alpha), value)
    return Interval(
        low=float(values.min()),
        high=float(values.max()),
        confidence=confidence,
        method="profile likelihood",
    )


def _border(shares: numpy.ndarray, cases: float, reach: float) -> numpy.ndarray:
    """Shares, rays × 3, on the border of {p : 2 · cases · Σ shares log(shares / p) ≤ reach}."""
    angle = numpy.linspace(0, 2 * numpy.pi, _RAYS, endpoint=False)
    # rays in the plane of the shares of 0 and 2, stretched as these are uncertain
    scale = numpy.sqrt((shares[[0, 2]] + 1 / cases) / cases)
    # rounded, so that a ray along an edge of the simplex does not leave it
    none = numpy.append(numpy.cos(angle).round(12) * scale[0], [1, -1])
    double = numpy.append(numpy.sin(angle).round(12) * scale[1], [-1, 1])
    step = numpy.stack([none, -none - double, double], axis=1)
    with numpy.errstate(divide="ignore", invalid="ignore"):
        edge = numpy.where(step < 0, shares / -step, numpy.inf).min(axis=1)
    low, high = numpy.zeros_like(edge), edge
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        inside = _deviance(shares, (shares + middle[:, None] * step).clip(0), cases) <= reach
        low, high = numpy.where(inside, middle, low), numpy.where(inside, high, middle)
    border: numpy.ndarray = (shares + low[:, None] * step).clip(0)
    return border


def _deviance(shares: numpy.ndarray, other: numpy.ndarray, cases: float) -> numpy.ndarray:
    """Twice by how much the other shares are less likely, of rows with these shares."""
    apart = xlogy(shares, shares) - xlogy(shares, other)
    return numpy.asarray(2 * cases * apart.sum(axis=-1))
