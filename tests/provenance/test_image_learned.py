"""The learned detectors on real files: what they abstain on, what they say, and that they say it measured."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy
import pytest
from PIL import Image

from assaymark.provenance.evidence import Curve, Evidence, HeatMap, Says
from assaymark.provenance.image_envelope import jpeg_quality, outside
from assaymark.provenance.image_heads import FEATURES
from assaymark.provenance.image_learned import (
    WEIGHTS,
    ensemble_score,
    load_heads,
    look_cooccurrence,
    look_ensemble,
    look_residual,
    look_spectral,
    model_card,
)
from assaymark.provenance.material import Material, open_material, picture_of

LOOKS = (look_spectral, look_cooccurrence, look_residual, look_ensemble)
Look = Callable[[Material], Sequence[Evidence]]


def scene(side: int = 256, seed: int = 0) -> Image.Image:
    """Soft shapes of power 1/f under the noise of a sensor, in colour."""
    rng = numpy.random.default_rng(seed)
    y, x = numpy.mgrid[:side, :side] - side // 2
    fall = numpy.fft.ifftshift(1 / numpy.maximum(numpy.hypot(x, y), 1) ** 1.2)
    layers = [
        numpy.fft.ifft2(numpy.fft.fft2(rng.normal(size=(side, side))) * fall).real for _ in "rgb"
    ]
    layers = [layers[0] + 0.4 * layer for layer in layers]
    scaled = [128 + 45 * layer / layer.std() + rng.normal(0, 2.5, (side, side)) for layer in layers]
    return Image.fromarray(numpy.clip(numpy.stack(scaled, -1), 0, 255).astype(numpy.uint8))


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def animation() -> bytes:
    return saved(scene(), "GIF", save_all=True, append_images=[scene(seed=1)])


ODD = {
    "small": (lambda: saved(scene(120)), "at least 128"),
    "narrow": (lambda: saved(scene().crop((0, 0, 256, 100))), "at least 128"),
    "animation": (animation, "frames"),
    "cmyk": (lambda: saved(scene().convert("CMYK"), "JPEG"), "CMYK"),
    "16 bits": (lambda: saved(Image.new("I;16", (256, 256), 999)), "16 bits"),
    "heavy jpeg": (lambda: saved(scene(), "JPEG", quality=30), "quality is about 30"),
    "plain": (lambda: saved(Image.new("RGB", (256, 256), "red")), "plain"),
    "grey": (lambda: saved(scene().convert("L")), "no colour"),
    "blurred": (lambda: saved(scene().resize((64, 64)).resize((256, 256))), "soft"),
}


@pytest.mark.parametrize("name", ODD)
def test_outside_the_envelope_all_abstain_and_say_why(name: str, tmp_path: Path) -> None:
    make, why = ODD[name]
    (tmp_path / "a").write_bytes(make())
    material = open_material(tmp_path / "a")
    for look in LOOKS:
        (found,) = look(material)
        assert found.says is Says.ABSTAINS
        assert why in found.summary
        assert found.llr is None


@pytest.mark.parametrize("quality", [20, 50, 75, 90, 100])
def test_the_quality_of_a_table_is_the_one_it_was_saved_with(quality: int) -> None:
    picture = picture_of(saved(scene(), "JPEG", quality=quality))
    assert jpeg_quality(picture.tables[0]) == pytest.approx(quality, abs=2)
    assert (outside(picture) is not None) == (quality == 20)


@pytest.mark.parametrize("look", LOOKS)
def test_inside_it_every_look_gives_a_score_held_to_a_measured_point(
    look: Look, tmp_path: Path
) -> None:
    (tmp_path / "a.jpg").write_bytes(saved(scene(320), "JPEG", quality=88))
    (found,) = look(open_material(tmp_path / "a.jpg"))
    assert found.score is not None
    assert found.point is not None
    assert (found.says is Says.GENERATED) == (found.score >= found.point.threshold)
    assert found.point.sources >= 4
    assert (found.llr is None) == (look is not look_ensemble)
    for drawing in found.drawings:
        if isinstance(drawing, HeatMap):
            assert all(0 <= value <= 1 for row in drawing.values for value in row)
            assert max(len(drawing.values), len(drawing.values[0])) <= 96
        if isinstance(drawing, Curve):
            assert len(drawing.x) == len(drawing.y) == 45


def test_a_scene_under_sensor_noise_is_not_called_generated(tmp_path: Path) -> None:
    for seed in range(4):
        (tmp_path / "a.jpg").write_bytes(saved(scene(256, seed), "JPEG", quality=90))
        (found,) = look_ensemble(open_material(tmp_path / "a.jpg"))
        assert found.says is not Says.GENERATED


def test_half_resolution_scores_higher_than_full_resolution() -> None:
    """A decoder's last up-sampling leaves less power at high frequencies than a sensor does."""
    rises = []
    for seed in range(4):
        full = scene(256, seed)
        soft = full.resize((176, 176), Image.Resampling.BICUBIC).resize(
            (256, 256), Image.Resampling.BICUBIC
        )
        rises.append(ensemble_score(numpy.asarray(soft)) - ensemble_score(numpy.asarray(full)))
    assert min(rises) > 0


def test_the_card_states_every_detector_and_the_weights_are_small() -> None:
    card = model_card()
    assert set(card["detectors"]) == {*FEATURES, "ensemble", "residual"}
    assert {"data", "blind_spots", "network"} <= set(card["card"])
    for stated in card["detectors"].values():
        low, high = stated["measured"]["auc_interval"]
        assert low <= stated["measured"]["auc"] <= high
    assert sum(path.stat().st_size for path in WEIGHTS.glob("image_*")) < 5 * 2**20
    assert all(numpy.isfinite(head.weights).all() for head in load_heads().values())


@pytest.mark.long
def test_the_stated_auc_is_measured_again_on_the_shared_pictures(
    shared: Path, tmp_path: Path
) -> None:
    """Without the photographs of packages, which are not shared: whole generators and sources held out."""
    from assaymark.provenance.detect_train import train_heads

    data = shared / "data" / "detect" / "images" / "matched"
    found = train_heads(data, tmp_path, measured_on="shared pictures", card={})
    measured = found["detectors"]["ensemble"]["measured"]
    assert measured["auc"] > 0.75
    assert measured["tpr_at_5_percent"] > 0.3
