"""The network on residuals: its filters, its gradient, its ONNX form, and what it refuses to load."""

from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from scipy.ndimage import correlate

from assaymark.provenance.residual_network import (
    ResidualNetwork,
    load_network,
    save_network,
    write_onnx,
)
from assaymark.provenance.residual_training import pairs, split, train_network
from assaymark.reports.errors import InputError


def network(seed: int = 0) -> ResidualNetwork:
    """Untrained, with statistics that batch normalisation would have after training."""
    torch.manual_seed(seed)
    found = ResidualNetwork((4, 6, 6, 8)).eval()
    for norm in found.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.normal_(0, 0.3)
            norm.running_var.uniform_(0.5, 2)
    return found


IMAGES = torch.rand(2, 3, 96, 83, generator=torch.Generator().manual_seed(3))


def test_residuals_are_second_differences_in_units_of_their_mean_size() -> None:
    luma = (IMAGES[0] * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0).numpy()
    rest = correlate(luma, numpy.array([[-1, 2, -1], [2, -4, 2], [-1, 2, -1]]))[1:-1, 1:-1]
    expected = 3 * numpy.tanh(rest / (numpy.abs(rest).mean() + 0.5 / 255) / 3)
    found = network().residuals(IMAGES)[0, 2].numpy()
    numpy.testing.assert_allclose(found, expected, atol=1e-4)


def test_gradients_reach_every_pixel_and_agree_with_differences() -> None:
    net = network().double()
    images = IMAGES[:1, :, :66, :66].double().requires_grad_()
    net(images).sum().backward()
    assert images.grad is not None
    assert (images.grad != 0).float().mean() > 0.99
    for place in ((0, 0, 20, 31), (0, 2, 40, 5)):
        step = torch.zeros_like(images)
        step[place] = 1e-6
        with torch.no_grad():
            slope = (net(images + step) - net(images - step)).item() / 2e-6
        assert slope == pytest.approx(images.grad[place].item(), rel=1e-3, abs=1e-9)


def test_the_logit_is_the_mean_of_the_patches_and_ignores_contrast() -> None:
    net = network()
    with torch.inference_mode():
        torch.testing.assert_close(net(IMAGES), net.patches(IMAGES).mean((1, 2)))
        assert (net(IMAGES) - net(0.5 + (IMAGES - 0.5) * 0.6)).abs().max() < 0.02
        assert net(torch.full((1, 3, 64, 64), 0.5)).isfinite().all()


@pytest.mark.parametrize("shape", [(1, 64, 64), (3, 97, 130)], ids=str)
def test_onnx_gives_the_same_logits(shape: tuple[int, int, int], tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    net = network()
    write_onnx(net, tmp_path / "a.onnx")
    session = runtime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    images = torch.rand(shape[0], 3, *shape[1:])
    (found,) = session.run(None, {"images": images.numpy()})
    with torch.inference_mode():
        numpy.testing.assert_allclose(found, net(images).numpy(), atol=1e-5)


def test_weights_come_back_as_they_were(tmp_path: Path) -> None:
    net = network()
    save_network(net, tmp_path / "a.safetensors")
    with torch.inference_mode():
        assert torch.equal(load_network(tmp_path / "a.safetensors")(IMAGES), net(IMAGES))


def hostile(folder: Path, name: str) -> Path:
    path = folder / "a.safetensors"
    state = {key: value.contiguous() for key, value in network().state_dict().items()}
    match name:
        case "text":
            path.write_bytes(b"not tensors")
        case "pickle":
            torch.save(state, path)
        case "large":
            with path.open("wb") as stream:
                stream.truncate(6 * 2**20)
        case "other":
            save_file({"a": torch.zeros(3)}, path)
        case "nan":
            save_file(state | {"head.bias": torch.tensor([float("nan")])}, path)
        case "shape":
            save_file(state | {"head.weight": torch.zeros(1, 7, 1, 1)}, path)
    return path


@pytest.mark.parametrize("name", ["text", "pickle", "large", "other", "nan", "shape", "absent"])
def test_other_files_are_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        load_network(hostile(tmp_path, name))
    assert "\n" not in str(refused.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Noise, and the same noise at half its resolution: four pairs of each of three sources."""
    rng = numpy.random.default_rng(0)
    for source in "abc":
        for number in range(4):
            noise = Image.fromarray(rng.integers(60, 200, (168, 168, 3), dtype=numpy.uint8))
            small = noise.resize((84, 84), Image.Resampling.BOX)
            for process, picture in (("real", noise), ("halved", small.resize((168, 168)))):
                place = tmp_path / "pairs" / process / source
                place.mkdir(parents=True, exist_ok=True)
                picture.save(place / f"{number}.png")
    return tmp_path / "pairs"


def test_sources_are_held_out_whole(folder: Path) -> None:
    learnt, judged = split(pairs(folder))
    assert len(learnt) + len(judged) == 12
    assert {p.source for p in judged} == {"c"}
    assert not {p.source for p in learnt} & {"c"}


def test_training_goes_on_as_if_it_had_never_stopped(folder: Path, tmp_path: Path) -> None:
    small = (4, 4, 4, 4)
    train_network(folder, tmp_path / "whole", steps=4, widths=small)
    for seconds in (
        0.0,
        None,
        None,
    ):  # the first stops before its first step, the last has none left
        train_network(folder, tmp_path / "parts", steps=4, seconds=seconds, widths=small, every=1)
    whole, parts = (
        (tmp_path / name / "image_residual.safetensors").read_bytes() for name in ("whole", "parts")
    )
    assert whole == parts
    (tmp_path / "parts" / "residual.ckpt").write_bytes(b"PK")
    with pytest.raises(InputError, match="resume=False"):
        train_network(folder, tmp_path / "parts", steps=4, widths=small)


def test_no_pairs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds 0 pairs"):
        train_network(tmp_path, tmp_path / "out")


@pytest.mark.long
def test_it_learns_to_tell_halved_resolution_after_any_delivery(
    folder: Path, tmp_path: Path
) -> None:
    done = train_network(folder, tmp_path, steps=60, widths=(8, 8, 8, 8))
    assert (done.auc["halved"] or 0) > 0.9


def test_weights_that_were_loaded_while_looking_can_be_attacked(tmp_path: Path) -> None:
    """A network loaded under inference mode would refuse gradients for the rest of the process."""
    save_network(network(), tmp_path / "w.safetensors")
    with torch.inference_mode():
        loaded = load_network(tmp_path / "w.safetensors")
    images = torch.rand(1, 3, 64, 64, requires_grad=True)
    loaded(images).sum().backward()
    assert images.grad is not None
    assert float(images.grad.abs().max()) > 0
