"""Calibration and thresholds against simulated worlds whose truth is known."""

import itertools
import json
import math

import numpy
import pytest
from scipy.stats import norm

from assaymark.provenance.conformal import (
    Conformal,
    Zone,
    by_category,
    conformal,
    operating_point,
    read_zone,
    threshold,
    zone,
)
from assaymark.provenance.detection_intervals import Sample, sample
from assaymark.provenance.detection_scores import calibration_error
from assaymark.provenance.evidence import Says
from assaymark.provenance.score_calibration import (
    KINDS,
    Calibration,
    calibrate,
    held_out_llrs,
    weights,
)
from assaymark.reports.errors import InputError


def _world(
    rng: numpy.random.Generator,
    clusters: int,
    files: int = 30,
    shift: float = 0.0,
    apart: float = 2.0,
) -> Sample:
    """Reals of N(offset, 1), fakes `apart` higher; offset: N(0, shift) of the source or generator."""
    offsets = numpy.repeat(rng.normal(0, 1, 2 * clusters) * shift, files)
    labels = numpy.repeat([False, True], files * clusters)
    scores = rng.normal(0, 1, len(labels)) + offsets + apart * labels
    return sample(labels, scores, [f"c{at // files}" for at in range(len(labels))])


def _sigmoid(z: numpy.ndarray) -> numpy.ndarray:
    return numpy.asarray(1 / (1 + numpy.exp(-z)))


def test_platt_finds_the_true_ratio() -> None:
    """N(0, 1) against N(2, 1): ln P(s | fake) / P(s | real) = 2 s - 2."""
    world = _world(numpy.random.default_rng(0), 20, 200)
    found = calibrate(world)
    assert found.llr(1.0) == pytest.approx(0, abs=0.1)
    assert found.llr(2.0) - found.llr(0.0) == pytest.approx(4, rel=0.06)
    assert found.probability(1.0, prior=0.2) == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_calibration_is_monotone_bounded_and_frozen_in_json(kind: str) -> None:
    world = _world(numpy.random.default_rng(1), 4, 25)
    found = calibrate(world, kind, measured_on="four sources")
    grid = found.llrs(numpy.linspace(-50, 50, 400))
    assert (numpy.diff(grid) >= -1e-9).all()
    # 4 clusters of 25, worth 25 / 3.4 each; a score that no real reached is no proof
    n = 4 * 25 / (1 + 24 * 0.1)
    assert found.highest == pytest.approx(-math.log(1 - 0.05 ** (1 / n)))
    assert found.lowest == -found.highest
    assert grid.max() <= found.highest
    assert grid.min() >= found.lowest
    assert Calibration.from_json(found.to_json()) == found
    assert (found.reals, found.fakes, found.sources, found.generators) == (100, 100, 4, 4)


@pytest.mark.parametrize("shift", [0.0, 0.8], ids=["alike", "sources-differ"])
def test_left_out_sources_are_calibrated(shift: float) -> None:
    """Also where every source has an offset of its own: then the ratios are smaller, not wrong."""
    world = _world(numpy.random.default_rng(2), 20, 60, shift)
    held_out = held_out_llrs(world)
    error = calibration_error(world.labels, _sigmoid(held_out))
    assert error is not None
    assert error <= 0.05


def test_ratios_of_few_sources_that_differ_are_cut_in_time() -> None:
    """What fits 3 sources fails on the next: ratios beyond what they support cost more than they bring."""
    rng = numpy.random.default_rng(3)
    cut: list[float] = []
    bold: list[float] = []
    for _ in range(12):
        fitted = calibrate(_world(rng, 3, 40, 1.5))
        others = _world(rng, 20, 10, 1.5)
        for found, z in (
            (cut, fitted.llrs(others.scores)),
            (bold, fitted.curve.log_odds(others.scores)),
        ):
            found.append(float(numpy.mean(numpy.logaddexp(0, z) - others.labels * z)))
    assert numpy.mean(cut) < numpy.mean(bold)


def test_a_large_source_is_not_many_witnesses() -> None:
    world = sample(
        [False] * 111 + [True] * 2, [0.0] * 113, ["big"] * 100 + ["small"] * 11 + ["f", "g"]
    )
    found = weights(world)
    assert found[:111].sum() == pytest.approx(0.5)
    assert found[:100].sum() / found[100:111].sum() == pytest.approx((100 / 10.9) / (11 / 2))


def test_calibration_needs_two_of_each() -> None:
    world = _world(numpy.random.default_rng(0), 1)
    for work in (calibrate, held_out_llrs):
        with pytest.raises(InputError, match="1 sources of reals and 1 generators"):
            work(world)
    with pytest.raises(InputError, match="did you mean"):
        calibrate(_world(numpy.random.default_rng(0), 2), "plat")


_GOOD = json.loads(calibrate(_world(numpy.random.default_rng(0), 2)).to_json())


@pytest.mark.parametrize(
    "change",
    [
        {"highest": -1},
        {"lowest": float("nan")},
        {"curve": {"kind": "platt", "parameters": [-1, 0], "knots": []}},
        {"curve": {"kind": "beta", "parameters": [1, 0], "knots": []}},
        {"curve": {"kind": "isotonic", "parameters": [], "knots": [[0, 1], [1, 0]]}},
        {"curve": {"kind": "isotonic", "parameters": [], "knots": []}},
        {"curve": {"kind": "eval", "parameters": [1, 0], "knots": []}},
        {"curve": 3},
    ],
    ids=["limits", "nan", "falling", "short", "knots", "no-knots", "unknown", "number"],
)
def test_a_file_that_is_no_calibration_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(InputError, match="no calibration"):
        Calibration.from_json(json.dumps(_GOOD | change))


@pytest.mark.parametrize("rate", [0.05, 0.2])
@pytest.mark.parametrize("kind", ["real", "fake"])
def test_p_values_of_exchangeable_files_keep_their_rate(kind: str, rate: float) -> None:
    rng = numpy.random.default_rng(6)
    alarms = []
    for _ in range(300):
        world = _world(rng, 2, 20)
        measured = conformal(world)
        new = rng.normal(0, 1, 20) + 2 * (kind == "fake")
        ask = measured.as_real if kind == "real" else measured.as_fake
        alarms += [ask(float(score)).files <= rate for score in new]
    assert numpy.mean(alarms) <= rate + 0.01
    assert numpy.mean(alarms) >= rate - 0.04  # and it is no idle promise


@pytest.mark.parametrize(("clusters", "rate"), [(24, 0.05), (24, 0.2), (5, 0.2)])
def test_thresholds_of_sources_keep_their_rate_where_those_of_files_do_not(
    clusters: int, rate: float
) -> None:
    """A file of a new source is N(0, 1 + shift²): its chance to pass a threshold has a closed form."""
    rng = numpy.random.default_rng(7)
    sources, files = [], []
    for _ in range(300):
        measured = conformal(_world(rng, clusters, 12, 1.5))
        at, promised = threshold(measured.reals, rate)
        assert promised
        sources.append(norm.sf(at / (1 + 1.5**2) ** 0.5))
        pooled = sorted(itertools.chain.from_iterable(measured.reals))
        own = pooled[math.ceil((len(pooled) + 1) * (1 - rate)) - 1]
        files.append(norm.sf(own / (1 + 1.5**2) ** 0.5))
        for score in (at - 1e-9, at, rng.normal()):
            assert (score >= at) == (measured.as_real(float(score)).sources <= rate)
    assert rate / 3 < numpy.mean(sources) <= rate
    assert numpy.mean(files) > (rate + 0.02 if clusters == 5 else rate)


@pytest.mark.parametrize("shift", [0.0, 1.5], ids=["alike", "sources-differ"])
def test_pooled_sources_stay_within_a_point_of_the_rate(shift: float) -> None:
    """The chance of a file of a new source is its closed form; the strict threshold is the stricter."""
    rng = numpy.random.default_rng(0)
    clusters = 30
    rates: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(600):
        offsets = rng.normal(0, 1, (clusters, 1)) * shift
        drawn = numpy.sort(offsets + rng.normal(0, 1, (clusters, 12)), axis=1)
        measured = tuple(tuple(own) for own in drawn.tolist())
        for pooled, found in rates.items():
            at, promised = threshold(measured, 0.05, pooled=pooled)
            assert promised is not pooled
            found.append(float(norm.sf(at / (1 + shift**2) ** 0.5)))
    assert numpy.mean(rates[False]) < numpy.mean(rates[True])
    assert 0.04 < numpy.mean(rates[True]) <= 0.06


def test_pooling_holds_sources_and_files_to_the_rate_and_needs_enough_of_them() -> None:
    """Two of 40 sources may pass whole at 5 %, but no more than that share of all files."""
    large = tuple(float(score) for score in range(1000, 2000))
    small = tuple((float(each),) for each in range(39))
    at, promised = threshold((large[:39], *small), 0.05, pooled=True)
    assert not promised
    assert at > 1035  # which 3 of 78 files reach
    assert at == pytest.approx(1035)
    lone = tuple((float(each),) for each in range(40))
    assert threshold(lone, 0.05, pooled=True)[0] == pytest.approx(37)
    few = conformal(_world(numpy.random.default_rng(8), 4)).reals
    assert threshold(few, 0.05, pooled=True) == threshold(few, 0.05)


def test_too_few_sources_promise_nothing() -> None:
    measured = conformal(_world(numpy.random.default_rng(8), 4))
    assert measured.as_real(1e9).sources == 1 / 5
    at, promised = threshold(measured.reals, 0.05)
    assert not promised
    assert at > max(sorted(own)[-2] for own in measured.reals)
    for rate in (0.0, 1.0):
        with pytest.raises(InputError, match="must lie in"):
            threshold(measured.reals, rate)
    with pytest.raises(InputError, match="at least one source"):
        threshold((), 0.05)


def test_categories_keep_their_rate_each() -> None:
    """Small files score higher: one threshold for all would flag them, that of their own does not."""
    rng = numpy.random.default_rng(9)
    small = numpy.arange(400) % 2 == 0
    world = sample([False] * 400, rng.normal(0, 1, 400) + 3 * small, ["a"] * 400)
    tables = by_category(world, ["small" if each else "large" for each in small])
    new = rng.normal(3, 1, 500)
    assert numpy.mean([tables["small"].as_real(s).files <= 0.05 for s in new]) <= 0.08
    assert numpy.mean([conformal(world).as_real(s).files <= 0.05 for s in new]) > 0.08


@pytest.mark.parametrize(
    ("apart", "middle"), [(1.0, Says.ABSTAINS), (20.0, Says.ABSTAINS)], ids=["overlap", "gap"]
)
def test_between_the_thresholds_nothing_is_said(apart: float, middle: Says) -> None:
    found = zone(_world(numpy.random.default_rng(10), 24, 30, apart=apart))
    assert found.promised
    between = (found.generated_at + found.clear_below) / 2
    assert found.says(between) is middle
    assert found.says(1e3) is Says.GENERATED
    assert found.says(-1e3) is Says.NOTHING
    assert read_zone(json.loads(json.dumps(vars(found)))) == found
    assert isinstance(found, Zone)


def test_a_zone_keeps_both_rates_on_new_sources() -> None:
    rng = numpy.random.default_rng(11)
    said: list[tuple[bool, Says]] = []
    for _ in range(60):
        found = zone(_world(rng, 20, 15, 0.7), 0.1)
        new = _world(rng, 4, 5, 0.7)
        said += [(fake, found.says(s)) for fake, s in zip(new.labels, new.scores, strict=True)]
    accused = numpy.mean([says is Says.GENERATED for fake, says in said if not fake])
    cleared = numpy.mean([says is Says.NOTHING for fake, says in said if fake])
    assert accused <= 0.11
    assert cleared <= 0.11


def test_an_operating_point_is_measured_on_sources_it_did_not_see() -> None:
    """One of six sources lies two deviations above the others: its false positives are counted."""
    rng = numpy.random.default_rng(12)
    world = _world(rng, 6, 50)
    odd = numpy.array([name == "c0" for name in world.clusters])
    shifted = sample(world.labels, world.scores + 2.0 * odd, world.clusters)
    point = operating_point(shifted, 0.05, measured_on="simulated")
    assert point.false_positive_rate > 0.05
    assert point.false_positive_rate < point.false_positive_rate_high <= 1
    assert 0 <= point.true_positive_rate_low < point.true_positive_rate
    assert (point.reals, point.fakes, point.sources, point.generators) == (300, 300, 6, 6)
    clean = operating_point(_world(rng, 6, 50, apart=30), 0.05, measured_on="simulated")
    assert clean.true_positive_rate == 1
    assert clean.true_positive_rate_low < 1  # files that are alike are few witnesses
    assert clean.false_positive_rate_high > 0.02


def test_one_source_has_no_operating_point() -> None:
    with pytest.raises(InputError, match="1 sources of reals"):
        operating_point(_world(numpy.random.default_rng(0), 1), measured_on="")
    with pytest.raises(InputError, match="of reals and of fakes"):
        zone(sample([True, True], [0, 1], ["a", "b"]))


def test_measured_scores_are_frozen_in_json() -> None:
    measured = conformal(_world(numpy.random.default_rng(0), 2, 3))
    assert Conformal.from_json(measured.to_json()) == measured
    for text in ("[]", '{"reals": [[2, 1]], "fakes": []}', '{"reals": [[]], "fakes": []}', "{"):
        with pytest.raises(InputError, match="no measured scores"):
            Conformal.from_json(text)
    with pytest.raises(InputError, match="no zone"):
        read_zone({"rate": 0.05})
