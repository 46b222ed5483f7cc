"""Was a picture taken by the camera that took these: the noise that every sensor repeats (PRNU).

Chen, Fridrich, Goljan & Lukas 2008, "Determining image origin and integrity using sensor noise",
doi:10.1109/TIFS.2007.916285: residual by wavelet-Wiener filtering (Mihcak et al. 1999), maximum-likelihood
fingerprint, zero mean and Wiener in the DFT against patterns shared by a model; peak-to-correlation energy
with a threshold of 60 (Goljan, Fridrich & Filler 2009, "Large scale test of sensor fingerprint camera
identification", doi:10.1117/12.805701, measured 2.4 % missed and 2.4e-5 false on a million pictures).
"""

import io
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy
from jaxtyping import Float32, UInt8
from scipy.fft import irfft2, next_fast_len, rfft2
from scipy.ndimage import convolve1d, uniform_filter
from scipy.stats import norm

from assaymark.provenance.jpeg_blocks import Plane
from assaymark.provenance.material import read_picture
from assaymark.reports.errors import InputError
from assaymark.reports.files import write_atomically

THRESHOLD = 60.0  # of PCE
SENSOR_NOISE = 3.0  # grey levels: what the residual keeps at least (Chen et al., section II)
LEAST_SIDE = 128
MOST_PIXELS = 30_000_000  # of a fingerprint: 120 MB
_LEVELS = 4
_PEAK = 5  # pixels either side that belong to the peak

# Daubechies' orthonormal low-pass filter with four vanishing moments (Ten Lectures on Wavelets, table 6.1).
_LOW = numpy.array(
    (
        *(0.2303778133, 0.7148465706, 0.6308807679, -0.0279837694),
        *(-0.1870348117, 0.0308413818, 0.0328830117, -0.0105974018),
    ),
    numpy.float32,
)
_HIGH = numpy.asarray(_LOW[::-1] * (-1) ** numpy.arange(8), numpy.float32)


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """pattern: the sensor's relative sensitivity, float32, zero mean. pictures: how many made it."""

    pattern: Plane
    pictures: int


@dataclass(frozen=True, kw_only=True)
class Match:
    """pce: peak-to-correlation energy, negative where the peak is. p_value: of a PCE so high by chance
    at any of the `shifts` that were tried. top, left: where the picture's corner lies on the sensor.
    """

    pce: float
    p_value: float
    top: int
    left: int
    shifts: int


def _analyse(plane: Plane, axis: int) -> tuple[Plane, Plane]:
    """One level of the periodic wavelet transform along an axis of even length."""
    halves = []
    for taps in (_LOW, _HIGH):
        odd = (slice(None),) * axis + (slice(1, None, 2),)
        halves.append(convolve1d(plane, taps[::-1], axis=axis, mode="wrap", origin=-1)[odd])
    return halves[0], halves[1]


def _synthesise(low: Plane, high: Plane, axis: int) -> Plane:
    """The inverse of `_analyse`: of an orthonormal transform it is the transpose."""
    shape = list(low.shape)
    shape[axis] *= 2
    odd = (slice(None),) * axis + (slice(1, None, 2),)
    total = numpy.zeros(shape, numpy.float32)
    for half, taps in ((low, _LOW), (high, _HIGH)):
        spaced = numpy.zeros(shape, numpy.float32)
        spaced[odd] = half
        total += convolve1d(spaced, taps, axis=axis, mode="wrap", origin=0)
    return total


def _wiener(detail: Plane, variance: float) -> Plane:
    """The noise in a band: what a Wiener filter removes, with the least of four local variances."""
    power = detail * detail
    signal = numpy.full_like(detail, numpy.inf)
    for window in (3, 5, 7, 9):
        signal = numpy.minimum(signal, uniform_filter(power, window, mode="wrap") - variance)
    return numpy.asarray(detail * (variance / (numpy.maximum(signal, 0) + variance)))


def residual(plane: Plane, deviation: float = SENSOR_NOISE) -> Plane:
    """W = I - F(I): the noise of a plane in [0, 255], by a wavelet-Wiener filter of four levels."""
    height, width = plane.shape
    unit = 2**_LEVELS
    padded = numpy.pad(plane, ((0, -height % unit), (0, -width % unit)), mode="reflect")
    return _noise(padded.astype(numpy.float32), _LEVELS, deviation**2)[:height, :width]


def _noise(plane: Plane, levels: int, variance: float) -> Plane:
    if levels == 0:
        return numpy.zeros_like(plane)
    (top, bottom) = _analyse(plane, 0)
    (low, right), (down, diagonal) = _analyse(top, 1), _analyse(bottom, 1)
    noise = [_wiener(band, variance) for band in (right, down, diagonal)]
    coarse = _noise(low, levels - 1, variance)
    return _synthesise(_synthesise(coarse, noise[0], 1), _synthesise(noise[1], noise[2], 1), 0)


def _grey(pixels: UInt8[numpy.ndarray, "height width 3"]) -> Plane:
    return numpy.asarray(pixels @ numpy.array([0.299, 0.587, 0.114], numpy.float32))


def _reliable(grey: Plane) -> Plane:
    """1 where a pixel is neither dark nor clipped: there the noise does not show."""
    return ((grey > 4) & (grey < 250)).astype(numpy.float32)


def cleaned(pattern: Plane) -> Plane:
    """Without what cameras of a model share: row and column means, and peaks of the spectrum.

    The means are taken for each of the four sites of the colour filter (Chen et al., section IV).
    """
    fresh = pattern.astype(numpy.float32).copy()
    for row in (0, 1):
        for column in (0, 1):
            part = fresh[row::2, column::2]
            part -= part.mean(axis=1, keepdims=True)
            part -= part.mean(axis=0, keepdims=True)
    spectrum = rfft2(fresh)
    power = numpy.abs(spectrum) ** 2 / fresh.size
    usual = float(fresh.var())
    level = numpy.full_like(power, numpy.inf)
    for window in (3, 5, 7, 9):
        level = numpy.minimum(level, uniform_filter(power, window, mode="wrap"))
    excess = numpy.maximum(level - usual, 0)
    return numpy.asarray(irfft2(spectrum * (usual / (excess + usual + 1e-12)), fresh.shape))


def fingerprint(pictures: Iterable[UInt8[numpy.ndarray, "height width 3"]]) -> Fingerprint:
    """K = sum(W I) / sum(I^2) over pictures of one size, as stored, cleaned; one is held at a time.

    Raises InputError for none, for too small or too large ones, and for sizes that differ.
    """
    above: Plane | None = None
    below: Plane | None = None
    count = 0
    for pixels in pictures:
        height, width = pixels.shape[:2]
        if min(height, width) < LEAST_SIDE or height * width > MOST_PIXELS:
            raise InputError(
                f"a reference picture has {width} x {height} pixels: at least {LEAST_SIDE} a side and "
                f"at most {MOST_PIXELS:,} together are used"
            )
        if above is not None and above.shape != (height, width):
            raise InputError(
                f"reference pictures differ in size, {above.shape[1]} x {above.shape[0]} and "
                f"{width} x {height}: give uncropped pictures of one camera, none turned"
            )
        grey = _grey(pixels)
        weight = grey * _reliable(grey)
        noise = residual(grey) * weight
        above = noise if above is None else above + noise
        below = weight * weight if below is None else below + weight * weight
        count += 1
    if above is None or below is None:
        raise InputError("no reference pictures of the camera: give at least one, better thirty")
    return Fingerprint(pattern=cleaned(above / (below + 1)), pictures=count)


def match(camera: Fingerprint, pixels: UInt8[numpy.ndarray, "height width 3"]) -> Match:
    """Where and how well a picture's noise fits the fingerprint; pictures may be crops of the sensor.

    Where the sizes agree only the position (0, 0) is asked; else every position inside the sensor.
    Raises InputError for pictures larger than the fingerprint.
    """
    grey = _grey(pixels)
    height, width = camera.pattern.shape
    if grey.shape[0] > height or grey.shape[1] > width:
        raise InputError(
            f"the picture has {grey.shape[1]} x {grey.shape[0]} pixels and the camera's fingerprint "
            f"{width} x {height}: only its own size or a crop of it can be compared"
        )
    noise = cleaned(residual(grey))
    weight = grey * _reliable(grey)
    shape = (next_fast_len(height, True), next_fast_len(width, True))
    surface = _correlation(camera.pattern, noise * weight, shape)
    rows, columns = height - grey.shape[0] + 1, width - grey.shape[1] + 1
    inside = surface[:rows, :columns]
    top, left = numpy.unravel_index(int(numpy.argmax(inside)), inside.shape)
    highest = float(inside[top, left])
    away = numpy.ones(surface.shape, bool)
    near = numpy.ix_(
        numpy.arange(top - _PEAK, top + _PEAK + 1) % shape[0],
        numpy.arange(left - _PEAK, left + _PEAK + 1) % shape[1],
    )
    away[near] = False
    energy = float((surface[away] ** 2).mean()) + 1e-12
    pce = highest * abs(highest) / energy
    shifts = rows * columns
    tail = float(norm.logsf(highest / energy**0.5))
    return Match(
        pce=pce,
        p_value=float(-numpy.expm1(shifts * numpy.log1p(-numpy.exp(tail)))),
        top=int(top),
        left=int(left),
        shifts=shifts,
    )


def _correlation(
    pattern: Plane, noise: Plane, shape: tuple[int, int]
) -> Float32[numpy.ndarray, "h w"]:
    """Correlation at every displacement: element (i, j) lays the noise's corner at row i, column j."""
    centred = noise - noise.mean()
    product = rfft2(pattern, shape) * numpy.conj(rfft2(centred, shape))
    return numpy.asarray(irfft2(product, shape), numpy.float32)


def save_fingerprint(camera: Fingerprint, path: Path) -> None:
    """Write an .npz of plain arrays; raises InputError where the place cannot be written."""
    stream = io.BytesIO()
    numpy.savez_compressed(
        stream, pattern=camera.pattern.astype(numpy.float32), pictures=numpy.int64(camera.pictures)
    )
    write_atomically(path, stream.getvalue())


def load_fingerprint(path: Path) -> Fingerprint:
    """Read what `save_fingerprint` wrote, without pickle; sizes are checked before anything is unpacked.

    Raises InputError for anything else.
    """
    wanted = f"{path} is no fingerprint of a camera"
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > 4 * MOST_PIXELS + 4096:
                raise InputError(f"{wanted}: it unpacks to more than {4 * MOST_PIXELS:,} bytes")
        with numpy.load(path, allow_pickle=False) as arrays:
            pattern, pictures = arrays["pattern"], arrays["pictures"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{wanted} ({error}): make one of reference pictures") from error
    proper = pattern.ndim == 2 and pattern.dtype == numpy.float32 and pictures.shape == ()
    if not proper or min(pattern.shape) < LEAST_SIDE or not numpy.isfinite(pattern).all():
        raise InputError(
            f"{wanted}: expected a plane of float32, got {pattern.dtype} {pattern.shape}"
        )
    return Fingerprint(pattern=pattern, pictures=int(pictures))


def references(paths: Sequence[Path]) -> Fingerprint:
    """Of an .npz that was saved, or of pictures and folders of pictures.

    Raises InputError with what is wrong with them.
    """
    if len(paths) == 1 and paths[0].suffix == ".npz":
        return load_fingerprint(paths[0])
    files = [
        file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path])
    ]
    missing = [file for file in files if not file.exists()]
    if missing:
        raise InputError(f"{missing[0]} does not exist: give reference pictures of one camera")
    return fingerprint(read_picture(file).pixels for file in files if file.is_file())
