"""The library's own way of embedding and reading, for every format that it knows."""

import json
from pathlib import Path

import c2pa

from assaymark.provenance.formats import Format
from assaymark.provenance.job import Job, Reading


def sign_plain(job: Job) -> None:
    """Let the library write the signed copy (it keeps the whole file in memory)."""
    with (
        job.builder() as builder,
        job.source.open("rb") as source,
        job.target.open("w+b") as target,
    ):
        builder.sign(job.signer, job.format.media_type, source, target)


def read_plain(path: Path, kind: Format, context: c2pa.Context) -> Reading:
    """Let the library find and validate the manifest."""
    with (
        path.open("rb") as stream,
        c2pa.Reader(kind.media_type, stream, context=context) as reader,
    ):
        where = "embedded" if reader.is_embedded() else "remote"
        return Reading(document=json.loads(reader.json()), where=where)
