"""Repeats, holds, jumps and flicker, planted where their places are known."""

from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
from numpy.typing import NDArray
from PIL import ImageFilter
from video_clips import (
    Frames,
    dropped,
    encode,
    flickering,
    frozen,
    pan,
    repeated,
    texture,
    write,
)

from assaymark.provenance import video_measures as measures
from assaymark.provenance.evidence import Curve, Evidence, Says
from assaymark.provenance.footage import Track, read_footage
from assaymark.provenance.material import Material
from assaymark.provenance.video_points import llr, points
from assaymark.provenance.video_temporal import look_temporal


def material(path: Path) -> Material:
    return Material(path=path, kind=None, medium=None)


@pytest.fixture(scope="module")
def panned() -> Frames:
    smooth = texture(5).filter(ImageFilter.GaussianBlur(2.5))
    return pan(smooth, 64, 5, size=(128, 96), speed=1.0, shake=0.1, noise=1.0)


CASES: dict[str, tuple[Callable[[Frames], Frames], str | None]] = {
    "as it is": (lambda f: f, None),
    "shown again": (lambda f: repeated(f, 5, 16, 40), "video-repeat"),
    "shown backwards": (lambda f: [*f[:40], *f[20:40][::-1]], "video-repeat"),
    "cut out": (lambda f: dropped(f, 30, 20), "video-jump"),
    "flickering": (lambda f: flickering(f, 3, 8.0), "video-flicker"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_was_planted_is_found_and_nothing_else(
    tmp_path: Path, panned: Frames, case: str
) -> None:
    edit, expected = CASES[case]
    found = look_temporal(material(write(tmp_path, encode(edit(panned), crf="20"))))
    told = {evidence.details["test"] for evidence in found if evidence.says is Says.MANIPULATED}
    if expected is None:
        assert [evidence.says for evidence in found] == [Says.NOTHING]
        assert found[0].llr is None
    else:
        assert expected in told
        assert told <= {expected, "video-jump"}  # where a passage was put in, the picture jumps too


def one(found: list[Evidence], test: str) -> Evidence:
    return next(evidence for evidence in found if evidence.details["test"] == test)


def test_the_places_are_those_of_the_edit(tmp_path: Path, panned: Frames) -> None:
    path = write(tmp_path, encode(repeated(panned, 5, 16, 40), crf="20"))
    evidence = one(list(look_temporal(material(path))), "video-repeat")
    curve = evidence.drawings[0]
    assert isinstance(curve, Curve)
    start, end = curve.marked[0]
    assert (start, end) == pytest.approx((40 / 25, 55 / 25), abs=0.05)
    assert "16 frames from 0.20 s are shown again from 1.60 s" in evidence.summary
    assert evidence.llr == pytest.approx(llr(points()["video-repeat"]))

    path = write(tmp_path, encode(dropped(panned, 30, 20), crf="20"), "cut.mp4")
    evidence = one(list(look_temporal(material(path))), "video-jump")
    assert evidence.drawings[0].marked[0] == pytest.approx((29 / 25, 31 / 25), abs=0.01)  # type: ignore[union-attr]


def test_a_camera_that_stalls_is_told_and_counts_for_nothing(
    tmp_path: Path, panned: Frames
) -> None:
    path = write(tmp_path, encode(frozen(panned, 30, 7), crf="20"))
    found = look_temporal(material(path))
    assert [evidence.says for evidence in found] == [Says.NOTHING]
    assert found[0].details["longest_held"] == [1.24, 7]
    assert "stands still for 7 frames from 1.24 s" in found[0].summary


def test_a_raised_frame_rate_is_told(tmp_path: Path, panned: Frames) -> None:
    raised = [
        frame for i, frame in enumerate(panned[:44]) for frame in [frame] * (1 + (i % 4 == 3))
    ]
    found = look_temporal(material(write(tmp_path, encode(raised, crf="16", bf="0"))))
    assert [evidence.says for evidence in found] == [Says.NOTHING]
    assert found[0].details["frame_rate_was_raised"] is True


def test_a_pause_between_frames_is_no_jump(tmp_path: Path, panned: Frames) -> None:
    """Frames that are missing where the clock waited for them are a slow camera, not an edit."""
    left = dropped(panned, 30, 6)
    times = [i if i < 30 else i + 6 for i in range(len(left))]
    waited = read_footage(write(tmp_path, encode(left, times=times, crf="20"), "waited.mp4")).track
    hidden = read_footage(write(tmp_path, encode(left, crf="20"), "hidden.mp4")).track
    assert measures.jumps(hidden).max() > 1.5 * measures.jumps(waited).max()


@pytest.mark.parametrize(
    ("frames", "why"),
    [
        (lambda: pan(texture(5), 10, size=(128, 96)), "only 10 frames"),
        (lambda: pan(texture(5), 30, size=(64, 48)), "64 x 48 pixels"),
        (lambda: [pan(texture(5), 1, size=(128, 96))[0]] * 30, "almost nothing moves"),
    ],
    ids=["short", "tiny", "still"],
)
def test_what_was_not_measured_is_not_judged(
    tmp_path: Path, frames: Callable[[], Frames], why: str
) -> None:
    found = look_temporal(material(write(tmp_path, encode(frames()))))
    assert [evidence.says for evidence in found] == [Says.ABSTAINS]
    assert why in found[0].summary


def _track(small: NDArray[numpy.uint8]) -> Track:
    count = len(small)
    change = numpy.abs(numpy.diff(small[:, ::4, ::4].astype(float), axis=0)).mean(axis=(1, 2))
    return Track(
        times=numpy.arange(count) / 25,
        kinds="P" * count,
        coded=numpy.zeros(count, dtype=numpy.int64),
        small=small,
        noise=numpy.ones(count),
        blocks=numpy.ones(count),
        change=numpy.concatenate([[0.0], change]),
    )


def test_mains_light_and_exposure_are_no_flicker() -> None:
    """Bands of a rolling shutter change whole rows, exposure the whole frame; a decoder changes patches."""
    base = numpy.full((30, 96, 128), 120.0)
    rows = 8 * numpy.sin(numpy.arange(96) / 7)[None, :, None]
    phase = numpy.arange(30)[:, None, None]
    mains = base + rows * numpy.cos(2.1 * phase) + 5 * numpy.sin(1.7 * phase)
    columns = numpy.sin(numpy.arange(128) / 7)[None, None, :]
    patches = base + rows * columns * numpy.cos(2.1 * phase)
    calm, restless = (
        numpy.median(measures.flicker(_track(numpy.rint(clip).astype(numpy.uint8)))[1:-1])
        for clip in (mains, patches)
    )
    assert calm < 0.2
    assert restless > points()["video-flicker"].threshold


@pytest.mark.parametrize("way", [(0.0, 0.0), (1.5, -2.25), (-3.0, 4.75)])
def test_motion_is_measured_to_a_fraction_of_a_pixel(way: tuple[float, float]) -> None:
    """A picture shifted in its Fourier transform is shifted exactly."""
    picture = numpy.asarray(texture(3).convert("L").crop((0, 0, 160, 120)), dtype=float)
    rows, columns = numpy.fft.fftfreq(120)[:, None], numpy.fft.fftfreq(160)[None, :]
    turn = numpy.exp(-2j * numpy.pi * (rows * way[0] + columns * way[1]))
    moved = numpy.fft.ifft2(numpy.fft.fft2(picture) * turn).real
    found = measures._shift(picture.astype(numpy.float32), moved.astype(numpy.float32))
    assert found == pytest.approx(way, abs=0.2)
