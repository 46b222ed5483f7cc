"""Randomized smoothing against a truth in closed form: a linear model's distance to its boundary."""

import linear
import pytest
import torch
from scipy.stats import norm as gauss
from torch import Tensor

from assaymark.reports.errors import InputError
from assaymark.robustness.oracle import Oracle
from assaymark.robustness.smoothing import (
    ABSTAIN,
    Smoothing,
    accuracy_at,
    certify,
    interval_of_certified,
    predict,
    votes,
    wrong_at_most,
)
from assaymark.robustness.streams import Streams


def binary(n: int) -> tuple[torch.nn.Module, Tensor, Tensor, Tensor]:
    """A model of two classes, points, their classes, and the exact radius of the smoothed model.

    Gaussian noise on a half-space leaves P(class) = Phi(distance / sigma): the radius is the distance,
    whatever sigma is (https://arxiv.org/abs/1902.02918, appendix B, example).
    """
    x, y = linear.points(n, classes=2)
    return linear.model(2), x, y, linear.distances(x, y, "l2", 2).amin(1).detach()


def streams(n: int, seed: int = 0) -> Streams:
    return Streams.of(seed, "test", list(range(n)))


def test_the_radius_stays_below_the_exact_one_and_comes_near_it_with_more_votes() -> None:
    model, x, y, distance = binary(60)
    smoothing = Smoothing(sigma=0.25, alpha=0.01)
    means = []
    for samples in (100, 1000, 10000):
        plan = Smoothing(sigma=0.25, samples=samples, alpha=0.01)
        answers, radii = certify(model, x, plan, streams(60))
        too_far = int((radii > distance + 1e-6).sum())
        assert too_far <= wrong_at_most(60, smoothing.alpha, 0.999)
        assert ((answers == y) | (answers == ABSTAIN)).all()
        assert ((radii > 0) == (answers != ABSTAIN)).all()
        # what cannot be certified with so few votes is not compared
        means.append(float((radii / distance)[distance > 0.05].mean()))
    assert means[0] < means[1] < means[2]
    assert means[2] > 0.85


def test_alpha_is_kept_over_many_runs() -> None:
    """At alpha = 0.2, of 300 certificates of 20 points, no more are too far than chance allows."""
    model, x, _, distance = binary(20)
    plan = Smoothing(sigma=0.25, samples=200, alpha=0.2)
    wrong = 0
    for seed in range(15):
        _, radii = certify(model, x, plan, streams(20, seed))
        wrong += int((radii > distance + 1e-6).sum())
    assert 10 < wrong <= wrong_at_most(300, 0.2, 0.999)  # and it is not idle either


def test_the_share_of_votes_is_that_of_the_normal_distribution() -> None:
    model, x, y, distance = binary(20)
    counts = votes(model, x, 4000, 0.25, streams(20), "share")
    assert (counts.sum(1) == 4000).all()
    share = counts.gather(1, y[:, None]).squeeze(1) / 4000
    expected = torch.from_numpy(gauss.cdf(distance.numpy() / 0.25))
    error = (expected * (1 - expected) / 4000).sqrt()
    assert ((share - expected).abs() < 4.5 * error + 1e-3).all()


def test_votes_do_not_depend_on_batches_or_order() -> None:
    model, x, _, _ = binary(12)
    all_ = streams(12)
    whole = votes(Oracle(model, batch_size=1000), x, 50, 0.3, all_, "a")
    small = votes(Oracle(model, batch_size=7), x, 50, 0.3, all_, "a")
    order = torch.tensor([5, 2, 11])
    assert (whole == small).all()
    assert (votes(model, x[order], 50, 0.3, all_.select(order), "a") == whole[order]).all()
    assert not (votes(model, x, 50, 0.3, all_, "b") == whole).all()


def test_a_point_on_the_boundary_is_abstained_from() -> None:
    model = linear.model(2)
    x = torch.full((4, *linear.SHAPE), 0.5)
    plan = Smoothing(sigma=0.2, samples=400)
    answers, radii = certify(model, x, plan, streams(4))
    assert (answers == ABSTAIN).all()
    assert (radii == 0).all()
    assert (predict(model, x, plan, streams(4)) == ABSTAIN).all()
    assert not accuracy_at(answers, radii, torch.zeros(4, dtype=torch.long), 0.0).any()


def test_predictions_are_the_model_s_far_from_the_boundary() -> None:
    model, x, y, distance = binary(40)
    far = distance > 0.04
    found = predict(model, x, Smoothing(sigma=0.04, samples=300), streams(40))
    assert far.sum() >= 5
    assert (found[far] == y[far]).all()


def test_with_labels_only_what_is_right_is_counted() -> None:
    model, x, y, _ = binary(10)
    plan = Smoothing(sigma=0.03, samples=500)
    right, _ = certify(model, x, plan, streams(10), y=y)
    wrong, radii = certify(model, x, plan, streams(10), y=1 - y)
    assert (right == y).sum() >= 5
    # the first votes of a point near the boundary may be for the other class
    assert ((wrong == ABSTAIN) | (radii < 0.05)).all()
    counter = Oracle(model)
    certify(counter, x, plan, streams(10), y=torch.where(right == y, 1 - y, y))
    assert counter.passes.forward < 10 * (plan.first + plan.samples) / 2


def test_certified_accuracy_falls_with_the_radius_and_ends_at_the_largest() -> None:
    model, x, y, _ = binary(40)
    plan = Smoothing(sigma=0.05, samples=300, alpha=0.01)
    answers, radii = certify(model, x, plan, streams(40))
    shares = [int(accuracy_at(answers, radii, y, r / 100).sum()) for r in range(12)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > shares[-1]
    assert not accuracy_at(answers, radii, y, plan.largest_radius * 1.001).any()
    assert plan.largest_radius == pytest.approx(0.05 * gauss.ppf(0.01 ** (1 / 300)))


def test_an_empty_batch() -> None:
    model, x, _, _ = binary(1)
    plan = Smoothing(sigma=0.5)
    answers, radii = certify(model, x[:0], plan, streams(0))
    assert answers.shape == radii.shape == (0,)
    assert predict(model, x[:0], plan, streams(0)).shape == (0,)


def test_what_may_be_wrong_is_taken_from_the_lower_end() -> None:
    assert interval_of_certified(0, 0, 0.001) is None
    exact = interval_of_certified(50, 100, 1e-12)
    doubtful = interval_of_certified(50, 100, 0.05)
    assert exact is not None
    assert doubtful is not None
    assert doubtful.low < exact.low
    assert doubtful.high == exact.high
    assert wrong_at_most(100, 0.05, 0.9875) == 10  # Binomial(100, 0.05): P(X > 10) = 0.0115


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sigma": 0.0}, "sigma"),
        ({"sigma": 0.1, "samples": 0}, "at least one vote"),
        ({"sigma": 0.1, "alpha": 0.5}, "alpha"),
    ],
    ids=["sigma", "samples", "alpha"],
)
def test_impossible_plans_are_refused(options: dict[str, float], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Smoothing(**options)  # type: ignore[arg-type]
