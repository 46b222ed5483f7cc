"""One threshold on a score for each group: the most accurate that keeps the groups' rates together."""

import itertools
from collections.abc import Sequence

import numpy

from assaymark.bias.rows import Numbers
from assaymark.bias.samples import Sample

_THRESHOLDS = 500
"""Of each group at most; of more different scores, those at even steps of its selection rate."""
_STEPS = {1: 200, 2: 50}
"""Windows of one rate, or of each of two."""
_TINY = 1e-12
Ways = numpy.ndarray[tuple[int, int], numpy.dtype[numpy.float64]]
"""A number of each rate (rows) and threshold (columns)."""


def group_thresholds(sample: Sample, rates: Sequence[str], tolerance: float) -> tuple[float, ...]:
    """A threshold for each group; a score above it is a positive decision.

    rates: one or two of selection_rate, true_positive_rate and false_positive_rate, which are to differ
    by at most `tolerance` between the groups of this sample. For each window of this width, each group
    takes the threshold that is right most often among those whose rates lie in the window; the window
    where most rows are right is taken. At worst nobody is decided positive, which has no gap. Weights of
    rows count.
    """
    curves = [_curve(sample, place, rates) for place in range(len(sample.group.names))]
    starts = numpy.linspace(0, 1 - tolerance, _STEPS[len(rates)] + 1)
    windows = numpy.array(list(itertools.product(starts, repeat=len(rates))))
    right = numpy.zeros(len(windows))
    picks = []
    for _, ways, hits in curves:
        inside = numpy.ones((len(windows), ways.shape[1]), dtype=bool)
        for rate, low in zip(ways, windows.T, strict=True):
            inside &= (rate >= low[:, None] - _TINY) & (rate <= low[:, None] + tolerance + _TINY)
        found = numpy.where(inside, hits, -numpy.inf)
        picks.append(found.argmax(axis=1))
        right += found.max(axis=1)
    best = int(right.argmax())
    return tuple(float(curve[0][pick[best]]) for curve, pick in zip(curves, picks, strict=True))


def _curve(sample: Sample, place: int, rates: Sequence[str]) -> tuple[Numbers, Ways, Numbers]:
    """Of a group the thresholds, the rates at each, and the weight of the rows that are right."""
    mine = numpy.flatnonzero(sample.group.codes == place)
    assert sample.score is not None
    score, label, mass = sample.score[mine], sample.label[mine], sample.mass[mine]
    order = numpy.argsort(-score, kind="stable")
    score = score[order]
    sums = [
        numpy.concatenate(([0.0], numpy.cumsum((mass * kind)[order]))) for kind in (~label, label)
    ]
    # a threshold lies between two different scores, above all of them, or below all
    cuts = numpy.concatenate(([0], numpy.flatnonzero(numpy.diff(score)) + 1, [len(score)]))
    if len(cuts) > _THRESHOLDS:
        steps = numpy.linspace(0, len(score), _THRESHOLDS)
        cuts = numpy.unique(cuts[numpy.searchsorted(cuts, steps)])
    ends = numpy.concatenate(([numpy.inf], score, [-numpy.inf]))
    upper, lower = ends[cuts], ends[cuts + 1]
    middle = upper / 2 + lower / 2
    above = numpy.where(middle == upper, lower, middle)  # of neighbouring floating-point numbers
    above[0] = numpy.inf
    false, true = (each[cuts] for each in sums)
    shares = {
        "selection_rate": _share(false + true, sums[0][-1] + sums[1][-1]),
        "true_positive_rate": _share(true, sums[1][-1]),
        "false_positive_rate": _share(false, sums[0][-1]),
    }
    return above, numpy.array([shares[rate] for rate in rates]), true + sums[0][-1] - false


def _share(part: Numbers, whole: float) -> Numbers:
    return part / whole if whole else numpy.zeros(len(part))
