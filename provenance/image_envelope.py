"""Which pictures the learned detectors were measured on: outside, they say nothing.

Each limit stands where the share of photographs called generated leaves what the operating point states.
"""

import numpy

from assaymark.provenance.image_planes import SMALLEST, Pixels, Planes, crops, planes
from assaymark.provenance.image_spectrum import azimuthal, tiles
from assaymark.provenance.material import Picture

LOWEST_QUALITY = 50  # of JPEG, as libjpeg counts
SHARPEST, SOFTEST = 0.0, -6.9  # of `sharpness`: blur beyond sets off false positives
PLAINEST = 2.0  # standard deviation of luma, in steps of 8 bits
MOST_FLAT = 0.5  # share of cells of 8 x 8 pixels in one colour
_STANDARD_SUM = (
    3688  # of the 64 luminance steps of ITU-T T.81, table K.1, which quality 50 uses unscaled
)


def outside(picture: Picture) -> str | None:
    """Why this picture lies outside what was measured, as a clause; None where it lies inside."""
    if picture.frames > 1:
        return f"it has {picture.frames} frames: animations were not measured"
    if min(picture.height, picture.width) < SMALLEST:
        return (
            f"it has {picture.width} x {picture.height} pixels: at least 128 a side were measured"
        )
    if picture.mode == "CMYK" or picture.bits > 8:
        return f"it is stored as {picture.mode} of {picture.bits} bits: RGB of 8 bits was measured"
    quality = jpeg_quality(picture.tables[0]) if picture.tables else 100
    if quality < LOWEST_QUALITY:
        return f"its JPEG quality is about {quality:.0f}: {LOWEST_QUALITY} to 100 were measured"
    return odd_pixels(crops(picture.pixels)[0])


def odd_pixels(crop: Pixels) -> str | None:
    """The same for what only the pixels of the middle tell."""
    found = planes(crop)
    if float(found.luma.std()) < PLAINEST:
        return "the middle of the picture is plain: there is no residual to look at"
    share = flat_share(crop)
    if share > MOST_FLAT:
        return (
            f"{share:.0%} of its middle is of one colour, as in graphics: photographs were measured"
        )
    if float(numpy.abs(found.blue).mean() + numpy.abs(found.red).mean()) < 0.25:
        return "it has no colour: pictures in colour were measured"
    sharp = sharpness(found)
    if not SOFTEST <= sharp <= SHARPEST:
        way = "soft, as after enlargement or blur" if sharp < SOFTEST else "noisy"
        return f"its pixels are {way} ({sharp:.1f}; measured were {SOFTEST:g} to {SHARPEST:g})"
    return None


def sharpness(picture: Planes) -> float:
    """Natural logarithm of power at 24 to 31 cycles in 64 pixels over power at 4 to 11."""
    ring = azimuthal(numpy.log((numpy.abs(tiles(picture.luma)) ** 2).mean(0) + 1e-2))
    return float(ring[24:32].mean() - ring[4:12].mean())


def flat_share(crop: Pixels) -> float:
    """Share of the cells of 8 x 8 pixels that have one colour."""
    height, width = crop.shape[0] // 8 * 8, crop.shape[1] // 8 * 8
    cells = crop[:height, :width].reshape(height // 8, 8, width // 8, 8, 3)
    return float((cells.max((1, 3)) == cells.min((1, 3))).all(-1).mean())


def jpeg_quality(table: tuple[int, ...]) -> float:
    """Libjpeg's quality, 1 to 100, whose luminance table has this sum (jcparam.c's scaling, inverted)."""
    scale = 100 * sum(table) / _STANDARD_SUM
    return max(1.0, min(100.0, 5000 / scale if scale > 100 else (200 - scale) / 2))
