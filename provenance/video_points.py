"""Thresholds of the video and face detectors and how often they err, as `tests/bench/video.py` measured them.

All clips were made from photographs by a simulated camera (pans, zooms, shaking, noise, exposure, things
that move) and encoded once or twice; edits were planted. Camera footage was at hand from one street camera
only. So a rate here is one on such clips, and the upper bounds are what evidence is weighed by.
"""

import json
import math
from functools import cache
from importlib.resources import files

from assaymark.provenance.evidence import OperatingPoint


@cache
def points() -> dict[str, OperatingPoint]:
    """The measured operating points by the name of the test."""
    stored = json.loads(files("assaymark.provenance").joinpath("video_points.json").read_text())
    return {name: OperatingPoint(**point) for name, point in stored.items()}


def llr(point: OperatingPoint) -> float:
    """What it weighs that a test speaks: lower bound of its hits over the upper bound of its false alarms.

    Silence weighs nothing: the planted edits are not all the edits there are.
    """
    return math.log(max(point.true_positive_rate_low, 1e-3) / point.false_positive_rate_high)
