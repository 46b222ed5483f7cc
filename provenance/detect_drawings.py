"""Drawings of the report: a heat map over the picture, spectra, and scores over time."""

import base64
import io
from collections.abc import Sequence

import numpy
from PIL import Image

from assaymark.provenance.detection import Detection
from assaymark.provenance.evidence import Curve, HeatMap
from assaymark.provenance.evidence import Evidence as Piece
from assaymark.provenance.material import Pixels, read_picture
from assaymark.reports.errors import InputError
from assaymark.reports.model import Captioned, Evidence, Picture, Pictures, Plot, Point, Series

SIDE = 320  # pixels of the longer side of a picture in the report
_QUALITY = 70


def drawings_of(item: Detection) -> tuple[Evidence, ...]:
    """What the detectors drew of one file, ready for the report."""
    maps = [(piece, drawn) for piece in item.evidence for drawn in piece.drawings
            if isinstance(drawn, HeatMap)]  # fmt: skip
    curves = [(piece, drawn) for piece in item.evidence for drawn in piece.drawings
              if isinstance(drawn, Curve)]  # fmt: skip
    return (*_pictures(item, maps), *(_plot(piece, curve) for piece, curve in curves))


def _pictures(item: Detection, maps: Sequence[tuple[Piece, HeatMap]]) -> tuple[Evidence, ...]:
    if not maps:
        return ()
    try:
        small = _small(read_picture(item.path).pixels)
    except (InputError, OSError):  # moved since it was looked at
        return ()
    shown = [Captioned(caption="the picture", picture=_encoded(small))]
    for piece, drawn in maps:
        shown.append(
            Captioned(
                caption=f"{piece.detector}: {drawn.title}", picture=_encoded(over(small, drawn))
            )
        )
    return (Pictures(title="Where", pictures=tuple(shown)),)


def _small(pixels: Pixels) -> Pixels:
    picture = Image.fromarray(pixels)
    picture.thumbnail((SIDE, SIDE))
    return numpy.asarray(picture)


def over(pixels: Pixels, drawn: HeatMap) -> Pixels:
    """The map laid over a grey copy of the picture: blue is 0, red is 1.

    >>> corner = HeatMap(title="", values=((0.0, 1.0),))
    >>> over(numpy.full((1, 2, 3), 100, dtype=numpy.uint8), corner)[0].tolist()
    [[50, 50, 177], [177, 50, 50]]
    """
    height, width = pixels.shape[:2]
    levels = (numpy.clip(numpy.asarray(drawn.values, dtype=numpy.float64), 0, 1) * 255).round()
    grid = Image.fromarray(levels.astype(numpy.uint8))
    heat = numpy.asarray(grid.resize((width, height), Image.Resampling.NEAREST)) / 255.0
    grey = pixels.mean(axis=2)
    colour = numpy.stack([heat * 255.0, numpy.zeros_like(heat), (1 - heat) * 255.0], axis=2)
    return numpy.asarray(0.5 * grey[:, :, None] + 0.5 * colour, dtype=numpy.uint8)


def _encoded(pixels: Pixels) -> Picture:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=_QUALITY)
    return Picture(
        media_type="image/webp",
        data=base64.b64encode(buffer.getvalue()).decode(),
        width=int(pixels.shape[1]),
        height=int(pixels.shape[0]),
    )


def _plot(piece: Piece, curve: Curve) -> Plot:
    line = tuple(Point(x=float(x), y=float(y)) for x, y in zip(curve.x, curve.y, strict=True))
    spans = [
        Series(
            label=f"stands out, {low:g} to {high:g}",
            points=tuple(point for point in line if low <= point.x <= high),
        )
        for low, high in curve.marked[:6]
    ]
    return Plot(
        title=f"{piece.detector}: {curve.title}",
        x_label=curve.x_label,
        y_label=curve.y_label,
        series=(Series(label=piece.detector, points=line), *(one for one in spans if one.points)),
    )
