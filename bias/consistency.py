"""Whether people who are alike get the same decision: consistency among nearest neighbours.

Zemel et al. 2013, Learning fair representations, section 5: 1 − mean |decision − mean decision of the k
nearest|. There and in AIF360 a row is among its own nearest; here it is not unless asked for, since it
always agrees with itself.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy
import pandas
from sklearn.neighbors import NearestNeighbors

from assaymark.bias.rows import Flags, Numbers
from assaymark.reports.errors import InputError
from assaymark.reports.intervals import wilson
from assaymark.reports.model import Interval

MOST_ROWS = 20_000
"""Beyond this many rows a sample of them is compared."""
_MOST_TEXTS = 200
_SCATTER = 1e-4
Points = numpy.ndarray[tuple[int, int], numpy.dtype[numpy.float64]]
Near = numpy.ndarray[tuple[int, int], numpy.dtype[numpy.int64]]


@dataclass(frozen=True, kw_only=True)
class Consistency:
    """value in [0, 1], None with the reason in `why`.

    n: rows that were compared. cases: how many independent equal rows say as much.
    """

    n: int
    value: float | None
    cases: float = 0.0
    why: str = ""

    def interval(self, confidence: float) -> Interval | None:
        """Wilson's for `cases` rows; None without a value."""
        if self.value is None:
            return None
        found = wilson(self.value * self.cases, self.cases, confidence)
        return None if found is None else replace(found, method="Wilson, with the jackknife's size")


def consistency(
    points: Points,
    decision: Flags,
    *,
    neighbors: int = 5,
    weight: Numbers | None = None,
    with_itself: bool = False,
) -> Consistency:
    """1 − the weighted mean over rows of |decision − mean decision of the nearest neighbours|.

    points: rows × dimensions, distances are Euclidean. with_itself: a row is its own nearest
    neighbour, as in AIF360. Which of several at the same distance count is arbitrary (`apart`). There is no
    value for fewer than 2 more rows than neighbours, nor where all decisions are the same.
    """
    if neighbors < 1:
        raise InputError(f"consistency is measured with 1 neighbour or more, got {neighbors}")
    weights = numpy.ones(len(points)) if weight is None else weight
    why = _why_not(decision, weights, neighbors)
    if why:
        return Consistency(n=len(points), value=None, why=why)
    search = NearestNeighbors(n_neighbors=neighbors + 1).fit(points)
    near = search.kneighbors(points if with_itself else None, return_distance=False)
    found, variance = _jackknife(near, decision.astype(numpy.float64), weights)
    return Consistency(
        n=len(points), value=found, cases=_cases(found, variance, weights, neighbors)
    )


def _why_not(decision: Flags, weights: Numbers, neighbors: int) -> str:
    if len(decision) < neighbors + 2:
        return f"{len(decision)} rows are too few to compare each with {neighbors} others"
    if decision.all() or not decision.any():
        return "every row has the same decision, so that neighbours agree whatever they are"
    return "" if weights.any() else "no row weighs anything"


def _jackknife(near: Near, decision: Numbers, weights: Numbers) -> tuple[float, float]:
    """The consistency, and its variance from leaving out each row in turn.

    near: rows × (k + 1), nearest first; the last one steps in where another is left out. The variance
    is too large rather than too small on average, for any function of independent rows (Efron and
    Stein 1981, Annals of Statistics 9), and so for neighbourhoods that overlap.
    """
    k = near.shape[1] - 1
    around, spare = decision[near[:, :k]], decision[near[:, k]]
    sums = around.sum(axis=1)
    apart = numpy.abs(decision - sums / k)
    without = numpy.abs(decision[:, None] - (sums[:, None] - around + spare[:, None]) / k)
    moved = ((without - apart[:, None]) * weights[:, None]).ravel()
    total, size = float(apart @ weights), float(weights.sum())
    left = total - apart * weights + numpy.bincount(near[:, :k].ravel(), moved, len(decision))
    rest = size - weights
    means = numpy.divide(left, rest, out=numpy.zeros_like(left), where=rest > 0)
    return 1 - total / size, float(((means - means.mean()) ** 2).sum()) * (1 - 1 / len(decision))


def _cases(value: float, variance: float, weights: Numbers, neighbors: int) -> float:
    """The rows that would give a proportion of this value this variance; at most those there are.

    Where all neighbours agree the variance says nothing: then each neighbourhood counts once.
    """
    most = float(weights.sum()) ** 2 / float(weights @ weights)
    spread = value * (1 - value)
    if variance <= 0 or spread <= 0:
        return max(most / (neighbors + 1), 1.0)
    return min(max(spread / variance, 1.0), most)


def sample(n: int, seed: int, most: int = MOST_ROWS) -> numpy.ndarray[Any, Any]:
    """The places of at most so many rows of n, in their order, drawn without replacement."""
    if n <= most:
        return numpy.arange(n)
    return numpy.sort(numpy.random.default_rng(seed).choice(n, size=most, replace=False))


def apart(points: Points, seed: int) -> Points:
    """The points, each moved at random by some 0.0001, so that no two are at the same distance.

    Of many rows at one point the search finds the same few for all, and these few then decide: on the
    Adult data by sex and race the consistency ran from 0.58 to 0.74 with the order of the rows.
    """
    return points + numpy.random.default_rng(seed).normal(scale=_SCATTER, size=points.shape)


def points(features: pandas.DataFrame) -> Points:
    """Rows as points: numbers with variance 1, and an axis for each text.

    Rows of different text are as far apart as numbers by one standard deviation, and so are a missing
    and a present value. A missing number lies at the mean. Raises InputError for infinite numbers, for
    columns of other kinds, for texts that hardly repeat, and when all rows would be at one point.
    """
    axes: list[Numbers] = []
    for name in features.columns:
        values = features[name]
        if pandas.api.types.is_bool_dtype(values) or pandas.api.types.is_numeric_dtype(values):
            axes += _of_numbers(values.to_numpy(dtype=numpy.float64, na_value=numpy.nan), str(name))
        elif pandas.api.types.is_datetime64_any_dtype(values):
            raise InputError(
                f'column "{name}" holds dates: turn them into numbers, or leave them out'
            )
        else:
            axes += _of_texts(values, str(name))
    if not axes:
        raise InputError(
            f"the {features.shape[1]} feature columns have one value each, so that all rows are alike: name "
            "columns that differ"
        )
    return numpy.stack(axes, axis=1)


def _of_numbers(values: Numbers, name: str) -> list[Numbers]:
    if numpy.isinf(values).any():
        raise InputError(f'column "{name}" has infinite numbers: expected finite ones, or none')
    missing = numpy.isnan(values)
    known = values[~missing]
    axes: list[Numbers] = []
    if len(known) and known.std() > 0:
        axes.append(numpy.where(missing, 0, (values - known.mean()) / known.std()))
    if missing.any() and not missing.all():
        axes.append(missing.astype(numpy.float64))
    return axes


def _of_texts(values: "pandas.Series[Any]", name: str) -> list[Numbers]:
    codes, kinds = pandas.factorize(values, use_na_sentinel=False)
    if len(kinds) > _MOST_TEXTS:
        raise InputError(
            f'column "{name}" has {len(kinds)} different texts: expected at most {_MOST_TEXTS} categories; '
            "leave it out of features"
        )
    if len(kinds) < 2:
        return []
    # two texts differ on two axes
    return [(codes == place) / numpy.sqrt(2) for place in range(len(kinds))]
