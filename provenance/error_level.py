"""Error level analysis: what is lost when the picture is saved once more as JPEG.

N. Krawetz 2007, "A picture's worth". Edges and texture lose more than sky does, so the loss is divided by
the contrast around it. It is a picture for the eye: measured as a detector it is no better than chance.
"""

import io
from collections.abc import Sequence

import numpy
from PIL import Image
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
from assaymark.provenance.material import Material

QUALITY = 90


def error_level(pixels: Pixels, quality: int = QUALITY) -> Grid:
    """Mean absolute change of a block, over its mean absolute deviation plus one level."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    saved = numpy.asarray(Image.open(stream).convert("RGB"), numpy.float32)
    change = _blocks(numpy.abs(saved - pixels))
    contrast = _blocks(numpy.abs(pixels - uniform_filter(saved, (8, 8, 0), mode="nearest")))
    return numpy.asarray(uniform_filter(change / (contrast + 1), 3, mode="nearest"), float)


def _blocks(values: Pixels) -> Grid:
    rows, columns = values.shape[0] // 8, values.shape[1] // 8
    part = values[: rows * 8, : columns * 8].sum(axis=2).reshape(rows, 8, columns, 8)
    return numpy.asarray(part.sum(axis=(1, 3)) / 192)


def look_error_level(material: Material) -> Sequence[Evidence]:
    """Score: the median change over contrast; the map shows where it is higher."""
    pixels = material.picture.pixels
    if (no := refusal("error-level", pixels)) is not None:
        return [no]
    walked = walk(pixels, error_level, seconds_of(material))
    middle, deviation = spread(walked.values)
    summary = f"saved again at quality {QUALITY}, blocks change by {middle:.2f} of their contrast"
    drawing = heat_map("Error level", walked.grid, middle, middle + 4 * deviation + 1e-6)
    return [shown("error-level", summary, middle, walked, drawing)]
