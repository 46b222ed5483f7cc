"""Sign a file with Content Credentials: the source is untouched, nothing half-done stays."""

import os
import tempfile
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import c2pa
from PIL import Image

from assaymark.provenance.c2pa_context import reason, shared_context
from assaymark.provenance.claims import NOTHING, Claims
from assaymark.provenance.formats import HEAD, Format, recognise
from assaymark.provenance.job import Job
from assaymark.provenance.keys import Credentials
from assaymark.provenance.routes import SIGNS
from assaymark.provenance.verify import State, Verification, examine
from assaymark.reports.errors import InputError
from assaymark.reports.files import umask

_SOURCE_TYPES = {
    "trainedAlgorithmicMedia": c2pa.C2paDigitalSourceType.TRAINED_ALGORITHMIC_MEDIA,
    "digitalCapture": c2pa.C2paDigitalSourceType.DIGITAL_CAPTURE,
}
_PICTURES = ("JPEG", "PNG")


def sign(
    source: Path,
    destination: Path,
    credentials: Credentials,
    claims: Claims = NOTHING,
    *,
    overwrite: bool = False,
) -> Verification:
    """Write a signed copy of `source` to `destination`, and read it back before it gets its name.

    Credentials that the source already carries stay in the history as its parent. overwrite: an
    existing destination may be replaced. Raises InputError, and then there is no destination (or
    the old one).
    """
    kind = _kind(source)
    _check_destination(source, destination, kind, overwrite)
    before = examine(source)
    if before.state not in (State.NO_MANIFEST, State.UNTRUSTED):
        raise InputError(
            f"{source} carries credentials that do not hold ({before.explanation}): a new signature "
            "would vouch for a changed file; get it from its source again"
        )
    _check_picture(source, kind)
    history = before.state is State.UNTRUSTED
    target = _beside(destination)
    try:
        _write(source, target, kind, credentials, claims, history)
        found = examine(target)
        if found.state is not State.UNTRUSTED:
            raise InputError(
                f"{source} was signed, but the signature does not read back "
                f"({found.explanation}): nothing was written"
            )
        os.replace(target, destination)
    except c2pa.C2paError as error:
        raise InputError(f"cannot sign {source}: {reason(error)}") from error
    except OSError as error:
        raise InputError(f"cannot write {destination}: {error.strerror or error}") from error
    finally:
        target.unlink(missing_ok=True)
    return found


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
    builder = partial(_builder, source, kind, claims, history)
    with c2pa.Signer.from_info(info) as signer:
        SIGNS[kind.route](
            Job(source=source, target=target, format=kind, builder=builder, signer=signer)
        )


def _builder(source: Path, kind: Format, claims: Claims, history: bool) -> c2pa.Builder:
    definition: dict[str, Any] = {
        "claim_generator_info": [{"name": "assaymark", "version": version("assaymark")}],
        "title": claims.title or source.name,
    }
    builder = c2pa.Builder(definition, context=shared_context())
    if claims.source_type is not None and not history:
        builder.set_intent(c2pa.C2paBuilderIntent.CREATE, _SOURCE_TYPES[claims.source_type])
        return builder
    if claims.source_type is not None:
        raise InputError(
            f"{source} already carries Content Credentials, so it was not just made: sign it "
            "without saying how it was made, its history is kept"
        )
    # EDIT adds c2pa.opened, and the source as parent with the history it carries
    builder.set_intent(c2pa.C2paBuilderIntent.EDIT)
    parent = {"title": source.name, "relationship": "parentOf"}
    with source.open("rb") as stream:
        builder.add_ingredient(parent, kind.media_type, stream)
    return builder


def _kind(source: Path) -> Format:
    try:
        with source.open("rb") as stream:
            kind = recognise(source, stream.read(HEAD))
    except OSError as error:
        raise InputError(f"cannot read {source}: {error.strerror or error}") from error
    if kind is None:
        raise InputError(f"{source} is of no kind that can be signed")
    return kind


def _beside(destination: Path) -> Path:
    """A name in the destination's folder that nobody uses."""
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=destination.parent, prefix=".assaymark.")
    except OSError as error:
        raise InputError(f"cannot write {destination}: {error.strerror or error}") from error
    os.fchmod(handle, 0o666 & ~umask())
    os.close(handle)
    return Path(name)


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
    if destination.suffix.lower() not in kind.endings:
        raise InputError(
            f"{source} is {kind.media_type}, but {destination.name} ends in "
            f"{destination.suffix or 'nothing'}: "
            f"expected {' or '.join(kind.endings)}"
        )
    if os.path.lexists(destination):
        if destination.exists() and destination.samefile(source):
            raise InputError(
                f"{destination} is the source itself, which is never changed: name another"
            )
        if not overwrite:
            raise InputError(f"{destination} exists already: name another file, or use --force")
