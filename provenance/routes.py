"""How each kind of file is signed and read: one entry a route."""

from assaymark.provenance.fast_read import read_fast
from assaymark.provenance.film import sign_film
from assaymark.provenance.formats import Route
from assaymark.provenance.job import Reads, Signs
from assaymark.provenance.onepass import sign_by_streams, sign_one_pass
from assaymark.provenance.packages import read_package, sign_package
from assaymark.provenance.sidecar import read_sidecar, sign_sidecar, with_sidecar
from assaymark.provenance.texts import read_text, sign_text

SIGNS: dict[Route, Signs] = {
    Route.JPEG: sign_one_pass,
    Route.PNG: sign_one_pass,
    Route.RIFF: sign_one_pass,
    Route.BMFF: sign_film,
    Route.LIBRARY: sign_by_streams,
    Route.ZIP: sign_package,
    Route.TEXT: sign_text,
    Route.HTML: sign_text,
    Route.STRUCTURED: sign_text,
    Route.SIDECAR: sign_sidecar,
}
READS: dict[Route, Reads] = {
    Route.JPEG: with_sidecar(read_fast),
    Route.PNG: with_sidecar(read_fast),
    Route.RIFF: with_sidecar(read_fast),
    Route.BMFF: with_sidecar(read_fast),
    Route.LIBRARY: with_sidecar(read_fast),
    Route.ZIP: with_sidecar(read_package),
    Route.TEXT: with_sidecar(read_text),
    Route.HTML: with_sidecar(read_text),
    Route.STRUCTURED: with_sidecar(read_text),
    Route.SIDECAR: read_sidecar,
}
