"""Detection as a user types it, in one process so that it is quick."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from conftest import RunCli
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from assaymark.provenance.keys import new_chain, write_chain
from assaymark.reports.store import from_json


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


Run = Callable[..., Done]
PARAMETERS = (
    "a lighthouse\nNegative prompt: blur\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, "
    "Size: 512x512, Model hash: 6ce0161689, Model: v1-5-pruned-emaonly"
)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_cli: RunCli) -> Run:
    """`assaymark …` in a folder with a photograph and a picture that carries a generator's mark."""
    textured(tmp_path / "photo.jpg")
    mark = PngInfo()
    mark.add_text("parameters", PARAMETERS)
    textured(tmp_path / "marked.png", pnginfo=mark)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASSAYMARK_PASSPHRASE", "correct horse")

    def go(*arguments: str) -> Done:
        done = quick_cli(*arguments)
        return Done(done.returncode, done.stdout, done.stderr)

    return go


def textured(path: Path, seed: int = 0, side: int = 160, **options: object) -> None:
    rng = np.random.default_rng(seed)
    small = rng.integers(60, 200, (side // 8, side // 8, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC))
    noisy = smooth + rng.normal(0, 3, smooth.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(path, **options)  # type: ignore[arg-type]


FAST = ("--detector", "credential", "--detector", "metadata")


def test_a_marked_picture_is_generated_and_undeclared(run: Run) -> None:
    done = run("detect", "marked.png", *FAST, "--forbid", "generated-unmarked", "-o", "r.json")
    assert done.code == 1, done.out + done.err
    assert "generated_unmarked_files" in done.out
    report = from_json(Path("r.json").read_text())
    (file,) = [one for one in report.findings if one.measure == "generated_probability"]
    assert file.summary.startswith("generated: ")
    assert file.value == pytest.approx(1 / (1 + np.exp(-4)))


def test_what_cannot_be_told_is_no_pass(run: Run) -> None:
    """Without a statistic nothing looked at the pixels, so the check is undecided, not passed."""
    done = run("detect", "photo.jpg", *FAST, "--forbid", "generated")
    assert done.code == 3
    assert "cannot tell" in done.out


def test_a_signed_generated_picture_is_declared(run: Run) -> None:
    write_chain(new_chain("Example Press"), Path("keys"), b"correct horse")
    assert run("sign", "photo.jpg", "-o", "s.jpg", "--keys", "keys", "--generated").code == 0
    trusted = ("--trust-anchor", "keys/root.pem")
    done = run("detect", "s.jpg", *FAST, *trusted, "--forbid", "generated-unmarked")
    assert done.code == 0, done.out + done.err
    assert run("detect", "s.jpg", *FAST, *trusted, "--forbid", "generated").code == 1
    raw = bytearray(Path("s.jpg").read_bytes())
    raw[-200] ^= 1
    Path("changed.jpg").write_bytes(raw)
    done = run("detect", "changed.jpg", *FAST, *trusted, "--forbid", "manipulated")
    assert done.code == 1, done.out + done.err


def test_all_detectors_on_a_picture(run: Run) -> None:
    done = run("detect", "photo.jpg", "-o", "r.html", "--records", "r.jsonl")
    assert done.code == 0, done.out + done.err
    (line,) = Path("r.jsonl").read_text().splitlines()
    record = json.loads(line)
    looked = {item["detector"] for item in record["evidence"]}
    assert {"credential", "metadata", "stable-diffusion-mark", "learned", "splice"} <= looked
    assert not [item for item in record["evidence"] if "internal error" in item["summary"]]
    assert "camera-noise: needs --references" in record["not_looked_at"]
    assert record["verdict"] in Path("r.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere.jpg",), 'no file matches "nowhere.jpg"'),
        (("photo.jpg", "--forbid", "generate"), 'did you mean "generated"'),
        (("photo.jpg", "--prior", "1"), "prior"),
        (("photo.jpg", "--max-probability", "2"), "max_probability"),
        (("photo.jpg", "--detector", "lerned"), 'did you mean "learned"'),
        (("photo.jpg", "--skip", "nothing"), 'no detector "nothing"'),
        (("photo.jpg", "--checkpoint", "npr"), "expected NAME=FILE"),
        (("photo.jpg", "--checkpoint", "npr=gone.pth"), "gone.pth"),
        (("photo.jpg", "--trust-anchor", "gone.pem"), "gone.pem"),
        (("photo.jpg", "--watermark-key", "gone.key"), "gone.key"),
        (("photo.jpg", "--references", "gone"), "gone"),
        (("evaluate", "nowhere"), "nowhere"),
        (("evaluate", ".", "--detector", "lerned"), 'did you mean "learned"'),
        (("evaluate", ".", "--delivery", "jepg75"), 'did you mean "jpeg75"'),
        (("race", "nowhere"), "nowhere"),
        (("train", "nowhere", "-o", "out"), "nowhere"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_input_gets_one_sentence(run: Run, arguments: tuple[str, ...], said: str) -> None:
    done = run("detect", *arguments)
    assert done.code == 2, done.out + done.err
    assert said in done.err + done.out
    assert "Traceback" not in done.err


def test_the_list_names_every_detector(run: Run) -> None:
    from assaymark.provenance.detectors import DETECTORS

    done = run("detect", "list")
    assert done.code == 0
    for name in DETECTORS:
        assert f"{name} (" in done.out


def test_a_detector_is_measured(run: Run) -> None:
    """A planted difference, resized or not, that the detector of resampling tells apart."""
    for number in range(4):
        for kind, name in (("real", "one"), ("real", "two"), ("fake", "net"), ("fake", "gan")):
            textured(Path(f"data/{kind}/{name}/{number}.png"), seed=7 * number + len(name))
    for path in Path("data/fake").glob("*/*.png"):
        with Image.open(path) as opened:
            small = opened.crop((0, 0, 96, 96))
        small.resize((160, 160), Image.Resampling.BILINEAR).save(path)
    done = run(
        "detect", "evaluate", "data", "--detector", "resampling", "-o", "e.json",
        "--scores", "s.jsonl", "--min-auc", "0.6",
    )  # fmt: skip
    assert done.code == 3, done.out + done.err  # two sources prove nothing of others
    assert "no number can be claimed" in done.out
    values = {one.measure: one.value for one in from_json(Path("e.json").read_text()).findings}
    assert values["auc"] is not None
    assert values["auc"] > 0.9
    assert values["coverage"] == 1.0
    assert len(Path("s.jsonl").read_text().splitlines()) >= 16


def test_a_detector_is_attacked(run: Run) -> None:
    """By gradients where it has them; the statistics have none, and say so."""
    for name in ("real", "fake"):
        for number in range(2):
            textured(Path(f"pictures/{name}/{number}.png"), seed=number)
    attack = ("attack", "pictures", "--classes", "real,fake", "--eps", "2/255")
    done = run(attack[0], "detector:residual", *attack[1:], "-a", "fgsm")
    assert done.code == 0, done.out + done.err
    assert "robust_accuracy" in done.out
    refused = run(attack[0], "detector:learned", *attack[1:], "-a", "fgsm")
    assert refused.code == 3
    assert "gives no gradients" in refused.out
