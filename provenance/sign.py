"""Sign a JPEG or PNG with Content Credentials: the source is untouched, nothing half-done stays."""

import io
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import c2pa
from PIL import Image

from assaymark.provenance.c2pa_context import context, media_type, reason
from assaymark.provenance.keys import Credentials
from assaymark.provenance.verify import State, Verification, examine_bytes
from assaymark.reports.errors import InputError
from assaymark.reports.files import write_atomically

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
    before = examine_bytes(data, source)
    if before.state not in (State.NO_MANIFEST, State.UNTRUSTED):
        raise InputError(
            f"{source} carries credentials that do not hold ({before.explanation}): a new signature "
            "would vouch for a changed file; get it from its source again"
        )
    _check_picture(data, source)
    manifest = {
        "claim_generator_info": [{"name": "assaymark", "version": version("assaymark")}],
        "title": title or source.name,
    }
    history = before.state is State.UNTRUSTED
    signed = _sign(data, kind, manifest, credentials, made, source, history)
    found = examine_bytes(signed, destination)
    if found.state is not State.UNTRUSTED:
        raise InputError(
            f"{source} was signed, but the signature does not read back ({found.explanation}): "
            "nothing was written"
        )
    write_atomically(destination, signed)
    return found


def _sign(
    data: bytes,
    kind: str,
    manifest: dict[str, Any],
    credentials: Credentials,
    made: Made | None,
    source: Path,
    history: bool,
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
            if made is not None and not history:
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


def _check_picture(data: bytes, source: Path) -> None:
    try:
        with Image.open(io.BytesIO(data)) as picture:
            picture.load()
    except Exception as error:  # decoders raise what they like
        raise InputError(
            f"{source} cannot be decoded: {error}; a damaged picture is not signed"
        ) from error


def _read(source: Path) -> bytes:
    try:
        return source.read_bytes()
    except (OSError, MemoryError) as error:
        raise InputError(f"cannot read {source}: {error}") from error


def _check_destination(source: Path, destination: Path, kind: str, replace: bool) -> None:
    if destination.suffix.lower() not in _EXTENSIONS[kind]:
        raise InputError(
            f"{source} is {kind}, but {destination.name} ends in {destination.suffix or 'nothing'}: "
            f"expected {' or '.join(_EXTENSIONS[kind])}"
        )
    if os.path.lexists(destination):
        if destination.exists() and destination.samefile(source):
            raise InputError(
                f"{destination} is the source itself, which is never changed: name another"
            )
        if not replace:
            raise InputError(f"{destination} exists already: name another file, or use --force")
