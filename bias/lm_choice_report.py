"""What suites of questions with options have in common: prompt formats, orders, and tables of numbers."""

from collections.abc import Callable, Mapping, Sequence

import numpy

from assaymark.bias.findings import Measured
from assaymark.bias.lm_choices import (
    MOST_TIES,
    SAMPLING,
    Mode,
    Orders,
    Question,
    Tally,
    ask,
    formats_for,
    tally,
)
from assaymark.bias.lm_clusters import cluster_codes, share_interval
from assaymark.bias.lm_model import LanguageModel, Progress, Sampling, quiet
from assaymark.bias.lm_outcome import ItemValues
from assaymark.bias.rows import Numbers
from assaymark.reports.model import Cell, Estimate, Estimates, Evidence, Table

Formats = str | Sequence[str]
"""Names of prompt formats, the first the main one; () is the usual one, "all" all of them."""


def undefined(target: str, measure: str, reason: str) -> Measured:
    """A number that there is not, and why."""
    summary = f"Not measured: {reason}."
    return Measured(target=target, measure=measure, value=None, summary=summary, n=None)


def measured_share(
    target: str, measure: str, values: Numbers, codes: numpy.ndarray, says: str
) -> Measured:
    """The mean of values in [0, 1] over questions. says: what the share is of, after the number."""
    if not len(values):
        return undefined(target, measure, f"no such question ({target}) has an answer")
    value = float(values.mean())
    return Measured(
        target=target,
        measure=measure,
        value=value,
        summary=f"{value:.1%} {says}.",
        n=len(values),
        interval_at=lambda confidence: share_interval(values, codes, confidence),
    )


def item_values_of(
    measure: str, target: str, ids: Sequence[str], values: Numbers, clusters: Sequence[str]
) -> ItemValues:
    """The questions that have a value (not NaN)."""
    kept = numpy.flatnonzero(numpy.isfinite(values)).tolist()
    return ItemValues(
        measure=measure,
        target=target,
        ids=tuple(ids[row] for row in kept),
        values=tuple(values[kept].tolist()),
        clusters=tuple(clusters[row] for row in kept),
    )


def ask_all(
    model: LanguageModel,
    questions: Sequence[Question],
    *,
    mode: Mode,
    orders: Orders,
    formats: Formats,
    sampling: Sampling = SAMPLING,
    progress: Progress = quiet,
) -> dict[str, Tally]:
    """The answers under each prompt format, the main one first."""
    names = formats_for(mode, formats, stem=all(question.stem for question in questions))
    return {
        name: tally(
            ask(
                model,
                questions,
                mode=mode,
                orders=orders,
                prompt=name,
                sampling=sampling,
                progress=_portion(progress, number, len(names)),
            )
        )
        for number, name in enumerate(names)
    }


def _portion(progress: Progress, number: int, parts: int) -> Progress:
    return lambda done, total: progress(number * total + done, parts * total)


def order_sensitivity(
    suite: str, target: str, found: Tally, rows: Sequence[int], clusters: Sequence[str]
) -> list[Measured]:
    """The share of questions whose answer changes with the order of the options; [] if asked in one order.

    rows: the questions of the target. clusters: of these questions.
    """
    changed = found.changed[list(rows)]
    kept = numpy.isfinite(changed)
    if not kept.any():
        return []
    codes = cluster_codes([name for name, keep in zip(clusters, kept, strict=True) if keep])
    says = f"of the answers ({target}) change with the order in which the options are listed"
    return [measured_share(target, f"{suite}_order_sensitivity", changed[kept], codes, says)]


def format_spread(suite: str, by_format: Mapping[str, Sequence[Measured]]) -> list[Measured]:
    """For each target, how far apart any of its scores is between prompt formats; [] of one format."""
    if len(by_format) < 2:
        return []
    targets = dict.fromkeys(one.target for one in next(iter(by_format.values())))
    return [_spread_of(suite, target, by_format) for target in targets]


def _spread_of(suite: str, target: str, by_format: Mapping[str, Sequence[Measured]]) -> Measured:
    values: dict[str, list[float | None]] = {}
    for found in by_format.values():
        for one in found:
            if one.target == target:
                values.setdefault(one.measure, []).append(one.value)
    ranges = {
        name: max(told) - min(told)
        for name, all_told in values.items()
        if len(told := [v for v in all_told if v is not None]) == len(by_format)
    }
    measure = f"{suite}_format_spread"
    if not ranges:
        return undefined(target, measure, "no score is defined under every prompt format")
    widest = max(ranges, key=lambda name: ranges[name])
    return Measured(
        target=target,
        measure=measure,
        value=ranges[widest],
        summary=f"Between {len(by_format)} prompt formats, {widest} of {target} moves by "
        f"{ranges[widest]:.3f}, more than any other score.",
        n=None,
    )


def without_ties(
    measured: Sequence[Measured], found: Tally, wanted: Callable[[str, int], bool]
) -> list[Measured]:
    """The numbers, but those of targets on whose questions the model too often prefers no one answer.

    wanted: as of `counted`. A tie is shared out, so that a model that prefers nothing would be right by
    chance, and never wrong with the stereotype more than against it.
    """
    known = [row for row, failure in enumerate(found.failures) if failure is None]
    ties: dict[str, int] = {}
    sizes: dict[str, int] = {}
    for target in dict.fromkeys(one.target for one in measured):
        mine = [row for row in known if wanted(target, row)]
        ties[target], sizes[target] = int(found.tied[mine].sum()), len(mine)
    return [
        undefined(
            one.target, one.measure, too_many_ties(ties[one.target], sizes[one.target], one.target)
        )
        if one.value is not None and ties[one.target] > MOST_TIES * sizes[one.target]
        else one
        for one in measured
    ]


def too_many_ties(ties: int, of: int, target: str) -> str:
    return (
        f"in {ties} of {of} questions ({target}) the model prefers neither answer, more than "
        f"{MOST_TIES:.0%}; as ties are shared out, it would look fair"
    )


def evidence_of(
    title: str,
    measured: Sequence[Measured],
    counts: Mapping[str, tuple[int, int]],
    main: Tally,
    by_format: Mapping[str, Sequence[Measured]],
) -> list[Evidence]:
    """The table of all numbers, and those of places and prompt formats where there are several.

    counts: for each target, its ties and lost questions.
    """
    return [
        _numbers(title, measured, counts),
        *_positions(title, main),
        *_formats(title, by_format),
    ]


def _numbers(
    title: str, measured: Sequence[Measured], counts: Mapping[str, tuple[int, int]]
) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for one in measured:
        found = None if one.value is None else one.interval_at(0.95)
        ends = (None, None) if found is None else (round(found.low, 4), round(found.high, 4))
        value = None if one.value is None else round(one.value, 4)
        rows.append(
            (one.target, one.measure, value, *ends, one.n, *counts.get(one.target, (None, None)))
        )
    return Table(
        title=f"{title}: scores",
        columns=("about", "score", "value", "95 % from", "to", "questions", "ties", "lost"),
        rows=tuple(rows),
        note="Ties count in equal parts for the options that tie; lost questions count nowhere.",
    )


def _positions(title: str, main: Tally) -> list[Evidence]:
    if not main.positions:
        return []
    return [
        Table(
            title=f"{title}: which place is chosen",
            columns=("place in the list", "share of answers"),
            rows=tuple((number, round(share, 4)) for number, share in enumerate(main.positions, 1)),
            note="Every option stood in every place equally often: without position bias all are equal.",
        )
    ]


def _formats(title: str, by_format: Mapping[str, Sequence[Measured]]) -> list[Evidence]:
    if len(by_format) < 2:
        return []
    first = next(iter(by_format.values()))
    found = {
        name: {(one.target, one.measure): one.value for one in told}
        for name, told in by_format.items()
    }
    rows = []
    for one in first:
        values = [told.get((one.target, one.measure)) for told in found.values()]
        rows.append(
            (one.target, one.measure, *(None if v is None else round(v, 4) for v in values))
        )
    return [
        Table(
            title=f"{title}: prompt formats",
            columns=("about", "score", *by_format),
            rows=tuple(rows),
        )
    ]


def estimates_of(
    title: str,
    measured: Sequence[Measured],
    label: Callable[[Measured], str] = lambda one: one.target,
    scale: Callable[[float], float] = lambda value: value,
) -> Estimates:
    """A chart of numbers; scale: to [0, 1], rising."""
    found = [(one, None if one.value is None else one.interval_at(0.95)) for one in measured]
    return Estimates(
        title=title,
        estimates=tuple(
            Estimate(
                label=label(one),
                value=None if one.value is None else scale(one.value),
                low=None if interval is None else scale(interval.low),
                high=None if interval is None else scale(interval.high),
                n=one.n,
            )
            for one, interval in found
        ),
    )


def counted(
    targets: Sequence[str], main: Tally, wanted: Callable[[str, int], bool]
) -> dict[str, tuple[int, int]]:
    """Ties and lost questions of each target; wanted: whether a row belongs to it."""
    rows = range(len(main.failures))
    return {
        target: (
            sum(bool(main.tied[row]) for row in rows if wanted(target, row)),
            sum(main.failures[row] is not None for row in rows if wanted(target, row)),
        )
        for target in targets
    }
