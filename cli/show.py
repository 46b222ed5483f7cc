"""A report on one screen."""

import sys

from assaymark.cli.terminal import coloured, printable, say, write
from assaymark.reports import wording
from assaymark.reports.model import Finding, Report, Verdict, by_urgency

_WIDEST = 44
_COLOURS = {
    Verdict.PASS: "32",
    Verdict.FAIL: "31",
    Verdict.ERROR: "31",
    Verdict.INCONCLUSIVE: "33",
    Verdict.NOT_MEASURED: "33",
    Verdict.WAIVED: "33",
    Verdict.MEASURED: "0",
}


def show(report: Report) -> None:
    """The report on one screen: a line a finding, the worst first, then the sum."""
    colour = coloured(sys.stdout)
    rows = []
    for finding in by_urgency(report.findings):
        rows.append(
            (
                finding,
                (
                    finding.check,
                    f"{finding.measure} {_short(finding.target)}",
                    wording.measured(finding),
                    f"required {wording.required(finding)}" if finding.limit else "",
                ),
            )
        )
    said: set[str] = set()
    widths = [max((len(cells[i]) for _, cells in rows), default=0) for i in range(4)]
    for finding, cells in rows:
        mark = wording.MARKS[finding.verdict]
        if colour:
            mark = f"\x1b[{_COLOURS[finding.verdict]}m{mark}\x1b[0m"
        line = "  ".join(
            printable(cell).ljust(width) for cell, width in zip(cells, widths, strict=True)
        )
        write(sys.stdout, f"{mark} {line.rstrip()}\n")
        note = finding.error or wording.consequence(finding)
        of_files = finding.measure.endswith("_files") and not note
        if finding.measure in (
            "generated_probability",
            "files_looked_at",
        ):  # its number alone is no verdict
            note = finding.error or finding.summary
        elif finding.verdict is Verdict.NOT_MEASURED:
            repeated = finding.limit is None and finding.summary in said
            note = "" if repeated else finding.summary
            said.add(finding.summary)
        elif finding.verdict is Verdict.FAIL or of_files or _partial(finding):
            note = finding.summary
        if note:
            say(f"    {note}")
    for warning in report.warnings:
        say(f"warning: {warning}")
    say(f"{wording.headline(report)}: {wording.tally(report)}")


def _partial(finding: Finding) -> bool:
    """Whether items of a suite are missing, which its numbers do not show."""
    return finding.measure == "coverage" and finding.value is not None and finding.value < 1


def _short(target: str) -> str:
    """Long paths lose their beginning: the file name is what tells them apart."""
    return target if len(target) <= _WIDEST else f"…{target[1 - _WIDEST :]}"
