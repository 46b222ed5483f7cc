"""Scenes against closed forms: turns by 90 degrees, whole pixels, known colours, linear models."""

import colorsys
import json
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from conftest import RunCli
from PIL import Image
from torch import Tensor, nn

from assaymark.reports.errors import InputError
from assaymark.reports.model import Gate, Limit, Pictures, Table, Verdict
from assaymark.robustness import demo
from assaymark.robustness.geometry import displace, flow, place, rotation, roughness
from assaymark.robustness.images import ImageData
from assaymark.robustness.models import Loaded, load
from assaymark.robustness.oracle import Oracle
from assaymark.robustness.patch_placing import SHAPES, covered, paste
from assaymark.robustness.patch_scenes import eyeglasses_each, frames, patch, patch_each
from assaymark.robustness.printing import (
    nearest_colour,
    non_printability,
    png,
    printable,
    read_palette,
    total_variation,
)
from assaymark.robustness.scene_check import check_scenes
from assaymark.robustness.scene_evaluate import Points, evaluate_scenes
from assaymark.robustness.scene_types import Learned, shortfall
from assaymark.robustness.scenes import SCENES, find
from assaymark.robustness.semantic import apply, light, negative, relight, shift_hsv
from assaymark.robustness.streams import Streams
from assaymark.robustness.universal import universal

# Small enough for a test; a 3-channel model is needed where colours are turned.
QUICK: dict[str, dict[str, Any]] = {
    "rotation": {"rotations": 3, "translations": 3, "draws": 2, "steps": 2},
    "flow": {"steps": 3},
    "hsv": {"draws": 2, "steps": 2},
    "light": {"draws": 2, "steps": 2},
    "colour": {"draws": 2, "steps": 2},
    "patch": {"steps": 3, "area": 0.2},
    "patch-each": {"steps": 3, "area": 0.2, "placements": 3},
    "eyeglasses": {"steps": 3},
    "eyeglasses-each": {"steps": 3},
    "universal": {"steps": 3},
}
COLOUR_ONLY = {"hsv", "colour"}


def images(n: int = 6, channels: int = 3, height: int = 8, width: int = 8, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, channels, height, width, generator=generator)


def small_model(channels: int, classes: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 36, classes)
    ).eval()


def digits() -> tuple[Loaded, ImageData]:
    x, y = demo.digits()
    data = ImageData(name="digits", images=x, labels=y, classes=tuple("0123456789"))
    return load("demo:digits", x[:4]), data


def moves(angle: float, right: float, down: float, n: int = 6) -> Tensor:
    return torch.tensor([[angle, right, down]], dtype=torch.float32).expand(n, 3)


# Geometry


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("turns", [-1, 1, 2, 3])
def test_rotation_by_right_angles_is_exact(turns: int, channels: int) -> None:
    x = images(channels=channels)
    turned = place(x, moves(90.0 * turns, 0, 0))
    assert torch.allclose(turned, torch.rot90(x, turns, (2, 3)), atol=2e-6)


def test_half_a_turn_of_an_image_that_is_not_square() -> None:
    x = images(height=6, width=11)
    assert torch.allclose(place(x, moves(180, 0, 0)), x.flip(2, 3), atol=2e-6)


def test_a_shift_by_whole_pixels_moves_every_pixel_and_brings_in_the_padding() -> None:
    x = images(height=8, width=10)
    moved = place(x, moves(0, 0.3, -0.25))  # 3 to the right, 2 up
    assert torch.allclose(moved[:, :, :6, 3:], x[:, :, 2:, :7], atol=1e-6)
    assert moved[:, :, 6:].abs().max() < 1e-6
    assert moved[:, :, :, :3].abs().max() < 1e-6
    grey = torch.full((6, 1, 8, 8), 0.25)
    for padding in ("border", "reflection"):
        assert torch.allclose(place(grey, moves(33, 0.3, 0.2), padding=padding), grey)


def test_nothing_changes_no_bit() -> None:
    x = images()
    assert torch.equal(place(x, moves(0, 0, 0)), x)
    assert torch.equal(displace(x, torch.zeros(6, 2, 8, 8)), x)
    names = ("hue", "saturation", "brightness", "contrast", "gamma")
    neutral = torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0]).expand(6, 5)
    assert torch.equal(apply(x, names, neutral), x)


def test_a_flow_of_one_pixel_is_a_shift() -> None:
    x, shifts = images(), torch.zeros(6, 2, 8, 8)
    shifts[:, 0] = 1
    assert torch.allclose(displace(x, shifts)[..., :-1], x[..., 1:], atol=1e-6)
    assert torch.allclose(roughness(shifts), torch.zeros(6), atol=0.02)
    shifts[:, :, 3, 3] += torch.tensor([3.0, 4.0])  # its four differences have length 5
    assert torch.allclose(roughness(shifts), torch.full((6,), 20.0), atol=0.02)


class Halves(nn.Module):
    """Class 0 where more light lies in columns 0 to 3, class 1 where more lies in 4 to 7."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x[..., :4].sum((1, 2, 3)), x[..., 4:].sum((1, 2, 3))], 1)


@pytest.mark.parametrize(("pixels", "falls"), [(0.45, False), (0.55, True)])
def test_translation_falls_exactly_beyond_half_a_pixel(pixels: float, falls: bool) -> None:
    """Bilinear sampling puts s of the light of column 3 into column 4 when it is shifted by s."""
    x, y = torch.zeros(2, 1, 8, 8), torch.zeros(2, dtype=torch.long)
    x[:, :, 2:6, 3] = 1
    change = rotation(Halves(), x, y, max_rotation=0.0, max_translation=pixels / 8)
    moved = change.images(x)
    assert bool((Halves()(moved).argmax(1) == 1).all()) is falls
    if falls:
        # the grid offers shifts of half a limit and of a whole one: the smallest that fools is taken
        assert torch.allclose(change.parameters[:, 1], torch.full((2,), pixels / 8))
        assert change.parameters[:, 0].abs().max() == 0


def test_gradients_find_an_angle_that_no_candidate_has() -> None:
    """A model that answers 1 where the picture is near a bar at 20 degrees."""
    rows = torch.linspace(-1, 1, 24)
    x = (torch.exp(-((rows[:, None] * 4) ** 2)) * torch.exp(-(rows[None] ** 2)))[None, None]
    wanted = place(x, moves(20, 0, 0, 1))

    def model(seen: Tensor) -> Tensor:
        distance = (seen - wanted).flatten(1).square().sum(1)
        return torch.stack([distance, torch.full_like(distance, 2.0)], 1)

    y = torch.zeros(1, dtype=torch.long)
    options: dict[str, Any] = {"max_rotation": 30.0, "max_translation": 0.0, "rotations": 3}
    without = rotation(model, x, y, **options, steps=0)
    assert model(without.images(x)).argmax(1) == 0
    assert float(without.parameters[0, 0]) == 30  # the nearest on the grid
    found = rotation(model, x, y, **options, steps=20)
    assert model(found.images(x)).argmax(1) == 1
    assert 10 < float(found.parameters[0, 0]) < 29


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:torch.meshgrid:UserWarning")
@pytest.mark.parametrize(("degrees", "pixels"), [(20.0, 0.0), (10.0, 0.5)])
def test_the_grid_finds_at_least_what_foolbox_finds(degrees: float, pixels: float) -> None:
    import foolbox

    model, data = digits()
    x, y = data.images[:40], data.labels[:40]
    attack = foolbox.attacks.SpatialAttack(
        max_translation=pixels, max_rotation=degrees, num_translations=3, num_rotations=5
    )
    wrapped = foolbox.PyTorchModel(model.module, bounds=(0, 1))
    _, _, fell = attack(wrapped, x, y, epsilons=None)
    change = rotation(
        model.module, x, y, max_rotation=degrees, max_translation=pixels / 8,
        rotations=5, translations=3, steps=0,
    )  # fmt: skip
    ours = model.module(change.images(x)).argmax(1) != y
    assert 0 < int(fell.sum()) < 40
    assert int((fell & ~ours).sum()) == 0


def test_flow_stays_within_its_limit_and_fools() -> None:
    model, data = digits()
    x, y = data.images[:60], data.labels[:60]
    change = flow(model.module, x, y, max_flow=0.6)
    assert change.parameters.abs().max() <= 0.6
    accuracy = (model.module(change.images(x)).argmax(1) == y).float().mean()
    assert accuracy < 0.1


# Colours


@pytest.mark.parametrize(("hue", "saturation"), [(50, 0.2), (-170, -0.3), (120, 0), (1, 1)])
def test_hsv_is_that_of_the_standard_library(hue: float, saturation: float) -> None:
    x = images(2, height=4, width=4)
    moved = shift_hsv(x, torch.full((2,), float(hue)), torch.full((2,), float(saturation)))
    for pixel, answer in zip(
        x.permute(0, 2, 3, 1).reshape(-1, 3).tolist(),
        moved.permute(0, 2, 3, 1).reshape(-1, 3).tolist(),
        strict=True,
    ):
        h, s, v = colorsys.rgb_to_hsv(*pixel)
        expected = colorsys.hsv_to_rgb((h + hue / 360) % 1, min(max(s + saturation, 0), 1), v)
        assert answer == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("hue", [-360.0, 360.0])
def test_a_whole_turn_of_the_hue_changes_nothing(hue: float) -> None:
    x = images()
    assert torch.allclose(shift_hsv(x, torch.full((6,), hue), torch.zeros(6)), x, atol=1e-5)


def test_a_third_of_a_turn_moves_red_to_green_and_grey_stays_grey() -> None:
    x, third = images(), torch.full((6,), 120.0)
    assert torch.allclose(shift_hsv(x, third, torch.zeros(6)), x.roll(1, 1), atol=1e-5)
    grey = images(channels=1).expand(-1, 3, -1, -1)
    assert torch.allclose(shift_hsv(grey, third, torch.ones(6)), grey)


def test_light_has_the_values_of_its_definition() -> None:
    x = images(2, channels=1)
    zero, one = torch.zeros(2), torch.ones(2)
    assert torch.allclose(relight(x, zero + 0.25, zero, one), (x + 0.25).clamp_max(1))
    assert torch.allclose(relight(x, zero, zero, 2 * one), x**2)
    flat = relight(x, zero, -one, one)
    assert torch.allclose(flat, x.flatten(1).mean(1).view(-1, 1, 1, 1).expand_as(x))


@pytest.mark.parametrize(("limit", "falls"), [(0.19, False), (0.21, True)])
def test_brightness_falls_exactly_at_its_margin(limit: float, falls: bool) -> None:
    def model(x: Tensor) -> Tensor:  # answers 1 where the mean is above 0.5
        mean = x.flatten(1).mean(1)
        return torch.stack([torch.full_like(mean, 0.5), mean], 1)

    x, y = torch.full((2, 1, 4, 4), 0.3), torch.zeros(2, dtype=torch.long)
    change = light(model, x, y, max_brightness=limit, max_contrast=0.0, max_gamma=1.0)
    assert change.names == ("brightness",)
    assert bool((model(change.images(x)).argmax(1) == 1).all()) is falls
    assert change.parameters.abs().max() <= limit


def test_the_negative_is_one_minus_the_image() -> None:
    x = images(channels=1)
    change = negative(small_model(1, 2), x, torch.zeros(6, dtype=torch.long))
    assert torch.equal(change.images(x), 1 - x)


# Patches


@pytest.mark.parametrize("turns", [0, 1, 2])
def test_a_patch_is_pasted_pixel_by_pixel(turns: int) -> None:
    x, content = images(2, height=8, width=12), images(1, height=4, width=4, seed=5)
    # 4 of 12 pixels wide, its centre 6 pixels from the left and 3 from the top
    where = torch.tensor([[6 / 12, 3 / 8, 4 / 12, 90.0 * turns, 0.0, 1.0]]).expand(2, 6)
    moved = paste(x, content, where, SHAPES["square"])
    expected = x.clone()
    expected[:, :, 1:5, 4:8] = torch.rot90(content, turns, (2, 3))
    assert torch.allclose(moved, expected, atol=1e-5)
    outside = torch.ones(8, 12, dtype=torch.bool)
    outside[1:5, 4:8] = False
    assert torch.equal(moved[..., outside], x[..., outside])
    assert covered(x, where, SHAPES["square"]).tolist() == pytest.approx([16 / 96] * 2)


def test_light_on_a_patch_follows_its_definition() -> None:
    where = torch.tensor([[0.5, 0.5, 1.0, 0.0, 0.1, 0.5]])
    content = torch.tensor([0.3, 0.8, 1.0]).view(1, 3, 1, 1)
    moved = paste(torch.zeros(1, 3, 4, 4), content, where, SHAPES["square"])
    assert moved[0, :, 2, 1].tolist() == pytest.approx([0.5, 0.75, 0.85])


def test_a_circle_covers_its_area() -> None:
    x = torch.zeros(1, 1, 200, 200)
    where = torch.tensor([[0.5, 0.5, 0.6, 17.0, 0.0, 1.0]])
    share = covered(x, where, SHAPES["circle"])
    assert float(share) == pytest.approx(3.14159 * 0.3**2, rel=5e-3)


def test_frames_are_symmetric_leave_the_lenses_free_and_hold_together() -> None:
    mask = frames().mask(56, 160)
    assert torch.equal(mask, mask.flip(1))
    height, width = mask.shape
    assert not mask[height // 2, width // 4]  # the middle of the left lens
    assert mask[:, width // 2].any()  # the bridge
    assert mask[:, 0].any()  # a temple
    assert not mask[0, 0]
    assert 0.3 < float(mask.float().mean()) < 0.7
    # one piece: spread from one pixel until nothing is added
    reached = torch.zeros_like(mask)
    reached[tuple(mask.nonzero()[0])] = True
    while True:
        wider = nn.functional.max_pool2d(reached[None].float(), 3, 1, 1)[0].bool() & mask
        if torch.equal(wider, reached):
            break
        reached = wider
    assert torch.equal(reached, mask)
    thick = frames(thickness=0.15).mask(56, 160)
    assert thick.sum() > mask.sum()


@pytest.mark.parametrize("run", [patch_each, eyeglasses_each], ids=lambda run: run.__name__)
def test_only_the_mask_changes_and_every_value_stays_in_range(run: Any) -> None:
    x, y = images(4, height=16, width=16), torch.arange(4) % 3
    model = nn.Sequential(nn.Flatten(), nn.Linear(768, 3))
    change = run(model, x, y, steps=3)
    moved = change.images(x)
    shape = frames() if run is eyeglasses_each else SHAPES["circle"]
    for i in range(4):
        where = change.parameters[i : i + 1, :6]
        inside = paste(torch.zeros_like(x[:1]), torch.ones(1, 3, 2, 2), where, shape)[0, 0] > 0
        assert torch.equal(moved[i][:, ~inside], x[i][:, ~inside])
        numbers = change.numbers(i)
        assert numbers["share of the image covered"] == pytest.approx(float(inside.float().mean()))
        assert inside.any()
    assert float(moved.min()) >= 0
    assert float(moved.max()) <= 1


def test_a_patch_anywhere_lies_inside_the_image() -> None:
    x, y = images(200, channels=1, height=20, width=30), torch.zeros(200, dtype=torch.long)
    model = nn.Sequential(nn.Flatten(), nn.Linear(600, 2))
    change = patch_each(model, x, y, steps=1, area=0.05, max_rotation=180.0, shape="square")
    share = torch.tensor([change.numbers(i)["share of the image covered"] for i in range(200)])
    width = change.parameters[:, 2]
    # a patch that stuck out would cover less than its own area
    assert torch.allclose(share, (width * 30) ** 2 / 600, rtol=0.35)
    assert change.parameters[:, 0].std() > 0.1


def test_the_scores_of_printing() -> None:
    colours = printable(3)
    mask = torch.ones(3, len(colours), dtype=torch.bool)
    tile = colours.T[None, :, None].expand(1, 3, 3, -1)
    assert float(non_printability(tile, colours, mask)) < 1e-6
    assert float(nearest_colour(tile, colours, mask)) < 1e-5
    pixel = torch.tensor([0.2, 0.5, 0.4]).view(1, 3, 1, 1)
    two = torch.tensor([[0.2, 0.5, 0.0], [0.2, 0.1, 0.1]])
    one = torch.ones(1, 1, dtype=torch.bool)
    assert float(non_printability(pixel, two, one)) == pytest.approx(0.4 * 0.5)
    assert float(nearest_colour(pixel, two, one)) == pytest.approx(0.4)
    assert printable(1).shape == (len(colours), 1)
    with pytest.raises(InputError, match="1 or 3 channels"):
        printable(4)
    step = torch.zeros(1, 1, 2, 3)
    step[..., 2] = 0.6
    whole = torch.ones(2, 3, dtype=torch.bool)
    assert float(total_variation(step, whole)) == pytest.approx(0.3, abs=1e-4)
    whole[:, 2] = False
    assert float(total_variation(step, whole)) == pytest.approx(0, abs=1e-4)


def test_a_palette_of_the_user(tmp_path: Path) -> None:
    path = tmp_path / "inks.txt"
    path.write_text("#ff0000\n\n0 51, 255\n")
    assert read_palette(path, "inks.txt").flatten().tolist() == pytest.approx([1, 0, 0, 0, 0.2, 1])
    for text, expected in (
        ("", "holds no colour"),
        ("#ff0000\nred", "inks.txt:2"),
        ("1 2 256", "inks.txt:1"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=expected):
            read_palette(path, "inks.txt")
    with pytest.raises(InputError, match=r"cannot read the palette no\.txt"):
        find("patch", {"palette": "no.txt"}, tmp_path)


def test_smoothness_and_printability_are_what_they_say() -> None:
    model, data = digits()
    x, y = data.images[:64], data.labels[:64]
    options: dict[str, Any] = {"area": 0.4, "shape": "square", "steps": 40, "resolution": 8}
    plain = patch(model.module, x, y, **options).measures
    smooth = patch(model.module, x, y, **options, smoothness=10.0).measures
    inks = patch(model.module, x, y, **options, printability=20.0).measures
    assert smooth["total variation"] < 0.5 * plain["total variation"]
    nearest = "distance to the nearest printable colour"
    assert inks[nearest] < 0.6 * plain[nearest]
    assert inks["non-printability score"] < plain["non-printability score"]


# Learning


@pytest.mark.parametrize("targeted", [False, True])
def test_the_loss_of_learned_scenes_is_minus_a_log_probability(targeted: bool) -> None:
    logits, y = torch.randn(5, 4, generator=torch.Generator().manual_seed(0)), torch.arange(5) % 4
    p = logits.softmax(1).gather(1, y[:, None]).squeeze(1)
    expected = -p.log() if targeted else -(1 - p).log()
    assert torch.allclose(shortfall(logits, y, targeted=targeted), expected, atol=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_universal_perturbation_of_a_linear_model_is_known(norm: str) -> None:
    """Towards class 1 of two: eps · sign(w1 - w0), or eps along w1 - w0."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    weight = (model[1].weight[1] - model[1].weight[0]).detach()  # type: ignore[index]
    x, y = 0.4 + 0.2 * images(20, height=2, width=2), torch.ones(20, dtype=torch.long)
    learned = universal(model, x, y, targeted=True, norm=norm, eps=0.1, batch=8)
    change = learned.attack(model, x, y, targeted=True, streams=None)
    delta = (change.images(x) - x).flatten(1)
    best = 0.1 * (weight.sign() if norm == "linf" else weight / weight.norm())
    assert torch.allclose(delta, best.expand_as(delta), atol=1e-4)


def test_a_learned_patch_fools_on_images_and_at_places_it_has_not_seen() -> None:
    model, data = digits()
    options = {"area": 0.4, "shape": "square", "steps": 100}
    result = check_scenes("p", model, data, (("patch", options),), target="3")
    rate = next(f for f in result.findings if f.measure == "attack_success_rate")
    table = next(t for f in result.findings for t in f.evidence if isinstance(t, Table))
    (_, tried, fell, control, *_) = table.rows[0]
    assert rate.value is not None
    assert rate.value > 0.55  # towards one class of ten
    assert isinstance(control, int)
    assert isinstance(tried, int)
    assert control < 0.15 * tried  # covering the digit does not do it
    assert fell == round(rate.value * (rate.n or 0))


def test_a_universal_perturbation_beats_noise_of_its_size() -> None:
    model, data = digits()
    result = check_scenes(
        "u", model, data, (("universal", {"norm": "l2", "eps": 2.0, "steps": 100}),)
    )
    table = next(t for f in result.findings for t in f.evidence if isinstance(t, Table))
    (_, tried, fell, control, *_) = table.rows[0]
    assert isinstance(fell, int)
    assert isinstance(tried, int)
    assert isinstance(control, int)
    assert fell > 0.5 * tried
    assert fell > 2 * control


# What holds for every scene


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize(
    ("name", "channels"),
    [(name, n) for name in SCENES for n in (1, 3) if n == 3 or name not in COLOUR_ONLY],
)
def test_every_scene_keeps_range_shape_model_and_input(
    name: str, channels: int, classes: int, targeted: bool
) -> None:
    model = small_model(channels, classes)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    for n in (5, 0):
        x = images(n, channels).permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
        kept, y = x.clone(), torch.arange(n) % classes
        scene = find(name, QUICK.get(name, {}))
        attack = scene.run
        if scene.learn is not None:
            learned = scene.learn(model, x, y, targeted=targeted, streams=None)
            attack = learned.attack
            for picture in learned.pictures.values():
                assert float(picture.min()) >= 0
                assert float(picture.max()) <= 1
        assert attack is not None
        change = attack(model, x, y, targeted=targeted, streams=None)
        moved = change.images(x)
        assert moved.shape == x.shape
        assert torch.equal(x, kept)
        assert bool(torch.isfinite(moved).all())
        assert n == 0 or (float(moved.min()) >= 0 and float(moved.max()) <= 1)
        assert not moved.requires_grad
        if n:  # the record of one image makes that image again
            again = change.images(x, slice(3, 4))
            assert torch.allclose(again, moved[3:4], atol=1e-6)
            assert set(change.numbers(0)) == set(change.names)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", [name for name, card in SCENES.items() if card.run])
def test_the_result_of_an_image_does_not_depend_on_its_batch(name: str) -> None:
    model, x, y = small_model(3, 4), images(12), torch.arange(12) % 4
    attack, streams = find(name, QUICK.get(name, {})).run, Streams.of(3, "b", list(range(12)))
    assert attack is not None
    whole = attack(model, x, y, targeted=False, streams=streams).images(x)
    rows = torch.tensor([7, 2, 9])
    part = attack(
        Oracle(model, batch_size=2), x[rows], y[rows], targeted=False, streams=streams.select(rows)
    )
    assert torch.allclose(part.images(x[rows]), whole[rows], atol=1e-4)


@pytest.mark.parametrize("name", [name for name, card in SCENES.items() if card.learn])
def test_what_is_learned_does_not_depend_on_the_size_of_a_pass(name: str) -> None:
    model, x, y = small_model(3, 4), images(40), torch.arange(40) % 4
    learn = find(name, QUICK[name] | {"batch": 16}).learn
    assert learn is not None
    made = []
    for size in (3, 250):
        oracle = Oracle(model, batch_size=size)
        learned: Learned = learn(oracle, x, y, targeted=False, streams=None)
        made.append(learned.attack(model, x, y, targeted=False, streams=None).images(x))
    assert torch.allclose(made[0], made[1], atol=2 / 255 + 1e-6)


def test_a_success_that_is_gone_when_asked_alone_does_not_count() -> None:
    class Crowd(nn.Module):
        """Answers differently to one image and to many."""

        def forward(self, x: Tensor) -> Tensor:
            wrong = (x.flatten(1).mean(1) > 0.5) & (len(x) > 1)
            return torch.stack([1 - wrong.float(), wrong.float()], 1)

    x, y = torch.full((6, 1, 4, 4), 0.1), torch.zeros(6, dtype=torch.long)
    points = Points(images=x, labels=y, indices=list(range(6)))
    result = evaluate_scenes(Crowd(), points, {"negative": find("negative", {})})
    assert result.outcomes[0].unconfirmed == 6
    assert bool(result.robust.all())


def test_recorded_numbers_make_the_example_again() -> None:
    model, data = digits()
    points = Points(images=data.images[:80], labels=data.labels[:80], indices=list(range(80)))
    scenes = {"rotation": find("rotation", {"max_rotation": 20, "max_translation": 0.1})}
    result = evaluate_scenes(model.module, points, scenes)
    assert len(result.recorded) == 6
    for one in result.recorded:
        numbers = torch.tensor([list(one.numbers.values())])
        again = place(data.images[one.example.index : one.example.index + 1], numbers)
        assert torch.allclose(again[0], one.example.adversarial, atol=1e-6)
        answer = int(model.module(again).argmax())
        assert answer == one.example.fooled_prediction != one.example.label


# The check


def test_the_check_measures_only_what_was_not_learned_from(tmp_path: Path) -> None:
    model, data = digits()
    gate = Gate(metric="robust_accuracy", limit=Limit(minimum=0.9, on="lower"))
    result = check_scenes(
        "c", model, data, (("patch", {"steps": 5}), ("patch", {"steps": 5, "area": 0.3})),
        training_examples=100, examples=300, gates=(gate,), save=tmp_path / "out",
    )  # fmt: skip
    robust, clean, rate = result.findings
    assert (robust.n, clean.n) == (200, 200)
    assert robust.verdict is Verdict.FAIL
    assert clean.value is not None
    assert clean.value > 0.9
    assert rate.n == round(clean.value * 200)
    assert robust.interval is not None
    assert robust.interval.method == "Clopper–Pearson"
    assert any(isinstance(item, Pictures) for item in robust.evidence)
    assert any("100 other images" in step for step in result.method.steps)
    assert any("area = 0.3" in step for step in result.method.steps)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"c-patch.png", "c-patch-2.png"}


def test_the_saved_patch_is_the_measured_one(tmp_path: Path) -> None:
    model, data = digits()
    x, y = data.images[:64], data.labels[:64]
    learned = patch(model.module, x, y, steps=10, area=0.3)
    (picture,) = learned.pictures.values()
    (tmp_path / "p.png").write_bytes(png(picture))
    read = torch.from_numpy(numpy.asarray(Image.open(tmp_path / "p.png"), dtype=numpy.float32))
    content = (read / 255).permute(2, 0, 1)[None, :-1]
    change = learned.attack(model.module, x, y, targeted=False, streams=None)
    again = paste(x, content, change.parameters[:, :6], SHAPES["circle"])
    assert torch.equal(again, change.images(x))


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("rotaton", {}, 'unknown scene "rotaton": did you mean "rotation"?'),
        ("rotation", {"angle": 3}, 'rotation has no option "angle"; it takes draws, max_rotation'),
        ("negative", {"eps": 3}, 'negative has no option "eps"; it takes none'),
        ("rotation", {"max_rotation": "far"}, "must be a number or a fraction"),
        ("rotation", {"max_rotation": True}, "must be a number or a fraction"),
        ("rotation", {"steps": 1.5}, "must be a whole number"),
        ("patch", {"shape": 3}, "must be a text"),
    ],
)
def test_a_wrong_scene_is_explained(name: str, options: dict[str, object], expected: str) -> None:
    with pytest.raises(InputError) as caught:
        find(name, options)
    assert expected in str(caught.value)


def test_options_are_read_as_the_function_wants_them() -> None:
    assert find("universal", {"eps": "8/255"}).options == {"eps": 8 / 255}
    assert (
        find("rotation", {"max_rotation": 10}).limits == "max_rotation = 10, max_translation = 0.1"
    )
    assert find("patch", {"centre_across": "1/2", "resolution": 8}).options["resolution"] == 8


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("rotation", {"max_rotation": 200}, "max_rotation must be from 0 to 180, got 200"),
        ("rotation", {"max_rotation": 0, "max_translation": 0}, "moves nothing"),
        ("rotation", {"padding": "sky"}, "padding must be one of zeros"),
        ("hsv", {}, "need 3 channels, the images have 1: use light"),
        ("light", {"max_brightness": 0, "max_contrast": 0, "max_gamma": 1}, "has no room"),
        ("flow", {"max_flow": 0}, "max_flow must be at least"),
        ("patch", {"area": 2}, "area must be from 0.0001 to 1"),
        ("patch", {"shape": "star"}, "shape must be one of square, circle"),
        ("patch", {"centre_down": 0.5}, "go together"),
        ("patch", {"steps": 1, "area": 0.0001}, "moved none of the"),
        ("eyeglasses", {"thickness": 0.5}, "thickness must be from"),
        ("universal", {"norm": "l1"}, "norm must be linf or l2"),
    ],
)
def test_limits_that_cannot_be_are_explained(
    name: str, options: dict[str, object], expected: str
) -> None:
    model, data = digits()
    with pytest.raises(InputError) as caught:
        check_scenes("c", model, data, ((name, options),), examples=40)
    assert expected in str(caught.value)


def test_images_that_do_not_suffice_are_explained() -> None:
    model, data = digits()
    for training, expected in ((40, "none to learn from or none to measure on"), (None, None)):
        if expected is None:
            check_scenes("c", model, data, (("negative", {}),), examples=4)
            continue
        with pytest.raises(InputError, match=expected):
            check_scenes(
                "c", model, data, (("patch", {}),), examples=40, training_examples=training
            )
    with pytest.raises(InputError, match="leave out training_examples"):
        check_scenes("c", model, data, (("negative", {}),), training_examples=4)


def test_the_command_runs_scenes(cli: RunCli, tmp_path: Path) -> None:
    done = cli(
        "attack", "demo:digits", "demo:digits", "--attack", "rotation", "--examples", "60",
        "--option", "max_rotation=15", "--option", "padding=border", "-o", "r.json", "-o", "r.html",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "r.json").read_text())["report"]
    text = report["run"]["policy_text"]
    assert 'kind = "scene"' in text
    assert '{ name = "rotation", max_rotation = 15, padding = "border" }' in text
    assert "angle in degrees" in (tmp_path / "r.html").read_text()
    gated = text + 'gate = { metric = "robust_accuracy", max = 0.5 }\n'
    (tmp_path / "p.toml").write_text(gated)
    wrong = cli("audit", "p.toml")
    assert wrong.returncode == 2
    assert "robust_accuracy is good when high" in wrong.stderr
    listed = cli("attack", "--list").stdout
    assert all(name in listed for name in SCENES)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-a", "rotation", "-a", "pgd"], "rotation has limits of its own and pgd has a ball"),
        (["-a", "rotation", "--eps", "0.1"], "scenes have limits of their own"),
        (["-a", "rotation", "--option", "max_rotation"], "--option takes KEY=VALUE"),
        (["--option", "steps=3"], "belongs to one attack"),
    ],
)
def test_a_wrong_command_is_explained(cli: RunCli, arguments: list[str], expected: str) -> None:
    done = cli("attack", "demo:digits", "demo:digits", *arguments)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
