"""The stored form: loses nothing, hides nothing, and notices an edit."""

import json
from pathlib import Path

import jsonschema
import pytest
from samples import HOSTILE, sample

from assaymark.reports.errors import InputError
from assaymark.reports.files import write_atomically
from assaymark.reports.model import Report
from assaymark.reports.store import digest, from_json, schema, to_dict, to_json


@pytest.mark.parametrize("text", ["plain", *HOSTILE])
def test_a_stored_report_comes_back_the_same(text: str) -> None:
    report = sample(text)
    assert from_json(to_json(report)) == report
    assert digest(from_json(to_json(report))) == digest(report)


def test_the_published_schema_describes_what_is_stored() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    for report in (sample(), Report()):
        jsonschema.validate(json.loads(to_json(report)), schema())
    wrong = to_dict(sample())
    del wrong["report"]["findings"][0]["value"]
    wrong["report"]["findings"][0]["worth"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, schema())


def test_verdicts_are_written_out() -> None:
    stored = to_dict(sample())
    assert stored["verdict"] == "fail"
    assert [finding["verdict"] for finding in stored["report"]["findings"]] == [
        "fail",
        "inconclusive",
        "measured",
        "error",
        "waived",
        "not-measured",
        "pass",
    ]


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda stored: stored["report"]["findings"][0].update(verdict="pass"), "was changed"),
        (lambda stored: stored.update(verdict="pass"), "was changed"),
        (lambda stored: stored["report"]["findings"][0].update(extra=1), "was changed"),
        (lambda stored: stored["report"]["findings"][0].update(value="x"), "cannot be read"),
        (lambda stored: stored["report"]["findings"][0].pop("check"), "cannot be read"),
        (lambda stored: stored["report"].pop("findings"), "cannot be read"),
        (lambda stored: stored.update(schema="other"), "is not a stored report"),
    ],
    ids=["verdict", "report verdict", "extra key", "type", "no check", "no findings", "schema"],
)
def test_an_edited_report_is_refused(edit: object, expected: str) -> None:
    stored = to_dict(sample())
    edit(stored)  # type: ignore[operator]
    with pytest.raises(InputError, match=expected):
        from_json(json.dumps(stored))


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"schema": 1}', "not json"])
def test_what_is_no_report_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="report"):
        from_json(text)


def test_nothing_partial_under_a_final_name(tmp_path: Path) -> None:
    target = tmp_path / "a" / "report.json"
    write_atomically(target, "old")
    with pytest.raises(InputError, match="not Unicode"):
        write_atomically(target, "\ud800")
    assert target.read_text() == "old"
    blocked = tmp_path / "file"
    blocked.write_text("x")
    with pytest.raises(InputError, match="cannot write"):
        write_atomically(blocked / "report.json", "new")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["report.json"]
