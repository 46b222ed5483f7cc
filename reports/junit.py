"""JUnit XML as Jenkins and GitLab read it: a broken limit is a failure, an undecided one an error."""

import re
from xml.etree import ElementTree as ET

from assaymark.reports.model import Finding, Report, Verdict
from assaymark.reports.wording import consequence, measured, required

_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ELEMENT = {
    Verdict.FAIL: "failure",
    Verdict.INCONCLUSIVE: "error",
    Verdict.ERROR: "error",
    Verdict.WAIVED: "skipped",
    Verdict.NOT_MEASURED: "skipped",
}


def render(report: Report) -> str:
    """One suite a check, one case a finding; names are unique, since readers drop doubles."""
    root = ET.Element("testsuites", name="assaymark")
    suites: dict[str, ET.Element] = {}
    seen: dict[tuple[str, str], int] = {}
    for finding in report.findings:
        suite = suites.get(finding.check)
        if suite is None:
            suite = suites[finding.check] = ET.SubElement(
                root, "testsuite", name=_clean(finding.check)
            )
        title = f"{finding.measure} [{finding.target}]"
        seen[finding.check, title] = seen.get((finding.check, title), 0) + 1
        nth = seen[finding.check, title]
        case = ET.SubElement(
            suite,
            "testcase",
            classname=_clean(finding.check),
            name=_clean(title if nth == 1 else f"{title} #{nth}"),
            time=f"{finding.cost.seconds or 0:.3f}",
        )
        _outcome(case, finding)
    for element in [*suites.values(), root]:
        for attribute, tag in (
            ("failures", "failure"),
            ("errors", "error"),
            ("skipped", "skipped"),
        ):
            element.set(attribute, str(sum(1 for _ in element.iter(tag))))
        element.set("tests", str(sum(1 for _ in element.iter("testcase"))))
        seconds = [float(case.get("time", "0")) for case in element.iter("testcase")]
        element.set("time", f"{sum(seconds):.3f}")
    if not suites:  # an empty report must not read as green
        case = ET.SubElement(
            ET.SubElement(root, "testsuite", name="assaymark", tests="1", errors="1"),
            "testcase",
            classname="assaymark",
            name="report",
        )
        ET.SubElement(case, "error", message="nothing was measured")
        root.set("tests", "1")
        root.set("errors", "1")
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _outcome(case: ET.Element, finding: Finding) -> None:
    verdict = finding.verdict
    tag = "error" if finding.blocks else _ELEMENT.get(verdict)
    text = " ".join(filter(None, (finding.summary, consequence(finding))))
    if tag is None:
        ET.SubElement(case, "system-out").text = _clean(f"{measured(finding)} {text}")
        return
    message = f"{verdict.value}: {measured(finding)}"
    if finding.limit is not None:
        message += f", required {required(finding)}"
    element = ET.SubElement(case, tag, message=_clean(message))
    if tag != "skipped":
        element.set("type", finding.severity)
    element.text = _clean(text)


def _clean(text: str) -> str:
    return _ILLEGAL.sub("\ufffd", text)
