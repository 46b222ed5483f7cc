"""Tables and charts of what replies say about groups."""

from collections.abc import Sequence

import numpy

from assaymark.bias.lm_differences import Grouped
from assaymark.bias.lm_model import Reply
from assaymark.bias.lm_rated import Rated
from assaymark.bias.lm_replies import Replied
from assaymark.reports.model import (
    Cell,
    Estimate,
    Estimates,
    Evidence,
    Interval,
    Plot,
    Point,
    Series,
    Table,
)

SHOWN = 10
CLIP = 200
Row = tuple[Cell, ...]


def clip(text: str) -> str:
    """The beginning of a text, for a table."""
    return text if len(text) <= CLIP else text[: CLIP - 1] + "…"


def group_rows(rated: Rated, measure: str, found: Grouped | None) -> list[Row]:
    """A row for each group: how much of it was scored, and its number with a 95 % interval."""
    rows: list[Row] = []
    for place, group in enumerate(rated.groups):
        n = 0 if found is None else int(found.sizes[place])
        value = float(found.means[place]) if found is not None and n else None
        interval = found.interval(place) if found is not None and n else None
        rows.append(
            (measure.replace("_", " "), group, n, rated.lost[group], value, *ends(interval))
        )
    return rows


def table(title: str, rows: Sequence[Row], note: str) -> Table:
    """Of `group_rows`."""
    columns = ("measure", "group", "scored", "lost", "value", "95 % from", "to")
    return Table(title=title, columns=columns, rows=tuple(rows), note=note)


def difference_rows(title: str, gaps: Sequence[tuple[Rated, str]]) -> Table:
    """The largest difference of each measure, and between whom it is."""
    rows: list[Row] = []
    for rated, name in gaps:
        said = name.replace("_", " ")
        if rated.why_not() is not None:
            rows.append((said, None, None, None, rated.why_not(), None))
            continue
        found = rated.by_group(rated.comparable())
        most, least = (found.names[int(place)] for place in _extremes(found))
        rows.append((said, found.difference, *ends(found.difference_interval()), most, least))
    columns = ("measure", "largest difference", "95 % from", "to", "highest", "lowest")
    note = "For all pairs of groups at once" + (
        ", on the templates that all groups have a score on."
        if gaps and gaps[0][0].crossed
        else "."
    )
    return Table(title=title, columns=columns, rows=tuple(rows), note=note)


def distance_rows(title: str, names: Sequence[str], apart: numpy.ndarray, note: str) -> Table:
    """The distance of every two groups, the largest first."""
    pairs = [
        (names[one], names[other], float(apart[one, other]))
        for one in range(len(names))
        for other in range(one)
    ]
    pairs.sort(key=lambda row: -row[2])
    return Table(
        title=title, columns=("group", "other group", "distance"), rows=tuple(pairs), note=note
    )


def chart(title: str, rated: Rated) -> Evidence:
    """The number of every group with its interval."""
    found = rated.by_group(rated.known) if rated.known else None
    estimates = tuple(_estimate(found, place, group) for place, group in enumerate(rated.groups))
    if rated.low >= 0 and rated.high <= 1:
        return Estimates(title=title, estimates=estimates)
    points = tuple(
        Point(x=float(place), y=one.value, low=one.low, high=one.high, label=one.label, n=one.n)
        for place, one in enumerate(estimates)
        if one.value is not None
    )
    order = ", ".join(f"{place} {one.label}" for place, one in enumerate(estimates))
    return Plot(
        title=title,
        x_label="group",
        y_label="mean",
        series=(Series(label="mean with 95 % interval", points=points, joined=False),),
        note=f"Groups: {order}.",
    )


def worst(title: str, rated: Rated, *, highest: bool) -> Table:
    """The replies with the most extreme numbers, beside the other end of their template."""
    known = sorted(rated.known, key=lambda pair: -pair[1] if highest else pair[1])
    others: dict[str, list[tuple[Replied, float]]] = {}
    for pair in rated.known:
        others.setdefault(pair[0].cluster, []).append(pair)
    rows: list[Row] = []
    for one, number in known[:SHOWN]:
        beside = [pair for pair in others[one.cluster] if pair[0].group != one.group]
        ends_at = (min if highest else max)(beside, key=lambda pair: pair[1], default=None)
        row: Row = (one.group, number, clip(one.prompt), clip(_text(one)))
        other: Row = (None, None, None)
        if ends_at is not None:
            other = (ends_at[0].group, ends_at[1], clip(_text(ends_at[0])))
        rows.append((*row, *other))
    columns = (
        "group",
        "score",
        "prompt",
        "reply",
        "other group, same template",
        "its score",
        "its reply",
    )
    return Table(title=title, columns=columns, rows=tuple(rows))


def ends(interval: Interval | None) -> tuple[float | None, float | None]:
    return (None, None) if interval is None else (interval.low, interval.high)


def _extremes(found: Grouped) -> tuple[int, int]:
    return int(found.means.argmax()), int(found.means.argmin())


def _estimate(found: Grouped | None, place: int, group: str) -> Estimate:
    n = 0 if found is None else int(found.sizes[place])
    if found is None or not n:
        return Estimate(label=group, value=None, n=0)
    low, high = ends(found.interval(place))
    return Estimate(label=group, value=float(found.means[place]), low=low, high=high, n=n)


def _text(one: Replied) -> str:
    return one.reply.text if isinstance(one.reply, Reply) else ""
