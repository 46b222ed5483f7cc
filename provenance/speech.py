"""Is the speech of a file synthetic? A calibrated model over windows of 4 s, and the traits it goes by."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy

from assaymark.provenance.evidence import (
    Curve,
    Evidence,
    Family,
    Medium,
    OperatingPoint,
    Says,
    abstains,
)
from assaymark.provenance.material import Material
from assaymark.provenance.sound import RATE, Samples, Sound, loud_frames, sound_track
from assaymark.provenance.speech_features import likeness, trait_names
from assaymark.provenance.speech_network import SpeechModel, deviations, measure, shipped_model
from assaymark.reports.errors import InputError

WINDOW, STEP = 4.0, 2.0  # seconds
MAX_WINDOWS = 30  # of a long file so many are looked at, evenly spread
SECONDS = 600.0
NARROWEST = 2800.0  # Hz
QUIETEST = -50.0  # dB below full scale
MOST_CLIPPED = 0.01
MOST_HIGH = 0.25  # of the windows: more than recorded speech has by chance at the measured rates
_SPEECH, _VOCODER = "speech", "vocoder"


@dataclass(frozen=True, kw_only=True)
class Window:
    """A stretch that was looked at. start: seconds. parts: logits of the network and the linear model."""

    start: float
    seconds: float
    parts: tuple[float, float]
    traits: tuple[float, ...]

    @property
    def middle(self) -> float:
        return self.start + self.seconds / 2


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What was made of a file's sound. why: a clause that says why nothing was looked at, else None."""

    sound: Sound | None
    bandwidth: str
    windows: tuple[Window, ...]
    unlike: int
    why: str | None
    seconds: float


def look_speech(material: Material) -> Sequence[Evidence]:
    """The calibrated verdict on a file's first sound track, with the score over time and the spectrum.

    Option `speech_seconds`: how much of a file is decoded (600). Raises InputError for what cannot be
    decoded; abstains where there is no sound track, less than a second of speech, music, noise, hardly any
    level, clipping, or a bandwidth under 2.8 kHz.
    """
    heard = _heard_of(material)
    if heard.why is not None or heard.sound is None:
        return [abstains(_SPEECH, Family.LEARNED, heard.why or "the file has no sound track")]
    model = shipped_model()
    calibration = model.calibration[heard.bandwidth]
    llrs = [calibration(*window.parts) for window in heard.windows]
    network, linear = numpy.mean([window.parts for window in heard.windows], axis=0)
    llr = calibration(float(network), float(linear))
    point = calibration.point
    says = Says.GENERATED if llr >= point.threshold else Says.NOTHING
    spans = _spans(heard.windows, llrs, point.threshold)
    why = _not_all(material, heard.sound, llrs, point.threshold)
    if says is Says.NOTHING and why:
        return [abstains(_SPEECH, Family.LEARNED, why, **_details(heard, heard.sound))]
    return [
        Evidence(
            detector=_SPEECH,
            family=Family.LEARNED,
            says=says,
            summary=_summary(heard, llr, says, spans, point),
            score=llr,
            llr=llr,
            point=point,
            drawings=(_over_time(heard.windows, llrs, spans), _spectrum(heard.sound)),
            details=_details(heard, heard.sound),
            seconds=heard.seconds,
        )
    ]


def _not_all(
    material: Material, sound: Sound, llrs: Sequence[float], threshold: float
) -> str | None:
    """Why finding nothing says nothing of the whole file, as a clause."""
    if sound.unheard:
        return sound.unheard[0]
    if sound.films and material.medium is Medium.AUDIO:
        return "it calls itself sound and holds a moving picture, which was not watched"
    high = sum(llr >= threshold for llr in llrs)
    if high > 1 and high >= MOST_HIGH * len(llrs):
        return (
            f"{high} of {len(llrs)} windows sound synthetic and the others do not, as where speech was "
            "put together"
        )
    return None


def look_vocoder(material: Material) -> Sequence[Evidence]:
    """The traits of vocoders that weigh most in the linear model; they carry no ratio of their own.

    The ratio of `look_speech` holds them already. Raises and abstains like it.
    """
    heard = _heard_of(material)
    if heard.why is not None:
        return [abstains(_VOCODER, Family.LEARNED, heard.why)]
    rows = _weighed(shipped_model(), heard)
    named = ", ".join(f"{row['trait']} {row['deviation']:+.1f}" for row in rows[:3])
    return [
        Evidence(
            detector=_VOCODER,
            family=Family.LEARNED,
            says=Says.NOTHING,
            summary=f"the traits that weigh most, in standard deviations of recorded speech: {named}",
            score=float(numpy.mean([window.parts[1] for window in heard.windows])),
            details={"traits": rows, "bandwidth": heard.bandwidth},
            seconds=heard.seconds,
        )
    ]


def _heard_of(material: Material) -> Heard:
    seconds = material.options.get("speech_seconds", SECONDS)
    if not isinstance(seconds, int | float) or not 1 <= seconds <= 36_000:
        raise InputError(
            f"speech_seconds must lie in 1 to 36,000, got {seconds!r}: 600 is the default"
        )
    stat = material.path.stat()
    return _heard(material.path, float(seconds), (stat.st_size, stat.st_mtime_ns))


@lru_cache(maxsize=2)
def _heard(path: Path, seconds: float, stamp: tuple[int, int]) -> Heard:
    """Decoded and measured once for both detectors; `stamp` tells a file that was written anew."""
    begun = time.process_time()
    sound = sound_track(path, seconds=seconds)
    why = _why_not(sound)
    windows: list[Window] = []
    unlike: list[str] = []
    bandwidth = "narrow"
    if sound is not None and why is None:
        model = shipped_model()
        bandwidth = "wide" if sound.bandwidth >= float(model.card["wide_from"]) else "narrow"
        for start in _starts(sound):
            part = sound.samples[round(start * RATE) : round((start + WINDOW) * RATE)]
            reason = likeness(part).not_speech
            if reason is None:
                windows.append(_window(part, start, bandwidth, model))
            else:
                unlike.append(reason)
        if not windows:
            why = f"no window of {WINDOW:g} s holds enough speech: of the first, {unlike[0]}"
    return Heard(
        sound=sound,
        bandwidth=bandwidth,
        windows=tuple(windows),
        unlike=len(unlike),
        why=why,
        seconds=time.process_time() - begun,
    )


def _why_not(sound: Sound | None) -> str | None:
    if sound is None:
        return "the file has no sound track"
    if sound.level is None:
        return "the sound is silence"
    if sound.read_seconds < 1.0:
        return f"the sound lasts {sound.read_seconds:.2f} s: at least 1 s of speech is needed"
    if sound.level < QUIETEST:
        return f"the sound is {-sound.level:.0f} dB below full scale: at most {-QUIETEST:g} was measured"
    if sound.clipping > MOST_CLIPPED:
        return f"{sound.clipping:.1%} of the samples are clipped: at most {MOST_CLIPPED:.0%} was measured"
    if sound.bandwidth < NARROWEST:
        return (
            f"there is sound up to {sound.bandwidth:,.0f} Hz only: {NARROWEST:,.0f} Hz are needed"
        )
    return None


def _starts(sound: Sound) -> list[float]:
    """Windows from the first to the last loud frame, 2 s apart, or further where they would be over 30."""
    frame = RATE * 32 // 1000
    energy = numpy.square(
        sound.samples[: len(sound.samples) // frame * frame].reshape(-1, frame)
    ).mean(1)
    held = numpy.flatnonzero(energy > energy.max() * 10**-3.5)
    first, last = held[0] * frame / RATE, (held[-1] + 1) * frame / RATE
    count = max(1, int((last - first - WINDOW) // STEP) + 2) if last - first > WINDOW else 1
    ends = max(first, last - WINDOW)
    return [float(start) for start in numpy.linspace(first, ends, min(count, MAX_WINDOWS))]


def _window(part: Samples, start: float, bandwidth: str, model: SpeechModel) -> Window:
    measured = measure(part, wide=bandwidth == "wide")
    return Window(
        start=start,
        seconds=len(part) / RATE,
        parts=model.parts(measured, bandwidth),
        traits=tuple(float(value) for value in measured.vector(bandwidth)),
    )


def _spans(
    windows: Sequence[Window], llrs: Sequence[float], threshold: float
) -> tuple[tuple[float, float], ...]:
    """Stretches whose windows lie at or above the threshold, joined where they overlap."""
    joined: list[tuple[float, float]] = []
    for window, llr in zip(windows, llrs, strict=True):
        if llr < threshold:
            continue
        start, end = window.start, window.start + window.seconds
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return tuple(joined)


def _summary(
    heard: Heard,
    llr: float,
    says: Says,
    spans: Sequence[tuple[float, float]],
    point: OperatingPoint,
) -> str:
    """`point` says how often recordings of unseen corpora reach the threshold."""
    one = len(heard.windows) == 1
    looked = f"{len(heard.windows)} window{'' if one else 's'} of {heard.bandwidth}-band speech"
    reached = (
        f"the threshold of {point.threshold:+.1f}, which {point.false_positive_rate:.0%} of "
        f"recordings of unseen corpora reached (at most {point.false_positive_rate_high:.0%}) and "
        f"{point.true_positive_rate:.0%} of synthetic speech of unseen makers"
    )
    if says is Says.GENERATED:
        verb = "sounds" if one else "sound"
        return f"{looked} {verb} synthetic: a log-likelihood ratio of {llr:+.1f} reaches {reached}"
    stand_out = ""
    if spans and not one:
        named = ", ".join(f"{start:.0f}-{end:.0f} s" for start, end in spans[:4])
        stand_out = f", but these stretches stand out: {named}"
    return f"{looked}: a log-likelihood ratio of {llr:+.1f} stays below {reached}{stand_out}"


def _over_time(
    windows: Sequence[Window], llrs: Sequence[float], spans: tuple[tuple[float, float], ...]
) -> Curve:
    return Curve(
        title="Synthetic speech over time",
        x=tuple(round(window.middle, 2) for window in windows),
        y=tuple(round(llr, 3) for llr in llrs),
        x_label="seconds",
        y_label="log-likelihood ratio",
        marked=spans,
    )


def _spectrum(sound: Sound) -> Curve:
    """Mean power of the loud frames in decibels below the strongest, per 125 Hz."""
    frames = loud_frames(sound.samples[: 120 * RATE], RATE)
    power = numpy.square(
        numpy.abs(numpy.fft.rfft(frames * numpy.hanning(frames.shape[1]), axis=1))
    ).mean(0)
    bands = power[: len(power) // 4 * 4].reshape(-1, 4).mean(1)
    decibels = 10 * numpy.log10(numpy.maximum(bands / bands.max(), 1e-12))
    width = RATE / 2 / len(bands)
    return Curve(
        title="Spectrum of the loud frames",
        x=tuple(round((i + 0.5) * width, 1) for i in range(len(bands))),
        y=tuple(round(float(value), 1) for value in decibels),
        x_label="Hz",
        y_label="dB",
    )


def _details(heard: Heard, sound: Sound) -> dict[str, object]:
    return {
        "bandwidth": heard.bandwidth,
        "bandwidth_hz": round(sound.bandwidth),
        "level_db": None if sound.level is None else round(sound.level, 1),
        "clipped": round(sound.clipping, 5),
        "stored_rate": sound.stored_rate,
        "codec": sound.codec,
        "windows": len(heard.windows),
        "windows_without_speech": heard.unlike,
        "notes": list(sound.notes),
    }


def _weighed(model: SpeechModel, heard: Heard) -> list[dict[str, object]]:
    """Traits by what they add to the linear model's logit, the largest first."""
    linear = model.linear[heard.bandwidth]
    mean = numpy.mean([window.traits for window in heard.windows], axis=0)
    both = deviations(mean, linear.middle, linear.scale)
    deviation = both[: len(mean)]
    added = (both * linear.weights).reshape(2, -1).sum(0)
    names = _names(heard.bandwidth)
    rows = [
        {
            "trait": name.replace("_", " "),
            "value": round(float(mean[i]), 4),
            "deviation": round(float(deviation[i]), 2),
            "adds": round(float(added[i]), 3),
        }
        for i, name in names.items()
    ]
    return sorted(rows, key=lambda row: -abs(float(str(row["adds"]))))[:12]


def _names(bandwidth: str) -> dict[int, str]:
    """Where in the vector of a bandwidth the traits lie (see `measure`); cepstral spreads have no name."""
    names = trait_names(4)
    narrow = (*names[:24], *names[-10:])
    placed = {59 + i: name for i, name in enumerate(narrow)}
    if bandwidth == "wide":
        placed |= {59 + len(narrow) + i: name for i, name in enumerate(names[24:-10])}
    return placed
