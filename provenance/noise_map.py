"""Noise by place and by brightness: a region of another sensor, or a painted one, has another amount.

The level is the median of |diagonal Haar detail| over 0.6745 (Donoho & Johnstone 1994, section 4.2,
doi:10.1093/biomet/81.3.425). A photograph's noise depends on its brightness (Foi et al. 2008,
doi:10.1109/TIP.2008.2001399), so a block is compared with blocks of its own brightness and texture.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy
from jaxtyping import Float
from scipy.ndimage import uniform_filter

from assaymark.provenance.evidence import Curve, Evidence
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
from assaymark.provenance.jpeg_blocks import planes
from assaymark.provenance.material import Material

_LEAST = 0.05  # grey levels: quantisation hides less


def noise_level(pixels: Pixels) -> Grid:
    """Standard deviation of noise in grey levels, around each block of 8 x 8 (over 24 x 24 pixels)."""
    luma = planes(pixels)[0]
    rows, columns = luma.shape[0] // 8, luma.shape[1] // 8
    part = luma[: rows * 8, : columns * 8].reshape(rows * 4, 2, columns * 4, 2)
    detail = numpy.abs(part[:, 0, :, 0] - part[:, 0, :, 1] - part[:, 1, :, 0] + part[:, 1, :, 1])
    inside = detail.reshape(rows, 4, columns, 4).transpose(0, 2, 1, 3).reshape(rows, columns, 16)
    levels = numpy.median(inside, axis=2) / (2 * 0.6745)
    return numpy.asarray(uniform_filter(levels, 3, mode="nearest"), float)


def brightness(pixels: Pixels) -> Grid:
    """Mean luminance of each block, in grey levels."""
    luma = planes(pixels)[0]
    rows, columns = luma.shape[0] // 8, luma.shape[1] // 8
    return numpy.asarray(
        luma[: rows * 8, : columns * 8].reshape(rows, 8, columns, 8).mean(axis=(1, 3)), float
    )


def look_noise(material: Material) -> Sequence[Evidence]:
    """Score: share of blocks whose noise differs from others of their brightness by three deviations."""
    pixels = material.picture.pixels
    if (no := refusal("noise", pixels)) is not None:
        return [no]
    seconds = seconds_of(material)
    walked = walk(pixels, noise_level, seconds)
    light = walk(pixels, brightness, 2 * seconds + 1).grid
    logs = numpy.log(numpy.maximum(walked.grid, _LEAST))
    known = numpy.isfinite(logs) & numpy.isfinite(light)
    edges, usual = _by_brightness(light[known], logs[known])
    odd = numpy.abs(logs - numpy.interp(light, edges, usual))
    _, deviation = spread(logs[known] - numpy.interp(light[known], edges, usual))
    deviation = max(deviation, 0.05)
    score = float((odd[known] > 3 * deviation).mean())
    level = float(numpy.exp(numpy.median(logs[known])))
    summary = (
        f"noise of about {level:.1f} grey levels; {score:.1%} of the blocks have another amount "
        "than blocks of their brightness"
    )
    curve = Curve(
        title="Noise by brightness",
        x=tuple(round(float(x), 1) for x in edges),
        y=tuple(round(float(numpy.exp(y)), 3) for y in usual),
        x_label="grey level",
        y_label="deviation, grey levels",
    )
    evidence = shown("noise", summary, score, walked, heat_map("Noise", odd, 0, 4 * deviation))
    return [replace(evidence, drawings=(*evidence.drawings, curve))]


def _by_brightness(
    light: Float[numpy.ndarray, " n"], logs: Float[numpy.ndarray, " n"]
) -> tuple[Float[numpy.ndarray, " bins"], Float[numpy.ndarray, " bins"]]:
    """Median log noise in up to eight bins of equal count."""
    order = numpy.argsort(light, kind="stable")
    parts = numpy.array_split(order, min(8, max(1, len(order) // 32)))
    return (
        numpy.array([light[part].mean() for part in parts]),
        numpy.array([numpy.median(logs[part]) for part in parts]),
    )
