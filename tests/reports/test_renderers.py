"""SARIF, JUnit and Markdown say what the findings say, and hostile text stays text."""

import base64
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import numpy
import pytest
from PIL import Image
from samples import HOSTILE, sample

from assaymark.reports import html, junit, markdown, sarif
from assaymark.reports.model import Report


def test_sarif_has_what_code_scanning_asks_for() -> None:
    log = json.loads(sarif.render(sample()))
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    for rule in rules:
        assert rule["id"]
        assert 0 < len(rule["name"]) <= 255
        for key in ("shortDescription", "fullDescription", "help"):
            assert 0 < len(rule[key]["text"]) <= 1024
        assert len(rule["properties"]["tags"]) <= 10
        assert 0 < float(rule["properties"]["security-severity"]) <= 10
        assert isinstance(rule["properties"]["security-severity"], str)
    verdicts = [result["properties"]["verdict"] for result in run["results"]]
    assert verdicts == ["fail", "inconclusive", "error", "waived", "not-measured"]
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["message"]["text"]
        assert result["level"] == (
            "error" if result["properties"]["verdict"] in ("fail", "waived") else "warning"
        )
        (location,) = result["locations"]
        region = location["physicalLocation"]["region"]
        assert region["startLine"] >= 1
        assert not location["physicalLocation"]["artifactLocation"]["uri"].startswith("/")
        assert len(result["partialFingerprints"]["primaryLocationLineHash"]) == 32
    assert run["results"][0]["locations"][0]["physicalLocation"]["region"]["startLine"] == 2
    assert run["results"][3]["suppressions"][0]["status"] == "accepted"
    assert run["invocations"][0]["executionSuccessful"] is False


def test_sarif_fingerprints_tell_findings_apart() -> None:
    results = json.loads(sarif.render(sample()))["runs"][0]["results"]
    prints = [result["partialFingerprints"]["primaryLocationLineHash"] for result in results]
    assert len(set(prints)) == len(prints)


@pytest.mark.parametrize("text", ["plain", *HOSTILE])
def test_junit_is_xml_with_every_finding(text: str) -> None:
    root = ET.fromstring(junit.render(sample(text)))
    cases = list(root.iter("testcase"))
    assert len(cases) == int(root.get("tests", "0")) == len(sample().findings)
    names = [(case.get("classname"), case.get("name")) for case in cases]
    assert len(set(names)) == len(names)
    outcomes = [case[0].tag for case in cases]
    expected = ["failure", "error", "system-out", "error", "skipped", "error", "system-out"]
    assert sorted(outcomes) == sorted(expected)
    assert int(root.get("failures", "0")) == 1
    assert int(root.get("errors", "0")) == 3


def test_an_empty_report_is_not_green() -> None:
    assert ET.fromstring(junit.render(Report())).get("errors") == "1"
    assert "Nothing was measured" in markdown.render(Report())
    assert "an empty report never passes" in html.render(Report())


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_keeps_its_table(text: str) -> None:
    page = markdown.render(sample(text))
    rows = [line for line in page.splitlines() if line.startswith("|")]
    bars = [len(re.findall(r"(?<!\\)\|", row)) for row in rows]
    findings = 2 + len(sample().findings)
    assert bars[:findings] == [9] * findings
    heat = [4] * (2 + 12)  # two columns beside the labels
    plots = [7] * (2 + 40) + [5] * (2 + 4) + [4] * 2  # the first is cut, the last is empty
    assert bars[findings:] == [*heat, *plots]
    assert "93 more points are in the JSON report" in page
    assert "<script" not in page
    assert "<img" not in page


def test_a_heat_map_is_a_table_with_a_number_in_every_cell() -> None:
    page = html.render(sample())
    (heat,) = re.findall(r'<table class="heat">.*?</table>', page, re.DOTALL)
    assert heat.count('scope="row"') == 12
    assert heat.count('scope="col"') == 3
    cells = re.findall(r'<td class="(heat-\w+)">([^<]*)', heat)
    assert cells[:4] == [("heat-0", "0.000")] * 2 + [("heat-1", "0.100")] * 2
    assert cells[-2:] == [("heat-none", "not measured"), ("heat-0", "0.000")]
    assert heat.count('class="total first"') == 1
    for name in {name for name, _ in cells}:
        assert re.search(rf"\.{name} {{{{ background: ".replace("{{", "{"), page)


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def tags(page: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Tags()
    parser.feed(page)
    return parser.tags


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_adds_no_element_and_no_attribute_to_the_page(text: str) -> None:
    def shape(page: str) -> list[tuple[str, tuple[str, ...]]]:
        return [(tag, tuple(sorted(attributes))) for tag, attributes in tags(page)]

    assert shape(html.render(sample(text))) == shape(html.render(sample("plain")))


def test_the_page_allows_its_own_style_and_script_by_hash_and_nothing_else() -> None:
    page = html.render(sample())
    policy = next(
        attributes["content"]
        for tag, attributes in tags(page)
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives.keys() == {
        "default-src", "img-src", "style-src", "script-src", "base-uri", "form-action",
    }  # fmt: skip
    assert directives["default-src"] == "'none'"
    assert directives["img-src"] == "data:"
    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert directives[f"{tag}-src"] == f"'sha256-{digest}'"
    for _, attributes in tags(page):
        assert "style" not in attributes
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:image/"))


def test_the_verdict_comes_before_everything_else() -> None:
    page = html.render(sample())
    assert page.index("A limit is broken") < page.index("Policy and verdicts")
    assert page.index("Policy and verdicts") < page.index("Findings and evidence")
    for section in ("What was not tested", "Method", "How to read the verdicts", "Reproducibility"):
        assert page.index("Findings and evidence") < page.index(section)


def test_the_same_report_gives_the_same_bytes() -> None:
    assert html.render(sample()) == html.render(sample())


def test_twelve_trios_of_noise_stay_under_600_kilobytes() -> None:
    """Noise compresses worst; photographs take less."""
    from dataclasses import replace

    import torch

    from assaymark.reports.model import ImageTrio
    from assaymark.robustness.pictures import encode

    report = sample()
    generator = torch.Generator().manual_seed(0)
    first = report.findings[0]
    trio = next(item for item in first.evidence if isinstance(item, ImageTrio))
    noisy = [
        replace(
            trio,
            original=encode(torch.rand(3, 224, 224, generator=generator)),
            adversarial=encode(torch.rand(3, 224, 224, generator=generator)),
            difference=encode(torch.rand(3, 224, 224, generator=generator)),
        )
        for _ in range(12)
    ]
    page = html.render(Report(findings=(replace(first, evidence=tuple(noisy)),)))
    assert len(page.encode()) <= 600_000
    stored = Image.open(io.BytesIO(base64.b64decode(noisy[0].original.data)))
    assert numpy.asarray(stored).std() > 20  # still a picture of noise, not a grey patch
