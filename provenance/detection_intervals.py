"""How far a detector's numbers could be off: files of one source are no independent witnesses.

Hundreds of photographs of four data sets say little of the fifth. Intervals therefore resample sources of
reals and generators of fakes first, files second (Davison and Hinkley 1997, section 3.8); with few
clusters even these are too short, which is why `evaluate` refuses to generalise from fewer than eight.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy
from jaxtyping import Int
from numpy.typing import ArrayLike
from scipy import stats

from assaymark.provenance.detection_scores import Labels, Scores, auc, checked
from assaymark.reports.errors import InputError
from assaymark.reports.model import Interval

Statistic = Callable[[Labels, Scores], float | None]
Places = Int[numpy.ndarray, " files"]
REPLICATES = 1000
LIKENESS = 0.1
"""The intra-cluster correlation that is assumed where it cannot be estimated."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """Scored files. labels: True for fakes. clusters: the source of a real, the generator of a fake."""

    labels: Labels
    scores: Scores
    clusters: tuple[str, ...]

    def __post_init__(self) -> None:
        checked(self.labels, self.scores)
        if len(self.clusters) != len(self.labels):
            raise InputError(f"{len(self.clusters)} clusters for {len(self.labels)} files")

    def members(self, fake: bool) -> dict[str, Places]:
        """The places of the files of every cluster of one label, in alphabetical order."""
        names = numpy.asarray(self.clusters, dtype=object)
        here = self.labels == fake
        return {
            name: numpy.flatnonzero(here & (names == name)) for name in sorted(set(names[here]))
        }

    def only(self, keep: ArrayLike) -> "Sample":
        """The files that are kept."""
        places = numpy.flatnonzero(numpy.asarray(keep, dtype=bool))
        return Sample(
            labels=self.labels[places],
            scores=self.scores[places],
            clusters=tuple(self.clusters[place] for place in places),
        )


def sample(labels: ArrayLike, scores: ArrayLike, clusters: Sequence[str]) -> Sample:
    """A Sample of any sequences; raises InputError where they do not fit together."""
    y, s = checked(labels, scores)
    return Sample(labels=y, scores=s, clusters=tuple(clusters))


def resamples(of: Sample, *, replicates: int = REPLICATES, seed: int = 0) -> Iterator[Places]:
    """Places of files drawn with replacement: clusters of each label first, then files in each."""
    rng = numpy.random.default_rng(seed)
    sides = [list(of.members(fake).values()) for fake in (False, True)]
    for _ in range(replicates):
        drawn = [
            side[cluster][rng.integers(len(side[cluster]), size=len(side[cluster]))]
            for side in sides
            for cluster in rng.integers(len(side), size=len(side))
            if side
        ]
        yield numpy.concatenate(drawn) if drawn else numpy.empty(0, int)


def bootstrap(
    of: Sample,
    statistic: Statistic,
    *,
    confidence: float = 0.95,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Interval | None:
    """The percentile interval of a statistic over sources and generators; None where it is not defined."""
    drawn = (
        statistic(of.labels[places], of.scores[places])
        for places in resamples(of, replicates=replicates, seed=seed)
    )
    values = [value for value in drawn if value is not None]
    if not values:
        return None
    tail = (1 - confidence) / 2
    low, high = numpy.quantile(values, [tail, 1 - tail])
    method = "bootstrap of sources and generators, then files"
    return Interval(low=float(low), high=float(high), confidence=confidence, method=method)


def delong(labels: ArrayLike, scores: ArrayLike, *, confidence: float = 0.95) -> Interval | None:
    """The interval of an AUC for independent files (DeLong et al. 1988), symmetric in its logit.

    None with fewer than two files of a label, or at an AUC of 0 or 1, where the variance says nothing.
    """
    y, s = checked(labels, scores)
    value = auc(y, s)
    if value is None or not 0 < value < 1 or min(y.sum(), (~y).sum()) < 2:
        return None
    fakes, reals = _placements(s[y], s[~y]), _placements(s[~y], s[y])
    variance = fakes.var(ddof=1) / len(fakes) + reals.var(ddof=1) / len(reals)
    reach = stats.norm.ppf((1 + confidence) / 2) * variance**0.5 / (value * (1 - value))
    centre = numpy.log(value / (1 - value))
    low, high = 1 / (1 + numpy.exp(-(centre + numpy.array([-reach, reach]))))
    return Interval(low=float(low), high=float(high), confidence=confidence, method="DeLong, logit")


def _placements(these: Scores, among: Scores) -> Scores:
    """Of each score, the share of the others that lie below it, equal ones counted half."""
    ordered = numpy.sort(among)
    below = numpy.searchsorted(ordered, these, "left") + numpy.searchsorted(ordered, these, "right")
    shares: Scores = below / (2 * len(ordered))
    return shares


def effective(sizes: Sequence[int], likeness: float = LIKENESS) -> float:
    """How many independent files clusters of such sizes are worth: Σ n / (1 + (n - 1) · likeness).

    likeness: the intra-cluster correlation, in [0, 1] (Kish 1965, section 5.4).
    """
    return float(sum(n / (1 + (n - 1) * likeness) for n in sizes))


def rate_interval(
    counts: Sequence[tuple[int, int]], *, likeness: float = LIKENESS, confidence: float = 0.95
) -> Interval | None:
    """The Clopper-Pearson interval of a rate over clusters of (hits, files), of their effective number.

    It does not shrink to nothing at no hits, where a bootstrap of clusters does.
    """
    files = sum(n for _, n in counts)
    if not files:
        return None
    n = effective([n for _, n in counts], likeness)
    hits = sum(k for k, _ in counts) / files * n
    tail = (1 - confidence) / 2
    low = 0.0 if hits <= 0 else float(stats.beta.ppf(tail, hits, n - hits + 1))
    high = 1.0 if hits >= n else float(stats.beta.ppf(1 - tail, hits + 1, n - hits))
    method = f"Clopper-Pearson, {n:.0f} effective files"
    return Interval(low=low, high=high, confidence=confidence, method=method)


def next_source(values: Sequence[float], *, confidence: float = 0.9) -> Interval | None:
    """Where the number of one more source will lie, if sources are alike and their numbers normal.

    mean ± t · s · sqrt(1 + 1/n) (Fisher 1935); None of fewer than three sources, or of equal numbers,
    whose spread says nothing.
    """
    n = len(values)
    if n < 3 or max(values) == min(values):
        return None
    reach = (
        stats.t.ppf((1 + confidence) / 2, n - 1) * numpy.std(values, ddof=1) * (1 + 1 / n) ** 0.5
    )
    centre = float(numpy.mean(values))
    method = f"prediction interval of the next of {n} sources, t"
    return Interval(
        low=float(centre - reach), high=float(centre + reach), confidence=confidence, method=method
    )
