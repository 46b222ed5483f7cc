"""The protection check on recognisers whose answers are known: they look at one pixel."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
import torch
import typer
from conftest import RunCli
from PIL import Image
from torch import Tensor, nn

from assaymark.cli.finish import run_and_exit
from assaymark.cli.protect import protect
from assaymark.reports.errors import InputError, PolicyError
from assaymark.reports.intervals import clopper_pearson
from assaymark.reports.model import CheckResult, Finding, Gate, ImageTrio, Limit, Table, Verdict
from assaymark.reports.policy_file import parse
from assaymark.reports.store import from_json
from assaymark.robustness import demo, recognisers
from assaymark.robustness.countermeasures import Resize
from assaymark.robustness.picture_files import find
from assaymark.robustness.protection_check import check_protection, copies
from assaymark.robustness.recognisers import Recogniser, RecogniserSpec
from assaymark.robustness.streams import Streams

SIZE = 8


class Corner(nn.Module):
    """Class 1 where the first pixel is brighter than a threshold, else class 0."""

    def __init__(self, threshold: int) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        lead = x[:, 0, 0, 0] * 255 - self.threshold
        return torch.stack([torch.zeros_like(lead), lead], 1)


def low() -> nn.Module:
    return Corner(100)


def high() -> nn.Module:
    return Corner(150)


def draw(path: Path, value: int, rest: int = 128, size: int = SIZE) -> None:
    """A grey picture whose first pixel has a value."""
    pixels = numpy.full((size, size), rest, dtype=numpy.uint8)
    pixels[0, 0] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def folders(root: Path, pairs: dict[str, tuple[int, int | None]]) -> None:
    for name, (before, after) in pairs.items():
        draw(root / "in" / name, before)
        if after is not None:
            draw(root / "out" / name, after)
    (root / "out").mkdir(exist_ok=True)


def seer(name: str, root: Path) -> Recogniser:
    pictures = [picture.image for picture in find(["in"], root)]
    return recognisers.load(RecogniserSpec(model=f"test_protection_check:{name}"), pictures)


def result(root: Path, names: tuple[str, ...] = ("low",), **options: object) -> CheckResult:
    held_out = options.pop("held_out", ())
    return check_protection(
        "p",
        find(["in"], root),
        root / "out",
        [seer(name, root) for name in names],
        [seer(name, root) for name in held_out],  # type: ignore[attr-defined]
        folder=root,
        **options,  # type: ignore[arg-type]
    )


def of(found: CheckResult, measure: str) -> Finding:
    return next(finding for finding in found.findings if finding.measure == measure)


# original, protected; low answers 1 above 100, high above 150
PAIRS: dict[str, tuple[int, int | None]] = {
    "a.png": (120, 90),  # low no longer; high said 0 and says 0
    "b.png": (160, 140),  # high no longer; low still
    "c.png": (90, 90),  # nobody moved
    "d.png": (155, 90),  # neither any more
    "e.png": (160, None),  # no copy
}


def test_rates_count_what_every_recogniser_lost(tmp_path: Path) -> None:
    folders(tmp_path, PAIRS)
    one = of(result(tmp_path), "protection_rate")
    assert (one.value, one.n) == (2 / 5, 5)
    assert one.interval == clopper_pearson(2, 5)
    assert "Not protected: b.png, c.png, e.png." in one.summary
    assert "1 have no protected copy" in one.summary
    both = of(result(tmp_path, ("low", "high")), "protection_rate")
    assert (both.value, both.n) == (1 / 5, 5)
    found = result(tmp_path, held_out=("high",))
    other = of(found, "held_out_protection_rate")
    assert other.target == "test_protection_check:high"
    assert (other.value, other.n) == (2 / 5, 5)  # b and d; e has no copy
    with pytest.raises(InputError, match="low is held out and also one of the recognisers"):
        result(tmp_path, ("high", "low"), held_out=("low",))
    model = demo.weights("digits")
    (tmp_path / "same.safetensors").write_bytes(model.read_bytes())
    spec = RecogniserSpec(model="same.safetensors", arch="assaymark.robustness.demo:network")
    picture = [torch.zeros(1, 8, 8)]
    again = recognisers.load(spec, picture, folder=tmp_path)
    ours = recognisers.load(RecogniserSpec(model="demo:digits"), picture)
    with pytest.raises(InputError, match=r"same\.safetensors is held out and also"):
        recognisers.check_apart([ours], [again])


def test_what_was_not_recognised_before_is_no_merit(tmp_path: Path) -> None:
    """Known classes: low takes a for 1, which is right, and c for 0, which is wrong."""
    folders(
        tmp_path,
        {"0/a.png": (120, 90), "1/b.png": (120, 90), "1/c.png": (90, 90), "0/d.png": (90, 120)},
    )
    one = of(result(tmp_path, labels="known"), "protection_rate")
    assert (one.value, one.n) == (1.0, 2)
    (tmp_path / "l.csv").write_text("file,label\n0/a.png,1\n1/b.png,1\n1/c.png,0\n0/d.png,1\n")
    listed = of(result(tmp_path, labels="l.csv"), "protection_rate")
    assert (listed.value, listed.n) == (2 / 3, 3)
    (tmp_path / "l.csv").write_text("file,label\n0/a.png,0\n1/b.png,0\n1/c.png,1\n0/d.png,1\n")
    gate = Gate(metric="protection_rate", limit=Limit(minimum=0.5))
    nothing = of(result(tmp_path, labels="l.csv", gates=(gate,)), "protection_rate")
    assert (nothing.value, nothing.n, nothing.verdict) == (None, 0, Verdict.NOT_MEASURED)


def test_a_countermeasure_is_held_against_the_same_on_the_original(tmp_path: Path) -> None:
    """Shrinking mixes the corner with what is around it: noise in one pixel alone is washed out."""
    for name, rest in (("a.png", 90), ("b.png", 190)):
        draw(tmp_path / "in" / name, 190, rest=190)
        draw(tmp_path / "out" / name, 90, rest=rest)
    found = result(tmp_path, countermeasures={"resize": Resize(0.25)})
    assert of(found, "protection_rate").value == 1.0
    assert of(found, "surviving_protection_rate").value == 0.5
    rates = next(e for e in found.findings[0].evidence if isinstance(e, Table))
    shown = [row[2:6] for row in rates.rows]
    assert shown[:2] == [("as written", 2, 0, 2), ("resize", 2, 0, 1)]
    assert shown[2][1:] == (2, 0, sum(_darkened(number) for number in range(2)))


def _darkened(number: int) -> bool:
    """Whether the control's noise takes the corner of picture `number` below the threshold."""
    stream = Streams.of(0, "control", [number])
    return bool(stream.signs(torch.zeros(1, 1, SIZE, SIZE), "control")[0, 0, 0, 0] < 0)


def test_changes_are_those_of_the_files(tmp_path: Path) -> None:
    folders(tmp_path, {"a.png": (120, 90), "b.png": (120, 120)})
    found = result(tmp_path)
    assert of(found, "largest_change").value == 30 / 255
    error = (30 / 255) ** 2 / SIZE**2
    assert of(found, "least_psnr").value == pytest.approx(-10 * numpy.log10(error), abs=1e-5)
    least = of(found, "least_ssim").value
    assert least is not None
    assert 0.5 < least < 1
    still = tmp_path / "still"
    folders(still, {"a.png": (120, 120)})
    gate = Gate(metric="least_psnr", limit=Limit(minimum=30))
    same = of(result(still, gates=(gate,)), "least_psnr")
    assert (same.value, same.verdict) == (None, Verdict.NOT_MEASURED)


def test_an_empty_folder_is_no_good_news(tmp_path: Path) -> None:
    folders(tmp_path, {"a.png": (120, None), "b.png": (130, None)})
    found = result(tmp_path)
    assert of(found, "protection_rate").value == 0.0
    assert of(found, "largest_change").value is None
    assert any("2 originals without a protected copy" in text for text in found.method.not_tested)


def test_copies_belong_to_their_originals(tmp_path: Path) -> None:
    folders(tmp_path, {"a.png": (120, 90)})
    draw(tmp_path / "out" / "stranger.png", 1)
    assert any("stranger.png" in text for text in result(tmp_path).method.not_tested)
    draw(tmp_path / "out" / "a.png", 90, size=9)
    with pytest.raises(InputError, match=r"1×9×9 .* its original 1×8×8"):
        copies(find(["in"], tmp_path), tmp_path / "out")
    draw(tmp_path / "in" / "b.jpg", 90)
    for name in ("b.jpg", "b.png"):
        draw(tmp_path / "out" / name, 90)
    with pytest.raises(InputError, match=r"holds b\.png and b\.jpg"):
        copies(find(["in/b.jpg"], tmp_path), tmp_path / "out")


@pytest.mark.parametrize(
    ("labels", "classes", "expected"),
    [
        ("known", ("cat", "dog"), "lies in no class folder"),
        ("no.csv", None, "cannot read the labels"),
        ("short.csv", None, "has no label of a.png"),
        ("odd.csv", None, "has no columns file and label"),
        ("high.csv", None, "there is the label 7"),
        (None, ("x", "y", "z"), "answers 2 classes, and 3 are named"),
    ],
)
def test_labels_that_do_not_fit_are_explained(
    labels: str | None, classes: tuple[str, ...] | None, expected: str, tmp_path: Path
) -> None:
    folders(tmp_path, {"a.png": (120, 90)})
    (tmp_path / "short.csv").write_text("file,label\nb.png,1\n")
    (tmp_path / "odd.csv").write_text("name,label\na.png,1\n")
    (tmp_path / "high.csv").write_text("file,label\na.png,7\n")
    with pytest.raises(InputError, match=expected):
        result(tmp_path, labels=labels, classes=classes)


def test_the_report_shows_trios_and_escapes_names(tmp_path: Path) -> None:
    from assaymark.reports.html import render
    from assaymark.reports.model import Report

    folders(tmp_path, {"<script>alert(1)<b>.png": (120, 90), "b.png": (120, 120)})
    found = result(tmp_path)
    (one,) = [e for e in found.findings[0].evidence if isinstance(e, ImageTrio)]
    assert (one.title, one.prediction, one.fooled_prediction) == (
        "<script>alert(1)<b>.png", "class 1", "class 0",
    )  # fmt: skip
    page = render(Report(findings=found.findings, methods=(found.method,)))
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "Protected examples" in page
    assert "whoever trains a recogniser on protected pictures" in page


POLICY = """
[[check]]
id = "p"
kind = "protection"
originals = "in"
protected = "out"
models = "test_protection_check:low"
"""


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ('gate = { metric = "held_out_protection_rate", min = 0.5 }', "name them with held_out_models"),
        ('countermeasures = []\ngate = { metric = "surviving_protection_rate", min = 0.5 }', "list is empty"),
        ('gate = { metric = "least_psnr", min = 0 }', "counts decibels"),
        ('gate = { metric = "largest_change", min = 0.1 }', "good when low"),
        ('held_out_models = [{ model = "x.onnx", arc = "a:b" }]', 'did you mean "arch"'),
        ('held_out_models = ["x.onnx"]', 'there is no "x.onnx"'),
        ('labels = "l.csv"', 'there is no "l.csv"'),
    ],
)  # fmt: skip
def test_mistakes_in_a_policy_are_explained(more: str, expected: str, tmp_path: Path) -> None:
    folders(tmp_path, {"a.png": (120, 90)})
    with pytest.raises(PolicyError, match=expected):
        parse(POLICY + more, folder=tmp_path, needs_gate=False)


def code_of(run: Callable[..., None], *arguments: object, **options: object) -> int:
    """The exit code of a command that is run in this process."""
    try:
        run(*arguments, **options)
    except typer.Exit as ended:
        return ended.exit_code
    return 0


def audit(text: str, folder: Path) -> int:
    return code_of(
        run_and_exit, text, name="p.toml", folder=folder, command="audit", outputs=[], device="cpu"
    )


def test_a_policy_holds_a_folder_of_protected_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders(tmp_path, {"a.png": (120, 90), "b.png": (120, 90), "c.png": (120, 120)})
    gate = 'gate = { metric = "protection_rate", min = %s, severity = "critical" }'
    assert audit(POLICY + gate % "0.6", tmp_path) == 0
    assert audit(POLICY + gate % "0.7", tmp_path) == 1
    # to leave one of 3 pictures out is no way to a better number
    (tmp_path / "out" / "c.png").unlink()
    assert audit(POLICY + gate % "0.7", tmp_path) == 1
    assert audit(POLICY + gate % '0.2, on = "lower"', tmp_path) == 3
    draw(tmp_path / "out" / "c.png", 90, size=9)
    assert audit(POLICY + gate % "0.6", tmp_path) == 3
    assert "no protected copy of c.png" in capsys.readouterr().out


def test_the_command_protects_and_measures_the_files(cli: RunCli, tmp_path: Path) -> None:
    few(tmp_path, 24)
    wide = ("--model", "demo:digits", "--held-out-model", "demo:digits-hardened", "--eps", "40/255")
    done = cli("protect", "in", *wide, "--labels", "known", "--min", "0.5", "--on", "estimate", "-o", "out",
               "-o", "r.json")  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    measured = findings(tmp_path / "r.json")
    assert set(measured) == {
        "protection_rate", "surviving_protection_rate", "held_out_protection_rate", "least_psnr",
        "least_ssim", "largest_change",
    }  # fmt: skip
    written = sorted(
        path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*.png")
    )
    rate = measured["protection_rate"]
    assert rate.value is not None
    assert rate.n is not None
    assert 0.5 <= rate.value <= len(written) / rate.n
    assert measured["largest_change"].limit == Limit(maximum=40 / 255)
    assert measured["largest_change"].verdict == "pass"
    from assaymark.robustness import models

    model = models.load("demo:digits", demo.digits()[0][:4]).module
    for path in written:
        before, after = (
            torch.from_numpy(numpy.asarray(Image.open(tmp_path / place / path)).astype(int))
            for place in ("in", "out")
        )
        assert (before - after).abs().max() <= 40
        answer = int(model((after.float() / 255)[None, None]).argmax())
        assert answer != int(path.parts[0])


def findings(report: Path) -> dict[str, Finding]:
    found = from_json(report.read_text(encoding="utf-8"), report.name)
    return {finding.measure: finding for finding in found.findings}


def few(root: Path, count: int) -> None:
    """Digits as a folder by class."""

    x, y = demo.digits()
    for number, (image, label) in enumerate(zip(x[:count], y[:count].tolist(), strict=True)):
        pixels = (image[0] * 255).round().byte().numpy()
        path = root / "in" / str(label) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def test_what_cannot_be_protected_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few(tmp_path, 12)
    monkeypatch.chdir(tmp_path)

    def run(**options: bool) -> int:
        return code_of(
            protect,
            ["in"],
            ["demo:digits"],
            eps="2/255",
            name=["bim"],
            output=[Path("out")],
            **options,
        )

    assert run() == 1
    assert (
        "12 pictures are still recognised, as they are or after what they shall survive, and were not"
        in capsys.readouterr().err
    )
    assert not list((tmp_path / "out").rglob("*.png"))
    assert run(write_unprotected=True) == 1
    assert "were written all the same" in capsys.readouterr().err
    assert len(list((tmp_path / "out").rglob("*.png"))) == 12
    with pytest.raises(InputError, match=r"and 11 more of these names already: .* with --force"):
        run()
    # what lay there would pass for protected
    assert run(force=True) == 1
    assert not list((tmp_path / "out").rglob("*.png"))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"output": []}, "-o names 0 folders"),
        ({"output": [Path("a"), Path("b")]}, "-o names 2 folders"),
        ({"model": None}, "name pictures, a recogniser and a folder"),
        ({"output": [Path("in")]}, "in lies in in, which holds the originals"),
        ({"output": [Path("in/sub")]}, "which holds the originals"),
        ({"paths": ["in/0/0.png"], "output": [Path("in/0")]}, "is an original and is never replaced"),
        ({"eps": "0"}, "below one step of 8 bits"),
        ({"eps": "0.5"}, "reaches mid-grey"),
        ({"eps": "x"}, "--eps: expected a number"),
        ({"norm": "l1"}, "--norm is linf or l2"),
        ({"model": ["demo:digit"]}, 'did you mean "digits"'),
        ({"model": ["no.onnx"]}, "no model at no.onnx"),
        ({"held_out": ["no.onnx"]}, "no model at no.onnx"),
        ({"held_out": ["demo:digits"]}, "demo:digits is held out and also one of the recognisers"),
        ({"batch_size": 0}, "from 1 on, got 0"),
        ({"batch_size": -5}, "from 1 on, got -5"),
        ({"survive": ["jpg"]}, 'did you mean "jpeg"'),
        ({"survive": ["jpeg:75"]}, "such as jpeg:quality=50"),
        ({"name": ["pdg"]}, 'did you mean "pgd"'),
        ({"form": "gif"}, "png or keep"),
        ({"labels": "l.csv"}, "cannot read the labels l.csv"),
        ({"paths": ["none"]}, "no pictures at none"),
        ({"paths": ["bad.png"]}, "cannot read the picture bad.png"),
        ({"arch": ["a:b", "a:c"]}, "--arch is given 2 times for 1 models"),
    ],
)  # fmt: skip
def test_wrong_use_is_explained(
    options: dict[str, object], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path / "in" / "0" / "0.png", 9)
    (tmp_path / "bad.png").write_bytes(b"bad")
    monkeypatch.chdir(tmp_path)
    usual = {"paths": ["in"], "model": ["demo:digits"], "output": [Path("out")]}
    with pytest.raises(InputError, match=re.escape(expected)):
        protect(**usual | options)  # type: ignore[arg-type]
    assert not list((tmp_path / "out").rglob("*.png"))


@pytest.mark.parametrize("form", ["png", "keep"])
@pytest.mark.parametrize("name", ["a.png", "a.bmp"])
def test_an_original_is_never_touched(
    name: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even under the name that its copy would have had in the other form."""
    draw(tmp_path / "in" / name, 9)
    before = (tmp_path / "in" / name).read_bytes()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="is an original and is never replaced"):
        protect([f"in/{name}"], ["demo:digits"], output=[Path("in")], form=form, force=True)
    assert (tmp_path / "in" / name).read_bytes() == before


def test_a_kept_jpeg_is_measured_as_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few(tmp_path, 6)
    for path in list((tmp_path / "in").rglob("*.png")):
        Image.open(path).save(path.with_suffix(".jpg"), quality=95)
        path.unlink()
    monkeypatch.chdir(tmp_path)
    outputs = [Path("out"), Path("r.json")]
    assert code_of(
        protect, ["in"], ["demo:digits"], eps="60/255", form="keep", minimum=0.3, on="estimate",
        output=outputs, name=["pgd"],
    ) == 0  # fmt: skip
    assert "were written as JPEG" in capsys.readouterr().err
    assert findings(tmp_path / "r.json")["largest_change"].limit is None
    assert {path.suffix for path in (tmp_path / "out").rglob("*.*")} == {".jpg"}


def test_several_models_take_an_arch_each() -> None:
    from assaymark.cli.policy_text import with_arch

    entries = with_arch(["a.pt", "demo:digits", "b.pt"], ["zoo:a", "-", "zoo:b"])
    assert [entry["arch"] for entry in entries] == ["zoo:a", None, "zoo:b"]
    entries = with_arch(["a.pt", "b.pt"], ["zoo:a"])
    assert [entry["arch"] for entry in entries] == ["zoo:a", "zoo:a"]
