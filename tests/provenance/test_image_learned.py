"""The learned detectors on real files: what they abstain on, what they say, and that they say it measured."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy
import pytest
from PIL import Image
from safetensors.numpy import load_file, save

from assaymark.provenance.evidence import Curve, Evidence, HeatMap, Says
from assaymark.provenance.image_envelope import jpeg_quality, outside
from assaymark.provenance.image_heads import FEATURES
from assaymark.provenance.image_learned import (
    ensemble_score,
    look_cooccurrence,
    look_ensemble,
    look_residual,
    look_spectral,
)
from assaymark.provenance.image_weights import CARD, HEADS, SHIPPED, load_heads, model_card
from assaymark.provenance.material import Material, open_material, picture_of
from assaymark.reports.errors import InputError

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


ODD: dict[str, tuple[Callable[[], bytes], str]] = {
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
    assert sum(path.stat().st_size for path in SHIPPED.glob("image_*")) < 5 * 2**20
    assert all(numpy.isfinite(head.weights).all() for head in load_heads().values())


def test_the_weights_of_a_user_are_used_instead(tmp_path: Path) -> None:
    """Heads that are moved by 9 call generated what the shipped ones do not."""
    heads = load_file(SHIPPED / HEADS)
    moved = {key: x + 9 if key.endswith("offset") else x for key, x in heads.items()}
    (tmp_path / HEADS).write_bytes(save(moved))
    (tmp_path / CARD).write_bytes((SHIPPED / CARD).read_bytes())
    (tmp_path / "a.png").write_bytes(saved(scene()))
    (before,) = look_ensemble(open_material(tmp_path / "a.png"))
    mine = open_material(tmp_path / "a.png", {"image_weights": tmp_path})
    (after,) = look_ensemble(mine)
    assert after.score == pytest.approx((before.score or 0) + 9, abs=1e-4)
    assert (before.says, after.says) == (Says.NOTHING, Says.GENERATED)
    (network,) = look_residual(mine)
    assert network.says is Says.ABSTAINS
    assert "no network" in network.summary


Tensors = dict[str, Any]
HOSTILE: dict[str, tuple[Callable[[Tensors], object], str]] = {
    "text": (lambda t: b"not weights", "cannot be read as safetensors"),
    "cut off": (lambda t: save(t)[:5000], "cannot be read as safetensors"),
    "large": (lambda t: bytes(6 * 2**20), "at most"),
    "unknown head": (lambda t: save(t | {"evil.mean": t["spectrum.mean"]}), "heads of .'evil'"),
    "other size": (lambda t: save(t | {"scales.mean": t["scales.mean"][:7]}), "scales.mean is"),
    "other waves": (lambda t: save(t | {"scales.waves": t["scales.mean"]}), "scales.waves"),
    "64 bits": (lambda t: save(t | {"scales.mean": t["scales.mean"].astype(float)}), "float64"),
    "not finite": (
        lambda t: save(t | {"scales.mean": t["scales.mean"] * numpy.nan}),
        "no training",
    ),
    "no scale": (lambda t: save(t | {"scales.scale": t["scales.scale"] * 0}), "no training"),
    "missing": (
        lambda t: save({key: x for key, x in t.items() if key != "spectrum.offset"}),
        "spectrum.offset is missing",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_heads_get_one_sentence(name: str, tmp_path: Path) -> None:
    make, why = HOSTILE[name]
    content = make(load_file(SHIPPED / HEADS))
    assert isinstance(content, bytes)
    (tmp_path / HEADS).write_bytes(content)
    with pytest.raises(InputError, match=why) as caught:
        load_heads(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("[]", "no card"),
        ("{", "no card"),
        ("[" * 100_000, "no card"),
        ('{"detectors": 3}', "no card"),
        ('{"detectors": {}}', "states nothing measured of ensemble"),
        ('{"detectors": {"ensemble": {"point": {}}}}', "no measured point of ensemble"),
        ('{"detectors": {"ensemble": {"measured": {"auc_interval": [NaN, 1]}}}}', "no measured"),
    ],
    ids=["list", "cut", "deep", "number", "empty", "point", "nan"],
)
def test_hostile_cards_get_one_sentence(content: str, why: str, tmp_path: Path) -> None:
    (tmp_path / CARD).write_text(content)
    (tmp_path / HEADS).write_bytes((SHIPPED / HEADS).read_bytes())
    (tmp_path / "a.png").write_bytes(saved(scene()))
    with pytest.raises(InputError, match=why):
        look_ensemble(open_material(tmp_path / "a.png", {"image_weights": str(tmp_path)}))


@pytest.mark.parametrize("folder", [3, "nowhere"])
def test_a_folder_of_weights_must_be_one(folder: object, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(saved(scene()))
    with pytest.raises(InputError, match="expected the folder"):
        look_ensemble(open_material(tmp_path / "a.png", {"image_weights": folder}))


@pytest.mark.long
def test_the_stated_auc_is_measured_again_on_the_shared_pictures(
    shared: Path, tmp_path: Path
) -> None:
    """Without the photographs of packages, which are not shared: whole generators and sources held out."""
    from assaymark.provenance.detect_train import train_heads

    data = shared / "data" / "detect" / "images" / "matched"
    found = train_heads(data, tmp_path, measured_on="shared pictures", card={})
    measured = found["detectors"]["ensemble"]["measured"]
    assert measured["auc"] > 0.72
    assert measured["tpr_at_5_percent"] > 0.3
