"""Classifiers of transformers and timm, held against what the libraries themselves compute."""

import json
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image
from torch import Tensor

from assaymark.reports.errors import InputError
from assaymark.robustness import models
from assaymark.robustness.models import Answers, Preprocessing

transformers = pytest.importorskip("transformers", reason="needs the extra assaymark[vision]")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

VIT = {"do_resize": True, "size": {"height": 16, "width": 16}, "resample": 2, "do_rescale": True,
       "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.4, 0.5, 0.6],
       "image_std": [0.2, 0.25, 0.3], "image_processor_type": "ViTImageProcessor"}  # fmt: skip


def vit(folder: Path, **changes: Any) -> Path:
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        image_size=16, patch_size=4, num_labels=5,
    )  # fmt: skip
    return save(folder, transformers.ViTForImageClassification(config), VIT | changes)


def resnet(folder: Path, **changes: Any) -> Path:
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=3
    )
    return save(folder, transformers.ResNetForImageClassification(config), VIT | changes)


def save(folder: Path, network: Any, processor: dict[str, Any]) -> Path:
    place = folder / "model"
    transformers.utils.logging.disable_progress_bar()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # as they come, logits hardly depend on the picture
        for weight in network.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator))
    network.eval().save_pretrained(place)
    (place / "preprocessor_config.json").write_text(json.dumps(processor))
    return place


def pictures(height: int, width: int) -> Tensor:
    rough = torch.rand(4, 3, 5, 5, generator=torch.Generator().manual_seed(1))
    smooth = torch.nn.functional.interpolate(rough, (height, width), mode="bilinear")
    return (smooth * 255).round() / 255


def theirs(place: Path, x: Tensor) -> tuple[Tensor, Tensor]:
    """What their processor makes of Pillow's 8-bit pictures, and what their network answers."""
    made: Any = transformers.AutoImageProcessor.from_pretrained(place)
    arrays = (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    batch = made(images=[Image.fromarray(a) for a in arrays], return_tensors="pt")
    network = transformers.AutoModelForImageClassification.from_pretrained(place)
    with torch.no_grad():
        return batch["pixel_values"], network(**batch).logits


ROUNDED = 0.021  # Pillow rounds a resized picture to 8 bits: 1/255, divided by the least std
CASES = [
    ("vit, as they are", vit, (16, 16), {}, 1e-5),
    ("vit, made smaller", vit, (40, 30), {}, ROUNDED),
    ("vit, made larger", vit, (9, 12), {"resample": 3}, ROUNDED),
    ("resnet, cut", resnet, (40, 30), {"size": {"shortest_edge": 20}, "do_center_crop": True,
                                       "crop_size": {"height": 16, "width": 18}}, ROUNDED),
    ("resnet, no mean", resnet, (16, 16), {"do_normalize": False}, 1e-5),
]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "size", "changes", "tolerance"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_logits_are_those_of_the_library(
    make: Any, size: tuple[int, int], changes: dict[str, Any], tolerance: float, tmp_path: Path
) -> None:
    place = make(tmp_path, **changes)
    x = pictures(*size)
    loaded = models.load("hf:model", x[:2], folder=tmp_path)
    seen, expected = theirs(place, x)
    piped: Any = loaded.module.network
    assert piped.preprocess(x).shape == seen.shape
    assert float((piped.preprocess(x) - seen).abs().max()) <= tolerance
    spread = float(expected.std(0).min())
    assert float((loaded.module(x) - expected).abs().max()) <= 5 * tolerance * max(spread, 1)
    assert torch.equal(loaded.module(x).argmax(1), expected.argmax(1))
    assert loaded.classes == expected.shape[1]
    assert loaded.sha256 is not None
    image = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loaded.module(image).logsumexp(1).sum(), image)
    assert bool((gradient.flatten(1).abs().amax(1) > 0).all())


def test_what_is_done_to_pixels_is_said_and_can_be_replaced(tmp_path: Path) -> None:
    vit(tmp_path)
    x = pictures(16, 16)
    loaded = models.load("hf:model", x, folder=tmp_path)
    assert loaded.note == (
        "hf:model: preprocessing of preprocessor_config.json: resized to 16×16 (bilinear); "
        "mean 0.4, 0.5, 0.6, std 0.2, 0.25, 0.3"
    )
    own = Preprocessing(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
    again = models.load("hf:model", x, folder=tmp_path, preprocessing=own)
    assert torch.allclose(again.module(x), loaded.module(x), atol=1e-5)
    assert "mean" not in again.note
    hidden = models.load("hf:model", x, folder=tmp_path, answers=Answers(access="labels"))
    assert torch.equal(hidden.module(x).argmax(1), loaded.module(x).argmax(1))
    assert hidden.sha256 == loaded.sha256
    grey = models.load("hf:model", x[:, :1], folder=tmp_path)
    assert torch.allclose(grey.module(x[:, :1]), loaded.module(x[:, :1].expand(-1, 3, -1, -1)))
    (tmp_path / "model" / "preprocessor_config.json").unlink()
    bare = models.load("hf:model", x, folder=tmp_path)
    assert bare.note == "hf:model: no preprocessor_config.json, preprocessing: none"
    assert bare.sha256 != loaded.sha256


def edit(place: Path, **changes: Any) -> None:
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(config | changes))


def without_weights(place: Path) -> None:
    (place / "model.safetensors").unlink()
    torch.save({}, place / "pytorch_model.bin")


def other_weights(place: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(place / "model.safetensors")
    weights.pop("classifier.weight")
    save_file(weights, place / "model.safetensors", {"format": "pt"})


def processor(place: Path, **changes: Any) -> None:
    (place / "preprocessor_config.json").write_text(json.dumps(VIT | changes))


WRONG: list[tuple[str, Any, str]] = [
    ("code", lambda p: edit(p, auto_map={"AutoModel": "evil.Model"}), "asks for auto_map"),
    ("kernel", lambda p: edit(p, _attn_implementation="evil/kernel"), "names the implementation"),
    ("another kind", lambda p: edit(p, architectures=["BertModel"]), "is BertModel: expected"),
    ("unknown", lambda p: edit(p, model_type="vitt"), "cannot be read by transformers"),
    ("no JSON", lambda p: (p / "config.json").write_text("{"), "no readable config.json"),
    ("a list", lambda p: (p / "config.json").write_text("[]"), "holds a list: expected a table"),
    ("pickle", without_weights, "holds no .safetensors weights"),
    ("garbage", lambda p: (p / "model.safetensors").write_bytes(b"PK"), "cannot be read by transf"),
    ("tensors", other_weights, "lack 1 tensors of the architecture, such as classifier.weight"),
    ("step", lambda p: processor(p, do_flip_channels=True), "do_flip_channels is not done here"),
    ("lanczos", lambda p: processor(p, resample=1), "resample = 1 is not done here"),
    ("huge", lambda p: processor(p, size={"height": 10**6, "width": 1}), "1000000 pixels is not made"),
    ("mean", lambda p: processor(p, image_mean=[0.5]), "do not fit 3 channels"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "expected"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_a_wrong_folder_is_one_clear_sentence(spoil: Any, expected: str, tmp_path: Path) -> None:
    spoil(vit(tmp_path))
    with pytest.raises(InputError) as caught:
        models.load("hf:model", pictures(16, 16), folder=tmp_path)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_is_downloaded_unless_a_hub_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    asked: list[object] = []

    def no_network(*arguments: object, **_: object) -> None:
        asked.append(arguments)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    with pytest.raises(InputError, match="neither a folder nor in the local cache") as caught:
        models.load("hf:nobody/nothing", pictures(8, 8), folder=tmp_path)
    assert "hf://nobody/nothing" in str(caught.value)
    assert not asked
    with pytest.raises(InputError, match="cannot be downloaded"):
        models.load("hf://nobody/nothing@main", pictures(8, 8), folder=tmp_path)
    assert asked
    with pytest.raises(InputError, match="names no model"):
        models.load("hf:", pictures(8, 8), folder=tmp_path)


def test_timm_where_it_works_and_a_sentence_where_not(tmp_path: Path) -> None:
    x = torch.from_numpy(numpy.random.default_rng(0).random((2, 3, 32, 32), numpy.float32))
    try:
        import timm
    except Exception:
        with pytest.raises(InputError, match="needs timm, which cannot be imported here"):
            models.load("timm:resnet18", x, folder=tmp_path)
        return
    from safetensors.torch import save_file

    network = timm.create_model("resnet18", pretrained=False, num_classes=4).eval()
    place = tmp_path / "net"
    place.mkdir()
    save_file(network.state_dict(), place / "model.safetensors")
    card = {"input_size": [3, 32, 32], "crop_pct": 1.0, "mean": [0.5] * 3, "std": [0.25] * 3}
    config = {"architecture": "resnet18", "num_classes": 4, "pretrained_cfg": card}
    (place / "config.json").write_text(json.dumps(config))
    loaded = models.load("timm:net", x, folder=tmp_path)
    with torch.no_grad():
        expected = network((x - 0.5) / 0.25)
    assert torch.allclose(loaded.module(x), expected, atol=1e-4)
