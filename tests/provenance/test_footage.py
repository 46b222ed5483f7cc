"""Frames by shot, and the hostile files that must end in one sentence."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy
import pytest
from PIL import Image
from video_clips import Frames, decode, encode, pan, texture, write

from assaymark.provenance import footage
from assaymark.provenance.footage import read_footage
from assaymark.reports.errors import InputError


@pytest.fixture(scope="module")
def three_shots() -> Frames:
    """20, 12 and 28 frames of three scenes."""
    return [
        frame
        for seed, count in ((0, 20), (1, 12), (2, 28))
        for frame in pan(texture(seed), count, seed, size=(128, 96))
    ]


@pytest.mark.parametrize(
    ("codec", "container"), [("libx264", "mp4"), ("mpeg4", "avi"), ("libvpx-vp9", "webm")]
)
def test_shots_are_those_that_were_cut_together(
    tmp_path: Path, three_shots: Frames, codec: str, container: str
) -> None:
    fast: dict[str, Any] = (
        {"deadline": "realtime", "cpu-used": "8"} if codec == "libvpx-vp9" else {}
    )
    data = encode(three_shots, codec=codec, container=container, **fast)
    seen = read_footage(write(tmp_path, data), frames=6)
    assert numpy.allclose(
        seen.shots, [(0, 19 / 25), (20 / 25, 31 / 25), (32 / 25, 59 / 25)], atol=0.01
    )
    inside = [sum(a <= at <= b for at in seen.times) for a, b in seen.shots]
    assert len(seen.frames) == 6
    assert inside == [2, 1, 3]
    assert (seen.size, round(seen.rate or 0), round(seen.seconds or 0, 2)) == ((128, 96), 25, 2.4)
    assert not seen.notes


def test_the_frames_are_those_of_their_times(tmp_path: Path, three_shots: Frames) -> None:
    data = encode(three_shots)
    seen = read_footage(write(tmp_path, data), frames=5)
    every = decode(data)
    for pixels, at in zip(seen.frames, seen.times, strict=True):
        assert numpy.array_equal(pixels, every[round(at * 25)])


def test_the_track_counts_packets_and_kinds(tmp_path: Path, three_shots: Frames) -> None:
    path = write(tmp_path, encode(three_shots, bf="2"))
    track = read_footage(path).track
    with av.open(str(path)) as container:
        sizes = sorted(packet.size for packet in container.demux(video=0) if packet.size)
    assert sorted(track.coded) == sizes
    assert track.kinds[0] == "I"
    assert {"P", "B"} <= set(track.kinds)


def test_noise_is_told_apart_from_detail(tmp_path: Path) -> None:
    """Noise of sigma s has a diagonal second difference of sigma 2 s, whose mean size is 2 s sqrt(2/pi)."""
    flat = Image.new("RGB", (128, 96), (120, 120, 120))
    frames = pan(flat, 3, speed=0, shake=0, noise=0, drift=0, size=(128, 96))
    random = numpy.random.default_rng(0)
    noisy = [
        numpy.repeat(
            numpy.clip(frame[:, :, :1] + random.normal(0, 3, (96, 128, 1)), 0, 255).astype(
                numpy.uint8
            ),
            3,
            axis=2,
        )
        for frame in frames
    ]
    data = encode(noisy, codec="ffv1", container="matroska", pixel_format="gray")
    seen = read_footage(write(tmp_path, data)).track
    expected = 2 * 3 * numpy.sqrt(2 / numpy.pi) / 2
    assert seen.noise == pytest.approx(numpy.full(3, expected), rel=0.06)


def test_a_long_video_is_watched_at_its_beginning_and_sought_after_it(
    tmp_path: Path, three_shots: Frames
) -> None:
    path = write(tmp_path, encode(three_shots, g="10"))
    seen = read_footage(path, frames=6, watched=20)
    assert len(seen.track) == 20
    assert any(at > 1.5 for at in seen.times)
    assert sorted(seen.times) == list(seen.times)
    assert any("only the first" in note for note in seen.notes)


def _turned(frames: Frames) -> bytes:
    """The matrix of the track header (ISO/IEC 14496-12, section 8.3.2) turned by 90 degrees."""
    data = encode(frames[:5])
    header = data.index(b"tkhd") + 4
    matrix = header + 40
    turned = (0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    packed = b"".join(value.to_bytes(4, "big", signed=True) for value in turned)
    return data[:matrix] + packed + data[matrix + 36 :]


ODD: dict[str, tuple[Callable[[Frames], bytes], str]] = {
    "times that vary": (
        lambda f: encode(f[:8], times=[0, 1, 2, 7, 8, 9, 15, 16]),
        "the time between frames varies",
    ),
    "10 bits": (
        lambda f: encode(f[:5], codec="ffv1", container="matroska", pixel_format="yuv420p10le"),
        "reduced to 8 bits",
    ),
    "transparency": (
        lambda f: encode(f[:5], codec="ffv1", container="matroska", pixel_format="yuva420p"),
        "transparency was dropped",
    ),
    "turned": (_turned, "a player turns it by 90 degrees"),
    "packets broken": (
        lambda f: _scribbled(encode(f, container="avi", codec="mpeg4")),
        "could not be decoded",
    ),
}


def _scribbled(data: bytes) -> bytes:
    """Every third packet of the film begins with rubbish."""
    whole = bytearray(data)
    at, count = 0, 0
    while (at := whole.find(b"00dc", at + 4)) > 0:
        count += 1
        if count % 3 == 0:
            whole[at + 8 : at + 40] = b"\xff" * 32
    return bytes(whole)


@pytest.mark.parametrize("case", ODD)
def test_odd_videos_are_watched_and_it_is_said(
    tmp_path: Path, three_shots: Frames, case: str
) -> None:
    make, said = ODD[case]
    seen = read_footage(write(tmp_path, make(three_shots)))
    assert any(said in note for note in seen.notes), seen.notes
    assert len(seen.frames) >= 4
    assert seen.frames[0].shape == (96, 128, 3)


def _with_cover(frames: Frames) -> bytes:
    import io

    stream = io.BytesIO()
    with av.open(stream, "w", format="mp4") as output:
        sound = output.add_stream("aac", rate=16000, layout="mono")
        cover = output.add_stream("mjpeg", rate=1)
        assert isinstance(cover, av.VideoStream)
        assert isinstance(sound, av.AudioStream)
        cover.width, cover.height, cover.pix_fmt = 128, 96, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        silence = av.AudioFrame.from_ndarray(numpy.zeros((1, 1024), "int16"), "s16", "mono")
        silence.sample_rate = 16000
        output.mux(sound.encode(silence))
        output.mux(cover.encode(av.VideoFrame.from_ndarray(frames[0], format="rgb24")))
        output.mux(cover.encode())
        output.mux(sound.encode())
    return stream.getvalue()


BAD: dict[str, tuple[Callable[[Frames], bytes], str]] = {
    "empty": (lambda f: b"", "is no video or sound"),
    "no video": (lambda f: b"\x00" * 5000, "is no video or sound"),
    "a playlist": (
        lambda f: b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nother.mp4\n#EXT-X-ENDLIST\n",
        "is no video or sound",
    ),
    "a list to join": (lambda f: b"ffconcat version 1.0\nfile other.mp4\n", "is no video or sound"),
    "cut off": (lambda f: encode(f)[:3000], "is no video or sound"),
    "only a cover": (_with_cover, "only a cover picture"),
    "tiny": (
        lambda f: encode([frame[:8, :8] for frame in f[:3]], codec="ffv1", container="matroska"),
        "8 x 8 pixels",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_video_ends_in_one_sentence(
    tmp_path: Path, three_shots: Frames, case: str
) -> None:
    make, said = BAD[case]
    write(tmp_path, encode(three_shots[:3]), "other.mp4")  # what the lists would open
    with pytest.raises(InputError, match=said):
        read_footage(write(tmp_path, make(three_shots)))


def test_a_size_is_refused_before_a_frame_is_decoded(
    tmp_path: Path, three_shots: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, encode(three_shots[:3]))
    monkeypatch.setattr(footage, "MAX_PIXELS", 128 * 96 - 1)
    with pytest.raises(InputError, match="128 x 96"):
        read_footage(path)


def test_without_pyav_the_extra_is_named(
    tmp_path: Path, three_shots: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, encode(three_shots[:3]), "unread.mp4")
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(InputError, match=r"pip install assaymark\[media\]"):
        read_footage(path)


def test_a_flash_is_no_cut() -> None:
    frames = numpy.stack([numpy.full((48, 64), 90, numpy.uint8)] * 30)
    frames[12] = 250
    assert footage.cuts(frames) == ()
    frames[22:] = 30
    assert footage.cuts(frames) == (22,)
