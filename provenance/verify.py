"""What a file's Content Credentials are worth: one state per file, and the codes behind it.

The library calls any self-made certificate "Valid"; only a chain to a given trust anchor is
"trusted" here. Nothing a file names is fetched.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import c2pa

from assaymark.provenance.c2pa_context import shared_context
from assaymark.provenance.fast_read import read_written
from assaymark.provenance.files import is_regular
from assaymark.provenance.formats import HEAD, Format, Route, recognise
from assaymark.provenance.job import Reads
from assaymark.provenance.judgement import judge
from assaymark.provenance.problems import problem, remote_address
from assaymark.provenance.routes import READS
from assaymark.provenance.stores import png_manifest_is_damaged
from assaymark.provenance.trust import NOBODY, Trust
from assaymark.provenance.verification import State, Verification
from assaymark.reports.errors import InputError, IntegrityError

__all__ = ["State", "Verification", "examine", "examine_written", "verify"]
# what a reader raises for a hostile file, besides errors of the operating system
_REFUSALS = (c2pa.C2paError, ValueError, KeyError, TypeError, RecursionError, InputError)


def examine(path: Path, trust: Trust = NOBODY) -> Verification:
    """The state of one file; never raises for what the file holds.

    Nothing is fetched: no manifest, no revocation list. An unreadable, cut or hostile file has a
    state like any other.
    """
    return _examine(path, trust, READS)


def examine_written(path: Path) -> Verification:
    """The state of a file that was just signed; a large one was hashed as it was written."""
    fast = dict.fromkeys((Route.JPEG, Route.PNG, Route.RIFF, Route.BMFF), read_written)
    return _examine(path, NOBODY, READS | fast)


def _examine(path: Path, trust: Trust, reads: Mapping[Route, Reads]) -> Verification:
    if not is_regular(path):
        return _without(
            path, State.UNREADABLE, "it is no regular file, but a folder, a pipe or a device"
        )
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for, a device has no end
            return _without(path, State.UNREADABLE, "cannot read the file: it is no regular file")
        with path.open("rb") as stream:
            head = stream.read(HEAD)
    except (OSError, ValueError) as error:
        return _without(path, State.UNREADABLE, f"cannot read the file: {error}")
    kind = recognise(path, head)
    if kind is None:
        what = "its first bytes are of no kind known here" if head else "the file is empty"
        return _without(path, State.UNSUPPORTED, f"{what}, so it can carry no credentials")
    return _of_kind(path, kind, trust, reads[kind.route])


def _of_kind(path: Path, kind: Format, trust: Trust, read: Reads) -> Verification:
    try:
        try:
            reading = read(path, kind, shared_context(trust))
            return _undamaged(judge(path, reading, trust), kind)
        except _REFUSALS as error:
            state, codes, text = problem(error, path, kind)
            remote = remote_address(error)
            return replace(
                _without(path, state, text),
                failures=codes,
                codes=codes,
                remote=remote,
                where="remote" if remote else "",
            )
    except (OSError, MemoryError) as error:
        return _without(path, State.UNREADABLE, f"cannot read the file: {error}")


def _undamaged(found: Verification, kind: Format) -> Verification:
    unchecked = kind.name == "PNG" and found.where == "embedded"
    if not unchecked or found.state is State.INVALID or not png_manifest_is_damaged(found.path):
        return found
    return replace(
        found,
        state=State.UNREADABLE,
        explanation="a chunk of the PNG does not keep its checksum, so the file was damaged",
    )


def verify(path: Path, trust: Trust) -> Verification:
    """The verification of a file that is trusted; raises IntegrityError for any other state."""
    found = examine(path, trust)
    if found.state is not State.TRUSTED:
        raise IntegrityError(f"{path} is {found.state}: {found.explanation}")
    return found


def _without(path: Path, state: State, explanation: str) -> Verification:
    return Verification(path=path, state=state, explanation=explanation)
