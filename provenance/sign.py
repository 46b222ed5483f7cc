"""Sign a file with Content Credentials: the source is untouched, nothing half-done stays."""

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import c2pa

from assaymark.provenance.bindings import bound, is_bound, remember_signed
from assaymark.provenance.c2pa_context import reason, shared_context
from assaymark.provenance.claims import NOTHING, Claims
from assaymark.provenance.damage import check_whole
from assaymark.provenance.definition import new_builder
from assaymark.provenance.files import is_regular
from assaymark.provenance.formats import HEAD, Format, Route, recognise
from assaymark.provenance.identity import said_by_actor
from assaymark.provenance.in_place import journal_of, sign_in_place, undo
from assaymark.provenance.job import Job, Reading, Signs
from assaymark.provenance.journal import Stamp, beside, stamp
from assaymark.provenance.judgement import judge
from assaymark.provenance.keys import Credentials
from assaymark.provenance.manner import PLAIN, Manner, shared_signer, shared_signing_context
from assaymark.provenance.onepass import has_no_manifest
from assaymark.provenance.plain import sign_plain
from assaymark.provenance.room import draft, room
from assaymark.provenance.routes import SIGNS
from assaymark.provenance.sidecar import beside as manifests_beside
from assaymark.provenance.sidecar import sign_sidecar
from assaymark.provenance.signers import signing_failure
from assaymark.provenance.stamping import check_not_silent, failed
from assaymark.provenance.texts import sign_text
from assaymark.provenance.trust import NOBODY
from assaymark.provenance.verify import State, Verification, examine, examine_written
from assaymark.reports.errors import AssaymarkError, InputError

_MANIFEST = 1 << 14  # bytes, about
# what the library's words have in common where a time-stamping authority failed
_OF_STAMPS = ("http", "HTTP", "decode error", "imestamp", "ime stamp", "timed out")


@dataclass(frozen=True, kw_only=True)
class Signed:
    """A signed file. manifest: the file that carries the manifest; found: what was read back.

    found: None where the caller did without. before, after: bytes of the source and of what is
    shipped, a manifest beside it included. read: the state of the source that was signed.
    """

    source: Path
    destination: Path
    manifest: Path
    before: int
    after: int
    found: Verification | None
    read: Stamp


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
    With manner.in_place the source itself is signed, and is as it was where that fails.
    Credentials that the source already carries stay in the history as its parent. overwrite: an
    existing destination may be replaced. Raises InputError, and then there is no destination (or
    the old one).
    """
    kind = _kind(source)
    if manner.tsa_url:
        check_not_silent(manner.tsa_url)
    if manner.in_place:
        return _sign_in_place(source, destination, kind, credentials, claims, manner)
    _check_not_torn(source)
    aside = manner.sidecar or kind.route is Route.SIDECAR
    _check_destination(source, destination, kind, overwrite, aside=aside)
    before = stamp(source)
    check_whole(source, kind)
    history = _history(source, kind)
    if history is not None and manner.sidecar and history.where != "sidecar":
        raise InputError(
            f"{source} carries a manifest, which counts before one beside it: sign a copy, without "
            "sidecar, and its history is kept"
        )
    try:
        with _place(destination, one=not aside and manner.binding is None) as target:
            written = beside(target) if aside else target
            if aside:
                _copy(source, target, link=source == destination)
            if not written.exists():
                written.touch()
            _write(source, written, kind, credentials, claims, manner, history is not None)
            found = _read_back(source, target, manner) if manner.read_back else None
            if manner.binding is not None and is_bound(source):
                remember_signed(target, manner.binding)
            after = written.stat().st_size
            if aside:
                after += target.stat().st_size
            if stamp(source) != before:
                raise InputError(f"{source} was changed while it was signed: sign it again")
            if aside:
                _put(written, beside(destination), source, overwrite)
            if not target.is_symlink():
                _put(target, destination, source, overwrite)
    except c2pa.C2paError as error:
        raise InputError(f"cannot sign {source}: {reason(error)}") from error
    except FileExistsError as error:
        raise _exists(Path(str(error.filename2 or error.filename))) from error
    except OSError as error:
        raise InputError(f"cannot write {destination}: {error.strerror or error}") from error
    return Signed(
        source=source,
        destination=destination,
        manifest=beside(destination) if aside else destination,
        before=before[0],
        after=after,
        found=replace(found, path=destination) if found else None,
        read=before,
    )


@contextmanager
def _place(destination: Path, *, one: bool) -> Iterator[Path]:
    """Where the destination is made; one: nothing else is made beside it."""
    if one:
        with draft(destination.parent, destination.name) as target:
            yield target
        return
    with room(destination.parent) as folder:
        yield folder / destination.name


def _put(made: Path, name: Path, source: Path, overwrite: bool) -> None:
    """Give a finished file its name and no more permissions than the source has.

    Raises FileExistsError where somebody else was first.
    """
    usual = stat.S_IMODE(made.stat().st_mode)
    usual |= (usual & 0o444) >> 2  # a program that is signed stays one
    made.chmod(source.stat().st_mode & usual)
    if not overwrite:
        try:
            os.link(made, name)
        except FileExistsError:
            raise
        except OSError:  # a file system without links; the name was free a moment ago
            pass
        else:
            made.unlink()
            return
    os.replace(made, name)


def _sign_in_place(
    source: Path,
    destination: Path,
    kind: Format,
    credentials: Credentials,
    claims: Claims,
    manner: Manner,
) -> Signed:
    if source != destination:
        raise InputError(f"{source} is signed in place: name no other destination ({destination})")
    if source.is_symlink():
        raise InputError(f"{source} is a link: name the file itself to sign it in place")
    if kind.route is not Route.RIFF or claims.update:
        raise InputError(
            f"{source} cannot be signed in place{', as an update' if claims.update else ''}: expected "
            f"WAV, AVI or WebP, this is {kind.media_type}; sign a copy instead"
        )
    signer = shared_signer(credentials, manner)
    try:
        undo(source)
        before = source.stat().st_size
        history = _history(source, kind)
        check_whole(source, kind)
        builder = partial(
            new_builder,
            claims,
            source,
            kind,
            history=history is not None,
            broken_ingredients=manner.broken_ingredients,
            context=shared_signing_context(credentials, manner, kind),
        )
        seen: list[Verification] = []

        def accept(reading: Reading) -> None:
            seen.append(_accepted(source, judge(source, reading, NOBODY), manner))

        sign_in_place(source, kind, builder, signer, shared_context(), accept)
    except c2pa.C2paError as error:
        raise _failure(source, signer, manner, error) from error
    except OSError as error:
        raise InputError(f"cannot sign {source} in place: {error.strerror or error}") from error
    return Signed(
        source=source,
        destination=source,
        manifest=source,
        before=before,
        after=source.stat().st_size,
        found=seen[0],
        read=stamp(source),
    )


def _check_not_torn(source: Path) -> None:
    if journal_of(source).exists():
        raise InputError(
            f"{source} was being signed in place when that was cut off: run that again, which undoes "
            f"it first ({journal_of(source).name} holds what was there)"
        )


def _history(source: Path, kind: Format) -> Verification | None:
    """The credentials that the source carries; raises InputError where they do not hold."""
    if has_no_manifest(source, kind) and next(manifests_beside(source), None) is None:
        return None
    before = examine(source)
    if before.state not in (State.NO_MANIFEST, State.UNTRUSTED):
        raise InputError(
            f"{source} carries credentials that do not hold ({before.explanation}): a new signature "
            "would vouch for a changed file; get it from its source again"
        )
    return before if before.state is State.UNTRUSTED else None


def _read_back(source: Path, target: Path, manner: Manner) -> Verification:
    # what is beside a file has been written by hashing the file, not on the way of writing it
    return _accepted(source, (examine if manner.sidecar else examine_written)(target), manner)


def _accepted(source: Path, found: Verification, manner: Manner) -> Verification:
    if found.state is not State.UNTRUSTED or (manner.sidecar and found.where != "sidecar"):
        raise InputError(
            f"{source} was signed, but the signature does not read back ({found.explanation}): "
            "nothing was written"
        )
    if manner.tsa_url and found.time_stamp is None:
        raise failed(manner.tsa_url, f"what it sent for {source} is no stamp of its signature")
    return found


def _failure(
    source: Path, signer: c2pa.Signer, manner: Manner, error: c2pa.C2paError
) -> AssaymarkError:
    """What a failed signature is to be told as: the key's, the time stamp's or the library's words."""
    if failure := signing_failure(signer):
        return failure
    text = reason(error)
    if manner.tsa_url and any(word in text for word in _OF_STAMPS):
        return failed(manner.tsa_url, text)
    return InputError(f"cannot sign {source}: {text}")


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
        _check_room(target, source.stat().st_size)
        raise _failure(source, signer, manner, error) from error


def _check_room(target: Path, size: int) -> None:
    """Raise the OSError of a disk that is full; the library has as many words for it as formats."""
    if not hasattr(os, "posix_fallocate"):
        return
    handle = os.open(target, os.O_RDWR)
    try:
        os.posix_fallocate(handle, 0, size + _MANIFEST)
    finally:
        os.close(handle)


def _route(source: Path, kind: Format, claims: Claims, manner: Manner) -> Signs:
    """The route of a kind, or the library's own where only that can write what is asked for."""
    aside = manner.sidecar or kind.route is Route.SIDECAR
    if manner.identity is None and not claims.update:
        if aside:
            return sign_sidecar
        if manner.normalize and kind.route is Route.TEXT:
            return partial(sign_text, normalize=True)
        return SIGNS[kind.route]
    if kind.route is Route.ZIP and not aside:
        return SIGNS[kind.route]  # which unpacks, and leaves the rest to the library
    if aside or kind.route in (Route.TEXT, Route.HTML, Route.STRUCTURED):
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


def _check_destination(
    source: Path, destination: Path, kind: Format, overwrite: bool, *, aside: bool
) -> None:
    names = [beside(destination)] if aside else []
    if not aside and destination.suffix.lower() not in kind.endings:
        raise InputError(
            f"{source} is {kind.media_type}, but {destination.name} ends in "
            f"{destination.suffix or 'nothing'}: expected {' or '.join(kind.endings)}"
        )
    if not aside or source != destination:
        names.append(destination)
    for name in names:
        if not os.path.lexists(name):
            continue
        if name.exists() and name.samefile(source):
            raise InputError(f"{name} is the source itself, which is never changed: name another")
        if not overwrite:
            raise _exists(name)


def _exists(name: Path) -> InputError:
    return InputError(f"{name} exists already: name another file, or use --force")
