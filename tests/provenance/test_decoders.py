"""Decoders against the closed form of what their up-sampling does to a spectrum, and their training."""

import dataclasses
import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy
import pytest
import torch

from assaymark.provenance.decoder_training import Course, DecoderLoss, crops, train_decoder
from assaymark.provenance.decoders import (
    RECIPES,
    UPSAMPLERS,
    Autoencoder,
    Recipe,
    build,
    load_decoder,
    recipe_named,
    reconstruct,
    save_decoder,
)
from assaymark.reports.errors import InputError

SMALL = Course(steps=4, batch=2, side=16)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def picture(height: int = 40, width: int = 52, seed: int = 0) -> numpy.ndarray:
    """Smooth colours with some noise, so that there is something to learn."""
    random = numpy.random.default_rng(seed)
    y, x = numpy.mgrid[0:height, 0:width]
    waves = [numpy.sin(x / a + y / b + c) for a, b, c in random.uniform(3, 9, (3, 3))]
    levels = 128 + 90 * numpy.stack(waves, 2) + random.normal(0, 3, (height, width, 3))
    return numpy.clip(levels, 0, 255).astype(numpy.uint8)


def narrow(name: str) -> Recipe:
    return dataclasses.replace(RECIPES[name], width=4)


@pytest.mark.parametrize("name", RECIPES)
def test_a_decoder_gives_back_the_size_and_the_same_for_a_seed(name: str) -> None:
    recipe, images = narrow(name), torch.rand(2, 3, 32, 48)
    model, twin, other = build(recipe, seed=1), build(recipe, seed=1), build(recipe, seed=2)
    mean, spread = model.moments(images)
    cells = (2, recipe.channels, 32 // recipe.factor, 48 // recipe.factor)
    assert mean.shape == spread.shape == cells
    assert torch.equal(model(images), twin(images))
    assert not torch.equal(model(images), other(images))
    odd = picture(33, 47)
    found = reconstruct(model, odd)
    assert found.shape == odd.shape
    assert found.dtype == numpy.uint8


def upsampled(kind: str, signal: torch.Tensor) -> numpy.ndarray:
    """One channel through an up-sampler whose convolutions hand on what they get."""
    layer = UPSAMPLERS[kind](1, 1)
    for module in layer.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.zeros_(module.weight)
            module.weight.data[:, 0, 1, 1] = 1
        if isinstance(module, torch.nn.ConvTranspose2d):
            torch.nn.init.zeros_(module.weight)
            # one tap: zeros are put between the samples; the first tap that padding does not cut
            module.weight.data[0, 0, 1, 1] = 1
        if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            assert module.bias is not None
            torch.nn.init.zeros_(module.bias)
    with torch.no_grad():
        found: numpy.ndarray = layer(signal[None, None])[0, 0].numpy()
    return found


@pytest.mark.parametrize("kind", ["transposed2", "transposed3", "transposed4"])
def test_zeros_between_samples_repeat_the_spectrum(kind: str) -> None:
    """Y(k) = X(k mod n) e^(-i...) : the upper half of the band is as strong as the lower."""
    signal = torch.from_numpy(numpy.random.default_rng(0).normal(size=(16, 16)))
    spectrum = abs(numpy.fft.fft2(upsampled(kind, signal.float())))
    expected = abs(numpy.fft.fft2(signal.numpy()))
    assert numpy.allclose(spectrum, numpy.tile(expected, (2, 2)), atol=1e-4)


@pytest.mark.parametrize("kind", ["nearest", "shuffle"])
def test_repeated_samples_damp_the_copies_by_a_cosine(kind: str) -> None:
    """Y(k) = X(k mod n) (1 + e^(-2 pi i k / 2n)) on each axis, which is 0 at the highest frequency."""
    signal = torch.from_numpy(numpy.random.default_rng(1).normal(size=(16, 16)))
    found = numpy.fft.fft2(upsampled(kind, signal.float()))
    damped = 1 + numpy.exp(-2j * numpy.pi * numpy.arange(32) / 32)
    copies = numpy.tile(numpy.fft.fft2(signal.numpy()), (2, 2))
    assert numpy.allclose(found, copies * damped[:, None] * damped[None, :], atol=1e-4)
    assert abs(found[16]).max() < 1e-4


def test_bilinear_samples_lie_on_the_lines_between() -> None:
    ramp = torch.arange(8.0).repeat(8, 1)
    found = upsampled("bilinear", ramp)
    assert numpy.allclose(found[4, 1:-1], numpy.arange(0.25, 7, 0.5))


def test_all_of_a_thumbnail_is_the_mean_of_its_cells() -> None:
    model = build(narrow("shuffle-4-thumbnail"))
    images = torch.rand(1, 3, 8, 8)
    means = images.reshape(1, 3, 2, 4, 2, 4).mean((3, 5))
    assert torch.allclose(model.moments(images)[0], means * 2 - 1, atol=1e-6)
    detail = torch.rand(1, 3, 8, 8)
    flat = (
        images * 0
        + 0.5
        + (
            detail
            - torch.nn.functional.interpolate(
                detail.reshape(1, 3, 2, 4, 2, 4).mean((3, 5)), scale_factor=4
            )
        )
    )
    # what is not in the thumbnail cannot come back
    assert torch.allclose(model(flat), model(torch.full_like(flat, 0.5)), atol=1e-5)


def test_quantised_latents_have_nine_levels() -> None:
    latents = build(narrow("nearest-4-fsq")).moments(torch.rand(4, 3, 64, 64) * 8 - 4)[0]
    levels = latents.unique() * 4
    assert torch.allclose(levels, levels.round(), atol=1e-5)
    assert 3 <= len(levels.round().unique()) <= 9


class Stop(Exception):
    """A training is stopped from outside."""


def stop(step: int, loss: float) -> None:
    if step == 3:
        raise Stop


@pytest.mark.parametrize("name", ["nearest-4", "nearest-8-kl", "transposed2-4-fsq"])
def test_training_that_was_stopped_ends_with_the_same_weights(name: str, tmp_path: Path) -> None:
    photos, checkpoint = [picture(), picture(seed=1)], tmp_path / "at.checkpoint"
    go = partial(train_decoder, narrow(name), photos, course=SMALL)
    whole = go()
    with pytest.raises(Stop):
        go(checkpoint=checkpoint, every=2, progress=stop)
    steps: list[int] = []
    resumed = go(checkpoint=checkpoint, progress=lambda step, loss: steps.append(step))
    assert steps == [3, 4]
    for one, two in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, two)
    with pytest.raises(InputError, match="another training"):
        train_decoder(narrow(name), photos[:1], course=SMALL, checkpoint=checkpoint)


def test_training_brings_pictures_back(tmp_path: Path) -> None:
    photos = [picture(seed=seed) for seed in range(4)]
    errors: list[float] = []
    model = train_decoder(
        Recipe(up="nearest", factor=2, channels=8, width=8),
        photos,
        course=Course(steps=60, batch=4, side=16, rate=1e-2),
        progress=lambda step, loss: errors.append(loss),
    )
    assert numpy.mean(errors[-5:]) < numpy.mean(errors[:5]) / 3
    unseen = picture(seed=9)
    error = abs(reconstruct(model, unseen).astype(float) - unseen).mean()
    assert error < abs(unseen - unseen.mean((0, 1))).mean() / 3
    save_decoder(model, tmp_path / "d.safetensors")
    again = load_decoder(tmp_path / "d.safetensors")
    assert numpy.array_equal(reconstruct(again, unseen), reconstruct(model, unseen))


def test_the_critic_and_the_decoder_do_not_move_each_others_weights() -> None:
    task = DecoderLoss(build(narrow("transposed4-4")))
    critic = task.critic
    assert critic is not None
    images = torch.rand(2, 3, 16, 16)
    found = task.model(images)
    loss = task._contest(critic, found, images)
    judged = torch.relu(1 - critic(images)).mean() + torch.relu(1 + critic(found.detach())).mean()
    expected = torch.autograd.grad(judged, list(critic.parameters()))
    got = torch.autograd.grad(loss, list(critic.parameters()))
    assert all(torch.allclose(a, b) for a, b in zip(expected, got, strict=True))


def test_crops_depend_on_the_step_and_lie_in_the_photograph() -> None:
    rows, columns = numpy.mgrid[0:40, 0:52]
    numbered = numpy.stack([rows, columns, rows * 0], 2).astype(numpy.uint8)
    course = Course(batch=6, side=16)
    first = crops([numbered], course, 0)
    assert torch.equal(first, crops([numbered], course, 0))
    assert not torch.equal(first, crops([numbered], course, 1))
    for crop in (first * 255).round():
        assert torch.equal(crop[0].diff(dim=0), torch.ones(15, 16))
        assert torch.equal(crop[1].diff(dim=1).abs(), torch.ones(16, 15))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"up": "neerest"}, 'did you mean "nearest"'),
        ({"latent": "vq"}, "no latent"),
        ({"loss": "l2"}, "no loss"),
        ({"factor": 3}, "2, 4, 8 or 16, got 3"),
        ({"channels": 0}, "channels lies in"),
        ({"latent": "thumbnail"}, "3 channels, got 12"),
    ],
    ids=["up", "latent", "loss", "factor", "channels", "thumbnail"],
)
def test_a_recipe_that_cannot_be_built_says_why(settings: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Recipe(**{"up": "nearest", "factor": 4, "channels": 12} | settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("photos", "says"),
    [
        ([], "no photograph"),
        ([picture(12, 40)], "smaller than a crop of 16"),
        ([picture().astype(float)], "of float64"),
        ([picture()[:, :, 0]], r"\(40, 52\)"),
    ],
    ids=["none", "small", "float", "grey"],
)
def test_photographs_that_cannot_be_trained_on(photos: list[numpy.ndarray], says: str) -> None:
    with pytest.raises(InputError, match=says):
        train_decoder(narrow("nearest-4"), photos, course=SMALL)


def test_names_and_courses_that_are_wrong() -> None:
    with pytest.raises(InputError, match='did you mean "nearest-4"'):
        recipe_named("nearest-44")
    with pytest.raises(InputError, match="multiple of 16"):
        Course(side=20)
    with pytest.raises(InputError, match="at least 1 step"):
        Course(steps=0)


def header(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x02cos\nsystem\n.",
        struct.pack("<Q", 2**60) + b"{}",
        header(b"{}"),
        header(b'{"__metadata__":{"decoder":"[1]"}}'),
        header(b'{"__metadata__":{"decoder":"{\\"up\\":\\"x\\"}"}}'),
        header(
            b'{"__metadata__":{"decoder":"{\\"up\\":\\"nearest\\",\\"factor\\":4,\\"channels\\":1e9}"}}'
        ),
    ],
    ids=["empty", "pickle", "long", "bare", "list", "recipe", "huge"],
)
def test_a_file_that_is_no_decoder_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "d.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is no decoder"):
        load_decoder(path)
    checkpoint = tmp_path / "c"
    checkpoint.write_bytes(content)
    with pytest.raises(InputError, match="no checkpoint that was saved here"):
        train_decoder(narrow("nearest-4"), [picture()], course=SMALL, checkpoint=checkpoint)


def test_weights_of_another_recipe_are_refused(tmp_path: Path) -> None:
    model = Autoencoder(narrow("nearest-4"))
    model.recipe = narrow("nearest-8-kl")
    save_decoder(model, tmp_path / "d")
    with pytest.raises(InputError, match="RuntimeError"):
        load_decoder(tmp_path / "d")
