"""Whether a gap grew against an accepted model that decided on the same rows.

Both gaps come from the same people, so most of their noise is shared; comparing two intervals would
throw that away. Write n_p for the difference of new rates between the groups of an ordered pair p, and
o_q for that of the old rates of a pair q. The growth max n − max o is max_p (n_p − o_q) for the one pair q
that truly has the largest old gap, and min_q (n_p − o_q) for the one pair p that truly has the largest
new gap. So with standard errors s of n_p − o_q and a reach c that holds for all p (or all q) at once,

    min_q max_p (n_p − o_q − c s)  ≤  growth  ≤  max_p min_q (n_p − o_q + c s):

which pair is the true one need not be known, since the outer minimum (maximum) is over all of them. The
idea of a bound by all contrasts at once is Scheffé's and Tukey's (Miller 1981, Simultaneous Statistical
Inference, chapter 2); the covariance of two rates of the same rows is that of McNemar's table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
from scipy.special import ndtri

from assaymark.bias.codes import Column
from assaymark.bias.rows import Flags, Numbers
from assaymark.reports.model import Interval

Cells = numpy.ndarray[tuple[int, int, int, int], numpy.dtype[numpy.float64]]
"""By group, label, old decision and new decision."""
Matrix = numpy.ndarray[Any, numpy.dtype[numpy.float64]]

_LABEL, _OLD, _NEW = numpy.indices((2, 2, 2))
_ALL = numpy.ones((2, 2, 2), dtype=int)
RATES: Mapping[str, tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray, numpy.ndarray]] = {
    "selection_rate": (_OLD, _ALL, _NEW, _ALL),
    "true_positive_rate": (_OLD * _LABEL, _LABEL, _NEW * _LABEL, _LABEL),
    "false_positive_rate": (_OLD * (1 - _LABEL), 1 - _LABEL, _NEW * (1 - _LABEL), 1 - _LABEL),
    "positive_predictive_value": (_OLD * _LABEL, _OLD, _NEW * _LABEL, _NEW),
}
"""Which cells count: old hits, old cases, new hits, new cases."""
GROWTHS: Mapping[str, tuple[str, ...]] = {
    "demographic_parity_growth": ("selection_rate",),
    "equal_opportunity_growth": ("true_positive_rate",),
    "equalized_odds_growth": ("true_positive_rate", "false_positive_rate"),
    "predictive_parity_growth": ("positive_predictive_value",),
}
"""Each growth with the rates whose gap it compares; of several, the largest gap in each run."""
_DRAWS = 10_000
_SIMULATED, PAIRED = 8, 30
"""Up to so many groups the reach is simulated; up to so many it is Bonferroni's and rows are paired."""
_ADDED = 2.0
"""Rows added to every group, spread over its cells: a change of decisions that was never seen is not
certain never to happen (Agresti and Caffo 2000, The American Statistician 54)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Errors:
    """Old and new rates of every group, the variances of their errors, and the covariance of the two."""

    old: Numbers
    new: Numbers
    var_old: Numbers
    var_new: Numbers
    cov: Numbers


def tally(
    group: Column, label: Flags, old: Flags, new: Flags, weight: Numbers | None = None
) -> Cells:
    """Rows by group, label, old and new decision: 1 each, or their weights."""
    codes = group.codes * numpy.int32(8)
    codes += label.view(numpy.uint8) * numpy.uint8(4)
    codes += old.view(numpy.uint8) * numpy.uint8(2) + new.view(numpy.uint8)
    size = len(group.names)
    counted = numpy.bincount(codes, weights=weight, minlength=8 * size)
    cells: Cells = numpy.asarray(counted, dtype=numpy.float64).reshape(size, 2, 2, 2)
    return cells


def errors(sums: Cells, squares: Cells, rate: str) -> Errors:
    """The covariance of a rate in both runs, from the cells of each group.

    sums, squares: of the weights, so that weighted rows count as (Σw)² / Σw² of those that matter to
    the rate (Kish 1965, Survey Sampling, section 11.7). A rate is a ratio of two sums; its error is that
    of their linear part (the delta method), which is exact where cases do not depend on decisions.
    Every group needs a case in each run.
    """
    old_hits, old_cases, new_hits, new_cases = RATES[rate]
    matter = ((old_cases + new_cases) > 0).astype(float)
    total = _over(sums * matter)
    kish = total**2 / _over(squares * matter)
    size = kish + _ADDED
    extra = matter * (_ADDED / matter.sum())
    shares = (sums * matter * _wide(kish / total) + extra) / _wide(size)

    def linear(hits: numpy.ndarray, cases: numpy.ndarray) -> numpy.ndarray:
        of = _over(shares * cases)
        part: numpy.ndarray = (hits - _wide(_over(shares * hits) / of) * cases) / _wide(of)
        return part

    old, new = linear(old_hits, old_cases), linear(new_hits, new_cases)
    return Errors(
        old=_over(sums * old_hits) / _over(sums * old_cases),
        new=_over(sums * new_hits) / _over(sums * new_cases),
        var_old=_over(shares * old * old) / size,
        var_new=_over(shares * new * new) / size,
        cov=_over(shares * old * new) / size,
    )


def growth_interval(rates: Sequence[Errors], confidence: float) -> Interval:
    """An interval of how much the largest gap of any of the rates grew, new − old.

    rates: each with at least two groups, of rows that no other rate shares (such as true and false
    positive rates). Two runs that decide alike get an interval around 0 that is not empty: of two
    models that differ on one row in n, n rows show nothing in 37 % of samples.
    """
    groups = len(rates[0].old)
    contrasts = _contrasts(groups, len(rates))
    old, new, var_old, var_new, cov = (
        numpy.concatenate([getattr(one, name) for one in rates])
        for name in ("old", "new", "var_old", "var_new", "cov")
    )
    apart = (contrasts @ new)[:, None] - (contrasts @ old)[None, :]
    squares = contrasts**2
    variance = (squares @ var_new)[:, None] + (squares @ var_old)[None, :]
    variance -= 2 * (contrasts * cov) @ contrasts.T
    error = numpy.sqrt(variance.clip(min=1e-300))
    tail = (1 - confidence) / 2
    if groups <= _SIMULATED:
        reach = _simulated(contrasts, var_old, var_new, cov, error, tail)
    else:
        reach = float(-ndtri(tail / len(contrasts)))
    low = float((apart - reach * error).max(axis=0).min())
    high = float((apart + reach * error).min(axis=1).max())
    return Interval(low=max(low, -1.0), high=min(high, 1.0), confidence=confidence, method=_METHOD)


_METHOD = "paired (all pairs of groups of both runs at once)"


def _contrasts(groups: int, families: int) -> Matrix:
    """A row for each ordered pair of groups of each family: 1 at the one, −1 at the other."""
    first, second = numpy.nonzero(~numpy.eye(groups, dtype=bool))
    one = numpy.zeros((len(first), groups))
    one[numpy.arange(len(first)), first] = 1
    one[numpy.arange(len(first)), second] = -1
    return numpy.asarray(numpy.kron(numpy.eye(families), one), dtype=numpy.float64)


def _simulated(
    contrasts: Matrix, var_old: Numbers, var_new: Numbers, cov: Numbers, error: Matrix, tail: float
) -> float:
    """How many standard errors hold all pairs of one run at once, whichever pair of the other is true.

    The quantile of the largest of the normal variables n_p − o_q over p for each q, and over q for each
    p; the largest of these.
    """
    random = numpy.random.default_rng(0)
    units = random.standard_normal((2, _DRAWS, len(var_old)))
    sd_old = numpy.sqrt(var_old)
    slope = cov / sd_old
    rest = numpy.sqrt((var_new - slope**2).clip(min=0))
    old = ((units[0] * sd_old) @ contrasts.T).astype(numpy.float32)
    new = ((units[0] * slope + units[1] * rest) @ contrasts.T).astype(numpy.float32)
    scale, reach = error.astype(numpy.float32), 0.0
    # a pair and its reverse have the same distribution
    for place in numpy.flatnonzero((contrasts * numpy.arange(contrasts.shape[1])).sum(axis=1) > 0):
        over_new = ((new - old[:, place, None]) / scale[:, place]).max(axis=1)
        over_old = ((new[:, place, None] - old) / scale[place]).max(axis=1)
        found = numpy.quantile(numpy.stack([over_new, over_old]), 1 - tail, axis=1)
        reach = max(reach, float(found.max()))
    return reach


def _over(cells: numpy.ndarray) -> Numbers:
    """The sum over the cells of each group."""
    sums: Numbers = cells.sum(axis=(1, 2, 3))
    return sums


def _wide(numbers: Numbers) -> numpy.ndarray:
    return numbers[:, None, None, None]
