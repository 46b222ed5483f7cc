"""How well scores tell generated files from real ones, and how far a probability can be believed.

Scores are higher for generated files. Labels are True for those. Every number is None where it is not
defined: an area under a curve of one class, a rate over no files.
"""

from dataclasses import dataclass

import numpy
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from assaymark.reports.errors import InputError

Labels = Bool[numpy.ndarray, " files"]
Scores = Float[numpy.ndarray, " files"]
BINS = 10


def checked(labels: ArrayLike, scores: ArrayLike) -> tuple[Labels, Scores]:
    """Both as arrays of one length; raises InputError for other shapes or scores that are no numbers."""
    y, s = numpy.asarray(labels, dtype=bool), numpy.asarray(scores, dtype=numpy.float64)
    if y.ndim != 1 or y.shape != s.shape:
        raise InputError(f"labels are {y.shape} and scores {s.shape}: expected one of each a file")
    if not numpy.isfinite(s).all():
        raise InputError(
            "a score is not a finite number: leave out files that a detector abstained on"
        )
    return y, s


def auc(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """P(fake scores higher than real) + P(equal) / 2, in [0, 1] (Mann and Whitney 1947)."""
    y, s = checked(labels, scores)
    fakes, reals = int(y.sum()), int((~y).sum())
    if not fakes or not reals:
        return None
    return float((rankdata(s)[y].sum() - fakes * (fakes + 1) / 2) / (fakes * reals))


@dataclass(frozen=True, kw_only=True, eq=False)
class Roc:
    """Rates at every threshold from +∞ down: files scored at or above it count as called generated."""

    threshold: Float[numpy.ndarray, " points"]
    false_positives: Float[numpy.ndarray, " points"]
    true_positives: Float[numpy.ndarray, " points"]


def roc(labels: ArrayLike, scores: ArrayLike) -> Roc | None:
    """The ROC curve; equal scores pass a threshold together. None without files of both labels."""
    y, s = checked(labels, scores)
    if y.all() or not y.any():
        return None
    order = numpy.argsort(-s, kind="stable")
    last = numpy.append(numpy.diff(s[order]) != 0, True)
    hits, alarms = numpy.cumsum(y[order])[last], numpy.cumsum(~y[order])[last]
    return Roc(
        threshold=numpy.append(numpy.inf, s[order][last]),
        false_positives=numpy.append(0.0, alarms / alarms[-1]),
        true_positives=numpy.append(0.0, hits / hits[-1]),
    )


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """Σ (recall step) · precision over the thresholds, without interpolation; needs a fake and a real."""
    y, s = checked(labels, scores)
    curve = roc(y, s)
    if curve is None:
        return None
    hits, alarms = curve.true_positives[1:] * y.sum(), curve.false_positives[1:] * (~y).sum()
    return float((numpy.diff(curve.true_positives) * hits / (hits + alarms)).sum())


def equal_error_rate(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """Where the line through the ROC's points meets FPR = 1 - TPR."""
    curve = roc(labels, scores)
    if curve is None:
        return None
    excess = curve.false_positives - (1 - curve.true_positives)  # from -1 up to 1
    after = int(numpy.argmax(excess >= 0))
    before = after - 1
    share = -excess[before] / (excess[after] - excess[before])
    x = curve.false_positives
    return float(x[before] + share * (x[after] - x[before]))


def true_positive_rate_at(
    labels: ArrayLike, scores: ArrayLike, false_positive_rate: float
) -> float | None:
    """The largest share of fakes found by a threshold that at most such a share of these reals passes.

    The threshold is chosen on the files it is counted on: an upper bound of what a fixed one reaches.
    """
    curve = roc(labels, scores)
    if curve is None:
        return None
    return float(curve.true_positives[curve.false_positives <= false_positive_rate].max())


def rate(flags: ArrayLike) -> float | None:
    """The share that is true; None of nothing."""
    flagged = numpy.asarray(flags, dtype=bool)
    return float(flagged.mean()) if flagged.size else None


def brier(labels: ArrayLike, probabilities: ArrayLike) -> float | None:
    """The mean squared distance of probability and label, in [0, 1] (Brier 1950)."""
    y, p = _probabilities(labels, probabilities)
    return float(((p - y) ** 2).mean()) if len(p) else None


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Files of like probability: their mean probability, the share that is fake, and how many."""

    probability: float
    fake: float
    files: int


def reliability(
    labels: ArrayLike, probabilities: ArrayLike, *, bins: int = BINS, equal_mass: bool = False
) -> tuple[Bin, ...]:
    """The calibration curve: bins of equal width, or of equal numbers of files; none is empty."""
    y, p = _probabilities(labels, probabilities)
    place = _equal_mass(p, bins) if equal_mass else numpy.minimum((p * bins).astype(int), bins - 1)
    return tuple(
        Bin(
            probability=float(p[inside].mean()),
            fake=float(y[inside].mean()),
            files=int(inside.sum()),
        )
        for inside in (place == at for at in range(bins))
        if inside.any()
    )


def calibration_error(
    labels: ArrayLike, probabilities: ArrayLike, *, bins: int = BINS, equal_mass: bool = False
) -> float | None:
    """ECE: Σ share of files · |share of fakes - mean probability| over the bins (Naeini et al. 2015).

    It is above 0 by chance alone, the more so the fewer the files: see `error_by_chance`.
    """
    curve = reliability(labels, probabilities, bins=bins, equal_mass=equal_mass)
    files = sum(each.files for each in curve)
    if not files:
        return None
    return sum(each.files * abs(each.fake - each.probability) for each in curve) / files


def error_by_chance(
    probabilities: ArrayLike, *, bins: int = BINS, equal_mass: bool = False, draws: int = 200
) -> float | None:
    """The mean ECE of these probabilities if they were perfectly calibrated, by drawing labels from them.

    For n probabilities spread evenly over [0, 1] about 0.31 · sqrt(bins / n).
    """
    p = numpy.asarray(probabilities, dtype=numpy.float64)
    rng = numpy.random.default_rng(0)
    found = (
        calibration_error(rng.random(len(p)) < p, p, bins=bins, equal_mass=equal_mass)
        for _ in range(draws)
    )
    values = [value for value in found if value is not None]
    return float(numpy.mean(values)) if values else None


def _equal_mass(p: Scores, bins: int) -> Int[numpy.ndarray, " files"]:
    """Equal probabilities share a bin: that of their middle."""
    middle = (rankdata(p) - 0.5) / max(len(p), 1)
    places: Int[numpy.ndarray, " files"] = numpy.minimum((middle * bins).astype(int), bins - 1)
    return places


def _probabilities(labels: ArrayLike, probabilities: ArrayLike) -> tuple[Labels, Scores]:
    y, p = checked(labels, probabilities)
    if len(p) and (p.min() < 0 or p.max() > 1):
        raise InputError(f"probabilities must lie in [0, 1], got [{p.min():.3g}, {p.max():.3g}]")
    return y, p
