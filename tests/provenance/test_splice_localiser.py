"""The splice localiser on planted regions, and its parts against slow literal forms."""

import csv
import io
import json
from pathlib import Path

import numpy
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from safetensors.torch import save_file
from scipy.fft import dctn
from sklearn.metrics import roc_auc_score

from assaymark.provenance.evidence import HeatMap, Says
from assaymark.provenance.jpeg_blocks import planes
from assaymark.provenance.material import open_material, picture_of
from assaymark.provenance.splice_features import splice_features
from assaymark.provenance.splice_localiser import (
    look_splice,
    operating_point,
    splice_map,
    splice_score,
)
from assaymark.provenance.splice_network import (
    FEATURES,
    WEIGHTS,
    SpliceNetwork,
    load_network,
    log_odds,
    shipped,
)
from assaymark.provenance.splice_training import case, fit, plant
from assaymark.reports.errors import InputError

Pixels = NDArray[numpy.uint8]


def sensor(side: int, seed: int, noise: float = 4.0) -> Pixels:
    random = numpy.random.default_rng(seed)
    small = random.uniform(60, 190, (side // 16, side // 16, 3)).astype(numpy.uint8)
    smooth = numpy.asarray(Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC))
    values = smooth + random.normal(0, noise, (side, side, 3))
    return numpy.asarray(numpy.clip(values, 0, 255).round().astype(numpy.uint8))


def jpeg(pixels: Pixels, quality: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def test_features_are_what_they_are_called() -> None:
    """The first layer, and noise of a known strength, written out."""
    pixels = sensor(64, 0)
    found = splice_features(pixels, ())
    assert found.shape == (FEATURES, 8, 8)
    luma = planes(pixels)[0] - 128.0
    energy = numpy.zeros((8, 8))
    for row in range(8):
        for column in range(8):
            block = dctn(luma[8 * row : 8 * row + 8, 8 * column : 8 * column + 8], norm="ortho")
            energy[row, column] = (block[0, 1] ** 2 + block[1, 0] ** 2) / 2
    assert found[0, 4, 4] == pytest.approx(numpy.log(energy[3:6, 3:6].mean() + 0.02), rel=1e-3)
    assert numpy.isfinite(found).all()


@pytest.mark.parametrize("quality", [85, 95])
def test_a_region_of_other_noise_and_history_is_found(quality: int) -> None:
    pixels = sensor(256, 1).copy()
    pixels[72:152, 88:184] = picture_of(jpeg(sensor(256, 2, 1.0), 60)).pixels[72:152, 88:184]
    picture = picture_of(jpeg(pixels, quality))
    truth = numpy.zeros((32, 32), bool)
    truth[9:19, 11:23] = True
    found = splice_map(picture.pixels, picture.tables)
    assert roc_auc_score(truth.ravel(), found.ravel()) > 0.85


def test_photographs_of_sources_that_were_not_fitted_to(shared: Path) -> None:
    """Splices of given photographs saved at quality 85: better than chance by far, cheap enough for CI."""
    folder = shared / "data" / "detect" / "images"
    with (folder / "manifest.csv").open(encoding="utf-8") as stream:
        real = [row for row in csv.DictReader(stream) if row["label"] == "real"]
    scores = []
    for number in range(12):
        host, donor = (
            Image.open(folder / real[index]["native"]).convert("RGB")
            for index in (number * 17, number * 9 + 120)
        )
        mask = Image.new("L", host.size)
        ImageDraw.Draw(mask).ellipse((60 + 4 * number, 70, 140 + 4 * number, 150), fill=255)
        other = picture_of(jpeg(numpy.asarray(donor), 70)).pixels
        larger = Image.fromarray(other).resize((330, 330), Image.Resampling.BICUBIC)
        soft = mask.filter(ImageFilter.GaussianBlur(1.5))
        made = Image.composite(larger.crop((37, 37, 293, 293)), host, soft)
        picture = picture_of(jpeg(numpy.asarray(made), 85))
        truth = numpy.asarray(mask.resize((32, 32), Image.Resampling.BOX)) > 127
        found = splice_map(picture.pixels, picture.tables)
        scores.append(roc_auc_score(truth.ravel(), found.ravel()))
    assert numpy.mean(scores) > 0.68


def test_the_score_is_the_mean_of_the_highest_twentieth() -> None:
    grid = numpy.full((10, 10), -3.0)
    grid[2, :5] = 1.0
    grid[9, 9] = numpy.nan
    assert splice_score(grid) == pytest.approx(1.0)


def test_one_look_states_its_measurement(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(sensor(160, 3), 90))
    (evidence,) = look_splice(open_material(path))
    assert evidence.says in (Says.NOTHING, Says.MANIPULATED)
    assert evidence.llr is not None
    assert evidence.point is not None
    assert evidence.point.reals > 100
    (drawing,) = evidence.drawings
    assert isinstance(drawing, HeatMap)
    assert (len(drawing.values), len(drawing.values[0])) == (20, 20)
    assert 0 <= min(map(min, drawing.values)) <= max(map(max, drawing.values)) <= 1


@pytest.mark.parametrize(
    ("pixels", "why"),
    [
        (sensor(112, 0), "too few"),
        (numpy.full((256, 256, 3), 77, numpy.uint8), "even"),
        (numpy.zeros((1, 3000, 3), numpy.uint8), "too few"),
    ],
    ids=["small", "even", "line"],
)
def test_it_abstains_outside_what_was_measured(tmp_path: Path, pixels: Pixels, why: str) -> None:
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (evidence,) = look_splice(open_material(tmp_path / "a.png"))
    assert evidence.says is Says.ABSTAINS
    assert evidence.llr is None
    assert why in evidence.summary


def test_a_large_picture_is_looked_at_as_far_as_time_allows(tmp_path: Path) -> None:
    Image.fromarray(numpy.tile(sensor(256, 4), (5, 5, 1))).save(tmp_path / "a.png")
    material = open_material(tmp_path / "a.png", {"forensic_seconds": 0.001})
    (evidence,) = look_splice(material)
    assert evidence.details["looked_at"] == 0.25
    assert "25%" in evidence.summary


def test_the_card_belongs_to_the_weights() -> None:
    card = json.loads(WEIGHTS.with_suffix(".json").read_text(encoding="utf-8"))
    network, read = shipped()
    point = operating_point(read)
    assert point.threshold == card["threshold"]
    assert 0 <= point.false_positive_rate <= point.false_positive_rate_high <= 1
    assert 0 <= point.true_positive_rate_low <= point.true_positive_rate <= 1
    assert read.platt[0] > 0  # a higher score is never less suspicious
    assert sum(values.numel() for values in network.parameters()) == card["parameters"]
    assert WEIGHTS.stat().st_size < 5e6


def test_a_shift_of_all_blocks_changes_only_the_part_against_photographs() -> None:
    """`own` is the difference from the picture's median: a constant added to it cancels."""
    network = SpliceNetwork().eval()
    features = torch.randn(1, FEATURES, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        network.mix.weight[:, :FEATURES] = 0
        assert torch.allclose(network(features), network(features + 0.5), atol=1e-5)


def test_weights_of_something_else_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(3)}, tmp_path / "a.safetensors")
    (tmp_path / "b.safetensors").write_bytes(b"no weights")
    for name in ("a", "b", "c"):
        with pytest.raises(InputError, match="no weights of the splice network"):
            load_network(tmp_path / f"{name}.safetensors")


@pytest.mark.long
def test_planted_regions_are_true_and_can_be_learnt() -> None:
    """Five cases of clean texture in noise: after a few steps the region has the higher odds."""
    random = numpy.random.default_rng(0)
    host, other = (Image.fromarray(sensor(320, 9, noise)) for noise in (9.0, 0.5))
    planted = [plant(host, other, random) for _ in range(5)]
    for one in planted:
        assert one.pixels.shape == (256, 256, 3)
        assert 0.01 < one.region.mean() < 0.2
        assert all(len(table) == 64 for table in one.tables)
    cases = [case(one) for one in planted]
    network = fit(cases, steps=30, batch=3)
    scores = [
        roc_auc_score(share.ravel() > 0.5, log_odds(network, features).ravel())
        for features, share in cases
    ]
    assert numpy.mean(scores) > 0.9
    assert not plant(host, None, random).region.any()
