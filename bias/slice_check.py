"""The findings of a search for badly served slices: how many were confirmed, and how bad the worst is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy

from assaymark.bias.codes import Column
from assaymark.bias.findings import Measured, findings
from assaymark.bias.multiplicity import FALSE_DISCOVERY_LEVEL, FAMILY_LEVEL
from assaymark.bias.rows import Flags, Predictions
from assaymark.bias.slice_results import Search, Slice, named
from assaymark.bias.slices import find_slices
from assaymark.reports.errors import InputError, nearest
from assaymark.reports.intervals import wilson
from assaymark.reports.model import (
    Cell,
    Estimate,
    Estimates,
    Evidence,
    Finding,
    Gate,
    Interval,
    Table,
)


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What went wrong for a row. among: the rows that count; rate: what the share of losses is called."""

    rate: str
    among: Callable[[Predictions], Flags]
    lost: Callable[[Predictions], Flags]


LOSSES: Mapping[str, Loss] = {
    "error": Loss(
        rate="error rate",
        among=lambda data: numpy.ones(data.n, dtype=numpy.bool_),
        lost=lambda data: data.label != data.prediction,
    ),
    "false_negative": Loss(
        rate="false negative rate",
        among=lambda data: data.label,
        lost=lambda data: ~data.prediction,
    ),
    "false_positive": Loss(
        rate="false positive rate",
        among=lambda data: ~data.label,
        lost=lambda data: data.prediction,
    ),
}
STEPS = (
    "Slices are conjunctions of values of the columns. A random half of the rows, drawn from the seed and "
    "the content of the rows, is searched for those in which the loss is more frequent than in all other "
    "rows: all of one and two conditions, and extensions of the best where more are allowed.",
    "Of slices that share most of their rows only the best is kept. The kept ones are tested on the other "
    "half, which the search never saw: exact one-sided tests against all other rows, with and without the "
    "rows of better slices, corrected together (Holm).",
    "Without a confirmed slice the interval of the worst difference reaches to the excess that would have "
    "been confirmed in four of five samples.",
)
SOURCES = (
    "Fisher 1935, The Design of Experiments",
    "Holm 1979, Scandinavian Journal of Statistics 6",
    "Benjamini and Hochberg 1995, JRSS B 57",
    "Newcombe 1998, Statistics in Medicine 17",
)
_BLIND = 0.25
"""That no slice was confirmed says nothing where a larger excess would have been missed."""
_SHOWN = 30
"""Slices in the table; the summary has the number of all."""
_MERGED_SHOWN = 3


def slice_findings(
    check: str,
    data: Predictions,
    columns: Mapping[str, Column],
    *,
    loss: str = "error",
    depth: int = 2,
    min_size: int = 50,
    gates: Sequence[Gate] = (),
    tags: tuple[str, ...] = (),
    seed: int = 0,
) -> list[Finding]:
    """`confirmed_slices` and `worst_slice_difference` of a loss, which is a name of LOSSES.

    columns: what slices are made of, each with a code for every row of data; sensitive ones may be
    among them, numbers are in bands. Both measures are None with the reason where no search was
    possible. Without a confirmed slice the worst difference is 0 and its interval reaches to the excess
    that four of five searches would have confirmed; a limit below that is not kept. Raises
    InputError for an unknown loss, or columns that do not fit.
    """
    if loss not in LOSSES:
        raise InputError(f'no loss is called "{loss}"{nearest(loss, LOSSES)}')
    chosen = LOSSES[loss]
    search = _search(data, columns, chosen, depth, min_size, seed)
    measured = (_count(search, data, chosen), _worst(search, chosen))
    found = [one for number in measured for one in findings(check, number, gates, tags)]
    return [_believed(one, search) for one in found]


def _believed(finding: Finding, search: Search) -> Finding:
    """A search that would have missed what its limit forbids is no good news."""
    if finding.limit is None or finding.value != 0:
        return finding
    allowed = _BLIND if finding.measure == "confirmed_slices" else finding.limit.maximum or 0.0
    least = search.detectable()
    if least is not None and least <= allowed:
        return finding
    return replace(finding, unreliable=_missed(search))


def _search(
    data: Predictions,
    columns: Mapping[str, Column],
    loss: Loss,
    depth: int,
    min_size: int,
    seed: int,
) -> Search:
    for name, column in columns.items():
        if len(column.codes) != data.n:
            raise InputError(
                f'column "{name}" has {len(column.codes)} rows, {data.name} has {data.n}: expected as many'
            )
    among = loss.among(data)
    return find_slices(
        {
            name: Column(name=column.name, names=column.names, codes=column.codes[among])
            for name, column in columns.items()
        },
        loss.lost(data)[among],
        weight=None if data.weight is None else data.weight[among],
        depth=depth,
        min_size=min_size,
        seed=seed,
    )


def _count(search: Search, data: Predictions, loss: Loss) -> Measured:
    target = f"slices by {loss.rate}"
    confirmed = search.confirmed
    blind = not confirmed and search.detectable() is None
    if search.why or blind:
        return Measured(
            target=target,
            measure="confirmed_slices",
            value=None,
            summary=f"Not measured: {search.why or _missed(search)}.",
            n=search.rows,
        )
    summary = (
        f"{len(confirmed)} of {len(search.tested)} slices with a high {loss.rate} in one half of {data.name} "
        f"have it in the other half too ({search.looked} slices compared)."
    )
    return Measured(
        target=target,
        measure="confirmed_slices",
        value=float(len(confirmed)),
        summary=summary if confirmed else f"{summary} {_missed(search).capitalize()}.",
        n=search.rows,
        evidence=_evidence(search, loss),
    )


def _worst(search: Search, loss: Loss) -> Measured:
    target, measure = f"slices by {loss.rate}", "worst_slice_difference"
    confirmed, least = search.confirmed, search.detectable()
    if search.why or (not confirmed and least is None):
        return Measured(
            target=target,
            measure=measure,
            value=None,
            summary=f"Not measured: {search.why or _missed(search)}.",
            n=search.held_out,
        )
    if not confirmed:
        return Measured(
            target=target,
            measure=measure,
            value=0.0,
            summary=f"No slice was confirmed; {_missed(search)}.",
            n=search.held_out,
            interval_at=lambda confidence: Interval(
                low=0.0,
                high=least or 1.0,
                confidence=0.8,
                method="excess that would have been seen",
            ),
        )
    worst = max(confirmed, key=lambda one: one.excess or 0.0)
    return Measured(
        target=target,
        measure=measure,
        value=worst.excess,
        summary=f"{loss.rate.capitalize()} of {worst.name}: {worst.rate:.3f}, of all other rows "
        f"{worst.other_rate:.3f}, on rows that the search had not seen ({worst.rows} in the slice).",
        n=search.held_out,
        interval_at=search.worst_interval,
    )


def _missed(search: Search) -> str:
    """What the search could not have seen."""
    least = search.detectable()
    small = f"a slice of {2 * search.min_size} rows"
    if least is None:
        return f"{small} could not have been confirmed, whatever its excess"
    return f"in {small} an excess below {least:.2f} would have been missed in more than one of five samples"


def _evidence(search: Search, loss: Loss) -> tuple[Evidence, ...]:
    likely, confirmed = search.likely, search.confirmed
    shown = [one for one in search.tested if one in confirmed or one in likely][:_SHOWN]
    table = Table(
        title=f"Slices with a high {loss.rate}",
        columns=(
            "slice",
            "rows held out",
            f"{loss.rate} inside",
            "outside",
            "difference",
            "at least",
            "at most",
            "p (Holm)",
            "p (Benjamini–Hochberg)",
            "verdict",
            "similar slices, not tested",
        ),
        rows=tuple(_row(one, search) for one in shown),
        note=_note(search, len(shown)),
    )
    chart = Estimates(
        title=f"{loss.rate.capitalize()} of confirmed slices",
        estimates=(
            *(_estimate(one, search) for one in shown if one in confirmed),
            Estimate(label="all rows held out", value=search.rate, n=search.held_out),
        ),
    )
    return (table, chart) if confirmed else (table,)


def _row(one: Slice, search: Search) -> tuple[Cell, ...]:
    interval = one.interval(0.95, len(search.tested))
    similar = "; ".join(named(other) for other in one.merged[:_MERGED_SHOWN])
    if len(one.merged) > _MERGED_SHOWN:
        similar += f"; and {len(one.merged) - _MERGED_SHOWN} more"
    return (
        one.name,
        one.rows,
        one.rate,
        one.other_rate,
        one.excess,
        interval.low if interval else None,
        interval.high if interval else None,
        one.holm,
        one.benjamini_hochberg,
        "confirmed" if one in search.confirmed else "likely, not confirmed",
        similar,
    )


def _estimate(one: Slice, search: Search) -> Estimate:
    interval = wilson(one.losses, one.cases, 1 - FAMILY_LEVEL / len(search.tested))
    return Estimate(
        label=one.name,
        value=one.rate,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        n=one.rows,
    )


def _note(search: Search, shown: int) -> str:
    found = {*search.confirmed, *search.likely}
    more = f" {len(found) - shown} more slices are not shown." if len(found) > shown else ""
    return (
        f"{search.looked} slices were compared in one random half of {search.rows} rows. The "
        f"{len(search.tested)} that stood out were tested on the other {search.held_out} rows, which the "
        "search never saw; all numbers here are of those rows. A confirmed slice has the higher rate on its "
        "own, without the rows of worse slices that it overlaps: the chance that any confirmed one does "
        f"not is at most {FAMILY_LEVEL:.0%} (exact tests, Holm). Of all slices listed a share of "
        f"{FALSE_DISCOVERY_LEVEL:.0%} may be chance (Benjamini and Hochberg). Intervals hold for all tested "
        f"slices at once.{more}"
    )
