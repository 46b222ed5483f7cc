"""What changes from frame to frame, as numbers with a physical meaning; all work on footage.Track.

Nothing here decides: video_temporal holds the thresholds and what they were measured on.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy
from jaxtyping import Bool, Float32, Float64, Int64
from scipy.ndimage import map_coordinates, median_filter

from assaymark.provenance.footage import Small, Track, cuts

Steps = Float64[numpy.ndarray, " steps"]
_WIDE = 160  # columns of the frames in which motion is estimated
_CELL = 8  # side of the cells whose brightness is followed, in those frames


# Frames shown again


@dataclass(frozen=True, kw_only=True)
class Again:
    """Frames [first, first + count) come again from `second` on, backwards where `mirrored`.

    contrast: how much the frames of the run differ from each other, over how much from their copies.
    """

    first: int
    second: int
    count: int
    mirrored: bool
    contrast: float


def shown_again(track: Track, shortest: int = 12) -> Again | None:
    """The run of frames that comes again with the most contrast; None where no frames can be compared.

    Two runs of a scene that moves never meet pixel by pixel, unless one is a copy of the other (Wang and
    Farid 2007, "Exposing digital forgeries in video by detecting duplication", section 2).
    """
    marks = _marks(track.small)
    if len(marks) < 3 * shortest:
        return None
    far = _distances(marks)
    found = [_along(far, shortest, mirrored) for mirrored in (False, True)]
    best = [again for again in found if again is not None]
    return max(best, key=lambda again: again.contrast) if best else None


def _marks(small: Small) -> Float32[numpy.ndarray, "frames cells"]:
    """Brightness of cells about a tenth of the picture's side wide, the mean of the frame taken off."""
    count, rows, columns = small.shape
    high, wide = max(1, rows // 24), max(1, columns // 32)
    part = small[:, : rows // high * high, : columns // wide * wide].astype(numpy.float32)
    cells = part.reshape(count, rows // high, high, columns // wide, wide).mean(axis=(2, 4))
    flat: Float32[numpy.ndarray, "frames cells"] = cells.reshape(count, -1)
    flat -= flat.mean(axis=1, keepdims=True)
    return flat


def _distances(marks: Float32[numpy.ndarray, "frames cells"]) -> Float64[numpy.ndarray, "a b"]:
    """Root mean square difference of each pair of frames, in grey levels."""
    exact = marks.astype(numpy.float64)
    power = (exact**2).sum(axis=1)
    square = power[:, None] + power[None, :] - 2 * exact @ exact.T
    far: Float64[numpy.ndarray, "a b"] = numpy.sqrt(numpy.maximum(square, 0) / marks.shape[1])
    return far


def _along(far: Float64[numpy.ndarray, "a b"], shortest: int, mirrored: bool) -> Again | None:
    """The run of pairs along one direction that are close although the run itself moves."""
    best: Again | None = None
    for first, second in _pairs(len(far), shortest, mirrored):
        gap = far[first, second]
        window = numpy.convolve(gap, numpy.ones(shortest), "valid") / shortest
        at = int(window.argmin())
        run = first[at : at + shortest]
        contrast = float(far[numpy.ix_(run, run)].max() / (window[at] + 0.15))
        if best is not None and contrast <= best.contrast:
            continue
        close = gap < max(2 * window[at], 0.3)
        begin = at - int(numpy.argmin(numpy.append(close[:at][::-1], False)))
        end = at + shortest + int(numpy.argmin(numpy.append(close[at + shortest :], False)))
        best = Again(
            first=int(first[begin]),
            second=int(min(second[begin], second[end - 1])),
            count=end - begin,
            mirrored=mirrored,
            contrast=contrast,
        )
    return best


def _pairs(
    count: int, shortest: int, mirrored: bool
) -> Iterator[tuple[Int64[numpy.ndarray, " pairs"], Int64[numpy.ndarray, " pairs"]]]:
    """Frames that would be copies of each other, for every shift, or every place of a mirror.

    Next to a mirror a camera that sways comes back by itself: pairs closer than a run are left out.
    """
    if mirrored:
        for total in range(3 * shortest, 2 * count - 3 * shortest):
            first = numpy.arange(max(0, total - count + 1), (total - shortest) // 2)
            if len(first) >= shortest:
                yield first, total - first
    else:
        for shift in range(shortest, count - shortest):
            first = numpy.arange(count - shift)
            yield first, first + shift


# Frames held and frames that are missing


def held(track: Track) -> Bool[numpy.ndarray, " frames"]:
    """Frames that repeat the one before although what is around them moves."""
    usual = median_filter(track.change, size=min(25, len(track)), mode="nearest")
    still: Bool[numpy.ndarray, " frames"] = (track.change < 0.12 * usual) & (usual > 0.5)
    still[0] = False
    return still


def held_regularly(at: Bool[numpy.ndarray, " frames"]) -> bool:
    """Whether single held frames come at even steps: a frame rate that was raised."""
    steps = numpy.diff(numpy.flatnonzero(at))
    if len(steps) < 3 or numpy.median(steps) < 2:
        return False
    return bool((numpy.abs(steps - numpy.median(steps)) <= 1).mean() >= 0.8)


def jumps(track: Track) -> Steps:
    """How far each step of the picture stands out of the three before and the three after it.

    Time that passes is taken into account; cuts, flashes and a frame that makes up for held ones count
    as no jump (0).
    """
    small, count = _shrunk(track.small), len(track)
    if count < 8:
        return numpy.zeros(count)
    usual = float(numpy.median(numpy.diff(track.times))) or 1.0
    paused = numpy.maximum(numpy.diff(track.times, prepend=track.times[0] - usual) / usual, 1)
    step = numpy.zeros(count)
    step[1:] = numpy.abs(numpy.diff(small, axis=0)).mean(axis=(1, 2))
    step = step / paused
    score = numpy.zeros(count)
    still = held(track)
    for i in range(4, count - 4):
        around = numpy.concatenate([step[i - 3 : i], step[i + 1 : i + 4]])
        after = float(numpy.abs(small[i + 1] - small[i - 1]).mean())
        if after < 0.7 * step[i] or still[i - 4 : i + 4].any():
            continue
        score[i] = step[i] / (around.max() + 0.25)
    for cut in cuts(track.small):
        score[max(0, cut - 3) : cut + 4] = 0
    return score


def _shrunk(small: Small) -> Float32[numpy.ndarray, "frames rows columns"]:
    """At most 160 columns wide, by means of pixels."""
    factor = max(1, -(-small.shape[2] // _WIDE))
    rows, columns = (side // factor for side in small.shape[1:])
    part = small[:, : rows * factor, : columns * factor].astype(numpy.float32)
    means: Float32[numpy.ndarray, "frames rows columns"] = part.reshape(
        len(small), rows, factor, columns, factor
    ).mean(axis=(2, 4))
    return means


def alone(score: Steps, apart: int = 4) -> Steps:
    """The same, over its third-highest peak where that is above 1: an edit stands alone or in a pair,
    key frames of a coarse encoding come again and again."""
    rest, peaks = score.copy(), []
    for _ in range(3):
        at = int(rest.argmax())
        peaks.append(float(rest[at]))
        rest[max(0, at - apart) : at + apart + 1] = 0
    return score / max(1.0, peaks[2])


# Flicker


def flicker(track: Track) -> Float64[numpy.ndarray, " frames"]:
    """Brightness that comes and goes in parts of the picture, for every frame; above 1 no motion explains it.

    Each frame is compared with the mean of its two neighbours, both moved onto it; what changes in whole
    rows (exposure, or mains light under a rolling shutter) is taken off. In cells of 8 x 8 pixels of a
    picture at most 160 wide, the change of the mean is taken over what half a grey level and motion wrong
    by a tenth of a pixel would bring; the median over cells, so that things which move do not count.
    """
    small, count = _shrunk(track.small), len(track)
    found = numpy.zeros(count)
    begins = set(cuts(track.small)) | {0}
    ways = [_shift(small[i - 1], small[i]) if i else (0.0, 0.0) for i in range(count)]
    for i in range(1, count - 1):
        if i in begins or i + 1 in begins:
            continue
        back = _moved(small[i - 1], ways[i])
        forth = _moved(small[i + 1], (-ways[i + 1][0], -ways[i + 1][1]))
        rest = small[i] - (back + forth) / 2
        rest = rest - numpy.median(rest, axis=1, keepdims=True)
        steep = numpy.hypot(*numpy.gradient(small[i]))
        change = numpy.abs(_cells(rest)) / (0.5 + 0.1 * _cells(steep))
        found[i] = float(numpy.median(change))
    return found


def _cells(
    plane: Float32[numpy.ndarray, "rows columns"],
) -> Float32[numpy.ndarray, "high wide"]:
    """Means of cells of 8 x 8 pixels."""
    rows, columns = (side // _CELL for side in plane.shape)
    part = plane[: rows * _CELL, : columns * _CELL]
    means: Float32[numpy.ndarray, "high wide"] = part.reshape(rows, _CELL, columns, _CELL).mean(
        axis=(1, 3)
    )
    return means


def _shift(
    a: Float32[numpy.ndarray, "rows columns"], b: Float32[numpy.ndarray, "rows columns"]
) -> tuple[float, float]:
    """Rows and columns by which b is a moved (phase correlation, peak refined by a parabola)."""
    window = numpy.hanning(a.shape[0])[:, None] * numpy.hanning(a.shape[1])[None, :]
    one = numpy.fft.rfft2((a - a.mean()) * window)
    other = numpy.fft.rfft2((b - b.mean()) * window)
    cross = other * one.conj()
    plane = numpy.fft.irfft2(cross / (numpy.abs(cross) ** 0.7 + 1e-6), a.shape)
    at = numpy.unravel_index(int(plane.argmax()), plane.shape)
    way: list[float] = []
    for axis, side in enumerate(plane.shape):
        near = [
            float(numpy.take(numpy.take(plane, at[1 - axis], axis=1 - axis), (at[axis] + d) % side))
            for d in (-1, 0, 1)
        ]
        bend = near[0] - 2 * near[1] + near[2]
        fine = 0.5 * (near[0] - near[2]) / bend if bend < 0 else 0.0
        whole = at[axis] - side if at[axis] > side // 2 else at[axis]
        way.append(float(whole + fine))
    if max(abs(way[0]) / a.shape[0], abs(way[1]) / a.shape[1]) > 0.25:
        return 0.0, 0.0
    return way[0], way[1]


def _moved(
    a: Float32[numpy.ndarray, "rows columns"], way: tuple[float, float]
) -> Float32[numpy.ndarray, "rows columns"]:
    rows = numpy.arange(a.shape[0], dtype=numpy.float32) - way[0]
    columns = numpy.arange(a.shape[1], dtype=numpy.float32) - way[1]
    grid = numpy.meshgrid(rows, columns, indexing="ij")
    moved: Float32[numpy.ndarray, "rows columns"] = map_coordinates(
        a, numpy.stack(grid), order=1, mode="nearest"
    )
    return moved


def longest_run(at: Bool[numpy.ndarray, " frames"]) -> tuple[int, int]:
    """First index and length of the longest run of true values."""
    edges = numpy.diff(numpy.concatenate([[0], at.astype(numpy.int64), [0]]))
    starts: Int64[numpy.ndarray, " runs"] = numpy.flatnonzero(edges == 1)
    lengths = numpy.flatnonzero(edges == -1) - starts
    if not len(starts):
        return 0, 0
    best = int(lengths.argmax())
    return int(starts[best]), int(lengths[best])
