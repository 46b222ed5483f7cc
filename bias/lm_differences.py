"""The largest difference between groups whose texts come in clusters, such as templates that groups share.

All pairs of groups have an interval at once (Tukey and Kramer; with correlated means: Brown 1984, Annals of
Statistics 12), since the largest of several noisy differences is never 0. A pair's ends come from the limits
of its two groups and the correlation of their cluster sums (Zou 2008, American Journal of Epidemiology 168,
equation 12): groups that answer the same templates are compared in pairs, others as they are.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from scipy.special import ndtr

from assaymark.bias.codes import Codes
from assaymark.bias.gaps import ALL_PAIRS, studentized_range
from assaymark.bias.lm_clusters import cluster_codes, mean_interval, share_interval
from assaymark.bias.rows import Numbers
from assaymark.reports.model import Interval


@dataclass(frozen=True, kw_only=True, eq=False)
class Grouped:
    """A number of every text, with its group and cluster.

    names: the groups, in order. low, high: the range of the numbers. shares: they are 0 or 1.
    """

    names: tuple[str, ...]
    values: Numbers
    group: Codes
    cluster: Codes
    low: float
    high: float
    shares: bool

    @property
    def sizes(self) -> Numbers:
        return numpy.bincount(self.group, minlength=len(self.names)).astype(float)

    @property
    def means(self) -> Numbers:
        """Of every group; NaN of one without a text."""
        sums = numpy.bincount(self.group, weights=self.values, minlength=len(self.names))
        with numpy.errstate(invalid="ignore"):
            return sums / self.sizes

    def interval(self, place: int, confidence: float = 0.95) -> Interval | None:
        """Of the mean of a group; None of fewer than two clusters."""
        mine = self.group == place
        values, clusters = self.values[mine], self.cluster[mine]
        count = len(numpy.unique(clusters))
        if count < 2:
            return None
        if self.shares:
            return share_interval(values, clusters, confidence)
        found = mean_interval(values, clusters, confidence)
        if (
            found is None
        ):  # all alike: as far as a share of clusters that was never seen could move it
            unseen = _unseen(count, confidence) * (self.high - self.low)
            mean = float(values.mean())
            found = Interval(
                low=mean - unseen, high=mean + unseen, confidence=confidence, method="all alike"
            )
        return Interval(
            low=max(found.low, self.low),
            high=min(found.high, self.high),
            confidence=confidence,
            method=found.method,
        )

    @property
    def difference(self) -> float | None:
        """The largest mean minus the smallest; None where a group has no text, or there is one group."""
        means = self.means
        if len(means) < 2 or numpy.isnan(means).any():
            return None
        return float(means.max() - means.min())

    def difference_interval(self, confidence: float = 0.95) -> Interval | None:
        """Of the largest difference, for all pairs at once; None where a group has none of its own."""
        if self.difference is None:
            return None
        reach = studentized_range(confidence, len(self.names)) / math.sqrt(2)
        single = float(2 * ndtr(reach) - 1)
        found = [self.interval(place, single) for place in range(len(self.names))]
        if any(one is None for one in found):
            return None
        limits = numpy.array([(one.low, one.high) for one in found if one is not None]).T
        least, most = self._ends(limits[0], limits[1], single)
        return Interval(
            low=max(least, 0.0),
            high=min(most, self.high - self.low),
            confidence=confidence,
            method=f"{ALL_PAIRS}, clustered",
        )

    def _ends(self, low: Numbers, high: Numbers, single: float) -> tuple[float, float]:
        """The largest lower and the largest upper end of all ordered pairs of groups."""
        means, residuals = self.means, self._residuals()
        down, up = (means - low).clip(0), (high - means).clip(0)
        alike = _correlations(residuals)
        gaps = means[:, None] - means[None, :]

        def half(one: Numbers, other: Numbers) -> numpy.ndarray:
            crossed = one[:, None] * other[None, :]
            square = (one**2)[:, None] + (other**2)[None, :] - 2 * alike * crossed
            return numpy.asarray(numpy.sqrt(square.clip(0)))

        pairs = ~numpy.eye(len(means), dtype=bool)
        least = float((gaps - half(down, up))[pairs].max())
        most = float((gaps + half(up, down))[pairs].max())
        same = numpy.abs(residuals[:, :, None] - residuals[:, None, :]).max(axis=0) < 1e-12
        if (same & (numpy.abs(gaps) < 1e-12) & pairs).any():
            count = int((residuals != 0).any(axis=1).sum()) or len(residuals)
            most = max(most, _unseen(count, single) * (self.high - self.low))
        return least, most

    def _residuals(self) -> numpy.ndarray:
        """What each cluster adds to the error of each mean, (clusters, groups)."""
        shape = (int(self.cluster.max()) + 1, len(self.names))
        apart = (self.values - self.means[self.group]) / self.sizes[self.group]
        cells = self.cluster * shape[1] + self.group
        return numpy.bincount(cells, weights=apart, minlength=shape[0] * shape[1]).reshape(shape)


def grouped(
    values: Sequence[float] | Numbers,
    groups: Sequence[str],
    clusters: Sequence[str],
    *,
    names: Sequence[str] = (),
    low: float = 0.0,
    high: float = 1.0,
    shares: bool = False,
) -> Grouped:
    """Numbers by group and cluster. names: the groups that must be there; the others follow in order.

    >>> found = grouped([1, 0, 0, 0], "abab", "1122", shares=True)
    >>> found.means.tolist(), found.difference
    ([0.5, 0.0], 0.5)
    """
    every = (*names, *sorted(set(groups) - set(names)))
    places = {name: place for place, name in enumerate(every)}
    return Grouped(
        names=every,
        values=numpy.asarray(values, dtype=float),
        group=numpy.array([places[name] for name in groups], dtype=numpy.int64),
        cluster=cluster_codes(list(clusters)),
        low=low,
        high=high,
        shares=shares,
    )


def _unseen(clusters: int, confidence: float) -> float:
    """The share of clusters that could be otherwise when none of so many is (Clopper and Pearson)."""
    return float(1 - ((1 - confidence) / 2) ** (1 / clusters))


def _correlations(residuals: numpy.ndarray) -> numpy.ndarray:
    """Of the errors of every two groups; 0 where one has no spread."""
    products = residuals.T @ residuals
    size = numpy.sqrt(products.diagonal())
    scale = numpy.outer(size, size)
    safe = numpy.where(scale > 0, scale, 1.0)
    return numpy.where(scale > 0, (products / safe).clip(-1, 1), 0.0)
