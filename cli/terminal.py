"""What goes to a terminal: results on stdout, progress and diagnostics on stderr, nothing hostile."""

import os
import sys
import time
from typing import TextIO

from assaymark.reports.model import Report, Verdict, by_urgency

_COLOURS = {
    Verdict.PASS: "32",
    Verdict.FAIL: "31",
    Verdict.ERROR: "31",
    Verdict.INCONCLUSIVE: "33",
    Verdict.NOT_MEASURED: "33",
    Verdict.WAIVED: "33",
    Verdict.MEASURED: "0",
}


def printable(text: str) -> str:
    """Text without control characters: a file name must not be able to move the cursor.

    >>> printable("a\\x1b[2Jb")
    'a\\\\x1b[2Jb'
    """
    return "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode()
        for char in text
    )


def say(text: str = "") -> None:
    """A line of the result, on stdout."""
    _write(sys.stdout, printable(text) + "\n")


def tell(text: str) -> None:
    """A line for the person who waits, on stderr."""
    _write(sys.stderr, printable(text) + "\n")


def coloured(stream: TextIO) -> bool:
    """Whether escape codes are welcome: a terminal, and none of NO_COLOR, CI and TERM=dumb."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and not os.environ.get("CI")


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
    except UnicodeEncodeError:  # a C locale: keep the numbers, lose the signs
        stream.write(text.encode("ascii", "backslashreplace").decode())
    stream.flush()


class Progress:
    """One line a check: redrawn on a terminal, printed once at its end elsewhere."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.number = 0
        self.live = sys.stderr.isatty() and not os.environ.get("CI")
        self.name = ""
        self.started = self.drawn = 0.0

    def start(self, name: str) -> None:
        self.number += 1
        self.name = name
        self.started = time.monotonic()
        if self.live:
            self._draw("")

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self.live and now - self.drawn > 0.1:
            self.drawn = now
            self._draw(f"{done}/{total}")

    def finish(self, outcome: str) -> None:
        seconds = time.monotonic() - self.started
        if self.live:
            _write(sys.stderr, "\r\x1b[K")
        tell(f"[{self.number}/{self.total}] {self.name}  {outcome}  {seconds:.1f} s")

    def _draw(self, text: str) -> None:
        line = printable(f"[{self.number}/{self.total}] {self.name}  {text}")
        _write(sys.stderr, f"\r\x1b[K{line[:100]}")


def show(report: Report) -> None:
    """The report on one screen: a line a finding, the worst first, then the sum."""
    from assaymark.reports import wording

    colour = coloured(sys.stdout)
    rows = []
    for finding in by_urgency(report.findings):
        rows.append(
            (
                finding,
                (
                    finding.check,
                    f"{finding.measure} {finding.target}"[:58],
                    wording.measured(finding),
                    f"required {wording.required(finding)}" if finding.limit else "",
                ),
            )
        )
    widths = [max((len(cells[i]) for _, cells in rows), default=0) for i in range(4)]
    for finding, cells in rows:
        mark = wording.MARKS[finding.verdict]
        if colour:
            mark = f"\x1b[{_COLOURS[finding.verdict]}m{mark}\x1b[0m"
        line = "  ".join(
            printable(cell).ljust(width) for cell, width in zip(cells, widths, strict=True)
        )
        _write(sys.stdout, f"{mark} {line.rstrip()}\n")
        note = finding.error or wording.consequence(finding)
        if note and finding.verdict is not Verdict.FAIL:
            say(f"    {note}")
    for warning in report.warnings:
        say(f"warning: {warning}")
    say(f"{wording.HEADLINES[report.verdict]}: {wording.tally(report)}")
