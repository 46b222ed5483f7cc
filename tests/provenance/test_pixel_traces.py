"""Resampling, noise, copies and sensor noise against planted truths and closed forms."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy
import pytest
import pywt
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from assaymark.provenance.camera_look import look_camera_noise
from assaymark.provenance.camera_noise import (
    Fingerprint,
    fingerprint,
    load_fingerprint,
    match,
    residual,
    save_fingerprint,
)
from assaymark.provenance.copy_move import copies, look_copy_move
from assaymark.provenance.evidence import Evidence, HeatMap, Says
from assaymark.provenance.forensic_view import heat_map, tiles, walk
from assaymark.provenance.jpeg_blocks import planes
from assaymark.provenance.material import Material, open_material
from assaymark.provenance.noise_map import look_noise, noise_level
from assaymark.provenance.resampling import (
    factors,
    look_resampling,
    p_map,
    peak,
    second_derivative_spectrum,
)
from assaymark.reports.errors import InputError

Look = Callable[[Material], Sequence[Evidence]]
Pixels = NDArray[numpy.uint8]
RANDOM = numpy.random.default_rng


def rough(side: int, seed: int = 0) -> Pixels:
    """Texture of every scale, different everywhere."""
    random = RANDOM(seed)
    fields = [
        strength * gaussian_filter(random.normal(size=(side, side, 3)), (size, size, 0))
        for size, strength in ((16, 600), (4, 120), (1.2, 30))
    ]
    return numpy.asarray(numpy.clip(sum(fields) + 128, 0, 255).round().astype(numpy.uint8))


def resized(pixels: Pixels, factor: float) -> Pixels:
    side = round(pixels.shape[0] * factor)
    return numpy.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC))


def noisy(side: int, seed: int = 0) -> Pixels:
    random = RANDOM(seed)
    values = rough(side, seed) + random.normal(0, 6, (side, side, 3))
    return numpy.asarray(numpy.clip(values, 0, 255).round().astype(numpy.uint8))


@pytest.mark.parametrize("factor", [1.25, 1.5, 1.8, 2.5])
def test_the_peak_of_an_enlargement_lies_where_theory_puts_it(factor: float) -> None:
    """Weights repeat 1/r times a pixel, seen at its distance to the nearest whole number."""
    plane = planes(resized(noisy(256), factor))[0]
    frequency, height = peak(*second_derivative_spectrum(plane))
    wanted = abs(1 / factor - round(1 / factor))
    assert frequency == pytest.approx(wanted, abs=0.004)
    assert height > 10
    assert min(abs(found - factor) for found in factors(frequency)) < 0.03


def test_a_picture_that_was_not_resized_has_no_peak() -> None:
    for seed in range(4):
        assert peak(*second_derivative_spectrum(planes(noisy(256, seed))[0]))[1] < 6.5


def test_the_map_of_probabilities_learns_the_interpolation() -> None:
    """Every other pixel is the mean of its left and right, as are those above and below it: these
    weights are known but for multiples of (-1, 2, -1), which cancel.
    """
    random = RANDOM(0)
    plane = random.uniform(0, 255, (64, 65)).astype(numpy.float32)
    plane[:, 1:-1:2] = (plane[:, 0:-2:2] + plane[:, 2::2]) / 2
    belongs, weights = p_map(plane, rounds=40)
    assert weights[3:5] == pytest.approx([0.5, 0.5], abs=0.02)
    for first in (0, 5):
        assert weights[first : first + 3] == pytest.approx(
            weights[first + 1] * numpy.array([-0.5, 1, -0.5]), abs=0.02
        )
    assert belongs[:, 0::2].mean() > 0.9
    assert belongs[:, 1::2].mean() < 0.3


@pytest.mark.parametrize("deviation", [1.0, 3.0, 8.0])
def test_the_noise_level_is_that_which_was_added(deviation: float) -> None:
    grey = 128 + RANDOM(0).normal(0, deviation, (128, 128, 1))
    pixels = numpy.repeat(numpy.clip(grey.round(), 0, 255).astype(numpy.uint8), 3, axis=2)
    wanted = (deviation**2 + 1 / 12) ** 0.5  # rounding adds its own
    assert noise_level(pixels).mean() == pytest.approx(wanted, rel=0.1)


def test_a_region_without_the_noise_of_the_rest_is_shown(tmp_path: Path) -> None:
    pixels = noisy(256).copy()
    pixels[64:160, 64:160] = rough(256)[64:160, 64:160]
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (evidence,) = look_noise(open_material(tmp_path / "a.png"))
    drawing = evidence.drawings[0]
    assert isinstance(drawing, HeatMap)
    shown = numpy.array(drawing.values)
    assert shown.shape == (32, 32)
    assert shown[9:19, 9:19].mean() > 0.8
    assert shown[22:, 22:].mean() < 0.3
    assert evidence.llr is None


@pytest.mark.parametrize("quality", [None, 90])
def test_a_copied_region_and_its_move_are_found(quality: int | None) -> None:
    pixels = rough(256, 3).copy()
    pixels[150:220, 140:230] = pixels[40:110, 20:110]
    if quality:
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
        pixels = numpy.asarray(Image.open(stream).convert("RGB"))
    found, marked = copies(planes(pixels)[0])
    assert (found[0].down, found[0].right) == (110, 120)
    assert marked[60:90, 40:90].mean() > 0.9
    assert marked[170:200, 160:210].mean() > 0.9
    assert marked[:30].mean() < 0.05


def test_texture_and_straight_edges_are_no_copies() -> None:
    stripes = rough(256).copy()
    stripes[100:140] = 220
    for pixels in (rough(256), noisy(256, 1), stripes):
        assert not copies(planes(pixels)[0])[0]


def test_the_wavelet_bands_are_those_of_the_library() -> None:
    """A residual with nothing above it: the same filter, written with PyWavelets band by band."""
    plane = planes(noisy(128))[0].astype(numpy.float64)
    bands = pywt.wavedec2(plane, "db4", mode="periodization", level=4)
    kept = [numpy.zeros_like(bands[0])]
    for details in bands[1:]:
        kept.append(tuple(_wiener(band, 9.0) for band in details))
    assert residual(plane.astype(numpy.float32)) == pytest.approx(
        pywt.waverec2(kept, "db4", mode="periodization"), abs=0.05
    )


def _wiener(band: NDArray[numpy.float64], variance: float) -> NDArray[numpy.float64]:
    least = numpy.full(band.shape, numpy.inf)
    for window in (3, 5, 7, 9):
        reach = range(-(window // 2), window // 2 + 1)
        means = sum(numpy.roll(band**2, (i, j), (0, 1)) for i in reach for j in reach) / (window**2)
        least = numpy.minimum(least, means)
    return numpy.asarray(band * variance / (numpy.maximum(least - variance, 0) + variance))


SENSORS = [RANDOM(100 + k).normal(0, 0.02, (160, 192, 1)) for k in range(2)]


def shot(scene: int, sensor: int) -> Pixels:
    """A photograph by one of two sensors."""
    field = rough(192, scene)[:160].astype(float)
    values = field * (1 + SENSORS[sensor]) + RANDOM(scene).normal(0, 1, field.shape)
    return numpy.asarray(numpy.clip(values, 0, 255).round().astype(numpy.uint8))


@pytest.fixture(scope="module")
def camera() -> Fingerprint:
    return fingerprint(shot(scene, 0) for scene in range(8))


def test_the_right_camera_is_told_from_the_wrong_one(camera: Fingerprint) -> None:
    assert numpy.corrcoef(camera.pattern.ravel(), SENSORS[0].ravel())[0, 1] > 0.5
    right, wrong = match(camera, shot(50, 0)), match(camera, shot(50, 1))
    assert right.pce > 60 > 20 > wrong.pce
    assert right.p_value < 1e-10 < 1e-3 < wrong.p_value


def test_a_crop_is_found_where_it_was_cut(camera: Fingerprint) -> None:
    found = match(camera, shot(51, 0)[12:150, 31:180])
    assert found.pce > 60
    assert (found.top, found.left) == (12, 31)
    assert found.shifts == 23 * 44


def test_a_fingerprint_is_stored_without_pickle(camera: Fingerprint, tmp_path: Path) -> None:
    save_fingerprint(camera, tmp_path / "a.npz")
    back = load_fingerprint(tmp_path / "a.npz")
    assert (back.pattern == camera.pattern).all()
    assert back.pictures == 8
    numpy.savez(tmp_path / "b.npz", pattern=numpy.array([object()]), pictures=numpy.int64(1))
    numpy.savez(tmp_path / "c.npz", pattern=numpy.zeros((4, 4)), pictures=numpy.int64(1))
    (tmp_path / "d.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:500])
    for name in ("b.npz", "c.npz", "d.npz", "e.npz"):
        with pytest.raises(InputError, match="no fingerprint"):
            load_fingerprint(tmp_path / name)


@pytest.mark.parametrize(
    ("pictures", "said"),
    [
        ([], "no reference pictures"),
        (
            [numpy.zeros((160, 192, 3), numpy.uint8), numpy.zeros((192, 160, 3), numpy.uint8)],
            "differ",
        ),
        ([numpy.zeros((64, 192, 3), numpy.uint8)], "at least 128"),
    ],
    ids=["none", "turned", "small"],
)
def test_references_that_do_not_fit_are_refused(pictures: Sequence[Pixels], said: str) -> None:
    with pytest.raises(InputError, match=said):
        fingerprint(pictures)


def test_the_look_speaks_only_for_the_camera(camera: Fingerprint, tmp_path: Path) -> None:
    save_fingerprint(camera, tmp_path / "camera.npz")
    options = {"prnu_references": str(tmp_path / "camera.npz")}
    cases = {
        "right": (shot(60, 0), options, Says.AUTHENTIC),
        "wrong": (shot(60, 1), options, Says.NOTHING),
        "none": (shot(60, 0), {}, Says.ABSTAINS),
        "larger": (rough(256), options, Says.ABSTAINS),
    }
    for name, (pixels, given, says) in cases.items():
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        (evidence,) = look_camera_noise(open_material(tmp_path / f"{name}.png", given))
        assert evidence.says is says, name
    for bad in (7, str(tmp_path / "nowhere")):
        material = open_material(tmp_path / "right.png", {"prnu_references": bad})
        with pytest.raises(InputError):
            look_camera_noise(material)


@pytest.mark.parametrize("look", [look_resampling, look_noise, look_copy_move])
def test_looks_abstain_from_what_shows_nothing(look: Look, tmp_path: Path) -> None:
    for name, pixels in (
        ("even", numpy.full((128, 128, 3), 9, numpy.uint8)),
        ("tiny", rough(32)),
        ("one", numpy.zeros((1, 1, 3), numpy.uint8)),
    ):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        (evidence,) = look(open_material(tmp_path / f"{name}.png"))
        assert evidence.says is Says.ABSTAINS
    Image.fromarray(rough(135)[:, :77]).convert("L").save(tmp_path / "grey.png")
    (evidence,) = look(open_material(tmp_path / "grey.png"))
    assert evidence.says is Says.NOTHING


def test_tiles_cover_every_block_once() -> None:
    for height, width, side in ((512, 512, 1024), (1025, 3000, 512), (64, 5000, 256)):
        seen = numpy.zeros((height // 8, width // 8), int)
        for top, left, bottom, right in tiles(height, width, side):
            assert max(bottom - top, right - left) <= side
            seen[top // 8 : bottom // 8, left // 8 : right // 8] += 1
        assert (seen == 1).all()


def test_a_walk_ends_in_time_and_says_how_far_it_came() -> None:
    pixels = numpy.zeros((2048, 2048, 3), numpy.uint8)
    ended = walk(pixels, lambda part: numpy.zeros((part.shape[0] // 8, part.shape[1] // 8)), 1e-9)
    assert ended.looked == 0.25
    assert "25%" in ended.note
    heat = heat_map("a", ended.grid, 0, 1)
    assert (len(heat.values), len(heat.values[0])) == (96, 96)


def test_the_time_limit_must_be_a_number(tmp_path: Path) -> None:
    Image.fromarray(rough(64)).save(tmp_path / "a.png")
    for bad in (0, -1, "2", True, float("nan")):
        with pytest.raises(InputError, match="forensic_seconds"):
            look_noise(open_material(tmp_path / "a.png", {"forensic_seconds": bad}))
