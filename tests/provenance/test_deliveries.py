"""Deliveries against what is known of each without our code: sizes, spectra, JPEG's own arithmetic."""

import io
import math
import re

import numpy
import pytest
from PIL import Image

from assaymark.provenance.deliveries import BENIGN, DELIVERIES, EIGHT, Pixels, deliver
from assaymark.reports.errors import InputError


def _texture(height: int = 96, width: int = 80) -> Pixels:
    """Smooth colours and fine grain, so that every delivery has something to change."""
    rng = numpy.random.default_rng(7)
    down, right = numpy.mgrid[:height, :width]
    waves = numpy.stack(
        [numpy.sin(down / 5), numpy.cos(right / 7), numpy.sin((down + right) / 9)], 2
    )
    return numpy.clip(128 + 60 * waves + rng.normal(0, 12, waves.shape), 0, 255).astype(numpy.uint8)


@pytest.mark.parametrize("name", DELIVERIES)
def test_every_delivery_is_seeded_and_leaves_its_input_alone(name: str) -> None:
    pixels = _texture()
    before = pixels.copy()
    first, again = deliver(pixels, name, 3), deliver(pixels, name, numpy.random.default_rng(3))
    assert numpy.array_equal(first, again)
    assert numpy.array_equal(pixels, before)
    assert first.dtype == numpy.uint8
    assert first.shape[2:] == (3,)
    assert name == "unchanged" or not numpy.array_equal(first, pixels)
    assert abs(first.mean() - pixels.mean()) < (60 if name == "screenshot" else 4)
    assert deliver(pixels[:1, :1], name).size >= 3


@pytest.mark.parametrize(("name", "chroma"), [("jpeg75", 2), ("jpeg75-444", 0), ("jpeg100-444", 0)])
def test_jpeg_is_what_a_viewer_decodes_from_such_a_file(name: str, chroma: int) -> None:
    stream = io.BytesIO()
    quality = int(name.removeprefix("jpeg").removesuffix("-444"))
    Image.fromarray(_texture()).save(stream, "JPEG", quality=quality, subsampling=chroma)
    assert numpy.array_equal(deliver(_texture(), name), numpy.asarray(Image.open(stream)))


@pytest.mark.parametrize(
    ("name", "shape"),
    [("resize50-bicubic", (48, 40)), ("resize125-nearest", (120, 100)), ("crop50", (48, 40))],
)
def test_sizes(name: str, shape: tuple[int, int]) -> None:
    assert deliver(_texture(), name).shape == (*shape, 3)


def test_a_crop_is_a_part_of_the_picture() -> None:
    pixels = _texture(24, 20)
    part = deliver(pixels, "crop90", 1)
    height, width = part.shape[:2]
    places = numpy.lib.stride_tricks.sliding_window_view(pixels, (height, width, 3))
    assert (places == part).all(axis=(-1, -2, -3)).any()


def test_noise_and_blur_have_the_stated_strength() -> None:
    flat = numpy.full((200, 200, 3), 128, numpy.uint8)
    # rounding to whole steps adds a variance of 1/12
    assert deliver(flat, "noise4").std() == pytest.approx(math.sqrt(16 + 1 / 12), rel=0.02)
    point = numpy.zeros((41, 41, 3), numpy.uint8)
    point[20, 20] = 255
    spread = deliver(point, "blur2")[:, :, 0].astype(float)
    down = numpy.arange(41) - 20
    variance = (spread.sum(axis=1) * down**2).sum() / spread.sum()
    assert variance == pytest.approx(4, rel=0.25)  # PIL's is a triple box, rounded to whole steps


def test_a_second_grid_lies_off_the_first() -> None:
    """What is cut off between two savings is 1 to 7 pixels of each side."""
    for seed in range(8):
        height, width = deliver(_texture(), "double-jpeg", seed).shape[:2]
        assert 1 <= 96 - height <= 7
        assert 1 <= 80 - width <= 7


def test_lists_name_rows_of_the_table() -> None:
    assert len(set(EIGHT)) == 8
    assert set(EIGHT) | set(BENIGN) <= set(DELIVERIES)


@pytest.mark.parametrize(
    ("pixels", "name", "says"),
    [
        (_texture(), "jpeg_75", "did you mean"),
        (_texture().astype(float), "jpeg75", "float64"),
        (_texture()[:, :, 0], "jpeg75", "(96, 80)"),
        (_texture()[:0], "jpeg75", "(0, 80, 3)"),
    ],
    ids=["name", "type", "grey", "empty"],
)
def test_what_cannot_be_delivered_is_named(pixels: Pixels, name: str, says: str) -> None:
    with pytest.raises(InputError, match=re.escape(says)):
        deliver(pixels, name)
