"""Watermarks: found after what pictures go through, not found where there is none."""

import io
import itertools
import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageFilter
from sklearn.datasets import load_sample_image

from assaymark.provenance import convolutional
from assaymark.provenance.watermark import Pixels, Watermark, derived, seal
from assaymark.provenance.watermark_lattice import LatticeWatermark
from assaymark.provenance.watermark_trustmark import TrustMarkWatermark
from assaymark.reports.errors import InputError

KEY = b"a key of 32 bytes for tests only"
OTHER = b"another key, also only for tests"
PAYLOAD = 0xC0FFEE42
METHOD = LatticeWatermark()
Change = Callable[[Image.Image], Image.Image]


@pytest.fixture(scope="module")
def photograph() -> Image.Image:
    return Image.fromarray(load_sample_image("china.jpg")).crop((100, 20, 500, 404))


@pytest.fixture(scope="module")
def marked(photograph: Image.Image) -> Image.Image:
    return Image.fromarray(METHOD.embed(numpy.asarray(photograph), PAYLOAD, KEY))


def jpeg(quality: int) -> Change:
    def change(picture: Image.Image) -> Image.Image:
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=quality)
        return Image.open(stream).convert("RGB")

    return change


def noisy(picture: Image.Image) -> Image.Image:
    noise = numpy.random.default_rng(0).normal(0, 6, (*picture.size[::-1], 3))
    return Image.fromarray(numpy.clip(numpy.asarray(picture) + noise, 0, 255).astype(numpy.uint8))


def scaled(across: float, down: float) -> Change:
    return lambda picture: picture.resize(
        (round(picture.width * across), round(picture.height * down)), Image.Resampling.BICUBIC
    )


def cropped(side: float) -> Change:
    def change(picture: Image.Image) -> Image.Image:
        width, height = round(picture.width * side), round(picture.height * side)
        return picture.crop((37, 21, 37 + width, 21 + height))

    return change


CHANGES: dict[str, Change] = {
    "none": lambda picture: picture,
    "jpeg 50": jpeg(50),
    "half": scaled(0.5, 0.5),
    "double": scaled(2, 2),
    "stretched": scaled(1, 0.75),
    "half the area": cropped(0.71),
    "crop and jpeg": lambda picture: jpeg(75)(cropped(0.8)(picture)),
    "brighter": lambda picture: ImageEnhance.Brightness(picture).enhance(1.3),
    "less contrast": lambda picture: ImageEnhance.Contrast(picture).enhance(0.7),
    "blurred": lambda picture: picture.filter(ImageFilter.GaussianBlur(1)),
    "noise": noisy,
    "grey": lambda picture: picture.convert("L").convert("RGB"),
    "quarter turn": lambda picture: picture.transpose(Image.Transpose.ROTATE_90),
    "mirrored": lambda picture: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "turned by 3 degrees": lambda picture: picture.rotate(3, Image.Resampling.BICUBIC),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_mark_is_found_after(change: str, marked: Image.Image) -> None:
    found = METHOD.detect(numpy.asarray(CHANGES[change](marked)), KEY)
    assert found is not None
    assert found.payload == PAYLOAD
    assert found.p_value < 1e-9
    assert 0 < found.score <= 1


def test_the_mark_is_invisible(photograph: Image.Image, marked: Image.Image) -> None:
    apart = numpy.asarray(marked).astype(float) - numpy.asarray(photograph)
    assert 10 * numpy.log10(255**2 / (apart**2).mean()) > 38  # dB
    assert abs(apart).max() < 40


@pytest.mark.parametrize("change", ["none", pytest.param("half the area", marks=pytest.mark.long)])
def test_no_mark_is_found_without_one_or_with_another_key(
    change: str, photograph: Image.Image, marked: Image.Image
) -> None:
    assert METHOD.detect(numpy.asarray(CHANGES[change](photograph)), KEY) is None
    assert METHOD.detect(numpy.asarray(CHANGES[change](marked)), OTHER) is None


def test_the_p_value_of_the_pilots_is_one_for_pictures_without_a_mark(
    photograph: Image.Image, marked: Image.Image
) -> None:
    """It bounds a probability over keys: of 8 keys, on average 0.8 or fewer may be below 0.1."""
    small = numpy.asarray(photograph.resize((128, 128)))
    values = [METHOD.pilot_p_value(small, bytes([i]) * 16) for i in range(8)]
    assert sum(value < 0.1 for value in values) <= 3  # more has a probability below 1 %
    assert METHOD.pilot_p_value(numpy.asarray(marked), KEY) < 1e-9


def test_the_tail_bound_holds_for_any_amplitudes() -> None:
    """P(S >= s) <= exp(-s^2 / sum |u|^2), by simulation; for equal amplitudes the tail is near it."""
    random = numpy.random.default_rng(0)
    for amplitudes in (numpy.ones(100), random.pareto(1.0, 100), numpy.eye(100)[0]):
        phases = random.uniform(0, 2 * numpy.pi, (20_000, 100))
        sums = (amplitudes * numpy.cos(phases)).sum(1)
        evidence = numpy.maximum(sums, 0) ** 2 / (amplitudes**2).sum()
        for least in (0.5, 1.0, 2.0, 4.0):
            assert (evidence >= least).mean() <= numpy.exp(-least) * 1.05 + 1e-3


@given(payload=st.integers(0, 2**32 - 1), key=st.binary(min_size=16, max_size=40))
@settings(max_examples=3, derandomize=True)
def test_any_payload_comes_back(payload: int, key: bytes) -> None:
    texture = numpy.random.default_rng(7).integers(0, 256, (40, 40, 3), dtype=numpy.uint8)
    pixels = numpy.asarray(Image.fromarray(texture).resize((160, 200), Image.Resampling.BICUBIC))
    found = METHOD.detect(METHOD.embed(pixels, payload, key), key)
    assert found is not None
    assert found.payload == payload


@pytest.mark.parametrize(
    ("height", "payload", "key", "words"),
    [
        (200, -1, KEY, "watermark payload -1: expected 0 to"),
        (200, 2**32, KEY, "watermark payload"),
        (200, 1, b"short", "a watermark key of 5 bytes: expected at least 16"),
        (127, 1, KEY, "200 × 127 pixels: a watermark needs at least 128"),
    ],
)
def test_what_does_not_fit_is_refused(height: int, payload: int, key: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words):
        METHOD.embed(numpy.zeros((height, 200, 3), numpy.uint8), payload, key)


@pytest.mark.parametrize("shape", [(1, 1), (20, 500), (33, 700)])
def test_pictures_of_any_shape_can_be_searched(shape: tuple[int, int]) -> None:
    assert METHOD.detect(numpy.full((*shape, 3), 128, numpy.uint8), KEY) is None


def test_seals_and_purposes_differ() -> None:
    assert len({seal(1, KEY), seal(2, KEY), seal(1, OTHER)}) == 3
    assert seal(1, KEY) >> 3 == seal(1, KEY, 29)
    assert derived(KEY, "seal") != derived(KEY, "phases")


def test_the_code_has_the_distance_of_the_standard() -> None:
    """Free distance 18 for generators 557, 663, 711 (Proakis, Digital Communications, table 8.2-2)."""
    messages = itertools.product((0, 1), repeat=9)
    weights = [convolutional.encode(numpy.array(m, numpy.uint8)).sum() for m in messages if any(m)]
    assert min(weights) == 18


@given(st.binary(min_size=1, max_size=10), st.data())
@settings(max_examples=25, derandomize=True)
def test_any_eight_errors_are_corrected(message: bytes, data: st.DataObject) -> None:
    bits = numpy.unpackbits(numpy.frombuffer(message, numpy.uint8))
    coded = convolutional.encode(bits)
    assert len(coded) == convolutional.coded_length(len(bits))
    places = st.lists(st.integers(0, len(coded) - 1), max_size=8, unique=True)
    soft = 1.0 - 2.0 * coded
    soft[data.draw(places)] *= -1
    assert convolutional.decode(soft).tolist() == bits.tolist()


class StandIn:
    """In the place of TrustMark's class: the lowest bit of the first pixels. Shows the plumbing only."""

    def __init__(self, verbose: bool, model_type: str, encoding_type: int, loadRemover: bool):
        self.load_model(f"models/trustmark_{model_type}.yaml", f"models/decoder_{model_type}.ckpt")
        self.load_model(f"models/trustmark_{model_type}.yaml", f"models/encoder_{model_type}.ckpt")

    def load_model(self, config_path: str, weight_path: str) -> str:
        return Path(config_path).read_text() + Path(weight_path).read_text()

    def encode(self, picture: Image.Image, secret: str, MODE: str) -> Image.Image:
        pixels = numpy.array(picture)
        flat = pixels.reshape(-1)
        flat[:61] = flat[:61] & 0xFE | numpy.array([int(bit) for bit in secret])
        return Image.fromarray(pixels)

    def decode(self, picture: Image.Image, MODE: str) -> tuple[str, bool, int]:
        return "".join(str(v & 1) for v in numpy.asarray(picture).reshape(-1)[:61]), True, 1


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import hashlib

    names = ("trustmark_Q.yaml", "decoder_Q.ckpt", "encoder_Q.ckpt")
    module = types.ModuleType("trustmark.trustmark")
    module.__dict__["TrustMark"] = StandIn
    module.__dict__["MODEL_CHECKSUMS"] = {n: hashlib.md5(n.encode()).hexdigest() for n in names}
    monkeypatch.setitem(sys.modules, "trustmark", types.ModuleType("trustmark"))
    monkeypatch.setitem(sys.modules, "trustmark.trustmark", module)
    for name in names:
        (tmp_path / name).write_text(name)
    return tmp_path


def test_trustmark_is_asked_for_sealed_payloads(weights: Path, photograph: Image.Image) -> None:
    method: Watermark = TrustMarkWatermark(weights, variant="Q")
    pixels: Pixels = numpy.asarray(photograph)
    carrying = method.embed(pixels, PAYLOAD, KEY)
    found = method.detect(carrying, KEY)
    assert found is not None
    assert (found.payload, found.p_value) == (PAYLOAD, 2.0**-29)
    assert method.detect(carrying, OTHER) is None
    assert method.detect(pixels, KEY) is None
    assert method.algorithm == "com.adobe.trustmark.Q"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda path: path.unlink(), "they are not fetched"),
        (lambda path: path.write_text("another"), "get the published file again"),
    ],
    ids=["missing", "changed"],
)
def test_trustmark_takes_only_the_published_weights(
    weights: Path, change: Callable[[Path], object], words: str
) -> None:
    change(weights / "encoder_Q.ckpt")
    with pytest.raises(InputError, match=words):
        TrustMarkWatermark(weights, variant="Q").detect(numpy.zeros((9, 9, 3), numpy.uint8), KEY)


def test_trustmark_that_is_not_installed_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "trustmark.trustmark", None)
    with pytest.raises(InputError, match="TrustMark is not installed"):
        TrustMarkWatermark(tmp_path).embed(numpy.zeros((9, 9, 3), numpy.uint8), 1, KEY)
