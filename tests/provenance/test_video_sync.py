"""Sound against picture: a mouth drawn to move with the voice, gaps and hum with known places."""

from pathlib import Path

import numpy
import pytest
from numpy.typing import NDArray
from video_clips import encode, pan, texture, write

from assaymark.provenance import video_sound, video_sync
from assaymark.provenance.evidence import Evidence, Family, Says
from assaymark.provenance.footage import read_footage
from assaymark.provenance.material import Material, Picture
from assaymark.provenance.video_frames import look_video_frames
from assaymark.provenance.video_sound import RATE, gap, hum, read_track

SECONDS = 5


def voice(seed: int = 0, seconds: int = SECONDS) -> NDArray[numpy.float32]:
    """Syllables of noise, about four a second, over a room tone."""
    random = numpy.random.default_rng(seed)
    count = seconds * RATE
    at = numpy.cumsum(random.uniform(0.12, 0.4, 4 * seconds))
    time = numpy.arange(count) / RATE
    open_ = sum(numpy.exp(-(((time - t) / 0.06) ** 2)) for t in at)
    heard = open_ * random.normal(0, 0.1, count) + random.normal(0, 0.001, count)
    samples: NDArray[numpy.float32] = heard.astype(numpy.float32)
    return samples


def material(path: Path, **options: object) -> Material:
    return Material(path=path, kind=None, medium=None, options=options)


def talking(shift: float) -> bytes:
    """A dark mouth in a grey face, as open as the voice is loud `shift` seconds later."""
    samples = voice()
    loud = video_sound.levels(samples)
    wide = numpy.clip((loud - loud.max() + 35) / 35, 0, 1)
    row, column = numpy.ogrid[:120, :160]
    frames = []
    for i in range(SECONDS * 25):
        at = int(numpy.clip((i / 25 + shift) * 100, 0, len(wide) - 1))
        mouth = ((column - 80) / 12) ** 2 + ((row - 84) / (1 + 8 * wide[at])) ** 2 < 1
        grey = numpy.where(mouth, 40, 150).astype(numpy.uint8)
        frames.append(numpy.repeat(grey[:, :, None], 3, axis=2))
    return encode(frames, sound=(samples * 32767).astype(numpy.int16))


@pytest.mark.parametrize("shift", [0.0, 0.4, -0.6])
def test_the_lag_is_the_one_that_was_planted(tmp_path: Path, shift: float) -> None:
    path = write(tmp_path, talking(shift))
    track, sound = read_footage(path).track, read_track(path)
    assert sound is not None
    boxes = numpy.tile([40.0, 20.0, 80.0, 80.0], (len(track), 1))
    sync = video_sync.synchrony(track, boxes, sound)
    assert sync is not None
    assert sync.peak > 0.6
    assert sync.lag == pytest.approx(shift, abs=0.1)
    assert (sync.peak - sync.together > 0.05) == (shift != 0)


def test_a_still_mouth_says_nothing(tmp_path: Path) -> None:
    still = [numpy.full((120, 160, 3), 120, numpy.uint8)] * 100
    path = write(tmp_path, encode(still, sound=(voice() * 32767).astype(numpy.int16)))
    track, sound = read_footage(path).track, read_track(path)
    assert sound is not None
    boxes = numpy.tile([40.0, 20.0, 80.0, 80.0], (len(track), 1))
    assert video_sync.synchrony(track, boxes, sound) is None


def test_a_face_is_followed_where_it_is_found_often_enough(tmp_path: Path) -> None:
    track = read_footage(write(tmp_path, encode(pan(texture(1), 40)))).track
    found = iter([((10 + i, 20, 40, 40),) for i in range(8)])
    boxes = video_sync.follow(track, boxes=lambda pixels: next(found))
    assert boxes is not None
    assert boxes.shape == (40, 4)
    assert boxes[17] == pytest.approx([13.4, 20, 40, 40], abs=0.3)
    assert video_sync.follow(track, boxes=lambda pixels: ()) is None


def test_a_muted_moment_is_found() -> None:
    whole = voice()
    muted = whole.copy()
    muted[40000:40800] = 0
    clean, cut = gap(whole), gap(muted)
    assert clean is not None
    assert cut is not None
    assert clean.score < 6 < 30 < cut.score
    assert cut.at == pytest.approx(40400 / RATE, abs=0.04)
    gated = numpy.where(numpy.abs(whole) > 0.004, whole, 0).astype(numpy.float32)
    gated[: len(gated) // 4] = 0
    assert gap(gated) is None
    assert gap(whole[:8000]) is None


@pytest.mark.parametrize("mains", [50, 60])
@pytest.mark.parametrize("cycles", [0.0, 0.25, 0.5])
def test_the_phase_jumps_by_what_was_taken_out(mains: int, cycles: float) -> None:
    """Taking out a time of n + c cycles turns the phase by c of a cycle (closed form)."""
    time = numpy.arange(4 * RATE) / RATE
    tone = 0.02 * numpy.sin(2 * numpy.pi * (mains + 0.01) * time) + voice(1, 4)
    out = round((10 + cycles) / mains * RATE)
    found = hum(numpy.concatenate([tone[:30000], tone[30000 + out :]]).astype(numpy.float32))
    assert found is not None
    place, frequency = found
    assert frequency == mains
    assert place.score == pytest.approx(cycles, abs=0.06)
    if cycles:
        assert place.at == pytest.approx(30000 / RATE, abs=0.1)


def test_without_hum_nothing_is_said() -> None:
    assert hum(voice()) is None


def test_a_muted_video_is_told_and_the_lengths_are_compared(tmp_path: Path) -> None:
    samples = (voice() * 32767).astype(numpy.int16)
    film = pan(texture(2), 50, size=(96, 96))
    whole = video_sync.look_sync(material(write(tmp_path, encode(film, sound=samples))))
    assert [evidence.says for evidence in whole] == [Says.NOTHING]
    assert whole[0].details["sound_minus_picture_seconds"] == pytest.approx(SECONDS - 2, abs=0.2)
    assert "mouth" in whole[0].details["not_looked_at"]
    samples[40000:42000] = 0
    cut = video_sync.look_sync(material(write(tmp_path, encode(film, sound=samples), "cut.mp4")))
    assert [evidence.details["test"] for evidence in cut] == ["sound-gap"]
    assert cut[0].details["at"] == pytest.approx(41000 / RATE, abs=0.1)


def test_a_video_without_sound_is_not_judged(tmp_path: Path) -> None:
    silent = write(tmp_path, encode(pan(texture(2), 10)))
    (found,) = video_sync.look_sync(material(silent))
    assert found.says is Says.ABSTAINS


def _look(picture: Picture) -> Evidence | None:
    bright = float(picture.pixels.mean())
    says = Says.GENERATED if bright > 128 else Says.NOTHING
    return Evidence(
        detector="brightness",
        family=Family.LEARNED,
        says=says,
        summary="",
        score=bright,
        llr=bright / 100,
    )


@pytest.mark.parametrize(
    ("bright", "says"), [(9, Says.GENERATED), (1, Says.NOTHING), (6, Says.ABSTAINS)]
)
def test_a_video_says_what_most_of_its_frames_say(tmp_path: Path, bright: int, says: Says) -> None:
    frames = [numpy.full((32, 32, 3), 200 if i < bright else 40, numpy.uint8) for i in range(12)]
    path = write(tmp_path, encode(frames))
    (found,) = look_video_frames(material(path, frame_look=_look, frames=12))
    assert found.says is says
    if says is Says.ABSTAINS:
        assert "as where shots were mixed" in found.summary
    else:
        assert found.score == pytest.approx(200 if bright > 6 else 40, abs=3)
        assert found.llr == pytest.approx((found.score or 0) / 100)


def test_frames_that_nothing_looked_at_are_no_pass(tmp_path: Path) -> None:
    path = write(tmp_path, encode(pan(texture(1), 5)))
    (found,) = look_video_frames(material(path, frame_look=lambda picture: None))
    assert found.says is Says.ABSTAINS
    (found,) = look_video_frames(material(path))
    assert found.says is Says.ABSTAINS
