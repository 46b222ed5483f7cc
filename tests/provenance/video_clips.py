"""Clips made from still pictures: a camera that pans, zooms and shakes, and what is done to them.

Motion, cuts, repeats and re-timing are known exactly, so that detectors are tested against them.
"""

import io
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

Frames = list[NDArray[numpy.uint8]]


@cache
def texture(seed: int, side: int = 400) -> Image.Image:
    """A picture with detail at every scale (amplitude falls with frequency), as photographs have."""
    random = numpy.random.default_rng(seed)
    y, x = numpy.fft.fftfreq(side)[:, None], numpy.fft.rfftfreq(side)[None, :]
    fall = 1 / numpy.maximum(numpy.hypot(x, y), 1 / side)
    grey = numpy.fft.irfft2(numpy.fft.rfft2(random.normal(size=(side, side))) * fall, (side, side))
    tint = numpy.stack([numpy.roll(grey, 60 * k, axis=0) for k in (1, 2, 3)], axis=2)
    pixels = 120 + (32 * grey[:, :, None] + 15 * tint) / grey.std()
    return Image.fromarray(numpy.clip(pixels, 0, 255).astype(numpy.uint8))


def pan(
    picture: Image.Image,
    count: int,
    seed: int = 0,
    *,
    size: tuple[int, int] = (192, 144),
    speed: float = 1.2,
    shake: float = 0.3,
    noise: float = 2.0,
    drift: float = 0.03,
    mover: Image.Image | None = None,
) -> Frames:
    """`count` frames of a camera that pans by `speed` pixels a frame, zooms, and shakes.

    noise: standard deviation in grey levels, fresh in every frame. drift: of the exposure. mover: a
    picture of which an ellipse moves through the view.
    """
    random = numpy.random.default_rng(seed)
    width, height = size
    scale = max(1.0, 1.6 * width / picture.width, 1.6 * height / picture.height)
    whole = picture.resize((round(picture.width * scale), round(picture.height * scale)))
    room = numpy.array([whole.width - 1.1 * width, whole.height - 1.1 * height])
    at, angle = room * random.uniform(0.3, 0.7, 2), random.uniform(0, 2 * numpy.pi)
    way = speed * numpy.array([numpy.cos(angle), numpy.sin(angle)])
    zoom, phase = random.uniform(-0.0008, 0.0008), random.uniform(0, 6)
    trembling = gaussian_filter(random.normal(size=(count, 2)), (1.0, 0)) * 2 * shake
    frames: Frames = []
    for i in range(count):
        if (
            (at + way < 0) | (at + way > room)
        ).any():  # on by another way: nobody pans back the same
            angle = numpy.arctan2(*(room / 2 - at)[::-1]) + random.uniform(-0.7, 0.7)
            way = (
                speed * random.uniform(0.6, 1.4) * numpy.array([numpy.cos(angle), numpy.sin(angle)])
            )
        at = at + way
        grown = 1 + 0.05 * (1 + numpy.sin(phase + 40 * zoom * i)) / 2
        left, top = numpy.clip(at + trembling[i], 0, room)
        box = (left, top, left + width * grown, top + height * grown)
        view = whole.resize(size, Image.Resampling.BICUBIC, box=box)
        if mover is not None:
            _paste(view, mover, i, seed)
        gain = 1 + drift * numpy.sin(phase + i / 15)
        pixels = numpy.asarray(view) * gain + random.normal(0, noise, (height, width, 3))
        frames.append(numpy.clip(pixels, 0, 255).astype(numpy.uint8))
    return frames


def _paste(view: Image.Image, mover: Image.Image, i: int, seed: int) -> None:
    side = view.height // 2
    patch = mover.resize((side, side))
    row, column = numpy.ogrid[:side, :side]
    disc = (row - side / 2) ** 2 + (column - side / 2) ** 2 < (side / 2 - 2) ** 2
    x = round(view.width / 2 + view.width / 3 * numpy.sin(seed + i / 20)) - side // 2
    y = round(view.height / 2 + view.height / 6 * numpy.cos(seed + i / 27)) - side // 2
    view.paste(patch, (x, y), Image.fromarray((255 * disc).astype(numpy.uint8)))


def encode(
    frames: Sequence[NDArray[numpy.uint8]],
    *,
    codec: str = "libx264",
    container: str = "mp4",
    rate: int = 25,
    pixel_format: str = "yuv420p",
    times: Sequence[int] | None = None,
    sound: NDArray[numpy.int16] | None = None,
    **options: str,
) -> bytes:
    """A video; `times` are ticks of 1/rate seconds, one by one where they are not given; sound of 16 kHz."""
    stream = io.BytesIO()
    with av.open(stream, "w", format=container) as output:
        film = output.add_stream(codec, rate=rate)
        assert isinstance(film, av.VideoStream)
        film.height, film.width = frames[0].shape[:2]
        film.pix_fmt = pixel_format
        film.codec_context.thread_count = 1
        film.options = {"preset": "veryfast"} | options if codec == "libx264" else options
        track = output.add_stream("aac", rate=16000, layout="mono") if sound is not None else None
        for i, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = i if times is None else times[i]
            frame.time_base = Fraction(1, rate)
            output.mux(film.encode(frame))
        output.mux(film.encode())
        if sound is not None and isinstance(track, av.AudioStream):
            heard = av.AudioFrame.from_ndarray(sound[None, :], format="s16", layout="mono")
            heard.sample_rate = 16000
            resampler = av.AudioResampler(track.format, "mono", 16000, track.frame_size or None)
            for part in (*resampler.resample(heard), *resampler.resample(None)):
                output.mux(track.encode(part))
            output.mux(track.encode())
    return stream.getvalue()


def decode(data: bytes) -> Frames:
    """All frames of a video, as RGB."""
    with av.open(io.BytesIO(data)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def write(folder: Path, data: bytes, name: str = "clip.mp4") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def frozen(frames: Frames, at: int, count: int) -> Frames:
    """The frame `at` is held for `count` more frames."""
    return frames[:at] + [frames[at]] * count + frames[at:]


def repeated(frames: Frames, at: int, count: int, later: int) -> Frames:
    """Frames [at, at + count) are shown again in the place of those at `later`."""
    return frames[:later] + frames[at : at + count] + frames[later + count :]


def dropped(frames: Frames, at: int, count: int) -> Frames:
    """`count` frames from `at` on are left out."""
    return frames[:at] + frames[at + count :]


def each(
    frames: Frames, change: Callable[[NDArray[numpy.float64], int], NDArray[numpy.float64]]
) -> Frames:
    """Every frame goes through `change` on its own."""
    return [
        numpy.clip(change(frame.astype(numpy.float64), i), 0, 255).astype(numpy.uint8)
        for i, frame in enumerate(frames)
    ]


def flickering(frames: Frames, seed: int, strength: float = 3.0) -> Frames:
    """A decoder that draws every frame on its own: smooth errors that differ from frame to frame."""
    random = numpy.random.default_rng(seed)

    def change(frame: NDArray[numpy.float64], i: int) -> NDArray[numpy.float64]:
        error = gaussian_filter(random.normal(size=frame.shape[:2]), 6)
        changed: NDArray[numpy.float64] = frame + strength * (error / error.std())[:, :, None]
        return changed

    return each(frames, change)
