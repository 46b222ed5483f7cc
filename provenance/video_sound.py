"""The sound of a video: gaps, and jumps in the phase of mains hum.

A recording made in one go keeps its room tone and the phase of whatever hums in it (Grigoras 2005;
Rodriguez, Apolinario and Biscainho 2010); a cut seldom does.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
from jaxtyping import Float64
from scipy.signal import butter, sosfiltfilt

from assaymark.provenance.footage import opened
from assaymark.provenance.material import Samples
from assaymark.reports.errors import InputError

RATE = 16000  # samples a second, to which all sound is brought
LONGEST = 120  # seconds that are listened to
_HOP = 160  # samples: 10 ms


@dataclass(frozen=True, kw_only=True)
class Sound:
    """The first sound track, mixed to one channel: samples in [-1, 1] at 16 kHz.

    start: seconds from the start of the file's clock. seconds: length that was decoded. stated: length
    by the container, None where it says none. notes: what was lost.
    """

    samples: Samples
    start: float
    seconds: float
    stated: float | None
    codec: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Place:
    """A number and the second it belongs to."""

    score: float
    at: float


def read_track(path: Path) -> Sound | None:
    """The sound of a video, at most two minutes; None where it has no sound track. Raises InputError."""
    with opened(path) as container:
        if not container.streams.audio:
            return None
        stream = container.streams.audio[0]
        notes: list[str] = []
        parts, start = _decoded(container, stream, notes)
        samples = numpy.concatenate(parts) if parts else numpy.zeros(0, dtype=numpy.float32)
        if not numpy.isfinite(samples).all():
            raise InputError(f"{path} has sound whose samples are no finite numbers")
        return Sound(
            samples=samples,
            start=start,
            seconds=len(samples) / RATE,
            stated=float(stream.duration * stream.time_base) if stream.duration else None,
            codec=str(stream.codec_context.name),
            notes=tuple(notes),
        )


def _decoded(container: Any, stream: Any, notes: list[str]) -> tuple[list[Samples], float]:
    import av

    stream.codec_context.thread_count = 1
    resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE)
    parts: list[Samples] = []
    start, broken, heard = 0.0, 0, 0
    packets = container.demux(stream)
    while broken < 64 and heard < LONGEST * RATE:
        try:
            frames = next(packets).decode()
            for frame in frames:
                if not parts and frame.pts is not None:
                    start = float(frame.pts * frame.time_base)
                frame.pts = None  # gaps in the clock are judged by lengths, not filled
                parts += [part.to_ndarray().reshape(-1) for part in resampler.resample(frame)]
            heard = sum(map(len, parts))
        except StopIteration:
            break
        except (av.error.FFmpegError, ValueError):
            broken += 1
    if heard >= LONGEST * RATE:
        notes.append(f"only the first {LONGEST} s of the sound were listened to")
    if broken:
        notes.append(f"{broken} packets of sound could not be decoded")
    return parts, start


def levels(samples: Samples, hop: int = _HOP) -> Float64[numpy.ndarray, " steps"]:
    """Root mean square of each step of 10 ms, in decibels of full scale; -120 at least."""
    count = len(samples) // hop
    power = (samples[: count * hop].astype(numpy.float64) ** 2).reshape(count, hop).mean(axis=1)
    decibels: Float64[numpy.ndarray, " steps"] = 10 * numpy.log10(power + 1e-12)
    return decibels


def gap(samples: Samples) -> Place | None:
    """Decibels by which the quietest 30 ms lie below the room tone (the tenth-lowest percent).

    None for less than 1 s, and where a gate closes every pause: a room without tone, or more than 5 %
    far below it.
    """
    loud = levels(samples)
    if len(loud) < 100:
        return None
    inner = loud[10:-10]  # encoders begin and end with silence
    room = float(numpy.quantile(inner, 0.1))
    quiet = numpy.convolve(inner, numpy.ones(3) / 3, "valid")
    if room < -90 or (inner < room - 15).mean() > 0.05:
        return None
    at = int(quiet.argmin())
    return Place(score=room - float(quiet[at]), at=(at + 11) * _HOP / RATE)


def hum(samples: Samples) -> tuple[Place, float] | None:
    """The largest jump of the phase of mains hum, in cycles (0 to 0.5), and the hum's frequency in Hz.

    Phases are means over 0.6 s before and after each place, against the steady turn of the whole. None
    where neither 50 nor 60 Hz stands 20 dB above what is beside it, or for less than 2 s: without hum
    nothing can be said.
    """
    if len(samples) < 2 * RATE:
        return None
    exact = samples.astype(numpy.float64)
    spectrum = numpy.abs(numpy.fft.rfft(exact * numpy.hanning(len(exact)))) ** 2
    step = RATE / len(exact)
    best = max((50, 60), key=lambda wanted: _above(spectrum, step, wanted))
    if _above(spectrum, step, best) < 20:
        return None
    mixed = exact * numpy.exp(-2j * numpy.pi * best * numpy.arange(len(exact)) / RATE)
    low = butter(2, 4, fs=RATE, output="sos")
    base = (sosfiltfilt(low, mixed.real) + 1j * sosfiltfilt(low, mixed.imag))[::_HOP]
    turn = numpy.median(numpy.diff(numpy.unwrap(numpy.angle(base))))
    steady = base * numpy.exp(-1j * turn * numpy.arange(len(base)))
    half = 60
    means = numpy.convolve(steady, numpy.ones(half) / half, "valid")
    jump = numpy.abs(numpy.angle(means[half:] * means[:-half].conj())) / (2 * numpy.pi)
    at = int(jump.argmax())
    return Place(score=float(jump[at]), at=(at + half) * _HOP / RATE), float(best)


def _above(spectrum: Float64[numpy.ndarray, " bins"], step: float, wanted: float) -> float:
    """Decibels of a line over the median of what lies within 15 Hz of it."""
    near = slice(round((wanted - 1) / step), round((wanted + 1) / step) + 1)
    around = slice(max(0, round((wanted - 15) / step)), round((wanted + 15) / step))
    return float(
        10 * numpy.log10(spectrum[near].max() / (numpy.median(spectrum[around]) + 1e-20) + 1e-20)
    )
