"""Sign a JPEG or PNG with Content Credentials; the source is never touched, nothing half-done stays."""

import dataclasses
import io
import os
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import c2pa

from assaymark.provenance.c2pa_context import context, media_type, reason
from assaymark.provenance.keys import Credentials
from assaymark.provenance.verify import State, Verification, examine
from assaymark.reports.errors import InputError

Made = Literal["generated", "captured"]
_SOURCE_TYPES = {
    "generated": c2pa.C2paDigitalSourceType.TRAINED_ALGORITHMIC_MEDIA,
    "captured": c2pa.C2paDigitalSourceType.DIGITAL_CAPTURE,
}
_EXTENSIONS = {"image/jpeg": (".jpg", ".jpeg"), "image/png": (".png",)}


def sign(
    source: Path,
    destination: Path,
    credentials: Credentials,
    *,
    title: str | None = None,
    made: Made | None = None,
    replace: bool = False,
) -> Verification:
    """Write a signed copy of `source` to `destination`, and read it back before it gets its name.

    made: "generated" (by a trained model) or "captured" (by a camera), as IPTC digitalSourceType;
    None claims neither: the manifest then says that an existing file was opened. Credentials that
    the source already carries stay in the history as its parent. replace: an existing destination
    may be overwritten. Raises InputError, and then there is no destination (or the old one).
    """
    data = _read(source)
    kind = media_type(data[:16])
    if kind is None:
        raise InputError(f"{source} is neither a JPEG nor a PNG: these are signed")
    _check_destination(source, destination, kind, replace)
    manifest = {
        "claim_generator_info": [{"name": "assaymark", "version": version("assaymark")}],
        "title": title or source.name,
    }
    signed = _sign(data, kind, manifest, credentials, made, source)
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=destination.parent, prefix=f".{destination.name}.")
    except OSError as error:
        raise InputError(f"cannot write {destination}: {error.strerror or error}") from error
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(signed)
        found = examine(Path(name))
        if found.state not in (State.TRUSTED, State.UNTRUSTED):
            raise InputError(
                f"{source} was signed, but the signature does not read back ({found.explanation}): "
                "nothing was written"
            )
        os.chmod(name, 0o644)
        os.replace(name, destination)
    except OSError as error:
        raise InputError(f"cannot write {destination}: {error.strerror or error}") from error
    finally:
        Path(name).unlink(missing_ok=True)
    return dataclasses.replace(found, path=destination)


def _sign(
    data: bytes,
    kind: str,
    manifest: dict[str, Any],
    credentials: Credentials,
    made: Made | None,
    source: Path,
) -> bytes:
    output = io.BytesIO()
    info = c2pa.C2paSignerInfo(
        credentials.algorithm.encode(),
        credentials.chain_pem.encode(),
        credentials.key_pem.encode(),
        None,
    )
    try:
        with (
            context() as settings,
            c2pa.Signer.from_info(info) as signer,
            c2pa.Builder(manifest, context=settings) as builder,
        ):
            if made is not None and not _has_manifest(data, kind):
                builder.set_intent(c2pa.C2paBuilderIntent.CREATE, _SOURCE_TYPES[made])
            else:
                # EDIT adds c2pa.opened, and the source as parent with the history it carries
                builder.set_intent(c2pa.C2paBuilderIntent.EDIT)
                parent = {"title": source.name, "relationship": "parentOf"}
                builder.add_ingredient(parent, kind, io.BytesIO(data))
                if made is not None:
                    raise InputError(
                        f"{source} already carries Content Credentials, so it was not just {made}: "
                        "sign it without saying how it was made, its history is kept"
                    )
            builder.sign(signer, kind, io.BytesIO(data), output)
    except c2pa.C2paError as error:
        raise InputError(f"cannot sign {source}: {reason(error)}") from error
    return output.getvalue()


def _has_manifest(data: bytes, kind: str) -> bool:
    try:
        with context() as settings, c2pa.Reader(kind, io.BytesIO(data), context=settings):
            return True
    except c2pa.C2paError.ManifestNotFound:
        return False


def _read(source: Path) -> bytes:
    try:
        return source.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {source}: {error.strerror or error}") from error


def _check_destination(source: Path, destination: Path, kind: str, replace: bool) -> None:
    if destination.suffix.lower() not in _EXTENSIONS[kind]:
        raise InputError(
            f"{source} is {kind}, but {destination.name} ends in {destination.suffix or 'nothing'}: "
            f"expected {' or '.join(_EXTENSIONS[kind])}"
        )
    if destination.exists():
        if destination.samefile(source):
            raise InputError(
                f"{destination} is the source itself, which is never changed: name another"
            )
        if not replace:
            raise InputError(f"{destination} exists already: name another file, or use --force")
