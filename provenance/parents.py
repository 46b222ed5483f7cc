"""A work that another is made from, with the history it carries, whatever kind of file it is."""

import io
from pathlib import Path
from typing import Any

import c2pa

from assaymark.provenance.formats import HEAD, Format, Route, recognise
from assaymark.provenance.job import Reading
from assaymark.provenance.routes import READS


def add_ingredient(
    builder: c2pa.Builder, path: Path, details: dict[str, Any], context: c2pa.Context
) -> None:
    """Add a file as an ingredient (C2PA 2.4, section 18.16) together with its manifests.

    The library finds none in a text nor beside a file and would drop the history without a word;
    here it is handed over with what was found of it. details: title, relationship and more.
    Raises c2pa.C2paError, OSError, ValueError.
    """
    with path.open("rb") as stream:
        kind = recognise(path, stream.read(HEAD))
        if kind is None or kind.route is Route.SIDECAR:
            # nothing is taken from the bytes, and they may be many
            _add(builder, path, kind, details, io.BytesIO(b"\0"), context)
        else:
            stream.seek(0)
            _add(builder, path, kind, details, stream, context)


def _add(
    builder: c2pa.Builder,
    path: Path,
    kind: Format | None,
    details: dict[str, Any],
    stream: Any,
    context: c2pa.Context,
) -> None:
    reading = _taken_out(path, kind, context) if kind is not None else None
    media_type = kind.media_type if kind is not None else "application/octet-stream"
    if reading is None or reading.store is None:
        builder.add_ingredient(details, media_type, stream)
        return
    name = f"store-{reading.document.get('active_manifest', '')}"
    builder.add_resource(name, io.BytesIO(reading.store))
    known = {
        "format": media_type,
        "manifest_data": {"format": "application/c2pa", "identifier": name},
        "validation_results": reading.document["validation_results"],
    }
    # told a kind that it knows, the library would look into the file again
    builder.add_ingredient(known | details, "application/octet-stream", stream)


def _taken_out(path: Path, kind: Format, context: c2pa.Context) -> Reading | None:
    """The manifests that only we find: in a text, or beside a file."""
    try:
        return READS[kind.route](path, kind, context)
    except c2pa.C2paError.ManifestNotFound:
        return None
