"""Exit codes: what a shell or a CI job may rely on."""

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from assaymark.reports.model import Report


class ExitCode(IntEnum):
    OK = 0
    """every gate held"""
    GATE = 1
    """a gate fell short, or a regression against the baseline"""
    USAGE = 2
    """wrong usage or policy"""
    INCOMPLETE = 3
    """a check errored or stayed inconclusive"""
    INTEGRITY = 4
    """a signature or digest that must hold does not"""
    INTERRUPTED = 130
    """what was measured is kept and resumes"""


class Interrupted(Exception):
    """Ctrl-C during the checks: says how many are kept."""


EPILOG = (
    "Exit codes: 0 every gate held; 1 a gate fell short; 2 wrong usage or policy; 3 incomplete; "
    "4 integrity broken; 130 interrupted."
)


def exit_code(report: "Report", *, exit_zero: bool = False) -> ExitCode:
    """The most serious of what the findings say: 4, then 1, then 3.

    exit_zero turns 1 into 0 and nothing else: a run that is also incomplete still says 3.
    A report without findings is incomplete.
    """
    failed = [finding for finding in report.findings if finding.verdict == "fail"]
    if any(finding.integrity for finding in failed):
        return ExitCode.INTEGRITY
    if failed and not exit_zero:
        return ExitCode.GATE
    if not report.findings or any(finding.blocks for finding in report.findings):
        return ExitCode.INCOMPLETE
    return ExitCode.OK
