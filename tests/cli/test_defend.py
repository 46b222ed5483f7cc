"""`assaymark defend` as a user runs it: what it writes is attacked by the next command."""

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from assaymark.reports.errors import InputError
from assaymark.reports.store import from_json
from assaymark.robustness import defend

Cli = Callable[..., "CompletedProcess[str]"]
DEFEND = ("defend", "demo:digits", "demo:digits-train", "--eps", "0.15", "--device", "cpu")


def numbers(path: Path) -> dict[tuple[str, str], float]:
    report = from_json(path.read_text(), path.name)
    return {(f.target, f.measure): f.value for f in report.findings if f.value is not None}


@pytest.mark.long
def test_trained_weights_are_attacked_as_they_are(cli: Cli, tmp_path: Path) -> None:
    training = (
        "--method",
        "fast-at",
        "--set",
        "epochs=5",
        "--set",
        "lr=0.03",
        "--set",
        "batch_size=64",
    )
    outputs = ("-o", "hard.safetensors", "-o", "hard.pt2", "-o", "r.json", "-o", "r.html")
    done = cli(*DEFEND, *training, *outputs)
    assert done.returncode == 0, done.stderr
    assert "epoch 5 of 5" in done.stderr
    found = numbers(tmp_path / "r.json")
    assert (
        found["hard.safetensors", "robust_accuracy"] > found["demo:digits", "robust_accuracy"] + 0.2
    )
    gain = found["hard.safetensors", "robust_gain"]
    difference = (
        found["hard.safetensors", "robust_accuracy"] - found["demo:digits", "robust_accuracy"]
    )
    assert gain == pytest.approx(difference)
    assert "accuracy under PGD-10" in (tmp_path / "r.html").read_text()
    assert not list(tmp_path.glob("*.checkpoint"))
    robust = []
    for name, arch in (
        ("hard.safetensors", ("--arch", "assaymark.robustness.demo:network")),
        ("hard.pt2", ()),
    ):
        attack = (
            "attack",
            name,
            "demo:digits",
            *arch,
            "--eps",
            "0.15",
            "-a",
            "pgd",
            "--examples",
            "60",
        )
        done = cli(*attack, "-o", "a.json", "--device", "cpu")
        assert done.returncode == 0, done.stderr
        robust.append(numbers(tmp_path / "a.json")[name, "robust_accuracy"])
    assert robust[0] == robust[1] > 0.3


@pytest.mark.long
def test_a_description_is_attacked_and_gated_as_any_model(cli: Cli, tmp_path: Path) -> None:
    outputs = ("-o", "sub/j.defended.json", "-o", "r.json")
    done = cli(*DEFEND, "--method", "jpeg", "--set", "quality=60", "--examples", "40", *outputs)
    assert done.returncode == 0, done.stderr
    found = numbers(tmp_path / "r.json")
    assert found["sub/j.defended.json", "robust_accuracy"] < 0.6  # its gradient is not masked
    (tmp_path / "assaymark.toml").write_text(
        '[[check]]\nid = "a"\nkind = "robustness"\nmodel = "sub/j.defended.json"\n'
        'data = "demo:digits"\nattack = "pgd"\nnorm = "linf"\neps = 0.15\nexamples = 40\n'
        'gate = { metric = "robust_accuracy", min = 0.9 }\n'
    )
    assert cli("audit", "--device", "cpu").returncode == 1


@pytest.mark.long
def test_a_detector_reports_what_it_rejects(cli: Cli, tmp_path: Path) -> None:
    detector = ("--method", "noise-stability", "--set", "sigma=0.15", "--set", "samples=2")
    outputs = ("-o", "n.defended.json", "-o", "r.json")
    done = cli(*DEFEND, *detector, "--test", "demo:digits", "--examples", "15", *outputs)
    assert done.returncode == 0, done.stderr
    rate = numbers(tmp_path / "r.json")["n.defended.json", "false_positive_rate"]
    assert 0 <= rate < 0.5


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--method", "jpeg", "-o", "x.safetensors"), "jpeg writes a model as .defended.json"),
        (("--method", "thermometer", "-o", "x.defended.json"), "needs a network that was trained"),
    ],
    ids=["file", "shape"],
)
def test_a_wrong_command_is_explained_and_writes_nothing(
    arguments: tuple[str, ...], expected: str, cli: Cli, tmp_path: Path
) -> None:
    done = cli(*DEFEND, *arguments)
    assert done.returncode == 2
    assert expected in done.stderr
    assert not list(tmp_path.glob("x.*"))


@pytest.mark.parametrize(
    ("method", "text", "expected"),
    [
        ("jpg", "quality=3", 'unknown defense "jpg": did you mean "jpeg"?'),
        ("pgd-at", "epoch=3", 'pgd-at has no option "epoch"; it takes epochs, batch_size'),
        ("jpeg", "quality", "write NAME=VALUE, such as quality="),
        ("fast-at", "epochs=three", "epochs is a whole number, got 'three'"),
        ("noise", "sigma=much", "sigma is a number, got 'much'"),
        ("free", "flip=1", "flip is true or false, got '1'"),
    ],
)
def test_a_wrong_setting_is_explained(method: str, text: str, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        defend.settings(method, [text])
    assert expected in str(caught.value)


def test_settings_have_the_types_of_their_method() -> None:
    texts = ["epochs=3", "lr=1e-2", "step_size=0.1", "flip=true", "schedule=cosine"]
    assert defend.settings("pgd-at", texts) == {
        "epochs": 3,
        "lr": 0.01,
        "step_size": 0.1,
        "flip": True,
        "schedule": "cosine",
    }
    assert defend.settings("squeezing", ["bits=3", "false_positive_rate=0.1"]) == {
        "bits": 3,
        "false_positive_rate": 0.1,
    }


def test_the_list_names_every_method(cli: Cli) -> None:
    done = cli("defend", "--list")
    assert done.returncode == 0
    for name in ("pgd-at", "trades", "free", "jpeg", "smoothing", "squeezing"):
        assert f"{name} " in done.stdout
