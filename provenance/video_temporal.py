"""What does not fit together over time: frames shown again, missing or held, and flicker.

Each test has a threshold and an operating point of its own (video_points). Frames that are merely held, or
a frame rate that was raised, are told but count for nothing: cameras and editors do both.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
from scipy.ndimage import median_filter

from assaymark.provenance import video_measures as measures
from assaymark.provenance.evidence import Curve, Evidence, Family, Says, abstains
from assaymark.provenance.footage import Footage, Series, Track, read_footage
from assaymark.provenance.material import Material
from assaymark.provenance.video_points import llr, points

NAME = "video-temporal"
FEWEST = 24  # frames
_SMALLEST = 96  # side of the frame
_CALM = 0.4  # grey levels of change a frame, below which nothing moves enough to be compared
_POINTS = 400  # of a curve


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Outcome of one test: its number, where it is highest (seconds), and the line to draw."""

    test: str
    score: float
    span: tuple[float, float]
    sentence: str
    curve: Series


def look_temporal(material: Material) -> Sequence[Evidence]:
    """One piece of evidence for each test that speaks, else one that says what was looked at."""
    begun = time.process_time()
    footage = read_footage(material.path)
    track = footage.track
    if why := _unfit(footage):
        return [abstains(NAME, Family.FORENSIC, why)]
    found = list(tests(track))
    speaking = [finding for finding in found if finding.score >= points()[finding.test].threshold]
    facts = _facts(footage, found)
    spent = time.process_time() - begun
    if not speaking:
        return [_quiet(footage, found, facts, spent)]
    return [_speaks(finding, footage, facts, spent / len(speaking)) for finding in speaking]


def _unfit(footage: Footage) -> str | None:
    """Why the frames lie outside what was measured, as a sentence; None where they do not."""
    track = footage.track
    if len(track) < FEWEST:
        return f"only {len(track)} frames: at least {FEWEST} in a row are compared"
    if min(footage.size) < _SMALLEST:
        width, height = footage.size
        return f"frames of {width} x {height} pixels: at least {_SMALLEST} a side are compared"
    moving = float(numpy.median(track.change[1:]))
    if moving < _CALM:
        return (
            f"almost nothing moves ({moving:.2f} grey levels a frame): frames cannot be told apart"
        )
    return None


def tests(track: Track) -> Iterator[Finding]:
    """The tests over a track, each with its score; the order is that of the report."""
    if (again := measures.shown_again(track)) is not None:
        yield _again(track, again)
    jump = measures.alone(measures.jumps(track))
    yield _peak(
        "video-jump", track, jump, "the picture jumps at {at:.2f} s, as where frames were taken out"
    )
    flicker = measures.flicker(track)
    yield Finding(
        test="video-flicker",
        score=float(numpy.median(flicker[1:-1])),
        span=(float(track.times[0]), float(track.times[-1])),
        sentence="parts of the picture change their brightness from frame to frame, as where each "
        "frame was made or altered on its own",
        curve=flicker,
    )


def _again(track: Track, again: measures.Again) -> Finding:
    curve = numpy.zeros(len(track))
    curve[again.first : again.first + again.count] = again.contrast
    curve[again.second : again.second + again.count] = again.contrast
    last = min(again.second + again.count, len(track)) - 1
    start, copied = float(track.times[again.first]), float(track.times[again.second])
    way = "backwards " if again.mirrored else ""
    return Finding(
        test="video-repeat",
        score=again.contrast,
        span=(copied, float(track.times[last])),
        sentence=f"{again.count} frames from {start:.2f} s are shown {way}again from {copied:.2f} s",
        curve=curve,
    )


def _peak(test: str, track: Track, values: Series, sentence: str) -> Finding:
    at = float(track.times[int(values.argmax())])
    step = float(numpy.median(numpy.diff(track.times)))
    return Finding(
        test=test,
        score=float(values.max()),
        span=(max(0.0, at - step), at + step),
        sentence=sentence.format(at=at),
        curve=values,
    )


def _facts(footage: Footage, found: Sequence[Finding]) -> dict[str, Any]:
    """What is told although it counts for nothing."""
    track = footage.track
    still = measures.held(track)
    first, count = measures.longest_run(still)
    return {
        "scores": {finding.test: round(finding.score, 3) for finding in found},
        "frames": len(track),
        "shots": [[round(a, 3), round(b, 3)] for a, b in footage.shots],
        "held_frames": int(still.sum()),
        "longest_held": [round(float(track.times[first]), 3), count] if count else None,
        "frame_rate_was_raised": measures.held_regularly(still),
        "group_of_pictures": _key_distances(track),
        "notes": list(footage.notes),
    }


def _key_distances(track: Track) -> list[int]:
    """Frames from each key frame to the next, at most 40 of them."""
    keys = [i for i, kind in enumerate(track.kinds) if kind == "I"]
    return [int(step) for step in numpy.diff(keys)[:40]]


def _speaks(finding: Finding, footage: Footage, facts: dict[str, Any], seconds: float) -> Evidence:
    point = points()[finding.test]
    return Evidence(
        detector=NAME,
        family=Family.FORENSIC,
        says=Says.MANIPULATED,
        summary=f"{finding.sentence} (measured on clips made from photographs)",
        score=finding.score,
        llr=llr(point),
        point=point,
        drawings=(_curve(finding, footage.track),),
        details={"test": finding.test} | facts,
        seconds=seconds,
    )


def _quiet(
    footage: Footage, found: Sequence[Finding], facts: dict[str, Any], seconds: float
) -> Evidence:
    held = facts["longest_held"]
    aside = ""
    if facts["frame_rate_was_raised"]:
        aside = "; single frames are held at even steps, as where the frame rate was raised"
    elif isinstance(held, list) and held[1] >= 4:
        aside = (
            f"; the picture stands still for {held[1]} frames from {held[0]:.2f} s, "
            "as where a camera stalls"
        )
    nearest = max(found, key=lambda finding: finding.score / points()[finding.test].threshold)
    return Evidence(
        detector=NAME,
        family=Family.FORENSIC,
        says=Says.NOTHING,
        summary=f"{len(footage.track)} frames follow each other without repeats, jumps or flicker{aside}",
        score=nearest.score,
        point=points()[nearest.test],
        drawings=(_curve(nearest, footage.track, marked=False),),
        details={"test": nearest.test} | facts,
        seconds=seconds,
    )


_TITLES = {
    "video-repeat": ("frames shown again", "contrast to their copies"),
    "video-jump": ("steps of the picture", "step over the steps around it"),
    "video-flicker": ("flicker", "change over what motion explains"),
}


def _curve(finding: Finding, track: Track, *, marked: bool = True) -> Curve:
    """The line of a test, its highest values kept where it has more points than are drawn."""
    values, times = finding.curve, track.times
    if len(values) > _POINTS:
        stride = -(-len(values) // _POINTS)
        cut = len(values) // stride * stride
        values = values[:cut].reshape(-1, stride).max(axis=1)
        times = times[:cut:stride]
    if finding.test == "video-flicker":
        values = median_filter(values, size=3, mode="nearest")
    title, label = _TITLES[finding.test]
    return Curve(
        title=title,
        x=tuple(round(float(x), 4) for x in times),
        y=tuple(round(float(y), 4) for y in values),
        x_label="seconds",
        y_label=label,
        marked=(finding.span,) if marked else (),
    )
