"""A detector for pictures, run on frames of a video that are spread over its shots.

Frames of one video resemble each other, so their evidence is not added up: the video gets the median of
its frames. How often a detector errs was measured on still pictures, and that is said beside it.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import median

from assaymark.provenance.evidence import Curve, Evidence, Family, Says, abstains
from assaymark.provenance.footage import FRAMES, Footage, read_footage
from assaymark.provenance.material import Material, Picture, Pixels
from assaymark.reports.errors import InputError

NAME = "video-frames"
MOST_HIGH = 0.25  # of the frames: more than photographs have by chance at the measured rates
FrameLook = Callable[[Picture], Evidence | None]


def look_video_frames(material: Material) -> Sequence[Evidence]:
    """options: `frame_look`, a function from a Picture to Evidence or None; `frames`, how many (16)."""
    frame_look = material.options.get("frame_look")
    if not callable(frame_look):
        return [abstains(NAME, Family.LEARNED, "no detector for single frames was given")]
    begun = time.process_time()
    footage = read_footage(material.path, frames=_count(material.options.get("frames", FRAMES)))
    said = [frame_look(picture(pixels)) for pixels in footage.frames]
    return [fused(footage, said, time.process_time() - begun)]


def _count(value: object) -> int:
    if not isinstance(value, int) or not 1 <= value <= 256:
        raise InputError(f"frames={value!r}: a number from 1 to 256 is needed")
    return value


def picture(pixels: Pixels) -> Picture:
    """A frame as detectors for pictures take it: no JPEG tables, no orientation."""
    return Picture(pixels=pixels, format="frame", mode="RGB", bits=8, frames=1)


def fused(footage: Footage, said: Sequence[Evidence | None], seconds: float) -> Evidence:
    """What at least half of the frames say that could be looked at; abstains where fewer than half could."""
    looked = [
        (at, one)
        for at, one in zip(footage.times, said, strict=True)
        if one is not None and one.says is not Says.ABSTAINS
    ]
    if 2 * len(looked) < len(said) or not looked:
        reasons = Counter(one.summary for one in said if one is not None)
        why = f": {reasons.most_common(1)[0][0]}" if reasons else ""
        return abstains(
            NAME,
            Family.LEARNED,
            f"only {len(looked)} of {len(said)} frames could be looked at{why}",
        )
    votes = Counter(one.says for _, one in looked)
    says = next(
        (way for way, votes_ in votes.most_common() if 2 * votes_ > len(looked)), Says.NOTHING
    )
    apart = _not_all(footage, votes)
    if says is Says.NOTHING and apart:
        return abstains(NAME, Family.LEARNED, apart, notes=list(footage.notes))
    scores = [one.score for _, one in looked if one.score is not None]
    ratios = [one.llr for _, one in looked if one.llr is not None]
    first = looked[0][1]
    return Evidence(
        detector=NAME,
        family=first.family,
        says=says,
        summary=f"{_said(says, votes[says], len(looked))} ({first.detector}, whose error rates were "
        "measured on still pictures)",
        score=median(scores) if scores else None,
        llr=median(ratios) if ratios else None,
        point=first.point,
        drawings=_curve(looked),
        details={
            "by": first.detector,
            "votes": {way.value: count for way, count in votes.items()},
            "frames": len(said),
            "times": [round(at, 3) for at in footage.times],
            "notes": list(footage.notes),
        },
        seconds=seconds,
    )


def _said(says: Says, count: int, looked: int) -> str:
    of = f"{count} of {looked} frame{'' if looked == 1 else 's'}"
    if says is Says.NOTHING:
        return f"{of} {'shows' if count == 1 else 'show'} no sign"
    return f"{of} {'looks' if count == 1 else 'look'} {says.value}"


def _not_all(footage: Footage, votes: Counter[Says]) -> str | None:
    """Why finding nothing says nothing of the whole video, as a clause."""
    if footage.streams > 1:
        return f"only the first of {footage.streams} video streams was watched: a player may choose another"
    high, looked = votes[Says.GENERATED], sum(votes.values())
    if high > 1 and high >= MOST_HIGH * looked:
        return f"{high} of {looked} frames look generated and the others do not, as where shots were mixed"
    return None


def _curve(looked: Sequence[tuple[float, Evidence]]) -> tuple[Curve, ...]:
    line = [(at, one) for at, one in looked if one.score is not None]
    if len(line) < 2:
        return ()
    return (
        Curve(
            title=f"{line[0][1].detector}, frame by frame",
            x=tuple(round(at, 3) for at, _ in line),
            y=tuple(round(one.score or 0.0, 4) for _, one in line),
            x_label="seconds",
            y_label="score",
            marked=tuple(
                (at, at) for at, one in line if one.says in (Says.GENERATED, Says.MANIPULATED)
            ),
        ),
    )
