"""How a recording reaches the one who asks: coded again, over the telephone, louder, with a pause before.

The counterpart of `deliveries` for sounds: seeded functions that leave what was said as it was. Codecs
are FFmpeg's, through PyAV.
"""

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy
from jaxtyping import Float32
from scipy.signal import resample_poly

from assaymark.reports.errors import InputError, nearest

Samples = Float32[numpy.ndarray, " samples"]
SoundDelivery = Callable[[Samples, int, numpy.random.Generator], Samples]
"""Mono samples, full scale ±1, and their rate in Hz, to samples of the same rate."""

MAX_SECONDS = 600
_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)


def coded(
    samples: Samples, rate: int, rng: numpy.random.Generator, *, codec: str, kilobits: int
) -> Samples:
    """Coded by MP3, AAC or Opus at so many kbit/s, and decoded; the coder's delay is cut off."""
    container, encoder, rates = _CODECS[codec]
    coder_rate = min(rates, key=lambda other: abs(other - rate))
    decoded = _through(
        _resampled(samples, rate, coder_rate), coder_rate, container, encoder, kilobits
    )
    back = _resampled(decoded, coder_rate, rate)
    return _aligned(back, samples)


def telephone(samples: Samples, rate: int, rng: numpy.random.Generator) -> Samples:
    """Sampled at 8 kHz and back: nothing is left above 4 kHz."""
    return _fitted(_resampled(_resampled(samples, rate, 8000), 8000, rate), len(samples))


def gain(samples: Samples, rate: int, rng: numpy.random.Generator, *, decibels: float) -> Samples:
    """Louder or softer; what exceeds full scale is clipped."""
    return numpy.asarray(numpy.clip(samples * 10 ** (decibels / 20), -1, 1), numpy.float32)


def noise(samples: Samples, rate: int, rng: numpy.random.Generator, *, decibels: float) -> Samples:
    """White noise at a signal-to-noise ratio in dB over the whole recording."""
    power = float(numpy.mean(numpy.square(samples, dtype=numpy.float64)))
    hiss = rng.normal(0, 1, len(samples)) * (power / 10 ** (decibels / 10)) ** 0.5
    return numpy.asarray(numpy.clip(samples + hiss, -1, 1), numpy.float32)


def pause(samples: Samples, rate: int, rng: numpy.random.Generator, *, seconds: float) -> Samples:
    """Silence of a recorder, at -80 dB, before what is said."""
    hiss = rng.normal(0, 1e-4, round(seconds * rate))
    return numpy.concatenate([hiss, samples]).astype(numpy.float32)


def trimmed(samples: Samples, rate: int, rng: numpy.random.Generator) -> Samples:
    """Without what is softer than -40 dB of the loudest at the beginning and at the end."""
    loud = numpy.flatnonzero(numpy.abs(samples) > 0.01 * numpy.abs(samples).max(initial=0))
    return samples[loud[0] : loud[-1] + 1] if len(loud) else samples


_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_CODECS = {
    "mp3": ("mp3", "libmp3lame", _MP3_RATES),
    "aac": ("adts", "aac", _MP3_RATES),
    "opus": ("ogg", "libopus", _OPUS_RATES),
}
_ROWS: dict[str, SoundDelivery] = {
    "mp3-128": partial(coded, codec="mp3", kilobits=128),
    "mp3-48": partial(coded, codec="mp3", kilobits=48),
    "aac-64": partial(coded, codec="aac", kilobits=64),
    "opus-24": partial(coded, codec="opus", kilobits=24),
    "telephone": telephone,
    "softer12": partial(gain, decibels=-12.0),
    "louder6": partial(gain, decibels=6.0),
    "noise30": partial(noise, decibels=30.0),
    "noise15": partial(noise, decibels=15.0),
    "pause": partial(pause, seconds=0.7),
    "trimmed": trimmed,
}
SOUND_DELIVERIES: MappingProxyType[str, SoundDelivery] = MappingProxyType(_ROWS)
SOUND_EIGHT = (
    "mp3-128",
    "mp3-48",
    "aac-64",
    "opus-24",
    "softer12",
    "louder6",
    "pause",
    "trimmed",
)
"""What happens to a recording that is passed on: over these the share of changed verdicts is counted."""


def deliver_sound(
    samples: Samples, rate: int, name: str, rng: numpy.random.Generator | int | None = None
) -> Samples:
    """The samples after the delivery `name` of SOUND_DELIVERIES, at the same rate.

    samples: mono, full scale ±1. rate: 8,000 to 96,000 Hz. rng: a generator or a seed, 0 where None.
    Raises InputError for an unknown name, another shape or rate, or without PyAV.
    """
    if name not in SOUND_DELIVERIES:
        raise InputError(f'there is no delivery "{name}"{nearest(name, SOUND_DELIVERIES)}')
    if samples.ndim != 1 or not len(samples) or not 8000 <= rate <= 96000:
        raise InputError(
            f"samples are of shape {samples.shape} at {rate} Hz: expected mono at 8,000 to 96,000 Hz"
        )
    generator = (
        rng if isinstance(rng, numpy.random.Generator) else numpy.random.default_rng(rng or 0)
    )
    return SOUND_DELIVERIES[name](samples.astype(numpy.float32), rate, generator)


def read_wave(path: Path) -> tuple[Samples, int]:
    """The first sound of a file as mono samples and their rate; raises InputError for anything else."""
    av = _av()
    try:
        with av.open(str(path)) as container:
            stream = container.streams.audio[0]
            rate = int(stream.rate)
            resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
            samples = _decoded(container, resampler, MAX_SECONDS * rate)
    except InputError:
        raise
    except (av.FFmpegError, OSError, ValueError, IndexError, TypeError) as error:
        raise InputError(f"{path} is no sound that can be decoded: {error}") from error
    if not len(samples):
        raise InputError(f"{path} holds no samples")
    return samples, rate


def write_wave(path: Path, samples: Samples, rate: int) -> None:
    """A WAV file of 16 bits, mono."""
    import wave

    levels = numpy.clip(numpy.rint(samples * 32767), -32768, 32767).astype("<i2")
    with wave.open(str(path), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(rate)
        stream.writeframes(levels.tobytes())


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise InputError("sound needs PyAV: pip install assaymark[media]") from error
    return av


def _through(samples: Samples, rate: int, container: str, encoder: str, kilobits: int) -> Samples:
    av = _av()
    stream = io.BytesIO()
    with av.open(stream, "w", format=container) as output:
        track = output.add_stream(encoder, rate=rate, layout="mono")
        track.bit_rate = 1000 * kilobits
        frame = av.AudioFrame.from_ndarray(samples[None].copy(), format="flt", layout="mono")
        frame.sample_rate = rate
        output.mux(track.encode(frame))
        output.mux(track.encode(None))
    stream.seek(0)
    with av.open(stream, format={"adts": "aac"}.get(container, container)) as opened:
        resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
        return _decoded(opened, resampler, len(samples) + 10 * rate)


def _decoded(container: Any, resampler: Any, most: int) -> Samples:
    parts: list[Samples] = []
    held = 0
    for frame in container.decode(audio=0):
        for part in resampler.resample(frame):
            parts.append(part.to_ndarray().ravel())
            held += len(parts[-1])
        if held > most:
            raise InputError(f"the sound has over {most:,} samples: cut it")
    parts += [part.to_ndarray().ravel() for part in resampler.resample(None)]
    return (
        numpy.concatenate(parts).astype(numpy.float32) if parts else numpy.empty(0, numpy.float32)
    )


def _resampled(samples: Samples, rate: int, wanted: int) -> Samples:
    if rate == wanted:
        return samples
    divisor = numpy.gcd(rate, wanted)
    found = resample_poly(samples, wanted // divisor, rate // divisor)
    return numpy.asarray(found, numpy.float32)


def _aligned(decoded: Samples, original: Samples) -> Samples:
    """The decoded samples, cut where they agree best with the original: coders add a delay."""
    size = 1 << (len(decoded) + len(original) - 1).bit_length()
    spectrum = numpy.fft.rfft(decoded, size) * numpy.conj(numpy.fft.rfft(original, size))
    delay = int(numpy.argmax(numpy.fft.irfft(spectrum, size)[: max(len(decoded), 1)]))
    return _fitted(decoded[min(delay, len(decoded) - 1) if delay < 5000 else 0 :], len(original))


def _fitted(samples: Samples, length: int) -> Samples:
    return numpy.pad(samples, (0, max(0, length - len(samples))))[:length]
