"""Verdicts: only a measured number inside its limit passes."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assaymark.cli.exit import ExitCode, exit_code
from assaymark.reports.model import Finding, Interval, Limit, Report, Verdict, Waiver, by_urgency

AT_LEAST_HALF = Limit(minimum=0.5)
LOWER_HALF = Limit(minimum=0.5, on="lower")
UPPER_HALF = Limit(maximum=0.5, on="upper")
WAIVER = Waiver(check="c", reason="r", owner="o", expires="2999-01-01")


def finding(value: float | None, limit: Limit | None = None, **more: object) -> Finding:
    plain = Finding(check="c", target="t", measure="m", summary="s", value=value, limit=limit)
    return replace(plain, **more)  # type: ignore[arg-type]


def interval(low: float, high: float) -> Interval:
    return Interval(low=low, high=high, confidence=0.95, method="test")


@pytest.mark.parametrize(
    ("made", "verdict"),
    [
        (finding(0.5, AT_LEAST_HALF), "pass"),
        (finding(0.49, AT_LEAST_HALF), "fail"),
        (finding(0.5, Limit(maximum=0.5)), "pass"),
        (finding(0.51, Limit(maximum=0.5)), "fail"),
        (finding(None, AT_LEAST_HALF), "not-measured"),
        (finding(None), "not-measured"),
        (finding(0.9), "measured"),
        (finding(0.9, LOWER_HALF, interval=interval(0.6, 0.95)), "pass"),
        (finding(0.9, LOWER_HALF, interval=interval(0.4, 0.95)), "inconclusive"),
        (finding(0.4, LOWER_HALF, interval=interval(0.3, 0.55)), "inconclusive"),
        (finding(0.4, LOWER_HALF, interval=interval(0.3, 0.49)), "fail"),
        (finding(0.9, LOWER_HALF), "not-measured"),
        (finding(0.1, UPPER_HALF, interval=interval(0.05, 0.4)), "pass"),
        (finding(0.1, UPPER_HALF, interval=interval(0.05, 0.6)), "inconclusive"),
        (finding(0.9, AT_LEAST_HALF, error="broken"), "error"),
        (finding(0.1, AT_LEAST_HALF, waiver=WAIVER), "waived"),
        (finding(0.9, AT_LEAST_HALF, waiver=WAIVER), "pass"),
        (finding(None, AT_LEAST_HALF, waiver=WAIVER), "not-measured"),
        (finding(None, AT_LEAST_HALF, waiver=WAIVER, error="broken"), "error"),
    ],
)
def test_verdict_of_a_finding(made: Finding, verdict: str) -> None:
    assert made.verdict == verdict


PASS, FAIL = finding(0.9, AT_LEAST_HALF), finding(0.1, AT_LEAST_HALF)
UNDECIDED = finding(0.9, LOWER_HALF, interval=interval(0.4, 0.95))
UNMEASURED, ERROR = finding(None, AT_LEAST_HALF), finding(None, AT_LEAST_HALF, error="broken")
WAIVED, INFORMATION = finding(0.1, AT_LEAST_HALF, waiver=WAIVER), finding(0.1)
BROKEN = finding(0.0, Limit(minimum=1.0), integrity=True)


@pytest.mark.parametrize(
    ("findings", "verdict", "code", "code_with_exit_zero"),
    [
        ([], "not-measured", 3, 3),
        ([PASS], "pass", 0, 0),
        ([PASS, INFORMATION, WAIVED], "pass", 0, 0),
        ([WAIVED], "waived", 0, 0),
        ([INFORMATION], "measured", 0, 0),
        ([FAIL, PASS], "fail", 1, 0),
        ([PASS, UNDECIDED], "inconclusive", 3, 3),
        ([PASS, UNMEASURED], "inconclusive", 3, 3),
        ([PASS, ERROR], "error", 3, 3),
        ([FAIL, ERROR], "fail", 1, 3),  # --exit-zero must not hide the error
        ([FAIL, UNDECIDED], "fail", 1, 3),
        ([BROKEN, FAIL, ERROR], "fail", 4, 4),
        ([finding(None), INFORMATION], "measured", 0, 0),
    ],
)
def test_verdict_and_exit_code_of_a_report(
    findings: list[Finding], verdict: str, code: int, code_with_exit_zero: int
) -> None:
    report = Report(findings=tuple(findings))
    assert report.verdict == verdict
    assert exit_code(report) is ExitCode(code)
    assert exit_code(report, exit_zero=True) is ExitCode(code_with_exit_zero)
    assert report.passed is (verdict == "pass")


numbers = st.floats(0, 1)


@given(st.tuples(numbers, numbers, numbers).map(sorted), numbers)
def test_a_bound_that_passes_also_passes_on_the_estimate(ends: list[float], limit: float) -> None:
    low, value, high = ends
    strict = Limit(minimum=limit, on="lower").judge(value, interval(low, high))
    plain = Limit(minimum=limit).judge(value, interval(low, high))
    if strict in (Verdict.PASS, Verdict.FAIL):
        assert strict is plain
    else:
        assert low < limit <= high


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_finding_is_finite_or_unknown(value: float) -> None:
    with pytest.raises(ValueError, match="finite or None"):
        finding(value)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"minimum": 0.1, "maximum": 0.2},
        {"minimum": 0.1, "on": "upper"},
        {"maximum": 0.1, "on": "lower"},
    ],
)
def test_a_limit_that_could_pass_by_luck_is_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="limit"):
        Limit(**arguments)  # type: ignore[arg-type]


def test_an_interval_has_its_ends_in_order() -> None:
    with pytest.raises(ValueError, match="low <= high"):
        interval(0.6, 0.5)


def test_the_most_urgent_findings_come_first() -> None:
    critical = replace(FAIL, severity="critical")
    assert by_urgency([PASS, FAIL, ERROR, critical]) == [critical, FAIL, ERROR, PASS]
