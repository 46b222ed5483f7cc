"""What each 8 x 8 block of a picture says of its making: spectrum, noise, grid, colour and JPEG history.

A region from another picture, or one that a decoder painted, differs from the rest in some of these; which
differences are ordinary is learnt (assaymark.provenance.splice_localiser).
"""

import numpy
from jaxtyping import Float32, UInt8
from scipy.ndimage import uniform_filter1d

from assaymark.provenance.jpeg_blocks import Blocks, Plane, coefficients, planes, standard_steps
from assaymark.provenance.jpeg_double import double_jpeg

GHOSTS = (55, 65, 72, 78, 84, 89, 94)  # qualities
_BANDS = numpy.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 8, 9, 9, 10, 10, 10])  # of i + j
_NEAR, _WIDE = 3, 5  # blocks averaged
_DOUBLE = (50, 60, 66, 70, 74, 78, 80, 82, 84, 86, 88, 90, 92, 94, 96)

Grid = Float32[numpy.ndarray, "rows columns"]
Features = Float32[numpy.ndarray, "features rows columns"]


def splice_features(
    pixels: UInt8[numpy.ndarray, "height width 3"], tables: tuple[tuple[int, ...], ...]
) -> Features:
    """One layer a feature; `tables` are those of the file where it is a JPEG. At least 16 pixels a side."""
    height, width = pixels.shape[0] // 8 * 8, pixels.shape[1] // 8 * 8
    pixels = pixels[:height, :width]
    luma, blue, red = planes(pixels)
    layers = [*_spectrum(luma), *_noise(luma), *_colours(pixels, blue, red)]
    layers += [*_phases(luma), *_brightness(luma), *_ghosts(luma), *_history(luma, tables)]
    return numpy.stack(layers).astype(numpy.float32)


def _block_mean(plane: Plane) -> Grid:
    rows = plane.reshape(plane.shape[0] // 8, 8, plane.shape[1]).sum(axis=1)
    return numpy.asarray(rows.reshape(rows.shape[0], -1, 8).sum(axis=2) / 64, numpy.float32)


def _around(grid: Grid, blocks: int = _NEAR) -> Grid:
    rows = uniform_filter1d(grid, blocks, axis=0, mode="nearest")
    return numpy.asarray(uniform_filter1d(rows, blocks, axis=1, mode="nearest"))


def _spectrum(luma: Plane) -> list[Grid]:
    """Log energy of the DCT by frequency, and the share of coefficients near zero, on the grid at (0, 0)."""
    found = coefficients(luma)
    bands = _BANDS[numpy.add.outer(numpy.arange(8), numpy.arange(8)).ravel()]
    member = (bands[:, None] == numpy.arange(1, 11)).astype(numpy.float32)
    member /= member.sum(axis=0)
    energy = (found * found) @ member
    small = (numpy.abs(found) < 1.0).astype(numpy.float32) @ member
    return [
        *(numpy.log(_around(energy[..., k]) + 0.02) for k in range(10)),
        *(_around(small[..., k]) for k in (0, 2, 4, 6, 8)),
    ]


def _second(plane: Plane, axis: int) -> Plane:
    """x[n-1] - 2 x[n] + x[n+1], of the plane's shape."""
    found = numpy.zeros_like(plane)
    if axis == 0:
        found[1:-1] = plane[:-2] - 2 * plane[1:-1] + plane[2:]
    else:
        found[:, 1:-1] = plane[:, :-2] - 2 * plane[:, 1:-1] + plane[:, 2:]
    return found


def _noise(luma: Plane) -> list[Grid]:
    """Strength, shape and correlation of a high-pass residual in both directions."""
    down, across = _second(luma, 0), _second(luma, 1)
    both = _second(down, 1)
    power = _around(_block_mean(both * both), _WIDE)
    absolute = _around(_block_mean(numpy.abs(both)), _WIDE)
    layers = [
        numpy.log(_around(_block_mean(down * down)) + 0.1),
        numpy.log(_around(_block_mean(across * across)) + 0.1),
        numpy.log(_around(_block_mean(both * both)) + 0.1),
        numpy.log(power + 0.1),
        absolute / numpy.sqrt(power + 0.1),
    ]
    for lag in (1, 2, 3):
        for axis in (0, 1):
            product = both * numpy.roll(both, lag, axis)
            layers.append(_around(_block_mean(product), _WIDE) / (power + 0.1))
    return layers


def _colours(pixels: UInt8[numpy.ndarray, "height width 3"], blue: Plane, red: Plane) -> list[Grid]:
    """How residuals of the colours go together, and how strong those of the colour differences are."""
    rough = [_second(_second(pixels[..., k].astype(numpy.float32), 0), 1) for k in range(3)]
    power = [_around(_block_mean(x * x), _WIDE) + 0.5 for x in rough]
    layers = []
    for i, j in ((0, 1), (1, 2), (0, 2)):
        shared = _around(_block_mean(rough[i] * rough[j]), _WIDE)
        layers.append(shared / numpy.sqrt(power[i] * power[j]))
    layers.append(numpy.log(power[0] / power[1]))
    layers.append(numpy.log(power[2] / power[1]))
    for plane in (blue, red):
        fine, coarse = _second(plane, 1) ** 2, (plane - numpy.roll(plane, 4, 1)) ** 2
        layers.append(numpy.log(_around(_block_mean(fine), _WIDE) + 0.05))
        layers.append(numpy.log(_around(_block_mean(coarse), _WIDE) + 0.05))
    return layers


def _phases(luma: Plane) -> list[Grid]:
    """Share of |second difference| on each of the eight rows and columns of a block: grids of JPEG."""
    layers = []
    for axis in (0, 1):
        rough = numpy.minimum(numpy.abs(_second(luma, axis)), 24.0)
        rows, columns = rough.shape[0] // 8, rough.shape[1] // 8
        parts = rough.reshape(rows, 8, columns, 8).sum(axis=3 - 2 * axis)
        parts = parts.transpose(0, 2, 1) if axis == 0 else parts
        smooth = [_around(numpy.ascontiguousarray(parts[..., k]), _WIDE) for k in range(8)]
        total = sum(smooth) + numpy.float32(4.0)
        layers += [8 * grid / total for grid in smooth]
    return layers


def _brightness(luma: Plane) -> list[Grid]:
    mean = _block_mean(luma)
    clipped = ((luma < 4) | (luma > 251)).astype(numpy.float32)
    return [mean / 255, _around(_block_mean(clipped))]


def _ghosts(luma: Plane) -> list[Grid]:
    """Log error of quantising again, for each quality, less the mean over qualities."""
    found = coefficients(luma)
    errors = [numpy.log(_around(_requantised(found, quality)) + 0.05) for quality in GHOSTS]
    middle = sum(errors) / len(errors)
    return [error - middle for error in errors]


def _requantised(found: Blocks, quality: int) -> Grid:
    steps = standard_steps(quality).astype(numpy.float32)
    ratio = found / steps
    ratio -= numpy.rint(ratio)
    return numpy.asarray((ratio * ratio) @ (steps * steps) / 64)


def _history(luma: Plane, tables: tuple[tuple[int, ...], ...]) -> list[Grid]:
    """Log ratio of twice to once compressed, and whether it could be asked."""
    rows, columns = luma.shape[0] // 8, luma.shape[1] // 8
    nothing = numpy.zeros((rows, columns), numpy.float32)
    if not tables:
        return [nothing, nothing, nothing]
    found = double_jpeg(luma, numpy.array(tables[0]), _DOUBLE)
    ratio = numpy.clip(found.blocks, -12, 12).astype(numpy.float32)
    return [_around(ratio), _around(ratio, 7), nothing + numpy.float32(min(found.gain, 4.0))]
