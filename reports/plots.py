"""A plot as numbers that a template draws: ticks, paths and labels, in SVG units."""

import itertools
import math
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from assaymark.reports.axes import Axis, Tick, axis
from assaymark.reports.model import Cell, Plot, Point, Series

WIDTH, HEIGHT = 440.0, 280.0
MOST_SERIES, MOST_LABELS = 12, 24
"""More series would not be told apart; more labels would not be read: the table has all of them."""
MARKERS = (
    "m-4,0a4,4,0,1,0,8,0a4,4,0,1,0-8,0z",
    "m-3.6-3.6h7.2v7.2h-7.2z",
    "m0-5l4.8,8.2h-9.6z",
    "m0-5.2l5.2,5.2-5.2,5.2-5.2-5.2z",
    "m0,5l4.8-8.2h-9.6z",
    "m-1.6-4.8h3.2v3.2h3.2v3.2h-3.2v3.2h-3.2v-3.2h-3.2v-3.2h3.2z",
)
"""Circle, square, triangle, diamond, triangle downwards, cross; first filled, then hollow."""
_LETTER, _LINE = 8.4, 17.0
"""Width and height of a letter on a narrow screen, where it is largest: what fits there fits everywhere."""
_LONGEST = 22
_MARK = 7.0


class Box(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: "Box") -> bool:
        beside = self.right <= other.left or other.right <= self.left
        return not (beside or self.bottom <= other.top or other.bottom <= self.top)

    def meets_any(self, others: Iterable["Box"]) -> bool:
        return any(self.meets(other) for other in others)

    def holds(self, other: "Box") -> bool:
        across = self.left <= other.left and other.right <= self.right
        return across and self.top <= other.top and other.bottom <= self.bottom


class Spot(NamedTuple):
    """Where a point is drawn, the ends of its interval, and its label as far as there is room."""

    x: float
    y: float
    bar: tuple[float, float] | None
    label: str


class Label(NamedTuple):
    """A text beside its point; anchor as in SVG."""

    x: float
    y: float
    anchor: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Line:
    """A series as paths: joined points, intervals, markers; and how it looks in the legend."""

    label: str
    style: str
    line: str
    bars: str
    markers: str
    marker: str


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """All that is drawn. frame: where points lie. text: for who does not see it. note: what is left out."""

    frame: Box
    x: tuple[Tick, ...]
    y: tuple[Tick, ...]
    lines: tuple[Line, ...]
    labels: tuple[Label, ...]
    text: str
    note: str
    width: float = WIDTH
    height: float = HEIGHT


def draw(plot: Plot) -> Drawing | None:
    """The drawing of a plot: the first MOST_SERIES of its series that have points; None without any."""
    series = [one for one in plot.series if one.points][:MOST_SERIES]
    points = [point for one in series for point in one.points]
    if not points:
        return None
    x, y = axis([point.x for point in points]), axis(_heights(points))
    if plot.diagonal:  # one scale for both, so that it runs from corner to corner
        x = y = axis([x.low, x.high, y.low, y.high])
    left = round(10 + 0.9 * _LETTER * max(map(len, y.texts)), 1)
    frame = Box(left, 10.0, WIDTH - 20, HEIGHT - 26)
    spots = [[_spot(point, x, y, frame) for point in one.points] for one in series]
    everywhere = [spot for one in spots for spot in one]
    wanted = sum(bool(spot.label) for spot in everywhere)
    few = 0 < wanted <= MOST_LABELS
    lines = [
        box
        for one, at in zip(series, spots, strict=True)
        if few and one.joined
        for box in _along(at)
    ]
    labels = _labels(everywhere, lines, frame) if few else ()
    return Drawing(
        frame=frame,
        x=x.drawn(frame.left, frame.right),
        y=y.drawn(frame.bottom, frame.top),
        lines=tuple(_line(i, one, spots[i]) for i, one in enumerate(series)),
        labels=labels,
        text=f"{len(series)} series, {len(points)} points, from {x.texts[0]} to {x.texts[-1]} across "
        f"and from {y.texts[0]} to {y.texts[-1]} upwards",
        note=_left_out(plot, len(series), wanted - len(labels)),
    )


def _left_out(plot: Plot, drawn: int, unlabelled: int) -> str:
    """What a reader would miss in the drawing."""
    empty = [series.label for series in plot.series if not series.points]
    sentences = []
    if drawn + len(empty) < len(plot.series):
        sentences.append(f"{drawn} of {len(plot.series) - len(empty)} series are drawn.")
    if unlabelled:
        sentences.append(f"Labels without room, which stand in the table: {unlabelled}.")
    if empty:
        sentences.append(f"Not measured: {', '.join(empty)}.")
    return " ".join(sentences)


def table(
    plot: Plot,
) -> tuple[tuple[str, ...], tuple[tuple[str, tuple[tuple[Cell, ...], ...]], ...]]:
    """The numbers behind a plot: names of columns, and for each series its label and its rows.

    Labels, ends of intervals and n have a column where any point has them.
    """
    columns: list[tuple[str, list[Cell]]] = []
    points = [point for series in plot.series for point in series.points]
    if any(point.label for point in points):
        columns.append(("label", [point.label for point in points]))
    columns.append((plot.x_label, [point.x for point in points]))
    columns.append((plot.y_label, [point.y for point in points]))
    rest: list[tuple[str, list[Cell]]] = [
        ("low", [point.low for point in points]),
        ("high", [point.high for point in points]),
        ("n", [point.n for point in points]),
    ]
    columns += [(name, cells) for name, cells in rest if any(cell is not None for cell in cells)]
    rows = iter(tuple(cells) for cells in zip(*(cells for _, cells in columns), strict=True))
    series = ((one.label, tuple(next(rows) for _ in one.points)) for one in plot.series)
    return tuple(name for name, _ in columns), tuple(series)


def _heights(points: Sequence[Point]) -> list[float]:
    ends = [(point.y, point.low, point.high) for point in points]
    return [end for three in ends for end in three if end is not None]


def _spot(point: Point, x: Axis, y: Axis, frame: Box) -> Spot:
    ends = [end for end in (point.low, point.high) if end is not None]
    if len(ends) == 1:  # the interval is open on the other side
        ends.append(point.y)
    bar = [y.place(end, frame.bottom, frame.top) for end in ends]
    return Spot(
        x.place(point.x, frame.left, frame.right),
        y.place(point.y, frame.bottom, frame.top),
        (min(bar), max(bar)) if bar else None,
        _short(point.label),
    )


def _line(place: int, series: Series, spots: Sequence[Spot]) -> Line:
    shape, at = MARKERS[place % len(MARKERS)], [f"{spot.x:g},{spot.y:g}" for spot in spots]
    return Line(
        label=series.label,
        style=f"s{place} dash-{place % 4}{' hollow' if place >= len(MARKERS) else ''}",
        line="M" + "L".join(at) if series.joined and len(at) > 1 else "",
        bars="".join(f"M{one.x:g},{one.bar[0]:g}V{one.bar[1]:g}" for one in spots if one.bar),
        markers="".join(f"M{where}{shape}" for where in at),
        marker=shape,
    )


def _labels(spots: Sequence[Spot], lines: Sequence[Box], frame: Box) -> tuple[Label, ...]:
    """Each label where there is room beside its dot: inside the frame, on nothing but lines at worst."""
    taken = [Box(x - _MARK, y - _MARK, x + _MARK, y + _MARK) for x, y, _, _ in spots]
    taken += [Box(one.x - 1, one.bar[0], one.x + 1, one.bar[1]) for one in spots if one.bar]
    labels = []
    for spot in spots:
        room = [
            (label, box)
            for label, box in (_positions(spot) if spot.label else ())
            if frame.holds(box) and not box.meets_any(taken)
        ]
        for label, box in sorted(room, key=lambda each: each[1].meets_any(lines))[:1]:
            taken.append(box)
            labels.append(label)
    return tuple(labels)


def _along(spots: Sequence[Spot]) -> list[Box]:
    """Small boxes along the line that joins the points."""
    boxes = []
    for one, other in itertools.pairwise(spots):
        steps = max(1, round(math.hypot(other.x - one.x, other.y - one.y) / 6))
        for step in range(steps + 1):
            x, y = (a + step / steps * (b - a) for a, b in ((one.x, other.x), (one.y, other.y)))
            boxes.append(Box(x - 3, y - 3, x + 3, y + 3))
    return boxes


def _positions(spot: Spot) -> Iterator[tuple[Label, Box]]:
    """Right of the dot, left of it, above and below, and at its corners."""
    wide, half, near = _LETTER * _letters(spot.label), _LINE / 2, _MARK + 1
    right, left, middle = (
        (spot.x + near, "start", 0.0),
        (spot.x - near, "end", 1.0),
        (spot.x, "middle", 0.5),
    )
    level, above, below = spot.y, spot.y - near - half, spot.y + near + half
    for (x, anchor, share), y in (
        (right, level), (left, level), (middle, above), (middle, below),
        (right, above), (right, below), (left, above), (left, below),
    ):  # fmt: skip
        box = Box(x - share * wide, y - half, x + (1 - share) * wide, y + half)
        yield Label(round(x, 1), round(y + 0.28 * _LINE, 1), anchor, spot.label), box


def _short(text: str) -> str:
    """On one line, without signs that are not seen, and no longer than a drawing has room for."""
    kept = (sign for sign in " ".join(text.split()) if unicodedata.category(sign)[0] != "C")
    flat = "".join(kept)
    while _letters(flat) > _LONGEST:
        flat = flat[: min(len(flat) - 2, _LONGEST)].rstrip() + "…"
    return flat


def _letters(text: str) -> float:
    """How many small letters wide; capitals and what is not ASCII are wider, those of East Asia twice."""
    return sum(_width(sign) for sign in text)


def _width(sign: str) -> float:
    if sign in "MWmw@%" or unicodedata.east_asian_width(sign) in "WF":
        return 2.0
    return 1.0 if sign.isascii() and not sign.isupper() else 1.4
