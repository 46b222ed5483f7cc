"""The report as JSON: the one stored form, from which every other format is rendered."""

import hashlib
import json
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from assaymark.reports.errors import InputError
from assaymark.reports.model import SCHEMA_VERSION, Report

SCHEMA_NAME = f"assaymark-report-{SCHEMA_VERSION}"


@cache
def _adapter() -> TypeAdapter[Report]:
    return TypeAdapter(Report)


def schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a stored report."""
    inner = _adapter().json_schema(mode="serialization")
    inner["$defs"]["Finding"]["properties"]["verdict"] = {"type": "string"}
    definitions = inner.pop("$defs")
    for value in (inner, *definitions.values()):
        if "properties" in value:
            value["additionalProperties"] = False
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": SCHEMA_NAME,
        "type": "object",
        "required": ["schema", "verdict", "report"],
        "additionalProperties": False,
        "properties": {
            "schema": {"const": SCHEMA_NAME},
            "verdict": {"type": "string"},
            "report": inner,
        },
        "$defs": definitions,
    }


def to_dict(report: Report) -> dict[str, Any]:
    """Plain data with the verdicts written out, for readers that do not want to recompute them."""
    body = _adapter().dump_python(report, mode="json")
    for finding, stored in zip(report.findings, body["findings"], strict=True):
        stored["verdict"] = finding.verdict.value
    return {"schema": SCHEMA_NAME, "verdict": report.verdict.value, "report": body}


def to_json(report: Report) -> str:
    return json.dumps(to_dict(report), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def from_json(text: str, name: str = "report") -> Report:
    """The report a JSON text holds.

    Raises InputError when it is not one of ours, has keys we do not know, or says a verdict that
    its own numbers do not give.
    """
    try:
        stored = json.loads(text)
        if not isinstance(stored, dict) or stored.get("schema") != SCHEMA_NAME:
            raise InputError(f'{name} is not a stored report: expected "schema": "{SCHEMA_NAME}"')
        plain = json.loads(text)
        for finding in plain["report"]["findings"]:
            finding.pop("verdict", None)
        report = _adapter().validate_python(plain["report"])
        to_json(report).encode()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{name} cannot be read as a report: {reason}") from error
    if to_dict(report) != stored:
        raise InputError(
            f"{name} was changed after it was written: its verdicts or keys do not follow from its "
            "numbers; render it from the original JSON"
        )
    return report


def digest(report: Report) -> str:
    """SHA-256 of the stored form, to tell which JSON a page was rendered from."""
    return hashlib.sha256(to_json(report).encode()).hexdigest()
