"""The fingerprint: as the standard has it, near for copies, far for other pictures."""

import io

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageFilter
from sklearn.datasets import load_sample_image

from assaymark.provenance.fingerprint import (
    distance,
    fingerprint,
    from_unit,
    image_code,
    largest_distance,
    to_iscc,
    to_unit,
)
from assaymark.reports.errors import InputError

PHOTOGRAPH = Image.fromarray(load_sample_image("china.jpg"))


def of(picture: Image.Image) -> bytes:
    code = fingerprint(numpy.asarray(picture.convert("RGB")))
    assert code is not None
    return code


def formula() -> numpy.ndarray:
    y, x = numpy.mgrid[:32, :32]
    grey: numpy.ndarray = ((7 * x + 13 * y + x * y) % 256).astype(numpy.uint8)
    return grey


@pytest.mark.parametrize(
    ("grey", "expected"),
    [
        (numpy.zeros((32, 32), numpy.uint8), "ISCC:EEDQ" + "A" * 51),
        (numpy.full((32, 32), 255, numpy.uint8), "ISCC:EEDY" + "A" * 51),
        (formula(), "ISCC:EEDYPCYFAOP3ZOFTAF6YK7MBFPKD7NVFVWVEY2CNNHIIGX5YMLDMVGY"),
    ],
    ids=["black", "white", "formula"],
)
def test_codes_are_those_of_the_reference_implementation(
    grey: numpy.ndarray, expected: str
) -> None:
    """What iscc-core 1.5.0 (Apache-2.0, the reference of ISO 24138) gives for these pixels."""
    assert to_iscc(image_code(grey)) == expected


def jpeg(picture: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    return Image.open(stream)


COPIES = {
    "jpeg 90": jpeg(PHOTOGRAPH, 90),
    "jpeg 30": jpeg(PHOTOGRAPH, 30),
    "half": PHOTOGRAPH.resize((320, 213)),
    "double": PHOTOGRAPH.resize((1280, 854)),
    "square": PHOTOGRAPH.resize((300, 300)),
    "grey": PHOTOGRAPH.convert("L"),
    "brighter": ImageEnhance.Brightness(PHOTOGRAPH).enhance(1.2),
    "less contrast": ImageEnhance.Contrast(PHOTOGRAPH).enhance(0.6),
    "blurred": PHOTOGRAPH.filter(ImageFilter.GaussianBlur(2)),
    "a border": Image.new("RGB", (700, 500), "white"),
    "cropped by 2 %": PHOTOGRAPH.crop((6, 4, 634, 423)),
}
COPIES["a border"].paste(PHOTOGRAPH, (40, 30))


@pytest.mark.parametrize("change", COPIES)
def test_copies_are_near(change: str) -> None:
    assert distance(of(PHOTOGRAPH), of(COPIES[change])) <= largest_distance(10_000, 1e-2)


def test_other_pictures_are_far_and_flat_ones_have_no_fingerprint() -> None:
    flower = Image.fromarray(load_sample_image("flower.jpg"))
    assert distance(of(PHOTOGRAPH), of(flower)) > largest_distance(1, 1e-2)
    assert fingerprint(numpy.full((50, 60, 3), 77, numpy.uint8)) is None


@given(st.integers(1, 10**9), st.floats(1e-9, 0.5))
def test_the_more_is_stored_the_nearer_a_match_must_be(size: int, false_match: float) -> None:
    here = largest_distance(size, false_match)
    assert 0 <= largest_distance(10 * size, false_match) <= here <= 60
    assert largest_distance(size, false_match / 10) <= here


@pytest.mark.parametrize("probability", [0, 1, -0.1, float("nan")])
def test_a_false_match_probability_must_be_one(probability: float) -> None:
    with pytest.raises(InputError, match="expected a probability"):
        largest_distance(10, probability)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_units_hold_codes_and_distances_are_a_metric(a: bytes, b: bytes) -> None:
    assert from_unit(to_unit(a)) == a
    assert (
        distance(a, b)
        == distance(b, a)
        == sum((x ^ y).bit_count() for x, y in zip(a, b, strict=True))
    )
    assert from_unit(a) is None
    assert from_unit(to_unit(a)[:-1]) is None


def test_only_256_bits_make_a_unit() -> None:
    with pytest.raises(InputError, match="a fingerprint of 64 bits: expected 256"):
        to_unit(bytes(8))
