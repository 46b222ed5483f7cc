"""Heads on the features of a picture: smooth functions of a few directions, which a delivery hardly moves.

Files of a class are weighed by the square root of how many its source has. The directions are those along
which pictures differ more than a picture and its own re-deliveries do, which say nothing of its origin
(within-class covariance normalisation, Hatch et al. 2006, applied to deliveries). On them stand random
Fourier features of a Gaussian kernel (Rahimi and Recht 2007) as wide as pictures commonly lie apart, and on
these Fisher's discriminant, again with what deliveries move counted as noise.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType

import numpy
from jaxtyping import Bool, Float, Float32, Int
from scipy.linalg import eigh, solve

from assaymark.provenance.image_cooccurrence import cooccurrence
from assaymark.provenance.image_planes import SMALLEST, Pixels, Planes, Vector, planes
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
PARTS = ("mean", "scale", "directions", "waves", "phases", "weights", "offset")  # of a Head
FUSED = ("spectrum", "neighbours", "scales")  # the heads whose mean is the ensemble's score
NUISANCE = 3.0  # times the covariance between deliveries that counts as noise
DIRECTIONS, WAVES = 40, 512
RIDGE = 1.0  # of the discriminant, in the waves' variances, which are 1
_FLOOR = 0.1  # variance that every standard feature has at least
_LEAST = 0.1  # share of a direction's variance that is no noise: few rows span few directions
_PLAIN = 0.3  # how much the directions themselves count beside their waves
_FARTHEST = 4.0  # standard deviations: beyond, a feature counts as that far

Matrix = Float32[numpy.ndarray, "rows features"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Head:
    """A score: 0 midway between the labels it was fitted to, with a standard deviation of 1 within them.

    waves: WAVES columns at most, one for each cosine; phases: where each begins, in radians.
    """

    mean: Float[numpy.ndarray, " features"]
    scale: Float[numpy.ndarray, " features"]
    directions: Float[numpy.ndarray, "features directions"]
    waves: Float[numpy.ndarray, "directions waves"]
    phases: Float[numpy.ndarray, " waves"]
    weights: Float[numpy.ndarray, " both"]
    offset: float

    def scores(self, rows: Matrix) -> Float[numpy.ndarray, " rows"]:
        found: Float[numpy.ndarray, " rows"] = self.lifted(rows) @ self.weights + self.offset
        return found

    def score(self, vector: Vector) -> float:
        return float(self.scores(vector[None])[0])

    def lifted(self, rows: Matrix) -> Float[numpy.ndarray, "rows both"]:
        """The waves of the rows and, smaller, the directions themselves."""
        along = _standard(rows, self.mean, self.scale) @ self.directions
        waves = 2**0.5 * numpy.cos(along @ self.waves + self.phases)
        return numpy.concatenate([waves, _PLAIN * along], axis=1)


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


@cache
def sizes() -> Mapping[str, int]:
    """How many numbers each kind of features has."""
    plain = numpy.zeros((SMALLEST, SMALLEST, 3), numpy.uint8)
    return {name: len(vector) for name, vector in features(plain).items()}


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
    labels = rows.labels[keep]
    clusters = [name for name, kept in zip(rows.clusters, keep, strict=True) if kept]
    weights = balanced(labels, clusters)
    twin = (numpy.cumsum(keep) - 1)[rows.twin[keep]]  # a delivery is kept with what it was made of
    matrix = rows.features[name][keep]
    mean, scale = matrix.mean(0), matrix.std(0)
    scale[scale < 1e-9] = 1.0
    standard = _standard(matrix, mean, scale)
    directions = _directions(standard, weights, standard - standard[twin], nuisance)
    rng = numpy.random.default_rng(0)
    count = directions.shape[1]
    blank = Head(
        mean=mean,
        scale=scale,
        directions=directions,
        waves=rng.normal(size=(count, WAVES)) / count**0.5,
        phases=rng.uniform(0, 2 * numpy.pi, WAVES),
        weights=numpy.zeros(WAVES + count),
        offset=0.0,
    )
    lifted = blank.lifted(matrix).astype(numpy.float32)
    return _discriminant(blank, lifted, labels, weights, lifted - lifted[twin], nuisance)


def _standard(
    rows: Matrix, mean: Float[numpy.ndarray, " features"], scale: Float[numpy.ndarray, " features"]
) -> Float[numpy.ndarray, "rows features"]:
    found: Float[numpy.ndarray, "rows features"] = numpy.clip(
        (rows.astype(numpy.float64) - mean) / scale, -_FARTHEST, _FARTHEST
    )
    return found


def _directions(
    standard: Float[numpy.ndarray, "rows features"],
    weights: Float[numpy.ndarray, " rows"],
    moved: Float[numpy.ndarray, "rows features"],
    nuisance: float,
) -> Float[numpy.ndarray, "features directions"]:
    """Those of the largest variance over that of deliveries; pictures have variance 1 along each."""
    spread = _covariance(standard - weights @ standard, weights)
    noise = spread + nuisance * _covariance(moved, weights) + _FLOOR * numpy.eye(len(spread))
    values, vectors = eigh(spread, noise)
    most = max(1, min(DIRECTIONS, int((values > _LEAST).sum())))
    found: Float[numpy.ndarray, "features directions"] = vectors[:, ::-1][:, :most]
    found /= numpy.sqrt(numpy.maximum(values[::-1][:most], _LEAST))
    return found


def _discriminant(
    blank: Head,
    lifted: Float32[numpy.ndarray, "rows both"],
    labels: Bool[numpy.ndarray, " rows"],
    weights: Float[numpy.ndarray, " rows"],
    moved: Float32[numpy.ndarray, "rows both"],
    nuisance: float,
) -> Head:
    means = [2 * weights[labels == fake] @ lifted[labels == fake] for fake in (False, True)]
    inside = lifted - numpy.stack(means).astype(numpy.float32)[labels.astype(int)]
    within = _covariance(inside, weights)
    noise = within + nuisance * _covariance(moved, weights) + RIDGE * numpy.eye(len(within))
    slope = solve(noise, means[1] - means[0], assume_a="pos")
    slope /= max(float(slope @ within @ slope) ** 0.5, 1e-12)
    return replace(blank, weights=slope, offset=-float((means[0] + means[1]) @ slope) / 2)


def _covariance(
    rows: Float[numpy.ndarray, "rows n"] | Float32[numpy.ndarray, "rows n"],
    weights: Float[numpy.ndarray, " rows"],
) -> Float[numpy.ndarray, "n n"]:
    """The mean of products; rows with no weight or no difference count as nothing."""
    half = rows * numpy.sqrt(weights)[:, None].astype(rows.dtype)
    return numpy.asarray(half.T @ half, dtype=numpy.float64)


def held_out(
    rows: Rows, groups: Sequence[str], *, folds: int = 6
) -> dict[str, Float[numpy.ndarray, " rows"]]:
    """Scores of every row by heads that have seen nothing of its group, nor of a group of the other label.

    groups: what must not be parted, of each row (a family of generators, a package of photographs). Groups
    of each label are dealt to folds, and each pair of folds is left out once; a row's score is the mean
    over the pairs that leave it out. "ensemble" is the mean of FUSED.
    """
    fold = folds_of(rows.labels, groups, folds=folds)
    total = {name: numpy.zeros(len(fold)) for name in rows.features}
    times = numpy.zeros(len(fold))
    for real in sorted(set(fold[~rows.labels])):
        for fake in sorted(set(fold[rows.labels])):
            out = numpy.where(rows.labels, fold == fake, fold == real)
            times += out
            for name in rows.features:
                head = fit(rows, name, ~out)
                total[name][out] += head.scores(rows.features[name][out])
    scores = {name: value / times for name, value in total.items()}
    return scores | {"ensemble": numpy.mean([scores[name] for name in FUSED], axis=0)}


def folds_of(
    labels: Bool[numpy.ndarray, " rows"], groups: Sequence[str], *, folds: int = 6
) -> Int[numpy.ndarray, " rows"]:
    """The fold of every row among those of its label, from 0; rows of one group share it."""
    names = numpy.asarray(groups, dtype=object)
    deal = {fake: _dealt(names[labels == fake], folds) for fake in (False, True)}
    return numpy.array([deal[bool(fake)][name] for fake, name in zip(labels, names, strict=True)])


def _dealt(names: Sequence[str], folds: int) -> dict[str, int]:
    """The largest groups first, each to the fold that has the fewest rows."""
    count = {name: int(sum(other == name for other in names)) for name in set(names)}
    size = [0] * min(folds, len(count))
    found = {}
    for name in sorted(count, key=lambda name: (-count[name], name)):
        found[name] = int(numpy.argmin(size))
        size[found[name]] += count[name]
    return found
