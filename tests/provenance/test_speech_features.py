"""Cepstra against the definition written out slowly; nothing depends on gain or on silence around."""

import math

import numpy
import pytest
from numpy.typing import NDArray
from scipy.signal import butter, lfilter, sosfilt

from assaymark.provenance.speech_features import (
    BANDS,
    floor_of,
    lfcc,
    likeness,
    speech_frames,
    statistics,
    trait_names,
    vocoder_traits,
)

Array = NDArray[numpy.float32]


def voice(seconds: float, seed: int = 0, pitch: float = 120.0) -> Array:
    """Formant synthesis: pulses of a wandering pitch and breath through resonances that change."""
    random = numpy.random.default_rng(seed)
    count = round(seconds * 16000)
    syllables = -(-count // 1600)
    contour = numpy.interp(
        numpy.arange(count), numpy.arange(syllables) * 1600, random.uniform(0.8, 1.3, syllables)
    )
    phase = numpy.cumsum(pitch * contour / 16000)
    source = numpy.diff(numpy.floor(phase), prepend=0) + 0.02 * random.normal(size=count)
    out = numpy.zeros(count)
    for i in range(syllables):
        part = slice(i * 1600, (i + 1) * 1600)
        spoken = source[part]
        for formant in (
            random.uniform(300, 800),
            random.uniform(1000, 2300),
            random.uniform(2500, 3300),
        ):
            radius = math.exp(-math.pi * 90 / 16000)
            angle = 2 * math.pi * formant / 16000
            spoken = lfilter([1.0], [1, -2 * radius * math.cos(angle), radius**2], spoken)
        if i % 3 == 2:  # a hiss
            spoken = 2 * random.normal(size=len(spoken))
        out[part] = spoken / (numpy.abs(spoken).max() + 1e-9) * numpy.hanning(len(spoken))
    return (0.5 * out).astype(numpy.float32)


def slow_lfcc(x: Array, top: float) -> NDArray[numpy.float64]:
    """Sahidullah et al. 2015, one loop per sum of the definition."""
    emphasised = [float(x[n]) - 0.97 * (float(x[n - 1]) if n else 0.0) for n in range(len(x))]
    count = (len(x) - 320) // 160 + 1
    edges = [top * i / 21 for i in range(22)]
    powers = []
    for m in range(count):
        frame = [
            emphasised[160 * m + n] * (0.54 - 0.46 * math.cos(2 * math.pi * n / 319))
            for n in range(320)
        ]
        row = []
        for k in range(257):
            real = sum(value * math.cos(2 * math.pi * k * n / 512) for n, value in enumerate(frame))
            imaginary = sum(
                value * math.sin(2 * math.pi * k * n / 512) for n, value in enumerate(frame)
            )
            row.append(real**2 + imaginary**2)
        powers.append(row)
    bands = numpy.zeros((count, 20))
    for m, row in enumerate(powers):
        for i in range(20):
            low, middle, high = edges[i : i + 3]
            for k, power in enumerate(row):
                hertz = k * 8000 / 256
                weight = min((hertz - low) / (middle - low), (high - hertz) / (high - middle))
                bands[m, i] += max(weight, 0.0) * power
    logs = numpy.log10(bands + floor_of(bands))
    static = numpy.zeros((count, 20))
    for m in range(count):
        for q in range(20):
            norm = math.sqrt((1 if q == 0 else 2) / 20)
            static[m, q] = norm * sum(
                logs[m, i] * math.cos(math.pi * q * (2 * i + 1) / 40) for i in range(20)
            )

    def delta(values: NDArray[numpy.float64]) -> NDArray[numpy.float64]:
        last = len(values) - 1
        rows = [
            sum(k * values[min(max(m + k, 0), last)] for k in range(-3, 4)) for m in range(last + 1)
        ]
        return numpy.array(rows)

    return numpy.concatenate([static, delta(static), delta(delta(static))], 1)


@pytest.mark.parametrize("top", [3600.0, 8000.0])
def test_lfcc_is_the_definition(top: float) -> None:
    x = voice(0.1)
    assert lfcc(x, top=top) == pytest.approx(slow_lfcc(x, top), abs=2e-5)


def test_the_zeroth_coefficient_alone_follows_gain() -> None:
    """A gain g adds 2 log10(g) sqrt(20) to it, by the orthonormal transform of a constant."""
    x = voice(1)
    moved = lfcc(x, top=8000.0) - lfcc(0.1 * x, top=8000.0)
    assert moved[:, 0] == pytest.approx(numpy.full(len(moved), 2 * math.sqrt(20)), abs=0.02)
    assert numpy.abs(moved[:, 1:]).max() < 0.02


@pytest.mark.parametrize("gain", [0.1, 0.5, 1.9])
def test_features_do_not_depend_on_gain(gain: float) -> None:
    x = voice(3)
    scaled = (gain * x).astype(numpy.float32)
    assert vocoder_traits(scaled, bands=4) == pytest.approx(vocoder_traits(x, bands=4), abs=2e-2)
    assert statistics(scaled, top=3600.0) == pytest.approx(statistics(x, top=3600.0), abs=1e-3)


@pytest.mark.parametrize("silence", [0.2, 1.0, 3.0])
def test_features_do_not_depend_on_silence_around(silence: float) -> None:
    x = voice(3)
    nothing = numpy.zeros(round(silence * 16000), numpy.float32)
    padded = numpy.concatenate([nothing, x, nothing])
    assert vocoder_traits(padded, bands=4) == pytest.approx(vocoder_traits(x, bands=4), abs=0.05)
    # The deltas of the first and the last frames see the silence.
    assert statistics(padded, top=3600.0) == pytest.approx(statistics(x, top=3600.0), abs=0.12)
    assert abs(len(speech_frames(padded)) - len(speech_frames(x))) <= 4


def trait(x: Array, name: str) -> float:
    return float(vocoder_traits(x, bands=4)[trait_names(4).index(name)])


def test_names_and_numbers_agree() -> None:
    for bands in range(1, len(BANDS) + 1):
        assert len(trait_names(bands)) == len(vocoder_traits(voice(1), bands=bands))


def test_a_buzz_is_periodic_in_every_band_and_noise_in_none() -> None:
    pulses = (numpy.arange(48000) % 128 == 0).astype(numpy.float32)
    noise = numpy.random.default_rng(0).normal(0, 0.1, 48000).astype(numpy.float32)
    for band in range(1, 5):
        assert trait(pulses, f"periodicity_{band}") > 0.9
        assert trait(noise, f"periodicity_{band}") < 0.6
        assert trait(pulses, f"flatness_{band}") < trait(noise, f"flatness_{band}") - 1


def test_random_phase_takes_the_pulses_out_of_the_residual() -> None:
    x = voice(3)
    spectrum = numpy.fft.rfft(x.reshape(-1, 640), axis=1)
    random = numpy.exp(2j * numpy.pi * numpy.random.default_rng(0).random(spectrum.shape))
    blurred = (
        numpy.fft.irfft(numpy.abs(spectrum) * random, axis=1).reshape(-1).astype(numpy.float32)
    )
    assert trait(blurred, "residual_kurtosis") < trait(x, "residual_kurtosis") - 0.3
    assert trait(blurred, "residual_crest") < trait(x, "residual_crest")


def test_lines_and_holes_are_counted() -> None:
    noise = numpy.random.default_rng(0).normal(0, 0.1, 48000)
    hole = sosfilt(butter(6, (2000, 2060), "bandstop", fs=16000, output="sos"), noise)
    line = noise + 0.2 * numpy.sin(2 * numpy.pi * 2030 * numpy.arange(48000) / 16000)
    assert trait(hole.astype(numpy.float32), "holes_2") > trait(
        noise.astype(numpy.float32), "holes_2"
    )
    assert trait(line.astype(numpy.float32), "peaks_2") != trait(
        noise.astype(numpy.float32), "peaks_2"
    )


@pytest.mark.parametrize(
    ("sound", "reason"),
    [
        (numpy.random.default_rng(0).normal(0, 0.1, 64000), "noise"),
        (0.3 * numpy.sin(2 * numpy.pi * 300 * numpy.arange(64000) / 16000), "music or a tone"),
        (
            sum(
                0.1 * numpy.sin(2 * numpy.pi * f * numpy.arange(64000) / 16000)
                for f in (262, 330, 392)
            ),
            "music",
        ),
        (numpy.zeros(64000), "only 0.0 s"),
        (numpy.concatenate([voice(0.6), numpy.zeros(48000)]), "loud enough"),
    ],
    ids=["noise", "tone", "chord", "silence", "short"],
)
def test_what_is_no_speech_is_said(sound: Array, reason: str) -> None:
    assert reason in str(likeness(sound.astype(numpy.float32)).not_speech)


@pytest.mark.parametrize("pitch", [100.0, 180.0])
def test_a_voice_is_speech(pitch: float) -> None:
    assert likeness(voice(4, pitch=pitch)).not_speech is None
