"""The check of detection on files whose answer is planted: brightness stands for a detector's score."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assaymark.provenance import detect as module
from assaymark.provenance.detect import Settings, detect
from assaymark.provenance.detect_check import check_detection
from assaymark.provenance.detect_findings import findings_of
from assaymark.provenance.detection import Detection, from_plain
from assaymark.provenance.detectors import DETECTORS, Detector
from assaymark.provenance.evidence import (
    Curve,
    Evidence,
    Family,
    HeatMap,
    Medium,
    OperatingPoint,
    Says,
    abstains,
)
from assaymark.provenance.fuse import Verdict
from assaymark.provenance.material import Material
from assaymark.reports.errors import InputError
from assaymark.reports.model import Gate, Limit, Pictures, Plot, Table
from assaymark.reports.model import Verdict as Judged

POINT = OperatingPoint(
    threshold=0.5, false_positive_rate=0.05, false_positive_rate_high=0.1, true_positive_rate=0.3,
    true_positive_rate_low=0.2, reals=100, fakes=100, sources=10, generators=8, measured_on="planted",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Brightness(Detector):
    """Bright pictures are generated, dark ones are not, pictures of one colour cannot be told."""

    def look(self, material: Material) -> Sequence[Evidence]:
        pixels = material.picture.pixels
        if pixels.std() < 1:
            return (abstains(self.name, self.family, "the picture has one colour"),)
        score = float(pixels.mean()) / 255
        return (
            Evidence(
                detector=self.name,
                family=self.family,
                says=Says.GENERATED if score > 0.5 else Says.NOTHING,
                summary=f"brightness {score:.2f}",
                score=score,
                llr=6 * score - 3,
                point=POINT,
                drawings=(
                    HeatMap(title="bright", values=((0.0, 1.0), (score, 0.5))),
                    Curve(title="line", x=(0, 1, 2), y=(0, 1, 0), x_label="x", y_label="y",
                          marked=((1, 2),)),
                ),
            ),
        )  # fmt: skip


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Brightness(
        name="brightness",
        family=Family.LEARNED,
        media=(Medium.IMAGE,),
        place="",
        about="brightness",
    )
    monkeypatch.setattr(module, "DETECTORS", {"brightness": row})
    monkeypatch.setitem(DETECTORS, "brightness", row)


def picture(path: Path, level: int, noise: int = 20, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    pixels = (
        level + rng.integers(-noise, noise + 1, (40, 40, 3))
        if noise
        else np.full((40, 40, 3), level)
    )
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    picture(tmp_path / "bright.png", 220)
    picture(tmp_path / "dark.png", 30)
    picture(tmp_path / "flat.png", 128, noise=0)
    return tmp_path


def gate(metric: str, most: float = 0.0) -> Gate:
    return Gate(metric=metric, limit=Limit(maximum=most, on="upper"))


@pytest.mark.parametrize(
    ("files", "metric", "verdict"),
    [
        (("dark.png",), "generated_files", Judged.PASS),
        (("bright.png", "flat.png"), "generated_files", Judged.FAIL),
        (("dark.png", "flat.png"), "generated_files", Judged.INCONCLUSIVE),
        (("dark.png", "bright.png"), "manipulated_files", Judged.INCONCLUSIVE),
        (("bright.png",), "manipulated_files", Judged.PASS),
        (("flat.png",), "undecided_files", Judged.FAIL),
        (("bright.png",), "generated_unmarked_files", Judged.FAIL),
    ],
)
def test_limits(folder: Path, files: tuple[str, ...], metric: str, verdict: Judged) -> None:
    found = check_detection("d", files, Settings(), folder=folder, gates=(gate(metric),))
    assert found.findings[0].measure == metric
    assert found.findings[0].judged is verdict


@pytest.mark.parametrize(
    ("files", "most", "verdict"),
    [
        (("dark.png",), 0.5, Judged.PASS),
        (("dark.png", "bright.png"), 0.5, Judged.FAIL),
        (("dark.png", "flat.png"), 0.5, Judged.INCONCLUSIVE),
        (("flat.png",), 0.5, Judged.NOT_MEASURED),
    ],
)
def test_highest_probability(
    folder: Path, files: tuple[str, ...], most: float, verdict: Judged
) -> None:
    """A file without a probability may have any up to 1, so it never passes."""
    found = check_detection(
        "d", files, Settings(), folder=folder, gates=(gate("max_probability", most),)
    )
    assert found.findings[0].judged is verdict


def test_a_file_of_each_verdict_is_shown_with_its_drawings(folder: Path) -> None:
    found = check_detection("d", ("*.png",), Settings(), folder=folder)
    assert found.findings[0].summary == "1 generated, 1 no sign found, 1 cannot tell."
    files = found.findings[1:]
    assert [finding.target for finding in files] == ["bright.png", "flat.png", "dark.png"]
    assert [finding.value is None for finding in files] == [False, True, False]
    kinds = [type(item) for item in files[0].evidence]
    assert Pictures in kinds
    assert Plot in kinds
    assert "misses 70% of the generated files" in files[2].summary
    assert "the picture has one colour" in files[1].summary


def test_hostile_files_are_told_not_counted_as_good(folder: Path) -> None:
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.png").write_text("no picture")
    found = check_detection(
        "d", ("*.png",), Settings(), folder=folder, gates=(gate("generated_files"),)
    )
    by_name = {finding.target: finding for finding in found.findings}
    for name in ("broken.png", "empty.png", "text.png"):
        assert by_name[name].summary.startswith("cannot tell")
        assert by_name[name].value is None


def test_what_is_no_file_is_an_error(folder: Path) -> None:
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    found = check_detection("d", ("*.png",), Settings(), folder=folder)
    errors = [finding for finding in found.findings if finding.error]
    assert len(errors) == 1
    assert "gone.png" in (errors[0].error or "")


def test_the_number_of_processes_changes_nothing(folder: Path) -> None:
    one, two = (
        check_detection("d", ("*.png",), Settings(), folder=folder, workers=workers).findings
        for workers in (1, 2)
    )
    for left, right in zip(one, two, strict=True):
        assert (left.target, left.value, left.summary) == (right.target, right.value, right.summary)


class Folder:
    """Keeps in memory what a run would keep on disk."""

    def __init__(self) -> None:
        self.content: dict[int, bytes] = {}

    def load(self, number: int) -> bytes | None:
        return self.content.get(number)

    def save(self, number: int, content: bytes) -> None:
        self.content[number] = content


def test_a_second_run_takes_up_what_is_unchanged(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = Folder()
    secret = Settings(options={"watermark_key": b"a secret that must not be kept"})
    first = check_detection("d", ("*.png",), secret, folder=folder, keep=keep)
    assert len(keep.content) == 3
    assert not any(b"a secret" in content for content in keep.content.values())
    picture(folder / "dark.png", 200, seed=1)
    looked: list[str] = []
    look = Brightness.look

    def counted(self: Brightness, material: Material) -> Sequence[Evidence]:
        looked.append(material.path.name)
        return look(self, material)

    monkeypatch.setattr(Brightness, "look", counted)
    second = check_detection("d", ("*.png",), secret, folder=folder, keep=keep)
    assert looked == ["dark.png"]
    unchanged = {finding.target: finding for finding in first.findings}
    again = {finding.target: finding for finding in second.findings}
    assert again["flat.png"].summary == unchanged["flat.png"].summary
    assert again["dark.png"].value != unchanged["dark.png"].value


def test_records_hold_every_file(folder: Path) -> None:
    records = folder / "records.jsonl"
    check_detection("d", ("*.png",), Settings(), folder=folder, records=records)
    lines = [json.loads(line) for line in records.read_text().splitlines()]
    assert [Path(line["path"]).name for line in lines] == ["bright.png", "dark.png", "flat.png"]
    found = detect(folder / "bright.png")
    assert from_plain(json.loads(json.dumps(found.plain()))) == found
    assert found.verdict is Verdict.GENERATED
    assert found.generated_unmarked


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"prior": 0.0}, "probability between 0 and 1"),
        ({"prior": float("nan")}, "probability between 0 and 1"),
        ({"only": ("brightnes",)}, 'did you mean "brightness"'),
        ({"skip": ("nothing",)}, 'no detector "nothing"'),
    ],
    ids=["zero", "nan", "misspelt", "unknown"],
)
def test_wrong_settings(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Settings(**settings)  # type: ignore[arg-type]


def test_a_detector_that_fails_costs_itself(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: Brightness, material: Material) -> Sequence[Evidence]:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(Brightness, "look", fails)
    found = detect(folder / "bright.png")
    assert found.verdict is Verdict.CANNOT_TELL
    assert found.probability is None
    assert "ZeroDivisionError" in found.not_looked_at[0]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"binding_store": "nowhere.db"}, "no store at nowhere.db"),
        ({"checkpoints": {"aasisst": Path("a.pth")}}, "no detector 'aasisst'"),
        ({"checkpoints": {"aasist": Path("nowhere.pth")}}, "nowhere.pth"),
    ],
)
def test_what_cannot_be_opened_is_told_before_the_first_file(
    folder: Path, options: dict[str, object], sentence: str
) -> None:
    """A store or a network that was asked for and is not there must not read like "did not look"."""
    with pytest.raises(InputError, match=sentence):
        check_detection("d", ("*.png",), Settings(options=options), folder=folder)


def test_the_number_of_a_manipulated_file_is_of_manipulated(folder: Path) -> None:
    item = Detection(
        path=folder / "a.png", medium=Medium.IMAGE, kind="PNG", verdict=Verdict.MANIPULATED,
        because="it was altered", manipulated_probability=0.98, probability=0.2,
    )  # fmt: skip
    (finding,) = findings_of("d", [item])
    assert (finding.measure, finding.value) == ("manipulated_probability", 0.98)
    assert "0.20 from a prior of 0.5, of manipulated 0.98" in finding.summary


def test_a_report_names_what_did_not_look_and_why(folder: Path) -> None:
    item = Detection(
        path=folder / "a.png", medium=Medium.IMAGE, kind="PNG", verdict=Verdict.CANNOT_TELL,
        because="it is plain", not_looked_at=("splice: too small", "binding: needs --store"),
    )  # fmt: skip
    (finding,) = findings_of("d", [item])
    assert "did not look: splice, binding" in finding.summary
    left = next(shown for shown in finding.evidence if shown.title.startswith("What was not"))
    assert isinstance(left, Table)
    assert left.rows == (("splice", "too small"), ("binding", "needs --store"))


@pytest.mark.parametrize(
    ("name", "content", "because"),
    [
        ("empty.png", b"", "the file is empty"),
        ("notes.txt", b"hello", "it is no picture, sound or video of a kind that is known here"),
    ],
)
def test_a_file_that_is_no_medium_says_so(
    tmp_path: Path, name: str, content: bytes, because: str
) -> None:
    (tmp_path / name).write_bytes(content)
    assert detect(tmp_path / name).because == because


def test_a_reason_does_not_name_the_file_again(tmp_path: Path) -> None:
    whole = picture(tmp_path / "whole.png", 100).read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 4])
    assert detect(tmp_path / "half.png").because.startswith("it is no picture that can be decoded")


def test_no_probability_is_rounded_to_certainty(folder: Path) -> None:
    item = Detection(
        path=folder / "a.png", medium=Medium.IMAGE, kind="PNG", verdict=Verdict.GENERATED,
        because="signed", probability=0.9999, manipulated_probability=0.0001,
    )  # fmt: skip
    (finding,) = findings_of("d", [item])
    assert "of generated over 0.99" in finding.summary
    assert "of manipulated under 0.01" in finding.summary


@pytest.mark.parametrize(
    ("found_by", "declared"), [(("fingerprint",), False), (("watermark",), True)]
)
def test_a_credential_found_by_its_look_is_no_mark_in_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, found_by: tuple[str, ...], declared: bool
) -> None:
    """A fingerprint is computed from any picture; a watermark is in it."""
    row = Found(
        name="binding", family=Family.CREDENTIAL, media=(Medium.IMAGE,), place="", about="",
        found_by=found_by,
    )  # fmt: skip
    monkeypatch.setattr(module, "DETECTORS", {"binding": row})
    found = detect(folder / "dark.png")
    assert (found.verdict, found.generated_unmarked) == (Verdict.GENERATED, not declared)


@dataclass(frozen=True, kw_only=True)
class Found(Detector):
    """Finds a credential of something generated in a store."""

    found_by: tuple[str, ...]

    def look(self, material: Material) -> Sequence[Evidence]:
        return (
            Evidence(
                detector=self.name,
                family=self.family,
                says=Says.GENERATED,
                summary="found again",
                details={"found_by": list(self.found_by)},
            ),
        )
