"""Where a region differs from the rest in its making: all features of blocks at once, calibrated.

Splices of other photographs, and regions that a decoder painted, are told from untouched photographs that
were saved twice, resized or blurred. The weights are ours; their card (weights/localiser.json) says on what
they were fitted and measured.
"""

from collections.abc import Sequence

import numpy

from assaymark.provenance.evidence import Evidence, Family, OperatingPoint, Says
from assaymark.provenance.forensic_view import Grid, Pixels, heat_map, refusal, seconds_of, walk
from assaymark.provenance.jpeg_tables import whole_tables
from assaymark.provenance.material import Material
from assaymark.provenance.splice_features import splice_features
from assaymark.provenance.splice_network import Card, log_odds, shipped

NAME = "splice"
SMALLEST = 128  # pixels a side: smaller pictures were not measured
TOP = 0.05  # share of blocks that the score is the mean of
_MOST = 4.0  # of |llr|: the measurement has too few files to say more


def splice_map(pixels: Pixels, tables: tuple[tuple[int, ...], ...] = ()) -> Grid:
    """Log odds of each block of 8 x 8 not to be of the picture; `tables` where it is a JPEG."""
    network, _ = shipped()
    return numpy.asarray(log_odds(network, splice_features(pixels, tables)), float)


def splice_score(grid: Grid) -> float:
    """Mean log odds of the most suspicious twentieth of the blocks that were looked at."""
    values = numpy.sort(grid[numpy.isfinite(grid)])
    return float(values[-max(1, round(TOP * len(values))) :].mean())


def look_splice(material: Material) -> Sequence[Evidence]:
    """Score: see `splice_score`; at the measured threshold and above it speaks for manipulation."""
    picture = material.picture
    if (no := refusal(NAME, picture.pixels, SMALLEST)) is not None:
        return [no]
    tables = whole_tables(picture.tables)
    walked = walk(picture.pixels, lambda part: splice_map(part, tables), seconds_of(material))
    _, card = shipped()
    score = splice_score(walked.grid)
    clear = score >= card.threshold
    slope, offset = card.platt
    point = operating_point(card)
    high = point.false_positive_rate_high
    summary = (
        "a region differs from the rest of the picture in how it was made"
        if clear
        else "no region stands out from the rest in how it was made"
    ) + (
        f" ({point.false_positive_rate:.0%} of untouched photographs reach this, at most {high:.0%})"
        if clear
        else ""
    )
    chance = 1 / (1 + numpy.exp(-walked.grid))
    return [
        Evidence(
            detector=NAME,
            family=Family.FORENSIC,
            says=Says.MANIPULATED if clear else Says.NOTHING,
            summary=summary + walked.note,
            score=score,
            llr=float(numpy.clip(slope * score + offset, -_MOST, _MOST)),
            point=point,
            drawings=(heat_map("Region of another making", chance, 0, 1),),
            details={"looked_at": round(walked.looked, 4)},
            seconds=walked.seconds,
        )
    ]


def operating_point(card: Card) -> OperatingPoint:
    """The card's measurement as every detector states it."""
    measured = card.measured
    return OperatingPoint(
        threshold=card.threshold,
        false_positive_rate=float(measured["false_positive_rate"]),
        false_positive_rate_high=float(measured["false_positive_rate_high"]),
        true_positive_rate=float(measured["true_positive_rate"]),
        true_positive_rate_low=float(measured["true_positive_rate_low"]),
        reals=int(measured["reals"]),
        fakes=int(measured["fakes"]),
        sources=int(measured["sources"]),
        generators=int(measured["generators"]),
        measured_on=str(measured["measured_on"]),
    )
