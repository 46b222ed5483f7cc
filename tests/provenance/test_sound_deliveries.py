"""Deliveries of a sound against physics: nothing is left above 4 kHz, noise has its ratio."""

from pathlib import Path

import numpy
import pytest

from assaymark.provenance.sound_deliveries import (
    SOUND_DELIVERIES,
    SOUND_EIGHT,
    Samples,
    deliver_sound,
    read_wave,
    write_wave,
)
from assaymark.reports.errors import InputError

RATE = 16000


def _voice(seconds: float = 1.0) -> Samples:
    """A gliding tone with a rhythm, a tone at 6 kHz, and a pause of 0.1 s at each end."""
    t = numpy.arange(round(seconds * RATE)) / RATE
    tone = 0.3 * numpy.sin(2 * numpy.pi * (200 + 300 * t) * t) * (1.2 + numpy.sin(9 * t))
    voiced = tone + 0.02 * numpy.sin(2 * numpy.pi * 6000 * t)
    silence = numpy.zeros(RATE // 10)
    return numpy.concatenate([silence, voiced, silence]).astype(numpy.float32)


def _ratio(signal: Samples, noise: Samples) -> float:
    return float(10 * numpy.log10((signal**2).mean() / (noise**2).mean()))


def _power_at(samples: Samples, frequency: float) -> float:
    t = numpy.arange(len(samples)) / RATE
    return float(abs((samples * numpy.exp(-2j * numpy.pi * frequency * t)).mean()))


@pytest.mark.parametrize("name", SOUND_DELIVERIES)
def test_every_delivery_is_seeded_and_leaves_its_input_alone(name: str) -> None:
    voice = _voice()
    before = voice.copy()
    first, again = deliver_sound(voice, RATE, name, 3), deliver_sound(voice, RATE, name, 3)
    assert numpy.array_equal(first, again)
    assert numpy.array_equal(voice, before)
    assert first.dtype == numpy.float32
    assert numpy.abs(first).max() <= 1.05
    assert len(first) != len(voice) or not numpy.array_equal(first, voice)


@pytest.mark.parametrize("name", ["mp3-128", "mp3-48", "aac-64", "opus-24"])
def test_a_coder_keeps_time_and_what_was_said(name: str) -> None:
    voice = _voice()
    coded = deliver_sound(voice, RATE, name)
    assert len(coded) == len(voice)
    assert _ratio(voice, coded - voice) > 12  # a delay of 10 samples would leave 5 dB at 500 Hz


def test_strengths_are_those_stated() -> None:
    voice = _voice()
    assert _ratio(voice, deliver_sound(voice, RATE, "noise30") - voice) == pytest.approx(
        30, abs=0.3
    )
    assert _ratio(voice, deliver_sound(voice, RATE, "softer12")) == pytest.approx(12, abs=0.01)
    high = deliver_sound(voice, RATE, "telephone")
    assert _power_at(high, 6000) < 0.05 * _power_at(voice, 6000)
    assert _ratio(voice, high - voice) > 20


def test_pauses_come_and_go() -> None:
    voice = _voice()
    later = deliver_sound(voice, RATE, "pause")
    assert numpy.array_equal(later[-len(voice) :], voice)
    assert len(later) == len(voice) + round(0.7 * RATE)
    cut = len(voice) - len(deliver_sound(voice, RATE, "trimmed"))
    assert cut == pytest.approx(2 * RATE // 10, abs=RATE // 50)
    silent = numpy.zeros(RATE, numpy.float32)
    assert numpy.array_equal(deliver_sound(silent, RATE, "trimmed"), silent)


def test_a_wave_file_is_read_back(tmp_path: Path) -> None:
    write_wave(tmp_path / "voice.wav", _voice(), RATE)
    samples, rate = read_wave(tmp_path / "voice.wav")
    assert rate == RATE
    assert numpy.abs(samples - _voice()).max() < 2 / 32767  # PyAV divides by 32768
    for content in (b"", b"RIFF", b"not sound" * 99):
        (tmp_path / "bad.wav").write_bytes(content)
        with pytest.raises(InputError, match="no sound that can be decoded"):
            read_wave(tmp_path / "bad.wav")


def test_what_cannot_be_delivered_is_named() -> None:
    assert set(SOUND_EIGHT) <= set(SOUND_DELIVERIES)
    with pytest.raises(InputError, match="did you mean"):
        deliver_sound(_voice(), RATE, "mp3_48")
    with pytest.raises(InputError, match="4000 Hz"):
        deliver_sound(_voice(), 4000, "pause")
    with pytest.raises(InputError, match=r"\(0,\)"):
        deliver_sound(_voice()[:0], RATE, "pause")
