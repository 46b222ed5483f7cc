"""A video decoded once, within stated limits: frames spread over its shots, and what changes between frames.

Only containers that hold their own samples are opened, so that a playlist cannot make the decoder fetch
other files; a frame's size is checked before it is decoded; memory does not grow with the length. One
pass watches the beginning frame by frame, and key frames are sought for what follows.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy
from jaxtyping import Float64, Int64, UInt8

from assaymark.provenance.material import Pixels
from assaymark.reports.errors import InputError

FRAMES = 16  # that are kept in full
WATCHED = 600  # frames in a row that are watched, at most
MAX_PIXELS = 40_000_000  # of one frame; 8K has 33 million
_MAX_WATCHED_PIXELS = 1_500_000_000
_KEPT_BYTES = 200 * 2**20
_BROKEN = 64  # packets that may fail before the rest is given up
_ATTACHED_PICTURE = 0x400  # of FFmpeg's dispositions
_KINDS = {1: "I", 2: "P", 3: "B"}  # of FFmpeg's picture types
_SIDE = 320  # of the small frames
_CORNER = 512  # side of the middle part in which noise is measured
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,ogg,mpeg,mpegts,flv,asf,ivf,h264,hevc,m4v,mpegvideo"
)

Small = UInt8[numpy.ndarray, "frames rows columns"]
Series = Float64[numpy.ndarray, " frames"]


@dataclass(frozen=True, kw_only=True)
class Track:
    """What was seen of each frame that was watched, in the order of showing.

    times: seconds from the first frame. kinds: one of I, P, B or ? a frame. coded: bytes of its packet,
    0 where it is not known. small: luminance at most 320 x 240. noise: mean of the finest diagonal
    detail, in grey levels, each detail counted as 8 at most. blocks: step across the edges of 8 x 8
    blocks over the step inside them. change: mean difference to the frame before, in grey levels at
    every fourth pixel; 0 for the first.
    """

    times: Series
    kinds: str
    coded: Int64[numpy.ndarray, " frames"]
    small: Small
    noise: Series
    blocks: Series
    change: Series

    def __len__(self) -> int:
        return len(self.kinds)


@dataclass(frozen=True, kw_only=True)
class Footage:
    """Frames of a video as stored, not turned upright, and the track of those that were watched.

    frames: RGB of 8 bits, in the order of their times (seconds from the first frame). shots: spans
    (from, to) of seconds in the part that was watched. size: width and height. rate: frames a second,
    None where no two frames have different times. seconds: length, as decoded or else as stated.
    turn: degrees clockwise a player turns it by. watched: seconds of the part that was watched.
    notes: what was lost or odd. streams: how many moving pictures the file holds; only the first was watched.
    """

    frames: tuple[Pixels, ...]
    times: tuple[float, ...]
    shots: tuple[tuple[float, float], ...]
    size: tuple[int, int]
    rate: float | None
    seconds: float | None
    codec: str
    pixel_format: str
    turn: int
    watched: float
    track: Track
    notes: tuple[str, ...] = ()
    streams: int = 1


def read_footage(path: Path, frames: int = FRAMES, watched: int = WATCHED) -> Footage:
    """Decode a video; the last one read is kept, so that several detectors share the work.

    Raises InputError where PyAV is missing, the file is no video that can be decoded, or a frame has
    more than 40 million pixels.
    """
    if frames < 1 or watched < 2:
        raise InputError(f"frames={frames}, watched={watched}: at least 1 and 2 are needed")
    try:
        state = path.stat()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    return _read(path, (state.st_mtime_ns, state.st_size), frames, watched)


@lru_cache(maxsize=1)
def _read(path: Path, stamp: tuple[int, int], frames: int, watched: int) -> Footage:
    with opened(path) as container:
        return _Reader(path, container, frames, watched).read()


def opened(path: Path) -> Any:
    """A PyAV container for reading; raises InputError. Shared with what reads the sound."""
    try:
        import av
    except ImportError as error:
        raise InputError(
            "video and its sound are decoded by PyAV, which is not installed: "
            "pip install assaymark[media]"
        ) from error
    try:
        # the demuxers that open other files (hls, concat, dash, image2) are not on the list
        return av.open(
            str(path.resolve()),
            options={
                "format_whitelist": _CONTAINERS,
                "protocol_whitelist": "file",
                "max_pixels": str(MAX_PIXELS),
            },
            metadata_errors="replace",
        )
    except (av.error.FFmpegError, OSError, ValueError, UnicodeError) as error:
        said = getattr(error, "strerror", None) or type(error).__name__
        raise InputError(f"{path} is no video or sound that can be decoded: {said}") from error


@dataclass
class _Reader:
    """The state of one pass."""

    path: Path
    container: Any
    wanted: int
    watched: int
    notes: list[str] = field(default_factory=list)
    broken: int = 0

    def read(self) -> Footage:
        stream = self._stream()
        self._limit(stream)
        track, kept, ended = self._watch(stream)
        times = track.times
        whole = _length(stream, times, ended)
        cut = cuts(track.small)
        shots = tuple(
            (float(times[a]), float(times[b - 1]))
            for a, b in zip((0, *cut), (*cut, len(times)), strict=True)
        )
        span = float(times[-1])
        late = [] if ended else self._later(stream, span, whole)
        near = _chosen(shots, self.wanted - len(late), sorted(kept))
        frames = [(at, _rgb(kept[at])) for at in near] + late
        return Footage(
            frames=tuple(pixels for _, pixels in frames),
            times=tuple(at for at, _ in frames),
            shots=shots,
            size=(int(stream.width), int(stream.height)),
            rate=_rate(times),
            seconds=whole,
            codec=str(stream.codec_context.name),
            pixel_format=str(stream.pix_fmt),
            turn=self.turn,
            watched=span,
            track=track,
            notes=tuple(self._notes(stream, times, ended)),
            streams=self.films,
        )

    def _stream(self) -> Any:
        films = [
            stream
            for stream in self.container.streams.video
            if not stream.disposition.value & _ATTACHED_PICTURE
        ]
        if not films:
            only = "only a cover picture" if self.container.streams.video else "no video stream"
            raise InputError(f"{self.path} has {only}: nothing to watch")
        self.films = len(films)
        if len(films) > 1:
            self.notes.append(f"only the first of {len(films)} video streams was watched")
        return films[0]

    def _limit(self, stream: Any) -> None:
        width, height = int(stream.width or 0), int(stream.height or 0)
        if not 0 < width * height <= MAX_PIXELS or min(width, height) < 16:
            raise InputError(
                f"{self.path} has frames of {width} x {height} pixels: "
                f"at least 16 x 16 and at most {MAX_PIXELS:,} pixels are decoded"
            )
        self.pixels = width * height
        self.watched = min(self.watched, max(2, _MAX_WATCHED_PIXELS // self.pixels))
        fits = max(1, _KEPT_BYTES // (3 * self.pixels))
        if fits < self.wanted:
            self.notes.append(f"only {fits} frames were kept, because each is large")
            self.wanted = fits
        stream.codec_context.thread_count = 1
        # a frame that grows in the middle of the stream fails to decode instead of filling the memory
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}

    def _decoded(self, stream: Any) -> Iterator[Any]:
        """Frames in the order of showing; packets that cannot be decoded are counted and left out."""
        import av

        self.coded: dict[int, int] = {}
        idle = 0
        packets = self.container.demux(stream)
        while self.broken < _BROKEN and idle < 2000:
            try:
                packet = next(packets)
                self.coded[packet.pts if packet.pts is not None else packet.dts] = packet.size
                shown = packet.decode()
            except StopIteration:
                return
            except (av.error.FFmpegError, ValueError, MemoryError):
                self.broken += 1
                continue
            idle = 0 if shown else idle + 1
            if len(self.coded) > 4096:  # those that belong to frames long shown
                self.coded = dict(list(self.coded.items())[-1024:])
            yield from shown

    def _watch(self, stream: Any) -> tuple[Track, dict[float, Any], bool]:
        seen = _Seen(int(stream.width), int(stream.height))
        room = max(self.wanted, min(4 * self.wanted, _KEPT_BYTES // (2 * self.pixels)))
        kept: dict[float, Any] = {}
        regular: list[float] = []
        stride, odd, ended, first, behind = 1, 0, True, None, -1.0
        self.turn = 0
        for frame in self._decoded(stream):
            if (frame.width, frame.height) != (int(stream.width), int(stream.height)):
                odd += 1
                continue
            if len(seen) >= self.watched:
                ended = False
                break
            stated = _seconds(frame, stream)
            first = stated if first is None else first
            at = behind + 1 / 25 if stated is None or first is None else stated - first
            if not behind < at < behind + 86400:  # times that do not grow cannot be ordered
                at = behind + 1e-3 if behind >= 0 else 0.0
            behind = at
            if not len(seen):
                self.turn = -int(getattr(frame, "rotation", 0) or 0) % 360
            fresh = seen.add(frame, at, self.coded.get(frame.pts, 0))
            if (len(seen) - 1) % stride == 0:
                regular.append(at)
                kept[at] = frame
                if len(regular) > room:
                    for old in regular[1::2]:
                        del kept[old]
                    regular, stride = regular[::2], 2 * stride
            elif fresh and len(kept) < len(regular) + room:
                kept[at] = frame
        if not len(seen):
            raise InputError(f"{self.path} has no frame that can be decoded: nothing to watch")
        if odd:
            self.notes.append(f"{odd} frames of another size were left out")
        return seen.track(), kept, ended

    def _later(self, stream: Any, span: float, whole: float | None) -> list[tuple[float, Pixels]]:
        """Key frames spread over what was not watched."""
        import av

        if whole is None or whole <= span or self.wanted < 2:
            return []
        count = min(self.wanted * 3 // 4, max(1, round(self.wanted * (1 - span / whole))))
        start = _start(stream)
        found: dict[float, Pixels] = {}
        stream.codec_context.skip_frame = "NONKEY"
        for i in range(count):
            wish = span + (whole - span) * (i + 0.5) / count
            try:
                self.container.seek(int((wish + start) / stream.time_base), stream=stream)
                frame = next(iter(self.container.decode(stream)))
            except (av.error.FFmpegError, StopIteration, OverflowError, ValueError):
                continue
            at = (_seconds(frame, stream) or 0.0) - start
            if at > span and frame.width * frame.height == self.pixels:
                found.setdefault(at, _rgb(frame))
        return sorted(found.items(), key=lambda entry: entry[0])

    def _notes(self, stream: Any, times: Series, ended: bool) -> Iterator[str]:
        yield from self.notes
        if self.broken:
            yield f"{self.broken} packets could not be decoded"
        if not ended:
            yield f"frame by frame only the first {times[-1]:.1f} s were watched"
        steps = numpy.diff(times)
        if len(steps) and steps.max() > 1.5 * numpy.median(steps):
            yield "the time between frames varies"
        name = str(stream.pix_fmt)
        if "a" in name.replace("gray", "").replace("bayer", "").replace("pal", ""):
            yield f"pixel format {name}: transparency was dropped"
        if any(bits in name for bits in ("10", "12", "14", "16")) and not name.startswith("nv"):
            yield f"pixel format {name}: reduced to 8 bits"
        if self.turn:
            yield f"a player turns it by {self.turn} degrees; it was watched as stored"


class _Seen:
    """Measures of one frame after the other."""

    def __init__(self, width: int, height: int) -> None:
        scale = min(1.0, _SIDE / width, 240 / height)
        self.shape = max(8, int(width * scale)) // 2 * 2, max(8, int(height * scale)) // 2 * 2
        self.rows: list[tuple[float, str, int, float, float, float]] = []
        self.small: list[UInt8[numpy.ndarray, "rows columns"]] = []
        self.before: UInt8[numpy.ndarray, "rows columns"] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, frame: Any, at: float, coded: int) -> bool:
        """Whether the frame looks like the first of a shot."""
        width, height = self.shape
        self.small.append(
            frame.reformat(width, height, "gray", interpolation="AREA").to_ndarray()[
                :height, :width
            ]
        )
        luma = _luma(frame)
        thin = luma[::4, ::4].copy()
        change = 0.0
        if self.before is not None:
            change = float(numpy.abs(thin.astype(numpy.int16) - self.before).mean())
        self.before = thin
        kind = _KINDS.get(int(frame.pict_type), "?")
        noise, blocks = _texture(luma)
        self.rows.append((at, kind, coded, noise, blocks, change))
        return len(self.small) > 1 and _distance(self.small[-2], self.small[-1]) > _CUT

    def track(self) -> Track:
        times, kinds, coded, noise, blocks, change = zip(*self.rows, strict=True)
        return Track(
            times=numpy.array(times),
            kinds="".join(kinds),
            coded=numpy.array(coded, dtype=numpy.int64),
            small=numpy.stack(self.small),
            noise=numpy.array(noise),
            blocks=numpy.array(blocks),
            change=numpy.array(change),
        )


def _luma(frame: Any) -> UInt8[numpy.ndarray, "height width"]:
    """The stored plane of luminance where it has 8 bits, else a conversion to grey."""
    name = frame.format.name
    if not name.startswith(("yuv4", "yuvj4", "yuva4", "nv", "gray")) or name[-1] in "bel" or (
        any(bits in name for bits in ("p9", "p1", "gray1", "gray9"))
    ):  # fmt: skip
        frame = frame.reformat(format="gray")
    plane = frame.planes[0]
    rows = numpy.frombuffer(plane, numpy.uint8)
    return rows[: plane.line_size * frame.height].reshape(frame.height, plane.line_size)[
        :, : frame.width
    ]


def _texture(luma: UInt8[numpy.ndarray, "height width"]) -> tuple[float, float]:
    """Noise and strength of the blocks, in the middle of the frame (see Track)."""
    height, width = luma.shape
    top, left = ((side - min(side, _CORNER)) // 2 // 8 * 8 for side in (height, width))
    part = luma[top : top + min(height, _CORNER), left : left + min(width, _CORNER)]
    part = part[: part.shape[0] // 8 * 8, : part.shape[1] // 8 * 8].astype(numpy.int16)
    even, odd = part[::2], part[1::2]
    detail = even[:, ::2] - even[:, 1::2] - odd[:, ::2] + odd[:, 1::2]
    noise = float(numpy.minimum(numpy.abs(detail), 16).mean()) / 2
    steps = numpy.abs(numpy.diff(part[::4], axis=1))
    edges = float(steps[:, 7::8].mean()) if steps.shape[1] > 8 else 0.0
    inside = float(steps[:, 3::8].mean())
    return noise, (edges + 0.1) / (inside + 0.1)


_CUT = 0.30  # of the distance; pans by a tenth of the width a frame stay below


def _distance(
    a: UInt8[numpy.ndarray, "rows columns"], b: UInt8[numpy.ndarray, "rows columns"]
) -> float:
    """Half the L1 distance of 16-level histograms, mean over 4 x 4 parts; in [0, 1]."""
    return float(numpy.abs(_histograms(a) - _histograms(b)).sum(axis=1).mean() / 2)


def _histograms(small: UInt8[numpy.ndarray, "rows columns"]) -> Float64[numpy.ndarray, "16 16"]:
    rows, columns = (side // 4 * 4 for side in small.shape)
    levels = small[:rows, :columns] >> 4
    parts = levels.reshape(4, rows // 4, 4, columns // 4).transpose(0, 2, 1, 3).reshape(16, -1)
    index = parts + numpy.arange(16, dtype=numpy.uint16)[:, None] * 16
    counts = numpy.bincount(index.ravel(), minlength=256).reshape(16, 16)
    return counts / parts.shape[1]


def cuts(small: Small) -> tuple[int, ...]:
    """Indices of the frames that begin a shot, the first one left out.

    A cut changes the local histograms by more than the motion around it does, and the picture does not
    come back in the next frames, as it does after a flash (Hanjalic 2002, section III).
    """
    told = numpy.stack([_histograms(frame) for frame in small])
    step = numpy.abs(told[1:] - told[:-1]).sum(axis=2).mean(axis=1) / 2
    found: list[int] = []
    for i in map(int, numpy.flatnonzero(step > _CUT)):
        around = numpy.concatenate([step[max(0, i - 8) : i], step[i + 1 : i + 9]])
        usual = float(numpy.median(around)) if len(around) else 0.0
        after = told[i + 5 if i + 5 < len(told) else -1]
        back = numpy.abs(told[max(0, i - 3) : i + 1] - after).sum(axis=2).mean(axis=1).min() / 2
        if step[i] > 2.5 * usual and back > _CUT / 2:
            found.append(i + 1)
    return tuple(found)


def _chosen(shots: tuple[tuple[float, float], ...], count: int, times: list[float]) -> list[float]:
    """Times spread over the shots by their lengths, at least one a shot as far as they go."""
    longest = sorted(shots, key=lambda shot: shot[0] - shot[1])[:count]
    lengths = [max(end - start, 1e-3) for start, end in longest]
    shares = [1] * len(longest)
    while sum(shares) < count:
        poorest = max(range(len(shares)), key=lambda i: lengths[i] / shares[i])
        shares[poorest] += 1
    wishes = sorted(
        (start + (end - start) * (i + 0.5) / share, start, end)
        for (start, end), share in zip(longest, shares, strict=True)
        for i in range(share)
    )
    chosen: list[float] = []
    for wish, start, end in wishes:
        left = [at for at in times if at not in chosen]
        if left:
            inside = [at for at in left if start <= at <= end]
            chosen.append(min(inside or left, key=lambda at: abs(at - wish)))
    return sorted(chosen)


def _rgb(frame: Any) -> Pixels:
    pixels: Pixels = frame.to_ndarray(format="rgb24")
    return pixels


def _seconds(frame: Any, stream: Any) -> float | None:
    return None if frame.pts is None else float(frame.pts * (frame.time_base or stream.time_base))


def _start(stream: Any) -> float:
    return float((stream.start_time or 0) * (stream.time_base or Fraction(1)))


def _rate(times: Series) -> float | None:
    steps = numpy.diff(times)
    steps = steps[steps > 0]
    if not len(steps):
        return None
    return float(1 / numpy.median(steps))


def _length(stream: Any, times: Series, ended: bool) -> float | None:
    """Seconds: counted where all was decoded, else what the file states, if it can be so."""
    if ended:
        return float(times[-1] + (numpy.median(numpy.diff(times)) if len(times) > 1 else 0.0))
    stated = stream.duration and float(stream.duration * stream.time_base)
    if not stated and stream.container.duration:
        stated = stream.container.duration / 1e6
    return stated if stated and math.isfinite(stated) and times[-1] <= stated < 1e6 else None
