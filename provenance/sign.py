"""Sign a file with Content Credentials: the source is untouched, nothing half-done stays."""

import os
import shutil
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import c2pa

from assaymark.provenance.bindings import bound, remember_signed
from assaymark.provenance.c2pa_context import reason
from assaymark.provenance.claims import NOTHING, Claims
from assaymark.provenance.damage import check_whole
from assaymark.provenance.definition import new_builder
from assaymark.provenance.files import is_regular
from assaymark.provenance.formats import HEAD, Format, Route, recognise
from assaymark.provenance.identity import said_by_actor
from assaymark.provenance.job import Job, Signs
from assaymark.provenance.journal import beside
from assaymark.provenance.keys import Credentials
from assaymark.provenance.manner import PLAIN, Manner, shared_signer, shared_signing_context
from assaymark.provenance.plain import sign_plain
from assaymark.provenance.room import room
from assaymark.provenance.routes import SIGNS
from assaymark.provenance.signers import signing_failure
from assaymark.provenance.verify import State, Verification, examine, examine_written
from assaymark.reports.errors import InputError


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
    manner: Manner = PLAIN,
    *,
    overwrite: bool = False,
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
    check_whole(source, kind)
    aside = kind.route is Route.SIDECAR
    try:
        with room(destination.parent) as folder:
            target = folder / destination.name
            written = beside(target) if aside else target
            if aside:
                _copy(source, target, link=source == destination)
            written.touch()
            _write(source, written, kind, credentials, claims, manner, history)
            found = _read_back(source, target) if manner.read_back else None
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
    found = examine_written(target)
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
    manner: Manner,
    history: bool,
) -> None:
    marked, bindings, watermarked = bound(source, target, manner.binding)
    builder = partial(
        new_builder,
        claims,
        source,
        kind,
        history=history,
        soft_bindings=bindings,
        watermarked=watermarked,
        broken_ingredients=manner.broken_ingredients,
        context=shared_signing_context(credentials, manner, kind),
    )
    signer = shared_signer(credentials, manner, said_by_actor(claims) if manner.identity else ())
    job = Job(source=marked, target=target, format=kind, builder=builder, signer=signer)
    try:
        _route(source, kind, claims, manner)(job)
    except c2pa.C2paError as error:
        if failure := signing_failure(signer):
            raise failure from error
        raise
    if manner.binding and bindings:
        remember_signed(target, manner.binding)


def _route(source: Path, kind: Format, claims: Claims, manner: Manner) -> Signs:
    """The route of a kind, or the library's own where only that can write what is asked for."""
    if manner.identity is None and not claims.update:
        return SIGNS[kind.route]
    if kind.route in (Route.TEXT, Route.HTML, Route.STRUCTURED, Route.SIDECAR):
        raise InputError(
            f"{source} cannot carry an identity or an update: sign it without, or as a format that "
            "holds its manifest itself, such as PDF"
        )
    return sign_plain


def _kind(source: Path) -> Format:
    if not is_regular(source):
        raise InputError(f"{source} is no regular file, but a folder, a pipe or a device")
    try:
        with source.open("rb") as stream:
            kind = recognise(source, head := stream.read(HEAD))
    except OSError as error:
        raise InputError(f"cannot read {source}: {error.strerror or error}") from error
    if kind is None:
        why = "is of no kind that can be signed" if head else "is empty: nothing to sign is in it"
        raise InputError(f"{source} {why}")
    return kind


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
