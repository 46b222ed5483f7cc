"""Sign a file with Content Credentials: the source is untouched, nothing half-done stays."""

import os
import shutil
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import c2pa
from PIL import Image

from assaymark.provenance.c2pa_context import reason
from assaymark.provenance.claims import NOTHING, Claims
from assaymark.provenance.definition import new_builder
from assaymark.provenance.formats import HEAD, Format, Route, recognise
from assaymark.provenance.job import Job
from assaymark.provenance.journal import beside
from assaymark.provenance.keys import Credentials
from assaymark.provenance.room import room
from assaymark.provenance.routes import SIGNS
from assaymark.provenance.verify import State, Verification, examine
from assaymark.reports.errors import InputError

_PICTURES = ("JPEG", "PNG")


@dataclass(frozen=True, kw_only=True)
class Signed:
    """A signed file. manifest: the file that carries the manifest; found: what was read back.

    found: None where the caller did without. before, after: bytes of the source and of what is
    shipped, a manifest beside it included.
    """

    source: Path
    destination: Path
    manifest: Path
    before: int
    after: int
    found: Verification | None


def sign(
    source: Path,
    destination: Path,
    credentials: Credentials,
    claims: Claims = NOTHING,
    *,
    overwrite: bool = False,
    read_back: bool = True,
) -> Signed:
    """Write a signed copy of `source` to `destination`, and read it back before it gets its name.

    A file that cannot carry a manifest is copied with one beside it (NAME.c2pa); where the
    destination is the source itself, only that is written, and the source is never changed.
    Credentials that the source already carries stay in the history as its parent. overwrite: an
    existing destination may be replaced. Raises InputError, and then there is no destination (or
    the old one).
    """
    kind = _kind(source)
    _check_destination(source, destination, kind, overwrite)
    history = _history(source)
    _check_picture(source, kind)
    aside = kind.route is Route.SIDECAR
    try:
        with room(destination.parent) as folder:
            target = folder / destination.name
            written = beside(target) if aside else target
            if aside:
                _copy(source, target, link=source == destination)
            written.touch()
            _write(source, written, kind, credentials, claims, history)
            found = _read_back(source, target) if read_back else None
            after = written.stat().st_size
            if aside:
                after += target.stat().st_size
                os.replace(written, beside(destination))
            if not target.is_symlink():
                os.replace(target, destination)
    except c2pa.C2paError as error:
        raise InputError(f"cannot sign {source}: {reason(error)}") from error
    except OSError as error:
        raise InputError(f"cannot write {destination}: {error.strerror or error}") from error
    return Signed(
        source=source,
        destination=destination,
        manifest=beside(destination) if aside else destination,
        before=source.stat().st_size,
        after=after,
        found=replace(found, path=destination) if found else None,
    )


def _history(source: Path) -> bool:
    """Whether the source carries credentials; raises InputError where they do not hold."""
    before = examine(source)
    if before.state not in (State.NO_MANIFEST, State.UNTRUSTED):
        raise InputError(
            f"{source} carries credentials that do not hold ({before.explanation}): a new signature "
            "would vouch for a changed file; get it from its source again"
        )
    return before.state is State.UNTRUSTED


def _read_back(source: Path, target: Path) -> Verification:
    found = examine(target)
    if found.state is not State.UNTRUSTED:
        raise InputError(
            f"{source} was signed, but the signature does not read back ({found.explanation}): "
            "nothing was written"
        )
    return found


def _copy(source: Path, target: Path, *, link: bool) -> None:
    if link:
        target.symlink_to(source.absolute())
    else:
        shutil.copyfile(source, target)


def _write(
    source: Path,
    target: Path,
    kind: Format,
    credentials: Credentials,
    claims: Claims,
    history: bool,
) -> None:
    info = c2pa.C2paSignerInfo(
        credentials.algorithm.encode(),
        credentials.chain_pem.encode(),
        credentials.key_pem.encode(),
        None,
    )
    builder = partial(new_builder, claims, source, kind, history=history)
    with c2pa.Signer.from_info(info) as signer:
        SIGNS[kind.route](
            Job(source=source, target=target, format=kind, builder=builder, signer=signer)
        )


def _kind(source: Path) -> Format:
    try:
        with source.open("rb") as stream:
            kind = recognise(source, stream.read(HEAD))
    except OSError as error:
        raise InputError(f"cannot read {source}: {error.strerror or error}") from error
    if kind is None:
        raise InputError(f"{source} is of no kind that can be signed")
    return kind


def _check_picture(source: Path, kind: Format) -> None:
    if kind.name not in _PICTURES:
        return
    try:
        with Image.open(source) as picture:
            picture.load()
    except Exception as error:  # decoders raise what they like
        raise InputError(
            f"{source} cannot be decoded: {error}; a damaged picture is not signed"
        ) from error


def _check_destination(source: Path, destination: Path, kind: Format, overwrite: bool) -> None:
    if kind.route is Route.SIDECAR:
        if source == destination:
            destination = beside(destination)
    elif destination.suffix.lower() not in kind.endings:
        raise InputError(
            f"{source} is {kind.media_type}, but {destination.name} ends in "
            f"{destination.suffix or 'nothing'}: expected {' or '.join(kind.endings)}"
        )
    if os.path.lexists(destination):
        if destination.exists() and destination.samefile(source):
            raise InputError(
                f"{destination} is the source itself, which is never changed: name another"
            )
        if not overwrite:
            raise InputError(f"{destination} exists already: name another file, or use --force")
