"""The evaluation of a detector on planted files, whose scores are their brightness."""

import csv
import io
import json
from pathlib import Path

import numpy
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from assaymark.provenance.detect_data import read_data
from assaymark.provenance.detect_evaluate import evaluate, refusal, sample_of
from assaymark.provenance.detect_results import Evaluation
from assaymark.provenance.detect_scoring import AS_IT_IS, Scored, score_files
from assaymark.provenance.frozen_scores import Frozen, freeze
from assaymark.provenance.material import open_material
from assaymark.provenance.sound_deliveries import write_wave
from assaymark.reports.errors import InputError

SIDE = 24


def _brightness(path: Path) -> float | None:
    """A detector: the logit of the mean level, nothing below 0.02."""
    level = float(open_material(path).picture.pixels.mean()) / 255
    return None if level < 0.02 else float(numpy.log(level / (1 - level)))


def _write(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = numpy.full((SIDE, SIDE, 3), level, numpy.uint8)
    pixels[::2, ::2] = max(level - 1, 0)  # no two files of one digest by accident of a flat picture
    Image.fromarray(pixels).save(path)


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Eight sources of 5 dark reals, eight generators of 5 bright fakes, one of which is as dark."""
    rng = numpy.random.default_rng(0)
    data = tmp_path / "data"
    for group in range(8):
        for number in range(5):
            _write(data / f"real/s{group}/{number}.png", int(rng.integers(40, 120)))
            bright = (40, 120) if group == 7 else (100, 220)
            _write(data / f"fake/g{group}/{number}.png", int(rng.integers(*bright)))
    return data


def _truth(data: Path) -> tuple[list[bool], list[float]]:
    rows = [(path.parts[-3] == "fake", _brightness(path)) for path in sorted(data.rglob("*.png"))]
    return [fake for fake, _ in rows], [score for _, score in rows if score is not None]


def _run(data: Path, **more: object) -> Evaluation:
    return evaluate(data, _brightness, replicates=20, **more)  # type: ignore[arg-type]


def test_numbers_are_those_of_the_scores(world: Path) -> None:
    found = _run(world, deliveries=("blur1", "crop50"), identity="brightness")
    assert found.auc.value == pytest.approx(roc_auc_score(*_truth(world)))
    assert found.auc.interval is not None
    assert found.auc.interval.low < (found.auc.value or 0) < found.auc.interval.high
    assert (found.reals, found.fakes, found.sources, found.generators) == (40, 40, 8, 8)
    assert found.coverage == 1
    assert found.refusal == ""
    by_name = {each.name: each for each in found.clusters}
    assert len(by_name) == 16
    dark, bright = by_name["g7"].auc.value, by_name["g0"].auc.value
    assert dark is not None
    assert bright is not None
    assert dark < 0.7 < 0.9 < bright
    assert sum(each.files for each in by_name.values()) == 80
    for way in found.sweep:  # brightness survives both
        assert way.auc.value == pytest.approx(found.auc.value, abs=0.02)
        assert way.contradicted.value == 0
        assert (way.files, way.abstained) == (80, 0)
    assert found.calibrated is not None
    assert found.point is not None
    assert found.point.measured_on == "brightness"


def test_a_detector_that_a_delivery_breaks_is_shown_to_break(world: Path) -> None:
    """A screenshot's margin changes the mean: verdicts flip, and the table says how often."""
    found = _run(world, deliveries=("jpeg95", "screenshot"))
    kept, broken = found.sweep
    assert kept.changed.value is not None
    assert broken.changed.value is not None
    assert kept.changed.value < 0.05 < broken.changed.value
    assert found.any_changed.value is not None
    assert found.any_changed.value >= broken.changed.value
    rows = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert [row["kind"] for row in rows] == ["source"] * 8 + ["generator"] * 8 + ["delivery"] * 2
    assert float(rows[-1]["changed"]) == pytest.approx(broken.changed.value, rel=1e-4)
    assert json.loads(found.to_json())["auc"]["value"] == found.auc.value


def test_what_a_detector_abstains_on_is_counted_apart(world: Path) -> None:
    _write(world / "real/s0/black.png", 0)
    (world / "fake/g0/broken.png").write_bytes(b"no picture")
    found = _run(world)
    assert found.coverage == pytest.approx(80 / 82)
    assert dict(found.why)["the detector abstained"] == 1
    assert sum(count for _, count in found.why) == 2
    assert sum(each.abstained for each in found.clusters) == 2
    assert found.auc.value == pytest.approx(roc_auc_score(*_truth_without_black(world)))


def _truth_without_black(data: Path) -> tuple[list[bool], list[float]]:
    (data / "real/s0/black.png").unlink()
    (data / "fake/g0/broken.png").unlink()
    return _truth(data)


@pytest.mark.parametrize(("sources", "generators"), [(8, 7), (3, 20)])
def test_few_sources_claim_nothing(sources: int, generators: int) -> None:
    assert f"{sources} sources of reals and {generators} generators" in refusal(sources, generators)
    assert "at least 8" in refusal(sources, generators)
    assert refusal(8, 8) == ""


def test_one_source_is_measured_and_claims_nothing(tmp_path: Path) -> None:
    for number in range(4):
        _write(tmp_path / f"real/one/{number}.png", 50 + number)
        _write(tmp_path / f"fake/one/{number}.png", 150 + number)
    found = _run(tmp_path)
    assert found.auc.value == 1
    assert found.refusal.startswith("1 sources of reals and 1 generators")
    assert found.point is found.calibrated is found.next_source is None  # type: ignore[comparison-overlap]


def test_no_scores_of_a_label_are_no_measurement(world: Path) -> None:
    with pytest.raises(
        InputError, match=r"0 reals and 0 fakes of 80 files.*80 x the detector abstained"
    ):
        evaluate(world, lambda path: None)


def test_scores_are_taken_up_where_they_ended(world: Path, tmp_path: Path) -> None:
    asked: list[Path] = []

    def detect(path: Path) -> float | None:
        asked.append(path)
        return _brightness(path)

    memory = tmp_path / "scores.jsonl"
    rows = read_data(world)
    first = score_files(rows, detect, deliveries=("blur1",), scores=memory, identity="a")
    assert len(asked) == 2 * 80
    text = memory.read_text()
    memory.write_text(text[:-20])  # the last line was cut
    _write(rows[0].path, 200)  # and a file changed
    again = score_files(rows, detect, deliveries=("blur1", "noise2"), scores=memory, identity="a")
    assert len(asked) == 2 * 80 + 80 + 2 * 2
    assert [each.scores[AS_IT_IS] for each in again[1:]] == [
        each.scores[AS_IT_IS] for each in first[1:]
    ]
    assert (
        score_files(rows, detect, deliveries=("blur1", "noise2"), scores=memory, identity="a")
        == again
    )
    assert len(asked) == 2 * 80 + 80 + 2 * 2
    with pytest.raises(InputError, match="holds scores of 'a', not of 'b'"):
        score_files(rows, detect, scores=memory, identity="b")
    memory.write_text(memory.read_text() + '{"path": 3}\n')
    with pytest.raises(InputError, match=r"scores.jsonl:\d+: this is no line of scores"):
        score_files(rows, detect, scores=memory, identity="a")


def test_workers_change_nothing(world: Path) -> None:
    rows = read_data(world)[:40]
    alone: tuple[Scored, ...] = score_files(rows, _brightness, deliveries=("noise8",))
    assert score_files(rows, _brightness, deliveries=("noise8",), workers=2) == alone


def test_sounds_take_their_own_deliveries(tmp_path: Path) -> None:
    tone = numpy.sin(numpy.arange(4000) / 5).astype(numpy.float32)
    (tmp_path / "real/a").mkdir(parents=True)
    (tmp_path / "fake/b").mkdir(parents=True)
    write_wave(tmp_path / "real/a/soft.wav", tone * 0.1, 8000)
    write_wave(tmp_path / "fake/b/loud.wav", tone * 0.4, 8000)
    sizes = score_files(
        read_data(tmp_path), lambda path: path.stat().st_size, deliveries=("pause", "jpeg75")
    )
    assert [set(each.scores) for each in sizes] == [{AS_IT_IS, "pause"}] * 2
    assert sizes[0].scores["pause"] == 44 + 2 * (4000 + 5600)
    with pytest.raises(InputError, match='no delivery "paus"'):
        score_files(read_data(tmp_path), lambda path: 0.0, deliveries=("paus",))


def test_what_was_measured_is_frozen(world: Path) -> None:
    frozen = freeze(sample_of(score_files(read_data(world), _brightness)), measured_on="planted")
    assert Frozen.from_json(frozen.to_json()) == frozen
    assert frozen.calibration.llr(2.0) > 0 > frozen.calibration.llr(-2.0)
    changes: tuple[dict[str, object], ...]
    changes = ({"format": "other"}, {"point": {}}, {"zone": 3}, {"measured": None})
    for change in changes:
        with pytest.raises(InputError, match=r"no (calibration|zone|measured)"):
            Frozen.from_json(json.dumps(json.loads(frozen.to_json()) | change))


_HEAD = "path,label,source,generator\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (_HEAD + "a.png,maybe,s,\n", "t.csv:2: label is 'maybe': expected real or fake"),
        (_HEAD + "a.png,real,s,\nb.png,real,s,\n", "t.csv:3: 'b.png' is no file"),
        (
            _HEAD + "a.png,real,s,\n../x.png,real,s,\n",
            "t.csv:3: '../x.png' leaves the table's folder",
        ),
        (_HEAD + "a.png,real,,\n", "t.csv:2: neither source nor generator"),
        (_HEAD + "a.png,real,s,\na.png,fake,s,g\n", "t.csv:3: 'a.png' is named twice"),
        (_HEAD + "a.png,real,s,,,,\n", "t.csv:2: 3 more fields"),
        ("file,label\nb.png,real\n", "has no column whose first entry is a file"),
        ("one,two,label\na.png,a.png,real\n", "several columns of paths, one, two: name one"),
        (_HEAD, "names no files"),
    ],
    ids=["label", "missing", "outside", "source", "twice", "fields", "column", "columns", "empty"],
)
def test_a_table_with_a_mistake_is_refused_with_its_line(
    tmp_path: Path, text: str, says: str
) -> None:
    _write(tmp_path / "in/a.png", 9)
    _write(tmp_path / "x.png", 9)
    (tmp_path / "in/t.csv").write_text(text)
    with pytest.raises(InputError) as raised:
        read_data(tmp_path / "in/t.csv")
    assert says in str(raised.value)


def test_tables_and_folders_name_the_same_files(world: Path) -> None:
    rows = read_data(world)
    table = world / "t.jsonl"
    lines = [
        {
            "file": str(r.path.relative_to(world)),
            "label": "fake" if r.fake else "real",
            "source": r.cluster,
        }
        for r in rows
    ]
    table.write_text("\n".join(json.dumps(line) for line in lines))
    assert read_data(table) == rows
    assert read_data(table, column="file") == rows
    table.write_text(table.read_text().replace('"label"', "label", 1))
    with pytest.raises(InputError, match=r"t\.jsonl:1: "):
        read_data(table)
    with pytest.raises(InputError, match="neither a folder"):
        read_data(world / "t.txt")
    (world / "real/loose.png").write_bytes(b"")
    with pytest.raises(InputError, match="lies in no folder of its source"):
        read_data(world)
    with pytest.raises(InputError, match="has no folder real/"):
        read_data(world / "real")


def test_the_shared_table_is_read(shared: Path) -> None:
    rows = read_data(shared / "data/detect/images/manifest.csv", column="matched")
    assert len(rows) == 524
    assert sum(row.fake for row in rows) == 284
    with pytest.raises(InputError, match="several columns of paths, native, matched"):
        read_data(shared / "data/detect/images/manifest.csv")
