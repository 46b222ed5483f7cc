"""How far apart the likelihoods of descriptors lie, over templates and nouns that are all crossed."""

import numpy
from scipy.special import stdtrit

from assaymark.bias.rows import Numbers
from assaymark.reports.model import Interval

Cells = numpy.ndarray[tuple[int, int, int], numpy.dtype[numpy.float64]]
"""A number for each descriptor, template and noun."""
Matrix = numpy.ndarray[tuple[int, int], numpy.dtype[numpy.float64]]
Seen = numpy.ndarray[tuple[int, int], numpy.dtype[numpy.bool_]]


def means(values: Cells, seen: Seen) -> Numbers:
    """The mean of each descriptor over the templates and nouns (templates, nouns) that are seen."""
    found: Numbers = values[:, seen].mean(axis=1)
    return found


def gap_interval(values: Cells, seen: Seen, confidence: float) -> Interval | None:
    """Interval of the largest difference of two means, which holds whichever two they are.

    All differences get intervals that hold at once: their standard errors are clustered by template and by
    noun (Cameron, Gelbach and Miller 2011, J. Business & Economic Statistics 29, section 2.1; not less than
    by either alone), Student's t has one degree of freedom less than there are of the fewer, and the error is
    shared out over all pairs (Bonferroni). The largest difference is at least the largest lower end and at
    most the largest upper one. None of fewer than two templates or nouns, or where no difference ever varies.
    """
    fewest = min(int(seen.any(axis=axis).sum()) for axis in (0, 1))
    if fewest < 2 or len(values) < 2:
        return None
    mean = means(values, seen)
    errors = _errors(numpy.where(seen, values - mean[:, None, None], 0.0), seen)
    if not (errors > 0).any():
        return None
    pairs = len(values) * (len(values) - 1) / 2
    reach = float(-stdtrit(fewest - 1, (1 - confidence) / 2 / pairs)) * errors
    apart = numpy.abs(mean[:, None] - mean[None])
    return Interval(
        low=max(0.0, float((apart - reach).max())),
        high=float((apart + reach).max()),
        confidence=confidence,
        method="two-way clusters, simultaneous",
    )


def _errors(centred: Cells, seen: Seen) -> Matrix:
    """Standard errors of all differences of two descriptors, (descriptors, descriptors)."""
    cells = centred.reshape(len(centred), -1)
    by_template, by_noun, by_cell = (
        _squares(sums) * count / (count - 1)
        for sums, count in (
            (centred.sum(axis=2), int(seen.any(axis=1).sum())),
            (centred.sum(axis=1), int(seen.any(axis=0).sum())),
            (cells, int(seen.sum())),
        )
    )
    square = numpy.maximum(numpy.maximum(by_template, by_noun), by_template + by_noun - by_cell)
    # what rounding leaves of a difference that never varies
    square[square <= 1e-12 * square.max(initial=0.0)] = 0.0
    errors: Matrix = numpy.sqrt(square) / int(seen.sum())
    return errors


def _squares(sums: Matrix) -> Matrix:
    """Σ (a − b)² of all pairs of rows."""
    products = sums @ sums.T
    own = numpy.diag(products)
    found: Matrix = own[:, None] + own[None] - 2 * products
    return numpy.maximum(found, 0.0)
