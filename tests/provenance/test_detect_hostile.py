"""Files that lie, break, or change while they are looked at: what is not known is never good news."""

import json
import math
import os
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assaymark.provenance import detect as module
from assaymark.provenance.detect import Settings, detect
from assaymark.provenance.detect_check import check_detection
from assaymark.provenance.detectors import DETECTORS, Detector
from assaymark.provenance.evidence import Evidence, Family, Medium, Says
from assaymark.provenance.footage import Footage, Track
from assaymark.provenance.fuse import Verdict
from assaymark.provenance.material import Material, read_picture
from assaymark.provenance.published_calibration import read_calibrated
from assaymark.provenance.published_detectors import _evidence
from assaymark.provenance.sound import read_sound
from assaymark.provenance.speech import _not_all
from assaymark.provenance.statements import Collector, guarded, within
from assaymark.provenance.statements_picture import read_jpeg
from assaymark.provenance.video_frames import fused
from assaymark.reports.errors import InputError


class Folder:
    """Keeps in memory what a run would keep on disk."""

    def __init__(self) -> None:
        self.content: dict[int, bytes] = {}

    def load(self, number: int) -> bytes | None:
        return self.content.get(number)

    def save(self, number: int, content: bytes) -> None:
        self.content[number] = content


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def looking(monkeypatch: pytest.MonkeyPatch, does: object, **details: object) -> None:
    """One detector, which does something to the file and then finds nothing."""

    class Planted(Detector):
        def look(self, material: Material) -> Sequence[Evidence]:
            if callable(does):
                does(material.path)
            return (
                Evidence(detector="planted", family=self.family, says=Says.NOTHING,
                         summary="looked", llr=-1.0, details=details),
            )  # fmt: skip

    row = Planted(name="planted", family=Family.LEARNED, media=tuple(Medium), place="", about="it")
    monkeypatch.setattr(module, "DETECTORS", {"planted": row})
    monkeypatch.setitem(DETECTORS, "planted", row)


@pytest.mark.parametrize("does", [lambda path: path.write_bytes(b"other"), Path.unlink])
def test_a_file_that_changes_while_it_is_looked_at(
    photo: Path, monkeypatch: pytest.MonkeyPatch, does: object
) -> None:
    looking(monkeypatch, does)
    found = detect(photo)
    assert found.verdict is Verdict.CANNOT_TELL
    assert found.probability is None
    assert "changed while" in found.problem


def test_what_is_kept_is_of_these_bytes(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Size and time can be set back; a verdict on other bytes must not be taken up."""
    looking(monkeypatch, None)
    keep = Folder()
    check_detection("d", (photo.name,), Settings(), folder=photo.parent, keep=keep)
    before, content = photo.stat(), photo.read_bytes()
    photo.write_bytes(content[:-20] + bytes(20))
    os.utime(photo, ns=(before.st_atime_ns, before.st_mtime_ns))
    looked: list[Path] = []
    looking(monkeypatch, looked.append)
    check_detection("d", (photo.name,), Settings(), folder=photo.parent, keep=keep)
    assert looked


def test_a_link_to_itself_is_an_error_of_its_own(
    photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking(monkeypatch, None)
    (photo.parent / "loop.png").symlink_to("loop.png")
    found = check_detection("d", ("*.png",), Settings(), folder=photo.parent, keep=Folder())
    assert any("loop.png" in (finding.error or "") for finding in found.findings)


def test_what_was_left_out_of_sound_stands_in_the_result(
    photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking(monkeypatch, None, notes=["only the first 600 s were looked at"])
    assert "planted: only the first 600 s were looked at" in detect(photo).notes


def test_a_credential_found_in_a_store_is_no_mark_in_the_file(
    photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Evidence(
        detector="binding", family=Family.CREDENTIAL, says=Says.GENERATED, summary="found again"
    )
    looking(monkeypatch, None)
    monkeypatch.setattr(module, "_pieces", lambda detector, material: (found,))
    assert detect(photo).generated_unmarked
    own = replace(found, detector="credential")
    monkeypatch.setattr(module, "_pieces", lambda detector, material: (own,))
    assert not detect(photo).generated_unmarked


def test_a_picture_that_cannot_be_decoded_is_tried_once(photo: Path) -> None:
    photo.write_bytes(photo.read_bytes()[:200])
    material = Material(path=photo, kind=None, medium=Medium.IMAGE)
    with pytest.raises(InputError):
        _ = material.picture
    photo.unlink()
    with pytest.raises(InputError, match="no picture"):
        _ = material.picture


def riff(bits: int, samples: bytes) -> bytes:
    head = struct.pack("<HHIIHH", 1, 1, 16000, 16000 * bits // 8, bits // 8, bits)
    body = b"WAVEfmt " + struct.pack("<I", 16) + head + b"data"
    body += struct.pack("<I", len(samples)) + samples
    return b"RIFF" + struct.pack("<I", len(body)) + body


def test_sound_without_a_decoder_is_told(tmp_path: Path) -> None:
    pytest.importorskip("av")
    path = tmp_path / "bits.wav"
    path.write_bytes(riff(0, bytes(4000)))
    with pytest.raises(InputError, match=r"bits\.wav"):
        read_sound(path)


CALIBRATION = {
    "detector": "published:npr",
    "calibration": {"curve": {"kind": "platt", "parameters": [1.0, 0.0]}, "lowest": -2, "highest": 2},
    "point": {
        "threshold": 0.5, "false_positive_rate": 0.05, "false_positive_rate_high": 0.1,
        "true_positive_rate": 0.3, "true_positive_rate_low": 0.2, "reals": 100, "fakes": 100,
        "sources": 10, "generators": 8, "measured_on": "planted",
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("reals", "1e999"),
        ("reals", "true"),
        ("reals", "-1"),
        ("threshold", "NaN"),
        ("threshold", "1" + 400 * "0"),
        ("threshold", '"0.5"'),
        ("false_positive_rate", "2"),
        ("point", "[]"),
    ],
)
def test_a_calibration_of_wrong_numbers_is_refused(tmp_path: Path, place: str, text: str) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(CALIBRATION))
    assert read_calibrated(path, "published:npr").llr(9.0) == 2.0
    whole = json.loads(path.read_text())
    (whole if place == "point" else whole["point"])[place] = "HERE"
    path.write_text(json.dumps(whole).replace('"HERE"', text))
    with pytest.raises(InputError, match="no calibration of a detector"):
        read_calibrated(path, "published:npr")


def test_a_score_that_is_no_number_says_nothing() -> None:
    for score in (math.nan, math.inf):
        assert _evidence("npr", score, None, (), 0.0).says is Says.ABSTAINS


def test_transparency_and_16_bits_tile_by_tile(tmp_path: Path) -> None:
    """Against the definitions: over white, c' = a c + (1 - a) 255; the upper byte of 16 bits."""
    rng = np.random.default_rng(1)
    rgba = rng.integers(0, 256, (1030, 1041, 4), dtype=np.uint8)
    Image.fromarray(rgba).save(tmp_path / "alpha.png", compress_level=0)
    found = read_picture(tmp_path / "alpha.png").pixels.astype(float)
    alpha = rgba[:, :, 3:] / 255
    assert np.abs(found - (alpha * rgba[:, :, :3] + (1 - alpha) * 255)).max() <= 1
    deep = rng.integers(0, 65536, (1030, 70), dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    grey = read_picture(tmp_path / "deep.png").pixels[:, :, 0].astype(float)
    assert np.abs(grey - deep / 257).max() <= 1


def test_fill_bytes_of_a_jpeg_are_passed_over_one_by_one(tmp_path: Path) -> None:
    """65,536 of them, before as many bytes to read each time, cost 20 s."""
    asked: list[int] = []

    def at(offset: int, size: int) -> bytes:
        asked.append(size)
        return (b"\xff\xd8" + 5000 * b"\xff")[offset : offset + size].ljust(size, b"\xff")

    guarded(read_jpeg, at, 8_000_000, Collector(), "the file")
    assert sum(asked) < 300_000_000


def test_pieces_of_extended_xmp_are_held_up_to_a_limit() -> None:
    name = b"http://ns.adobe.com/xmp/extension/\0"
    piece = name + b"A" * 32 + (4 << 20).to_bytes(4) + bytes(4) + 65_000 * b"x"
    segment = b"\xff\xe1" + (len(piece) + 2).to_bytes(2) + piece
    many = b"\xff\xd8" + 700 * segment + b"\xff\xd9"
    out = Collector()
    guarded(read_jpeg, within(many), len(many), out, "the file")
    assert any("more text than is read" in trouble for trouble in out.troubles)


def footage(streams: int) -> Footage:
    track = Track(
        times=np.arange(8.0), kinds="I" * 8, coded=np.zeros(8, np.int64),
        small=np.zeros((8, 8, 8), np.uint8), noise=np.zeros(8), blocks=np.zeros(8), change=np.zeros(8),
    )  # fmt: skip
    return Footage(
        frames=(), times=tuple(range(8)), shots=((0, 7),), size=(8, 8), rate=1.0, seconds=8.0,
        codec="x", pixel_format="rgb24", turn=0, watched=7.0, track=track, streams=streams,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("streams", "generated", "says"),
    [
        (1, 0, Says.NOTHING),
        (1, 1, Says.NOTHING),
        (1, 2, Says.ABSTAINS),  # a quarter: a shot of another making
        (1, 5, Says.GENERATED),
        (2, 0, Says.ABSTAINS),  # the one that nobody watched may be the one that is played
        (2, 5, Says.GENERATED),
    ],
)
def test_frames_speak_for_a_video_only_where_they_agree(
    streams: int, generated: int, says: Says
) -> None:
    frame = Evidence(
        detector="learned", family=Family.LEARNED, says=Says.NOTHING, summary="-", llr=-1.0
    )
    high = replace(frame, says=Says.GENERATED, llr=2.0)
    said = [high] * generated + [frame] * (8 - generated)
    assert fused(footage(streams), said, 0.0).says is says


def test_what_nobody_listened_to_is_not_found_good(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as container:
        tracks = [container.add_stream("pcm_s16le", rate=16000, layout="mono") for _ in range(2)]
        for track in tracks:
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.int16), "s16", "mono")
            frame.sample_rate, frame.pts = 16000, 0
            container.mux(track.encode(frame))
    sound = read_sound(path)
    assert "first of 2" in sound.unheard[0]
    material = Material(path=path, kind=None, medium=Medium.AUDIO)
    assert _not_all(material, sound, [-2.0], 1.0) == sound.unheard[0]
    whole = replace(sound, unheard=(), films=1)
    assert "moving picture" in (_not_all(material, whole, [-2.0], 1.0) or "")
    assert _not_all(replace(material, medium=Medium.VIDEO), whole, [-2.0] * 3, 1.0) is None
    spliced = _not_all(material, replace(whole, films=0), [-2.0] * 6 + [2.0] * 2, 1.0)
    assert "2 of 8 windows" in (spliced or "")


@pytest.mark.parametrize("lacking", ["weights", "calibration"])
def test_a_detector_that_was_asked_for_and_cannot_work_ends_the_run(
    photo: Path, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    """Else every file would be judged by the other detectors, and pass."""
    looking(monkeypatch, None)
    weights, calibration = photo.parent / "npr.pth", photo.parent / "calibration.json"
    if lacking != "weights":
        weights.write_bytes(b"x")
    options: dict[str, object] = {"checkpoints": {"npr": weights}}
    if lacking == "calibration":
        calibration.write_text("{}")
        options["calibrations"] = {"npr": calibration}
    with pytest.raises(InputError, match=f"no {lacking}"):
        check_detection("d", (photo.name,), Settings(options=options), folder=photo.parent)
