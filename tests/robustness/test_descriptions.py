"""x.defended.json: a defended model that is written, read again, and never runs code."""

import hashlib
import json
from pathlib import Path
from typing import Any

import linear
import pytest
import torch
from safetensors.torch import save_file

from assaymark.reports.errors import InputError, IntegrityError
from assaymark.robustness import descriptions, models
from assaymark.robustness.defended import Defended, Smoothed
from assaymark.robustness.descriptions import Description
from assaymark.robustness.detectors import Guarded, NoiseStability
from assaymark.robustness.models import Prepared, Preprocessing
from assaymark.robustness.transforms import BitDepth, Jpeg

ZOO = "import linear\n\ndef build():\n    return linear.model()\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "zoo_of_descriptions.py").write_text(ZOO)
    (tmp_path / "models").mkdir()
    save_file(linear.model().state_dict(), tmp_path / "models" / "w.safetensors")
    return tmp_path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_description_rebuilds_the_model(folder: Path) -> None:
    weights = folder / "models" / "w.safetensors"
    said = Description(
        network="w.safetensors",
        sha256=digest(weights),
        mean=(0.4, 0.5),
        std=(0.2, 0.3),
        defenses=(("bit-depth", {"bits": 2}), ("jpeg", {"quality": 60})),
    )
    (folder / "models" / "m.defended.json").write_text(said.json())
    assert descriptions.read(folder / "models" / "m.defended.json") == said
    x, _ = linear.points()
    loaded = models.load(
        "models/m.defended.json", x, arch="zoo_of_descriptions:build", folder=folder
    )
    steps = Preprocessing(mean=(0.4, 0.5), std=(0.2, 0.3))
    expected = Defended(Prepared(linear.model(), steps), [BitDepth(2), Jpeg(60)])
    assert torch.equal(loaded.module(x), expected(x))
    assert (loaded.classes, loaded.rejects) == (linear.CLASSES, False)
    assert loaded.sha256 == digest(folder / "models" / "m.defended.json")


def test_smoothing_and_a_detector_are_rebuilt(tmp_path: Path) -> None:
    x = torch.rand(4, 1, 8, 8)
    network = models.load("demo:digits", x).module
    said = Description(
        network="demo:digits",
        detector=("noise-stability", {"sigma": 0.2, "samples": 3}),
        threshold=0.25,
    )
    (tmp_path / "a.defended.json").write_text(said.json())
    loaded = models.load("a.defended.json", x, folder=tmp_path)
    assert (loaded.classes, loaded.rejects) == (10, True)
    assert torch.equal(loaded.module(x), Guarded(network, NoiseStability(0.2, 3), 0.25)(x))
    said = Description(network="demo:digits", smoothing={"sigma": 0.3, "samples": 7})
    (tmp_path / "b.defended.json").write_text(said.json())
    loaded = models.load("b.defended.json", x, folder=tmp_path)
    torch.manual_seed(0)
    answer = loaded.module(x)
    torch.manual_seed(0)
    assert torch.equal(answer, Smoothed(network, 0.3, 7)(x))


def good() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Description(network="demo:digits").json())
    return content


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("format", {"format": "x"}, "is not a description of a defended model"),
    ("version", {"version": 2}, "has version 2, expected 1"),
    ("key", {"arch": "os:abort"}, 'has the unknown key "arch"'),
    ("code", {"network": "os:abort"}, "expected a model file or demo:NAME, not code"),
    ("nested", {"network": "y.defended.json"}, "not another description"),
    ("none", {"network": ""}, "names no network"),
    ("undigested", {"network": "m.onnx"}, "does not say the SHA-256 of its network"),
    ("missing", {"network": "m.onnx", "sha256": "0" * 64}, "no model at m.onnx"),
    ("unknown", {"defenses": [{"name": "jpg"}]}, 'unknown defense "jpg": did you mean "jpeg"?'),
    ("option", {"defenses": [{"name": "jpeg", "quality": 0}]}, "from 1 to 100, got 0"),
    ("nameless", {"defenses": [3]}, "has a defense without a name"),
    ("list", {"defenses": {}}, "has defenses that are no list"),
    ("std", {"mean": [0.5], "std": [0.0]}, "expected one of each a channel"),
    ("mean", {"mean": [0.5]}, "expected one of each a channel"),
    ("range", {"input_range": [1]}, "expected 2 numbers"),
    ("bool", {"mean": [True], "std": [1]}, "expected some numbers"),
    ("smoothing", {"smoothing": {"samples": 3}}, "smoothing: it needs sigma"),
    ("sigma", {"smoothing": {"sigma": float("nan")}}, "sigma is above 0 and at most 10"),
    ("threshold", {"detector": {"name": "squeezing"}}, "has a detector without a threshold"),
    ("nan", {"detector": {"name": "squeezing", "threshold": float("nan")}}, "threshold is nan"),
]


@pytest.mark.parametrize(("change", "expected"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_a_wrong_description_is_one_clear_sentence(
    change: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    (tmp_path / "x.defended.json").write_text(json.dumps(good() | change))
    with pytest.raises(InputError) as caught:
        models.load("x.defended.json", torch.rand(2, 1, 8, 8), folder=tmp_path)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "\x00", "[" * 100_000], ids=range(5))
def test_garbage_is_no_description(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.defended.json").write_text(text)
    with pytest.raises(InputError, match="is not a description of a defended model"):
        models.load("x.defended.json", torch.rand(2, 1, 8, 8), folder=tmp_path)


def test_a_network_that_was_exchanged_breaks_integrity(folder: Path) -> None:
    said = Description(network="models/w.safetensors", sha256="0" * 64)
    (folder / "m.defended.json").write_text(said.json())
    x, _ = linear.points()
    with pytest.raises(IntegrityError, match="is not the one that was approved"):
        models.load("m.defended.json", x, arch="zoo_of_descriptions:build", folder=folder)


def test_preprocessing_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "x.defended.json").write_text(Description(network="demo:digits").json())
    steps = Preprocessing(mean=(0.5,), std=(0.5,))
    with pytest.raises(InputError, match="leave out normalize"):
        models.load("x.defended.json", torch.rand(2, 1, 8, 8), folder=tmp_path, preprocessing=steps)
