"""The sound of a file as mono samples of one rate, decoded block by block within stated limits.

Files are hostile: rates, channels and lengths are checked before anything is allocated, containers that
can name other files are not opened, and every failure to decode is an InputError. WAV of whole numbers is
read by the standard library; everything else by PyAV (`pip install assaymark[media]`).
"""

import wave
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import numpy
from jaxtyping import Float32
from scipy.signal import firwin, resample_poly

from assaymark.reports.errors import InputError

RATE = 16000  # Hz of the samples that detectors see
MAX_SECONDS = 600.0  # of a file this much is kept
MAX_CHANNELS = 64
RATES = (4000, 384_000)  # Hz, of what is stored
FULL = 0.999  # a sample at or above this is clipped
_FRAMES = 65536  # stored samples of a channel that are read at a time
# Containers of media alone: a playlist or a list of parts would open other files.
_CONTAINERS = (
    "wav,w64,mp3,flac,ogg,mov,mp4,m4a,matroska,webm,avi,aac,aiff,au,caf,amr,flv,asf,mpeg,mpegts"
)
_ATTACHED_PICTURE = 0x400  # of FFmpeg's dispositions: a cover
_LOSSLESS = ("pcm_", "flac", "alac", "wavpack", "tta", "ape")

Samples = Float32[numpy.ndarray, " samples"]


@dataclass(frozen=True, kw_only=True)
class Sound:
    """samples: mono (the mean of the channels) in [-1, 1], at `rate` Hz; what lies behind the limit is cut.

    stored_rate, channels, codec: as stored; bits: of a stored sample, 0 for lossy codecs. seconds: what the
    file holds, None where that is unknown because it was cut. bandwidth: Hz up to which there is sound
    (see `bandwidth_of`), 0 for silence. level: root mean square of the loud frames in decibels below full
    scale, None for silence. clipping: share of the stored samples at full scale, in [0, 1]. notes: what was
    lost or looked odd, in words. unheard: parts that a player plays and that are not in `samples`, in words;
    films: how many moving pictures the file holds beside it.
    """

    samples: Samples
    rate: int
    stored_rate: int
    channels: int
    codec: str
    bits: int
    seconds: float | None
    bandwidth: float
    level: float | None
    clipping: float
    notes: tuple[str, ...] = ()
    unheard: tuple[str, ...] = ()
    films: int = 0

    @property
    def read_seconds(self) -> float:
        """How much of the file is in `samples`."""
        return len(self.samples) / self.rate


def read_sound(path: Path, *, rate: int = RATE, seconds: float = MAX_SECONDS) -> Sound:
    """Decode the first sound track of a file of sound or video, at most its first `seconds`.

    Raises InputError for a file without sound, with more than 64 channels, with a rate outside 4 to
    384 kHz, or that cannot be decoded at all. A file that breaks off is read as far as it goes, and noted.
    """
    sound = sound_track(path, rate=rate, seconds=seconds)
    if sound is None:
        raise InputError(f"{path} holds no sound: give a file with a sound track")
    return sound


def sound_track(path: Path, *, rate: int = RATE, seconds: float = MAX_SECONDS) -> Sound | None:
    """The same, and None where a file that can be opened (a film, say) has no sound track."""
    stored = _Stored()
    parts, room = [], round(seconds * rate)
    with closing(_resampled(path, stored, rate)) as blocks:
        for block in blocks:
            parts.append(block[:room])
            room -= len(block)
            if room <= 0:
                stored.notes.append(f"only the first {seconds:g} s were looked at")
                break
    if stored.rate == 0:
        return None
    samples = numpy.concatenate([numpy.zeros(0, numpy.float32), *parts])
    return Sound(
        samples=samples,
        rate=rate,
        stored_rate=stored.rate,
        channels=stored.channels,
        codec=stored.codec,
        bits=stored.bits,
        seconds=None if room <= 0 else stored.count / stored.rate,
        bandwidth=bandwidth_of(samples, rate),
        level=level_of(samples, rate),
        clipping=stored.clipped / max(stored.count, 1),
        notes=(*stored.notes, *stored.unheard),
        unheard=tuple(stored.unheard),
        films=stored.films,
    )


def sound_blocks(path: Path, *, rate: int = RATE) -> Generator[Samples]:
    """The samples in blocks of a few seconds, so that a file of any length needs the same memory.

    Raises InputError like `read_sound`, also for a file without sound; close the iterator to stop early.
    """
    stored = _Stored()
    yield from _resampled(path, stored, rate)
    if stored.rate == 0:
        raise InputError(f"{path} holds no sound: give a file with a sound track")


def loud_frames(
    samples: Samples, rate: int, within: float = 40.0
) -> Float32[numpy.ndarray, "frames length"]:
    """Frames of 32 ms whose energy lies within so many decibels of the loudest; none where all are silent."""
    length = rate * 32 // 1000
    frames = samples[: len(samples) // length * length].reshape(-1, length)
    energy = numpy.square(frames).mean(1)
    top = float(energy.max(initial=0.0))
    loud: Float32[numpy.ndarray, "frames length"] = frames[energy > top * 10 ** (-within / 10)]
    return loud if top > 1e-10 else frames[:0]


def level_of(samples: Samples, rate: int) -> float | None:
    """Root mean square of the loud frames, in decibels relative to full scale; None for silence."""
    loud = loud_frames(samples, rate)
    return 10 * float(numpy.log10(numpy.square(loud).mean())) if len(loud) else None


def bandwidth_of(samples: Samples, rate: int) -> float:
    """Hz below which the loud frames hold sound: the upper edge of the highest band of 125 Hz whose mean
    power is within 62 dB of the strongest band's, twice that of the quiet frames, and 9 dB above the noise
    of quantisation to 16 bits (a variance of 1/12 step); 0 for silence.
    """
    length = rate * 32 // 1000
    frames = samples[: len(samples) // length * length].reshape(-1, length)
    energy = numpy.square(frames).mean(1)
    top = float(energy.max(initial=0.0))
    if top <= 1e-10:
        return 0.0
    loud = energy > top * 1e-3
    quiet = energy <= numpy.quantile(energy, 0.05)
    bands = _bands(frames[loud], rate)
    floor = _bands(frames[quiet & ~loud], rate) if (quiet & ~loud).any() else 0.0 * bands
    rounding = 8 * float(numpy.square(_window(length)).sum()) / 12 / 2**30
    held = numpy.flatnonzero(
        (bands > bands.max() * 10**-6.2) & (bands > 2 * floor) & (bands > rounding)
    )
    return float((held[-1] + 1) * rate / 2 / len(bands)) if len(held) else 0.0


def _window(length: int) -> Samples:
    """Blackman's, whose side lobes begin at -58 dB and fall."""
    window: Samples = numpy.blackman(length).astype(numpy.float32)
    return window


def _bands(frames: Float32[numpy.ndarray, "frames length"], rate: int) -> numpy.ndarray[Any, Any]:
    """Mean power in bands of 125 Hz, from the bottom."""
    window = _window(frames.shape[1])
    power: numpy.ndarray[Any, Any] = numpy.zeros(frames.shape[1] // 2 + 1)
    for i in range(0, len(frames), 256):
        power += numpy.square(numpy.abs(numpy.fft.rfft(frames[i : i + 256] * window))).sum(0)
    per = max(1, round(125 * frames.shape[1] / rate))
    count = len(power) // per
    bands: numpy.ndarray[Any, Any] = power[: count * per].reshape(count, per).mean(1) / len(frames)
    return bands


@dataclass(kw_only=True)
class _Stored:
    """What is known of the file, filled while it is decoded; rate 0: it has no sound."""

    rate: int = 0
    channels: int = 0
    codec: str = ""
    bits: int = 0
    count: int = 0  # samples of one channel
    clipped: int = 0
    power: float = 0.0  # of the channels, to notice that they cancel
    mixed: float = 0.0  # of their mean
    notes: list[str] = field(default_factory=list)
    unheard: list[str] = field(default_factory=list)
    films: int = 0

    def begins(self, path: Path, rate: int, channels: int) -> None:
        if not RATES[0] <= rate <= RATES[1]:
            raise InputError(
                f"{path} has {rate:,} samples a second: {RATES[0]:,} to {RATES[1]:,} are read"
            )
        if not 1 <= channels <= MAX_CHANNELS:
            raise InputError(f"{path} has {channels:,} channels: 1 to {MAX_CHANNELS} are read")
        self.rate, self.channels = rate, channels

    def mono(self, channels: Float32[numpy.ndarray, "channels samples"]) -> Samples:
        """The mean of the channels; counts what `Sound` reports."""
        if not numpy.isfinite(channels).all():
            channels = numpy.nan_to_num(channels, posinf=1.0, neginf=-1.0)
            self._once("samples that are no numbers were set to zero or full scale")
        loudest = numpy.abs(channels).max(0, initial=0.0)
        self.count += channels.shape[1]
        self.clipped += int((loudest >= FULL).sum())
        mono: Samples = numpy.clip(channels, -1, 1).mean(0, dtype=numpy.float32)
        self.power += float(numpy.square(numpy.clip(channels, -1, 1)).mean(0).sum())
        self.mixed += float(numpy.square(mono).sum())
        return mono

    def ends(self) -> None:
        if self.mixed < 0.02 * self.power:
            self._once("the channels cancel each other: what was looked at is their faint sum")

    def damaged(self) -> None:
        self._once("parts of the file are damaged and were skipped")

    def _once(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)


def _resampled(path: Path, stored: _Stored, rate: int) -> Generator[Samples]:
    """Blocks at `rate`, without seams: a block is filtered together with the edges of its neighbours."""
    resampler = None
    with closing(_decoded(path, stored)) as blocks:
        for block in blocks:
            resampler = resampler or _Resampler(stored.rate, rate)
            ready = resampler.take(block)
            if len(ready):
                yield ready
    if resampler is not None:
        stored.ends()
        yield resampler.rest()


class _Resampler:
    """Polyphase resampling of a stream. Positions count stored samples and are whole steps of the ratio."""

    def __init__(self, stored: int, wanted: int) -> None:
        # A ratio of small numbers keeps the filter short, and moves pitch by less than 1 part in 10^7.
        ratio = Fraction(wanted, stored).limit_denominator(5000)
        self._up, self._down = ratio.numerator, ratio.denominator
        steps = max(self._up, self._down)
        # 16 zero crossings a side and 80 dB: an image above the edge of a narrow band would look like sound.
        self._taps = (
            firwin(32 * steps + 1, 0.94 / steps, window=("kaiser", 8.0)) if steps > 1 else None
        )
        self._margin = -(-17 * steps // (self._up * self._down)) * self._down
        self._held: Samples = numpy.zeros(0, numpy.float32)
        self._from = self._done = 0

    def take(self, block: Samples) -> Samples:
        """What can be given out now that this block is there."""
        self._held = numpy.concatenate([self._held, block])
        end = self._from + len(self._held)
        usable = (end - self._margin - self._done) // self._down * self._down
        if usable <= 0:
            return self._held[:0]
        given = self._between(self._done, self._done + usable)
        self._done += usable
        start = max(self._from, self._done - self._margin)
        self._held, self._from = self._held[start - self._from :], start
        return given

    def rest(self) -> Samples:
        return self._between(self._done, None)

    def _between(self, start: int, end: int | None) -> Samples:
        if self._taps is None:
            whole = self._held
        else:
            whole = (
                resample_poly(self._held, self._up, self._down, window=self._taps)
                if len(self._held)
                else self._held
            )
        begin = (start - self._from) // self._down * self._up
        stop = None if end is None else (end - self._from) // self._down * self._up
        part: Samples = numpy.clip(whole[begin:stop], -1, 1).astype(numpy.float32)
        return part


def _decoded(path: Path, stored: _Stored) -> Generator[Samples]:
    """Mono blocks at the stored rate; nothing where the file has no sound."""
    try:
        stream = path.open("rb")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    with stream:
        reader = _wave(stream)
        if reader is None:
            stream.seek(0)
            yield from _by_av(path, stream, stored)
        else:
            yield from _by_wave(path, reader, stored)


def _wave(stream: BinaryIO) -> wave.Wave_read | None:
    """A reader where the file is WAV of whole numbers; its header alone has been looked at."""
    if stream.read(12)[8:] != b"WAVE":
        return None
    stream.seek(0)
    try:
        return wave.open(stream, "rb")
    except (wave.Error, EOFError, ValueError, OverflowError, ZeroDivisionError):
        return None


def _by_wave(path: Path, reader: wave.Wave_read, stored: _Stored) -> Iterator[Samples]:
    width, channels = reader.getsampwidth(), reader.getnchannels()
    stored.begins(path, reader.getframerate(), channels)
    stored.codec, stored.bits = f"pcm {8 * width} bit", 8 * width
    stated = reader.getnframes()
    while data := reader.readframes(min(_FRAMES, stated - stored.count)):
        whole = len(data) // (width * channels) * width * channels
        if whole == 0:
            break
        yield stored.mono(_floats(data[:whole], width).reshape(-1, channels).T)
    if stored.count < stated:
        stored.notes.append(
            f"the file breaks off after {stored.count / stored.rate:.2f} of {stated / stored.rate:.2f} s"
        )


def _floats(data: bytes, width: int) -> Samples:
    """Little-endian whole numbers of 1 (without sign) to 4 bytes, in [-1, 1)."""
    if width == 1:
        return numpy.frombuffer(data, numpy.uint8).astype(numpy.float32) / 128 - 1
    if width == 3:
        padded = numpy.zeros((len(data) // 3, 4), numpy.uint8)
        padded[:, 1:] = numpy.frombuffer(data, numpy.uint8).reshape(-1, 3)
        data, width = padded.tobytes(), 4
    floats: Samples = numpy.frombuffer(data, f"<i{width}").astype(numpy.float32)
    return floats / 2.0 ** (8 * width - 1)


def _by_av(path: Path, stream: BinaryIO, stored: _Stored) -> Iterator[Samples]:
    try:
        import av
    except ImportError as error:
        raise InputError(
            f"{path}: sound other than WAV is decoded by PyAV: pip install assaymark[media]"
        ) from error
    try:
        with av.open(stream, options={"format_whitelist": _CONTAINERS}) as container:
            if not container.streams.audio:
                return
            track = container.streams.audio[0]
            codec = track.codec_context
            if codec is None:
                raise InputError(f"{path} has sound of a codec that is not known here")
            others = len(container.streams.audio) - 1
            if others:
                stored.unheard.append(
                    f"only the first of {others + 1} sound tracks was looked at: a player may choose another"
                )
            stored.begins(path, int(codec.sample_rate or 0), int(codec.channels or 0))
            stored.codec = codec.name
            stored.films = sum(
                not film.disposition.value & _ATTACHED_PICTURE for film in container.streams.video
            )
            if codec.name.startswith(_LOSSLESS) and codec.format is not None:
                stored.bits = int(codec.format.bits)
            yield from _frames(container, track, stored)
    except InputError:
        raise
    except (av.FFmpegError, ValueError, OverflowError, MemoryError, EOFError) as error:
        if stored.count == 0:
            said = getattr(error, "strerror", None) or str(error)
            raise InputError(f"{path} is no sound that can be decoded: {said}") from error
        stored.notes.append(
            f"the file breaks off after {stored.count / stored.rate:.2f} s: {error}"
        )


def _frames(container: Any, track: Any, stored: _Stored) -> Iterator[Samples]:
    """Blocks of the decoder's frames; a packet that cannot be decoded is skipped and noted."""
    import av

    waiting: list[Samples] = []
    for packet in container.demux(track):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            stored.damaged()
            continue
        for frame in frames:
            if frame.sample_rate != stored.rate:
                stored.unheard.append(
                    f"the rate changes to {frame.sample_rate:,} Hz after {stored.count / stored.rate:.2f} s: "
                    "what follows was not looked at"
                )
                yield from waiting
                return
            waiting.append(stored.mono(_of_frame(frame)))
        if sum(map(len, waiting)) >= _FRAMES:
            yield numpy.concatenate(waiting)
            waiting = []
    yield from waiting


def _of_frame(frame: Any) -> Float32[numpy.ndarray, "channels samples"]:
    values = frame.to_ndarray()
    if not frame.format.is_planar:
        values = values.reshape(-1, len(frame.layout.channels)).T
    kind = values.dtype
    floats: Float32[numpy.ndarray, "channels samples"] = values.astype(numpy.float32)
    if kind == numpy.uint8:
        floats -= 128
    return (
        floats
        if kind.kind == "f"
        else floats / (128.0 if kind.itemsize == 1 else 2.0 ** (8 * kind.itemsize - 1))
    )
