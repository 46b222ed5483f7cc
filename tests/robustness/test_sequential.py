"""Stopping when a gate is decided, and how seldom that is wrong."""

import numpy
import pytest
import torch

from assaymark.reports.intervals import betting
from assaymark.reports.model import Gate, Limit, Verdict
from assaymark.robustness.sequential import Looks


def looks_at() -> list[int]:
    """The rounds of the engine, up to 10,000 points."""
    sizes, n = [], 8
    while n <= 10_000:
        sizes.append(n)
        n += max(4, n // 16)
    return sizes


def decide(p: float, random: numpy.random.Generator) -> tuple[int, Verdict]:
    """How many points a gate of 50 % takes at a true proportion of p, and what it says."""
    gate = Gate(metric="robust_accuracy", limit=Limit(minimum=0.5, on="lower"))
    robust = torch.from_numpy(random.random(10_000) < p)
    looks = Looks((gate,))
    for n in looks_at():
        if looks(torch.ones(n, dtype=torch.bool), robust[:n]):
            hits = int(robust[:n].sum())
            return n, gate.limit.judge(hits / n, looks.intervals[gate])
    return n, Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("p", "most"),
    [
        (0.7, 75),
        pytest.param(0.3, 75, marks=pytest.mark.long),
        pytest.param(0.4, 290, marks=pytest.mark.long),
        (0.1, 30),
    ],
)
def test_clear_cases_take_few_points(p: float, most: int) -> None:
    random = numpy.random.default_rng(0)
    runs = [decide(p, random) for _ in range(30)]
    assert numpy.mean([n for n, _ in runs]) <= most
    wanted = Verdict.PASS if p > 0.5 else Verdict.FAIL
    assert sum(verdict is wanted for _, verdict in runs) >= 28


@pytest.mark.long
def test_a_truth_on_the_limit_is_seldom_decided() -> None:
    """Both wrong verdicts together at most 5 %, however often one looks."""
    random = numpy.random.default_rng(1)
    runs = [decide(0.5, random)[1] for _ in range(25)]
    assert sum(verdict is not Verdict.INCONCLUSIVE for verdict in runs) <= 4


@pytest.mark.long
def test_the_interval_covers_at_every_look() -> None:
    random = numpy.random.default_rng(2)
    missed = 0
    for _ in range(40):
        hits = numpy.cumsum(random.random(400) < 0.8)
        intervals = [betting(int(hits[n - 1]), n) for n in range(20, 401, 20)]
        missed += any(i is not None and not i.low <= 0.8 <= i.high for i in intervals)
    assert missed <= 5


@pytest.mark.parametrize("hits", [0, 1, 50, 99, 100])
def test_it_is_wider_than_an_interval_that_is_looked_at_once(hits: int) -> None:
    from assaymark.reports.intervals import clopper_pearson

    anytime, once = betting(hits, 100), clopper_pearson(hits, 100)
    assert anytime is not None
    assert once is not None
    assert anytime.low <= once.low
    assert anytime.high >= once.high
    assert betting(0, 0) is None
