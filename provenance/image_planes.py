"""A picture as three planes of 32-bit numbers, the crops that are looked at, and pictures at half size."""

from dataclasses import dataclass

import numpy
from jaxtyping import Float32, UInt8

SIDE = 256  # pixels a side of a crop
SMALLEST = 128  # pixels: below this, the spectra have too few tiles
GRID = 8  # pixels: crops start on JPEG's grid, as the crops measured on did

Plane = Float32[numpy.ndarray, "height width"]
Vector = Float32[numpy.ndarray, " features"]
Pixels = UInt8[numpy.ndarray, "height width 3"]


@dataclass(frozen=True, kw_only=True)
class Planes:
    """Luma and the two differences of colour (ITU-R BT.601, clause 2.5), in steps of 8 bits."""

    luma: Plane
    blue: Plane
    red: Plane


def planes(pixels: Pixels) -> Planes:
    """Luma in [0, 255] and colour differences in [-128, 128] of RGB."""
    red, green, blue = (pixels[:, :, c].astype(numpy.float32) for c in range(3))
    luma = numpy.float32(0.299) * red + numpy.float32(0.587) * green + numpy.float32(0.114) * blue
    return Planes(
        luma=luma,
        blue=(blue - luma) * numpy.float32(0.564),
        red=(red - luma) * numpy.float32(0.713),
    )


def halved(plane: Plane) -> Plane:
    """Means of cells of 2 x 2; an odd last row or column is left out."""
    height, width = plane.shape[0] // 2 * 2, plane.shape[1] // 2 * 2
    even = plane[:height, :width]
    total: Plane = even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]
    return total * numpy.float32(0.25)


def crops(pixels: Pixels, most: int = 1) -> list[Pixels]:
    """At most `most` crops of 256 x 256 (or what there is), on the grid, from the middle outwards."""
    height, width = pixels.shape[:2]
    side_y, side_x = min(SIDE, height), min(SIDE, width)
    rows, columns = _starts(height, side_y), _starts(width, side_x)
    corners = [(y, x) for y in rows for x in columns]
    middle = (height - side_y) / 2, (width - side_x) / 2
    corners.sort(key=lambda at: (at[0] - middle[0]) ** 2 + (at[1] - middle[1]) ** 2)
    return [pixels[y : y + side_y, x : x + side_x] for y, x in corners[:most]]


def _starts(length: int, side: int) -> list[int]:
    """Starts of crops that do not overlap, the middle one among them."""
    middle = (length - side) // 2 // GRID * GRID
    return list(range(middle % side, length - side + 1, side))
