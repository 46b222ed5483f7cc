"""Whether sound and picture belong together: mouth and voice, lengths, and what was cut in the sound.

Mouth and voice are compared only where OpenCV finds one face through most of the frames, and lips move
with the loudness of some voice: a face that is silent in the picture says nothing.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy
from jaxtyping import Float64
from scipy.ndimage import gaussian_filter1d

from assaymark.provenance.evidence import Curve, Evidence, Family, Says, abstains
from assaymark.provenance.faces import Box, faces
from assaymark.provenance.footage import Footage, Track, read_footage
from assaymark.provenance.material import Material, Pixels
from assaymark.provenance.video_points import llr, points
from assaymark.provenance.video_sound import (
    Place,
    Sound,
    gap,
    hum,
    levels,
    read_track,
)
from assaymark.reports.errors import InputError

NAME = "video-sync"
Boxes = Callable[[Pixels], Sequence[Box]]
_GRID = 25  # steps a second in which mouth and voice are compared
_LARGEST = 1.0  # seconds that one may lead the other
_TOGETHER = 0.2  # seconds within which they count as one: ITU-R BT.1359 asks for 0.125
_RELATED = 0.3  # correlation below which mouth and voice have nothing to do with each other


@dataclass(frozen=True, kw_only=True)
class Synchrony:
    """Correlation of mouth and voice at every lag; positive lags: the sound comes late.

    lag: seconds, of the highest. peak: that correlation. together: the highest within 0.2 s.
    """

    lags: Float64[numpy.ndarray, " lags"]
    correlation: Float64[numpy.ndarray, " lags"]
    lag: float
    peak: float
    together: float


def look_sync(material: Material) -> Sequence[Evidence]:
    """Mouth against voice, then gaps and the hum of the sound; abstains where there is no sound."""
    begun = time.process_time()
    sound = read_track(material.path)
    if sound is None or sound.seconds < 1:
        length = "none" if sound is None else f"{sound.seconds:.1f} s"
        return [
            abstains(NAME, Family.FORENSIC, f"sound of at least 1 s is needed, there is {length}")
        ]
    footage = read_footage(material.path)
    facts = _facts(footage, sound)
    found = [*_mouth(footage, sound, facts), *_cuts(sound, facts)]
    spent = time.process_time() - begun
    if found:
        return [_with(evidence, facts, spent / len(found)) for evidence in found]
    looked = ", ".join(facts["looked_at"])
    quiet = Evidence(
        detector=NAME,
        family=Family.FORENSIC,
        says=Says.NOTHING,
        summary=f"no sign of a cut or a shift in the sound (looked at: {looked or 'its length'})",
        details=facts,
        seconds=spent,
    )
    return [quiet]


def _with(evidence: Evidence, facts: dict[str, Any], seconds: float) -> Evidence:
    return replace(evidence, details={**facts, **evidence.details}, seconds=seconds)


def _facts(footage: Footage, sound: Sound) -> dict[str, Any]:
    """Lengths, and what was looked at; filled as tests run."""
    apart = None
    if footage.seconds is not None and not sound.notes:
        apart = round(sound.seconds - footage.seconds, 3)
    return {
        "sound_minus_picture_seconds": apart,
        "sound_starts_after_seconds": round(sound.start, 3),
        "codec": sound.codec,
        "looked_at": [],
        "not_looked_at": {},
        "notes": [*footage.notes, *sound.notes],
    }


def _mouth(footage: Footage, sound: Sound, facts: dict[str, Any]) -> Iterator[Evidence]:
    try:
        followed = follow(footage.track, footage.turn)
    except InputError as error:
        facts["not_looked_at"]["mouth"] = str(error)
        return
    if followed is None:
        facts["not_looked_at"]["mouth"] = "no face through most of the frames"
        return
    sync = synchrony(footage.track, followed, sound)
    if sync is None or sync.peak < _RELATED:
        facts["not_looked_at"]["mouth"] = "lips do not move with a voice"
        return
    facts["looked_at"].append("mouth and voice")
    facts["mouth"] = {"lag": round(sync.lag, 3), "peak": round(sync.peak, 3)}
    point = points()["video-lips"]
    score = sync.peak - sync.together
    if score >= point.threshold:
        way = "late" if sync.lag > 0 else "early"
        yield Evidence(
            detector=NAME,
            family=Family.FORENSIC,
            says=Says.MANIPULATED,
            summary=f"the voice comes {abs(sync.lag):.2f} s too {way} for the lips (measured on "
            "animated pictures)",
            score=score,
            llr=llr(point),
            point=point,
            drawings=(_lags(sync),),
            details={"test": "video-lips"},
        )


def _lags(sync: Synchrony) -> Curve:
    return Curve(
        title="mouth and voice",
        x=tuple(round(float(lag), 3) for lag in sync.lags),
        y=tuple(round(float(value), 3) for value in sync.correlation),
        x_label="seconds that the sound comes late",
        y_label="correlation",
        marked=((sync.lag - 0.04, sync.lag + 0.04),),
    )


def follow(
    track: Track, turn: int = 0, boxes: Boxes | None = None
) -> Float64[numpy.ndarray, "frames 4"] | None:
    """The box of the largest face in every watched frame, in pixels of the small ones; None without one.

    Looked for in every fifth frame, and found in at least half of those. Raises InputError as `faces`.
    """
    search = boxes or (lambda pixels: faces(pixels, smallest=32))
    seen = list(range(0, len(track), 5))
    known: dict[int, Box] = {}
    for i in seen:
        pixels = numpy.repeat(track.small[i][:, :, None], 3, axis=2)
        if found := search(numpy.ascontiguousarray(pixels)):
            known[i] = found[0]
    if len(known) < max(4, len(seen) / 2) or turn:
        return None
    at = sorted(known)
    table = numpy.array([known[i] for i in at], dtype=numpy.float64)
    every = numpy.arange(len(track))
    smooth = [numpy.interp(every, at, table[:, k]) for k in range(4)]
    followed: Float64[numpy.ndarray, "frames 4"] = gaussian_filter1d(
        numpy.stack(smooth, axis=1), 5, axis=0, mode="nearest"
    )
    return followed


def mouth(
    track: Track, boxes: Float64[numpy.ndarray, "frames 4"]
) -> Float64[numpy.ndarray, " frames"]:
    """How far the mouth stands open: how dark the darkest tenth of it is against the cheeks beside it."""
    opening = numpy.zeros(len(track))
    for i, (left, top, wide, high) in enumerate(boxes):
        rows = slice(int(top + 0.66 * high), int(top + 0.98 * high))
        part = track.small[i][rows, int(left + 0.28 * wide) : int(left + 0.72 * wide)]
        if part.size:
            opening[i] = float(numpy.median(part)) - float(numpy.quantile(part, 0.1))
    return opening


def synchrony(
    track: Track, boxes: Float64[numpy.ndarray, "frames 4"], sound: Sound
) -> Synchrony | None:
    """Mouth against loudness at lags of up to 1 s; None for less than 3 s of both, or a still mouth."""
    start, end = max(0.0, sound.start), min(float(track.times[-1]), sound.start + sound.seconds)
    grid = numpy.arange(start, end, 1 / _GRID)
    reach = int(_LARGEST * _GRID)
    if len(grid) < 3 * _GRID:
        return None
    lips = numpy.interp(grid, track.times, mouth(track, boxes))
    loud = levels(sound.samples)
    when = sound.start + (numpy.arange(len(loud)) + 0.5) / 100
    voice = numpy.interp(grid, when, numpy.maximum(loud, loud.max() - 40))
    lips, voice = _flat(lips), _flat(voice)
    if lips.std() < 0.3 or voice.std() < 1:
        return None
    lags = numpy.arange(-reach, reach + 1)
    values = numpy.array([_correlation(lips, voice, int(lag)) for lag in lags])
    best = int(values.argmax())
    near = numpy.abs(lags) <= _TOGETHER * _GRID
    return Synchrony(
        lags=lags / _GRID,
        correlation=values,
        lag=float(lags[best] / _GRID),
        peak=float(values[best]),
        together=float(values[near].max()),
    )


def _flat(values: Float64[numpy.ndarray, " steps"]) -> Float64[numpy.ndarray, " steps"]:
    """A little smoothed, slow changes taken off: syllables come 2 to 8 times a second."""
    smooth = gaussian_filter1d(values, 1.0)
    flat: Float64[numpy.ndarray, " steps"] = smooth - gaussian_filter1d(smooth, _GRID)
    return flat


def _correlation(
    a: Float64[numpy.ndarray, " steps"], b: Float64[numpy.ndarray, " steps"], lag: int
) -> float:
    """Of a with b taken `lag` steps later."""
    one = a[max(0, -lag) : len(a) - max(0, lag)]
    other = b[max(0, lag) : len(b) - max(0, -lag)]
    return float(numpy.corrcoef(one, other)[0, 1])


def _cuts(sound: Sound, facts: dict[str, Any]) -> Iterator[Evidence]:
    humming = hum(sound.samples)
    tests: list[tuple[str, Place | None, str, str]] = [
        ("sound-gap", gap(sound.samples), "gaps",
         "the sound falls {score:.0f} dB below the room tone at {at:.2f} s, as where it was muted"),
        ("sound-hum", humming[0] if humming else None, "mains hum",
         "the phase of the mains hum jumps by {score:.2f} cycles at {at:.2f} s, as at a cut"),
    ]  # fmt: skip
    for name, place, what, sentence in tests:
        if place is None:
            facts["not_looked_at"][what] = "too short, gated or absent"
            continue
        facts["looked_at"].append(what)
        facts[name] = round(place.score, 3)
        point = points()[name]
        if place.score >= point.threshold:
            yield Evidence(
                detector=NAME,
                family=Family.FORENSIC,
                says=Says.MANIPULATED,
                summary=sentence.format(score=place.score, at=place.at),
                score=place.score,
                llr=llr(point),
                point=point,
                drawings=(_loudness(sound, place.at),),
                details={"test": name, "at": round(place.at, 3)},
            )


def _loudness(sound: Sound, at: float) -> Curve:
    loud = levels(sound.samples)
    stride = max(1, -(-len(loud) // 400))
    drawn = loud[::stride]
    return Curve(
        title="loudness of the sound",
        x=tuple(round(i * stride / 100, 3) for i in range(len(drawn))),
        y=tuple(round(float(level), 2) for level in drawn),
        x_label="seconds",
        y_label="decibels of full scale",
        marked=((max(0.0, at - 0.05), at + 0.05),),
    )
