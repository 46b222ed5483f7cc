"""An inspection as one HTML page: no request, no script, nothing of the file but escaped text."""

import base64
import hashlib
from functools import cache
from importlib.resources import files

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from assaymark.provenance.inspect import Inspection, name, shown, summary
from assaymark.provenance.verification import State

# The words of the reports' style sheet.
_LOOKS = {
    State.TRUSTED: ("is-pass", "✓"),
    State.UNTRUSTED: ("is-inconclusive", "?"),
    State.INVALID: ("is-fail", "✕"),
    State.UNREADABLE: ("is-fail", "✕"),
    State.NO_MANIFEST: ("is-measured", "–"),
    State.UNSUPPORTED: ("is-measured", "–"),
}


def as_html(inspection: Inspection) -> str:
    """A self-contained page; the same inspection gives the same bytes."""
    style = _asset("assaymark.reports", "report.css") + _asset(
        "assaymark.provenance", "inspect.css"
    )
    look, mark = _LOOKS[inspection.state]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    page: str = _template().render(
        it=inspection,
        found=inspection.found,
        name=name(inspection.found.path),
        pairs=summary(inspection),
        free_rows=_free(inspection),
        status_rows=[(item.kind, item.code, item.explanation) for item in inspection.statuses],
        look=look,
        mark=mark,
        style=Markup(style),  # ours, from the package
        csp=f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'",
    )
    return page


def _free(inspection: Inspection) -> list[tuple[object, ...]]:
    verdict = {True: "as it should be", False: "unexplained"}
    return [
        (f"{item.place} {item.start}", item.end, item.what, verdict[item.explained])
        for item in (inspection.free.ranges if inspection.free else ())
    ]


def _asset(package: str, file: str) -> str:
    return files(package).joinpath(file).read_text("utf-8")


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["shown"] = shown
    environment.filters["data"] = _lines
    return environment.from_string(_asset("assaymark.provenance", "inspect.html.j2"))


def _lines(text: str) -> str:
    return "\n".join(map(shown, text.split("\n")))
