"""Was the picture enlarged, reduced or turned: periodic dependence of pixels on their neighbours.

Interpolated pixels are weighted sums of neighbours, with weights that repeat with the period of the
resampling. Three views of it: the variance of the second difference (Gallagher 2005, "Detection of linear
and cubic interpolation in JPEG compressed images", doi:10.1109/CRV.2005.33; Mahdian & Saic 2008,
doi:10.1109/TIFS.2008.924603, for derivatives), the map of probabilities of Popescu & Farid 2005,
"Exposing digital forgeries by detecting traces of resampling", doi:10.1109/TSP.2004.839932, and its spectrum.
Every resized photograph shows it, so it speaks for nothing.
"""

import time
from collections.abc import Sequence

import numpy
from jaxtyping import Float
from scipy.ndimage import median_filter

from assaymark.provenance.evidence import Curve, Evidence, Family, HeatMap, Says
from assaymark.provenance.forensic_view import Grid, centre, heat_map, refusal
from assaymark.provenance.jpeg_blocks import Plane, planes
from assaymark.provenance.material import Material

NAME = "resampling"
LEAST_PEAK = 6.5  # over the spectrum around it; pictures that were not resized reach 5
_BINS = 512  # of a spectrum from 0 to half a cycle a pixel
_LOOKED_AT = 768  # pixels a side, in the middle
_P_SIDE = 256  # pixels a side of the map of probabilities
_GRID = 1 / 8  # of JPEG, in cycles a pixel: its multiples are no resampling

Spectrum = Float[numpy.ndarray, " bins"]


def second_derivative_spectrum(plane: Plane, axis: int = 1) -> tuple[Spectrum, Spectrum]:
    """Frequencies in cycles a pixel along `axis`, and magnitude over its local median (1 is usual)."""
    across = plane if axis == 1 else plane.T
    rough = numpy.abs(numpy.diff(across, 2, axis=1)).mean(axis=0)
    size = len(rough)
    flat = (rough - rough.mean()) * numpy.hanning(size)
    found = numpy.abs(numpy.fft.rfft(flat, 2 * _BINS))[1:_BINS]
    return numpy.arange(1, _BINS) / (2 * _BINS), _over_surroundings(found)


def _over_surroundings(found: Spectrum) -> Spectrum:
    return numpy.asarray(found / (median_filter(found, 41, mode="nearest") + 1e-12))


def peak(frequencies: Spectrum, magnitudes: Spectrum) -> tuple[float, float]:
    """(frequency, height) of the highest point away from zero and from the multiples of JPEG's grid."""
    away = numpy.abs(frequencies / _GRID - numpy.rint(frequencies / _GRID)) * _GRID
    open_ = (away > 0.008) & (frequencies > 0.02)
    best = int(numpy.argmax(numpy.where(open_, magnitudes, 0)))
    return float(frequencies[best]), float(magnitudes[best])


def factors(frequency: float) -> tuple[float, ...]:
    """Enlargements (> 1) and reductions (< 1) that put a peak at a frequency in (0, 1/2].

    Resampled by r, the weights repeat 1/r times a pixel, which appears at its distance to the nearest
    whole number (Gallagher 2005, section 3): r = 1/(1-f), 1/f, 1/(1+f), 1/(2-f), most usual first.

    >>> [round(r, 3) for r in factors(1 / 3)]
    [1.5, 3.0, 0.75, 0.6]
    """
    return 1 / (1 - frequency), 1 / frequency, 1 / (1 + frequency), 1 / (2 - frequency)


def p_map(
    plane: Plane, *, rounds: int = 12, deviation: float = 8.0
) -> tuple[Plane, Float[numpy.ndarray, " 8"]]:
    """Probability that each pixel is a linear sum of its eight neighbours, and the weights.

    Expectation-maximisation (Popescu & Farid 2005, section III): in E the residual under a normal
    density is set against a uniform one; in M weights come from weighted least squares.
    """
    height, width = plane.shape
    shifts = [(i, j) for i in range(3) for j in range(3) if (i, j) != (1, 1)]
    near = numpy.stack(
        [plane[i : height - 2 + i, j : width - 2 + j].ravel() for i, j in shifts], axis=1
    ).astype(numpy.float32)
    own = plane[1:-1, 1:-1].ravel().astype(numpy.float32)
    uniform = 1 / max(float(own.max() - own.min()), 1.0)
    weights = numpy.array([-0.25, 0.5, -0.25, 0.5, 0.5, -0.25, 0.5, -0.25], numpy.float32)
    for _ in range(rounds):
        error = own - near @ weights
        density = numpy.exp(-0.5 * (error / deviation) ** 2) / (
            deviation * numpy.sqrt(2 * numpy.pi)
        )
        belongs = density / (density + uniform)
        normal = near.T @ (near * belongs[:, None]) + 1e-3 * numpy.eye(8, dtype=numpy.float32)
        fresh = numpy.linalg.solve(normal, near.T @ (belongs * own))
        deviation = max(float(numpy.sqrt((belongs * error**2).sum() / belongs.sum())), 0.2)
        moved, weights = float(numpy.abs(fresh - weights).max()), fresh.astype(numpy.float32)
        if moved < 1e-3:
            break
    return belongs.reshape(height - 2, width - 2), weights.astype(float)


def p_map_spectrum(belongs: Plane) -> Grid:
    """|DFT| of a map of probabilities over its surroundings, frequency zero in the middle."""
    height, width = belongs.shape
    window = numpy.hanning(height)[:, None] * numpy.hanning(width)[None]
    found = numpy.abs(numpy.fft.fftshift(numpy.fft.fft2((belongs - belongs.mean()) * window)))
    return numpy.asarray(
        found / (median_filter(found[::2, ::2], 9).repeat(2, 0).repeat(2, 1) + 1e-9)
    )


def look_resampling(material: Material) -> Sequence[Evidence]:
    """Score: the highest peak of the two second-derivative spectra over its surroundings."""
    began = time.process_time()
    picture = material.picture
    if (no := refusal(NAME, picture.pixels)) is not None:
        return [no]
    luma = planes(centre(picture.pixels, _LOOKED_AT))[0]
    found = {
        way: (spectrum := second_derivative_spectrum(luma, axis), peak(*spectrum))
        for way, axis in (("across", 1), ("down", 0))
    }
    way = max(found, key=lambda name: found[name][1][1])
    frequency, height = found[way][1]
    clear = height >= LEAST_PEAK
    summary = (
        f"pixels repeat {frequency:.3f} times a pixel {way}, as after resampling by "
        + " or ".join(f"{factor:.2f}" for factor in factors(frequency)[:3])
        if clear
        else "no periodic dependence of pixels on their neighbours"
    )
    return [
        Evidence(
            detector=NAME,
            family=Family.FORENSIC,
            says=Says.NOTHING,
            summary=summary,
            score=height,
            drawings=(_curve(*found[way][0], way), _drawn(luma)),
            details={
                "frequency": {name: round(value[1][0], 4) for name, value in found.items()},
                "peak": {name: round(value[1][1], 2) for name, value in found.items()},
                "factors": [round(factor, 3) for factor in factors(frequency)] if clear else [],
            },
            seconds=time.process_time() - began,
        )
    ]


def _curve(frequencies: Spectrum, magnitudes: Spectrum, way: str) -> Curve:
    return Curve(
        title=f"Spectrum of the second derivative, {way}",
        x=tuple(round(float(x), 4) for x in frequencies[::2]),
        y=tuple(
            round(float(y), 2)
            for y in numpy.maximum(magnitudes[::2], numpy.roll(magnitudes, -1)[::2])
        ),
        x_label="cycles a pixel",
        y_label="over its surroundings",
    )


def _drawn(luma: Plane) -> HeatMap:
    belongs, _ = p_map(centre(luma, _P_SIDE), rounds=6)
    even = belongs[: belongs.shape[0] // 2 * 2, : belongs.shape[1] // 2 * 2]
    return heat_map("Spectrum of the map of probabilities", p_map_spectrum(even), 1, 12)
