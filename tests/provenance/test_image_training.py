"""What heads are trained on: one history, sources that count; and what is said after deliveries."""

from functools import partial
from pathlib import Path

import numpy
import pytest

from assaymark.provenance.deliveries import deliver, jpeg
from assaymark.provenance.detect_train import SECOND, files, heads_to_bytes, matched
from assaymark.provenance.image_heads import FEATURES, Rows, features, fit
from assaymark.provenance.image_planes import Pixels
from assaymark.provenance.image_sweep import sweep
from assaymark.provenance.image_weights import HEADS, load_heads, model_card


def picture(seed: int, side: int = 384, noise: float = 2.5) -> Pixels:
    """Colours of power 1/f under fine noise."""
    rng = numpy.random.default_rng(seed)
    y, x = numpy.mgrid[:side, :side] - side // 2
    fall = numpy.fft.ifftshift(1 / numpy.maximum(numpy.hypot(x, y), 1) ** 1.2)
    layers = [
        numpy.fft.ifft2(numpy.fft.fft2(rng.normal(size=(side, side))) * fall).real for _ in "rgb"
    ]
    found = [
        128 + 45 * layer / layer.std() + rng.normal(0, noise, (side, side)) for layer in layers
    ]
    pixels: Pixels = numpy.clip(numpy.stack(found, -1), 0, 255).astype(numpy.uint8)
    return pixels


@pytest.mark.parametrize("shape", [(384, 384), (240, 320), (300, 212)], ids=str)
def test_a_matched_photograph_was_last_saved_at_a_quality_of_the_set(
    shape: tuple[int, int],
) -> None:
    """Saving again at the same quality hardly changes a JPEG; at another, or before, it does."""
    rng = numpy.random.default_rng(0)
    raw = picture(0)[: shape[0], : shape[1]]
    found = matched(raw, rng)
    assert found.shape == (min(256, shape[0]), min(256, shape[1]), 3)

    def change(pixels: Pixels, quality: int) -> float:
        again = jpeg(pixels, rng, quality=quality, chroma="4:2:0")
        return float(numpy.abs(again.astype(float) - pixels).mean())

    least = min((change(found, quality), quality) for quality in SECOND)
    assert least[0] < 0.35 * change(raw, least[1])
    assert numpy.array_equal(
        matched(raw, numpy.random.default_rng(3)), matched(raw, numpy.random.default_rng(3))
    )


def test_sources_of_few_photographs_are_measured_as_one(tmp_path: Path) -> None:
    for name, count in {
        "data/real/big": 1, "data/real/other": 1, "data/fake/f": 1, "data/fake/g": 1,
        "photos/pack-a": 6, "photos/pack-b": 3, "photos/pack-c": 2, "photos/lone-x": 1,
    }.items():  # fmt: skip
        (tmp_path / name).mkdir(parents=True)
        for number in range(count):
            (tmp_path / name / f"{number}.png").touch()
    found = files(tmp_path / "data", tmp_path / "photos")
    told = {(file.path.parent.name, file.cluster, file.group) for file in found if file.raw}
    assert told == {
        ("pack-a", "pack-a", "photos:pack"),
        ("pack-b", "photos:pack", "photos:pack"),
        ("pack-c", "photos:pack", "photos:pack"),
        ("lone-x", "photos:others", "photos:lone"),
    }
    assert {file.cluster for file in found if not file.raw} == {"big", "other", "f", "g"}


def test_a_sweep_asks_the_whole_detector(tmp_path: Path) -> None:
    """Six times the noise is told with ease; a strong blur lies outside the envelope: all abstain."""
    kept, labels, names, twin = [], [], [], []
    for number in range(16):
        fake = number % 2 == 1
        pixels = picture(number, 192, noise=6 if fake else 1)
        pixels = jpeg(pixels, numpy.random.default_rng(0), quality=90, chroma="4:2:0")
        again = deliver(pixels, "jpeg75", numpy.random.default_rng(0))
        kept += [pixels, again]
        labels += [fake, fake]
        names += [f"{fake}{number // 2 % 4}"] * 2
        twin += [2 * number] * 2
    vectors = [features(pixels) for pixels in kept]
    rows = Rows(
        features={name: numpy.stack([each[name] for each in vectors]) for name in FEATURES},
        labels=numpy.array(labels),
        clusters=tuple(names),
        twin=numpy.array(twin),
    )
    looked = {row: partial(kept.__getitem__, row) for row in range(0, 32, 2)}
    found = sweep(rows, names, looked, model_card(), heads_to_bytes, ("unchanged", "blur2"))
    assert found["unchanged"]["auc"] > 0.8
    assert found["unchanged"]["flipped"] == 0
    blurred = found["blur2"]
    assert (blurred["auc"], blurred["abstained_reals"], blurred["abstained_fakes"]) == (None, 1, 1)
    assert (blurred["false_positive_rate"], blurred["reals"], blurred["fakes"]) == (0, 8, 8)
    everything = numpy.ones(len(kept), dtype=bool)
    heads = {name: fit(rows, name, everything) for name in FEATURES}
    (tmp_path / HEADS).write_bytes(heads_to_bytes(heads))
    for name, head in load_heads(tmp_path).items():  # written and read again: the same scores
        x = rows.features[name]
        numpy.testing.assert_allclose(head.scores(x), heads[name].scores(x), atol=1e-3)
