"""Features of pictures against closed forms and slow literal definitions."""

import itertools
from typing import Any

import numpy
import pytest

from assaymark.provenance.image_cooccurrence import classes, cooccurrence, runs
from assaymark.provenance.image_heads import FEATURES, Rows, features, fit, held_out
from assaymark.provenance.image_planes import Planes, crops, halved, planes
from assaymark.provenance.image_spectrum import TILE, azimuthal, spectrum, tiles
from assaymark.provenance.image_statistics import _autocorrelation, scales

RNG = numpy.random.default_rng(5)
NOISE = RNG.integers(0, 256, (160, 144, 3), dtype=numpy.uint8)


def scaled(picture: Planes, gain: float) -> Planes:
    g = numpy.float32(gain)
    return Planes(luma=picture.luma * g, blue=picture.blue * g, red=picture.red * g)


def test_zeros_inserted_between_equal_pixels_leave_one_peak_of_known_height_on_each_axis() -> None:
    plane = numpy.zeros((TILE, TILE), numpy.float32)
    plane[::2, ::2] = 80.0
    found = tiles(plane)[0]
    # c/4 (1 + (-1)^m)(1 + (-1)^n) under a window whose sum is 32 x 32 and that is 0 at the last frequency
    assert abs(found[0, 32]) == pytest.approx(80 / 4 * 32 * 32, rel=1e-4)
    assert abs(found[32, 0]) == pytest.approx(80 / 4 * 32 * 32, rel=1e-4)
    strong = numpy.argwhere(numpy.abs(found) > 0.01 * numpy.abs(found).max())
    # Hann's window spreads a line to its two neighbours, and nothing else is left
    assert {(round(row / 32) % 2, round(column / 32) % 2) for row, column in strong} == {
        (0, 1),
        (1, 0),
        (1, 1),
    }
    assert all(min(k % 32, -k % 32) <= 1 for place in strong for k in place)


def test_azimuthal_mean_is_that_of_a_loop_over_the_whole_spectrum() -> None:
    plane = RNG.normal(size=(TILE, TILE)).astype(numpy.float32)
    line = 0.5 - 0.5 * numpy.cos(2 * numpy.pi * numpy.arange(TILE) / TILE)
    whole = numpy.abs(numpy.fft.fft2((plane - plane.mean()) * numpy.outer(line, line))) ** 2
    total, count = numpy.zeros(46), numpy.zeros(46)
    for row, column in itertools.product(range(TILE), repeat=2):
        y, x = (k if k <= TILE // 2 else k - TILE for k in (row, column))
        ring = min(round(float(numpy.hypot(x, y))), 45)
        total[ring] += whole[row, column]
        count[ring] += 1
    found = azimuthal(numpy.abs(tiles(plane)[0]) ** 2)
    numpy.testing.assert_allclose(found, total / count, rtol=1e-4)


@pytest.mark.parametrize(
    ("compute", "near"), [(spectrum, 0.02), (scales, 0.1)], ids=["spectrum", "scales"]
)
def test_contrast_changes_nothing(compute: Any, near: float) -> None:
    """But for the floors, of a twentieth of a step of 8 bits in the wavelets."""
    picture = planes(NOISE)
    numpy.testing.assert_allclose(compute(picture), compute(scaled(picture, 0.5)), atol=near)


def test_white_noise_has_a_flat_spectrum() -> None:
    noise = Planes(
        *(), **{n: RNG.normal(0, 9, (256, 256)).astype("f4") for n in ("luma", "blue", "red")}
    )
    assert numpy.abs(spectrum(noise)[4:31]).max() < 0.5


def test_autocorrelation_is_the_circular_sum_of_products() -> None:
    plane = RNG.normal(size=(20, 24)).astype(numpy.float32)
    rest = numpy.zeros((18, 22))
    for y, x in itertools.product(range(18), range(22)):
        around = plane[y, x + 1] + plane[y + 2, x + 1] + plane[y + 1, x] + plane[y + 1, x + 2]
        rest[y, x] = 4 * plane[y + 1, x + 1] - around
    most = numpy.abs(rest).mean() * 3 + 0.1
    rest = numpy.clip(rest, -most, most)
    at = {
        (a, b): float((rest * numpy.roll(rest, (-a, -b), (0, 1))).sum())
        for a in range(4)
        for b in range(4)
    }
    expected = [(at[a, b] + at[b, a]) / at[0, 0] for a in range(4) for b in range(a, 4)][1:]
    numpy.testing.assert_allclose(_autocorrelation(plane, 4), expected, atol=1e-4)


def test_runs_are_those_of_a_loop_with_a_dictionary() -> None:
    residual = RNG.normal(0, 1.5, (12, 11)).astype(numpy.float32)
    level = numpy.clip(numpy.rint(residual / 0.9), -2, 2).astype(int)
    lines = [*level, *level.T]
    seen: dict[tuple[int, ...], int] = {}
    for line in lines:
        for i in range(len(line) - 2):
            run = tuple(int(v) for v in line[i : i + 3])
            turned = [run, run[::-1], tuple(-v for v in run), tuple(-v for v in run[::-1])]
            seen[min(turned)] = seen.get(min(turned), 0) + 1
    expected = sorted(numpy.sqrt(count / sum(seen.values())) for count in seen.values())
    found = runs(residual, 0.9)
    numpy.testing.assert_allclose(sorted(found[found > 0]), expected, rtol=1e-6)
    # Burnside's lemma: (125 + 25 + 1 + 5) / 4 classes under mirror and sign
    assert classes()[1] == 39 == len(found)


def test_cooccurrence_does_not_see_a_mirror() -> None:
    picture, mirrored = planes(NOISE[:128, :128]), planes(NOISE[:128, 127::-1])
    numpy.testing.assert_allclose(cooccurrence(picture), cooccurrence(mirrored), atol=1e-3)


@pytest.mark.parametrize("shape", [(128, 128), (131, 257), (300, 129)], ids=str)
@pytest.mark.parametrize("fill", ["black", "white", "noise"])
def test_features_are_finite_and_of_one_length(shape: tuple[int, int], fill: str) -> None:
    pixels = numpy.full((*shape, 3), {"black": 0, "white": 255, "noise": 0}[fill], numpy.uint8)
    if fill == "noise":
        pixels = numpy.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=numpy.uint8)
    found = features(crops(pixels)[0])
    lengths = {name: len(vector) for name, vector in features(NOISE).items()}
    assert {name: len(vector) for name, vector in found.items()} == lengths
    assert all(numpy.isfinite(vector).all() for vector in found.values())


def test_halves_are_means_of_four_and_crops_lie_on_the_grid() -> None:
    assert halved(numpy.arange(20, dtype=numpy.float32).reshape(4, 5)).tolist() == [
        [3, 5],
        [13, 15],
    ]
    y, x = numpy.mgrid[:900, :1300]
    pixels = numpy.stack([y % 8, x % 8, y * 0], -1).astype(numpy.uint8)
    found = crops(pixels, 9)
    assert [crop.shape for crop in found] == [(256, 256, 3)] * 9
    assert all(crop[0, 0].tolist() == [0, 0, 0] for crop in found)


def planted(*, delivery: float = 3.0, clusters: int = 6, each: int = 24) -> tuple[Rows, list[str]]:
    """Feature 0 tells labels by 2, feature 1 by 4 but moves with deliveries, the rest marks the cluster."""
    rng = numpy.random.default_rng(1)
    labels = numpy.repeat(numpy.arange(2 * clusters) % 2 == 1, each)
    names = [f"c{number}" for number in range(2 * clusters) for _ in range(each)]
    x = rng.normal(size=(len(labels), 8))
    x[:, 0] += 2 * labels
    x[:, 1] += 4 * labels
    x[:, 2:] += numpy.repeat(rng.normal(0, 3, (2 * clusters, 6)), each, axis=0)
    moved = x + numpy.eye(8)[1] * rng.normal(0, delivery, len(x))[:, None]
    rows = numpy.concatenate([x, moved]).astype(numpy.float32)
    twin = numpy.tile(numpy.arange(len(labels)), 2)
    return Rows(
        features=dict.fromkeys(FEATURES, rows),
        labels=numpy.tile(labels, 2),
        clusters=tuple(names * 2),
        twin=twin,
    ), names * 2


def test_a_head_turns_away_from_what_deliveries_change() -> None:
    rows, _ = planted()
    everything = numpy.ones(len(rows.labels), bool)
    away, plain = (fit(rows, "spectrum", everything, nuisance=n) for n in (300.0, 0.0))

    def moves(head: Any) -> float:
        scores = head.scores(rows.features["spectrum"])
        return float(numpy.abs(scores - scores[rows.twin])[~rows.originals].mean())

    assert moves(away) < 0.35 * moves(plain)
    scores = plain.scores(rows.features["spectrum"])
    reals, fakes = scores[~rows.labels], scores[rows.labels]
    assert reals.mean() + fakes.mean() == pytest.approx(0, abs=1e-3)
    assert (reals.var() + fakes.var()) / 2 == pytest.approx(1, abs=1e-3)


def test_held_out_scores_know_nothing_of_the_cluster_they_judge() -> None:
    """Clusters that are told apart with ease, and labels that follow from nothing else: chance, not 1."""
    from assaymark.provenance.detection_scores import auc

    rows, groups = planted()
    blind = {name: x.copy() for name, x in rows.features.items()}
    for x in blind.values():
        x[:, :2] = numpy.random.default_rng(2).normal(size=(len(x), 2))
    rows = Rows(features=blind, labels=rows.labels, clusters=rows.clusters, twin=rows.twin)
    seen = fit(rows, "spectrum", numpy.ones(len(groups), bool)).scores(blind["spectrum"])
    found = held_out(rows, groups, folds=3)["ensemble"]
    assert (auc(rows.labels, seen) or 0) > 0.85
    assert (auc(rows.labels, found) or 1) < 0.7
