"""The 8 x 8 blocks of JPEG: planes, DCT coefficients on a shifted grid, and the standard tables."""

from functools import cache

import numpy
from jaxtyping import Float, Float32, Int, UInt8
from PIL import Image
from scipy.fft import dct

Plane = Float32[numpy.ndarray, "height width"]
Blocks = Float32[numpy.ndarray, "rows columns 64"]
Steps = Int[numpy.ndarray, " 64"]

# ITU-T T.81, tables K.1 and K.2, row by row.
LUMINANCE = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMINANCE = (
    *(17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99),
    *(24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 32),
)
ZIGZAG = tuple(
    sorted(
        range(64),
        key=lambda k: (k // 8 + k % 8, k % 8 if (k // 8 + k % 8) % 2 == 0 else k // 8),
    )
)


@cache
def standard_steps(quality: int, table: tuple[int, ...] = LUMINANCE) -> Steps:
    """The table that the IJG encoder writes at a quality of 1 to 100 (jcparam.c), row by row."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return numpy.asarray(numpy.clip((numpy.array(table) * scale + 50) // 100, 1, 255))


def planes(pixels: UInt8[numpy.ndarray, "height width 3"]) -> tuple[Plane, Plane, Plane]:
    """Y, Cb, Cr as JPEG has them, in [0, 255]."""
    converted = numpy.asarray(Image.fromarray(pixels).convert("YCbCr")).astype(numpy.float32)
    return converted[..., 0], converted[..., 1], converted[..., 2]


@cache
def _basis() -> Float32[numpy.ndarray, "64 64"]:
    """Row k is block k of pixels that coefficient k makes, so blocks @ basis.T are coefficients."""
    one = dct(numpy.eye(8), axis=0, norm="ortho")
    return numpy.kron(one, one).astype(numpy.float32)


def tiled(plane: Plane, top: int = 0, left: int = 0) -> Blocks:
    """The pixels of each whole block of the grid that begins at (top, left)."""
    rows, columns = (plane.shape[0] - top) // 8, (plane.shape[1] - left) // 8
    part = plane[top : top + rows * 8, left : left + columns * 8]
    return part.reshape(rows, 8, columns, 8).transpose(0, 2, 1, 3).reshape(rows, columns, 64)


def coefficients(
    plane: Plane, top: int = 0, left: int = 0, chosen: tuple[int, ...] | None = None
) -> Float[numpy.ndarray, "rows columns chosen"]:
    """Orthonormal DCT-II of each block of a plane in [0, 255]; `chosen` frequencies, or all 64."""
    basis = _basis() if chosen is None else _basis()[list(chosen)]
    blocks = tiled(plane, top, left) - numpy.float32(128)
    return numpy.asarray(blocks @ basis.T)
