"""Adjusted p-values against SciPy, a table computed by hand, and the rule that they replace."""

import math
from random import Random

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr
from scipy.stats import false_discovery_control

from assaymark.bias.multiplicity import benjamini_hochberg, holm

# the fifteen p-values of Benjamini and Hochberg 1995, section 3.2 (thrombolysis trial): Bonferroni and
# Holm reject the first three at 0.05, their procedure the first four
PUBLISHED = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459,
             0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0000]  # fmt: skip
PROBABILITY = st.floats(0, 1)


def test_the_published_trial() -> None:
    assert sum(p <= 0.05 for p in holm(PUBLISHED) if p is not None) == 3
    assert sum(p <= 0.05 for p in benjamini_hochberg(PUBLISHED) if p is not None) == 4
    by_hand = [0.0015, 0.003, 0.0095, 0.035625, 0.0603, 0.0638571428571, 0.0638571428571,
               0.0645, 0.0765, 0.486]  # fmt: skip
    assert benjamini_hochberg(PUBLISHED)[:10] == pytest.approx(by_hand)
    by_hand = [0.0015, 0.0056, 0.0247, 0.114, 0.2211, 0.278, 0.278, 0.278, 0.3213, 1.0]
    assert holm(PUBLISHED)[:10] == pytest.approx(by_hand)


@pytest.mark.parametrize(
    ("p", "of_holm", "of_bh"),
    [
        ([], [], []),
        ([0.2], [0.2], [0.2]),
        ([None, math.nan], [None, None], [None, None]),
        ([0.04, None, 0.01, math.nan], [0.04, None, 0.02, None], [0.04, None, 0.02, None]),
        ([0.03, 0.03, 0.03], [0.09] * 3, [0.03] * 3),
        ([0.9, 0.0, 0.8], [1.0, 0.0, 1.0], [0.9, 0.0, 0.9]),
    ],
)
def test_by_hand(
    p: list[float | None], of_holm: list[float | None], of_bh: list[float | None]
) -> None:
    """What was not tested has no adjusted p-value, and makes those of the others no larger."""
    assert holm(p) == pytest.approx(of_holm)
    assert benjamini_hochberg(p) == pytest.approx(of_bh)


@given(st.lists(PROBABILITY, min_size=1, max_size=40))
def test_as_scipy_adjusts(p: list[float]) -> None:
    assert benjamini_hochberg(p) == pytest.approx(false_discovery_control(p), abs=1e-12)


@given(st.lists(PROBABILITY, min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_order_changes_nothing(p: list[float], random: Random) -> None:
    places = list(range(len(p)))
    random.shuffle(places)
    for adjust in (holm, benjamini_hochberg):
        whole, shuffled = adjust(p), adjust([p[place] for place in places])
        assert shuffled == [whole[place] for place in places]
        assert all(a is not None and a >= one - 1e-15 for a, one in zip(whole, p, strict=True))


def by_argsort(p: numpy.ndarray, level: float) -> numpy.ndarray:
    """The rule of Giskard 2.16, which takes an argsort for ranks; none for no p-value below the line."""
    below = p[p <= (p.argsort() + 1) / len(p) * level]
    return p <= below.max() if len(below) else numpy.zeros(len(p), dtype=bool)


def test_ranks_are_not_an_argsort() -> None:
    p = numpy.array([0.2, 0.001, 0.9, 0.02, 0.024])
    assert (p.argsort() + 1).tolist() == [2, 4, 5, 1, 3]  # the ranks are 4, 1, 5, 2, 3
    expected = [p[0] * 5 / 4, p[1] * 5, p[2], p[4] * 5 / 3, p[4] * 5 / 3]
    assert benjamini_hochberg(p.tolist()) == pytest.approx(expected)
    early = numpy.array([0.045, 0.6, 0.7, 0.001])  # 0.045 is the second smallest
    assert by_argsort(early, 0.05).tolist() == [True, False, False, True]
    assert benjamini_hochberg(early.tolist()) == pytest.approx([0.09, 0.7, 0.7, 0.004])


def test_the_realised_share_of_false_discoveries() -> None:
    """90 of 100 hypotheses are true. At 10 % argsort makes four times as many false discoveries."""
    random = numpy.random.default_rng(0)
    ours, wrong = [], []
    for _ in range(400):
        true = numpy.zeros(100, dtype=bool)
        z = random.standard_normal(100)
        true[random.permutation(100)[:10]] = True
        p = ndtr(-(z + 3 * true))
        found = numpy.array(benjamini_hochberg(p.tolist()), dtype=float) <= 0.1
        ours.append(found[~true].sum() / max(found.sum(), 1))
        found = by_argsort(p, 0.1)
        wrong.append(found[~true].sum() / max(found.sum(), 1))
    assert numpy.mean(ours) == pytest.approx(0.09, abs=0.015)  # 90 % of 0.1
    assert numpy.mean(wrong) > 0.3


@pytest.mark.parametrize("p", [[0.1, 1.2], [-0.1], [math.inf]])
def test_what_is_no_probability(p: list[float]) -> None:
    with pytest.raises(ValueError, match="lie in"):
        holm(p)
