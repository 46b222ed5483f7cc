"""The report as one HTML file: verdict first, no request, no script that is not ours.

Everything from outside goes through jinja2's autoescape. The page's policy allows its own style and
script by hash and nothing else; without scripts it reads the same.
"""

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from assaymark.reports import plots, wording
from assaymark.reports.axes import axis
from assaymark.reports.model import Estimates, Finding, Limit, Report, Verdict, by_urgency
from assaymark.reports.store import digest

_WIDTH = 300.0
_ROW = 26
_MOST_ASIDES = 12
"""More numbers without a limit would bury those with one: they stand with their check alone."""


def render(report: Report) -> str:
    """A self-contained page; the same report gives the same bytes."""
    style, script = _asset("report.css"), _asset("report.js")
    checks = list(dict.fromkeys(finding.check for finding in report.findings))
    asides = sum(map(aside, report.findings))
    left = asides if asides > _MOST_ASIDES else 0
    page: str = _template().render(
        report=report,
        run=report.run,
        style=Markup(style),  # ours, from the package
        script=Markup(script),
        csp=f"default-src 'none'; img-src data:; style-src 'sha256-{_sha256(style)}'; "
        f"script-src 'sha256-{_sha256(script)}'; base-uri 'none'; form-action 'none'",
        ordered=[one for one in by_urgency(report.findings) if not (left and aside(one))],
        left=left,
        sections=[
            (
                check,
                [
                    finding
                    for finding in report.findings
                    if finding.check == check and not aside(finding)
                ],
                [
                    finding
                    for finding in report.findings
                    if finding.check == check and aside(finding)
                ],
                next((method for method in report.methods if method.check == check), None),
            )
            for check in checks
        ],
        digest=digest(report),
        words=wording,
        chart=chart,
        draw=plots.draw,
        numbers=plots.table,
        shade=shade,
        strip=strip,
        number_of=lambda finding: _place(report, finding),
    )
    return page


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One drawn row: everything in SVG units."""

    y: float
    label: str
    text: str
    x: float | None
    low: float | None
    high: float | None


def chart(estimates: Estimates) -> dict[str, Any]:
    """Rows of dots with intervals on a scale from 0 to 1, or on a wider one that holds them all."""
    drawn = [
        number
        for item in estimates.estimates
        for number in (item.value, item.low, item.high)
        if number is not None
    ]
    scale = axis([0.0, 1.0, *drawn, *([] if estimates.limit is None else [estimates.limit])])

    def x(value: float | None) -> float | None:
        return None if value is None else scale.place(value, 0, _WIDTH)

    marks = []
    for i, item in enumerate(estimates.estimates):
        interval = (
            ""
            if item.low is None or item.high is None
            else f" [{wording.short(item.low)}, {wording.short(item.high)}]"
        )
        n = "" if item.n is None else f", n = {item.n:,}"
        marks.append(
            Mark(
                y=_ROW * i + _ROW / 2,
                label=item.label,
                text=f"{wording.number(item.value)}{interval}{n}",
                x=x(item.value),
                low=x(item.low),
                high=x(item.high),
            )
        )
    return {
        "marks": marks,
        "height": _ROW * len(marks),
        "width": _WIDTH,
        "limit": x(estimates.limit),
        "ticks": scale.drawn(0, _WIDTH),
    }


def aside(finding: Finding) -> bool:
    """Whether a row says all there is: a number without a limit, and nothing to look at beside it."""
    return finding.verdict is Verdict.MEASURED and not finding.evidence


def shade(value: float | None) -> str:
    """The class of a heat map's cell, which the style sheet colours: eleven shades from 0 to 1.

    >>> shade(0.96), shade(None), shade(1.2)
    ('heat-10', 'heat-none', 'heat-off')
    """
    if value is None:
        return "heat-none"
    return f"heat-{round(10 * value)}" if 0 <= value <= 1 else "heat-off"


def strip(finding: Finding) -> dict[str, float | None] | None:
    """A small scale for the policy table: interval, value and limit; None off the scale 0 to 1."""
    limit, interval = finding.limit, finding.interval
    if finding.value is None or limit is None or finding.measure == "broken_files":
        return None
    bound = _bound(limit)
    ends = (interval.low, interval.high) if interval else ()
    if not all(0 <= number <= 1 for number in (finding.value, bound, *ends)):
        return None
    return {
        "x": 100 * finding.value,
        "low": 100 * interval.low if interval else None,
        "high": 100 * interval.high if interval else None,
        "limit": 100 * bound,
    }


def _place(report: Report, finding: Finding) -> int:
    return next(i for i, other in enumerate(report.findings) if other is finding)


def _bound(limit: Limit) -> float:
    bound = limit.minimum if limit.maximum is None else limit.maximum
    assert bound is not None
    return bound


@cache
def _asset(name: str) -> str:
    return (files("assaymark.reports") / name).read_text(encoding="utf-8")


@cache
def _template() -> Any:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = wording.number
    return environment.from_string(_asset("report.html.j2"))


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
