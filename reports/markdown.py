"""Markdown for a job summary or a pull request; what came from outside is escaped."""

import re
from collections.abc import Sequence

from assaymark.reports.model import HeatMap, Plot, Report, by_urgency
from assaymark.reports.plots import table
from assaymark.reports.wording import (
    MARKS,
    NOT_MEASURED,
    consequence,
    headline,
    measured,
    number,
    required,
    summary,
    tally,
)

_LIMIT = 900_000
"""GitHub takes 1 MiB a step."""
_ROWS = 40
"""Of the table of a plot."""


def render(report: Report) -> str:
    lines = [
        f"# {MARKS[report.verdict]} {headline(report)} ({report.verdict.value})",
        "",
        " ".join(escape(sentence) for sentence in summary(report)),
        "",
        f"{tally(report).capitalize()}.",
        "",
    ]
    lines += [f"> {escape(warning)}\n" for warning in report.warnings]
    lines += [
        "| | check | target | measure | measured | required | severity | n |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for finding in by_urgency(report.findings):
        cells = (
            f"{MARKS[finding.verdict]} {finding.verdict.value}",
            finding.check,
            finding.target,
            finding.measure,
            measured(finding),
            required(finding),
            finding.severity if finding.limit else "",
            "" if finding.n is None else str(finding.n),
        )
        lines.append("| " + " | ".join(escape(cell) for cell in cells) + " |")
    notes = [
        f"- **{escape(finding.check)}** {escape(finding.error or finding.summary)} "
        f"{escape(consequence(finding))}".rstrip()
        for finding in by_urgency(report.findings)
        if finding.verdict.value not in ("pass", "measured")
    ]
    if notes:
        lines += ["", "## What this means", "", *notes]
    for finding in report.findings:
        for item in finding.evidence:
            if isinstance(item, HeatMap):
                lines += _heat_map(item)
            elif isinstance(item, Plot):
                lines += _plot(item)
    untested = [(method.check, item) for method in report.methods for item in method.not_tested]
    if untested:
        lines += ["", "## Not tested", ""]
        lines += [f"- **{escape(check)}** {escape(item)}" for check, item in untested]
    if report.run is not None:
        lines += [
            "",
            f"{escape(report.run.tool)}, policy `{report.run.policy_sha256[:12]}`, "
            f"seed {report.run.seed}, {report.run.seconds:.1f} s",
        ]
    text = "\n".join(lines) + "\n"
    if len(text.encode()) > _LIMIT:
        cut = text.encode()[:_LIMIT].decode(errors="ignore").rsplit("\n", 1)[0]
        text = cut + "\n\nThe rest is in the JSON report.\n"
    return text


def _heat_map(item: HeatMap) -> list[str]:
    """Its numbers as a table: there are no shades in Markdown."""
    head = (f"{item.rows_are} \\ {item.columns_are}", *item.columns)
    rows = [
        (row.label, *(number(None if c.value is None else round(c.value, 3)) for c in row.cells))
        for row in item.rows
    ]
    return _section(item.title, [head, *rows], item.note)


def _plot(item: Plot) -> list[str]:
    """The first of its numbers as a table."""
    columns, series = table(item)
    rows = [(label, *map(number, row)) for label, rows in series for row in rows]
    rows += [(label, *[NOT_MEASURED] * len(columns)) for label, rows_of in series if not rows_of]
    note = item.note if rows else f"{NOT_MEASURED.capitalize()}. {item.note}".strip()
    if len(rows) > _ROWS:
        note = f"{note} {len(rows) - _ROWS} more points are in the JSON report.".strip()
    return _section(item.title, [("series", *columns), *rows[:_ROWS]], note)


def _section(title: str, rows: Sequence[Sequence[str]], note: str) -> list[str]:
    """A heading, a table whose first row is its head, and a note."""
    head, *body = ("| " + " | ".join(escape(cell) for cell in row) + " |" for row in rows)
    lines = ["", f"## {escape(title)}", "", head, "|---" * len(rows[0]) + "|", *body]
    return [*lines, "", escape(note)] if note else lines


def escape(text: str) -> str:
    r"""Text that stays text in Markdown and in the HTML it becomes.

    >>> escape("<b>|`x`")
    '&lt;b&gt;\\|\\`x\\`'
    """
    flat = " ".join(text.split())
    flat = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]|#!~@])", r"\\\1", flat)
