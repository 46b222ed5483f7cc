"""JPEG ghosts: saved again at the quality it had before, a region loses less than its surroundings do.

H. Farid 2009, "Exposing digital forgeries from JPEG ghosts", doi:10.1109/TIFS.2008.2012215. The error of
saving again is computed in the DCT of luminance, on the grid at (0, 0).
"""

from collections.abc import Sequence

import numpy
from jaxtyping import Float32
from scipy.ndimage import uniform_filter

from assaymark.provenance.evidence import Evidence
from assaymark.provenance.forensic_view import (
    Grid,
    Pixels,
    heat_map,
    refusal,
    seconds_of,
    shown,
    spread,
    walk,
)
from assaymark.provenance.jpeg_blocks import coefficients, planes, standard_steps
from assaymark.provenance.material import Material

QUALITIES = tuple(range(50, 100, 5))


def ghost_errors(
    pixels: Pixels, qualities: tuple[int, ...] = QUALITIES
) -> Float32[numpy.ndarray, "qualities rows columns"]:
    """Mean squared error of luminance, around each block, after saving at each quality."""
    found = coefficients(planes(pixels)[0])
    errors = []
    for quality in qualities:
        steps = standard_steps(quality).astype(numpy.float32)
        ratio = found / steps
        ratio -= numpy.rint(ratio)
        errors.append(uniform_filter((ratio * ratio) @ (steps * steps) / 64, 3, mode="nearest"))
    return numpy.stack(errors).astype(numpy.float32)


def ghost_map(pixels: Pixels) -> Grid:
    """How far each block's curve of errors lies from the picture's median curve, 0 to 1.

    Each curve is scaled to [0, 1] (Farid 2009, equation 5), so that texture matters less.
    """
    errors = ghost_errors(pixels)
    errors = errors - errors.min(axis=0)
    errors /= errors.max(axis=0) + numpy.float32(1e-6)
    usual = numpy.median(errors.reshape(len(errors), -1), axis=1)
    return numpy.asarray(numpy.abs(errors - usual[:, None, None]).max(axis=0), float)


def look_ghosts(material: Material) -> Sequence[Evidence]:
    """Score: share of blocks whose curve stands out by three deviations."""
    pixels = material.picture.pixels
    if (no := refusal("jpeg-ghosts", pixels)) is not None:
        return [no]
    walked = walk(pixels, ghost_map, seconds_of(material))
    middle, deviation = spread(walked.values)
    score = float((walked.values > middle + 3 * deviation).mean())
    summary = (
        f"{score:.1%} of the blocks lose another amount than the rest when saved again as JPEG"
    )
    drawing = heat_map("JPEG ghosts", walked.grid, middle, middle + 4 * deviation + 1e-6)
    return [shown("jpeg-ghosts", summary, score, walked, drawing)]
