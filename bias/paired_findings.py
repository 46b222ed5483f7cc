"""How much each gap grew since the accepted run, as findings, and which decisions changed."""

from collections.abc import Sequence
from dataclasses import replace

import numpy

from assaymark.bias.bounds import gap_bounds
from assaymark.bias.check import at_worst, gates_of
from assaymark.bias.findings import Measured, doubted, findings
from assaymark.bias.gaps import difference_interval
from assaymark.bias.groups import Grouped, by_group, families
from assaymark.bias.multiplicity import holm
from assaymark.bias.paired import GROWTHS, PAIRED, Cells, errors, growth_interval, tally
from assaymark.bias.rows import Flags, Predictions
from assaymark.reports.errors import InputError
from assaymark.reports.intervals import sign_test
from assaymark.reports.model import Cell, Finding, Gate, Interval, Table


def growth_findings(
    check: str,
    data: Predictions,
    accepted: Flags,
    attribute: str,
    *,
    gates: Sequence[Gate] = (),
    tags: tuple[str, ...] = (),
    min_group_size: int = 1,
    missing_apart: bool = False,
) -> list[Finding]:
    """Each of GROWTHS of a sensitive attribute: the gap now less the gap of the accepted decisions.

    accepted: the decisions of the accepted model, one for each row of data (`accepted.accepted_decisions`
    brings them in order). Groups are compared as in `by_group`. A growth is not measured when either gap
    is not, and keeps no limit for certain where people of unknown group are not compared. The worst
    finding has the table of what changed in each group. Raises InputError for another number of decisions
    than rows.
    """
    if len(accepted) != data.n:
        raise InputError(
            f"{data.name} has {data.n} rows, the accepted run has {len(accepted)} decisions: expected one "
            "decision for each row; compare runs on the same rows"
        )
    new, old = (
        by_group(one, attribute, min_group_size, missing_apart=missing_apart)
        for one in (data, replace(data, prediction=accepted))
    )
    column = data.groups[attribute]
    changed = tally(column, data.label, accepted, data.prediction)
    kept = numpy.array([group.compared for group in new.groups])
    sums, squares = _weighted(data, accepted, attribute, changed)
    cells = sums[kept], squares[kept]
    mine = gates_of(gates, data, attribute)
    found = [
        _with_bounds(one, new, old)
        for name in GROWTHS
        for one in findings(check, _growth(name, new, old, cells), mine, tags)
    ]
    return at_worst(found, (_changes(attribute, new, changed),))


def _with_bounds(finding: Finding, new: Grouped, old: Grouped) -> Finding:
    """A good number is not believed where the people who are not compared could make it bad."""
    gap = finding.measure.replace("growth", "difference")
    now, then = gap_bounds(new, gap), gap_bounds(old, gap)
    if not new.apart or now is None or then is None:
        return finding
    return doubted(finding, new.attribute, (now[1] - then[0],))


def _weighted(
    data: Predictions, accepted: Flags, attribute: str, changed: Cells
) -> tuple[Cells, Cells]:
    """The sums of the weights and of their squares, by cell."""
    if data.weight is None:
        return changed, changed
    column, weight = data.groups[attribute], data.weight
    sums, squares = (
        tally(column, data.label, accepted, data.prediction, one) for one in (weight, weight**2)
    )
    return sums, squares


def _growth(measure: str, new: Grouped, old: Grouped, cells: tuple[Cells, Cells]) -> Measured:
    gap = measure.replace("growth", "difference")
    now, then = new.gaps[gap], old.gaps[gap]
    n = sum(group.n for group in new.groups if group.compared)
    if now is None or then is None:
        runs = ((new, "now"), (old, "in the accepted run"))
        why = next(f"{run}, {one.why[gap]}" for one, run in runs if one.gaps[gap] is None)
        return Measured(
            target=new.attribute, measure=measure, value=None, summary=f"Not measured: {why}.", n=n
        )
    name = gap.removesuffix("_difference").replace("_", " ")
    return Measured(
        target=new.attribute,
        measure=measure,
        value=now - then,
        summary=f"The {name} gap between the groups of {new.attribute} is {now:.3f}, and was {then:.3f} "
        f"when the accepted model decided on the same rows.{_alike(cells[0])}",
        n=n,
        interval_at=lambda confidence: _interval(measure, new, old, cells, confidence),
    )


def _alike(sums: Cells) -> str:
    changed = sums[:, :, 0, 1].sum() + sums[:, :, 1, 0].sum()
    return "" if changed else " No decision changed in the groups that are compared."


def _interval(
    measure: str, new: Grouped, old: Grouped, cells: tuple[Cells, Cells], confidence: float
) -> Interval:
    if len(cells[0]) <= PAIRED:
        rates = [errors(*cells, rate) for rate in GROWTHS[measure]]
        return growth_interval(rates, confidence)
    # too many pairs of pairs: the two gaps each with half of the error
    gap, half = measure.replace("growth", "difference"), (1 + confidence) / 2
    now, then = (difference_interval(families(one, gap), half) for one in (new, old))
    return Interval(
        low=now.low - then.high,
        high=now.high - then.low,
        confidence=confidence,
        method="difference of two intervals (Bonferroni)",
    )


def _changes(attribute: str, new: Grouped, changed: Cells) -> Table:
    """Decisions that changed either way, and whether that is more than chance (McNemar's exact test)."""
    gained, lost = (changed[:, :, old, 1 - old].sum(axis=1).astype(int).tolist() for old in (0, 1))
    chances = [sign_test(more, less) for more, less in zip(gained, lost, strict=True)]
    adjusted = holm(chances)
    rows: list[tuple[Cell, ...]] = [
        (group.name, group.n, gained[i], lost[i], chances[i], adjusted[i], group.compared)
        for i, group in enumerate(new.groups)
    ]
    return Table(
        title=f"Decisions that changed in each group of {attribute}",
        columns=("group", "n", "now positive", "now negative", "p", "p of all groups", "compared"),
        rows=tuple(rows),
        note="p: how often as uneven a split would happen, if a change either way were as likely "
        "(McNemar's exact test); beside it, for all groups at once (Holm). Rows are counted, whatever "
        "they weigh.",
    )
