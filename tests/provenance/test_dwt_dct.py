"""The open watermark, read as its package reads it: against the package's loops, written out slowly."""

import math
import tracemalloc
from pathlib import Path
from typing import Any

import numpy
import pytest
from PIL import Image
from scipy import fft
from sklearn.datasets import load_sample_image

from assaymark.provenance.dwt_dct import (
    LARGEST_P,
    MARKS,
    KnownMark,
    blocks_of,
    blue_chrominance,
    chance,
    decode,
    find,
    largest_coefficients,
    look_stable_diffusion_mark,
    singular,
    values_of,
)
from assaymark.provenance.evidence import Says
from assaymark.provenance.material import open_material

Array = numpy.ndarray[Any, Any]
SCALE = 36
PHOTOGRAPHS = {
    "china": load_sample_image("china.jpg")[:280, :312],
    "flower": load_sample_image("flower.jpg")[60:340, 150:452],
}


def slow_u(red: int, green: int, blue: int) -> int:
    """OpenCV's color_yuv: fixed point with 14 bits, one pixel at a time."""
    luminance = (1868 * blue + 9617 * green + 4899 * red + (1 << 13)) >> 14
    return min(max(((blue - luminance) * 8061 + (128 << 14) + (1 << 13)) >> 14, 0), 255)


def slow_half(u: Array) -> Array:
    """pywt.dwt2(…, "haar")[0] in two passes."""
    root = math.sqrt(0.5)
    rows, columns = u.shape[0] // 2, u.shape[1] // 2
    tall = [
        [root * u[2 * i][j] + root * u[2 * i + 1][j] for j in range(2 * columns)]
        for i in range(rows)
    ]
    return numpy.array(
        [[root * row[2 * j] + root * row[2 * j + 1] for j in range(columns)] for row in tall]
    )


def slow_votes(pixels: Array, length: int, method: str) -> Array:
    """EmbedMaxDct.decode and EmbedDwtDctSvd.decode, block by block."""
    height, width = pixels.shape[0] // 4 * 4, pixels.shape[1] // 4 * 4
    u = [[slow_u(*map(int, pixels[y, x])) for x in range(width)] for y in range(height)]
    half = slow_half(numpy.array(u, float))
    scores: list[list[int]] = [[] for _ in range(length)]
    count = 0
    for i in range(half.shape[0] // 4):
        for j in range(half.shape[1] // 4):
            block = half[4 * i : 4 * i + 4, 4 * j : 4 * j + 4]
            if method == "dwtDct":
                value = abs(block.flatten()[1:][numpy.argmax(abs(block.flatten()[1:]))])
            else:
                value = numpy.linalg.svd(fft.dctn(block, norm="ortho"))[1][0]
            scores[count % length].append(int(value % SCALE > 0.5 * SCALE))
            count += 1
    return numpy.array([numpy.mean(score) for score in scores])


def slow_marked(pixels: Array, bits: tuple[bool, ...], method: str) -> Array:
    """The encoders of both methods, with their exchange of two bands, and OpenCV's way back to RGB."""
    red, green, blue = (pixels[..., c].astype(float) for c in range(3))
    y = numpy.rint(0.299 * red + 0.587 * green + 0.114 * blue)
    v = numpy.clip(numpy.rint((red - y) * 0.877 + 128), 0, 255)
    u = blue_chrominance(pixels).astype(float)
    height, width = pixels.shape[0] // 4 * 4, pixels.shape[1] // 4 * 4
    a, b, c, d = (
        u[:height:2, :width:2],
        u[:height:2, 1:width:2],
        u[1:height:2, :width:2],
        u[1:height:2, 1:width:2],
    )
    half, across, down, both = (
        (a + b + c + d) / 2,
        (a + b - c - d) / 2,
        (a - b + c - d) / 2,
        (a - b - c + d) / 2,
    )
    count = 0
    for i in range(half.shape[0] // 4):
        for j in range(half.shape[1] // 4):
            block = half[4 * i : 4 * i + 4, 4 * j : 4 * j + 4]
            bit = bits[count % len(bits)]
            if method == "dwtDct":
                at = divmod(int(numpy.argmax(abs(block.flatten()[1:]))) + 1, 4)
                block[at] = (block[at] // SCALE + 0.25 + 0.5 * bit) * SCALE
            else:
                left, values, right = numpy.linalg.svd(fft.dctn(block, norm="ortho"))
                values[0] = (values[0] // SCALE + 0.25 + 0.5 * bit) * SCALE
                block[:] = fft.idctn(left @ numpy.diag(values) @ right, norm="ortho")
            count += 1
    across, down = down, across
    new = u.copy()
    new[:height:2, :width:2] = (half + across + down + both) / 2
    new[:height:2, 1:width:2] = (half + across - down - both) / 2
    new[1:height:2, :width:2] = (half - across + down - both) / 2
    new[1:height:2, 1:width:2] = (half - across - down + both) / 2
    new = numpy.clip(new, 0, 255).astype(numpy.uint8).astype(float)
    blue, red = y + (new - 128) / 0.492, y + (v - 128) / 0.877
    green = (y - 0.299 * red - 0.114 * blue) / 0.587
    marked: Array = numpy.clip(numpy.rint(numpy.stack([red, green, blue], -1)), 0, 255)
    return marked.astype(numpy.uint8)


def test_the_chrominance_is_opencvs_for_every_pixel() -> None:
    colours = numpy.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=numpy.uint8)
    colours[0, :8] = [(r, g, b) for r in (0, 255) for g in (0, 255) for b in (0, 255)]
    slow = [[slow_u(*map(int, pixel)) for pixel in row] for row in colours]
    assert (blue_chrominance(colours) == numpy.array(slow)).all()


@pytest.mark.parametrize("method", ["dwtDct", "dwtDctSvd"])
@pytest.mark.parametrize("length", [32, 46, 136])
def test_votes_are_those_of_the_package(method: str, length: int) -> None:
    pixels = PHOTOGRAPHS["china"][3:100, 5:117]
    values = (largest_coefficients if method == "dwtDct" else singular)(blocks_of(pixels))
    assert decode(values, length) == pytest.approx(slow_votes(pixels, length, method), abs=0)


@pytest.mark.parametrize("mark", MARKS, ids=[mark.program for mark in MARKS])
@pytest.mark.parametrize("method", ["dwtDct", "dwtDctSvd"])
def test_a_mark_is_found_and_named(mark: KnownMark, method: str) -> None:
    found = find(slow_marked(PHOTOGRAPHS["flower"][:256, :240], mark.bits, method))
    assert (found.mark.program, found.method) == (mark.program, method)
    assert found.p_value < LARGEST_P
    assert found.agreeing > 0.8 * len(mark.bits)


def test_lengths_of_the_messages() -> None:
    lengths = {mark.program: len(mark.bits) for mark in MARKS}
    assert lengths["Stable Diffusion 2"] == 8 * len("SDV2")
    assert lengths["Stable Diffusion XL"] == 48
    assert lengths["FLUX"] == len(bin(0b001010101111111010000111100111001111010100101110)[2:])


def test_chance_is_the_share_of_all_orders() -> None:
    wanted = numpy.array([True] * 3 + [False] * 4)
    exact = 1 / math.comb(7, 3)
    assert chance(numpy.array([7.0, 6, 5, 4, 3, 2, 1]), wanted) == pytest.approx(exact)
    assert chance(numpy.array([1.0, 2, 3, 4, 5, 6, 7]), wanted) == 1
    assert chance(numpy.ones(7), wanted) == 1  # a picture that gives the same for every bit


@pytest.mark.parametrize("seed", range(3))
def test_noise_and_flat_pictures_have_no_mark(seed: int) -> None:
    random = numpy.random.default_rng(seed)
    noise = random.integers(0, 256, (256, 256, 3), dtype=numpy.uint8)
    flat = numpy.full((256, 300, 3), random.integers(0, 256, 3), numpy.uint8)
    ramp = numpy.repeat(numpy.arange(256, dtype=numpy.uint8)[None, :, None], 256, 0).repeat(3, 2)
    assert min(find(one).p_value for one in (noise, flat, ramp)) > 1e-3


def test_photographs_have_no_mark_and_small_ones_are_not_judged(tmp_path: Path) -> None:
    for name, pixels in PHOTOGRAPHS.items():
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        (one,) = look_stable_diffusion_mark(open_material(tmp_path / f"{name}.png"))
        assert one.says is Says.NOTHING
    Image.fromarray(PHOTOGRAPHS["china"][:200, :200]).save(tmp_path / "small.png")
    (one,) = look_stable_diffusion_mark(open_material(tmp_path / "small.png"))
    assert one.says is Says.ABSTAINS


def test_a_marked_file_is_told_and_lost_after_one_jpeg(tmp_path: Path) -> None:
    xl = next(mark for mark in MARKS if mark.program == "Stable Diffusion XL")
    marked = Image.fromarray(slow_marked(PHOTOGRAPHS["flower"], xl.bits, "dwtDct"))
    marked.save(tmp_path / "a.png")
    marked.save(tmp_path / "a.jpg", quality=75)
    (one,) = look_stable_diffusion_mark(open_material(tmp_path / "a.png"))
    assert (one.says, one.details["generator"]) == (Says.GENERATED, "Stable Diffusion XL")
    (one,) = look_stable_diffusion_mark(open_material(tmp_path / "a.jpg"))
    assert one.says is Says.NOTHING


@pytest.mark.long
def test_real_pictures_of_the_given_data_have_no_mark(shared: Path) -> None:
    files = sorted((shared / "data/detect/images/native/real").rglob("*.*"))
    if not files:
        pytest.skip("no pictures in ../shared")
    least = min(find(numpy.asarray(Image.open(path).convert("RGB"))).p_value for path in files)
    assert least > LARGEST_P


def test_a_large_picture_needs_little_memory_and_gives_the_same() -> None:
    """The blocks of all rows at once are what the method is; strips of them are only how it is done."""
    pixels = numpy.random.default_rng(3).integers(0, 256, (1300, 52, 3), dtype=numpy.uint8)
    blocks = blocks_of(pixels)
    largest, strongest = values_of(pixels)
    assert (largest == largest_coefficients(blocks)).all()
    assert (strongest == singular(blocks)).all()
    tracemalloc.start()
    values_of(numpy.zeros((6000, 800, 3), numpy.uint8))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * 6000 * 800
