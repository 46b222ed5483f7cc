"""Every scene by its table: limits, evidence, the check and the command."""

import json
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from conftest import RunCli
from PIL import Image

# Small enough for a test; a 3-channel model is needed where colours are turned.
from scene_samples import digits, images, small_model
from torch import Tensor, nn

from assaymark.reports.errors import InputError
from assaymark.reports.model import Gate, Limit, Pictures, Verdict
from assaymark.robustness.geometry import place
from assaymark.robustness.oracle import Oracle
from assaymark.robustness.patch_placing import SHAPES, paste
from assaymark.robustness.patch_scenes import patch
from assaymark.robustness.printing import (
    png,
)
from assaymark.robustness.scene_check import check_scenes
from assaymark.robustness.scene_evaluate import Points, evaluate_scenes
from assaymark.robustness.scene_types import Learned
from assaymark.robustness.scenes import SCENES, find
from assaymark.robustness.streams import Streams

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


@pytest.mark.long
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
