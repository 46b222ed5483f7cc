"""Scenes that move pixels: exact turns and shifts, and the limits at which they fool."""

from typing import Any

import pytest
import torch

# Small enough for a test; a 3-channel model is needed where colours are turned.
from scene_samples import digits, images
from torch import Tensor, nn

from assaymark.robustness.geometry import displace, flow, place, rotation, roughness
from assaymark.robustness.semantic import apply


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
