"""Traces of JPEG against planted histories: tables, double compression, past grids, ghosts, error level."""

import io
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn
from scipy.ndimage import gaussian_filter

from assaymark.provenance.error_level import error_level, look_error_level
from assaymark.provenance.evidence import Evidence, Says
from assaymark.provenance.jpeg_blocks import (
    CHROMINANCE,
    ZIGZAG,
    coefficients,
    planes,
    standard_steps,
)
from assaymark.provenance.jpeg_double import double_jpeg
from assaymark.provenance.jpeg_ghosts import ghost_errors, ghost_map, look_ghosts
from assaymark.provenance.jpeg_grid import past_grid
from assaymark.provenance.jpeg_history import jpeg_history, look_jpeg_history
from assaymark.provenance.jpeg_tables import MOZJPEG, read_tables
from assaymark.provenance.material import Material, open_material, picture_of

Look = Callable[[Material], Sequence[Evidence]]
Pixels = NDArray[numpy.uint8]


@cache
def scene(side: int = 256, seed: int = 0) -> Pixels:
    """Soft shapes, edges and a sensor's noise: what a photograph has, without one."""
    random = numpy.random.default_rng(seed)
    layers = []
    for size, strength in ((24, 900), (6, 160), (2, 30), (0.8, 6)):
        layers.append(
            strength * gaussian_filter(random.normal(size=(side, side, 3)), (size, size, 0))
        )
    smooth = sum(layers) + 128
    edges = 40 * (gaussian_filter(random.normal(size=(side, side)), 12) > 0)[..., None]
    noisy = smooth + edges + random.normal(0, 1.5, (side, side, 3))
    return numpy.asarray(numpy.clip(noisy, 0, 255).round().astype(numpy.uint8))


def saved(pixels: Pixels, quality: int, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality, **options)
    return stream.getvalue()


def again(pixels: Pixels, quality: int) -> Pixels:
    return picture_of(saved(pixels, quality)).pixels


def test_coefficients_are_those_of_the_library_on_any_grid() -> None:
    plane = planes(scene(64))[0]
    found = coefficients(plane, 3, 5)
    block = plane[3 + 16 : 3 + 24, 5 + 8 : 5 + 16]
    assert found.shape == (7, 7, 64)
    wanted = dctn(block - 128.0, norm="ortho").ravel()
    assert numpy.allclose(found[2, 1], wanted, atol=1e-3)
    assert numpy.allclose(coefficients(plane, 3, 5, (9, 1))[2, 1], wanted[[9, 1]], atol=1e-3)


def test_zigzag_is_the_standard_order() -> None:
    """ITU-T T.81, figure A.6."""
    assert ZIGZAG[:10] == (0, 1, 8, 16, 9, 2, 3, 10, 17, 24)
    assert ZIGZAG[-3:] == (55, 62, 63)
    assert sorted(ZIGZAG) == list(range(64))


@pytest.mark.parametrize("quality", [1, 10, 49, 50, 75, 93, 100])
def test_standard_tables_are_those_that_the_encoder_writes(quality: int) -> None:
    tables = picture_of(saved(scene(16), quality)).tables
    assert tables[0] == tuple(standard_steps(quality))
    assert tables[1] == tuple(standard_steps(quality, CHROMINANCE))
    read = read_tables(tables)
    assert read is not None
    assert (read.encoder, read.distance) == ("standard (IJG)", 0.0)
    assert tuple(standard_steps(read.quality)) == tables[0]


@pytest.mark.parametrize(
    ("tables", "encoder", "quality"),
    [
        ((tuple(standard_steps(83, MOZJPEG)),) * 2, "mozjpeg", 83),
        ((tuple(int(step) + 1 for step in standard_steps(80)),), None, 78),
    ],
    ids=["mozjpeg", "nobody's"],
)
def test_other_tables_are_named_or_called_unknown(
    tables: tuple[tuple[int, ...], ...], encoder: str | None, quality: int
) -> None:
    read = read_tables(tables)
    assert read is not None
    assert read.encoder == encoder
    assert abs(read.quality - quality) <= 2


@pytest.mark.parametrize(
    "tables",
    [(), ((1,) * 63,), ((0,) * 64,), ((9,) * 64, (256,) * 64)],
    ids=["none", "63", "zero", "16-bit"],
)
def test_broken_tables_say_nothing(tables: tuple[tuple[int, ...], ...]) -> None:
    assert read_tables(tables) is None


@pytest.mark.parametrize(("first", "last"), [(60, 85), (70, 90), (75, 92), (82, 95)])
def test_the_first_quality_on_the_same_grid_is_found(first: int, last: int) -> None:
    history = jpeg_history(picture_of(saved(again(scene(), first), last)))
    assert history.tables is not None
    assert history.tables.quality == last
    assert history.earlier is not None
    assert abs(history.earlier - first) <= 5


@pytest.mark.parametrize("quality", [75, 85, 95])
def test_a_picture_saved_once_shows_no_earlier_quality(quality: int) -> None:
    history = jpeg_history(picture_of(saved(scene(), quality)))
    assert history.earlier is None
    assert history.grid is None


def test_blocks_that_were_compressed_once_stand_out() -> None:
    """A pasted region without the first compression has the lower ratio of twice to once."""
    pixels = again(scene(), 65).copy()
    pixels[64:160, 80:176] = scene(seed=5)[64:160, 80:176]
    picture = picture_of(saved(pixels, 90))
    found = double_jpeg(planes(picture.pixels)[0], numpy.array(picture.tables[0]))
    inside = numpy.zeros((32, 32), bool)
    inside[8:20, 10:22] = True
    assert found.quality is not None
    assert abs(found.quality - 65) <= 5
    assert numpy.median(found.blocks[inside]) < 0 < numpy.median(found.blocks[~inside])


@pytest.mark.parametrize("quality", [50, 70, 85, 92])
@pytest.mark.parametrize(("top", "left"), [(0, 0), (3, 5)])
def test_the_past_of_decoded_pixels_is_found(quality: int, top: int, left: int) -> None:
    pixels = again(scene(), quality)[(8 - top) % 8 :, (8 - left) % 8 :]
    past = past_grid(planes(pixels)[0])
    assert past is not None
    assert past.score > 10
    assert (past.top, past.left) == (top, left)
    assert abs(past.quality - quality) <= 5


def test_a_displaced_grid_is_found_below_a_later_compression() -> None:
    cropped = again(scene(), 65)[5:, 3:]
    history = jpeg_history(picture_of(saved(cropped, 90)))
    assert history.grid is not None
    assert (history.grid.top, history.grid.left) == (3, 5)
    assert abs(history.grid.quality - 65) <= 5


def test_pixels_that_never_were_a_jpeg_show_no_grid() -> None:
    for seed in range(4):
        past = past_grid(planes(scene(seed=seed))[0])
        assert past is not None
        assert past.score < 10


def test_ghosts_are_the_error_of_quantising_again() -> None:
    plane = planes(scene(64))[0]
    steps = standard_steps(70)
    errors = ghost_errors(scene(64), (70,))[0]
    blocks = []
    for row in range(8):
        for column in range(8):
            part = plane[8 * row : 8 * row + 8, 8 * column : 8 * column + 8] - 128.0
            found = dctn(part, norm="ortho").ravel()
            blocks.append(((found - steps * numpy.rint(found / steps)) ** 2).mean())
    slow = numpy.array(blocks).reshape(8, 8)
    assert errors[3, 3] == pytest.approx(slow[2:5, 2:5].mean(), rel=0.02)


def test_a_region_of_lower_quality_is_a_ghost() -> None:
    pixels = again(scene(), 92).copy()
    pixels[96:192, 64:160] = again(scene(), 60)[96:192, 64:160]
    found = ghost_map(pixels)
    inside = numpy.zeros(found.shape, bool)
    inside[13:23, 9:19] = True
    assert numpy.median(found[inside]) > 2 * numpy.median(found[~inside])


def test_error_level_falls_with_every_saving() -> None:
    fresh, old = error_level(scene(96)), error_level(again(again(scene(96), 90), 90))
    assert fresh.shape == (12, 12)
    assert numpy.median(old) < 0.5 * numpy.median(fresh)


@pytest.mark.parametrize("look", [look_jpeg_history, look_ghosts, look_error_level])
@pytest.mark.parametrize(
    ("pixels", "says"),
    [
        (scene(128), Says.NOTHING),
        (numpy.full((128, 128, 3), 7, numpy.uint8), Says.ABSTAINS),
        (scene(128)[:40, :90], Says.ABSTAINS),
        (scene(128)[:, :101], Says.NOTHING),
    ],
    ids=["scene", "even", "tiny", "odd-size"],
)
def test_looks_say_nothing_of_ordinary_pictures(
    tmp_path: Path, look: Look, pixels: Pixels, says: Says
) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(saved(pixels, 90))
    (evidence,) = look(open_material(path))
    assert isinstance(evidence, Evidence)
    assert evidence.says is says
    assert evidence.llr is None
    assert evidence.summary
