"""What the library throws for a file it cannot read, as a state, a status code and a sentence.

c2pa reports structural damage as prose. A file that shows a manifest's bytes was signed once, so
when its structure is broken it is invalid; without them nobody can say, and it is unreadable.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from assaymark.provenance.c2pa_context import reason
from assaymark.provenance.formats import Format, Route
from assaymark.provenance.verification import State

# The types of a C2PA manifest store's and of a signature's description box (C2PA 2.2, section
# 11.1.4), and the names of the places that other formats keep a store in.
_TYPE = b"\x00\x11\x00\x10\x80\x00\x00\xaa\x00\x38\x9b\x71"
_BOXES = (b"c2pa" + _TYPE, b"c2cs" + _TYPE)
_MARKS = {
    "SVG": (b"c2pa:manifest",),
    "HTML": (b"application/c2pa",),
    "PDF": (b"/C2PA_Manifest", b"application#2Fc2pa"),
}
_CHUNK = 1 << 20
# Files inside these can be signed themselves, which says nothing about the file around them.
_HOLD_FILES = (Route.ZIP, Route.TEXT, Route.HTML, Route.STRUCTURED, Route.SIDECAR)
_REMOTE = re.compile(r"remote manifests? from url (\S+)")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One kind of message. signed, unsigned: the state with and without a visible manifest."""

    error: str
    pattern: str
    signed: State
    unsigned: State
    code: str
    sentence: str


_DAMAGED = "its structure is broken, as after a cut or a damaged copy"
PROBLEMS: tuple[Problem, ...] = tuple(
    Problem(
        error=error, pattern=pattern, signed=signed, unsigned=unsigned, code=code, sentence=sentence
    )
    for error, pattern, signed, unsigned, code, sentence in (
        ("", r"remote manifest", State.UNREADABLE, State.UNREADABLE, "manifest.inaccessible",
         "its Content Credentials are on a server, and nothing is fetched"),
        ("ManifestNotFound", r"", State.UNREADABLE, State.NO_MANIFEST, "",
         "it holds the bytes of a manifest, but not where its format keeps one"),
        ("NotSupported", r"", State.UNREADABLE, State.UNSUPPORTED, "",
         "files of its kind cannot be read"),
        ("Other", r"could not be parsed|bounds|out of range|Invalid RIFF|XML", State.INVALID,
         State.UNREADABLE, "general.error", _DAMAGED),
        ("Io", r"", State.INVALID, State.UNREADABLE, "general.error",
         "it ends before its structure does, as after a cut"),
        ("Verify", r"claim superbox", State.INVALID, State.UNREADABLE, "claim.missing",
         "its manifest has no claim"),
        ("Verify", r"", State.INVALID, State.UNREADABLE, "general.error",
         "its manifest is broken"),
        ("", r"claim", State.INVALID, State.UNREADABLE, "claim.malformed",
         "its manifest cannot be decoded"),
        ("", r"", State.INVALID, State.UNREADABLE, "general.error",
         "its Content Credentials cannot be read, so nothing vouches for it"),
    )
)  # fmt: skip


def problem(error: Exception, path: Path, kind: Format) -> tuple[State, tuple[str, ...], str]:
    """State, status codes and explanation of a file that the library refused."""
    name = type(error).__name__.removeprefix("_C2pa")
    found = next(
        item
        for item in PROBLEMS
        if item.error in ("", name) and re.search(item.pattern, str(error), re.IGNORECASE)
    )
    state = found.signed if shows_manifest(path, kind) else found.unsigned
    if state is State.NO_MANIFEST:
        return state, (), "the file carries no Content Credentials"
    codes = (found.code,) if found.code else ()
    return state, codes, f"{found.sentence}: {reason(error)}"


def remote_address(error: Exception) -> str:
    """The address of a manifest that was not fetched, as the file gives it; hostile text."""
    found = _REMOTE.search(str(error))
    return found.group(1)[:2048] if found else ""


def shows_manifest(path: Path, kind: Format) -> bool:
    """Whether the bytes of a manifest store stand anywhere in the file, where that says something."""
    marks = _MARKS.get(kind.name, () if kind.route in _HOLD_FILES else _BOXES)
    if not marks:
        return False
    with path.open("rb") as stream:
        return _contains(stream, marks)


def _contains(stream: BinaryIO, marks: tuple[bytes, ...]) -> bool:
    tail = b""
    while chunk := stream.read(_CHUNK):
        window = tail + chunk
        if any(mark in window for mark in marks):
            return True
        tail = chunk[-max(map(len, marks)) :]
    return False
