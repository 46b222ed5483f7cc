"""The corruption check against hand-made scores, and on real digits and photographs."""

import io
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
import torch
from conftest import RunCli
from PIL import Image

from assaymark.reports.errors import InputError, PolicyError
from assaymark.reports.model import Estimates, Finding, Gate, ImageTrio, Limit, Table, Verdict
from assaymark.reports.policy_file import parse
from assaymark.robustness import images, models
from assaymark.robustness.corruption_check import check_corruptions, chosen_corruptions
from assaymark.robustness.corruption_files import write_corrupted
from assaymark.robustness.corruption_scores import Scores, corruption_error
from assaymark.robustness.corruptions import CORRUPTIONS, MAIN, corrupt
from assaymark.robustness.images import ImageData
from assaymark.robustness.models import Loaded
from assaymark.robustness.streams import Streams


def scores(
    clean: list[int], correct: list[list[list[int]]], names: tuple[str, ...] = ("fog", "snow")
) -> Scores:
    table = torch.tensor(correct).bool()
    return Scores(
        clean=torch.tensor(clean).bool(),
        correct=table,
        corruptions=names,
        severities=tuple(range(1, table.shape[2] + 1)),
        forward=0,
        seconds=0.0,
    )


# two images, two corruptions, two severities
OWN = scores([1, 1], [[[1, 0], [0, 0]], [[1, 1], [1, 0]]])
OTHER = scores([1, 0], [[[1, 0], [0, 0]], [[0, 0], [1, 1]]])


def test_accuracies_are_means_over_copies() -> None:
    assert OWN.accuracy() == 0.5
    assert OWN.accuracy("fog") == 0.75
    assert OWN.accuracy("snow") == 0.25
    worst = OWN.worst(0.95)
    assert worst is not None
    assert worst[:2] == ("snow", 0.25)
    alone = OWN.interval(0.95, "snow")
    assert alone is not None
    assert worst[2].low <= alone.low


def test_corruption_errors_are_ratios_of_summed_errors() -> None:
    """CE: fog 1/3, snow 3/2. Relative: fog (1 - 0)/(3 - 2), snow (3 - 0)/(2 - 2) undefined."""
    ratio = corruption_error(OWN, OTHER, relative=False, confidence=0.95, seed=0, check="c")
    assert ratio.each == pytest.approx({"fog": 1 / 3, "snow": 3 / 2})
    assert ratio.mean == pytest.approx((1 / 3 + 3 / 2) / 2)
    relative = corruption_error(OWN, OTHER, relative=True, confidence=0.95, seed=0, check="c")
    assert relative.each == {"fog": pytest.approx(1), "snow": None}
    assert relative.mean is None
    assert relative.interval is None
    assert relative.undefined == ("snow",)


def test_a_model_is_as_good_as_itself() -> None:
    generator = torch.Generator().manual_seed(0)
    correct = (torch.rand(200, 2, 5, generator=generator) > 0.4).int().tolist()
    own = scores([1] * 200, correct)
    ratio = corruption_error(own, own, relative=True, confidence=0.95, seed=0, check="c")
    assert ratio.mean == pytest.approx(1)
    assert ratio.interval is not None
    assert ratio.interval.low == pytest.approx(1)
    assert ratio.interval.high == pytest.approx(1)


def test_extra_corruptions_are_in_no_mean_corruption_error() -> None:
    with_extra, base = (
        scores(list(s.clean.int()), s.correct.int().tolist(), ("fog", "spatter"))
        for s in (OWN, OTHER)
    )
    ratio = corruption_error(with_extra, base, relative=False, confidence=0.95, seed=0, check="c")
    assert ratio.mean == pytest.approx(1 / 3)
    only, base = (
        replace(s, correct=s.correct[:, 1:], corruptions=("spatter",)) for s in (with_extra, base)
    )
    ratio = corruption_error(only, base, relative=False, confidence=0.95, seed=0, check="c")
    assert ratio.mean is None


@pytest.mark.parametrize(
    ("names", "channels", "expected"),
    [
        (("main",), 3, MAIN),
        (("all",), 3, tuple(CORRUPTIONS)),
        (("snow", "fog", "snow"), 3, ("snow", "fog")),
        (("all",), 1, tuple(name for name in CORRUPTIONS if name != "saturate")),
    ],
)
def test_names_stand_for_corruptions(
    names: tuple[str, ...], channels: int, expected: tuple[str, ...]
) -> None:
    assert chosen_corruptions(names, channels) == expected


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("fogg",), 'unknown corruption "fogg": did you mean "fog"?'),
        (("saturate",), "saturate changes colours only"),
    ],
)
def test_wrong_names_are_explained(names: tuple[str, ...], expected: str) -> None:
    with pytest.raises(InputError, match=expected.replace("?", r"\?")):
        chosen_corruptions(names, 1)


@pytest.fixture(scope="module")
def digits() -> tuple[Loaded, ImageData]:
    data = images.load("demo:digits")
    return models.load("demo:digits", data.images[:4]), data


def by_measure(findings: tuple[Finding, ...]) -> dict[str, Finding]:
    return {finding.measure: finding for finding in findings}


def test_the_check_counts_what_the_model_answers(digits: tuple[Loaded, ImageData]) -> None:
    model, data = digits
    gate = Gate(metric="corruption_accuracy", limit=Limit(minimum=0.5, on="lower"))
    result = check_corruptions(
        "c", model, data, corruptions=("gaussian_noise", "contrast"), severities=(1, 5),
        gates=(gate,), tags=("AML.T0043",),
    )  # fmt: skip
    found = by_measure(result.findings)
    assert set(found) == {"corruption_accuracy", "worst_corruption_accuracy", "clean_accuracy"}
    streams = Streams.of(0, "c", list(range(len(data.images))))
    right = [
        (model.module(corrupt(data.images, name, severity, streams)).argmax(1) == data.labels)
        for name in ("gaussian_noise", "contrast")
        for severity in (1, 5)
    ]
    mean = found["corruption_accuracy"]
    assert mean.value == pytest.approx(float(torch.stack(right).double().mean()))
    assert mean.n == len(data.images)
    assert mean.verdict is Verdict.PASS
    assert mean.references == ("AML.T0043",)
    worst = found["worst_corruption_accuracy"]
    pair = [float(torch.stack(right[i : i + 2]).double().mean()) for i in (0, 2)]
    assert worst.value == pytest.approx(min(pair))
    assert mean.cost.forward == 5 * len(data.images)
    chart, table, *trios = mean.evidence
    assert isinstance(chart, Estimates)
    assert [mark.label for mark in chart.estimates] == [
        "no corruption",
        "gaussian_noise",
        "contrast",
    ]
    assert isinstance(table, Table)
    assert table.columns[3:] == ("severity 1", "severity 5", "mean")
    assert table.rows[0][3] == pytest.approx(float(right[0].double().mean()))
    assert trios
    for trio in trios:
        assert isinstance(trio, ImageTrio)
        assert trio.label == trio.prediction
        assert trio.fooled_prediction != trio.label
    assert "the corruptions shot_noise" in result.method.not_tested[0]
    assert "n counts images, not copies" in " ".join(result.method.steps)


def test_the_batch_size_changes_nothing(digits: tuple[Loaded, ImageData]) -> None:
    model, data = digits
    results = [
        check_corruptions(
            "c", model, data, corruptions=("all",), severities=(3,), examples=23, batch_size=size,
            reference=model,
        ).findings
        for size in (4, 250)
    ]  # fmt: skip
    for one, other in zip(*results, strict=True):
        assert (one.value, one.interval, one.evidence) == (
            other.value,
            other.interval,
            other.evidence,
        )


def test_a_reference_gives_ratios(digits: tuple[Loaded, ImageData]) -> None:
    model, data = digits
    reference = models.load("demo:digits-hardened", data.images[:4])
    gate = Gate(metric="mean_corruption_error", limit=Limit(maximum=5.0, on="upper"))
    result = check_corruptions(
        "c", model, data, corruptions=("contrast", "fog", "spatter"), severities=(4, 5),
        reference=reference, gates=(gate,), examples=200,
    )  # fmt: skip
    found = by_measure(result.findings)
    ratio = found["mean_corruption_error"]
    assert ratio.value is not None
    assert ratio.interval is not None
    assert ratio.interval.low < ratio.value < ratio.interval.high
    assert ratio.verdict is Verdict.PASS
    assert "mean over 2 of the 15 main corruptions" in ratio.summary
    (table,) = (e for e in found["corruption_accuracy"].evidence if isinstance(e, Table))
    assert table.columns[-2:] == ("error / reference", "relative")
    errors = [row[-2] for row in table.rows[:2]]
    assert ratio.value == pytest.approx(sum(errors) / 2)  # type: ignore[arg-type]


def test_an_undecided_limit_says_how_many_images_it_needs(digits: tuple[Loaded, ImageData]) -> None:
    model, data = digits
    first = check_corruptions("c", model, data, corruptions=("contrast",), examples=60)
    value = first.findings[0].value
    assert value is not None
    gate = Gate(metric="corruption_accuracy", limit=Limit(minimum=value - 0.02, on="lower"))
    (finding, *_) = check_corruptions(
        "c", model, data, corruptions=("contrast",), examples=60, gates=(gate,)
    ).findings
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert finding.needs_n is not None
    assert finding.needs_n > 60


def test_nan_answers_are_an_error(digits: tuple[Loaded, ImageData]) -> None:
    model, data = digits

    class Broken(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.full((len(x), 10), torch.nan)

    with pytest.raises(InputError, match="answered NaN or infinity"):
        check_corruptions("c", replace(model, module=Broken()), data, examples=3)


@pytest.mark.parametrize("form", ["png", "npz"])
def test_written_copies_are_those_that_are_measured(form: str, tmp_path: Path) -> None:
    data = images.load("demo:digits")
    count = write_corrupted(
        data, tmp_path / "out", corruptions=("fog", "contrast"), severities=(2, 4),
        form="png" if form == "png" else "npz", examples=40,
    )  # fmt: skip
    assert count == 160
    read = images.load(
        "fog/4" if form == "png" else "fog-4.npz", folder=tmp_path / "out", classes=data.classes
    )
    rows = [int(path.stem) for path in sorted((tmp_path / "out/fog/4").rglob("*.png"))]
    if form == "npz":
        from assaymark.robustness.evaluate import subset

        rows = subset(len(data.images), 40, 0, "corrupt")
    assert read.labels.tolist() == data.labels[rows].tolist()
    expected = corrupt(data.images[rows], "fog", 4, Streams.of(0, "corrupt", rows))
    torch.testing.assert_close(read.images, expected, atol=0.5 / 255 + 1e-6, rtol=0)
    with pytest.raises(InputError, match="holds something already"):
        write_corrupted(data, tmp_path / "out", corruptions=("fog",), severities=(1,))


def test_class_names_that_are_no_folder_names_become_numbers(tmp_path: Path) -> None:
    data = ImageData(
        name="x",
        images=torch.rand(2, 1, 8, 8),
        labels=torch.tensor([0, 1]),
        classes=("../evil", "b"),
    )
    write_corrupted(data, tmp_path / "out", corruptions=("fog",), severities=(1,))
    assert sorted(p.name for p in (tmp_path / "out/fog/1").iterdir()) == ["0000", "0001"]


POLICY = """
[[check]]
id = "weather"
kind = "corruption"
model = "demo:digits"
data = "demo:digits"
corruptions = "all"
severities = 3
reference = "demo:digits-hardened"
gate = [
  { metric = "corruption_accuracy", min = 0.5 },
  { metric = "mean_corruption_error", max = 1.2, on = "upper" },
]
"""


def test_a_policy_may_ask_for_more_than_one_reference_error() -> None:
    (check,) = parse(POLICY).check
    assert check.gates[1].limit.maximum == 1.2


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('reference = "demo:digits-hardened"\n', "", "compares with a reference model"),
        ("severities = 3", "severities = [3, 3]", "severities names 3 twice"),
        ("severities = 3", "severities = 6", "less than or equal to 5"),
        ("max = 1.2", "max = 0", "1 is as good as the reference"),
        ("min = 0.5", "min = 1.5", "lies between 0 and 1"),
        ('"demo:digits-hardened"', '"nothing.onnx"', 'no such reference: "nothing.onnx"'),
        ("corruptions =", "corruption =", 'unknown key "corruption": did you mean "corruptions"?'),
        ('reference = "demo', 'arch = "a:b"\nreference_arch = "a:b"\n#', "reference_arch makes"),
    ],
)
def test_a_wrong_policy_is_explained(old: str, new: str, expected: str) -> None:
    text = POLICY.replace(old, new)
    assert text != POLICY
    if "reference_arch" in new:
        text = text.replace(
            '  { metric = "mean_corruption_error", max = 1.2, on = "upper" },\n', ""
        )
    with pytest.raises(PolicyError) as caught:
        parse(text, folder=Path())
    assert expected in str(caught.value)


@pytest.mark.long
def test_the_command_measures_writes_and_exits(cli: RunCli, tmp_path: Path) -> None:
    few = ["--examples", "60", "-c", "contrast", "-s", "5", "--write", "out"]
    done = cli("corrupt", "demo:digits", "demo:digits", *few, "--min", "0.99", "-o", "r.html")
    assert done.returncode == 1, done.stderr
    assert "corruption_accuracy" in done.stdout
    assert "wrote 60 corrupted copies to out" in done.stdout
    assert len(list((tmp_path / "out/contrast/5").rglob("*.png"))) == 60
    page = (tmp_path / "r.html").read_text()
    assert "Corrupted examples" in page
    assert "Adversarial examples" not in page
    assert cli("corrupt", "demo:digits").returncode == 2
    again = cli("corrupt", "demo:digits", *few)
    assert again.returncode == 2
    assert "out holds something already" in again.stderr


def plain_network(shared: Path) -> torch.nn.Module:
    """The architecture of ../shared/models/cifar10_std.safetensors."""
    from safetensors.torch import load_file
    from torch import nn

    class Centred(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x - 0.5) / 0.25

    layers: list[nn.Module] = [Centred()]
    for before, after, stride in ((3, 16, 1), (16, 32, 2), (32, 64, 2), (64, 64, 2)):
        layers += [nn.Conv2d(before, after, 3, stride=stride, padding=1), nn.ReLU()]
    layers += [nn.Flatten(), nn.Linear(1024, 128), nn.ReLU(), nn.Linear(128, 10)]
    network = nn.Sequential(*layers)
    network.load_state_dict(load_file(shared / "models" / "cifar10_std.safetensors"))
    return network.eval()


def test_real_photographs_suffer_as_published(shared: Path) -> None:
    """CIFAR-10: low contrast costs a plain network far more than brightness (1903.12261, fig. 3)."""
    with zipfile.ZipFile(shared / "data" / "cifar10-jpeg.zip") as archive:
        names = sorted(name for name in archive.namelist() if "/test/" in name)[::50]
        names = [name for name in names if name.endswith(".jpg")]
        pixels = [numpy.asarray(Image.open(io.BytesIO(archive.read(name)))) for name in names]
    kinds = sorted({name.split("/")[-2] for name in names})
    data = ImageData(
        name="cifar",
        images=torch.from_numpy(numpy.stack(pixels)).permute(0, 3, 1, 2) / 255,
        labels=torch.tensor([kinds.index(name.split("/")[-2]) for name in names]),
        classes=tuple(kinds),
    )
    network = plain_network(shared)
    model = Loaded(name="cifar10_std", module=network, sha256=None, classes=10)
    result = check_corruptions(
        "c", model, data, corruptions=("contrast", "brightness", "fog"), severities=(1, 3, 5)
    )
    found = by_measure(result.findings)
    (table,) = (e for e in found["corruption_accuracy"].evidence if isinstance(e, Table))
    rows = {row[0]: [float(cell) for cell in row[3:6]] for row in table.rows}  # type: ignore[arg-type]
    clean = found["clean_accuracy"].value
    assert clean is not None
    assert clean > 0.6
    assert rows["contrast"][2] < 0.35 < 0.5 < rows["brightness"][2]
    assert rows["contrast"] == sorted(rows["contrast"], reverse=True)
    assert rows["fog"] == sorted(rows["fog"], reverse=True)
    assert found["worst_corruption_accuracy"].summary.startswith("contrast costs most")
