"""Patches and universal perturbations: pasting, printing, and what is learned."""

from pathlib import Path
from typing import Any

import pytest
import torch

# Small enough for a test; a 3-channel model is needed where colours are turned.
from scene_samples import digits, images
from torch import nn

from assaymark.reports.errors import InputError
from assaymark.reports.model import Table
from assaymark.robustness.patch_placing import SHAPES, covered, paste
from assaymark.robustness.patch_scenes import eyeglasses_each, frames, patch, patch_each
from assaymark.robustness.printing import (
    nearest_colour,
    non_printability,
    printable,
    read_palette,
    total_variation,
)
from assaymark.robustness.scene_check import check_scenes
from assaymark.robustness.scene_types import shortfall
from assaymark.robustness.scenes import find
from assaymark.robustness.universal import universal


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
