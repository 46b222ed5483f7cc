"""Plots: scales that hold every number, nothing drawn where it is not, labels that can be read."""

import math
import re
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from assaymark.reports import html, markdown
from assaymark.reports.axes import axis
from assaymark.reports.model import (
    Estimate,
    Estimates,
    Finding,
    Interval,
    Limit,
    Plot,
    Point,
    Report,
    Series,
)
from assaymark.reports.plots import MOST_LABELS, Box, Drawing, draw, table
from assaymark.reports.wording import measured

finite = st.floats(allow_nan=False, allow_infinity=False)


def plot(*series: Series, **more: object) -> Plot:
    made = Plot(title="t", x_label="x", y_label="y", series=series)
    return replace(made, **more)  # type: ignore[arg-type]


def drawing(item: Plot) -> Drawing:
    drawn = draw(item)
    assert drawn is not None
    return drawn


def page(item: Plot) -> str:
    finding = Finding(check="c", target="t", measure="m", summary="s", evidence=(item,))
    return html.render(Report(findings=(finding,)))


@given(st.lists(finite, min_size=1, max_size=20))
@example([0.0])
@example([-1.7e308, 1.7e308])
@example([1.7e308])
@example([5e-324, 0.0])
@example([1e15, 1e15 + 1])
@example([0.1 + 0.2, 0.3])
def test_a_scale_holds_its_numbers_between_few_different_ticks(values: list[float]) -> None:
    scale = axis(values)
    assert 4 <= len(scale.ticks) <= 6
    assert list(scale.ticks) == sorted(set(scale.ticks))
    assert len(set(scale.texts)) == len(scale.texts)
    assert max(map(len, scale.texts)) <= 22
    wide = scale.high / 2 - scale.low / 2
    for value in values:
        assert 0 <= scale.place(value, 0, 100) <= 100
    for tick, text in zip(scale.ticks, scale.texts, strict=True):
        shown = float(text.replace(",", ""))
        assert math.isinf(shown) or abs(shown / 2 - tick / 2) <= 0.01 * wide


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([0.02, 0.97], ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ([0.61, 0.64], ["0.61", "0.62", "0.63", "0.64"]),
        ([-3.0, 2.0], ["-3", "-2", "-1", "0", "1", "2"]),
        ([0.0, 0.1], ["0.00", "0.02", "0.04", "0.06", "0.08", "0.10"]),
        ([18.0, 81.0], ["0", "20", "40", "60", "80", "100"]),
        ([12_000.0, 41_000.0], ["10,000", "20,000", "30,000", "40,000", "50,000"]),
        ([0.0, 3e9], ["0", "1e+09", "2e+09", "3e+09"]),
        ([0.5], ["0.450", "0.475", "0.500", "0.525", "0.550"]),
    ],
)
def test_ticks_as_a_person_would_set_them(values: list[float], texts: list[str]) -> None:
    assert list(axis(values).texts)[: len(texts)] == texts


@given(st.lists(st.floats(0, 1), min_size=1))
def test_a_scale_of_shares_has_no_tick_beyond_one(values: list[float]) -> None:
    if max(values) - min(values) > 1e-6:
        assert axis(values).low >= 0
        assert axis(values).high <= 1 + 1e-12


def test_points_intervals_and_the_diagonal_are_where_they_belong() -> None:
    corner = Point(x=0.0, y=0.0, low=0.0, high=0.5), Point(x=1.0, y=1.0)
    drawn = drawing(plot(Series(label="a", points=corner), diagonal=True))
    frame, (line,) = drawn.frame, drawn.lines
    assert line.line == f"M{frame.left:g},{frame.bottom:g}L{frame.right:g},{frame.top:g}"
    middle = (frame.top + frame.bottom) / 2
    assert line.bars == f"M{frame.left:g},{middle:g}V{frame.bottom:g}"
    assert line.markers.count("M") == 2
    assert [tick.text for tick in drawn.x] == [tick.text for tick in drawn.y]


def test_the_diagonal_needs_one_scale_for_both_axes() -> None:
    points = (Point(x=0.1, y=0.4), Point(x=0.2, y=0.9))
    drawn = drawing(plot(Series(label="a", points=points), diagonal=True))
    assert [tick.text for tick in drawn.x] == [tick.text for tick in drawn.y]
    apart = drawing(plot(Series(label="a", points=points)))
    assert [tick.text for tick in apart.x] != [tick.text for tick in apart.y]


@pytest.mark.parametrize(("low", "high"), [(0.2, None), (None, 0.8)])
def test_an_open_interval_ends_at_its_point(low: float | None, high: float | None) -> None:
    points = (Point(x=0.0, y=0.5, low=low, high=high), Point(x=1.0, y=1.0), Point(x=0.5, y=0.0))
    drawn = drawing(plot(Series(label="a", points=points)))
    (bar,) = re.findall(r"M[\d.]+,([\d.]+)V([\d.]+)", drawn.lines[0].bars)
    place = axis([0.0, 1.0]).place
    bottom, top = drawn.frame.bottom, drawn.frame.top
    ends = sorted(place(v, bottom, top) for v in (0.5, low if high is None else high) if v)
    assert [float(end) for end in bar] == ends


labels = st.text(alphabet="ab 漢\u202e\n<&", max_size=40)
scatter = st.lists(st.tuples(st.floats(-2, 2), st.floats(0, 1), labels), min_size=1, max_size=24)


@given(scatter)
def test_labels_lie_inside_and_on_nothing(points: list[tuple[float, float, str]]) -> None:
    made = [Point(x=x, y=y, low=y - 0.1, high=y + 0.1, label=label) for x, y, label in points]
    drawn = drawing(plot(Series(label="a", points=tuple(made))))
    boxes = []
    for label in drawn.labels:
        wide = 8.4 * sum({"漢": 2, "…": 1.4}.get(sign, 1) for sign in label.text)
        assert wide <= 8.4 * 22
        left = label.x - {"start": 0, "end": wide, "middle": wide / 2}[label.anchor]
        boxes.append(Box(left + 0.1, label.y - 12, left + wide - 0.1, label.y + 3))
    for i, box in enumerate(boxes):
        assert drawn.frame.holds(box)
        assert not any(box.meets(other) for other in boxes[:i])
    marks = re.findall(r"M([\d.]+),([\d.]+)m", drawn.lines[0].markers)
    for x, y in ((float(x), float(y)) for x, y in marks):
        assert not any(box.meets(Box(x - 5, y - 5, x + 5, y + 5)) for box in boxes)


def test_many_labels_are_left_to_the_table() -> None:
    points = tuple(Point(x=i, y=i % 7, label=f"p{i}") for i in range(MOST_LABELS + 1))
    drawn = drawing(plot(Series(label="a", points=points)))
    assert drawn.labels == ()
    assert drawn.note == f"Labels without room, which stand in the table: {MOST_LABELS + 1}."


def test_a_label_leaves_its_line_free_where_it_can() -> None:
    """Right of the first point runs the line, so its label stands elsewhere."""
    first, *rest = (Point(x=x, y=y) for x, y in ((0.2, 0.5), (1.0, 0.5), (0.0, 0.0), (0.0, 1.0)))
    points = (replace(first, label="first"), *rest)
    joined = drawing(plot(Series(label="a", points=points)))
    apart = drawing(plot(Series(label="a", points=points, joined=False)))
    assert apart.labels[0].anchor == "start"
    assert joined.labels[0].anchor == "end"


def test_a_single_label_has_room() -> None:
    lone = plot(Series(label="a", points=(Point(x=0.5, y=0.5, label="the only one"),)))
    assert [label.text for label in drawing(lone).labels] == ["the only one"]


def test_series_without_points_are_named_and_never_drawn() -> None:
    some = Series(label="some", points=(Point(x=1.0, y=2.0),))
    none = Series(label="none", points=())
    drawn = drawing(plot(none, some))
    assert [line.label for line in drawn.lines] == ["some"]
    assert drawn.note == "Not measured: none."
    assert draw(plot(none)) is None
    assert '<p class="quiet">Not measured.</p>' in page(plot(none))
    assert "Not measured." in markdown.render(
        Report(
            findings=(Finding(check="c", target="t", measure="m", summary="s", evidence=(plot(),)),)
        )
    )


def test_a_thirteenth_series_is_said_to_be_in_the_table_only() -> None:
    many = [Series(label=f"s{i}", points=(Point(x=i, y=i),)) for i in range(13)]
    drawn = drawing(plot(*many))
    assert len(drawn.lines) == 12
    assert drawn.note == "12 of 13 series are drawn."
    assert len(table(plot(*many))[1]) == 13


def test_twelve_series_differ_without_colour() -> None:
    many = [Series(label=f"s{i}", points=(Point(x=i, y=i), Point(x=0, y=1))) for i in range(12)]
    lines = drawing(plot(*many)).lines
    assert len({(line.marker, "hollow" in line.style) for line in lines}) == 12
    assert len({line.style for line in lines}) == 12


def test_the_table_has_every_number_and_no_empty_column() -> None:
    points = (Point(x=0.5, y=12345.678, n=3), Point(x=1.0, y=-2.0))
    columns, series = table(plot(Series(label="a", points=points), Series(label="b", points=())))
    assert columns == ("x", "y", "n")
    assert series == (("a", ((0.5, 12345.678, 3), (1.0, -2.0, None))), ("b", ()))
    same = plot(Series(label="a", points=points), x_label="n", y_label="n")
    assert table(same)[0] == ("n", "n", "n")
    text = page(plot(Series(label="a", points=points)))
    assert "<td>12345.678<td>3" in text
    assert "<td>-2<td>not measured" in text


def test_twelve_series_of_twenty_points_stay_under_40_kilobytes() -> None:
    points = [
        Point(
            x=math.sin(i), y=math.cos(i), low=math.cos(i) - 0.1234, high=math.cos(i) + 0.1234, n=99
        )
        for i in range(240)
    ]
    many = [Series(label=f"group {i}", points=tuple(points[i::12])) for i in range(12)]
    assert len(page(plot(*many)).encode()) - len(page(plot()).encode()) < 40_000


def test_numbers_in_a_unit_of_their_own_are_drawn_where_they_are() -> None:
    """Errors of a regression: neither cut off at 0 and 1 nor drawn beside the scale."""
    estimates = (
        Estimate(label="a", value=-1200.0, low=-1500.0, high=-800.0),
        Estimate(label="b", value=500.0),
    )
    drawn = html.chart(Estimates(title="t", estimates=estimates, limit=0.0))
    assert [tick.text for tick in drawn["ticks"]] == ["-1,500", "-1,000", "-500", "0", "500"]
    first, second = drawn["marks"]
    assert (first.low, first.x, first.high) == (0.0, 45.0, 105.0)
    assert (second.x, drawn["limit"]) == (300.0, 225.0)
    shares = html.chart(Estimates(title="t", estimates=(Estimate(label="a", value=0.5),)))
    assert [tick.at for tick in shares["ticks"]] == [0, 60, 120, 180, 240, 300]
    assert html.shade(1.2) == html.shade(-0.1) == "heat-off"


@pytest.mark.parametrize(
    ("low", "value", "high", "drawn"),
    [(0.1, 0.2, 0.3, True), (-0.1, 0.1, 0.3, False), (0.5, 0.9, 1.1, False), (3, 4, 5, False)],
)
def test_the_small_scale_draws_nothing_outside_itself(
    low: float, value: float, high: float, drawn: bool
) -> None:
    interval = Interval(low=low, high=high, confidence=0.95, method="m")
    finding = Finding(
        check="c", target="t", measure="demographic_parity_growth", summary="s", value=value,
        interval=interval, limit=Limit(maximum=0.4),
    )  # fmt: skip
    assert (html.strip(finding) is not None) is drawn


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.031, "0.031 [0.021, 0.041]"),
        (-0.0001, "-0.0001 [-0.010, 0.010]"),
        (1234.5, "1,234.5 [1,234.5, 1,234.5]"),
        (2e8, "2e+08 [2e+08, 2e+08]"),
    ],
)
def test_a_number_shows_what_it_is_in_any_unit(value: float, text: str) -> None:
    interval = Interval(low=value - 0.01, high=value + 0.01, confidence=0.95, method="m")
    finding = Finding(
        check="c", target="t", measure="m", summary="s", value=value, interval=interval
    )
    assert measured(finding) == text
