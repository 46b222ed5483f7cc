"""What speech detectors measure: linear frequency cepstra, and traits of vocoders, on the loud frames alone.

Nothing here depends on gain or on silence around the speech: frames are chosen by their level relative to
the clip's own, powers have a floor relative to it, and the zeroth coefficient is left out.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy
from jaxtyping import Float32, Float64
from numpy.lib.stride_tricks import sliding_window_view
from scipy.fft import dct, ifft, irfft, rfft
from scipy.signal import lfilter

from assaymark.provenance.sound import RATE, Samples

NARROW = 3600.0  # Hz: telephone speech holds this much
WIDE = 7000.0  # Hz: below the edges of MP3, AAC and G.722 at low rates
FRAME, HOP, FFT = 320, 160, 512  # samples: 20 ms every 10 ms
FILTERS = 20
LOUD = 35.0  # dB below the loudest frames that still count as speech
_FLOOR = 1e-7  # of the mean power of the loud frames
_LONG, _STEP = 640, 320  # frames of the traits: 40 ms every 20 ms
_LAGS = (40, 200)  # samples: 400 to 80 Hz
_ORDER = 16  # of linear prediction
# Hz; the first two are in any telephone call.
BANDS = ((300.0, 1500.0), (1500.0, 3400.0), (3400.0, 5000.0), (5000.0, 7000.0))
_OF_BAND = (
    "periodicity", "periodicity_spread", "periodicity_high", "flatness", "flatness_spread",
    "holes", "peaks", "fast_modulation", "pitch_modulation", "modulation_depth", "change", "change_spread",
)  # fmt: skip
_OF_RESIDUAL = (
    "residual_kurtosis", "residual_kurtosis_spread", "residual_skew", "residual_skew_spread",
    "residual_crest", "prediction_gain", "prediction_gain_spread", "jitter", "pitch_spread", "even_phase",
)  # fmt: skip

_HANN = numpy.hanning(_LONG).astype(numpy.float32)

Vector = Float64[numpy.ndarray, " features"]
Frames = Float32[numpy.ndarray, "frames coefficients"]


def lfcc(samples: Samples, *, top: float, rate: int = RATE) -> Float64[numpy.ndarray, "frames 60"]:
    """Linear frequency cepstral coefficients, their deltas and the deltas' deltas.

    After Sahidullah, Kinnunen and Hanilci, "A comparison of features for synthetic speech detection"
    (Interspeech 2015), section 2, and the program of its authors: pre-emphasis 0.97, 20 ms Hamming frames
    that overlap by half, the power of an FFT of 512 in 20 triangular filters of equal width from 0 Hz to
    `top`, log10, DCT-II, all 20 coefficients; deltas over 3 frames on either side, not normalised. What
    differs: `top` may lie below half the rate, and the floor under the logarithm is relative to the clip.
    """
    emphasised = lfilter([1.0, -0.97], [1.0], samples)
    frames = sliding_window_view(emphasised, FRAME)[::HOP] * numpy.hamming(FRAME)
    power = numpy.square(numpy.abs(rfft(frames, FFT, axis=1)))
    bands = power @ _filters(top, rate).T
    static = dct(numpy.log10(bands + floor_of(bands)), type=2, norm="ortho", axis=1)
    delta = _deltas(static)
    whole: Float64[numpy.ndarray, "frames 60"] = numpy.concatenate(
        [static, delta, _deltas(delta)], 1
    )
    return whole


def floor_of(power: numpy.ndarray[Any, Any]) -> float:
    """A ten-millionth of the mean power of the frames within 35 dB of the loudest; never zero."""
    total = power.mean(1)
    loud = total[total >= total.max(initial=0.0) * 10 ** (-LOUD / 10)]
    return _FLOOR * float(loud.mean()) + 1e-30 if len(loud) else 1e-30


@cache
def _filters(top: float, rate: int) -> Float64[numpy.ndarray, "filters bins"]:
    edges = numpy.linspace(0, top, FILTERS + 2)
    bins = numpy.linspace(0, rate / 2, FFT // 2 + 1)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return numpy.maximum(0.0, numpy.minimum(rising, falling))


def _deltas(values: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any]:
    padded = numpy.pad(values, ((3, 3), (0, 0)), mode="edge")
    count = len(values)
    return sum((k * padded[3 + k : 3 + k + count] for k in range(-3, 4)), numpy.zeros_like(values))


def loud(samples: Samples, length: int, hop: int) -> numpy.ndarray[Any, Any]:
    """Which frames lie within 35 dB of the 95th percentile of those that are no silence."""
    frames = sliding_window_view(samples, length)[::hop]
    energy = numpy.square(frames).mean(1)
    sounding = energy[energy > energy.max(initial=0.0) * 1e-5]
    if not len(sounding):
        return numpy.zeros(len(energy), bool)
    chosen: numpy.ndarray[Any, Any] = energy > numpy.quantile(sounding, 0.95) * 10 ** (-LOUD / 10)
    return chosen


def speech_frames(samples: Samples, *, top: float = NARROW) -> Frames:
    """What the network sees: the 59 coefficients that do not depend on gain, of the loud frames."""
    chosen = loud(samples, FRAME, HOP)
    frames: Frames = lfcc(samples, top=top)[chosen][:, 1:].astype(numpy.float32)
    return frames


def statistics(samples: Samples, *, top: float) -> Vector:
    """Logarithms of the standard deviations of the 59 coefficients over the loud frames.

    Their means are left out: they are the channel's, that is the corpus's; the spreads are the speech's.
    """
    frames = speech_frames(samples, top=top).astype(numpy.float64)
    spread: Vector = numpy.log(frames.std(0) + 1e-3)
    return spread


def trait_names(bands: int) -> tuple[str, ...]:
    """The names of what `vocoder_traits` gives, in order."""
    of_bands = tuple(f"{name}_{band}" for band in range(1, bands + 1) for name in _OF_BAND)
    return of_bands + _OF_RESIDUAL


def vocoder_traits(samples: Samples, *, bands: int) -> Vector:
    """Numbers in which vocoders differ from throats, over the loud frames; NaN-free, gain-free.

    Per band of `BANDS`: how periodic the band's sound is at the pitch (mean, spread, upper decile: vocoders
    keep the upper harmonics too regular or too noisy), spectral flatness, the share of bins far below and
    far above their neighbours (holes of iterated phase, lines of sinusoidal models), how much the envelope
    moves faster than a frame and at the pitch, and how much the spectrum changes from frame to frame. Of
    the residual of linear prediction: kurtosis, skewness, crest, gain, jitter of the pitch, and how alike
    the residual is to itself reversed (minimum-phase pulses are not). `samples` hold at least 0.5 s of sound.
    """
    chosen = loud(samples, _LONG, _STEP)
    frames = sliding_window_view(samples.astype(numpy.float32), _LONG)[::_STEP][chosen]
    frames = frames / numpy.sqrt(numpy.square(frames).mean(1, keepdims=True) + 1e-20)
    power = numpy.square(numpy.abs(rfft(frames * _HANN, 2 * _LONG, axis=1)))
    lag, voiced = _pitch(power)
    rows = [_of_band(samples, frames, power, lag, voiced, chosen, band) for band in BANDS[:bands]]
    traits: Vector = numpy.nan_to_num(numpy.concatenate([*rows, _of_residual(frames, lag, voiced)]))
    return traits


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """How much a clip is like speech. seconds: of loud frames. voiced: share of these with a pitch.

    movement: standard deviation of the level in dB (music is steadier). change: mean change of the logarithm
    of the spectrum from one 20 ms to the next, in nepers (music and tones change less).
    """

    seconds: float
    voiced: float
    movement: float
    change: float

    @property
    def not_speech(self) -> str | None:
        """Why the clip is not taken for speech, None where it is.

        The limits lie outside all of 64 recordings and 39 synthetic voices, and exclude 14 of 14 pieces of
        music, noise and tones.
        """
        if self.seconds < 1.0:
            return f"only {self.seconds:.1f} s of it are loud enough: at least 1 s is needed"
        if self.voiced < 0.15:
            return f"only {self.voiced:.0%} of it has a pitch: noise rather than speech"
        if self.movement < 2.5 or self.change < 0.87:
            return "its level or spectrum is steadier than speech: music or a tone"
        return None


def likeness(samples: Samples) -> Likeness:
    """Measure a clip of at least 40 ms."""
    chosen = loud(samples, _LONG, _STEP)
    if chosen.sum() < 3:
        return Likeness(seconds=0.0, voiced=0.0, movement=0.0, change=0.0)
    frames = sliding_window_view(samples, _LONG)[::_STEP]
    energy = 10 * numpy.log10(numpy.square(frames).mean(1) + 1e-12)
    level = numpy.maximum(energy, numpy.quantile(energy, 0.95) - LOUD)
    sounding = frames[chosen] / numpy.sqrt(
        numpy.square(frames[chosen]).mean(1, keepdims=True) + 1e-20
    )
    power = numpy.square(numpy.abs(rfft(sounding * _HANN, 2 * _LONG, axis=1)))
    bands = power[:, 8:280].reshape(len(power), 34, 8).mean(2)
    return Likeness(
        seconds=float(chosen.sum()) * _STEP / RATE,
        voiced=float(_pitch(power)[1].mean()),
        movement=float(level.std()),
        change=float(numpy.abs(numpy.diff(numpy.log(numpy.maximum(bands, 1e-9)), axis=0)).mean()),
    )


def _pitch(power: numpy.ndarray[Any, Any]) -> tuple[Any, Any]:
    """The lag of the strongest repetition below 1,500 Hz of every frame, and whether it is voiced."""
    correlation = _correlation(power, 70.0, 1500.0)
    lag = correlation[:, _LAGS[0] : _LAGS[1]].argmax(1) + _LAGS[0]
    height = correlation[numpy.arange(len(lag)), lag]
    return lag, height > 0.45


def _correlation(
    power: numpy.ndarray[Any, Any], low: float, high: float
) -> numpy.ndarray[Any, Any]:
    """Normalised autocorrelation of a band, without the taper of the window."""
    hertz = numpy.arange(power.shape[1]) * RATE / 2 / (power.shape[1] - 1)
    inside = ((hertz >= low) & (hertz < high)).astype(numpy.float32)
    correlation = irfft(power * inside, axis=1)[:, : _LAGS[1] + 8]
    taper = irfft(numpy.square(numpy.abs(rfft(_HANN, 2 * _LONG))))[: _LAGS[1] + 8]
    whole: numpy.ndarray[Any, Any] = correlation / (correlation[:, :1] + 1e-20) / (taper / taper[0])
    return whole


def _of_band(
    samples: Samples,
    frames: Any,
    power: Any,
    lag: Any,
    voiced: Any,
    chosen: Any,
    band: tuple[float, float],
) -> list[float]:
    low, high = band
    first, last = (round(edge * 2 * _LONG / RATE) for edge in band)
    inside = power[:, first:last] + 1e-9 * power.mean(1, keepdims=True)
    logs = numpy.log(inside)
    flat = logs.mean(1) - numpy.log(inside.mean(1))
    around = _local(logs, 9)
    periodic = numpy.zeros(1)
    if voiced.any():
        correlation = _correlation(power[voiced], low, high)
        near = lag[voiced][:, None] + numpy.arange(-2, 3)
        periodic = numpy.take_along_axis(correlation, near, 1).max(1)
    change = (
        numpy.abs(numpy.diff(around[:, ::8], axis=0)).mean(1) if len(logs) > 1 else numpy.zeros(1)
    )
    return [
        float(periodic.mean()), float(periodic.std()), float(numpy.quantile(periodic, 0.9)),
        float(flat.mean()), float(flat.std()),
        float((logs < around - 3.0).mean()), float((logs > around + 1.2).mean()),
        *_modulation(frames, lag, voiced, low, high),
        float(change.mean()), float(change.std()),
    ]  # fmt: skip


def _local(logs: Any, width: int) -> Any:
    """Moving mean along frequency."""
    padded = numpy.pad(logs, ((0, 0), (width // 2 + 1, width // 2)), mode="edge").cumsum(1)
    return (padded[:, width:] - padded[:, :-width]) / width


def _modulation(
    frames: Any, lag: Any, voiced: Any, low: float, high: float
) -> tuple[float, float, float]:
    """Of the band's squared envelope within 40 ms: shares above 300 Hz and at the pitch, and depth."""
    spectrum = rfft(frames, axis=1)
    hertz = numpy.arange(spectrum.shape[1]) * RATE / _LONG
    upper = numpy.where((hertz >= low) & (hertz < high), spectrum, 0)
    analytic = ifft(upper, _LONG, axis=1)  # negative frequencies stay zero
    envelope = numpy.square(numpy.abs(analytic))
    envelope = envelope / (envelope.mean(1, keepdims=True) + 1e-20) - 1
    moved = numpy.square(numpy.abs(rfft(envelope * _HANN, axis=1)))[:, 1:]
    total = moved.sum(1) + 1e-12
    fast = moved[:, 12:].sum(1) / total
    at_pitch = numpy.zeros(1)
    if voiced.any():
        near = numpy.round(_LONG / lag[voiced]).astype(int)[:, None] - 1 + numpy.arange(-1, 2)
        at_pitch = (
            numpy.take_along_axis(moved[voiced], numpy.clip(near, 0, None), 1).sum(1)
            / total[voiced]
        )
    return float(fast.mean()), float(at_pitch.mean()), float(numpy.log(total.mean() + 1e-9))


def _of_residual(frames: Any, lag: Any, voiced: Any) -> list[float]:
    if not voiced.any():
        return [0.0] * len(_OF_RESIDUAL)
    frames, lag = frames[voiced], lag[voiced]
    residual, gain = _residual(frames)
    residual = residual / (residual.std(1, keepdims=True) + 1e-12)
    squared = residual * residual
    kurtosis, skew = (squared * squared).mean(1), (squared * residual).mean(1)
    jitter = numpy.abs(numpy.diff(numpy.log(lag)))
    jitter = jitter[jitter < 0.2] if (jitter < 0.2).any() else numpy.zeros(1)
    spectrum = rfft(residual, axis=1)
    # The angle between the spectra of neighbouring bins: constant for a pulse, spread for random phase.
    steps = spectrum[:, 1:] * numpy.conj(spectrum[:, :-1])
    turned = steps[:, 1:] * numpy.conj(steps[:, :-1])
    even = numpy.abs(turned.sum(1)) / (numpy.abs(turned).sum(1) + 1e-12)
    return [
        float(numpy.log(kurtosis).mean()), float(numpy.log(kurtosis).std()),
        float(abs(skew.mean())), float(skew.std()),
        float(numpy.log(numpy.abs(residual).max(1)).mean()),
        float(gain.mean()), float(gain.std()),
        float(numpy.log(jitter.mean() + 1e-3)), float(numpy.log(lag).std()), float(even.mean()),
    ]  # fmt: skip


def _residual(frames: Any) -> tuple[Any, Any]:
    """What linear prediction of order 16 leaves of every frame, and the logarithm of what it takes."""
    windowed = frames * _HANN
    correlation = irfft(numpy.square(numpy.abs(rfft(windowed, 2 * _LONG, axis=1))), axis=1)[
        :, : _ORDER + 1
    ]
    correlation[:, 0] *= 1 + 1e-4
    index = numpy.abs(numpy.arange(_ORDER)[:, None] - numpy.arange(_ORDER))
    correlation = correlation.astype(numpy.float64)
    weights = numpy.linalg.solve(
        correlation[:, index] + 1e-9 * numpy.eye(_ORDER), correlation[:, 1:, None]
    )[..., 0]
    error = 1 - (weights * correlation[:, 1:]).sum(1) / correlation[:, 0]
    past = sliding_window_view(frames, _ORDER, axis=1)[:, :-1, ::-1]
    return frames[:, _ORDER:] - numpy.einsum("fnk,fk->fn", past, weights), numpy.log(
        numpy.maximum(error, 1e-6)
    )
