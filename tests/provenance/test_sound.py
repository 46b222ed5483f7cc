"""Sound is decoded without seams, within limits, and says what was stored."""

import io
import struct
import wave
from pathlib import Path

import av
import numpy
import pytest
from media import write
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt

from assaymark.provenance.sound import (
    bandwidth_of,
    level_of,
    read_sound,
    sound_blocks,
    sound_track,
)
from assaymark.reports.errors import InputError

Array = NDArray[numpy.float64]


def tone(hertz: float, seconds: float, rate: int) -> Array:
    return 0.5 * numpy.sin(2 * numpy.pi * hertz * numpy.arange(round(seconds * rate)) / rate)


def save_wav(path: Path, samples: Array, rate: int, width: int = 2) -> Path:
    """samples: (samples,) or (samples, channels); 8 bits have no sign."""
    whole = numpy.round(samples * (2 ** (8 * width - 1) - 1)).astype("<i8")
    if width == 1:
        whole += 128
    raw = numpy.ascontiguousarray(whole[..., None].view(numpy.uint8)[..., :width])
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        sound.setsampwidth(width)
        sound.setframerate(rate)
        sound.writeframes(raw.tobytes())
    return path


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 44099, 96000])
def test_a_tone_stays_the_same_tone_at_any_rate_and_has_no_seams(tmp_path: Path, rate: int) -> None:
    path = save_wav(tmp_path / "a.wav", tone(1000, 20, rate), rate)
    sound = read_sound(path)
    wanted = tone(1000, 20, 16000)
    assert abs(len(sound.samples) - len(wanted)) <= 2
    inner = slice(1000, 300_000)
    # 44,099 / 16,000 is approximated by smaller numbers: a phase error that grows with time
    assert numpy.abs(sound.samples[inner] - wanted[inner]).max() < (2e-2 if rate == 44099 else 2e-3)
    assert (sound.stored_rate, sound.bits) == (rate, 16)
    assert sound.seconds == pytest.approx(20, abs=1e-3)
    blocks = list(sound_blocks(path))
    assert numpy.array_equal(numpy.concatenate(blocks), sound.samples)
    assert max(map(len, blocks)) < 70_000 * max(1.0, 16000 / rate)


@pytest.mark.parametrize(("width", "within"), [(1, 0.01), (2, 1e-4), (3, 1e-6), (4, 1e-6)])
def test_every_width_of_whole_numbers(tmp_path: Path, width: int, within: float) -> None:
    sound = read_sound(save_wav(tmp_path / "a.wav", tone(440, 1, 16000), 16000, width))
    assert numpy.abs(sound.samples - tone(440, 1, 16000)).max() < within
    assert sound.bits == 8 * width


@pytest.mark.parametrize("name", ["MP3", "FLAC", "M4A", "Ogg", "MP4", "MOV", "AVI", "WAV"])
def test_every_container_of_the_table(tmp_path: Path, name: str) -> None:
    sound = read_sound(write(tmp_path, name))
    assert 0.1 < sound.read_seconds < 0.4  # 8,000 samples at 48 kHz, and what a codec adds
    assert sound.stored_rate == 48000
    assert sound.codec


def test_a_film_without_sound_has_no_track(tmp_path: Path) -> None:
    path = write(tmp_path, "Matroska")
    assert sound_track(path) is None
    with pytest.raises(InputError, match="holds no sound"):
        read_sound(path)


def test_what_lies_behind_the_limit_is_cut_and_said(tmp_path: Path) -> None:
    sound = read_sound(save_wav(tmp_path / "a.wav", tone(440, 3, 8000), 8000), seconds=1)
    assert len(sound.samples) == 16000
    assert sound.seconds is None
    assert sound.notes == ("only the first 1 s were looked at",)


def test_channels_are_averaged_and_cancelling_ones_are_named(tmp_path: Path) -> None:
    one = tone(440, 1, 16000)
    same = read_sound(save_wav(tmp_path / "a.wav", numpy.stack([one, one, 0 * one], 1), 16000))
    assert numpy.abs(same.samples - 2 / 3 * one).max() < 1e-3
    opposite = read_sound(save_wav(tmp_path / "b.wav", numpy.stack([one, -one], 1), 16000))
    assert "cancel" in opposite.notes[0]


@pytest.mark.parametrize("gain", [1.0, 0.1, 0.03])
@pytest.mark.parametrize("edge", [3400, 6000])
def test_bandwidth_and_level_of_noise_cut_at_a_known_edge(edge: int, gain: float) -> None:
    """Pulses of noise through a steep filter; the gaps hold the noise of 16 bits."""
    random = numpy.random.default_rng(3)
    low = sosfilt(butter(20, edge, fs=16000, output="sos"), random.normal(0, 0.1, 64000))
    on = numpy.arange(64000) // 8000 % 2 == 0
    low *= gain * numpy.convolve(on, numpy.hanning(400) / numpy.hanning(400).sum(), mode="same")
    stored = (numpy.round(low * 32767 + random.uniform(-0.5, 0.5, 64000)) / 32768).astype("float32")
    assert edge - 250 <= bandwidth_of(stored, 16000) <= 1.3 * edge
    level = level_of(stored, 16000)
    assert level == pytest.approx(10 * numpy.log10(numpy.square(low[on]).mean()), abs=0.7)


def test_silence_has_no_level_and_no_bandwidth(tmp_path: Path) -> None:
    sound = read_sound(save_wav(tmp_path / "a.wav", numpy.zeros(16000), 16000))
    assert (sound.level, sound.bandwidth, sound.clipping) == (None, 0.0, 0.0)


def test_clipping_is_counted(tmp_path: Path) -> None:
    square = numpy.where(numpy.arange(16000) % 4 == 0, 1.0, 0.1)
    assert read_sound(save_wav(tmp_path / "a.wav", square, 16000)).clipping == pytest.approx(0.25)


def _header(rate: int, channels: int, stated: int) -> bytes:
    form = struct.pack(
        "<HHIIHH", 1, channels, rate, (rate * channels * 2) % 2**32, channels * 2, 16
    )
    return (
        b"RIFF"
        + struct.pack("<I", stated)
        + b"WAVEfmt \x10\0\0\0"
        + form
        + b"data"
        + struct.pack("<I", stated)
    )


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "no sound that can be decoded"),
        (b"RIFF\0\0\0\0WAVE", "no sound that can be decoded"),
        (b"no sound at all" * 100, "no sound that can be decoded"),
        (_header(16000, 65, 1000) + bytes(1000), "65 channels"),
        (_header(2**32 - 1, 1, 1000) + bytes(1000), "samples a second"),
        (_header(0, 1, 1000) + bytes(1000), "(samples a second|no sound)"),
        (b"#EXTM3U\n#EXTINF:1,\n/etc/hostname\n" * 20, "no sound that can be decoded"),
        (b"ffconcat version 1.0\nfile /etc/hostname\n", "no sound that can be decoded"),
    ],
    ids=["empty", "cut", "text", "channels", "fast", "slow", "playlist", "concat"],
)  # fmt: skip
def test_hostile_files_are_refused_in_one_sentence(
    tmp_path: Path, data: bytes, sentence: str
) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(data)
    with pytest.raises(InputError, match=sentence) as caught:
        read_sound(path)
    assert "\n" not in str(caught.value)


def test_a_header_that_promises_gigabytes_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(_header(16000, 1, 2**32 - 2) + bytes(3200))
    sound = read_sound(path)
    assert sound.read_seconds == pytest.approx(0.1)
    assert "breaks off" in sound.notes[0]


@pytest.mark.parametrize("name", ["MP3", "FLAC", "M4A", "Ogg", "AVI"])
@pytest.mark.parametrize("share", [0.3, 0.7])
def test_files_cut_anywhere_are_read_or_refused(tmp_path: Path, name: str, share: float) -> None:
    path = write(tmp_path, name)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    try:
        seconds = read_sound(path).read_seconds
    except InputError:
        seconds = 0.0
    assert seconds < 0.4


def test_samples_that_are_no_numbers(tmp_path: Path) -> None:
    values = numpy.array([0.5, numpy.nan, numpy.inf, -numpy.inf] * 1000, numpy.float32)
    stream = io.BytesIO()
    with av.open(stream, "w", format="wav") as output:
        track = output.add_stream("pcm_f32le", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(values[None], format="flt", layout="mono")
        frame.sample_rate = 16000
        output.mux(track.encode(frame))
    path = tmp_path / "a.wav"
    path.write_bytes(stream.getvalue())
    sound = read_sound(path)
    assert numpy.array_equal(sound.samples[:4], [0.5, 0, 1, -1])
    assert "no numbers" in sound.notes[0]
    assert (sound.codec, sound.bits) == ("pcm_f32le", 32)
