"""Numbers of a detector against scikit-learn, closed forms and simulations with a known truth."""

import math

import numpy
import pytest
from scipy.stats import norm
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score, roc_curve

from assaymark.provenance.detection_intervals import (
    bootstrap,
    delong,
    effective,
    next_source,
    rate_interval,
    sample,
)
from assaymark.provenance.detection_scores import (
    auc,
    average_precision,
    brier,
    calibration_error,
    equal_error_rate,
    error_by_chance,
    rate,
    reliability,
    roc,
    true_positive_rate_at,
)
from assaymark.reports.errors import InputError

RNG = numpy.random.default_rng(5)
LABELS = RNG.random(400) < 0.4
SCORES = RNG.normal(0, 1, 400) + LABELS
TIED = numpy.round(SCORES)


@pytest.mark.parametrize("scores", [SCORES, TIED, -TIED], ids=["distinct", "tied", "reversed"])
def test_rankings_agree_with_scikit_learn(scores: numpy.ndarray) -> None:
    assert auc(LABELS, scores) == pytest.approx(roc_auc_score(LABELS, scores), abs=1e-12)
    assert average_precision(LABELS, scores) == pytest.approx(
        average_precision_score(LABELS, scores), abs=1e-12
    )
    curve = roc(LABELS, scores)
    assert curve is not None
    alarms, hits, at = roc_curve(LABELS, scores, drop_intermediate=False)
    assert numpy.allclose(curve.false_positives, alarms)
    assert numpy.allclose(curve.true_positives, hits)
    assert numpy.array_equal(curve.threshold, at)
    assert true_positive_rate_at(LABELS, scores, 0.1) == max(hits[alarms <= 0.1])


def test_two_normal_distributions_have_known_rates() -> None:
    """Of N(0, 1) against N(d, 1): AUC = Φ(d / √2), EER = Φ(-d / 2), TPR at FPR a = Φ(d + Φ⁻¹(a))."""
    grid = norm.ppf((numpy.arange(4000) + 0.5) / 4000)
    labels, scores = numpy.repeat([False, True], 4000), numpy.concatenate([grid, grid + 1.3])
    assert auc(labels, scores) == pytest.approx(norm.cdf(1.3 / 2**0.5), abs=1e-3)
    assert equal_error_rate(labels, scores) == pytest.approx(norm.cdf(-0.65), abs=1e-3)
    assert true_positive_rate_at(labels, scores, 0.05) == pytest.approx(
        norm.cdf(1.3 + norm.ppf(0.05)), abs=2e-3
    )


@pytest.mark.parametrize(
    ("labels", "scores", "wanted"),
    [
        ([0, 1], [0, 1], 0),
        ([0, 1], [1, 0], 1),
        ([0, 1], [3, 3], 0.5),
        ([0, 0, 1, 1], [0, 2, 1, 3], 0.5),
    ],
    ids=["apart", "swapped", "equal", "one-of-two"],
)
def test_equal_error_rate_of_a_few_files(
    labels: list[int], scores: list[float], wanted: float
) -> None:
    assert equal_error_rate(labels, scores) == wanted


@pytest.mark.parametrize("labels", [[], [True], [False, False]], ids=["none", "fakes", "reals"])
def test_nothing_is_not_zero(labels: list[bool]) -> None:
    scores = [0.5] * len(labels)
    for number in (auc, average_precision, equal_error_rate):
        assert number(labels, scores) is None
    assert roc(labels, scores) is None
    assert true_positive_rate_at(labels, scores, 0.05) is None
    assert bootstrap(sample(labels, scores, ["a"] * len(labels)), auc, replicates=5) is None
    assert delong(labels, scores) is None
    for nothing in (rate([]), brier([], []), calibration_error([], []), error_by_chance([])):
        assert nothing is None
    for no_interval in (rate_interval([]), next_source([0.1, 0.2])):
        assert no_interval is None


@pytest.mark.parametrize(
    ("labels", "scores", "says"),
    [
        ([True], [math.nan], "not a finite"),
        ([True, False], [0.1], "one of each"),
        ([True], [1.5], "0, 1"),
    ],
    ids=["nan", "lengths", "range"],
)
def test_what_is_no_score_is_refused(labels: list[bool], scores: list[float], says: str) -> None:
    with pytest.raises(InputError, match=says):
        brier(labels, scores)


def test_calibration_by_hand() -> None:
    """Two bins: 4 files at 0.2 of which 1 is fake, 2 at 0.9 of which 1 is: 4/6 · 0.05 + 2/6 · 0.4."""
    labels, p = [1, 0, 0, 0, 1, 0], [0.2, 0.2, 0.2, 0.2, 0.9, 0.9]
    assert calibration_error(labels, p, bins=2) == pytest.approx(4 / 6 * 0.05 + 2 / 6 * 0.4)
    assert brier(labels, p) == pytest.approx(brier_score_loss(labels, p))


@pytest.mark.parametrize(("equal_mass", "strategy"), [(False, "uniform"), (True, "quantile")])
def test_calibration_curves_agree_with_scikit_learn(equal_mass: bool, strategy: str) -> None:
    p = 1 / (1 + numpy.exp(-SCORES))
    fake, mean = calibration_curve(LABELS, p, n_bins=10, strategy=strategy)
    curve = reliability(LABELS, p, equal_mass=equal_mass)
    assert [each.fake for each in curve] == pytest.approx(fake)
    assert [each.probability for each in curve] == pytest.approx(mean)
    assert sum(each.files for each in curve) == 400


def test_a_perfectly_calibrated_detector_has_the_error_of_chance() -> None:
    """E|rate - p| of a bin of n is √(2 / π) √(p (1 - p) / n), and the mean of √(p (1 - p)) is π / 8."""
    p = (numpy.arange(2000) + 0.5) / 2000
    wanted = (2 / math.pi) ** 0.5 * math.pi / 8 * (10 / 2000) ** 0.5
    assert error_by_chance(p) == pytest.approx(wanted, rel=0.1)
    labels = numpy.random.default_rng(1).random(2000) < p
    assert calibration_error(labels, p) == pytest.approx(wanted, rel=0.6)


def test_delong_covers_the_true_area() -> None:
    """Independent files, N(0, 1) against N(1, 1): the 95 % interval holds Φ(1 / √2) about that often."""
    rng = numpy.random.default_rng(2)
    labels, hits = numpy.repeat([False, True], 40), 0
    for _ in range(300):
        found = delong(labels, rng.normal(0, 1, 80) + labels)
        hits += found is not None and found.low <= norm.cdf(0.5**0.5) <= found.high
    assert hits / 300 == pytest.approx(0.95, abs=0.03)


def _world(rng: numpy.random.Generator, clusters: int, spread: float) -> tuple[numpy.ndarray, ...]:
    """Every cluster of 25 files has an offset of its own: their AUC has a closed form."""
    offsets = numpy.repeat(rng.normal(0, spread, 2 * clusters), 25)
    labels = numpy.repeat([False, True], 25 * clusters)
    names = numpy.repeat([f"c{at}" for at in range(2 * clusters)], 25)
    return labels, rng.normal(0, 1, len(labels)) + offsets + labels, names


def test_resampling_sources_covers_where_resampling_files_does_not() -> None:
    rng = numpy.random.default_rng(3)
    truth = norm.cdf(1 / (2 * (1 + 0.6**2)) ** 0.5)
    by_source = by_file = 0
    for _ in range(24):
        labels, scores, names = _world(rng, 16, 0.6)
        wide = bootstrap(sample(labels, scores, list(names)), auc, replicates=60)
        narrow = delong(labels, scores)
        assert wide is not None
        assert narrow is not None
        by_source += wide.low <= truth <= wide.high
        by_file += narrow.low <= truth <= narrow.high
    assert by_source >= 19  # of 24, at a nominal 23
    assert by_file < by_source - 4


def test_rates_and_effective_numbers() -> None:
    """One cluster of equals is worth one file; files that are not alike are worth themselves."""
    assert effective([50], 1.0) == 1
    assert effective([50, 20], 0.0) == 70
    none = rate_interval([(0, 100)], likeness=0.0)
    assert none is not None
    assert none.low == 0
    assert none.high == pytest.approx(1 - 0.025 ** (1 / 100))
    some, alike = rate_interval([(5, 100)], likeness=0.0), rate_interval([(5, 100)], likeness=0.2)
    assert some is not None
    assert alike is not None
    assert alike.low < some.low < 0.05 < some.high < alike.high


def test_the_next_source_lies_where_it_is_predicted() -> None:
    rng = numpy.random.default_rng(4)
    draws = rng.normal(0.1, 0.03, (500, 7))
    intervals = [(next_source(list(row[:6])), row[6]) for row in draws]
    inside = [i is not None and i.low <= value <= i.high for i, value in intervals]
    assert numpy.mean(inside) == pytest.approx(0.9, abs=0.04)
