"""Linear heads on the features of a picture, fitted so that a delivery hardly moves them.

Files of a class are weighed by the square root of how many its source has. Differences between a training
picture and its own re-deliveries span directions that say nothing of its origin; a ridge penalty that
grows along them turns the head away from them (within-class covariance normalisation, Hatch et al. 2006,
and nuisance attribute projection, Solomonoff et al. 2005, applied to deliveries).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy
from jaxtyping import Bool, Float, Float32, Int

from assaymark.provenance.image_cooccurrence import cooccurrence
from assaymark.provenance.image_planes import Pixels, Planes, Vector, planes
from assaymark.provenance.image_spectrum import spectrum
from assaymark.provenance.image_statistics import neighbours, scales

FEATURES: MappingProxyType[str, Callable[[Planes], Vector]] = MappingProxyType(
    {
        "spectrum": spectrum,
        "neighbours": neighbours,
        "scales": scales,
        "cooccurrence": cooccurrence,
    }
)
FUSED = ("spectrum", "neighbours", "scales")  # the heads whose mean is the ensemble's score
STRENGTH = 0.0003  # inverse of the ridge penalty, as scikit-learn's C
NUISANCE = 0.3  # times the variance between deliveries that the penalty grows by
_FARTHEST = 4.0  # standard deviations: beyond, a feature counts as that far

Matrix = Float32[numpy.ndarray, "rows features"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Head:
    """A score with mean 0 and standard deviation 1 over the rows it was fitted to."""

    mean: Float[numpy.ndarray, " features"]
    scale: Float[numpy.ndarray, " features"]
    weights: Float[numpy.ndarray, " features"]
    offset: float

    def scores(self, rows: Matrix) -> Float[numpy.ndarray, " rows"]:
        found: Float[numpy.ndarray, " rows"] = self._standard(rows) @ self.weights + self.offset
        return found

    def score(self, vector: Vector) -> float:
        return float(self.scores(vector[None])[0])

    def _standard(self, rows: Matrix) -> Float[numpy.ndarray, "rows features"]:
        return numpy.asarray(
            numpy.clip((rows - self.mean) / self.scale, -_FARTHEST, _FARTHEST), dtype=numpy.float64
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Training rows. clusters: source of a real, generator of a fake. twin: the row each is a delivery of,
    or its own number."""

    features: dict[str, Matrix]
    labels: Bool[numpy.ndarray, " rows"]
    clusters: tuple[str, ...]
    twin: Int[numpy.ndarray, " rows"]

    @property
    def originals(self) -> Bool[numpy.ndarray, " rows"]:
        return numpy.asarray(self.twin == numpy.arange(len(self.twin)), dtype=bool)


def features(pixels: Pixels) -> dict[str, Vector]:
    """All features of one crop of at least 128 x 128 pixels."""
    picture = planes(pixels)
    return {name: compute(picture) for name, compute in FEATURES.items()}


def balanced(
    labels: Bool[numpy.ndarray, " rows"], clusters: Sequence[str]
) -> Float[numpy.ndarray, " rows"]:
    """Weights with sum 1: each class one half, a cluster of n rows by the square root of n."""
    names = numpy.asarray(clusters, dtype=object)
    weights = numpy.zeros(len(labels))
    for fake in (False, True):
        here = labels == fake
        for name in set(names[here]):
            inside = here & (names == name)
            weights[inside] = inside.sum() ** -0.5
        weights[here] /= 2 * weights[here].sum()
    return weights


def fit(
    rows: Rows, name: str, keep: Bool[numpy.ndarray, " rows"], *, nuisance: float = NUISANCE
) -> Head:
    """The head of one kind of features, fitted to the rows that are kept; needs rows of both labels."""
    from sklearn.linear_model import LogisticRegression

    every = rows.features[name].astype(numpy.float64)
    mean, scale = every[keep].mean(0), every[keep].std(0)
    scale[scale < 1e-9] = 1.0
    every = numpy.clip((every - mean) / scale, -_FARTHEST, _FARTHEST)
    delivered = keep & ~rows.originals
    whiten = _away_from(every[delivered] - every[rows.twin[delivered]], nuisance)
    labels = rows.labels[keep]
    clusters = [name for name, kept in zip(rows.clusters, keep, strict=True) if kept]
    weights = balanced(labels, clusters) * (keep & rows.originals).sum()
    model = LogisticRegression(C=STRENGTH, max_iter=300)
    model.fit(every[keep] @ whiten, labels, sample_weight=weights)
    slope = whiten @ model.coef_[0]
    scores = every[keep] @ slope
    spread = max(float(scores.std()), 1e-12)
    return Head(
        mean=mean, scale=scale, weights=slope / spread, offset=-float(scores.mean()) / spread
    )


def _away_from(
    differences: Float[numpy.ndarray, "n features"], nuisance: float
) -> Float[numpy.ndarray, "features features"]:
    """(1 + nuisance · covariance)^(-1/2): after it, an even penalty presses along the differences."""
    size = differences.shape[1]
    covariance = (
        differences.T @ differences / max(len(differences), 1)
        if len(differences)
        else numpy.zeros((size, size))
    )
    values, vectors = numpy.linalg.eigh(covariance)
    whitened: Float[numpy.ndarray, "features features"] = (
        vectors / numpy.sqrt(1 + nuisance * numpy.maximum(values, 0))
    ) @ vectors.T
    return whitened


def held_out(
    rows: Rows, groups: Sequence[str], *, folds: int = 6
) -> dict[str, Float[numpy.ndarray, " rows"]]:
    """Scores of every row by heads that have seen nothing of its group, nor of a group of the other label.

    groups: what must not be parted, of each row (a family of generators, a package of photographs). Groups
    of each label are dealt to folds, and each pair of folds is left out once; a row's score is the mean
    over the pairs that leave it out. "ensemble" is the mean of FUSED.
    """
    names = numpy.asarray(groups, dtype=object)
    deal = {fake: _dealt(names[rows.labels == fake], folds) for fake in (False, True)}
    fold = numpy.array(
        [deal[bool(fake)][name] for fake, name in zip(rows.labels, names, strict=True)]
    )
    total = {name: numpy.zeros(len(names)) for name in rows.features}
    times = numpy.zeros(len(names))
    for real in sorted(set(deal[False].values())):
        for fake in sorted(set(deal[True].values())):
            out = numpy.where(rows.labels, fold == fake, fold == real)
            times += out
            for name in rows.features:
                head = fit(rows, name, ~out)
                total[name][out] += head.scores(rows.features[name][out])
    scores = {name: value / times for name, value in total.items()}
    return scores | {"ensemble": numpy.mean([scores[name] for name in FUSED], axis=0)}


def _dealt(names: Sequence[str], folds: int) -> dict[str, int]:
    """The largest groups first, each to the fold that has the fewest rows."""
    count = {name: int(sum(other == name for other in names)) for name in set(names)}
    size = [0] * min(folds, len(count))
    found = {}
    for name in sorted(count, key=lambda name: (-count[name], name)):
        found[name] = int(numpy.argmin(size))
        size[found[name]] += count[name]
    return found
