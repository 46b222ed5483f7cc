"""Formats by file name: -o report.html -o report.json -o out.sarif -o out.junit.xml -o out.md."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from assaymark.reports.errors import InputError
from assaymark.reports.files import check_writable
from assaymark.reports.model import Report

# suffix -> module:function, imported when used
FORMATS = {
    ".html": "assaymark.reports.html:render",
    ".json": "assaymark.reports.store:to_json",
    ".sarif": "assaymark.reports.sarif:render",
    ".junit.xml": "assaymark.reports.junit:render",
    ".md": "assaymark.reports.markdown:render",
}


def check_outputs(paths: list[Path]) -> None:
    """Raise InputError for an unknown format or a place that cannot be written, before anything runs."""
    for path in paths:
        _renderer(path)
        check_writable(path)
    if len({path.resolve() for path in paths}) < len(paths):
        raise InputError("two outputs have the same name: give each its own")


def write_outputs(report: Report, paths: list[Path]) -> None:
    """Render and write every output; each appears whole or not at all."""
    from assaymark.reports.files import write_atomically

    for path in paths:
        write_atomically(path, _renderer(path)(report))


def _renderer(path: Path) -> Callable[[Report], str]:
    for suffix, target in FORMATS.items():
        if path.name.lower().endswith(suffix):
            module, _, function = target.partition(":")
            render: Callable[[Report], str] = getattr(import_module(module), function)
            return render
    raise InputError(
        f"-o {path}: the format is taken from the name, expected one of {', '.join(FORMATS)}"
    )
