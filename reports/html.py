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

from assaymark.reports import wording
from assaymark.reports.model import Estimates, Finding, Limit, Report, by_urgency
from assaymark.reports.store import digest

_WIDTH = 300.0
_ROW = 26


def render(report: Report) -> str:
    """A self-contained page; the same report gives the same bytes."""
    style, script = _asset("report.css"), _asset("report.js")
    checks = list(dict.fromkeys(finding.check for finding in report.findings))
    page: str = _template().render(
        report=report,
        run=report.run,
        style=Markup(style),  # ours, from the package
        script=Markup(script),
        csp=f"default-src 'none'; img-src data:; style-src 'sha256-{_sha256(style)}'; "
        f"script-src 'sha256-{_sha256(script)}'; base-uri 'none'; form-action 'none'",
        ordered=by_urgency(report.findings),
        sections=[
            (
                check,
                [finding for finding in report.findings if finding.check == check],
                next((method for method in report.methods if method.check == check), None),
            )
            for check in checks
        ],
        digest=digest(report),
        words=wording,
        chart=chart,
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
    """Rows of dots with intervals on a scale from 0 to 1."""
    marks = []
    for i, item in enumerate(estimates.estimates):
        interval = (
            "" if item.low is None or item.high is None else f" [{item.low:.3f}, {item.high:.3f}]"
        )
        n = "" if item.n is None else f", n = {item.n:,}"
        marks.append(
            Mark(
                y=_ROW * i + _ROW / 2,
                label=item.label,
                text=f"{wording.number(item.value)}{interval}{n}",
                x=_x(item.value),
                low=_x(item.low),
                high=_x(item.high),
            )
        )
    return {
        "marks": marks,
        "height": _ROW * len(marks),
        "width": _WIDTH,
        "limit": _x(estimates.limit),
    }


def shade(value: float | None) -> str:
    """The class of a heat map's cell, which the style sheet colours: eleven shades from 0 to 1.

    >>> shade(0.96), shade(None)
    ('heat-10', 'heat-none')
    """
    return "heat-none" if value is None else f"heat-{round(10 * min(max(value, 0.0), 1.0))}"


def strip(finding: Finding) -> dict[str, float | None] | None:
    """A small scale for the policy table: interval, value and limit; None off the scale 0 to 1."""
    limit = finding.limit
    counted = finding.measure == "broken_files"
    if finding.value is None or limit is None or counted or not 0 <= finding.value <= 1:
        return None
    bound = _bound(limit)
    if not 0 <= bound <= 1:
        return None
    interval = finding.interval
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


def _x(value: float | None) -> float | None:
    return None if value is None else round(_WIDTH * min(max(value, 0.0), 1.0), 1)


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
