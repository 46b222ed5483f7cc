"""Scenes of colour and light against their definitions."""

import colorsys

import pytest
import torch

# Small enough for a test; a 3-channel model is needed where colours are turned.
from scene_samples import images, small_model
from torch import Tensor

from assaymark.robustness.semantic import light, negative, relight, shift_hsv


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
